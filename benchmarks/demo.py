"""NCAE beside scikit-learn's outlier detectors, in one table: what ``make demo`` runs.

Every detector is fitted on good images only and scores the same test images. The threshold behind
accuracy and F1 comes from good images too, at a false-alarm rate of 5 %.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

# Before TensorFlow and matplotlib are imported: no start-up notes, no window.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from sklearn_ncae import NCAEDetector
from sklearn_ncae.baselines import MeanBrightnessDetector, usual_detectors
from sklearn_ncae.datasets import load_elpv, load_image_folder, make_castings
from sklearn_ncae.inspection import (
    PrecisionRecallComparisonDisplay,
    ResidualMapDisplay,
    RocCurveComparisonDisplay,
)
from sklearn_ncae.metrics import detection_scores_from_predictions
from sklearn_ncae.texture import TextureDetector

FALSE_ALARM_RATE = 0.05
BRIGHTNESS, ONE_SIDE = "mean brightness", "mean brightness, one side*"
TRAIN_SHARE = 0.6  # of the good images, where the data has no split of its own


class Split(NamedTuple):
    """Good images to train on, and labelled images (+1 good, -1 defect) to test on."""

    X_train: NDArray[Any]
    X_test: NDArray[Any]
    y_test: NDArray[np.int64]


def load(data: str, size: int) -> Split:
    """Load the images that ``--data`` names, as 8-bit gray images of `size` by `size` pixels."""
    if data == "synthetic":
        # Two seeds: no casting of the test set was seen in training.
        train = make_castings(300, 0, image_size=size, random_state=0)
        test = make_castings(150, 150, image_size=size, random_state=1)
        return Split(train.images, test.images, test.target)
    if data.startswith("elpv_"):
        cells = load_elpv(kind=data.removeprefix("elpv_"), size=(size, size))
        return Split(cells.images[cells.train], cells.images[cells.test], cells.target[cells.test])
    parts = load_image_folder(data, size=(size, size))
    in_train = parts.split == "train"
    if not in_train.any():
        # Blocks, not a random draw: neighbouring files often show the same part.
        good = np.flatnonzero(parts.target == 1)
        in_train[good[: round(TRAIN_SHARE * len(good))]] = True
    X_train, X_test = parts.images[in_train & (parts.target == 1)], parts.images[~in_train]
    y_test = parts.target[~in_train]
    if not len(X_train) or len(np.unique(y_test)) < 2:
        raise SystemExit(
            f"{parts.DESCR} Needed are good images to train on, and good and defective ones to "
            "test on: the folders train/good, test/good and test/defect, or just good and defect."
        )
    return Split(X_train, X_test, y_test)


def detectors(epochs: int | str, n_train: int, verbose: int, seed: int) -> dict[str, Any]:
    """Return the unfitted detectors by the name that the table shows."""
    ncae = NCAEDetector(
        epochs=epochs, false_alarm_rate=FALSE_ALARM_RATE, verbose=verbose, random_state=seed
    )
    article = clone(ncae).set_params(training="reconstruct")
    return {
        "NCAE": ncae,
        "its texture alone": TextureDetector(false_alarm_rate=FALSE_ALARM_RATE),
        "NCAE, article's recipe": article,
        BRIGHTNESS: MeanBrightnessDetector(contamination=FALSE_ALARM_RATE),
        **usual_detectors(
            n_components=min(64, n_train), false_alarm_rate=FALSE_ALARM_RATE, random_state=seed
        ),
        "plain convolutional AE": clone(article).set_params(convolution="standard"),
    }


def evaluate(
    name: str, detector: Any, split: Split
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Fit and score one detector; return its row of the table and its decision values."""
    print(f"==> {name}: fitting {len(split.X_train)} good images", flush=True)
    start = time.perf_counter()
    detector.fit(split.X_train)
    fit_seconds = time.perf_counter() - start
    # The first call of a network compiles it, which is not the time of an image.
    detector.decision_function(split.X_test[:1])
    start = time.perf_counter()
    decision = np.asarray(detector.decision_function(split.X_test), dtype=np.float64)
    ms_per_image = 1000 * (time.perf_counter() - start) / len(split.X_test)
    row = detection_scores_from_predictions(split.y_test, decision)
    print(
        f"    fitted in {fit_seconds:.1f} s, {len(split.X_test)} test images scored: "
        f"ROC AUC {row['roc_auc']:.3f}",
        flush=True,
    )
    return row | {"fit_seconds": fit_seconds, "ms_per_image": ms_per_image}, decision


