"""How well and how fast near_duplicates finds the copies in three real image sets.

Run as ``NCAE_DATA=... python benchmarks/near_duplicates.py [--write] [--n-jobs 2]``. The folder
holds `casting` and `magnetic_tile`, each with a `manifest.csv` (path, split, group). The ELPV
images come with the package elpv-dataset. Prints Markdown; with ``--write`` it also goes to
docs/benchmarks/near_duplicates.md.
"""

import argparse
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from sklearn_ncae.near_duplicates import leakage_report, near_duplicate_groups

SIZES = (900, 1800, 3600, 7348)
THRESHOLDS = (0.75, 0.8, 0.85)


def pairwise(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Precision and recall of "same photograph" over all pairs of images."""
    table = pd.crosstab(found, true).to_numpy(dtype=float)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    together = pairs(table)
    return together / pairs(table.sum(axis=1)), together / pairs(table.sum(axis=0))


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(*names: str) -> Iterator[str]:
    yield ""
    yield row(*names)
    yield row(*["---"] * len(names))


def report(data: Path, n_jobs: int) -> Iterator[str]:
    yield "# Near duplicates"
    yield ""
    yield (
        "Made by `NCAE_DATA=... python benchmarks/near_duplicates.py --write`; "
        f"{n_jobs} threads of {os.cpu_count()} CPU cores ({platform.machine()}), "
        f"Python {platform.python_version()}, NumPy {np.__version__}."
    )
    yield "Pairwise precision and recall are of the manifest's `group`."

    casting = pd.read_csv(data / "casting" / "manifest.csv")
    casting["path"] = [str(data / "casting" / path) for path in casting["path"]]
    yield ""
    yield "## Casting: quality and cost at the default threshold"
    yield ""
    yield "Random images of both splits. Quality without group c120, which carries both labels."
    yield from head(
        "images", "seconds", "peak MB of the process", "precision", "recall", "groups",
        "manifest's", "largest",
    )  # fmt: skip
    for size in SIZES:
        chosen = casting.sample(size, random_state=0)
        start = time.perf_counter()
        found = near_duplicate_groups(chosen["path"].tolist(), n_jobs=n_jobs)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        keep = (chosen["group"] != "c120").to_numpy()
        true = chosen["group"].to_numpy()[keep]
        found = found[keep]
        precision, recall = pairwise(found, true)
        yield row(
            size, f"{seconds:.0f}", f"{peak:.0f}", f"{precision:.3f}", f"{recall:.3f}",
            len(np.unique(found)), len(np.unique(true)), np.bincount(found).max(),
        )  # fmt: skip

    part = casting[casting["group"] != "c120"].sample(1500, random_state=0)
    sets = [("casting, random sample", part["path"].tolist(), part["group"].to_numpy())]
    tile = pd.read_csv(data / "magnetic_tile" / "manifest.csv")
    sets.append(
        (
            "magnetic_tile",
            [str(data / "magnetic_tile" / path) for path in tile["path"]],
            tile["group"].to_numpy(),
        )
    )
    try:
        from elpv_dataset.utils import load_dataset
    except ImportError:
        yield "\nELPV skipped: elpv-dataset is not installed."
    else:
        sets.append(("ELPV", load_dataset()[0], None))
    yield ""
    yield "## The threshold"
    yield from head(
        "set", "images", "threshold", "precision", "recall", "groups", "manifest's", "largest"
    )
    for name, images, true in sets:
        for threshold in THRESHOLDS:
            found = near_duplicate_groups(images, threshold=threshold, n_jobs=n_jobs)
            figures: tuple[object, ...] = ("-", "-")
            if true is not None:
                figures = tuple(f"{value:.3f}" for value in pairwise(found, true))
            yield row(
                name,
                len(images),
                threshold,
                *figures,
                found.max() + 1,
                "-" if true is None else len(np.unique(true)),
                np.bincount(found).max(),
            )

    train = casting[casting["split"] == "train"]
    test = casting[casting["split"] == "test"]
    start = time.perf_counter()
    leaks = leakage_report(train["path"].tolist(), test["path"].tolist(), n_jobs=n_jobs)
    seconds = time.perf_counter() - start
    in_train = test["group"].isin(train["group"]).to_numpy()
    good = test["label"].to_numpy() == 0
    identical = np.zeros(len(test), dtype=bool)
    identical[leaks.table.loc[leaks.table["identical"], "test"]] = True
    digests = {Path(path).read_bytes() for path in train["path"]}
    same_bytes = np.array([Path(path).read_bytes() in digests for path in test["path"]])
    yield ""
    yield f"## Casting: official train and test split ({seconds:.0f} s)"
    yield from head("test images", "all", "good", "defective")
    for name, mask in [
        ("in the split", np.ones(len(test), dtype=bool)),
        ("of a photograph in train, by the manifest", in_train),
        ("reported as leaked", leaks.leaked),
        ("file byte-identical in train", same_bytes),
        ("reported as identical", identical),
        ("byte-identical and reported as identical", same_bytes & identical),
    ]:
        yield row(name, mask.sum(), (mask & good).sum(), (mask & ~good).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks too")
    parser.add_argument("--n-jobs", type=int, default=2)
    arguments = parser.parse_args()
    if not os.environ.get("NCAE_DATA"):
        print("Skipped: set NCAE_DATA to the folder that holds casting and magnetic_tile.")
        sys.exit(0)
    lines = []
    for line in report(Path(os.environ["NCAE_DATA"]), arguments.n_jobs):
        print(line, flush=True)
        lines.append(line)
    if arguments.write:
        target = Path(__file__).parents[1] / "docs" / "benchmarks" / "near_duplicates.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
