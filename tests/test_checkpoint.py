import copy
import json
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from sklearn.base import clone

from sklearn_ncae import NCAEDetector, NCAEReconstructor

TINY = {"filters": (4, 8), "epochs": 4, "batch_size": 8, "random_state": 0}

# Trains until it is killed at the end of the second epoch.
KILLED = """
import json, os, signal, sys
import keras, numpy as np
from sklearn_ncae import NCAEDetector

class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

parameters = json.loads(sys.argv[1])
NCAEDetector(callbacks=[Kill()], **parameters).fit(np.load(sys.argv[2]))
"""


class Interrupt(keras.callbacks.Callback):
    def __init__(self, error, epoch=2):
        super().__init__()
        self.error = error
        self.at = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.at:
            raise self.error


@pytest.mark.parametrize("training", ["repair", "reconstruct"])
def test_resumed_training_equals_an_uninterrupted_one(good_images, tmp_path, training):
    expected = NCAEReconstructor(training=training, **TINY).fit(good_images)
    path = tmp_path / "training.npz"
    reconstructor = NCAEReconstructor(training=training, checkpoint_path=path, **TINY)
    with pytest.raises(KeyboardInterrupt):
        reconstructor.set_params(callbacks=[Interrupt(KeyboardInterrupt())]).fit(good_images)
    assert path.exists()
    reconstructor.set_params(callbacks=None).fit(good_images)
    for actual, weights in zip(reconstructor.weights_, expected.weights_, strict=True):
        np.testing.assert_array_equal(actual, weights)
    assert reconstructor.history_ == expected.history_
    assert reconstructor.n_iter_ == 4
    assert os.listdir(tmp_path) == []


def test_parameters_may_be_numbers_of_numpy(good_images, tmp_path):
    path = tmp_path / "training.npz"
    of_numpy = {"filters": np.array([4, 8]), "epochs": np.int64(4), "batch_size": np.int64(8)}
    parameters = {**TINY, **of_numpy, "checkpoint_path": path}
    reconstructor = NCAEReconstructor(callbacks=[Interrupt(KeyboardInterrupt())], **parameters)
    with pytest.raises(KeyboardInterrupt):
        reconstructor.fit(good_images)
    plain = {**TINY, "checkpoint_path": path}
    assert NCAEReconstructor(**plain).fit(good_images).n_iter_ == 4


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the others make none ahead")
@pytest.mark.parametrize("training", ["repair", "reconstruct"])
def test_results_do_not_depend_on_the_number_of_cores(training, monkeypatch, good_images, tmp_path):
    path = tmp_path / "training.npz"
    histories, weights = [], []
    for n_cores in [2, 16]:
        monkeypatch.setattr("joblib.cpu_count", lambda n=n_cores: n)
        reconstructor = NCAEReconstructor(training=training, checkpoint_path=path, **TINY)
        with pytest.raises(KeyboardInterrupt):
            reconstructor.set_params(callbacks=[Interrupt(KeyboardInterrupt())]).fit(good_images)
        reconstructor.set_params(callbacks=None).fit(good_images)
        assert not path.exists()
        histories.append(reconstructor.history_)
        weights.append(reconstructor.weights_)
    assert histories[0] == histories[1]
    for few, many in zip(*weights, strict=True):
        np.testing.assert_array_equal(few, many)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process_is_resumed_by_another(good_images, tmp_path):
    path = tmp_path / "training.npz"
    np.save(tmp_path / "X.npy", good_images)
    parameters = {**TINY, "checkpoint_path": str(path), "contamination": 0.1}
    arguments = [json.dumps(parameters), str(tmp_path / "X.npy")]
    process = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert path.exists()
    resumed = NCAEDetector(**parameters).fit(good_images)
    expected = NCAEDetector(**{**parameters, "checkpoint_path": None}).fit(good_images)
    np.testing.assert_array_equal(
        resumed.score_samples(good_images), expected.score_samples(good_images)
    )


@pytest.mark.parametrize("optimizer", ["adam", keras.optimizers.SGD(0.01)], ids=["adam", "sgd"])
def test_a_training_of_no_seed_goes_on(good_images, tmp_path, eagerly, optimizer):
    path = tmp_path / "training.npz"
    parameters = {**TINY, "random_state": None, "contamination": 0.1, "checkpoint_path": path}
    detector = NCAEDetector(optimizer=optimizer, **parameters)
    with eagerly():
        with pytest.raises(KeyboardInterrupt):
            detector.set_params(callbacks=[Interrupt(KeyboardInterrupt())]).fit(good_images)
        seen = []
        seer = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
        detector.set_params(callbacks=[seer]).fit(good_images)
    assert seen == [2, 3]


