import copy
import os
import pickle
import random
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from inspect import signature

import cloudpickle
import joblib
import keras
import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.ndimage import gaussian_filter
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_ncae import (
    NCAEDetector,
    NCAEReconstructor,
    ResidualDetector,
    ResidualStatistics,
    persistence,
)
from sklearn_ncae.baselines import MeanBrightnessDetector, PCAReconstructor
from sklearn_ncae.images import read_image
from sklearn_ncae.model_selection import OneClassSplit, TunedThresholdDetector
from sklearn_ncae.residuals import DEFECT_MAP_STATISTICS, STATISTICS
from sklearn_ncae.texture import (
    TextureDetector,
    describe_texture,
    held_out_peaks,
    representative_rows,
)

TINY = {"filters": (4, 8), "epochs": 2, "random_state": 0}
METHODS = ["score_samples", "decision_function", "predict", "p_values"]


@pytest.fixture(scope="module")
def detector(good_images):
    return NCAEDetector(false_alarm_rate=0.2, **TINY).fit(good_images)


def test_finds_the_defects(labelled_images):
    X, y = labelled_images
    training = {"epochs": 100, "batch_size": 8, "learning_rate": 0.01, "random_state": 0}
    detector = NCAEDetector(filters=(8, 16), false_alarm_rate=0.2, **training).fit(X[y == 1])
    assert roc_auc_score(y, detector.decision_function(X)) > 0.95
    assert np.mean(detector.predict(X[y == -1]) == -1) > 0.9
    assert detector.p_values(X[y == -1]).max() <= 0.2


def test_methods_agree(detector, labelled_images):
    X, _ = labelled_images
    scores = detector.score_samples(X)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(detector.decision_function(X), scores - detector.offset_)
    np.testing.assert_array_equal(detector.predict(X), np.where(scores < detector.offset_, -1, 1))
    np.testing.assert_array_equal(
        detector.predict(X) == -1, detector.p_values(X) <= detector.false_alarm_rate_ + 1e-12
    )
    np.testing.assert_array_equal(detector.residual(X), X - detector.reconstruct(X))
    np.testing.assert_array_equal(
        detector.residual_statistics(X), ResidualStatistics().transform(detector.residual(X))
    )
    peak = DEFECT_MAP_STATISTICS["defect_peak"].compute(detector.defect_map(X))
    rows, scale = np.arange(len(X)), detector.reconstructor_._scale
    texture = detector._texture.peaks(describe_texture(X[..., np.newaxis], scale, rows))
    quotients = (np.column_stack([peak, texture]) - detector._center) / detector._reach
    np.testing.assert_allclose(scores, -np.log(np.exp(quotients).sum(axis=1)), rtol=1e-12)
    alone = NCAEDetector(statistic="defect_peak", contamination=0.1, **TINY).fit(X)
    peak = DEFECT_MAP_STATISTICS["defect_peak"].compute(alone.defect_map(X))
    np.testing.assert_array_equal(alone.score_samples(X), -peak)


def test_texture_map_is_there_if_the_score_looks_at_texture(detector, good_images):
    maps = detector.texture_map(good_images)
    assert maps.shape == good_images.shape
    assert (maps >= 0).all()
    assert not hasattr(NCAEDetector(statistic="mse"), "texture_map")
    assert not hasattr(NCAEDetector(training="reconstruct"), "texture_map")


def test_anomaly_map_joins_the_maps_as_the_score_their_peaks(detector, good_images, eagerly):
    with eagerly():
        maps = detector.anomaly_map(good_images)
        parts = np.stack([detector.defect_map(good_images), detector.texture_map(good_images)], -1)
        quotients = (parts - detector._center) / detector._reach
        assert maps.shape == good_images.shape
        assert maps.dtype == np.float32
        np.testing.assert_allclose(maps, np.log(np.exp(quotients).sum(axis=-1)), atol=1e-5)
        alone = NCAEDetector(statistic="texture", contamination=0.1, **TINY).fit(good_images)
        np.testing.assert_array_equal(
            alone.anomaly_map(good_images), alone.texture_map(good_images)
        )
        with pytest.raises(NotFittedError):
            NCAEDetector().anomaly_map(good_images)
        assert not hasattr(NCAEDetector(statistic="mse"), "anomaly_map")
        assert not hasattr(NCAEDetector(training="reconstruct"), "anomaly_map")


def test_the_recipe_of_the_article(labelled_images):
    X, y = labelled_images
    detector = NCAEDetector(training="reconstruct", contamination=0.1, **TINY).fit(X[y == 1])
    mse = np.square(X - detector.reconstruct(X)).mean(axis=(1, 2))
    np.testing.assert_allclose(detector.score_samples(X), -mse, rtol=1e-5)
    assert not hasattr(detector, "defect_map")
    with pytest.raises(ValueError, match="Statistics must be one or more"):
        detector.set_params(statistic="defect_peak").fit(X)


def test_own_defects(good_images):
    def draw_stripes(images, *, random_state):
        masks = np.zeros((*images.shape[:3], 1), bool)
        masks[:, random_state.randint(images.shape[1])] = True
        return images + 2 * masks, masks

    detector = NCAEDetector(
        filters=(8, 16),
        epochs=60,
        batch_size=8,
        learning_rate=0.01,
        draw_defects=draw_stripes,
        contamination=0.1,
        random_state=0,
    ).fit(good_images)
    striped = good_images[:5].copy()
    striped[:, 6] = 255
    maps = detector.defect_map(striped)
    assert maps.shape == (5, 16, 16)
    assert maps[:, 6].mean() > 2 * np.delete(maps, 6, axis=1).mean()


