"""Which way defects move each residual statistic, on real images.

Trains the article's recipe on good images and prints, for every statistic, the ROC AUC with which
its value alone, read upwards, tells defective test images from good ones: above 0.5 defects have
the higher values, below 0.5 the lower ones. Solar cells come from the package elpv-dataset; the
castings and tiles need NCAE_DATA, as in detection.py.

    python benchmarks/residual_statistics.py
    python benchmarks/residual_statistics.py --write  # also docs/benchmarks/residual_statistics.md
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from detection import load, split_rows
from sklearn.metrics import roc_auc_score

from sklearn_ncae import NCAEDetector
from sklearn_ncae.residuals import STATISTICS

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks" / "residual_statistics.md"


def upward_roc_auc(dataset: str, size: int, epochs: int) -> list[float]:
    """Return the ROC AUC of each statistic on one split of a data set."""
    data = load(dataset, size)
    kind = "block" if data.train is not None else "group"
    train, test = split_rows(data, kind, split=0, max_train=300)
    detector = NCAEDetector(
        training="reconstruct", epochs=epochs, contamination=0.05, random_state=0
    ).fit(data.images[train])
    statistics = detector.residual_statistics(data.images[test])
    defective = data.target[test] == -1
    return [float(roc_auc_score(defective, column)) for column in statistics.T]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="side of the images")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} too")
    options = parser.parse_args()
    datasets = ["elpv_mono", "elpv_poly"]
    if os.environ.get("NCAE_DATA"):
        datasets = ["casting", "magnetic_tile", *datasets]
    columns = [upward_roc_auc(name, options.size, options.epochs) for name in datasets]
    lines = ["| statistic | " + " | ".join(datasets) + " |", "|---" * (1 + len(datasets)) + "|"]
    for name, *values in zip(STATISTICS, *columns, strict=True):
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    table = "\n".join(lines)
    print(table)
    if options.write:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(
            "# Which way defects move the residual statistics\n\n"
            "ROC AUC of each statistic alone, read upwards, for defective against good test "
            f"images of one split without leakage ({options.size} x {options.size} pixels, "
            f'`training="reconstruct"`, {options.epochs} epochs, at most 300 good training '
            "images). Below 0.5, defects have the *lower* values.\n\n"
            "Made by `python benchmarks/residual_statistics.py --write` with `NCAE_DATA` set.\n\n"
            f"{table}\n\n"
            "The article hopes that the information entropy is near 0 for good and near 1 for "
            "defective images. Entropy measures how evenly the residual is spread, and which side "
            "the defects are on differs from product to product. The detectors therefore score it "
            "by its distance from the median of good images, as they do the mean, sum, minimum, "
            "skewness and kurtosis.\n"
        )


if __name__ == "__main__":
    main()
