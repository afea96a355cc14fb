import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve1d, gaussian_filter
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score

from sklearn_ncae._image_arrays import usual_range
from sklearn_ncae._pixel_scale import PixelScale
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.model_selection import OneClassSplit
from sklearn_ncae.texture import (
    TextureDetector,
    TextureModel,
    describe_texture,
    description_shape,
    held_out_peaks,
    interpolations,
    representative_rows,
)

WEIGHTS = np.array([1, 4, 6, 4, 1]) / 16


@pytest.fixture(scope="module")
def castings():
    return make_castings(n_good=100, n_defect=40, image_size=(64, 64), random_state=0)


def means_plainly(level, height, width):
    rows, columns = range(0, level.shape[0], height), range(0, level.shape[1], width)
    return np.array([[level[i : i + height, j : j + width].mean() for j in columns] for i in rows])


def described_plainly(image, scale):
    """The description written down step by step in float64, one channel after another.

    Of the brightness of cells as it is, and of the comparisons without the logarithm.
    """
    h, w, n_channels = image.shape
    size = max(1, round(min(h, w) / 128))
    levels = [means_plainly(image[..., channel], size, size) for channel in range(n_channels)]
    height, width = (-(-side // 16) for side in levels[0].shape)
    cells = np.array([means_plainly(level, height, width) for level in levels])
    brightness = np.maximum(cells - scale.black, 0)
    around = gaussian_filter(brightness.mean(axis=0), 2.5, mode="nearest")
    around = around + 0.3 * brightness.mean() + scale.least_contrast
    relative = brightness - brightness.mean(axis=(1, 2), keepdims=True)
    relative = 2 * relative / (brightness.mean() + scale.least_contrast)
    values = {}
    for channel, level in enumerate(levels):
        for distance in (1, 2, 4):
            spread = np.zeros(4 * distance + 1)
            spread[::distance] = WEIGHTS
            for axis in (0, 1):
                level = convolve1d(level, spread, axis=axis, mode="nearest")
            padded = np.pad(level, distance, mode="edge")
            rows, columns = np.indices(level.shape)
            for down, right in [(0, 1), (1, 0), (1, 1), (1, -1)]:
                above, below = (
                    padded[rows + (1 + s * down) * distance, columns + (1 + s * right) * distance]
                    for s in (-1, 1)
                )
                difference = np.pad(above + below - 2 * level, 2 * distance)
                line = sum(
                    difference[
                        rows + (2 + step * right) * distance, columns + (2 - step * down) * distance
                    ]
                    for step in (-2, -1, 0, 1, 2)
                )
                values.setdefault((distance, down, right), {})[channel] = [
                    [
                        np.abs(line[i : i + height, j : j + width]).max()
                        for j in range(0, level.shape[1], width)
                    ]
                    for i in range(0, level.shape[0], height)
                ]
    largest = np.concatenate([np.array([*of.values()]) for of in values.values()])
    largest = np.maximum(largest, 2 / 255 * scale.span)
    return np.concatenate([relative, largest / around + 0.012])


def check_description(description, image, scale):
    n_channels = image.shape[2]
    expected = described_plainly(image.astype(float), scale)
    found = np.concatenate([description[:n_channels], np.exp(description[n_channels:])])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3])),
    dtype=st.sampled_from(["uint8", "uint16", "float32", "float64"]),
    seed=st.integers(0, 1000),
)
def test_description_against_the_plain_one(shape, dtype, seed):
    images = np.random.default_rng(seed).integers(0, 256, (2, *shape)).astype(dtype)
    scale = PixelScale(0 if images.dtype.kind == "u" else -40, 255, per_image=True)
    descriptions = describe_texture(images, scale)
    assert descriptions.shape == (2, *description_shape(shape))
    assert descriptions.dtype == np.float64
    for image, description in zip(images, descriptions, strict=True):
        check_description(description, image, scale)


