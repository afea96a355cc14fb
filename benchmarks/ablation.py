"""Measure what parts of NCAEDetector are worth, on development images.

The images come from the training side of `detection.py`'s first split alone, split again by group
(ELPV by file order), so that choosing by these figures does not touch the test images. A result is
a line of the results file, and is not computed again:

    export NCAE_DATA=FOLDER  # see detection.py
    python benchmarks/ablation.py           # computes what is missing
    python benchmarks/ablation.py --report  # writes the table from the results
"""

import argparse
import json
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import keras
import numpy as np
from detection import DATASETS, Images, load, split_rows
from detection_report import table
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

import sklearn_ncae
from sklearn_ncae import (
    NCAEDetector,
    NeighborConv2D,
    ResidualStatistics,
    defects,
    network,
)
from sklearn_ncae.residuals import DEFECT_MAP_STATISTICS
from sklearn_ncae.texture import TextureDetector

ROOT = Path(__file__).parent
MAX_TEST = 250  # images of a class
OF_RESIDUAL = ("abs_peak", "abs_max", "mse", "entropy")
# The statistics of parts that do not lie alike.
PLACED = {"score": "the score", "texture": "`texture`", "defect_peak": "`defect_peak`"}
# The score, if another deviation of the defect peak were taken for usual.
OTHER_REACHES = {
    "score_1": "the score, deviations of `defect_peak` as usual as in training",
    "score_5": "the score, those of 5 times as much",
    "score_least": "the score, those as in training, but of 0.15 at least",
}
# Tried beside the statistics of the package: each by its key in the results file.
TRIED = {
    "mirrored": "`defect_peak`, mean of the maps of the image and its mirror image",
    "structural": "peak of the structural difference (1 - SSIM) of image and repaired image",
}

INTRODUCTION = """\
---
orphan: true
---

# What the parts of the detector are worth

ROC AUC on development images: the training side of the detection benchmark's first split, split
again. With so few groups (7 photographs of good castings to train on) differences below about 0.05
mean nothing; {seeds}. sklearn-ncae {version}, rows of {dates}, those of other
networks than the default the older ones.

The first two commands compute what is here and more; a table has the rows that were computed.

```sh
python benchmarks/ablation.py
python benchmarks/ablation.py --size 300
python benchmarks/ablation.py --report
```
"""
STATISTICS = """
## Images of {size} x {size} pixels: the score, and statistics on their own

Of the detector with all defaults. The score joins `defect_peak`, of which deviations of 2.5 times
what is usual of training images count as usual, and `texture`.
"""
OF_NETWORK = """
## The network, one change at a time, {size} x {size} pixels

`defect_peak` alone. Networks with a change are compared with that of {steps} steps, and were
trained for as many, which takes two fifths of the time of the default; where a row says "all
steps", with the default.
"""
OF_TEXTURE = """
## The texture, one change at a time, {size} x {size} pixels

`TextureDetector`, which has no seed.
"""
OF_PLACEMENT = """
## Parts that do not lie alike, {size} x {size} pixels

Networks of {steps} steps. All images, to train on and to choose by, were moved or turned at random,
each differently. What comes in from beyond the border of an image is mirrored.
"""


def placed(images: NDArray[Any], move: float = 0.0, turn: float = 0.0) -> NDArray[Any]:
    """Move 8-bit images by up to a share of their sides, and turn them by up to some degrees."""
    random_state = np.random.RandomState(0)
    sides = np.array(images.shape[1:])
    centre = (sides - 1) / 2
    results = np.empty_like(images)
    for image, result in zip(images, results, strict=True):
        angle = np.deg2rad(random_state.uniform(-turn, turn))
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        step = np.rint(random_state.uniform(-move, move, 2) * sides)
        offset = centre + step - matrix @ centre
        # Where nothing is turned, pixels are copied.
        order = 3 if turn else 0
        moved = affine_transform(image.astype(float), matrix, offset, order=order, mode="mirror")
        result[...] = np.clip(np.rint(moved), 0, 255)
    return results


