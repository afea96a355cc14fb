"""
Scoring with Dask
=================

:func:`~sklearn_ncae.large_data.score_dask` scores the images of a Dask array, or the files of a bag
of paths, chunk by chunk: on the threads of this machine, as here, or on the workers of a cluster.
It needs the extra ``dask``.
"""

import tempfile
from pathlib import Path

import dask.array as da
import dask.bag
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.pipeline import make_pipeline

from sklearn_ncae import ImageLoader, NCAEDetector
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.large_data import score_dask

# %%
# A detector, and more images
# ---------------------------
# A few epochs of the article's training: enough to show the way of the images, and not enough to
# find defects.

drawn = make_castings(680, 0, image_size=32, random_state=0).images
training, castings = drawn[:200], drawn[200:]
detector = NCAEDetector(training="reconstruct", epochs=5, random_state=0).fit(training)

# %%
# A Dask array
# ------------
# A chunk of images is one task. Nothing is computed before ``compute``.

images = da.from_array(castings, chunks=(64, -1, -1))
scores = score_dask(detector, images)
print(scores)
computed = scores.compute(scheduler="threads", num_workers=2)

# %%
# The score of an image does not depend on those beside it, so the chunks change nothing.

print("bit by bit as without Dask:", np.array_equal(computed, detector.score_samples(castings)))

# %%
# Watching a process
# ------------------
# The scores are a Dask array as well, so that what follows can run on the workers too: here the
# share of flagged castings in each chunk. In the second half of these, the camera has become noisy.

noise = np.random.default_rng(0).normal(0, 25, castings[240:].shape)
noisy = castings.copy()
noisy[240:] = np.clip(castings[240:] + noise, 0, 255).astype(np.uint8)
labels = score_dask(detector, da.from_array(noisy, chunks=(48, -1, -1)), method="predict")
flagged = (labels == -1).map_blocks(lambda block: block.mean(keepdims=True), chunks=(1,))
share = flagged.compute(scheduler="threads", num_workers=2)
print("share of flagged castings in each chunk:", *np.round(share, 2))

fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.bar(np.arange(len(share)), share)
ax.axhline(detector.false_alarm_rate_, color="black", linestyle="--", label="promised false alarms")
ax.axvline(4.5, color="red", linestyle=":", label="the noise begins")
ax.set(xlabel="chunk of 48 castings", ylabel="flagged")
ax.legend()
plt.show()

# %%
# Before the noise, the share is more than twice what was promised, as it may be with one
# threshold from forty held-out castings: the promise holds for the mean over many such
# thresholds. After it, nearly every casting is flagged.
#
# Files
# -----
# For a bag of paths, a pipeline reads the files where they are scored.

with tempfile.TemporaryDirectory() as folder:
    paths = []
    for number, casting in enumerate(castings[:96]):
        paths.append(str(Path(folder) / f"{number:03}.png"))
        Image.fromarray(casting).save(paths[-1])
    pipeline = make_pipeline(ImageLoader(), detector)
    bag = dask.bag.from_sequence(paths, partition_size=32)
    from_files = score_dask(pipeline, bag).compute(scheduler="threads", num_workers=2)
print("as from the array:", np.array_equal(from_files, computed[:96]))

# %%
# On a cluster, ``dask.distributed.Client("tcp://scheduler:8786")`` comes first, and the rest stays
# as it is. The page on large data says what the workers need.
