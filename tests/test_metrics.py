import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_recall_curve,
    roc_auc_score,
)
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ncae import NCAEDetector
from sklearn_ncae._labels import check_detection_labels
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.metrics import (
    aupro_score,
    bootstrap_confidence_interval,
    detection_scores,
    detection_scores_from_predictions,
    f1_max_score,
    make_detection_scorer,
    pixel_roc_auc_score,
    recall_at_false_alarm_rate,
)

NAMES = ["accuracy", "roc_auc", "prc_auc", "f1", "f1_max", "recall_at_false_alarm_rate"]
DETECTORS = [
    IsolationForest(n_estimators=20, random_state=0),
    LocalOutlierFactor(n_neighbors=5, novelty=True),
    make_pipeline(StandardScaler(), PCA(2), LocalOutlierFactor(n_neighbors=5, novelty=True)),
]


def labelled_data(n=40, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    y = np.where(np.arange(n) % 4 == 0, -1, 1)
    X[y == -1] += 3
    return X, y


@st.composite
def labels_and_scores(draw):
    n = draw(st.integers(2, 30))
    y = draw(st.lists(st.sampled_from([1, -1]), min_size=n, max_size=n))
    y[:2] = [1, -1]
    # Few levels, so that ties are common.
    scores = draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n))
    return np.array(y), np.array(scores, dtype=float) / 2


class TestCheckDetectionLabels:
    def test_returns_the_convention_unchanged(self):
        labels = check_detection_labels([1.0, -1.0, 1.0])
        np.testing.assert_array_equal(labels, [1, -1, 1])
        assert labels.dtype == np.int64

    @pytest.mark.parametrize(
        ("y", "pos_label"),
        [
            ([0, 0, 1], 1),
            ([1, 1, 0], 0),
            ([False, False, True], True),
            (["good", "good", "bad"], "bad"),
            (np.array(["good", "good", "bad"], dtype=object), "bad"),
            ([1, 1, -1], -1),
            ([-1, -1, 1], 1),
            ([2.0, 2.0, 3.0], 3),
        ],
    )
    def test_pos_label_marks_the_defects(self, y, pos_label):
        np.testing.assert_array_equal(check_detection_labels(y, pos_label=pos_label), [1, 1, -1])

    @pytest.mark.parametrize(
        ("y", "pos_label", "message"),
        [
            ([0, 1, 1], None, r"\{0, 1\}.*\+1 for good and -1 for a defect.*pos_label=1 if 1"),
            ([0, 0], None, r"\{0\}.*pos_label=1"),
            ([True, False], None, r"\{False, True\}.*pos_label=1"),
            (["a", "b"], None, r"pos_label=<the label"),
            ([1, -1, np.nan], None, r"nan"),
            (list(range(9)), None, r"0, 1, 2, 3, 4, \.\.\."),
            ([0, 1], 5, r"pos_label=5.*\{0, 1\}"),
            ([0, 1, 2], 2, r"Merge or rename"),
            ([1, 1], None, r"no defective images"),
            ([-1, -1], None, r"no good images"),
            ([0, 0], 1, r"no defective images"),
            ([], None, r"no labels"),
        ],
    )
    def test_other_labels_are_explained(self, y, pos_label, message):
        with pytest.raises(ValueError, match=message):
            check_detection_labels(y, pos_label=pos_label)

    @pytest.mark.parametrize("missing", [None, np.nan])
    def test_a_missing_label_is_not_good(self, missing):
        with pytest.raises(ValueError, match="missing labels"):
            check_detection_labels(pd.Series(["bad", missing, "bad"]), pos_label="bad")

    def test_one_class_can_be_enough(self):
        np.testing.assert_array_equal(check_detection_labels([1, 1], need_both=False), [1, 1])
        labels = check_detection_labels([0, 0], pos_label=1, need_both=False)
        np.testing.assert_array_equal(labels, [1, 1])