@pytest.mark.parametrize("name", DEFECT_MAP_STATISTICS)
def test_statistics_of_defect_maps(name):
    maps = np.random.default_rng(0).uniform(size=(3, 30, 40)).astype(np.float32)
    values = DEFECT_MAP_STATISTICS[name].compute(maps)
    assert values.dtype == np.float64
    halved = maps.astype(float).reshape(3, 15, 2, 20, 2).mean(axis=(2, 4))
    smoothed = [gaussian_filter(m, 1) for m in halved]
    expected = {
        "defect_peak": [np.sort(m, axis=None)[-2:].mean() for m in smoothed],
        "defect_max": [m.max() for m in maps],
        "defect_mean": [m.mean() for m in maps],
    }[name]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_contamination_is_the_share_of_training_images_called_defects(good_images, eagerly):
    with eagerly():
        detector = NCAEDetector(contamination=0.1, **TINY)
        assert np.mean(detector.fit_predict(good_images) == -1) == pytest.approx(0.1)
        assert not hasattr(detector, "p_values")
        with pytest.raises(AttributeError, match="p_values"):
            detector.p_values(good_images)


def test_the_promised_false_alarm_rate_holds_on_unseen_good_images():
    """Simulation: a detector fitted, then many new good images from the same process."""
    rng = np.random.default_rng(0)
    reconstructor = PCAReconstructor(3)
    rates = []
    for seed in range(60):
        good = rng.normal(size=(295, 4, 4))
        detector = ResidualDetector(
            reconstructor,
            statistic=["mse", "abs_max", "skewness"],
            calibration=0.5,
            false_alarm_rate=0.1,
            random_state=seed,
        ).fit(good[:95])
        rates.append(np.mean(detector.predict(good[95:]) == -1))
    error = np.std(rates) / np.sqrt(len(rates))
    assert np.mean(rates) <= 0.1 + 3 * error
    assert np.mean(rates) >= 0.1 - 1 / 48 - 3 * error  # and it is not needlessly strict


@pytest.mark.parametrize("name", STATISTICS)
def test_every_statistic_makes_a_score(good_images, name):
    detector = ResidualDetector(
        PCAReconstructor(5), statistic=name, contamination=0.1, random_state=0
    ).fit(good_images)
    values = detector.residual_statistics(good_images)[:, list(STATISTICS).index(name)]
    if STATISTICS[name].abnormal_tail == "both":
        values = np.abs(values - np.median(values))
    np.testing.assert_allclose(detector.score_samples(good_images), -values)


def test_two_sided_statistics_find_defects_either_way():
    rng = np.random.default_rng(0)
    good = rng.normal(size=(60, 8, 8))
    bright, dark = good[:5] + 3.0, good[:5] - 3.0
    detector = ResidualDetector(
        PCAReconstructor(2), statistic="mean", contamination=0.05, random_state=0
    ).fit(good)
    assert (detector.predict(np.concatenate([bright, dark])) == -1).all()


TWO_SIDED = ["mean", "kurtosis", "skewness", "min", "sum", "entropy", "normalized_entropy"]


@pytest.mark.parametrize("name", STATISTICS)
def test_only_two_sided_statistics_are_abnormal_where_they_are_small(good_images, name):
    detector = ResidualDetector(PCAReconstructor(2), statistic=name, contamination=0.1)
    scores = detector.fit(good_images).score_samples(good_images)
    values = detector.residual_statistics(good_images)[:, list(STATISTICS).index(name)]
    smallest = np.argmin(values)
    if name in TWO_SIDED:
        np.testing.assert_allclose(scores, -np.abs(values - np.median(values)), rtol=1e-3)
    else:
        assert scores[smallest] == scores.max()


def test_joint_score_is_a_smooth_maximum(good_images):
    def scores(statistic):
        detector = ResidualDetector(PCAReconstructor(5), statistic=statistic, random_state=0)
        return detector.set_params(contamination=0.1).fit(good_images).score_samples(good_images)

    repeated = scores(["sum", "mse"]) - scores(["sum", "mean", "mse"])
    assert ((repeated >= 0) & (repeated <= np.log(2))).all()
    assert np.isfinite(scores("joint")).all()
    np.testing.assert_array_equal(scores("joint"), scores(list(STATISTICS)))


@pytest.mark.parametrize(("alike", "least", "most"), [(True, 2.5, 2.5), (False, 1.0, 1.7)])
def test_more_of_the_defect_peak_is_usual_where_parts_lie_alike(
    good_images, monkeypatch, alike, least, most, eagerly
):
    with eagerly():
        peak = DEFECT_MAP_STATISTICS["defect_peak"]
        monkeypatch.setitem(DEFECT_MAP_STATISTICS, "defect_peak", replace(peak, least_reach=0.0))
        noise = np.random.default_rng(0).normal(100, 20, (40, 16, 16))
        X = good_images if alike else noise
        detector = NCAEDetector(contamination=0.1, **TINY).fit(X)
        peaks = peak.compute(detector.defect_map(X))
        of_training = np.quantile(peaks, 0.95) - np.median(peaks)
        usual = detector._reach[detector._names.index("defect_peak")]
        assert least * (1 - 1e-6) <= usual / of_training <= most * (1 + 1e-6)
        # Without texture nothing says whether parts lie alike: they are taken to.
        alone = clone(detector).set_params(statistic=["defect_peak", "mse"]).fit(X)
        assert alone._reach[0] == pytest.approx(2.5 * of_training)


