"""Displays that show how a detector decides, and where it sees the defect.

They follow scikit-learn's displays: a display stores what it shows, `plot` draws it, and
`from_estimator` or `from_predictions` do both. They work for every scikit-learn outlier detector,
and need matplotlib (``pip install "sklearn-ncae[plot]"``).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d

from sklearn_ncae._labels import check_detection_labels
from sklearn_ncae._optional import import_extra
from sklearn_ncae._residual_maps import ResidualMapDisplay, part_with
from sklearn_ncae.residuals import ResidualStatistics

__all__ = [
    "PrecisionRecallComparisonDisplay",
    "ResidualMapDisplay",
    "RocCurveComparisonDisplay",
    "ScoreDistributionDisplay",
    "StatisticsScatterDisplay",
    "ThresholdDisplay",
]

# Okabe and Ito's palette, which colour-blind readers can tell apart; its yellow is too pale for
# lines. Shapes, hatches and dashes repeat what the colours say.
_BLUE, _VERMILION = "#0072B2", "#D55E00"
_COLORS = (_BLUE, _VERMILION, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("-", "--", "-.", ":")
_THRESHOLD_STYLE = {"color": "black", "linestyle": "--", "linewidth": 1.5}

ResponseMethod = Literal["decision_function", "score_samples"]


class ScoreDistributionDisplay:
    """Histograms of the scores of good and of defective images, with the threshold.

    Use `from_estimator` or `from_predictions` to create a display; all parameters are stored as
    attributes.

    Parameters
    ----------
    good_scores, defect_scores : ndarray of shape (n_good,) and (n_defect,)
        Scores, lower is more abnormal. Either may be empty.
    threshold : float, default=None
        Images that score below it are flagged.
    score_name : str, default="score"
        Label of the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes drawn on.
    figure_ : matplotlib Figure
        The figure that holds them.
    threshold_line_ : matplotlib Line2D or None
        The line at the threshold.

    Examples
    --------
    >>> from sklearn_ncae.inspection import ScoreDistributionDisplay
    >>> display = ScoreDistributionDisplay.from_predictions(
    ...     [1, 1, 1, -1], [0.3, 0.2, 0.1, -0.4], threshold=0.0
    ... )
    >>> display.defect_scores
    array([-0.4])
    """

    def __init__(
        self,
        *,
        good_scores: NDArray[np.float64],
        defect_scores: NDArray[np.float64],
        threshold: float | None = None,
        score_name: str = "score",
    ) -> None:
        self.good_scores = good_scores
        self.defect_scores = defect_scores
        self.threshold = threshold
        self.score_name = score_name

    def plot(self, ax: Any = None, *, bins: int | ArrayLike = 40) -> Self:
        """Draw the histograms.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; if None, a new figure is made.
        bins : int or array-like of edges, default=40
            Bins shared by both histograms.

        Returns
        -------
        ScoreDistributionDisplay
            The display itself.
        """
        self.ax_, self.figure_ = _make_axes(ax)
        pooled = np.concatenate([self.good_scores, self.defect_scores])
        edges = np.histogram_bin_edges(pooled, bins=bins)
        for scores, name, color, hatch in (
            (self.good_scores, "good", _BLUE, None),
            (self.defect_scores, "defect", _VERMILION, "////"),
        ):
            if len(scores):
                # Shares, not counts: defects are usually far fewer than good images.
                self.ax_.hist(
                    scores,
                    bins=edges,
                    weights=np.full(len(scores), 1 / len(scores)),
                    histtype="stepfilled",
                    facecolor=(color, 0.35),
                    edgecolor=color,
                    linewidth=1.2,
                    hatch=hatch,
                    label=f"{name} ({len(scores)})",
                )
        self.threshold_line_ = None
        if self.threshold is not None:
            self.threshold_line_ = self.ax_.axvline(
                self.threshold, label=f"threshold {self.threshold:.3g}", **_THRESHOLD_STYLE
            )
        self.ax_.set(
            xlabel=f"{self.score_name} (lower = more abnormal)", ylabel="share of the class"
        )
        _finish(self.ax_)
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        response_method: ResponseMethod = "decision_function",
        pos_label: Any = None,
        ax: Any = None,
        bins: int | ArrayLike = 40,
    ) -> Self:
        """Score images with a fitted detector and draw the histograms.

        Parameters
        ----------
        estimator : estimator
            A fitted outlier detector.
        X : array-like
            Images, as the detector takes them.
        y : array-like of shape (n,)
            +1 for good and -1 for a defect. One class alone is accepted.
        response_method : {"decision_function", "score_samples"}, default="decision_function"
            The score to draw. The threshold of a decision function is 0.
        pos_label : int, bool or str, default=None
            The label of defects where `y` is not +1/-1.
        ax, bins
            As in `plot`.

        Returns
        -------
        ScoreDistributionDisplay
            The drawn display.
        """
        scores, threshold = _scores_and_threshold(estimator, X, response_method)
        return cls.from_predictions(
            y,
            scores,
            threshold=threshold,
            score_name=response_method.replace("_", " "),
            pos_label=pos_label,
            ax=ax,
            bins=bins,
        )

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        scores: ArrayLike,
        *,
        threshold: float | None = None,
        score_name: str = "score",
        pos_label: Any = None,
        ax: Any = None,
        bins: int | ArrayLike = 40,
    ) -> Self:
        """Draw the histograms of given scores.

        Parameters
        ----------
        y : array-like of shape (n,)
            +1 for good and -1 for a defect. One class alone is accepted.
        scores : array-like of shape (n,)
            Finite scores, lower is more abnormal.
        threshold, score_name
            As in the class.
        pos_label : int, bool or str, default=None
            The label of defects where `y` is not +1/-1.
        ax, bins
            As in `plot`.

        Returns
        -------
        ScoreDistributionDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If labels or scores are not as described.
        """
        labels, values = _labels_and_scores(y, scores, pos_label, need_both=False)
        display = cls(
            good_scores=values[labels == 1],
            defect_scores=values[labels == -1],
            threshold=threshold,
            score_name=score_name,
        )
        return display.plot(ax=ax, bins=bins)


class ThresholdDisplay:
    """False alarms and missed defects against the threshold.

    Images that score below the threshold are flagged. The curves are exact: they are computed at
    every score, where they step.

    Use `from_estimator` or `from_predictions` to create a display; all parameters are stored as
    attributes.

    Parameters
    ----------
    thresholds : ndarray of shape (n_thresholds,)
        Ascending thresholds.
    false_alarm_rate : ndarray of shape (n_thresholds,)
        Fraction of the good images that score below each threshold.
    miss_rate : ndarray of shape (n_thresholds,)
        Fraction of the defective images that do not.
    costs : ndarray of shape (n_thresholds,), default=None
        Mean cost of an image at each threshold.
    threshold : float, default=None
        The chosen threshold.
    score_name : str, default="score"
        Name of the score that is thresholded.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the rates.
    cost_ax_ : matplotlib Axes or None
        The axes of the costs, with the scale on the right.
    figure_ : matplotlib Figure
        The figure that holds them.
    threshold_line_ : matplotlib Line2D or None
        The line at the chosen threshold.

    Examples
    --------
    >>> from sklearn_ncae.inspection import ThresholdDisplay
    >>> display = ThresholdDisplay.from_predictions([1, 1, -1, -1], [0.3, 0.1, 0.2, -0.4])
    >>> display.false_alarm_rate
    array([0. , 0. , 0.5, 0.5, 1. ])
    >>> display.miss_rate
    array([1. , 0.5, 0.5, 0. , 0. ])
    """

    def __init__(
        self,
        *,
        thresholds: NDArray[np.float64],
        false_alarm_rate: NDArray[np.float64],
        miss_rate: NDArray[np.float64],
        costs: NDArray[np.float64] | None = None,
        threshold: float | None = None,
        score_name: str = "score",
    ) -> None:
        self.thresholds = thresholds
        self.false_alarm_rate = false_alarm_rate
        self.miss_rate = miss_rate
        self.costs = costs
        self.threshold = threshold
        self.score_name = score_name

    def plot(self, ax: Any = None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; if None, a new figure is made.

        Returns
        -------
        ThresholdDisplay
            The display itself.
        """
        self.ax_, self.figure_ = _make_axes(ax)
        # "steps-pre": a threshold between two scores does what the upper of the two does.
        style = {"drawstyle": "steps-pre", "linewidth": 2}
        handles = [
            *self.ax_.plot(
                self.thresholds, self.false_alarm_rate, color=_BLUE, label="false alarms", **style
            ),
            *self.ax_.plot(
                self.thresholds, self.miss_rate, "-.", color=_VERMILION, label="misses", **style
            ),
        ]
        percent = import_extra("matplotlib.ticker", "plot").PercentFormatter(1, decimals=0)
        self.ax_.yaxis.set_major_formatter(percent)

        self.cost_ax_ = None
        if self.costs is not None:
            self.cost_ax_ = self.ax_.twinx()
            best = int(np.argmin(self.costs))
            handles += [
                *self.cost_ax_.plot(
                    self.thresholds, self.costs, ":", color="#666666", label="cost", **style
                ),
                *self.cost_ax_.plot(
                    self.thresholds[best],
                    self.costs[best],
                    "D",
                    color="#666666",
                    label=f"lowest cost {self.costs[best]:.3g} at {self.thresholds[best]:.3g}",
                ),
            ]
            self.cost_ax_.set(ylabel="mean cost of an image", ylim=(0, None))
            self.cost_ax_.spines["top"].set_visible(False)

        self.threshold_line_ = None
        if self.threshold is not None:
            # The first threshold at or above the chosen one has its rates; beyond the last
            # everything is flagged.
            at = min(
                int(np.searchsorted(self.thresholds, self.threshold)), len(self.thresholds) - 1
            )
            false_alarms, misses = self.false_alarm_rate[at], self.miss_rate[at]
            self.threshold_line_ = self.ax_.axvline(
                self.threshold,
                label=f"threshold {self.threshold:.3g}: "
                f"{false_alarms:.1%} false alarms, {misses:.1%} misses",
                **_THRESHOLD_STYLE,
            )
            handles.append(self.threshold_line_)
        self.ax_.set(
            xlabel=f"threshold on the {self.score_name} (images below are flagged)",
            ylabel="rate",
            ylim=(-0.02, 1.02),
        )
        _finish(self.ax_, handles=handles, above=True)
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        response_method: ResponseMethod = "decision_function",
        cost_false_alarm: float | None = None,
        cost_miss: float | None = None,
        pos_label: Any = None,
        ax: Any = None,
    ) -> Self:
        """Score images with a fitted detector and draw the curves with its threshold.

        Parameters
        ----------
        estimator : estimator
            A fitted outlier detector.
        X : array-like
            Images, as the detector takes them.
        y : array-like of shape (n,)
            +1 for good and -1 for a defect; both are needed.
        response_method : {"decision_function", "score_samples"}, default="decision_function"
            The score to draw. The threshold of a decision function is 0.
        cost_false_alarm, cost_miss, pos_label
            As in `from_predictions`.
        ax : matplotlib Axes, default=None
            Where to draw; if None, a new figure is made.

        Returns
        -------
        ThresholdDisplay
            The drawn display.
        """
        scores, threshold = _scores_and_threshold(estimator, X, response_method)
        return cls.from_predictions(
            y,
            scores,
            threshold=threshold,
            score_name=response_method.replace("_", " "),
            cost_false_alarm=cost_false_alarm,
            cost_miss=cost_miss,
            pos_label=pos_label,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        scores: ArrayLike,
        *,
        threshold: float | None = None,
        score_name: str = "score",
        cost_false_alarm: float | None = None,
        cost_miss: float | None = None,
        pos_label: Any = None,
        ax: Any = None,
    ) -> Self:
        """Draw the curves of given scores.

        Parameters
        ----------
        y : array-like of shape (n,)
            +1 for good and -1 for a defect; both are needed.
        scores : array-like of shape (n,)
            Finite scores, lower is more abnormal.
        threshold, score_name
            As in the class.
        cost_false_alarm, cost_miss : float, default=None
            What a false alarm and a missed defect cost, in any currency. If both are given, the
            mean cost of an image is drawn too, for the fraction of defects found in `y`.
        pos_label : int, bool or str, default=None
            The label of defects where `y` is not +1/-1.
        ax : matplotlib Axes, default=None
            Where to draw; if None, a new figure is made.

        Returns
        -------
        ThresholdDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If labels or scores are not as described, or only one cost is given.
        """
        if (cost_false_alarm is None) != (cost_miss is None):
            raise ValueError(
                f"Got cost_false_alarm={cost_false_alarm!r} and cost_miss={cost_miss!r}; "
                "give both costs or neither."
            )
        labels, values = _labels_and_scores(y, scores, pos_label, need_both=True)
        good, defect = np.sort(values[labels == 1]), np.sort(values[labels == -1])
        # One threshold above every score, where all images are flagged.
        thresholds = np.append(np.unique(values), np.nextafter(values.max(), np.inf))
        false_alarm_rate = np.searchsorted(good, thresholds, side="left") / len(good)
        miss_rate = 1 - np.searchsorted(defect, thresholds, side="left") / len(defect)
        costs = None
        if cost_false_alarm is not None and cost_miss is not None:
            costs = (
                cost_false_alarm * false_alarm_rate * len(good)
                + cost_miss * miss_rate * len(defect)
            ) / len(values)
        display = cls(
            thresholds=thresholds,
            false_alarm_rate=false_alarm_rate,
            miss_rate=miss_rate,
            costs=costs,
            threshold=threshold,
            score_name=score_name,
        )
        return display.plot(ax=ax)


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
        self.ax_, self.figure_ = _make_axes(ax)
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
                color=_COLORS[number % len(_COLORS)],
                linestyle=_DASHES[number % len(_DASHES)],
                linewidth=2,
            )
            self.displays_[name] = curve
        curve.chance_level_.set(label="chance", color="#888888", linestyle=":", linewidth=1)
        x_name, y_name = self._axis_names
        self.ax_.set(xlabel=x_name, ylabel=y_name)
        _finish(self.ax_, loc=self._legend_location)
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
        checked = {name: _labels_and_scores(labels, s)[1] for name, s in by_name.items()}
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


