"""Texture: how rough an image is at each place, and how unlike good images that is.

The network sees some tens of pixels around each pixel, and not where in the image it is. Texture
is described place by place over the whole image, in numbers few enough for their usual
combinations to be learned from some tens of images: where a good part is rough, how rough parts
come together, how noisy cameras are.
"""

from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, maximum_filter
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_ncae._all_or_nothing import all_or_nothing
from sklearn_ncae._hold_out import check_groups, one_of_each
from sklearn_ncae._image_arrays import block_means, chunks, warn_of_flat_rows
from sklearn_ncae._image_outliers import ImageOutlierMixin
from sklearn_ncae._pixel_scale import PixelScale

# Images are shrunk to about this many pixels along their shorter side, by means of blocks.
_SIDE = 128
# Distances of the neighbours that a pixel is compared with, each after some more smoothing.
_DISTANCES = (1, 2, 4)
# A pixel is compared with the mean of two opposite neighbours, in four directions.
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
# Weights of the smoothing along each axis, whose deviation is one pixel.
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
# Steps along the line, across the comparison, whose comparisons are summed up.
_LINE = (-2, -1, 0, 1, 2)
# Brightness, and one for each comparison.
_PARTS_PER_CHANNEL = 1 + len(_DISTANCES) * len(_DIRECTIONS)
# Into how many cells the image is divided along each side.
_N_CELLS = 16
# Light falls differently on different places: contrasts are relative to the brightness around, from
# neighbouring cells by a Gaussian of this deviation, and to a share of the mean brightness.
_SURROUNDINGS = 2.5
_EVEN_LIGHT = 0.3
# Added to relative contrasts before the logarithm: less is not seen.
_FAINTEST = 0.012
# Nor is what is less than this share of the range, two of 255 gray levels: where nothing was ever
# seen, on a background that is entirely black, the noise of a camera is no defect.
_NOISE = 2 / 255
# The weight of the brightness of a cell, relative to the image's, beside the logarithms.
_BRIGHTNESS = 2.0
# Deviations of a description are not taken to be smaller than this.
_LEAST_DEVIATION = 0.4
# Nor its variance than this share of the largest in a neighbouring cell.
_BESIDE = 0.4
# A combination whose variance is this share of the number of values is believed by half, a larger
# one more: what only a few values of the training images have in common is not usual.
_BELIEVED_BY_HALF = 0.006
_MAX_COMPONENTS = 64
# What is left over is not taken for more than rounding below this.
_ROUNDING = 1e-12
# How much a place counts that is smoother than usual, beside one that is rougher. As much would
# cost real defects much, see the page on detection quality.
_SMOOTHER = 0.7
# Deviation of the Gaussian that gathers what neighbouring cells say, in cells.
_REACH = 1.0
# Share of the cells that make the peak of a map.
_PEAK_SHARE = 0.02
# About so many pixels of shrunk images are described at once: enough for NumPy to be busy, few
# enough for its arrays to stay in the cache while a network runs beside it.
_PIXELS_AT_ONCE = 50_000
_N_FOLDS = 5
_MAX_TEXTURES = 1000

Floats = NDArray[np.float64]