class TestDetectionScores:
    @pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: type(d).__name__)
    def test_agrees_with_scikit_learn_for_any_detector(self, detector):
        X, y = labelled_data()
        detector.fit(X[y == 1])
        decision, predicted = detector.decision_function(X), detector.predict(X)
        assert detection_scores(detector, X, y) == pytest.approx(
            {
                "accuracy": accuracy_score(y, predicted),
                "roc_auc": roc_auc_score(y == -1, -decision),
                "prc_auc": average_precision_score(y == -1, -decision),
                "f1": f1_score(y, predicted, pos_label=-1),
            }
        )

    def test_ncae_detector_and_its_residual_maps(self):
        castings = make_castings(20, 4, image_size=16, random_state=0)
        detector = NCAEDetector(
            filters=(4,), bottleneck_size=2, epochs=1, false_alarm_rate=0.5, random_state=0
        )
        detector.fit(castings.images[castings.target == 1])
        scores = detection_scores(detector, castings.images, castings.target)
        predicted = detector.predict(castings.images)
        assert scores["accuracy"] == accuracy_score(castings.target, predicted)
        maps = np.abs(detector.residual(castings.images))
        assert 0 <= aupro_score(castings.masks, maps) <= 1
        assert 0 <= pixel_roc_auc_score(castings.masks, maps) <= 1

    def test_hand_computed(self):
        # Ranking from most abnormal: defect, good, defect, good; alarms: the first two.
        scores = detection_scores_from_predictions([-1, 1, -1, 1], [-2.0, -1.0, 1.0, 2.0])
        expected = {"accuracy": 0.5, "roc_auc": 0.75, "prc_auc": (1 + 2 / 3) / 2, "f1": 0.5}
        assert scores == pytest.approx(expected)

    def test_zero_decision_is_good_as_in_scikit_learn(self):
        scores = detection_scores_from_predictions([1, -1], [0.0, -1.0])
        assert scores["accuracy"] == scores["f1"] == 1

    def test_predictions_override_the_sign(self):
        scores = detection_scores_from_predictions(
            [0, 1, 0, 1], [4, 3, 2, 1], [0, 1, 0, 1], pos_label=1
        )
        assert scores["accuracy"] == scores["f1"] == 1
        assert scores["roc_auc"] == 0.75

    def test_predictions_of_another_convention_are_refused(self):
        with pytest.raises(ValueError, match="y_pred has labels that y_true has not"):
            detection_scores_from_predictions(
                [0, 0, 1, 1], [0.3, 0.2, -0.1, -0.4], [1, 1, -1, -1], pos_label=1
            )

    def test_no_alarm_gives_f1_of_zero(self):
        assert detection_scores_from_predictions([1, -1], [2.0, 1.0])["f1"] == 0

    def test_labels_of_another_convention_need_pos_label(self):
        X, y = labelled_data()
        detector = DETECTORS[0].fit(X[y == 1])
        with pytest.raises(ValueError, match="pos_label=1 if 1 marks a defect"):
            detection_scores(detector, X, y == -1)
        assert detection_scores(detector, X, y == -1, pos_label=True) == detection_scores(
            detector, X, y
        )

    def test_misfits_are_refused(self):
        X, y = labelled_data()
        with pytest.raises(TypeError, match="LogisticRegression is not an outlier detector"):
            detection_scores(LogisticRegression().fit(X, y), X, y)
        with pytest.raises(TypeError, match="decision_function is needed"):
            detection_scores(BaseEstimator(), X, y)
        with pytest.raises(TypeError, match="object is not an outlier detector"):
            detection_scores(object(), X, y)

    @pytest.mark.parametrize(
        ("decision", "message"),
        [([1.0, np.nan], "NaN"), ([[1.0], [2.0]], "one number per image"), ([1.0], "inconsistent")],
    )
    def test_bad_decision_values(self, decision, message):
        with pytest.raises(ValueError, match=message):
            detection_scores_from_predictions([1, -1], decision)

    def test_serves_as_a_multimetric_scorer(self):
        X, y = labelled_data()
        results = cross_validate(
            DETECTORS[0], X, y, scoring=detection_scores, cv=StratifiedKFold(3)
        )
        assert {f"test_{name}" for name in NAMES[:4]} <= set(results)
        assert np.isfinite(results["test_prc_auc"]).all()


