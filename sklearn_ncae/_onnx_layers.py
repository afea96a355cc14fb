"""Keras networks as nodes of an ONNX graph, with one converter per kind of layer."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from sklearn_ncae._onnx_graph import Graph, integers
from sklearn_ncae.layers import DetailUpsampling2D, NeighborConv2D, PixelShuffle

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """An activation: its name in the graph, and its shape in Keras without the batch.

    Images (height, width, channels) have their channels before the height in the graph. What is
    concatenated knows its parts.
    """

    name: str
    shape: Shape
    parts: tuple["Tensor", ...] = ()


Converter = Callable[[Graph, Any, list[Tensor], Shape], str]


def add_network(graph: Graph, model: keras.Model, inputs: str, image_shape: Shape) -> Tensor:
    """Add a Keras network of one input and one output to a graph.

    Parameters
    ----------
    graph : Graph
    model : keras.Model
        Functional or sequential, of layers and activations that are known here.
    inputs : str
        Images (n, h, w, c), float32.
    image_shape : tuple of (int, int, int)
        Height, width and channels of the images.

    Returns
    -------
    outputs : Tensor
        With the channels last in the graph too.

    Raises
    ------
    TypeError
        If the network is not functional, or has a layer that is not in the table.
    ValueError
        If a layer has an option that is not supported.
    """
    if not getattr(model, "inputs", None) or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise TypeError(
            "Only functional and sequential Keras models of one input and one output can be "
            f"exported, got the {type(model).__name__} {model.name!r}."
        )
    rank = len(model.inputs[0].shape) - 1
    # Keras itself adds or takes a single channel, and a row of pixels may be an image.
    shape = image_shape if rank == 3 else image_shape[:rank] if rank == 2 else (prod(image_shape),)
    tensor = Tensor(_channels_first(graph, graph.reshape(inputs, shape), shape), shape)
    tensor = _add_model(graph, model, tensor)
    return Tensor(_channels_last(graph, tensor), tensor.shape)


def _add_model(graph: Graph, model: keras.Model, tensor: Tensor) -> Tensor:
    def convert(operation: Any) -> Callable[..., Tensor]:
        return lambda *args, **kwargs: _convert(graph, operation, keras.tree.flatten(args))

    # Keras runs a network on anything with this; a sequential one is made functional for it.
    functional = keras.Model(model.inputs, model.outputs)
    (output,) = keras.tree.flatten(functional._run_through_graph([tensor], convert))
    return output


def _convert(graph: Graph, operation: Any, inputs: list[Tensor]) -> Tensor:
    if isinstance(operation, keras.Model):
        return _add_model(graph, operation, inputs[0])
    # Exactly these classes: what a subclass computes may be something else.
    convert = CONVERTERS.get(type(operation))
    if convert is None:
        known = ", ".join(sorted(kind.__name__ for kind in CONVERTERS))
        raise TypeError(
            f"The layer {operation.name!r} is a {type(operation).__name__}, which the ONNX export "
            f"does not know. It knows {known}."
        )
    if getattr(operation, "data_format", "channels_last") != "channels_last":
        raise ValueError(
            f"The layer {operation.name!r} has data_format={operation.data_format!r}; only "
            "'channels_last' can be exported."
        )
    shapes = [(1, *tensor.shape) for tensor in inputs]
    shape = operation.compute_output_shape(shapes if len(shapes) > 1 else shapes[0])[1:]
    name = convert(graph, operation, inputs, shape)
    parts = tuple(inputs) if convert is _concatenation else ()
    return Tensor(name, tuple(shape), parts)


def _channels_last(graph: Graph, tensor: Tensor) -> str:
    name, shape = tensor.name, tensor.shape
    return graph.channels_last(name, shape) if len(shape) == 3 else name


def _channels_first(graph: Graph, name: str, shape: Shape) -> str:
    return graph.channels_first(name, shape) if len(shape) == 3 else name


#: ONNX nodes of activation functions, by the name that Keras knows the function by: operators
#: with their attributes.
ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("Identity", {}),
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "elu": ("Elu", {}),
    "selu": ("Selu", {}),
    "sigmoid": ("Sigmoid", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "tanh": ("Tanh", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "exponential": ("Exp", {}),
}


def _activate(graph: Graph, name: str, layer: Any) -> str:
    serialized = keras.activations.serialize(layer.activation)
    if serialized == "silu":
        return graph.add("Mul", name, graph.add("Sigmoid", name))
    if not isinstance(serialized, str) or serialized not in ACTIVATIONS:
        raise ValueError(
            f"The layer {layer.name!r} has the activation {serialized!r}, which the ONNX export "
            f"does not know. It knows {', '.join([*ACTIVATIONS, 'silu'])}."
        )
    operator, attributes = ACTIVATIONS[serialized]
    return name if operator == "Identity" else graph.add(operator, name, **attributes)


def _padding(layer: Any, sides: Shape, windows: Shape, strides: Shape) -> list[int]:
    """List the pads as ONNX does; of "same" padding, an odd one is at the lower right."""
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    total = [
        max(0, (-(-side // stride) - 1) * stride + window - side)
        for side, window, stride in zip(sides, windows, strides, strict=True)
    ]
    return [*(pad // 2 for pad in total), *(pad - pad // 2 for pad in total)]


def _window(layer: Any) -> Shape:
    """Height and width that a kernel spans with its dilation."""
    return tuple(
        (size - 1) * rate + 1
        for size, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True)
    )


def _convolve(graph: Graph, layer: Any, inputs: Tensor, kernel: Any, pads: list[int]) -> str:
    """Convolve with a kernel (height, width, channels, filters)."""
    bias = layer.get_weights()[1:]
    groups = getattr(layer, "groups", 1)
    parts = inputs.parts
    widths = [part.shape[-1] for part in parts]
    if groups > 1 or sum(widths) != inputs.shape[-1]:  # nothing joined along the channels
        parts, widths = (inputs,), [inputs.shape[-1]]
    # The sum of the convolutions of the parts: onnxruntime is fastest with 8 or 16 channels and
    # multiples of it, which a level has, but not together with the image.
    convolved = ""
    kernels = np.split(kernel, np.cumsum(widths)[:-1], axis=2) if groups == 1 else [kernel]
    for part, of_part in zip(parts, kernels, strict=True):
        addend = graph.add(
            "Conv",
            part.name,
            of_part.transpose(3, 2, 0, 1),
            *bias,
            strides=layer.strides,
            dilations=layer.dilation_rate,
            group=groups,
            pads=pads,
        )
        convolved = graph.add("Add", convolved, addend) if convolved else addend
        bias = []
    return _activate(graph, convolved, layer)


def _neighbor_convolution(graph: Graph, layer: Any, inputs: list[Tensor], _: Shape) -> str:
    neighbors = layer.get_weights()[0].reshape(8, -1, layer.filters)
    kernel = np.insert(neighbors, 4, 0, axis=0).reshape(3, 3, -1, layer.filters)
    return _convolve(graph, layer, inputs[0], kernel, 2 * [*layer.dilation_rate])


def _convolution(graph: Graph, layer: Any, inputs: list[Tensor], _: Shape) -> str:
    pads = _padding(layer, inputs[0].shape[:2], _window(layer), layer.strides)
    return _convolve(graph, layer, inputs[0], layer.get_weights()[0], pads)


def _transposed_convolution(graph: Graph, layer: Any, inputs: list[Tensor], shape: Shape) -> str:
    kernel, *bias = layer.get_weights()
    # What is too much of the full output, or, negative, too little.
    excess = [
        (side - 1) * stride + window - wanted
        for side, stride, window, wanted in zip(
            inputs[0].shape[:2], layer.strides, _window(layer), shape[:2], strict=True
        )
    ]
    before = [0 if layer.padding == "valid" else max(0, e) // 2 for e in excess]
    after = [max(0, e) - b for e, b in zip(excess, before, strict=True)]
    convolved = graph.add(
        "ConvTranspose",
        inputs[0].name,
        kernel.transpose(3, 2, 0, 1),
        *bias,
        strides=layer.strides,
        dilations=layer.dilation_rate,
        pads=[*before, *after],
        output_padding=[max(0, -e) for e in excess],
    )
    return _activate(graph, convolved, layer)


def _pixel_shuffle(graph: Graph, layer: Any, inputs: list[Tensor], _: Shape) -> str:
    return graph.add("DepthToSpace", inputs[0].name, blocksize=layer.factor, mode="DCR")


def _pooling(graph: Graph, layer: Any, inputs: list[Tensor], _: Shape) -> str:
    return graph.add(
        "MaxPool" if isinstance(layer, layers.MaxPooling2D) else "AveragePool",
        inputs[0].name,
        kernel_shape=layer.pool_size,
        strides=layer.strides,
        pads=_padding(layer, inputs[0].shape[:2], layer.pool_size, layer.strides),
    )


#: What makes ONNX's Resize repeat pixels.
_NEAREST: dict[str, Any] = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}


def _detail_upsampling(graph: Graph, layer: Any, inputs: list[Tensor], shape: Shape) -> str:
    outputs, blocks, images = (tensor.name for tensor in inputs)
    height, width, n_outputs = shape
    n_channels = inputs[2].shape[2]

    def split(tensor: str) -> tuple[str, str]:
        starts, stops = (0, n_channels), (n_channels, n_outputs)
        first, rest = (
            graph.add("Slice", tensor, integers(start), integers(stop), integers(1))
            for start, stop in zip(starts, stops, strict=True)
        )
        return first, rest

    repaired, rest = split(outputs)
    change = graph.add("Concat", graph.add("Sub", repaired, blocks), rest, axis=1)
    scales = np.array([1, 1, layer.factor, layer.factor], np.float32)
    change = graph.add("Resize", change, "", scales, **_NEAREST)
    change = graph.add("Slice", change, integers(0, 0), integers(height, width), integers(2, 3))
    change, rest = split(change)
    return graph.add("Concat", graph.add("Add", images, change), rest, axis=1)


def _upsampling(graph: Graph, layer: Any, inputs: list[Tensor], _: Shape) -> str:
    modes: dict[str, dict[str, Any]] = {
        "nearest": _NEAREST,
        "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    }
    if layer.interpolation not in modes:
        raise ValueError(
            f"The layer {layer.name!r} has interpolation={layer.interpolation!r}; only "
            f"{' and '.join(map(repr, modes))} can be exported."
        )
    scales = np.array([1, 1, *layer.size], np.float32)
    return graph.add("Resize", inputs[0].name, "", scales, **modes[layer.interpolation])


def _cropping(graph: Graph, layer: Any, inputs: list[Tensor], shape: Shape) -> str:
    start = integers(*(before for before, _ in layer.cropping))
    return graph.add("Slice", inputs[0].name, start, start + shape[:2], integers(2, 3))


def _zero_padding(graph: Graph, layer: Any, inputs: list[Tensor], _: Shape) -> str:
    before, after = zip(*layer.padding, strict=True)
    return graph.add("Pad", inputs[0].name, integers(0, 0, *before, 0, 0, *after))


def _concatenation(graph: Graph, layer: Any, inputs: list[Tensor], _: Shape) -> str:
    rank = len(inputs[0].shape) + 1
    axis = layer.axis % rank
    if rank == 4:
        axis = (0, 2, 3, 1)[axis]
    return graph.add("Concat", *(tensor.name for tensor in inputs), axis=axis)


def _sum(graph: Graph, layer: Any, inputs: list[Tensor], _: Shape) -> str:
    return graph.add("Sum", *(tensor.name for tensor in inputs))


def _batch_normalization(graph: Graph, layer: Any, inputs: list[Tensor], _: Shape) -> str:
    rank = len(inputs[0].shape) + 1
    if layer.axis % rank != rank - 1 or rank == 3:
        raise ValueError(
            f"The layer {layer.name!r} normalises axis {layer.axis} of {rank}; only channels, the "
            "last axis of images or rows, can be exported."
        )
    *affine, mean, variance = layer.get_weights()
    scale = affine.pop(0) if layer.scale else np.ones_like(mean)
    shift = affine.pop(0) if layer.center else np.zeros_like(mean)
    return graph.add(
        "BatchNormalization", inputs[0].name, scale, shift, mean, variance, epsilon=layer.epsilon
    )


def _dense(graph: Graph, layer: Any, inputs: list[Tensor], shape: Shape) -> str:
    kernel, *bias = layer.get_weights()
    product = graph.add("MatMul", _channels_last(graph, inputs[0]), kernel)
    if bias:
        product = graph.add("Add", product, *bias)
    return _channels_first(graph, _activate(graph, product, layer), shape)


def _reshaping(graph: Graph, layer: Any, inputs: list[Tensor], shape: Shape) -> str:
    rows = graph.reshape(_channels_last(graph, inputs[0]), shape)
    return _channels_first(graph, rows, shape)


def _leaky_relu(graph: Graph, layer: Any, inputs: list[Tensor], _: Shape) -> str:
    return graph.add("LeakyRelu", inputs[0].name, alpha=layer.negative_slope)


def _rescaling(graph: Graph, layer: Any, inputs: list[Tensor], shape: Shape) -> str:
    # A scale or an offset per channel goes with the channels where they are in the graph.
    factors: list[NDArray[np.float32]] = [
        np.asarray(value, np.float32).reshape(-1, *([1, 1] if len(shape) == 3 else []))
        for value in (layer.scale, layer.offset)
    ]
    return graph.add("Add", graph.add("Mul", inputs[0].name, factors[0]), factors[1])


def _unchanged(graph: Graph, layer: Any, inputs: list[Tensor], _: Shape) -> str:
    return inputs[0].name


#: Every layer that can be exported. A new one is a new line here.
CONVERTERS: dict[type, Converter] = {
    NeighborConv2D: _neighbor_convolution,
    layers.Conv2D: _convolution,
    layers.Conv2DTranspose: _transposed_convolution,
    layers.Dense: _dense,
    layers.BatchNormalization: _batch_normalization,
    layers.MaxPooling2D: _pooling,
    layers.AveragePooling2D: _pooling,
    PixelShuffle: _pixel_shuffle,
    DetailUpsampling2D: _detail_upsampling,
    layers.UpSampling2D: _upsampling,
    layers.Cropping2D: _cropping,
    layers.ZeroPadding2D: _zero_padding,
    layers.Concatenate: _concatenation,
    layers.Add: _sum,
    layers.Flatten: _reshaping,
    layers.Reshape: _reshaping,
    layers.Activation: lambda graph, layer, inputs, _: _activate(graph, inputs[0].name, layer),
    layers.LeakyReLU: _leaky_relu,
    layers.Rescaling: _rescaling,
    layers.Dropout: _unchanged,
    layers.SpatialDropout2D: _unchanged,
    layers.GaussianNoise: _unchanged,
}
