"""Images with their deviations marked, as Pillow pictures."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_ncae._image_arrays import full_scale
from sklearn_ncae._optional import import_extra

# Levels of a map: the colour of each, and how much of the image it covers.
_LEVELS = 16
_WEAK, _STRONG = np.array([255, 196, 0]), np.array([230, 20, 60])
_COVER = 0.75
# Where no map has a larger difference, nothing is drawn strongest: it may be nothing but noise.
_LEAST_SPAN = 0.1


def picture_of(image: NDArray[Any], black_and_white: tuple[float, float] | None = None) -> Any:
    """Return an image (h, w) or (h, w, c) as a gray or colour picture of 8 bits."""
    pil = import_extra("PIL.Image", "images")
    if image.dtype != np.uint8:
        black, white = black_and_white or full_scale(image)
        scaled = (image.astype(np.float64) - black) / (white - black)
        image = np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
    if image.ndim == 3 and image.shape[2] != 3:
        image = np.rint(image.mean(axis=2)).astype(np.uint8)
    return pil.fromarray(np.ascontiguousarray(image))


def shrunk(of_image: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return a map whose longer side is at most `side`.

    The strongest of the pixels that become one is kept, so that a small defect does not fade.
    """
    step = max(of_image.shape) / side
    if step <= 1:
        return of_image
    for axis, n in enumerate(of_image.shape):
        n_blocks = math.ceil(n / step)
        starts = np.arange(n_blocks) * n // n_blocks
        of_image = np.maximum.reduceat(of_image, starts, axis=axis)
    return of_image


def common_scale(of_images: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Return the values of maps to be drawn not at all, and strongest.

    A typical image of those given is quiet, and the most deviating one is not; all share a scale,
    so that they can be compared.
    """
    low = float(np.median([np.quantile(one, 0.9) for one in of_images]))
    high = float(max(np.quantile(one, 0.995) for one in of_images))
    return low, max(high, low + _LEAST_SPAN)


def map_levels(of_image: NDArray[np.float32], low: float, high: float) -> Any:
    """Return a map (h, w) as a picture with a palette; None if nothing of it is above `low`."""
    pil = import_extra("PIL.Image", "images")
    strength = np.clip((of_image - low) / (high - low), 0, 1)
    levels = np.rint(strength * (_LEVELS - 1)).astype(np.uint8)
    if not levels.any():
        return None
    picture = pil.fromarray(levels).convert("L")
    shares = np.linspace(0, 1, _LEVELS)[:, np.newaxis]
    colors = np.rint(_WEAK + shares * (_STRONG - _WEAK)).astype(np.uint8)
    picture.putpalette(colors.ravel().tolist())
    cover = np.rint(255 * _COVER * shares[:, 0]).astype(np.uint8)
    picture.info["transparency"] = cover.tobytes()
    return picture


def overlay_picture(
    image: NDArray[Any],
    of_image: NDArray[np.float32],
    black_and_white: tuple[float, float] | None = None,
) -> Any:
    """Return the image in colour with its map drawn over it, quiet where most of the map is."""
    pil = import_extra("PIL.Image", "images")
    picture = picture_of(image, black_and_white).convert("RGBA")
    low = float(np.quantile(of_image, 0.9))
    marked = map_levels(of_image, low, max(1.0, low + _LEAST_SPAN))
    if marked is not None:
        picture = pil.alpha_composite(picture, marked.convert("RGBA"))
    return picture.convert("RGB")
