"""
An ONNX file instead of TensorFlow
==================================

:func:`~sklearn_ncae.onnx.export` writes a fitted detector to one file, from the pixels to the
decision. :class:`~sklearn_ncae.onnx.OnnxDetector` runs it with NumPy and onnxruntime alone.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from sklearn_ncae import NCAEDetector
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.onnx import OnnxDetector, export

# %%
# Export where it was trained
# ---------------------------
# Two epochs only: this example is about the two detectors being one, not about how good they are.

good = make_castings(100, 0, image_size=48, random_state=0).images
test = make_castings(50, 50, image_size=48, random_state=1)
detector = NCAEDetector(epochs=2, random_state=0).fit(good)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "castings.onnx"
    export(detector, path)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    exported = OnnxDetector(path, n_threads=1)

# %%
# The file is read at once and not needed afterwards. What the detector is comes with it:

for key, value in exported.metadata_.items():
    print(f"{key}: {value}")

# %%
# The same scores
# ---------------
# They differ by the rounding of 32 bit numbers.

keras_scores, onnx_scores = (d.score_samples(test.images) for d in (detector, exported))
difference = np.abs(onnx_scores - keras_scores).max() / np.abs(keras_scores).max()
print(f"largest difference, as a share of the largest score: {difference:.1e}")
agree = detector.predict(test.images) == exported.predict(test.images)
print(f"the same decision on {agree.sum()} of {agree.size} images")

fig, ax = plt.subplots(figsize=(4.5, 4), layout="constrained")
ax.plot(keras_scores, onnx_scores, "o", alpha=0.5)
ax.axline((keras_scores[0], keras_scores[0]), slope=1, color="black", linewidth=0.8)
ax.axvline(detector.offset_, color="black", linestyle="--", label="threshold")
ax.set(xlabel="score with Keras", ylabel="score with onnxruntime")
ax.legend()
plt.show()

# %%
# The maps come from the file as well.

maps = [d.residual(test.images[:1])[0] for d in (detector, exported)]
print(f"largest difference of a residual, in gray levels: {np.abs(maps[0] - maps[1]).max():.4f}")
