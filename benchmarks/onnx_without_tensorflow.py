"""Check that the ONNX detector runs where nothing but NumPy and onnxruntime is installed.

Makes a virtual environment with this package, installed without its dependencies, and these two,
scores images with a model exported here, and compares the scores. Needs the network, or a cache of
pip, for the two packages.

    python benchmarks/onnx_without_tensorflow.py
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from sklearn_ncae import NCAEDetector
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.onnx import export

ROOT = Path(__file__).parent.parent

SCORE = """
import sys
from importlib.metadata import distributions

import numpy as np
from sklearn_ncae.onnx import OnnxDetector

detector = OnnxDetector("detector.onnx")
np.save("scores.npy", detector.score_samples(np.load("images.npy")))
print("installed:", *sorted(d.name for d in distributions()))
print("imported:", *sorted({"tensorflow", "keras", "sklearn", "scipy"} & set(sys.modules)))
"""


def main() -> None:
    """Export, install, score and compare."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    good = make_castings(40, 0, image_size=32, random_state=0).images
    detector = NCAEDetector(filters=(4, 8), epochs=1, contamination=0.1, random_state=0).fit(good)
    with TemporaryDirectory() as name:
        folder = Path(name)
        export(detector, folder / "detector.onnx")
        np.save(folder / "images.npy", good)
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        python = str(folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python")
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "numpy", "onnxruntime"], check=True)
        subprocess.run([*install, "--no-deps", str(ROOT)], check=True)
        # Not the modules of this environment, nor those of the folder that this is run from.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        subprocess.run([python, "-c", SCORE], check=True, cwd=folder, env=environment)
        scores, expected = np.load(folder / "scores.npy"), detector.score_samples(good)
    # Scores of several statistics are about 0 for good images, where a share says nothing.
    difference = (np.abs(scores - expected) / np.maximum(np.abs(expected), 1)).max()
    print(f"{len(scores)} scores differ by at most {difference:.1e}, or that share of their value")
    if difference > 1e-5:
        raise SystemExit("The scores are not those of the detector.")


if __name__ == "__main__":
    main()
