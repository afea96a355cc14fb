import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.random import RandomState

from sklearn_ncae import defects
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.defects import draw_defects


def textures(n=6, height=40, width=56, n_channels=1, seed=0):
    return RandomState(seed).normal(size=(n, height, width, n_channels)).astype(np.float32)


def changes(images, defective):
    """Largest change of every pixel, in standard deviations of its image."""
    scales = images.std(axis=(1, 2, 3), keepdims=True)
    return np.abs(defective - images).max(axis=-1, keepdims=True) / scales


def test_the_same_seed_draws_the_same_defects():
    images = textures()
    first, first_masks = draw_defects(images, random_state=3)
    second, second_masks = draw_defects(images, random_state=RandomState(3))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first_masks, second_masks)
    other, _ = draw_defects(images, random_state=4)
    assert (first != other).any()


def test_a_generator_goes_on_between_calls():
    images, random_state = textures(), RandomState(0)
    first, _ = draw_defects(images, random_state=random_state)
    second, _ = draw_defects(images, random_state=random_state)
    assert (first != second).any()


def test_no_seed_draws_new_defects_and_leaves_the_global_generator_alone():
    images = textures()
    before = np.random.get_state()[1].copy()
    first, _ = draw_defects(images)
    second, _ = draw_defects(images)
    assert (first != second).any()
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_input_is_not_modified(dtype):
    images = textures().astype(dtype)
    before = images.copy()
    images.flags.writeable = False
    defective, _ = draw_defects(images, random_state=0, probability=1)
    np.testing.assert_array_equal(images, before)
    assert not np.shares_memory(defective, images)


def test_without_defects_there_is_a_copy_and_an_empty_mask():
    images = textures()
    defective, masks = draw_defects(images, random_state=0, probability=0)
    np.testing.assert_array_equal(defective, images)
    assert not np.shares_memory(defective, images)
    assert not masks.any()


def test_probability_is_the_share_of_images_with_defects():
    images = textures(n=300, height=24, width=24)
    always, _ = draw_defects(images, random_state=0, probability=1)
    half, _ = draw_defects(images, random_state=0, probability=0.5)
    assert (always != images).any(axis=(1, 2, 3)).mean() > 0.98
    assert 0.4 < (half != images).any(axis=(1, 2, 3)).mean() < 0.6


def test_more_defects_change_more_pixels():
    images = textures(n=40)
    _, few = draw_defects(images, random_state=0, probability=1, max_defects=1)
    _, many = draw_defects(images, random_state=0, probability=1, max_defects=8)
    assert 0 < few.mean() < many.mean() / 2


@pytest.mark.parametrize("n_channels", [1, 3, 5])
def test_the_mask_is_where_the_change_is_large(n_channels):
    images = textures(n=30, n_channels=n_channels)
    defective, masks = draw_defects(images, random_state=0)
    change = changes(images, defective)
    assert masks.any()
    assert (change[masks] > 0.149).all()
    assert (change[~masks] < 0.151).all()


@pytest.mark.parametrize("factor, offset", [(1e-3, 0), (40, 128), (1, -1000)])
def test_defects_scale_with_the_images(factor, offset):
    images = textures(n=10)
    defective, masks = draw_defects(images, random_state=0)
    scaled, scaled_masks = draw_defects(images * factor + offset, random_state=0)
    np.testing.assert_allclose((scaled - offset) / factor, defective, atol=2e-3)
    assert (masks == scaled_masks).mean() > 0.999


def test_most_of_an_image_stays_as_it_is():
    images = make_castings(24, 0, image_size=96, random_state=0).images[..., np.newaxis]
    defective, masks = draw_defects(images, random_state=0, probability=1)
    assert masks.any(axis=(1, 2, 3)).mean() > 0.8
    assert masks.mean() < 0.1
    assert (defective != images).mean() < 0.2


def test_defects_are_everywhere():
    images = textures(n=600, height=16, width=24)
    _, masks = draw_defects(images, random_state=0, probability=1)
    assert masks.any(axis=0).all()


def test_colour_shifts_are_sometimes_coloured_and_sometimes_gray(monkeypatch):
    monkeypatch.setattr(defects, "_FILLS", (defects._shift,))
    images = textures(n=60, n_channels=3)
    defective, masks = draw_defects(images, random_state=0, probability=1, max_defects=1)
    spread = np.ptp(defective - images, axis=-1)
    gray = [spread[i][masks[i, ..., 0]].max(initial=0) < 1e-5 for i in range(len(images))]
    assert 0.2 < np.mean(gray) < 0.8