def brightness_on_one_side(split: Split) -> NDArray[np.float64]:
    """Return the decision values of brightness alone, read in the direction that suits the test."""
    train, test = (X.mean(axis=(1, 2)) for X in (split.X_train, split.X_test))
    # The labels decide whether dark or bright is abnormal: more than a detector may know.
    defects_are_dark = test[split.y_test == -1].mean() < test[split.y_test == 1].mean()
    side = 1 if defects_are_dark else -1
    return np.asarray(side * test - np.quantile(side * train, FALSE_ALARM_RATE))


def print_table(rows: dict[str, dict[str, float]]) -> None:
    """Print one line per detector; defects are the positive class."""
    print(f"\n{'':27}accuracy  ROC AUC  PRC AUC     F1   fit s  ms/image")
    for name, row in rows.items():
        print(
            f"{name:27}{row['accuracy']:8.3f} {row['roc_auc']:8.3f} {row['prc_auc']:8.3f} "
            f"{row['f1']:6.3f} {row['fit_seconds']:7.1f} {row['ms_per_image']:9.2f}"
        )


def verdict(rows: dict[str, dict[str, float]]) -> str:
    """Say in a sentence how NCAE stands by ROC AUC."""
    ncae = rows["NCAE"]["roc_auc"]
    brightness = max(rows[name]["roc_auc"] for name in (BRIGHTNESS, ONE_SIDE))
    if ncae <= brightness:
        return (
            f"NCAE does NOT beat mean brightness here: ROC AUC {ncae:.3f} against "
            f"{brightness:.3f} for one number per image and no model."
        )
    best = max(rows, key=lambda name: rows[name]["roc_auc"])
    text = f"NCAE beats mean brightness: ROC AUC {ncae:.3f} against {brightness:.3f}."
    return text + ("" if best == "NCAE" else f" The best here is {best}.")


def draw(output: Path, ncae: Any, split: Split, decisions: dict[str, NDArray[np.float64]]) -> None:
    """Write the pictures into the folder `output`."""
    output.mkdir(parents=True, exist_ok=True)
    decision, y = decisions["NCAE"], split.y_test
    ranked = np.argsort(decision)
    # Defects from clearly found to clearly missed, good parts from clearly passed to flagged.
    defect, good = ranked[y[ranked] == -1], ranked[y[ranked] == 1][::-1]
    pictures = {
        "best": np.concatenate([defect[:2], good[:2]]),
        "worst": np.concatenate([defect[-2:], good[-2:]]),
        "borderline": np.argsort(np.abs(decision))[:4],
    }
    for name, rows in pictures.items():
        display = ResidualMapDisplay.from_estimator(ncae, split.X_test[rows], y[rows])
        save(display.figure_, output / f"residuals_{name}.png")
    for name, curves in (
        ("roc_curves", RocCurveComparisonDisplay),
        ("precision_recall_curves", PrecisionRecallComparisonDisplay),
    ):
        figure, ax = plt.subplots(figsize=(7.5, 6), layout="constrained")
        curves.from_predictions(y, decisions, ax=ax)
        save(figure, output / f"{name}.png")


def save(figure: Any, path: Path) -> None:
    """Write a figure and close it."""
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"    wrote {path}")


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data",
        default="elpv_poly",
        help='"elpv_poly" (solar cells, default), "elpv_mono", "synthetic" (drawn castings), or a '
        "folder of images in subfolders for good and defective parts",
    )
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument(
        "--epochs",
        type=lambda text: text if text == "auto" else int(text),
        default="auto",
        help="passes of the networks over the training images (default: auto, as NCAEDetector)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of every detector")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="for pictures")
    options = parser.parse_args(arguments)

    print(f"==> Loading {options.data} at {options.size}x{options.size}", flush=True)
    split = load(options.data, options.size)
    n_defects = np.count_nonzero(split.y_test == -1)
    print(
        f"    {len(split.X_train)} good images to train on; to test on "
        f"{len(split.y_test) - n_defects} good and {n_defects} defective ones"
    )
    verbose = 1 if sys.stdout.isatty() else 2  # elsewhere a progress bar fills the log
    fitted = detectors(options.epochs, len(split.X_train), verbose, options.seed)
    import keras  # noqa: F401  # not in the time of the first network

    rows, decisions = {}, {}
    for name, detector in fitted.items():
        rows[name], decisions[name] = evaluate(name, detector, split)
        if name == BRIGHTNESS:
            decisions[ONE_SIDE] = brightness_on_one_side(split)
            figures = detection_scores_from_predictions(split.y_test, decisions[ONE_SIDE])
            rows[ONE_SIDE] = rows[BRIGHTNESS] | figures

    print(f"==> Drawing into {options.output}/", flush=True)
    draw(options.output, fitted["NCAE"], split, decisions)
    print_table(rows)
    print("* dark or bright, whichever suits the labels of the test images better")
    print(f"\n{verdict(rows)}")


if __name__ == "__main__":
    main()
