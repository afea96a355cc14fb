"""Draw the picture of the README: drawn castings, and where NCAEDetector sees their defects.

python benchmarks/picture.py
"""

import os
from pathlib import Path

# Before matplotlib is imported: no window.
os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt
import numpy as np

from sklearn_ncae import NCAEDetector
from sklearn_ncae.datasets import make_castings

OUTPUT = Path(__file__).parent.parent / "docs" / "_static" / "defect_maps.png"
SHOWN = 7  # defective castings, beside one good one


def main() -> None:
    good = make_castings(300, 0, image_size=128, random_state=0).images
    test = make_castings(1, SHOWN, image_size=128, random_state=1)
    detector = NCAEDetector(random_state=0).fit(good)
    maps, labels = detector.defect_map(test.images), detector.predict(test.images)
    figure, axes = plt.subplots(2, SHOWN + 1, figsize=(2 * (SHOWN + 1), 4.3), layout="constrained")
    for column, (image, of_image, label) in enumerate(zip(test.images, maps, labels, strict=True)):
        axes[0, column].imshow(image, cmap="gray", vmin=0, vmax=255)
        axes[1, column].imshow(of_image, cmap="magma", vmin=0, vmax=np.max(maps))
        axes[0, column].set_title("good" if test.target[column] == 1 else "defective")
        axes[1, column].set_xlabel("called good" if label == 1 else "called defective")
    for ax in axes.ravel():
        ax.set(xticks=[], yticks=[])
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUTPUT, dpi=60)
    print(f"==> Wrote {OUTPUT}")


if __name__ == "__main__":
    main()
