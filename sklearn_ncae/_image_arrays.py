"""Layouts of image stacks, checked with NumPy alone, for what runs without scikit-learn too."""

import mmap
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import DTypeLike, NDArray

from sklearn_ncae._warn import warn

# Pixels of the images that are worked on at a time (as float32: 64 MB).
_CHUNK_PIXELS = 16_000_000

# The system may map so many bytes on either side of what is read of a file: a huge page.
_READ_AROUND = 2**21

# Rows of so many values may well be flattened images.
_LONG_ROW = 256

# Images whose largest value is so many times that of training are taken to be in another unit.
# Bright defects on dark parts are not that bright, and the unit of 8 bits is 1/255 or 257.
_OTHER_UNIT = 1 / 50, 50
# So many images are looked at.
_SAMPLE = 8

# How many times the largest pixel value of a range others may lie beyond it: light changes.
_BEYOND = 2
# So few pixels of an image may lie that far beyond the range of most images: a glare.
_GLARE = 1e-3

# Images have so many channels, gray or colours with an alpha channel; of others one has to be told.
_MOST_CHANNELS = 4

# The largest pixel values whose squares can be summed, in float32 and in float64.
LARGEST_SINGLE = 1e15
_LARGEST = 1e100


def with_channels(shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of an image with its channels: (h, w) becomes (h, w, 1)."""
    return (*shape, 1) if len(shape) == 2 else tuple(shape)


def chunks(
    images: NDArray[Any], rows: NDArray[np.intp] | None, n_pixels: int = _CHUNK_PIXELS
) -> Iterator[NDArray[Any]]:
    """Yield some of the images, or all, as many at a time as have so many pixels, or one."""
    step = max(1, n_pixels // int(np.prod(images.shape[1:])))
    for start in range(0, len(images) if rows is None else len(rows), step):
        part = slice(start, start + step)
        if rows is None:
            yield images[part]
            release_pages(images[part])
        else:
            yield images[rows[part]]
            release_pages(images[rows[part].min() : rows[part].max() + 1])


def release_pages(images: NDArray[Any]) -> None:
    """Take images that have been read from a mapped file out of this process's memory.

    The file has them still, and the system may have it in its cache. A copy-on-write mapping, whose
    changes would be lost, and all other arrays are left alone.
    """
    mapped: Any = images
    while isinstance(mapped, np.ndarray) and not isinstance(mapped, np.memmap):
        mapped = mapped.base
    if getattr(mapped, "mode", "c") == "c" or not hasattr(mmap, "MADV_DONTNEED"):
        return
    while isinstance(mapped, np.ndarray):
        mapped = mapped.base
    if not isinstance(mapped, mmap.mmap):
        return  # a copy, which NumPy calls a memmap too
    file_start, _ = byte_bounds(np.frombuffer(mapped, np.uint8))
    start, end = (address - file_start for address in byte_bounds(images))
    start = max(0, start - _READ_AROUND)
    start -= start % mmap.PAGESIZE
    end = min(end + _READ_AROUND, len(mapped))
    mapped.madvise(mmap.MADV_DONTNEED, start, end - start)


def block_means(
    values: NDArray[Any], size: int, axis: int, dtype: DTypeLike | None = None
) -> NDArray[Any]:
    """Means of every `size` neighbours along an axis, in a dtype; the last may be of fewer."""
    if size == 1:
        return values if dtype is None else values.astype(dtype)
    lines = np.swapaxes(values, 0, axis)
    means = np.array(lines[::size], dtype)
    n_whole, n_left = divmod(len(lines), size)
    for step in range(1, size):
        neighbors = lines[step::size]
        means[: len(neighbors)] += neighbors
    means[:n_whole] /= size
    means[n_whole:] /= max(1, n_left)
    return np.swapaxes(means, 0, axis)


def as_stack(X: Any, name: str) -> Any:
    """Turn X into an array, where it is not an array, a table or a sparse matrix already."""
    if isinstance(X, str | os.PathLike):
        X = [X]
    if _is_column(X):
        X = list(np.ravel(X))  # each of its values an image
    X = without_mask(X, name)
    if not hasattr(X, "ndim"):
        if isinstance(X, list | tuple) and len(X) > 0 and isinstance(X[0], str | os.PathLike):
            raise TypeError(
                f"{name} takes images, got file paths such as {os.fspath(X[0])!r}. Load them "
                "first: ImageLoader(size=...).transform(paths), or as a step of a pipeline."
            )
        try:
            X = np.asarray(X)
        except ValueError as error:
            shapes = sorted({np.shape(image) for image in X})
            raise ValueError(
                f"{name} takes images of one size, got shapes {shapes[0]} and {shapes[-1]}. "
                "Resize them, for example with ImageLoader(size=...)."
            ) from error
    if isinstance(X, np.ndarray) and X.ndim == 0 and X.dtype == object:
        raise TypeError(f"{name} takes an array of images, got a {type(X.item()).__name__}.")
    if isinstance(X, np.ndarray) and X.dtype.kind in "OUS" and X.ndim == 1 and len(X) > 0:
        what = "file paths" if isinstance(X[0], str | os.PathLike) else f"{type(X[0]).__name__}s"
        raise TypeError(
            f"{name} takes images of one size as an array of numbers, got an array of {what}. "
            "Load files first: ImageLoader(size=...).transform(paths), or as a step of a pipeline."
        )
    return X


def _is_column(X: Any) -> bool:
    """Tell whether X is a column of a table, or a table of one, that holds objects such as images.

    Numbers that are objects are left to be the values of rows.
    """
    shape: Sequence[int] = getattr(X, "shape", ())
    if len(shape) == 1:
        return getattr(X.dtype, "kind", None) == "O"
    if len(shape) != 2 or shape[1] != 1 or hasattr(X, "toarray"):
        return False
    first = np.asarray(X[:1])
    return first.dtype == object and any(np.ndim(v) > 0 or isinstance(v, str) for v in first.flat)


FEATURES = ("n_features_in_", "feature_names_in_")


def forget_features(estimator: Any) -> None:
    """Drop what an earlier fit, to a table, has left of its columns."""
    for attribute in FEATURES:
        estimator.__dict__.pop(attribute, None)


def without_mask(X: Any, name: str) -> Any:
    """Take an array for its values, and refuse one with masked pixels, which nobody would read.

    Parameters
    ----------
    X : object
        A masked array, or a list with such in it, or anything else.
    name : str
        Who takes it, for the message.

    Returns
    -------
    X : object
        Without a mask of nothing.

    Raises
    ------
    ValueError
        If pixels are masked.
    """
    images = X if isinstance(X, list | tuple) else [X]
    n_masked = sum(
        np.count_nonzero(np.ma.getmaskarray(image))
        for image in images
        if isinstance(image, np.ma.MaskedArray)
    )
    if n_masked:
        raise ValueError(
            f"{name} takes images without masked pixels, got {n_masked} of them. Fill them, for "
            "example with X.filled(numpy.ma.median(X))."
        )
    return X.data if isinstance(X, np.ma.MaskedArray) else X


def check_values(images: NDArray[Any], name: str) -> None:
    """Refuse finite values that cannot be computed with.

    Parameters
    ----------
    images : ndarray
    name : str
        Who takes it, for the message.

    Raises
    ------
    TypeError
        If they are not real numbers.
    ValueError
        If they are larger than 1e100.
    """
    if images.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} takes images of real numbers, got an array of {images.dtype}. Convert "
            "them, for example with X.astype(float)."
        )
    if images.dtype.itemsize > 4 and (largest := magnitude_of(images)) > _LARGEST:
        raise ValueError(
            f"{name} takes pixel values of at most {_LARGEST:g}, got {largest:g}: the squares of "
            "larger ones cannot be summed. Rescale X, or look for a value that stands for a "
            "missing pixel."
        )


def with_squares(images: NDArray[Any]) -> NDArray[Any]:
    """Give floats whose squares are lost in their own type, or that are longer, as float64.

    Parameters
    ----------
    images : ndarray

    Returns
    -------
    images : ndarray
        The same array, where nothing is lost.
    """
    if images.dtype.kind != "f" or images.dtype.itemsize in (2, 8):
        return images
    if images.dtype.itemsize == 4:
        magnitude = magnitude_of(images)
        if magnitude == 0 or 1 / LARGEST_SINGLE < magnitude < LARGEST_SINGLE:
            return images
    return images.astype(np.float64)


def magnitude_of(images: NDArray[Any]) -> float:
    """Return the largest absolute value of floats; of integers 0, as all can be computed with."""
    if images.dtype.kind != "f" or not images.size:
        return 0.0
    return max(-float(images.min()), float(images.max()))


def check_rank(shape: tuple[int, ...], name: str) -> None:
    """Refuse what is neither (n, h, w) nor (n, h, w, c), or has no pixel."""
    if len(shape) not in (3, 4) or 0 in shape:
        raise ValueError(
            f"{name} takes images as (n, height, width), (n, height, width, channels) or "
            f"(n, n_features); got an array of shape {shape}. Reshape your data, for "
            "a single image to image[np.newaxis]."
        )


def refuse_channels_first(shape: tuple[int, ...], name: str) -> None:
    """Refuse (n, c, h, w), which would be taken for very flat images of many channels."""
    if len(shape) == 4 and shape[1] in (1, 3) and min(shape[2:]) > _MOST_CHANNELS:
        raise ValueError(
            f"{name} takes images as (n, height, width, channels), got an array of shape {shape}, "
            "which looks like channels first: give numpy.moveaxis(X, 1, -1). If these are images "
            f"of {shape[3]} channels, say so by image_shape={shape[1:]}."
        )


def check_fitted_shape(shape: tuple[int, ...], fitted: tuple[int, ...], name: str) -> None:
    """Refuse images of another (height, width, channels) than those of fit."""
    if shape != fitted:
        raise ValueError(
            f"{name} was fitted on images of shape {fitted} (height, width, "
            f"channels), got images of shape {shape}. Resize them as those were: "
            "ImageLoader(size=...) does so with files, and for arrays there is Pillow's "
            "Image.resize((width, height), Image.Resampling.BOX)."
        )


def refuse_single(shape: tuple[int, ...], fitted: tuple[int, ...], name: str) -> None:
    """Refuse one image, of (height, width, channels) as in fit, in the place of a stack."""
    is_stack = int(np.prod(shape[1:])) == int(np.prod(fitted))
    if (shape == fitted or (*shape, 1) == fitted) and not is_stack:
        raise ValueError(
            f"{name} takes a stack of images, got an array of shape {shape}, which is one image: "
            "give image[np.newaxis]."
        )


def usual_range(images: NDArray[Any], rows: NDArray[np.intp] | None = None) -> tuple[float, float]:
    """Return the darkest and brightest pixel value of images, without their faulty pixels.

    Parameters
    ----------
    images : ndarray of shape (n, h, w, c)
        Finite ones.
    rows : ndarray of int, default=None
        Which of the images; None: all.

    Returns
    -------
    low, high : float
        A value counts if two adjacent pixels reach it: hot and dead ones of a camera stand alone.
        What is far beyond the range of most images counts if it is not few pixels of its image: a
        glare. If nothing is left then, or one value alone, everything counts.
    """
    ranges = np.array([_range_of_pairs(image) for part in chunks(images, rows) for image in part])
    least, most = far_beyond(*np.median(ranges, axis=0))
    outlying = np.flatnonzero((ranges[:, 0] < least) | (ranges[:, 1] > most))
    for index in outlying:
        image = images[index if rows is None else rows[index]]
        n_few = int(_GLARE * image.size)
        ordered = np.partition(image, (n_few, image.size - 1 - n_few), axis=None)
        ranges[index] = ordered[n_few], ordered[-1 - n_few]
    low, high = ranges[:, 0].min(), ranges[:, 1].max()
    if low < high:
        return float(low), float(high)
    return whole_range(images, rows)


def whole_range(images: NDArray[Any], rows: NDArray[np.intp] | None = None) -> tuple[float, float]:
    """Return the darkest and brightest pixel value of images, or of some of them."""
    lows, highs = zip(*((part.min(), part.max()) for part in chunks(images, rows)), strict=True)
    return float(min(lows)), float(max(highs))


def _range_of_pairs(image: NDArray[Any]) -> tuple[float, float]:
    """Return the darkest and brightest value that two adjacent pixels (h, w, c) reach, or all."""
    pairs = [
        (image[1:], image[:-1]) if axis == 0 else (image[:, 1:], image[:, :-1])
        for axis in (0, 1)
        if image.shape[axis] > 1
    ] or [(image, image)]
    low = min(np.maximum(*pair).min() for pair in pairs)
    high = max(np.minimum(*pair).max() for pair in pairs)
    # Where light and dark pixels alternate, no two adjacent ones are alike.
    return (float(low), float(high)) if low < high else (float(image.min()), float(image.max()))


def far_beyond(low: float, high: float) -> tuple[float, float]:
    """Return where values are far beyond a range: what is more is cut off."""
    beyond = _BEYOND * max(abs(low), abs(high))
    return low - beyond, high + beyond


def warn_of_flat_rows(layout: Sequence[int], name: str) -> None:
    """Warn of long rows, which are taken for images of height 1, where that matters.

    Parameters
    ----------
    layout : sequence of int
        The shape of one image as it was given, or as `image_shape` says.
    name : str
        Who takes them, for the message.
    """
    if len(layout) == 1 and layout[0] >= _LONG_ROW:
        warn(
            f"{name} takes rows of {layout[0]} values for images of height 1. If they are images, "
            "give their height and width as image_shape, and if they are not, "
            f"image_shape=(1, {layout[0]})."
        )


def warn_of_other_unit(
    images: NDArray[Any], pixel_range: Sequence[float] | None, name: str
) -> None:
    """Warn of images from 0 to 1 for a detector of images from 0 to 255, and the like.

    Parameters
    ----------
    images : ndarray of shape (n, h, w, c)
        A few of them are looked at.
    pixel_range : (float, float) or None
        Darkest and brightest pixel value of training, where they are known.
    name : str
        Who takes the images, for the message.

    Warns
    -----
    UserWarning
        If the values are many times as large as in training, or a small part of that.
    """
    if pixel_range is None or not len(images):
        return
    sample = images[:: -(-len(images) // _SAMPLE)]
    low, high = pixel_range
    least, most = _OTHER_UNIT
    lowest, largest = float(sample.min()), float(sample.max())
    if most < max(-lowest, largest) / max(-low, high) < np.inf:
        lowest, largest = usual_range(sample)
    factor = max(-lowest, largest) / max(-low, high)
    # One value throughout is of any unit, and what is not finite is for others to refuse.
    if (lowest < largest and factor < least) or most < factor < np.inf:
        warn(
            f"The images have values from {lowest:g} to {largest:g}, and those that {name} was "
            f"fitted on from {low:g} to {high:g}. If they are in another unit, their scores mean "
            "nothing: bring them to that of training."
        )


def full_scale(images: NDArray[Any]) -> tuple[float, float]:
    """Return black and white of images: by their dtype, or else the usual ones that hold them."""
    if images.dtype in (np.uint8, np.uint16):
        return 0.0, float(np.iinfo(images.dtype).max)
    finite = (part[np.isfinite(part)] for part in chunks(images, None))
    ranges = [(float(part.min()), float(part.max())) for part in finite if part.size]
    low = min((low for low, _ in ranges), default=0.0)
    high = max((high for _, high in ranges), default=1.0)
    usual = (1.0, 255.0, 65535.0) if images.dtype.kind in "fb" else (255.0, 65535.0)
    # What was resampled or sharpened may be a little above 1, and is not of 8 bits for that.
    white = next((white for white in usual if high <= max(white, 1.5)), None)
    if low < 0 or white is None:
        return low, high if high > low else low + 1.0
    return 0.0, white


def strongest_channel(residuals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n, h, w): per pixel the signed residual of the channel where it is largest.

    A mean over channels would hide a change of hue, whose signs cancel.
    """
    if residuals.ndim == 3:
        return residuals
    strongest = np.abs(residuals).argmax(axis=-1, keepdims=True)
    return np.take_along_axis(residuals, strongest, axis=-1)[..., 0]
