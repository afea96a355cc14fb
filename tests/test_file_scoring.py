import os
import sys
import threading

import numpy as np
import pandas as pd
import PIL.ImageOps
import pytest
from PIL import Image
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import OneClassSVM

from sklearn_ncae import ImageLoader, NCAEReconstructor, ResidualDetector
from sklearn_ncae._pixel_scale import PixelScale
from sklearn_ncae.baselines import MeanBrightnessDetector, PCAReconstructor
from sklearn_ncae.file_scoring import (
    find_image_files,
    loader_for,
    read_image_files,
    score_images,
    threshold_of,
    watch_folder,
)
from sklearn_ncae.inspection import write_report
from sklearn_ncae.model_selection import TunedThresholdDetector
from sklearn_ncae.texture import TextureDetector


@pytest.fixture(scope="module")
def detector(good_images):
    return ResidualDetector(PCAReconstructor(4), false_alarm_rate=0.2, random_state=0).fit(
        good_images
    )


@pytest.fixture
def folder(tmp_path, labelled_images):
    """Six good parts and two defects, in subfolders."""
    images, labels = labelled_images
    for i in (*range(6), 40, 41):
        path = tmp_path / "parts" / ("good" if labels[i] == 1 else "defect") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(path)
    return tmp_path / "parts"


def test_scores_of_files_are_those_of_the_images(detector, folder, labelled_images):
    files = find_image_files([folder])
    scored = list(score_images(detector, files, chunk_size=3, maps=True))
    images = labelled_images[0][[40, 41, *range(6)]]
    np.testing.assert_allclose([one.score for one in scored], detector.score_samples(images))
    np.testing.assert_array_equal([one.p_value for one in scored], detector.p_values(images))
    decisions = np.where(detector.predict(images) == 1, "good", "defect")
    assert [one.decision for one in scored] == decisions.tolist()
    assert [one.name for one in scored] == files
    for one, image in zip(scored, images, strict=True):
        np.testing.assert_array_equal(one.image, image)
        assert one.map.shape == image.shape and 0 <= one.map.min() <= one.map.max() <= 1


def test_scores_of_files_by_a_threshold_or_a_search_around_a_pipeline(folder, labelled_images):
    files, y = find_image_files(folder), [-1, -1, *[1] * 6]
    pipeline = make_pipeline(ImageLoader(), TextureDetector(contamination=0.2))
    tuned = TunedThresholdDetector(pipeline, max_false_alarm_rate=0.3, cv=2).fit(files, y)
    scored = list(score_images(tuned, [*files, "missing.png"]))
    assert [one.decision for one in scored[:-1]] == [
        "good" if label == 1 else "defect" for label in tuned.predict(files)
    ]
    assert scored[-1].decision == "error"
    np.testing.assert_allclose([s.score for s in scored[:-1]], tuned.score_samples(files))
    grid = {"texturedetector__contamination": [0.1, 0.2]}
    search = GridSearchCV(pipeline, grid, scoring=lambda d, X, y=None: 0.0, cv=2).fit(files[2:])
    both = TunedThresholdDetector(search, max_false_alarm_rate=0.3, cv="prefit").fit(files, y)
    scored = [one.score for one in score_images(both, files)]
    np.testing.assert_allclose(scored, both.score_samples(files))
    scored = list(score_images(search, files))
    np.testing.assert_allclose([s.score for s in scored], search.score_samples(files))


def test_one_path_is_no_sequence_of_characters(detector, folder):
    path = find_image_files(folder)[0]
    assert find_image_files(path) == [path]
    assert [one.name for one in score_images(detector, path)] == [path]
    assert next(watch_folder(folder, settle=0)) == []


def test_wrong_arguments(detector, good_images):
    with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
        list(score_images(detector, good_images, chunk_size=0))
    with pytest.raises(ValueError, match="There are 1 names for 40 images"):
        list(score_images(detector, good_images, names=["a"]))


def test_a_mapping_is_refused(detector, good_images):
    with pytest.raises(TypeError, match="got a dict"):
        list(score_images(detector, {"images": good_images}))


