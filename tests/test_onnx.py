import copy
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import keras
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

import sklearn_ncae
from sklearn_ncae import KerasReconstructor, NCAEDetector, NCAEReconstructor, ResidualDetector
from sklearn_ncae._onnx_graph import Graph, integers
from sklearn_ncae._onnx_layers import ACTIVATIONS, CONVERTERS, add_network
from sklearn_ncae._onnx_statistics import DEFECT_MAP_STATISTICS, STATISTICS, Residuals
from sklearn_ncae.baselines import PCAReconstructor
from sklearn_ncae.calibration import promised_rate
from sklearn_ncae.datasets import load_elpv
from sklearn_ncae.file_scoring import score_images
from sklearn_ncae.inspection import ResidualMapDisplay
from sklearn_ncae.layers import DetailUpsampling2D, NeighborConv2D, PixelShuffle
from sklearn_ncae.model_selection import TunedThresholdDetector
from sklearn_ncae.network import build_network
from sklearn_ncae.onnx import OnnxDetector, export
from sklearn_ncae.residuals import DEFECT_MAP_STATISTICS as REFERENCE_OF_MAPS
from sklearn_ncae.residuals import STATISTICS as REFERENCE_OF_RESIDUALS
from sklearn_ncae.residuals import ResidualStatistics
from sklearn_ncae.texture import TextureDetector

TINY = {"filters": (4, 8), "epochs": 1, "false_alarm_rate": 0.2, "random_state": 0}
METHODS = ["score_samples", "decision_function", "predict", "p_values", "residual", "defect_map"]
METHODS += ["anomaly_map"]


def exported(detector, folder, **kwargs):
    path = folder / "detector.onnx"
    export(detector, path, **kwargs)
    return OnnxDetector(path, n_threads=1)


def images_like(shape, n=40, dtype=np.uint8, seed=0):
    smooth = np.random.default_rng(seed).uniform(40, 200, (n, *(1 for _ in shape)))
    noise = np.random.default_rng(seed + 1).normal(0, 12, (n, *shape))
    return np.clip(smooth + noise, 0, 255).astype(dtype)


def run(graph, folder, inputs):
    graph.save(folder / "graph.onnx", name="test", version="0", metadata={})
    return onnxruntime.InferenceSession(folder / "graph.onnx").run(None, inputs)[0]


def apart(scores, levels, reach):
    """Which scores are not at one of the levels but for rounding."""
    return (np.abs(np.subtract.outer(scores, levels)) > reach).all(axis=-1)


def reach_of(scores):
    """How far scores of several statistics, which are about 0, may differ by rounding."""
    return 1e-5 * max(np.abs(scores).max(), 1.0)


def assert_scores_agree(actual, scores, detector):
    atol = reach_of(scores) if len(detector._names) > 1 else 0
    np.testing.assert_allclose(actual, scores, rtol=1e-5, atol=atol)


def assert_same_answers(actual, detector, X):
    """All that both answer; scores within 1e-5, residuals within what float32 tells apart."""
    scores = detector.score_samples(X)
    reach = reach_of(scores)
    several = len(detector._names) > 1
    assert_scores_agree(actual.score_samples(X), scores, detector)
    np.testing.assert_allclose(actual.decision_function(X), scores - detector.offset_, atol=reach)
    clear = apart(scores, [detector.offset_], reach) | (not several)
    np.testing.assert_array_equal(actual.predict(X)[clear], detector.predict(X)[clear])
    residual = detector.residual(X)
    assert actual.residual(X).dtype == residual.dtype
    np.testing.assert_allclose(actual.residual(X), residual, atol=1e-5 * np.abs(X).max())
    reconstructions = detector.reconstruct(X)
    np.testing.assert_allclose(actual.reconstruct(X), reconstructions, atol=1e-5 * np.abs(X).max())
    assert hasattr(actual, "p_values") == hasattr(detector, "p_values")
    if hasattr(detector, "p_values"):
        clear = apart(scores, detector.calibration_scores_, reach)
        np.testing.assert_array_equal(actual.p_values(X)[clear], detector.p_values(X)[clear])
    assert hasattr(actual, "defect_map") == hasattr(detector, "defect_map")
    if hasattr(detector, "defect_map"):
        np.testing.assert_allclose(actual.defect_map(X), detector.defect_map(X), atol=1e-6)
    assert hasattr(actual, "anomaly_map") == hasattr(detector, "anomaly_map")
    if hasattr(detector, "anomaly_map"):
        np.testing.assert_allclose(
            actual.anomaly_map(X), detector.anomaly_map(X), rtol=1e-5, atol=1e-4
        )


@pytest.fixture(scope="module")
def fit(eagerly):
    """Fit without compiling the training; what scores is compiled."""

    def fit_eagerly(detector, X):
        with eagerly():
            return detector.fit(X)

    return fit_eagerly


@pytest.fixture(scope="module")
def detector(fit, good_images):
    return fit(NCAEDetector(**TINY), good_images)


