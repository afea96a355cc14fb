"""An ONNX detector in float32, float16 and 8-bit integers: latency, file size, ROC AUC, threshold.

Fits one detector on published images, exports it, and converts its convolutions with the tools
that onnxruntime brings: to float16, and to 8-bit integers with ranges found at run time (dynamic)
or on training images (static). All of them score the same images in turn in one process with one
thread, so that what else the machine does hits all alike. What is scored of other precisions keeps
the threshold of the float32 detector.

    export NCAE_DATA=FOLDER  # as for benchmarks/detection.py; not needed for --data elpv_poly
    python benchmarks/onnx_precision.py
    python benchmarks/onnx_precision.py --write  # also docs/benchmarks/onnx_precision.md
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import onnx
from detection import DATASETS, Images, load, split_rows
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.transformers.float16 import convert_float_to_float16
from performance import interleaved_seconds
from sklearn.metrics import roc_auc_score

from sklearn_ncae import NCAEDetector
from sklearn_ncae.onnx import OnnxDetector, export

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks" / "onnx_precision.md"

# What is converted: nearly all of the time goes into these. The rest keeps its precision, as the
# statistics need it.
CONVERTED = ["Conv"]
N_CALIBRATION = 32


class CalibrationImages(CalibrationDataReader):
    """Images by which `quantize_static` finds the ranges of activations."""

    def __init__(self, images: NDArray[Any]) -> None:
        self.batches: Iterator[NDArray[Any]] = iter(images[:, np.newaxis].astype(np.float32))

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next input of the graph; None at the end."""
        batch = next(self.batches, None)
        return None if batch is None else {"image": batch}


def convert(original: Path, images: NDArray[Any]) -> dict[str, Path]:
    """Write the model in other precisions beside it."""
    paths = {"float32": original}
    paths |= {
        name: original.with_name(f"{name.replace(' ', '_')}.onnx")
        for name in ("float16", "int8, dynamic", "int8, static")
    }
    model = onnx.load(original)
    kinds = {node.op_type for node in model.graph.node}
    converted = convert_float_to_float16(
        model, keep_io_types=True, op_block_list=sorted(kinds - set(CONVERTED))
    )
    onnx.save(converted, paths["float16"])
    quantize_dynamic(
        original,
        paths["int8, dynamic"],
        op_types_to_quantize=CONVERTED,
        weight_type=QuantType.QUInt8,
    )
    quantize_static(
        original,
        paths["int8, static"],
        CalibrationImages(images),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=CONVERTED,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    metadata = {entry.key: entry.value for entry in onnx.load(original).metadata_props}
    for path in paths.values():
        written = onnx.load(path)
        del written.metadata_props[:]
        onnx.helper.set_model_props(written, metadata)
        onnx.save(written, path)
    return paths


def measure(
    paths: dict[str, Path], X: NDArray[Any], y: NDArray[np.int64], repetitions: int
) -> list[tuple[str, ...]]:
    """Return the rows of the table."""
    detectors = {name: OnnxDetector(path, n_threads=1) for name, path in paths.items()}
    few = X[:32]

    def one(detector: OnnxDetector) -> Any:
        return lambda: detector.predict(few[:1])

    def many(detector: OnnxDetector) -> Any:
        return lambda: detector.predict(few)

    latency = interleaved_seconds({k: one(d) for k, d in detectors.items()}, repetitions)
    batch = interleaved_seconds(
        {k: many(d) for k, d in detectors.items()}, max(5, repetitions // 8)
    )
    scores = {name: detector.score_samples(X) for name, detector in detectors.items()}
    reference = scores["float32"]
    offset = detectors["float32"].offset_
    rows: list[tuple[str, ...]] = []
    for name, path in paths.items():
        # Ratios of the two in the same turn.
        ratio = {
            kind: median(np.divide(seconds["float32"], seconds[name]))
            for kind, seconds in (("one", latency), ("many", batch))
        }
        flagged = scores[name] < offset
        rows.append(
            (
                name,
                f"{path.stat().st_size / 1000:.0f} kB",
                f"{ratio['one']:.2f}x",
                f"{ratio['many']:.2f}x",
                f"{roc_auc_score(y == -1, -scores[name]):.3f}",
                f"{np.max(np.abs(scores[name] / reference - 1)):.1e}",
                f"{100 * np.mean(flagged != (reference < offset)):.1f} %",
                f"{100 * np.mean(flagged[y == 1]):.1f} %",
            )
        )
    return rows


HEADER = (
    "convolutions in",
    "file",
    "speed, one image",
    "speed, 32 images",
    "ROC AUC",
    "scores differ by up to",
    "decisions changed",
    "false alarms",
)


def main() -> None:
    """Fit, convert, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=list(DATASETS), default="casting")
    parser.add_argument("--size", type=int, default=128, help="side of the images")
    parser.add_argument("--max-train", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} too")
    options = parser.parse_args()

    data: Images = load(options.data, options.size)
    kind = "group" if data.train is None else "block"
    train, test = split_rows(data, kind, 0, options.max_train)
    detector = NCAEDetector(epochs=options.epochs, false_alarm_rate=0.05, random_state=0)
    detector.fit(data.images[train])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "float32.onnx"
        export(detector, path)
        paths = convert(path, data.images[train][:N_CALIBRATION])
        rows = measure(paths, data.images[test], data.target[test], options.repetitions)
    lines = ["| " + " | ".join(row) + " |" for row in (HEADER, *rows)]
    lines.insert(1, "| :-- " + "| --: " * (len(HEADER) - 1) + "|")
    table = "\n".join(lines)
    text = (
        f"{DATASETS[options.data]}, {options.size} x {options.size} pixels, {len(train)} good "
        f"images to train on for {options.epochs} epochs, {len(test)} to test on; one thread; "
        f"speed is the median of {options.repetitions} turns, as a multiple of float32's in the "
        "same turn; the threshold is float32's for 5 % false alarms, which does not hold on "
        f"photographs of other castings than those of training.\n\n{table}\n"
    )
    print(text)
    if options.write:
        command = " ".join(["benchmarks/onnx_precision.py", *sys.argv[1:]])
        PAGE.write_text(
            f"# ONNX models of lower precision\n\n{text}\nMade by `python {command}` with "
            f"onnxruntime {onnxruntime_version()}.\n"
        )


def onnxruntime_version() -> str:
    """Return what makes the figures."""
    import onnxruntime

    return str(onnxruntime.__version__)


if __name__ == "__main__":
    main()
