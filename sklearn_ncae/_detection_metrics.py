"""Figures for one score per image; they know only scikit-learn's outlier-detector interface.

Scores follow scikit-learn: the lower, the more abnormal. Defects (label -1) are the positive class.
"""

from collections.abc import Callable
from inspect import signature
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, make_scorer
from sklearn.metrics import roc_auc_score as sk_roc_auc_score
from sklearn.utils import (
    check_consistent_length,
    check_random_state,
    get_tags,
)
from sklearn.utils._param_validation import Interval, validate_params

from sklearn_ncae._hold_out import check_groups
from sklearn_ncae._labels import check_detection_labels, check_labels_and_scores
from sklearn_ncae._threshold_search import midpoints


def detection_scores(
    detector: Any, X: Any, y: ArrayLike, *, pos_label: Any = None
) -> dict[str, float]:
    """Accuracy, ROC AUC, PRC AUC and F1 of a fitted outlier detector.

    The function has the signature of a scorer, so it serves several metrics at once in
    ``cross_validate(..., scoring=detection_scores)`` and
    ``GridSearchCV(..., scoring=detection_scores, refit="prc_auc")``.

    Parameters
    ----------
    detector : fitted outlier detector
        Any scikit-learn outlier detector, or a pipeline or search that ends in one. Its
        ``decision_function`` is called once, on the whole of `X`: negative means defect.
    X : array-like of shape (n, ...), or whatever `detector` takes
        Images to score.
    y : array-like of shape (n,)
        +1 for good and -1 for a defect, unless `pos_label` is given.
    pos_label : int, bool or str, default=None
        The label that marks a defect where `y` is not in {+1, -1}.

    Returns
    -------
    dict of str to float
        ``"accuracy"``, ``"roc_auc"``, ``"prc_auc"`` (average precision) and ``"f1"``, each in
        [0, 1]. Defects are the positive class of ``prc_auc`` and ``f1``.

    Raises
    ------
    TypeError
        If `detector` does not follow scikit-learn's outlier-detector interface.
    ValueError
        If `y` follows another convention, lacks good images or defects, or scores are not finite.

    See Also
    --------
    detection_scores_from_predictions : The same from numbers computed before.

    Examples
    --------
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn_ncae.metrics import detection_scores
    >>> good = [[0.0], [0.1], [0.2], [0.1], [0.0], [0.2]]
    >>> detector = IsolationForest(random_state=0).fit(good)
    >>> round(detection_scores(detector, [[0.1], [9.0]], [1, -1])["roc_auc"], 3)
    1.0
    """
    labels = check_detection_labels(y, pos_label=pos_label)
    return detection_scores_from_predictions(labels, decision_of(detector, X))


def decision_of(detector: Any, X: Any) -> NDArray[np.float64]:
    """Return the decision function of an outlier detector; refuse what is clearly not one."""
    try:
        kind = get_tags(detector).estimator_type
    except Exception:  # scikit-learn has raised different errors for objects without tags
        kind = None
    # A plain BaseEstimator, or no estimator at all, has no type: it may still have the methods.
    if kind not in ("outlier_detector", None) or not hasattr(detector, "decision_function"):
        raise TypeError(
            f"{type(detector).__name__} is not an outlier detector (estimator type: {kind}; "
            "decision_function is needed, lower = more abnormal, negative = defect). "
            "Derive a wrapper from sklearn.base.OutlierMixin and BaseEstimator."
        )
    return np.asarray(detector.decision_function(X), dtype=np.float64)


