"""NeighborConv2D against the article's recipe, written out in NumPy."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from sklearn_ncae.layers import DetailUpsampling2D, NeighborConv2D, PixelShuffle

NEIGHBORS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]


def shifted_copies(images, dilation=(1, 1)):
    """Pad by zeros and stack the eight shifted copies as channels (float64)."""
    (dy, dx), (_, h, w, _) = dilation, images.shape
    padded = np.pad(images, ((0, 0), (dy, dy), (dx, dx), (0, 0)))
    copies = [
        padded[:, dy + i * dy : dy + i * dy + h, dx + j * dx : dx + j * dx + w]
        for i, j in NEIGHBORS
    ]
    return np.concatenate(copies, axis=-1)


def reference(images, kernel, bias, strides=(1, 1), dilation=(1, 1)):
    stacked = shifted_copies(images, dilation)[:, :: strides[0], :: strides[1]]
    return np.maximum(stacked @ kernel[0, 0] + bias, 0)


def random_layer(rng, channels, **kwargs):
    layer = NeighborConv2D(bias_initializer=keras.initializers.RandomNormal(seed=1), **kwargs)
    layer.build((None, None, None, channels))
    layer.kernel.assign(rng.normal(size=layer.kernel.shape))
    return layer


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 2),
    channels=st.integers(1, 3),
    filters=st.integers(1, 4),
    strides=st.sampled_from([(1, 1), (2, 2), (3, 3)]),
    dilation=st.sampled_from([(1, 1), (2, 2), (1, 3)]),
    seed=st.integers(0, 999),
)
def test_equals_the_literal_recipe(shape, channels, filters, strides, dilation, seed):
    if strides != (1, 1) and dilation != (1, 1):
        dilation = (1, 1)  # no Keras backend takes both
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(2, *shape, channels))
    layer = random_layer(rng, channels, filters=filters, strides=strides, dilation_rate=dilation)
    expected = reference(
        images,
        ops.convert_to_numpy(layer.kernel).astype(float),
        ops.convert_to_numpy(layer.bias).astype(float),
        strides,
        dilation,
    )
    actual = ops.convert_to_numpy(layer(images.astype("float32")))
    assert actual.shape == layer.compute_output_shape(images.shape)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strides", [1, 2])
def test_gradients_equal_the_literal_recipe(strides):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("taken with tf.GradientTape")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 7, 6, 2))
    layer = random_layer(rng, 2, filters=3, strides=strides)
    x = tf.constant(images, "float32")
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x)
        weight = rng.normal(size=outputs.shape)
        loss = tf.reduce_sum(outputs * tf.constant(weight, "float32"))
    kernel_gradient, bias_gradient, image_gradient = tape.gradient(
        loss, [layer.kernel.value, layer.bias.value, x]
    )
    kernel = ops.convert_to_numpy(layer.kernel).astype(float)
    stacked = shifted_copies(images)[:, ::strides, ::strides]
    outputs = stacked @ kernel[0, 0] + ops.convert_to_numpy(layer.bias)
    delta = np.zeros((2, 7, 6, 3))  # gradient before the activation, at its place in the image
    delta[:, ::strides, ::strides] = weight * (outputs > 0)
    np.testing.assert_allclose(bias_gradient, delta.sum((0, 1, 2)), rtol=1e-4, atol=1e-4)
    expected = np.einsum("nhwk,nhwf->kf", shifted_copies(images), delta)
    np.testing.assert_allclose(kernel_gradient[0, 0], expected, rtol=1e-4, atol=1e-4)
    padded = np.zeros((2, 9, 8, 2))
    for (i, j), weights in zip(NEIGHBORS, kernel[0, 0].reshape(8, 2, 3), strict=True):
        padded[:, 1 + i : 8 + i, 1 + j : 7 + j] += delta @ weights.T
    np.testing.assert_allclose(image_gradient, padded[:, 1:-1, 1:-1], rtol=1e-4, atol=1e-4)


def test_article_has_2304_parameters():
    layer = NeighborConv2D(256)
    layer.build((None, 300, 300, 1))
    assert layer.count_params() == 2304
    assert tuple(layer.kernel.shape) == (1, 1, 8, 256)
    assert not np.any(ops.convert_to_numpy(layer.bias))
    limit = np.sqrt(6 / (8 + 256))  # glorot_uniform, as keras.layers.Conv2D
    assert 0.9 * limit < np.abs(ops.convert_to_numpy(layer.kernel)).max() <= limit


def centre_sensitivity(dilations):
    """Largest change of an output pixel when the input pixel at its place changes.

    The layers are linear, so this is the Jacobian's centre entry without a rounding of its own.
    """
    size, layers = (
        41,
        [
            NeighborConv2D(
                3,
                dilation_rate=d,
                activation=None,
                use_bias=False,
                kernel_initializer=keras.initializers.GlorotUniform(seed=d),
            )
            for d in dilations
        ],
    )
    x = np.zeros((1, size, size, 1), "float32")
    x[0, size // 2, size // 2] = 1
    for layer in layers:
        x = layer(x)
    return np.abs(ops.convert_to_numpy(x)[0, size // 2, size // 2]).max()


def test_one_layer_is_blind_to_the_centre():
    assert centre_sensitivity([1]) == 0


def test_superincreasing_dilations_stay_blind():
    assert centre_sensitivity([1, 2, 4, 8]) == 0


def test_two_undilated_layers_see_the_centre_again():
    assert centre_sensitivity([1, 1]) > 0


def test_unknown_height_and_width():
    inputs = keras.Input((None, None, 2))
    outputs = NeighborConv2D(4, strides=2)(inputs)
    assert outputs.shape == (None, None, None, 4)
    model = keras.Model(inputs, outputs)
    assert model(np.ones((1, 5, 8, 2), "float32")).shape == (1, 3, 4, 4)
    assert model(np.ones((3, 2, 2, 2), "float32")).shape == (3, 1, 1, 4)


def test_config_round_trip_and_saved_model(tmp_path):
    layer = NeighborConv2D(
        4,
        strides=(2, 1),
        activation="tanh",
        use_bias=False,
        kernel_initializer="he_normal",
        kernel_regularizer="l2",
        activity_regularizer="l1",
        name="neighbors",
    )
    config = layer.get_config()
    assert (config["filters"], tuple(config["strides"]), config["use_bias"]) == (4, (2, 1), False)
    dilated = NeighborConv2D(
        4, dilation_rate=2, bias_initializer="ones", bias_regularizer="l1"
    ).get_config()
    assert tuple(dilated["dilation_rate"]) == (2, 2)
    kinds = [dilated[name]["class_name"] for name in ("bias_initializer", "bias_regularizer")]
    assert kinds == ["Ones", "L1"] and dilated["kernel_regularizer"] is None
    copy = NeighborConv2D.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    model = keras.Sequential([keras.Input((6, 6, 1)), copy])
    assert len(copy.weights) == 1  # no bias
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 1)).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(x)), ops.convert_to_numpy(model(x)))


def test_regularizers_add_losses():
    layer = NeighborConv2D(2, kernel_regularizer="l2", bias_regularizer="l1")
    layer(np.ones((1, 3, 3, 1), "float32"))
    assert len(layer.losses) == 2


def test_mixed_precision():
    layer = NeighborConv2D(4, dtype="mixed_float16")
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 2)).astype("float32")
    outputs = layer(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    assert keras.backend.standardize_dtype(layer.kernel.dtype) == "float32"
    expected = reference(x, ops.convert_to_numpy(layer.kernel), ops.convert_to_numpy(layer.bias))
    np.testing.assert_allclose(ops.convert_to_numpy(outputs), expected, rtol=0.01, atol=0.01)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"filters": 0}, "filters must be a positive integer, got 0"),
        ({"filters": 2.5}, "filters must be a positive integer, got 2.5"),
        ({"filters": True}, "filters must be a positive integer"),
        ({"filters": 1, "strides": (1, 2, 3)}, "strides must be one integer or two"),
        ({"filters": 1, "strides": 2, "dilation_rate": 2}, "cannot both be larger than 1"),
        ({"filters": 1, "dilation_rate": 0}, "dilation_rate must be a positive integer"),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        NeighborConv2D(**kwargs)


def test_wrong_inputs():
    with pytest.raises(ValueError, match="known number of input channels"):
        NeighborConv2D(1).build((None, 4, 4, None))
    with pytest.raises(ValueError, match="expected ndim=4"):
        NeighborConv2D(1)(np.ones((4, 4, 1), "float32"))
    layer = NeighborConv2D(1)
    layer.build((None, 4, 4, 2))
    with pytest.raises(ValueError, match="expected axis -1"):
        layer(np.ones((1, 4, 4, 3), "float32"))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixel_shuffle_equals_placing_each_channel(factor):
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 2 * factor**2)).astype(np.float32)
    expected = np.empty((2, 3 * factor, 4 * factor, 2), np.float32)
    for i, j in np.ndindex(factor, factor):
        start = 2 * (factor * i + j)
        expected[:, i::factor, j::factor] = images[..., start : start + 2]
    layer = PixelShuffle(factor)
    np.testing.assert_array_equal(layer(images), expected)
    assert layer.compute_output_shape((None, 3, 4, 2 * factor**2)) == (None, *expected.shape[1:])
    assert type(layer).from_config(layer.get_config()).factor == factor


@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (2, 4, 4), (None, None, 4, 4)])
def test_pixel_shuffle_of_wrong_inputs(shape):
    with pytest.raises(ValueError, match=r"PixelShuffle needs inputs of shape"):
        PixelShuffle()(keras.KerasTensor(shape))
    with pytest.raises(ValueError, match="factor must be a positive integer"):
        PixelShuffle(0)


@pytest.mark.parametrize(("sides", "factor"), [((6, 8), 2), ((7, 10), 3), ((5, 4), 1)])
def test_detail_upsampling(sides, factor):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, *sides, 3)).astype(np.float32)
    small = tuple(-(-side // factor) for side in sides)
    outputs = rng.normal(size=(2, *small, 4)).astype(np.float32)
    blocks = rng.normal(size=(2, *small, 3)).astype(np.float32)
    expected = np.empty((2, *sides, 4))
    for row, column in np.ndindex(*sides):
        place = (slice(None), row // factor, column // factor)
        change = outputs[place][:, :3] - blocks[place]
        expected[:, row, column, :3] = images[:, row, column] + change
        expected[:, row, column, 3] = outputs[place][:, 3]
    layer = DetailUpsampling2D(factor)
    inputs = [outputs, blocks, images]
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-6, atol=1e-6)
    assert layer.compute_output_shape([value.shape for value in inputs]) == expected.shape
    assert type(layer).from_config(layer.get_config()).factor == factor
    with pytest.raises(ValueError, match="factor must be a positive integer"):
        DetailUpsampling2D(0)


def test_a_transposed_convolution_is_a_convolution_of_the_corners():
    """What the network that repairs ends with, in place of a transposed convolution."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 5, 6, 3)).astype(np.float32)
    kernel = rng.normal(size=(4, 4, 2, 3)).astype(np.float32)
    expected = np.asarray(keras.ops.conv_transpose(images, kernel, 2, "same"))
    of_corners = np.zeros((2, 2, 3, 2, 2, 2), np.float32)  # rows, columns, channels, block, filters
    for row, column, down, right in np.ndindex(2, 2, 2, 2):
        taps = kernel[2 * (1 - row) + down, 2 * (1 - column) + right]
        of_corners[row, column, :, down, right] = taps.T
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    corners = keras.ops.conv(padded, of_corners.reshape(2, 2, 3, 8), 1, "valid")
    actual = np.asarray(PixelShuffle()(corners))[:, 1:-1, 1:-1]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
