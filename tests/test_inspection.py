"""The displays, with detectors that know nothing of images and with one that reconstructs them."""

import sys
from functools import cache

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_ncae import NCAEDetector
from sklearn_ncae.inspection import (
    PrecisionRecallComparisonDisplay,
    ResidualMapDisplay,
    RocCurveComparisonDisplay,
    ScoreDistributionDisplay,
    StatisticsScatterDisplay,
    ThresholdDisplay,
)

pytestmark = pytest.mark.usefixtures("eager_tensorflow")

SHAPE = (8, 8)
COMPARISONS = [RocCurveComparisonDisplay, PrecisionRecallComparisonDisplay]
LABELLED = [
    ScoreDistributionDisplay,
    ThresholdDisplay,
    StatisticsScatterDisplay,
    *COMPARISONS,
]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


class MeanImageDetector(OutlierMixin, BaseEstimator):
    """Reconstructs every image as the mean of the training images; for tests only."""

    def __init__(self, quantile=0.05):
        self.quantile = quantile

    def fit(self, X, y=None):
        self.image_shape_ = SHAPE
        self.mean_ = np.mean(X, axis=0)
        self.offset_ = np.quantile(self.score_samples(X), self.quantile)
        return self

    def reconstruct(self, X):
        return np.broadcast_to(self.mean_, np.shape(X))

    def residual_statistics(self, X):
        residuals = (np.asarray(X, float) - self.mean_).reshape(len(X), -1)
        return np.stack([(residuals**2).mean(axis=1), np.ptp(residuals, axis=1)], axis=1)

    def score_samples(self, X):
        return -self.residual_statistics(X)[:, 0]

    def decision_function(self, X):
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        return np.where(self.decision_function(X) < 0, -1, 1)


