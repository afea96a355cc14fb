"""The batches, the loss and the layers of the networks, without a training."""

from functools import partial

import keras
import numpy as np
import pytest
from scipy.special import expit

from sklearn_ncae._pixel_scale import PixelScale
from sklearn_ncae.network import RepairBatches, RepairLoss, TrainingBatches, build_network


def draw_nothing(images, *, random_state):
    return images, np.zeros((*images.shape[:3], 1), bool)


def repair_batches(images, *, crop, draw=draw_nothing, block_size=1, seed=0):
    return RepairBatches(
        images,
        np.arange(len(images)),
        PixelScale.of(images, per_image=True),
        len(images),
        np.random.RandomState(seed),
        draw=draw,
        crop=crop,
        block_size=block_size,
    )


@pytest.fixture(scope="module")
def unlike_images():
    """Images of very different brightness and contrast, in which every place is another value."""
    ramp = np.arange(24 * 20, dtype=np.float32).reshape(24, 20, 1)
    factors = np.array([0.1, 1.0, 5.0, 20.0], np.float32)[:, None, None, None]
    return factors * ramp + 100 * factors


def test_images_come_in_another_order_in_every_epoch(unlike_images):
    scale = PixelScale.of(unlike_images, per_image=False)
    batches = TrainingBatches(unlike_images, np.arange(4), scale, 4, np.random.RandomState(0))
    orders = set()
    for _ in range(10):
        orders.add(tuple(batches.rows))
        batches.on_epoch_end()
    assert len(orders) > 3
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)


def test_images_are_scaled_each_by_itself(unlike_images):
    inputs, targets = repair_batches(unlike_images, crop=(24, 20))[0]
    # But for the random exposure, all of them are the same ramp.
    assert np.ptp(targets[..., 0].std(axis=(1, 2))) < 1.0
    assert (np.abs(targets[..., 0].mean(axis=(1, 2))) < 0.4).all()
    np.testing.assert_array_equal(inputs, targets[..., :1])
    assert not targets[..., 1].any()


def test_exposure_differs_at_random(unlike_images):
    _, targets = repair_batches(unlike_images[[0] * 8], crop=(24, 20))[0]
    assert np.unique(targets[..., 0].mean(axis=(1, 2))).size == 8
    assert np.unique(targets[..., 0].std(axis=(1, 2)).round(4)).size == 8


def test_contrast_is_as_often_less_as_it_is_more():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, 16, 16, 1)).astype(np.float32)
    _, targets = repair_batches(images[[0] * 200], crop=(16, 16))[0]
    contrasts = np.log(targets[..., 0].std(axis=(1, 2)))
    assert np.ptp(contrasts) <= 0.7
    assert abs(np.median(contrasts) - (contrasts.max() + contrasts.min()) / 2) < 0.1


def test_the_rows_of_the_caller_stay_in_order(unlike_images):
    rows, scale = np.arange(4), PixelScale.of(unlike_images, per_image=False)
    for _ in range(5):
        TrainingBatches(unlike_images, rows, scale, 4, np.random.RandomState(1)).on_epoch_end()
    np.testing.assert_array_equal(rows, np.arange(4))


def batches_of_three(images, random_state):
    scale = PixelScale.of(images, per_image=True)
    settings = {"draw": draw_nothing, "crop": (8, 8), "block_size": 1}
    return RepairBatches(images, np.arange(len(images)), scale, 3, random_state, **settings)


def test_the_last_batch_of_a_training_is_filled_up(unlike_images):
    batches = batches_of_three(unlike_images, np.random.RandomState(0))
    assert [len(batches[index][0]) for index in range(len(batches))] == [3, 3]
    batches = batches_of_three(unlike_images, None)  # each counts once to see when to stop
    assert [len(batches[index][0]) for index in range(len(batches))] == [3, 1]


def test_what_tells_when_to_stop_is_the_same_in_every_epoch(unlike_images):
    batches = batches_of_three(unlike_images, None)
    before = [batches[index] for index in range(len(batches))]
    batches.on_epoch_end()
    for index, (inputs, targets) in enumerate(before):
        np.testing.assert_array_equal(batches[index][0], inputs)
        np.testing.assert_array_equal(batches[index][1], targets)


def test_a_hot_pixel_is_cut_off_in_training_as_in_scoring():
    rng = np.random.default_rng(0)
    images = rng.integers(900, 1100, (4, 16, 16, 1)).astype(np.uint16)
    images[1, 3, 4] = 65535
    scale = PixelScale.of(images, per_image=True)
    scored, _, _ = scale.to_network(images)
    _, targets = repair_batches(images, crop=(16, 16))[0]
    # But for the random exposure.
    assert targets[1, ..., 0].max() < 2 * scored[1].max()


