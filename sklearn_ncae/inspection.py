"""Displays and a report that show how a detector decides, and where it sees the defect.

The displays follow scikit-learn's displays: a display stores what it shows, `plot` draws it, and
`from_estimator` or `from_predictions` do both. They work for every scikit-learn outlier detector,
and need matplotlib (``pip install "sklearn-ncae[plot]"``). `write_report` writes all of it into one
HTML file to look at in a browser, and needs Pillow (``pip install "sklearn-ncae[images]"``).
"""

from sklearn_ncae._curve_displays import (
    PrecisionRecallComparisonDisplay,
    RocCurveComparisonDisplay,
)
from sklearn_ncae._inspection_report import write_report
from sklearn_ncae._residual_maps import ResidualMapDisplay
from sklearn_ncae._score_displays import ScoreDistributionDisplay, ThresholdDisplay
from sklearn_ncae._statistics_scatter import StatisticsScatterDisplay

__all__ = [
    "PrecisionRecallComparisonDisplay",
    "ResidualMapDisplay",
    "RocCurveComparisonDisplay",
    "ScoreDistributionDisplay",
    "StatisticsScatterDisplay",
    "ThresholdDisplay",
    "write_report",
]
