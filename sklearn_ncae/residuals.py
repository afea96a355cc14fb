"""The residual image and the statistics that describe it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import assert_all_finite, check_array, validate_data

from sklearn_ncae._image_arrays import (
    as_stack,
    block_means,
    check_values,
    forget_features,
    without_mask,
)

Floats = NDArray[np.float64]
Pixels = NDArray[np.floating[Any]]
Tail = Literal["upper", "both"]

# Residuals are described in blocks of about this many values: few enough for what is computed from
# them to stay in the processor's cache, many enough for small images to be described together.
_BLOCK_VALUES = 100_000

# The brightest part of a map that is averaged, as a share of its pixels, and the width in pixels
# of the Gaussian that it is smoothed with before. Smoothed so much, the map has no detail that the
# means of 2 by 2 pixels do not have, which are a quarter of the work. In images larger than 300 by
# 300, defects are not larger: of those means, no more than the share is there are averaged.
_PEAK_SHARE = 0.005
_PEAK_MEANS = 112
_PEAK_SIGMA = 2.0


class _Residuals:
    """Sums shared by the statistics of a block of residuals, computed when first needed.

    Sums of float32 are as accurate as that type, because NumPy adds up pairwise; they become
    float64 afterwards.

    Parameters
    ----------
    values : ndarray of shape (n, n_pixels), float32 or float64
        Kept as `signed`.
    shape : tuple of int
        Of one residual: (h, w), (h, w, c) or (n_pixels,).
    memory : dict
        Arrays that the next block of n images or fewer uses again: to get fresh memory from the
        operating system takes several times longer than the arithmetic.
    """

    def __init__(self, values: Pixels, shape: tuple[int, ...], memory: dict[str, Pixels]) -> None:
        self.signed = values
        self._shape = shape
        self._memory = memory

    def _out(self, name: str) -> Pixels:
        if name not in self._memory:
            self._memory[name] = np.empty_like(self.signed)
        return self._memory[name][: len(self.signed)]

    @cached_property
    def minimum(self) -> Floats:
        return self.signed.min(axis=1).astype(np.float64)

    @cached_property
    def maximum(self) -> Floats:
        return self.signed.max(axis=1).astype(np.float64)

    @cached_property
    def largest(self) -> Floats:
        return np.maximum(self.maximum, -self.minimum)

    @cached_property
    def unit(self) -> Floats:
        # A power of two, by which a division is exact.
        limit = np.finfo(self.signed.dtype).maxexp - 2
        return np.ldexp(1.0, np.frexp(self.largest)[1].clip(-limit, limit))

    @cached_property
    def scaled(self) -> Pixels:
        # The largest is about 1, so that no fourth power overflows or vanishes.
        factor = (1 / self.unit)[:, None].astype(self.signed.dtype)
        return np.multiply(self.signed, factor, out=self._out("scaled"))

    @cached_property
    def scaled_mean(self) -> Floats:
        return _row_means(self.scaled)

    @cached_property
    def centred(self) -> Pixels:
        mean = self.scaled_mean[:, None].astype(self.signed.dtype)
        return np.subtract(self.scaled, mean, out=self._out("centred"))

    @cached_property
    def squares(self) -> Pixels:
        return np.square(self.centred, out=self._out("squares"))

    @cached_property
    def scaled_var(self) -> Floats:
        return _row_means(self.squares)

    @cached_property
    def absolute(self) -> Pixels:
        return np.abs(self.scaled, out=self._out("absolute"))

    @cached_property
    def scaled_abs_mean(self) -> Floats:
        return _row_means(self.absolute)

    @property
    def mean(self) -> Floats:
        return self.unit * self.scaled_mean

    @property
    def var(self) -> Floats:
        return self.unit**2 * self.scaled_var

    @property
    def abs_mean(self) -> Floats:
        return self.unit * self.scaled_abs_mean

    @property
    def total(self) -> Floats:
        return self.signed.shape[1] * self.mean

    @property
    def skewness(self) -> Floats:
        cubes = np.multiply(self.squares, self.centred, out=self._out("product"))
        return self._standardised(_row_means(cubes), 3)

    @property
    def kurtosis(self) -> Floats:
        fourth_powers = np.square(self.squares, out=self._out("product"))
        moment = self._standardised(_row_means(fourth_powers), 4)
        return np.where(moment > 0, moment - 3, 0.0)

    def _standardised(self, moment: Floats, order: int) -> Floats:
        # Where all values are one value but for rounding, the higher moments are rounding alone.
        std = np.sqrt(self.scaled_var)
        constant = std <= 4 * np.finfo(self.signed.dtype).eps * np.abs(self.scaled_mean)
        return np.where(constant, 0.0, moment / np.where(constant, 1.0, std) ** order)

    @cached_property
    def entropy(self) -> Floats:
        # Of shares p = a / sum(a): -sum(p log p) = log(sum(a)) - sum(a log(a)) / sum(a).
        n_pixels = self.signed.shape[1]
        product = self._out("product")
        np.add(self.absolute, np.finfo(product.dtype).tiny, out=product)  # for 0 log(0) to be 0
        np.multiply(self.absolute, np.log(product, out=product), out=product)
        mean = np.where(self.scaled_abs_mean > 0, self.scaled_abs_mean, 1.0)
        entropy = np.log(n_pixels * mean) - _row_means(product) / mean
        # Where one pixel has it all, what is left of the difference is rounding alone.
        some = (self.scaled_abs_mean > 0) & (entropy > 4 * np.finfo(self.signed.dtype).eps)
        return np.where(some, entropy, 0.0)

    @property
    def abs_peak(self) -> Floats:
        height, width = self._shape[:2] if len(self._shape) > 1 else (1, *self._shape)
        return _peak(np.abs(self.signed).reshape(len(self.signed), height, width, -1).mean(axis=3))

    @property
    def normalized_entropy(self) -> Floats:
        n_pixels = self.signed.shape[1]
        return self.entropy / np.log(n_pixels) if n_pixels > 1 else self.entropy


def _peak(maps: Pixels, block_size: int = 1) -> Floats:
    small = maps
    if block_size == 1:
        small = block_means(block_means(maps, 2, axis=1), 2, axis=2)
    # In the type of the maps: SciPy's filter is slower in float64.
    pixels = gaussian_filter(small, (0, _PEAK_SIGMA / 2, _PEAK_SIGMA / 2)).reshape(len(maps), -1)
    brightest = [_largest(row, n_brightest(pixels.shape[1])) for row in pixels]
    return np.mean(brightest, axis=1, dtype=np.float64)


def n_brightest(n_means: int) -> int:
    """Return how many means of 2 by 2 pixels make the peak of a map."""
    return int(np.clip(round(_PEAK_SHARE * n_means), 1, _PEAK_MEANS))


def _largest(values: Pixels, n: int) -> Pixels:
    """Return the n largest, in ascending order, so that their sum is always rounded alike."""
    # Of the largest in every eight, the n-th is one that n values reach: few are left to sort.
    eighth = len(values) // 8
    if eighth >= n:
        of_eight = values[: 8 * eighth].reshape(8, eighth).max(axis=0)
        values = values[~(values < np.partition(of_eight, -n)[-n])]  # a nan stays
    return np.sort(values)[-n:]


def _row_means(values: Pixels) -> Floats:
    return values.sum(axis=1).astype(np.float64) / values.shape[1]


@dataclass(frozen=True)
class Statistic:
    """One statistic of a residual image.

    Attributes
    ----------
    compute : callable
        From a block of residuals, or of defect maps, to one float64 value per image.
    abnormal_tail : {"upper", "both"}
        Whether a defect is known to raise the value, or can move it either way.
    reach_factor : float, default=1.0
        How much further from the usual value new good images may be than those of training, where
        several statistics make the score and parts lie alike.
    least_reach : float, default=0.0
        Up to this, deviations count as usual whatever the training images say.
    """

    compute: Callable[..., Floats]
    abnormal_tail: Tail
    reach_factor: float = 1.0
    least_reach: float = 0.0


#: Every statistic by its name. A new one is a new line here.
STATISTICS: dict[str, Statistic] = {
    "mean": Statistic(lambda r: r.mean, "both"),
    "std": Statistic(lambda r: np.sqrt(r.var), "upper"),
    "var": Statistic(lambda r: r.var, "upper"),
    "kurtosis": Statistic(lambda r: r.kurtosis, "both"),
    "skewness": Statistic(lambda r: r.skewness, "both"),
    "range": Statistic(lambda r: r.maximum - r.minimum, "upper"),
    "min": Statistic(lambda r: r.minimum, "both"),
    "max": Statistic(lambda r: r.maximum, "upper"),
    "sum": Statistic(lambda r: r.total, "both"),
    "entropy": Statistic(lambda r: r.entropy, "both"),
    "normalized_entropy": Statistic(lambda r: r.normalized_entropy, "both"),
    "mse": Statistic(lambda r: r.var + r.mean**2, "upper"),
    "abs_mean": Statistic(lambda r: r.abs_mean, "upper"),
    "abs_max": Statistic(lambda r: r.largest, "upper"),
    "abs_peak": Statistic(lambda r: r.abs_peak, "upper"),
}


#: The statistics of learned defect maps (n, h, w). What the network makes of 2 x 2 pixels may be
#: given once, with `block_size` 2. A new one is a new line here.
DEFECT_MAP_STATISTICS: dict[str, Statistic] = {
    # The network knows its training images: what it marks in others may differ more.
    "defect_peak": Statistic(_peak, "upper", reach_factor=2.5, least_reach=0.03),
    "defect_max": Statistic(
        lambda maps, block_size=1: maps.max(axis=(1, 2)).astype(np.float64), "upper"
    ),
    "defect_mean": Statistic(
        lambda maps, block_size=1: maps.mean(axis=(1, 2), dtype=np.float64), "upper"
    ),
}


def residual_image(images: ArrayLike, reconstructions: ArrayLike) -> Pixels:
    """Original minus reconstruction: positive where the image is brighter than expected.

    Parameters
    ----------
    images, reconstructions : array-like of the same shape
        Any real dtype and unit.

    Returns
    -------
    residual : ndarray of the same shape
        float32, or float64 where an input needs it; integers do not wrap around.

    Raises
    ------
    TypeError
        If they are not real numbers.
    ValueError
        If the shapes differ, or pixels are nan, infinite, masked or larger than 1e100.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae.residuals import residual_image
    >>> residual_image(np.uint8([[10, 20]]), np.uint8([[12, 15]]))
    array([[-2.,  5.]], dtype=float32)
    """
    images, reconstructions = map(_finite, (images, reconstructions))
    if images.shape != reconstructions.shape:
        raise ValueError(
            "Images and reconstructions must have the same shape, got "
            f"{images.shape} and {reconstructions.shape}."
        )
    dtype = np.result_type(images, reconstructions, np.float32)
    return np.subtract(images, reconstructions, dtype=dtype)


def _finite(pixels: ArrayLike) -> Pixels:
    checked = np.asarray(without_mask(pixels, "residual_image"))
    check_values(checked, "residual_image")
    assert_all_finite(checked, input_name="of residual_image")
    return checked


def check_statistic_names(
    statistics: str | Sequence[str], known: Iterable[str] = tuple(STATISTICS)
) -> list[str]:
    """List of the statistics that a parameter names.

    Parameters
    ----------
    statistics : str or sequence of str
        One name, several, or ``"all"``.
    known : iterable of str
        The names to choose from.

    Returns
    -------
    names : list of str

    Raises
    ------
    ValueError
        If a name is unknown, named twice, or none is given.
    """
    known = list(known)
    if isinstance(statistics, str):
        statistics = known if statistics == "all" else [statistics]
    names = list(statistics) if isinstance(statistics, Iterable) else [statistics]
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(
            f"Statistics must be one or more different names out of {', '.join(known)}; "
            f"got {names}."
        )
    return names


class ResidualStatistics(TransformerMixin, BaseEstimator):
    """Describe each residual image by statistics.

    The transformer is stateless: `fit` only checks its input.

    Parameters
    ----------
    statistics : "all", str or list of str, default="all"
        Which statistics, in which order.

        ======================  ========  =======================================================
        name                    residual  value
        ======================  ========  =======================================================
        ``mean``                signed    mean
        ``std``, ``var``        signed    standard deviation and variance (divided by n)
        ``kurtosis``            signed    excess kurtosis, biased, as `scipy.stats.kurtosis`
        ``skewness``            signed    skewness, biased, as `scipy.stats.skew`
        ``range``               signed    maximum minus minimum
        ``min``, ``max``        signed    darkest and brightest deviation
        ``sum``                 signed    sum, the last value of the cumulative sum
        ``entropy``             absolute  information entropy, as `scipy.stats.entropy`, in nats
        ``normalized_entropy``  absolute  the same divided by log(number of pixels), in 0..1
        ``mse``                 signed    mean squared error of the reconstruction
        ``abs_mean``            absolute  mean absolute error of the reconstruction
        ``abs_max``             absolute  largest deviation, bright or dark
        ``abs_peak``            absolute  mean of the highest places, smoothed (see Notes)
        ======================  ========  =======================================================

    Notes
    -----
    Signed residuals keep apart what is too bright and what is too dark, which the mean, the
    skewness and the extremes are there to tell. Entropy reads the absolute residual because it
    treats the pixels' shares of the total as probabilities, which cannot be negative:
    `scipy.stats.entropy` of a signed residual is ``-inf``.

    Entropy is high when the residual is spread evenly over the image and low when it is
    concentrated. The article hopes that it is near 0 for good and near 1 for defective images.
    Measured on real images, that is not so: which of them have the higher entropy differs from
    product to product, and a small defect, which concentrates the residual, lowers it. See the
    benchmark page on the statistics.

    Several statistics say the same: ``var = std ** 2``, ``range = max - min``,
    ``mse = var + mean ** 2`` and ``sum = n * mean``.

    For ``abs_peak`` the mean over the channels is halved in size (the mean of 2 by 2 pixels, fewer
    at an odd border) and smoothed with a Gaussian of sigma 2 pixels of the image. The highest 0.5 %
    are averaged, or 112 of these places where that is fewer, in images of more than 300 by 300.

    A constant residual has skewness, kurtosis and variance 0; a perfect reconstruction has
    entropy 0 (where the article's function maps ``nan`` to 0).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae.residuals import ResidualStatistics
    >>> residuals = np.zeros((2, 4, 4))
    >>> residuals[1, 0, 0] = 2.0
    >>> ResidualStatistics(["mse", "max"]).fit_transform(residuals)
    array([[0.  , 0.  ],
           [0.25, 2.  ]])
    """

    def __init__(self, statistics: str | Sequence[str] = "all") -> None:
        self.statistics = statistics

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Check the parameters and the input.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_pixels)
            Residual images.
        y : None
            Ignored.

        Returns
        -------
        self : ResidualStatistics
        """
        check_statistic_names(self.statistics)
        self._check(X, reset=True)
        return self

    def transform(self, X: ArrayLike) -> Floats:
        """Compute the statistics.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_pixels)
            Residual images, any real dtype.

        Returns
        -------
        statistics : ndarray of shape (n, n_statistics), float64

        Raises
        ------
        TypeError, ValueError
            If X is not of real numbers, has fewer than two dimensions, is empty, or has values that
            are nan, infinite, masked or larger than 1e100.
        """
        names = check_statistic_names(self.statistics)
        X = self._check(X, reset=False)
        check_values(X, "ResidualStatistics")
        residuals = X.reshape(len(X), -1)
        statistics = np.empty((len(X), len(names)))
        dtype = np.float32 if np.can_cast(X.dtype, np.float32) else np.float64
        memory: dict[str, Pixels] = {}
        step = max(1, _BLOCK_VALUES // residuals.shape[1])
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            # In C order: the order of a sum would change its rounding.
            values: Pixels = residuals[rows].astype(dtype, order="C", copy=False)
            block = _Residuals(values, X.shape[1:], memory)
            for column, name in enumerate(names):
                statistics[rows, column] = STATISTICS[name].compute(block)
        return statistics

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the statistics, in the order of the columns.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of str
        """
        return np.asarray(check_statistic_names(self.statistics), dtype=object)

    def _check(self, X: Any, reset: bool) -> NDArray[Any]:
        X = as_stack(X, "ResidualStatistics")
        # A residual of any size can be described: only tables have a number of features to keep.
        if X.ndim == 2:
            if not reset and not hasattr(self, "n_features_in_"):
                return check_array(X, estimator=self)
            return validate_data(self, X, reset=reset)
        if reset:
            forget_features(self)
        X = check_array(X, ensure_2d=False, allow_nd=True, estimator=self)
        if X.ndim < 2 or 0 in X.shape:
            raise ValueError(
                "Residual images must have the shape (n, h, w), (n, h, w, c) or (n, n_pixels) "
                f"with at least one pixel, got {X.shape}. Reshape your data, for one residual "
                "image to residual[np.newaxis]."
            )
        return X

    def __sklearn_is_fitted__(self) -> bool:
        """Stateless: always ready to transform."""
        return True

    def __sklearn_tags__(self) -> Any:
        """Declare that images are accepted beside tables, and that fit is not needed."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.three_d_array = True
        return tags


__all__ = [
    "DEFECT_MAP_STATISTICS",
    "STATISTICS",
    "ResidualStatistics",
    "Statistic",
    "check_statistic_names",
    "residual_image",
]