@pytest.mark.parametrize("shape", sorted(set(defects._SHAPES), key=lambda shape: shape.__name__))
@pytest.mark.parametrize("fill", sorted(set(defects._FILLS), key=lambda fill: fill.__name__))
def test_every_shape_takes_every_fill(monkeypatch, shape, fill):
    monkeypatch.setattr(defects, "_SHAPES", (shape,))
    monkeypatch.setattr(defects, "_FILLS", (fill,))
    images = textures(n=20, n_channels=2)
    defective, masks = draw_defects(images, random_state=0, probability=1)
    assert np.isfinite(defective).all()
    assert masks.any(axis=(1, 2, 3)).mean() > 0.8


def draw_alone(shape, n=400, height=100, width=140):
    """Areas, sides across the axes, and depths of many shapes, in pixels, as far as inside."""
    sizes = []
    for seed in range(n):
        top, left, depth = shape(height, width, RandomState(seed))
        inside = depth[max(-top, 0) : height - top, max(-left, 0) : width - left] > 0
        rows, columns = inside.any(axis=1).sum(), inside.any(axis=0).sum()
        sizes.append((inside.sum(), rows, columns, depth.max()))
    return np.array(sizes).T


def test_ellipses_are_from_a_speck_to_two_fifths_of_the_side():
    areas, rows, columns, depth = draw_alone(defects._ellipse)
    assert np.quantile(areas, 0.1) < 10
    assert 0.6 * np.pi * 20**2 < areas.max() <= np.pi * 20**2 + 60
    assert 36 < max(rows.max(), columns.max()) <= 41
    # As many small ones as large ones: the axes are spread evenly on a logarithmic scale.
    assert 6 < np.median(np.maximum(rows, columns)) < 14
    assert depth.max() <= 20


def test_blobs_are_parts_of_ellipses():
    areas, rows, columns, _ = draw_alone(defects._blob)
    of_boxes = areas / np.maximum(rows * columns, 1)
    assert 0 < areas.max() < np.pi * 20**2
    assert np.median(of_boxes[areas > 50]) < 0.7  # an ellipse fills 0.79 of its box


def test_cracks_bend_and_scratches_do_not():
    ratios = []
    for shape in (defects._crack, defects._scratch):
        straightness = []
        for seed in range(100):
            _, _, depth = shape(200, 200, RandomState(seed))
            points = np.argwhere(depth > 0)
            if len(points) > 60:
                values = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
                straightness.append(values[1] / values[0])
        ratios.append(np.median(straightness))
    assert ratios[0] > 0.1 > 0.03 > ratios[1]


def test_bars_are_along_the_axes_and_half_of_them_thin():
    areas, rows, columns, _ = draw_alone(defects._bar)
    seen = areas > 0
    assert (areas[seen] == (rows * columns)[seen]).all()
    thin = np.minimum(rows, columns) <= 3
    assert 0.4 < thin[seen].mean() < 0.7
    assert rows[~thin].max() <= 100 / 1.5 + 2 and columns[~thin].max() <= 140 / 1.5 + 2


def test_large_areas_reach_the_borders():
    areas, rows, columns, _ = draw_alone(defects._polygon)
    assert np.median(areas) > 0.1 * 100 * 140
    assert np.mean((rows == 100) | (columns == 140)) > 0.2


def test_contrast_is_changed_around_the_mean_of_the_place():
    images = textures(n=1, height=60, width=60)
    box = slice(10, 50), slice(10, 50)
    strengths = []
    for seed in range(200):
        filled = defects._contrast(images, 0, box, np.float32(1), RandomState(seed))
        strengths.append(filled.std() / images[0][box].std())
        shift = filled.mean() - images[0][box].mean()
        assert 0.29 < abs(shift) < 2.51
    assert 0.2 <= min(strengths) < 0.3 and 1.5 < max(strengths) <= 1.6 + 1e-3


def test_constants_are_one_colour_with_noise_about_the_mean_of_the_image():
    images = textures(n=1, height=60, width=60) + 5
    box = slice(0, 60), slice(0, 60)
    noises, shifts = [], []
    for seed in range(200):
        filled = defects._constant(images, 0, box, np.float32(1), RandomState(seed))
        noises.append(filled.std())
        shifts.append(filled.mean() - images.mean())
    assert min(noises) < 0.05 and 0.45 < max(noises) < 0.52
    assert min(shifts) < -2 and max(shifts) > 2 and np.abs(shifts).max() < 2.6


def test_lines_are_thin_and_long(monkeypatch):
    monkeypatch.setattr(defects, "_SHAPES", (defects._crack, defects._scratch))
    monkeypatch.setattr(defects, "_FILLS", (defects._shift,))
    images = textures(n=60, height=64, width=64)
    _, masks = draw_defects(images, random_state=0, probability=1, max_defects=1)
    rows, columns = masks.any(axis=(2, 3)).sum(1), masks.any(axis=(1, 3)).sum(1)
    lengths = np.maximum(np.hypot(rows, columns), 1)
    assert np.median(lengths) > 20
    assert np.median(masks.sum(axis=(1, 2, 3)) / lengths) < 4


