"""Measure outlier detectors on published defect images, on splits that cannot leak.

Every detector is fitted on the same good images and judged on the same test images of each split.
Images of one photograph or one part are never on both sides of a split. A result is a line of the
results file, and is not computed again while the detector's parameters stay as they are:

    export NCAE_DATA=FOLDER  # holds casting/manifest.csv and magnetic_tile/manifest.csv
    python benchmarks/detection.py --leak           # computes what is missing
    python benchmarks/detection.py --leak --report  # writes the page from the results

The manifests have the columns path, label (0 good, 1 defect) and group (what was photographed);
the solar cells come from the package elpv-dataset.
"""

import argparse
import csv
import json
import os
import time
from datetime import date
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Self

# Before TensorFlow is imported: no start-up notes.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from detection_report import write_report
from numpy.typing import NDArray
from pretrained import PACKAGES as PRETRAINED
from pretrained import PatchGaussian, PatchMemory
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

import sklearn_ncae
from sklearn_ncae import NCAEDetector
from sklearn_ncae.baselines import MeanBrightnessDetector, usual_detectors
from sklearn_ncae.datasets import load_elpv
from sklearn_ncae.images import ImageLoader
from sklearn_ncae.metrics import (
    aupro_score,
    bootstrap_confidence_interval,
    detection_scores_from_predictions,
    pixel_roc_auc_score,
)
from sklearn_ncae.texture import TextureDetector

ROOT = Path(__file__).parent
FALSE_ALARM_RATE = 0.05
TEST_SHARE = 0.3  # of the groups, or of the images of a random split
CELLS_PER_MODULE = 60  # of ELPV, about: 2624 cells of 44 modules

DATASETS = {
    "casting": "casting",
    "magnetic_tile": "magnetic tile",
    "elpv_mono": "ELPV mono",
    "elpv_poly": "ELPV poly",
}
DETECTORS = {
    "ncae": "NCAE",
    "texture": "texture alone",
    "texture_groups": "texture alone, fit(X, groups)",
    "article": "NCAE, article's recipe",
    "conv_ae": "plain conv AE",
    "pyod": "PyOD AutoEncoder",
    "patch_memory": "nearest patches, pre-trained",
    "patch_gaussian": "patch Gaussians, pre-trained",
    "isolation_forest": "IsolationForest",
    "ocsvm": "PCA + OneClassSVM",
    "lof": "PCA + LocalOutlierFactor",
    "pca_mean": "PCA reconstruction, mean",
    "pca_max": "PCA reconstruction, max",
    "brightness": "mean brightness",
    "brightness_dark": "mean brightness, dark is abnormal",
    "brightness_bright": "mean brightness, bright is abnormal",
}
# What is not installed with the package, by what needs it.
PACKAGES = {"pyod": ("pyod", "torch"), "patch_memory": PRETRAINED, "patch_gaussian": PRETRAINED}
NETWORKS = ("ncae", "article", "conv_ae", *PACKAGES)
# This photograph of the castings carries both labels.
LEFT_OUT = {"casting": ("c120",)}
KEY = ("dataset", "kind", "split", "max_train", "size", "parameters")


class Images(NamedTuple):
    """A data set: images (n, h, w), labels (+1 good, -1 defect), groups, rows of its own split.

    `masks` (n, h, w) are True where a defect has been marked by hand; None where none has been.
    """

    images: NDArray[Any]
    target: NDArray[np.int64]
    groups: NDArray[Any]
    train: NDArray[np.intp] | None = None
    test: NDArray[np.intp] | None = None
    masks: NDArray[np.bool_] | None = None


class Task(NamedTuple):
    """One detector on one split; what is in its key decides the result."""

    dataset: str
    kind: str  # of split: "group", "block" or "random"
    split: int
    max_train: int | None
    size: int
    name: str
    detector: Any

    @property
    def knows_groups(self) -> bool:
        """Whether the detector is told which images show the same part."""
        return self.name.endswith("_groups")

    def key(self) -> dict[str, Any]:
        """Return what identifies the result; detectors by parameters, not by name."""
        parameters = json.dumps(self.detector, default=_parameters, sort_keys=True)
        if self.knows_groups:
            parameters += " fitted with groups"
        return {name: getattr(self, name) for name in KEY[:-1]} | {"parameters": parameters}