@pytest.mark.parametrize("shape", [(200, 260, 1), (421, 399, 1)])
def test_large_images_are_described_by_the_means_of_blocks(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    scale = PixelScale(0, 255, per_image=True)
    (description,) = describe_texture(image[np.newaxis], scale)
    assert description.shape == description_shape(shape)
    check_description(description, image, scale)


def cells_plainly(left):
    """What is left over, gathered from neighbouring cells with weights written down."""
    n_channels = len(left) // 13
    left = np.concatenate([np.abs(left[:n_channels]), left[n_channels:]])

    def gathered(cells):
        steps = np.arange(-4, 5)
        weights = np.exp(-(steps**2) / 2)
        for axis in (0, 1):
            cells = convolve1d(cells, weights / weights.sum(), axis=axis, mode="reflect")
        return cells

    rougher = gathered((np.maximum(left, 0) ** 4).sum(axis=0))
    smoother = gathered((np.minimum(left, 0) ** 4).sum(axis=0))
    return np.maximum(rougher**0.25, 0.7 * smoother**0.25)


def test_cells_show_what_the_usual_combinations_leave_over():
    rng = np.random.default_rng(0)
    usual = rng.normal(size=(3, 13 * 16 * 16))
    good = (10 * rng.normal(size=(30, 3)) @ usual).reshape(30, 13, 16, 16)
    model = TextureModel.of(good)
    new = (10 * rng.normal(size=(5, 3)) @ usual).reshape(5, 13, 16, 16)
    rougher, smoother = new.copy(), new.copy()
    rougher[:, 4, 7, 2] += 500
    smoother[:, 4, 7, 2] -= 500
    assert (model.peaks(new) < 0.1).all()
    assert (model.peaks(rougher) > 10 * model.peaks(new)).all()
    np.testing.assert_allclose(model.peaks(smoother), 0.7 * model.peaks(rougher), rtol=0.05)
    assert model.components.shape == (30, 13, 16, 16)
    cells = model.cells(rougher)
    assert (cells.reshape(5, -1).argmax(axis=1) == 7 * 16 + 2).all()
    for description, shown, peak in zip(rougher, cells, model.peaks(rougher), strict=True):
        standardised = (description - model.mean) / model.deviation
        code = (model.components * standardised).sum(axis=(1, 2, 3))
        left = standardised - np.tensordot(code, model.components, 1)
        np.testing.assert_allclose(shown, cells_plainly(left), rtol=1e-6)
        np.testing.assert_allclose(peak, np.sort(shown.ravel())[-5:].mean())


def test_brightness_is_counted_from_0_or_from_the_darkest_of_negative_values():
    assert PixelScale(20, 200, per_image=True).black == 0
    assert PixelScale(-5, 200, per_image=True).black == -5


@pytest.mark.parametrize("n_channels", [1, 3])
def test_brightness_of_each_channel_is_unusual_either_way(n_channels):
    rng = np.random.default_rng(0)
    model = TextureModel.of(rng.normal(size=(200, 13 * n_channels, 4, 4)))
    for part in range(13 * n_channels):
        changes = np.zeros((2, 13 * n_channels, 4, 4))
        changes[:, part, 1, 2] = 500, -500
        above, below = model.peaks(model.mean + changes)
        factor = 1.0 if part < n_channels else 0.7  # contrasts: rougher counts more
        assert below == pytest.approx(factor * above, rel=0.02)


def test_the_peak_of_few_cells_is_the_largest():
    descriptions = np.random.default_rng(0).normal(size=(20, 13, 4, 4))
    model = TextureModel.of(descriptions)
    np.testing.assert_array_equal(
        model.peaks(descriptions), model.cells(descriptions).max(axis=(1, 2))
    )


@pytest.mark.parametrize("shape", [(64, 64, 1), (300, 256, 1), (32, 96, 3)])
def test_a_map_lies_as_the_image_does(shape):
    """Where cells and blocks divide the image, what is mirrored has the mirrored map."""
    for weights in interpolations(shape):
        np.testing.assert_allclose(weights.sum(axis=1), 1)
        if len(weights) % weights.shape[1] == 0:
            np.testing.assert_allclose(weights[::-1, ::-1], weights, atol=1e-12)


@pytest.mark.parametrize("n", [5, 100])
def test_usual_combinations_are_a_ridge_regression(n):
    rng = np.random.default_rng(0)
    descriptions = rng.normal(size=(n, 4)) @ rng.normal(size=(4, 13 * 16))
    model = TextureModel.of(descriptions.reshape(n, 13, 4, 4))
    rows = (descriptions.reshape(n, 13, 4, 4) - model.mean) / model.deviation
    covariance = np.cov(rows.reshape(n, -1), rowvar=False, bias=True)
    ridge = 0.006 * len(covariance) * np.eye(len(covariance))
    components = model.components.reshape(len(model.components), -1).astype(float)
    expected = np.linalg.solve(covariance + ridge, covariance)
    np.testing.assert_allclose(components.T @ components, expected, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 60])