def test_joint_score_of_many_images_knows_a_thousand_of_them():
    X = np.random.default_rng(0).normal(size=(1200, 4, 4))
    detector = ResidualDetector(PCAReconstructor(2), statistic=["mse", "abs_max"])
    detector.set_params(contamination=0.1).fit(X)
    table = detector.residual_statistics(X[representative_rows(np.arange(1200))])
    columns = [list(STATISTICS).index(name) for name in ("mse", "abs_max")]
    np.testing.assert_allclose(detector._center, np.median(table[:, columns], axis=0))


def test_joint_score_where_a_statistic_never_varies():
    X = np.ones((20, 4, 4))
    detector = ResidualDetector(PCAReconstructor(1), statistic="joint", contamination=0.1)
    assert np.isfinite(detector.fit(X).score_samples(X)).all()


@pytest.mark.parametrize(
    "parameters",
    [
        {"statistic": "joint"},
        {"bottleneck": "dense"},
        {"training": "reconstruct"},
    ],
)
def test_scores_do_not_depend_on_batches_or_on_how_X_is_split(good_images, parameters):
    detector = NCAEDetector(contamination=0.1, **{**TINY, **parameters}).fit(good_images)
    scores = detector.score_samples(good_images)
    # Torch sums in another order in batches of other sizes.
    rtol = 1e-4 if keras.backend.backend() == "torch" else 0
    for step in (1, 2, 7, 33):
        parts = [good_images[i : i + step] for i in range(0, 40, step)]
        apart = np.concatenate([detector.score_samples(part) for part in parts])
        np.testing.assert_allclose(apart, scores, rtol=rtol)
    order = np.random.default_rng(0).permutation(40)
    shuffled = detector.score_samples(good_images[order])
    np.testing.assert_allclose(shuffled, scores[order], rtol=rtol)
    detector.reconstructor_.set_params(batch_size=3)
    np.testing.assert_allclose(detector.score_samples(good_images), scores, rtol=rtol)


def test_large_images_enter_the_network_as_means(eagerly):
    X = np.random.default_rng(0).integers(0, 256, (20, 195, 204), dtype=np.uint8)
    parameters = {"filters": (2,), "epochs": 1, "contamination": 0.1, "random_state": 0}
    with eagerly():
        detector = NCAEDetector(**parameters).fit(X)
    residual, marked = detector.residual(X), detector.defect_map(X)
    assert residual.shape == marked.shape == X.shape
    for maps in (residual, marked):
        blocks = maps[:, :194].reshape(20, 97, 2, 102, 2)
        np.testing.assert_allclose(np.ptp(blocks, axis=(2, 4)), 0, atol=1e-4)
    for name, statistic in DEFECT_MAP_STATISTICS.items():  # of which most need no whole map
        described = detector._describe(X[..., np.newaxis], [name])[:, 0]
        np.testing.assert_allclose(described, statistic.compute(marked), rtol=1e-6)
    scores = detector.score_samples(X)
    for rows in ([4], [4, 9], np.arange(3, 20)):
        np.testing.assert_array_equal(detector.score_samples(X[rows]), scores[rows])


def global_state():
    import tensorflow as tf

    return (
        random.getstate(),
        np.random.get_state()[1].tolist(),
        np.random.get_state()[2],
        tf.random.get_global_generator().state.numpy().tolist(),
        tf.random.uniform((2,), seed=1).numpy().tolist(),
        keras.ops.convert_to_numpy(keras.random.uniform((2,))).tolist(),
        dict(os.environ),
        tf.config.experimental.is_op_determinism_enabled()
        if hasattr(tf.config.experimental, "is_op_determinism_enabled")
        else None,
        keras.config.floatx(),
        keras.config.dtype_policy().name,
    )


def test_no_global_generator_or_flag_is_changed(good_images):
    tf = pytest.importorskip("tensorflow")

    states = []
    for fit in (False, True):
        # Before Keras 3.13 set_random_seed left Keras' own global generator as it was.
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(7)
        tf.random.set_global_generator(tf.random.Generator.from_seed(7))
        if fit:
            NCAEDetector(**TINY, false_alarm_rate=0.2).fit(good_images).predict(good_images)
        states.append(global_state())
    assert states[0] == states[1]


def test_same_random_state_same_scores_whatever_the_global_seeds(good_images, detector):
    keras.utils.set_random_seed(99)
    again = clone(detector).fit(good_images)
    np.testing.assert_array_equal(
        again.score_samples(good_images), detector.score_samples(good_images)
    )
    assert again.offset_ == detector.offset_


