"""What the outlier detectors of image stacks share, whatever they score by."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklearn_ncae._all_or_nothing import all_or_nothing
from sklearn_ncae._hold_out import check_groups, one_of_each
from sklearn_ncae._image_arrays import warn_of_other_unit
from sklearn_ncae._labels import warn_of_defects
from sklearn_ncae._pixel_scale import scale_of
from sklearn_ncae.calibration import conformal_offset, conformal_p_values, promised_rate
from sklearn_ncae.images import check_image_stack


def _is_calibrated(detector: Any) -> bool:
    """Tell by the fit, or before it by the parameter, whether there are scores to compare with."""
    fitted = hasattr(detector, "offset_")
    if hasattr(detector, "calibration_scores_") if fitted else detector.contamination == "auto":
        return True
    raise AttributeError(
        "p_values needs scores of good images that were not trained on, and "
        f"contamination={detector.contamination!r} keeps none. Fit with contamination='auto', or "
        "call recalibrate with such images."
    )


class ImageOutlierMixin(OutlierMixin, BaseEstimator):
    """Decisions by `offset_`; a subclass has `fit`, `score_samples` and the parameters named here.

    In `fit` it takes its images from `_check_to_fit` and sets the threshold by one of
    `_set_false_alarm_rate` and `_set_contamination`; what scores takes them from `_check`.
    """

    # Where metadata are routed, whoever splits by groups wants them held out whole as well.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    contamination: Any  # "auto" or a float
    false_alarm_rate: float
    image_shape: Sequence[int] | None
    offset_: float

    def _check_to_fit(self, X: ArrayLike, y: Any) -> NDArray[Any]:
        """Return training images as (n, h, w, c), and keep the layout that a reconstructor sees."""
        warn_of_defects(y)
        images, layout = check_image_stack(self, X, image_shape=self.image_shape, reset=True)
        self._layout = layout if self.image_shape is None else tuple(map(int, self.image_shape))
        return images

    def _check(self, X: ArrayLike) -> tuple[NDArray[Any], tuple[int, ...]]:
        """Return images like those of the fit as (n, h, w, c), and the layout they came in."""
        check_is_fitted(self)
        images, layout = check_image_stack(self, X, image_shape=self.image_shape, reset=False)
        scale = scale_of(self)
        if scale is not None:
            warn_of_other_unit(images, scale.pixel_range, type(self).__name__)
        return images, layout

    def _set_false_alarm_rate(self, scores: NDArray[np.float64], rate: float | None = None) -> None:
        """Set the threshold by the scores of good images that were not trained on."""
        self.calibration_scores_ = scores
        self.offset_, _ = conformal_offset(scores, self.false_alarm_rate if rate is None else rate)

    def _set_contamination(self, scores: NDArray[np.float64]) -> None:
        """Set the threshold by the scores of the training images."""
        self.__dict__.pop("calibration_scores_", None)  # of another fit
        self.offset_ = float(np.percentile(scores, 100.0 * self.contamination))

    @property
    def false_alarm_rate_(self) -> float:
        """What share of new good images `offset_` promises at most, also if it was changed.

        On average over trainings: a single threshold may give more, or less.
        """
        if not hasattr(self, "calibration_scores_"):
            raise AttributeError(
                "false_alarm_rate_ needs scores of good images that were not trained on: fit with "
                "contamination='auto', or call recalibrate with such images."
            )
        return promised_rate(self.calibration_scores_, self.offset_)

    @all_or_nothing
    def recalibrate(
        self,
        X: ArrayLike | None = None,
        groups: Any = None,
        *,
        false_alarm_rate: float | None = None,
    ) -> Self:
        """Set the threshold anew: for another rate, or by other good images.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), default=None
            Images of good parts that the detector was not trained on, from now on the ones that
            the threshold and p-values rest on. None: those that did so far, with
            ``contamination="auto"``.
        groups : array-like of shape (n,), default=None
            What images of the same part have in common, of which one, drawn at random, counts.
        false_alarm_rate : float in (0, 1), default=None
            The share of new good images that may be called defects. None: as in the parameter.

        Returns
        -------
        self : object
            The detector, whose parameters are as they were.

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        TypeError, ValueError
            If X or groups is not as in `fit`, or `false_alarm_rate` not between 0 and 1.
        AttributeError
            If X is None and no image was held out of training.

        Warns
        -----
        UserWarning
            If there are too few images for the rate.
        """
        check_is_fitted(self)
        if isinstance(X, Real):
            raise TypeError(f"recalibrate takes images as X, got {X}: give false_alarm_rate={X}.")
        if X is not None:
            return self._recalibrate_by(self.score_samples(X), groups, false_alarm_rate)
        if not hasattr(self, "calibration_scores_"):
            raise AttributeError(
                f"{type(self).__name__} has no scores of images that were not trained on, as "
                f"contamination={self.contamination!r} keeps none. Give such images as X."
            )
        if groups is not None:
            raise ValueError("groups are those of X: give both or none.")
        self._set_false_alarm_rate(self.calibration_scores_, false_alarm_rate)
        return self

    def _recalibrate_by(
        self, scores: NDArray[np.float64], groups: Any, false_alarm_rate: float | None
    ) -> Self:
        """Set the threshold by scores of good images, wherever these are."""
        of_images = check_groups(groups, len(scores))
        counted = one_of_each(of_images, np.random.RandomState(0))
        self._set_false_alarm_rate(scores[counted], false_alarm_rate)
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Score images, the lower the more abnormal."""
        raise NotImplementedError

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Score images relative to the threshold.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        decision : ndarray of shape (n,), float64
            ``score_samples(X) - offset_``; negative for defects.
        """
        return self.score_samples(X) - self.offset_

    @available_if(_is_calibrated)
    def p_values(self, X: ArrayLike) -> NDArray[np.float64]:
        """Conformal p-value of each image: how rarely a good image looks as abnormal.

        Available with ``contamination="auto"``, or after `recalibrate` with images.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        p_values : ndarray of shape (n,), float64
            In (0, 1]; at most ``a`` with probability at most ``a`` for a new good image, where
            the threshold comes from images held out of training. Where it comes from
            cross-validation, that holds approximately.

        See Also
        --------
        sklearn_ncae.calibration.conformal_p_values
        """
        scores = self.score_samples(X)
        return conformal_p_values(self.calibration_scores_, scores)

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Decide which images are good.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        labels : ndarray of shape (n,), int
            +1 for good, -1 for defective.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)  # nan is not good

    def __sklearn_tags__(self) -> Tags:
        """Declare that stacks of images are accepted beside tables."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
