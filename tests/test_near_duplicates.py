"""Copies of drawn parts are found however they were changed; other parts of the kind are not."""

import os
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from sklearn_ncae._image_similarity import read_pixels
from sklearn_ncae.near_duplicates import LeakageReport, leakage_report, near_duplicate_groups

cv2 = pytest.importorskip("cv2")
matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
Image = pytest.importorskip("PIL.Image")


def draw_part(seed, size=160):
    """A ring-shaped part of one design, with marks of its own, lit from its own side."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    image = np.full((size, size), 150.0)
    disc, hole = radius < 0.38, radius < 0.2
    light = rng.uniform(0, 2 * np.pi)
    image[disc] = (180 + 30 * np.cos(angle - light))[disc]
    image[hole] = 40
    image[radius < 0.08] = 140
    for r, a, dark in zip(
        rng.uniform(0.1, 0.34, 14), rng.uniform(0, 6.28, 14), rng.uniform(-60, 60, 14), strict=True
    ):
        spot = (x - r * np.cos(a)) ** 2 + (y - r * np.sin(a)) ** 2 < rng.uniform(0.015, 0.04) ** 2
        image[spot] += dark
    return np.clip(ndimage.gaussian_filter(image, 0.8), 0, 255).astype(np.uint8)


def draw_texture(seed, size=128):
    noise = np.random.default_rng(seed).normal(size=(size + 20, size + 20))
    texture = ndimage.gaussian_filter(noise, 2.5)[10:-10, 10:-10]
    return (128 + 40 * texture / texture.std()).clip(0, 255).astype(np.uint8)


def warp(image, matrix, shift=(0.0, 0.0)):
    middle = (np.array(image.shape) - 1) / 2
    offset = middle - matrix @ (middle + np.array(shift) * image.shape)
    moved = ndimage.affine_transform(image.astype(float), matrix, offset, order=1, mode="nearest")
    return moved.astype(np.uint8)


def turn(degrees):
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


PARTS = [draw_part(seed) for seed in range(8)]
TEXTURES = [draw_texture(seed) for seed in range(8)]


def share_found(originals, copy_of, n_copies=40):
    """Of copies at random, the share that is grouped with its original and nothing else."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(n_copies):
        original = rng.integers(len(originals))
        copy = copy_of(originals[original], rng)
        groups = near_duplicate_groups([*originals, copy]).tolist()
        found += groups == [*range(len(originals)), original]
    return found / n_copies


def test_changed_parts_are_found():
    def change(part, rng):
        stretch, shear = rng.uniform(-0.08, 0.08, 2)
        matrix = turn(rng.uniform(0, 360)) @ np.array([[1 + stretch, shear], [0, 1]])
        copy = warp(part, matrix, rng.uniform(-0.04, 0.04, 2))
        copy = copy[:, :: rng.choice([-1, 1])]
        return np.clip(copy * rng.uniform(0.5, 1.1) + rng.uniform(0, 20), 0, 255).astype(np.uint8)

    assert share_found(PARTS, change) >= 0.95


def test_changed_textures_are_found():
    def change(texture, rng):
        copy = warp(texture, turn(rng.uniform(0, 360)), rng.uniform(-0.02, 0.02, 2))
        return copy[:: rng.choice([-1, 1])]

    assert share_found(TEXTURES, change) >= 0.95