def test_a_file_that_memory_has_no_room_for_is_an_error(detector, folder, monkeypatch):
    turn = PIL.ImageOps.exif_transpose

    def turn_if_there_is_room(image):
        if "01.png" in image.fp.name:
            raise MemoryError
        return turn(image)

    monkeypatch.setattr("PIL.ImageOps.exif_transpose", turn_if_there_is_room)
    scores = list(score_images(detector, find_image_files([folder / "good"])))
    assert [image.decision == "error" for image in scores] == [i == 1 for i in range(6)]
    assert "not enough memory" in scores[1].error


def test_reads_files_as_a_detector_of_wide_colour_images_takes_them(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 16, 24, 3), dtype=np.uint8)
    detector = TextureDetector(contamination=0.2).fit(images)
    Image.fromarray(images[0]).save(tmp_path / "part.png")
    (scored,) = score_images(detector, tmp_path / "part.png")
    assert scored.score == detector.score_samples(images[:1])[0]


def test_scores_of_arrays_pipelines_and_other_detectors(detector, folder, good_images):
    files = find_image_files([folder])
    expected = [one.score for one in score_images(detector, files)]
    pipeline = make_pipeline(ImageLoader(), detector)
    assert [one.score for one in score_images(pipeline, files)] == expected
    tuned = TunedThresholdDetector(detector, max_false_alarm_rate=0.2, cv="prefit").fit(good_images)
    assert threshold_of(tuned) == tuned.offset_
    one = next(iter(score_images(tuned, good_images, names=["first"] * 40, maps=True)))
    assert one.name == "first" and 0 < one.p_value <= 1 and one.map.shape == (16, 16)

    rows = good_images.reshape(40, -1)
    forest = IsolationForest(n_estimators=10, random_state=0).fit(rows)
    scored = list(score_images(forest, rows))
    np.testing.assert_allclose([one.score for one in scored], forest.score_samples(rows))
    assert np.isnan(scored[0].p_value)
    assert list(score_images(forest, [])) == []


def test_the_threshold_can_be_given(detector, good_images):
    assert {one.decision for one in score_images(detector, good_images, threshold=1)} == {"defect"}
    assert {one.decision for one in score_images(detector, good_images, threshold=-1e9)} == {"good"}


def test_a_bad_file_never_loses_the_others(detector, folder):
    (folder / "good" / "00.png").write_bytes(b"")
    (folder / "good" / "01.png").write_bytes((folder / "good" / "02.png").read_bytes()[:60])
    broken = folder / "good" / "zz.png"
    broken.symlink_to(folder / "nowhere.png")
    scored = {
        os.path.basename(one.name): one
        for one in score_images(detector, find_image_files([folder]), chunk_size=4)
    }
    assert {name for name, one in scored.items() if one.decision == "error"} == {
        "00.png",
        "01.png",
        "zz.png",
    }
    assert "01.png" in scored["01.png"].error and np.isnan(scored["01.png"].score)
    assert np.isfinite(scored["02.png"].score) and len(scored) == 9


def test_files_of_another_size_are_errors_where_nothing_resizes(folder, good_images):
    Image.fromarray(good_images[0]).resize((20, 20)).save(folder / "good" / "02.png")
    pipeline = make_pipeline(ImageLoader(), MeanBrightnessDetector().fit(good_images))
    scored = list(score_images(pipeline, find_image_files([folder])))
    (bad,) = [one for one in scored if one.decision == "error"]
    assert bad.name.endswith("02.png") and "(20, 20)" in bad.error


@pytest.mark.parametrize("n_odd", [1, 3])
def test_an_odd_file_does_not_decide_what_size_the_others_have(folder, good_images, n_odd):
    for i in range(n_odd):
        Image.fromarray(good_images[0]).resize((20, 20)).save(folder / f"0{i}.png")
    files = find_image_files(folder)
    readable, images, errors = read_image_files(ImageLoader(on_error="skip"), files)
    assert readable == files[n_odd:] and images.shape == (8, 16, 16)
    assert list(errors) == files[:n_odd] and "00.png' is of shape (20, 20)" in errors[files[0]]
    pipeline = make_pipeline(ImageLoader(), TextureDetector(contamination=0.2).fit(good_images))
    expected = pipeline.score_samples(files[n_odd:])
    for chunk_size in (1, 2, 32):
        scored = list(score_images(pipeline, files, chunk_size=chunk_size))
        assert [one.decision for one in scored[:n_odd]] == ["error"] * n_odd
        np.testing.assert_array_equal([one.score for one in scored[n_odd:]], expected)