@pytest.fixture(scope="module")
def model_file(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "detector.onnx"
    export(detector, path)
    return path


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ((17, 23), {}),
        ((19, 16, 3), {"contamination": 0.1, "statistic": ["defect_peak", "mse", "entropy"]}),
        ((16, 21, 3), {"training": "reconstruct", "convolution": "standard"}),
        ((16, 16), {"statistic": "joint"}),
        ((18, 15), {"training": "reconstruct", "bottleneck": "dense", "statistic": "abs_max"}),
    ],
)
def test_same_answers_as_the_detector(shape, parameters, fit, tmp_path):
    X = images_like(shape)
    detector = fit(NCAEDetector(**TINY, **parameters), X)
    unseen = images_like(shape, seed=2)
    unseen[::3, 4:7, 2:9] = 250
    actual = exported(detector, tmp_path)
    assert_same_answers(actual, detector, X)  # with the image that the threshold is taken from
    assert_same_answers(actual, detector, unseen)
    assert_same_answers(actual, detector, unseen[:1])
    assert actual.offset_ == detector.offset_
    assert actual.image_shape_ == detector.image_shape_
    assert actual.n_features_in_ == detector.n_features_in_


@settings(max_examples=6)
@given(
    sides=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    channels=st.sampled_from([(), (3,)]),
    parameters=st.sampled_from([{}, {"statistic": "joint"}, {"training": "reconstruct"}]),
    seed=st.integers(0, 1000),
)
def test_same_answers_for_images_of_any_size(
    sides, channels, parameters, seed, fit, tmp_path_factory
):
    shape = (*sides, *channels)
    detector = fit(NCAEDetector(**TINY, **parameters), images_like(shape, n=25, seed=seed))
    actual = exported(detector, tmp_path_factory.mktemp("onnx"))
    assert_same_answers(actual, detector, images_like(shape, n=5, seed=seed + 2))


@pytest.mark.parametrize("seed", range(3))
def test_skewness_has_the_p_values_of_the_images_it_was_calibrated_on(seed, fit, tmp_path):
    X = images_like((20, 19, 3), seed=10 * seed)
    detector = fit(NCAEDetector(**TINY, training="reconstruct", statistic="skewness"), X)
    p_values = exported(detector, tmp_path).p_values(X)
    np.testing.assert_array_equal(p_values, detector.p_values(X))


def test_a_threshold_of_decisions_travels_with_its_scores(fit, tmp_path):
    X = images_like((16, 16))
    detector = fit(NCAEDetector(**TINY), X)
    tuned = TunedThresholdDetector(
        detector, cv="prefit", max_false_alarm_rate=0.2, response_method="decision_function"
    ).fit(X)
    actual = exported(tuned, tmp_path)
    assert actual.offset_ == tuned.offset_
    np.testing.assert_allclose(actual.score_samples(X), tuned.score_samples(X), atol=1e-5)
    np.testing.assert_allclose(actual.decision_function(X), tuned.decision_function(X), atol=1e-5)


@pytest.mark.parametrize("shape", [(17, 23), (40, 33, 3), (200, 210)])
def test_texture_alone(shape, tmp_path):
    X = images_like(shape)
    detector = TextureDetector().fit(X[:30])
    actual = exported(detector, tmp_path)
    scores = detector.score_samples(X)
    np.testing.assert_allclose(actual.score_samples(X), scores, rtol=1e-5)
    clear = apart(scores, [detector.offset_], 1e-5 * np.abs(scores).max())
    np.testing.assert_array_equal(actual.predict(X)[clear], detector.predict(X)[clear])
    np.testing.assert_allclose(actual.anomaly_map(X), detector.anomaly_map(X), rtol=1e-4, atol=1e-4)
    assert actual.metadata_["estimator"] == "TextureDetector"
    assert not hasattr(actual, "residual") and not hasattr(actual, "defect_map")
    clear = apart(scores, detector.calibration_scores_, 1e-5 * np.abs(scores).max())
    np.testing.assert_array_equal(actual.p_values(X)[clear], detector.p_values(X)[clear])
    without_maps = exported(detector, tmp_path, maps=False)
    np.testing.assert_array_equal(without_maps.score_samples(X), actual.score_samples(X))


def test_same_decisions_on_solar_cells(tmp_path):
    cells = load_elpv(kind="all", size=(24, 24), n_jobs=2)
    train = cells.images[cells.train[::8]]
    detector = NCAEDetector(filters=(4, 8), epochs=10, false_alarm_rate=0.1, random_state=0)
    detector.fit(train)
    X, y = cells.images[cells.test], cells.target[cells.test]
    actual = exported(detector, tmp_path)
    scores, expected = actual.score_samples(X), detector.score_samples(X)
    np.testing.assert_allclose(scores, expected, atol=reach_of(expected))
    np.testing.assert_array_equal(actual.predict(X), detector.predict(X))
    clear = apart(expected, detector.calibration_scores_, reach_of(expected))
    np.testing.assert_array_equal(actual.p_values(X)[clear], detector.p_values(X)[clear])
    assert roc_auc_score(y, scores) == pytest.approx(roc_auc_score(y, expected), abs=1e-4)


@pytest.mark.parametrize(
    ("trained", "exported_as", "scored"),
    [
        ("uint8", ["uint8", "float32"], ["uint8", "int64", "float64"]),
        ("uint16", ["uint16"], ["uint16", "float32"]),
        ("float64", ["auto", "float64"], ["float64"]),
    ],
)
def test_number_types(trained, exported_as, scored, fit, tmp_path):
    X = (images_like((16, 16)) / (255 if trained == "float64" else 1)).astype(trained)
    detector = fit(NCAEDetector(training="reconstruct", **TINY), X)
    for dtype in exported_as:
        actual = exported(detector, tmp_path, dtype=dtype)
        for given_as in scored:
            given_X = X.astype(given_as)
            expected = detector.score_samples(given_X)
            np.testing.assert_allclose(actual.score_samples(given_X), expected, rtol=1e-5)
            clear = apart(expected, [detector.offset_], 1e-5 * np.abs(expected).max())
            labels = detector.predict(given_X)
            np.testing.assert_array_equal(actual.predict(given_X)[clear], labels[clear])


