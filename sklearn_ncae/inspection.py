"""Displays that show how a detector decides, and where it sees the defect.

They follow scikit-learn's displays: a display stores what it shows, `plot` draws it, and
`from_estimator` or `from_predictions` do both. They work for every scikit-learn outlier detector,
and need matplotlib (``pip install "sklearn-ncae[plot]"``).
"""

from sklearn_ncae._curve_displays import (
    PrecisionRecallComparisonDisplay,
    RocCurveComparisonDisplay,
)
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
]
