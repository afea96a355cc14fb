"""Time of scoring in one process, and by as many worker processes as there are cores.

TensorFlow takes as many threads in every process as there are cores. joblib and Dask set
OMP_NUM_THREADS for their workers, which this package hands on to TensorFlow; the rows "not limited"
undo that. From the time on one core follows an estimate for a million images.

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
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import dask.array as da
import joblib
import numpy as np
from dask.distributed import Client, LocalCluster
from numpy.typing import NDArray
from performance import report

from sklearn_ncae import NCAEDetector
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.large_data import score_dask

N_WORKERS = joblib.cpu_count()
CHUNK = 32

# What is printed, how it is computed, and the threads of TensorFlow in a worker; None leaves them
# to the package.
ROWS: list[tuple[str, str, int | None]] = [
    ("one process, all cores", "serial", None),
    ("one process, one core", "one core", 1),
    (f"joblib, {N_WORKERS} workers", "joblib", None),
    (f"joblib, {N_WORKERS} workers, not limited", "joblib", N_WORKERS),
    (f"Dask, {N_WORKERS} workers", "dask", None),
    (f"Dask, {N_WORKERS} workers, not limited", "dask", N_WORKERS),
]


def with_joblib(detector: NCAEDetector, images: NDArray[np.uint8]) -> None:
    """Score one part in each worker of joblib, for the detector travels with every task."""
    joblib.Parallel(n_jobs=N_WORKERS)(
        joblib.delayed(detector.score_samples)(part) for part in np.array_split(images, N_WORKERS)
    )


def with_dask(detector: NCAEDetector, images: NDArray[np.uint8]) -> None:
    """Score chunks with the workers of the current Dask client."""
    score_dask(detector, da.from_array(images, chunks=(CHUNK, -1, -1))).compute()


def measure(how: str, size: int, n_images: int, repetitions: int) -> float:
    """Return the seconds that scoring takes in this process and its workers."""
    if how == "one core":
        # Linux alone can; of the threads that remain, one is NumPy's and one is TensorFlow's.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    images = make_castings(
        n_good=n_images, n_defect=1, image_size=(size, size), random_state=0
    ).images[:n_images]
    detector = NCAEDetector(epochs=1, contamination=0.1, random_state=0).fit(images[:CHUNK])
    functions: dict[str, Callable[..., Any]] = {
        "serial": NCAEDetector.score_samples,
        "one core": NCAEDetector.score_samples,
        "joblib": with_joblib,
        "dask": with_dask,
    }
    function = partial(functions[how], detector, images)
    with ExitStack() as stack:
        if how == "dask":
            cluster = LocalCluster(
                n_workers=N_WORKERS, threads_per_worker=1, dashboard_address=":0"
            )
            stack.enter_context(Client(stack.enter_context(cluster)))
        seconds = []
        function()  # every worker imports TensorFlow and traces
        for _ in range(repetitions):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=300, help="side of the images")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measure(options.measure, options.size, options.images, options.repetitions))
        return
    milliseconds = {}
    for name, how, threads in ROWS:
        environment = dict(os.environ)
        if threads is not None:
            environment["TF_NUM_INTRAOP_THREADS"] = str(threads)
        run = subprocess.run(
            [sys.executable, *sys.argv, "--measure", how],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        milliseconds[name] = 1000 * float(run.stdout.splitlines()[-1]) / options.images
    whole = milliseconds[ROWS[0][0]]
    rows = [[name, f"{ms:.2f}", f"{whole / ms:.2f}"] for name, ms in milliseconds.items()]
    report("workers", ["", "ms per image", "throughput"], rows, options.write)
    one_worker = milliseconds[ROWS[1][0]]
    hours = {n: 1e6 * one_worker / n / 3.6e6 for n in (1, 8, 32, 128)}
    rows = [[str(n), f"{value:.2f}"] for n, value in hours.items()]
    report("estimate", ["workers of one core", "hours (estimate)"], rows, options.write)


if __name__ == "__main__":
    main()