@pytest.mark.parametrize("shape", [(16, 16), (40, 36)])
def test_hot_pixels_of_16_bits(shape, fit, tmp_path):
    X = images_like(shape, n=25, dtype=np.uint16)
    X[:3, 5, 6] = 65535
    detector = fit(NCAEDetector(**TINY), X)
    assert_scores_agree(
        exported(detector, tmp_path).score_samples(X), detector.score_samples(X), detector
    )


@pytest.mark.parametrize(
    ("training", "shape"), [("reconstruct", (16, 16)), ("repair", (16, 16)), ("repair", (195, 204))]
)
@pytest.mark.parametrize(("black", "level"), [(1e9, 1.0), (0.0, 1e18), (0.0, 1e-25)])
def test_float64_where_float32_is_too_coarse_or_small(training, shape, black, level, fit, tmp_path):
    X = black + level * images_like(shape, n=25, dtype=np.float64)
    detector = fit(NCAEDetector(training=training, contamination=0.1, **TINY), X)
    scores = detector.score_samples(X)
    for maps in [True, False]:
        actual = exported(detector, tmp_path, maps=maps)
        assert_scores_agree(actual.score_samples(X), scores, detector)


@pytest.mark.filterwarnings("ignore:The images have values")
def test_pixels_that_float32_cannot_compute_with_are_refused(detector, good_images, tmp_path):
    huge = good_images * 1e18
    for X in [huge, huge.astype(np.float32), good_images.astype(np.int64) << 50]:
        with pytest.raises(ValueError, match=r"above 1e\+15.*dtype='float64'"):
            exported(detector, tmp_path).predict(X)
        actual = exported(detector, tmp_path, dtype="float64")
        assert_scores_agree(actual.score_samples(X), detector.score_samples(X), detector)
    with pytest.raises(ValueError, match="at most 1e\\+100"):
        exported(detector, tmp_path, dtype="float64").predict(good_images * 1e200)


def test_what_is_no_number_is_not_good(detector, good_images, tmp_path):
    detector = copy.copy(detector)
    detector._center = detector._center * np.nan
    actual = exported(detector, tmp_path)
    assert np.isnan(actual.score_samples(good_images)).all()
    assert (actual.predict(good_images) == -1).all()


def test_the_image_that_the_threshold_is_taken_from(detector, good_images, model_file):
    at_threshold = detector.score_samples(good_images) == detector.offset_
    assert at_threshold.any()
    actual = OnnxDetector(model_file)
    np.testing.assert_array_equal(actual.decision_function(good_images[at_threshold]), 0)
    np.testing.assert_array_equal(actual.p_values(good_images), detector.p_values(good_images))


def test_values_that_the_number_type_cannot_hold(detector, good_images, tmp_path):
    actual = exported(detector, tmp_path, dtype="uint8")
    for X in [good_images + 0.5, good_images.astype(int) + 200, -good_images.astype(np.int8)]:
        with pytest.raises(ValueError, match=r"takes uint8 images.*dtype='float32'"):
            actual.predict(X)


def test_tables_and_layouts(fit, good_images, tmp_path):
    rows = good_images.reshape(len(good_images), -1)
    detector = fit(NCAEDetector(image_shape=(16, 16), **TINY), rows)
    actual = exported(detector, tmp_path)
    for X in [rows, good_images, good_images[..., np.newaxis]]:
        expected = detector.score_samples(X)
        reach = reach_of(expected)
        np.testing.assert_allclose(actual.score_samples(X), expected, atol=reach)
        assert actual.residual(X).shape == X.shape
    table = ResidualDetector(
        NCAEReconstructor(filters=(4,), epochs=1, random_state=0), false_alarm_rate=0.2
    )
    fit(table, rows[:, :20])
    assert_same_answers(exported(table, tmp_path), table, rows[:, :20])


@pytest.mark.parametrize("response_method", ["auto", "decision_function"])
def test_tuned_thresholds(response_method, detector, labelled_images, tmp_path):
    X, y = labelled_images
    tuned = TunedThresholdDetector(
        detector, cv="prefit", refit=False, scoring="f1", response_method=response_method
    ).fit(X, y)
    actual = exported(tuned, tmp_path)
    np.testing.assert_array_equal(actual.predict(X), tuned.predict(X))
    decision = tuned.decision_function(X)
    reach = reach_of(decision)
    np.testing.assert_allclose(actual.decision_function(X), decision, atol=reach)
    of_detector = tuned.offset_ + tuned._shift
    promised = promised_rate(detector.calibration_scores_, of_detector)
    assert actual.false_alarm_rate_ == promised


def build_autoencoder(meta):
    inputs = keras.Input((None, None, 1))
    x = layers.Rescaling(1 / 255)(inputs)
    code = keras.Sequential(
        [
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(),
        ]
    )(x)
    x = layers.Conv2DTranspose(1, 3, strides=2, padding="same")(code)
    return keras.Model(inputs, layers.Rescaling(255, offset=0.5)(x))


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 1)])
def test_own_keras_networks(shape, good_images, tmp_path):
    X = good_images.reshape(-1, *shape)
    reconstructor = KerasReconstructor(build_autoencoder, loss="mse", optimizer="adam")
    detector = ResidualDetector(reconstructor, false_alarm_rate=0.2, random_state=0).fit(X)
    assert_same_answers(exported(detector, tmp_path), detector, X)


