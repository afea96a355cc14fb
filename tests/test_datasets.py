"""Drawn castings, solar cells and folders of images."""

import random
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import binary_dilation
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from sklearn_ncae._castings import draw_casting
from sklearn_ncae.datasets import load_elpv, load_image_folder, make_castings


class TestMakeCastings:
    def test_content(self):
        castings = make_castings(5, 7, image_size=(48, 64), random_state=0)
        assert castings.images.shape == castings.masks.shape == (12, 48, 64)
        assert castings.images.dtype == np.uint8
        assert castings.masks.dtype == bool
        assert castings.target.tolist() == [1] * 5 + [-1] * 7
        assert castings.kind.dtype == object
        assert castings.kind.tolist() == ["good"] * 5 + [
            "blow_hole", "scratch", "burr", "blow_hole", "scratch", "burr", "blow_hole"
        ]  # fmt: skip
        assert "castings" in castings.DESCR

    @settings(max_examples=25, deadline=None)
    @given(size=st.tuples(st.integers(16, 90), st.integers(16, 90)), seed=st.integers(0, 2**32 - 1))
    def test_every_defect_shows_in_any_size(self, size, seed):
        castings = make_castings(1, 3, image_size=size, random_state=seed)
        assert castings.images.shape == (4, *size)
        area = castings.masks.mean(axis=(1, 2))
        assert area[0] == 0
        assert (area[1:] > 0).all()
        assert (area[1:] < 0.1).all()

    @pytest.mark.parametrize("size", [(128, 128), (48, 64)])
    @pytest.mark.parametrize("defect", ["blow_hole", "scratch", "burr"])
    def test_mask_is_where_the_defect_changed_the_part(self, size, defect):
        for seed in range(40):
            good, empty = draw_casting(size, None, np.random.default_rng(seed))
            bad, mask = draw_casting(size, defect, np.random.default_rng(seed))
            change = np.abs(bad.astype(float) - good)
            assert not empty.any()
            assert change[mask].mean() > 12
            assert change[mask].max() > 30
            assert (change[~binary_dilation(mask, iterations=2)] < 30).all()

    def test_square_and_default_size(self):
        assert make_castings(1, 0, image_size=20, random_state=0).images.shape == (1, 20, 20)
        assert make_castings(1, 0, random_state=0).images.shape == (1, 128, 128)

    def test_poses_and_lighting_vary(self):
        images = make_castings(20, 0, image_size=64, random_state=0).images.astype(float)
        assert images.std(axis=0).mean() > 8

    def test_seeds(self):
        def draw(seed, n_good=3, n_defect=3):
            return make_castings(n_good, n_defect, image_size=32, random_state=seed).images

        np.testing.assert_array_equal(draw(7), draw(7))
        np.testing.assert_array_equal(
            draw(np.random.RandomState(7)), draw(np.random.RandomState(7))
        )
        np.testing.assert_array_equal(draw(np.random.default_rng(7)), draw(7))
        assert (draw(7) != draw(8)).any()
        assert (draw(None) != draw(None)).any()
        stream = np.random.RandomState(7)
        assert (draw(stream) != draw(stream)).any()
        np.testing.assert_array_equal(draw(7, 3, 0), draw(7, 5, 2)[:3])
        np.testing.assert_array_equal(draw(7, 0, 2), draw(7, 4, 3)[4:6])

    def test_global_generators_are_untouched_and_unread(self):
        np.random.seed(0)
        random.seed(0)
        numpy_state, python_state = np.random.get_state()[1].copy(), random.getstate()
        first = make_castings(1, 1, image_size=32, random_state=3).images
        make_castings(1, 1, image_size=32)
        np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
        assert random.getstate() == python_state
        np.random.seed(1)
        second = make_castings(1, 1, image_size=32, random_state=3).images
        np.testing.assert_array_equal(first, second)

    def test_isolation_forest_does_not_solve_it(self):
        castings = make_castings(300, 90, image_size=64, random_state=0)
        flat = castings.images.reshape(390, -1)
        forest = IsolationForest(random_state=0).fit(flat[:200])
        assert roc_auc_score(castings.target[200:], forest.score_samples(flat[200:])) < 0.75
        brightness = roc_auc_score(castings.target, flat.mean(axis=1))
        assert 0.35 < brightness < 0.65

    @pytest.mark.parametrize("size", [15, (64, 8), (64,), (64, 64, 1), (64, 32.5)])
    def test_bad_size(self, size):
        with pytest.raises(ValueError, match="at least 16"):
            make_castings(1, 1, image_size=size)

    def test_bad_numbers(self):
        with pytest.raises(ValueError, match="at least one image"):
            make_castings(0, 0)
        with pytest.raises(ValueError, match="'n_good' parameter of make_castings"):
            make_castings(-1, 2)
        with pytest.raises(ValueError, match="'random_state' parameter"):
            make_castings(1, 2, random_state="x")


