"""The Keras network of the NCAE, and the batches it is trained and scored on."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from sklearn_ncae._image_arrays import block_means, release_pages
from sklearn_ncae._pixel_scale import PixelScale, scaled
from sklearn_ncae.layers import DetailUpsampling2D, NeighborConv2D, PixelShuffle

# The smallest side that defects are drawn into.
_SMALLEST_DRAWING = 8
# How far contrast, on a logarithmic scale, and brightness are changed at random, in standard
# deviations of the image.
_EXPOSURE = 0.35
# Of the running means of batch normalization: they follow within some tens of steps.
_MOMENTUM = 0.95
# An image of so many values shows whether it is summed in another order.
_TELLING_VALUES = 1000
# Share of the channels that a step of the training does without, before each level outwards.
_DROPOUT = 0.2

# Images have their channels last here, whatever Keras is set to.
_LAST: dict[str, Any] = {"data_format": "channels_last"}
_Conv2D = partial(keras.layers.Conv2D, **_LAST)
_StandardConv2D = partial(_Conv2D, kernel_size=3, padding="same")
_UpSampling2D = partial(keras.layers.UpSampling2D, **_LAST)

Training = Literal["repair", "reconstruct"]
Convolution = Literal["neighbor", "standard"]
Bottleneck = Literal["spatial", "dense"]
DtypePolicy = Literal["float32", "mixed_bfloat16"]

#: Filters of each level. Where defects have to be seen, the outermost level needs many; where
#: images are only to be reproduced, it computes at full size, and would take long.
DEFAULT_FILTERS: dict[str, tuple[int, ...]] = {
    "repair": (32, 32, 64),
    "reconstruct": (16, 32, 64),
}


def build_network(
    image_shape: tuple[int, int, int],
    *,
    training: Training = "reconstruct",
    filters: Sequence[int] | None = None,
    bottleneck: Bottleneck = "spatial",
    bottleneck_size: int = 8,
    convolution: Convolution = "neighbor",
    block_size: int = 1,
    dtype_policy: DtypePolicy = "float32",
    random_state: np.random.RandomState | None = None,
) -> keras.Model:
    """Build the network of neighbour convolutions.

    Every level halves the sides, rounding up, and the way back doubles them and crops what is
    too much, so that any side works.

    To reconstruct it is an autoencoder, with a narrow code. To repair it is a U-net: a second
    convolution at each level, batch normalization, connections past the inner levels (it cannot
    just copy its input, where that is defective), and one more output channel: the logit of
    "here is a defect". Its levels begin with ordinary convolutions: a quarter of the pixels is
    in the centre of the only window that has them, and neighbour convolutions would not see it.

    Parameters
    ----------
    image_shape : tuple of (int, int, int)
        Height, width and channels.
    training : {"repair", "reconstruct"}, default="reconstruct"
        What the network will be trained for.
    filters : sequence of int, default=None
        Number of filters of each level of the encoder, from the image inwards; None for
        `DEFAULT_FILTERS`. The decoder mirrors them, to repair with half as many.
    bottleneck : {"spatial", "dense"}, default="spatial"
        Whether the code is a smaller image, or one vector. To repair, there is no code.
    bottleneck_size : int, default=8
        Channels of the spatial code, or length of the dense one.
    convolution : {"neighbor", "standard"}, default="neighbor"
        ``"standard"`` has `keras.layers.Conv2D` in every place of a `NeighborConv2D`.
    block_size : int, default=1
        Side of the blocks of pixels whose means the network that repairs sees. It has the same
        weights for any.
    dtype_policy : {"float32", "mixed_bfloat16"}, default="float32"
        What the layers compute in, whatever Keras' global policy is. Weights, inputs and outputs
        are float32.
    random_state : numpy.random.RandomState, default=None
        Where the seeds of the initial weights are drawn; None for unspecified weights, where they
        will be replaced.

    Returns
    -------
    model : keras.Model
        From (n, height, width, channels) to the same shape, to repair with one more channel; not
        compiled.
    """
    random_state = random_state or np.random.RandomState(0)
    filters = DEFAULT_FILTERS[training] if filters is None else filters

    def draw_seed() -> int:
        # A seed of its own for each layer: no global generator is read or changed.
        return int(random_state.randint(2**31 - 1))

    def seeded(layer: Any, *args: Any, **kwargs: Any) -> keras.layers.Layer:
        initializer = keras.initializers.GlorotUniform(seed=draw_seed())
        return layer(*args, kernel_initializer=initializer, **kwargs)

    make_convolution: Any = {"neighbor": NeighborConv2D, "standard": _StandardConv2D}[convolution]

    with _layers_compute_in(dtype_policy):
        inputs = keras.Input(image_shape, dtype="float32", name="image")
        if training == "repair":
            outputs = _repairing(inputs, filters, make_convolution, seeded, draw_seed, block_size)
        else:
            outputs = _reconstructing(
                inputs, filters, make_convolution, seeded, bottleneck, bottleneck_size
            )
        return keras.Model(inputs, outputs, name="ncae")


@contextmanager
def _layers_compute_in(dtype_policy: str) -> Iterator[None]:
    """Set the policy of layers that do not name their own; of this thread alone, as Keras does."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype_policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _reconstructing(
    inputs: Any,
    filters: Sequence[int],
    convolution: Any,
    seeded: Any,
    bottleneck: Bottleneck,
    bottleneck_size: int,
) -> Any:
    """Autoencoder: neighbour convolutions inwards to the code, and outwards again."""
    x = inputs
    levels = []  # what each level starts from, to crop to on the way back
    for level, width in enumerate(filters):
        levels.append(x)
        x = seeded(
            convolution, filters=width, strides=2, activation="relu", name=f"encoder_{level}"
        )(x)
    if bottleneck == "spatial":
        x = seeded(_Conv2D, bottleneck_size, 1, name="code")(x)
        x = seeded(_Conv2D, filters[-1], 1, activation="relu", name="decode")(x)
    else:
        shape = x.shape[1:]
        x = keras.layers.Flatten(**_LAST, name="flatten")(x)
        x = seeded(keras.layers.Dense, bottleneck_size, name="code")(x)
        x = seeded(keras.layers.Dense, int(np.prod(shape)), activation="relu", name="decode")(x)
        x = keras.layers.Reshape(shape, name="unflatten")(x)
    for level in reversed(range(len(filters))):
        x = _UpSampling2D(name=f"upsample_{level}")(x)
        x = _crop(x, levels[level], f"crop_{level}")
        x = seeded(convolution, filters=filters[level], activation="relu", name=f"decoder_{level}")(
            x
        )
    return seeded(convolution, filters=inputs.shape[-1], dtype="float32", name="reconstruction")(x)


