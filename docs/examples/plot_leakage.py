"""
Leakage, and how to avoid it
============================

Data sets of parts often hold several photographs of one part, or copies of one photograph: turned,
brightened, cut anew. Where one copy is in training and another in test, the test is too easy. This
example shows by how much, finds the copies, and splits so that they stay together.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import shift
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_ncae.datasets import make_castings
from sklearn_ncae.model_selection import OneClassSplit, leakage_report, near_duplicate_groups

# %%
# Four photographs of each part
# -----------------------------
# The copies differ in noise, brightness and place by a little. They are in random order, and
# nothing says which ones belong together.

rng = np.random.default_rng(0)
parts = make_castings(60, 20, image_size=64, random_state=0)
images, y, part_of = [], [], []
for part, (image, label) in enumerate(zip(parts.images, parts.target, strict=True)):
    for _ in range(4):
        moved = shift(image.astype(float), rng.uniform(-1, 1, 2), order=1, mode="nearest")
        photograph = rng.uniform(0.9, 1.1) * moved + rng.normal(0, 1, image.shape)
        images.append(np.clip(photograph, 0, 255).astype(np.uint8))
        y.append(label)
        part_of.append(part)
order = rng.permutation(len(images))
images, y, part_of = (np.array(values)[order] for values in (images, y, part_of))
print(f"{len(images)} photographs of {len(parts.images)} parts")

# %%
# Two splits, two results
# -----------------------
# The detector compares an image with its nearest neighbours among the training images. It is
# trained on good images only in both cases: :class:`~sklearn_ncae.model_selection.OneClassSplit`
# sees to that.

detector = make_pipeline(
    FunctionTransformer(lambda X: X.reshape(len(X), -1) / 255.0),
    LocalOutlierFactor(n_neighbors=3, novelty=True),
)
random_split = OneClassSplit(StratifiedKFold(5, shuffle=True, random_state=0))
auc_random = cross_val_score(detector, images, y, cv=random_split, scoring="roc_auc")
print(f"random split: ROC AUC {auc_random.mean():.2f}")

# %%
# That looks as if the detector had learned something. But good test images have a copy in
# training, which makes them look normal, and defective ones have none, because defects are not
# trained on. The score says whether a copy was seen, and not whether the part is good.
#
# Finding the copies
# ------------------
# :func:`~sklearn_ncae.model_selection.leakage_report` lists the test images that have a copy in
# training, for a split as it is. Some of the pairs:

train, test = next(random_split.split(images, y))
report = leakage_report(images[train], images[test])
print(report)
print(f"of the good test images {report.leaked[y[test] == 1].mean():.0%}, ", end="")
print(f"of the defective ones {report.leaked[y[test] == -1].mean():.0%}")
report.plot(max_pairs=6)
plt.show()

# %%
# :func:`~sklearn_ncae.model_selection.near_duplicate_groups` gives every image the number of its
# group. Here we know the parts, and can see how well that works.

groups = near_duplicate_groups(images)
i, j = np.triu_indices(len(images), k=1)
same_part, same_group = part_of[i] == part_of[j], groups[i] == groups[j]
print(f"{len(np.unique(groups))} groups found")
print(f"{np.mean(same_group[same_part]):.0%} of the pairs of one part are in one group")
print(f"{np.mean(same_part[same_group]):.0%} of the pairs in one group are of one part")

# %%
# The split by groups
# -------------------
# With the groups, all photographs of a part stay on one side.

grouped_split = OneClassSplit(StratifiedGroupKFold(5, shuffle=True, random_state=0))
auc_groups = cross_val_score(
    detector, images, y, groups=groups, cv=grouped_split, scoring="roc_auc"
)
auc_parts = cross_val_score(
    detector, images, y, groups=part_of, cv=grouped_split, scoring="roc_auc"
)

fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
results = {
    "random split": auc_random,
    "by groups found": auc_groups,
    "by the true parts": auc_parts,
}
for row, (name, values) in enumerate(results.items()):
    print(f"{name:18} ROC AUC {values.mean():.2f}")
    ax.plot(values, np.full(len(values), row), "o", alpha=0.5, color="C0")
    ax.plot(values.mean(), row, "|", markersize=24, color="C0")
ax.axvline(0.5, color="black", linestyle=":", label="chance")
ax.set_yticks(range(3), list(results))
ax.set(xlabel="ROC AUC of the five folds", ylim=(2.5, -0.5))
ax.legend()
plt.show()

# %%
# Without leakage, the detector is no better than chance. The two lower rows have the same groups,
# but under other numbers, so that the splitter puts them into other folds: their difference is
# the luck of the draw.
