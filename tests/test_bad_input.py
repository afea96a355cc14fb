"""Whatever a tool is given, it refuses, or answers as for a plain float64 array."""

import os
import warnings

import bad_input
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from sklearn_ncae import ImageLoader, NCAEDetector
from sklearn_ncae.datasets import load_image_folder
from sklearn_ncae.images import read_image
from sklearn_ncae.metrics import aupro_score

pytestmark = pytest.mark.filterwarnings(
    "ignore:overflow encountered",
    "ignore:invalid value encountered",
    "ignore:The images have values",  # of another unit, as many are here
    "ignore:.* for images of height 1",
)


@pytest.fixture(scope="module")
def tools(eagerly):
    with eagerly(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield bad_input.Tools(bad_input.example_images()).by_name


def check(tool, given, reference):
    """An error with a message, or the answer to the same values as float64."""
    found = bad_input.answer(tool, given)
    if isinstance(found, Exception):
        assert str(found)
        return
    assert reference is not None, "answered where no plain array says the same"
    expected = bad_input.answer(tool, reference)
    assert not isinstance(expected, Exception), expected
    assert np.isfinite(found).all()
    largest = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * largest)


def test_all_tools_are_tried(tools):
    assert tuple(tools) == bad_input.Tools.NAMES


@pytest.mark.parametrize("case", bad_input.ARRAYS)
@pytest.mark.parametrize("tool", bad_input.Tools.NAMES)
def test_arrays(tools, tool, case):
    if (tool, case) in bad_input.ANSWERED_WITHOUT_REFERENCE:
        assert isinstance(bad_input.answer(tools[tool], make(case)), np.ndarray)
        return
    check(tools[tool], make(case), bad_input.plain(make(case)))


def make(case):
    return bad_input.ARRAYS[case](bad_input.example_images())


@pytest.mark.parametrize("tool", bad_input.Tools.NAMES)
def test_the_input_is_not_changed(tools, tool):
    X = bad_input.example_images()
    bad_input.answer(tools[tool], X)
    np.testing.assert_array_equal(X, bad_input.example_images())


DTYPES = ["?", "i1", "<i2", ">i4", "<i8", "u1", "<u4", "<u8", "<f2", ">f4", "<f4", "<f8", "<c8"]
LAYOUTS = {
    "as it is": lambda X: X,
    "mirrored": lambda X: X[(slice(None, None, -1),) * X.ndim],
    "Fortran order": np.asfortranarray,
    "lists": lambda X: X.tolist(),
    "flat": lambda X: X.reshape(len(X), -1),
    "masked": np.ma.masked_invalid,
}


@st.composite
def images(draw):
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    # As many as a tool has masks for, as few as it takes, or anything.
    of_images = st.sampled_from([(8, 16, 16), (2, 16, 16)])
    shape = draw(st.one_of(of_images, hnp.array_shapes(max_dims=4, max_side=16)))
    return draw(hnp.arrays(dtype, shape))


@pytest.mark.parametrize("tool", bad_input.GENERATED)
@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(X=images(), layout=st.sampled_from(sorted(LAYOUTS)))
@example(X=np.full((2, 16, 16), 4.3611667e8, ">f4"), layout="as it is")
@example(X=np.array([[1e-7]], "<f2"), layout="Fortran order")
@example(X=np.array([[0, 1e-7, 0]], "<f4"), layout="as it is")
def test_generated_arrays(tools, tool, X, layout):
    X = LAYOUTS[layout](X)
    reference = bad_input.plain(X)
    if reference is not None and np.isfinite(reference).all():
        # Sums of values that are this far apart depend on their order.
        smallest = np.abs(reference[reference != 0]).min(initial=np.inf)
        if np.abs(reference).max(initial=0) > 1e6 * smallest:
            found = bad_input.answer(tools[tool], X)
            assert isinstance(found, Exception) or (found.size and np.isfinite(found).all())
            return
    check(tools[tool], X, reference)


@pytest.mark.parametrize("masks", [np.full((8, 16, 16), np.nan), np.full((8, 16, 16), "0")])
def test_masks_that_are_no_masks(masks):
    with pytest.raises((TypeError, ValueError), match="mask of image 0"):
        aupro_score(masks, np.zeros((8, 16, 16)))


