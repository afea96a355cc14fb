"""Simple models that every other one has to beat."""

from collections.abc import Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin, _fit_context
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import OneClassSVM
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_ncae._all_or_nothing import all_or_nothing
from sklearn_ncae._image_arrays import as_stack, check_values, forget_features
from sklearn_ncae.detector import ResidualDetector
from sklearn_ncae.images import _check_paths, read_image


class MeanBrightnessDetector(OutlierMixin, BaseEstimator):
    """Outlier detector that knows one number per image: its mean brightness.

    An image is the more abnormal, the further its mean brightness lies from the median of the
    training images, in either direction. A detector that does not beat this has learned nothing
    about defects; on some published data it comes far all the same.

    Parameters
    ----------
    contamination : float in (0, 0.5], default=0.05
        Share of the training images that ``predict`` takes for outliers.

    Attributes
    ----------
    center_ : float
        Median brightness of the training images.
    offset_ : float
        Images with ``score_samples`` below it are outliers.
    n_features_in_ : int
        Number of pixel values per image. Absent after fitting file paths, whose images may differ
        in size.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae.baselines import MeanBrightnessDetector
    >>> good = np.full((20, 8, 8), 100, dtype=np.uint8)
    >>> detector = MeanBrightnessDetector().fit(good)
    >>> detector.predict(np.stack([good[0], good[0] + 50]))
    array([ 1, -1])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
    }

    def __init__(self, *, contamination: float = 0.05) -> None:
        self.contamination = contamination

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn the median brightness and the threshold.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), or n file paths
            Images of any real dtype. Files are read one by one, as gray images from 0 (black) to
            65535 (white), which needs Pillow.
        y : Ignored
            Present by convention.

        Returns
        -------
        self
        """
        brightness = self._brightness(X, reset=True)
        self.center_ = float(np.median(brightness))
        self.offset_ = float(np.quantile(self._score(brightness), self.contamination))
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return minus the distance of each image's brightness from the training median.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), or n file paths
            Images in the units of the training images.

        Returns
        -------
        ndarray of shape (n,), dtype float64
            At most 0; the lower, the more abnormal.
        """
        check_is_fitted(self)
        return self._score(self._brightness(X, reset=False))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return ``score_samples(X) - offset_``: negative for outliers.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), or n file paths
            Images in the units of the training images.

        Returns
        -------
        ndarray of shape (n,), dtype float64
        """
        scores = self.score_samples(X)
        return np.asarray(scores - self.offset_)

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return +1 for inliers and -1 for outliers.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), or n file paths
            Images in the units of the training images.

        Returns
        -------
        ndarray of shape (n,), dtype int64
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def __sklearn_tags__(self) -> Any:
        """Declare that images are accepted beside tables."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _score(self, brightness: NDArray[np.float64]) -> NDArray[np.float64]:
        return -np.abs(brightness - self.center_)

    def _brightness(self, X: Any, *, reset: bool) -> NDArray[np.float64]:
        of_files = _holds_paths(X)
        if reset:
            self._of_files = of_files
            forget_features(self)
        elif of_files != self._of_files:
            fitted, given = ("files", "arrays") if self._of_files else ("arrays", "files")
            raise ValueError(
                f"{type(self).__name__} was fitted on {fitted} and got {given}, which are of "
                "another unit: files are read as 0 to 65535. Give what it was fitted on."
            )
        if of_files:
            # One by one, because files may differ in size; integers keep equal images equal.
            files = (read_image(path, dtype="uint16") for path in _check_paths(X))
            return np.array([image.mean(dtype=np.float64) for image in files])
        return np.asarray(_pixel_rows(self, X, reset=reset).mean(axis=1, dtype=np.float64))


class PCAReconstructor(BaseEstimator):
    """Reconstruct images from their principal components.

    Parameters
    ----------
    n_components : int, default=64
        Number of principal components, at most the number of training images and of pixels.
    random_state : int, RandomState instance or None, default=None
        For the randomised solver that `sklearn.decomposition.PCA` chooses for large data.

    Attributes
    ----------
    pca_ : sklearn.decomposition.PCA

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae import ResidualDetector
    >>> from sklearn_ncae.baselines import PCAReconstructor
    >>> good = np.random.RandomState(0).normal(size=(100, 8, 8))
    >>> detector = ResidualDetector(PCAReconstructor(n_components=10), random_state=0).fit(good)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(self, n_components: int = 64, *, random_state: Any = None) -> None:
        self.n_components = n_components
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Find the principal components of the images.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
        y : None
            Ignored.

        Returns
        -------
        self : PCAReconstructor
        """
        rows = _pixel_rows(self, X, reset=True)
        n_components = min(self.n_components, *rows.shape)
        with np.errstate(invalid="ignore"):  # shares of a variance that is 0, if all are equal
            self.pca_ = PCA(n_components, random_state=self.random_state).fit(rows)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Reconstruct images.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)

        Returns
        -------
        reconstructions : ndarray of the shape of X
        """
        check_is_fitted(self)
        images = as_stack(X, type(self).__name__)
        codes = self.pca_.transform(_pixel_rows(self, images, reset=False))
        return self.pca_.inverse_transform(codes).reshape(images.shape)

    def __sklearn_tags__(self) -> Any:
        """Declare that images are accepted beside tables."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def usual_detectors(
    *, n_components: int = 64, false_alarm_rate: float = 0.05, random_state: Any = None
) -> dict[str, Any]:
    """Return the detectors that are commonly tried on pixels, unfitted, by name.

    Parameters
    ----------
    n_components : int, default=64
        Number of principal components. One-class SVM and LocalOutlierFactor need as many training
        images and pixels; of fewer, the reconstruction takes fewer components.
    false_alarm_rate : float in (0, 0.5], default=0.05
        Share of good images that each is to take for defects.
    random_state : int, RandomState instance or None, default=None
        Of those that draw random numbers.

    Returns
    -------
    dict of str to estimator
        For stacks of 8-bit images: IsolationForest, OneClassSVM and LocalOutlierFactor (the latter
        two on principal components), and the residual of a reconstruction from principal
        components.

    Examples
    --------
    >>> from sklearn_ncae.baselines import usual_detectors
    >>> for name in usual_detectors():
    ...     print(name)
    IsolationForest
    PCA + OneClassSVM
    PCA + LocalOutlierFactor
    PCA reconstruction
    """
    rows = FunctionTransformer(_rows_of)
    pca = PCA(n_components, random_state=random_state)
    rate = false_alarm_rate
    return {
        "IsolationForest": make_pipeline(
            rows, IsolationForest(contamination=rate, random_state=random_state)
        ),
        "PCA + OneClassSVM": make_pipeline(rows, pca, OneClassSVM(nu=rate)),
        "PCA + LocalOutlierFactor": make_pipeline(
            rows, pca, LocalOutlierFactor(novelty=True, contamination=rate)
        ),
        "PCA reconstruction": ResidualDetector(
            PCAReconstructor(n_components, random_state=random_state),
            false_alarm_rate=rate,
            random_state=random_state,
        ),
    }


def _pixel_rows(estimator: BaseEstimator, X: Any, *, reset: bool) -> NDArray[Any]:
    """Check images, and return the pixels of each as a row."""
    name = type(estimator).__name__
    X = as_stack(X, name)
    images = np.asarray(X)
    if images.ndim > 2:
        # n_features_in_ then counts pixel values, not rows of pixels.
        X = images.reshape(len(images), -1)
    rows: NDArray[Any] = validate_data(estimator, X, reset=reset)
    check_values(rows, name)
    return rows


def _rows_of(images: ArrayLike) -> NDArray[Any]:
    """Return 8-bit images as rows of numbers from 0 to 1."""
    images = np.asarray(images)
    return images.reshape(len(images), -1).astype(np.float32) / 255


def _holds_paths(X: Any) -> bool:
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OUS":
        return False
    # The first row tells: the others may be all the pixels there are.
    if hasattr(X, "iloc"):
        X = X.iloc[:1]
    elif isinstance(X, Sequence):
        X = X[:1]
    first = np.asarray(X, dtype=object).ravel()
    return bool(len(first)) and isinstance(first[0], (str, PathLike))