def test_own_keras_network_of_rows(good_images, tmp_path):
    rows = good_images.reshape(len(good_images), -1) / np.float32(255)
    network = keras.Sequential([keras.Input((256,)), layers.Dense(8), layers.Dense(256)])
    reconstructor = KerasReconstructor(network, loss="mse", optimizer="adam")
    detector = ResidualDetector(reconstructor, false_alarm_rate=0.2, random_state=0).fit(rows)
    assert_same_answers(exported(detector, tmp_path), detector, rows)


def without_output_padding():
    try:
        return [layers.Conv2DTranspose(5, 3, strides=2, padding="same", output_padding=0)]
    except ValueError:  # Keras 3.8 takes no 0
        return []


# Every option that changes what a layer computes.
LAYERS = [
    NeighborConv2D(5),
    NeighborConv2D(5, strides=2, activation="tanh"),
    NeighborConv2D(5, dilation_rate=(2, 1), use_bias=False, activation=None),
    layers.Conv2D(5, 3, padding="same"),
    layers.Conv2D(5, 1, activation="sigmoid"),
    layers.Conv2D(5, (4, 3), strides=(2, 3), padding="same", use_bias=False),
    layers.Conv2D(5, (2, 3), strides=2),
    layers.Conv2D(6, 3, dilation_rate=(1, 2), padding="same", groups=3),
    layers.Conv2DTranspose(5, 3, padding="same", activation="relu"),
    layers.Conv2DTranspose(5, (4, 3), strides=2, padding="same"),
    layers.Conv2DTranspose(5, 2, strides=3, padding="same", use_bias=False),
    layers.Conv2DTranspose(5, 3, strides=2),
    layers.Conv2DTranspose(5, 2, strides=3),
    *without_output_padding(),
    PixelShuffle(2),
    layers.UpSampling2D((2, 3)),
    layers.UpSampling2D((3, 2), interpolation="bilinear"),
    layers.Cropping2D(((1, 2), (0, 3))),
    layers.ZeroPadding2D(((1, 2), (0, 3))),
    layers.MaxPooling2D(2),
    layers.MaxPooling2D((3, 2), strides=2, padding="same"),
    layers.AveragePooling2D(2),
    layers.AveragePooling2D((3, 2), strides=2, padding="same"),
    layers.BatchNormalization(),
    layers.BatchNormalization(scale=False, center=False),
    layers.Dense(5, activation="elu"),
    layers.Dense(5, use_bias=False),
    layers.Flatten(),
    layers.Reshape((3, 7, 10)),
    layers.Reshape((21, 10)),
    layers.Rescaling(0.5, offset=1.0),
    layers.Rescaling([0.5, 1.0, 2.0], offset=[1.0, 2.0, 3.0]),
    layers.LeakyReLU(0.3),
    layers.Dropout(0.5),
    layers.SpatialDropout2D(0.5),
    layers.GaussianNoise(0.5),
    *[layers.Activation(name) for name in [*ACTIVATIONS, "silu"]],
]


def converted(model, images, folder):
    graph = Graph()
    name = graph.input("image", np.float32, images.shape[1:])
    outputs = add_network(graph, model, name, images.shape[1:])
    graph.output("outputs", outputs.name, np.float32, outputs.shape)
    return run(graph, folder, {"image": images})


@pytest.mark.parametrize(("sides", "factor"), [((6, 8), 2), ((7, 10), 3)])
def test_detail_upsampling(sides, factor, tmp_path):
    images = np.random.default_rng(0).normal(size=(2, *sides, 3)).astype(np.float32)
    inputs = keras.Input((*sides, 3))
    blocks = layers.AveragePooling2D(factor, padding="same")(inputs)
    outputs = layers.Conv2D(5, 1)(blocks)
    model = keras.Model(inputs, DetailUpsampling2D(factor)([outputs, blocks, inputs]))
    expected = model.predict_on_batch(images)
    assert expected.shape == (2, *sides, 5)
    np.testing.assert_allclose(converted(model, images, tmp_path), expected, rtol=1e-5, atol=1e-6)


def with_random_weights(model, seed=0):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.1, 0.9, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_each_layer(layer, tmp_path):
    shape = (7, 10, 8 if isinstance(layer, PixelShuffle) else 3)
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    model = with_random_weights(keras.Sequential([keras.Input(shape), layer]))
    expected = model.predict_on_batch(images)
    actual = converted(model, images, tmp_path)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [-1, 1, 2, 3])
