"""From labels and out-of-fold scores to the threshold of a detector.

Throughout, an image is reported as a defect if its score is below the threshold.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import get_scorer

from sklearn_ncae._labels import check_labels_and_scores
from sklearn_ncae._warn import warn
from sklearn_ncae.calibration import n_needed, rank_for

DEFAULT_RATE = 0.05

Metric = Callable[[NDArray[Any], NDArray[Any]], float]


def check_costs(costs: Mapping[str, float]) -> None:
    """Raise ValueError if `costs` lacks a key, has an unknown one, or a value out of range."""
    required, allowed = {"missed_defect", "false_alarm"}, {"defect_rate"}
    if (
        not isinstance(costs, Mapping)
        or not required <= set(costs) <= required | allowed
        or not all(isinstance(value, Real) and value >= 0 for value in costs.values())
    ):
        raise ValueError(
            "costs must be a dict with the keys 'missed_defect' and 'false_alarm', and optionally "
            "'defect_rate', each a number >= 0 (such as {'missed_defect': 500, 'false_alarm': "
            f"20}}); got {costs!r}."
        )
    if costs.get("defect_rate", 0) > 1:
        raise ValueError(
            "costs['defect_rate'] is the share of defects in production, between 0 and 1; got "
            f"{costs['defect_rate']!r}."
        )


def mean_cost(
    costs: Mapping[str, float], labels: NDArray[Any], miss_rate: Any, false_alarm_rate: Any
) -> Any:
    """Return what an image costs on average, at one threshold or at each of several.

    Defects are as many as `costs` says, or as there are among the labels.
    """
    share = costs.get("defect_rate", np.mean(labels == -1))
    of_misses = share * costs["missed_defect"] * miss_rate
    return of_misses + (1 - share) * costs["false_alarm"] * false_alarm_rate


def cost_metric(costs: Mapping[str, float]) -> Metric:
    """Return minus the mean cost per image as a function of labels and predictions."""

    def negative_cost(labels: NDArray[Any], predictions: NDArray[Any]) -> float:
        missed = np.mean(predictions[labels == -1] == 1)
        false_alarms = np.mean(predictions[labels == 1] == -1)
        return -float(mean_cost(costs, labels, missed, false_alarms))

    return negative_cost


def cost_offset(
    y: ArrayLike, scores: ArrayLike, costs: Mapping[str, float], *, pos_label: Any = None
) -> tuple[float, float]:
    """Offset with the lowest mean cost on labelled images.

    Parameters
    ----------
    y : array-like of shape (n,)
        +1 for good and -1 for a defect; both are needed.
    scores : array-like of shape (n,)
        Scores of these images, lower is more abnormal.
    costs : mapping
        ``"missed_defect"`` and ``"false_alarm"``, and optionally ``"defect_rate"``, the share of
        defects in production; without it, that of `y`.
    pos_label : int, bool or str, default=None
        The label that marks a defect where `y` is not in {+1, -1}.

    Returns
    -------
    offset : float
        Midway between two scores, or just beyond all of them. Of equally cheap offsets it is the
        lowest, the one with the fewest alarms.
    cost : float
        Mean cost per image at this offset. It was chosen on these images, so on others it is
        usually somewhat higher.

    Raises
    ------
    ValueError
        If labels follow another convention, a class is missing, `costs` lacks a key or has a
        value out of range, or a score is not finite.

    See Also
    --------
    TunedThresholdDetector : The same with cross-validation.

    Examples
    --------
    >>> from sklearn_ncae.model_selection import cost_offset
    >>> cost_offset([1, 1, -1, -1], [3, 2, 1, 0], {"missed_defect": 500, "false_alarm": 20})
    (1.5, 0.0)
    """
    check_costs(costs)
    labels, values = check_labels_and_scores(y, scores, pos_label=pos_label)
    candidates = candidate_thresholds(values, labels, limit=len(values) + 2)
    mean_costs = -mean_over_folds(cost_metric(costs), [labels], [values], candidates)
    # Of equally cheap ones, but for rounding, the first.
    best = int(np.argmax(mean_costs <= mean_costs.min() * (1 + 1e-12)))
    return float(candidates[best]), abs(float(mean_costs[best]))  # not -0.0


def scorer_metric(scoring: Any, y: ArrayLike = (), pos_label: Any = None) -> Metric:
    """Return a scorer as a function of labels and predictions in {+1, -1}, greater is better.

    With `pos_label`, the label of a defect among those of the user in `y`, the scorer may name that
    or the other one as its positive class.
    """
    scorer = get_scorer(scoring)
    if not hasattr(scorer, "_score_func"):
        raise TypeError(
            "scoring must be a scorer name or made by sklearn.metrics.make_scorer; wrap a "
            f"function metric(y_true, y_pred) in make_scorer. Got {scoring!r}."
        )
    if scorer._response_method != "predict":
        raise ValueError(
            f"scoring={scoring!r} is computed from scores, so it is the same for every "
            "threshold. Use a metric of predictions such as 'f1' or 'balanced_accuracy'."
        )
    kwargs = dict(scorer._kwargs)
    # What a partial function sets is its own.
    kwargs = getattr(scorer._score_func, "keywords", {}) | kwargs
    if pos_label is not None:
        of_user = {pos_label, *np.asarray(y).tolist()}
        for name in {"pos_label", "label_of_defect"} & set(kwargs):
            kwargs[name] = _sign_of(kwargs[name], of_user, pos_label)
    known = inspect.signature(scorer._score_func).parameters
    if "pos_label" in known and kwargs.get("average", "binary") == "binary":
        kwargs.setdefault("pos_label", -1)
    if "zero_division" in known:
        # Candidates that report nothing would warn of an undefined precision.
        kwargs.setdefault("zero_division", 0.0)
    return lambda labels, predictions: float(
        scorer._sign * scorer._score_func(labels, predictions, **kwargs)
    )


def _sign_of(label: Any, of_user: Collection[Any], pos_label: Any) -> Any:
    """Return which of +1 and -1 a scorer means by its positive class."""
    if label in of_user:
        return -1 if label == pos_label else 1
    if label in (None, 1, -1):
        return label
    raise ValueError(
        f"The scorer's positive class is {label!r}, but the labels are "
        f"{', '.join(sorted(map(repr, of_user)))}. Give it one of these."
    )


def candidate_thresholds(
    scores: NDArray[np.float64], labels: NDArray[np.int64], limit: int
) -> NDArray[np.float64]:
    """Return at most `limit` thresholds, from "report nothing" to "report everything"."""
    distinct, inverse = np.unique(scores, return_inverse=True)
    candidates = np.concatenate(
        [distinct[:1], midpoints(distinct), [np.nextafter(distinct[-1], np.inf)]]
    )
    if candidates.size <= limit:
        return candidates
    share = np.where(labels == 1, 1 / np.sum(labels == 1), 1 / max(np.sum(labels == -1), 1))
    below = np.concatenate([[0.0], np.cumsum(np.bincount(inverse, weights=share))])
    # Wanted levels stay below the end because the cumulated weights carry rounding errors.
    wanted = np.linspace(0, below[-1], limit)
    return candidates[np.unique(np.searchsorted(below, wanted))]


def check_fold_labels(fold_labels: list[NDArray[np.int64]]) -> None:
    """Raise ValueError if a fold lacks good images or defects."""
    for fold, labels in enumerate(fold_labels):
        if np.unique(labels).size < 2:
            missing = "defect" if (labels == 1).all() else "good image"
            raise ValueError(
                f"Fold {fold} has no {missing} to score the thresholds with. Use a stratified "
                "splitter, and not more folds than there are defects (or groups with defects)."
            )


def mean_over_folds(
    metric: Metric,
    fold_labels: list[NDArray[np.int64]],
    fold_scores: list[NDArray[np.float64]],
    candidates: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the metric of each candidate threshold, averaged over the folds."""
    mean = np.zeros(candidates.size)
    for labels, scores in zip(fold_labels, fold_scores, strict=True):
        # Thresholds between the same two scores predict the same: one call serves them all.
        reported = np.searchsorted(np.sort(scores), candidates)
        _, first, inverse = np.unique(reported, return_index=True, return_inverse=True)
        values = [metric(labels, np.where(scores >= candidates[i], 1, -1)) for i in first]
        mean += np.asarray(values, dtype=np.float64)[inverse]
    mean /= len(fold_labels)
    if not np.isfinite(mean).all():
        raise ValueError("The scoring metric gave nan or infinity for some thresholds.")
    return mean


