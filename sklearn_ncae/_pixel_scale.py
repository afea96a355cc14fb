"""The scale of pixel values, for networks and for textures."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_ncae._image_arrays import far_beyond, usual_range, whole_range


class PixelScale:
    """The affine map from pixel values to the network's values.

    It is taken from the images and not from their dtype, so that the same pixel values score the
    same in any dtype, but for rounding.

    Parameters
    ----------
    low, high : float
        Darkest and brightest pixel value of the training images, see `of`.
    per_image : bool
        Whether every image is standardised, which takes exposure and tint out: each channel by its
        own mean, all by their common standard deviation from that. Otherwise `low` becomes 0 and
        `high` becomes 1.
    """

    #: `least_contrast` as a share of the range: the noise of a plain image stays small.
    LEAST_CONTRAST = 0.02

    def __init__(self, low: float, high: float, per_image: bool) -> None:
        self.low = low
        self.span = (high - low) or 1.0
        self.per_image = per_image

    @property
    def pixel_range(self) -> tuple[float, float]:
        """Darkest and brightest pixel value; of a constant image, the brightest is 1 more."""
        return self.low, self.low + self.span

    @property
    def black(self) -> float:
        """What brightness is counted from: 0, or the darkest value where that is negative."""
        return min(0.0, self.low)

    @property
    def least_contrast(self) -> float:
        """What is added to a contrast or brightness that is divided by."""
        return self.LEAST_CONTRAST * self.span

    @property
    def bounds(self) -> tuple[float, float]:
        """Where pixel values are cut off: far beyond the range."""
        return far_beyond(*self.pixel_range)

    def without_extremes(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Cut off what is far beyond the range of training; without a copy if nothing can be.

        A single hot pixel of 16 bits would make up most of the contrast of its image.
        """
        if pixels.dtype.kind == "b":
            return pixels
        whole = pixels.dtype.kind in "iu"
        limits: Any = np.iinfo(pixels.dtype) if whole else np.finfo(pixels.dtype)
        number = int if whole else float
        smallest, largest = number(limits.min), number(limits.max)
        least, most = self.bounds
        if least <= smallest and largest <= most:
            return pixels
        return np.clip(pixels, number(max(least, smallest)), number(min(most, largest)))

    @classmethod
    def of(
        cls, images: NDArray[Any], per_image: bool, rows: NDArray[np.intp] | None = None
    ) -> "PixelScale":
        """Take the range of images, or of some of them, without a copy of all.

        To standardise each image, it is the range without faulty pixels: a single hot one of 16
        bits would make all contrasts small beside it.
        """
        find_range = usual_range if per_image else whole_range
        return cls(*find_range(images, rows), per_image)

    def to_network(
        self, images: NDArray[Any], out: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], Any, Any]:
        """Scale a batch.

        Parameters
        ----------
        images : ndarray of shape (n, h, w, c)
        out : ndarray of shape (n, h, w, c), default=None
            What to write the scaled batch to.

        Returns
        -------
        batch : ndarray of float32
            ``(images - low) / span``, in float64 where float32 cannot hold the pixel values; of
            standardised images without extremes.
        low, span : numbers or ndarrays of shape (n, 1, 1, c) and (n, 1, 1, 1)
            What brings outputs back: ``outputs * span + low``.
        """
        dtype = np.result_type(images.dtype, np.float32)
        if not self.per_image:
            low, span = dtype.type(self.low), dtype.type(self.span)
            return scaled(images, low, span, out), low, span
        batch = np.empty(images.shape, np.float32) if out is None else out
        spans = np.empty((len(images), 1, 1, 1), dtype)
        least = dtype.type(self.least_contrast)
        # One at a time, as it fits into the cache, and in the same memory: the system would take
        # back what is as large as an image, and hand it out again for the next.
        centred, squares = np.empty((2, *images.shape[1:]), dtype)
        # Of more than 8 bits, pixels may be large and nearly alike: rounding of their sum would be
        # a contrast.
        of_sums = dtype if images.dtype.itemsize == 1 else np.float64
        lows = np.empty((len(images), 1, 1, images.shape[3]), of_sums)
        for image, result, of_low, of_span in zip(images, batch, lows, spans, strict=True):
            # Into C order: the order of a sum would change its rounding.
            np.copyto(centred, self.without_extremes(image))
            for channel in range(images.shape[3]):
                of_low[..., channel] = centred[..., channel].mean(dtype=of_sums)
            rounded = of_low.astype(dtype)
            centred -= rounded
            if of_sums != dtype:
                # Of pixels that are large and nearly alike, what was rounded off is some contrast.
                centred -= (of_low - rounded).astype(dtype)
            of_span[...] = np.sqrt(np.square(centred, out=squares).mean()) + least
            np.divide(centred, of_span, out=result, casting="same_kind")
        return batch, lows, spans


def scaled(
    pixels: NDArray[Any], low: ArrayLike, span: float, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return ``(pixels - low) / span``, as `PixelScale.to_network` computes it."""
    dtype = np.result_type(pixels.dtype, np.float32)
    out = np.empty(pixels.shape, np.float32) if out is None else out
    centred = pixels - np.asarray(low, dtype)
    return np.divide(centred, dtype.type(span), out=out, casting="same_kind")


def scale_of(detector: Any) -> PixelScale | None:
    """Return the scale that a fitted detector, or its reconstructor, has learned, if it has."""
    scale = getattr(getattr(detector, "reconstructor_", detector), "_scale", None)
    return scale if isinstance(scale, PixelScale) else None