def test_layers_of_several_inputs(axis, tmp_path):
    images = np.random.default_rng(0).normal(size=(2, 6, 8, 3)).astype(np.float32)
    inputs = keras.Input((6, 8, 3))
    doubled = layers.Add()([inputs, inputs])
    joined = layers.Concatenate(axis=axis)([inputs, doubled])
    expected = np.concatenate([images, 2 * images], axis=axis)
    actual = converted(keras.Model(inputs, joined), images, tmp_path)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    for convolution in [layers.Conv2D(6, 3), layers.Conv2D(6, 3, groups=3), NeighborConv2D(4)]:
        model = with_random_weights(keras.Model(inputs, convolution(joined)))
        expected = np.asarray(model(images))
        actual = converted(model, images, tmp_path)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_joined_rows(tmp_path):
    images = np.random.default_rng(0).normal(size=(2, 6, 8, 1)).astype(np.float32)
    inputs = keras.Input((6, 8, 1))
    rows = layers.Flatten()(inputs)
    model = keras.Model(inputs, layers.Concatenate()([rows, layers.LeakyReLU(0.5)(rows)]))
    actual = converted(model, images, tmp_path)
    np.testing.assert_allclose(actual, np.asarray(model(images)), rtol=1e-6)


def test_a_layer_used_twice(tmp_path):
    images = np.random.default_rng(0).normal(size=(2, 6, 8, 1)).astype(np.float32)
    inputs, layer = keras.Input((6, 8, 1)), layers.Conv2D(1, 3, padding="same")
    model = with_random_weights(keras.Model(inputs, layer(layer(inputs))))
    expected = np.asarray(model(images))
    np.testing.assert_allclose(converted(model, images, tmp_path), expected, rtol=1e-5, atol=1e-5)


def test_every_layer_of_the_table_is_tested():
    of_several_inputs = {layers.Add, layers.Concatenate, DetailUpsampling2D}
    assert {type(layer) for layer in LAYERS} | of_several_inputs == set(CONVERTERS)


@settings(max_examples=25, deadline=None)
@given(
    sides=st.tuples(st.integers(4, 19), st.integers(4, 19)),
    channels=st.sampled_from([1, 3]),
    training=st.sampled_from(["repair", "reconstruct"]),
    bottleneck=st.sampled_from(["spatial", "dense"]),
    convolution=st.sampled_from(["neighbor", "standard"]),
    seed=st.integers(0, 1000),
)
def test_networks_of_any_size(
    sides, channels, training, bottleneck, convolution, seed, tmp_path_factory
):
    shape = (*sides, channels)
    model = build_network(
        shape,
        training=training,
        filters=(3, 5),
        bottleneck=bottleneck,
        convolution=convolution,
        random_state=np.random.RandomState(seed),
    )
    images = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)
    expected = np.asarray(model(images))
    actual = converted(model, images, tmp_path_factory.getbasetemp())
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_the_same_statistics_are_known():
    assert set(STATISTICS) == set(REFERENCE_OF_RESIDUALS)
    assert set(DEFECT_MAP_STATISTICS) == set(REFERENCE_OF_MAPS)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3])),
    kind=st.sampled_from(["normal", "sparse", "constant", "zero"]),
    seed=st.integers(0, 1000),
)
def test_statistics_of_residuals(shape, kind, seed, tmp_path_factory):
    rng = np.random.default_rng(seed)
    residuals = rng.normal(1, 5, (3, *shape)).astype(np.float32)
    residuals *= {"normal": 1, "sparse": rng.random((3, *shape)) < 0.2, "zero": 0}.get(kind, 1)
    if kind == "constant":
        residuals[...] = 2.5
    graph = Graph()
    nodes = Residuals(graph, graph.input("residual", np.float32, shape), shape, np.float32)
    columns = [graph.add("Unsqueeze", add(nodes), integers(1)) for add in STATISTICS.values()]
    table = graph.add("Concat", *columns, axis=1)
    graph.output("statistics", table, np.float64, (len(columns),))
    actual = run(graph, tmp_path_factory.getbasetemp(), {"residual": residuals})
    expected = ResidualStatistics(list(STATISTICS)).transform(residuals.astype(np.float64))
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", DEFECT_MAP_STATISTICS)
@pytest.mark.parametrize("shape", [(40, 31), (5, 3), (1, 1)])
def test_statistics_of_defect_maps(name, shape, tmp_path):
    maps = np.random.default_rng(0).random((3, *shape)).astype(np.float32) ** 4
    graph = Graph()
    value = DEFECT_MAP_STATISTICS[name](graph, graph.input("maps", np.float32, shape), shape, 1)
    graph.output("value", value, np.float64)
    expected = REFERENCE_OF_MAPS[name].compute(maps)
    np.testing.assert_allclose(run(graph, tmp_path, {"maps": maps}), expected, rtol=1e-6)


def test_several_outputs_at_once_are_those_of_the_methods(model_file, good_images):
    detector = OnnxDetector(model_file)
    rows = good_images.reshape(len(good_images), -1)
    of_methods = {
        "score": detector.score_samples,
        "prediction": detector.predict,
        "p_value": detector.p_values,
        "anomaly_map": detector.anomaly_map,
        "residual": detector.residual,
    }
    for X in (good_images, rows):
        values = detector.run(X, list(of_methods))
        assert list(values) == list(of_methods)
        for name, method in of_methods.items():
            np.testing.assert_array_equal(values[name], method(X))
    assert list(detector.run(rows)) == ["score", "prediction"]
    with pytest.raises(ValueError, match=r"has no output 'scores'; it has .*score, decision"):
        detector.run(rows, ["scores"])


@pytest.mark.parametrize("maps", [False, True])
def test_a_chunk_of_images_is_computed_once(model_file, good_images, maps):
    detector = OnnxDetector(model_file, n_threads=1)
    images = good_images[:16]
    with patch.object(detector, "_session", wraps=detector._session) as counted:
        scored = list(score_images(detector, images, maps=maps))
    assert counted.run.call_count == 1
    np.testing.assert_array_equal([one.score for one in scored], detector.score_samples(images))
    np.testing.assert_array_equal([one.p_value for one in scored], detector.p_values(images))


