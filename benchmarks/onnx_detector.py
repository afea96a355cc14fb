"""The ONNX detector beside the Keras detector: start, memory, latency and throughput.

Trains a detector on drawn castings for a moment (what is measured does not depend on how well it is
trained), saves it as a pickle and as an ONNX file, and scores the same images with both. Each
repetition is a fresh process, Keras and ONNX take turns, and all of it is one run, so that what
else the machine does hits both. Prints the medians of the repetitions, and how many times better
ONNX is.

    python benchmarks/onnx_detector.py
    python benchmarks/onnx_detector.py --size 300 --repetitions 9 --threads 1
    python benchmarks/onnx_detector.py --write  # also docs/benchmarks/onnx_detector.md
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks" / "onnx_detector.md"

#: The detector that was saved; exported, with and without its maps.
KINDS = ("keras", "onnx", "onnx_scores")
#: What a process measures: how it is called in the table, its unit, and whether less is better.
FIGURES = {
    "start": ("import and load", "s", True),
    "first": ("first image", "ms", True),
    "p50": ("one image, median", "ms", True),
    "p99": ("one image, 99th percentile", "ms", True),
    "throughput": ("throughput", "images/s", False),
    "rss": ("peak memory (RSS)", "MB", True),
}


def measure(kind: str, folder: Path, n_single: int) -> dict[str, Any]:
    """Score images in this process, which has imported nothing but NumPy yet."""
    started = time.perf_counter()
    if kind == "keras":
        import joblib

        detector = joblib.load(folder / "detector.joblib")
        _ = detector.reconstructor_.model_  # rebuilt from its weights
    else:
        from sklearn_ncae.onnx import OnnxDetector

        threads = int(os.environ["OMP_NUM_THREADS"]) if "OMP_NUM_THREADS" in os.environ else None
        detector = OnnxDetector(folder / f"{kind}.onnx", n_threads=threads)
    figures = {"start": time.perf_counter() - started}
    images = np.load(folder / "images.npy", mmap_mode="r")

    def latency(row: int) -> float:
        image = np.array(images[row : row + 1])
        begun = time.perf_counter()
        detector.predict(image)
        return 1000 * (time.perf_counter() - begun)

    figures["first"] = latency(0)
    singles = [latency(row % len(images)) for row in range(n_single)]
    figures["p50"], figures["p99"] = np.percentile(singles, [50, 99])
    stack = np.array(images)
    scores = detector.score_samples(stack)
    begun = time.perf_counter()
    detector.score_samples(stack)
    figures["throughput"] = len(stack) / (time.perf_counter() - begun)
    # Linux counts in kB.
    figures["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {**{name: float(value) for name, value in figures.items()}, "scores": scores.tolist()}


def prepare(folder: Path, size: int, n_images: int) -> None:
    """Fit and save the detector and the images, in a process of its own."""
    import joblib

    from sklearn_ncae import NCAEDetector
    from sklearn_ncae.datasets import make_castings
    from sklearn_ncae.onnx import export

    good = make_castings(40, 0, image_size=size, random_state=0).images
    detector = NCAEDetector(epochs=1, contamination=0.05, random_state=0).fit(good)
    joblib.dump(detector, folder / "detector.joblib")
    for kind, maps in (("onnx", True), ("onnx_scores", False)):
        export(detector, folder / f"{kind}.onnx", maps=maps)
    images = make_castings(n_images // 2, n_images - n_images // 2, image_size=size).images
    np.save(folder / "images.npy", images)


def run_process(*arguments: str, threads: int | None) -> str:
    """Run this script with arguments in a fresh process, and return what it prints."""
    environment = dict(os.environ)
    if threads:
        names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        environment |= dict.fromkeys(names, str(threads))
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(
        command, check=True, text=True, stdout=subprocess.PIPE, env=environment
    ).stdout


def make_table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Make a Markdown table of the medians."""
    header = ["", "Keras", "ONNX", "better by", "ONNX, `maps=False`", "better by"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for name, (title, unit, less_is_better) in FIGURES.items():
        keras, *others = (median(run[name] for run in runs[kind]) for kind in KINDS)
        row = [title, f"{keras:.3g} {unit}"]
        for onnx in others:
            ratio = keras / onnx if less_is_better else onnx / keras
            row += [f"{onnx:.3g} {unit}", f"{ratio:.1f}x"]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=300, help="side of the images")
    parser.add_argument("--images", type=int, default=128, help="images of the throughput")
    parser.add_argument("--single", type=int, default=200, help="images scored one by one")
    parser.add_argument("--repetitions", type=int, default=5, help="processes of each kind")
    parser.add_argument("--threads", type=int, help="threads of both; as they choose without it")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} too")
    parser.add_argument("--process", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process:
        kind, saved = options.process[0], Path(options.process[1])
        if kind == "prepare":
            prepare(saved, options.size, options.images)
        else:
            print(json.dumps(measure(kind, saved, options.single)))
        return

    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    with TemporaryDirectory() as folder:
        sizes = [f"--{name}={getattr(options, name)}" for name in ("size", "images", "single")]
        run_process("--process", "prepare", folder, *sizes, threads=None)
        for repetition in range(options.repetitions):
            # Now one first, now the other.
            for kind in KINDS[:: -1 if repetition % 2 else 1]:
                printed = run_process("--process", kind, folder, *sizes, threads=options.threads)
                runs[kind].append(json.loads(printed.splitlines()[-1]))
        file_size = (Path(folder) / "onnx.onnx").stat().st_size
    keras, *others = (np.array(runs[kind][0]["scores"]) for kind in KINDS)
    difference = max(float(np.abs(onnx / keras - 1).max()) for onnx in others)
    threads = f"{options.threads} thread(s)" if options.threads else "as many threads as they chose"
    text = (
        f"{options.size} x {options.size} pixels, {options.images} images at once and "
        f"{options.single} one by one, {threads}, {os.cpu_count()} cores ({platform.machine()}); "
        f"medians of {options.repetitions} fresh processes each, taking turns.\n\n"
        f"{make_table(runs)}\n\n"
        f"The scores differ by at most {difference:.1e} of their value. The ONNX file has "
        f"{file_size / 1e6:.2f} MB."
    )
    print(text)
    if options.write:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(
            "# The ONNX detector beside the Keras detector\n\n"
            f"{text}\n\nMade by `python {' '.join(['benchmarks/onnx_detector.py', *sys.argv[1:]])}`"
            '; "import and load" begins where Python and NumPy are loaded.\n'
        )


if __name__ == "__main__":
    main()