class TestFiles:
    @pytest.fixture
    def gray(self):
        image = np.random.default_rng(0).integers(0, 256, (16, 12), dtype=np.uint8)
        return Image.fromarray(image)

    @pytest.fixture
    def beside(self, tmp_path, gray):
        """Files that can be read, before and after the one that is tried."""
        paths = [tmp_path / "0.png", tmp_path / "tried.png", tmp_path / "2.png"]
        for path in (paths[0], paths[2]):
            gray.save(path)
        return paths

    @pytest.mark.parametrize("case", bad_input.FILES)
    def test_is_read_or_refused_by_name(self, case, gray, beside):
        write, is_read = bad_input.FILES[case]
        write(beside[1], gray)
        if is_read:
            np.testing.assert_array_equal(read_image(beside[1]), gray)
            expected = np.asarray(gray) / np.float32(255)
            np.testing.assert_allclose(read_image(beside[1], dtype="float32"), expected, rtol=1e-6)
            assert read_image(beside[1], mode="color").shape == (16, 12, 3)
            return
        with pytest.raises((OSError, ValueError), match=r"tried\.png"):
            read_image(beside[1])
        with pytest.raises((OSError, ValueError), match=r"tried\.png"):
            ImageLoader().transform(beside)

    @pytest.mark.parametrize("n_jobs", [1, 2])
    @pytest.mark.parametrize(
        "case", [c for c, (_, is_read) in bad_input.FILES.items() if not is_read]
    )
    def test_the_others_are_not_lost(self, case, n_jobs, gray, beside):
        bad_input.FILES[case][0](beside[1], gray)
        loader = ImageLoader(on_error="skip", n_jobs=n_jobs)
        with pytest.warns(UserWarning, match=r"1 of 3 files cannot be read.*tried\.png"):
            images = loader.transform(beside)
        np.testing.assert_array_equal(images[[0, 2]], [gray, gray])
        assert not images[1].any()
        assert list(loader.unreadable_) == [1]
        assert "tried.png" in loader.unreadable_[1]
        assert ImageLoader(on_error="skip").fit_transform(beside[::2]).shape == (2, 16, 12)

    def test_the_first_file_may_be_the_bad_one(self, gray, beside):
        with pytest.warns(UserWarning, match="1 of 3"):
            images = ImageLoader(on_error="skip", dtype="float32").transform(
                [beside[1], beside[0], beside[2]]
            )
        assert images.dtype == np.float32
        np.testing.assert_array_equal(images[0], 0)

    def test_nothing_to_read(self, beside):
        with pytest.raises(OSError, match=r"tried\.png"):
            ImageLoader(on_error="skip").transform([beside[1]])

    @pytest.mark.parametrize("name", bad_input.NAMES)
    def test_odd_names(self, name, gray, tmp_path):
        try:
            gray.save(tmp_path / name)
        except OSError:
            pytest.skip("this file system does not take the name")
        np.testing.assert_array_equal(read_image(tmp_path / name), gray)

    def test_a_name_with_a_null_byte(self):
        with pytest.raises(OSError, match="Cannot read"):
            read_image("a\0b.png")

    @pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
    )
    def test_no_permission(self, gray, tmp_path):
        (tmp_path / "folder").mkdir()
        gray.save(tmp_path / "folder" / "a.png")
        (tmp_path / "folder").chmod(0)
        try:
            with pytest.raises(PermissionError, match=r"a\.png"):
                read_image(tmp_path / "folder" / "a.png")
        finally:
            (tmp_path / "folder").chmod(0o700)

    def test_a_folder_leaves_the_bad_file_out(self, gray, tmp_path):
        for name in ("good/0.png", "good/1.png", "scratch/0.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            gray.save(tmp_path / name)
        (tmp_path / "good" / "0.png").write_bytes(b"")
        with pytest.raises(OSError, match=r"0\.png"):
            load_image_folder(tmp_path)
        with pytest.warns(UserWarning, match=r"0\.png"):
            parts = load_image_folder(tmp_path, on_error="skip")
        assert parts.images.shape == (2, 16, 12)
        assert [os.path.relpath(p, tmp_path) for p in parts.paths] == [
            "good/1.png",
            "scratch/0.png",
        ]
        assert parts.target.tolist() == [1, -1]
        assert parts.kind.tolist() == ["good", "scratch"]
        assert parts.split.tolist() == ["", ""]


def test_a_detector_is_as_it_was_after_bad_input(good_images):
    detector = NCAEDetector(filters=(2,), epochs=1, contamination=0.1, random_state=0)
    scores = detector.fit(good_images).score_samples(good_images)
    for case in ("nan", "complex", "no image", "mixed sizes", "1e200 times"):
        with pytest.raises(bad_input.ANSWERS):
            detector.score_samples(make(case))
    np.testing.assert_array_equal(detector.score_samples(good_images), scores)
