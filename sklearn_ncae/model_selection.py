"""Choosing and tuning outlier detectors: splits that train on good images, and thresholds.

Everything here works with any scikit-learn outlier detector and with pipelines ending in one.
"""

from collections.abc import Mapping
from itertools import islice
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OutlierMixin, _fit_context, clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit, check_cv
from sklearn.utils import get_tags, indexable
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples, check_is_fitted

from sklearn_ncae._all_or_nothing import all_or_nothing
from sklearn_ncae._fitted_parts import fitted_offset, groups_for
from sklearn_ncae._hold_out import check_groups
from sklearn_ncae._image_arrays import FEATURES, forget_features
from sklearn_ncae._labels import check_detection_labels
from sklearn_ncae._objectives import (
    BestMetric,
    EnoughRecall,
    FewFalseAlarms,
    Folds,
    Objective,
)
from sklearn_ncae._one_class_split import OneClassSplit, as_rows, good_only
from sklearn_ncae._out_of_fold import fit_and_score, response, response_names, seeded_clone
from sklearn_ncae._threshold_search import (
    candidate_thresholds,
    check_costs,
    cost_metric,
    cost_offset,
    scorer_metric,
    share_below,
)
from sklearn_ncae._warn import warn
from sklearn_ncae.near_duplicates import leakage_report, near_duplicate_groups

__all__ = [
    "OneClassSplit",
    "TunedThresholdDetector",
    "cost_offset",
    "leakage_report",
    "near_duplicate_groups",
]

_OBJECTIVES = ("scoring", "costs", "max_false_alarm_rate", "min_recall")


def _detector_has_scores(self: "TunedThresholdDetector") -> bool:
    detector = getattr(self, "detector_", self.detector)
    return any(hasattr(detector, name) for name in response_names(self.response_method))