def test_the_file_is_valid_and_says_what_it_is(detector, model_file, good_images):
    model = onnx.load(model_file)
    onnx.checker.check_model(model, full_check=True)
    assert model.producer_name == "sklearn-ncae"
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata == {
        "sklearn_ncae_version": sklearn_ncae.__version__,
        "estimator": "NCAEDetector",
        "statistics": ["defect_peak", "texture"],
        "offset": detector.offset_,
        "labels": {"1": "good", "-1": "defective"},
        "image_shape": [16, 16, 1],
        "false_alarm_rate": detector.false_alarm_rate_,
        "pixel_range": list(detector.reconstructor_._scale.pixel_range),
    }
    outputs = [output.name for output in model.graph.output]
    assert sorted(outputs) == sorted(
        ["score", "decision", "prediction", "p_value", "residual", "defect_map", "anomaly_map"]
    )
    actual = OnnxDetector(model_file)
    assert actual.metadata_ == metadata
    assert actual.false_alarm_rate_ == detector.false_alarm_rate_
    assert repr(actual) == f"OnnxDetector({str(model_file)!r})"
    # One node per convolution, two where the channels of two levels meet.
    operators = [node.op_type for node in model.graph.node]
    kinds = [type(layer) for layer in detector.reconstructor_.model_.layers]
    expected = [NeighborConv2D, layers.Conv2D, layers.Concatenate]
    assert operators.count("Conv") == sum(kinds.count(kind) for kind in expected)
    # The texture's comparisons are put together, and its brightness to them; nothing else is.
    assert operators.count("Concat") == 2


def test_exporting_leaves_the_detector_as_it_was(detector, good_images, tmp_path):
    scores = detector.score_samples(good_images)
    for name in ["first.onnx", "second.onnx"]:
        export(detector, str(tmp_path / name))
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()
    np.testing.assert_array_equal(detector.score_samples(good_images), scores)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_need_no_file(copied, detector, good_images, tmp_path):
    actual = exported(detector, tmp_path)
    (tmp_path / "detector.onnx").unlink()
    again = copied(actual)
    assert (again.n_threads, again.providers) == (1, ("CPUExecutionProvider",))
    np.testing.assert_array_equal(again.predict(good_images), actual.predict(good_images))


def test_threads_share_a_detector(model_file, good_images):
    actual = OnnxDetector(model_file, n_threads=1)
    expected = actual.score_samples(good_images)
    with ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(actual.score_samples, [good_images[i:] for i in range(30)]))
    for start, values in enumerate(scores):
        np.testing.assert_allclose(values, expected[start:], rtol=1e-6)


@pytest.mark.parametrize("n_threads", [1, 3, None])
def test_batches_make_no_difference(n_threads, model_file, good_images, monkeypatch):
    actual = OnnxDetector(model_file, n_threads=n_threads)
    expected = [getattr(actual, method)(good_images) for method in METHODS]
    monkeypatch.setattr("sklearn_ncae.onnx._BATCH_IMAGES", 7)
    for detector in (actual, pickle.loads(pickle.dumps(actual))):
        for method, value in zip(METHODS, expected, strict=True):
            np.testing.assert_allclose(getattr(detector, method)(good_images), value, rtol=1e-6)


