"""The scatter plot of residual statistics."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_ncae._drawing import (
    BLUE,
    THRESHOLD_STYLE,
    VERMILION,
    finish,
    make_axes,
)
from sklearn_ncae._fitted_parts import part_with
from sklearn_ncae._labels import check_labels_and_scores
from sklearn_ncae.residuals import ResidualStatistics


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
        self.ax_, self.figure_ = make_axes(ax)
        horizontal = np.arange(len(self.values)) if self.against is None else self.against
        for label, name, color, marker in (
            (1, "good", BLUE, "o"),
            (-1, "defect", VERMILION, "^"),
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
                self.threshold_lines_.append(draw(value, label=text, **THRESHOLD_STYLE))
        if len(self.threshold_lines_) == 2:
            self.threshold_lines_[1].set_linestyle(":")
        self.ax_.set(xlabel=self.against_name, ylabel=self.name)
        finish(self.ax_, above=True)
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
        labels, values = check_labels_and_scores(
            y, columns[name], pos_label=pos_label, need_both=False
        )
        other: dict[str, Any] = {}
        if against is not None:
            other_name = _column(against, list(columns))
            other = {"against_name": other_name, "against_threshold": against_threshold}
            other["against"] = check_labels_and_scores(
                labels, columns[other_name], need_both=False
            )[1]
        return cls(values=values, labels=labels, name=name, threshold=threshold, **other).plot(ax)


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
    if np.ptp(decisions) == 0:
        return None
    # decision = score - offset, and a score is a statistic itself or its negative.
    for sign in (-1.0, 1.0):
        offsets = values - sign * decisions
        if np.ptp(offsets) <= 1e-6 * np.ptp(decisions):
            return float(np.median(offsets))
    return None