def test_a_pasted_piece_may_come_from_another_image(monkeypatch):
    monkeypatch.setattr(defects, "_FILLS", (defects._paste,))
    images = textures(n=2)
    images[1] += 100
    defective, _ = draw_defects(np.repeat(images, 10, axis=0), random_state=0, probability=1)
    assert (defective[:10] > 50).any()
    assert (defective[10:] < 50).any()


def test_smoothing_removes_texture(monkeypatch):
    monkeypatch.setattr(defects, "_FILLS", (defects._smooth,))
    images = textures(n=20)
    defective, masks = draw_defects(images, random_state=0, probability=1)
    assert defective[masks].std() < 0.7 * images[masks].std()


def test_integer_images_and_images_without_contrast():
    images = np.full((8, 16, 16, 1), 7, np.uint8)
    defective, masks = draw_defects(images, random_state=0, probability=1)
    np.testing.assert_array_equal(defective, 7)
    assert not masks.any()


def test_an_empty_batch():
    defective, masks = draw_defects(np.zeros((0, 16, 16, 3)), random_state=0)
    assert defective.shape == (0, 16, 16, 3)
    assert masks.shape == (0, 16, 16, 1)


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(8, 40), st.integers(8, 40), st.integers(1, 4)),
    seed=st.integers(0, 2**32 - 1),
    max_defects=st.integers(1, 12),
)
def test_any_size(shape, seed, max_defects):
    images = RandomState(seed).normal(size=shape).astype(np.float32)
    defective, masks = draw_defects(
        images, random_state=seed, probability=1, max_defects=max_defects
    )
    assert defective.shape == shape and defective.dtype == np.float32
    assert masks.shape == (*shape[:3], 1) and masks.dtype == bool
    assert np.isfinite(defective).all()
    np.testing.assert_array_equal(masks & (changes(images, defective) < 0.149), False)


@settings(max_examples=60, deadline=None)
@given(
    images=arrays(
        st.sampled_from([np.uint8, np.int16, np.float16, np.float32]),
        (2, 9, 8, 1),
        elements={"min_value": 0, "max_value": 255},
    ),
    seed=st.integers(0, 100),
)
def test_any_pixels(images, seed):
    before = images.copy()
    defective, masks = draw_defects(images, random_state=seed, probability=1)
    np.testing.assert_array_equal(images, before)
    assert np.isfinite(defective).all()
    assert (defective != images)[masks].all()


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((4, 16, 16)), r"shape \(n, h, w, c\), not float64 of shape \(4, 16, 16\)"),
        (np.zeros((4, 16, 16, 0)), r"shape \(n, h, w, c\)"),
        (np.zeros((4, 16, 16, 1), complex), "not complex128"),
        (np.zeros((4, 7, 16, 1)), "7 by 16 pixels, but defects need at least 8 by 8"),
        (np.full((1, 16, 16, 1), np.nan), "must be finite"),
    ],
)
def test_bad_images_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        draw_defects(images)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"probability": 1.1}, r"from 0 to 1, not 1\.1"),
        ({"probability": float("nan")}, "from 0 to 1, not nan"),
        ({"max_defects": 0}, "at least 1, not 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_defects(textures(), **arguments)


@pytest.mark.parametrize("value", [0.0, 0.1, -0.83, 1e6])
def test_rounding_is_no_defect(value):
    _, masks = draw_defects(np.full((40, 32, 32, 1), value), random_state=0, probability=1)
    assert not masks.any()


def test_pieces_are_taken_from_the_clean_images(monkeypatch):
    images = textures(n=4)

    def overwrite(given, index, box, scale, random_state):
        np.testing.assert_array_equal(given, images)
        return np.full_like(given[index][box], 50)

    monkeypatch.setattr(defects, "_FILLS", (overwrite,))
    defective, _ = draw_defects(images, random_state=0, probability=1, max_defects=3)
    assert (defective == 50).any(axis=(1, 2, 3)).all()


def test_edges_are_hard_or_soft(monkeypatch):
    def disc(height, width, random_state):
        rows, columns = np.ogrid[:height, :width]
        return 0, 0, (12 - np.hypot(rows - 20, columns - 28)).astype(np.float32)

    def brighten(images, index, box, scale, random_state):
        return images[index][box] + 1

    monkeypatch.setattr(defects, "_SHAPES", (disc,))
    monkeypatch.setattr(defects, "_FILLS", (brighten,))
    images = np.zeros((60, 40, 56, 1), np.float32)
    defective, _ = draw_defects(images, random_state=0, probability=1, max_defects=1)
    partly = ((defective > 0.01) & (defective < 0.99)).sum(axis=(1, 2, 3))
    ring = 2 * np.pi * 12  # pixels of an edge that is one pixel wide
    assert (partly < 2 * ring).sum() > 15 and (partly > 2.5 * ring).sum() > 10
