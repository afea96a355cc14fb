"""What the threshold of a detector is chosen for, from the scores of images left out.

An objective is a class with `prepare`, which says what is wrong with the folds before a detector is
trained, and `choose`, which takes the threshold. A new one is a new class here, and a parameter of
`TunedThresholdDetector`.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sklearn_ncae._threshold_search import (
    Metric,
    check_fold_labels,
    just_above,
    mean_over_folds,
    promised_count,
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
    """

    rows: list[NDArray[np.intp]]
    labels: list[NDArray[np.int64]]

    def count(self, label: int) -> tuple[int, int]:
        """Return how many images have a label, and how often they are left out."""
        rows = np.concatenate(self.rows)[np.concatenate(self.labels) == label]
        return np.unique(rows).size, rows.size

    def scores_of(self, label: int, scores: list[Floats]) -> Floats:
        """Return the scores of the images with a label, in ascending order."""
        of_all = np.concatenate(scores)
        return np.sort(of_all[np.concatenate(self.labels) == label])


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
        n_images, n_scores = folds.count(1)
        rate = rate_for_promise(self.rate, n_images, "good images")
        self._rank = promised_count(rate, n_images, n_scores)

    def choose(self, folds: Folds, scores: list[Floats], thresholds: Floats, exact: bool) -> Choice:
        """Take the highest that keeps the promise; its value is the recall."""
        highest = folds.scores_of(1, scores)[self._rank - 1]
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
        n_images, n_scores = folds.count(-1)
        rate = rate_for_promise(1 - self.recall, n_images, "defects")
        self._rank = promised_count(rate, n_images, n_scores)

    def choose(self, folds: Folds, scores: list[Floats], thresholds: Floats, exact: bool) -> Choice:
        """Take the lowest that keeps the promise; its value is the share of good that pass."""
        to_find = folds.scores_of(-1, scores)[-self._rank]
        if not exact:
            thresholds = np.union1d(thresholds, just_above(to_find, np.concatenate(scores)))
        best = int(np.searchsorted(thresholds, to_find, side="right"))
        return Choice(thresholds, best, 1 - share_below(folds.scores_of(1, scores), thresholds))