def _images(n_good=20, n_defect=8, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(90, 110, (n_good + n_defect, *SHAPE)).astype(np.uint8)
    images[n_good:, 2:5, 2:5] = 160
    return images, np.repeat([1, -1], [n_good, n_defect])


X, Y = _images()
FLAT = X.reshape(len(X), -1)
TRAIN = _images(40, 0, seed=1)[0]


@cache
def _detector(kind):
    """Return a fitted detector and the test images as it takes them."""
    if kind == "ncae":
        detector = NCAEDetector(filters=(4,), epochs=1, false_alarm_rate=0.2, random_state=0)
        return detector.fit(TRAIN), X
    if kind == "mean image":
        return MeanImageDetector().fit(TRAIN), X
    detector = {
        "forest": IsolationForest(n_estimators=10, random_state=0),
        "lof": LocalOutlierFactor(novelty=True, n_neighbors=5),
        "pipeline": make_pipeline(
            StandardScaler(), IsolationForest(n_estimators=10, random_state=0)
        ),
    }[kind]
    return detector.fit(TRAIN.reshape(len(TRAIN), -1).astype(float)), FLAT.astype(float)


KINDS = ["forest", "lof", "pipeline", "mean image", "ncae"]


# Every detector, every display


@pytest.mark.parametrize("kind", KINDS)
def test_every_display_takes_every_outlier_detector(kind):
    detector, images = _detector(kind)
    for display_class in LABELLED:
        display = display_class.from_estimator(detector, images, Y)
        assert display.figure_ is display.ax_.figure
        assert display.ax_.get_legend() is not None
        assert display.ax_.get_xlabel() and display.ax_.get_ylabel()
        display.figure_.canvas.draw()


@pytest.mark.parametrize("display_class", LABELLED)
def test_draws_into_the_given_axes_and_again_into_others(display_class):
    _, ax = plt.subplots()
    display = display_class.from_predictions(Y, -FLAT.std(axis=1), ax=ax)
    assert display.ax_ is ax
    assert display.plot() is display
    assert display.ax_ is not ax


@pytest.mark.parametrize("display_class", LABELLED)
def test_zero_one_labels_are_explained_or_converted(display_class):
    scores = -FLAT.std(axis=1)
    with pytest.raises(ValueError, match="pos_label=1"):
        display_class.from_predictions((Y == -1).astype(int), scores)
    display_class.from_predictions((Y == -1).astype(int), scores, pos_label=1)
    detector, images = _detector("forest")
    display_class.from_estimator(detector, images, (Y == -1).astype(int), pos_label=1)


@pytest.mark.parametrize("display_class", LABELLED)
def test_bad_scores_are_refused(display_class):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        display_class.from_predictions(Y, np.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        display_class.from_predictions(Y, np.full(len(Y), np.nan))


@pytest.mark.parametrize("display_class", [ThresholdDisplay, *COMPARISONS])
def test_one_class_alone_is_refused_where_both_are_needed(display_class):
    with pytest.raises(ValueError, match="no defective images"):
        display_class.from_predictions([1, 1], [0.0, 1.0])


@pytest.mark.parametrize("display_class", [ScoreDistributionDisplay, StatisticsScatterDisplay])
@pytest.mark.parametrize("label", [1, -1])
def test_one_class_alone_is_drawn_where_it_suffices(display_class, label):
    display = display_class.from_predictions([label] * 4, [0.0, 1.0, 1.0, 2.0])
    assert len(display.ax_.get_legend().get_texts()) == 1


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for display_class in LABELLED:
        with pytest.raises(ImportError, match=r"sklearn-ncae\[plot\]"):
            display_class.from_predictions(Y, -FLAT.std(axis=1))
    with pytest.raises(ImportError, match=r"sklearn-ncae\[plot\]"):
        ResidualMapDisplay.from_predictions(X, X)


# Scores and thresholds


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("response_method", ["decision_function", "score_samples"])
def test_threshold_is_the_one_predict_applies(kind, response_method):
    detector, images = _detector(kind)
    display = ThresholdDisplay.from_estimator(detector, images, Y, response_method=response_method)
    # The rates drawn at the line are those of predict, whatever the score's offset.
    predicted = detector.predict(images)
    at = np.searchsorted(display.thresholds, display.threshold + 1e-12)
    at = min(at, len(display.thresholds) - 1)
    assert display.false_alarm_rate[at] == pytest.approx((predicted[Y == 1] == -1).mean())
    assert display.miss_rate[at] == pytest.approx((predicted[Y == -1] == 1).mean())
    assert response_method.replace("_", " ") in display.ax_.get_xlabel()


def test_unknown_response_method():
    detector, images = _detector("forest")
    with pytest.raises(ValueError, match="score_samples"):
        ScoreDistributionDisplay.from_estimator(
            detector, images, Y, response_method="predict_proba"
        )


def test_distribution_shows_shares_of_each_class():
    display = ScoreDistributionDisplay.from_predictions(
        [1, 1, 1, 1, -1, -1], [4, 4, 4, 3, 0, 1], threshold=2, bins=[0, 2, 5]
    )
    np.testing.assert_array_equal(display.good_scores, [4, 4, 4, 3])
    np.testing.assert_array_equal(display.defect_scores, [0, 1])
    assert display.ax_.dataLim.ymax == pytest.approx(1.0)
    assert display.threshold_line_.get_xdata()[0] == 2
    assert ScoreDistributionDisplay.from_predictions(Y, Y).threshold_line_ is None


@settings(max_examples=10, deadline=None)
@given(
    good=st.lists(st.integers(-5, 5), min_size=1, max_size=12),
    defect=st.lists(st.integers(-5, 5), min_size=1, max_size=12),
)
def test_rates_equal_their_definition(good, defect):
    y = [1] * len(good) + [-1] * len(defect)
    display = ThresholdDisplay.from_predictions(
        y, good + defect, costs={"false_alarm": 3.0, "missed_defect": 50.0}
    )
    plt.close("all")
    for i, threshold in enumerate(display.thresholds):
        false_alarms = sum(score < threshold for score in good)
        misses = sum(score >= threshold for score in defect)
        assert display.false_alarm_rate[i] == pytest.approx(false_alarms / len(good))
        assert display.miss_rate[i] == pytest.approx(misses / len(defect))
        assert display.mean_costs[i] == pytest.approx((3 * false_alarms + 50 * misses) / len(y))
    assert display.false_alarm_rate[0] == 0 and display.false_alarm_rate[-1] == 1
    assert display.miss_rate[0] == 1 and display.miss_rate[-1] == 0


def test_costs_and_chosen_threshold_are_drawn():
    scores = [3.0, 2.0, 1.0, 0.0]
    plain = ThresholdDisplay.from_predictions([1, 1, -1, -1], scores)
    assert plain.cost_ax_ is None and plain.threshold_line_ is None
    display = ThresholdDisplay.from_predictions(
        [1, 1, -1, -1],
        scores,
        threshold=2.5,
        costs={"false_alarm": 1, "missed_defect": 10, "defect_rate": 0.1},
    )
    assert display.mean_costs[0] == pytest.approx(0.1 * 10)
    assert display.mean_costs[-1] == pytest.approx(0.9 * 1)
    texts = " | ".join(text.get_text() for text in display.ax_.get_legend().get_texts())
    assert "50.0% false alarms, 0.0% misses" in texts
    assert "lowest cost 0 at 2" in texts
    # A threshold above all scores flags everything.
    display = ThresholdDisplay.from_predictions([1, 1, -1, -1], scores, threshold=99)
    assert "100.0% false alarms" in display.threshold_line_.get_label()


def test_one_cost_alone_is_refused():
    with pytest.raises(ValueError, match="'missed_defect' and 'false_alarm'"):
        ThresholdDisplay.from_predictions([1, -1], [1.0, 0.0], costs={"missed_defect": 10})


# Curves


def test_curves_take_defects_as_the_positive_class():
    detectors = {kind: _detector(kind)[0] for kind in ("forest", "lof", "pipeline")}
    images = FLAT.astype(float)
    roc = RocCurveComparisonDisplay.from_estimator(detectors, images, Y)
    curve = PrecisionRecallComparisonDisplay.from_estimator(detectors, images, Y)
    assert list(roc.displays_) == list(detectors)
    for name, detector in detectors.items():
        scores = -detector.decision_function(images)
        area = roc_auc_score(Y == -1, scores)
        assert roc.displays_[name].roc_auc == pytest.approx(area)
        assert f"{name} (AUC {area:.3f})" in roc.ax_.get_legend_handles_labels()[1]
        assert curve.displays_[name].average_precision == pytest.approx(
            average_precision_score(Y == -1, scores)
        )
    colors = {line.get_color() for line in roc.ax_.lines}
    assert len(colors) == len(detectors) + 1  # and the chance level, drawn once


@pytest.mark.parametrize("display_class", COMPARISONS)
def test_nothing_to_compare(display_class):
    with pytest.raises(ValueError, match="at least one detector"):
        display_class.from_predictions(Y, {})


# Statistics


def test_scatter_of_one_and_of_two_statistics():
    statistics = np.stack([np.arange(4.0), np.arange(4.0) ** 2], axis=1)
    y = [1, 1, -1, -1]
    display = StatisticsScatterDisplay.from_predictions(y, statistics, threshold=1.5)
    np.testing.assert_array_equal(display.values, statistics[:, 0])
    assert display.ax_.get_xlabel() == "image" and len(display.threshold_lines_) == 1
    display = StatisticsScatterDisplay.from_predictions(
        y,
        statistics,
        names=["mean", "std"],
        statistic="std",
        against=0,
        threshold=3,
        against_threshold=1.5,
    )
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("mean", "std")
    np.testing.assert_array_equal(
        display.ax_.collections[1].get_offsets(), statistics[2:, ::-1].copy()[:, ::-1]
    )
    assert len(display.threshold_lines_) == 2


def test_scatter_takes_names_from_a_data_frame():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"mse": [0.1, 0.9], "std": [1.0, 2.0]})
    display = StatisticsScatterDisplay.from_predictions([1, -1], frame, statistic="std")
    assert display.ax_.get_ylabel() == "std"