class Variant(NamedTuple):
    """What is changed: parameters of NCAEDetector, constants of the package, or else."""

    parameters: dict[str, Any]
    constants: dict[str, Any]
    n_networks: int = 1
    place: Callable[[NDArray[Any]], NDArray[Any]] | None = None


# Networks with a change are compared with one of so many steps, and have as many.
STEPS = 600
COMPARED = f"{STEPS} steps"
# The cross-entropy of the marks as it is. It is larger than the focal one, so its weight is less.
PLAIN_LOSS = partial(network.RepairLoss, mask_weight=2.0, gamma=0.0, large_area=np.inf)
# The default optimizer and schedule, with weights averaged over some hundred steps.
AVERAGING_ADAM = keras.optimizers.Adam(
    keras.optimizers.schedules.CosineDecay(2e-3, STEPS, alpha=0.05), use_ema=True, ema_momentum=0.99
)
SHAPES = tuple(s for s in defects._SHAPES if s not in (defects._bar, defects._polygon))
CHANGES = {
    COMPARED: Variant({}, {}),
    "Conv2D for NeighborConv2D": Variant({"convolution": "standard"}, {}),
    "no ReLU between neighbour convolution and normalization": Variant(
        {}, {"network.NeighborConv2D": partial(NeighborConv2D, activation=None)}
    ),
    "no bars, no large areas": Variant({}, {"defects._SHAPES": SHAPES}),
    "no dropout": Variant({}, {"network._DROPOUT": 0.0}),
    "no changes of exposure": Variant({}, {"network._EXPOSURE": 0.0}),
    "a fourth level": Variant({"filters": (16, 32, 64, 64)}, {}),
    "two levels": Variant({"filters": (16, 32)}, {}),
    "no focal loss, large areas in full": Variant({}, {"network.RepairLoss": PLAIN_LOSS}),
    "two levels, no focal loss, large areas in full": Variant(
        {"filters": (16, 32)}, {"network.RepairLoss": PLAIN_LOSS}
    ),
    "L1 loss of the repaired image": Variant({"loss": "mae"}, {}),
    "moving average of the weights": Variant({"optimizer": AVERAGING_ADAM}, {}),
    "mean of the maps of three networks": Variant({}, {}, n_networks=3),
    "mixed precision in training": Variant({"dtype_policy": "mixed_bfloat16"}, {}),
    "300 steps": Variant({}, {"reconstructor._REPAIR_STEPS": 300}),
    "no means of 2 x 2": Variant({}, {"reconstructor._LARGE_SIDE": np.inf}),
}
# Those that are trained for as many steps as the default, and compared with it.
ALL_STEPS = {
    "all steps, strides of neighbour convolutions": Variant(
        {}, {"network._StandardConv2D": NeighborConv2D}
    ),
    "all steps, 16 filters in the outermost level": Variant({"filters": (16, 32, 64)}, {}),
}
PLACEMENTS = {
    "moved by up to 1/16 of the side": Variant({}, {}, place=partial(placed, move=1 / 16)),
    "turned by up to 5 degrees": Variant({}, {}, place=partial(placed, turn=5)),
    "turned by any angle": Variant({}, {}, place=partial(placed, turn=180)),
}
VARIANTS = {"the default": Variant({}, {}), **ALL_STEPS} | {
    name: variant._replace(constants={"reconstructor._REPAIR_STEPS": STEPS} | variant.constants)
    for name, variant in (CHANGES | PLACEMENTS).items()
}
# What is changed of the texture: constants of its module.
TEXTURE_VARIANTS: dict[str, dict[str, Any]] = {
    "all defaults": {},
    "horizontal and vertical neighbours": {
        "_DIRECTIONS": ((0, 1), (1, 0)),
        "_PARTS_PER_CHANNEL": 7,
    },
    # What a place contributes is the same, and what is too faint to be seen. A line has two places
    # at least, so that a single one is taken twice.
    "single places, no lines": {"_LINE": (0, 0), "_FAINTEST": 0.0048, "_NOISE": 0.8 / 255},
    "lines of 3 places": {"_LINE": (-1, 0, 1), "_FAINTEST": 0.0072, "_NOISE": 1.2 / 255},
    "lines of 7 places": {
        "_LINE": (-3, -2, -1, 0, 1, 2, 3),
        "_FAINTEST": 0.0168,
        "_NOISE": 2.8 / 255,
    },
    "neighbours at a distance of 1 alone": {"_DISTANCES": (1,), "_PARTS_PER_CHANNEL": 5},
    "neighbours at a distance of 4 alone": {"_DISTANCES": (4,), "_PARTS_PER_CHANNEL": 5},
    "relative to the brightness of the whole image": {"_SURROUNDINGS": 100.0},
    "without the brightness of cells": {"_BRIGHTNESS": 0.0},
    "twice the weight of brightness": {"_BRIGHTNESS": 4.0},
    "8 x 8 cells": {"_N_CELLS": 8},
    "4 x 4 cells": {"_N_CELLS": 4},
    "each cell on its own": {"_REACH": 0.0},
    "cells gathered twice as far": {"_REACH": 2.0},
    "each cell's own variance": {"_BESIDE": 0.0},
    "only what is rougher": {"_SMOOTHER": 0.0},
    "smoother counts as much": {"_SMOOTHER": 1.0},
    "at most 20 components": {"_MAX_COMPONENTS": 20},
    "1 component": {"_MAX_COMPONENTS": 1},
    "64 components, fully believed": {"_BELIEVED_BY_HALF": 1e-9},
    "components believed 4 times as much": {"_BELIEVED_BY_HALF": 0.0015},
    "components believed a quarter as much": {"_BELIEVED_BY_HALF": 0.024},
    "what is faint is not seen (0.12)": {"_FAINTEST": 0.12},
    "less than two gray levels is seen": {"_NOISE": 0.0},
    "not shrunk": {"_SIDE": 10_000},
    "40 images to learn from": {"_MAX_TEXTURES": 40},
}