def detection_scores_from_predictions(
    y_true: ArrayLike,
    decision: ArrayLike,
    y_pred: ArrayLike | None = None,
    *,
    pos_label: Any = None,
) -> dict[str, float]:
    """Accuracy, ROC AUC, PRC AUC and F1 from decision values computed before.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        +1 for good and -1 for a defect, unless `pos_label` is given.
    decision : array-like of shape (n,)
        Values of ``decision_function``: the lower, the more abnormal.
    y_pred : array-like of shape (n,), default=None
        Predicted labels in the convention of `y_true`. By default, images whose `decision` is
        negative are taken for defects, as every scikit-learn outlier detector does.
    pos_label : int, bool or str, default=None
        The label that marks a defect where `y_true` and `y_pred` are not in {+1, -1}.

    Returns
    -------
    dict of str to float
        ``"accuracy"``, ``"roc_auc"``, ``"prc_auc"`` (average precision) and ``"f1"``.
        An F1 without any predicted defect is 0.

    Raises
    ------
    ValueError
        If labels follow another convention, a class is missing, lengths differ or a decision
        value is not finite.

    Examples
    --------
    >>> from sklearn_ncae.metrics import detection_scores_from_predictions
    >>> detection_scores_from_predictions([1, 1, -1, -1], [0.3, -0.1, 0.2, -0.4])
    {'accuracy': 0.5, 'roc_auc': 0.75, 'prc_auc': 0.8333333333333333, 'f1': 0.5}
    """
    labels, values = check_labels_and_scores(y_true, decision, pos_label=pos_label)
    predicted: NDArray[Any] = values
    if y_pred is not None:
        # +1 and -1 have the signs of the decisions they stand for.
        predicted = check_detection_labels(y_pred, pos_label=pos_label, need_both=False)
        if pos_label is not None and not np.isin(y_pred, y_true).all():
            raise ValueError(
                f"y_pred has labels that y_true has not: {np.setdiff1d(y_pred, y_true)[:5]}. "
                "Convert both to one convention."
            )
        check_consistent_length(labels, predicted)
    return {
        "accuracy": _accuracy(labels, predicted),
        "roc_auc": _roc_auc(labels, values),
        "prc_auc": _prc_auc(labels, values),
        "f1": _f1(labels, predicted),
    }


def f1_max_score(
    y_true: ArrayLike, scores: ArrayLike, *, pos_label: Any = None
) -> tuple[float, float]:
    """Largest F1 of the defects over all thresholds, and the threshold that reaches it.

    The threshold is chosen on the images it is judged by, so the figure is an upper bound: useful
    to compare detectors, not a forecast.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        +1 for good and -1 for a defect, unless `pos_label` is given.
    scores : array-like of shape (n,)
        Values of ``score_samples`` or ``decision_function``: the lower, the more abnormal.
    pos_label : int, bool or str, default=None
        The label that marks a defect where `y_true` is not in {+1, -1}.

    Returns
    -------
    f1 : float
        In (0, 1].
    threshold : float
        Images with ``scores < threshold`` count as defects: with ``score_samples`` it can serve as
        an ``offset_``. It lies half-way between two scores; of equally good ones it is the lowest,
        the one with the fewest alarms.

    Raises
    ------
    ValueError
        If labels follow another convention, a class is missing or a score is not finite.

    Examples
    --------
    >>> from sklearn_ncae.metrics import f1_max_score
    >>> f1_max_score([1, 1, -1, -1], [3.0, 2.0, 1.0, 0.0])
    (1.0, 1.5)
    """
    labels, values = check_labels_and_scores(y_true, scores, pos_label=pos_label)
    levels, defects, good = _alarms_per_level(labels, values)
    f1 = 2 * defects / (defects + good + np.count_nonzero(labels == -1))
    best = int(np.argmax(f1))
    thresholds = np.append(midpoints(levels), np.nextafter(levels[-1], np.inf))
    return float(f1[best]), float(thresholds[best])


def recall_at_false_alarm_rate(
    y_true: ArrayLike,
    scores: ArrayLike,
    *,
    max_false_alarm_rate: float = 0.05,
    pos_label: Any = None,
) -> float:
    """Share of the defects found when at most a given share of the good images raises an alarm.

    Only thresholds that exist between two scores count; nothing is interpolated. With 20 good
    images the rate moves in steps of 5 %, so a rate of 1 % then allows no false alarm at all.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        +1 for good and -1 for a defect, unless `pos_label` is given.
    scores : array-like of shape (n,)
        Values of ``score_samples`` or ``decision_function``: the lower, the more abnormal.
    max_false_alarm_rate : float in [0, 1], default=0.05
        Largest share of the good images that may be taken for defects.
    pos_label : int, bool or str, default=None
        The label that marks a defect where `y_true` is not in {+1, -1}.

    Returns
    -------
    float
        Recall of the defects, in [0, 1].

    Raises
    ------
    ValueError
        If the rate is outside [0, 1], labels follow another convention, a class is missing or a
        score is not finite.

    Examples
    --------
    >>> from sklearn_ncae.metrics import recall_at_false_alarm_rate
    >>> recall_at_false_alarm_rate([1, 1, -1, -1], [3, 1, 2, 0], max_false_alarm_rate=0.0)
    0.5
    """
    if not 0 <= max_false_alarm_rate <= 1:
        raise ValueError(
            f"max_false_alarm_rate={max_false_alarm_rate!r} must be a share between 0 and 1."
        )
    labels, values = check_labels_and_scores(y_true, scores, pos_label=pos_label)
    _, defects, good = _alarms_per_level(labels, values)
    # A rate of 0.07 allows 7 of 100 although 0.07 * 100 is 7.000000000000001 and 0.29 * 100 < 29.
    allowed = np.floor(max_false_alarm_rate * np.count_nonzero(labels == 1) + 1e-9)
    kept = defects[good <= allowed]
    return float(kept.max(initial=0) / np.count_nonzero(labels == -1))


