"""Images with their deviations marked, as Pillow pictures."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from sklearn_ncae._optional import import_extra

# Levels of a map: the colour of each, and how much of the image it covers.
_LEVELS = 16
_WEAK, _STRONG = np.array([255, 196, 0]), np.array([230, 20, 60])
_COVER = 0.75
# What is weaker is not drawn, so that good parts stay as they are.
_FAINT = 0.1


def picture_of(image: NDArray[Any]) -> Any:
    """Return an image (h, w) or (h, w, c) as a gray or colour picture of 8 bits."""
    pil = import_extra("PIL.Image", "images")
    if image.dtype != np.uint8:
        integers = np.issubdtype(image.dtype, np.integer)
        low, high = (0.0, float(np.iinfo(image.dtype).max)) if integers else (0.0, 1.0)
        if not integers and (image.min() < 0 or image.max() > 1):
            low, high = float(image.min()), float(image.max())
        scaled = (image.astype(np.float64) - low) / ((high - low) or 1.0)
        image = np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
    if image.ndim == 3 and image.shape[2] != 3:
        image = np.rint(image.mean(axis=2)).astype(np.uint8)
    return pil.fromarray(np.ascontiguousarray(image))


def map_levels(of_image: NDArray[np.float32], side: int | None = None) -> Any:
    """Return a map (h, w) in [0, 1] as a picture with a palette; None if all of it is faint.

    `side` bounds its longer side; the strongest of the pixels that become one is kept, so that a
    small defect does not fade.
    """
    pil = import_extra("PIL.Image", "images")
    if side is not None and (step := max(of_image.shape) / side) > 1:
        of_image = maximum_filter(of_image, size=math.ceil(step))
        rows, columns = (((np.arange(n // step) + 0.5) * step).astype(int) for n in of_image.shape)
        of_image = of_image[rows][:, columns]
    strength = np.clip((of_image - _FAINT) / (1 - _FAINT), 0, 1)
    levels = np.ceil(strength * (_LEVELS - 1)).astype(np.uint8)
    if not levels.any():
        return None
    picture = pil.fromarray(levels).convert("L")
    shares = np.linspace(0, 1, _LEVELS)[:, np.newaxis]
    colors = np.rint(_WEAK + shares * (_STRONG - _WEAK)).astype(np.uint8)
    picture.putpalette(colors.ravel().tolist())
    cover = np.rint(255 * _COVER * shares[:, 0]).astype(np.uint8)
    picture.info["transparency"] = cover.tobytes()
    return picture


def overlay_picture(image: NDArray[Any], of_image: NDArray[np.float32]) -> Any:
    """Return the image in colour with its map drawn over it."""
    pil = import_extra("PIL.Image", "images")
    picture = picture_of(image).convert("RGBA")
    marked = map_levels(of_image)
    if marked is not None:
        picture = pil.alpha_composite(picture, marked.convert("RGBA"))
    return picture.convert("RGB")
