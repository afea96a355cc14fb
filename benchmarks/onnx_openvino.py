"""OpenVINO beside onnxruntime, on one exported detector: the time of the score, and its rounding.

It needs `pip install openvino`, and is not part of `make benchmark`.

    python benchmarks/onnx_openvino.py
    python benchmarks/onnx_openvino.py --write  # also the table in docs/performance.md
"""

import argparse
import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from performance import medians, report

from sklearn_ncae import NCAEDetector
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.onnx import OnnxDetector, export


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=300, help="side of the images")
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    import openvino  # after --help, which needs none

    images = make_castings(64, 0, image_size=options.size, random_state=0).images
    detector = NCAEDetector(epochs=1, contamination=0.1, random_state=0).fit(images)
    expected = detector.score_samples(images)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "detector.onnx"
        export(detector, path, dtype="uint8", maps=False)
        onnxruntime = OnnxDetector(path)
        model = openvino.Core().read_model(path)
        # The score alone, as onnxruntime is asked for.
        score = openvino.Model([model.output("score")], model.get_parameters(), "score")
        # On its own it may round to half precision.
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(score, "CPU", config)

        def with_openvino(n: int) -> np.ndarray:
            return np.asarray(compiled([images[:n]])[0])

        rows = []
        for n in (1, 16):
            seconds = medians(
                {
                    "onnxruntime": partial(onnxruntime.score_samples, images[:n]),
                    "openvino": partial(with_openvino, n),
                },
                options.repetitions,
            )
            ours, theirs = onnxruntime.score_samples(images[:n]), with_openvino(n)
            rows.append(
                [
                    n,
                    *(f"{1000 * time / n:.2f}" for time in seconds.values()),
                    f"{seconds['openvino'] / seconds['onnxruntime']:.2f}",
                    *(f"{np.abs(s - expected[:n]).max():.0e}" for s in (ours, theirs)),
                ]
            )
    header = [
        "images at once",
        "onnxruntime, ms per image",
        "OpenVINO, ms per image",
        "of onnxruntime's time",
        "onnxruntime's scores differ by",
        "OpenVINO's scores differ by",
    ]
    report("openvino", header, rows, options.write)


if __name__ == "__main__":
    main()
