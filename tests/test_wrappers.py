import os
import pickle
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sklearn_ncae import KerasReconstructor, ResidualDetector
from sklearn_ncae.model_selection import OneClassSplit


def build_autoencoder(meta, filters=4, activation="relu"):
    inputs = keras.Input(meta["X_shape_"][1:])
    x = keras.layers.Rescaling(1 / 255)(inputs)

    def initializer(seed):
        return keras.initializers.GlorotUniform(seed=seed)

    x = keras.layers.Conv2D(
        filters, 3, 2, padding="same", activation=activation, kernel_initializer=initializer(0)
    )(x)
    x = keras.layers.Conv2DTranspose(1, 3, 2, padding="same", kernel_initializer=initializer(1))(x)
    return keras.Model(inputs, keras.layers.Rescaling(255)(x))


def make_reconstructor(**kwargs):
    return KerasReconstructor(
        build_autoencoder, loss="mse", optimizer="adam", epochs=2, shuffle=False, **kwargs
    )


@pytest.fixture
def images(labelled_images):
    X, y = labelled_images
    return X[..., None], y


def test_routed_parameters(images):
    X, _ = images
    reconstructor = make_reconstructor(model__filters=6, optimizer__learning_rate=0.01).fit(X)
    assert reconstructor.model_.layers[2].filters == 6
    assert float(reconstructor.model_.optimizer.learning_rate) == pytest.approx(0.01)
    assert len(reconstructor.history_["loss"]) == 2
    assert reconstructor.predict(X).shape == X.shape


def test_in_a_detector(images):
    X, y = images
    detector = ResidualDetector(
        make_reconstructor(optimizer__learning_rate=0.01).set_params(epochs=15),
        statistic="abs_max",
        false_alarm_rate=0.2,
        random_state=0,
    ).fit(X[y == 1])
    assert roc_auc_score(y, detector.decision_function(X)) > 0.8
    assert detector.residual(X).shape == X.shape


def test_in_a_grid_search(images, eagerly):
    X, y = images
    search = GridSearchCV(
        ResidualDetector(
            make_reconstructor(model__filters=2, optimizer__learning_rate=0.01),
            contamination=0.1,
            random_state=0,
        ),
        {
            "reconstructor__model__filters": [2, 4],
            "reconstructor__optimizer__learning_rate": [0.001, 0.01],
            "statistic": ["mse", "max"],
        },
        scoring="roc_auc",
        cv=OneClassSplit(StratifiedKFold(2, shuffle=True, random_state=0)),
        refit=False,
    )
    with eagerly():
        search.fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_built_model_and_images_without_channels(labelled_images):
    X, _ = labelled_images
    model = build_autoencoder({"X_shape_": (None, 16, 16, 1)})
    model.compile(loss="mse", optimizer="adam")
    weights = model.get_weights()
    reconstructor = KerasReconstructor(model, shuffle=False).fit(X)
    assert reconstructor.predict(X).shape == X.shape
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    again = clone(reconstructor).fit(X)
    assert again.history_["loss"] == reconstructor.fit(X).history_["loss"]


def test_copies_predict_the_same(images):
    X, _ = images
    reconstructor = make_reconstructor().fit(X)
    twin = pickle.loads(pickle.dumps(reconstructor))
    np.testing.assert_array_equal(twin.predict(X), reconstructor.predict(X))
    assert not hasattr(clone(reconstructor), "model_")


def test_the_process_is_as_it_was(images):
    X, _ = images

    def state():
        from tensorflow.python.framework import config

        return (
            random.getstate(),
            np.random.get_state()[1].tolist(),
            tf.random.uniform((2,), seed=1).numpy().tolist(),
            config.is_op_determinism_enabled(),
            dict(os.environ),
        )

    states = []
    for fit in (False, True):
        keras.utils.set_random_seed(7)
        if fit:
            make_reconstructor().fit(X).predict(X)
        states.append(state())
    assert states[0] == states[1]
    assert not state()[3]


def test_random_state_is_refused(images):
    X, _ = images
    for method in ("fit", "partial_fit", "initialize"):
        with pytest.raises(ValueError, match="takes None only"):
            getattr(make_reconstructor(random_state=0), method)(X)


