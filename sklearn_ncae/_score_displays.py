"""Displays of scores: their distribution, and what a threshold on them costs."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_ncae._drawing import (
    BLUE,
    THRESHOLD_STYLE,
    VERMILION,
    ResponseMethod,
    finish,
    make_axes,
    scores_and_threshold,
)
from sklearn_ncae._labels import check_labels_and_scores
from sklearn_ncae._optional import import_extra
from sklearn_ncae._threshold_search import check_costs, mean_cost, share_below


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
        self.ax_, self.figure_ = make_axes(ax)
        pooled = np.concatenate([self.good_scores, self.defect_scores])
        if isinstance(bins, int) and np.ptp(pooled) <= 1e-12 * np.abs(pooled).max():
            bins = 1  # there is no room for more between such scores
        edges = np.histogram_bin_edges(pooled, bins=bins)
        for scores, name, color, hatch in (
            (self.good_scores, "good", BLUE, None),
            (self.defect_scores, "defect", VERMILION, "////"),
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
                self.threshold, label=f"threshold {self.threshold:.3g}", **THRESHOLD_STYLE
            )
        self.ax_.set(
            xlabel=f"{self.score_name} (lower = more abnormal)", ylabel="share of the class"
        )
        finish(self.ax_)
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
        scores, threshold = scores_and_threshold(estimator, X, response_method)
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
        labels, values = check_labels_and_scores(y, scores, pos_label=pos_label, need_both=False)
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
    mean_costs : ndarray of shape (n_thresholds,), default=None
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
        mean_costs: NDArray[np.float64] | None = None,
        threshold: float | None = None,
        score_name: str = "score",
    ) -> None:
        self.thresholds = thresholds
        self.false_alarm_rate = false_alarm_rate
        self.miss_rate = miss_rate
        self.mean_costs = mean_costs
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
        self.ax_, self.figure_ = make_axes(ax)
        # "steps-pre": a threshold between two scores does what the upper of the two does.
        style = {"drawstyle": "steps-pre", "linewidth": 2}
        handles = [
            *self.ax_.plot(
                self.thresholds, self.false_alarm_rate, color=BLUE, label="false alarms", **style
            ),
            *self.ax_.plot(
                self.thresholds, self.miss_rate, "-.", color=VERMILION, label="misses", **style
            ),
        ]
        percent = import_extra("matplotlib.ticker", "plot").PercentFormatter(1, decimals=0)
        self.ax_.yaxis.set_major_formatter(percent)

        self.cost_ax_ = None
        if self.mean_costs is not None:
            self.cost_ax_ = self.ax_.twinx()
            best = int(np.argmin(self.mean_costs))
            handles += [
                *self.cost_ax_.plot(
                    self.thresholds, self.mean_costs, ":", color="#666666", label="cost", **style
                ),
                *self.cost_ax_.plot(
                    self.thresholds[best],
                    self.mean_costs[best],
                    "D",
                    color="#666666",
                    label=f"lowest cost {self.mean_costs[best]:.3g} at {self.thresholds[best]:.3g}",
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
                **THRESHOLD_STYLE,
            )
            handles.append(self.threshold_line_)
        self.ax_.set(
            xlabel=f"threshold on the {self.score_name} (images below are flagged)",
            ylabel="rate",
            ylim=(-0.02, 1.02),
        )
        finish(self.ax_, handles=handles, above=True)
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        response_method: ResponseMethod = "decision_function",
        costs: Mapping[str, float] | None = None,
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
        costs, pos_label
            As in `from_predictions`.
        ax : matplotlib Axes, default=None
            Where to draw; if None, a new figure is made.

        Returns
        -------
        ThresholdDisplay
            The drawn display.
        """
        scores, threshold = scores_and_threshold(estimator, X, response_method)
        return cls.from_predictions(
            y,
            scores,
            threshold=threshold,
            score_name=response_method.replace("_", " "),
            costs=costs,
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
        costs: Mapping[str, float] | None = None,
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
        costs : mapping, default=None
            What ``"missed_defect"`` and ``"false_alarm"`` cost, in any currency, and optionally
            ``"defect_rate"``, the share of defects in production; without it, that of `y`. If
            given, the mean cost of an image is drawn too.
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
            If labels or scores are not as described, or `costs` lacks a key or has a value out of
            range.
        """
        if costs is not None:
            check_costs(costs)
        labels, values = check_labels_and_scores(y, scores, pos_label=pos_label, need_both=True)
        good, defect = np.sort(values[labels == 1]), np.sort(values[labels == -1])
        # One threshold above every score, where all images are flagged.
        thresholds = np.append(np.unique(values), np.nextafter(values.max(), np.inf))
        false_alarm_rate = share_below(good, thresholds)
        miss_rate = 1 - share_below(defect, thresholds)
        mean_costs = None
        if costs is not None:
            mean_costs = mean_cost(costs, labels, miss_rate, false_alarm_rate)
        display = cls(
            thresholds=thresholds,
            false_alarm_rate=false_alarm_rate,
            miss_rate=miss_rate,
            mean_costs=mean_costs,
            threshold=threshold,
            score_name=score_name,
        )
        return display.plot(ax=ax)
