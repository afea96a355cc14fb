"""
NCAE beside IsolationForest and others
======================================

:func:`~sklearn_ncae.metrics.compare_detectors` fits every detector on the good images of the same
splits, scores the same test images, and says which differences are more than the luck of the
splits.
"""

import matplotlib.pyplot as plt
from sklearn.model_selection import StratifiedShuffleSplit

from sklearn_ncae import NCAEDetector
from sklearn_ncae.baselines import usual_detectors
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.metrics import compare_detectors

# %%
# The detectors
# -------------
# ``usual_detectors`` are those of scikit-learn that are commonly tried on pixels. The network is
# trained for far fewer steps than by default, and the castings have 48 x 48 pixels, for the example
# to be quick.

detectors = {
    "NCAE, short training": NCAEDetector(epochs=25, random_state=0),
    **usual_detectors(n_components=32, random_state=0),
}
castings = make_castings(160, 80, image_size=48, random_state=0)
splits = StratifiedShuffleSplit(5, test_size=0.4, random_state=0)
table, per_split = compare_detectors(
    detectors,
    castings.images,
    castings.target,
    cv=splits,
    reference="NCAE, short training",
    return_splits=True,
)
columns = ["roc_auc", "roc_auc_std", "f1", "difference", "p_value", "verdict"]
table[columns].round(2)

# %%
# "Mean brightness" is always in the table. A detector that does not beat it has learned nothing
# that one number per image does not know. The p-value takes into account that the splits share
# training images; "no clear difference" is an answer, and on few images the usual one.
#
# Of the castings here, NCAE is clearly ahead even after a short training. The reconstruction from
# principal components is well behind it, and the others are near chance: they judge an image as a
# whole, and pose and light change more of it than a defect does. A comparison for a decision
# takes the full training and more images; the benchmark among the measurements does.
#
# The single splits
# -----------------

order = list(table.index[::-1])
fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for row, name in enumerate(order):
    values = per_split.loc[per_split["detector"] == name, "roc_auc"]
    ax.plot(values, [row] * len(values), "o", color="C0", alpha=0.5)
    ax.plot(values.mean(), row, "|", color="C0", markersize=20)
ax.axvline(0.5, color="black", linestyle=":", label="chance")
ax.set_yticks(range(len(order)), order)
ax.set_xlabel("ROC AUC of the five splits")
ax.legend(loc="lower right")
plt.show()

# %%
# What it takes
# -------------
# Times of one fit, and of scoring one image. The network costs more than all the others together.

table[["fit_seconds", "score_ms"]].round(2)
