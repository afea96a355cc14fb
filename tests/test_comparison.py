import pickle
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import sklearn
from PIL import Image
from scipy import stats
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
)
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_ncae import NCAEDetector, comparison
from sklearn_ncae.baselines import MeanBrightnessDetector, PCAReconstructor, usual_detectors
from sklearn_ncae.images import ImageLoader
from sklearn_ncae.metrics import compare_detectors, detection_scores
from sklearn_ncae.model_selection import TunedThresholdDetector
from sklearn_ncae.texture import TextureDetector

pytestmark = pytest.mark.usefixtures("eager_tensorflow")

FLATTEN = FunctionTransformer(lambda images: np.asarray(images).reshape(len(images), -1))


def make_images(n=60, size=6, seed=0, defect=60.0):
    """Gray images; a third has a bright and a dark spot, which leave the mean as it is."""
    rng = np.random.default_rng(seed)
    images = rng.normal(120, 5, size=(n, size, size))
    y = np.where(np.arange(n) % 3 == 0, -1, 1)
    images[y == -1, 1, 1] += defect
    images[y == -1, 4, 4] -= defect
    return images.astype(np.uint8), y


def forest():
    return make_pipeline(FLATTEN, IsolationForest(n_estimators=20, random_state=0))


def outlier_factor():
    return make_pipeline(FLATTEN, PCA(4), LocalOutlierFactor(n_neighbors=5, novelty=True))


class Shy(OutlierMixin, BaseEstimator):
    """Fails in the step it is told to, or scores at random."""

    def __init__(self, fails="", only_with=None):
        self.fails = fails
        self.only_with = only_with

    def fit(self, X, y=None):
        if self.fails == "fit" and (self.only_with is None or self.only_with in X):
            raise RuntimeError("the oven is cold")
        return self

    def decision_function(self, X):
        if self.fails == "score":
            raise RuntimeError("the lamp is off")
        if self.fails == "nan":
            return np.full(len(X), np.nan)
        return np.random.default_rng(len(X)).normal(size=len(X))


class Oracle(OutlierMixin, BaseEstimator):
    """Reads the score from the first column and remembers what it was fitted on."""

    seen = ()

    def __init__(self, column=0):
        self.column = column

    def fit(self, X, y=None):
        Oracle.seen = (*Oracle.seen, (np.asarray(X), y))
        return self

    def decision_function(self, X):
        return np.asarray(X)[:, self.column]