class TextureDetector(ImageOutlierMixin):
    """Outlier detector that looks for texture that good images do not have at the same place.

    It learns in a second or two from some tens of images, has no network, and needs neither
    TensorFlow nor Keras. It is one of the two things that
    :class:`~sklearn_ncae.NCAEDetector` looks at.

    Parameters
    ----------
    contamination : "auto" or float in (0, 0.5], default="auto"
        How the offset is found. A number is the fraction of training images that are called
        defects; of new good images it will be more. With ``"auto"`` each training image is scored
        by a model of others, in cross-validation, and at most `false_alarm_rate` of them are
        called defects: so should new good images be, if they come from the same parts.
    false_alarm_rate : float in (0, 1), default=0.05
        The rate with ``contamination="auto"``. It needs at least ``1 / false_alarm_rate - 1``
        images, or groups.
    image_shape : tuple of int, default=None
        Height, width and, optionally, channels of the images where X has flat rows.

    Attributes
    ----------
    texture_ : TextureModel
        What has been learned from the images.
    offset_ : float
        ``decision_function = score_samples - offset_``.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Scores in cross-validation, at most 1000, with groups one of each; only with
        ``contamination="auto"``, or after `recalibrate`, of the images given to it.
    false_alarm_rate_ : float
        The rate that `offset_` stands for; where there are `calibration_scores_`.
    image_shape_ : tuple of (int, int, int)
        Height, width and channels of the training images.
    n_samples_fit_ : int
        Number of training images.
    n_features_in_ : int
        Number of values of an image.
    feature_names_in_ : ndarray of str
        Names of the columns, where X was a DataFrame.

    See Also
    --------
    sklearn_ncae.NCAEDetector : Looks at texture and, with a network, for defects.

    Examples
    --------
    >>> from sklearn_ncae.datasets import make_castings
    >>> from sklearn_ncae.texture import TextureDetector
    >>> castings = make_castings(n_good=60, n_defect=20, image_size=(64, 64), random_state=0)
    >>> good = castings.images[castings.target == 1]
    >>> detector = TextureDetector().fit(good[:40])
    >>> detector.predict(good[40:]).shape
    (20,)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither")],
        "image_shape": ["array-like", None],
    }

    def __init__(
        self,
        *,
        contamination: str | float = "auto",
        false_alarm_rate: float = 0.05,
        image_shape: Sequence[int] | None = None,
    ) -> None:
        self.contamination = contamination
        self.false_alarm_rate = false_alarm_rate
        self.image_shape = image_shape

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X: ArrayLike, y: Any = None, groups: Any = None) -> Self:
        """Learn the textures of good parts.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of good parts, of any real dtype. Of more than 1000, as many are used, drawn
            at random, the same each time.
        y : array-like of shape (n,), default=None
            Ignored, but for a warning where it has two labels: all images are taken for good.
        groups : array-like of shape (n,), default=None
            What images of the same part (or day, or batch) have in common, such as its number.
            With ``contamination="auto"`` each image is scored by a model of other groups, and one
            image of each group, drawn at random, counts for the threshold. None: each image is
            one.

        Returns
        -------
        self : TextureDetector

        Raises
        ------
        TypeError, ValueError
            If X is not a stack of finite images of one size, or groups has not one value for each,
            or with ``contamination="auto"`` the same for all.
        """
        images = self._check_to_fit(X, y)
        warn_of_flat_rows(self._layout, type(self).__name__)
        of_images = check_groups(groups, len(images))
        if self.contamination == "auto" and not of_images.any():
            n, more = f"n_samples={len(images)}", "more images"
            if groups is not None:
                n, more = f"{n} of n_groups=1", "images of more groups"
            raise ValueError(
                f"{type(self).__name__} with contamination='auto' and {n} has no other image to "
                f"score with. Give {more}, or a contamination between 0 and 0.5."
            )
        self.n_samples_fit_ = len(images)
        self._scale = PixelScale.of(images, per_image=True)
        rows = representative_rows(np.arange(len(images)))
        descriptions = describe_texture(images, self._scale, rows)
        self.texture_ = TextureModel.of(descriptions)
        if self.contamination == "auto":
            scores = -held_out_peaks(descriptions, of_images[rows])
            counted = one_of_each(of_images[rows], np.random.RandomState(0))
            self._set_false_alarm_rate(scores[counted])
        else:
            self._set_contamination(-self.texture_.peaks(descriptions))
        return self

    def score_samples(self, X: ArrayLike) -> Floats:
        """Return minus the peak of each image's texture map.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        scores : ndarray of shape (n,), float64
            At most 0; the lower, the more abnormal. Each depends on its own image alone.

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        TypeError, ValueError
            If X is not a stack of finite images as in `fit`.
        """
        images, _ = self._check(X)
        return -peaks_of(images, self._scale, self.texture_)

    def anomaly_map(self, X: ArrayLike) -> NDArray[np.float32]:
        """Show where images are rougher or smoother than good ones.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        maps : ndarray of shape (n, h, w), float32
            At least 0, in deviations of good images; no finer than a sixteenth of the image.
        """
        images, _ = self._check(X)
        return self.texture_.maps(describe_texture(images, self._scale), self.image_shape_)


class TextureModel:
    """What the textures of good images have in common: their mean and their usual combinations.

    A description is compared with what the usual combinations can make of it, as an autoencoder's
    input with its output. What is left over counts, in the deviations of good images.

    Parameters
    ----------
    mean, deviation : ndarray of shape (n_parts, n_rows, n_columns), float64
        Of the descriptions of good images, see `describe_texture`.
    components : ndarray of shape (n_components, n_parts, n_rows, n_columns), float32
        Their principal components, in units of the deviations, each as long as it is believed: 1
        at most. They are most of the model's size.
    """

    def __init__(self, mean: Floats, deviation: Floats, components: NDArray[np.float32]) -> None:
        self.mean = mean
        self.deviation = deviation
        self.components = components

    @classmethod
    def of(cls, descriptions: Floats) -> Self:
        """Learn from descriptions of good images, of shape (n, n_parts, n_rows, n_columns)."""
        mean = descriptions.mean(axis=0)
        variance = descriptions.var(axis=0)
        # Parts do not lie quite alike: what varies beside a cell may vary in it as well.
        variance = np.maximum(variance, _BESIDE * maximum_filter(variance, (1, 3, 3)))
        deviation = np.sqrt(variance + _LEAST_DEVIATION**2)
        rows = ((descriptions - mean) / deviation).reshape(len(descriptions), -1)
        # Ridge regression: a component of length sqrt(variance / (variance + ridge)) takes that
        # share of what it is asked to explain.
        variances, vectors = np.linalg.eigh(rows @ rows.T / len(rows))
        ridge = _BELIEVED_BY_HALF * rows.shape[1]
        largest = slice(None, -_MAX_COMPONENTS - 1, -1)
        lengths = np.sqrt(len(rows) * (np.maximum(variances[largest], 0) + ridge))
        components = (vectors.T[largest] @ rows) / lengths[:, np.newaxis]
        return cls(mean, deviation, components.reshape(-1, *mean.shape).astype(np.float32))

    @property
    def likeness(self) -> float:
        """How far each place has a texture of its own: the share of variance between places.

        In [0, 1): near 0 on a surface, of which each image shows another place, and larger the more
        alike parts lie. Deviations that are taken to be larger than they are make it smaller.
        """
        n_channels = len(self.mean) // _PARTS_PER_CHANNEL
        between = self.mean[n_channels:].var(axis=(1, 2)).mean()
        within = np.square(self.deviation[n_channels:]).mean()
        return float(between / (between + within))

    def cells(self, descriptions: Floats) -> NDArray[np.float64]:
        """How unlike good images each cell of an image is.

        Parameters
        ----------
        descriptions : ndarray of shape (n, n_parts, n_rows, n_columns), float64

        Returns
        -------
        cells : ndarray of shape (n, n_rows, n_columns), float64
            At least 0. Fourth powers of what is left over, summed over the parts and gathered
            from neighbouring cells, apart for what is rougher and what is smoother than usual;
            the fourth root of the larger of the two, where smoother counts 0.7. What is brighter
            or darker than usual is among what is rougher.
        """
        components = self.components.reshape(len(self.components), -1).astype(np.float64)
        either_way = self._either_way
        cells = np.empty((len(descriptions), *descriptions.shape[2:]))
        # One at a time, as it fits into the cache.
        for description, unusual in zip(descriptions, cells, strict=True):
            # Sums that do not depend on the other images, nor on the number of threads.
            standardised = ((description - self.mean) / self.deviation).ravel()
            code = np.einsum("cv,v->c", components, standardised)
            left = standardised - np.einsum("cv,c->v", components, code)
            left = np.where(np.abs(left) <= _ROUNDING, 0.0, left)  # a nan stays
            left = left.reshape(self.mean.shape)
            left = np.maximum(left, either_way * left)
            # A small defect is in few parts and cells; the fourth powers let it be seen.
            powers = [
                np.square(np.square(np.maximum(part, 0))).sum(axis=0)
                for part in (left, -_SMOOTHER * left)
            ]
            rougher, smoother = gaussian_filter(powers, (0, _REACH, _REACH))
            unusual[...] = np.sqrt(np.sqrt(np.maximum(rougher, smoother)))
        return cells

    @property
    def _either_way(self) -> Floats:
        """Return -1 for each part that counts as much either way, brightness, and 1 for others."""
        n_parts = len(self.mean)
        signs = np.ones((n_parts, 1, 1))
        signs[: n_parts // _PARTS_PER_CHANNEL] = -1
        return signs

    def peaks(self, descriptions: Floats) -> NDArray[np.float64]:
        """How unlike good images each image is: the mean of its highest 2 % of cells.

        Parameters
        ----------
        descriptions : ndarray of shape (n, n_parts, n_rows, n_columns), float64

        Returns
        -------
        peaks : ndarray of shape (n,), float64
            At least 0.
        """
        cells = np.sort(self.cells(descriptions).reshape(len(descriptions), -1), axis=1)
        return cells[:, -n_highest(cells.shape[1]) :].mean(axis=1)

    def maps(self, descriptions: Floats, image_shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Interpolate between the centres of the cells, for every pixel of an image.

        Parameters
        ----------
        descriptions : ndarray of shape (n, n_parts, n_rows, n_columns), float64
        image_shape : tuple of (int, int, int)
            Height, width and channels of the images.

        Returns
        -------
        maps : ndarray of shape (n, h, w), float32
            At least 0, in deviations of good images.
        """
        down, across = interpolations(image_shape)
        cells = self.cells(descriptions)
        return np.matmul(np.matmul(down, cells), across.T).astype(np.float32)