@pytest.fixture(scope="module")
def all_cells():
    """All cells, read once: decoding them takes seconds."""
    pytest.importorskip("elpv_dataset")
    return load_elpv(kind="all", size=(4, 4), uncertain=True, n_jobs=2)


class TestLoadElpv:
    def test_mono(self, all_cells):
        cells = load_elpv(kind="mono", size=(10, 12))
        assert cells.images.shape == (588 + 313, 10, 12)
        assert cells.images.dtype == np.uint8
        assert (cells.target == 1).sum() == 588
        assert (cells.target == -1).sum() == 313
        assert set(cells.kind) == {"mono"}
        assert cells.paths[0].endswith("cell0001.png")
        assert "CC BY-NC-SA 4.0" in cells.DESCR

        # Neither the other kind nor uncertain cells move the blocks.
        for block in ("train", "test"):
            indices = all_cells[block][all_cells.kind[all_cells[block]] == "mono"]
            np.testing.assert_array_equal(all_cells.paths[indices], cells.paths[cells[block]])

    def test_uncertain(self, all_cells):
        assert len(all_cells.target) == 2624
        np.testing.assert_allclose(np.unique(all_cells.probability), [0, 1 / 3, 2 / 3, 1])
        expected = {0.0: 1, 1.0: -1}
        assert all_cells.target.tolist() == [expected.get(p, 0) for p in all_cells.probability]

    def test_block_split(self, all_cells):
        for kind, n_cells in (("mono", 1074), ("poly", 1550)):
            of_kind = np.flatnonzero(all_cells.kind == kind)
            assert len(of_kind) == n_cells
            first, rest = np.split(of_kind, [int(0.6 * n_cells)])
            good, defect = (set(np.flatnonzero(all_cells.target == y)) for y in (1, -1))
            train, test = (set(all_cells[block]) & set(of_kind) for block in ("train", "test"))
            assert train == set(first) & good
            assert test == set(rest) & (good | defect)

    def test_bad_kind(self):
        pytest.importorskip("elpv_dataset")
        with pytest.raises(ValueError, match="'kind' parameter of load_elpv"):
            load_elpv(kind="thin film")

    def test_missing_package_names_the_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "elpv_dataset", None)
        with pytest.raises(ImportError, match=r"sklearn-ncae\[demo\]"):
            load_elpv()


@pytest.fixture
def tree(tmp_path):
    """Return a function that writes small images at the given places."""

    def write(*places):
        for i, place in enumerate(places):
            path = tmp_path / "data" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (6, 4), color=i).save(path)
        return tmp_path / "data"

    return write


