"""The page of tables, and its picture, that ``detection.py --report`` writes."""

import os
from pathlib import Path
from typing import Any

# Before matplotlib is imported: no window.
os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt
import numpy as np

Record = dict[str, Any]

FIGURES = {
    "roc_auc": "ROC AUC",
    "prc_auc": "PRC AUC",
    "f1": "F1",
    "accuracy": "accuracy",
    "found": "defects found",
    "false_alarms": "false alarms",
}

INTRODUCTION = """\
---
orphan: true
---

# Detection benchmark

Detectors fitted on good images only, on published images of defects. Images of one photograph
(casting) or one part (magnetic tile) are on one side of a split, whose test set has 30 % of the
groups. ELPV is split by file order, because its modules are not marked. Thresholds come from good
images, at 5 % false alarms among new images of the parts that were trained on. The test images show
other parts, of which it may be more. Rows with `fit(X, groups)` are told which training images show
the same part. Defects are the positive class.

A detector that loses to mean brightness, one number per image and no model, has learned nothing.
The two one-sided rows of it show what that number gives to those who know whether defects are dark
or bright, which no detector here is told.

```sh
{command}
{command} --report
```

Images of {size} x {size} pixels, at most {max_train} training images (drawn at random, the same
for all detectors); sklearn-ncae {version}, {date}, {cores} cores that did other work as well, so
the times are upper bounds. `make_detector` in `benchmarks/detection.py` has the parameters.

## ROC AUC

Mean and standard deviation over the splits. On ELPV, which has one split: the 95 % bootstrap
interval over blocks of 60 neighbouring cells.
"""

LOCALIZATION = """
Where the defects are, against the masks drawn by hand: {figures}.
"""

LEAK = """
## The leak

ROC AUC on casting, with all training images. The images are warped copies of 134 photographs: a
random split has copies of a photograph on both sides, and measures how well they are recognised.
"""


def write_report(records: list[Record], max_train: int, command: str, output: Path) -> None:
    """Write the Markdown page `output`, and a PNG beside it.

    Parameters
    ----------
    records : list of dict
        Lines of the results file, with the names to show as "dataset" and "detector", in the
        order to show.
    max_train : int
        The cap on training images of the records of the main tables.
    command : str
        What computed them.
    output : Path
        Where to write.
    """
    records = [record | shares(record) for record in records]
    main = [r for r in records if r["kind"] != "random" and r["max_train"] == max_train]
    datasets, detectors = distinct(main, "dataset"), distinct(main, "detector")
    lines = [
        INTRODUCTION.format(
            command=command,
            size=records[0]["size"],
            max_train=max_train,
            version=max(record["version"] for record in records),
            date=max(record["date"] for record in records),
            cores=os.cpu_count(),
        ),
        *table(
            ["", *datasets],
            [
                [
                    detector,
                    *(
                        spread(
                            splits := select(main, dataset=dataset, detector=detector), "roc_auc"
                        )
                        + missing(splits, select(main, dataset=dataset))
                        for dataset in datasets
                    ),
                ]
                for detector in detectors
            ],
        ),
        "",
        *verdicts(main),
        "",
        f"![ROC AUC of every split, and the mean or interval]({output.stem}.png)",
    ]
    for dataset in datasets:
        of_dataset = select(main, dataset=dataset)
        sizes = [
            " to ".join(str(size) for size in sorted({min(sizes), max(sizes)}))
            for sizes in (
                [record[key] for record in of_dataset] for key in ("n_train", "n_good", "n_defect")
            )
        ]
        rows = []
        for detector in distinct(of_dataset, "detector"):
            splits = select(of_dataset, detector=detector)
            rows.append(
                [
                    detector,
                    *(spread(splits, figure) for figure in FIGURES),
                    str(len(splits)),
                    f"{np.mean([record['fit_seconds'] for record in splits]):.1f}",
                    f"{np.mean([record['ms_per_image'] for record in splits]):.2f}",
                ]
            )
        lines += [
            "",
            f"## {dataset[0].upper()}{dataset[1:]}",
            "",
            f"{sizes[0]} good images to train on; {sizes[1]} good and {sizes[2]} defective ones to "
            "test on.",
            "",
            *table(["", *FIGURES.values(), "splits", "fit s", "ms/image"], rows),
        ]
        marked = [record for record in of_dataset if "aupro" in record]
        for detector in distinct(marked, "detector"):
            maps = select(marked, detector=detector)
            figures = f"AUPRO (false-positive rate to 0.3) {spread(maps, 'aupro')}, pixel ROC AUC "
            figures += f"{spread(maps, 'pixel_roc_auc')} with the maps of {detector}"
            lines.append(LOCALIZATION.format(figures=figures).rstrip())
    leak = select(records, max_train=None)
    if leak:
        rows = [
            [
                detector,
                *(
                    spread(select(leak, kind=kind, detector=detector), "roc_auc")
                    for kind in ("random", "group")
                ),
            ]
            for detector in distinct(leak, "detector")
        ]
        lines += [LEAK, *table(["", "random split", "group split"], rows)]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join(lines) + "\n")
    draw(main, output.with_suffix(".png"))
    print(f"==> Wrote {output} and {output.with_suffix('.png')}")