def test_y_is_ignored_but_for_a_warning(good_images, detector):
    with pytest.warns(UserWarning, match="20 of the 40 training images are labelled -1") as caught:
        again = clone(detector).fit(good_images, y=np.repeat([1, -1], 20))
    assert caught[0].filename == __file__
    of_text = np.repeat(["good", "bad"], 20)
    for two in (np.repeat([0, 1], 20), of_text == "bad", of_text, pd.Series(of_text)):
        with pytest.warns(UserWarning, match="Some training images are labelled .* and some"):
            TextureDetector().fit(good_images, two)
    of_three = np.resize(["good", "bad", "unsure"], 40)
    ragged = [[1], [1, 2]] * 20
    for other in (
        *(np.ones(40), np.arange(40), of_three, np.repeat("good", 40), None),
        *(ragged, good_images > 128),  # no labels at all
    ):
        TextureDetector().fit(good_images, other)
    np.testing.assert_array_equal(
        again.score_samples(good_images), detector.score_samples(good_images)
    )


@pytest.mark.parametrize(
    "round_trip",
    [
        lambda d, path: pickle.loads(pickle.dumps(d)),
        lambda d, path: cloudpickle.loads(cloudpickle.dumps(d)),
        lambda d, path: copy.deepcopy(d),
        lambda d, path: joblib.load(joblib.dump(d, path / "detector.joblib")[0]),
    ],
    ids=["pickle", "cloudpickle", "deepcopy", "joblib"],
)
def test_copies_score_the_same(detector, labelled_images, round_trip, tmp_path):
    X, _ = labelled_images
    twin = round_trip(detector, tmp_path)
    for method in METHODS:
        np.testing.assert_array_equal(getattr(twin, method)(X), getattr(detector, method)(X))


def test_scores_the_same_in_a_loky_worker(detector, labelled_images):
    X, _ = labelled_images
    parts = joblib.Parallel(n_jobs=2, backend="loky")(
        joblib.delayed(detector.score_samples)(part) for part in (X[:20], X[20:])
    )
    np.testing.assert_array_equal(np.concatenate(parts), detector.score_samples(X))


