"""What the threshold of a detector is chosen for, from the scores of images left out.

An objective is a class with `prepare`, which says what is wrong with the folds before a detector is
trained, and `choose`, which takes the threshold. A new one is a new class here, and a parameter of
`TunedThresholdDetector`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sklearn_ncae._threshold_search import (
    Metric,
    check_fold_labels,
    just_above,
    mean_over_folds,
    promised_score,
    rate_for_promise,
    share_below,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Folds:
    """What each fold leaves out.

    Attributes
    ----------
    rows : list of ndarray of int
        Which images; one may be in several folds.
    labels : list of ndarray of int
        +1 for good and -1 for a defect.
    groups : list of ndarray of int
        Which group each image is of, which a promise counts once; without groups, itself.
    """

    rows: list[NDArray[np.intp]]
    labels: list[NDArray[np.int64]]
    groups: list[NDArray[np.intp]]

    def _of(self, label: int, values: list[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate(values)[np.concatenate(self.labels) == label]

    def scores_of(self, label: int, scores: list[Floats]) -> Floats:
        """Return the scores of the images with a label, in ascending order."""
        return np.sort(self._of(label, scores))

    def rate_for_promise(self, rate: float | None, label: int) -> float:
        """Return the share allowed on the wrong side, or say that too few have the label."""
        kind = "good images" if label == 1 else "defects"
        n_groups = np.unique(self._of(label, self.groups)).size
        if n_groups < np.unique(self._of(label, self.rows)).size:
            kind = f"groups of {kind}"
        return rate_for_promise(rate, n_groups, kind)

    def promised_score(self, rate: float, label: int, scores: list[Floats]) -> float:
        """Return the score that keeps a rate of those below, among images with a label."""
        return promised_score(rate, self._of(label, scores), self._of(label, self.groups))


class Choice(NamedTuple):
    """The candidates, which of them is best, and what each is worth, if that can be told."""

    thresholds: Floats
    best: int
    values: Floats | None


class Objective(Protocol):
    """What `TunedThresholdDetector` asks of each."""

    def prepare(self, folds: Folds) -> None:
        """Raise ValueError if the folds do not suffice."""

    def choose(self, folds: Folds, scores: list[Floats], thresholds: Floats, exact: bool) -> Choice:
        """Choose among candidates, to which a better one may be added if they are not exact.

        `best` is out of range where none of exact candidates will do.
        """


class BestMetric:
    """The largest mean of a metric over the folds."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric

    def prepare(self, folds: Folds) -> None:
        """Raise ValueError if a fold lacks good images or defects."""
        check_fold_labels(folds.labels)

    def choose(self, folds: Folds, scores: list[Floats], thresholds: Floats, exact: bool) -> Choice:
        """Take the lowest of the best."""
        values = mean_over_folds(self.metric, folds.labels, scores, thresholds)
        return Choice(thresholds, int(np.argmax(values)), values)


class FewFalseAlarms:
    """A rate of false alarms that is promised for new images; None for the usual one."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate

    def prepare(self, folds: Folds) -> None:
        """Raise ValueError if there are too few good images for the promise."""
        self._promised = folds.rate_for_promise(self.rate, 1)

    def choose(self, folds: Folds, scores: list[Floats], thresholds: Floats, exact: bool) -> Choice:
        """Take the highest that keeps the promise; its value is the recall."""
        highest = folds.promised_score(self._promised, 1, scores)
        if not exact:
            thresholds = np.union1d(thresholds, highest)
        best = int(np.searchsorted(thresholds, highest, side="right")) - 1
        defects = folds.scores_of(-1, scores)
        return Choice(thresholds, best, share_below(defects, thresholds) if defects.size else None)


class EnoughRecall:
    """A share of defects that is promised to be found among new ones."""

    def __init__(self, recall: float) -> None:
        self.recall = recall

    def prepare(self, folds: Folds) -> None:
        """Raise ValueError if there are too few defects for the promise."""
        self._promised = folds.rate_for_promise(1 - self.recall, -1)

    def choose(self, folds: Folds, scores: list[Floats], thresholds: Floats, exact: bool) -> Choice:
        """Take the lowest that keeps the promise; its value is the share of good that pass."""
        # Of the highest scores: those above may be missed.
        to_find = -folds.promised_score(self._promised, -1, [-one for one in scores])
        if not exact:
            thresholds = np.union1d(thresholds, just_above(to_find, np.concatenate(scores)))
        best = int(np.searchsorted(thresholds, to_find, side="right"))
        return Choice(thresholds, best, 1 - share_below(folds.scores_of(1, scores), thresholds))
