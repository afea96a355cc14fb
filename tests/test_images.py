"""Reading image files into arrays."""

import sys
import threading
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

from sklearn_ncae import images
from sklearn_ncae.images import ImageLoader, read_image
from sklearn_ncae.residuals import ResidualStatistics


def flatten(X):
    return X.reshape(len(X), -1)


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, size=(5, 12, 16), dtype=np.uint8)


@pytest.fixture
def paths(tmp_path, noise):
    files = [tmp_path / f"part_{i}.png" for i in range(len(noise))]
    for file, image in zip(files, noise, strict=True):
        Image.fromarray(image).save(file)
    return files


class TestPixels:
    def test_gray_file_is_read_unchanged(self, paths, noise):
        images = ImageLoader().fit_transform(paths)
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, noise)

    @pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
    def test_16_bit_gray_keeps_its_precision(self, tmp_path, suffix):
        deep = np.random.default_rng(1).integers(0, 65536, size=(6, 8), dtype=np.uint16)
        file = tmp_path / f"deep.{suffix}"
        Image.fromarray(deep).save(file)
        np.testing.assert_array_equal(read_image(file, dtype="uint16"), deep)
        np.testing.assert_allclose(read_image(file, dtype="float32"), deep / 65535, rtol=1e-6)
        np.testing.assert_array_equal(read_image(file), np.rint(deep / 257).astype(np.uint8))

    def test_big_endian_16_bit_tiff(self, tmp_path):
        deep = np.array([[1, 256, 65535]], dtype=np.uint16)
        file = tmp_path / "deep.tif"
        Image.frombytes("I;16B", (3, 1), deep.astype(">u2").tobytes()).save(file)
        np.testing.assert_array_equal(read_image(file, dtype="uint16"), deep)

    def test_8_bit_file_fills_the_range_of_every_type(self, tmp_path):
        Image.fromarray(np.array([[0, 51, 255]], dtype=np.uint8)).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png", dtype="uint16").tolist() == [[0, 13107, 65535]]
        as_float = read_image(tmp_path / "a.png", dtype="float32")
        assert as_float.dtype == np.float32
        np.testing.assert_allclose(as_float, [[0, 0.2, 1]], rtol=1e-6)

    def test_color(self, tmp_path):
        color = np.random.default_rng(2).integers(0, 256, size=(4, 6, 3), dtype=np.uint8)
        Image.fromarray(color).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png", mode="color"), color)
        scaled = read_image(tmp_path / "a.png", mode="color", dtype="float32")
        np.testing.assert_allclose(scaled, color / 255, rtol=1e-6)
        luminance = color @ [0.299, 0.587, 0.114]
        np.testing.assert_allclose(read_image(tmp_path / "a.png"), luminance, atol=1)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    def test_gray_file_as_color_repeats_its_channel(self, tmp_path, dtype):
        Image.fromarray(np.arange(12, dtype=dtype).reshape(3, 4)).save(tmp_path / "a.png")
        image = read_image(tmp_path / "a.png", mode="color", dtype=dtype)
        assert image.shape == (3, 4, 3)
        np.testing.assert_array_equal(image[..., 0], np.arange(12).reshape(3, 4))
        assert (image == image[..., :1]).all()

    @pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK"])
    def test_other_pillow_modes(self, tmp_path, mode):
        file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
        Image.new("RGB", (4, 3), "white").convert(mode).save(file)
        assert (read_image(file) == 255).all()
        assert (read_image(file, mode="color") == 255).all()

    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    @pytest.mark.parametrize("output", ["uint8", "uint16", "float32"])
    def test_size_averages_areas(self, tmp_path, dtype, output):
        top = np.iinfo(dtype).max
        full = np.random.default_rng(3).integers(0, top + 1, size=(8, 12)).astype(dtype)
        Image.fromarray(full).save(tmp_path / "a.png")
        image = read_image(tmp_path / "a.png", size=(4, 3), dtype=output)
        scale = 1.0 if output == "float32" else np.iinfo(output).max
        mean = full.reshape(4, 2, 3, 4).mean(axis=(1, 3)) / top * scale
        np.testing.assert_allclose(image, mean, atol=1e-6 if output == "float32" else 1)

    def test_exif_orientation_is_applied(self, tmp_path):
        image = Image.fromarray(np.array([[0, 0, 255, 255]] * 2, dtype=np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6  # taken with the camera turned: show it rotated by 90 degrees clockwise
        image.save(tmp_path / "a.png", exif=exif)
        # Pillow would map an uncompressed file into memory, and turn it wrongly.
        image.save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
        for name in ("a.png", "a.tif"):
            upright = read_image(tmp_path / name)
            np.testing.assert_array_equal(upright, [[0, 0], [0, 0], [255, 255], [255, 255]])


class TestPaths:
    @pytest.mark.parametrize(
        "form",
        [
            lambda p: [str(file) for file in p],
            tuple,
            lambda p: np.array([str(file) for file in p]),
            lambda p: np.array(p, dtype=object),
            lambda p: np.array(p, dtype=object).reshape(-1, 1),
            lambda p: [[file] for file in p],
        ],
        ids=["str", "tuple", "str array", "object array", "column", "nested list"],
    )
    def test_array_likes(self, paths, noise, form):
        np.testing.assert_array_equal(ImageLoader().fit_transform(form(paths)), noise)

    def test_pandas(self, paths, noise):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame({"path": [str(file) for file in paths]})
        np.testing.assert_array_equal(ImageLoader().fit_transform(frame), noise)
        np.testing.assert_array_equal(ImageLoader().fit_transform(frame["path"]), noise)

    def test_threads_give_the_same_in_the_same_order(self, paths, noise):
        np.testing.assert_array_equal(ImageLoader(n_jobs=2).fit_transform(paths), noise)
        with joblib.parallel_config(n_jobs=2):
            np.testing.assert_array_equal(ImageLoader().fit_transform(paths), noise)

    def test_transform_needs_no_fit(self, paths, noise):
        np.testing.assert_array_equal(ImageLoader().transform(paths), noise)
        assert not get_tags(ImageLoader()).requires_fit


class TestErrors:
    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_different_sizes_name_the_first_two_that_differ(self, tmp_path, paths, n_jobs):
        other = tmp_path / "other.png"
        Image.new("L", (5, 7)).save(other)
        message = r"part_0\.png has .*\(12, 16\), .*other\.png has \(7, 5\)\. Set size="
        with pytest.raises(ValueError, match=message):
            ImageLoader(n_jobs=n_jobs).fit_transform([*paths[:3], other, paths[3]])
        assert ImageLoader(size=(4, 4)).fit_transform([*paths, other]).shape == (6, 4, 4)
        # Files that are skipped are not among them.
        absent = tmp_path / "absent.png"
        with pytest.raises(ValueError, match=message):
            ImageLoader(n_jobs=n_jobs, on_error="skip").fit_transform([absent, *paths[:3], other])

    def test_missing_file_is_named(self, paths):
        with pytest.raises(FileNotFoundError, match=r"no image file '.*absent\.png'"):
            ImageLoader().fit_transform([*paths, paths[0].with_name("absent.png")])

    def test_truncated_file_is_named(self, paths):
        paths[1].write_bytes(paths[1].read_bytes()[:100])
        with pytest.raises(OSError, match=r"Cannot read '.*part_1\.png' as an image"):
            ImageLoader().fit_transform(paths)

    @pytest.mark.parametrize("content", [b"", b"not an image"])
    def test_file_that_is_no_image_is_named(self, paths, content):
        paths[2].write_bytes(content)
        with pytest.raises(OSError, match=r"Cannot read '.*part_2\.png' as an image"):
            ImageLoader().fit_transform(paths)

    def test_folder_is_named(self, tmp_path):
        with pytest.raises(IsADirectoryError, match="Cannot read") as caught:
            read_image(tmp_path)
        assert "damaged" not in str(caught.value)

    def test_lack_of_memory_is_not_called_damage(self, paths, monkeypatch):
        def fail(path):
            raise MemoryError

        monkeypatch.setattr("PIL.ImageOps.exif_transpose", fail)
        with pytest.raises(OSError, match=r"part_0\.png.: there is not enough memory"):
            read_image(paths[0])

    @pytest.mark.parametrize("mode", ["I", "F"])
    def test_32_bit_pixels_have_no_scale(self, tmp_path, mode):
        Image.new(mode, (4, 3)).save(tmp_path / "a.tif")
        with pytest.raises(ValueError, match=r"a\.tif' has 32-bit pixels"):
            read_image(tmp_path / "a.tif")

    @pytest.mark.parametrize("X", [np.zeros((3, 4, 4)), np.arange(3.0), [b"a.png"], [1], [None]])
    def test_no_paths(self, X):
        with pytest.raises(TypeError, match=r"list, 1-D array or single column of paths.*got "):
            ImageLoader().fit(X)

    @pytest.mark.parametrize("X", ["a.png", Path("a.png")])
    def test_a_single_path(self, X):
        with pytest.raises(TypeError, match=r"Pass \[path\]"):
            ImageLoader().fit(X)

    def test_not_an_array_like(self):
        with pytest.raises(TypeError, match="int values"):
            ImageLoader().fit(3)

    @pytest.mark.parametrize("X", [[], np.zeros((0, 1))])
    def test_no_images(self, X):
        with pytest.raises(ValueError, match="at least one image"):
            ImageLoader().fit(X)

    def test_two_columns(self):
        with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
            ImageLoader().fit([["a", "b"], ["c", "d"]])

    @pytest.mark.parametrize("size", [(4,), (4, 0), (4, 2.5), [1, 2, 3], (4, -1)])
    def test_bad_size(self, paths, size):
        for call in (ImageLoader(size=size).fit, ImageLoader(size=size).transform):
            with pytest.raises(ValueError, match=r"size must be None or \(height, width\)"):
                call(paths)

    @pytest.mark.parametrize(
        "parameters", [{"mode": "rgb"}, {"dtype": "float64"}, {"size": 4}, {"n_jobs": 1.5}]
    )
    def test_bad_parameters(self, paths, parameters):
        (name,) = parameters
        for call in (ImageLoader(**parameters).fit, ImageLoader(**parameters).transform):
            with pytest.raises(ValueError, match=f"The '{name}' parameter of ImageLoader"):
                call(paths)

    def test_missing_pillow_names_the_extra(self, paths, monkeypatch):
        monkeypatch.setitem(sys.modules, "PIL.Image", None)
        with pytest.raises(ImportError, match=r"sklearn-ncae\[images\]"):
            read_image(paths[0])


class TestInScikitLearn:
    def test_clone(self):
        loader = ImageLoader(size=(4, 5), mode="color", dtype="uint16", n_jobs=2)
        assert clone(loader).get_params() == loader.get_params()
        assert loader.get_params() == {
            "size": (4, 5),
            "mode": "color",
            "dtype": "uint16",
            "n_jobs": 2,
            "on_error": "raise",
        }

    @pytest.mark.parametrize("as_array", [False, True])
    def test_grid_search_splits_paths(self, tmp_path, as_array):
        generator = np.random.default_rng(0)
        y = np.array([1] * 16 + [-1] * 8)
        files = []
        for i, label in enumerate(y):
            low, high = (100, 130) if label == 1 else (0, 256)
            image = generator.integers(low, high, size=(8, 8), dtype=np.uint8)
            files.append(str(tmp_path / f"{i}.png"))
            Image.fromarray(image).save(files[-1])
        pipeline = make_pipeline(
            ImageLoader(size=(4, 4)),
            FunctionTransformer(flatten),
            IsolationForest(n_estimators=20, random_state=0),
        )
        search = GridSearchCV(
            pipeline,
            {"imageloader__size": [(4, 4), (8, 8)]},
            scoring="roc_auc",
            cv=StratifiedKFold(4, shuffle=True, random_state=0),
        )
        search.fit(np.array(files, dtype=object) if as_array else files, y)
        assert search.best_score_ > 0.9
        assert search.predict(files[:3]).shape == (3,)

    def test_a_bad_file_fails_its_fold_with_its_name(self, paths):
        paths[0].write_bytes(b"")
        pipeline = make_pipeline(ImageLoader(), FunctionTransformer(flatten), IsolationForest())
        search = GridSearchCV(pipeline, {"imageloader__size": [None]}, cv=2, scoring="roc_auc")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitFailedWarning)
            warnings.simplefilter("ignore", UserWarning)
            with pytest.raises(OSError, match=r"part_0\.png"):
                search.fit(paths, [1, -1, 1, -1, 1])


@pytest.mark.parametrize(("factor", "warns"), [(1, True), (16, False)])
def test_twelve_bits_in_sixteen_are_pointed_out(tmp_path, factor, warns):
    values = factor * np.arange(4096, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(values).save(tmp_path / "part.png")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = read_image(tmp_path / "part.png")
        np.testing.assert_array_equal(read_image(tmp_path / "part.png", dtype="uint16"), values)
    assert len(caught) == warns and len(np.unique(image)) == (17 if warns else 256)


def test_one_file_of_few_gray_levels_among_others_is_pointed_out(tmp_path):
    few, eight_bits, black = (str(tmp_path / f"{name}.png") for name in ("few", "eight", "black"))
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(few)
    Image.fromarray(np.full((4, 4), 200, np.uint8)).save(eight_bits)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(black)
    with pytest.warns(UserWarning, match="no value above 4095"):
        ImageLoader().transform([few, eight_bits])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ImageLoader().transform([black, eight_bits])  # black is as dark in 16 bits as in 12


def test_files_are_read_by_as_many_threads_as_asked_for(paths, monkeypatch):
    decode, both = images._decode, threading.Barrier(2, timeout=20)

    def meet(*arguments):
        both.wait()  # for another read at the same time
        return decode(*arguments)

    monkeypatch.setattr(images, "_decode", meet)
    assert ImageLoader(n_jobs=2).transform(paths[:4]).shape == (4, 12, 16)


def test_other_steps_of_a_pipeline_may_return_tables(paths):
    pipeline = make_pipeline(ImageLoader(), ResidualStatistics(["mse", "max"]))
    table = pipeline.set_output(transform="pandas").fit_transform(paths)
    assert list(table.columns) == ["mse", "max"]


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_of_few_gray_levels_the_line_that_called_is_warned(tmp_path, n_jobs):
    path = str(tmp_path / "part.png")
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(path)
    with pytest.warns(UserWarning, match="no value above 4095") as caught:
        ImageLoader(n_jobs=n_jobs).transform([path, path])
    assert [one.filename for one in caught] == [__file__]


def test_what_was_skipped_is_of_the_last_files_only(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "part.png")
    good, bad = str(tmp_path / "part.png"), str(tmp_path / "missing.png")
    loader = ImageLoader(on_error="skip")
    with pytest.warns(UserWarning, match="1 of 2 files"):
        loader.transform([good, bad])
    assert list(loader.unreadable_) == [1]
    with pytest.raises(FileNotFoundError):
        loader.transform([bad])
    assert not hasattr(loader, "unreadable_")


def test_a_generator_of_paths_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"got a generator, .* sorted\(folder\.glob"):
        ImageLoader().transform(path for path in [tmp_path])
