import gc
import os
import pickle
import subprocess
import sys
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from sklearn_ncae import NCAEReconstructor, NeighborConv2D, reconstructor
from sklearn_ncae._pixel_scale import PixelScale
from sklearn_ncae.defects import draw_defects
from sklearn_ncae.network import build_network

TINY = {"filters": (4, 8), "epochs": 2, "random_state": 0}


def layer_types(model):
    return {layer.name: type(layer) for layer in model.layers}


@pytest.mark.parametrize("shape", [(16, 16), (17, 23), (5, 4), (9, 16, 3), (8, 8, 1)])
@pytest.mark.parametrize(
    "parameters",
    [{}, {"bottleneck": "dense"}, {"training": "reconstruct"}],
    ids=["repair", "dense", "reconstruct"],
)
def test_any_side_and_any_channels(shape, parameters, eagerly):
    with eagerly():
        X = np.random.default_rng(0).integers(0, 256, (6, *shape), dtype=np.uint8)
        reconstructor = NCAEReconstructor(**parameters, **TINY).fit(X)
        reconstructions = reconstructor.predict(X)
        assert reconstructions.shape == X.shape
        assert reconstructions.dtype == np.float32
        assert set(reconstructor.history_) == {"loss"}
        assert len(reconstructor.history_["loss"]) == reconstructor.n_iter_ == 2


def test_network_follows_the_parameters():
    model = build_network((20, 20, 2), filters=(4, 8), bottleneck_size=3)
    types = layer_types(model)
    assert types["encoder_0"] is types["decoder_1"] is types["reconstruction"] is NeighborConv2D
    assert model.get_layer("code").output.shape == (None, 5, 5, 3)
    dense = build_network((20, 20, 2), filters=(4, 8), bottleneck="dense", bottleneck_size=3)
    assert dense.get_layer("code").output.shape == (None, 3)
    standard = build_network((20, 20, 2), filters=(4, 8), convolution="standard")
    assert layer_types(standard)["encoder_0"] is keras.layers.Conv2D
    assert standard.output_shape == model.output_shape
    repair = build_network((20, 20, 2), training="repair", filters=(4, 8))
    assert repair.output_shape == (None, 20, 20, 3)  # the image and where it is defective
    # The kernels of Conv2D also have a centre: 9 weights where the neighbours are 8.
    assert standard.count_params() > model.count_params()


def test_learns_in_the_units_of_X(good_images):
    reconstructor = NCAEReconstructor(
        training="reconstruct", filters=(8, 16), epochs=30, batch_size=8, random_state=0
    ).fit(good_images)
    assert reconstructor.history_["loss"][-1] < 0.2 * reconstructor.history_["loss"][0]
    error = np.abs(reconstructor.predict(good_images) - good_images).mean()
    assert error < 0.5 * np.abs(good_images - good_images.mean()).mean()


@pytest.mark.parametrize("training", ["repair", "reconstruct"])
def test_an_image_comes_out_the_same_in_a_batch_of_any_size(training):
    # With threads to share a batch out to, which the processes of a test run have not, and images
    # that are large enough for it.
    code = f"""
import numpy as np
from sklearn_ncae import NCAEReconstructor

images = np.random.default_rng(0).integers(0, 256, (20, 64, 64), dtype=np.uint8)
reconstructor = NCAEReconstructor(training={training!r}, epochs=1, random_state=0).fit(images)
together = reconstructor.predict(images)
for n in (1, 3, 5, 7, 13):
    np.testing.assert_array_equal(reconstructor.predict(images[:n]), together[:n])
"""
    threads = {"TF_NUM_INTRAOP_THREADS": "2", "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **threads}, check=True)


@pytest.mark.parametrize("dtype", ["uint16", "int64", "float32", "float64"])
def test_same_values_in_another_dtype_reconstruct_the_same(good_images, dtype, eagerly):
    with eagerly():
        parameters = {"training": "reconstruct", **TINY}
        expected = NCAEReconstructor(**parameters).fit(good_images).predict(good_images)
        X = good_images.astype(dtype)
        actual = NCAEReconstructor(**parameters).fit(X).predict(X)
        assert actual.dtype == np.result_type(dtype, np.float32)
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=0.05)


