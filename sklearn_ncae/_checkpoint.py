"""Checkpoints of a training, which goes on from them as if it had never stopped."""

import io
import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sklearn_ncae._atomic import replacing
from sklearn_ncae.network import TrainingBatches


class Checkpoint(keras.callbacks.Callback):
    """Writes the state of the training after every epoch, and takes it up again.

    The file is an uncompressed ``.npz`` without pickles. A new one replaces the old one at once,
    so that there is always a whole one.

    Parameters
    ----------
    path : str or path-like
        The file; read at once if it exists.
    batches : TrainingBatches
        Whose order and random state belong to the state of the training.
    training : dict
        What tells this training from another; of values that JSON knows.

    Attributes
    ----------
    epoch : int
        How many epochs had been trained.
    history : dict of str to list of float
        What Keras reported of them.

    Raises
    ------
    ValueError
        If the file is not a checkpoint, or is one of another training.
    """

    def __init__(
        self, path: str | os.PathLike[str], batches: TrainingBatches, training: dict[str, Any]
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self.batches = batches
        self.training = json.loads(json.dumps(training, default=_number))
        self.epoch = 0
        self.history: dict[str, list[float]] = {}
        self._state: dict[str, Any] | None = None
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        try:
            with np.load(io.BytesIO(self.path.read_bytes()), allow_pickle=False) as file:
                state = dict(file)
            about = json.loads(str(state["about"]))
            training = about["training"]
        except Exception as error:
            raise ValueError(
                f"{self.path} is not a checkpoint of a training that can be resumed: {error}. "
                "Delete it or give another checkpoint_path."
            ) from error
        differences = [
            f"{name} was {training.get(name)!r} and is {value!r}"
            for name, value in self.training.items()
            if training.get(name) != value
        ]
        if differences:
            raise ValueError(
                f"{self.path} is a checkpoint of another training: {'; '.join(differences)}. "
                "Give the images and parameters it was begun with, or delete it to begin anew."
            )
        self.epoch, self.history = about["epoch"], about["history"]
        self._state = state | {"random_state": about["random_state"]}

    def on_train_begin(self, logs: Any = None) -> None:
        """Take up the training where the file left it."""
        if self._state is None:
            return
        for index, variable in enumerate(self._variables()):
            variable.assign(self._state[f"variable_{index}"])
        self.batches.rows[:] = self._state["rows"]
        name, *numbers = self._state["random_state"]
        assert self.batches.random_state is not None
        self.batches.random_state.set_state((name, self._state["random_keys"], *numbers))
        self._state = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the file."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        assert self.batches.random_state is not None
        name, keys, *numbers = self.batches.random_state.get_state()
        about = {
            "training": self.training,
            "epoch": epoch + 1,
            "history": self.history,
            "random_state": [name, *numbers],
        }
        variables = {
            f"variable_{index}": keras.ops.convert_to_numpy(variable)
            for index, variable in enumerate(self._variables())
        }
        with replacing(self.path) as path, path.open("wb") as file:
            np.savez(
                file,
                about=json.dumps(about),
                rows=self.batches.rows,
                random_keys=keys,
                **variables,
            )

    def delete(self) -> None:
        """Delete the file: the training is over."""
        self.path.unlink(missing_ok=True)

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.model.optimizer.variables]


def _number(value: Any) -> Any:
    """Return what JSON has in the place of NumPy's numbers and arrays of them."""
    if not isinstance(value, np.generic | np.ndarray):
        raise TypeError(f"A checkpoint cannot hold a {type(value).__name__}: {value!r:.100}.")
    return value.tolist()
