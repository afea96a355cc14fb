"""The outlier detectors: residual statistics of any reconstructor, and of the NCAE."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from numbers import Real
from typing import Any, ClassVar, Self
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklearn_ncae._all_or_nothing import all_or_nothing
from sklearn_ncae._fitted_parts import groups_for
from sklearn_ncae._hold_out import Rows, check_groups, hold_out, one_of_each
from sklearn_ncae._image_arrays import chunks, warn_of_flat_rows
from sklearn_ncae._image_outliers import ImageOutlierMixin
from sklearn_ncae._warn import warn
from sklearn_ncae.reconstructor import NCAEReconstructor, _has_one_thread, _identity_of
from sklearn_ncae.residuals import (
    DEFECT_MAP_STATISTICS,
    STATISTICS,
    ResidualStatistics,
    check_statistic_names,
    residual_image,
)
from sklearn_ncae.texture import (
    TextureModel,
    describe_texture,
    held_out_peaks,
    peaks_of,
    representative_rows,
)

# The statistics of a network that repairs; a defect is known to raise those not of the residual.
_ALL_STATISTICS = (*STATISTICS, *DEFECT_MAP_STATISTICS, "texture")

# Statistics that are the peak of a map, and the method that shows it.
_MAPS_OF_PEAKS = {"defect_peak": "defect_map", "texture": "texture_map"}

# Parts whose textures are so much alike are known by the network as well as those of any product.
_ALIKE = 0.15

# From so many images on, the network and the texture are computed at the same time.
_SIDE_BY_SIDE = 8

_DETECTOR_CONSTRAINTS: dict[str, list[Any]] = {
    "statistic": [str, "array-like"],
    "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
    "calibration": [Interval(Real, 0, 1, closed="neither")],
    "false_alarm_rate": [Interval(Real, 0, 1, closed="neither")],
    "image_shape": ["array-like", None],
    "random_state": ["random_state"],
}


def _marks_defects(detector: Any) -> bool:
    fitted = getattr(detector, "reconstructor_", None)
    training = detector.training if fitted is None else fitted._network["training"]
    if training != "repair":
        raise AttributeError("defect_map needs a network trained with training='repair'.")
    return True


def _is_two_sided(name: str) -> bool:
    """Whether a defect can move a statistic either way."""
    return name in STATISTICS and STATISTICS[name].abnormal_tail == "both"


def needs_detail(names: Iterable[str]) -> bool:
    """Tell whether statistics need the outputs of the network for each pixel of large images."""
    # In the mean of a whole map, blocks that are partial count for less.
    return any(name in STATISTICS or name == "defect_mean" for name in names)


def _describe_residuals(residuals: NDArray[Any], names: list[str]) -> NDArray[np.float64]:
    # Of a DataFrame, where scikit-learn's transform_output is set to one.
    return np.asarray(ResidualStatistics(names).transform(residuals))


def _names_of(detector: Any) -> list[str]:
    """List the statistics of the score: before the fit, what they will be; afterwards, are."""
    return getattr(detector, "_names", None) or detector._check_statistic()


def _looks_at_texture(detector: Any) -> bool:
    if "texture" not in _names_of(detector):
        raise AttributeError("texture_map needs 'texture' among the statistics of the score.")
    return True


def _has_peaks(detector: Any) -> bool:
    if not set(_MAPS_OF_PEAKS).intersection(_names_of(detector)):
        raise AttributeError(
            "anomaly_map needs a score with "
            f"{' or '.join(map(repr, _MAPS_OF_PEAKS))} among its statistics."
        )
    return True


class _ResidualDetectorBase(ImageOutlierMixin):
    """What the detectors share; a subclass says how its reconstructor is made and fitted."""

    statistic: str | Sequence[str]
    calibration: float
    random_state: Any

    def _fit_reconstructor(
        self, images: NDArray[Any], rows: Rows, groups: Rows, random_state: np.random.RandomState
    ) -> Any:
        raise NotImplementedError

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X: ArrayLike, y: Any = None, groups: Any = None) -> Self:
        """Learn what good parts look like.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of good parts, of any real dtype.
        y : array-like of shape (n,), default=None
            Ignored, but for a warning where it has two labels: all images are taken for good.
        groups : array-like of shape (n,), default=None
            What images of the same part (or day, or batch) have in common, such as its number.
            With ``contamination="auto"`` whole groups are held out, and one image of each, drawn
            at random, counts for the threshold: what is promised then holds for new parts. Where
            several statistics make the score, or with early stopping, groups are kept together as
            well; a reconstructor whose `fit` takes groups gets their numbers. None: each image is
            one.

        Returns
        -------
        self : object

        Raises
        ------
        TypeError, ValueError
            If X is not a stack of finite images of one size, or has too few images, or groups, to
            hold some out; if groups has not one value for each image; if the reconstructor cannot
            be fitted to them.
        """
        images = self._check_to_fit(X, y)
        of_images = check_groups(groups, len(images))
        names = self._check_statistic()
        random_state = check_random_state(self.random_state)
        self._names = names

        rows = np.arange(len(images))
        held_out = rows[:0]
        if self.contamination == "auto":
            left_out = hold_out(of_images, self.calibration, random_state)
            if left_out.all():
                n, more = f"n_samples={len(rows)}", "more images"
                if groups is not None:
                    n, more = f"{n} of n_groups={of_images.max() + 1}", "images of more groups"
                raise ValueError(
                    f"{type(self).__name__} with contamination='auto' and {n} holds out all and "
                    f"has no image left to train on. Give {more}, a smaller calibration, or a "
                    "contamination between 0 and 0.5."
                )
            held_out, rows = rows[left_out], rows[~left_out]
        self.reconstructor_ = self._fit_reconstructor(images, rows, of_images, random_state)

        self._center, self._reach = np.zeros(len(names)), np.ones(len(names))
        several = len(names) > 1
        if several or any(map(_is_two_sided, names)):
            # On the training images, not the held-out ones: a score that was fitted to these
            # would not be exchangeable with the scores of new images.
            learned = representative_rows(rows)
            statistics = self._statistics_in_training(images, names, learned, of_images[learned])
            self._center = np.median(statistics, axis=0)
            if several:
                reach = np.quantile(self._deviations(statistics), 0.95, axis=0)
                reach = self._reach_of_new_images(reach)
                self._reach = np.where(reach > 0, reach, 1.0)

        if self.contamination == "auto":
            counted = held_out[one_of_each(of_images[held_out], random_state)]
            self._set_false_alarm_rate(self._score(images, counted))
        else:
            self._set_contamination(self._score(images, rows))
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Score images, the lower the more abnormal.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        scores : ndarray of shape (n,), float64
            Each depends on its own image alone, not on the other images of X: of NCAEDetector bit
            by bit, of ResidualDetector as far as that holds for its reconstructor. (Where one
            image of float32 is beyond 1e15, all are computed in float64.)

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        TypeError, ValueError
            If X is not a stack of finite images as in `fit`.
        """
        return self._score(self._check(X)[0])

    def reconstruct(self, X: ArrayLike) -> NDArray[Any]:
        """Show the images as the detector expects them.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        reconstructions : ndarray of the shape of X
            In the unit of X, as float32, or float64 where X needs it.
        """
        images, layout = self._check(X)
        return self._predict(images).reshape(len(images), *layout)

    def residual(self, X: ArrayLike) -> NDArray[Any]:
        """Subtract the reconstructions from the images: the map of where a defect is.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        residual : ndarray of the shape of X
            Signed, in the unit of X, as float32, or float64 where X needs it.
        """
        images, layout = self._check(X)
        return residual_image(images, self._predict(images)).reshape(len(images), *layout)

    def residual_statistics(self, X: ArrayLike) -> NDArray[np.float64]:
        """Describe the residual images by all their statistics.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        statistics : ndarray of shape (n, n_statistics), float64
            In the order of ``ResidualStatistics().get_feature_names_out()``.
        """
        return self._statistics(self._check(X)[0], list(STATISTICS))

    def _check_statistic(self) -> list[str]:
        """List what the parameter `statistic` asks for."""
        return self._choose_statistics(STATISTICS)

    def _choose_statistics(self, known: Iterable[str]) -> list[str]:
        joint = isinstance(self.statistic, str) and self.statistic == "joint"
        return check_statistic_names("all" if joint else self.statistic, known)

    def _predict(self, images: NDArray[Any]) -> NDArray[Any]:
        """Reconstruct a stack (n, h, w, c), handing over images as they were laid out in fit."""
        reconstructions = np.asarray(
            self.reconstructor_.predict(images.reshape(len(images), *self._layout))
        )
        if reconstructions.size != images.size:
            raise ValueError(
                f"The reconstructor {type(self.reconstructor_).__name__} must predict an array of "
                f"the shape it is given, {(len(images), *self._layout)}, but predicted "
                f"{reconstructions.shape}."
            )
        return reconstructions.reshape(images.shape)

    def _statistics(
        self, images: NDArray[Any], names: list[str], rows: NDArray[np.intp] | None = None
    ) -> NDArray[np.float64]:
        return np.concatenate([self._describe(chunk, names) for chunk in chunks(images, rows)])

    def _statistics_in_training(
        self, images: NDArray[Any], names: list[str], rows: Rows, groups: Rows
    ) -> NDArray[np.float64]:
        """Statistics of the training images, as they would be of other good images."""
        return self._statistics(images, names, rows)

    def _reach_of_new_images(self, reach: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the usual deviations of the statistics, by those of the training images."""
        return reach

    def _describe(self, images: NDArray[Any], names: list[str]) -> NDArray[np.float64]:
        residuals = residual_image(images, self._predict(images))
        return _describe_residuals(residuals, names)

    def _deviations(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far each statistic is from its value on good images, in the abnormal direction."""
        deviations = statistics - self._center
        return np.where([*map(_is_two_sided, self._names)], np.abs(deviations), deviations)

    def _score(
        self, images: NDArray[Any], rows: NDArray[np.intp] | None = None
    ) -> NDArray[np.float64]:
        statistics = self._statistics(images, self._names, rows)
        # A smooth maximum: of one statistic, or where one stands out, it is that.
        quotients = self._deviations(statistics) / self._reach
        scores: NDArray[np.float64] = -np.logaddexp.reduce(quotients, axis=1)
        return scores

    def __sklearn_is_fitted__(self) -> bool:
        """Tell `check_is_fitted` by what the end of `fit` leaves behind."""
        return hasattr(self, "offset_")


class ResidualDetector(_ResidualDetectorBase):
    r"""Outlier detector from the residual images of any reconstructor.

    Parameters
    ----------
    reconstructor : estimator
        Has ``fit(X, y)``, with a y of None, and ``predict(X)``, which returns reconstructions in
        the shape and unit of X. A clone of it is fitted. It is given images in the layout that the
        detector is given, or as (n, \*image_shape) where `image_shape` is set.
    statistic : str or list of str, default="mse"
        Which statistics of the residual image make the score, see
        :class:`~sklearn_ncae.residuals.ResidualStatistics`; ``"joint"`` stands for all.

        One statistic of which a defect raises the value, such as ``"mse"``, is the score itself,
        negated. A statistic that a defect may move either way (mean, sum, min, skewness,
        kurtosis and the entropies) is scored by its distance from the median of the training
        images. Of several statistics, the deviation from that median is divided by its 95 %
        quantile on the training images, and the score is the logarithm of the sum of the
        exponentials of the quotients. That is a smooth maximum: a statistic that stands out
        decides, two that are raised count for more than one, and one that repeats another adds
        0.7 at most. Of more than 1000 training images, as many are looked at.
    contamination : "auto" or float in (0, 0.5], default="auto"
        How the offset is found. A number is the fraction of training images that are to be
        called defects. With ``"auto"`` the offset comes from good images held out of training,
        such that a new good image is called a defect with a probability of at most
        `false_alarm_rate`.
    calibration : float in (0, 1), default=0.2
        Fraction of the images, or of the groups, held out with ``contamination="auto"``.
    false_alarm_rate : float in (0, 1), default=0.05
        The rate promised with ``contamination="auto"``. It needs at least
        ``1 / false_alarm_rate - 1`` held-out images, or groups.
    image_shape : tuple of int, default=None
        Height, width and, optionally, channels of the images where X has flat rows.
    random_state : int, RandomState instance or None, default=None
        Determines which images are held out.

    Attributes
    ----------
    reconstructor_ : estimator
        The fitted reconstructor.
    offset_ : float
        ``decision_function = score_samples - offset_``.
    calibration_scores_ : ndarray of shape (n_held_out,)
        Scores of the held-out images, with groups one of each; only with ``contamination="auto"``
        or after `recalibrate`.
    false_alarm_rate_ : float
        The bound that holds for `offset_`; where there are `calibration_scores_`.
    image_shape_ : tuple of (int, int, int)
        Height, width and channels of the training images.
    n_features_in_ : int
        Number of values of an image.
    feature_names_in_ : ndarray of str
        Names of the columns, where X was a DataFrame.

    See Also
    --------
    NCAEDetector : The same with the Neighbor Convolution AutoEncoder.
    sklearn_ncae.wrappers.KerasReconstructor : A reconstructor from your own Keras model.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae import ResidualDetector
    >>> from sklearn_ncae.baselines import PCAReconstructor
    >>> X = np.random.RandomState(0).normal(size=(100, 8, 8))
    >>> detector = ResidualDetector(PCAReconstructor(5), random_state=0).fit(X)
    >>> detector.predict(X + 10 * (np.arange(8) == 3))[:3]
    array([-1, -1, -1])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "reconstructor": [HasMethods(["fit", "predict"])],
        **_DETECTOR_CONSTRAINTS,
    }

    def __init__(
        self,
        reconstructor: Any,
        *,
        statistic: str | Sequence[str] = "mse",
        contamination: str | float = "auto",
        calibration: float = 0.2,
        false_alarm_rate: float = 0.05,
        image_shape: Sequence[int] | None = None,
        random_state: Any = None,
    ) -> None:
        self.reconstructor = reconstructor
        self.statistic = statistic
        self.contamination = contamination
        self.calibration = calibration
        self.false_alarm_rate = false_alarm_rate
        self.image_shape = image_shape
        self.random_state = random_state

    def _fit_reconstructor(
        self, images: NDArray[Any], rows: Rows, groups: Rows, random_state: np.random.RandomState
    ) -> Any:
        training = images if len(rows) == len(images) else images[rows]
        training = training.reshape(len(training), *self._layout)
        grouped = groups_for(self.reconstructor, groups[rows])
        return clone(self.reconstructor).fit(training, None, **grouped)  # a FrozenEstimator wants y


class NCAEDetector(_ResidualDetectorBase):
    """Image outlier detector with a Neighbor Convolution AutoEncoder.

    Trains the autoencoder on images of good parts, subtracts its reconstruction from an image,
    and scores the image by statistics of that residual, or of the defects that the network
    marks.

    ``NCAEDetector(training="reconstruct", statistic="mse")`` is the recipe of the article. The
    default draws defects into the images of good parts, trains the network to remove and to mark
    them, and looks beside that for texture that good images do not have. The benchmark in the
    documentation says how well that finds real defects.

    Parameters
    ----------
    training : {"repair", "reconstruct"}, default="repair"
        ``"repair"`` draws defects into random crops of the images and trains the network to
        remove and to mark them; exposure is taken out of every image. ``"reconstruct"`` is the
        article's way: the network reproduces the images through a narrow code.
    draw_defects : callable, default=None
        What draws the defects: a function like
        :func:`~sklearn_ncae.defects.draw_defects`, which is the default.
    filters : sequence of int or "auto", default="auto"
        Number of filters of each level of the encoder; the decoder mirrors them, to repair with
        half as many. Every level halves the height and width. ``"auto"`` is ``(32, 32, 64)`` to
        repair and ``(16, 32, 64)`` to reconstruct.
    bottleneck : {"spatial", "dense"}, default="spatial"
        Whether the code is a small image with `bottleneck_size` channels, or a vector of
        `bottleneck_size` values. The network that repairs has no code.
    bottleneck_size : int, default=8
        Size of the code.
    convolution : {"neighbor", "standard"}, default="neighbor"
        ``"standard"`` builds the same network of ordinary convolutions, for comparison.
    loss, optimizer, learning_rate, epochs, batch_size, dtype_policy, callbacks
        Training of the network, see :class:`~sklearn_ncae.NCAEReconstructor`.
    early_stopping, validation_fraction, n_iter_no_change, warm_start, checkpoint_path
        Training of the network, see :class:`~sklearn_ncae.NCAEReconstructor`. `checkpoint_path`
        needs an integer `random_state`, unless `contamination` is given.
    image_shape : tuple of int, default=None
        Height, width and, optionally, channels of the images where X has flat rows. Without it a
        flat row is an image of height 1.
    statistic : "auto", str or list of str, default="auto"
        What makes the score: statistics of the residual image, or with ``training="repair"``
        also of the map of marked defects, ``"defect_peak"`` (the highest places of the smoothed
        map), ``"defect_max"``, ``"defect_mean"``, and ``"texture"``: how much rougher or smoother
        than good images the image is at the same places, see :mod:`sklearn_ncae.texture`.
        ``"auto"`` is ``["defect_peak", "texture"]`` to repair and ``"mse"`` to reconstruct;
        ``"joint"`` stands for all. See :class:`~sklearn_ncae.ResidualDetector` for how several
        make one score; ``"defect_peak"`` is divided by 2.5 times that quantile, as it varies less
        on the images that the network was trained on than on others, and by 0.03 at least. Where
        texture is in the score and its `likeness` is below 0.15, as on a surface that shows another
        place in each image, it is ``1 + 1.5 * likeness / 0.15`` times, see
        :class:`~sklearn_ncae.texture.TextureModel`. ``"texture"`` of a training image is from
        cross-validation.
    contamination, calibration, false_alarm_rate
        The threshold, see :class:`~sklearn_ncae.ResidualDetector`.
    verbose : int, default=0
        0 is silent, 1 shows Keras' progress bar, 2 one line an epoch.
    random_state : int, RandomState instance or None, default=None
        Determines which images are held out, the initial weights and the order of the images.
        With an int the scores are the same whatever the state of the global generators, which
        are neither read nor changed. With another number of threads (of TensorFlow, as in the
        workers of ``n_jobs``) or on another processor, sums in training are rounded otherwise: the
        network is another one then, as with another seed.

    Attributes
    ----------
    reconstructor_ : NCAEReconstructor
        The fitted network, with its `history_` and `model_`.
    offset_, calibration_scores_, false_alarm_rate_
        The threshold, see :class:`~sklearn_ncae.ResidualDetector`.
    image_shape_ : tuple of (int, int, int)
        Height, width and channels of the training images.
    n_features_in_ : int
        Number of values of an image.
    feature_names_in_ : ndarray of str
        Names of the columns, where X was a DataFrame.

    See Also
    --------
    ResidualDetector : The same around any other reconstructor.

    References
    ----------
    The method, with its neighbour convolution, residual image and residual statistics, is that
    of a Korean article of 2021 on detecting defects of castings. The conformal threshold, the
    score of several statistics and the texture are not in the article.

    Examples
    --------
    >>> from sklearn_ncae import NCAEDetector
    >>> from sklearn_ncae.datasets import make_castings
    >>> castings = make_castings(n_good=60, n_defect=4, image_size=(32, 32), random_state=0)
    >>> good = castings.images[castings.target == 1]
    >>> detector = NCAEDetector(epochs=2, contamination=0.1, random_state=0).fit(good)
    >>> detector.residual(castings.images).shape
    (64, 32, 32)
    """

    _texture: TextureModel | None = None
    # A checksum of the rows that all fits have trained on, if they were the same.
    _trained_on: int | None = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **NCAEReconstructor._parameter_constraints,
        **_DETECTOR_CONSTRAINTS,
    }

    def __init__(
        self,
        *,
        training: str = "repair",
        draw_defects: Callable[..., Any] | None = None,
        filters: Sequence[int] | str = "auto",
        bottleneck: str = "spatial",
        bottleneck_size: int = 8,
        convolution: str = "neighbor",
        loss: Any = "mse",
        optimizer: Any = "adam",
        learning_rate: float = 2e-3,
        epochs: int | str = "auto",
        batch_size: int = 16,
        dtype_policy: str = "float32",
        callbacks: Sequence[Any] | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        checkpoint_path: str | os.PathLike[str] | None = None,
        image_shape: Sequence[int] | None = None,
        statistic: str | Sequence[str] = "auto",
        contamination: str | float = "auto",
        calibration: float = 0.2,
        false_alarm_rate: float = 0.05,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.training = training
        self.draw_defects = draw_defects
        self.filters = filters
        self.bottleneck = bottleneck
        self.bottleneck_size = bottleneck_size
        self.convolution = convolution
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.dtype_policy = dtype_policy
        self.callbacks = callbacks
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.checkpoint_path = checkpoint_path
        self.image_shape = image_shape
        self.statistic = statistic
        self.contamination = contamination
        self.calibration = calibration
        self.false_alarm_rate = false_alarm_rate
        self.verbose = verbose
        self.random_state = random_state

    def _fit_reconstructor(
        self, images: NDArray[Any], rows: Rows, groups: Rows, random_state: np.random.RandomState
    ) -> NCAEReconstructor:
        warn_of_flat_rows(self._layout, type(self).__name__)
        holds_out = self.contamination == "auto"
        if holds_out and self.checkpoint_path is not None and self.random_state is None:
            raise ValueError(
                "checkpoint_path needs an integer random_state: without one, other images are held "
                "out to set the threshold each time, and no training could go on from the file."
            )
        names = NCAEReconstructor._get_param_names()
        parameters = {name: getattr(self, name) for name in names}
        seed = random_state.randint(2**31 - 1)
        # Checkpoints are told apart by their seeds, and one that was drawn differs each time.
        parameters["random_state"] = None if self.random_state is None else seed
        previous = getattr(self, "reconstructor_", None) if self.warm_start else None
        trained_on: int | None = crc32(repr(_identity_of(images, rows)).encode())
        if previous is not None and trained_on != self._trained_on:
            trained_on = None  # on others as well
            if holds_out:
                self._warn_of_known_images()
        self._trained_on = trained_on
        # A copy goes on training: if that fails, this detector is as it was.
        reconstructor = copy(previous) if previous is not None else NCAEReconstructor()
        reconstructor.set_params(**parameters)
        reconstructor._fit_rows(images, rows, groups)
        self._texture = None
        if "texture" in self._names:
            learned = representative_rows(rows)
            descriptions = describe_texture(images, reconstructor._scale, learned)
            self._texture = TextureModel.of(descriptions)
        return reconstructor

    def _warn_of_known_images(self) -> None:
        """Warn that images that are held out now may have been trained on by the previous fit."""
        warn(
            "With warm_start=True, images held out to set the threshold may be among those that "
            "the previous fit trained on: new good parts may be called defective more often than "
            "false_alarm_rate_. Give an integer random_state and the same images and groups again, "
            "or set the threshold by other images."
        )

    def _statistics_in_training(
        self, images: NDArray[Any], names: list[str], rows: Rows, groups: Rows
    ) -> NDArray[np.float64]:
        others = [name for name in names if name != "texture"]
        statistics = super()._statistics_in_training(images, others, rows, groups)
        if "texture" not in names:
            return statistics
        # What a model says of the images it has learned is no measure of others.
        descriptions = describe_texture(images, self.reconstructor_._scale, rows)
        peaks = held_out_peaks(descriptions, groups)
        return np.insert(statistics, names.index("texture"), peaks, axis=1)

    def _reach_of_new_images(self, reach: NDArray[np.float64]) -> NDArray[np.float64]:
        # Where parts lie alike, the network comes to know those that it is trained on. On a surface
        # there is nothing to know: it marks new images as it does these.
        likeness = 1.0 if self._texture is None else min(1.0, self._texture.likeness / _ALIKE)
        reach = reach.copy()
        for index, name in enumerate(self._names):
            if name in DEFECT_MAP_STATISTICS:
                statistic = DEFECT_MAP_STATISTICS[name]
                factor = 1 + likeness * (statistic.reach_factor - 1)
                reach[index] = max(factor * reach[index], statistic.least_reach)
        return reach

    @available_if(_marks_defects)
    def defect_map(self, X: ArrayLike) -> NDArray[np.float32]:
        """Mark where the network sees a defect.

        Available with ``training="repair"``.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        probabilities : ndarray of shape (n, h, w), float32
            In [0, 1]; not calibrated on real defects, which the network has never seen.
        """
        images, _ = self._check(X)
        return self.reconstructor_._mark_defects(images)

    @available_if(_has_peaks)
    def anomaly_map(self, X: ArrayLike) -> NDArray[np.float32]:
        """Show what makes the score.

        Available if the score has the statistic ``"defect_peak"`` or ``"texture"``. With both, as
        by default, it joins the defect map and the texture map as the score joins their peaks.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        maps : ndarray of shape (n, h, w), float32
            In the unit of the score, but higher where more abnormal: compare them with
            ``-offset_``, not with 0. They are not smoothed, so that good images reach somewhat
            more than minus their score.
        """
        check_is_fitted(self)
        joined = [
            (getattr(self, _MAPS_OF_PEAKS[name])(X) - np.float32(center)) / np.float32(reach)
            for name, center, reach in zip(self._names, self._center, self._reach, strict=True)
            if name in _MAPS_OF_PEAKS
        ]
        return np.logaddexp.reduce(joined, axis=0)

    @available_if(_looks_at_texture)
    def texture_map(self, X: ArrayLike) -> NDArray[np.float32]:
        """Show where images are rougher or smoother than good ones.

        Available if the texture is part of the score. Coarser than the defect map, and nearer to
        what was marked by hand on the real images of the benchmark.

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
        assert self._texture is not None  # or the method would not be available
        scale = self.reconstructor_._scale
        descriptions = describe_texture(images, scale)
        return self._texture.maps(descriptions, self.image_shape_)

    def _check_statistic(self) -> list[str]:
        repair = self.training == "repair"
        if isinstance(self.statistic, str) and self.statistic == "auto":
            return ["defect_peak", "texture"] if repair else ["mse"]
        return self._choose_statistics(_ALL_STATISTICS if repair else STATISTICS)

    def _predict(self, images: NDArray[Any]) -> NDArray[Any]:
        return self.reconstructor_._reconstruct(images)

    def _describe(self, images: NDArray[Any], names: list[str]) -> NDArray[np.float64]:
        if "texture" not in names:
            return self._describe_outputs(images, names)
        others = [name for name in names if name != "texture"]
        if len(images) < _SIDE_BY_SIDE or _has_one_thread():
            statistics = self._describe_outputs(images, others)
            peaks = self._texture_peaks(images)
        else:
            # Texture needs nothing of the network, whose operations leave cores idle at times.
            with ThreadPoolExecutor(1) as thread:
                texture = thread.submit(self._texture_peaks, images)
                statistics = self._describe_outputs(images, others)
                peaks = texture.result()
        return np.insert(statistics, names.index("texture"), peaks, axis=1)

    def _describe_outputs(self, images: NDArray[Any], names: list[str]) -> NDArray[np.float64]:
        """Statistics of what the network makes of images."""
        if not names:
            return np.empty((len(images), 0))
        of_residual = [name for name in names if name in STATISTICS]
        of_map = [name for name in names if name in DEFECT_MAP_STATISTICS]
        detail = needs_detail(names)
        block_size = 1 if detail else self.reconstructor_._network["block_size"]
        batches = []
        for outputs in self.reconstructor_._run(images, detail=detail):
            values: dict[str, NDArray[np.float64]] = {}
            if of_map:
                maps = outputs.defect_maps
                values |= {
                    name: DEFECT_MAP_STATISTICS[name].compute(maps, block_size) for name in of_map
                }
            if of_residual:
                residuals = residual_image(outputs.images, outputs.reconstructions)
                described = _describe_residuals(residuals, of_residual)
                values |= dict(zip(of_residual, described.T, strict=True))
            batches.append(np.column_stack([values[name] for name in names]))
        return np.concatenate(batches)

    def _texture_peaks(self, images: NDArray[Any]) -> NDArray[np.float64]:
        assert self._texture is not None  # or no statistic would need it
        return peaks_of(images, self.reconstructor_._scale, self._texture)


__all__ = ["NCAEDetector", "ResidualDetector"]