@pytest.mark.parametrize("statistic", ["mode", 5, -1])
def test_scatter_of_an_unknown_statistic(statistic):
    with pytest.raises(ValueError, match="There is no statistic"):
        StatisticsScatterDisplay.from_predictions([1, -1], [[0.0], [1.0]], statistic=statistic)


def test_scatter_of_malformed_statistics():
    with pytest.raises(ValueError, match="different names"):
        StatisticsScatterDisplay.from_predictions([1, -1], [[0.0], [1.0]], names=["a", "b"])
    with pytest.raises(ValueError, match="shape"):
        StatisticsScatterDisplay.from_predictions([1, -1], np.zeros((2, 2, 2)))


def test_scatter_draws_the_line_of_the_statistic_that_decides():
    detector = MeanImageDetector().fit(TRAIN)
    display = StatisticsScatterDisplay.from_estimator(detector, X, Y, statistic=0, against=1)
    assert display.threshold == pytest.approx(-detector.offset_)
    assert display.against_threshold is None  # the range decides nothing here
    display = StatisticsScatterDisplay.from_estimator(detector, X, Y, threshold=7.0)
    assert display.threshold == 7.0


def test_scatter_of_ncae_finds_the_deciding_statistic_by_its_name():
    detector = NCAEDetector(
        training="reconstruct", filters=(4,), epochs=1, false_alarm_rate=0.2, random_state=0
    )
    detector, images = detector.fit(TRAIN), X
    display = StatisticsScatterDisplay.from_estimator(detector, images, Y, against="std")
    assert (display.name, display.against_name) == ("mse", "std")
    np.testing.assert_allclose(display.values, -detector.score_samples(images), rtol=1e-5)
    flagged = detector.predict(images) == -1
    np.testing.assert_array_equal(display.values > display.threshold, flagged)