class TestF1Max:
    @settings(deadline=None, max_examples=60)
    @given(labels_and_scores())
    def test_is_the_maximum_of_the_curve_and_reached_at_the_threshold(self, data):
        y, scores = data
        f1, threshold = f1_max_score(y, scores)
        precision, recall, _ = precision_recall_curve(y == -1, -scores)
        curve = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        assert f1 == pytest.approx(curve.max())
        predicted = np.where(scores < threshold, -1, 1)
        assert f1_score(y, predicted, pos_label=-1) == pytest.approx(f1)

    def test_takes_the_fewest_alarms_of_equal_thresholds(self):
        # One alarm: 2*1/(1+2) = 2/3; four alarms: 2*2/(4+2) = 2/3.
        assert f1_max_score([-1, 1, 1, -1], [0.0, 1.0, 2.0, 3.0]) == (pytest.approx(2 / 3), 0.5)

    def test_all_images_can_be_alarms(self):
        f1, threshold = f1_max_score([1, -1], [0.0, 1.0])
        assert f1 == pytest.approx(2 / 3)
        assert threshold > 1.0

    def test_threshold_between_neighbouring_floats(self):
        low = 5e-324
        f1, threshold = f1_max_score([-1, 1], [0.0, low])
        assert f1 == 1
        assert 0.0 < threshold <= low


class TestRecallAtFalseAlarmRate:
    @settings(deadline=None, max_examples=60)
    @given(labels_and_scores(), st.sampled_from([0.0, 0.07, 0.25, 0.5, 1.0]))
    def test_agrees_with_trying_every_threshold(self, data, rate):
        y, scores = data
        thresholds = [*np.unique(scores), np.inf]
        recalls = [
            np.mean(scores[y == -1] < t) for t in thresholds if np.mean(scores[y == 1] < t) <= rate
        ]
        found = recall_at_false_alarm_rate(y, scores, max_false_alarm_rate=rate)
        assert found == pytest.approx(max(recalls))

    def test_rounding_does_not_cost_an_alarm(self):
        y = np.repeat([1, -1], 100)
        scores = np.concatenate([np.arange(100.0), np.full(100, 28.5)])
        assert recall_at_false_alarm_rate(y, scores, max_false_alarm_rate=0.29) == 1
        assert recall_at_false_alarm_rate(y, scores, max_false_alarm_rate=0.28) == 0

    @pytest.mark.parametrize("rate", [-0.1, 1.1, np.nan])
    def test_rate_must_be_a_share(self, rate):
        with pytest.raises(ValueError, match="max_false_alarm_rate"):
            recall_at_false_alarm_rate([1, -1], [1, 0], max_false_alarm_rate=rate)


class TestScorers:
    @pytest.mark.parametrize("name", NAMES)
    def test_works_in_a_grid_search(self, name):
        X, y = labelled_data()
        search = GridSearchCV(
            make_pipeline(PCA(), LocalOutlierFactor(n_neighbors=5, novelty=True)),
            {"pca__n_components": [1, 2]},
            scoring=make_detection_scorer(name),
            cv=StratifiedKFold(2),
            error_score="raise",
        ).fit(X, y)
        assert 0 <= search.best_score_ <= 1

    @pytest.mark.parametrize("name", NAMES)
    def test_takes_the_defects_for_positive_and_can_be_pickled(self, name):
        X, y = labelled_data()
        detector = DETECTORS[0].fit(X[y == 1])
        scorer = pickle.loads(pickle.dumps(make_detection_scorer(name, pos_label=1)))
        expected = detection_scores(detector, X, y) | {
            "f1_max": f1_max_score(y, detector.decision_function(X))[0],
            "recall_at_false_alarm_rate": recall_at_false_alarm_rate(
                y, detector.decision_function(X)
            ),
        }
        assert scorer(detector, X, (y == -1).astype(int)) == pytest.approx(expected[name])

    def test_passes_arguments_on(self):
        X, y = labelled_data()
        detector = DETECTORS[0].fit(X[y == 1])
        scorer = make_detection_scorer("recall_at_false_alarm_rate", max_false_alarm_rate=1.0)
        assert scorer(detector, X, y) == 1

    def test_unknown_metric(self):
        with pytest.raises(ValueError, match=r"'auc' is unknown.*roc_auc"):
            make_detection_scorer("auc")
        with pytest.raises(TypeError, match="'roc_auc' takes no max_fpr"):
            make_detection_scorer("roc_auc", max_fpr=0.1)