def test_epoch_by_epoch(images):
    X, _ = images
    reconstructor = make_reconstructor().initialize(X)
    untrained = reconstructor.predict(X)
    for n_epochs in (1, 2):
        reconstructor.partial_fit(X)
        assert len(reconstructor.history_["loss"]) == n_epochs
    trained = reconstructor.predict(X)
    np.testing.assert_allclose(
        trained, make_reconstructor().fit(X).predict(X), rtol=1e-4, atol=1e-2
    )
    assert np.abs(trained - untrained).max() > 0.1
    with pytest.raises(ValueError, match="NaN"):
        reconstructor.partial_fit(np.full(X.shape, np.nan))
    with pytest.raises(ValueError, match="fitted on images of shape"):
        reconstructor.partial_fit(X[:, :8])
    np.testing.assert_array_equal(reconstructor.predict(X), trained)
    assert not hasattr(reconstructor, "score")


def test_wrong_images(images):
    X, _ = images
    reconstructor = make_reconstructor().fit(X)
    with pytest.raises(ValueError, match=r"fitted on images of shape \(16, 16, 1\)"):
        reconstructor.predict(X[:, :8])
    with pytest.raises(ValueError, match="NaN"):
        reconstructor.predict(np.full(X.shape, np.nan))


def test_a_model_of_another_shape_is_an_error(images):
    X, _ = images

    def halve(meta):
        inputs = keras.Input(meta["X_shape_"][1:])
        return keras.Model(inputs, keras.layers.UpSampling2D()(keras.layers.Conv2D(1, 1)(inputs)))

    reconstructor = KerasReconstructor(halve, loss=lambda y, p: keras.ops.mean(p), optimizer="sgd")
    with pytest.raises(ValueError, match="must return images of the shape it is given"):
        reconstructor.fit(X).predict(X)


class Interrupting(keras.callbacks.Callback):
    """Interrupts the training in its first epoch."""

    def on_epoch_end(self, epoch, logs=None):
        raise KeyboardInterrupt


INTERRUPTED = {"callbacks": [Interrupting]}
DIVERGING = {"optimizer": keras.optimizers.SGD, "optimizer__learning_rate": 1e30}


@pytest.mark.parametrize(
    ("failing", "error", "built"),
    [
        (INTERRUPTED, KeyboardInterrupt, False),
        (INTERRUPTED, KeyboardInterrupt, True),
        (DIVERGING, ValueError, False),
    ],
)
def test_a_failed_fit_leaves_what_was_there_before(images, failing, error, built):
    X, _ = images
    reconstructor = make_reconstructor()
    if built:  # the model itself is trained, and not another one like it
        reconstructor.set_params(model=build_autoencoder({"X_shape_": X.shape}))
    unfitted = clone(reconstructor).set_params(**failing)
    with pytest.raises(error):
        unfitted.fit(X)
    with pytest.raises(NotFittedError):
        unfitted.predict(X)
    reconstructions = reconstructor.fit(X).predict(X)
    reconstructor.set_params(**failing)
    with pytest.raises(error):
        reconstructor.fit(X if built else X[:, :8])
    np.testing.assert_array_equal(reconstructor.predict(X), reconstructions)


@pytest.mark.parametrize("dtype", ["str", "datetime64[s]", "timedelta64[s]", [("value", "u1")]])
def test_what_is_no_number_is_refused(images, dtype):
    X, _ = images
    reconstructor = make_reconstructor().fit(X)
    with pytest.raises((TypeError, ValueError)):
        reconstructor.predict(X.astype(dtype))
    np.testing.assert_array_equal(reconstructor.predict(X.astype(object)), reconstructor.predict(X))


def test_training_is_silent_unless_told_otherwise(images, capsys, eagerly):
    X, _ = images
    with eagerly():
        make_reconstructor().fit(X).predict(X)
        assert capsys.readouterr().out == ""
        make_reconstructor(verbose=1).fit(X)
    assert "Epoch 1/2" in capsys.readouterr().out


def test_what_fit_is_told_reaches_the_training(images, eagerly):
    X, _ = images
    with eagerly():
        reconstructor = make_reconstructor().fit(X, epochs=3)
    assert len(reconstructor.history_["loss"]) == 3
    assert reconstructor.n_features_in_ == 16 * 16