def test_held_out_peaks_are_those_of_other_images(n):
    descriptions = np.random.default_rng(0).normal(size=(n, 13, 3, 2))
    peaks = held_out_peaks(descriptions, np.arange(n))
    assert np.isfinite(peaks).all() and (peaks >= 0).all()
    if n >= 7:
        fold = np.random.RandomState(0).permutation(n) % 5
        others = fold != fold[2]
        expected = TextureModel.of(descriptions[others]).peaks(descriptions[2:3])
        np.testing.assert_array_equal(peaks[2:3], expected)


def test_held_out_peaks_are_those_of_other_groups():
    descriptions = np.random.default_rng(0).normal(size=(30, 13, 3, 2))
    groups = np.arange(30) // 3
    peaks = held_out_peaks(descriptions, groups)
    fold = np.random.RandomState(0).permutation(10) % 5
    others = fold[groups] != fold[groups[4]]
    expected = TextureModel.of(descriptions[others]).peaks(descriptions[4:5])
    np.testing.assert_array_equal(peaks[4:5], expected)
    # One part can be compared with nothing but itself.
    of_one_part = held_out_peaks(descriptions, np.zeros(30, int))
    np.testing.assert_array_equal(of_one_part, TextureModel.of(descriptions).peaks(descriptions))


def test_several_pictures_of_each_part_promise_what_single_ones_do():
    rng = np.random.default_rng(0)
    parts = make_castings(100, 0, image_size=48, random_state=2).images
    number = np.arange(120) // 3
    pictures = parts[number] + rng.normal(0, 1, (120, 48, 48))
    new = parts[40:] + rng.normal(0, 1, (60, 48, 48))
    alone = TextureDetector().fit(pictures)
    assert np.mean(alone.predict(new) == -1) > 0.5  # others of the same part set the threshold
    grouped = TextureDetector().fit(pictures, groups=[f"part {n}" for n in number])
    assert np.mean(grouped.predict(new) == -1) < 0.15
    assert len(grouped.calibration_scores_) == 40
    assert grouped.false_alarm_rate_ == 2 / 41


def test_noise_on_a_background_that_was_black_is_no_defect():
    rng = np.random.default_rng(0)
    parts = np.zeros((130, 64, 64))
    parts[:, 16:48, 16:48] = rng.normal(120, 8, (130, 32, 32))
    noisy = np.clip(parts + rng.normal(0, 1, parts.shape), 0, 255).astype(np.uint8)
    parts = parts.astype(np.uint8)
    detector = TextureDetector().fit(parts[:100])
    assert np.mean(detector.predict(noisy[100:]) == -1) <= 0.2
    specks = parts[100:].copy()
    specks[:, 8, 4:10] = 12
    assert np.mean(detector.predict(specks) == -1) == 1


def test_images_that_come_in_turn_from_five_stations_set_no_other_threshold():
    rng = np.random.default_rng(0)
    station = rng.normal(size=(5, 13, 4, 4))
    descriptions = station[np.arange(50) % 5] + 0.2 * rng.normal(size=(50, 13, 4, 4))
    in_turn = held_out_peaks(descriptions, np.arange(50))
    shuffled = held_out_peaks(descriptions[rng.permutation(50)], np.arange(50))
    assert in_turn.max() < 2 * np.median(shuffled)