def shares(record: Record) -> Record:
    """Return the shares of defects found and of false alarms, which F1 and accuracy determine."""
    n_good, n_defect, f1 = record["n_good"], record["n_defect"], record["f1"]
    n_wrong = (n_good + n_defect) * (1 - record["accuracy"])
    # As F1 = 2 found / (2 found + wrong).
    n_found = f1 * n_wrong / (2 * (1 - f1)) if f1 < 1 else n_defect
    return {
        "found": n_found / n_defect,
        "false_alarms": (n_wrong - (n_defect - n_found)) / n_good,
    }


def verdicts(records: list[Record]) -> list[str]:
    """Say for each data set how NCAE stands against brightness read in the better direction."""
    lines = []
    for dataset in distinct(records, "dataset"):
        of_dataset = select(records, dataset=dataset)
        # Splits differ in how hard they are: where NCAE lacks some, the others lack them too.
        splits = {record["split"] for record in select(of_dataset, detector="NCAE")}
        of_dataset = [record for record in of_dataset if record["split"] in splits]
        means = {
            name: np.mean([record["roc_auc"] for record in select(of_dataset, detector=name)])
            for name in distinct(of_dataset, "detector")
        }
        brightness = max((means[name] for name in means if "brightness" in name), default=None)
        if brightness is not None and "NCAE" in means:
            verb = "beats" if means["NCAE"] > brightness else "does NOT beat"
            lines.append(
                f"- {dataset}: NCAE {verb} mean brightness ({means['NCAE']:.3f} against "
                f"{brightness:.3f} on the same {len(splits)} split{'s' * (len(splits) > 1)}). "
                f"Best: {max(means, key=lambda name: means[name])}."
            )
    return lines


def distinct(records: list[Record], key: str) -> list[str]:
    """Return the values of a key in the order in which they come."""
    return list(dict.fromkeys(record[key] for record in records))


def select(records: list[Record], **wanted: Any) -> list[Record]:
    """Return the records that have the wanted values."""
    return [r for r in records if all(r[key] == value for key, value in wanted.items())]


def spread(records: list[Record], figure: str) -> str:
    """Return a figure's mean with its spread over splits, or its interval, as text."""
    if not records:
        return "-"
    values = [record[figure] for record in records]
    text = f"{np.mean(values):.3f}"
    if figure == "roc_auc" and "roc_auc_interval" in records[0]:
        low, high = records[0]["roc_auc_interval"]
        return f"{text} [{low:.2f}, {high:.2f}]"
    return text if len(values) == 1 else f"{text} ± {np.std(values, ddof=1):.3f}"


def missing(records: list[Record], of_all: list[Record]) -> str:
    """Return a note where a detector has not been run on all splits."""
    n, n_all = len(records), len({record["split"] for record in of_all})
    return f" ({n} of {n_all} splits)" if 0 < n < n_all else ""


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [head, [":--"] + ["--:"] * (len(head) - 1), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def draw(records: list[Record], path: Path) -> None:
    """Draw the ROC AUC of every split, a panel for each data set."""
    datasets, detectors = distinct(records, "dataset"), distinct(records, "detector")
    figure, axes = plt.subplots(
        1,
        len(datasets),
        figsize=(2.5 + 2.2 * len(datasets), 1 + 0.33 * len(detectors)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax, dataset in zip(axes[0], datasets, strict=True):
        for height, detector in enumerate(detectors):
            splits = select(records, dataset=dataset, detector=detector)
            if not splits:
                continue
            values = [record["roc_auc"] for record in splits]
            color = "C7" if "brightness" in detector else "C1" if "NCAE" in detector else "C0"
            ax.plot(values, [height] * len(values), "o", color=color, alpha=0.4, markersize=4)
            ax.plot(np.mean(values), height, "D", color=color)
            if "roc_auc_interval" in splits[0]:
                ax.plot(splits[0]["roc_auc_interval"], [height] * 2, color=color)
        ax.axvline(0.5, color="0.7", linewidth=0.8, zorder=0)
        ax.set(title=dataset, xlabel="ROC AUC")
    axes[0, 0].set_yticks(range(len(detectors)), detectors)
    axes[0, 0].invert_yaxis()
    figure.savefig(path, dpi=120)
    plt.close(figure)