def development_rows(
    name: str, data: Images, max_train: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows to train on, all good, and those to choose by."""
    random_state = np.random.RandomState(0)
    if data.test is not None:
        side = np.setdiff1d(np.arange(len(data.target)), data.test)
        cut = int(0.6 * len(side))
        train, test = side[:cut], side[cut:]
    else:
        _, tested = split_rows(data, "group", 0, None)
        side = np.setdiff1d(np.arange(len(data.target)), tested)
        names = np.unique(data.groups[side])
        has_defects = np.isin(names, data.groups[side][data.target[side] == -1])
        _, held_out = train_test_split(names, test_size=0.35, stratify=has_defects, random_state=1)
        is_test = np.isin(data.groups[side], held_out)
        train, test = side[~is_test], side[is_test]
    train = train[data.target[train] == 1]
    chosen = [random_state.permutation(train)[:max_train]]
    for label in (1, -1):
        chosen.append(random_state.permutation(test[data.target[test] == label])[:MAX_TEST])
    return np.sort(chosen[0]), np.sort(np.concatenate(chosen[1:]))


def evaluate(name: str, size: int, max_train: int, variant: str, seed: int) -> dict[str, float]:
    """Return the ROC AUC of each statistic of one network."""
    data = load(name, size)
    train, test = development_rows(name, data, max_train)
    changed = VARIANTS[variant]
    place = changed.place or (lambda images: images)
    shown = place(data.images[np.concatenate([train, test])])
    good, images = np.split(shown, [len(train)])
    with ExitStack() as stack:
        for constant, value in changed.constants.items():
            stack.enter_context(patch(f"sklearn_ncae.{constant}", value))
        detector, *others = (
            NCAEDetector(random_state=seed + 100 * index, **changed.parameters).fit(good)
            for index in range(changed.n_networks)
        )
    values = {
        "score": -detector.score_samples(images),
        **scores_of_other_reaches(detector, images),
        "texture": detector._describe(images[..., np.newaxis], ["texture"])[:, 0],
    }
    maps = np.mean([one.defect_map(images) for one in (detector, *others)], axis=0)
    for key, statistic in DEFECT_MAP_STATISTICS.items():
        values[key] = statistic.compute(maps)
    peak = DEFECT_MAP_STATISTICS["defect_peak"].compute
    values["mirrored"] = peak((maps + detector.defect_map(images[:, :, ::-1])[:, :, ::-1]) / 2)
    values["structural"] = peak(structural_difference(images, detector.reconstruct(images)))
    residuals = detector.residual(images)
    for key in OF_RESIDUAL:
        values[key] = ResidualStatistics(key).transform(residuals)[:, 0]
    is_defect = data.target[test] == -1
    return {key: float(roc_auc_score(is_defect, value)) for key, value in values.items()}


def scores_of_other_reaches(
    detector: NCAEDetector, images: NDArray[Any]
) -> dict[str, NDArray[np.float64]]:
    """Return what the score would be if other deviations of the peak were taken for usual."""
    statistics = detector._statistics(images[..., np.newaxis], ["defect_peak", "texture"])
    deviations = statistics - detector._center
    of_peak, of_texture = detector._reach
    # None of these sets is so quiet in training that the least reach decides, nor a surface.
    of_training = of_peak / DEFECT_MAP_STATISTICS["defect_peak"].reach_factor
    reaches = {
        "score_1": of_training,
        "score_5": 5 * of_training,
        "score_least": max(of_training, 0.15),
    }
    return {
        key: np.logaddexp.reduce(deviations / [reach, of_texture], axis=1)
        for key, reach in reaches.items()
    }


def evaluate_texture(name: str, size: int, max_train: int, variant: str) -> dict[str, float]:
    """Return the ROC AUC of the texture alone."""
    data = load(name, size)
    train, test = development_rows(name, data, max_train)
    scores = texture_scores(variant, data.images[train], data.images[test])
    return {"texture": float(roc_auc_score(data.target[test] == 1, scores))}


def texture_scores(variant: str, good: NDArray[Any], images: NDArray[Any]) -> NDArray[np.float64]:
    """Return the scores of images by a variant of the texture that was fitted to good ones."""
    with ExitStack() as stack:
        for constant, value in TEXTURE_VARIANTS[variant].items():
            stack.enter_context(patch(f"sklearn_ncae.texture.{constant}", value))
        return TextureDetector().fit(good).score_samples(images)


def structural_difference(
    images: NDArray[Any], repaired: NDArray[Any], sigma: float = 1.5
) -> NDArray[np.float64]:
    """Return 1 - SSIM at each pixel of 8-bit images (n, h, w).

    References
    ----------
    Wang, Bovik, Sheikh & Simoncelli, Image quality assessment: from error visibility to
    structural similarity, IEEE Transactions on Image Processing 13, 2004.
    """
    x, y = images.astype(np.float64), repaired.astype(np.float64)

    def around(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return gaussian_filter(values, (0, sigma, sigma))

    mean_x, mean_y = around(x), around(y)
    var_x, var_y = around(x**2) - mean_x**2, around(y**2) - mean_y**2
    covariance = around(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return 1 - luminance * (2 * covariance + c2) / (var_x + var_y + c2)


def write_page(records: list[dict[str, Any]], path: Path) -> None:
    """Write the tables of each size."""

    def mean(dataset: str, variant: str, statistic: str, size: int) -> str:
        key = {"dataset": dataset, "variant": variant, "size": size}
        chosen = [
            record[statistic]
            for record in records
            if key.items() <= record.items() and statistic in record
        ]
        if not chosen:
            return "-"
        spread = f" ± {np.std(chosen, ddof=1):.3f}" if len(chosen) > 1 else ""
        return f"{np.mean(chosen):.3f}{spread}"

    def tables(size: int) -> list[str]:
        head = ["", *DATASETS.values()]
        measured = {record["variant"] for record in records if record["size"] == size}
        statistics = [
            [label, *(mean(d, "the default", key, size) for d in DATASETS)]
            for key, label in {
                "score": "the score",
                **OTHER_REACHES,
                "texture": "`texture`",
                **{key: f"`{key}`" for key in (*DEFECT_MAP_STATISTICS, *OF_RESIDUAL)},
                **TRIED,
            }.items()
            if any(mean(d, "the default", key, size) != "-" for d in DATASETS)
        ]
        statistics[1:1] = [
            [f"the score, {variant}", *(mean(d, variant, "score", size) for d in DATASETS)]
            for variant in ALL_STEPS
            if variant in measured
        ]
        moved = [variant for variant in PLACEMENTS if variant in measured]
        placements = [
            [f"{variant}: {label}", *(mean(d, variant, key, size) for d in DATASETS)]
            for variant in ([COMPARED, *moved] if moved else [])
            for key, label in PLACED.items()
        ]
        changes, of_texture = (
            [
                [variant, *(mean(d, variant, statistic, size) for d in DATASETS)]
                for variant in variants
                if variant in measured
            ]
            for variants, statistic in (
                (("the default", *ALL_STEPS, *CHANGES), "defect_peak"),
                (TEXTURE_VARIANTS, "texture"),
            )
        )
        return [
            line
            for heading, rows in (
                (STATISTICS, statistics),
                (OF_NETWORK, changes),
                (OF_TEXTURE, of_texture),
                (OF_PLACEMENT, placements),
            )
            if rows
            for line in (heading.format(size=size, steps=STEPS), *table(head, rows))
        ]

    n_seeds = len({record["seed"] for record in records if "seed" in record})
    dates = [record["date"] for record in records]
    introduction = INTRODUCTION.format(
        seeds="one seed" if n_seeds == 1 else f"mean and deviation of {n_seeds} seeds or fewer",
        version=sklearn_ncae.__version__,
        dates=" to ".join(sorted({min(dates), max(dates)})),
    )
    sizes = sorted({record["size"] for record in records})
    lines = [introduction.rstrip(), *(line for size in sizes for line in tables(size))]
    path.write_text("\n".join(lines) + "\n")
    print(f"==> Wrote {path}")


def main() -> None:
    """Run what is missing, or write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=128, help="side of the images")
    parser.add_argument("--max-train", type=int, default=300, help="most good images to train on")
    parser.add_argument("--report", action="store_true", help="write the page from the results")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "ablation.jsonl")
    parser.add_argument(
        "--output", type=Path, default=ROOT.parent / "docs" / "benchmarks" / "ablation.md"
    )
    options = parser.parse_args()
    path: Path = options.results
    lines = path.read_text().splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines]
    if options.report:
        write_page(records, options.output)
        return
    path.parent.mkdir(parents=True, exist_ok=True)

    sizes = {"size": options.size, "max_train": options.max_train}

    def keep(key: dict[str, Any], values: dict[str, float]) -> None:
        record = key | values | {"date": date.today().isoformat()}
        records.append(record)
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(", ".join(map(str, key.values())), values, flush=True)

    for dataset in options.datasets:
        for variant in TEXTURE_VARIANTS:
            key = {"dataset": dataset, "variant": variant, **sizes}
            if not any(key.items() <= record.items() for record in records):
                keep(key, evaluate_texture(dataset, options.size, options.max_train, variant))
    # Seed by seed: a table that is stopped early has a row for everything.
    for seed in options.seeds:
        for variant in options.variants:
            for dataset in options.datasets:
                key = {"dataset": dataset, "variant": variant, "seed": seed, **sizes}
                if any(key.items() <= record.items() for record in records):
                    continue
                keep(key, evaluate(dataset, options.size, options.max_train, variant, seed))


if __name__ == "__main__":
    main()