def interpolations(image_shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Return the weight of each cell in each pixel of images, along rows and along columns."""
    size = block_size(image_shape)

    def weights(side: int, n_cells: int, n_blocks: int) -> Floats:
        places = (np.arange(side) + 0.5) / (size * n_blocks) - 0.5
        return np.transpose([np.interp(places, range(n_cells), cell) for cell in np.eye(n_cells)])

    _, *grid = description_shape(image_shape)
    down, across = map(weights, image_shape[:2], grid, cell_shape(image_shape))
    return down, across


def n_highest(n_cells: int) -> int:
    """Return how many cells make the peak of a map."""
    return max(1, round(_PEAK_SHARE * n_cells))


def held_out_peaks(descriptions: Floats, groups: NDArray[np.intp]) -> NDArray[np.float64]:
    """Peak of each description over what is learned from other groups, by cross-validation.

    Parameters
    ----------
    descriptions : ndarray of shape (n, n_parts, n_rows, n_columns), float64
        Of good images.
    groups : ndarray of shape (n,), intp
        Of the images; a single one is compared with itself.

    Returns
    -------
    peaks : ndarray of shape (n,), float64
    """
    names, of_images = np.unique(groups, return_inverse=True)
    n = len(names)
    if n == 1:
        return TextureModel.of(descriptions).peaks(descriptions)
    peaks = np.empty(len(descriptions))
    # At random: images often come in turn from several stations, one of which would be a fold.
    fold = (np.random.RandomState(0).permutation(n) % _N_FOLDS)[of_images]
    for held_out in (fold == i for i in range(min(n, _N_FOLDS))):
        peaks[held_out] = TextureModel.of(descriptions[~held_out]).peaks(descriptions[held_out])
    return peaks


def describe_texture(
    images: NDArray[Any], scale: PixelScale, rows: NDArray[np.intp] | None = None
) -> NDArray[np.float64]:
    """Describe the texture of images place by place.

    The image is shrunk to about 128 pixels and divided by a grid of 16 by 16 cells. Each pixel is
    compared with the mean of two opposite neighbours, in four directions and at distances of 1, 2
    and 4 pixels, after smoothing that grows with the distance. Comparisons are summed up over five
    places along the line that separates the neighbours, so that edges and scratches stand out from
    noise. The largest absolute sum in each cell, of two gray levels at least, relative to the
    brightness around the cell, is taken as a logarithm. Beside that stands how bright the cell is,
    relative to the image.

    Parameters
    ----------
    images : ndarray of shape (n, h, w, c)
        Of any real dtype.
    scale : PixelScale
        Brightness is counted from its `black`; what is much darker than its range, of which a gray
        level is a 255th, counts as noise.
    rows : ndarray of int, default=None
        Which of the images to describe; None: all.

    Returns
    -------
    descriptions : ndarray of shape (n, n_parts, n_rows, n_columns), float64
        The first parts are the brightness of the channels; each other is one channel compared at
        one distance in one direction. Each description depends on its own image alone, and not on
        a factor that its brightness is multiplied by, but for comparisons of less than two gray
        levels, and unless it is hardly brighter than black.
    """
    none = np.empty((0, *description_shape(images.shape[1:])))
    return np.concatenate([none, *_descriptions(images, scale, rows)])


def peaks_of(images: NDArray[Any], scale: PixelScale, model: TextureModel) -> NDArray[np.float64]:
    """Describe images and return their peaks; their descriptions are not in memory together."""
    return np.concatenate([model.peaks(part) for part in _descriptions(images, scale, None)])


def _descriptions(
    images: NDArray[Any], scale: PixelScale, rows: NDArray[np.intp] | None
) -> Iterator[Floats]:
    """Yield the descriptions of a few images at a time."""
    n_pixels = _PIXELS_AT_ONCE * block_size(images.shape[1:]) ** 2
    return (_describe_at_once(part, scale) for part in chunks(images, rows, n_pixels))


def _describe_at_once(images: NDArray[Any], scale: PixelScale) -> Floats:
    n, shape = len(images), images.shape[1:]
    n_channels = shape[2]
    size, cell = block_size(shape), cell_shape(shape)
    dtype = np.result_type(images.dtype, np.float32)
    # One at a time, as it fits into the cache, and in the same memory.
    pixels = np.empty((n_channels, *shape[:2]), dtype)
    # Channels are images of their own, until what is largest in a cell is found.
    levels = np.empty((n, n_channels, *shrunk_shape(shape)), dtype)
    for image, level in zip(images, levels, strict=True):
        np.copyto(pixels, np.moveaxis(scale.without_extremes(image), 2, 0))
        level[...] = block_means(block_means(pixels, size, 1), size, 2)
    levels = levels.reshape(-1, *levels.shape[2:])
    cells = block_means(block_means(levels, cell[0], 1, np.float64), cell[1], 2)
    cells = cells.reshape(n, n_channels, *cells.shape[1:])
    parts = []
    for distance in _DISTANCES:
        levels = _smooth(_smooth(levels, distance, 1), distance, 2)
        parts += [_largest_of_rows(line, cell[0]) for line in _compare(levels, distance)]
    of_images = [part.reshape(n, n_channels, *part.shape[1:]) for part in parts]
    largest = np.maximum.reduceat(
        np.concatenate(of_images, axis=1), np.arange(0, levels.shape[2], cell[1]), axis=3
    )
    brightness, around = _relative_brightness(cells, scale)
    contrasts = np.maximum(largest, _NOISE * scale.span) / around[:, np.newaxis]
    return np.concatenate([brightness, np.log(contrasts + _FAINTEST)], axis=1)


def representative_rows(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Take at most 1000 rows: more would take time and teach little more.

    They are drawn at random, always the same: images often come in turn from several cameras, of
    which even distances could leave one out.
    """
    if len(rows) <= _MAX_TEXTURES:
        return rows
    return rows[np.sort(np.random.RandomState(0).permutation(len(rows))[:_MAX_TEXTURES])]


def description_shape(image_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the parts, rows and columns that describe images of a height, width and channels."""
    n_rows, n_columns = (
        -(-side // step)
        for side, step in zip(shrunk_shape(image_shape), cell_shape(image_shape), strict=True)
    )
    return _PARTS_PER_CHANNEL * image_shape[2], n_rows, n_columns


def block_size(image_shape: tuple[int, ...]) -> int:
    """Return the side of the blocks whose means are taken of images."""
    return max(1, round(min(image_shape[:2]) / _SIDE))


def shrunk_shape(image_shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the height and width of the shrunk images."""
    size = block_size(image_shape)
    return -(-image_shape[0] // size), -(-image_shape[1] // size)


def cell_shape(image_shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the height and width of the cells of shrunk images; the last may be partial."""
    height, width = shrunk_shape(image_shape)
    return -(-height // _N_CELLS), -(-width // _N_CELLS)


def _relative_brightness(cells: Floats, scale: PixelScale) -> tuple[Floats, Floats]:
    """Return how bright cells (n, c, rows, columns) are, and the brightness around each."""
    brightness = np.maximum(cells - scale.black, 0.0)
    # Means over one axis, whose sums do not depend on the number of images.
    n, n_channels, *_ = cells.shape
    of_images = brightness.reshape(n, -1).mean(axis=1)[:, np.newaxis, np.newaxis]
    of_channels = brightness.reshape(n, n_channels, -1).mean(axis=2)[..., np.newaxis, np.newaxis]
    reach = (0, _SURROUNDINGS, _SURROUNDINGS)
    around = gaussian_filter(brightness.mean(axis=1), reach, mode="nearest")
    around = around + _EVEN_LIGHT * of_images + scale.least_contrast
    relative = (brightness - of_channels) / (of_images[..., np.newaxis] + scale.least_contrast)
    return _BRIGHTNESS * relative, around


def _largest_of_rows(levels: NDArray[Any], height: int) -> NDArray[Any]:
    """Return the largest of every `height` rows; the last may be of fewer."""
    c, h, w = levels.shape
    # Whole ones by their shape, which is many times faster than another way.
    whole = h // height * height
    largest = levels[:, :whole].reshape(c, -1, height, w).max(axis=2)
    if whole < h:
        largest = np.concatenate([largest, levels[:, whole:].max(axis=1, keepdims=True)], axis=1)
    return largest


def _smooth(levels: NDArray[Any], distance: int, axis: int) -> NDArray[Any]:
    side = levels.shape[axis]
    padded = _with_edge(levels, *((2 * distance, 0) if axis == 1 else (0, 2 * distance)))

    def shifted(steps: int) -> NDArray[Any]:
        start = (2 + steps) * distance
        return padded[:, start : start + side] if axis == 1 else padded[..., start : start + side]

    outer, inner, centre = (levels.dtype.type(weight) for weight in _BINOMIAL[:3])
    smooth: NDArray[Any] = shifted(-2) + shifted(2)
    smooth *= outer
    part = shifted(-1) + shifted(1)
    part *= inner
    smooth += part
    np.multiply(centre, levels, out=part)
    smooth += part
    return smooth


def _compare(levels: NDArray[Any], distance: int) -> Iterator[NDArray[Any]]:
    """Yield the absolute sums along lines of each direction, all in the same array.

    Beyond the image there are no differences, and lines that end at its border are shorter.
    """
    # Images are kept row after row with a margin between: a shift in any direction is one of the
    # whole array, and sums are over contiguous memory, which is several times faster.
    c, h, w = levels.shape
    reach = _LINE[-1] * distance
    width = w + max(reach, 2 * distance)
    first = (reach + 1) * width
    edged = np.zeros((c, h + 2 * distance, width), levels.dtype)
    edged[..., : w + 2 * distance] = _with_edge(levels, distance, distance)
    edged = edged.reshape(c, -1)
    differences = np.zeros((c, (h + 2 * (reach + 1)) * width), levels.dtype)

    def shifted(flat: NDArray[Any], start: int, down: int, right: int) -> NDArray[Any]:
        start += (down * width + right) * distance
        return flat[:, start : start + n]

    # To the last pixel, so that no neighbour is beyond the array.
    n = (h - 1) * width + w
    corner = distance * width + distance
    pixels = shifted(edged, corner, 0, 0)
    twice = pixels + pixels
    inner = shifted(differences, first, 0, 0)
    margins = differences[:, first : first + h * width].reshape(c, h, width)[..., w:]
    line = np.empty((c, h * width), levels.dtype)
    total = line[:, :n]
    for down, right in _DIRECTIONS:
        np.add(
            shifted(edged, corner, down, right), shifted(edged, corner, -down, -right), out=inner
        )
        inner -= twice
        margins[...] = 0
        outermost, next_to_it, *others = (
            shifted(differences, first, step * right, -step * down) for step in _LINE
        )
        np.add(outermost, next_to_it, out=total)
        for other in others:
            total += other
        np.abs(total, out=total)
        yield line.reshape(c, h, width)[..., :w]


def _with_edge(levels: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Repeat the outermost pixels, as `numpy.pad` does in several times the time."""
    c, h, w = levels.shape
    padded = np.empty((c, h + 2 * rows, w + 2 * columns), levels.dtype)
    padded[:, rows : rows + h, columns : columns + w] = levels
    padded[:, :rows] = padded[:, rows : rows + 1]
    padded[:, rows + h :] = padded[:, rows + h - 1 : rows + h]
    padded[:, :, :columns] = padded[:, :, columns : columns + 1]
    padded[:, :, columns + w :] = padded[:, :, columns + w - 1 : columns + w]
    return padded


__all__ = ["TextureDetector", "TextureModel", "describe_texture"]