def make_detection_scorer(metric: str, *, pos_label: Any = None, **kwargs: Any) -> Any:
    """Make a scorer for ``GridSearchCV``, ``cross_validate`` and their like.

    scikit-learn's own ``"f1"`` and ``"average_precision"`` take the good images (+1) for the
    positive class; these scorers take the defects.

    Parameters
    ----------
    metric : {"accuracy", "roc_auc", "prc_auc", "f1", "f1_max", "recall_at_false_alarm_rate"}
        What to compute; larger is better for all of them.
    pos_label : int, bool or str, default=None
        The label that marks a defect where `y` is not in {+1, -1}.
    **kwargs : dict
        Further arguments of the metric, such as ``max_false_alarm_rate=0.01``.

    Returns
    -------
    callable
        ``scorer(detector, X, y) -> float``, made by :func:`sklearn.metrics.make_scorer`.

    Raises
    ------
    ValueError
        If the metric is unknown.
    TypeError
        If it does not take one of the arguments.

    Notes
    -----
    Detectors are no classifiers, so that scikit-learn does not stratify the folds of ``cv=5``, and
    trains on the defects among them: give a
    :class:`~sklearn_ncae.model_selection.OneClassSplit`.

    Examples
    --------
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn_ncae.metrics import make_detection_scorer
    >>> from sklearn_ncae.model_selection import OneClassSplit
    >>> X, y = [[0.0], [0.1], [9.0]] * 4, [1, 1, -1] * 4
    >>> scorer = make_detection_scorer("prc_auc")
    >>> forest = IsolationForest(random_state=0)
    >>> cross_val_score(forest, X, y, scoring=scorer, cv=OneClassSplit(2)).shape
    (2,)
    """
    _check_metric_name(metric)
    unknown = set(kwargs) - set(signature(METRICS[metric]).parameters)
    if unknown:
        raise TypeError(f"The metric {metric!r} takes no {', '.join(sorted(unknown))}.")
    # Asking for predictions lets threshold tuners recognise the metrics that need a threshold.
    response = "predict" if metric in ("accuracy", "f1") else "decision_function"
    return make_scorer(
        _score_named, response_method=response, name=metric, label_of_defect=pos_label, **kwargs
    )


class ConfidenceInterval(NamedTuple):
    """Two-sided confidence interval."""

    low: float
    high: float


