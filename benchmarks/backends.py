"""Time of fitting and scoring with each Keras backend that is installed, in processes of their own.

The backends take turns, several times. Every fit compiles its network first, which takes as long as
many steps: a short and a longer fit tell the two apart. A process scores twice, and the second time
counts.

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
SHORT, LONG, STEPS = 2, 12, 10  # epochs of the two fits, steps of an epoch


def measure(size: int) -> dict[str, float]:
    """Return the times in seconds to start, per step and per image, with this backend."""
    images = make_castings(n_good=160, n_defect=1, image_size=(size, size), random_state=0).images
    images = images[:160]

    def fit(epochs: int) -> tuple[NCAEDetector, float]:
        detector = NCAEDetector(epochs=epochs, contamination=0.1, random_state=0)
        start = time.perf_counter()
        detector.fit(images)
        return detector, time.perf_counter() - start

    fit(1)  # imports what is needed
    (_, short), (detector, long) = fit(SHORT), fit(LONG)
    step = (long - short) / ((LONG - SHORT) * STEPS)
    seconds = {"start": short - SHORT * STEPS * step, "step": step}
    for _ in range(2):
        start = time.perf_counter()
        detector.score_samples(images)
        seconds["image"] = (time.perf_counter() - start) / len(images)
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
        start, step, image = (
            statistics.median(run[what] for run in results) for what in ("start", "step", "image")
        )
        rows.append([backend, f"{start:.1f}", f"{1000 * step:.0f}", f"{1000 * image:.2f}"])
    header = ["backend", "fit: start, s", "ms per step of 16 images", "score: ms per image"]
    report("backends", header, rows, options.write)


if __name__ == "__main__":
    main()
