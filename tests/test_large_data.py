import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import dask.array as da
import dask.bag
import joblib
import numpy as np
import pytest
import sklearn
from dask.distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_ncae import ImageLoader, NCAEDetector, ResidualDetector
from sklearn_ncae._image_arrays import _CHUNK_PIXELS, chunks
from sklearn_ncae._pixel_scale import PixelScale
from sklearn_ncae.baselines import PCAReconstructor
from sklearn_ncae.comparison import compare_detectors
from sklearn_ncae.defects import draw_defects
from sklearn_ncae.large_data import score_dask, score_in_chunks
from sklearn_ncae.model_selection import OneClassSplit
from sklearn_ncae.network import RepairBatches, TrainingBatches

METHODS = ["score_samples", "decision_function", "p_values", "predict"]


@pytest.fixture(scope="module")
def detector(good_images):
    return ResidualDetector(PCAReconstructor(5), calibration=0.5, random_state=0).fit(good_images)


@pytest.fixture(scope="module")
def network(good_images, eagerly):
    detector = NCAEDetector(filters=(4, 8), epochs=1, calibration=0.5, random_state=0)
    with eagerly():
        return detector.fit(good_images)


@pytest.fixture(scope="module")
def images(good_images):
    """New ones: whether a score equals that of the same image in the calibration is rounding."""
    return np.ascontiguousarray(good_images[:, ::-1])