def test_what_varies_beside_a_cell_may_vary_in_it():
    descriptions = np.zeros((40, 13, 5, 5))
    descriptions[:, :, 2, 2] = np.random.default_rng(0).normal(0, 3, (40, 13))
    deviation = TextureModel.of(descriptions).deviation[0]
    variance = descriptions[:, 0, 2, 2].var()
    assert deviation[2, 2] == pytest.approx(np.sqrt(variance + 0.4**2))
    assert deviation[1, 3] == pytest.approx(np.sqrt(0.4 * variance + 0.4**2))
    assert deviation[0, 2] == pytest.approx(0.4)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_likeness_is_the_share_of_variance_between_places(n_channels):
    rng = np.random.default_rng(0)
    of_places = rng.normal(0, 1, (13 * n_channels, 16, 16))
    of_places[:n_channels] *= 9  # brightness does not count
    descriptions = of_places + rng.normal(0, 0.5, (100, *of_places.shape))
    # Deviations are 0.4 more than they are, and those beside a cell hardly differ from its own.
    expected = 1 / (1 + 0.5**2 + 0.4**2)
    assert TextureModel.of(descriptions).likeness == pytest.approx(expected, rel=0.03)


def test_likeness_of_parts_that_lie_alike_and_of_surfaces(castings):
    rng = np.random.default_rng(0)
    surface = gaussian_filter(rng.normal(size=(1200, 1200)), 1)
    places = [surface[i : i + 64, j : j + 64] for i, j in rng.integers(0, 1136, (60, 2))]
    assert TextureDetector().fit(100 + 300 * np.array(places)).texture_.likeness < 0.05
    good = castings.images[castings.target == 1]
    assert TextureDetector().fit(good).texture_.likeness > 0.4


def test_finds_defects_of_castings(castings):
    X, y = castings.images, castings.target
    good = X[y == 1]
    test = np.concatenate([good[60:], X[y == -1]])
    labels = np.repeat([1, -1], [40, 40])
    detector = TextureDetector().fit(good[:60])
    assert roc_auc_score(labels, detector.decision_function(test)) > 0.88
    assert np.mean(detector.predict(good[60:]) == -1) < 0.2
    assert np.mean(detector.predict(X[y == -1]) == -1) > 0.7


@pytest.mark.parametrize("shape", [(50, 40, 1), (31, 33, 3), (150, 130, 1)])
def test_descriptions_are_the_same_alone_and_among_many(shape):
    images = np.random.default_rng(0).integers(0, 256, (33, *shape), dtype=np.uint8)
    scale = PixelScale.of(images, per_image=True)
    alone = [describe_texture(image[np.newaxis], scale)[0] for image in images]
    np.testing.assert_array_equal(describe_texture(images, scale), alone)


def test_scores_depend_on_the_image_alone_and_not_on_its_exposure(castings):
    X = castings.images
    detector = TextureDetector().fit(X[:50])
    scores = detector.score_samples(X)
    for rows in ([3], [3, 9], np.arange(7, 30)):
        np.testing.assert_array_equal(detector.score_samples(X[rows]), scores[rows])
    # The same but for the share of the range that is added to the brightness.
    np.testing.assert_allclose(detector.score_samples(X * 1.2), scores, rtol=0.02)
    # An offset is not taken out, but hardly matters where it is small.
    np.testing.assert_allclose(detector.score_samples(X * 1.2 + 9.0), scores, rtol=0.1)
    flat = clone(detector).set_params(image_shape=(64, 64)).fit(X[:50].reshape(50, -1))
    np.testing.assert_array_equal(flat.score_samples(X.reshape(len(X), -1)), scores)