def test_a_checkpoint_that_cannot_be_written_leaves_the_last(
    good_images, tmp_path, monkeypatch, eagerly
):
    path, savez = tmp_path / "training.npz", np.savez

    def fill_the_disk(file, **arrays):
        if path.exists():
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        savez(file, **arrays)

    reconstructor = NCAEReconstructor(checkpoint_path=path, **TINY)
    with eagerly():
        with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
            patched.setattr(np, "savez", fill_the_disk)
            reconstructor.fit(good_images)
        seen = []
        seer = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
        reconstructor.set_params(callbacks=[seer]).fit(good_images)
    assert seen == [1, 2, 3]


def test_what_could_not_be_resumed_is_refused_at_once(good_images, tmp_path):
    path = tmp_path / "training.npz"
    with pytest.raises(ValueError, match="checkpoint_path needs an integer random_state"):
        NCAEDetector(checkpoint_path=path, **{**TINY, "random_state": None}).fit(good_images)
    assert not path.exists()


def test_a_checkpoint_of_another_training_is_refused(good_images, tmp_path, eagerly):
    path = tmp_path / "training.npz"
    reconstructor = NCAEReconstructor(
        checkpoint_path=path, callbacks=[Interrupt(KeyboardInterrupt())], **TINY
    )
    with eagerly(), pytest.raises(KeyboardInterrupt):
        reconstructor.fit(good_images)
    with pytest.raises(ValueError, match="checkpoint of another training: batch_size was 8 and is"):
        reconstructor.set_params(batch_size=4).fit(good_images)
    reconstructor.set_params(batch_size=8)
    with pytest.raises(ValueError, match="random_state was 0 and is 1"):
        reconstructor.set_params(random_state=1).fit(good_images)
    reconstructor.set_params(random_state=0)
    with pytest.raises(ValueError, match=r"optimizer was 'adam' and is .*0\.125"):
        reconstructor.set_params(optimizer=keras.optimizers.Adam(0.125)).fit(good_images)
    reconstructor.set_params(optimizer="adam")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is not a checkpoint"):
        reconstructor.fit(good_images)
    with pytest.raises(ValueError, match="set one of them"):
        reconstructor.set_params(early_stopping=True).fit(good_images)


@pytest.fixture(scope="module")
def fitted(good_images, eagerly):
    with eagerly():
        return NCAEDetector(contamination=0.1, **TINY).fit(good_images)


def draw_nothing(images, *, random_state):
    return images, np.zeros((*images.shape[:3], 1), bool)


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        ({"callbacks": [Interrupt(KeyboardInterrupt(), epoch=1)]}, KeyboardInterrupt),
        ({"callbacks": [Interrupt(MemoryError(), epoch=1)]}, MemoryError),
        ({"callbacks": [Interrupt(RuntimeError("callback"), epoch=1)]}, RuntimeError),
        ({"learning_rate": 1e30, "optimizer": "sgd"}, ValueError),  # the loss is not finite
    ],
)
def test_a_failed_fit_leaves_the_previous_one(good_images, fitted, eagerly, failing, error):
    detector = clone(fitted).set_params(**failing)
    with eagerly(), pytest.raises(error):
        detector.fit(good_images)
    assert vars(detector).keys() == detector.get_params().keys()  # plainly unfitted
    detector = copy.deepcopy(fitted).set_params(**failing)
    scores = detector.score_samples(good_images)
    with eagerly(), pytest.raises(error):
        # Images of another size, which the failed fit has looked at.
        detector.fit(good_images[:, 2:])
    np.testing.assert_array_equal(detector.score_samples(good_images), scores)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"loss": "mae"}, "loss was 'mse' and is 'mae'"),
        ({"learning_rate": 0.5}, "learning_rate was 0.002 and is 0.5"),
        ({"epochs": 9}, "epochs was . and is 9"),
        ({"optimizer": "sgd"}, "optimizer was 'adam' and is 'sgd'"),
        ({"dtype_policy": "mixed_bfloat16"}, "dtype_policy was"),
        ({"draw_defects": draw_nothing}, "draw_defects was None and is 'draw_nothing'"),
        ({}, "images was"),
    ],
)
def test_another_training_is_refused(changed, message, good_images, tmp_path, eagerly):
    path = tmp_path / "training.npz"
    reconstructor = NCAEReconstructor(checkpoint_path=path, **TINY)
    with eagerly(), pytest.raises(KeyboardInterrupt):
        reconstructor.set_params(callbacks=[Interrupt(KeyboardInterrupt())]).fit(good_images)
    others = good_images if changed else good_images[:, ::-1]
    with pytest.raises(ValueError, match=message):
        reconstructor.set_params(callbacks=None, **changed).fit(others)
    with pytest.raises(ValueError, match=r"images was .{,100} and is"):
        reconstructor.fit(others[:-1])
    assert path.exists()