class TestBootstrap:
    def test_covers_the_figure_and_repeats(self):
        rng = np.random.default_rng(0)
        y = np.repeat([1, -1], 50)
        scores = rng.normal(size=100) + y
        low, high = bootstrap_confidence_interval(y, scores, n_resamples=100, random_state=0)
        assert low < roc_auc_score(y == -1, -scores) < high
        again = bootstrap_confidence_interval(y, scores, n_resamples=100, random_state=0)
        assert again == (low, high)
        narrow = bootstrap_confidence_interval(
            y, scores, n_resamples=100, confidence_level=0.5, random_state=0
        )
        assert narrow.high - narrow.low < high - low

    def test_is_made_of_the_quantiles_of_resamples(self):
        y = np.repeat([1, -1], 100)
        figures = []

        def metric(labels, decision):
            figures.append(float(roc_auc_score(labels == -1, -decision)))
            return figures[-1]

        scores = np.random.default_rng(0).normal(size=200) + y
        interval = bootstrap_confidence_interval(
            y, scores, metric=metric, n_resamples=100, confidence_level=0.9, random_state=0
        )
        np.testing.assert_allclose(interval, np.quantile(figures[-100:], [0.05, 0.95]))

    def test_copies_of_an_image_add_no_certainty_when_grouped(self):
        rng = np.random.default_rng(1)
        y = np.repeat([1, -1], 20)
        scores = rng.normal(size=40) + y
        groups = np.repeat(np.arange(40), 10)
        y_copies, score_copies = np.repeat(y, 10), np.repeat(scores, 10)

        def width(groups):
            interval = bootstrap_confidence_interval(
                y_copies, score_copies, groups=groups, n_resamples=100, random_state=0
            )
            return interval.high - interval.low

        single = bootstrap_confidence_interval(y, scores, n_resamples=100, random_state=0)
        assert width(groups) == pytest.approx(single.high - single.low)
        assert width(None) < width(groups) / 2

    def test_whole_groups_are_drawn(self):
        groups = np.array(["a", "b", "a", "b", "c"])
        y = np.array([1, -1, 1, -1, 1])

        def metric(labels, values):
            drawn = {value: int(np.sum(values == value)) for value in range(5)}
            assert drawn[0] == drawn[2] and drawn[1] == drawn[3]
            return 0.5

        interval = bootstrap_confidence_interval(
            y, np.arange(5), groups=groups, metric=metric, n_resamples=50, random_state=0
        )
        assert interval == (0.5, 0.5)

    @pytest.mark.parametrize("metric", NAMES)
    def test_every_named_metric(self, metric):
        _, y = labelled_data()
        interval = bootstrap_confidence_interval(
            y, y + 0.0, metric=metric, n_resamples=10, random_state=0
        )
        assert interval == (1, 1)

    def test_resamples_of_one_class_are_drawn_again(self):
        # Half of the resamples of two groups hold one of them only.
        interval = bootstrap_confidence_interval(
            [1, -1], [1, 0], n_resamples=50, random_state=np.random.RandomState(0)
        )
        assert interval == (1, 1)

    def test_labels_of_another_convention(self):
        interval = bootstrap_confidence_interval(
            [0, 0, 1, 1], [4, 3, 2, 1], n_resamples=10, random_state=0, pos_label=1
        )
        assert interval == (1, 1)

    def test_wrong_use(self):
        with pytest.raises(ValueError, match="one group only"):
            bootstrap_confidence_interval([1, -1], [1, 0], groups=["a", "a"])
        with pytest.raises(ValueError, match="groups has missing values"):
            bootstrap_confidence_interval([1, -1], [1, 0], groups=[1, np.nan])
        with pytest.raises(ValueError, match="groups has 1 values for 2 images"):
            bootstrap_confidence_interval([1, -1], [1, 0], groups=[1])
        with pytest.raises(ValueError, match="unknown"):
            bootstrap_confidence_interval([1, -1], [1, 0], metric="auc")
        with pytest.raises(TypeError, match="f1_max"):
            bootstrap_confidence_interval([1, -1], [1, 0], metric=f1_max_score)
        with pytest.raises(ValueError, match="confidence_level"):
            bootstrap_confidence_interval([1, -1], [1, 0], confidence_level=95)

    def test_too_few_groups_of_a_class(self):
        class AlwaysTheFirst(np.random.RandomState):
            def randint(self, low, size):
                return np.zeros(size, dtype=int)

        with pytest.raises(ValueError, match="too few groups hold one of them"):
            bootstrap_confidence_interval(
                [1, -1], [1, 0], n_resamples=5, random_state=AlwaysTheFirst(0)
            )


