"""
Defects drawn into good images
==============================

Real defects are rare, and the next one looks different from the last. By default the network is
therefore trained on defects that are drawn into images of good parts: it learns to remove and to
mark them.
"""

import matplotlib.pyplot as plt
import numpy as np

from sklearn_ncae import NCAEDetector
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.defects import draw_defects

# %%
# What is drawn
# -------------
# :func:`~sklearn_ncae.defects.draw_defects` takes a batch of images and returns them with defects,
# and where these are. Every batch of the training gets new ones. They need not look like real
# defects; they have to be varied enough for the network to mark what does not belong.

good = make_castings(8, 0, image_size=64, random_state=0).images
defective, masks = draw_defects(good[..., np.newaxis], probability=1.0, random_state=0)

fig, axes = plt.subplots(3, 8, figsize=(11, 4.3), layout="constrained")
for row, (name, pictures) in enumerate(
    {"good": good, "drawn in": defective[..., 0], "mask": masks[..., 0]}.items()
):
    for ax, picture in zip(axes[row], pictures, strict=True):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=1 if name == "mask" else 255)
        ax.set(xticks=[], yticks=[])
    axes[row, 0].set_ylabel(name)
plt.show()

# %%
# Some masks are small or thin, and a defect that happens to look like what it covers is not marked
# at all. One defect can also cover a large part of the image.
#
# Your own defects
# ----------------
# Where the defects of a product are known, draw those. Any function that takes ``images`` and
# ``random_state`` and returns images and masks will do. This one knows nothing but dark straight
# lines across the part.


def draw_lines(images, *, random_state=None):
    """Draw one dark line into each image, in a random direction."""
    random_state = np.random.RandomState(random_state) if random_state is None else random_state
    images = np.array(images, np.float32)
    rows, columns = np.mgrid[: images.shape[1], : images.shape[2]]
    masks = np.zeros((*images.shape[:3], 1), bool)
    for image, mask in zip(images, masks, strict=True):
        angle = random_state.uniform(0, np.pi)
        offset = random_state.uniform(0.3, 0.7) * np.array(image.shape[:2])
        distance = (rows - offset[0]) * np.cos(angle) + (columns - offset[1]) * np.sin(angle)
        mask[np.abs(distance) < 1.0] = True
        image[mask[..., 0]] -= random_state.uniform(0.5, 2.0) * image.std()
    return images, masks


lines, masks = draw_lines(good[..., np.newaxis], random_state=np.random.RandomState(0))
fig, axes = plt.subplots(1, 8, figsize=(11, 1.6), layout="constrained")
for ax, picture in zip(axes, lines[..., 0], strict=True):
    ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
    ax.set_axis_off()
plt.show()

# %%
# The detector takes it as a parameter. Two epochs show that it fits together, and nothing more.

training = make_castings(100, 0, image_size=64, random_state=1).images
detector = NCAEDetector(draw_defects=draw_lines, epochs=2, random_state=0).fit(training)
print("loss of the two epochs:", *np.round(detector.reconstructor_.history_["loss"], 2))