def test_resized_reencoded_and_coloured_copies(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(PARTS[0]).save(path, quality=60)
    half = Image.fromarray(PARTS[0]).resize((80, 80))
    wide = Image.fromarray(PARTS[0]).resize((200, 150))
    half.save(tmp_path / "half.png")
    wide.convert("RGB").save(tmp_path / "wide.png")
    wide.convert("P").save(tmp_path / "palette.png")
    names = ["a.jpg", "half.png", "wide.png", "palette.png"]
    for k in (1, 2):
        Image.fromarray(PARTS[k]).save(tmp_path / f"other{k}.png")
    paths = [tmp_path / name for name in [*names, "other1.png", "other2.png"]]
    assert near_duplicate_groups(paths).tolist() == [0, 0, 0, 0, 1, 2]
    assert near_duplicate_groups(pd.Series(map(str, paths), index=range(5, 11))).max() == 2


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_range_of_values_does_not_matter(dtype):
    images = np.stack([*PARTS[:3], PARTS[1][::-1]])
    scaled = images.astype(dtype) * (200 if dtype == np.uint16 else 0.01)
    assert near_duplicate_groups(scaled.astype(dtype)).tolist() == [0, 1, 2, 1]
    assert near_duplicate_groups(np.stack([images] * 3, axis=-1)).tolist() == [0, 1, 2, 1]


def test_a_hot_pixel_that_they_share_does_not_make_parts_alike():
    images = np.stack([*PARTS[:3], PARTS[1][::-1]]).astype(np.uint16)
    images[:, 30, 40] = 65535
    assert near_duplicate_groups(images).tolist() == [0, 1, 2, 1]


def test_turned_files_are_copies(tmp_path):
    part, path = PARTS[0][10:], tmp_path / "turned.tif"
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(part).save(path, exif=exif)
    np.testing.assert_array_equal(read_pixels(path), np.rot90(part, -1))
    assert near_duplicate_groups([path, part]).max() == 0


def test_result_is_the_same_in_threads_and_any_order():
    images = np.stack([*PARTS, *[part.T for part in PARTS]])
    assert near_duplicate_groups(images).tolist() == [*range(8), *range(8)]
    assert near_duplicate_groups(images, n_jobs=2).tolist() == [*range(8), *range(8)]
    order = np.random.default_rng(0).permutation(16)
    groups = near_duplicate_groups(images[order])
    assert ((groups[:, None] == groups) == (order[:, None] % 8 == order % 8)).all()


def test_chain_of_similar_images_does_not_join_its_ends():
    steps = np.linspace(0, 1, 9)
    chain = [((1 - s) * TEXTURES[0] + s * TEXTURES[1]).astype(np.uint8) for s in steps]
    groups = near_duplicate_groups([*chain, *TEXTURES[2:]])
    assert groups[0] == groups[1]
    assert groups[0] != groups[8]


def test_blank_images_are_grouped_only_when_identical():
    blank = np.full((2, 16, 16), 7.0)
    blank[1] = 9.0
    assert near_duplicate_groups([blank[0], blank[1], blank[0]]).tolist() == [0, 1, 0]
    assert near_duplicate_groups(blank[:1]).tolist() == [0]
    assert leakage_report([blank[0]], blank).table["test"].tolist() == [0]


def test_threshold_joins_more_when_lower():
    images = [*TEXTURES, *[warp(t, turn(10) @ np.diag([1.05, 1.0])) for t in TEXTURES]]
    n_groups = [near_duplicate_groups(images, threshold=t).max() for t in (0.3, 0.8, 0.99)]
    assert n_groups == sorted(n_groups)
    assert n_groups[0] < n_groups[2]


def test_more_images_than_one_block():
    images = [draw_texture(seed, 32) for seed in range(200)]
    groups = near_duplicate_groups([*images, *[image[::-1] for image in images[:20]]])
    assert groups.tolist() == [*range(200), *range(20)]


def test_leakage_report():
    turned = warp(PARTS[1], turn(33))
    report = leakage_report([PARTS[1], PARTS[0], turned], [PARTS[5], PARTS[0], PARTS[1].T])
    assert isinstance(report, LeakageReport)
    assert list(report.table) == ["test", "train", "similarity", "identical"]
    assert report.table["test"].tolist() == [1, 2]
    assert report.table["train"].iloc[0] == 1
    assert report.table["identical"].tolist() == [True, False]
    assert report.table["similarity"].iloc[0] == 1.0
    assert report.leaked.tolist() == [False, True, True]
    assert "2 of 3 test images have a copy in train, 1 identical" in repr(report)
    every = leakage_report(
        [PARTS[1], PARTS[0], turned], [PARTS[5], PARTS[0], PARTS[1].T], max_matches=None
    )
    assert every.table["test"].tolist() == [1, 2, 2]
    assert every.table["similarity"].between(0.8, 1.0001).all()


def test_leakage_report_of_paths_and_its_picture(tmp_path):
    for k, part in enumerate(PARTS):
        Image.fromarray(part).save(tmp_path / f"{k}.png")
    train = [tmp_path / f"{k}.png" for k in range(6)]
    test = [tmp_path / f"{k}.png" for k in (3, 7, 5)]
    report = leakage_report(train, test)
    assert report.table["test_path"].tolist() == [str(test[0]), str(test[2])]
    assert report.table["train_path"].tolist() == [str(train[3]), str(train[5])]
    figure = report.plot()
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 1, 1]
    assert "2 of 3" in figure.get_suptitle()
    assert len(report.plot(max_pairs=1).axes) == 2
    nothing = leakage_report(train[:2], test)
    assert nothing.table.empty
    assert not nothing.leaked.any()
    assert not any(ax.images for ax in nothing.plot().axes)
    with pytest.raises(ValueError, match="max_pairs"):
        report.plot(max_pairs=0)
    matplotlib.pyplot.close("all")


