"""OneClassSplit and TunedThresholdDetector, with several outlier detectors of scikit-learn."""

import pickle
import runpy
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score, fbeta_score, get_scorer, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_predict,
    cross_validate,
)
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from sklearn_ncae import NCAEDetector, ResidualDetector
from sklearn_ncae._out_of_fold import seeded_clone
from sklearn_ncae._threshold_search import scorer_metric
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.metrics import make_detection_scorer
from sklearn_ncae.model_selection import OneClassSplit, TunedThresholdDetector, cost_offset
from sklearn_ncae.texture import TextureDetector

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "plot_threshold_search.py"
FOREST = IsolationForest(n_estimators=10, random_state=0)
DETECTORS = {
    "forest": FOREST,
    "lof": LocalOutlierFactor(n_neighbors=10, novelty=True),
    "pipeline": make_pipeline(StandardScaler(), IsolationForest(n_estimators=10, random_state=0)),
}
COSTS = {"missed_defect": 500.0, "false_alarm": 20.0}


def test_a_failed_fit_leaves_the_previous_one(parts):
    X, y, _ = parts
    tuned = TunedThresholdDetector(FOREST, scoring="f1").fit(X, y)
    labels = tuned.predict(X)
    tuned.set_params(scoring=None, max_false_alarm_rate=0.2, thresholds=[-100.0])
    tuned.set_params(detector=IsolationForest(n_estimators=3, random_state=0))
    with pytest.raises(ValueError, match="None of the given thresholds"):
        tuned.set_params(thresholds=[100.0], max_false_alarm_rate=0.2).fit(X, y)
    np.testing.assert_array_equal(tuned.predict(X), labels)


def test_a_new_fit_forgets_the_names_of_columns():
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
    tuned = TunedThresholdDetector(FOREST, max_false_alarm_rate=0.2).fit(table)
    assert list(tuned.feature_names_in_) == ["a", "b"]
    assert not hasattr(tuned.fit(table.to_numpy()), "feature_names_in_")


def test_a_frozen_detector_gets_a_threshold():
    X = np.random.default_rng(0).normal(size=(120, 2))
    frozen = FrozenEstimator(IsolationForest(random_state=0).fit(X[:60]))
    tuned = TunedThresholdDetector(frozen, max_false_alarm_rate=0.1).fit(X[60:])
    assert np.mean(tuned.predict(X[60:]) == -1) <= 0.1


class FirstColumn(OutlierMixin, BaseEstimator):
    """The first column is the score: the threshold search without a detector's own noise."""

    def fit(self, X, y=None, weight=None):
        self.n_fitted_ = len(X)
        self.weight_ = weight
        assert weight is None or len(weight) == len(X)
        return self

    def decision_function(self, X):
        return np.asarray(X)[:, 0]