class TestCompareDetectors:
    def test_table_of_real_detectors(self):
        X, y = make_images()
        detectors = {"forest": forest(), "lof": outlier_factor()}
        seen = []
        table, splits = compare_detectors(
            detectors, X, y, cv=5, random_state=0, return_splits=True, progress=seen.append
        )
        assert [(row["detector"], row["split"]) for row in seen] == [
            (name, split) for name in (*detectors, "mean brightness") for split in range(5)
        ]
        assert set(table.index) == {"forest", "lof", "mean brightness"}
        assert table["roc_auc"].is_monotonic_decreasing
        assert table.index[0] == "lof"
        assert table.loc["lof", "roc_auc"] > 0.95
        assert (table["error"] == "").all()
        assert table.select_dtypes("number").drop(columns="p_value").notna().all(axis=None)
        assert (table[["fit_seconds", "score_ms"]] > 0).all(axis=None)
        assert table["verdict"].iloc[0] == "reference"
        assert table.loc["mean brightness", "verdict"] == "worse"
        assert len(splits) == 15
        for name, rows in splits.groupby("detector"):
            for figure in ("accuracy", "roc_auc", "prc_auc", "f1"):
                assert table.loc[name, figure] == pytest.approx(rows[figure].mean())
                assert table.loc[name, f"{figure}_std"] == pytest.approx(rows[figure].std())

    def test_ncae_among_others(self):
        X, y = make_images(n=24, size=8)
        ncae = NCAEDetector(
            filters=(4,), bottleneck_size=2, epochs=1, false_alarm_rate=0.5, random_state=0
        )
        table = compare_detectors(
            {"ncae": ncae, "lof": outlier_factor()}, X, y, cv=2, random_state=0
        )
        assert (table["error"] == "").all()
        assert np.isfinite(table.loc["ncae", "roc_auc"])

    def test_figures_are_those_of_a_loop_by_hand(self):
        X, y = make_images()
        cv = StratifiedKFold(3)
        _, splits = compare_detectors({"lof": outlier_factor()}, X, y, cv=cv, return_splits=True)
        for split, (train, test) in enumerate(cv.split(X, y)):
            detector = outlier_factor().fit(X[train][y[train] == 1])
            row = splits.set_index(["detector", "split"]).loc[("lof", split)]
            expected = detection_scores(detector, X[test], y[test])
            assert {name: row[name] for name in expected} == pytest.approx(expected)
            assert row["n_fit"] == np.sum(y[train] == 1)
            assert row["n_test"] == test.size

    @pytest.mark.parametrize("fit_on", ["good", "all"])
    def test_fits_on_what_it_says(self, fit_on):
        rng = np.random.default_rng(0)
        y = np.tile([1, 1, -1], 10)
        X = np.column_stack([y + rng.normal(size=30), y])
        Oracle.seen = ()
        compare_detectors({"oracle": Oracle()}, X, y, cv=2, fit_on=fit_on)
        assert len(Oracle.seen) == 2
        for images, labels in Oracle.seen:
            np.testing.assert_array_equal(images[:, 1], labels)
            assert (-1 in labels) == (fit_on == "all")

    def test_processes_give_the_same_figures(self):
        X, y = make_images(n=30)
        detectors = {"lof": LocalOutlierFactor(n_neighbors=5, novelty=True)}
        flat = X.reshape(len(X), -1)
        one, two = (
            compare_detectors(detectors, flat, y, cv=2, random_state=0, n_jobs=n) for n in (1, 2)
        )
        timed = ["fit_seconds", "score_ms"]
        pd.testing.assert_frame_equal(one.drop(columns=timed), two.drop(columns=timed))

    @pytest.mark.parametrize("container", [list, np.array, pd.Series])
    def test_paths(self, tmp_path, container):
        X, y = make_images(n=24)
        paths = []
        for index, image in enumerate(X):
            paths.append(str(tmp_path / f"{index}.png"))
            Image.fromarray(image).save(paths[-1])
        detectors = {"lof": make_pipeline(ImageLoader(), outlier_factor())}
        from_paths = compare_detectors(detectors, container(paths), y, cv=2, random_state=0)
        from_arrays = compare_detectors({"lof": outlier_factor()}, X, y, cv=2, random_state=0)
        assert (from_paths["error"] == "").all()
        columns = ["accuracy", "roc_auc", "prc_auc", "f1"]
        pd.testing.assert_frame_equal(
            from_paths.loc[from_arrays.index, columns], from_arrays[columns]
        )

    def test_own_baseline_takes_the_place(self):
        X, y = make_images(n=30)
        own = {"mean brightness": MeanBrightnessDetector(contamination=0.5)}
        assert list(compare_detectors(own, X, y, cv=2).index) == ["mean brightness"]

    def test_pos_label(self):
        X, y = make_images(n=30)
        flags = (y == -1).astype(int)
        with pytest.raises(ValueError, match=r"\{0, 1\}.*pos_label"):
            compare_detectors({"lof": outlier_factor()}, X, flags)
        first, second = (
            compare_detectors({"lof": outlier_factor()}, X, labels, cv=2, random_state=0, **kwargs)
            for labels, kwargs in ((flags, {"pos_label": 1}), (y, {}))
        )
        assert first.loc["lof", "prc_auc"] == second.loc["lof", "prc_auc"]


class TestFailures:
    @pytest.mark.parametrize(
        ("detector", "message"),
        [
            (Shy("fit"), "split 0, fit: RuntimeError: the oven is cold (and 1 more splits)"),
            (Shy("score"), "split 0, score: RuntimeError: the lamp is off"),
            (Shy("nan"), "split 0, score: ValueError: Input scores contains NaN"),
            (LocalOutlierFactor(), "split 0, fit: ValueError"),
            (FLATTEN, "split 0, score: TypeError: FunctionTransformer is not an outlier detector"),
            ("a string", "split 0, fit: TypeError: Cannot clone"),
        ],
    )
    def test_error_is_in_the_row_and_the_others_go_on(self, detector, message):
        X, y = make_images(n=30)
        detectors = {"bad": detector, "lof": outlier_factor()}
        table = compare_detectors(detectors, X, y, cv=2)
        assert table.index[-1] == "bad"
        assert table.loc["bad", "error"].startswith(message)
        assert table.loc["bad", "verdict"] == "failed"
        assert np.isnan(table.loc["bad", "roc_auc"])
        assert table.loc["lof", "error"] == ""
        assert np.isfinite(table.loc["lof", "roc_auc"])

    def test_one_failed_split_is_enough_to_fail(self):
        X, y = make_images(n=30)
        flat = X.reshape(30, -1).astype(int)
        flat[1, 0] = 999
        table, splits = compare_detectors(
            {"bad": Shy("fit", only_with=999)}, flat, y, cv=StratifiedKFold(3), return_splits=True
        )
        assert (
            table.loc["bad", "error"]
            == "split 1, fit: RuntimeError: the oven is cold (and 1 more splits)"
        )
        assert np.isnan(table.loc["bad", "roc_auc"])
        # What was measured is still there.
        assert splits.query("detector == 'bad'")["roc_auc"].notna().sum() == 1

    def test_failed_reference(self):
        X, y = make_images(n=30)
        table = compare_detectors({"bad": Shy("fit")}, X, y, cv=5, reference="bad")
        assert table.loc["bad", "verdict"] == "failed"
        assert table.loc["mean brightness", "verdict"] == "reference failed"