class StatisticsScatterDisplay:
    """Residual statistics of good and defective images as a scatter plot, with thresholds.

    One statistic is drawn against the number of the image, or two against each other.

    Use `from_estimator` or `from_predictions` to create a display; all parameters are stored as
    attributes.

    Parameters
    ----------
    values : ndarray of shape (n,)
        The statistic on the vertical axis.
    labels : ndarray of shape (n,)
        +1 for good and -1 for a defect.
    against : ndarray of shape (n,), default=None
        The statistic on the horizontal axis. If None, the number of the image.
    name, against_name : str, default="statistic" and "image"
        Labels of the axes.
    threshold, against_threshold : float, default=None
        Thresholds of the two statistics.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes drawn on.
    figure_ : matplotlib Figure
        The figure that holds them.
    threshold_lines_ : list of matplotlib Line2D
        The lines at the thresholds, none to two.

    Examples
    --------
    >>> from sklearn_ncae.inspection import StatisticsScatterDisplay
    >>> display = StatisticsScatterDisplay.from_predictions(
    ...     [1, 1, -1], [[0.1, 3.0], [0.2, 3.1], [0.9, 7.0]], names=["std", "kurtosis"],
    ...     statistic="std", against="kurtosis", threshold=0.5,
    ... )
    >>> display.values
    array([0.1, 0.2, 0.9])
    """

    def __init__(
        self,
        *,
        values: NDArray[np.float64],
        labels: NDArray[np.int64],
        against: NDArray[np.float64] | None = None,
        name: str = "statistic",
        against_name: str = "image",
        threshold: float | None = None,
        against_threshold: float | None = None,
    ) -> None:
        self.values = values
        self.labels = labels
        self.against = against
        self.name = name
        self.against_name = against_name
        self.threshold = threshold
        self.against_threshold = against_threshold

    def plot(self, ax: Any = None) -> Self:
        """Draw the points and thresholds.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; if None, a new figure is made.

        Returns
        -------
        StatisticsScatterDisplay
            The display itself.
        """
        self.ax_, self.figure_ = _make_axes(ax)
        horizontal = np.arange(len(self.values)) if self.against is None else self.against
        for label, name, color, marker in (
            (1, "good", _BLUE, "o"),
            (-1, "defect", _VERMILION, "^"),
        ):
            chosen = self.labels == label
            if chosen.any():
                self.ax_.scatter(
                    horizontal[chosen],
                    self.values[chosen],
                    s=26,
                    marker=marker,
                    facecolor=(color, 0.45),
                    edgecolor=color,
                    linewidth=0.8,
                    label=f"{name} ({chosen.sum()})",
                )
        self.threshold_lines_ = []
        for value, name, draw in (
            (self.threshold, self.name, self.ax_.axhline),
            (self.against_threshold, self.against_name, self.ax_.axvline),
        ):
            if value is not None:
                text = f"threshold: {name} {value:.3g}"
                self.threshold_lines_.append(draw(value, label=text, **_THRESHOLD_STYLE))
        if len(self.threshold_lines_) == 2:
            self.threshold_lines_[1].set_linestyle(":")
        self.ax_.set(xlabel=self.against_name, ylabel=self.name)
        _finish(self.ax_, above=True)
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        statistic: str | int | None = None,
        against: str | int | None = None,
        names: Sequence[str] | None = None,
        threshold: float | None = None,
        against_threshold: float | None = None,
        pos_label: Any = None,
        ax: Any = None,
    ) -> Self:
        """Compute the residual statistics of images with a fitted detector and draw them.

        Parameters
        ----------
        estimator : estimator
            A fitted outlier detector with a ``residual_statistics`` method, or a Pipeline, a
            search or another meta-estimator around one. For any other detector its decision
            function is drawn, as the only statistic.
        X : array-like
            Images, as the detector takes them.
        y : array-like of shape (n,)
            +1 for good and -1 for a defect. One class alone is accepted.
        statistic : str or int, default=None
            Name or number of the statistic on the vertical axis. If None, the one that the
            detector's decision is a threshold on, else the first.
        against, pos_label
            As in `from_predictions`.
        names : list of k str, default=None
            Names of the statistics, by default those of `ResidualStatistics` if there are as many.
        threshold, against_threshold : float, default=None
            As in the class. If None, a line is drawn where the detector's decision is a
            threshold on that statistic alone.
        ax : matplotlib Axes, default=None
            Where to draw; if None, a new figure is made.

        Returns
        -------
        StatisticsScatterDisplay
            The drawn display.
        """
        decisions = np.asarray(estimator.decision_function(X), np.float64)
        part, inner_X = part_with(estimator, "residual_statistics", X)
        if part is None:
            statistics: Any = decisions.reshape(-1, 1)
            names = ["decision function"] if names is None else names
        else:
            statistics = part.residual_statistics(inner_X)
            standard = list(ResidualStatistics().get_feature_names_out())
            if names is None and np.shape(statistics)[1:] == (len(standard),):
                names = standard
        columns = _named_columns(statistics, names)
        implied = {name: _implied_threshold(c, decisions) for name, c in columns.items()}
        if statistic is None:
            statistic = next((name for name in columns if implied[name] is not None), 0)
        if threshold is None:
            threshold = implied[_column(statistic, list(columns))]
        if against is not None and against_threshold is None:
            against_threshold = implied[_column(against, list(columns))]
        return cls.from_predictions(
            y,
            statistics,
            statistic=statistic,
            against=against,
            names=names,
            threshold=threshold,
            against_threshold=against_threshold,
            pos_label=pos_label,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        statistics: Any,
        *,
        statistic: str | int = 0,
        against: str | int | None = None,
        names: Sequence[str] | None = None,
        threshold: float | None = None,
        against_threshold: float | None = None,
        pos_label: Any = None,
        ax: Any = None,
    ) -> Self:
        """Draw given statistics.

        Parameters
        ----------
        y : array-like of shape (n,)
            +1 for good and -1 for a defect. One class alone is accepted.
        statistics : array-like or DataFrame of shape (n,) or (n, k)
            Finite statistics of the images.
        statistic : str or int, default=0
            Name or number of the column on the vertical axis.
        against : str or int, default=None
            Name or number of the column on the horizontal axis. If None, the number of the
            image is used.
        names : list of k str, default=None
            Names of the columns, by default those of a DataFrame, else "statistic 0" and so on.
        threshold, against_threshold
            As in the class.
        pos_label : int, bool or str, default=None
            The label of defects where `y` is not +1/-1.
        ax : matplotlib Axes, default=None
            Where to draw; if None, a new figure is made.

        Returns
        -------
        StatisticsScatterDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If labels or statistics are not as described, or there is no such column.
        """
        columns = _named_columns(statistics, names)
        name = _column(statistic, list(columns))
        labels, values = _labels_and_scores(y, columns[name], pos_label, need_both=False)
        other: dict[str, Any] = {}
        if against is not None:
            other_name = _column(against, list(columns))
            other = {"against_name": other_name, "against_threshold": against_threshold}
            other["against"] = _labels_and_scores(labels, columns[other_name], need_both=False)[1]
        return cls(values=values, labels=labels, name=name, threshold=threshold, **other).plot(ax)