@pytest.mark.parametrize("faulty", ["one image", "all images", "one glare", "one frame of noise"])
def test_faulty_pixels_of_16_bits_do_not_hide_the_texture(castings, faulty):
    X, y = 4 * castings.images.astype(np.uint16), castings.target
    good = X[y == 1]
    hot = good[:60].copy()
    test = np.concatenate([good[60:], X[y == -1]])
    labels = np.repeat([1, -1], [len(good) - 60, (y == -1).sum()])
    seen = test.copy()
    match faulty:
        case "one image":
            hot[5, 30, 40] = 65535
        case "all images":  # of the same sensor
            for images in (hot, seen):
                images[:, [10, 30], [40, 5]] = 65535
        case "one glare":
            hot[5, 30:32, 40:42] = 65535
        case "one frame of noise":  # each ninth pixel of an image, alone
            hot[5, ::3, ::3] = 65535
    assert PixelScale.of(hot[..., np.newaxis], per_image=False).pixel_range == (0, 65535)
    scale = PixelScale.of(hot[..., np.newaxis], per_image=True)
    assert scale.pixel_range[1] <= 4 * 255
    # Nor is the contrast of its image lost to the network.
    if faulty in ("one image", "one glare"):
        with_it, without = (
            scale.to_network(images[5:6, ..., np.newaxis])[0] for images in (hot, good)
        )
        elsewhere = with_it != with_it.max()
        assert with_it[elsewhere].std() > (0.9 if faulty == "one image" else 0.85) * without.std()
    found, expected = (
        roc_auc_score(labels, TextureDetector().fit(train).score_samples(images))
        for train, images in ((hot, seen), (good[:60], test))
    )
    # Of the cells around a pixel that is always hot, less is seen.
    assert found > expected - (0.03 if faulty == "all images" else 0.02)


def test_the_usual_range_is_that_of_the_named_images_and_alike_for_dark_and_bright():
    images = np.random.default_rng(0).uniform(90, 110, (12, 64, 64, 1))
    images[[2, 7], 10, 10:12] = 9000  # a glare
    images[4, 20, 20:22] = -9000
    rows = np.array([1, 5, 7, 8, 4])
    low, high = usual_range(images, rows)
    assert (low, high) == usual_range(images[rows])
    assert 80 < low < high < 120
    assert usual_range(-images, rows) == (-high, -low)


def test_what_is_bright_in_most_images_or_over_an_area_is_no_fault(castings):
    good = castings.images[castings.target == 1][:60, ..., np.newaxis].astype(np.uint16)
    lamps = good.copy()
    lamps[:40, 30:32, 40:42] = 60000  # a small part
    assert PixelScale.of(lamps, per_image=True).pixel_range[1] == 60000
    exposed = good.copy()
    exposed[5] *= 100  # another exposure, or a part of bright metal
    assert PixelScale.of(exposed, per_image=True).pixel_range[1] > 20 * good.max()


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int16", ">u2", "float16", "float32", "float64"]
)
def test_extremes_are_cut_off_far_beyond_the_range(dtype):
    scale = PixelScale(100, 200, per_image=True)
    assert scale.bounds == (-300, 600)  # three times the light changes nothing
    inside = np.arange(0, 128).astype(dtype)
    np.testing.assert_array_equal(scale.without_extremes(inside), inside)
    if inside.dtype.itemsize > 1:
        largest = np.array([60000 if dtype in (">u2", "float16") else 30000], dtype)
        assert scale.without_extremes(largest) == 600
        np.testing.assert_array_equal(
            PixelScale(0, 60000, per_image=True).without_extremes(largest), largest
        )


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1000),
    shape=st.tuples(*[st.integers(1, n) for n in (4, 9, 9, 3)]).filter(lambda s: s[1] * s[2] > 3),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    per_image=st.booleans(),
)
def test_the_scale_leaves_out_what_stands_alone(seed, shape, dtype, per_image):
    images = np.random.default_rng(seed).normal(60, 15, shape).clip(0, 120).astype(dtype)

    def reached(image):
        """Each value that a pixel and one beside it reach, and no darker, or brighter."""
        height, width, n_channels = image.shape
        beside = [
            (image[y, x, k], image[y2, x2, k])
            for k in range(n_channels)
            for y in range(height)
            for x in range(width)
            for y2, x2 in ((y + 1, x), (y, x + 1))
            if y2 < height and x2 < width
        ]
        low, high = min(map(max, beside)), max(map(min, beside))
        return (low, high) if per_image and low < high else (image.min(), image.max())

    lows, highs = zip(*map(reached, images), strict=True)
    assert PixelScale.of(images, per_image=per_image).pixel_range == (min(lows), max(highs))


