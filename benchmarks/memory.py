"""Memory and time of fitting and scoring as the number of images grows, each in a fresh process.

The images are 300 x 300 bytes in a file, which is mapped into memory (`numpy.memmap`), or files
of their own, which an `ImageLoader` reads. Private memory is what the process itself allocates; the
resident memory counts its libraries and the pages of the mapped file too.

    python benchmarks/memory.py
    python benchmarks/memory.py --images 500 1000 --files 500
    python benchmarks/memory.py --write  # also the tables in docs/performance.md
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from performance import report
from PIL import Image
from sklearn.pipeline import make_pipeline

from sklearn_ncae import ImageLoader, NCAEDetector
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.large_data import score_in_chunks

SIDE = 300
# A small network: what is measured is what goes along with it.
NETWORK: dict[str, Any] = {"filters": (4, 8), "epochs": 1, "random_state": 0}


class PeakMemory(threading.Thread):
    """Watches the memory of this process, which Linux tells in /proc/self/status."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.megabytes = {"RssAnon": 0.0, "VmHWM": 0.0}

    def look(self) -> None:
        """Look once."""
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in self.megabytes:
                self.megabytes[name] = max(self.megabytes[name], int(value.split()[0]) / 1000)

    def run(self) -> None:
        """Look again and again."""
        while True:
            self.look()
            time.sleep(0.01)


def measure(kind: str, source: str, n: int) -> dict[str, float]:
    """Fit and score n images in this process."""
    memory = PeakMemory()
    memory.start()
    detector = NCAEDetector(**NETWORK)
    start = time.perf_counter()
    if kind == "memmap":
        images = np.load(source, mmap_mode="r")[:n]
        detector.fit(images)
        fitted = time.perf_counter()
        detector.score_samples(images)
    else:
        paths = sorted(map(str, Path(source).iterdir()))
        loader = ImageLoader(n_jobs=2)
        detector.fit(loader.transform(paths[:200]))
        fitted = time.perf_counter()
        score_in_chunks(make_pipeline(loader, detector), [paths[i % len(paths)] for i in range(n)])
    end = time.perf_counter()
    memory.look()
    return {"fit": fitted - start, "score": end - fitted, **memory.megabytes}


def in_fresh_process(kind: str, source: Path, n: int) -> dict[str, float]:
    """Measure in a process of its own."""
    run = subprocess.run(
        [sys.executable, __file__, "--measure", kind, str(source), str(n)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--images", type=int, nargs="+", default=[500, 1000, 2000, 4000, 8000, 20000]
    )
    parser.add_argument("--files", type=int, nargs="+", default=[500, 4000])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        kind, source, n = options.measure
        print(json.dumps(measure(kind, source, int(n))))
        return
    castings = make_castings(n_good=200, n_defect=1, image_size=(SIDE, SIDE), random_state=0)
    good = castings.images[castings.target == 1]
    with tempfile.TemporaryDirectory() as folder:
        file, files = Path(folder) / "images.npy", Path(folder) / "files"
        images = np.lib.format.open_memmap(
            file, mode="w+", dtype=np.uint8, shape=(max(options.images), SIDE, SIDE)
        )
        for start in range(0, len(images), len(good)):
            part = images[start : start + len(good)]
            part[...] = good[: len(part)]
        images.flush()
        files.mkdir()
        for i, image in enumerate(good):
            Image.fromarray(image).save(files / f"{i:03}.png")
        for kind, source, sizes in (
            ("memmap", file, options.images),
            ("files", files, options.files),
        ):
            rows: list[list[str]] = []
            fewest: dict[str, float] = {}
            for n in sizes:
                figures = in_fresh_process(kind, source, n)
                fewest = fewest or figures
                row = [f"{n}", f"{n * SIDE**2 / 1e6:.0f}"]
                if kind == "memmap":
                    row += [f"{figures['fit']:.1f}", f"{1000 * figures['fit'] / n:.1f}"]
                row += [f"{figures['score']:.1f}", f"{1000 * figures['score'] / n:.1f}"]
                for name in ("RssAnon", "VmHWM"):
                    row += [f"{figures[name]:.0f}", f"{figures[name] - fewest[name]:+.0f}"]
                rows.append(row)
            header = ["images", "MB of pixels"]
            if kind == "memmap":
                header += ["fit, s", "ms per image"]
            header += ["score, s", "ms per image"]
            for name in ("private", "resident"):
                header += [f"peak {name}, MB", f"more than for {sizes[0]}"]
            report(kind, header, rows, options.write)


if __name__ == "__main__":
    main()