def test_a_bad_image_in_the_last_of_several_batches_is_refused(
    model_file, good_images, monkeypatch
):
    actual = OnnxDetector(model_file, n_threads=2)
    monkeypatch.setattr("sklearn_ncae.onnx._BATCH_IMAGES", 7)
    bad = good_images.astype(np.float64)
    bad[-1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        actual.score_samples(bad)
    assert actual.score_samples(good_images).shape == (len(good_images),)


def test_layouts_of_arrays(model_file, good_images):
    actual = OnnxDetector(model_file, n_threads=1)
    expected = actual.score_samples(good_images)
    read_only = good_images.copy()
    read_only.flags.writeable = False
    for X in [
        list(good_images),
        good_images.astype(object),
        good_images.astype(">f8"),
        np.asfortranarray(good_images),
        np.repeat(good_images, 2, axis=2)[:, :, ::2],
        read_only,
    ]:
        np.testing.assert_allclose(actual.score_samples(X), expected, rtol=1e-6)


def bad_inputs():
    images = np.full((2, 16, 16), 7.0)
    nan, infinite = images.copy(), images.copy()
    nan[0, 0, 0], infinite[0, 0, 0] = np.nan, np.inf
    return {
        "nan": nan,
        "infinite": infinite,
        "complex": images + 1j,
        "strings": images.astype(str),
        "words": np.full((2, 256), "word", object),
        "no images": images[:0],
        "one image": images[0],
        "one number": np.array(1.0),
        "a list of numbers": [1.0, 2.0],
        "too small": images[:, :15],
        "colour": np.stack([images] * 3, axis=-1),
        "five dimensions": images[..., None, None],
        "short rows": images.reshape(2, -1)[:, :-1],
        "sparse": scipy.sparse.csr_matrix(images.reshape(2, -1)),
        "a path": "image.png",
        "paths": [Path("a.png"), Path("b.png")],
        "mixed sizes": [images[0], images[0, :9]],
    }


@pytest.mark.parametrize("name", bad_inputs())
def test_the_same_errors_as_the_detector(name, detector, model_file):
    X = bad_inputs()[name]
    with pytest.raises((TypeError, ValueError)) as expected:
        detector.score_samples(X)
    with pytest.raises(expected.type) as actual:
        OnnxDetector(model_file).score_samples(X)
    if name != "strings":
        # scikit-learn's own messages differ from version to version in what follows.
        wanted = str(expected.value).replace("NCAEDetector", "OnnxDetector")
        assert str(actual.value).split()[:4] == wanted.split()[:4]


def test_images_of_another_unit_are_warned_of(model_file, good_images):
    with pytest.warns(UserWarning, match="in another unit"):
        OnnxDetector(model_file).predict(good_images / 255)


@pytest.mark.filterwarnings("ignore:The images have values")
def test_too_large_for_the_number_type(model_file, good_images):
    with pytest.raises(ValueError, match=r"infinity or a value too large for dtype\('float32'\)"):
        OnnxDetector(model_file).predict(good_images * 1e300)


@pytest.mark.parametrize("statistic", ["auto", "joint", ["defect_max", "defect_mean"]])
@pytest.mark.parametrize("shape", [(30, 25), (195, 204)])
def test_without_maps_the_scores_are_the_same(statistic, shape, fit, tmp_path):
    # Of several contrasts, or rounding would be large beside what differs from image to image.
    plain = images_like(shape, n=25).astype(float)
    means = plain.mean(axis=(1, 2), keepdims=True)
    contrast = np.linspace(0.5, 2, 25)[:, np.newaxis, np.newaxis]
    X = np.clip(means + contrast * (plain - means), 0, 255).astype(np.uint8)
    detector = fit(NCAEDetector(statistic=statistic, contamination=0.1, **TINY), X)
    actual = exported(detector, tmp_path, maps=False)
    np.testing.assert_allclose(
        actual.score_samples(X), detector.score_samples(X), rtol=1e-5, atol=5e-5
    )
    np.testing.assert_array_equal(actual.predict(X), detector.predict(X))
    for method in ("residual", "defect_map", "anomaly_map"):
        with pytest.raises(AttributeError, match="maps"):
            getattr(actual, method)


def test_what_it_sees_is_drawn_as_that_of_the_detector(detector, good_images, tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    actual = exported(detector, tmp_path)
    limits = [
        ResidualMapDisplay.from_estimator(one, good_images[:2]).ax_[0, 2].images[1].get_clim()
        for one in (actual, detector)
    ]
    plt.close("all")
    np.testing.assert_allclose(*limits, rtol=1e-5)


def test_the_threshold_is_part_of_the_file(detector, tmp_path):
    actual = exported(detector, tmp_path)
    with pytest.raises(AttributeError, match=r"part of .*export it again"):
        actual.offset_ = -3.0
    assert actual.offset_ == detector.offset_


def test_columns_in_another_order_are_refused(fit, tmp_path):
    table = pd.DataFrame(images_like((12, 4), n=20).reshape(20, -1)).add_prefix("pixel")
    detector = fit(NCAEDetector(image_shape=(12, 4), contamination=0.1, **TINY), table)
    actual = exported(detector, tmp_path)
    np.testing.assert_array_equal(actual.predict(table), detector.predict(table))
    for fitted in (actual, detector):
        with pytest.raises(ValueError, match="feature names should match"):
            fitted.predict(table[table.columns[::-1]])


def test_a_single_image_is_told_from_a_stack(fit, tmp_path):
    for shape in ((12, 10), (12, 10, 3)):
        X = images_like(shape, n=20)
        detector = fit(NCAEDetector(contamination=0.1, **TINY), X)
        for fitted in (detector, exported(detector, tmp_path)):
            with pytest.raises(ValueError, match=r"one image: give image\[np\.newaxis\]"):
                fitted.predict(X[0])


def test_outputs_that_a_model_has_not(fit, good_images, tmp_path):
    detector = NCAEDetector(training="reconstruct", contamination=0.1, **TINY)
    actual = exported(fit(detector, good_images), tmp_path)
    for method, why in [
        ("p_values", "contamination='auto'"),
        ("defect_map", "training='repair'"),
        ("anomaly_map", "peak of a map"),
    ]:
        assert not hasattr(actual, method)
        with pytest.raises(AttributeError, match=why):
            getattr(actual, method)
    assert not hasattr(actual, "false_alarm_rate_")
    assert "array-like" in OnnxDetector.p_values.__doc__


def test_what_cannot_be_exported(good_images, detector, tmp_path):
    path = tmp_path / "detector.onnx"
    with pytest.raises(NotFittedError):
        export(NCAEDetector(), path)
    with pytest.raises(NotFittedError):
        export(TunedThresholdDetector(detector), path)
    with pytest.raises(TypeError, match="export the last step"):
        export(make_pipeline(detector), path)
    with pytest.raises(ValueError, match="dtype must be one of auto, uint8"):
        export(detector, path, dtype="int8")
    other = ResidualDetector(PCAReconstructor(5), false_alarm_rate=0.2).fit(good_images)
    with pytest.raises(TypeError, match=r"PCAReconstructor.*knows NCAEReconstructor and Keras"):
        export(other, path)
    assert not path.exists()


class Doubled(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def two_outputs():
    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, [inputs, layers.Conv2D(1, 1)(inputs)])


def plain_operation():
    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, keras.ops.exp(inputs))


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (lambda: Doubled(name="d"), TypeError, "'d' is a Doubled.*It knows Activation, Add"),
        (plain_operation, TypeError, "is a Exp"),
        (lambda: layers.Conv2D(1, 1, activation=keras.ops.sin), ValueError, "activation.*relu"),
        (lambda: layers.UpSampling2D(interpolation="bicubic"), ValueError, "'bicubic'.*'bilinear'"),
        (lambda: layers.BatchNormalization(axis=1), ValueError, "normalises axis 1 of 4"),
        (
            lambda: layers.ZeroPadding2D(1, data_format="channels_first"),
            ValueError,
            "data_format='channels_first'",
        ),
        (two_outputs, TypeError, "one input and one output"),
    ],
)
def test_networks_that_cannot_be_exported(model, error, message):
    made = model()
    if isinstance(made, layers.Layer) and not isinstance(made, keras.Model):
        made = keras.Sequential([keras.Input((8, 8, 1)), made])
    graph = Graph()
    with pytest.raises(error, match=message):
        add_network(graph, made, graph.input("image", np.float32, (8, 8, 1)), (8, 8, 1))


