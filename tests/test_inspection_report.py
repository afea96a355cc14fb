import json
import os
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sklearn_ncae import ResidualDetector
from sklearn_ncae._atomic import replacing
from sklearn_ncae._image_arrays import full_scale
from sklearn_ncae._overlay import (
    common_scale,
    map_levels,
    overlay_picture,
    picture_of,
    shrunk,
)
from sklearn_ncae.baselines import MeanBrightnessDetector, PCAReconstructor
from sklearn_ncae.inspection import write_report


@pytest.fixture(scope="module")
def detector(good_images):
    return ResidualDetector(PCAReconstructor(4), false_alarm_rate=0.2, random_state=0).fit(
        good_images
    )


def data_of(path):
    page = path.read_text(encoding="utf-8")
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)


def test_the_data_are_those_of_the_detector(tmp_path, detector, labelled_images):
    images, labels = labelled_images
    seen = []
    path = write_report(
        tmp_path / "report.html",
        detector,
        images,
        labels,
        summary={"Trained on": 32},
        costs={"missed_defect": 500, "false_alarm": 20, "defect_rate": 0.01},
        progress=seen.append,
    )
    data = data_of(path)
    assert data["scores"] == detector.score_samples(images).tolist()
    assert data["p_values"] == detector.p_values(images).tolist()
    assert data["labels"] == labels.tolist()
    assert data["names"] == [str(i) for i in range(48)]
    assert data["threshold"] == detector.offset_
    assert data["costs"] == {"missed_defect": 500, "false_alarm": 20, "defect_rate": 0.01}
    assert data["summary"] == [["Trained on", "32"]]
    assert len(seen) == len(data["thumbs"]) == len(data["maps"]) == 48
    assert data["errors"] == data["leaks"] == []


def test_numbers_of_numpy_and_series_of_names(tmp_path, detector, good_images):
    names = pd.Series(["n0", "n1", "n2"], index=[1, 2, 0])
    leak = {"test": 1, "train": 5, "identical": True, "similarity": 1.0}
    path = write_report(
        tmp_path / "report.html",
        detector,
        good_images[:3],
        names=names,
        threshold=np.float32(-3),
        costs={"missed_defect": np.int64(5), "false_alarm": 1},
        leakage=SimpleNamespace(table=pd.DataFrame([leak])),
    )
    data = data_of(path)
    assert data["names"] == ["n0", "n1", "n2"] and data["leaks"][0][0] == "n1"
    assert data["threshold"] == -3 and data["costs"]["missed_defect"] == 5
    with pytest.raises(ValueError, match="must be a finite number"):
        write_report(path, detector, good_images[:3], threshold=np.nan)


def test_without_labels_p_values_and_maps(tmp_path, good_images):
    detector = MeanBrightnessDetector().fit(good_images)
    data = data_of(write_report(tmp_path / "report.html", detector, good_images, threshold=-1.0))
    assert data["labels"] is None and data["maps"] is None and set(data["p_values"]) == {None}
    assert data["threshold"] == -1.0


def test_bad_files_are_listed_and_labels_stay_with_their_images(tmp_path, detector, good_images):
    files = []
    for i in range(4):
        files.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(good_images[i]).save(files[-1])
    (tmp_path / "1.png").write_text("no image")
    data = data_of(write_report(tmp_path / "report.html", detector, files, [1, 1, -1, 1]))
    assert data["names"] == [files[0], files[2], files[3]] and data["labels"] == [1, -1, 1]
    assert [name for name, _ in data["errors"]] == [files[1]]


def test_nothing_in_the_data_ends_the_script(tmp_path, detector, good_images):
    evil = "</script><script>alert('1')</script>\"&<!--\u2028\udc80.png"
    path = write_report(
        tmp_path / "report.html",
        detector,
        good_images[:1],
        names=[evil],
        summary={evil: evil},
        title=evil + " {{js}}",
    )
    page = path.read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script") == 2
    assert data_of(path)["names"] == [evil]
    assert "<title>&lt;/script&gt;" in page and "{{js}}</title>" in page


def test_a_single_path(tmp_path, detector, good_images):
    file = tmp_path / "part.png"
    Image.fromarray(good_images[0]).save(file)
    for one in (file, str(file)):
        page = write_report(tmp_path / "report.html", detector, one, [1]).read_text("utf-8")
        assert "part.png" in page


def test_copies_of_training_images(tmp_path, detector, good_images):
    import pandas as pd

    table = pd.DataFrame(
        {
            "test": [0, 1],
            "train": [3, 4],
            "similarity": [1.0, 1.0],
            "identical": [True, False],
            "train_path": ["t3.png", "t4.png"],
        }
    )
    report = write_report(
        tmp_path / "report.html",
        detector,
        good_images[:2],
        names=["a", "b"],
        leakage=SimpleNamespace(table=table),
    )
    assert data_of(report)["leaks"] == [["a", "t3.png", 1.0], ["b", "t4.png", 0.999]]
    table["test_path"] = ["x.png", "y.png"]
    report = write_report(report, detector, good_images[:2], leakage=SimpleNamespace(table=table))
    assert data_of(report)["leaks"][0][0] == "x.png"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"X": []}, "holds no image"),
        ({"y": [1]}, "y has 1 entries for 40 images"),
        ({"names": ["a", "b"]}, "names has 2 entries for 40 images"),
        ({"thumbnail_size": 4}, "thumbnail_size=4 must be at least 16"),
        ({"costs": {"missed": 3}}, "costs must be a dict"),
        ({"y": [2] * 40}, "pass pos_label"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, detector, good_images, options, message):
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path / "report.html", detector, **{"X": good_images, **options})
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_the_old_report(tmp_path, detector, good_images):
    path = tmp_path / "report.html"
    path.write_text("old")

    def interrupt(one):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(path, detector, good_images, progress=interrupt)
    with pytest.raises(RuntimeError), replacing(path) as written:
        written.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    link = tmp_path / "link.html"
    link.symlink_to(path)
    write_report(link, detector, good_images)
    assert link.is_symlink() and data_of(path)["names"][0] == "0"


