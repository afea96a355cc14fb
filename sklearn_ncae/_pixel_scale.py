"""The scale of pixel values, for networks and for textures."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class PixelScale:
    """The affine map from pixel values to the network's values.

    It is taken from the images and not from their dtype, so that the same pixel values score the
    same in any dtype.

    Parameters
    ----------
    low, high : float
        Smallest and largest pixel value of the training images.
    per_image : bool
        Whether every image is standardised by its own mean and standard deviation, which takes
        exposure out; otherwise `low` becomes 0 and `high` becomes 1.
    """

    #: Added to each image's deviation, as a share of the range: the noise of a plain image stays
    #: small.
    LEAST_CONTRAST = 0.02

    def __init__(self, low: float, high: float, per_image: bool) -> None:
        self.low = low
        self.span = (high - low) or 1.0
        self.per_image = per_image

    @property
    def pixel_range(self) -> tuple[float, float]:
        """Smallest and largest pixel value; of a constant image, the largest is 1 more."""
        return self.low, self.low + self.span

    @classmethod
    def of(cls, images: NDArray[Any], per_image: bool) -> "PixelScale":
        """Take the range of a stack of images, without a copy of it."""
        return cls(float(images.min()), float(images.max()), per_image)

    def to_network(self, images: NDArray[Any]) -> tuple[NDArray[np.float32], Any, Any]:
        """Scale a batch.

        Returns
        -------
        scaled : ndarray of float32
            ``(images - low) / span``, in float64 where float32 cannot hold the pixel values.
        low, span : numbers or ndarrays of shape (n, 1, 1, 1)
            What brings outputs back: ``outputs * span + low``.
        """
        pixels = self._pixels(images)
        low, span = pixels.dtype.type(self.low), self.spans(pixels)
        if self.per_image:
            low = pixels.mean(axis=(1, 2, 3), keepdims=True)
        return ((pixels - low) / span).astype(np.float32, copy=False), low, span

    def spans(self, images: NDArray[Any]) -> Any:
        """Return what differences of pixel values are divided by, as `to_network` does."""
        pixels = self._pixels(images)
        span = pixels.dtype.type(self.span)
        if not self.per_image:
            return span
        least = pixels.dtype.type(self.LEAST_CONTRAST) * span
        return pixels.std(axis=(1, 2, 3), keepdims=True) + least

    @staticmethod
    def _pixels(images: NDArray[Any]) -> NDArray[Any]:
        # In C order: the order of a sum would change its rounding.
        return images.astype(np.result_type(images.dtype, np.float32), order="C", copy=False)