@pytest.fixture(scope="module")
def paths(tmp_path_factory, images):
    pil = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("parts")
    paths = [str(folder / f"{i}.png") for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        pil.fromarray(image).save(path)
    return paths


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk_size", [1, 7, 40, 100])
def test_chunks_score_as_the_whole(detector, images, method, chunk_size):
    actual = score_in_chunks(detector, images, method=method, chunk_size=chunk_size)
    expected = getattr(detector, method)(images)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    assert actual.dtype == expected.dtype


def test_chunks_of_few_rows_of_many_images():
    images = np.arange(10).reshape(10, 1, 1)
    parts = [part.ravel().tolist() for part in chunks(images, np.array([1, 3, 8]), n_pixels=2)]
    assert parts == [[1, 3], [8]]
    parts = [part.ravel().tolist() for part in chunks(images, None, n_pixels=4)]
    assert parts == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("method", METHODS)
def test_a_pipeline_of_one_step_scores_as_that(detector, images, method):
    actual = score_in_chunks(make_pipeline(detector), images, method=method, chunk_size=16)
    np.testing.assert_allclose(actual, getattr(detector, method)(images), rtol=1e-6)


def test_paths_are_read_ahead(detector, images, paths):
    read, scored = [threading.Event() for _ in range(3)], []

    class Scorer:
        """Goes on when the next chunk has been read, which without reading ahead never happens."""

        def score_samples(self, X):
            scored.append(len(X))
            if len(scored) < 3:
                assert read[len(scored)].wait(timeout=30)
            return detector.score_samples(X)

    def note(chunk):
        next(event for event in read if not event.is_set()).set()
        return chunk

    pipeline = make_pipeline(ImageLoader(n_jobs=2), FunctionTransformer(note), Scorer())
    scores = score_in_chunks(pipeline, paths, chunk_size=16)
    np.testing.assert_allclose(scores, detector.score_samples(images), rtol=1e-6)
    assert scored == [16, 16, 8]


def test_what_reads_ahead_has_the_configuration_of_the_caller(detector, images):
    seen = []

    def note(chunk):
        seen.append(sklearn.get_config()["assume_finite"])
        return chunk

    with sklearn.config_context(assume_finite=True):
        score_in_chunks(make_pipeline(FunctionTransformer(note), detector), images, chunk_size=16)
    assert seen == [True] * 3


def test_a_memmap_is_never_whole_in_memory(tmp_path, detector, images):
    file = np.lib.format.open_memmap(
        tmp_path / "images.npy", mode="w+", dtype=np.uint8, shape=images.shape
    )
    file[...] = images

    class Recorder:
        longest = 0

        def score_samples(self, X):
            self.longest = max(self.longest, len(X))
            return detector.score_samples(X)

    recorder = Recorder()
    scores = score_in_chunks(recorder, file, chunk_size=9)
    np.testing.assert_allclose(scores, detector.score_samples(images), rtol=1e-6)
    assert recorder.longest == 9


def test_memory_of_scoring_does_not_grow_with_a_mapped_file(tmp_path, detector):
    def peak(n):
        file = np.lib.format.open_memmap(
            tmp_path / f"{n}.npy", mode="w+", dtype=np.uint8, shape=(n, 16, 16)
        )
        file[::2] = 255
        tracemalloc.start()
        try:
            detector.score_samples(file)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    at_once = _CHUNK_PIXELS // 16**2
    grown = peak(3 * at_once) - peak(at_once)
    assert grown < _CHUNK_PIXELS  # half of what a copy of the pixels would be


def resident(file):
    """Return how many bytes of a file this process has in its memory by mapping it."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    kilobytes = 0
    for line in lines:
        if line.endswith(str(file)):
            kilobytes += int(next(part for part in lines if part.startswith("Rss")).split()[1])
    return 1024 * kilobytes


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is resident")
def test_what_was_read_of_a_mapped_file_does_not_stay_in_memory(tmp_path):
    file = tmp_path / "images.npy"
    np.save(file, np.random.RandomState(0).randint(256, size=(60, 96, 96), dtype=np.uint8))
    images = np.load(file, mmap_mode="r")[..., np.newaxis]
    images.sum()
    assert resident(file) >= images.nbytes
    rows = np.arange(60)
    for some in (None, rows):
        for part in chunks(images, some, n_pixels=6 * 96**2):
            part.sum()
        assert resident(file) == 0

    scale = PixelScale.of(images, per_image=True)
    drawing = {"draw": draw_defects, "crop": (32, 32), "block_size": 1}
    for batches in (
        TrainingBatches(images, rows, scale, 16),
        RepairBatches(images, rows, scale, 16, np.random.RandomState(0), **drawing),
    ):
        for index in range(len(batches)):
            batches[index]
        assert resident(file) == 0
    np.testing.assert_array_equal(images[..., 0], np.load(file))


def test_changes_of_a_copy_on_write_map_are_kept(tmp_path, detector, images):
    file = tmp_path / "images.npy"
    np.save(file, images)
    mapped = np.load(file, mmap_mode="c")
    mapped[3] = 7
    changed = mapped.copy()
    detector.score_samples(mapped)
    np.testing.assert_array_equal(mapped, changed)


def test_nothing_to_score(detector):
    assert score_in_chunks(detector, []).shape == (0,)
    assert score_in_chunks(detector, np.empty((0, 16, 16)), method="predict").dtype == np.int64


def test_errors_of_reading_and_of_scoring_are_raised(detector, images, paths):
    pipeline = make_pipeline(ImageLoader(), detector)
    with pytest.raises(FileNotFoundError, match="missing"):
        score_in_chunks(pipeline, [*paths, "missing.png"], chunk_size=16)
    with pytest.raises(ValueError, match="fitted on images of shape"):
        score_in_chunks(detector, images[:, :8], chunk_size=16)
    with pytest.raises(ValueError, match="'method' parameter"):
        score_in_chunks(detector, images, method="fit")
    with pytest.raises(ValueError, match="'chunk_size' parameter"):
        score_in_chunks(detector, images, chunk_size=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunks", [(16, -1, -1), (40, 8, 5), ((0, 30, 10), -1, -1)])
def test_dask_array(detector, images, method, chunks):
    scores = score_dask(detector, da.from_array(images, chunks=chunks), method=method)
    assert scores.shape == (40,)
    expected = getattr(detector, method)(images)
    actual = scores.compute(scheduler="sync")
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    assert actual.dtype == scores.dtype == expected.dtype


def test_dask_bag_of_paths(detector, images, paths):
    bag = dask.bag.from_sequence(paths, partition_size=16)
    pipeline = make_pipeline(ImageLoader(), detector)
    expected = detector.score_samples(images)
    scores = score_dask(pipeline, bag).compute(scheduler="sync")
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    some = bag.filter(lambda path: path in paths[:20]).map_partitions(iter)
    scores = score_dask(pipeline, some).compute(scheduler="sync")
    np.testing.assert_allclose(scores, expected[:20], rtol=1e-6)


def test_dask_takes_its_own_collections_only(detector, images):
    with pytest.raises(TypeError, match="Dask array of images or a Dask bag"):
        score_dask(detector, images)


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_a_lost_worker_loses_no_scores(client, network, images):
    many = np.concatenate([images] * 5)
    pids = client.run(os.getpid)
    future = client.compute(score_dask(network, da.from_array(many, chunks=(10, -1, -1))))
    while not any(client.processing().values()):
        time.sleep(0.01)
    busy = next(worker for worker, tasks in client.processing().items() if tasks)
    os.kill(pids[busy], signal.SIGKILL)
    expected = network.score_samples(many)
    np.testing.assert_allclose(future.result(timeout=60), expected, rtol=1e-5)
    assert pids[busy] not in client.run(os.getpid).values()


def test_the_estimator_travels_to_each_worker_once(client, images):
    class Counted:
        """Counts how often it is unpickled in a process."""

        def __setstate__(self, state):
            import builtins

            builtins.n_unpickled = getattr(builtins, "n_unpickled", 0) + 1

        def __getstate__(self):
            return {"any": "state"}

        def score_samples(self, X):
            import time

            time.sleep(0.05)
            return np.zeros(len(X))

    def n_unpickled():
        import builtins

        return getattr(builtins, "n_unpickled", 0)

    client.wait_for_workers(2)  # one may have been lost before
    score_dask(Counted(), da.from_array(images, chunks=(2, -1, -1))).compute()
    assert set(client.run(n_unpickled).values()) == {1}


def test_searches_and_comparisons_on_workers(client, labelled_images):
    images, target = labelled_images
    search = GridSearchCV(
        ResidualDetector(PCAReconstructor(), contamination=0.1),
        {"reconstructor__n_components": [2, 5]},
        scoring="roc_auc",
        cv=OneClassSplit(StratifiedKFold(2)),
        refit=False,
    )
    detectors = {"pca": ResidualDetector(PCAReconstructor(2), contamination=0.1)}

    def figures():
        table = compare_detectors(detectors, images, target, cv=OneClassSplit(StratifiedKFold(2)))
        return [*search.fit(images, target).cv_results_["mean_test_score"], *table["roc_auc"]]

    serial = figures()
    for backend in ("loky", "dask"):
        with joblib.parallel_config(backend=backend, n_jobs=2):
            np.testing.assert_allclose(figures(), serial)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"OMP_NUM_THREADS": "1"}, b"1"),
        ({"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "3"}, b"3"),
        ({"TF_NUM_INTRAOP_THREADS": "3"}, b"3"),
    ],
)
def test_threads_of_workers_are_limited(given, expected):
    assert _threads_of_a_process(given) == expected


def test_a_worker_may_have_fewer_threads_than_what_starts_it():
    started = "import sys, subprocess, sklearn_ncae, os; os.environ['OMP_NUM_THREADS'] = '1'"
    code = f"{started}; print(subprocess.check_output([sys.executable, '-c', {_PRINT!r}]).decode())"
    assert _threads_of_a_process({"OMP_NUM_THREADS": "2"}, code) == b"1"


_PRINT = "import os, sklearn_ncae; print(os.environ['TF_NUM_INTRAOP_THREADS'])"


def _threads_of_a_process(given, code=_PRINT):
    limits = {"OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "SKLEARN_NCAE_OMP_NUM_THREADS"}
    environment = {k: v for k, v in os.environ.items() if k not in limits} | given
    return subprocess.check_output([sys.executable, "-c", code], env=environment).strip()