def test_a_colour_file_among_gray_ones_is_an_error(good_images):
    class Reader(FunctionTransformer):
        def transform(self, X):
            images = [np.repeat(good_images[0][..., None], 3, 2), *good_images[1:4]]
            return np.stack([images[int(path)] for path in X])

    pipeline = make_pipeline(Reader(), TextureDetector(contamination=0.2).fit(good_images))
    scored = list(score_images(pipeline, ["0", "1", "2", "3"]))
    assert [one.decision == "error" for one in scored] == [True, False, False, False]
    assert "(16, 16, 3)" in scored[0].error


def test_the_size_of_the_first_chunk_holds_for_the_others(folder, good_images):
    files = find_image_files(folder)
    Image.fromarray(good_images[0]).resize((20, 20)).save(files[-1])
    own = FunctionTransformer()
    pipeline = make_pipeline(ImageLoader(), own, MeanBrightnessDetector().fit(good_images))
    for chunk_size in (1, 7, 32):
        scored = list(score_images(pipeline, files, chunk_size=chunk_size))
        assert [one.decision == "error" for one in scored] == [False] * 7 + [True]


def test_files_are_read_while_others_are_scored(detector, folder):
    files = find_image_files([folder])
    second_is_read = threading.Event()

    def note(chunk):
        if note.n_chunks:
            second_is_read.set()
        note.n_chunks += 1
        return chunk

    note.n_chunks = 0

    class Scorer:
        """Goes on when the second chunk has been read, as without reading ahead it never is."""

        offset_ = detector.offset_

        def score_samples(self, X):
            assert second_is_read.wait(timeout=30)
            return detector.score_samples(X)

    loader = make_pipeline(loader_for(detector), FunctionTransformer(note))
    scored = list(score_images(make_pipeline(*loader, Scorer()), files, chunk_size=3))
    expected = list(score_images(detector, files))
    assert [one.name for one in scored] == [one.name for one in expected] == files
    np.testing.assert_allclose([one.score for one in scored], [one.score for one in expected])


def test_what_gets_no_score_is_not_good(good_images, tmp_path):
    class Unsure(MeanBrightnessDetector):
        def score_samples(self, X):
            return np.where(np.arange(len(X)) == 1, np.nan, super().score_samples(X))

    detector = Unsure().fit(good_images)
    detector.calibration_scores_ = detector.score_samples(good_images)[2:]
    one, other, _ = score_images(detector, good_images[:3])
    assert one.decision != "error" and not np.isnan(one.p_value)
    assert other.decision == "error" and np.isnan(other.score) and "no score" in other.error
    assert "no score" in write_report(tmp_path / "a.html", detector, good_images[:3]).read_text()
    with pytest.raises(ValueError, match="threshold=nan"):
        next(score_images(detector, good_images, threshold=np.nan))


def test_pictures_and_maps_do_not_depend_on_the_other_images(good_images):
    X = good_images.astype(np.float32) / 255
    detector = ResidualDetector(PCAReconstructor(4), contamination=0.2, random_state=0).fit(X)
    X[0, 0, 0] = 1.05
    whole = list(score_images(detector, X, maps=True))
    for one, alone in zip(whole, score_images(detector, X, maps=True, chunk_size=1), strict=True):
        np.testing.assert_allclose(one.map, alone.map, atol=1e-5)
        assert one.black_and_white == alone.black_and_white == (0.0, 1.0)


