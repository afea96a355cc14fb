"""Keras layers of the Neighbor Convolution AutoEncoder, written with ``keras.ops`` only."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="sklearn_ncae")
class NeighborConv2D(keras.layers.Layer):
    """3x3 convolution that leaves out the centre pixel.

    The image is padded by zeros, the eight neighbours of every pixel are stacked as
    channels, and a pointwise convolution with bias and activation follows. This is a 3x3
    convolution whose kernel is zero in the centre, and it is computed as one: the result is
    the same and needs no eightfold copy of the image.

    A single layer cannot see the pixel it predicts. Two stacked layers can, through their
    neighbours, unless the dilation rates are superincreasing (1, 2, 4, 8: each larger than the
    sum of those before).

    Parameters
    ----------
    filters : int
        Number of output channels.
    strides : int or tuple of int, default=1
        Step between the centres of neighbouring windows. The first centre is the first pixel.
    dilation_rate : int or tuple of int, default=1
        Distance in pixels from the centre to its neighbours, which is also the width of the
        zero padding.
    activation : str, callable or None, default="relu"
        Activation function.
    use_bias : bool, default=True
        Whether to add a bias per filter.
    kernel_initializer : str or keras.initializers.Initializer, default="glorot_uniform"
        Initializer of the kernel, whose shape is ``(1, 1, 8 * channels, filters)``. The eight
        neighbours come row by row, from the upper left to the lower right.
    bias_initializer : str or keras.initializers.Initializer, default="zeros"
        Initializer of the bias.
    kernel_regularizer, bias_regularizer : str, keras.regularizers.Regularizer or None
        Penalties on the weights.
    activity_regularizer : str, keras.regularizers.Regularizer or None
        Penalty on the output.
    **kwargs
        ``name``, ``dtype`` and ``trainable``, as for any Keras layer.

    Raises
    ------
    ValueError
        If ``filters``, ``strides`` or ``dilation_rate`` is not positive, if both of the latter
        are larger than 1, or if the input has not four dimensions or an unknown number of
        channels.

    Notes
    -----
    Input ``(batch, height, width, channels)``, output
    ``(batch, ceil(height / strides), ceil(width / strides), filters)``. Channels are last,
    whatever ``keras.config.image_data_format()`` says; height and width may be unknown.

    Examples
    --------
    >>> import keras
    >>> from sklearn_ncae.layers import NeighborConv2D
    >>> layer = NeighborConv2D(256)
    >>> layer(keras.ops.zeros((1, 300, 300, 1))).shape == (1, 300, 300, 256)
    True
    >>> layer.count_params()  # 8 neighbours * 1 channel * 256 filters + 256
    2304
    """

    def __init__(
        self,
        filters: int,
        strides: int | tuple[int, int] = 1,
        dilation_rate: int | tuple[int, int] = 1,
        activation: Any = "relu",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = _positive_integer(filters, "filters")
        self.strides = _pair(strides, "strides")
        self.dilation_rate = _pair(dilation_rate, "dilation_rate")
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"strides={strides!r} and dilation_rate={dilation_rate!r} cannot both be "
                "larger than 1: the convolutions of the Keras backends do not combine them."
            )
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights for inputs of ``input_shape``."""
        channels = input_shape[-1]
        if channels is None:
            raise ValueError(
                "NeighborConv2D needs a known number of input channels, "
                f"got the input shape {tuple(input_shape)}."
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(1, 1, 8 * channels, self.filters),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
            )
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: channels})

    def call(self, inputs: Any) -> Any:
        """Convolve a batch of images."""
        channels = self.kernel.shape[2] // 8
        before, after = ops.split(self.kernel, 2, axis=2)
        centre = ops.zeros((1, 1, channels, self.filters), dtype=before.dtype)
        kernel = ops.concatenate([before, centre, after], axis=2)
        kernel = ops.reshape(kernel, (3, 3, channels, self.filters))
        padding = "same"
        if self.strides != (1, 1):
            # "same" would shift the windows of a strided convolution on even sides.
            rows, columns = self.dilation_rate
            inputs = ops.pad(inputs, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
            padding = "valid"
        outputs = ops.conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=padding,
            data_format="channels_last",
            dilation_rate=self.dilation_rate,
        )
        if self.bias is not None:
            # ops.add becomes the bias addition that TensorFlow fuses into its convolution.
            outputs = ops.add(outputs, self.bias)
        return self.activation(outputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Shape of the output for an input shape; unknown sides stay unknown."""
        batch, *sides, _ = input_shape
        sides = [
            None if side is None else -(-side // stride)
            for side, stride in zip(sides, self.strides, strict=True)
        ]
        return (batch, *sides, self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal layer."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "dilation_rate": self.dilation_rate,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
        }


@keras.saving.register_keras_serializable(package="sklearn_ncae")
class PixelShuffle(keras.layers.Layer):
    """Turn the channels of each pixel into a block of pixels: a larger image with fewer channels.

    After a convolution it takes the place of a transposed one with strides, whose sums TensorFlow
    splits otherwise for other numbers of images: here every image comes out the same in any batch.

    Parameters
    ----------
    factor : int, default=2
        Sides of the block, which takes ``factor ** 2`` groups of channels, row by row.
    **kwargs
        ``name``, ``dtype`` and ``trainable``, as for any Keras layer.

    Raises
    ------
    ValueError
        If ``factor`` is not positive, or the input is not of the shape (batch, height, width,
        channels) with known sides and a multiple of ``factor ** 2`` channels.

    References
    ----------
    Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel
    convolutional neural network", CVPR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae.layers import PixelShuffle
    >>> channels = np.float32([1, 2, 3, 4]).reshape(1, 1, 1, 4)
    >>> np.asarray(PixelShuffle()(channels))[0, ..., 0]
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """

    def __init__(self, factor: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = _positive_integer(factor, "factor")

    def call(self, inputs: Any) -> Any:
        """Enlarge a batch of images."""
        _, height, width, channels = self.compute_output_shape(inputs.shape)
        factor = self.factor
        blocks = (-1, height // factor, width // factor, factor, factor, channels)
        pixels = ops.transpose(ops.reshape(inputs, blocks), (0, 1, 3, 2, 4, 5))
        return ops.reshape(pixels, (-1, height, width, channels))

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Shape of the output for an input shape."""
        size = self.factor**2
        if len(input_shape) != 4 or None in input_shape[1:] or input_shape[-1] % size:
            raise ValueError(
                "PixelShuffle needs inputs of shape (batch, height, width, channels) with known "
                f"sides and a multiple of {size} channels, got {tuple(input_shape)}."
            )
        batch, height, width, channels = input_shape
        return (batch, height * self.factor, width * self.factor, channels // size)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal layer."""
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="sklearn_ncae")
class DetailUpsampling2D(keras.layers.Layer):
    """Enlarge what a network made of a shrunk image, with the detail of the image itself.

    Takes three batches: outputs of a network, the images they are made of, shrunk to the means of
    blocks of pixels, and the images themselves. The first channels of the outputs, as many as the
    images have, are taken for images: what they change about the shrunk images is added to the
    images, and their detail stays. Channels beyond are enlarged as they are.

    Parameters
    ----------
    factor : int, default=2
        Sides of the blocks. Those at the lower and right border may be partial.
    **kwargs
        ``name``, ``dtype`` and ``trainable``, as for any Keras layer.

    Raises
    ------
    ValueError
        If ``factor`` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae.layers import DetailUpsampling2D
    >>> image = np.float32([[1, 3], [5, 7]]).reshape(1, 2, 2, 1)
    >>> blocks, outputs = np.full((2, 1, 1, 1, 1), [[[[[4]]]], [[[[5]]]]], np.float32)
    >>> np.asarray(DetailUpsampling2D()([outputs, blocks, image]))[0, ..., 0]
    array([[2., 4.],
           [6., 8.]], dtype=float32)
    """

    def __init__(self, factor: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = _positive_integer(factor, "factor")

    def call(self, inputs: Any) -> Any:
        """Enlarge a batch of outputs."""
        outputs, blocks, images = inputs
        _, height, width, channels = images.shape
        change = ops.concatenate(
            [outputs[..., :channels] - blocks, outputs[..., channels:]], axis=-1
        )
        for axis in (1, 2):
            change = ops.repeat(change, self.factor, axis=axis)
        change = change[:, :height, :width]
        return ops.concatenate([images + change[..., :channels], change[..., channels:]], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """Shape of the output for the three input shapes."""
        outputs, _, images = input_shape
        return (*images[:3], outputs[3])

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal layer."""
        return {**super().get_config(), "factor": self.factor}


def _positive_integer(value: Any, name: str) -> int:
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return int(value)


def _pair(value: Any, name: str) -> tuple[int, int]:
    pair = (value, value) if not isinstance(value, tuple | list) else tuple(value)
    if len(pair) != 2:
        raise ValueError(f"{name} must be one integer or two (rows, columns), got {value!r}.")
    return _positive_integer(pair[0], name), _positive_integer(pair[1], name)