@pytest.mark.parametrize("n", [1999, 2000, 4000])
def test_of_many_images_those_of_every_camera_are_learned(n):
    rows = np.arange(7, 7 + n)
    learned = representative_rows(rows)
    assert len(set(learned)) == 1000 and set(learned) <= set(rows)
    assert 0.4 < np.mean(learned % 2) < 0.6  # two cameras in turn
    np.testing.assert_array_equal(representative_rows(rows[:1000]), rows[:1000])


def test_a_small_part_on_a_plain_background_is_within_the_scale():
    images = np.full((3, 400, 400, 1), 2, np.uint8)
    images[:, 100:112, 100:112] = 170
    scale = PixelScale.of(images, per_image=True)
    assert scale.pixel_range == (2, 170)


def test_another_light_on_a_surface_of_little_contrast_changes_nothing():
    surfaces = np.random.default_rng(0).normal(2000, 25, (30, 64, 64))
    detector = TextureDetector(contamination=0.1).fit(surfaces)
    for light in (0.5, 2):
        found = detector.score_samples(light * surfaces)
        np.testing.assert_allclose(found, detector.score_samples(surfaces), rtol=0.02)


def test_the_scale_of_images_that_are_plain_but_for_few_pixels():
    images = np.full((3, 50, 50, 1), 7, np.uint8)
    images[1, 20, 20] = 107
    assert PixelScale.of(images, per_image=True).pixel_range == (7, 107)


@pytest.mark.parametrize("shape", [(64, 80), (70, 50, 3), (300, 280)])
def test_the_map_is_brightest_at_the_defect(shape):
    rng = np.random.default_rng(0)
    good = rng.normal(100, 5, (40, *shape))
    defective = rng.normal(100, 5, (6, *shape))
    h, w = (np.array(shape[:2]) * [0.7, 0.3]).astype(int)
    defective[:, h : h + 5, w : w + 5] += 60
    maps = TextureDetector().fit(good).anomaly_map(defective)
    assert maps.shape == (6, *shape[:2])
    assert maps.dtype == np.float32
    rows, columns = np.unravel_index(maps.reshape(6, -1).argmax(axis=1), shape[:2])
    reach = np.array(shape[:2]) / 12
    assert (np.abs(rows - h - 2) < reach[0]).all()
    assert (np.abs(columns - w - 2) < reach[1]).all()


def test_of_many_images_a_thousand_are_learned():
    X = np.random.default_rng(0).integers(0, 256, (1200, 8, 8), dtype=np.uint8)
    detector = TextureDetector().fit(X)
    assert detector.texture_.components.shape == (64, *description_shape((8, 8, 1)))
    rows = representative_rows(np.arange(1200))
    np.testing.assert_array_equal(
        detector.texture_.mean, TextureDetector().fit(X[rows]).texture_.mean
    )


def test_in_cross_validation(castings):
    scores = cross_val_score(
        TextureDetector(),
        castings.images,
        castings.target,
        scoring="roc_auc",
        cv=OneClassSplit(StratifiedKFold(3)),
    )
    assert scores.mean() > 0.9


def test_images_of_another_unit_are_warned_of(castings):
    detector = TextureDetector(contamination=0.1).fit(castings.images)
    hot = castings.images.astype(np.uint16)
    hot[:, 3, 3] = 65535
    detector.predict(hot)  # a faulty pixel is no unit
    detector.predict(np.zeros((3, 64, 64), np.uint8))  # nor is a lamp that is off
    with pytest.warns(UserWarning, match="have values from 0.* in another unit") as caught:
        detector.score_samples(castings.images[:3] / 255)
    assert caught[0].filename == __file__
    assert np.mean(detector.predict(castings.images) == -1) == pytest.approx(0.1, abs=0.01)