def test_maps_follow_the_threshold_in_force(good_images):
    detector = TextureDetector().fit(good_images)
    noisy = good_images[:1].copy()
    noisy[:, 4:8, 4:8] = np.random.default_rng(0).integers(0, 256, (4, 4))
    expected = np.minimum(detector.anomaly_map(noisy)[0] / 60, 1)
    (one,) = score_images(detector, noisy, maps=True, threshold=-30)
    np.testing.assert_allclose(one.map, expected, rtol=1e-5)
    for response in ("score_samples", "decision_function"):
        tuned = TunedThresholdDetector(
            detector, max_false_alarm_rate=0.1, cv="prefit", response_method=response
        ).fit(good_images)
        tuned.offset_ = -30 - tuned._shift
        (one,) = score_images(tuned, noisy, maps=True)
        np.testing.assert_allclose(one.map, expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 1), (8, 8, 4), (16, 4, 4)])
def test_flat_rows_are_shown_as_the_images_that_they_are(good_images, shape):
    rows = good_images.reshape(len(good_images), -1)
    detector = TextureDetector(image_shape=shape).fit(rows)
    (one,) = score_images(detector, rows[:1], maps=True)
    assert one.map.shape == shape[:2]
    expected = rows[0].reshape(shape if shape[2:] != (1,) else shape[:2])
    np.testing.assert_array_equal(one.image, expected)


@pytest.mark.parametrize("response", ["score_samples", "decision_function"])
def test_a_threshold_or_a_search_around_a_detector_has_its_p_values(good_images, response):
    texture = TextureDetector().fit(good_images)
    expected = texture.p_values(good_images)
    search = GridSearchCV(TextureDetector(), {}, scoring=lambda d, X, y=None: 0.0, cv=2)
    search.fit(good_images)
    pipeline = make_pipeline(FunctionTransformer(), TextureDetector()).fit(good_images)
    tuned = [
        TunedThresholdDetector(
            inside, max_false_alarm_rate=0.1, cv="prefit", response_method=response
        ).fit(good_images)
        for inside in (texture, search, pipeline)
    ]
    for detector in (*tuned, search):
        p_values = [one.p_value for one in score_images(detector, good_images)]
        np.testing.assert_array_equal(p_values, expected)


def test_arrays_of_several_sizes_are_refused(detector, good_images):
    with pytest.raises(ValueError, match="takes images of one size, got shapes"):
        list(score_images(detector, [good_images[0], good_images[1][:8]]))