def test_scatter_of_a_detector_without_statistics_shows_its_decision():
    detector, images = _detector("pipeline")
    display = StatisticsScatterDisplay.from_estimator(detector, images, Y)
    np.testing.assert_allclose(display.values, detector.decision_function(images))
    assert display.threshold == pytest.approx(0, abs=1e-12)
    assert display.ax_.get_ylabel() == "decision function"


# Residual maps


def test_maps_of_a_detector_that_reconstructs():
    detector = MeanImageDetector().fit(TRAIN)
    display = ResidualMapDisplay.from_estimator(detector, X[18:22], Y[18:22])
    assert display.ax_.shape == (4, 3)
    np.testing.assert_allclose(display.scores, detector.decision_function(X[18:22]))
    np.testing.assert_array_equal(display.decisions, detector.predict(X[18:22]))
    assert "defect\nfound" in display.ax_[3, 0].get_ylabel()
    titles = [axis.get_title() for axis in display.ax_[0]]
    assert titles == ["image", "reconstruction", "residual"]
    display.figure_.canvas.draw()


@pytest.mark.parametrize("color", [False, True])
def test_maps_of_ncae(color):
    train, images = (np.stack([a] * 3, axis=-1) if color else a for a in (TRAIN, X))
    detector = NCAEDetector(filters=(4,), epochs=1, false_alarm_rate=0.2, random_state=0).fit(train)
    display = ResidualMapDisplay.from_estimator(detector, images[-3:], Y[-3:])
    assert display.reconstructions.shape == images[-3:].shape
    np.testing.assert_allclose(
        display.images - display.reconstructions, detector.residual(images[-3:]), atol=1e-3
    )


def test_maps_look_inside_pipelines_and_searches():
    pipeline = Pipeline([("images", FunctionTransformer(np.asarray)), ("d", MeanImageDetector())])
    search = GridSearchCV(
        pipeline, {"d__quantile": [0.1]}, scoring=lambda detector, X, y=None: 0.0, cv=2
    ).fit(TRAIN)
    alone = Pipeline([("d", MeanImageDetector())]).fit(TRAIN)

    class Tuned(BaseEstimator):
        detector_ = search

        def decision_function(self, X):
            return np.full(len(X), -1.0)

    for estimator in (search, alone, Tuned()):
        display = ResidualMapDisplay.from_estimator(estimator, list(X[:2]))
        assert display.images.shape == (2, *SHAPE)
    # The score and decision are those of the outermost estimator.
    assert display.ax_[0, 0].get_ylabel() == "flagged\nscore -1"


