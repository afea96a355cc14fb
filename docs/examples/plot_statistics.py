"""
Statistics of the residual, one by one
======================================

A residual image is turned into a score by a statistic. Which one suits depends on the defect.
This example scores the same residuals by all of them, separately for each kind of defect.

The reconstructions are from principal components, which takes no time to train. What is seen
below is about these drawn castings and this reconstruction; your own parts may turn out
differently, so repeat it with them.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from sklearn_ncae import ResidualDetector, ResidualStatistics
from sklearn_ncae.baselines import PCAReconstructor
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.inspection import StatisticsScatterDisplay

good = make_castings(300, 0, image_size=64, random_state=0).images
test = make_castings(150, 150, image_size=64, random_state=1)
detector = ResidualDetector(PCAReconstructor(32, random_state=0), random_state=0).fit(good)

# %%
# All statistics at once
# ----------------------
# ``residual_statistics`` gives a table with one row per image. ROC AUC says how well a column tells
# defects from good parts, read upwards: 0.5 is chance, 1 is perfect, and below 0.5 the defects have
# the *smaller* values.

names = list(ResidualStatistics().get_feature_names_out())
table = detector.residual_statistics(test.images)
kinds = ["blow_hole", "scratch", "burr"]
auc = np.empty((len(names), len(kinds)))
for column, kind in enumerate(kinds):
    rows = np.flatnonzero((test.kind == "good") | (test.kind == kind))
    for row in range(len(names)):
        auc[row, column] = roc_auc_score(test.kind[rows] == kind, table[rows, row])

fig, ax = plt.subplots(figsize=(5, 6), layout="constrained")
picture = ax.imshow(auc, cmap="RdBu_r", vmin=0, vmax=1, aspect="auto")
for (row, column), value in np.ndenumerate(auc):
    color = "white" if abs(value - 0.5) > 0.35 else "black"
    ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize="small", color=color)
ax.set_xticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
ax.set_yticks(range(len(names)), names)
fig.colorbar(picture, label="ROC AUC, read upwards")
plt.show()

# %%
# Blow holes are dark, so that they lower the minimum and the skewness of the signed residual: the
# blue fields are as useful as the red ones. A small spot hardly changes means and sums over the
# whole image, but it does change the extremes. Scratches, thin and faint, are hard for all of
# them. Entropy is low where the residual is concentrated in few pixels, as in a defect.
#
# The table repeats itself where one statistic follows from another: ``var`` is the square of
# ``std``, ``sum`` is a multiple of ``mean``, and ``mse`` is ``var`` plus the square of ``mean``.

mean_of_kinds = dict(zip(names, auc.mean(axis=1), strict=True))
for name in sorted(names, key=mean_of_kinds.get, reverse=True)[:3]:
    print(f"{name:10} mean over the kinds of defects {mean_of_kinds[name]:.2f}")
print(f"{'entropy':10} mean over the kinds of defects {mean_of_kinds['entropy']:.2f}")

# %%
# Two statistics
# --------------
# A list of names makes one score of several statistics: a smooth maximum of their deviations from
# what is typical of good images, in units of what is still usual.

StatisticsScatterDisplay.from_estimator(
    detector, test.images, test.target, statistic="kurtosis", against="abs_peak"
)
plt.show()

for statistic in ("mse", "kurtosis", "abs_peak", ["kurtosis", "abs_peak"]):
    scored = ResidualDetector(
        PCAReconstructor(32, random_state=0), statistic=statistic, random_state=0
    ).fit(good)
    value = roc_auc_score(test.target, scored.score_samples(test.images))
    print(f"{statistic!s:24} ROC AUC of all defects {value:.2f}")

# %%
# The score of two is nearly as good as the better of them, without anybody having to know which one
# that is. It is not better than both: that happens only where each finds what the other misses.