def test_flat_rows_with_image_shape_equal_images(good_images, eagerly):
    with eagerly():
        rows = good_images.reshape(40, -1)
        expected = NCAEReconstructor(**TINY).fit(good_images).predict(good_images)
        actual = NCAEReconstructor(image_shape=(16, 16), **TINY).fit(rows).predict(rows)
        np.testing.assert_array_equal(actual, expected.reshape(40, -1))


def test_repairs_what_was_drawn_in(good_images):
    reconstructor = NCAEReconstructor(
        filters=(32,), epochs=120, batch_size=8, learning_rate=0.005, random_state=1
    ).fit(good_images)
    defective = good_images[:10].copy()
    defective[:, 3:5, 3:13] = 255
    defect = np.zeros((16, 16), bool)
    defect[3:5, 3:13] = True
    before = np.abs(defective.astype(float) - good_images[:10])[:, defect].mean()
    after = np.abs(reconstructor.predict(defective) - good_images[:10])[:, defect].mean()
    assert after < 0.7 * before
    maps = reconstructor.defect_map(defective)
    marked = np.broadcast_to(defect, maps.shape).ravel()
    # So small a network is a matter of luck, and Torch draws other weights.
    least = 0.7 if keras.backend.backend() == "torch" else 0.8
    assert roc_auc_score(marked, maps.ravel()) > least


def assert_same(actual, expected):
    # Torch sums in another order in batches of other sizes.
    rtol = 1e-5 if keras.backend.backend() == "torch" else 0
    np.testing.assert_allclose(actual, expected, rtol=rtol)


def test_crops_of_larger_images(monkeypatch, good_images):
    monkeypatch.setattr("sklearn_ncae.reconstructor._CROP", 8)
    reconstructor = NCAEReconstructor(**TINY).fit(good_images)
    assert reconstructor.defect_map(good_images).shape == good_images.shape
    assert_same(reconstructor.predict(good_images[:7]), reconstructor.predict(good_images)[:7])


def test_no_defect_map_without_repair(good_images, eagerly):
    with eagerly():
        reconstructor = NCAEReconstructor(training="reconstruct", **TINY).fit(good_images)
        with pytest.raises(AttributeError, match="no defect_map after training='reconstruct'"):
            reconstructor.defect_map(good_images)
        reconstructor.set_params(training="repair")  # for the next fit
        with pytest.raises(AttributeError, match="no defect_map after training='reconstruct'"):
            reconstructor.defect_map(good_images)


def test_epochs_auto(monkeypatch, good_images, eagerly):
    with eagerly():
        monkeypatch.setattr("sklearn_ncae.reconstructor._REPAIR_STEPS", 7)
        monkeypatch.setattr("sklearn_ncae.reconstructor._RECONSTRUCT_EPOCHS", 2)
        parameters = {"filters": (4,), "random_state": 0}
        assert NCAEReconstructor(**parameters).fit(good_images).n_iter_ == 3  # of 3 steps each
        reconstructor = NCAEReconstructor(training="reconstruct", **parameters).fit(good_images)
        assert reconstructor.n_iter_ == 2


def test_random_state_decides_alone(good_images):
    first = NCAEReconstructor(**TINY).fit(good_images).predict(good_images)
    keras.utils.set_random_seed(123)
    second = NCAEReconstructor(**TINY).fit(good_images).predict(good_images)
    other = NCAEReconstructor(**{**TINY, "random_state": 1}).fit(good_images)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other.predict(good_images))