ORACLES = {"best": Oracle(0), "near": Oracle(1), "noise": Oracle(2)}


class TestVerdict:
    def scores(self, n=100, seed=0):
        rng = np.random.default_rng(seed)
        y = np.tile([1, -1], n // 2)
        good = y + rng.normal(size=n) * 0.5
        near = good + rng.normal(size=n) * 0.05
        return np.column_stack([good, near, rng.normal(size=n)]), y

    def test_against_the_best(self):
        X, y = self.scores()
        table = compare_detectors(ORACLES, X, y, random_state=0)
        # Sorting decides between the two good ones.
        top, second = table.index[:2]
        assert {top, second} == {"best", "near"}
        assert table.loc[top, "verdict"] == "reference"
        assert table.loc[second, "verdict"] == "no clear difference"
        assert table.loc["noise", "verdict"] == "worse"
        assert table.loc["noise", "difference"] == pytest.approx(
            table.loc["noise", "roc_auc"] - table.loc[top, "roc_auc"]
        )

    def test_significance_level_and_seed_decide(self):
        X, y = self.scores(40)
        with_level = partial(compare_detectors, ORACLES, X, y, return_splits=True)
        strict, splits = with_level(significance_level=1e-9, random_state=0)
        lax, _ = with_level(significance_level=0.999, random_state=0)
        second = strict.index[1]
        assert strict.loc["noise", "verdict"] == "no clear difference"
        assert lax.loc["noise", "verdict"] == "worse"
        assert lax.loc[second, "verdict"] in {"worse", "no clear difference"}
        _, others = with_level(random_state=1)
        assert not splits["roc_auc"].equals(others["roc_auc"])

    def test_against_a_named_row_and_another_metric(self):
        X, y = self.scores()
        table = compare_detectors(ORACLES, X, y, random_state=0, reference="noise", metric="f1")
        assert table["f1"].is_monotonic_decreasing
        assert table.loc["noise", "verdict"] == "reference"
        assert table.loc["best", "verdict"] == "better"

    def test_p_value_is_the_corrected_one(self):
        X, y = self.scores()
        table, splits = compare_detectors(
            ORACLES, X, y, cv=5, random_state=0, reference="noise", return_splits=True
        )
        values = splits.pivot(index="split", columns="detector", values="roc_auc")
        d = values["near"] - values["noise"]
        # 5 folds of 100 images: 20 to test, half of the other 80 to fit.
        t = d.mean() / np.sqrt((1 / 5 + 20 / 40) * d.var(ddof=1))
        assert table.loc["near", "p_value"] == pytest.approx(2 * stats.t.sf(abs(t), df=4))
        assert table.loc["near", "p_value"] > stats.ttest_1samp(d, 0).pvalue

    def test_equal_detectors(self):
        X, y = self.scores()
        table = compare_detectors({"a": Oracle(0), "b": Oracle(0)}, X, y, random_state=0)
        assert table.loc["b", "p_value"] == 1
        assert table.loc["b", "verdict"] == "no clear difference"

    def test_constant_difference(self):
        y = np.tile([1, -1], 50)
        table = compare_detectors(
            {"right": Oracle(0), "wrong": Oracle(1)}, np.column_stack([y, -y]), y, random_state=0
        )
        assert table.loc["wrong", "p_value"] == 0
        assert table.loc["wrong", "verdict"] == "worse"

    @pytest.mark.parametrize(
        "cv", [2, 4, ShuffleSplit(1, test_size=0.5, random_state=0)], ids=["2", "4", "1"]
    )
    def test_too_few_splits(self, cv):
        X, y = self.scores()
        table = compare_detectors(ORACLES, X, y, cv=cv, random_state=0)
        assert table.loc["noise", "verdict"] == "too few splits"
        assert table["verdict"].iloc[0] == "reference"


class TestSplits:
    def test_groups_stay_together_with_an_integer_cv(self):
        X, y = make_images()
        groups = np.arange(60) // 3
        _, splits = compare_detectors(
            {"lof": outlier_factor()},
            X,
            y,
            groups=groups,
            cv=4,
            random_state=0,
            return_splits=True,
        )
        expected = StratifiedGroupKFold(4, shuffle=True, random_state=0).split(X, y, groups)
        sizes = splits.query("detector == 'lof'")["n_test"].tolist()
        assert sizes == [test.size for _, test in expected]

    def test_default_cv_is_five_folds(self):
        X, y = make_images()
        _, splits = compare_detectors({}, X, y, cv=None, return_splits=True)
        assert len(splits) == 5

    @pytest.mark.parametrize("as_mask", [False, True])
    def test_given_indices(self, as_mask):
        X, y = make_images()
        test = np.arange(60) >= 40
        split = (~test, test) if as_mask else (np.flatnonzero(~test), np.flatnonzero(test))
        _, splits = compare_detectors({}, X, y, cv=[split], return_splits=True)
        assert splits["n_test"].tolist() == [20]

    def test_missing_groups_are_refused(self):
        X, y = np.arange(6.0)[:, None], [1, 1, 1, -1, -1, -1]
        with pytest.raises(ValueError, match="groups has missing values"):
            compare_detectors({}, X, y, groups=[1, 2, np.nan, 3, 4, 5], cv=2)

    @pytest.mark.parametrize("routed", [False, True])
    def test_detectors_that_take_groups_get_those_of_the_training_fold(self, routed):
        X, y = make_images(n=90)
        groups = np.array([f"part {n}" for n in np.arange(90) // 3])
        seen = []

        class Recording(TextureDetector):
            def fit(self, X, y=None, groups=None):
                seen.append(groups)
                return super().fit(X, y, groups)

        detector = Recording(false_alarm_rate=0.3)
        with sklearn.config_context(enable_metadata_routing=routed):
            table = compare_detectors(
                {
                    "alone": detector,
                    "in a pipeline": make_pipeline(FunctionTransformer(), detector),
                    "tuned in a pipeline": make_pipeline(
                        FunctionTransformer(),
                        TunedThresholdDetector(detector, max_false_alarm_rate=0.3, cv=2),
                    ),
                    "tuned": TunedThresholdDetector(detector, max_false_alarm_rate=0.3, cv=2),
                    "without": forest(),
                },
                X,
                y,
                groups=groups,
                cv=StratifiedGroupKFold(2),
            )
        assert not any(table["error"])
        # The tuned ones fit two folds and all of them, in each of the two splits.
        assert len(seen) == 4 + 12 and all(one is not None for one in seen)
        for train, given in zip((30, 30, 30, 30), seen[:4], strict=True):
            assert len(given) == train

    def test_a_tuned_threshold_gets_groups_at_the_end_of_a_pipeline_too(self):
        X, y = make_images(n=30)
        groups = np.arange(30) // 3
        tuned = TunedThresholdDetector(MeanBrightnessDetector(), max_false_alarm_rate=0.1, cv=2)
        inner = make_pipeline(FunctionTransformer(), tuned)
        table = compare_detectors(
            {"tuned": tuned, "in a pipeline": make_pipeline(FunctionTransformer(), inner)},
            X,
            y,
            groups=groups,
            cv=StratifiedGroupKFold(2),
        )
        for error in table.loc[["tuned", "in a pipeline"], "error"]:
            assert "groups of good images cannot promise" in error

    def test_groups_on_both_sides_are_reported(self):
        X, y = make_images(n=30)
        groups = np.arange(30) // 3
        split = [(np.arange(14), np.arange(14, 30))]
        with pytest.warns(UserWarning, match="Split 0: 1 groups are in both"):
            compare_detectors({}, X, y, groups=groups, cv=split)

    def test_group_splitter_raises_no_warning(self):
        X, y = make_images(n=30)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compare_detectors({}, X, y, groups=np.arange(30) // 3, cv=GroupKFold(2))

    @pytest.mark.parametrize(
        ("order", "message"),
        [
            ([1] * 20 + [-1] * 10, r"Split 0: the test fold of 10 images has no defects"),
            ([-1] * 10 + [1] * 20, r"Split 0: the test fold of 10 images has no good images"),
            ([1, -1] * 5 + [-1] * 20, r"Split 0: the training fold of 20 images has no good"),
        ],
    )
    def test_folds_that_cannot_be_judged_are_named(self, order, message):
        with pytest.raises(ValueError, match=message):
            compare_detectors({}, np.zeros((30, 4)), order, cv=KFold(3))


class TestWrongUse:
    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"detectors": [forest()]}, "detectors"),
            ({"reference": "nobody"}, r"'nobody' is none of the rows \['mean brightness'\]"),
            ({"metric": "auc"}, "metric"),
            ({"fit_on": "bad"}, "fit_on"),
            ({"significance_level": 5}, "significance_level"),
            ({"X": np.zeros((3, 4))}, "inconsistent numbers of samples"),
        ],
    )
    def test_is_explained(self, kwargs, message):
        X, y = make_images(n=30)
        arguments = {"detectors": {}, "X": X, "y": y} | kwargs
        with pytest.raises(ValueError, match=message):
            compare_detectors(**arguments)

    def test_missing_pandas_names_the_extra(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pandas", None)
        X, y = make_images(n=30)
        with pytest.raises(ImportError, match=r"sklearn-ncae\[compare\]"):
            comparison.compare_detectors({}, X, y)


class TestMeanBrightness:
    def test_a_failed_fit_leaves_the_previous_one(self):
        X = np.full((20, 48), 100.0)
        detector = MeanBrightnessDetector().fit(X)
        for bad in (["missing.png"], np.full((3, 4, 4), np.nan)):
            with pytest.raises((OSError, ValueError)):
                detector.fit(bad)
            assert detector.n_features_in_ == 48
            assert (detector.predict(X) == 1).all()
        components = PCAReconstructor(2).fit(X)
        with pytest.raises(ValueError, match="NaN"):
            components.fit(np.full((3, 4, 4), np.nan))
        assert components.predict(X).shape == X.shape

    @pytest.mark.parametrize("shape", [(20, 48), (20, 6, 8), (20, 4, 4, 3)])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_is_symmetric_around_the_median(self, shape, dtype):
        X = np.full(shape, 100, dtype=dtype)
        detector = MeanBrightnessDetector().fit(X)
        assert detector.center_ == 100
        assert detector.n_features_in_ == 48
        X[0], X[1] = 90, 110
        np.testing.assert_allclose(detector.score_samples(X[:3]), [-10, -10, 0])
        np.testing.assert_array_equal(detector.predict(X[:3]), [-1, -1, 1])

    def test_share_of_training_outliers(self):
        X = np.random.default_rng(0).normal(size=(200, 4))
        predicted = MeanBrightnessDetector(contamination=0.1).fit_predict(X)
        assert np.sum(predicted == -1) == 20

    def test_files_of_different_sizes(self, tmp_path):
        paths = []
        for index, (size, value) in enumerate([((4, 4), 51), ((6, 8), 51), ((5, 5), 102)]):
            paths.append(tmp_path / f"{index}.png")
            Image.fromarray(np.full(size, value, dtype=np.uint8)).save(paths[-1])
        detector = MeanBrightnessDetector().fit(paths[:2])
        np.testing.assert_allclose(detector.score_samples(paths), [0, 0, -51 * 257])
        np.testing.assert_array_equal(detector.predict(paths), [1, 1, -1])
        table = pd.DataFrame({"path": list(map(str, paths))})
        np.testing.assert_array_equal(detector.predict(table), [1, 1, -1])
        with pytest.raises(ValueError, match="was fitted on files and got arrays"):
            detector.predict(np.zeros((3, 4, 4)))
        with pytest.raises(ValueError, match="was fitted on arrays and got files"):
            MeanBrightnessDetector().fit(np.zeros((3, 4, 4))).predict(paths)
        assert detector.fit(np.zeros((3, 4, 4))).n_features_in_ == 16
        assert not hasattr(detector.fit(paths), "n_features_in_")


def test_usual_detectors_run_on_stacks_of_8_bit_images(labelled_images):
    images, labels = labelled_images
    detectors = usual_detectors(n_components=4, false_alarm_rate=0.2, random_state=0)
    for detector in detectors.values():
        detector = pickle.loads(pickle.dumps(clone(detector).fit(images[labels == 1])))
        assert set(detector.predict(images)) <= {1, -1}
        assert detector.decision_function(images).shape == (48,)
