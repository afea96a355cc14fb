"""NCAEReconstructor: builds and trains the Keras NCAE behind a scikit-learn estimator."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self
from zlib import crc32

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklearn_ncae._ahead import one_ahead
from sklearn_ncae._all_or_nothing import all_or_nothing
from sklearn_ncae._hold_out import Rows, check_groups, hold_out
from sklearn_ncae._image_arrays import warn_of_flat_rows, warn_of_other_unit
from sklearn_ncae._pixel_scale import PixelScale
from sklearn_ncae.defects import draw_defects
from sklearn_ncae.images import check_image_stack

# Images are scored in batches of about this many pixels, at most 32 images: enough to keep the
# processor busy, few enough to keep the network's activations in a few hundred megabytes.
_BATCH_PIXELS = 1_500_000
_BATCH_IMAGES = 32

# Training that repairs sees crops of at most this side, in this many steps: with more of them the
# network learns the few images by heart, see the page on detection quality.
_CROP = 96
# The network that repairs sees images whose shorter side has this many pixels as the means of 2 by
# 2 of them: the noise of a camera differs from part to part, and is no defect.
_LARGE_SIDE = 192
_REPAIR_STEPS = 1500
_RECONSTRUCT_EPOCHS = 20

# The process that has used Keras' backend first: this one, or one that it was forked from.
_process: int | None = None


@dataclass(frozen=True)
class _Outputs:
    """What the network makes of a batch of images.

    Attributes
    ----------
    rows : slice
        Which of all images they are.
    images : ndarray of shape (n, h, w, c)
    outputs : ndarray of shape (n, h, w, c) or (n, h, w, c + 1), float32
        As they leave the network; without detail, a block of the images' pixels is one pixel.
    low, span : numbers or ndarrays of shape (n, 1, 1, c) and (n, 1, 1, 1)
        What brings them to the unit of the images.
    """

    rows: slice
    images: NDArray[Any]
    outputs: NDArray[np.float32]
    low: Any
    span: Any

    @property
    def reconstructions(self) -> NDArray[Any]:
        """Reconstructions (n, h, w, c), float32 or what the images need."""
        n_channels = self.images.shape[3]
        values = self.outputs[..., :n_channels] * self.span + self.low
        return values.astype(np.result_type(self.images.dtype, np.float32), copy=False)

    @property
    def defect_maps(self) -> NDArray[np.float32]:
        """Probabilities (n, h, w), of a network that repairs; without detail, one per block."""
        maps: NDArray[np.float32] = expit(self.outputs[..., self.images.shape[3]])
        return maps


class _Compiled(NamedTuple):
    """A network and its forward passes, whole and without the detail of large images."""

    model: Any
    forward: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    forward_without_detail: Callable[[NDArray[np.float32]], NDArray[np.float32]]


def _identity_of(images: NDArray[Any], rows: Rows) -> list[int]:
    """Return numbers that tell images to train on from others.

    They are how many there are, which of them are taken, and what two of these look like: to read
    them all would take time.
    """
    two = images[[rows.min(), rows.max()]]
    return [
        len(images),
        len(rows),
        crc32(np.sort(rows).astype(np.int64).tobytes()),
        crc32(two.tobytes()),
    ]


class NCAEReconstructor(BaseEstimator):
    """Neighbor Convolution AutoEncoder that reconstructs images of good parts.

    A convolutional network whose 3x3 convolutions leave out the centre pixel (to repair, but for
    those with strides), trained to reproduce the images it is given, or to repair defects drawn
    into them.

    Parameters
    ----------
    training : {"repair", "reconstruct"}, default="repair"
        ``"repair"`` draws defects into random crops of the images and trains the network to
        remove and to mark them. Every image is standardised, each channel by its own mean and all
        by their common deviation. ``"reconstruct"`` is the article's way: the network reproduces
        the images through a narrow code.
    draw_defects : callable, default=None
        What draws the defects: a function like
        :func:`~sklearn_ncae.defects.draw_defects`, which is the default and says what images it
        is given.
    filters : sequence of int or "auto", default="auto"
        Number of filters of each level of the encoder; the decoder mirrors them, to repair with
        half as many. Every level halves the height and width. ``"auto"`` is ``(32, 32, 64)`` to
        repair and ``(16, 32, 64)`` to reconstruct.
    bottleneck : {"spatial", "dense"}, default="spatial"
        Whether the code is a small image with `bottleneck_size` channels, or a vector of
        `bottleneck_size` values. The network that repairs has no code.
    bottleneck_size : int, default=8
        Size of the code.
    convolution : {"neighbor", "standard"}, default="neighbor"
        ``"standard"`` builds the same network of ordinary convolutions, for comparison.
    loss : str, callable or keras.losses.Loss, default="mse"
        Training loss between the reconstruction and the image, both scaled for the network. To
        repair, the cross-entropy of the marked defects is added.
    optimizer : str or keras.optimizers.Optimizer, default="adam"
        An optimizer object is copied and brings its own learning rate.
    learning_rate : float, default=2e-3
        Learning rate, where `optimizer` is a name. It falls to a twentieth over the training,
        along a cosine.
    epochs : int or "auto", default="auto"
        Number of passes over the training images. ``"auto"`` makes 20 to reconstruct, and to
        repair as many as it takes for 1500 steps.
    batch_size : int, default=16
        Images per training step.
    dtype_policy : {"float32", "mixed_bfloat16"}, default="float32"
        What the network computes in while it is trained; ``"mixed_bfloat16"`` may be faster on
        processors that have instructions for it. Weights are float32, and so are all
        computations of the trained network.
    callbacks : list of keras.callbacks.Callback, default=None
        Passed to `keras.Model.fit`. Those that change the learning rate take an `optimizer` that is
        an object with a number for it, as an optimizer by name has a schedule.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the images, stop when the loss on them has not improved
        for `n_iter_no_change` epochs, and keep the best weights.
    validation_fraction : float, default=0.1
        Fraction of the images, or of the groups, held out, where `early_stopping` is set.
    n_iter_no_change : int, default=5
        Epochs without improvement before stopping, where `early_stopping` is set.
    warm_start : bool, default=False
        Go on from the weights of the previous `fit`. The optimizer starts anew.
    checkpoint_path : str or path-like, default=None
        File that the training is written to after every epoch. `fit` with the same images and
        parameters goes on from it after a crash, to the same result bit by bit; the file is
        deleted at the end. Not with `early_stopping`.
    image_shape : tuple of int, default=None
        Height, width and, optionally, channels of the images where X has flat rows.
    verbose : int, default=0
        0 is silent, 1 shows Keras' progress bar, 2 one line an epoch.
    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the order of the images and what is held out. With another
        number of threads (of TensorFlow, as in the workers of ``n_jobs``) or on another processor,
        sums in training are rounded otherwise: the network is another one then.

    Attributes
    ----------
    model_ : keras.Model
        The trained network, from scaled images (n, height, width, channels) to the same; to
        repair, with one more channel, the logit of the defect map.
    history_ : dict of str to list of float
        Loss, and with early stopping validation loss, of every epoch; nan of those without.
    n_iter_ : int
        Number of epochs of the last fit.
    n_samples_fit_ : int
        Number of images it was trained on, without those held out for early stopping.
    image_shape_ : tuple of (int, int, int)
        Height, width and channels of the training images.
    n_features_in_ : int
        Number of values of an image.
    feature_names_in_ : ndarray of str
        Names of the columns, where X was a DataFrame.

    See Also
    --------
    sklearn_ncae.NCAEDetector : The outlier detector around this network.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae import NCAEReconstructor
    >>> X = np.random.RandomState(0).randint(0, 256, (20, 16, 16), dtype=np.uint8)
    >>> reconstructor = NCAEReconstructor(epochs=1, random_state=0).fit(X)
    >>> reconstructor.predict(X).shape
    (20, 16, 16)
    """

    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "training": [StrOptions({"repair", "reconstruct"})],
        "draw_defects": [callable, None],
        "filters": ["array-like", StrOptions({"auto"})],
        "bottleneck": [StrOptions({"spatial", "dense"})],
        "bottleneck_size": [Interval(Integral, 1, None, closed="left")],
        "convolution": [StrOptions({"neighbor", "standard"})],
        "loss": [str, callable],
        # Anything but a string is left to Keras, which is not imported until fit.
        "optimizer": "no_validation",
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "dtype_policy": [StrOptions({"float32", "mixed_bfloat16"})],
        "callbacks": [list, tuple, None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "checkpoint_path": [str, os.PathLike, None],
        "image_shape": ["array-like", None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        training: str = "repair",
        draw_defects: Callable[..., Any] | None = None,
        filters: Sequence[int] | str = "auto",
        bottleneck: str = "spatial",
        bottleneck_size: int = 8,
        convolution: str = "neighbor",
        loss: Any = "mse",
        optimizer: Any = "adam",
        learning_rate: float = 2e-3,
        epochs: int | str = "auto",
        batch_size: int = 16,
        dtype_policy: str = "float32",
        callbacks: Sequence[Any] | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        checkpoint_path: str | os.PathLike[str] | None = None,
        image_shape: Sequence[int] | None = None,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.training = training
        self.draw_defects = draw_defects
        self.filters = filters
        self.bottleneck = bottleneck
        self.bottleneck_size = bottleneck_size
        self.convolution = convolution
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.dtype_policy = dtype_policy
        self.callbacks = callbacks
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.checkpoint_path = checkpoint_path
        self.image_shape = image_shape
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X: ArrayLike, y: Any = None, groups: Any = None) -> Self:
        """Train the network to reproduce images of good parts.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of good parts, of any real dtype and unit.
        y : None
            Ignored.
        groups : array-like of shape (n,), default=None
            What images of the same part have in common, such as its number: with early stopping,
            whole groups are held out. None: each image is one.

        Returns
        -------
        self : NCAEReconstructor

        Raises
        ------
        TypeError, ValueError
            If X is not a stack of images, or too small for the network or for early stopping; if
            groups has not one value for each image; if the loss becomes infinite or nan; if with
            `warm_start` the shape of the images or the network differ from those of the previous
            fit; if with `checkpoint_path` the images (of which two are compared), the network or
            its training differ from those of the file.
        """
        images, layout = check_image_stack(self, X, image_shape=self.image_shape, reset=True)
        given = layout if self.image_shape is None else self.image_shape
        warn_of_flat_rows(given, type(self).__name__)
        return self._fit_rows(images, np.arange(len(images)), check_groups(groups, len(images)))

    def _fit_rows(self, images: NDArray[Any], rows: Rows, groups: Rows) -> Self:
        """Train on some of the images, which are read batch by batch and never copied whole."""
        import keras

        from sklearn_ncae._checkpoint import Checkpoint
        from sklearn_ncae.network import between_steps, build_network

        _refuse_after_fork()
        self.image_shape_ = images.shape[1:]
        self.n_features_in_ = prod(self.image_shape_)
        previous = self.__dict__.copy() if self.warm_start and hasattr(self, "weights_") else None
        network = self._check_network()
        if previous is not None and previous["_network"] != network:
            raise ValueError(
                f"warm_start cannot go on: the previous network was {previous['_network']}, "
                f"this one is {network}. Set warm_start=False or fit a clone."
            )
        random_state = check_random_state(self.random_state)
        make_batches, loss, crop = self._training_kind(images)
        # A network of the same weights, but for crops.
        trained = build_network(
            **{
                **network,
                "image_shape": (*crop, images.shape[3]),
                "block_size": 1,
                "dtype_policy": self.dtype_policy,
            },
            random_state=random_state,
        )
        history: dict[str, list[float]] = {}
        if previous is None:
            scale = PixelScale.of(images, per_image=self.training == "repair", rows=rows)
        else:
            trained.set_weights(previous["weights_"])
            scale, history = previous["_scale"], previous["history_"]
            warn_of_other_unit(images, scale.pixel_range, type(self).__name__)

        validation = None
        for callback in self.callbacks or []:
            if not isinstance(callback, keras.callbacks.Callback):
                raise TypeError(
                    f"callbacks takes instances of keras.callbacks.Callback, got {callback!r}."
                )
        callbacks = [*(self.callbacks or []), _stop_when_not_finite()]
        if self.early_stopping:
            left_out = self._left_out(groups[rows], random_state)
            validation = make_batches(images, rows[left_out], scale, self.batch_size)
            rows = rows[~left_out]
            callbacks.append(
                keras.callbacks.EarlyStopping(
                    patience=self.n_iter_no_change, restore_best_weights=True
                )
            )
        batches = make_batches(images, rows, scale, self.batch_size, random_state)
        n_epochs = self._count_epochs(len(batches))
        trained.compile(
            optimizer=self._make_optimizer(n_epochs * len(batches)),
            loss=loss,
            # XLA takes longer to compile than most fits take; JAX has no other compiler.
            jit_compile=keras.backend.backend() == "jax",
        )
        checkpoint = None
        if self.checkpoint_path is not None:
            trained.optimizer.build(trained.trainable_variables)
            told_apart_by = self._told_apart_by(images, rows, network, scale, n_epochs)
            checkpoint = Checkpoint(self.checkpoint_path, batches, told_apart_by)
            callbacks.append(checkpoint)
        data: Any = batches
        if _steps_take_all_cores():
            data, end_epoch = between_steps(batches)
            callbacks.insert(0, end_epoch)
        try:
            with _no_notes_on_tracing():
                epochs = trained.fit(
                    data,
                    epochs=n_epochs,
                    initial_epoch=checkpoint.epoch if checkpoint else 0,
                    validation_data=validation,
                    callbacks=callbacks,
                    verbose=int(self.verbose),
                    shuffle=False,  # the batches shuffle themselves
                ).history
        except Exception:
            for made in (batches, validation):
                if made is not None and made.error is not None:
                    raise made.error from None  # TensorFlow has made an error of its own of it
            raise
        finally:
            # They are parameters, which clones and pickles copy: the network is to stay out.
            for callback in self.callbacks or []:
                keras.callbacks.Callback.set_model(callback, None)
            # Keras and TensorFlow keep the batches of every fit, but need not keep its images.
            for made in (batches, validation):
                if made is not None:
                    made.images = None
        if checkpoint:
            epochs = checkpoint.history

        self._network, self._scale = network, scale
        can_score = (
            trained.input_shape[1:] == network["image_shape"] and self.dtype_policy == "float32"
        )
        self.weights_ = trained.get_weights()
        self._keep(trained if can_score else self._build_model())
        n_before, n_now = (len(losses.get("loss", [])) for losses in (history, epochs))
        self.history_ = {
            name: [
                *history.get(name, [np.nan] * n_before),
                *map(float, epochs.get(name, [np.nan] * n_now)),
            ]
            for name in {**history, **epochs}
        }
        self.n_samples_fit_ = len(rows)
        self.n_iter_ = n_now
        if checkpoint:
            checkpoint.delete()
        return self

    def _left_out(self, groups: Rows, random_state: np.random.RandomState) -> NDArray[np.bool_]:
        """Mark the images that tell when to stop."""
        if self.checkpoint_path is not None:
            raise ValueError(
                "checkpoint_path does not keep what early_stopping has seen: set one of them."
            )
        left_out = hold_out(groups, self.validation_fraction, random_state)
        if left_out.all():
            raise ValueError(
                f"early_stopping with n_samples={len(groups)} leaves no image to train on: "
                "give at least 2 images, of 2 groups if there are any, or set early_stopping=False."
            )
        return left_out

    def _told_apart_by(
        self,
        images: NDArray[Any],
        rows: Rows,
        network: dict[str, Any],
        scale: PixelScale,
        n_epochs: int,
    ) -> dict[str, Any]:
        """Return what tells the checkpoint of this training from that of another."""
        return {
            "network": network,
            "images": _identity_of(images, rows),
            "range": [scale.low, scale.span],
            "epochs": n_epochs,
            "batch_size": self.batch_size,
            "dtype_policy": self.dtype_policy,
            "loss": _name_of(self.loss),
            "optimizer": self._optimizer_settings(),
            # A generator has gone on since, and None is another one each time.
            "random_state": self.random_state if isinstance(self.random_state, Integral) else None,
            "learning_rate": float(self.learning_rate),
            "draw_defects": _name_of(self.draw_defects),
        }

    def _optimizer_settings(self) -> str:
        import keras

        if isinstance(self.optimizer, str):
            return self.optimizer
        settings = keras.optimizers.serialize(self.optimizer)
        return json.dumps(settings, sort_keys=True, default=_name_of)

    def _count_epochs(self, n_batches: int) -> int:
        if not isinstance(self.epochs, str):
            return self.epochs
        if self.training == "repair":
            return -(-_REPAIR_STEPS // n_batches)
        return _RECONSTRUCT_EPOCHS

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Reconstruct images.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        reconstructions : ndarray of the shape of X
            In the unit of X, as float32, or float64 where X needs it. The reconstruction of an
            image does not depend on the other images.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError, ValueError
            If X is not a stack of images as in `fit`.
        """
        check_is_fitted(self)
        images, layout = check_image_stack(self, X, image_shape=self.image_shape, reset=False)
        return self._reconstruct(images).reshape(len(images), *layout)

    def defect_map(self, X: ArrayLike) -> NDArray[np.float32]:
        """Mark defects as the network has learned from those drawn in.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        probabilities : ndarray of shape (n, h, w), float32
            For every pixel, how sure the network is that something was drawn in, in [0, 1].

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError, ValueError
            If X is not a stack of images as in `fit`.
        AttributeError
            If the estimator was trained to reconstruct.
        """
        check_is_fitted(self)
        if self._network["training"] != "repair":
            raise AttributeError(
                "There is no defect_map after training='reconstruct'. Fit with training='repair'."
            )
        images, _ = check_image_stack(self, X, image_shape=self.image_shape, reset=False)
        return self._mark_defects(images)

    def _reconstruct(self, images: NDArray[Any]) -> NDArray[Any]:
        """Reconstructions (n, h, w, c) of images (n, h, w, c)."""
        reconstructions = np.empty(images.shape, np.result_type(images.dtype, np.float32))
        for outputs in self._run(images):
            reconstructions[outputs.rows] = outputs.reconstructions
        return reconstructions

    def _mark_defects(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Defect maps (n, h, w) of images (n, h, w, c), from a repairing network."""
        maps = np.empty(images.shape[:3], np.float32)
        for outputs in self._run(images):
            maps[outputs.rows] = outputs.defect_maps
        return maps

    def _run(self, images: NDArray[Any], *, detail: bool = True) -> Iterator[_Outputs]:
        """Run the network batch by batch, on the next one while the caller uses one.

        Without detail it is faster, and of large images only what is one per block is made.
        """
        step = int(np.clip(_BATCH_PIXELS // np.prod(self.image_shape_[:2]), 2, _BATCH_IMAGES))
        compiled = self._compiled()
        forward = compiled.forward if detail else compiled.forward_without_detail
        # The same for every batch: the system would take it back and hand it out again.
        memory = np.empty((min(step, len(images)), *self.image_shape_), np.float32)

        def run(start: int) -> _Outputs:
            rows = slice(start, start + step)
            batch = images[rows]
            scaled, low, span = self._scale.to_network(batch, out=memory[: len(batch)])
            return _Outputs(rows, batch, forward(scaled), low, span)

        starts = range(0, len(images), step)
        return map(run, starts) if _has_one_thread() else one_ahead(run, starts)

    @property
    def model_(self) -> Any:
        """The trained Keras network, rebuilt from its weights after a copy or a pickle."""
        check_is_fitted(self)
        return self._compiled().model

    def _compiled(self) -> _Compiled:
        """Return the network and its compiled forward passes, building what is not there."""
        _refuse_after_fork()
        if self._model is None:
            self._keep(self._build_model())
        return self._model

    def _keep(self, model: Any) -> None:
        from sklearn_ncae.network import compile_forward, without_detail

        forward, part = compile_forward(model), without_detail(model)
        self._model = _Compiled(model, forward, forward if part is model else compile_forward(part))

    def _build_model(self) -> Any:
        from sklearn_ncae.network import build_network

        model = build_network(**self._network)
        model.set_weights(self.weights_)
        return model

    def _check_network(self) -> dict[str, Any]:
        filters = self._levels()
        if not filters or not all(isinstance(f, Integral) and f > 0 for f in filters):
            raise ValueError(
                f"filters must be one or more positive integers, one per level; got {filters}."
            )
        smallest = 2 ** len(filters)
        # Rows of a table are images of height 1, and may be as short as one value.
        is_table = self.image_shape_[0] == 1
        if not is_table and min(self.image_shape_[:2]) < smallest:
            raise ValueError(
                f"Images of {self.image_shape_[0]} x {self.image_shape_[1]} pixels are smaller "
                f"than the {smallest} x {smallest} that {len(filters)} levels can take. Give "
                "larger images, or fewer levels in filters."
            )
        return {
            "image_shape": self.image_shape_,
            "training": self.training,
            "filters": filters,
            "bottleneck": self.bottleneck,
            "bottleneck_size": self.bottleneck_size,
            "convolution": self.convolution,
            "block_size": self._block_size(),
        }

    def _levels(self) -> tuple[int, ...]:
        from sklearn_ncae.network import DEFAULT_FILTERS

        if isinstance(self.filters, str):
            return DEFAULT_FILTERS[self.training]
        return tuple(self.filters)

    def _block_size(self) -> int:
        return 2 if self.training == "repair" and min(self.image_shape_[:2]) >= _LARGE_SIDE else 1

    def _training_kind(self, images: NDArray[Any]) -> tuple[Any, Any, tuple[int, ...]]:
        """Say what makes the batches, with which loss, and the size of their images."""
        from sklearn_ncae.network import RepairBatches, RepairLoss, TrainingBatches

        if self.training == "reconstruct":
            return TrainingBatches, self.loss, images.shape[1:3]
        # Whole numbers of the innermost level's pixels, of which a crop has one only if the image
        # has: for one pixel the network is another.
        stride = 2 ** len(self._levels())
        block_size = self._block_size()
        crop = tuple(
            side if side < 2 * stride else max(2, min(side, _CROP) // stride) * stride
            for side in (-(-side // block_size) for side in images.shape[1:3])
        )
        draw = self.draw_defects or draw_defects
        make_batches = partial(RepairBatches, draw=draw, crop=crop, block_size=block_size)
        return make_batches, RepairLoss(self.loss), crop

    def _make_optimizer(self, n_steps: int) -> Any:
        import keras

        if isinstance(self.optimizer, str):
            schedule = keras.optimizers.schedules.CosineDecay(
                self.learning_rate, n_steps, alpha=0.05
            )
            kind = type(keras.optimizers.get(self.optimizer))
            return kind(learning_rate=schedule)
        # A copy: an optimizer belongs to the one network it has been built for.
        return keras.optimizers.deserialize(keras.optimizers.serialize(self.optimizer))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the Keras model: the weights are all that has to travel."""
        state: dict[str, Any] = super().__getstate__()
        return {**state, "_model": None} if "_model" in state else state

    def __sklearn_is_fitted__(self) -> bool:
        """Tell `check_is_fitted` by what the end of `fit` leaves behind."""
        return hasattr(self, "weights_")

    def __sklearn_tags__(self) -> Tags:
        """Declare that stacks of images are accepted beside tables."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _name_of(value: Any) -> str | None:
    """Return a name, or of code and objects the kind, as they cannot be compared."""
    if value is None or isinstance(value, str):
        return value
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def _has_one_thread() -> bool:
    """Tell whether this process is to do one thing at a time, as a worker beside others."""
    return os.environ.get("TF_NUM_INTRAOP_THREADS") == "1" or joblib.cpu_count() == 1


def _refuse_after_fork() -> None:
    """Raise in a process that was forked from one that has used networks: it would hang."""
    import keras

    global _process
    if _process is None:
        _process = os.getpid()
    elif _process != os.getpid() and keras.backend.backend() != "torch":
        raise RuntimeError(
            "This process was forked from one that has trained, loaded or used a network, and "
            "would wait for threads that it does not have. Load the detector in each process and "
            "not before, start processes by 'spawn' or 'forkserver', or score by an OnnxDetector "
            "with n_threads=1."
        )


def _steps_take_all_cores() -> bool:
    """Tell whether a thread that makes batches beside a step would take a core from it."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return joblib.cpu_count() <= 2 and not tf.config.list_physical_devices("GPU")


@contextmanager
def _no_notes_on_tracing() -> Iterator[None]:
    """Hold back what TensorFlow says of many fits in a row, each of which traces its network."""

    def is_other(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger = logging.getLogger("tensorflow")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def _stop_when_not_finite() -> Any:
    import keras

    def check(epoch: int, logs: dict[str, float] | None = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not np.isfinite(loss):
            raise ValueError(
                f"Training diverged: the loss was {loss} in epoch {epoch + 1}. Lower the "
                "learning_rate, or check the images for extreme values."
            )

    return keras.callbacks.LambdaCallback(on_epoch_end=check)