def test_a_chunk_of_bad_files_alone(detector, tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    assert [one.decision for one in score_images(detector, paths)] == ["error"] * 3


def test_finding_files(tmp_path):
    for name in ("b/2.PNG", "b/1.jpg", ".hidden/3.png", "b/.4.png", "a.tif", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_image_files([tmp_path / "notes.txt", tmp_path, tmp_path / "b"])
    assert [os.path.relpath(path, tmp_path) for path in found] == [
        "notes.txt",
        "a.tif",
        os.path.join("b", "1.jpg"),
        os.path.join("b", "2.PNG"),
    ]
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        find_image_files([tmp_path / "missing"])


def test_a_file_is_found_once_however_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.png").touch()
    assert find_image_files(["parts", "./parts", "parts/a.png", tmp_path]) == ["parts/a.png"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read anything")
def test_an_unreadable_folder_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.warns(UserWarning, match="closed"):
        assert find_image_files([tmp_path]) == []


def test_an_unreadable_folder_is_named_to_root_too(tmp_path, monkeypatch):
    def walk(path, onerror, followlinks):
        onerror(PermissionError(13, "Permission denied", "closed"))
        return iter([])

    monkeypatch.setattr(os, "walk", walk)
    with pytest.warns(UserWarning, match=r"'closed' is left out.*Permission denied"):
        assert find_image_files([tmp_path]) == []


def test_a_detector_must_say_how_to_read_and_where_the_threshold_is(detector):
    loader = loader_for(detector)
    assert (loader.size, loader.mode) == ((16, 16), "gray")
    with pytest.raises(TypeError, match="image_shape_ is None"):
        loader_for(MeanBrightnessDetector())
    with pytest.raises(TypeError, match="no offset_"):
        threshold_of(MeanBrightnessDetector())


def test_files_are_not_for_a_model_of_other_pixel_values(good_images):
    floats = good_images / 255
    detector = ResidualDetector(
        NCAEReconstructor(filters=(2,), epochs=1, random_state=0), contamination=0.1
    ).fit(floats)
    with pytest.raises(ValueError, match=r"from 0\.\d+ to 0\.\d+, and image files are read"):
        next(score_images(detector, ["part.png"]))
    assert len(list(score_images(detector, floats))) == 40
    for low, high in ((0, 255), (100, 102), (0, 12)):
        detector.reconstructor_._scale = PixelScale(low, high, per_image=False)
        assert loader_for(detector).dtype == "uint8"
    for low, high in ((0, 1), (-1, 1), (-3, 12), (0, 4095)):
        detector.reconstructor_._scale = PixelScale(low, high, per_image=False)
        with pytest.raises(ValueError, match=f"from {low} to {high}, and"):
            loader_for(detector)


def test_watching_returns_each_file_once_when_it_is_complete(tmp_path):
    seen, file = [], tmp_path / "part.png"
    steps = iter(
        [
            lambda: file.write_bytes(b"12"),
            lambda: file.write_bytes(b"1234"),  # still growing
            lambda: None,
            lambda: file.write_bytes(b"12345678"),  # written again: not scored again
            lambda: (tmp_path / "gone.png").touch(),
            lambda: (tmp_path / "gone.png").unlink(),
            lambda: None,
        ]
    )

    def wait(seconds):
        assert seconds == 0.5
        next(steps)()

    (tmp_path / "old.png").touch()
    done = [os.path.relpath(tmp_path / "old.png")]
    watch = watch_folder([tmp_path], done=done, interval=0.5, settle=0, wait=wait)
    for _ in range(8):
        seen.append([os.path.basename(path) for path in next(watch)])
    assert seen == [[], [], [], ["part.png"], [], [], [], []]


def test_watching_waits_until_a_file_has_settled(tmp_path):
    (tmp_path / "part.png").touch()
    watch = watch_folder([tmp_path], settle=60, wait=lambda seconds: None)
    assert [next(watch) for _ in range(5)] == [[]] * 5
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere")
    watch = watch_folder([tmp_path], settle=0, wait=lambda seconds: None)
    assert [len(next(watch)) for _ in range(3)] == [0, 2, 0]


def test_watching_waits_anew_for_a_file_that_is_written_again(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("sklearn_ncae.file_scoring.time.monotonic", lambda: clock[0])
    path = tmp_path / "part.png"
    path.write_bytes(b"1234")
    watch = watch_folder([tmp_path], settle=2, wait=lambda seconds: None)
    found = []
    for now in (0.0, 1.5, 2.5, 3.5):
        clock[0] = now
        if now == 1.5:  # as many bytes, later
            path.write_bytes(b"5678")
            os.utime(path, ns=(10**18, 10**18))
        found.append(len(next(watch)))
    assert found == [0, 0, 0, 1]


def test_maps_of_detectors_that_mark_defects_and_of_those_that_mark_nothing(good_images):
    class Marking(MeanBrightnessDetector):
        def defect_map(self, X):
            return np.full(X.shape[:3], 2.0, np.float32)

    (one,) = score_images(Marking().fit(good_images), good_images[:1], maps=True)
    assert (one.map == 1).all()
    forest = MeanBrightnessDetector().fit(good_images)
    (one,) = score_images(forest, good_images[:1], maps=True)
    assert one.map is None and one.image is not None


def test_maps_are_strongest_at_twice_the_threshold(good_images):
    detector = TextureDetector().fit(good_images)
    noisy = good_images[:1].copy()
    noisy[:, 4:8, 4:8] = np.random.default_rng(0).integers(0, 256, (4, 4))
    one, other = score_images(detector, np.concatenate([noisy, good_images[1:2]]), maps=True)
    expected = detector.anomaly_map(noisy)[0] / (-2 * detector.offset_)
    np.testing.assert_allclose(one.map, np.minimum(expected, 1), rtol=1e-5)
    assert one.map.max() > 0.5 > other.map.max()


def test_p_values_of_a_detector_without_calibration_scores(good_images):
    class Ready(MeanBrightnessDetector):
        def p_values(self, X):
            return np.full(len(X), 0.25)

    (one,) = score_images(Ready().fit(good_images), good_images[:1])
    assert one.p_value == 0.25


def test_pipelines_of_arrays_have_p_values(detector, good_images):
    expected = [one.p_value for one in score_images(detector, good_images)]
    pipeline = make_pipeline("passthrough", detector)
    assert [one.p_value for one in score_images(pipeline, good_images)] == expected
    assert [one.p_value for one in score_images(make_pipeline(detector), good_images)] == expected


def test_pipelines_of_one_step_and_tables_of_paths(detector, folder):
    files = find_image_files([folder])
    expected = [one.score for one in score_images(detector, files)]
    assert [one.score for one in score_images(make_pipeline(detector), files)] == expected
    series = pd.Series(files, index=range(5, 5 + len(files)))
    assert [one.score for one in score_images(detector, series)] == expected


def test_what_a_loader_skips_is_no_good_part(detector, folder):
    (folder / "good" / "00.png").write_text("no image")
    files = find_image_files([folder])
    pipeline = make_pipeline(ImageLoader(size=(16, 16), on_error="skip"), detector)
    scored = list(score_images(pipeline, files))
    assert [one.decision for one in scored].count("error") == 1
    (bad,) = [one for one in scored if one.decision == "error"]
    assert "00.png" in bad.error and np.isnan(bad.score)
    assert pipeline[0].on_error == "skip"


def test_a_tuned_threshold_does_not_hide_other_pixel_values(good_images, folder):
    detector = TextureDetector().fit(good_images / 255.0)
    tuned = TunedThresholdDetector(detector, cv="prefit", max_false_alarm_rate=0.2)
    tuned.fit(good_images / 255.0)
    with pytest.raises(ValueError, match="trained on pixel values from 0"):
        next(score_images(tuned, find_image_files([folder])))


def test_sizes_and_files_are_compared_as_they_are_given(tmp_path):
    file, missing = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    Image.new("L", (8, 8)).save(file)
    readable, images, errors = read_image_files(ImageLoader(), [file], size=[8, 8])
    assert readable == [file] and images.shape == (1, 8, 8) and not errors
    for paths in ([file, file], [file, missing, file]):  # one that is given twice is read twice
        readable, images, errors = read_image_files(ImageLoader(), paths)
        assert readable == [file, file] and len(images) == 2 and len(errors) == len(paths) - 2


def test_a_watched_folder_may_be_gone_for_a_while(tmp_path):
    folder = tmp_path / "camera"
    folder.mkdir()
    watch = watch_folder([folder], interval=0, settle=0)
    assert next(watch) == []
    folder.rename(tmp_path / "elsewhere")
    assert next(watch) == []
    (tmp_path / "elsewhere" / "a.png").touch()
    (tmp_path / "elsewhere").rename(folder)
    assert next(watch) == [] and next(watch) == [str(folder / "a.png")]


def test_a_watched_folder_may_vanish_while_it_is_looked_for(tmp_path, monkeypatch):
    folder = tmp_path / "camera"
    folder.mkdir()
    watch = watch_folder([folder], interval=0, settle=0)
    assert next(watch) == []
    (folder / "a.png").touch()
    folder.rename(tmp_path / "elsewhere")
    answers = iter([True, False])
    with monkeypatch.context() as patched:
        patched.setattr("os.path.lexists", lambda path: next(answers))
        assert next(watch) == []
    (tmp_path / "elsewhere").rename(folder)
    assert next(watch) == [] and next(watch) == [str(folder / "a.png")]


def test_watching_forgets_files_that_were_moved_away_before_they_had_settled(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("sklearn_ncae.file_scoring.time.monotonic", lambda: clock[0])
    path, elsewhere = tmp_path / "part.png", tmp_path / "part.tmp"
    path.touch()
    watch = watch_folder([tmp_path], settle=2, wait=lambda seconds: None)
    found = []
    moves = {3.0: (path, elsewhere), 6.0: (elsewhere, path)}
    for now in (0.0, 3.0, 6.0, 7.0, 8.0):
        clock[0] = now
        if now in moves:
            os.rename(*moves[now])
        found.append(len(next(watch)))
    assert found == [0, 0, 0, 0, 1]


def test_thresholds_that_are_arrays_of_one(good_images):
    detector = make_pipeline(
        FunctionTransformer(lambda X: X.reshape(len(X), -1) / 255.0), OneClassSVM()
    ).fit(good_images)
    assert threshold_of(detector) == detector[-1].offset_[0]
    assert len(list(score_images(detector, good_images))) == len(good_images)


def test_maps_do_not_depend_on_the_number_type(detector, labelled_images):
    images = labelled_images[0][38:42]
    expected = [one.map for one in score_images(detector, images, maps=True)]
    for dtype in (np.int64, np.float32):
        found = [one.map for one in score_images(detector, images.astype(dtype), maps=True)]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_masked_pixels_are_refused(detector, good_images):
    with pytest.raises(ValueError, match="without masked pixels"):
        next(score_images(detector, np.ma.masked_less(good_images, 80)))


def test_links_to_folders_are_followed_unless_they_lead_back(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.png").touch()
    (tmp_path / "parts" / "good").mkdir(parents=True)
    (tmp_path / "parts" / "scratch").symlink_to(tmp_path / "store")
    (tmp_path / "parts" / "good" / "again").symlink_to(tmp_path / "parts")
    assert find_image_files([tmp_path / "parts"]) == [str(tmp_path / "parts" / "scratch" / "a.png")]
    (tmp_path / "store" / "round").symlink_to(tmp_path / "parts" / "good")
    (tmp_path / "parts" / "good" / "about").symlink_to(tmp_path / "store")
    found = [os.path.relpath(path, tmp_path) for path in find_image_files([tmp_path / "parts"])]
    assert found == ["parts/good/about/a.png", "parts/scratch/a.png"]


def test_an_image_at_the_threshold_is_good(detector, good_images):
    (score,) = detector.score_samples(good_images[:1])
    for threshold, decision in ((score, "good"), (np.nextafter(score, np.inf), "defect")):
        (one,) = score_images(detector, good_images[:1], threshold=threshold)
        assert one.decision == decision


def test_a_link_to_nothing_is_found_and_cannot_be_read(detector, tmp_path):
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "nothing.png")
    assert find_image_files([link]) == [str(link)]
    (one,) = score_images(detector, find_image_files([link]))
    assert one.decision == "error" and "link.png" in one.error


def test_maps_show_what_is_darker_than_reconstructed_too(detector, good_images):
    image = good_images[:1].copy()
    image[0, 9:12, 3:7] = 0
    (one,) = score_images(detector, image, maps=True)
    assert one.map[9:12, 3:7].min() > 0.5


def test_one_dark_image_does_not_say_what_white_is(good_images):
    detector = ResidualDetector(PCAReconstructor(4), false_alarm_rate=0.2, random_state=0)
    images = good_images.astype(float)
    detector.fit(images)
    images[0] = 0
    scored = list(score_images(detector, images, maps=True, chunk_size=1))
    assert {one.black_and_white for one in scored} == {(0.0, 255.0)}


def test_rows_that_are_no_images_are_shown_as_they_are(detector, good_images):
    first_step = FunctionTransformer(lambda X: X[:, :256].reshape(-1, 16, 16))
    rows = np.concatenate([good_images.reshape(40, -1), np.zeros((40, 9))], axis=1)
    (one, *_) = score_images(make_pipeline(first_step, detector), rows, maps=True)
    np.testing.assert_array_equal(one.image, rows[0])


def test_watching_waits_anew_for_a_file_that_grows_within_a_tick_of_the_clock(tmp_path):
    path = tmp_path / "part.png"
    watch = watch_folder([tmp_path], settle=0, wait=lambda seconds: None)
    found = []
    for content in (b"", b"12", b"1234", b"1234"):
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))
        found.append(len(next(watch)))
    assert found == [0, 0, 0, 1]


def test_a_file_of_unknown_black_and_white_never_loses_the_others(detector, folder):
    Image.new("F", (16, 16)).save(folder / "good" / "02.tif")
    files = find_image_files([folder])
    scored = list(score_images(detector, files))
    assert [one.name for one in scored if one.decision == "error"] == [
        str(folder / "good" / "02.tif")
    ]
    assert len(scored) == 9 and any("32-bit pixels" in one.error for one in scored)