def test_maps_of_flat_images():
    detector = MeanImageDetector().fit(TRAIN.reshape(len(TRAIN), -1))
    display = ResidualMapDisplay.from_estimator(detector, FLAT[:2])
    assert display.images.shape == (2, *SHAPE)
    display = ResidualMapDisplay.from_estimator(detector, FLAT[:2], image_shape=(4, 16))
    assert display.images.shape == (2, 4, 16)
    del detector.image_shape_
    with pytest.raises(ValueError, match="image_shape="):
        ResidualMapDisplay.from_estimator(detector, FLAT[:2])


@pytest.mark.parametrize("kind", ["forest", "lof", "pipeline"])
def test_maps_need_reconstructions(kind):
    detector, images = _detector(kind)
    with pytest.raises(TypeError, match="no reconstruct method"):
        ResidualMapDisplay.from_estimator(detector, images[:2])
    # They can come from elsewhere.
    ResidualMapDisplay.from_predictions(X[:2], X[:2], scores=detector.decision_function(images[:2]))


def test_maps_of_a_detector_take_a_limit_and_pass_what_is_at_the_threshold():
    detector = MeanImageDetector().fit(TRAIN)
    detector.offset_ = detector.score_samples(X[:1])[0]
    display = ResidualMapDisplay.from_estimator(detector, X[:1], limit=7.0, cmap="coolwarm")
    overlay = display.ax_[0, 2].images[1]
    assert overlay.get_clim() == (-7, 7) and overlay.get_cmap().name == "coolwarm"
    assert display.ax_[0, 0].get_ylabel() == "passed\nscore 0"


def test_only_8_bits_have_a_known_black_and_white():
    images = np.linspace(0, 4095, 64).reshape(1, *SHAPE)
    for dtype in (np.uint16, float):
        display = ResidualMapDisplay.from_predictions(images.astype(dtype), images)
        assert display.ax_[0, 0].images[0].get_array().mean() == pytest.approx(0.5, abs=1e-3)
    dark = np.full((1, *SHAPE), 51, np.uint8)
    display = ResidualMapDisplay.from_predictions(dark, dark)
    assert display.ax_[0, 0].images[0].get_array().max() == pytest.approx(0.2)


def test_good_rows_are_quiet_beside_a_defect():
    images = np.full((2, *SHAPE), 100.0)
    images[0, 0, 0] = 101
    images[1, :4] = 200
    display = ResidualMapDisplay.from_predictions(images, np.full_like(images, 100.0))
    good, defect = (axis.images[1] for axis in display.ax_[:, 2])
    assert good.get_clim() == defect.get_clim() == (-100, 100)
    assert np.max(good.get_alpha()) <= 0.01 and np.max(defect.get_alpha()) == 1
    display.plot(limit=1.0)
    assert np.max(display.ax_[0, 2].images[1].get_alpha()) == 1


def test_residuals_of_large_values_are_not_rounded_away():
    images = np.full((1, *SHAPE), 1e9)
    images[0, 0, 0] += 20
    display = ResidualMapDisplay.from_predictions(images, np.full(images.shape, 1e9))
    assert display.ax_[0, 2].images[1].get_array()[0, 0] == 20


def test_residuals_keep_their_sign_and_the_strongest_channel():
    images = np.full((1, *SHAPE, 3), 100, np.uint8)
    images[0, 0, 0] = (160, 100, 60)
    display = ResidualMapDisplay.from_predictions(images, np.full(images.shape, 100, np.uint8))
    assert display.ax_[0, 2].images[1].get_array()[0, 0] == 60
    images[0, 0, 0] = (110, 100, 60)
    display = ResidualMapDisplay.from_predictions(images, np.full(images.shape, 100, np.uint8))
    assert display.ax_[0, 2].images[1].get_array()[0, 0] == -40


