"""Several detectors on the same splits, with a verdict on which differences are real."""

import time
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils._param_validation import StrOptions, validate_params
from sklearn.utils.parallel import Parallel, delayed

from sklearn_ncae._detection_metrics import decision_of, detection_scores_from_predictions
from sklearn_ncae._fitted_parts import groups_for
from sklearn_ncae._hold_out import check_groups
from sklearn_ncae._labels import check_detection_labels
from sklearn_ncae._one_class_split import as_rows
from sklearn_ncae._optional import import_extra
from sklearn_ncae._warn import warn
from sklearn_ncae.baselines import MeanBrightnessDetector

FIGURES = ("accuracy", "roc_auc", "prc_auc", "f1")
BASELINE = "mean brightness"
# A spread estimated from fewer numbers is hardly an estimate.
MIN_SPLITS = 5


@validate_params(
    {
        "detectors": [Mapping],
        "cv": ["cv_object"],
        "fit_on": [StrOptions({"good", "all"})],
        "metric": [StrOptions(set(FIGURES))],
        "reference": [str, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "return_splits": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def compare_detectors(
    detectors: Mapping[str, Any],
    X: Any,
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    cv: Any = 5,
    fit_on: str = "good",
    metric: str = "roc_auc",
    reference: str | None = None,
    significance_level: float = 0.05,
    pos_label: Any = None,
    n_jobs: int | None = None,
    random_state: Any = None,
    return_splits: bool = False,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> Any:
    """Fit and score outlier detectors on the same splits and tabulate the result.

    Every detector is cloned and fitted on the good images of each training fold and scored on the
    whole test fold. A row for :class:`~sklearn_ncae.baselines.MeanBrightnessDetector`, named
    ``"mean brightness"``, is always added. A detector that raises gets a row with its error; the
    others go on.

    Parameters
    ----------
    detectors : mapping of str to outlier detector
        Unfitted scikit-learn outlier detectors, or pipelines or searches ending in one.
    X : array-like of shape (n, ...), or sequence of n file paths
        Images; paths need detectors that read them, such as a pipeline that starts with an
        :class:`~sklearn_ncae.images.ImageLoader`.
    y : array-like of shape (n,)
        +1 for good and -1 for a defect, unless `pos_label` is given.
    groups : array-like of shape (n,), default=None
        Group of each image, such as the photographed part, for the splitter, and for detectors
        that hold whole groups out to set their threshold, as those of this package do, also at the
        end of a pipeline, but not in a search. A warning tells if a group is on both sides of a
        split.
    cv : int, splitter or iterable of (train, test) indices, default=5
        An integer is the number of shuffled, stratified folds: `StratifiedGroupKFold` where
        `groups` are given, else `StratifiedKFold`.
    fit_on : {"good", "all"}, default="good"
        Whether the defects of a training fold are left out. ``"all"`` is for detectors that learn
        from labels (``fit`` gets labels in {+1, -1}) or that are to endure contaminated data.
    metric : {"accuracy", "roc_auc", "prc_auc", "f1"}, default="roc_auc"
        The figure that rows are sorted by and that verdicts are about.
    reference : str, default=None
        Name of the row that the others are compared with. By default the best one, which by being
        chosen looks slightly better than it is.
    significance_level : float in (0, 1), default=0.05
        Verdicts speak of a difference where the p-value is below it. It is not corrected for the
        number of detectors.
    pos_label : int, bool or str, default=None
        The label that marks a defect where `y` is not in {+1, -1}.
    n_jobs : int, default=None
        Number of processes; each fits one detector on one split. Times are only comparable where
        the processes do not compete for cores.
    random_state : int, RandomState instance or None, default=None
        Shuffles the folds of an integer `cv`. Detectors keep their own.
    return_splits : bool, default=False
        Whether to return the figures of the single splits as well.
    progress : callable, default=None
        Called after each fit with the row of `splits` that it has become, as a dict.

    Returns
    -------
    table : pandas.DataFrame
        One row per detector, best first, failed ones last, with these columns:

        - ``accuracy``, ``roc_auc``, ``prc_auc``, ``f1``: means over the splits, defects being the
          positive class; each with its standard deviation over the splits, ``accuracy_std`` ...
        - ``fit_seconds``: mean time of a fit; ``score_ms``: mean time to score one image, in
          milliseconds.
        - ``difference``: mean of `metric` minus that of the reference, and ``p_value``.
        - ``verdict``: ``"reference"``, ``"better"``, ``"worse"``, ``"no clear difference"``,
          ``"too few splits"`` (fewer than 5), ``"failed"`` or ``"reference failed"``.
        - ``error``: empty, or in which split and step which error was raised. All figures of
          such a row are nan, because a mean over fewer splits could not be compared.
    splits : pandas.DataFrame
        Only if `return_splits`: one row per detector and split, with the columns ``detector``,
        ``split`` (from 0), the four figures, ``n_fit``, ``n_test``, ``fit_seconds``, ``score_ms``
        and ``error``.

    Raises
    ------
    ValueError
        If labels follow another convention, a test fold lacks good images or defects, or a
        training fold lacks good images; the message names the fold.
    ImportError
        If pandas is not installed.

    Notes
    -----
    Splits share training images, so their figures are not independent and a plain paired t-test
    finds differences that are not there. The p-value is that of the corrected resampled t-test
    [1]_, which multiplies the variance of the mean difference by ``1 + J * n_test / n_fit`` for
    ``J`` splits. It is a heuristic, and a reserved one.

    References
    ----------
    .. [1] C. Nadeau, Y. Bengio, "Inference for the Generalization Error", Machine Learning 52,
       239-281, 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn_ncae.metrics import compare_detectors
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 4))
    >>> y = np.repeat([1, -1], 30)
    >>> X[y == -1] += 5
    >>> table = compare_detectors({"forest": IsolationForest(random_state=0)}, X, y)
    >>> sorted(table.index)
    ['forest', 'mean brightness']
    """
    pandas = import_extra("pandas", "compare")
    if not 0 < significance_level < 1:
        raise ValueError(f"significance_level={significance_level!r} must be between 0 and 1.")
    contenders = dict(detectors)
    contenders.setdefault(BASELINE, MeanBrightnessDetector())
    if reference is not None and reference not in contenders:
        raise ValueError(f"reference={reference!r} is none of the rows {list(contenders)}.")
    labels = check_detection_labels(y, pos_label=pos_label)
    check_consistent_length(X, labels)
    check_groups(groups, len(labels))
    splits = _checked_splits(X, labels, groups, cv=cv, fit_on=fit_on, random_state=random_state)

    records = []
    for record in Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_fit_and_score)(
            name, detector, X, labels, groups=groups, split=split, train=train, test=test
        )
        for name, detector in contenders.items()
        for split, (train, test) in enumerate(splits)
    ):
        records.append(record)
        if progress is not None:
            progress(record)
    per_split = pandas.DataFrame(records)
    table = pandas.DataFrame(
        [
            _summary(name, rows, len(splits))
            for name, rows in per_split.groupby("detector", sort=False)
        ]
    ).set_index("detector")
    table = table.sort_values(metric, ascending=False, kind="stable", na_position="last")
    _add_verdicts(
        table, per_split, metric=metric, reference=reference, significance_level=significance_level
    )
    return (table, per_split) if return_splits else table


def _checked_splits(
    X: Any, labels: NDArray[np.int64], groups: Any, *, cv: Any, fit_on: str, random_state: Any
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return (images to fit on, images to test on) of every split, or say which cannot serve."""
    if cv is None or isinstance(cv, Integral):
        fold = StratifiedKFold if groups is None else StratifiedGroupKFold
        cv = fold(5 if cv is None else cv, shuffle=True, random_state=random_state)
    splitter = check_cv(cv, labels, classifier=True)
    splits = []
    for index, (train, test) in enumerate(splitter.split(X, labels, groups)):
        train, test = as_rows(train), as_rows(test)
        for rows, needed, where in ((train, 1, "training"), (test, 1, "test"), (test, -1, "test")):
            if not np.any(labels[rows] == needed):
                raise ValueError(
                    f"Split {index}: the {where} fold of {rows.size} images has no "
                    f"{'good images' if needed == 1 else 'defects'}. Use fewer or stratified "
                    "splits, or groups that leave some on each side."
                )
        if groups is not None:
            shared = np.intersect1d(_safe_indexing(groups, train), _safe_indexing(groups, test))
            if shared.size:
                warn(
                    f"Split {index}: {shared.size} groups are in both the training and the test "
                    "fold, so the figures may be too good. Use a splitter that keeps groups "
                    "together, such as StratifiedGroupKFold."
                )
        splits.append((train[labels[train] == 1] if fit_on == "good" else train, test))
    return splits


def _fit_and_score(
    name: str,
    detector: Any,
    X: Any,
    labels: NDArray[np.int64],
    *,
    groups: Any,
    split: int,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
) -> dict[str, Any]:
    """Return one row of the table per split; an error becomes part of it."""
    record: dict[str, Any] = {"detector": name, "split": split}
    record |= dict.fromkeys((*FIGURES, "fit_seconds", "score_ms"), np.nan)
    record |= {"n_fit": train.size, "n_test": test.size, "error": ""}
    step = "fit"
    try:
        fitted = clone(detector)
        X_train, X_test = _safe_indexing(X, train), _safe_indexing(X, test)
        grouped = {} if groups is None else groups_for(fitted, _safe_indexing(groups, train))
        start = time.perf_counter()
        fitted.fit(X_train, labels[train], **grouped)
        record["fit_seconds"] = time.perf_counter() - start
        step = "score"
        start = time.perf_counter()
        decision = decision_of(fitted, X_test)
        record["score_ms"] = 1000 * (time.perf_counter() - start) / test.size
        record |= detection_scores_from_predictions(labels[test], decision)
    except Exception as error:  # whatever it is belongs in the row, and the others go on
        record["error"] = f"split {split}, {step}: {type(error).__name__}: {error}"
    return record


def _summary(name: str, rows: Any, n_splits: int) -> dict[str, Any]:
    """Return means and spreads of one detector, nan where a split failed."""
    errors = [error for error in rows["error"] if error]
    summary: dict[str, Any] = {"detector": name}
    for figure in FIGURES:
        values = rows[figure].to_numpy(dtype=float)
        summary[figure] = np.nan if errors else values.mean()
        summary[f"{figure}_std"] = np.nan if errors or n_splits < 2 else values.std(ddof=1)
    for column in ("fit_seconds", "score_ms"):
        summary[column] = np.nan if errors else rows[column].mean()
    more = f" (and {len(errors) - 1} more splits)" if len(errors) > 1 else ""
    return summary | {"error": errors[0] + more if errors else ""}


def _add_verdicts(
    table: Any,
    per_split: Any,
    *,
    metric: str,
    reference: str | None,
    significance_level: float,
) -> None:
    """Add the columns difference, p_value and verdict, in front of error."""
    name_of_reference = table.index[0] if reference is None else reference
    values = per_split.pivot(index="split", columns="detector", values=metric)
    # Sizes are those of the splits, the same for all detectors.
    test_share = per_split["n_test"].mean() / per_split["n_fit"].mean()
    verdicts = []
    for name in table.index:
        difference = (values[name] - values[name_of_reference]).to_numpy(dtype=float)
        mean, p_value = np.nan, np.nan
        if table.loc[name, "error"]:
            verdict = "failed"
        elif name == name_of_reference:
            verdict, mean = "reference", 0.0
        elif table.loc[name_of_reference, "error"]:
            verdict = "reference failed"
        else:
            mean = float(difference.mean())
            p_value = _corrected_p_value(difference, test_share)
            if len(values) < MIN_SPLITS:
                verdict = "too few splits"
            elif p_value < significance_level:
                verdict = "better" if mean > 0 else "worse"
            else:
                verdict = "no clear difference"
        verdicts.append((mean, p_value, verdict))
    error = table.columns.get_loc("error")
    for offset, column in enumerate(("difference", "p_value", "verdict")):
        table.insert(error + offset, column, [row[offset] for row in verdicts])


def _corrected_p_value(difference: NDArray[np.float64], test_share: float) -> float:
    """Two-sided p-value of the corrected resampled t-test of Nadeau and Bengio."""
    n = difference.size
    if n < 2:
        return float("nan")
    mean, variance = difference.mean(), difference.var(ddof=1)
    # Equal in all splits but for rounding: no spread to divide by.
    if variance <= (1e-12 * max(1.0, abs(mean))) ** 2:
        return 0.0 if abs(mean) > 1e-12 else 1.0
    t = mean / np.sqrt((1 / n + test_share) * variance)
    return float(2 * stats.t.sf(abs(t), df=n - 1))