def _make_axes(ax: Any) -> tuple[Any, Any]:
    plt = import_extra("matplotlib.pyplot", "plot")
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    return ax, ax.figure


def _finish(ax: Any, *, above: bool = False, loc: str = "best", handles: Any = None) -> None:
    """Give all displays the same frame, grid and legend (above the axes if it could hide data)."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    handles = ax.get_legend_handles_labels()[0] if handles is None else handles
    if above:
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1.01), "ncols": 2, "borderaxespad": 0}
        ax.legend(handles=handles, frameon=False, fontsize="small", **place)
    else:
        ax.legend(handles=handles, fontsize="small", loc=loc)


def _labels_and_scores(
    y: ArrayLike, scores: ArrayLike, pos_label: Any = None, *, need_both: bool = True
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    labels = check_detection_labels(y, pos_label=pos_label, need_both=need_both)
    values = column_or_1d(scores, dtype=np.float64)
    check_consistent_length(labels, values)
    assert_all_finite(values, input_name="scores")
    return labels, values


def _scores_and_threshold(
    estimator: Any, X: Any, response_method: str
) -> tuple[NDArray[np.float64], float]:
    """Return scores and the threshold that `predict` applies to them."""
    if response_method == "decision_function":
        return np.asarray(estimator.decision_function(X), np.float64), 0.0
    if response_method != "score_samples":
        raise ValueError(
            "response_method must be 'decision_function' or 'score_samples', "
            f"got {response_method!r}."
        )
    scores = np.asarray(estimator.score_samples(X), np.float64)
    # A pipeline does not show offset_, but decision_function = score_samples - offset_.
    return scores, float(scores[0] - estimator.decision_function(X[:1])[0])


def _named_columns(statistics: Any, names: Sequence[str] | None) -> dict[str, NDArray[np.float64]]:
    if names is None and hasattr(statistics, "columns"):
        names = [str(name) for name in statistics.columns]
    table = np.asarray(statistics, np.float64)
    table = table.reshape(-1, 1) if table.ndim == 1 else table
    if table.ndim != 2:
        raise ValueError(f"statistics must have shape (n,) or (n, k), got {table.shape}.")
    names = [f"statistic {i}" for i in range(table.shape[1])] if names is None else list(names)
    if len(names) != table.shape[1] or len(set(names)) != len(names):
        raise ValueError(f"{table.shape[1]} statistics need as many different names, got {names}.")
    return dict(zip(names, table.T, strict=True))


def _column(which: str | int, names: list[str]) -> str:
    if isinstance(which, str) and which in names:
        return which
    if not isinstance(which, str) and 0 <= which < len(names):
        return names[which]
    raise ValueError(f"There is no statistic {which!r}; there are {names}, numbered from 0.")


def _implied_threshold(values: NDArray[np.float64], decisions: NDArray[np.float64]) -> float | None:
    """Return the threshold on `values` where the decision depends on nothing else."""
    # decision = score - offset, and a score is a statistic itself or its negative.
    for sign in (-1.0, 1.0):
        offsets = values - sign * decisions
        if np.ptp(offsets) <= 1e-6 * np.ptp(decisions):
            return float(np.median(offsets))
    return None
