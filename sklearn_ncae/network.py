"""The Keras network of the NCAE, and the batches it is trained and scored on."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from sklearn_ncae.layers import NeighborConv2D

Convolution = Literal["neighbor", "standard"]
Bottleneck = Literal["spatial", "dense"]


def build_network(
    image_shape: tuple[int, int, int],
    *,
    filters: Sequence[int] = (16, 32, 64),
    bottleneck: Bottleneck = "spatial",
    bottleneck_size: int = 8,
    convolution: Convolution = "neighbor",
    random_state: np.random.RandomState | None = None,
) -> keras.Model:
    """Build a convolutional autoencoder of neighbour convolutions.

    Every level halves the sides, rounding up, and the way back doubles them and crops what is
    too much, so that any side works.

    Parameters
    ----------
    image_shape : tuple of (int, int, int)
        Height, width and channels.
    filters : sequence of int, default=(16, 32, 64)
        Number of filters of each level, from the image inwards.
    bottleneck : {"spatial", "dense"}, default="spatial"
        Whether the code is a smaller image, or one vector.
    bottleneck_size : int, default=8
        Channels of the spatial code, or length of the dense one.
    convolution : {"neighbor", "standard"}, default="neighbor"
        ``"standard"`` has `keras.layers.Conv2D` in every place of a `NeighborConv2D`.
    random_state : numpy.random.RandomState, default=None
        Where the seeds of the initial weights are drawn; None for unspecified weights, where they
        will be replaced.

    Returns
    -------
    model : keras.Model
        From (n, height, width, channels) to the same shape, not compiled.
    """
    random_state = random_state or np.random.RandomState(0)

    def initializer() -> keras.initializers.Initializer:
        # A seed of its own for each layer: no global generator is read or changed.
        return keras.initializers.GlorotUniform(seed=int(random_state.randint(2**31 - 1)))

    make_convolution: Any = {
        "neighbor": NeighborConv2D,
        "standard": partial(keras.layers.Conv2D, kernel_size=3, padding="same"),
    }[convolution]

    def convolve(filters: int, name: str, **kwargs: Any) -> keras.layers.Layer:
        kwargs = {"activation": "relu", **kwargs}
        return make_convolution(
            filters=filters, kernel_initializer=initializer(), name=name, **kwargs
        )

    inputs = x = keras.Input(image_shape, name="image")
    sides = []  # of each level, to crop to on the way back
    for level, n_filters in enumerate(filters):
        sides.append(x.shape[1:3])
        x = convolve(n_filters, f"encoder_{level}", strides=2)(x)
    if bottleneck == "spatial":
        x = keras.layers.Conv2D(bottleneck_size, 1, kernel_initializer=initializer(), name="code")(
            x
        )
        x = keras.layers.Conv2D(
            filters[-1], 1, activation="relu", kernel_initializer=initializer(), name="decode"
        )(x)
    else:
        code_shape = x.shape[1:]
        x = keras.layers.Flatten(name="flatten")(x)
        x = keras.layers.Dense(bottleneck_size, kernel_initializer=initializer(), name="code")(x)
        x = keras.layers.Dense(
            int(np.prod(code_shape)),
            activation="relu",
            kernel_initializer=initializer(),
            name="decode",
        )(x)
        x = keras.layers.Reshape(code_shape, name="unflatten")(x)
    for level in reversed(range(len(filters))):
        x = keras.layers.UpSampling2D(name=f"upsample_{level}")(x)
        height, width = sides[level]
        excess = (x.shape[1] - height, x.shape[2] - width)
        if any(excess):
            cropping = ((0, excess[0]), (0, excess[1]))
            x = keras.layers.Cropping2D(cropping, name=f"crop_{level}")(x)
        x = convolve(filters[level], f"decoder_{level}")(x)
    outputs = convolve(image_shape[-1], "reconstruction", activation=None)(x)
    return keras.Model(inputs, outputs, name="ncae")


class PixelScale:
    """The affine map from pixel values to the network's values, 0 to 1 on the training images.

    It is taken from the training images and not from the dtype, so that the same pixel values
    score the same in any dtype.

    Parameters
    ----------
    low, high : float
        The pixel values that become 0 and 1.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.span = (high - low) or 1.0

    @classmethod
    def of(cls, images: NDArray[Any]) -> "PixelScale":
        """Take the range of a stack of images, without a copy of it."""
        return cls(float(images.min()), float(images.max()))

    def to_network(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Scale a batch; float64 is used where float32 cannot hold the pixel values."""
        dtype = np.result_type(images.dtype, np.float32)
        scaled = (images.astype(dtype) - dtype.type(self.low)) / dtype.type(self.span)
        return scaled.astype(np.float32, copy=False)

    def to_pixels(self, outputs: NDArray[np.float32], dtype: Any) -> NDArray[Any]:
        """Bring outputs of the network back to pixel values, as floats of at least float32."""
        dtype = np.result_type(dtype, np.float32)
        return outputs.astype(dtype) * dtype.type(self.span) + dtype.type(self.low)


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
        self.on_epoch_end()

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Read one batch."""
        rows = self.rows[index * self.batch_size : (index + 1) * self.batch_size]
        batch = self.scale.to_network(self.images[np.sort(rows)])
        return batch, batch

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch."""
        if self.random_state is not None:
            self.random_state.shuffle(self.rows)


def reconstruct_batch(model: keras.Model, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run the compiled network on a batch, so that each image's result depends on it alone.

    The batch is filled up with zeros to a power of two, at least 2: there are few shapes to
    compile for, and the convolutions of a batch of one are summed in another order.
    """
    n = len(batch)
    size = max(2, 1 << (n - 1).bit_length())
    if size > n:
        batch = np.concatenate([batch, np.zeros((size - n, *batch.shape[1:]), np.float32)])
    return np.asarray(model.predict_on_batch(batch)[:n])