def rate_for_promise(rate: float | None, n: int, kind: str) -> float:
    """Return the share allowed on the wrong side, or say that n are too few to promise it.

    None asks for the default, which gives way to what `n` can promise.
    """
    smallest = 1 / (n + 1)
    if rate is None:
        if not rank_for(DEFAULT_RATE, n):
            warn(
                f"{n} {kind} cannot promise the default rate of {DEFAULT_RATE:g}, which "
                f"takes {n_needed(DEFAULT_RATE)}. The threshold is for {smallest:.3g}, the "
                "smallest rate they can promise."
            )
        return max(DEFAULT_RATE, smallest)
    if not rank_for(rate, n):
        raise ValueError(
            f"{n} {kind} cannot promise a rate of at most {rate:.3g}: at least "
            f"{n_needed(rate)} are needed. With {n}, the smallest rate that can be "
            f"promised is 1 / (n + 1) = {smallest:.3g}."
        )
    return rate


def promised_score(
    rate: float, scores: NDArray[np.float64], groups: NDArray[np.intp]
) -> np.float64:
    """Return the highest threshold that keeps a promised rate of new scores below it.

    Of n groups it is the k-th lowest score, ``k = floor(rate * (n + 1))``. A group may have
    several scores, of several images or of repeated splits; together they count once.
    """
    _, of_scores, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    n = sizes.size
    k = rank_for(rate, n)
    order = np.argsort(scores)
    weights = 1 / sizes[of_scores[order]]
    groups_below = np.cumsum(weights) - weights
    # Sums of such shares may be rounded up.
    return scores[order][np.searchsorted(groups_below, k - 1 + 1e-9, side="right") - 1]


def share_below(
    ordered: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the share of scores, in ascending order, that is below each threshold."""
    return np.searchsorted(ordered, thresholds) / ordered.size


def just_above(score: float, scores: NDArray[np.float64]) -> float:
    """Return the threshold halfway between `score` and the next larger one of `scores`."""
    larger = np.append(scores[scores > score], np.inf).min()
    return float(midpoints(np.array([score, larger]))[0])


def midpoints(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a threshold between each two neighbours of sorted distinct values."""
    low, high = values[:-1], values[1:]
    middle = low + (high - low) / 2
    # Between neighbouring floats, and below infinity, there is no middle.
    return np.where((middle > low) & np.isfinite(middle), middle, np.nextafter(low, np.inf))
