"""Time of fitting and scoring with each Keras backend that is installed, in processes of their own.

The backends take turns, several times; a process fits twice and scores twice, and the second time
counts, because the first one compiles.

    python benchmarks/backends.py
    python benchmarks/backends.py --write  # also the table in docs/performance.md
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from performance import report

from sklearn_ncae import NCAEDetector
from sklearn_ncae.datasets import make_castings

BACKENDS = ["tensorflow", "jax", "torch"]


def measure(size: int) -> dict[str, float]:
    """Return the times in seconds per step and per image, with the backend of this process."""
    images = make_castings(n_good=160, n_defect=1, image_size=(size, size), random_state=0).images
    seconds = {}
    for _ in range(2):
        detector = NCAEDetector(epochs=3, contamination=0.1, random_state=0)
        start = time.perf_counter()
        detector.fit(images[:160])
        seconds["step"] = (time.perf_counter() - start) / 30
    for _ in range(2):
        start = time.perf_counter()
        detector.score_samples(images[:160])
        seconds["image"] = (time.perf_counter() - start) / 160
    return seconds


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=300, help="side of the images")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.size)))
        return
    installed = [backend for backend in BACKENDS if find_spec(backend)]
    runs: dict[str, list[dict[str, float]]] = {backend: [] for backend in installed}
    for _ in range(options.repetitions):
        for backend in installed:
            run = subprocess.run(
                [sys.executable, *sys.argv, "--measure"],
                env={**os.environ, "KERAS_BACKEND": backend},
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            runs[backend].append(json.loads(run.stdout.splitlines()[-1]))
    rows = []
    for backend, results in runs.items():
        step, image = (
            statistics.median(run[what] for run in results) for what in ("step", "image")
        )
        rows.append([backend, f"{1000 * step:.0f}", f"{1000 * image:.2f}"])
    header = ["backend", "fit: ms per step of 16 images", "score: ms per image"]
    report("backends", header, rows, options.write)


if __name__ == "__main__":
    main()