def test_networks_built_without_a_random_state_are_alike():
    first, second = (build_network((8, 8, 1), filters=(4,)).get_weights() for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_crops_are_flipped_either_way():
    image = np.arange(12 * 12, dtype=np.float32).reshape(1, 12, 12, 1)
    directions = set()
    for seed in range(60):
        crop = repair_batches(image, crop=(8, 8), seed=seed)[0][1][0, ..., 0]
        directions.add((crop[1, 0] > crop[0, 0], crop[0, 1] > crop[0, 0]))
    assert len(directions) == 4


def test_crops_begin_at_every_place():
    image = np.zeros((1, 12, 12, 1), np.float32)
    image[0, 5, 6] = 1
    places = set()
    for seed in range(60):
        _, targets = repair_batches(image, crop=(8, 8), seed=seed)[0]
        places.add(int(targets[0, ..., 0].argmax()))
    assert len(places) > 15


def test_masks_may_be_images_of_black_and_white(unlike_images):
    def draw(images, *, random_state, white=1):
        masks = np.zeros((*images.shape[:3], 1), np.uint8)
        masks[:, 2:5, 3:6] = white
        return images, masks

    (_, expected), (_, found) = (
        repair_batches(unlike_images, crop=(8, 8), draw=partial(draw, white=white))[0]
        for white in (1, 255)
    )
    assert expected.dtype == np.float32 and set(np.unique(expected[..., -1])) == {0, 1}
    np.testing.assert_array_equal(found, expected)


def test_a_function_that_draws_something_else_is_refused(unlike_images):
    batches = repair_batches(
        unlike_images, crop=(8, 8), draw=lambda images, random_state: (images, images[:, :4])
    )
    with pytest.raises(ValueError, match=r"draw_defects must return images of shape \(4, 8, 8, 1"):
        batches[0]
    with pytest.raises(ValueError, match="draw_defects must return"):
        repair_batches(unlike_images, crop=(8, 8), draw=lambda images, random_state: images)[0]


def test_repair_loss_is_what_its_docstring_says():
    rng = np.random.default_rng(0)
    target = np.concatenate([rng.normal(size=(3, 6, 5, 1)), rng.random((3, 6, 5, 1)) < 0.3], -1)
    output = rng.normal(size=(3, 6, 5, 2))
    loss = RepairLoss("mse", mask_weight=3.0, gamma=1.5, large_area=0.1)
    mask, p = target[..., 1], expit(output[..., 1])
    cross_entropy = -mask * np.log(p) - (1 - mask) * np.log(1 - p)
    weight = 1 / (1 + mask.mean(axis=(1, 2), keepdims=True) / 0.1)
    focal = weight * np.abs(mask - p) ** 1.5 * cross_entropy
    expected = np.square(target[..., 0] - output[..., 0]).mean() + 3 * focal.mean()
    got = loss(target.astype(np.float32), output.astype(np.float32))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(got), expected, rtol=1e-5)


def test_keras_can_save_a_network_with_its_loss(tmp_path):
    model = build_network((8, 8, 1), training="repair", filters=(4,))
    model.compile(loss=RepairLoss("mae", gamma=1.0))
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    assert (again.loss.gamma, again.loss.image_loss) == (1.0, keras.losses.get("mae"))


def test_the_network_that_repairs_has_dropout_skips_and_unlike_layers():
    model = build_network((16, 16, 1), training="repair", filters=(4, 4, 4))
    kinds = [type(layer).__name__ for layer in model.layers]
    assert "SpatialDropout2D" in kinds and "Concatenate" in kinds
    kernels = [weight for weight in model.get_weights() if weight.ndim > 1]
    alike = [
        np.array_equal(a, b)
        for i, a in enumerate(kernels)
        for b in kernels[:i]
        if a.shape == b.shape
    ]
    assert len(alike) > 0 and not any(alike)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_each_channel_is_centred_and_all_have_one_deviation(n_channels):
    rng = np.random.default_rng(0)
    tint = np.array([1.6, 0.7, 0.25])[:n_channels]
    images = (rng.normal(100, 10, (5, 9, 7, n_channels)) * tint).astype(np.float32)
    scale = PixelScale.of(images, per_image=True)
    darkest, brightest = scale.pixel_range
    batch, low, span = scale.to_network(images)
    assert low.shape == (5, 1, 1, n_channels) and span.shape == (5, 1, 1, 1)
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    contrast = centred.std(axis=(1, 2, 3), keepdims=True)
    expected = centred / (contrast + 0.02 * (brightest - darkest))
    np.testing.assert_allclose(batch, expected, atol=1e-4)
    np.testing.assert_allclose(batch * span + low, images, rtol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16), (15, 17)])
def test_network_that_repairs_sees_every_pixel(shape):
    # With strides of 2, a window without its centre would leave out a quarter of them for good.
    model = build_network((*shape, 1), training="repair", random_state=np.random.RandomState(0))
    image = np.random.RandomState(0).normal(size=(1, *shape, 1)).astype(np.float32)
    changed = image + np.eye(np.prod(shape), dtype=np.float32).reshape(-1, *shape, 1)
    with_image = keras.ops.convert_to_numpy(model(np.concatenate([image, changed])))
    marks = with_image[..., -1]
    assert (np.abs(marks[1:] - marks[0]).max(axis=(1, 2)) > 1e-4).all()


@pytest.mark.parametrize("training", ["repair", "reconstruct"])
@pytest.mark.parametrize("fewer", range(8))
def test_windows_lie_alike_whatever_the_size(training, fewer):
    # The network is trained on crops, and scores whole images.
    kind = {"training": training, "filters": (4, 8, 8)}
    whole = build_network((96, 96, 1), **kind, random_state=np.random.RandomState(0))
    smaller = build_network((96 - fewer, 96 - fewer, 1), **kind)
    smaller.set_weights(whole.get_weights())
    image = np.random.RandomState(0).normal(size=(1, 96, 96, 1)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(whole(image))
    actual = keras.ops.convert_to_numpy(smaller(image[:, : 96 - fewer, : 96 - fewer]))
    # Away from the borders that differ.
    np.testing.assert_allclose(actual[:, :48, :48], expected[:, :48, :48], rtol=1e-4, atol=1e-5)
