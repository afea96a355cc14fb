"""How good a detector is: figures per image and per pixel, intervals, and comparisons.

Nothing here knows which detector it judges. Scores per image are scikit-learn's (the lower, the
more abnormal), maps are the larger, the more abnormal; defects are always the positive class.
"""

from sklearn_ncae._detection_metrics import (
    ConfidenceInterval,
    bootstrap_confidence_interval,
    detection_scores,
    detection_scores_from_predictions,
    f1_max_score,
    make_detection_scorer,
    recall_at_false_alarm_rate,
)
from sklearn_ncae._localization_metrics import aupro_score, pixel_roc_auc_score
from sklearn_ncae.comparison import compare_detectors

__all__ = [
    "ConfidenceInterval",
    "aupro_score",
    "bootstrap_confidence_interval",
    "compare_detectors",
    "detection_scores",
    "detection_scores_from_predictions",
    "f1_max_score",
    "make_detection_scorer",
    "pixel_roc_auc_score",
    "recall_at_false_alarm_rate",
]