def test_files_that_are_no_detector(tmp_path):
    path = tmp_path / "file.onnx"
    with pytest.raises(FileNotFoundError):
        OnnxDetector(path)
    for content in [b"", b"no model"]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="could not be read as an ONNX model"):
            OnnxDetector(path)
    graph = Graph()
    graph.output("y", graph.input("x", np.float32, (2,)), np.float32, (2,))
    graph.save(path, name="other", version="0", metadata={})
    with pytest.raises(ValueError, match="model of something else"):
        OnnxDetector(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_shape": None},
        {"image_shape": '"3"'},
        {"image_shape": '["a", "b", "c"]'},
        {"image_shape": "[16, 16]"},
        {"image_shape": "[16, 17, 1]"},
        {"offset": "null"},
        {"offset": "0.5]"},
        {"offset": "[" * 100_000},
        {"false_alarm_rate": '"x"'},
    ],
)
def test_files_that_were_changed(model_file, tmp_path, changes):
    model = onnx.load(model_file)
    kept = [entry for entry in model.metadata_props if entry.key not in changes]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    for key, value in changes.items():
        if value is not None:
            model.metadata_props.add(key=key, value=value)
    path = tmp_path / "changed.onnx"
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"changed\.onnx is not as .*export wrote it"):
        OnnxDetector(path)


def test_a_file_without_an_output(model_file, tmp_path):
    model = onnx.load(model_file)
    (output,) = [output for output in model.graph.output if output.name == "prediction"]
    model.graph.output.remove(output)
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(ValueError, match="no output prediction"):
        OnnxDetector(tmp_path / "changed.onnx")


def test_missing_extra(detector, model_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"onnxruntime.*sklearn-ncae\[onnx\]"):
        OnnxDetector(model_file)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"'onnx'.*sklearn-ncae\[onnx\]"):
        export(detector, model_file)


ALONE = """
import sys
from importlib.util import find_spec

sys.path.append(sys.argv.pop(1))
for name in ("tensorflow", "keras", "scikeras", "sklearn", "scipy", "onnx", "pandas"):
    assert find_spec(name) is None, name
import numpy as np
from sklearn_ncae.onnx import OnnxDetector

detector = OnnxDetector(sys.argv[1], n_threads=1)
images = np.load(sys.argv[2])
np.save(sys.argv[3], detector.score_samples(images))
assert detector.predict(images).shape == detector.p_values(images).shape
assert detector.residual(images).shape == detector.defect_map(images).shape
"""


def test_runs_where_only_numpy_and_onnxruntime_are_installed(
    detector, model_file, good_images, tmp_path
):
    installed = tmp_path / "installed"
    installed.mkdir()
    for package in (np, onnxruntime, sklearn_ncae):
        folder = Path(package.__file__).parent
        for part in (folder, folder.with_name(f"{folder.name}.libs")):
            if part.exists():
                (installed / part.name).symlink_to(part)
    np.save(tmp_path / "images.npy", good_images)
    subprocess.run(
        [
            *(sys.executable, "-I", "-S", "-W", "error", "-c", ALONE, installed),
            *(model_file, tmp_path / "images.npy", tmp_path / "scores.npy"),
        ],
        check=True,
    )
    scores, expected = np.load(tmp_path / "scores.npy"), detector.score_samples(good_images)
    np.testing.assert_allclose(scores, expected, atol=reach_of(expected))


def test_identical_training_images(tmp_path):
    X = np.tile(images_like((20, 20), n=1), (24, 1, 1))
    detector = TextureDetector().fit(X)
    actual = exported(detector, tmp_path)
    np.testing.assert_array_equal(actual.score_samples(X[:2]), detector.score_samples(X[:2]))
    np.testing.assert_array_equal(actual.predict(X[:2]), [1, 1])
    np.testing.assert_array_equal(actual.p_values(X[:2]), [1, 1])


def test_the_shape_may_be_of_numpy(tmp_path):
    X = images_like((33, 17), n=20).reshape(20, -1)
    detector = TextureDetector(image_shape=np.array([33, 17])).fit(X)
    scores = exported(detector, tmp_path).score_samples(X)
    np.testing.assert_allclose(scores, detector.score_samples(X), rtol=1e-5)