def test_where_a_file_cannot_be(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder"), replacing(tmp_path):
        pass
    with pytest.raises(FileNotFoundError, match="no folder"), replacing(tmp_path / "no" / "file"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="permissions and pipes of POSIX")
def test_a_replaced_file_keeps_its_permissions_and_a_pipe_is_written_to(tmp_path):
    file, pipe = tmp_path / "scores.csv", tmp_path / "pipe"
    file.touch(mode=0o600)
    with replacing(file) as written:
        written.write_text("new")
    assert file.read_text() == "new" and file.stat().st_mode & 0o777 == 0o600
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with replacing(pipe) as written:
            written.write_text("new")
        assert os.read(reader, 10) == b"new" and pipe.is_fifo()
    finally:
        os.close(reader)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3), (9, 7, 2)])
def test_pictures_of_any_image(dtype, shape):
    top = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    image = np.full(shape, top, dtype)
    image[0] = 0
    picture = picture_of(image)
    assert picture.size == (7, 9) and picture.mode == ("RGB" if shape[2:] == (3,) else "L")
    assert picture.getextrema() in [(0, 255), ((0, 255),) * 3]
    low, high = picture_of(image.astype(np.float64) * 5 - 3).convert("L").getextrema()
    assert (low, high) == (0, 255)


def test_maps_are_transparent_but_for_deviations():
    of_image = np.full((100, 260), 0.2, np.float32)
    assert map_levels(of_image, 0.2, 1) is None
    of_image[50, 200] = 1
    small = map_levels(shrunk(of_image, 64), 0.2, 1)
    assert small.size == (64, 25)
    alpha = np.asarray(small.convert("RGBA"))[..., 3]
    assert alpha.max() > 150 and np.count_nonzero(alpha) <= 9
    rows, columns = np.nonzero(alpha)
    assert abs(rows.mean() / 25 - 0.505) < 0.03 and abs(columns.mean() / 64 - 0.77) < 0.02

    marked = np.asarray(overlay_picture(np.full((100, 260), 100, np.uint8), of_image))
    assert (marked[50, 200] != 100).all() and (marked[:50] == 100).all()
    plain = overlay_picture(np.full((4, 4), 100, np.uint8), np.ones((4, 4), np.float32))
    assert (np.asarray(plain) == 100).all()


@pytest.mark.parametrize("shape", [(29, 960), (67, 960), (300, 200), (8, 640), (1, 65)])
def test_nothing_is_lost_of_shrunk_maps(shape):
    for row, column in ((0, 0), (-1, -1), (shape[0] // 2, -1), (-1, shape[1] // 2)):
        of_image = np.zeros(shape, np.float32)
        of_image[row, column] = 1
        small = shrunk(of_image, 64)
        assert max(small.shape) == 64 and small.max() == 1


@pytest.mark.parametrize("dtype", ["int16", "int64", "float32", "float64"])
def test_the_number_type_of_8_bit_pixels_does_not_matter(dtype, labelled_images):
    images = labelled_images[0][:3]
    assert full_scale(images.astype(dtype)) == (0, 255)
    for image in images:
        picture = picture_of(image.astype(dtype))
        np.testing.assert_array_equal(np.asarray(picture), image)
    assert full_scale(np.array([0.0, 1.0])) == (0, 1) and full_scale(np.zeros(2)) == (0, 1)
    assert full_scale(np.array([-2.0, 3.0])) == (-2, 3)
    assert full_scale(np.uint16([7, 200])) == (0, 65535) and full_scale(np.uint8([1])) == (0, 255)
    assert full_scale(np.array([np.nan, 0.5])) == full_scale(np.array([np.nan])) == (0, 1)
    assert full_scale(np.array([7e4, 7e4])) == (7e4, 7e4 + 1)


def test_maps_share_a_scale_on_which_most_are_quiet():
    rng = np.random.default_rng(0)
    maps = [rng.uniform(0.2, 0.25, (32, 32)).astype(np.float32) for _ in range(9)]
    assert all(map_levels(one, *common_scale(maps)).getextrema()[1] < 8 for one in maps)
    maps[0][4:8, 4:8] = 0.5  # the network is not sure, but surer than elsewhere
    low, high = common_scale(maps)
    assert 0.2 < low < 0.25 and high == 0.5
    assert map_levels(maps[0], low, high).getextrema() == (0, 15)


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / "report.html"
    with pytest.raises(OSError, match="No space") as caught, replacing(path) as temporary:
        raise OSError(28, "No space left on device", str(temporary))
    assert caught.value.filename == str(path)