@validate_params(
    {
        "metric": [str, callable],
        "n_resamples": [Interval(Integral, 1, None, closed="left")],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def bootstrap_confidence_interval(
    y_true: ArrayLike,
    scores: ArrayLike,
    *,
    metric: str | Callable[[NDArray[np.int64], NDArray[np.float64]], float] = "roc_auc",
    groups: ArrayLike | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = None,
    pos_label: Any = None,
) -> ConfidenceInterval:
    """Percentile bootstrap interval of a figure, with whole groups of images drawn.

    Images of the same part are not independent: drawing them one by one makes the interval far
    too narrow. Given `groups`, a resample draws as many groups as there are, with replacement, and
    takes all images of each. The interval covers the choice of test images, not of training images.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        +1 for good and -1 for a defect, unless `pos_label` is given.
    scores : array-like of shape (n,)
        The lower, the more abnormal. The metrics ``"accuracy"`` and ``"f1"`` need values of
        ``decision_function``, whose sign is the prediction.
    metric : str or callable, default="roc_auc"
        A name that :func:`make_detection_scorer` knows, or ``metric(y, scores) -> float``, which
        gets labels in {+1, -1}.
    groups : array-like of shape (n,), default=None
        Group of each image, such as the photographed part. By default each image is its own.
    n_resamples : int, default=1000
        Number of resamples.
    confidence_level : float in (0, 1), default=0.95
        Nominal coverage of the interval. With few defects, or figures near 1, it covers less: where
        none of the resamples has a mistake, low and high are equal, and say nothing.
    random_state : int, RandomState instance or None, default=None
        Makes the resamples reproducible.
    pos_label : int, bool or str, default=None
        The label that marks a defect where `y_true` is not in {+1, -1}.

    Returns
    -------
    ConfidenceInterval
        A named tuple ``(low, high)``.

    Raises
    ------
    ValueError
        If there are fewer than two groups, or if so few groups hold one of the classes that most
        resamples lack it.

    Notes
    -----
    A resample without good images or without defects has no figure; it is drawn again. So the
    interval is conditional on both being there, which matters only with very few groups.

    References
    ----------
    B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", chapters 8 and 13,
    Chapman & Hall, 1993.

    Examples
    --------
    >>> from sklearn_ncae.metrics import bootstrap_confidence_interval
    >>> y, scores = [1, 1, -1, -1], [3, 2, 1, 0]
    >>> bootstrap_confidence_interval(y, scores, n_resamples=50, random_state=0)
    ConfidenceInterval(low=1.0, high=1.0)
    """
    if isinstance(metric, str):
        _check_metric_name(metric)
    labels, values = check_labels_and_scores(y_true, scores, pos_label=pos_label)
    group_of = check_groups(groups, labels.size)
    _, group_index, sizes = np.unique(group_of, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(group_index, kind="stable"), np.cumsum(sizes)[:-1])
    if len(members) < 2:
        raise ValueError(
            "groups has one group only; a bootstrap needs at least two independent groups."
        )

    rng = check_random_state(random_state)
    figures: list[float] = []
    for _ in range(10 * n_resamples):
        drawn = rng.randint(len(members), size=len(members))
        rows = np.concatenate([members[group] for group in drawn])
        if abs(labels[rows].sum()) == rows.size:
            continue
        if isinstance(metric, str):
            figures.append(_score_named(labels[rows], values[rows], name=metric))
        else:
            figures.append(_one_number(metric(labels[rows], values[rows])))
        if len(figures) == n_resamples:
            break
    else:
        raise ValueError(
            f"Of {10 * n_resamples} resamples of {len(members)} groups only {len(figures)} hold "
            "both good images and defects: too few groups hold one of them for an interval."
        )
    tail = (1 - confidence_level) / 2
    low, high = np.quantile(figures, [tail, 1 - tail])
    return ConfidenceInterval(float(low), float(high))


def _check_metric_name(metric: str) -> None:
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r} is unknown; choose one of {sorted(METRICS)}.")


def _one_number(figure: Any) -> float:
    if np.ndim(figure) != 0:
        raise TypeError(
            f"metric must return one number, got {figure!r}. For the largest F1 pass "
            "metric='f1_max'."
        )
    return float(figure)


def _alarms_per_level(
    labels: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct scores and, for each, how many defects and good ones are at or below."""
    levels, level = np.unique(values, return_inverse=True)
    counts = [
        np.bincount(level[labels == label], minlength=levels.size).cumsum() for label in (-1, 1)
    ]
    return levels, counts[0], counts[1]


def _accuracy(labels: Any, decision: Any) -> float:
    return float(accuracy_score(labels, np.where(decision >= 0, 1, -1)))


def _f1(labels: Any, decision: Any) -> float:
    return float(f1_score(labels, np.where(decision >= 0, 1, -1), pos_label=-1, zero_division=0))


def _roc_auc(labels: Any, decision: Any) -> float:
    return float(sk_roc_auc_score(labels == -1, -decision))


def _prc_auc(labels: Any, decision: Any) -> float:
    return float(average_precision_score(labels == -1, -decision))


def _f1_max(labels: Any, decision: Any) -> float:
    return f1_max_score(labels, decision)[0]


# Each takes labels in {+1, -1} and decision values; the sign of a decision is the prediction.
METRICS: dict[str, Callable[..., float]] = {
    "accuracy": _accuracy,
    "roc_auc": _roc_auc,
    "prc_auc": _prc_auc,
    "f1": _f1,
    "f1_max": _f1_max,
    "recall_at_false_alarm_rate": recall_at_false_alarm_rate,
}


def _score_named(
    y_true: ArrayLike, decision: ArrayLike, *, name: str, label_of_defect: Any = None, **kwargs: Any
) -> float:
    labels, values = check_labels_and_scores(y_true, decision, pos_label=label_of_defect)
    return METRICS[name](labels, values, **kwargs)