def test_early_stopping_keeps_the_best_weights(good_images):
    reconstructor = NCAEReconstructor(
        training="reconstruct",
        filters=(4,),
        epochs=40,
        learning_rate=0.2,
        early_stopping=True,
        n_iter_no_change=2,
        validation_fraction=0.25,
        random_state=0,
    ).fit(good_images)
    losses = reconstructor.history_["val_loss"]
    assert reconstructor.n_iter_ == len(losses) < 40
    assert np.argmin(losses) == len(losses) - 3
    assert reconstructor.n_samples_fit_ == 0.75 * len(good_images)
    # Of images of the range of training, those held out are the ones that were left out first.
    held_out = np.random.RandomState(0)
    build_network((16, 16, 1), training="reconstruct", filters=(4,), random_state=held_out)
    rows = held_out.permutation(len(good_images))[: len(good_images) // 4]
    error = (reconstructor.predict(good_images[rows]) - good_images[rows]) / np.ptp(good_images)
    assert np.mean(error**2) == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the note is TensorFlow's")
def test_many_fits_in_a_row_are_quiet(good_images, caplog):
    for _ in range(7):
        NCAEReconstructor(**{**TINY, "epochs": 1}).fit(good_images[:4])
    assert not caplog.records


def test_warm_start_goes_on(good_images):
    parameters = {**TINY, "epochs": 10, "warm_start": True}
    reconstructor = NCAEReconstructor(**parameters).fit(good_images)
    before = reconstructor.history_["loss"]
    span = reconstructor._scale.span
    reconstructor.set_params(random_state=1).fit(good_images[:, ::-1] // 2 + 60)
    assert reconstructor._scale.span == span  # the network knows this one
    # With another start it would be as high as the first.
    assert reconstructor.history_["loss"][10] < before[0]
    reconstructor = NCAEReconstructor(**parameters).fit(good_images)
    reconstructor.fit(good_images)
    assert reconstructor.history_["loss"][:10] == before
    assert len(reconstructor.history_["loss"]) == 20
    assert reconstructor.history_["loss"][10] < before[0]
    assert reconstructor.n_iter_ == 10
    with pytest.raises(ValueError, match="warm_start cannot go on"):
        reconstructor.set_params(filters=(4,)).fit(good_images)


def test_the_history_of_early_stopping_has_a_value_for_every_epoch(good_images, eagerly):
    reconstructor = NCAEReconstructor(**TINY, warm_start=True)
    with eagerly():
        for early_stopping in (True, False, True):
            reconstructor.set_params(early_stopping=early_stopping).fit(good_images)
    history = reconstructor.history_
    assert np.isfinite(history["loss"]).tolist() == [True] * 6
    assert np.isfinite(history["val_loss"]).tolist() == [True, True, False, False, True, True]


def test_warm_start_with_images_in_another_unit_is_warned_of(good_images, eagerly):
    with eagerly():
        reconstructor = NCAEReconstructor(warm_start=True, **TINY).fit(good_images)
        with pytest.warns(UserWarning, match="NCAEReconstructor was fitted on .* another unit"):
            reconstructor.fit(good_images / 255)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch can be forked")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("what", ["score", "score a copy", "fit"])
def test_after_a_fork_it_says_so_and_does_not_hang(good_images, eagerly, what):
    with eagerly():
        reconstructor = NCAEReconstructor(**TINY).fit(good_images)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of threads
        child = os.fork()
    if child == 0:
        try:
            if what == "score a copy":  # as a pool of processes does
                reconstructor = pickle.loads(pickle.dumps(reconstructor))
            if what == "fit":
                reconstructor = clone(reconstructor).fit(good_images)
            reconstructor.predict(good_images)
        except RuntimeError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        assert "Load the detector in each process" in answer.read()


def test_optimizer_object_and_callbacks(good_images, eagerly):
    with eagerly():
        seen = []
        optimizer = keras.optimizers.SGD(0.1)
        callback = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(epoch)
        )
        reconstructor = NCAEReconstructor(optimizer=optimizer, callbacks=[callback], **TINY)
        reconstructor.fit(good_images)
        reconstructor.fit(good_images)  # the object is not used up by the first network
        assert seen == [0, 1, 0, 1]
        assert float(reconstructor.model_.optimizer.learning_rate) == pytest.approx(0.1)
        slower = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
        reconstructor.set_params(callbacks=[slower]).fit(good_images)
        assert float(reconstructor.model_.optimizer.learning_rate) == pytest.approx(0.025)
        with pytest.raises(TypeError, match=r"callbacks takes instances of .* got 'slower'"):
            reconstructor.set_params(callbacks=["slower"]).fit(good_images)


def test_a_shape_that_is_an_array(good_images, eagerly):
    with eagerly():
        rows = good_images.reshape(len(good_images), -1)
        shape = np.array(good_images.shape[1:])
        reconstructor = NCAEReconstructor(image_shape=shape, **TINY).fit(rows)
    assert reconstructor.image_shape_[:2] == good_images.shape[1:]


@pytest.mark.parametrize("training", ["repair", "reconstruct"])
def test_mixed_precision_is_for_the_training_alone(training, good_images):
    parameters = {**TINY, "training": training}
    single = NCAEReconstructor(**parameters).fit(good_images)
    mixed = NCAEReconstructor(dtype_policy="mixed_bfloat16", **parameters).fit(good_images)
    assert {weights.dtype for weights in mixed.weights_} == {np.dtype(np.float32)}
    assert {layer.compute_dtype for layer in mixed.model_.layers} == {"float32"}
    again = pickle.loads(pickle.dumps(mixed))
    reconstructions = mixed.predict(good_images)
    np.testing.assert_array_equal(again.predict(good_images), reconstructions)
    # A bfloat16 has 8 binary digits: the training went another way, though to the same place.
    difference = np.abs(reconstructions - single.predict(good_images))
    assert 0 < difference.mean() < 0.05 * good_images.std()


def test_mixed_precision_reaches_the_convolutions_and_not_the_outputs():
    for training in ("repair", "reconstruct"):
        model = build_network(
            (20, 21, 1), training=training, block_size=2, dtype_policy="mixed_bfloat16"
        )
        types = {layer.name: layer.compute_dtype for layer in model.layers}
        assert types["encoder_0"] == types["decoder_1"] == "bfloat16"
        assert model.layers[-1].compute_dtype == model.output.dtype == "float32"


def test_the_global_policy_of_keras_changes_nothing(good_images):
    expected = NCAEReconstructor(**TINY).fit(good_images).predict(good_images)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        reconstructions = NCAEReconstructor(**TINY).fit(good_images).predict(good_images)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_array_equal(reconstructions, expected)


def test_verbose_shows_keras_progress(good_images, capsys, eagerly):
    with eagerly():
        NCAEReconstructor(**TINY).fit(good_images)
        assert capsys.readouterr().out == ""
        NCAEReconstructor(verbose=2, **TINY).fit(good_images)
        assert "Epoch 2/2" in capsys.readouterr().out


def test_pickle_and_clone(good_images):
    reconstructor = NCAEReconstructor(**TINY).fit(good_images)
    copy = pickle.loads(pickle.dumps(reconstructor))
    np.testing.assert_array_equal(copy.predict(good_images), reconstructor.predict(good_images))
    pickle.dumps(NCAEReconstructor())
    with pytest.raises(NotFittedError):
        clone(reconstructor).predict(good_images)
    with pytest.raises(NotFittedError):
        _ = clone(reconstructor).model_


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_rounding_of_large_values_is_no_contrast(dtype):
    X = np.full((1, 300, 300, 1), 60001, dtype)
    assert not PixelScale(60000, 60002, per_image=True).to_network(X)[0].any()


def test_rounding_of_a_large_mean_is_not_subtracted():
    X = (np.random.default_rng(0).normal(3e5, 10, (4, 20, 20, 1))).astype(np.float32)
    scale = PixelScale(3e5 - 30, 3e5 + 30, per_image=True)
    actual, expected = (scale.to_network(images)[0] for images in (X, X.astype(np.float64)))
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_constant_images(eagerly):
    with eagerly():
        X = np.full((4, 8, 8), 7, dtype=np.uint8)
        assert np.isfinite(NCAEReconstructor(**TINY).fit(X).predict(X)).all()


@pytest.mark.parametrize(
    ("X", "parameters", "message"),
    [
        (np.zeros((4, 3, 8)), {}, "3 x 8 pixels are smaller than the 4 x 4"),
        (np.zeros((4, 8, 8)), {"filters": ()}, "filters must be one or more positive integers"),
        (np.zeros((4, 8, 8)), {"filters": (4, 0)}, "filters must be one or more"),
        (np.zeros((4, 8, 8)), {"epochs": 0}, "'epochs' parameter"),
        (np.zeros((4, 8, 8)), {"bottleneck": "none"}, "'bottleneck' parameter"),
        (np.zeros((4, 8, 8)), {"loss": "no_such_loss"}, "no_such_loss"),
        (np.zeros((4, 8, 8)), {"optimizer": "no_such_optimizer"}, "no_such_optimizer"),
        (np.zeros((1, 8, 8)), {"early_stopping": True}, "n_samples=1 leaves no image"),
    ],
)
def test_wrong_parameters(X, parameters, message):
    with pytest.raises(ValueError, match=message):
        NCAEReconstructor(**{**TINY, **parameters}).fit(X)


def test_diverging_training_is_an_error(good_images):
    with pytest.raises(ValueError, match=r"Training diverged: the loss was .* in epoch"):
        NCAEReconstructor(optimizer="sgd", learning_rate=1e30, filters=(4,), epochs=5).fit(
            good_images
        )


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("between_steps", [False, True])
def test_fit_lets_go_of_its_images(early_stopping, between_steps, good_images, monkeypatch):
    monkeypatch.setattr(reconstructor, "_steps_take_all_cores", lambda: between_steps)
    images = good_images.copy()
    of_images = weakref.ref(images)
    fitted = NCAEReconstructor(**TINY, early_stopping=early_stopping).fit(images)
    del images
    gc.collect()
    assert of_images() is None
    assert fitted.n_iter_ == 2


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("between_steps", [False, True])
def test_an_error_of_drawing_is_raised_as_it_is(
    early_stopping, between_steps, good_images, monkeypatch, eagerly
):
    monkeypatch.setattr(reconstructor, "_steps_take_all_cores", lambda: between_steps)
    calls = []

    def draw(images, random_state):
        calls.append(len(images))
        if len(calls) == 5:
            raise KeyError("no defect left")
        return draw_defects(images, random_state=random_state)

    drawing = NCAEReconstructor(**TINY, draw_defects=draw, early_stopping=early_stopping)
    with eagerly(), pytest.raises(KeyError, match="no defect left"):
        drawing.fit(good_images)
    assert not hasattr(drawing, "weights_")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX compiles for each size")
@pytest.mark.parametrize("training", ["repair", "reconstruct"])
def test_batches_of_any_size_are_traced_once(training, good_images):
    fitted = NCAEReconstructor(training=training, **TINY).fit(good_images)
    # A layer is called in Python only where the network is traced.
    layer = fitted.model_.get_layer("encoder_0")
    with patch.object(layer, "call", wraps=layer.call) as traced:
        for n in (40, 16, 3, 1):
            fitted.predict(good_images[:n])
        assert traced.call_count == 0
        fitted.model_(good_images[:1, ..., np.newaxis])
        assert traced.call_count == 1


def test_threads_share_a_network(good_images):
    fitted = NCAEReconstructor(**TINY).fit(good_images)
    parts = [good_images[start : start + 5] for start in range(0, 40, 5)] * 8
    expected = [fitted.predict(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        np.testing.assert_array_equal(list(pool.map(fitted.predict, parts)), expected)


def test_network_does_not_depend_on_the_data_format_of_keras(good_images):
    expected = NCAEReconstructor(**TINY).fit(good_images)
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        actual = NCAEReconstructor(**TINY).fit(good_images)
        reconstructions = actual.predict(good_images)
        for kind in ({"bottleneck": "dense"}, {"training": "repair", "block_size": 2}):
            assert build_network((16, 16, 2), **kind).input_shape == (None, 16, 16, 2)
    finally:
        keras.config.set_image_data_format(before)
    np.testing.assert_array_equal(reconstructions, expected.predict(good_images))