def test_needs_no_network():
    script = (
        "import sys, numpy as np; from sklearn_ncae.texture import TextureDetector; "
        "TextureDetector().fit(np.zeros((9, 8, 8))); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_finds_what_is_smoother_than_usual():
    rng = np.random.default_rng(0)
    X = rng.normal(100, 20, (60, 64, 64))
    smoothed = X[40:].copy()
    smoothed[:, 20:36, 30:46] = 100 + 0.2 * (smoothed[:, 20:36, 30:46] - 100)
    detector = TextureDetector().fit(X[:40])
    assert detector.score_samples(smoothed).max() < detector.score_samples(X[40:]).min()


def test_a_fit_that_is_cut_short_leaves_the_detector_as_it_was(monkeypatch):
    X = np.random.default_rng(0).normal(100, 20, (30, 32, 32))
    detector = TextureDetector().fit(X)
    expected = detector.score_samples(X), detector.p_values(X)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklearn_ncae.texture.held_out_peaks", interrupt)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(X[:20, :24])
    np.testing.assert_array_equal((detector.score_samples(X), detector.p_values(X)), expected)


def test_the_threshold_can_be_set_anew(castings):
    good = castings.images[castings.target == 1]
    detector = TextureDetector(false_alarm_rate=0.1).fit(good[:40])
    scores = detector.calibration_scores_
    with pytest.raises(TypeError, match=r"give false_alarm_rate=0\.3"):
        detector.recalibrate(0.3)
    detector.recalibrate(false_alarm_rate=0.3)
    assert (detector.offset_, detector.false_alarm_rate_) == (np.sort(scores)[11], 12 / 41)
    assert detector.false_alarm_rate == 0.1
    detector.recalibrate()
    assert (detector.offset_, detector.false_alarm_rate_) == (np.sort(scores)[3], 4 / 41)
    detector.offset_ = np.sort(scores)[1]
    assert detector.false_alarm_rate_ == 2 / 41

    new = good[40:60]
    assert len(detector.recalibrate(new).calibration_scores_) == 20
    np.testing.assert_array_equal(detector.calibration_scores_, detector.score_samples(new))
    assert detector.false_alarm_rate_ == 2 / 21
    detector.recalibrate(new, groups=np.arange(20) // 2)
    assert len(detector.calibration_scores_) == 10
    assert set(detector.calibration_scores_) < set(detector.score_samples(new))


def test_the_threshold_is_not_set_anew_by_halves(castings):
    good = castings.images[castings.target == 1]
    detector = TextureDetector(contamination=0.1).fit(good[:40])
    offset = detector.offset_
    with pytest.raises(AttributeError, match=r"contamination=0\.1 keeps none"):
        detector.recalibrate()
    with pytest.raises(ValueError, match="larger than 0 and smaller than 1"):
        detector.recalibrate(good[40:60], false_alarm_rate=1.5)
    assert detector.offset_ == offset and not hasattr(detector, "false_alarm_rate_")
    detector.recalibrate(good[40:60])
    assert detector.p_values(good[:3]).shape == (3,)
    with pytest.raises(ValueError, match="groups are those of X"):
        detector.recalibrate(groups=np.arange(20))
    with pytest.raises(NotFittedError):
        clone(detector).recalibrate(good[40:60])


def test_one_image_cannot_be_compared_with_others(castings):
    with pytest.raises(ValueError, match="n_samples=1 has no other image"):
        TextureDetector().fit(castings.images[:1])
    with pytest.raises(ValueError, match="n_samples=9 of n_groups=1 has no other image"):
        TextureDetector().fit(castings.images[:9], groups=np.zeros(9))
    assert len(TextureDetector(contamination=0.1).fit(castings.images[:1]).texture_.mean)
