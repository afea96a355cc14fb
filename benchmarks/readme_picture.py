"""The picture in the README: castings, and what the detector marks in them.

``python benchmarks/readme_picture.py`` trains the default detector on 300 good drawn castings and
writes ``docs/_static/castings.png``. It shows the good test casting with the median score, of each
kind of defect the casting that the detector is surest of, and one that it misses. It also prints
how many castings of each kind are flagged, which the text under the picture says.
"""

import argparse
import os
from io import BytesIO
from pathlib import Path
from typing import Any

# Before TensorFlow and matplotlib are imported: no start-up notes, no window.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from sklearn_ncae import NCAEDetector
from sklearn_ncae.datasets import make_castings

PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "castings.png"
DEFECTS = ("blow_hole", "scratch", "burr")


def draw(detector: Any) -> None:
    """Choose the castings, draw them and write the picture."""
    test = make_castings(60, 60, image_size=128, random_state=1)
    decision = detector.decision_function(test.images)
    ranked = np.argsort(decision)
    for kind in ("good", *DEFECTS):
        print(f"{kind}: {np.mean(decision[test.kind == kind] < 0):.0%} flagged")
    of_good = ranked[test.kind[ranked] == "good"]
    of_defects = ranked[test.kind[ranked] != "good"]
    chosen = {"good, passed": of_good[len(of_good) // 2]}
    for kind in DEFECTS:
        chosen[f"{kind.replace('_', ' ')}, found"] = ranked[test.kind[ranked] == kind][0]
    # The missed one that is in the middle of those missed.
    missed = of_defects[decision[of_defects] >= 0]
    example = missed[len(missed) // 2]
    chosen[f"{test.kind[example].replace('_', ' ')}, missed"] = example

    rows = np.array(list(chosen.values()))
    maps = np.maximum(detector.anomaly_map(test.images[rows]), 0)
    figure, axes = plt.subplots(2, len(rows), figsize=(7.6, 3.25), layout="constrained")
    for column, (title, row) in enumerate(chosen.items()):
        above, below = axes[:, column]
        above.imshow(test.images[row], cmap="gray", vmin=0, vmax=255)
        above.set_title(title, fontsize=9)
        below.imshow(maps[column], cmap="magma", vmin=0, vmax=float(maps.max()))
        if test.masks[row].any():
            below.contour(test.masks[row], levels=[0.5], colors="white", linewidths=0.5)
    for ax in axes.flat:
        ax.set_axis_off()

    buffer = BytesIO()
    figure.savefig(buffer, dpi=100)
    PICTURE.parent.mkdir(exist_ok=True)
    # A palette makes a third of the size. This one keeps the few bright pixels of the maps.
    palette = Image.open(buffer).convert("RGB").quantize(200, Image.Quantize.MAXCOVERAGE)
    palette.save(PICTURE, optimize=True)
    print(f"wrote {PICTURE}, {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    training = make_castings(300, 0, image_size=128, random_state=0)
    draw(NCAEDetector(random_state=0).fit(training.images))