def _repairing(
    inputs: Any,
    filters: Sequence[int],
    convolution: Any,
    seeded: Any,
    draw_seed: Any,
    block_size: int,
) -> Any:
    """U-net; what would be its widest level is one transposed convolution, for speed."""

    def convolve(x: Any, layer: Any, name: str, **kwargs: Any) -> Any:
        # A neighbour convolution has a ReLU of its own, as in the article: there are two then.
        x = seeded(layer, use_bias=False, name=name, **kwargs)(x)
        x = keras.layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_normalized")(x)
        return keras.layers.Activation("relu", name=f"{name}_relu")(x)

    blocks = inputs
    if block_size > 1:
        blocks = keras.layers.AveragePooling2D(
            block_size, padding="same", **_LAST, dtype="float32", name="blocks"
        )(inputs)
    x = blocks
    levels = []  # what each level starts from, to crop to and to go past to on the way back
    for level, width in enumerate(filters):
        levels.append(x)
        x = _with_even_sides(x, f"even_{level}")
        x = convolve(x, _StandardConv2D, f"encoder_{level}", filters=width, strides=2)
        if x.shape[1:3] != (1, 1):  # a lone pixel has no neighbours
            x = convolve(x, convolution, f"encoder_{level}_b", filters=width)
    for level in reversed(range(1, len(filters))):
        # To see takes many filters; what they have seen is brought outwards by half as many.
        width = -(-filters[level - 1] // 2)
        # Whole channels at a time: what a few images have taught one of them is not relied on.
        x = keras.layers.SpatialDropout2D(
            _DROPOUT, **_LAST, seed=draw_seed(), name=f"dropout_{level}"
        )(x)
        x = convolve(x, _Conv2D, f"narrow_{level}", filters=width, kernel_size=1)
        x = _UpSampling2D(name=f"upsample_{level}")(x)
        x = _crop(x, levels[level], f"crop_{level}")
        x = keras.layers.Concatenate(name=f"skip_{level}")([x, levels[level]])
        x = convolve(x, convolution, f"decoder_{level}", filters=width)
    # A transposed convolution of 4x4 with strides of 2, but exact in a batch of any size: the four
    # pixels around a corner of the level's pixels are made of the four that meet there.
    x = keras.layers.ZeroPadding2D(**_LAST, name="margin")(x)
    x = _Conv2D(
        4 * (inputs.shape[-1] + 1),
        2,
        kernel_initializer=keras.initializers.VarianceScaling(
            1 / 3, "fan_avg", "uniform", seed=draw_seed()
        ),
        dtype="float32",
        name="reconstruction_and_defects",
    )(x)
    x = PixelShuffle(dtype="float32", name="shuffle")(x)
    x = _crop(x, blocks, "crop_0", before=1)
    if block_size > 1:
        x = DetailUpsampling2D(block_size, dtype="float32", name="detail")([x, blocks, inputs])
    return x


def _with_even_sides(x: Any, name: str) -> Any:
    """Append an empty row or column where their number is odd.

    Keras pads odd sides on both ends and even ones on one, so that windows with strides would begin
    elsewhere than in the crops that the network is trained on.
    """
    missing = x.shape[1] % 2, x.shape[2] % 2
    if not any(missing):
        return x
    padding = tuple((0, rows) for rows in missing)
    return keras.layers.ZeroPadding2D(padding, **_LAST, dtype=x.dtype, name=name)(x)


def _crop(x: Any, like: Any, name: str, before: int = 0) -> Any:
    """Cut rows and columns off to the size of another image, `before` of them above and left."""
    excess = (x.shape[1] - like.shape[1], x.shape[2] - like.shape[2])
    if not any(excess):
        return x
    cropping = tuple((before, rows - before) for rows in excess)
    return keras.layers.Cropping2D(cropping, **_LAST, dtype=x.dtype, name=name)(x)


class TrainingBatches(keras.utils.PyDataset):
    """Scaled batches of images with themselves as targets, shuffled by a generator of its own.

    Parameters
    ----------
    images : ndarray of shape (n, h, w, c)
        Any dtype; read batch by batch.
    rows : ndarray of int
        Which images to use.
    scale : PixelScale
    batch_size : int
    random_state : numpy.random.RandomState or None
        Shuffles the rows before every epoch; None keeps their order.

    Attributes
    ----------
    error : Exception or None
        What was raised by a function that was given to make them.
    """

    def __init__(
        self,
        images: NDArray[Any],
        rows: NDArray[np.intp],
        scale: PixelScale,
        batch_size: int,
        random_state: np.random.RandomState | None = None,
    ) -> None:
        super().__init__()
        self.images = images
        self.rows = rows.copy()
        self.scale = scale
        self.batch_size = batch_size
        self.random_state = random_state
        self.error: Exception | None = None
        self.on_epoch_end()

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Read one batch."""
        batch, _, _ = self.scale.to_network(self._images_of(self._rows_of(index)))
        return batch, batch

    def _images_of(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Return a copy of images."""
        images = self.images[rows]
        for row in rows:
            release_pages(self.images[row])
        return images

    def _rows_of(self, index: int) -> NDArray[np.intp]:
        """Return which images make a batch, in the order in which they are stored."""
        return np.sort(self.rows[index * self.batch_size : (index + 1) * self.batch_size])

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch."""
        if self.random_state is not None:
            self.random_state.shuffle(self.rows)


class RepairBatches(TrainingBatches):
    """Batches of random crops with defects drawn in, whose targets are the crops and the masks.

    The crops are flipped and exposed differently, at random.

    Parameters
    ----------
    images, rows, scale, batch_size, random_state
        As for `TrainingBatches`; without `random_state` every epoch is the same.
    draw : callable
        Like :func:`sklearn_ncae.defects.draw_defects`.
    crop : tuple of (int, int)
        Height and width of the crops.
    block_size : int
        Side of the blocks of pixels whose means the crops consist of.
    """

    def __init__(
        self, *args: Any, draw: Any, crop: tuple[int, int], block_size: int, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.draw = draw
        self.crop = crop
        self.block_size = block_size
        # What scales each image, once it was seen: only its crop has to be scaled then.
        self._lows = np.full((len(self.images), self.images.shape[3]), np.nan)
        self._spans = np.full(len(self.images), np.nan)

    def _rows_of(self, index: int) -> NDArray[np.intp]:
        """Return which images make a batch; the last one begins anew where there are no more.

        A step of few images would count as much as the others.
        """
        rows = super()._rows_of(index)
        if self.random_state is None:
            return rows
        return np.sort(np.append(rows, np.resize(self.rows, self.batch_size - len(rows))))

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Draw one batch."""
        random_state = self.random_state or np.random.RandomState(index)
        rows = self._rows_of(index)
        new = rows[np.isnan(self._spans[rows])]
        if len(new):
            _, lows, spans = self.scale.to_network(self._images_of(new))
            self._lows[new], self._spans[new] = lows[:, 0, 0], spans.ravel()
        height, width = self.crop
        size = self.block_size
        n_rows, n_columns = (-(-side // size) for side in self.images.shape[1:3])
        clean = np.empty((len(rows), height, width, self.images.shape[3]), np.float32)
        for row, target in zip(rows, clean, strict=True):
            image = self.images[row]  # a view, of which the crop alone is read
            top = random_state.randint(n_rows - height + 1)
            left = random_state.randint(n_columns - width + 1)
            down, right = random_state.choice([-1, 1], 2)
            part = image[top * size : (top + height) * size, left * size : (left + width) * size]
            part = self.scale.without_extremes(part)
            part = scaled(part, self._lows[row], self._spans[row])
            means = block_means(block_means(part, size, axis=0), size, axis=1)
            target[...] = means[::down, ::right]
            release_pages(image)
        # The network is to know the parts, not the exposures of these few images.
        contrast, brightness = random_state.uniform(
            -_EXPOSURE, _EXPOSURE, (2, len(clean), 1, 1, 1)
        ).astype(np.float32)
        clean *= np.exp(contrast)
        clean += brightness
        # Rows of a table and tiny images are widened, for a shape needs room to be drawn in.
        margins = [(0, max(0, _SMALLEST_DRAWING - side)) for side in self.crop]
        room = np.pad(clean, [(0, 0), *margins, (0, 0)], mode="edge")
        try:
            drawn = self._draw_into(room, random_state)
        except Exception as error:
            self.error = error
            raise
        defective, masks = (np.asarray(part)[:, :height, :width] for part in drawn)
        # Whatever is not 0 is a defect, as in images of masks, whose white is 255.
        return defective, np.concatenate([clean, masks.astype(bool)], axis=-1)

    def _draw_into(self, clean: NDArray[np.float32], random_state: np.random.RandomState) -> Any:
        drawn = self.draw(clean, random_state=random_state)
        if [np.shape(part) for part in drawn] != [clean.shape, (*clean.shape[:3], 1)]:
            raise ValueError(
                f"draw_defects must return images of shape {clean.shape} and masks of shape "
                f"{(*clean.shape[:3], 1)}, but returned {[np.shape(part) for part in drawn]}."
            )
        return drawn


def between_steps(batches: TrainingBatches) -> tuple[Any, keras.callbacks.Callback]:
    """Have batches made between the training steps, which Keras with TensorFlow makes ahead.

    A thread that makes them beside a step takes a core from it, and the other cores wait: on two
    cores that costs several times what the batches do.

    Parameters
    ----------
    batches : TrainingBatches

    Returns
    -------
    dataset : tensorflow.data.Dataset
        For ``fit``, with the results that the batches have.
    callback : keras.callbacks.Callback
        Ends the epochs of the batches. It comes before others that look at them.
    """
    import tensorflow as tf

    # As Keras looks at batches before the first epoch, so that the random state is the same.
    batch, *_ = [batches[index] for index in range(min(2, len(batches)))]
    batches.on_epoch_end()
    signature = tuple(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in batch)
    dataset = tf.data.Dataset.from_generator(
        lambda: (batches[index] for index in range(len(batches))), output_signature=signature
    ).apply(tf.data.experimental.assert_cardinality(len(batches)))
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return dataset.with_options(options), keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: batches.on_epoch_end()
    )


@keras.saving.register_keras_serializable(package="sklearn_ncae")
class RepairLoss(keras.losses.Loss):
    """Loss of the repaired image plus the focal cross-entropy of the marked defects.

    Parameters
    ----------
    image_loss : str, callable or keras.losses.Loss
        Between the repaired and the clean image.
    mask_weight : float, default=10.0
        Weight of the cross-entropy.
    gamma : float, default=2.0
        How much less the pixels count that are marked right already.
    large_area : float, default=0.02
        Share of an image. Where so much of it is defective, its pixels count half, where more,
        less: or the few images of large defects would outweigh those of small ones, and the
        network would suspect every pixel.

    References
    ----------
    Lin et al., "Focal loss for dense object detection", 2017.
    """

    def __init__(
        self,
        image_loss: Any,
        mask_weight: float = 10.0,
        gamma: float = 2.0,
        large_area: float = 0.02,
    ) -> None:
        super().__init__(name="repair_loss")
        self.image_loss = keras.losses.get(image_loss)
        self.mask_weight = mask_weight
        self.gamma = gamma
        self.large_area = large_area

    def get_config(self) -> dict[str, Any]:
        """Return what Keras needs to make the loss anew, with a network that it loads."""
        return {
            "image_loss": keras.losses.serialize(self.image_loss),
            "mask_weight": self.mask_weight,
            "gamma": self.gamma,
            "large_area": self.large_area,
        }

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of a batch."""
        mask, logit = y_true[..., -1:], y_pred[..., -1:]
        wrong = keras.ops.abs(mask - keras.ops.sigmoid(logit))
        cross_entropy = keras.ops.softplus(logit) - mask * logit
        area = keras.ops.mean(mask, axis=(1, 2, 3), keepdims=True)
        weight = 1 / (1 + area / self.large_area)
        focal = keras.ops.mean(weight * wrong**self.gamma * cross_entropy)
        image = keras.ops.mean(self.image_loss(y_true[..., :-1], y_pred[..., :-1]))
        return image + self.mask_weight * focal


def without_detail(model: keras.Model) -> keras.Model:
    """Return the part of a network that works on means of blocks; all of it, if it has no blocks.

    Parameters
    ----------
    model : keras.Model
        As from `build_network`.
    """
    detail = next((layer for layer in model.layers if isinstance(layer, DetailUpsampling2D)), None)
    return model if detail is None else keras.Model(model.input, detail.input[0])


def compile_forward(model: keras.Model) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Compile the forward pass, such that each image's result depends on it alone.

    Parameters
    ----------
    model : keras.Model
        As from `build_network` or `without_detail`.

    Returns
    -------
    forward : callable
        From a batch of any number of images to the outputs of the model. TensorFlow traces it
        once, whatever the sizes of the batches.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _compile_with_tensorflow(model)
    if backend == "jax":
        return _compile_with_jax(model)
    # One image may be summed in another order than several.
    return lambda batch: np.asarray(
        model.predict_on_batch(_fill_up(batch, max(2, len(batch))))[: len(batch)]
    )


def _compile_with_jax(
    model: keras.Model,
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Compile the forward pass; a batch is filled up with empty images to a power of two.

    JAX compiles for each size anew. Keras' own `predict_on_batch` hands the weights over to JAX and
    takes them back, so that two threads could not score at once.
    """
    import jax

    @jax.jit
    def run(trainable: Any, other: Any, batch: Any) -> Any:
        return model.stateless_call(trainable, other, batch, training=False)[0]

    def forward(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        n = len(batch)
        size = max(2, 1 << (n - 1).bit_length())
        trainable, other = (
            [variable.value for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        )
        return np.asarray(run(trainable, other, _fill_up(batch, size)))[:n]

    return forward


def _compile_with_tensorflow(
    model: keras.Model,
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Compile the forward pass; a single image is computed together with an empty one.

    On its own it is summed in another order: on some processors in every convolution, on those
    with AVX-512 only in the first one, if it has one channel. Whether the other layers can do
    without the empty image is tried out with the first single image.
    """
    import tensorflow as tf

    names = ("encoder_0", "encoder_0_relu")
    middle = [layer.output for layer in model.layers if layer.name in names][-1]
    first = keras.Model(model.input, middle)
    # What follows may take the image as well.
    others = keras.Model([model.input, middle], model.output)
    image_shape = model.input_shape[1:]
    has_dense = any(isinstance(layer, keras.layers.Dense) for layer in model.layers)

    def call(batch: Any, n: Any) -> Any:
        batch = tf.convert_to_tensor(batch)
        return others([batch[:n], first(batch, training=False)[:n]], training=False)

    # One function for both cases, as tracing takes longer than running it; traced by its signature
    # alone, or TensorFlow would warn of as many traces as there are detectors.
    run = tf.function(
        call,
        input_signature=[
            tf.TensorSpec((None, *image_shape), tf.float32),
            tf.TensorSpec((), tf.int32),
        ],
    ).get_concrete_function()

    @cache
    def n_needed() -> int:
        # Nor does noise tell of a product of few values.
        if np.prod(image_shape) < _TELLING_VALUES or has_dense:
            return 2
        noise = np.random.RandomState(0).normal(size=(2, *image_shape)).astype(np.float32)
        return 1 if np.array_equal(run(noise, 1), run(noise, 2)[:1]) else 2

    def forward(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        n = len(batch)
        if n > 1:
            return np.asarray(run(batch, n))
        return np.asarray(run(_fill_up(batch, 2), n_needed()))[:n]

    return forward


def _fill_up(batch: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Append empty images to a batch."""
    if len(batch) == size:
        return batch
    empty = np.zeros((size - len(batch), *batch.shape[1:]), np.float32)
    return np.concatenate([batch, empty])


__all__ = ["RepairLoss", "build_network"]