def test_files_that_cannot_be_read_are_named_and_may_be_skipped(tmp_path):
    for k, part in enumerate(PARTS[:3]):
        Image.fromarray(part).save(tmp_path / f"{k}.png")
    files = sorted(os.scandir(tmp_path), key=lambda entry: entry.name)  # paths, not of pathlib
    damaged = tmp_path / "damaged.png"
    damaged.write_text("no image")
    with pytest.raises(OSError, match=r"Cannot read '.*damaged.png' as an image"):
        near_duplicate_groups([*files, damaged])
    with pytest.raises(OSError, match=r"Cannot read '.*damaged.png' as an image"):
        leakage_report(files, [damaged])
    with pytest.raises(ValueError, match="on_error='ignore' must be 'raise' or 'skip'"):
        leakage_report(files, files, on_error="ignore")
    # Two that cannot be read are no copies of one another.
    with pytest.warns(UserWarning, match="1 of . files of t.* cannot be read.*damaged.png"):
        report = leakage_report([files[0], damaged, files[2]], [damaged, files[2]], on_error="skip")
    assert report.leaked.tolist() == [False, True]
    assert report.table["train_path"].tolist() == [files[2].path]


@pytest.mark.parametrize(
    ("images", "error", "match"),
    [
        ([], ValueError, "images is empty"),
        ("folder", TypeError, "got str"),
        (7, TypeError, "got int"),
        (np.zeros((4, 64)), ValueError, r"shape \(4, 64\); expected \(n, h, w\)"),
        ([np.zeros((4, 64))], ValueError, r"images\[0\] has shape \(4, 64\)"),
        ([np.zeros((7, 9))], ValueError, r"h, w >= 8"),
        ([np.zeros((9, 9, 3, 3))], ValueError, r"images\[0\] has shape"),
        ([PARTS[0], np.full((9, 9), np.nan)], ValueError, r"images\[1\] contains NaN"),
        ([PARTS[0], None], TypeError, r"images\[1\] must be an array or a path"),
        ([np.full((9, 9), "a")], TypeError, "numeric pixels"),
    ],
)
def test_bad_images(images, error, match):
    with pytest.raises(error, match=match):
        near_duplicate_groups(images)


def test_bad_parameters():
    for threshold in (0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="threshold"):
            near_duplicate_groups(PARTS, threshold=threshold)
    with pytest.raises(ValueError, match="max_matches"):
        leakage_report(PARTS, PARTS, max_matches=0)
    with pytest.raises(ValueError, match="test is empty"):
        leakage_report(PARTS, [])


@pytest.mark.parametrize("missing", ["cv2", "pandas"])
def test_missing_dependency_names_the_extra(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"sklearn-ncae\[duplicates\]"):
        leakage_report(PARTS[:1], PARTS[:1])


