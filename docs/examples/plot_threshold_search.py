"""
Threshold search without leakage
================================

A detector gives each image a score; a threshold on it makes the decision. This example searches
both the detector's parameters and the threshold, from image files, and keeps all photographs of
one part on the same side of every split.

The images are drawn small and the networks train for one epoch, so that the example runs in
seconds. It shows how the search is put together, not how good the detector is.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import sklearn
from PIL import Image
from sklearn.model_selection import (
    GridSearchCV,
    GroupShuffleSplit,
    StratifiedGroupKFold,
    cross_validate,
)
from sklearn.pipeline import Pipeline

from sklearn_ncae import ImageLoader, NCAEDetector
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.model_selection import OneClassSplit, TunedThresholdDetector

# %%
# Image files
# -----------
# Castings are drawn and written as PNG files, two photographs of each: the second one is mirrored
# and brighter. If one of the two were in training and the other in test, the test would be too
# easy. ``groups`` says which photographs belong together.

folder = tempfile.TemporaryDirectory()
castings = make_castings(n_good=48, n_defect=16, image_size=32, random_state=0)
paths, y, groups = [], [], []
for part, (image, label) in enumerate(zip(castings.images, castings.target, strict=True)):
    brighter = np.minimum(image[:, ::-1].astype(np.uint16) * 11 // 10, 255).astype(np.uint8)
    for shot, photograph in enumerate([image, brighter]):
        path = Path(folder.name) / f"part_{part:03d}_{shot}.png"
        Image.fromarray(photograph).save(path)
        paths.append(str(path))
        y.append(label)
        groups.append(part)
paths, y, groups = np.array(paths), np.array(y), np.array(groups)
print(f"{np.sum(y == 1)} good and {np.sum(y == -1)} defective photographs")

# %%
# From paths to a decision
# ------------------------
# The pipeline starts from paths, so that the splits cut a short list of names and not the images.
# With a float ``contamination`` the detector trains on all images it is given; it need not hold
# some out for a threshold of its own, which the search replaces.
#
# :class:`~sklearn_ncae.model_selection.TunedThresholdDetector` trains the pipeline on good images,
# scores the images left out, and takes the threshold with the best F1 of the defects.

pipeline = Pipeline(
    [
        ("load", ImageLoader(size=(32, 32))),
        ("detect", NCAEDetector(filters=(4,), epochs=1, contamination=0.05, random_state=0)),
    ]
)
tuned = TunedThresholdDetector(
    pipeline,
    scoring="f1",
    cv=OneClassSplit(StratifiedGroupKFold(3)),
    store_cv_results=True,
)

# %%
# The search
# ----------
# A grid search around it compares parameters of the network by how well the *tuned* detector does
# on parts that neither the network nor the threshold has seen. With metadata routing on, ``groups``
# reaches the outer and the inner splitter, and the detector. The outer splitter leaves the defects
# in its training folds, because the threshold is chosen with them; the network is trained without
# them.

with sklearn.config_context(enable_metadata_routing=True):
    search = GridSearchCV(
        tuned,
        {"detector__detect__statistic": ["mse", "texture"]},
        scoring="balanced_accuracy",
        cv=StratifiedGroupKFold(2),
    ).fit(paths, y, groups=groups)

best = search.best_estimator_
print(f"statistic {search.best_params_['detector__detect__statistic']!r}:")
print(f"  threshold {best.best_threshold_:.6g}, F1 out of fold {best.best_score_:.2f}")
print(f"  balanced accuracy of the tuned detector on other parts {search.best_score_:.2f}")

# %%
# What the threshold costs
# ------------------------
# Every candidate threshold trades false alarms for missed defects.

results = best.cv_results_
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.plot(results["thresholds"], results["false_alarm_rate"], label="false-alarm rate")
ax.plot(results["thresholds"], 1 - results["recall"], label="share of defects missed")
ax.plot(results["thresholds"], results["scores"], label="F1 of the defects")
ax.axvline(best.best_threshold_, color="black", linestyle="--", label="chosen threshold")
ax.set(xlabel="threshold on score_samples", ylabel="out-of-fold share")
ax.legend()
plt.show()

# %%
# Without defects
# ---------------
# Often there are no defects yet. The threshold can then promise a false-alarm rate from good
# images alone. :class:`~sklearn_ncae.model_selection.OneClassSplit` shows a cross-validation how
# such a detector does on defects that it could not know. The images that choose the threshold are
# of other parts than those of training, too.

promise = TunedThresholdDetector(
    pipeline,
    max_false_alarm_rate=0.1,
    cv=GroupShuffleSplit(1, test_size=0.4, random_state=0),
    refit=False,
)
with sklearn.config_context(enable_metadata_routing=True):
    result = cross_validate(
        promise,
        paths,
        y,
        params={"groups": groups},
        cv=OneClassSplit(StratifiedGroupKFold(2)),
        scoring="balanced_accuracy",
    )
print(f"balanced accuracy {result['test_score'].mean():.2f}, threshold from good images alone")

# %%
# Such a promise takes enough good images: no threshold from 20 of them can promise 1 %.

try:
    TunedThresholdDetector(pipeline, max_false_alarm_rate=0.01).fit(paths[:20])
except ValueError as error:
    print(error)

folder.cleanup()