class TunedThresholdDetector(OutlierMixin, MetaEstimatorMixin, BaseEstimator):
    """Outlier detector whose threshold is found by cross-validation.

    The detector is trained on good images only and scores the images left out; the threshold
    between good and defective is then chosen from these out-of-fold scores. What "best" means is
    said by *one* of `scoring`, `costs`, `max_false_alarm_rate` and `min_recall`. Defects are the
    positive class throughout: recall is the share of defects found, a false alarm is a good
    image reported as defective.

    Parameters
    ----------
    detector : outlier detector
        Any estimator with ``fit`` and ``score_samples`` or ``decision_function`` (lower = more
        abnormal), fitted already if ``cv="prefit"``.
    scoring : str or scorer, default=None
        Maximise this: a scorer name such as "f1" (of the defects), "balanced_accuracy" or
        "accuracy", or ``make_scorer(metric)``. The metric is called with labels +1 and -1; where
        it has a ``pos_label`` that is not set, -1 is taken. It must be a metric of predictions,
        not of scores. None, with no other objective: "f1" if y has defects, otherwise
        a false-alarm rate of 0.05 or, with a warning, the least that so few images can promise.
    costs : dict, default=None
        Minimise the mean cost per image, given ``{"missed_defect": 500, "false_alarm": 20}``
        (say, euros each). The labelled images usually hold a larger share of defects than
        production; ``"defect_rate": 0.01`` in the dict weights them to that share.
    max_false_alarm_rate : float in (0, 1), default=None
        Find as many defects as possible with at most this share of good images reported.
        Needs no defects.
    min_recall : float in (0, 1), default=None
        Report as few good images as possible while at least this share of defects is found.
    thresholds : int or array-like of shape (m,), default=100
        The candidates. An int: at most so many midpoints between neighbouring out-of-fold
        scores, spread evenly over the ranks of good and of defective images, each class with
        half of the weight. The two targets also consider the exact score where the target is
        just met. An array: exactly these thresholds.
    cv : int, float, splitter, iterable or "prefit", default=None
        How images are left out. None or an int: stratified folds (5 if None). A float: one
        stratified holdout of this share. "prefit": the detector is fitted already, and all
        images given to fit, *which must not be its training images*, choose the threshold.
        Defects are always dropped from training folds, so that no `OneClassSplit` is needed here.
        With ``groups``, folds hold whole groups, and a float leaves one of 2, 3, 4, ... of them
        out, whichever is nearest to this share.
    refit : bool, default=True
        Whether the final detector is trained on all good images. False needs a single split and
        keeps the detector that was trained there. Ignored if ``cv="prefit"``.
    response_method : {"auto", "score_samples", "decision_function"}, default="auto"
        Which scores are used; "auto" takes ``score_samples`` where the detector has it.
    pos_label : int, bool or str, default=None
        The label that marks a defect, where y does not hold +1 (good) and -1 (defect).
    store_cv_results : bool, default=False
        Whether to keep `cv_results_`.
    n_jobs : int, default=None
        Number of folds processed at once, through joblib.
    random_state : int, RandomState instance or None, default=None
        Seeds the holdout, if `cv` is a float. If not None it also seeds the detector, wherever
        its own `random_state`, or that of a nested estimator, is None.

    Attributes
    ----------
    detector_ : outlier detector
        The fitted detector.
    best_threshold_, offset_ : float
        The threshold: an image is good if its score is at least this.
    best_score_ : float or None
        The objective at the threshold, greater is better: the scorer's value or minus the cost
        per image, averaged over folds; the recall of the pooled out-of-fold defects for
        `max_false_alarm_rate` (None without defects); the share of pooled good images that pass
        for `min_recall`.
    cv_results_ : dict of ndarray
        "thresholds" (ascending), "false_alarm_rate", and where there are defects "recall" (both
        of the pooled out-of-fold scores) and "scores". Only if `store_cv_results`.
    n_features_in_ : int
        Number of features, if the detector has it.
    feature_names_in_ : ndarray of str
        Feature names, if the detector has them.

    See Also
    --------
    sklearn.model_selection.TunedThresholdClassifierCV : The same for classifiers.

    Notes
    -----
    **Targets are promises about new images** and therefore use the split-conformal correction
    [1]_: with n good images the threshold is their k-th smallest score,
    ``k = floor(max_false_alarm_rate * (n + 1))``. If images are exchangeable and `detector_` is
    the detector that gave the scores (``cv="prefit"``, or a float `cv` with ``refit=False``), a
    new good image falls below it with probability at most `max_false_alarm_rate`, on average
    over calibration sets. With folds or with refit the detectors differ slightly and the
    statement is approximate. A target that needs k = 0 cannot be promised and is an error: a
    rate of 1 % needs at least 99 good images. `min_recall` does the same with the defects. With
    ``groups``, n is the number of groups, and the images of each count as one [2]_: four
    photographs of a part tell little more about other parts than one does.

    **Scores must be comparable** between the detectors of the folds and the refitted one. They
    are for most, but the ``score_samples`` of :class:`~sklearn.svm.OneClassSVM` grows with the
    number of training images. A warning tells when the typical training score of the
    refitted detector is off; then use ``response_method="decision_function"``, or a single
    holdout with ``refit=False``.

    **y**: with an objective given, y must follow the convention (or `pos_label`), else fit
    raises. With no objective given, y may be anything, as in other outlier detectors: a y that
    does not follow the convention is ignored, with a warning, and all images are taken as good.

    **Nested in** ``GridSearchCV`` **with groups**: ``sklearn.set_config(
    enable_metadata_routing=True)`` hands ``groups`` to the outer and to the inner splitter, and to
    the detectors of this package. Without it, only the outer splitter receives them.

    References
    ----------
    .. [1] Lei, G'Sell, Rinaldo, Tibshirani, Wasserman: Distribution-free predictive inference
       for regression. JASA 113 (2018).
    .. [2] Lee, Barber, Willett: Distribution-free inference with hierarchical data. arXiv
       2306.06342 (2023).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn_ncae.model_selection import TunedThresholdDetector
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(200, 2)), rng.normal(4.0, size=(20, 2))])
    >>> y = np.array([1] * 200 + [-1] * 20)
    >>> forest = IsolationForest(random_state=0)
    >>> tuned = TunedThresholdDetector(forest, scoring="f1").fit(X, y)
    >>> tuned.best_score_ > 0.9
    True
    >>> tuned = TunedThresholdDetector(forest, max_false_alarm_rate=0.02).fit(X[:200])
    >>> float(np.mean(tuned.predict(X[200:]) == -1))
    1.0
    """

    _takes_groups = True  # among the keywords of `fit`

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        "detector": [HasMethods(["fit"])],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "costs": [Mapping, None],
        "max_false_alarm_rate": [Interval(Real, 0.0, 1.0, closed="neither"), None],
        "min_recall": [Interval(Real, 0.0, 1.0, closed="neither"), None],
        "thresholds": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "cv": [
            "cv_object",
            StrOptions({"prefit"}),
            Interval(RealNotInt, 0.0, 1.0, closed="neither"),
        ],
        "refit": ["boolean"],
        "response_method": [StrOptions({"auto", "score_samples", "decision_function"})],
        "pos_label": "no_validation",
        "store_cv_results": ["boolean"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        detector: Any,
        *,
        scoring: Any = None,
        costs: Mapping[str, float] | None = None,
        max_false_alarm_rate: float | None = None,
        min_recall: float | None = None,
        thresholds: int | ArrayLike = 100,
        cv: Any = None,
        refit: bool = True,
        response_method: str = "auto",
        pos_label: Any = None,
        store_cv_results: bool = False,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.detector = detector
        self.scoring = scoring
        self.costs = costs
        self.max_false_alarm_rate = max_false_alarm_rate
        self.min_recall = min_recall
        self.thresholds = thresholds
        self.cv = cv
        self.refit = refit
        self.response_method = response_method
        self.pos_label = pos_label
        self.store_cv_results = store_cv_results
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit_predict(self, X: Any, y: ArrayLike | None = None, **params: Any) -> NDArray[np.int64]:
        """Fit, and decide which of the same images are good.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            What the detector takes.
        y : array-like of shape (n,), default=None
            As for `fit`.
        **params : dict
            As for `fit`.

        Returns
        -------
        labels : ndarray of shape (n,), int
            +1 for good, -1 for defective.
        """
        return self.fit(X, y, **params).predict(X)

    @_fit_context(prefer_skip_nested_validation=False)
    @all_or_nothing
    def fit(self, X: Any, y: ArrayLike | None = None, **params: Any) -> Self:
        """Find the threshold, and train the final detector on the good images.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            What the detector takes: images, paths, features.
        y : array-like of shape (n,), default=None
            +1 for good, -1 for a defect (or see `pos_label`). None: all are good.
        **params : dict
            ``groups``, what images of the same part have in common, goes to the splitter, makes
            targets count parts, and goes to a detector that takes groups; the rest goes to the
            detector's fit. Where metadata routing is on, each as requested.

        Returns
        -------
        self
            The fitted detector.

        Raises
        ------
        ValueError
            If there is more than one objective, the labels or their number do not suit it, a
            fold lacks good or defective images, or too few images are given for the target.
        NotFittedError
            If ``cv="prefit"`` and the detector is not fitted.
        """
        X, y = indexable(X, y)
        name = self._check_objective()
        labels = self._check_labels(X, y, name)
        if name is None:
            name = "scoring" if (labels == -1).any() else "max_false_alarm_rate"
        objective = self._objective(name, y)
        given = self._check_thresholds()

        # What can go wrong with the splits is found before the detectors are trained.
        splits, groups, fit_params = self._splits(X, y, labels, params)
        rows = [test for _, test in splits]
        folds = Folds(rows, *([of[test] for test in rows] for of in (labels, groups)))
        objective.prepare(folds)

        scores = self._fit_and_score_folds(X, labels, splits, fit_params)
        if isinstance(given, int):
            of_folds = np.concatenate(scores), np.concatenate(folds.labels)
            candidates = candidate_thresholds(*of_folds, limit=given)
        else:
            candidates = given
        thresholds, best, values = objective.choose(
            folds, scores, candidates, exact=candidates is given
        )
        if not 0 <= best < thresholds.size:
            raise ValueError(
                f"None of the given thresholds meets {name}={getattr(self, name)!r}; they run "
                f"from {thresholds[0]:.6g} to {thresholds[-1]:.6g}."
            )
        self.best_threshold_ = self.offset_ = float(thresholds[best])
        self.best_score_ = None if values is None else float(values[best])
        self.__dict__.pop("cv_results_", None)  # of another fit
        if self.store_cv_results:
            good, defects = (folds.scores_of(label, scores) for label in (1, -1))
            false_alarm_rate = share_below(good, thresholds)
            self.cv_results_ = {"thresholds": thresholds, "false_alarm_rate": false_alarm_rate}
            if values is not None:
                recall = share_below(defects, thresholds)
                self.cv_results_ |= {"recall": recall, "scores": values}
        forget_features(self)
        for attribute in FEATURES:
            if hasattr(self.detector_, attribute):
                setattr(self, attribute, getattr(self.detector_, attribute))
        return self

    def _check_objective(self) -> str | None:
        given = [name for name in _OBJECTIVES if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"Give one objective, not {len(given)}: {' and '.join(given)}. The threshold is "
                "one number, so it can be chosen by one of them only."
            )
        if self.costs is not None:
            check_costs(self.costs)
        return given[0] if given else None

    def _objective(self, name: str, y: Any) -> Objective:
        if name == "max_false_alarm_rate":
            return FewFalseAlarms(self.max_false_alarm_rate)
        if name == "min_recall":
            assert self.min_recall is not None
            return EnoughRecall(self.min_recall)
        if name == "costs":
            assert self.costs is not None
            return BestMetric(cost_metric(self.costs))
        return BestMetric(scorer_metric(self.scoring or "f1", y, self.pos_label))

    def _check_thresholds(self) -> int | NDArray[np.float64]:
        """Return how many candidates there may be, or those that are given, in ascending order."""
        if isinstance(self.thresholds, Integral):
            return int(self.thresholds)
        thresholds = np.unique(np.asarray(self.thresholds, dtype=np.float64))
        if thresholds.size == 0 or not np.isfinite(thresholds).all():
            raise ValueError("thresholds must be a number of candidates or finite values.")
        return thresholds

    def _check_labels(self, X: Any, y: Any, objective: str | None) -> NDArray[np.int64]:
        all_good = np.ones(_num_samples(X), dtype=np.int64)
        if y is None:
            labels = all_good
        else:
            try:
                labels = check_detection_labels(y, pos_label=self.pos_label, need_both=False)
            except ValueError as error:
                if objective is not None or self.pos_label is not None:
                    raise
                warn(f"y is ignored and all images are taken as good. {error}")
                labels = all_good
        if not (labels == 1).any():
            raise ValueError("There is no good image (y = +1): a detector learns from good images.")
        if objective not in (None, "max_false_alarm_rate") and (labels == 1).all():
            raise ValueError(
                f"{objective}={getattr(self, objective)!r} needs defects (y = -1) as well as good "
                "images, but there are none. Without defects use max_false_alarm_rate. If this "
                "fit happens inside a cross-validation with OneClassSplit, use the splitter that "
                "it wraps instead: TunedThresholdDetector itself drops the defects in training."
            )
        return labels

    def _splits(
        self, X: Any, y: Any, labels: NDArray[np.int64], params: dict[str, Any]
    ) -> tuple[list[tuple[Any, NDArray[np.intp]]], NDArray[np.intp], dict[str, Any]]:
        """Return the folds, the groups and fit's params.

        A fold is (good training indices or None, test indices).
        """
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", **params)
            fit_params, split_params = routed.detector.fit, routed.splitter.split
        else:
            fit_params = dict(params)
            groups = fit_params.pop("groups", None)
            split_params = {} if groups is None else {"groups": groups}
            if groups is not None and not isinstance(self.cv, str):
                # What the detector holds out by itself is to be of other parts, too.
                fit_params = groups_for(self.detector, groups) | fit_params

        of_images = check_groups(split_params.get("groups", fit_params.get("groups")), labels.size)
        if isinstance(self.cv, str):
            return [(None, np.arange(labels.size))], of_images, fit_params
        if self._has_splitter:
            # A user's splitter may expect the user's labels.
            splitter, y = check_cv(self.cv), labels if y is None else y
        else:
            y = labels
            splitter = self._make_splitter(labels, grouped="groups" in split_params)
        folds = splitter.split(X, y, **split_params)
        if isinstance(self.cv, Real) and not isinstance(self.cv, Integral):
            folds = islice(folds, 1)  # a single holdout
        splits = [
            (good_only(train, labels, fold), as_rows(test))
            for fold, (train, test) in enumerate(folds)
        ]
        if not self.refit and len(splits) > 1:
            raise ValueError(
                f"refit=False keeps the detector of a single split, but cv gives {len(splits)}. "
                "Use refit=True, or a float cv such as 0.25."
            )
        return splits, of_images, fit_params

    @property
    def _has_splitter(self) -> bool:
        """Whether `cv` is one, and not None, a number or "prefit"."""
        return not (self.cv is None or isinstance(self.cv, Real | str))

    def _make_splitter(self, labels: NDArray[np.int64], *, grouped: bool) -> Any:
        """Make the splitter that None, a number of folds or a share stand for."""
        if self.cv is None or isinstance(self.cv, Integral):
            if grouped:
                return StratifiedGroupKFold(5 if self.cv is None else self.cv)
            return check_cv(self.cv, labels, classifier=True)
        if grouped:  # folds of about that share, of which one is taken
            n_folds = max(2, round(1 / self.cv))
            return StratifiedGroupKFold(n_folds, shuffle=True, random_state=self.random_state)
        return StratifiedShuffleSplit(1, test_size=self.cv, random_state=self.random_state)

    def _fit_and_score_folds(
        self,
        X: Any,
        labels: NDArray[np.int64],
        splits: list[tuple[Any, NDArray[np.intp]]],
        fit_params: dict[str, Any],
    ) -> list[NDArray[np.float64]]:
        """Set `detector_`; return the test scores of each fold."""
        if isinstance(self.cv, str):
            try:
                check_is_fitted(self.detector)
            except NotFittedError as error:
                raise NotFittedError("With cv='prefit' the detector must be fitted.") from error
            self.detector_ = self.detector
            return [response(self.detector_, X, self.response_method)]

        # Seeded once, so that every fold and the final detector start from the same seeds.
        detector = seeded_clone(self.detector, self.random_state)
        keep = not self.refit
        folds = Parallel(n_jobs=self.n_jobs)(
            delayed(fit_and_score)(
                clone(detector), X, train, test, fit_params, self.response_method, keep
            )
            for train, test in splits
        )
        fold_scores = [scores for scores, _, _ in folds]
        if keep:
            self.detector_ = folds[0][2]
            return fold_scores

        train = np.flatnonzero(labels == 1)
        _, typical, self.detector_ = fit_and_score(
            detector, X, train, None, fit_params, self.response_method, True
        )
        good = [
            scores[labels[test] == 1] for scores, (_, test) in zip(fold_scores, splits, strict=True)
        ]
        spread = np.subtract(*np.quantile(np.concatenate(good), [0.75, 0.25]))
        fold_typical = [median for _, median, _ in folds]
        shift = abs(typical - np.median(fold_typical))
        # Few images make the folds themselves differ; that is noise, not another scale.
        if shift > spread + np.std(fold_typical) and spread > 0:
            warn(
                "The scores of the refitted detector are not comparable with those of the folds: "
                f"typical training scores differ by {shift:.3g}, while half of the good images lie "
                f"within {spread:.3g}. The threshold is not reliable. Use "
                "response_method='decision_function', or a float cv with refit=False."
            )
        return fold_scores

    @property
    def _shift(self) -> float:
        """What the scores are less than the `score_samples` of the detector."""
        of_decision = response_names(self.response_method)[0] == "decision_function"
        return (fitted_offset(self.detector_) or 0.0) if of_decision else 0.0

    @available_if(_detector_has_scores)
    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return the detector's scores, as named by `response_method`.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            What the detector takes.

        Returns
        -------
        ndarray of shape (n,), dtype float64
            Scores; lower = more abnormal.
        """
        check_is_fitted(self)
        return response(self.detector_, X, self.response_method, check=False)

    @available_if(_detector_has_scores)
    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the scores minus the threshold `offset_`.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            What the detector takes.

        Returns
        -------
        ndarray of shape (n,), dtype float64
            Negative for images that `predict` reports as defects.
        """
        scores: NDArray[np.float64] = self.score_samples(X)
        return scores - self.offset_

    @available_if(_detector_has_scores)
    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return +1 for good images and -1 for defects.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            What the detector takes.

        Returns
        -------
        ndarray of shape (n,), dtype int64
            The labels.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1).astype(np.int64)

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the metadata routing: fit hands on to the detector's fit and to the splitter.

        A splitter that is made here, from None or a number, takes groups.

        Returns
        -------
        MetadataRouter
            The routing.
        """
        return (
            MetadataRouter(owner=self)
            .add(
                detector=self.detector,
                method_mapping=MethodMapping().add(caller="fit", callee="fit"),
            )
            .add(
                # What is made here takes groups, if there are any; without a splitter they count.
                splitter=self.cv if self._has_splitter else StratifiedGroupKFold(),
                method_mapping=MethodMapping().add(caller="fit", callee="split"),
            )
        )

    def __sklearn_tags__(self) -> Any:
        """Return the tags of an outlier detector that takes the input of `detector`."""
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.detector).input_tags
        return tags
