"""
A first detection
=================

Train on images of good parts, judge images of new ones, and see where the defect is.

The castings are drawn, at 64 x 64 pixels, so that the example needs no data and little time.
"""

import matplotlib.pyplot as plt
import numpy as np

from sklearn_ncae import NCAEDetector
from sklearn_ncae.baselines import MeanBrightnessDetector
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.inspection import ScoreDistributionDisplay
from sklearn_ncae.metrics import detection_scores

# %%
# Good parts to train on, others to test on
# -----------------------------------------
# The two sets come from different seeds: no casting is in both. Each defective casting has one
# defect: a blow hole, a scratch or a burr.

good = make_castings(200, 0, image_size=64, random_state=0).images
test = make_castings(60, 60, image_size=64, random_state=1)
print(good.shape, good.dtype, "to train on,", test.images.shape, "to test on")

shown = [0, 1, 60, 61, 62]
fig, axes = plt.subplots(1, 5, figsize=(8, 2), layout="constrained")
for ax, row in zip(axes, shown, strict=True):
    ax.imshow(test.images[row], cmap="gray", vmin=0, vmax=255)
    ax.set_title(test.kind[row].replace("_", " "))
    ax.set_axis_off()
plt.show()

# %%
# Train and judge
# ---------------
# ``fit`` is given good images only. ``predict`` says +1 for good and -1 for defective.

detector = NCAEDetector(random_state=0).fit(good)
labels = detector.predict(test.images)

for kind in ("good", "blow_hole", "scratch", "burr"):
    flagged = labels[test.kind == kind] == -1
    print(f"{kind:10} {flagged.sum():2} of {flagged.size} flagged")

# %%
# How good is that? Defects are the positive class of all four figures. They only mean something
# beside those of a detector that is as simple as can be: here the mean brightness of the image.

brightness = MeanBrightnessDetector().fit(good)
for name, fitted in (("NCAE", detector), ("mean brightness", brightness)):
    figures = detection_scores(fitted, test.images, test.target)
    print(f"{name:16}", ", ".join(f"{key} {value:.2f}" for key, value in figures.items()))

# %%
# The scores of good and of defective castings overlap. The dashed line is the threshold. It was
# chosen for few false alarms, from good images that were held out of training, and it lets
# defects pass that score like a good part.

ScoreDistributionDisplay.from_estimator(detector, test.images, test.target, bins=24)
plt.show()

# %%
# Where the defect is
# -------------------
# The anomaly map shows what makes the score: what the network marks as a
# defect, to the pixel, and where the texture is not that of good castings, in coarser cells. The
# outline is where the defect was really drawn. Shown are of each kind the casting that the
# detector is surest of, and the one it is least sure of; those of the good castings are the
# one that looks worst to it and the one that looks best.

decision = detector.decision_function(test.images)
maps = np.maximum(detector.anomaly_map(test.images), 0)
fig, axes = plt.subplots(2, 8, figsize=(11, 3.2), layout="constrained")
for column, kind in enumerate(("good", "blow_hole", "scratch", "burr")):
    rows = np.flatnonzero(test.kind == kind)
    ranked = rows[np.argsort(decision[rows])]
    for side, row in enumerate((ranked[0], ranked[-1])):
        above, below = axes[:, 2 * column + side]
        above.imshow(test.images[row], cmap="gray", vmin=0, vmax=255)
        above.set_title(f"{kind.replace('_', ' ')}\n{decision[row]:+.2f}", fontsize="small")
        picture = below.imshow(maps[row], cmap="magma", vmin=0, vmax=maps.max())
        if test.masks[row].any():
            below.contour(test.masks[row], levels=[0.5], colors="white", linewidths=0.6)
for ax in axes.flat:
    ax.set_axis_off()
fig.colorbar(picture, ax=axes, label="anomaly map", shrink=0.8)
plt.show()
