"""
Reading residual maps
=====================

The displays of :mod:`sklearn_ncae.inspection` show what a detector has seen and how it decides.
"""

import matplotlib.pyplot as plt
import numpy as np

from sklearn_ncae import NCAEDetector, ResidualStatistics
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.inspection import (
    PrecisionRecallComparisonDisplay,
    ResidualMapDisplay,
    RocCurveComparisonDisplay,
    ScoreDistributionDisplay,
    StatisticsScatterDisplay,
    ThresholdDisplay,
)
from sklearn_ncae.metrics import pixel_roc_auc_score

good = make_castings(200, 0, image_size=64, random_state=0).images
test = make_castings(60, 60, image_size=64, random_state=1)
detector = NCAEDetector(random_state=0).fit(good)
decision = detector.decision_function(test.images)

# %%
# Image, reconstruction, residual
# -------------------------------
# One row per image: the two defects that the detector is surest of, the defect that it is least
# sure of, and the good casting that looks most abnormal to it. The outline is where the defect was
# drawn. In the residual, orange is brighter than the network expects, blue is darker.

ranked = np.argsort(decision)
defects, others = ranked[test.target[ranked] == -1], ranked[test.target[ranked] == 1]
rows = np.array([defects[0], defects[1], defects[-1], others[0]])
ResidualMapDisplay.from_estimator(
    detector, test.images[rows], test.target[rows], masks=test.masks[rows]
)
plt.show()

# %%
# How to read it:
#
# - A spot inside the outline is a defect that was taken out of the reconstruction, so that it is
#   left in the residual. A defect that was reproduced is not.
# - Lines along the edges of the part are not a defect. The network does not draw edges quite as
#   sharp, or quite where they are. A defect that is fainter than these lines is hard to see for
#   any statistic of the residual.
# - All rows share one colour scale, so that they can be compared with each other.
#
# The defect map
# --------------
# By default the network also marks what it takes for a defect. Edges of the part and the border
# of the image show in that map as well, at half the brightness of a found defect and more. What
# counts is a spot that stands out from them: in a good or a missed casting there is none.
# ``detector.anomaly_map`` joins it with the map of unusual texture, as the score does.

maps = detector.defect_map(test.images)
fig, axes = plt.subplots(1, 4, figsize=(8, 2.2), layout="constrained")
for ax, row in zip(axes, rows, strict=True):
    picture = ax.imshow(maps[row], cmap="magma", vmin=0, vmax=maps[rows].max())
    if test.masks[row].any():
        ax.contour(test.masks[row], levels=[0.5], colors="white", linewidths=0.8)
    ax.set_title(f"{test.kind[row].replace('_', ' ')}, {decision[row]:+.2f}", fontsize="small")
    ax.set_axis_off()
fig.colorbar(picture, ax=axes)
plt.show()

# %%
# Which of them shows better where the defects are? Of the pixels of all defective castings,
# ROC AUC says how often a pixel of a defect has a higher value than any other pixel.

defective = test.target == -1
residuals = np.abs(detector.residual(test.images[defective]))
joined = detector.anomaly_map(test.images[defective])
print(f"defect map   {pixel_roc_auc_score(test.masks[defective], maps[defective]):.2f}")
print(f"anomaly map  {pixel_roc_auc_score(test.masks[defective], joined):.2f}")
print(f"|residual|   {pixel_roc_auc_score(test.masks[defective], residuals):.2f}")

# %%
# Scores and threshold
# --------------------
# The distribution of the scores, and what would happen with any other threshold.

fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
ScoreDistributionDisplay.from_estimator(detector, test.images, test.target, ax=left, bins=24)
ThresholdDisplay.from_estimator(detector, test.images, test.target, ax=right)
plt.show()

# %%
# Curves
# ------
# Both curves take defects for the positive class. They compare any detectors; here the score of
# the detector with two statistics of its residual.

columns = list(ResidualStatistics().get_feature_names_out())
statistics = dict(zip(columns, detector.residual_statistics(test.images).T, strict=True))
scores = {"default score": decision, "mse": -statistics["mse"], "abs_peak": -statistics["abs_peak"]}
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
RocCurveComparisonDisplay.from_predictions(test.target, scores, ax=left)
PrecisionRecallComparisonDisplay.from_predictions(test.target, scores, ax=right)
plt.show()

# %%
# Two statistics of the residual against each other
# -------------------------------------------------

StatisticsScatterDisplay.from_estimator(
    detector, test.images, test.target, statistic="abs_peak", against="mse"
)
plt.show()
