"""Time of scoring in one process, and by as many worker processes as there are cores.

TensorFlow takes as many threads in every process as there are cores. joblib and Dask set
OMP_NUM_THREADS for their workers, which this package hands on to TensorFlow; the rows "not limited"
undo that. From the time on one core, with the files decoded, follows an estimate for a million
images. All processes are there at once and take turns.

    python benchmarks/workers.py
    python benchmarks/workers.py --size 64 --images 64 --repetitions 1
    python benchmarks/workers.py --write  # also the tables in docs/performance.md
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import dask.array as da
import joblib
import numpy as np
from dask.distributed import Client, LocalCluster
from numpy.typing import NDArray
from performance import report
from PIL import Image
from sklearn.pipeline import make_pipeline

from sklearn_ncae import ImageLoader, NCAEDetector
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.large_data import score_dask, score_in_chunks

N_WORKERS = joblib.cpu_count()
CHUNK = 32

# What a process prints when it has scored, and the seconds after it.
READY = "scored"


class Row(NamedTuple):
    """What is printed, and how it is computed.

    Attributes
    ----------
    name, how : str
    one_core : bool, default=False
        Whether the process may use one core alone.
    threads : int or None, default=None
        Of TensorFlow in a worker; None leaves them to the package.
    """

    name: str
    how: str
    one_core: bool = False
    threads: int | None = None


FILES_ON_ONE_CORE = Row("one process, one core, from PNG files", "files", True, 1)
ROWS = [
    Row("one process, all cores", "arrays"),
    Row("one process, one core", "arrays", True, 1),
    FILES_ON_ONE_CORE,
    Row(f"joblib, {N_WORKERS} workers", "joblib"),
    Row(f"joblib, {N_WORKERS} workers, not limited", "joblib", threads=N_WORKERS),
    Row(f"Dask, {N_WORKERS} workers", "dask"),
    Row(f"Dask, {N_WORKERS} workers, not limited", "dask", threads=N_WORKERS),
]


def with_joblib(detector: NCAEDetector, images: NDArray[np.uint8]) -> None:
    """Score one part in each worker of joblib, for the detector travels with every task."""
    joblib.Parallel(n_jobs=N_WORKERS)(
        joblib.delayed(detector.score_samples)(part) for part in np.array_split(images, N_WORKERS)
    )


def with_dask(detector: NCAEDetector, images: NDArray[np.uint8]) -> None:
    """Score chunks with the workers of the current Dask client."""
    score_dask(detector, da.from_array(images, chunks=(CHUNK, -1, -1))).compute()


def with_files(detector: NCAEDetector, paths: list[str]) -> None:
    """Decode files and score them."""
    score_in_chunks(make_pipeline(ImageLoader(), detector), paths, chunk_size=CHUNK)


HOW: dict[str, Callable[[NCAEDetector, Any], Any]] = {
    "arrays": NCAEDetector.score_samples,
    "files": with_files,
    "joblib": with_joblib,
    "dask": with_dask,
}


def answer(how: str, one_core: bool, size: int, n_images: int) -> None:
    """Score once for each line of the standard input, and print the seconds that it takes."""
    if one_core:
        # Linux alone can; of the threads that remain, one is NumPy's and one is TensorFlow's.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    images = make_castings(
        n_good=n_images, n_defect=1, image_size=(size, size), random_state=0
    ).images[:n_images]
    detector = NCAEDetector(epochs=1, contamination=0.1, random_state=0).fit(images[:CHUNK])
    with ExitStack() as stack:
        scored: Any = images
        if how == "dask":
            cluster = LocalCluster(
                n_workers=N_WORKERS, threads_per_worker=1, dashboard_address=":0"
            )
            stack.enter_context(Client(stack.enter_context(cluster)))
        if how == "files":
            folder = stack.enter_context(TemporaryDirectory())
            scored = [f"{folder}/{index}.png" for index in range(n_images)]
            for path, image in zip(scored, images, strict=True):
                Image.fromarray(image).save(path)
        HOW[how](detector, scored)  # every worker imports TensorFlow and traces
        print(READY, flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            HOW[how](detector, scored)
            print(READY, time.perf_counter() - start, flush=True)


class Measured:
    """A process that scores in one way, whenever it is asked to."""

    def __init__(self, row: Row) -> None:
        self._name = row.name
        environment = dict(os.environ)
        if row.threads is not None:
            environment["TF_NUM_INTRAOP_THREADS"] = str(row.threads)
        command = [sys.executable, *sys.argv, "--answer", row.how]
        self._process = subprocess.Popen(
            command + ["--one-core"] * row.one_core,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def _read(self) -> list[str]:
        """Wait for its answer; others may print as well."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(READY):
                return line.split()[1:]
        raise SystemExit(f"{self._name!r} has ended with code {self._process.wait()}.")

    def seconds(self) -> float:
        """Have it score all images once."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._read()[0])

    def end(self) -> None:
        """End the process and its workers."""
        self._process.communicate()


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=300, help="side of the images")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--answer", choices=HOW, help=argparse.SUPPRESS)
    parser.add_argument("--one-core", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        answer(options.answer, options.one_core, options.size, options.images)
        return
    processes = {row.name: Measured(row) for row in ROWS}
    seconds: dict[str, list[float]] = {row.name: [] for row in ROWS}
    for _ in range(options.repetitions):
        for name, process in processes.items():
            seconds[name].append(process.seconds())
    for process in processes.values():
        process.end()
    milliseconds = {
        name: 1000 * statistics.median(times) / options.images for name, times in seconds.items()
    }
    whole = milliseconds[ROWS[0].name]
    rows = [[name, f"{ms:.2f}", f"{whole / ms:.2f}"] for name, ms in milliseconds.items()]
    report("workers", ["", "ms per image", "throughput"], rows, options.write)
    one_worker = milliseconds[FILES_ON_ONE_CORE.name]
    hours = {n: 1e6 * one_worker / n / 3.6e6 for n in (1, 8, 32, 128)}
    rows = [[str(n), f"{value:.2f}"] for n, value in hours.items()]
    report("estimate", ["workers of one core", "hours (estimate)"], rows, options.write)


if __name__ == "__main__":
    main()