def reference_aupro(masks, maps, max_fpr):
    """Bergmann et al. as written: every threshold, every region, then the trapezoidal rule."""
    regions = []
    for index, mask in enumerate(masks):
        label, n = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(index, label == k) for k in range(1, n + 1)]
    good = np.concatenate([m[~k] for m, k in zip(maps, masks, strict=True)])
    levels = np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]
    fpr, pro = [0.0], [0.0]
    for level in levels:
        fpr.append(np.mean(good >= level))
        pro.append(np.mean([np.mean(maps[i][region] >= level) for i, region in regions]))
    fpr, pro = np.array(fpr), np.array(pro)
    inside = fpr <= max_fpr
    x, y = fpr[inside], pro[inside]
    if not inside.all():
        after = np.argmin(inside)
        slope = (pro[after] - pro[after - 1]) / (fpr[after] - fpr[after - 1])
        x = np.append(x, max_fpr)
        y = np.append(y, pro[after - 1] + slope * (max_fpr - fpr[after - 1]))
    return np.trapezoid(y, x) / max_fpr


@st.composite
def masks_and_maps(draw):
    masks, maps = [], []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.tuples(st.integers(1, 6), st.integers(2, 6)))
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        mask = rng.random(shape) < draw(st.floats(0, 0.6))
        mask.flat[0], mask.flat[1] = True, False
        values = rng.integers(0, draw(st.sampled_from([2, 5, 100])), size=shape)
        masks.append(mask)
        maps.append(values.astype(draw(st.sampled_from([np.uint8, np.float32, np.float64]))))
    return masks, maps


