"""ROC and precision-recall curves of several detectors."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_ncae._drawing import (
    COLORS,
    DASHES,
    finish,
    make_axes,
)
from sklearn_ncae._labels import check_detection_labels, check_labels_and_scores
from sklearn_ncae._optional import import_extra


class _CurveComparisonDisplay:
    """The curves of several detectors on the same images, defects as the positive class."""

    _sklearn_display: ClassVar[str]
    _area: ClassVar[tuple[str, str]]
    _axis_names: ClassVar[tuple[str, str]]
    _legend_location: ClassVar[str]

    def __init__(self, *, y: NDArray[np.int64], scores: Mapping[str, NDArray[np.float64]]) -> None:
        self.y = y
        self.scores = scores

    def plot(self, ax: Any = None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; if None, a new figure is made.

        Returns
        -------
        display
            The display itself.
        """
        self.ax_, self.figure_ = make_axes(ax)
        sklearn_display = getattr(import_extra("sklearn.metrics", "plot"), self._sklearn_display)
        attribute, area_name = self._area
        self.displays_ = {}
        for number, (name, values) in enumerate(self.scores.items()):
            curve = sklearn_display.from_predictions(
                self.y == -1,
                -np.asarray(values),
                name=name,
                ax=self.ax_,
                plot_chance_level=number == len(self.scores) - 1,
            )
            # Styled afterwards: how styles are passed differs between scikit-learn's displays
            # and versions. Three decimals, because good detectors differ in the third.
            curve.line_.set(
                label=f"{name} ({area_name} {getattr(curve, attribute):.3f})",
                color=COLORS[number % len(COLORS)],
                linestyle=DASHES[number % len(DASHES)],
                linewidth=2,
            )
            self.displays_[name] = curve
        curve.chance_level_.set(label="chance", color="#888888", linestyle=":", linewidth=1)
        x_name, y_name = self._axis_names
        self.ax_.set(xlabel=x_name, ylabel=y_name)
        finish(self.ax_, loc=self._legend_location)
        return self

    @classmethod
    def from_estimator(
        cls,
        estimators: Any,
        X: Any,
        y: ArrayLike,
        *,
        pos_label: Any = None,
        ax: Any = None,
    ) -> Self:
        """Score images with fitted detectors and draw their curves.

        Parameters
        ----------
        estimators : dict of {str: estimator} or estimator
            Fitted outlier detectors by the name to show, or a single one.
        X : array-like
            Images, as the detectors take them.
        y : array-like of shape (n,)
            +1 for good and -1 for a defect; both are needed.
        pos_label : int, bool or str, default=None
            The label of defects where `y` is not +1/-1.
        ax : matplotlib Axes, default=None
            Where to draw; if None, a new figure is made.

        Returns
        -------
        display
            The drawn display.
        """
        if not isinstance(estimators, Mapping):
            estimators = {type(estimators).__name__: estimators}
        labels = check_detection_labels(y, pos_label=pos_label)
        scores = {name: detector.decision_function(X) for name, detector in estimators.items()}
        return cls.from_predictions(labels, scores, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        scores: Mapping[str, ArrayLike] | ArrayLike,
        *,
        pos_label: Any = None,
        ax: Any = None,
    ) -> Self:
        """Draw the curves of given scores.

        Parameters
        ----------
        y : array-like of shape (n,)
            +1 for good and -1 for a defect; both are needed.
        scores : dict of {str: array-like of shape (n,)} or array-like of shape (n,)
            Finite scores by the name of the detector, lower is more abnormal.
        pos_label : int, bool or str, default=None
            The label of defects where `y` is not +1/-1.
        ax : matplotlib Axes, default=None
            Where to draw; if None, a new figure is made.

        Returns
        -------
        display
            The drawn display.

        Raises
        ------
        ValueError
            If labels or scores are not as described, or there are no scores.
        """
        by_name = scores if isinstance(scores, Mapping) else {"detector": scores}
        if not by_name:
            raise ValueError("There is nothing to compare: give at least one detector.")
        labels = check_detection_labels(y, pos_label=pos_label)
        checked = {name: check_labels_and_scores(labels, s)[1] for name, s in by_name.items()}
        return cls(y=labels, scores=checked).plot(ax=ax)


class RocCurveComparisonDisplay(_CurveComparisonDisplay):
    """ROC curves of several detectors on the same images; defects are the positive class.

    The curves are those of `sklearn.metrics.RocCurveDisplay`, whose ``from_estimator`` rejects
    outlier detectors.

    Parameters
    ----------
    y : ndarray of shape (n,)
        +1 for good and -1 for a defect.
    scores : dict of {str: ndarray of shape (n,)}
        Scores by the name of the detector, lower is more abnormal.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes drawn on.
    figure_ : matplotlib Figure
        The figure that holds them.
    displays_ : dict of {str: RocCurveDisplay}
        scikit-learn's display of each detector, with `fpr`, `tpr` and `roc_auc`.

    Examples
    --------
    >>> from sklearn_ncae.inspection import RocCurveComparisonDisplay
    >>> display = RocCurveComparisonDisplay.from_predictions(
    ...     [1, 1, -1, -1], {"a": [0.3, 0.1, 0.2, -0.4], "b": [0.3, 0.2, 0.1, -0.4]}
    ... )
    >>> [float(display.displays_[name].roc_auc) for name in "ab"]
    [0.75, 1.0]
    """

    _sklearn_display = "RocCurveDisplay"
    _area = ("roc_auc", "AUC")
    _axis_names = ("false alarm rate (good images flagged)", "recall (defects flagged)")
    _legend_location = "lower right"


class PrecisionRecallComparisonDisplay(_CurveComparisonDisplay):
    """Precision-recall curves of several detectors; defects are the positive class.

    The curves are those of `sklearn.metrics.PrecisionRecallDisplay`, whose ``from_estimator``
    rejects outlier detectors. The legend gives the average precision.

    Parameters
    ----------
    y : ndarray of shape (n,)
        +1 for good and -1 for a defect.
    scores : dict of {str: ndarray of shape (n,)}
        Scores by the name of the detector, lower is more abnormal.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes drawn on.
    figure_ : matplotlib Figure
        The figure that holds them.
    displays_ : dict of {str: PrecisionRecallDisplay}
        scikit-learn's display of each detector, with `precision`, `recall` and
        `average_precision`.

    Examples
    --------
    >>> from sklearn_ncae.inspection import PrecisionRecallComparisonDisplay
    >>> display = PrecisionRecallComparisonDisplay.from_predictions(
    ...     [1, 1, -1, -1], {"a": [0.3, 0.2, 0.1, -0.4]}
    ... )
    >>> float(display.displays_["a"].average_precision)
    1.0
    """

    _sklearn_display = "PrecisionRecallDisplay"
    _area = ("average_precision", "AP")
    _axis_names = ("recall (defects flagged)", "precision (flagged images that are defective)")
    _legend_location = "lower left"