@pytest.mark.parametrize(
    "shape", [SHAPE, *((*SHAPE, channels) for channels in (1, 2, 3, 4)), (5, 20)]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, bool])
def test_maps_of_any_shape_and_dtype(shape, dtype):
    images = np.random.default_rng(0).integers(0, 2, (2, *shape)).astype(dtype)
    display = ResidualMapDisplay.from_predictions(images, images)
    pictures = [axis.images[0].get_array() for axis in display.ax_[0, :2]]
    for picture in pictures:
        assert picture.shape == ((*SHAPE, 3) if shape[2:] == (3,) else shape[:2])
        assert picture.min() >= 0 and picture.max() <= 1


def test_constant_images_are_drawn():
    images = np.full((1, *SHAPE), 0.3)
    ResidualMapDisplay.from_predictions(images, images).figure_.canvas.draw()


def test_masks_are_outlined_where_there_is_a_defect():
    masks = np.zeros((2, *SHAPE), bool)
    masks[1, 2:5, 2:5] = True
    display = ResidualMapDisplay.from_predictions(
        X[-2:], X[-2:], masks=masks, mask_kw={"colors": "red"}
    )
    counts = [len(axis.collections) for axis in display.ax_[:, 2]]
    assert counts == [0, 1]
    (outline,) = display.ax_[1, 2].collections
    assert outline.get_edgecolor().tolist() == [[1, 0, 0, 1]]


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ({}, ""),
        ({"y": [1]}, "good"),
        ({"y": [-1]}, "defect"),
        ({"decisions": [1]}, "passed"),
        ({"y": [-1], "decisions": [1]}, "defect\nmissed"),
        ({"y": [1], "decisions": [-1], "scores": [-0.25]}, "good\nfalse alarm\nscore -0.25"),
    ],
)
def test_rows_say_what_is_known(known, text):
    display = ResidualMapDisplay.from_predictions(X[:1], X[:1], **known)
    assert display.ax_[0, 0].get_ylabel() == text


def test_maps_draw_into_given_axes():
    figure, axes = plt.subplots(1, 3)
    display = ResidualMapDisplay.from_predictions(X[:1], X[:1], ax=axes, cmap="coolwarm")
    assert display.figure_ is figure and display.ax_[0, 0] is axes[0]
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        ResidualMapDisplay.from_predictions(X[:2], X[:2], ax=axes)
    figure, (left, _) = plt.subplots(1, 2, layout="constrained")
    display = ResidualMapDisplay.from_predictions(X[:2], X[:2], ax=left)
    assert display.figure_ is figure and display.ax_.shape == (2, 3)
    figure.canvas.draw()
    with pytest.raises(ValueError, match="not part of a grid"):
        ResidualMapDisplay.from_predictions(X[:2], X[:2], ax=plt.figure().add_axes((0, 0, 1, 1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": X[0]}, "add a leading axis"),
        ({"reconstructions": X[:3]}, "reconstructions must have shape"),
        ({"masks": X[:1]}, "masks must have shape"),
        ({"scores": [1.0]}, "scores must have shape"),
        ({"decisions": [1]}, "decisions must have shape"),
        ({"decisions": [0, 1]}, "0, 1"),
        ({"y": [1]}, "y must have shape"),
        ({"y": [0, 1]}, "pos_label=1"),
        ({"limit": 0}, "limit must be positive"),
    ],
)
def test_maps_refuse_what_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResidualMapDisplay.from_predictions(
            **{"images": X[:2], "reconstructions": X[:2]} | arguments
        )


def test_too_many_rows_are_refused_before_anything_is_computed():
    images = np.zeros((51, *SHAPE))
    with pytest.raises(ValueError, match="argsort"):
        ResidualMapDisplay.from_estimator(MeanImageDetector(), images)
    with pytest.raises(ValueError, match="argsort"):
        ResidualMapDisplay.from_predictions(images, images)