class OneSidedBrightness(OutlierMixin, BaseEstimator):
    """Mean brightness read in one direction: `sign` is +1 if dark images are abnormal, else -1."""

    def __init__(self, sign: int = 1, contamination: float = FALSE_ALARM_RATE) -> None:
        self.sign = sign
        self.contamination = contamination

    def fit(self, X: NDArray[Any], y: Any = None) -> Self:
        """Set the threshold."""
        self.offset_ = float(np.quantile(self.score_samples(X), self.contamination))
        return self

    def score_samples(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return the signed brightness of each image."""
        return np.asarray(self.sign * X.reshape(len(X), -1).mean(axis=1))

    def decision_function(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return the score relative to the threshold."""
        return self.score_samples(X) - self.offset_


class PyODAutoEncoder(OutlierMixin, BaseEstimator):
    """PyOD's fully connected autoencoder with scikit-learn's sign convention."""

    def __init__(self, epochs: int, contamination: float, random_state: int) -> None:
        self.epochs = epochs
        self.contamination = contamination
        self.random_state = random_state

    def fit(self, X: NDArray[Any], y: Any = None) -> Self:
        """Train the network."""
        from pyod.models.auto_encoder import AutoEncoder

        self.model_ = AutoEncoder(
            contamination=self.contamination,
            epoch_num=self.epochs,
            random_state=self.random_state,
            verbose=0,
        ).fit(X)
        return self

    def decision_function(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return PyOD's threshold minus its score."""
        return np.asarray(self.model_.threshold_ - self.model_.decision_function(X))


def _parameters(value: Any) -> Any:
    """Describe for JSON what JSON does not know: estimators and functions."""
    if hasattr(value, "get_params"):
        return {"class": type(value).__name__} | value.get_params(deep=False)
    return getattr(value, "__qualname__", None) or repr(value)


def make_detector(name: str, epochs: int, repair_epochs: int | str, seed: int) -> Any:
    """Return an unfitted detector; thresholds are set on good images, at 5 % false alarms."""
    rate = FALSE_ALARM_RATE
    # All that decides the article's result, whatever becomes of the defaults.
    article = NCAEDetector(
        training="reconstruct",
        draw_defects=None,
        filters=(16, 32, 64),
        bottleneck="spatial",
        bottleneck_size=8,
        convolution="neighbor",
        loss="mse",
        optimizer="adam",
        learning_rate=1e-3,
        batch_size=16,
        epochs=epochs,
        early_stopping=False,
        statistic="mse",
        contamination="auto",
        calibration=0.2,
        false_alarm_rate=rate,
        random_state=seed,
    )
    usual = usual_detectors(n_components=64, false_alarm_rate=rate, random_state=seed)
    match name:
        case "ncae":
            return NCAEDetector(epochs=repair_epochs, false_alarm_rate=rate, random_state=seed)
        case "article":
            return article
        case "texture" | "texture_groups":
            return TextureDetector(false_alarm_rate=rate)
        case "conv_ae":
            return article.set_params(convolution="standard")
        case "pyod":
            rows = usual["IsolationForest"][0]  # images as rows of numbers from 0 to 1
            return make_pipeline(rows, PyODAutoEncoder(epochs, rate, seed))
        case "patch_memory":
            return PatchMemory(rate, seed)
        case "patch_gaussian":
            return PatchGaussian(rate, seed)
        case "isolation_forest" | "ocsvm" | "lof":
            return usual[DETECTORS[name]]
        case "pca_mean":
            return usual["PCA reconstruction"]
        case "pca_max":
            return usual["PCA reconstruction"].set_params(statistic="abs_max")
        case "brightness":
            return MeanBrightnessDetector(contamination=rate)
    return OneSidedBrightness(1 if name == "brightness_dark" else -1)


@cache
def load(name: str, size: int) -> Images:
    """Load one data set as 8-bit gray images of `size` by `size` pixels."""
    print(f"==> Loading {DATASETS[name]} at {size}x{size}", flush=True)
    if name.startswith("elpv"):
        cells = load_elpv(kind=name.removeprefix("elpv_"), size=(size, size))
        # The data set names no modules; cells that stand together come from the same one.
        number = [int(Path(path).stem.removeprefix("cell")) for path in cells.paths]
        modules = np.array(number) // CELLS_PER_MODULE
        return Images(cells.images, cells.target, modules, cells.train, cells.test)
    folder = data_folder() / name
    loader = ImageLoader(size=(size, size))
    with (folder / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["group"] not in LEFT_OUT.get(name, ())]
    paths = [folder / row["path"] for row in rows]
    masks = [path.with_suffix(".png") for path in paths]
    return Images(
        loader.fit_transform(paths),
        np.array([-1 if int(row["label"]) else 1 for row in rows]),
        np.array([row["group"] for row in rows]),
        masks=loader.fit_transform(masks) > 127 if masks[0].exists() else None,
    )


def data_folder() -> Path:
    """Return the folder that NCAE_DATA names."""
    folder = os.environ.get("NCAE_DATA")
    if not folder:
        raise SystemExit(
            "The environment variable NCAE_DATA is not set. It names the folder that holds "
            "casting/manifest.csv and magnetic_tile/manifest.csv. Without it the solar cells "
            "alone can be used: --datasets elpv_mono elpv_poly"
        )
    return Path(folder)


def split_rows(
    data: Images, kind: str, split: int, max_train: int | None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows to train on, all good, and the rows to test on."""
    if kind == "block":
        assert data.train is not None and data.test is not None
        train, test = data.train, data.test
    elif kind == "random":
        train, test = train_test_split(
            np.arange(len(data.target)),
            test_size=TEST_SHARE,
            stratify=data.target,
            random_state=split,
        )
    else:
        names = np.unique(data.groups)
        has_defects = np.isin(names, data.groups[data.target == -1])
        _, test_names = train_test_split(
            names, test_size=TEST_SHARE, stratify=has_defects, random_state=split
        )
        in_test = np.isin(data.groups, test_names)
        train, test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
    train = np.sort(train[data.target[train] == 1])
    if max_train is not None and len(train) > max_train:
        train = np.sort(np.random.default_rng(split).choice(train, max_train, replace=False))
    return train, np.sort(test)


def evaluate(task: Task) -> dict[str, Any]:
    """Fit and score one detector on one split; return its line of the results file."""
    data = load(task.dataset, task.size)
    train, test = split_rows(data, task.kind, task.split, task.max_train)
    y_test = data.target[test]
    start = time.perf_counter()
    known = {"groups": data.groups[train]} if task.knows_groups else {}
    task.detector.fit(data.images[train], **known)
    fit_seconds = time.perf_counter() - start
    # The first call of a network compiles it, which is not the time of an image.
    task.detector.decision_function(data.images[test[:1]])
    start = time.perf_counter()
    decision = task.detector.decision_function(data.images[test])
    ms_per_image = 1000 * (time.perf_counter() - start) / len(test)
    record = task.key() | detection_scores_from_predictions(y_test, decision)
    if task.kind == "block":
        record["roc_auc_interval"] = bootstrap_confidence_interval(
            y_test, decision, groups=data.groups[test], random_state=0
        )
    if data.masks is not None and hasattr(task.detector, "anomaly_map"):
        maps = task.detector.anomaly_map(data.images[test])
        record["aupro"] = aupro_score(data.masks[test], maps)
        record["pixel_roc_auc"] = pixel_roc_auc_score(data.masks[test], maps)
    return record | {
        "fit_seconds": fit_seconds,
        "ms_per_image": ms_per_image,
        "n_train": len(train),
        "n_good": int(np.count_nonzero(y_test == 1)),
        "n_defect": int(np.count_nonzero(y_test == -1)),
        "version": sklearn_ncae.__version__,
        "date": date.today().isoformat(),
    }


def make_tasks(options: argparse.Namespace) -> list[Task]:
    """List what the options ask for, quick detectors first, then split by split."""
    runs = []
    for dataset in options.datasets:
        kind, n_splits = ("block", 1) if dataset.startswith("elpv") else ("group", options.splits)
        runs += [
            (dataset, kind, split, options.max_train, name)
            for split in range(n_splits)
            for name in options.detectors
        ]
    if options.leak:
        # With all training images: a copy of every test image is to be there.
        runs += [
            ("casting", kind, split, None, name)
            for kind in ("group", "random")
            for split in range(options.splits)
            for name in options.detectors
            if name not in NETWORKS
        ]
    runs.sort(key=lambda run: (run[-1] in NETWORKS, run[2]))
    return [
        Task(
            dataset,
            kind,
            split,
            cap,
            options.size,
            name,
            make_detector(name, options.epochs, options.repair_epochs, split),
        )
        for dataset, kind, split, cap, name in runs
    ]


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Read the results file: the records by their keys as text."""
    results = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
            results[key_text({name: record[name] for name in KEY})] = record
        except (ValueError, KeyError):
            # A run that was stopped while writing leaves half a line.
            continue
    return results


def key_text(key: dict[str, Any]) -> str:
    """Return a key in a form that can be looked up."""
    return json.dumps(key, sort_keys=True)


def run(tasks: list[Task], path: Path) -> None:
    """Compute what the results file lacks, and append it line by line."""
    done = set(read_results(path))
    for name in {task.name for task in tasks} & PACKAGES.keys():
        if not all(map(find_spec, PACKAGES[name])):
            print(f"==> {DETECTORS[name]} is skipped: pip install {' '.join(PACKAGES[name])}")
            tasks = [task for task in tasks if task.name != name]
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    for number, task in enumerate(tasks, 1):
        # Two names may stand for the same parameters, so the key is looked up every time.
        key = key_text(task.key())
        if key in done:
            continue
        title = f"{DATASETS[task.dataset]}, {task.kind} split {task.split}, {DETECTORS[task.name]}"
        try:
            record = evaluate(task)
        except Exception as error:  # the others go on, and the next run tries this one again
            failures += 1
            print(f"[{number}/{len(tasks)}] {title}: {type(error).__name__}: {error}", flush=True)
            continue
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        done.add(key)
        print(
            f"[{number}/{len(tasks)}] {title}: ROC AUC {record['roc_auc']:.3f}, "
            f"fitted in {record['fit_seconds']:.1f} s",
            flush=True,
        )
    if failures:
        raise SystemExit(f"{failures} results are missing, see above; run it again to try again.")


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark, or write its page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--splits", type=int, default=5, help="group splits (default: 5)")
    parser.add_argument("--size", type=int, default=128, help="side of the images (default: 128)")
    parser.add_argument(
        "--epochs",
        type=int,
        default=20,
        help="of the networks that are trained to reconstruct (default: 20)",
    )
    parser.add_argument(
        "--repair-epochs",
        type=lambda text: text if text == "auto" else int(text),
        default="auto",
        help="of NCAE, which is trained to repair (default: auto, as many as NCAEDetector takes)",
    )
    parser.add_argument(
        "--max-train",
        type=int,
        default=300,
        help="most good images to train on, drawn at random (default: 300)",
    )
    parser.add_argument(
        "--leak", action="store_true", help="also the quick detectors on random splits of casting"
    )
    parser.add_argument(
        "--report", action="store_true", help="write the page from the results, compute nothing"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "detection.jsonl")
    parser.add_argument(
        "--output", type=Path, default=ROOT.parent / "docs" / "benchmarks" / "detection.md"
    )
    options = parser.parse_args(arguments)

    tasks = make_tasks(options)
    if options.report:
        command = "python benchmarks/detection.py"
        named = ("datasets", "detectors", "splits", "size", "epochs", "repair_epochs", "max_train")
        for name in named:
            value = getattr(options, name)
            if value != parser.get_default(name):
                words = " ".join(value) if isinstance(value, list) else value
                command += f" --{name.replace('_', '-')} {words}"
        command += " --leak" if options.leak else ""
        results = read_results(options.results)
        records = [
            record | {"dataset": DATASETS[task.dataset], "detector": DETECTORS[task.name]}
            for task in sorted(tasks, key=lambda task: list(DETECTORS).index(task.name))
            if (record := results.get(key_text(task.key()))) is not None
        ]
        if not records:
            raise SystemExit(
                f"{options.results} has no results for these options. Run without --report first."
            )
        write_report(records, options.max_train, command, options.output)
        return
    if any(not name.startswith("elpv") for name in options.datasets) or options.leak:
        data_folder()  # says at once if it is not known
    run(tasks, options.results)


if __name__ == "__main__":
    main()