class TestLocalisation:
    @pytest.mark.parametrize("score", [pixel_roc_auc_score, aupro_score])
    def test_float64_maps_keep_their_precision(self, score):
        maps = np.array([[[1.0, 1 + 1e-12, 1.0, 1.0]]])
        assert score([[[0, 1, 0, 0]]], maps) == pytest.approx(1)

    @settings(deadline=None, max_examples=60)
    @given(masks_and_maps(), st.sampled_from([0.05, 0.3, 0.5, 1.0]))
    def test_aupro_agrees_with_the_definition(self, data, max_fpr):
        masks, maps = data
        expected = reference_aupro(masks, maps, max_fpr)
        assert aupro_score(masks, maps, max_fpr=max_fpr) == pytest.approx(expected)

    @settings(deadline=None, max_examples=60)
    @given(masks_and_maps())
    def test_pixel_roc_auc_agrees_with_scikit_learn(self, data):
        masks, maps = data
        truth = np.concatenate([mask.ravel() for mask in masks])
        values = np.concatenate([values.ravel() for values in maps])
        assert pixel_roc_auc_score(masks, maps) == pytest.approx(roc_auc_score(truth, values))

    def test_small_regions_count_as_much_as_large_ones(self):
        mask = np.zeros((4, 4), dtype=bool)
        mask[0, 0] = True
        mask[2:, :3] = True
        # Finds the single pixel first of all and the large region last of all.
        values = np.where(mask, 0.0, 1.0)
        values[0, 0] = 2.0
        assert aupro_score([mask], [values]) == pytest.approx(0.5)
        assert pixel_roc_auc_score([mask], [values]) == pytest.approx(1 / 7)

    def test_hand_computed_with_a_cut_at_max_fpr(self):
        # Four good pixels, one region of two: the overlap is 1/2 from FPR 0 on and rises to 1
        # together with the one good pixel of the same value, from FPR 1/4 to 1/2.
        mask = [[1, 1, 0], [0, 0, 0]]
        values = [[5, 3, 4], [3, 1, 0]]
        full = 0.5 + 0.5 * (0.25 / 2 + 0.5)
        assert aupro_score([mask], [values], max_fpr=1.0) == pytest.approx(full)
        up_to_half = 0.5 * 0.5 + 0.5 * 0.25 / 2
        assert aupro_score([mask], [values], max_fpr=0.5) == pytest.approx(up_to_half / 0.5)
        # Linear half-way through the tie: at 3/8 the overlap is 3/4.
        up_to_3_8 = 0.25 * 0.5 + 0.125 * (0.5 + 0.75) / 2
        assert aupro_score([mask], [values], max_fpr=0.375) == pytest.approx(up_to_3_8 / 0.375)

    def test_pixels_that_touch_at_a_corner_are_one_region(self):
        mask = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]])
        values = np.where(mask, 0.0, 1.0)
        values[3, 2] = 2.0
        # Two regions, one of them found: were there three, it would be a third.
        assert aupro_score([mask], [values]) == pytest.approx(0.5)

    def test_perfect_constant_and_inverted_maps(self):
        masks = np.zeros((3, 8, 8), dtype=np.uint8)
        masks[1:, 2:4, 2:5] = 255
        assert aupro_score(masks, masks) == pixel_roc_auc_score(masks, masks) == 1
        constant = np.zeros((3, 8, 8))
        assert aupro_score(masks, constant) == pytest.approx(0.15)
        assert pixel_roc_auc_score(masks, constant) == 0.5
        assert aupro_score(masks, 255 - masks) == pixel_roc_auc_score(masks, 255 - masks) == 0

    @pytest.mark.parametrize("score", [aupro_score, pixel_roc_auc_score])
    @pytest.mark.parametrize(
        ("masks", "maps", "message"),
        [
            (np.ones((2, 3, 3)), np.ones((1, 3, 3)), "2 masks but 1 maps"),
            (np.ones((1, 3, 3)), np.ones((1, 3, 4)), r"Image 0.*\(3, 3\).*\(3, 4\)"),
            (np.ones((1, 3, 3)), np.ones((1, 3, 3, 3)), "Reduce channels"),
            (np.ones((3, 3)), np.ones((3, 3)), "single image in a list"),
            (np.eye(3)[None], np.full((1, 3, 3), np.nan), "not finite"),
            (np.zeros((1, 3, 3)), np.ones((1, 3, 3)), "at least one defect"),
            (np.ones((1, 3, 3)), np.ones((1, 3, 3)), "good pixels are needed"),
        ],
    )
    def test_wrong_use(self, score, masks, maps, message):
        with pytest.raises(ValueError, match=message):
            score(masks, maps)

    @pytest.mark.parametrize("max_fpr", [0, -1, 1.5, np.nan])
    def test_max_fpr_must_be_a_rate(self, max_fpr):
        with pytest.raises(ValueError, match="max_fpr"):
            aupro_score([np.eye(3)], [np.eye(3)], max_fpr=max_fpr)