def test_of_several_matches_the_most_similar_is_listed_and_an_identical_one_first():
    near, far = warp(PARTS[1], turn(5)), warp(PARTS[1], turn(33) @ np.diag([1.06, 1.0]))
    for train in ([near, PARTS[1], far], [far, near, PARTS[1]]):
        table = leakage_report(train, [PARTS[1]], max_matches=None).table
        assert table["identical"].tolist() == [True, False, False]
        assert table["similarity"].is_monotonic_decreasing
        report = leakage_report(train, [PARTS[1]])
        assert report.table["identical"].tolist() == [True] and "1 identical" in repr(report)
    nearest = leakage_report([far, near], [PARTS[1]]).table["train"].tolist()
    every = leakage_report([far, near], [PARTS[1]], max_matches=None).table["train"].tolist()
    assert nearest == [1] and every == [1, 0]


def test_a_test_image_with_two_identical_copies_is_counted_once():
    report = leakage_report([PARTS[0], PARTS[0]], [PARTS[0], PARTS[1]], max_matches=None)
    assert "1 of 2 test images have a copy in train, 1 identical" in repr(report)


def test_identical_images_of_one_value_are_as_similar_as_can_be():
    blank = np.full((1, 16, 16), 7.0)
    assert leakage_report(blank, blank).table["similarity"].tolist() == [1.0]


def test_a_threshold_of_one_groups_identical_images():
    images = [PARTS[0], PARTS[1], PARTS[0]]
    assert near_duplicate_groups(images, threshold=1).tolist() == [0, 1, 0]


def test_leakage_of_more_images_than_one_block():
    others = [np.full((8, 8), value) for value in range(200)]
    report = leakage_report([PARTS[0]], [*others, PARTS[0].T])
    assert report.table["test"].tolist() == [200]
    report = leakage_report([*others, PARTS[0]], [PARTS[0].T])
    assert report.table["train"].tolist() == [200]


def test_the_picture_goes_from_the_least_to_the_most_similar():
    near, far = warp(PARTS[1], turn(5)), warp(PARTS[2], turn(33) @ np.diag([1.06, 1.0]))
    report = leakage_report([PARTS[0], near, far], [PARTS[0], PARTS[1], PARTS[2]])
    below = [ax.get_title().split("\n")[1] for ax in report.plot().axes if "\n" in ax.get_title()]
    assert below == [*sorted(below[:-1]), "identical"]
    matplotlib.pyplot.close("all")


def test_a_chain_of_three_does_not_join_its_ends():
    def mixed(share):
        return ((1 - share) * TEXTURES[0] + share * TEXTURES[1]).astype(np.uint8)

    chain = [mixed(0), mixed(0.5), mixed(1)]
    # The middle is as similar to either end, 0.3, and the ends are not to each other.
    groups = near_duplicate_groups([*chain, *TEXTURES[2:]], threshold=0.25)
    assert groups[0] != groups[2] and groups[1] in groups[[0, 2]]


def test_the_same_bytes_in_another_shape_are_no_copy():
    noise = np.random.default_rng(0).integers(0, 256, (16, 64), dtype=np.uint8)
    images = [noise, noise.reshape(32, 32), noise.view(np.int8)]
    assert near_duplicate_groups(images, threshold=1).tolist() == [0, 1, 2]


def test_files_with_a_palette_or_alpha_are_read_as_colours(tmp_path):
    indexed = Image.fromarray(255 - PARTS[0], "P")
    indexed.putpalette(np.repeat(np.arange(255, -1, -1), 3).astype(np.uint8).tobytes())
    indexed.save(tmp_path / "palette.png")
    see_through = Image.fromarray(PARTS[0]).convert("RGBA")
    see_through.putalpha(Image.fromarray(PARTS[1]))
    see_through.save(tmp_path / "alpha.png")
    for name in ("palette.png", "alpha.png"):
        np.testing.assert_array_equal(
            read_pixels(tmp_path / name), np.stack([PARTS[0]] * 3, axis=-1)
        )


def test_a_threshold_near_one_keeps_copies_in_another_light():
    images = [PARTS[0], PARTS[0] // 2 + 40, PARTS[1]]
    assert near_duplicate_groups(images, threshold=0.98).tolist() == [0, 0, 1]