class TestLoadImageFolder:
    def test_plain(self, tree):
        folder = tree("good/b.png", "defect/a.png", "good/a.PNG", "good/deeper/c.bmp")
        parts = load_image_folder(folder)
        assert parts.kind.tolist() == ["defect", "good", "good", "good"]
        assert parts.target.tolist() == [-1, 1, 1, 1]
        assert parts.split.tolist() == [""] * 4
        assert parts.images[:, 0, 0].tolist() == [1, 2, 0, 3]
        assert parts.images.shape == (4, 4, 6)
        assert parts.paths.dtype == object
        assert all(isinstance(path, str) for path in parts.paths)
        assert "good (3 images)" in parts.DESCR

    def test_kaggle_casting(self, tree):
        folder = tree(
            "train/ok_front/0.png", "train/def_front/0.png",
            "test/ok_front/0.png", "test/def_front/0.png",
        )  # fmt: skip
        parts = load_image_folder(folder)
        assert parts.split.tolist() == ["test", "test", "train", "train"]
        assert parts.kind.tolist() == ["def_front", "ok_front"] * 2
        assert parts.target.tolist() == [-1, 1, -1, 1]

    def test_mvtec(self, tree):
        folder = tree(
            "train/good/0.png", "test/good/0.png", "test/crack/0.png", "test/cut/0.png",
            "ground_truth/crack/0_mask.png",
        )  # fmt: skip
        parts = load_image_folder(folder)
        assert parts.kind.tolist() == ["crack", "cut", "good", "good"]
        assert parts.target.tolist() == [-1, -1, 1, 1]

    def test_paths_only(self, tree):
        parts = load_image_folder(tree("good/0.png", "bad/0.png"), load=False)
        assert "images" not in parts
        assert len(parts.paths) == 2

    def test_parameters_are_checked_without_reading(self, tree):
        folder = tree("good/0.png", "bad/0.png")
        with pytest.raises(ValueError, match="'mode' parameter"):
            load_image_folder(folder, load=False, mode="bogus")
        with pytest.raises(ValueError, match="size must be"):
            load_image_folder(folder, load=False, size=(-1,))

    def test_reading_options(self, tree):
        folder = tree("good/0.png", "bad/0.png")
        parts = load_image_folder(str(folder), size=(2, 3), mode="color", dtype="float32", n_jobs=2)
        assert parts.images.shape == (2, 2, 3, 3)
        assert parts.images.dtype == np.float32

    def test_own_names(self, tree):
        folder = tree("Fine/0.png", "bad/0.png", "ugly/0.png", "unsorted/0.png")
        parts = load_image_folder(folder, good="fine", defect=["bad", "ugly"])
        assert parts.kind.tolist() == ["Fine", "bad", "ugly"]
        assert parts.target.tolist() == [1, -1, -1]
        parts = load_image_folder(folder, good=["fine", "unsorted"], defect="bad")
        assert parts.kind.tolist() == ["Fine", "bad", "unsorted"]

    def test_good_images_only(self, tree):
        assert load_image_folder(tree("good/0.png")).target.tolist() == [1]

    def test_other_files_are_left_out(self, tree):
        folder = tree("good/0.png", "preview.png", "good/._0.png", ".cache/0.png", "train/a.png")
        (folder / "good" / "notes.txt").write_text("x")
        (folder / "good" / "folder.png").mkdir()
        assert len(load_image_folder(folder).paths) == 1

    def test_unreadable_files_are_left_out_with_their_labels(self, tree):
        folder = tree("good/0.png", "good/1.png", "good/2.png", "defect/3.png", "defect/4.png")
        for damaged in ("good/1.png", "defect/3.png"):
            (folder / damaged).write_bytes(b"")
        with pytest.warns(UserWarning):
            parts = load_image_folder(folder, on_error="skip")
        assert parts.images[:, 0, 0].tolist() == [4, 0, 2]
        assert parts.target.tolist() == [-1, 1, 1] and len(parts.paths) == 3

    def test_missing_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no folder '.*absent'"):
            load_image_folder(tmp_path / "absent")

    def test_no_images(self, tmp_path):
        with pytest.raises(ValueError, match="No images in subfolders of"):
            load_image_folder(tmp_path)

    def test_no_good_folder_lists_what_was_found(self, tree):
        folder = tree("train/fine/0.png", "test/bad/0.png", "test/bad/1.png")
        message = r"found test/bad \(2 images\), train/fine \(1 images\).*good="
        with pytest.raises(ValueError, match=message):
            load_image_folder(folder)

    def test_no_defect_folder_lists_what_was_found(self, tree):
        with pytest.raises(ValueError, match=r"\['dent'\] in .*found bad \(1 images\), good"):
            load_image_folder(tree("good/0.png", "bad/0.png"), defect=["bad", "dent"])

    def test_contradicting_names(self, tree):
        with pytest.raises(ValueError, match="both as good and as defect"):
            load_image_folder(tree("good/0.png"), defect="Good")