def test_scores_the_same_in_a_fresh_process(detector, labelled_images, tmp_path):
    X, _ = labelled_images
    (tmp_path / "detector.pkl").write_bytes(pickle.dumps(detector))
    np.save(tmp_path / "X.npy", X)
    code = (
        "import pickle, numpy as np\n"
        "detector = pickle.load(open('detector.pkl', 'rb'))\n"
        "np.save('scores.npy', detector.score_samples(np.load('X.npy')))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), detector.score_samples(X))


def test_grid_search_over_network_and_statistic(labelled_images):
    X, y = labelled_images
    search = GridSearchCV(
        NCAEDetector(contamination=0.1, **TINY),
        [
            {"filters": [(4,)], "statistic": ["max"]},
            {"filters": [(4, 8)], "statistic": ["defect_peak"]},
        ],
        scoring="roc_auc",
        cv=OneClassSplit(StratifiedKFold(2, shuffle=True, random_state=0)),
        refit=False,
        n_jobs=2,
    ).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_pipeline_and_cross_validation(labelled_images, eagerly):
    with eagerly():
        X, y = labelled_images
        pipeline = make_pipeline(
            FunctionTransformer(lambda images: images / 255), NCAEDetector(**TINY)
        )
        pipeline.set_params(ncaedetector__epochs=1, ncaedetector__contamination=0.1)
        splits = OneClassSplit(StratifiedKFold(2))
        assert (cross_val_score(pipeline, X, y, scoring="roc_auc", cv=splits) > 0.6).all()


def test_pandas_input(good_images, eagerly):
    with eagerly():
        frame = pd.DataFrame(good_images.reshape(40, -1)).rename(columns=lambda i: f"pixel_{i}")
        detector = NCAEDetector(image_shape=(16, 16), contamination=0.1, **TINY).fit(frame)
        assert list(detector.feature_names_in_) == list(frame.columns)
        expected = NCAEDetector(contamination=0.1, **TINY).fit(good_images)
        np.testing.assert_array_equal(
            detector.score_samples(frame), expected.score_samples(good_images)
        )
        with pytest.raises(ValueError, match="feature names"):
            detector.predict(frame[frame.columns[::-1]])


def test_memory_mapped_and_listed_images(good_images, detector, tmp_path):
    np.save(tmp_path / "images.npy", good_images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    again = clone(detector).fit(mapped)
    expected = detector.score_samples(good_images)
    np.testing.assert_array_equal(again.score_samples(mapped), expected)
    np.testing.assert_array_equal(detector.score_samples(list(good_images)), expected)
    np.testing.assert_array_equal(detector.score_samples(good_images[..., None]), expected)


def test_a_new_fit_forgets_the_threshold_of_the_last(good_images):
    for detector in (NCAEDetector(false_alarm_rate=0.2, **TINY), TextureDetector()):
        detector.fit(good_images)
        p_values = detector.p_values(good_images)
        detector.set_params(contamination=0.1)
        np.testing.assert_array_equal(detector.p_values(good_images), p_values)
        detector.fit(good_images)
        assert not hasattr(detector, "calibration_scores_")
        assert not hasattr(detector, "false_alarm_rate_")
        assert not hasattr(detector.set_params(contamination="auto"), "p_values")


def test_a_fitted_detector_has_the_maps_that_it_was_fitted_for(good_images):
    detector = NCAEDetector(training="reconstruct", contamination=0.1, **TINY).fit(good_images)
    assert not hasattr(detector.set_params(training="repair"), "defect_map")
    detector = NCAEDetector(contamination=0.1, **TINY).fit(good_images)
    expected = detector.anomaly_map(good_images[:2])
    detector.set_params(training="reconstruct", statistic="mse")
    assert hasattr(detector, "defect_map") and hasattr(detector, "texture_map")
    np.testing.assert_array_equal(detector.anomaly_map(good_images[:2]), expected)


def test_warm_start_warns_of_images_held_out_too_late(good_images, eagerly):
    with eagerly():
        detector = NCAEDetector(warm_start=True, false_alarm_rate=0.2, **TINY).fit(good_images)
        detector.fit(good_images)  # the same are held out
        with pytest.warns(UserWarning, match="among those that the previous fit trained on"):
            detector.fit(good_images[1:])
        detector.set_params(random_state=None)
        with pytest.warns(UserWarning, match="among those that the previous fit trained on"):
            detector.fit(good_images[1:])


def test_names_of_columns_are_forgotten_with_the_table(good_images):
    table = pd.DataFrame(good_images[:, :2].reshape(len(good_images), -1)).add_prefix("pixel ")
    detector = TextureDetector(image_shape=(2, 16)).fit(table)
    assert len(detector.feature_names_in_) == 32
    detector.set_params(image_shape=None).fit(good_images)
    assert not hasattr(detector, "feature_names_in_") and detector.n_features_in_ == 256


@pytest.mark.parametrize("statistic", ["mse", ["std", "defect_peak"]])
def test_transformers_may_return_tables(good_images, statistic, eagerly):
    with eagerly():
        detector = NCAEDetector(statistic=statistic, contamination=0.1, **TINY).fit(good_images)
    expected = detector.score_samples(good_images[:2])
    with sklearn.config_context(transform_output="pandas"):
        np.testing.assert_array_equal(detector.score_samples(good_images[:2]), expected)
        np.testing.assert_array_equal(detector.score_samples(good_images[:1]), expected[:1])
        assert detector.residual_statistics(good_images[:3]).shape == (3, 15)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_cannot_be_scored_is_not_good(good_images, detector):
    X = good_images[:2].astype(float)
    X[0, 0, 0] = np.nan
    texture = TextureDetector().fit(good_images)
    with sklearn.config_context(assume_finite=True):
        assert detector.predict(X)[0] == -1
        assert texture.predict(X)[0] == -1 and np.isnan(texture.score_samples(X)[0])


def test_a_callback_does_not_keep_the_network(good_images, eagerly):
    callback = keras.callbacks.TerminateOnNaN()
    with eagerly():
        detector = NCAEDetector(contamination=0.1, callbacks=[callback], **TINY).fit(good_images)
    assert callback.model is None
    assert clone(detector).callbacks[0] is not callback
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(
        again.score_samples(good_images), detector.score_samples(good_images)
    )


def test_a_frozen_reconstructor_is_not_trained(good_images):
    frozen = FrozenEstimator(PCAReconstructor(5).fit(good_images[:20]))
    detector = ResidualDetector(frozen, contamination=0.1).fit(good_images[20:])
    assert detector.predict(good_images).shape == (40,)


def test_what_is_held_out_teaches_nothing(good_images, eagerly):
    """Other images in the place of those held out change the threshold, and nothing else."""
    n, parameters = len(good_images), {**TINY, "epochs": 1}
    with eagerly():
        first = NCAEDetector(false_alarm_rate=0.2, calibration=0.5, **parameters).fit(good_images)
        assert len(first.calibration_scores_) == n // 2
        held_out = np.isin(-first.score_samples(good_images), -first.calibration_scores_)
        others = good_images.copy()
        others[held_out] = others[held_out][:, ::-1, ::-1]
        # Brighter than all the others; a lone pixel would be taken for a hot one.
        others[np.flatnonzero(held_out)[0], 0, :2] = 255
        again = clone(first).fit(others)
        seeded = clone(first).set_params(random_state=1, contamination=0.1).fit(good_images)
        same = clone(first).set_params(contamination=0.1).fit(good_images)
    for weights, expected in zip(
        again.reconstructor_.weights_, first.reconstructor_.weights_, strict=True
    ):
        np.testing.assert_array_equal(weights, expected)
    np.testing.assert_array_equal(again._texture.mean, first._texture.mean)
    np.testing.assert_array_equal(again._center, first._center)
    np.testing.assert_array_equal(again._reach, first._reach)
    assert not np.array_equal(again.calibration_scores_, first.calibration_scores_)
    assert not np.array_equal(seeded.score_samples(good_images), same.score_samples(good_images))


def test_deviations_of_texture_are_those_of_other_images(good_images, eagerly):
    with eagerly():
        detector = NCAEDetector(contamination=0.1, **TINY).fit(good_images)
    X = good_images[..., np.newaxis]
    descriptions = describe_texture(X, detector.reconstructor_._scale)
    peaks = held_out_peaks(descriptions, np.arange(len(X)))
    assert detector._center[1] == np.median(peaks)
    # The network knows its training images: larger deviations of its peak count as usual too.
    of_network = DEFECT_MAP_STATISTICS["defect_peak"].compute(detector.defect_map(good_images))
    reach = np.quantile(of_network - np.median(of_network), 0.95)
    assert detector._reach[0] == pytest.approx(max(2.5 * reach, 0.03))


def test_groups_are_held_out_whole_and_count_once(good_images):
    groups = np.arange(len(good_images)) // 4

    class Recording(PCAReconstructor):
        def fit(self, X, y=None):
            seen.append(X)
            return super().fit(X, y)

    seen = []
    detector = ResidualDetector(Recording(2), calibration=0.4, false_alarm_rate=0.3, random_state=0)
    detector.fit(good_images, groups=groups)
    trained = {image.tobytes() for image in seen[0]}
    held_out = [image.tobytes() not in trained for image in good_images]
    whole = [groups[np.array(held_out)].tolist().count(group) for group in np.unique(groups)]
    assert set(whole) == {0, 4}
    n_groups = whole.count(4)
    assert n_groups == round(0.4 * len(np.unique(groups)))
    assert len(detector.calibration_scores_) == n_groups
    scores = detector.score_samples(good_images[held_out]).reshape(n_groups, 4)
    assert all(one in four for one, four in zip(detector.calibration_scores_, scores, strict=True))


def test_groups_reach_the_network_and_the_texture(good_images, eagerly):
    groups = np.arange(len(good_images)) // 4
    with eagerly():
        detector = NCAEDetector(
            **{**TINY, "epochs": 1},
            early_stopping=True,
            validation_fraction=0.15,
            contamination=0.1,
        ).fit(good_images, groups=groups)
    # Of 40 images, 6 would be held out one by one; of 10 groups, 2 are.
    assert (len(good_images), detector.reconstructor_.n_samples_fit_) == (40, 32)
    X = good_images[..., np.newaxis]
    descriptions = describe_texture(X, detector.reconstructor_._scale)
    assert detector._center[1] == np.median(held_out_peaks(descriptions, groups))


def test_groups_too_few_to_hold_one_out_are_an_error(good_images):
    detector = ResidualDetector(PCAReconstructor(2))
    with pytest.raises(ValueError, match="of n_groups=1 holds out all"):
        detector.fit(good_images, groups=np.zeros(len(good_images)))
    with pytest.raises(ValueError, match="3 values for"):
        detector.fit(good_images, groups=[1, 2, 3])


def test_groups_reach_a_reconstructor_that_takes_them(good_images, eagerly):
    with eagerly():
        groups = np.arange(len(good_images)) // 4
        stopping = NCAEReconstructor(
            **{**TINY, "epochs": 1}, early_stopping=True, validation_fraction=0.15
        )
        detector = ResidualDetector(stopping, contamination=0.1).fit(good_images, groups=groups)
        assert detector.reconstructor_.n_samples_fit_ == 32
        # Two of ten are held out for the threshold, one of eight to see when to stop.
        detector = ResidualDetector(stopping, false_alarm_rate=0.4, random_state=0)
        detector.fit(good_images, groups=groups)
        assert detector.reconstructor_.n_samples_fit_ == 28


def test_groups_pass_through_a_pipeline(good_images):
    pipeline = make_pipeline(FunctionTransformer(), TextureDetector())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few groups promise little
        pipeline.fit(good_images, texturedetector__groups=np.arange(len(good_images)) // 2)
    assert len(pipeline[-1].calibration_scores_) == len(good_images) // 2


def test_routed_groups_reach_the_detector_too(good_images):
    groups = np.arange(len(good_images)) // 2
    tuned = TunedThresholdDetector(
        make_pipeline(FunctionTransformer(), TextureDetector(false_alarm_rate=0.2)),
        max_false_alarm_rate=0.2,
        cv=GroupKFold(2),
    )
    with sklearn.config_context(enable_metadata_routing=True):
        tuned.fit(good_images, groups=groups)
    assert len(tuned.detector_[-1].calibration_scores_) == len(good_images) // 2


def test_defaults_are_those_of_the_reconstructor():
    ours = signature(NCAEDetector).parameters
    shared = signature(NCAEReconstructor).parameters
    assert len(shared) > 10
    for name, parameter in shared.items():
        assert ours[name].default == parameter.default, name


def test_warm_start_warns_where_the_images_or_groups_are_others(good_images, eagerly):
    with eagerly():
        detector = NCAEDetector(warm_start=True, false_alarm_rate=0.2, **TINY).fit(good_images)
        detector.fit(good_images)  # the same are held out
        with pytest.warns(UserWarning, match="the same images and groups again"):
            detector.fit(good_images[::-1])
        groups = np.arange(len(good_images)) // 2
        for _ in range(2):
            with pytest.warns(UserWarning, match="the same images and groups again"):
                detector.fit(good_images, groups=groups)
        detector.set_params(contamination=0.1).fit(good_images[::-1])  # holds nothing out


def test_a_new_fit_forgets_the_texture_of_the_last(good_images, eagerly, tmp_path):
    with eagerly():
        detector = NCAEDetector(contamination=0.1, **TINY).fit(good_images)
        detector.set_params(statistic="defect_peak").fit(good_images)
    persistence.save(detector, tmp_path / "part.ncae")
    np.testing.assert_array_equal(
        persistence.load(tmp_path / "part.ncae").score_samples(good_images),
        detector.score_samples(good_images),
    )


@pytest.mark.parametrize("n_channels", [1, 3])
def test_channels_first_are_refused_and_flat_images_are_not(n_channels):
    images = np.random.default_rng(0).normal(size=(30, n_channels, 20, 20))
    detector = ResidualDetector(PCAReconstructor(2), contamination=0.1)
    with pytest.raises(ValueError, match="looks like channels first"):
        detector.fit(images)
    flat = images[..., :3]  # as high as there could be channels
    assert detector.fit(flat).image_shape_ == (n_channels, 20, 3)


def test_one_row_of_a_table_is_no_single_image():
    rows = np.random.default_rng(0).normal(size=(30, 20))
    detector = ResidualDetector(PCAReconstructor(2), contamination=0.1).fit(rows)
    np.testing.assert_allclose(detector.score_samples(rows[:1]), detector.score_samples(rows)[:1])
    with pytest.raises(ValueError, match="is one image: give image"):
        ResidualDetector(PCAReconstructor(2), contamination=0.1).fit(
            rows.reshape(30, 4, 5)
        ).score_samples(rows[0].reshape(4, 5))


def test_warm_start_goes_on(good_images, eagerly):
    with eagerly():
        detector = NCAEDetector(warm_start=True, contamination=0.1, **TINY).fit(good_images)
        first = detector.reconstructor_
        detector.fit(good_images)
        assert len(detector.reconstructor_.history_["loss"]) == 4
        assert len(first.history_["loss"]) == 2


@pytest.mark.parametrize(
    "estimator",
    [
        TextureDetector(),
        NCAEDetector(contamination=0.1, filters=(4,), epochs=1),
        NCAEReconstructor(filters=(4,), epochs=1),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_long_rows_may_be_flattened_images(estimator, good_images, eagerly):
    rows = good_images.reshape(40, 256)
    with eagerly():
        with pytest.warns(UserWarning, match=r"rows of 256 values for .* image_shape=\(1, 256\)"):
            clone(estimator).fit(rows)
        for shape in ((1, 256), (16, 16)):
            clone(estimator).set_params(image_shape=shape).fit(rows)
        clone(estimator).fit(rows[:, :255])
        clone(estimator).fit(rows[:, np.newaxis])


def test_paths_are_to_be_loaded_first():
    for paths in (pd.DataFrame({"path": ["a.png", "b.png"]}), ["a.png"]):
        with pytest.raises(TypeError, match=r"ImageLoader\(size=\.\.\.\)\.transform\(paths\)"):
            TextureDetector().fit(paths)


@pytest.mark.parametrize("detector", [TextureDetector(), MeanBrightnessDetector()])
def test_a_table_with_a_column_of_images(detector, good_images):
    table = pd.DataFrame({"image": list(good_images)})
    expected = clone(detector).fit(good_images).score_samples(good_images)
    fitted = clone(detector).fit(table)
    for column in (table, table["image"]):
        np.testing.assert_array_equal(fitted.score_samples(column), expected)
    table.at[3, "image"] = good_images[3, :8]
    with pytest.raises(ValueError, match=r"one size, got shapes \(8, 16\) and \(16, 16\)"):
        detector.fit(table)


def test_any_reconstructor(labelled_images):
    X, y = labelled_images
    detector = ResidualDetector(PCAReconstructor(5), random_state=0, false_alarm_rate=0.2)
    detector.set_params(reconstructor__n_components=8).fit(X[y == 1])
    assert detector.reconstructor_.pca_.n_components_ == 8
    assert roc_auc_score(y, detector.decision_function(X)) > 0.9
    # Flat rows reach the reconstructor as images where it is told their shape.
    rows = X.reshape(len(X), -1)
    flat = clone(detector).set_params(image_shape=(16, 16)).fit(rows[y == 1])
    np.testing.assert_allclose(flat.score_samples(rows), detector.score_samples(X))


class OfOneLayout(PCAReconstructor):
    """Takes nothing but what it was fitted to."""

    def fit(self, X, y=None):
        self.layout_ = X.shape[1:]
        return super().fit(X)

    def predict(self, X):
        assert X.shape[1:] == self.layout_
        return super().predict(X)


@pytest.mark.parametrize("layout", [(256,), (16, 16), (16, 16, 1)])
def test_a_reconstructor_is_given_images_as_they_came(good_images, layout):
    images = good_images.reshape(-1, *layout)
    detector = ResidualDetector(OfOneLayout(2), false_alarm_rate=0.2).fit(images)
    assert detector.reconstructor_.layout_ == layout
    assert detector.reconstruct(images).shape == images.shape


class WrongShape(PCAReconstructor):
    def predict(self, X):
        return super().predict(X)[:, :3]


def test_a_reconstructor_of_another_shape_is_an_error(good_images):
    with pytest.raises(ValueError, match="must predict an array of the shape it is given"):
        ResidualDetector(WrongShape(5), contamination=0.1).fit(good_images)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros(16), ValueError, r"or \(n, n_features\); got an array of shape \(16,\)"),
        (np.zeros((2, 2, 8, 8, 1)), ValueError, r"got an array of shape \(2, 2, 8, 8, 1\)"),
        (np.zeros((5, 8, 0)), ValueError, r"got an array of shape \(5, 8, 0\)"),
        (np.zeros((0, 8, 8)), ValueError, "minimum of 1 is required"),
        (np.full((5, 8, 8), np.nan), ValueError, "contains NaN"),
        (np.full((5, 8, 8), np.inf), ValueError, "contains infinity"),
        (np.zeros((1, 8, 8)), ValueError, "n_samples=1 holds out all and has no image left"),
        (np.zeros((5, 3, 3)), ValueError, "smaller than the 4 x 4"),
        (np.zeros((5, 8, 8), complex), ValueError, "Complex data not supported"),
        ([np.zeros((8, 8)), np.zeros((8, 9))], ValueError, r"one size, got shapes \(8, 8\)"),
        (["a.png", "b.png"], TypeError, r"file paths such as 'a.png'.*ImageLoader"),
        ("a.png", TypeError, "file paths such as 'a.png'"),
        (np.array(["a.png"]), TypeError, "array of file paths"),
        (np.array([{}, {}]), TypeError, "array of dicts"),
        (np.array([[[{}]]]), TypeError, "float"),
    ],
)
def test_wrong_images(X, error, message):
    with pytest.raises(error, match=message):
        NCAEDetector(**TINY).fit(X)


def test_wrong_image_shape(good_images):
    rows = good_images.reshape(40, -1)
    with pytest.raises(ValueError, match=r"rows of 256 values, but an image_shape of \(16, 15\)"):
        NCAEDetector(image_shape=(16, 15), **TINY).fit(rows)
    with pytest.raises(ValueError, match=r"shape \(16, 16\), but image_shape=\(16, 16, 3\)"):
        NCAEDetector(image_shape=(16, 16, 3), **TINY).fit(good_images)
    for wrong in [(256,), (16, -16), (16.0, 16)]:
        with pytest.raises(ValueError, match="image_shape must be"):
            NCAEDetector(image_shape=wrong, **TINY).fit(rows)


def test_other_images_than_in_fit(detector, good_images):
    with pytest.raises(ValueError, match=r"fitted on images of shape \(16, 16, 1\)"):
        detector.predict(good_images[:, :8])
    with pytest.raises(ValueError, match="fitted on images of shape"):
        detector.predict(np.zeros((2, 16, 16, 3)))
    with pytest.raises(ValueError, match="features"):
        detector.predict(np.zeros((2, 17)))


@pytest.mark.parametrize("method", [*METHODS, "reconstruct", "residual", "residual_statistics"])
def test_not_fitted(good_images, method):
    with pytest.raises(NotFittedError):
        getattr(NCAEDetector(), method)(good_images)


@pytest.mark.parametrize(
    "parameters",
    [
        {"statistic": "median"},
        {"statistic": []},
        {"contamination": 0.6},
        {"calibration": 0},
        {"false_alarm_rate": 1.0},
    ],
)
def test_wrong_parameters(good_images, parameters):
    with pytest.raises(ValueError, match=r"parameter|Statistics must be"):
        NCAEDetector(**TINY).set_params(**parameters).fit(good_images)


def test_too_few_held_out_images_warn(good_images, eagerly):
    with eagerly():
        with pytest.warns(UserWarning, match="8 held-out good images cannot promise"):
            detector = NCAEDetector(**TINY).fit(good_images)
        assert detector.false_alarm_rate_ == 1 / 9


def test_castings_by_photograph_beat_isolation_forest(ncae_data):
    """Real castings, no photograph in both training and test."""
    manifest = pd.read_csv(ncae_data / "casting" / "manifest.csv")
    manifest = manifest[manifest["group"] != "c120"]
    splitter = GroupShuffleSplit(1, test_size=0.4, random_state=0)
    train, test = next(splitter.split(manifest, groups=manifest["group"]))
    train, test = manifest.iloc[train], manifest.iloc[test]
    train = train[train["label"] == 0].sample(200, random_state=0)
    test = test.groupby("label").sample(100, random_state=0)

    def load(rows):
        paths = (ncae_data / "casting" / path for path in rows["path"])
        return np.stack([read_image(path, size=(64, 64)) for path in paths])

    X_train, X_test, y = load(train), load(test), np.where(test["label"] == 1, -1, 1)
    ncae = NCAEDetector(epochs=40, contamination=0.05, random_state=0)
    forest = IsolationForest(random_state=0)
    auc = roc_auc_score(y, ncae.fit(X_train).decision_function(X_test))
    forest.fit(X_train.reshape(200, -1))
    assert auc > roc_auc_score(y, forest.decision_function(X_test.reshape(200, -1)))


@pytest.mark.parametrize("threads", ["1", "2"])
def test_scores_are_the_same_in_one_thread_and_in_several(
    threads, good_images, eagerly, monkeypatch
):
    """A worker that may have one core does one thing after the other."""
    with eagerly():
        detector = NCAEDetector(contamination=0.1, **TINY).fit(good_images)
        expected = np.concatenate([detector.score_samples(good_images[i : i + 7]) for i in (0, 7)])
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", threads)
        monkeypatch.setattr("sklearn_ncae.reconstructor._BATCH_IMAGES", 5)
        monkeypatch.setattr("joblib.cpu_count", lambda: 2)
        start, started = threading.Thread.start, []
        monkeypatch.setattr(
            threading.Thread, "start", lambda thread: started.append(thread) or start(thread)
        )
        np.testing.assert_allclose(detector.score_samples(good_images[:14]), expected, rtol=1e-5)
    assert bool(started) == (threads == "2")