@pytest.fixture(scope="module")
def parts():
    """100 good and 20 defective rows; four rows share a group (one part), shuffled."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(100, 3)), rng.normal(3.0, 1.0, size=(20, 3))])
    y = np.array([1] * 100 + [-1] * 20)
    groups = np.repeat(np.arange(30), 4)
    order = rng.permutation(120)
    return X[order], y[order], groups[order]


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


# --- OneClassSplit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cv",
    [
        4,
        StratifiedKFold(4, shuffle=True, random_state=0),
        StratifiedGroupKFold(4),
        RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0),
    ],
)
def test_one_class_split_drops_defects_from_training_only(cv, parts):
    X, y, groups = parts
    groups = groups if isinstance(cv, StratifiedGroupKFold) else None
    inner = StratifiedKFold(4) if cv == 4 else cv
    split = OneClassSplit(cv)
    got = list(split.split(X, y, groups))
    assert len(got) == split.get_n_splits(X, y, groups) == 4
    for (train, test), (inner_train, inner_test) in zip(
        got, inner.split(X, y, groups), strict=True
    ):
        np.testing.assert_array_equal(train, inner_train[y[inner_train] == 1])
        np.testing.assert_array_equal(test, inner_test)
        assert set(y[test]) == {1, -1}


@pytest.mark.parametrize("as_generator", [False, True])
def test_one_class_split_takes_lists_and_generators_of_splits(as_generator, parts):
    X, y, _ = parts
    splits = list(StratifiedKFold(3).split(X, y))
    cv = OneClassSplit(iter(splits) if as_generator else splits)
    assert cv.get_n_splits() == 3
    for _ in range(2):
        assert [len(test) for _, test in cv.split(X, y)] == [40, 40, 40]
    pickle.loads(pickle.dumps(cv))


def test_one_class_split_shows_what_it_wraps_and_counts_groups(parts):
    X, y, groups = parts
    assert repr(OneClassSplit(3)) == "OneClassSplit(cv=3, pos_label=None)"
    assert OneClassSplit(LeaveOneGroupOut()).get_n_splits(X, y, groups) == 30
    with pytest.raises(TypeError):
        OneClassSplit(3, 1)


def test_one_class_split_with_other_labels(parts):
    X, y, _ = parts
    words = np.where(y == 1, "good", "bad")
    expected = list(OneClassSplit(3).split(X, y))
    for (train, test), (train_words, test_words) in zip(
        expected, OneClassSplit(3, pos_label="bad").split(X, words), strict=True
    ):
        np.testing.assert_array_equal(train, train_words)
        np.testing.assert_array_equal(test, test_words)


def test_one_class_split_says_what_is_wrong(parts):
    X, y, _ = parts
    with pytest.raises(ValueError, match="needs y to tell good"):
        next(OneClassSplit(3).split(X))
    with pytest.raises(ValueError, match=r"\+1 for good and -1"):
        next(OneClassSplit(3).split(X, (y == -1).astype(int)))
    with pytest.raises(ValueError, match="training part of fold 0 has no good image"):
        list(OneClassSplit([(np.flatnonzero(y == -1), np.arange(120))]).split(X, y))
    order = np.argsort(-y, kind="stable")
    with pytest.warns(UserWarning, match="Test fold 0 has no defect"):
        next(OneClassSplit(KFold(6)).split(X[order], y[order]))
    with pytest.warns(UserWarning, match="Test fold 5 has no good image"):
        list(OneClassSplit([*[(order[:50], order)] * 5, (order[:50], order[-5:])]).split(X, y))


def test_one_class_split_accepts_good_images_alone(parts):
    X, y, _ = parts
    good = X[y == 1]
    assert len(list(OneClassSplit(3).split(good, np.ones(len(good))))) == 3


@pytest.mark.parametrize("name", DETECTORS)
def test_one_class_split_in_cross_validate_and_search(name, parts):
    X, y, groups = parts
    cv = OneClassSplit(StratifiedGroupKFold(3))
    result = cross_validate(DETECTORS[name], X, y, groups=groups, cv=cv, scoring="roc_auc")
    assert result["test_score"].min() > 0.8
    search = GridSearchCV(
        make_pipeline(FunctionTransformer(), DETECTORS[name]),
        {"functiontransformer__func": [None, np.abs]},
        scoring="roc_auc",
        cv=cv,
    ).fit(X, y, groups=groups)
    assert search.best_score_ > 0.8


def test_groups_reach_the_wrapped_splitter_with_metadata_routing(routing, parts):
    X, y, groups = parts
    cv = OneClassSplit(StratifiedGroupKFold(3))
    result = cross_validate(
        FOREST, X, y, params={"groups": groups}, cv=cv, scoring="roc_auc", return_indices=True
    )
    for train, test in zip(*result["indices"].values(), strict=True):
        assert not set(groups[train]) & set(groups[test])
    search = GridSearchCV(FOREST, {"max_samples": [0.5]}, scoring="roc_auc", cv=cv)
    assert search.fit(X, y, groups=groups).best_score_ > 0.8
    assert OneClassSplit(3).get_metadata_routing() is not None


# --- TunedThresholdDetector: choosing --------------------------------------------------------


def brute_force(metric, y, scores, candidates):
    """Return the best value over folds, threshold by threshold and fold by fold."""
    return max(
        np.mean(
            [metric(y_f, np.where(s_f >= t, 1, -1)) for y_f, s_f in zip(y, scores, strict=True)]
        )
        for t in candidates
    )


def f1_of_defects(y, predictions):
    return f1_score(y, predictions, pos_label=-1, zero_division=0.0)


def cost_of(y, predictions):
    missed, false_alarms = (y == -1) & (predictions == 1), (y == 1) & (predictions == -1)
    return -np.mean(500.0 * missed + 20.0 * false_alarms)


labelled_scores = st.lists(
    st.tuples(st.integers(-6, 6), st.sampled_from([1, -1])), min_size=8, max_size=40
).filter(lambda rows: all([label for _, label in rows].count(v) >= 4 for v in (1, -1)))


@settings(max_examples=40, deadline=None)
@given(rows=labelled_scores, n_folds=st.sampled_from(["prefit", 2]))
@pytest.mark.parametrize(
    ("objective", "metric"),
    [
        ({"scoring": "f1"}, f1_of_defects),
        (
            {"scoring": "balanced_accuracy"},
            lambda y, p: get_scorer_value("balanced_accuracy", y, p),
        ),
        ({"scoring": "accuracy"}, lambda y, p: np.mean(y == p)),
        ({"costs": COSTS}, cost_of),
    ],
)
def test_the_threshold_is_the_best_of_all(objective, metric, rows, n_folds):
    X = np.array([[score / 3] for score, _ in rows])
    y = np.array([label for _, label in rows])
    detector = FirstColumn()
    cv = "prefit" if n_folds == "prefit" else StratifiedKFold(2)
    if cv == "prefit":
        detector.fit(X)
        folds = [np.arange(len(y))]
    else:
        folds = [test for _, test in cv.split(X, y)]
    tuned = TunedThresholdDetector(detector, cv=cv, thresholds=1000, **objective).fit(X, y)
    fold_y, fold_scores = [y[f] for f in folds], [X[f, 0] for f in folds]
    everything = np.append(np.unique(X), 100.0)
    best = brute_force(metric, fold_y, fold_scores, everything)
    assert tuned.best_score_ == pytest.approx(best)
    reached = brute_force(metric, fold_y, fold_scores, [tuned.best_threshold_])
    assert reached == pytest.approx(best)


def get_scorer_value(name, y, predictions):
    return get_scorer(name)._score_func(y, predictions)


@settings(max_examples=60, deadline=None)
@given(rows=labelled_scores, share=st.floats(0.21, 0.79))
def test_targets_are_met_and_cannot_be_met_better(rows, share):
    X = np.array([[score / 3] for score, _ in rows])
    y = np.array([label for _, label in rows])
    good, defects = X[y == 1, 0], X[y == -1, 0]
    detector = FirstColumn().fit(X)

    tuned = TunedThresholdDetector(detector, max_false_alarm_rate=share, cv="prefit").fit(X, y)
    k = int(np.floor(share * (good.size + 1)))
    assert tuned.best_threshold_ == np.sort(good)[k - 1]
    assert tuned.best_score_ == pytest.approx(np.mean(defects < tuned.best_threshold_))

    tuned = TunedThresholdDetector(detector, min_recall=share, cv="prefit").fit(X, y)
    k = int(np.floor((1 - share) * (defects.size + 1) + 1e-9))
    to_find = np.sort(defects)[-k]
    assert tuned.best_threshold_ > to_find
    between = X[(to_find < X) & (tuned.best_threshold_ > X)]
    assert between.size == 0
    assert tuned.best_score_ == pytest.approx(np.mean(good >= tuned.best_threshold_))


@pytest.mark.parametrize("rate", [0.05, 0.1])
@pytest.mark.parametrize("n_good", [20, 57])
def test_false_alarm_rate_holds_on_unseen_good_images(rate, n_good):
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(600):
        X = rng.gamma(2.0, size=(n_good + 200, 1))
        tuned = TunedThresholdDetector(
            FirstColumn().fit(X), max_false_alarm_rate=rate, cv="prefit"
        ).fit(X[:n_good])
        rates.append(np.mean(tuned.predict(X[n_good:]) == -1))
    k = np.floor(rate * (n_good + 1) + 1e-9)
    expected = k / (n_good + 1)
    assert expected <= rate
    assert np.mean(rates) == pytest.approx(expected, abs=4 * np.std(rates) / np.sqrt(600))


def test_recall_holds_on_unseen_defects():
    rng = np.random.default_rng(1)
    recalls = []
    for _ in range(600):
        X = rng.normal(size=(260, 1))
        y = np.array([1] * 10 + [-1] * 250)
        tuned = TunedThresholdDetector(FirstColumn().fit(X), min_recall=0.9, cv="prefit")
        tuned.fit(X[:60], y[:60])
        recalls.append(np.mean(tuned.predict(X[60:]) == -1))
    assert np.mean(recalls) > 0.9 - 4 * np.std(recalls) / np.sqrt(600)
    assert np.mean(recalls) < 0.93


@pytest.mark.parametrize(
    ("cv", "refit"),
    [
        (0.5, False),
        (5, True),
        (RepeatedStratifiedKFold(n_splits=4, n_repeats=3, random_state=0), True),
    ],
)
def test_false_alarm_rate_of_a_trained_detector(cv, refit):
    rng = np.random.default_rng(2)
    rates = []
    for _ in range(15):
        X = rng.normal(size=(700, 2))
        tuned = TunedThresholdDetector(
            LocalOutlierFactor(novelty=True), max_false_alarm_rate=0.1, cv=cv, refit=refit
        ).fit(X[:200])
        rates.append(np.mean(tuned.predict(X[200:]) == -1))
    assert np.mean(rates) == pytest.approx(0.1, abs=0.025)


@pytest.mark.parametrize("routed", [False, True])
@pytest.mark.parametrize(("cv", "n_folds"), [(None, 5), (3, 3), (0.3, 1)])
def test_folds_made_here_hold_whole_groups(routed, cv, n_folds):
    groups = np.repeat(np.arange(30), 3)
    X = groups[:, np.newaxis].astype(float)
    folds = []

    class Recording(IsolationForest):
        def fit(self, X, y=None):
            self.trained_on_ = set(X[:, 0])
            return super().fit(X)

        def score_samples(self, X):
            if not set(X[:, 0]) <= self.trained_on_:
                folds.append((set(X[:, 0]), self.trained_on_))
            return super().score_samples(X)

    with sklearn.config_context(enable_metadata_routing=routed):
        forest = Recording(random_state=0)
        tuned = TunedThresholdDetector(forest, max_false_alarm_rate=0.2, cv=cv, random_state=0)
        tuned.fit(X, groups=groups)
    assert len(folds) == n_folds
    assert not any(tested & trained for tested, trained in folds)


@pytest.mark.parametrize("cv", [2, 0.5, GroupKFold(2)])
def test_a_detector_that_takes_groups_gets_them(cv):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(24), 2)
    y = np.where(groups < 4, -1, 1)
    images = rng.integers(90, 110, (48, 8, 8)).astype(np.uint8)
    images[y == -1, :3] = 200
    seen = []

    class Recording(TextureDetector):
        def fit(self, X, y=None, groups=None):
            seen.append((len(X), groups))
            return super().fit(X, y, groups)

    recording = Recording(contamination=0.1)
    for detector in (recording, make_pipeline(FunctionTransformer(), recording)):
        seen.clear()
        TunedThresholdDetector(detector, cv=cv).fit(images, y, groups=groups)
        assert seen[-1][0] == 40 and set(seen[-1][1]) == set(range(4, 24))
        for n, of_fold in seen:
            assert len(of_fold) == n and not set(of_fold) & set(range(4))
    # A detector that takes none gets none, and one that is fitted already is not fitted again.
    rows = images.reshape(48, -1)
    TunedThresholdDetector(FOREST, cv=cv).fit(rows, y, groups=groups)
    fitted = clone(recording).fit(images[8:])
    TunedThresholdDetector(fitted, cv="prefit").fit(images, y, groups=groups)


def test_a_promise_counts_groups_in_the_place_of_images():
    X = np.random.default_rng(0).normal(size=(48, 1))
    groups = np.repeat(np.arange(12), 4)
    tuned = TunedThresholdDetector(FirstColumn(), max_false_alarm_rate=0.05)
    tuned.fit(X)  # 48 images can promise it
    with pytest.raises(ValueError, match="12 groups of good images cannot promise"):
        tuned.fit(X, groups=groups)
    y = np.where(groups < 4, -1, 1)
    tuned = TunedThresholdDetector(FirstColumn(), min_recall=0.9, cv=2)
    tuned.fit(X, y)
    with pytest.raises(ValueError, match="4 groups of defects cannot promise"):
        tuned.fit(X, y, groups=groups)


@pytest.mark.parametrize("routed", [False, True])
def test_groups_count_where_the_detector_is_fitted_already(routed):
    X = np.arange(40.0)[:, np.newaxis]
    groups = np.repeat(np.arange(20), 2)
    detector = FirstColumn().fit(X)
    with sklearn.config_context(enable_metadata_routing=routed):
        tuned = TunedThresholdDetector(detector, max_false_alarm_rate=0.2, cv="prefit")
        tuned.fit(X, groups=groups)
    # Of 20 groups, floor(0.2 * 21) = 4: the first image that three whole groups are below.
    assert tuned.offset_ == 6.0


def test_groups_count_under_the_name_that_a_splitter_asks_for_them():
    X = np.random.default_rng(0).normal(size=(48, 1))
    groups = np.repeat(np.arange(12), 4)
    with sklearn.config_context(enable_metadata_routing=True):
        cv = GroupKFold(3).set_split_request(groups="part")
        tuned = TunedThresholdDetector(FirstColumn(), max_false_alarm_rate=0.05, cv=cv)
        with pytest.raises(ValueError, match="12 groups of good images cannot promise"):
            tuned.fit(X, part=groups)
        texture = TextureDetector(contamination=0.1).set_fit_request(groups="part")
        for cv in (2, "prefit"):
            detector = texture.fit(X[..., np.newaxis]) if cv == "prefit" else texture
            tuned = TunedThresholdDetector(detector, max_false_alarm_rate=0.05, cv=cv)
            with pytest.raises(ValueError, match="12 groups of good images cannot promise"):
                tuned.fit(X[..., np.newaxis], part=groups)


@pytest.mark.parametrize(
    "warned",
    [
        lambda X: TunedThresholdDetector(FirstColumn(), cv=2).fit(X[:6]),
        lambda X: TunedThresholdDetector(FirstColumn(), cv=2).fit(X, np.arange(20) % 3),
        lambda X: TextureDetector().fit(X[:10, :, np.newaxis]),
    ],
)
def test_warnings_are_of_the_line_that_called(warned):
    X = np.arange(20.0)[:, np.newaxis]
    with pytest.warns(UserWarning) as caught:
        warned(X)
    assert {one.filename for one in caught} == {__file__}


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=8, max_size=40),
    seed=st.integers(0, 1000),
    rate=st.sampled_from([0.12, 0.2, 0.35]),
)
def test_images_of_a_group_have_the_weight_of_one(sizes, seed, rate):
    rng = np.random.default_rng(seed)
    X = np.concatenate([rng.normal() + 0.3 * rng.normal(size=(size, 1)) for size in sizes])
    groups = np.repeat(np.arange(len(sizes)), sizes)
    detector = FirstColumn().fit(X)
    tuned = TunedThresholdDetector(detector, max_false_alarm_rate=rate, cv="prefit")
    threshold = tuned.fit(X, groups=groups).offset_
    allowed = int(rate * (len(sizes) + 1) + 1e-9) - 1

    def groups_below(threshold):
        return sum((X[groups == group] < threshold).mean() for group in np.unique(groups))

    assert groups_below(threshold) <= allowed + 1e-6
    assert groups_below(np.nextafter(threshold, np.inf)) > allowed


def test_repeated_splits_do_not_count_images_twice():
    X = np.random.default_rng(0).normal(size=(12, 1))
    cv = RepeatedStratifiedKFold(n_splits=3, n_repeats=10, random_state=0)
    tuned = TunedThresholdDetector(FirstColumn(), max_false_alarm_rate=0.05, cv=cv)
    with pytest.raises(ValueError, match="12 good images cannot promise"):
        tuned.fit(X)
    tuned.set_params(max_false_alarm_rate=0.1).fit(X)
    assert tuned.best_threshold_ == X.min()


@pytest.mark.parametrize(
    ("params", "n_needed"),
    [({"max_false_alarm_rate": 0.01}, 99), ({"min_recall": 0.98}, 49)],
)
def test_too_few_images_for_the_promise(params, n_needed):
    X = np.random.default_rng(0).normal(size=(40, 1))
    y = np.array([1] * 20 + [-1] * 20)

    class Untrained(FirstColumn):
        def fit(self, X, y=None):
            raise AssertionError("found before the training")

    with pytest.raises(ValueError, match=f"20 .* cannot promise.*at least {n_needed} are needed"):
        TunedThresholdDetector(Untrained(), **params).fit(X, y)
    X, y = np.tile(X[:1], (2 * n_needed, 1)), np.repeat([1, -1], n_needed)
    rng = np.random.default_rng(0)
    X = X + rng.normal(size=X.shape)
    assert TunedThresholdDetector(FirstColumn(), **params).fit(X, y)
    with pytest.raises(ValueError, match="cannot promise"):
        TunedThresholdDetector(FirstColumn(), **params).fit(X[1:-1], y[1:-1])


def test_costs_follow_the_prices_and_the_defect_rate(parts):
    X, y, _ = parts

    def threshold(**costs):
        return TunedThresholdDetector(FOREST, costs=costs).fit(X, y).best_threshold_

    cheap_alarms = threshold(missed_defect=100, false_alarm=1)
    dear_alarms = threshold(missed_defect=1, false_alarm=100)
    assert cheap_alarms > dear_alarms
    rare = threshold(missed_defect=100, false_alarm=1, defect_rate=1e-4)
    assert rare < cheap_alarms
    free = TunedThresholdDetector(FOREST, costs={"missed_defect": 0, "false_alarm": 0}).fit(X, y)
    assert free.best_score_ == 0


def test_scorers_see_defects_as_positive(parts):
    X, y, _ = parts
    unset = TunedThresholdDetector(FOREST, scoring=make_scorer(fbeta_score, beta=2)).fit(X, y)
    given = TunedThresholdDetector(
        FOREST, scoring=make_scorer(fbeta_score, beta=2, pos_label=-1)
    ).fit(X, y)
    good = TunedThresholdDetector(
        FOREST, scoring=make_scorer(fbeta_score, beta=2, pos_label=1)
    ).fit(X, y)
    assert unset.best_threshold_ == given.best_threshold_ > good.best_threshold_
    # With labels of their own, users name the positive class among these.
    zero_one = (y == -1).astype(int)
    for scoring in (
        "f1",
        make_scorer(f1_score, pos_label=1),
        make_detection_scorer("f1", pos_label=1),
    ):
        told = TunedThresholdDetector(FOREST, scoring=scoring, pos_label=1).fit(X, zero_one)
        expected = TunedThresholdDetector(FOREST, scoring="f1").fit(X, y)
        assert told.best_threshold_ == expected.best_threshold_
    # Where the scorer names none, or the labels that the metric is called with, defects are meant.
    words = np.where(y == -1, "bad", "ok")
    f1 = TunedThresholdDetector(FOREST, scoring="f1").fit(X, y)
    for scoring in (make_detection_scorer("f1"), make_scorer(f1_score, pos_label=-1)):
        told = TunedThresholdDetector(FOREST, scoring=scoring, pos_label="bad").fit(X, words)
        assert told.best_threshold_ == f1.best_threshold_
    of_good = TunedThresholdDetector(
        FOREST, scoring=make_scorer(fbeta_score, beta=2, pos_label="ok"), pos_label="bad"
    )
    assert of_good.fit(X, words).best_threshold_ == good.best_threshold_
    typo = TunedThresholdDetector(
        FOREST, scoring=make_scorer(f1_score, pos_label="bda"), pos_label="bad"
    )
    with pytest.raises(ValueError, match="positive class is 'bda', but the labels are 'bad', 'ok'"):
        typo.fit(X, words)
    macro = TunedThresholdDetector(FOREST, scoring="f1_macro").fit(X, y)
    assert 0.5 < macro.best_score_ <= 1

    def errors(y_true, y_pred):
        assert set(np.unique(y_true)) == {1, -1}
        return np.sum(y_true != y_pred)

    tuned = TunedThresholdDetector(FOREST, scoring=make_scorer(errors, greater_is_better=False))
    accuracy = TunedThresholdDetector(FOREST, scoring="accuracy").fit(X, y)
    assert tuned.fit(X, y).best_threshold_ == accuracy.best_threshold_


def test_given_thresholds_are_the_only_candidates(parts):
    X, y, _ = parts
    grid = [-0.7, -0.5, -0.6]
    tuned = TunedThresholdDetector(FOREST, thresholds=grid, store_cv_results=True).fit(X, y)
    np.testing.assert_array_equal(tuned.cv_results_["thresholds"], sorted(grid))
    assert tuned.best_threshold_ in grid
    assert tuned.best_score_ == tuned.cv_results_["scores"].max()
    for params in ({"max_false_alarm_rate": 0.05}, {"min_recall": 0.9}):
        assert TunedThresholdDetector(FOREST, thresholds=np.linspace(-0.9, -0.3, 50), **params).fit(
            X, y
        ).best_threshold_ in np.linspace(-0.9, -0.3, 50)
    with pytest.raises(ValueError, match="None of the given thresholds meets max_false"):
        TunedThresholdDetector(FOREST, thresholds=[0.0], max_false_alarm_rate=0.05).fit(X, y)
    with pytest.raises(ValueError, match="None of the given thresholds meets min_recall"):
        TunedThresholdDetector(FOREST, thresholds=[-2.0], min_recall=0.9).fit(X, y)
    for bad in ([], [np.nan]):
        with pytest.raises(ValueError, match="finite values"):
            TunedThresholdDetector(FOREST, thresholds=bad).fit(X, y)


def test_cv_results_are_the_pooled_rates():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 1)), np.array([1] * 380 + [-1] * 20)
    tuned = TunedThresholdDetector(
        FirstColumn().fit(X), thresholds=30, cv="prefit", store_cv_results=True
    ).fit(X, y)
    results = tuned.cv_results_
    assert len(results["thresholds"]) <= 30
    assert np.all(np.diff(results["thresholds"]) > 0)
    np.testing.assert_allclose(
        results["false_alarm_rate"], [np.mean(X[y == 1] < t) for t in results["thresholds"]]
    )
    np.testing.assert_allclose(
        results["recall"], [np.mean(X[y == -1] < t) for t in results["thresholds"]]
    )
    # Defects are 5 % of the images, and about half of the candidates lie at their ranks.
    assert len(np.unique(results["recall"])) >= 12
    tuned.set_params(max_false_alarm_rate=0.1, cv=3).fit(X[:380])
    assert set(tuned.cv_results_) == {"thresholds", "false_alarm_rate"}
    assert tuned.best_score_ is None


def test_neighbouring_floats_are_told_apart():
    X = np.array([[1.0], [np.nextafter(1.0, 2)], [1.0], [np.nextafter(1.0, 2)]])
    y = np.array([-1, 1, -1, 1])
    tuned = TunedThresholdDetector(FirstColumn().fit(X), cv="prefit").fit(X, y)
    np.testing.assert_array_equal(tuned.predict(X), y)


# --- TunedThresholdDetector: labels and errors -----------------------------------------------


def test_no_objective_uses_f1_or_the_default_false_alarm_rate(parts):
    X, y, _ = parts
    f1 = TunedThresholdDetector(FOREST, scoring="f1").fit(X, y)
    assert TunedThresholdDetector(FOREST).fit(X, y).best_threshold_ == f1.best_threshold_
    good = X[y == 1]
    rate = TunedThresholdDetector(FOREST, max_false_alarm_rate=0.05).fit(good)
    for labels in (None, np.ones(100)):
        default = TunedThresholdDetector(FOREST).fit(good, labels)
        assert default.best_threshold_ == rate.best_threshold_
    with pytest.warns(UserWarning, match="12 good images cannot promise the default rate"):
        few = TunedThresholdDetector(FOREST, cv=3).fit(good[:12])
    assert few.best_score_ is None
    X = np.arange(12.0)[:, np.newaxis]
    with pytest.warns(UserWarning, match=r"smallest rate they can promise"):
        few = TunedThresholdDetector(FirstColumn().fit(X), cv="prefit").fit(X)
    assert few.best_threshold_ == 0  # none of these is called a defect


@pytest.mark.parametrize(
    "params",
    [{"scoring": "f1"}, {"costs": COSTS}, {"min_recall": 0.9}, {"max_false_alarm_rate": 0.1}],
)
def test_labels_of_another_convention(params, parts):
    X, y, _ = parts
    zero_one = (y == -1).astype(int)
    with pytest.raises(ValueError, match=r"\+1 for good and -1 for a defect"):
        TunedThresholdDetector(FOREST, **params).fit(X, zero_one)
    expected = TunedThresholdDetector(FOREST, **params).fit(X, y)
    told = TunedThresholdDetector(FOREST, pos_label=1, **params).fit(X, zero_one)
    assert told.best_threshold_ == expected.best_threshold_
    words = np.where(y == 1, "ok", "bad").tolist()
    told = TunedThresholdDetector(FOREST, pos_label="bad", **params).fit(X.tolist(), words)
    assert told.best_threshold_ == expected.best_threshold_
    splitter = OneClassSplit(StratifiedKFold(5), pos_label="bad")
    told.set_params(cv=splitter).fit(X, words)
    assert told.best_threshold_ == expected.best_threshold_


def test_without_an_objective_other_labels_are_ignored_with_a_warning(parts):
    X, y, _ = parts
    with pytest.warns(UserWarning, match="y is ignored .* pos_label=1 if 1 marks a defect"):
        ignored = TunedThresholdDetector(FOREST).fit(X, (y == -1).astype(int))
    assert ignored.best_threshold_ == TunedThresholdDetector(FOREST).fit(X).best_threshold_
    with pytest.raises(ValueError, match="pos_label"):
        TunedThresholdDetector(FOREST, pos_label="bad").fit(X, (y == -1).astype(int))


def test_wrong_use_is_explained(parts):
    X, y, _ = parts
    order = np.argsort(-y, kind="stable")
    cases = [
        ({"scoring": "f1", "min_recall": 0.9}, y, "one objective, not 2: scoring and min_recall"),
        ({"scoring": "f1"}, np.ones(120), "needs defects .* max_false_alarm_rate.* OneClassSplit"),
        ({"min_recall": 0.9}, None, "min_recall=0.9 needs defects"),
        ({"scoring": "f1"}, -np.ones(120), "no good image"),
        ({"scoring": "roc_auc"}, y, "the same for every threshold"),
        ({"costs": {"missed": 1, "false_alarm": 2}}, y, "keys 'missed_defect'"),
        ({"costs": {"missed_defect": -1, "false_alarm": 2}}, y, "number >= 0"),
        ({"costs": {**COSTS, "defect_rate": 5}}, y, "between 0 and 1"),
        ({"refit": False}, y, "single split, but cv gives 5"),
        ({"max_false_alarm_rate": 1.0}, y, "max_false_alarm_rate"),
    ]
    for params, labels, message in cases:
        with pytest.raises(ValueError, match=message):
            TunedThresholdDetector(FOREST, **params).fit(X, labels)
    for cv, message in ((KFold(6), "Fold 0 has no defect"),):
        with pytest.raises(ValueError, match=message):
            TunedThresholdDetector(FOREST, cv=cv).fit(X[order], y[order])
    with pytest.raises(ValueError, match="Fold 0 has no good image"):
        TunedThresholdDetector(FOREST, cv=[(order[:90], order[110:])]).fit(X, y)
    with pytest.raises(TypeError, match="make_scorer"):
        TunedThresholdDetector(FOREST, scoring=lambda e, X, y: 1.0).fit(X, y)
    with pytest.raises(ValueError, match="nan or infinity for some"):
        nan = make_scorer(lambda y_true, y_pred: np.nan)
        TunedThresholdDetector(FOREST, scoring=nan).fit(X, y)
    with pytest.raises(TypeError, match="novelty=True"):
        TunedThresholdDetector(LocalOutlierFactor()).fit(X, y)
    with pytest.raises(NotFittedError, match="prefit"):
        TunedThresholdDetector(FOREST, cv="prefit").fit(X, y)
    with pytest.raises(NotFittedError):
        TunedThresholdDetector(FOREST).predict(X)


def test_scores_that_are_not_finite_are_refused(parts):
    X, y, _ = parts
    X = X.copy()
    X[3, 0] = np.inf
    with pytest.raises(ValueError, match="nan or infinite scores for 1 of 120 images"):
        TunedThresholdDetector(FirstColumn().fit(X), cv="prefit").fit(X, y)


# --- TunedThresholdDetector: as an estimator -------------------------------------------------


@parametrize_with_checks(
    [
        TunedThresholdDetector(IsolationForest(n_estimators=5), random_state=0),
        TunedThresholdDetector(LocalOutlierFactor(n_neighbors=3, novelty=True)),
        TunedThresholdDetector(
            make_pipeline(StandardScaler(), LocalOutlierFactor(n_neighbors=3, novelty=True)), cv=3
        ),
    ]
)
@pytest.mark.filterwarnings("ignore:y is ignored", "ignore:.*cannot promise the default rate")
def test_check_estimator(estimator, check):
    check(estimator)


def test_check_estimator_covers_the_outlier_checks():
    names = {
        check.func.__name__
        for _, check in estimator_checks_generator(TunedThresholdDetector(FOREST))
    }
    assert {"check_outliers_train", "check_outliers_fit_predict"} <= names


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"scoring": "balanced_accuracy"},
        {"costs": COSTS},
        {"max_false_alarm_rate": 0.05},
        {"min_recall": 0.9},
    ],
)
def test_it_detects_with_every_objective(name, params, parts):
    X, y, _ = parts
    tuned = TunedThresholdDetector(DETECTORS[name], **params).fit(X, y)
    predictions = tuned.predict(X)
    assert get_scorer_value("balanced_accuracy", y, predictions) > 0.75
    np.testing.assert_array_equal(predictions == 1, tuned.decision_function(X) >= 0)
    np.testing.assert_allclose(tuned.decision_function(X), tuned.score_samples(X) - tuned.offset_)
    np.testing.assert_array_equal(tuned.score_samples(X), tuned.detector_.score_samples(X))
    assert tuned.offset_ == tuned.best_threshold_
    assert tuned.n_features_in_ == 3
    again = pickle.loads(pickle.dumps(tuned))
    np.testing.assert_array_equal(again.decision_function(X), tuned.decision_function(X))
    in_two = clone(tuned).set_params(n_jobs=2).fit(X, y)
    assert in_two.best_threshold_ == tuned.best_threshold_


def test_prefit_does_not_train(parts):
    X, y, _ = parts
    fitted = clone(FOREST).fit(X[:60][y[:60] == 1])
    tuned = TunedThresholdDetector(fitted, cv="prefit").fit(X[60:], y[60:])
    assert tuned.detector_ is fitted


def test_a_holdout_keeps_its_detector(parts):
    X, y, _ = parts
    tuned = TunedThresholdDetector(FirstColumn(), cv=0.25, refit=False, random_state=0).fit(X, y)
    assert tuned.detector_.n_fitted_ == 75
    tuned.set_params(refit=True).fit(X, y)
    assert tuned.detector_.n_fitted_ == 100


def test_random_state_seeds_the_detector_where_it_is_not_seeded(parts):
    X, y, _ = parts
    scores = [
        TunedThresholdDetector(make_pipeline(IsolationForest(n_estimators=5)), random_state=seed)
        .fit(X, y)
        .decision_function(X)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
    own = TunedThresholdDetector(FOREST, random_state=7).fit(X, y)
    assert own.detector_.random_state == 0


def test_scores_come_from_the_named_method(parts):
    X, y, _ = parts
    svm = OneClassSVM(nu=0.1, gamma=0.1)
    with pytest.warns(UserWarning, match="not comparable with those of the folds"):
        TunedThresholdDetector(svm, scoring="f1").fit(X, y)
    tuned = TunedThresholdDetector(svm, scoring="f1", response_method="decision_function")
    tuned.fit(X, y)
    np.testing.assert_allclose(tuned.score_samples(X), tuned.detector_.decision_function(X))
    assert f1_of_defects(y, tuned.predict(X)) > 0.7
    assert not hasattr(
        TunedThresholdDetector(FirstColumn(), response_method="score_samples"), "predict"
    )
    assert hasattr(TunedThresholdDetector(FirstColumn()), "predict")
    assert not hasattr(TunedThresholdDetector(LocalOutlierFactor()), "score_samples")


def test_fit_parameters_are_cut_to_the_training_images(parts):
    X, y, _ = parts
    weight = np.arange(120.0)
    tuned = TunedThresholdDetector(FirstColumn()).fit(X, y, weight=weight)
    np.testing.assert_array_equal(tuned.detector_.weight_, weight[y == 1])


def test_fit_parameters_are_routed(routing, parts):
    X, y, groups = parts
    detector = FirstColumn().set_fit_request(weight=True)
    tuned = TunedThresholdDetector(detector, cv=StratifiedGroupKFold(3))
    tuned.fit(X, y, weight=np.arange(120.0), groups=groups)
    np.testing.assert_array_equal(tuned.detector_.weight_, np.arange(120.0)[y == 1])


def test_groups_are_kept_together(parts):
    X, y, groups = parts
    seen = []

    class Spy(GroupKFold):
        def split(self, X, y=None, groups=None):
            seen.append(groups)
            yield from super().split(X, y, groups)

    TunedThresholdDetector(FOREST, cv=Spy(3), max_false_alarm_rate=0.05).fit(X, y, groups=groups)
    np.testing.assert_array_equal(seen[0], groups)


def test_data_frames_keep_their_names(parts):
    X, y, _ = parts
    frame = pd.DataFrame(X, columns=["mean", "std", "max"])
    tuned = TunedThresholdDetector(DETECTORS["pipeline"]).fit(
        frame, pd.Series(y, index=frame.index)
    )
    assert list(tuned.feature_names_in_) == ["mean", "std", "max"]
    tuned.predict(frame)


def test_set_params_and_a_pipeline_around(parts):
    X, y, _ = parts
    tuned = TunedThresholdDetector(DETECTORS["pipeline"])
    tuned.set_params(detector__isolationforest__n_estimators=7)
    pipeline = make_pipeline(FunctionTransformer(), tuned).fit(X, y)
    assert pipeline[-1].detector_[-1].n_estimators == 7
    assert set(pipeline.predict(X)) == {1, -1}
    predictions = cross_val_predict(tuned, X, y, cv=StratifiedKFold(3))
    assert f1_of_defects(y, predictions) > 0.5


# --- the whole search ------------------------------------------------------------------------


def load(paths):
    """Stand in for ImageLoader: a path names the row it holds."""
    return np.array([[float(value) for value in path.split("_")] for path in paths])


@pytest.fixture(scope="module")
def paths(parts):
    X, y, groups = parts
    return np.array(["_".join(f"{value:.4f}" for value in row) for row in X]), y, groups


def test_threshold_search_from_paths_with_groups_inside_and_outside(routing, paths):
    files, y, groups = paths
    pipeline = make_pipeline(FunctionTransformer(load), FOREST)
    tuned = TunedThresholdDetector(
        pipeline, scoring="f1", cv=OneClassSplit(StratifiedGroupKFold(3))
    )
    search = GridSearchCV(
        tuned,
        {"detector__isolationforest__n_estimators": [5, 10]},
        scoring="balanced_accuracy",
        cv=StratifiedGroupKFold(3),
    ).fit(files, y, groups=groups)
    assert search.best_score_ > 0.75
    assert set(search.predict(files)) == {1, -1}


def test_threshold_search_from_paths_on_good_images(paths):
    files, y, groups = paths
    tuned = TunedThresholdDetector(
        make_pipeline(FunctionTransformer(load), FOREST), max_false_alarm_rate=0.1, cv=3
    )
    search = GridSearchCV(
        tuned,
        {"max_false_alarm_rate": [0.05, 0.1]},
        scoring="balanced_accuracy",
        cv=OneClassSplit(StratifiedGroupKFold(3)),
        n_jobs=2,
    ).fit(files, y, groups=groups)
    assert search.best_score_ > 0.75


def test_f1_inside_one_class_split_says_what_to_do(paths):
    files, y, _ = paths
    tuned = TunedThresholdDetector(make_pipeline(FunctionTransformer(load), FOREST), scoring="f1")
    with (
        warnings.catch_warnings(),
        pytest.raises(ValueError, match="use the splitter that it wraps"),
    ):
        warnings.simplefilter("ignore")
        GridSearchCV(tuned, {"cv": [3]}, scoring="accuracy", cv=OneClassSplit(3)).fit(files, y)


# --- with the package's own detector ---------------------------------------------------------


@pytest.mark.usefixtures("eager_tensorflow")
def test_the_tools_work_with_ncae_detector():
    castings = make_castings(n_good=30, n_defect=12, image_size=24, random_state=0)
    X, y = castings.images, castings.target
    detector = NCAEDetector(
        training="reconstruct", filters=(4,), epochs=1, contamination=0.1, random_state=0
    )
    cv = OneClassSplit(StratifiedKFold(2, shuffle=True, random_state=0))
    tuned = TunedThresholdDetector(detector, cv=cv).fit(X, y)
    np.testing.assert_allclose(tuned.score_samples(X), tuned.detector_.score_samples(X))
    np.testing.assert_array_equal(tuned.predict(X) == 1, tuned.score_samples(X) >= tuned.offset_)
    again = pickle.loads(pickle.dumps(tuned))
    np.testing.assert_array_equal(again.decision_function(X), tuned.decision_function(X))

    fitted = tuned.detector_
    for params in ({"max_false_alarm_rate": 0.1}, {"min_recall": 0.9}, {"costs": COSTS}):
        prefit = TunedThresholdDetector(fitted, cv="prefit", **params).fit(X, y)
        assert set(prefit.predict(X)) == {1, -1}


@pytest.mark.usefixtures("eager_tensorflow")
def test_the_documented_threshold_search_runs(monkeypatch, capsys):
    plt = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(plt, "show", lambda: None)
    names = runpy.run_path(str(EXAMPLE))
    plt.close("all")
    assert names["search"].best_estimator_.detector_.named_steps["load"]
    assert np.isfinite(names["result"]["test_score"]).all()
    assert "at least 99 are needed" in capsys.readouterr().out


@pytest.mark.parametrize("defect_rate", [None, 0.01, 0.5])
def test_cost_offset_is_the_cheapest_of_all(defect_rate):
    rng = np.random.default_rng(0)
    y = np.repeat([1, -1], [40, 10])
    scores = np.round(rng.normal(size=50) + (y == 1), 1)
    costs = {"missed_defect": 7, "false_alarm": 2}
    share = 0.2
    if defect_rate is not None:
        costs["defect_rate"] = share = defect_rate

    def cost(offset):
        missed, alarms = np.mean(scores[y == -1] >= offset), np.mean(scores[y == 1] < offset)
        return share * 7 * missed + (1 - share) * 2 * alarms

    offset, lowest = cost_offset(y, scores, costs)
    assert cost_offset(y == -1, scores, costs, pos_label=True) == (offset, lowest)
    offsets = np.arange(-6, 6, 0.05)
    costs_of = np.array([cost(candidate) for candidate in offsets])
    assert lowest == pytest.approx(cost(offset)) == pytest.approx(costs_of.min())
    cheapest = offsets[np.isclose(costs_of, lowest)][0]  # the one with the fewest alarms
    assert np.sum(scores < offset) == np.sum(scores < cheapest)


@pytest.mark.parametrize(
    ("y", "scores", "message"),
    [
        ([1, 1], [0, 1], "no defective images"),
        ([1, -1], [0, np.nan], "NaN"),
        ([1, -1], [0], "incons"),
    ],
)
def test_cost_offset_refuses(y, scores, message):
    with pytest.raises(ValueError, match=message):
        cost_offset(y, scores, {"missed_defect": 7, "false_alarm": 2})


def test_fit_predict_fits_to_the_labels():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(100, 2)), rng.normal(6, 1, (30, 2))])
    y = np.repeat([1, -1], [100, 30])
    tuned = TunedThresholdDetector(IsolationForest(random_state=0), random_state=0)
    np.testing.assert_array_equal(tuned.fit_predict(X, y), tuned.fit(X, y).predict(X))
    assert np.mean(tuned.fit_predict(X, y) == y) > 0.95


def test_masks_are_splits_too(parts):
    X, y, _ = parts
    masks = [(np.isin(np.arange(len(y)), a), np.isin(np.arange(len(y)), b)) for a, b in halves(y)]
    for (train, test), (of_train, of_test) in zip(
        OneClassSplit(masks).split(X, y), OneClassSplit(halves(y)).split(X, y), strict=True
    ):
        np.testing.assert_array_equal(train, of_train)
        np.testing.assert_array_equal(test, of_test)
    tuned = TunedThresholdDetector(IsolationForest(random_state=0), cv=masks, scoring="f1")
    other = TunedThresholdDetector(IsolationForest(random_state=0), cv=halves(y), scoring="f1")
    assert tuned.fit(X, y).offset_ == other.fit(X, y).offset_


def halves(y):
    rows = np.arange(len(y))
    return [(rows[::2], rows[1::2]), (rows[1::2], rows[::2])]


def test_a_partial_metric_keeps_its_label():
    metric = scorer_metric(make_scorer(partial(f1_score, pos_label=1)))
    assert metric(np.array([1, 1, 1, -1]), np.ones(4, int)) == pytest.approx(6 / 7)


def test_keras_models_are_left_to_keras():
    import keras  # not above: workers import this file, and would load it too

    from sklearn_ncae import KerasReconstructor

    def build(meta):
        images = keras.Input(meta["X_shape_"][1:])
        return keras.Model(images, keras.layers.Conv2D(1, 3, padding="same")(images))

    reconstructor = KerasReconstructor(build, loss="mse", optimizer="sgd", epochs=1)
    seeded = seeded_clone(ResidualDetector(reconstructor), 0)
    assert seeded.random_state is not None and seeded.reconstructor.random_state is None


def test_a_scorer_may_name_the_good_images_where_labels_are_the_users_own(parts):
    X, y, _ = parts
    zero_one = (y == -1).astype(int)
    of_good = make_scorer(fbeta_score, beta=2, pos_label=0)
    told = TunedThresholdDetector(FOREST, scoring=of_good, pos_label=1).fit(X, zero_one)
    of_good = make_scorer(fbeta_score, beta=2, pos_label=1)
    expected = TunedThresholdDetector(FOREST, scoring=of_good).fit(X, y)
    assert told.best_threshold_ == expected.best_threshold_


@pytest.mark.parametrize("scoring", ["precision", make_scorer(f1_score, average="macro")])
def test_candidates_that_report_nothing_are_no_reason_to_warn(scoring, parts):
    X, y, _ = parts
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned = TunedThresholdDetector(FOREST, scoring=scoring).fit(X, y)
    assert 0.5 < tuned.best_score_ <= 1


def test_all_parts_may_be_defects_in_production():
    costs = {"missed_defect": 5, "false_alarm": 1, "defect_rate": 1}
    assert cost_offset([1, 1, -1], [3, 1, 2], costs) == (2.5, 0)


def test_few_candidates_do_not_cost_false_alarms():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 1)), np.repeat([1, -1], 50)
    tuned = TunedThresholdDetector(FirstColumn().fit(X), min_recall=0.8, cv="prefit")
    exact = tuned.fit(X, y).best_threshold_
    few = tuned.set_params(thresholds=4).fit(X, y).best_threshold_
    assert np.sum(few > X) == np.sum(exact > X)


def test_one_class_split_makes_five_folds_by_default():
    assert OneClassSplit().get_n_splits() == 5
