"""Write model files of the present format, which later versions have to read.

    python tests/data/write_model_file.py [FOLDER]
    python tests/data/write_model_file.py --compare FOLDER  # bitwise

Run it once for a new format; the files of older formats stay. With `--compare`, the files in a
folder, which may come from other versions of the dependencies, have to score bitwise as they did.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from sklearn_ncae import NCAEDetector, persistence
from sklearn_ncae.texture import TextureDetector

TINY = {"filters": (2,), "epochs": 2, "false_alarm_rate": 0.2, "random_state": 0}
DETECTORS = {
    "default": (NCAEDetector(**TINY), (12, 10)),
    "color": (NCAEDetector(training="reconstruct", bottleneck="dense", **TINY), (9, 12, 3)),
    "texture": (TextureDetector(false_alarm_rate=0.2), (6, 5)),
}


def images(n, shape, seed):
    return np.random.RandomState(seed).randint(0, 256, (n, *shape), dtype=np.uint8)


def answers(detector, shape):
    """What a detector says of images that it was not fitted to."""
    X = images(5, shape, seed=1)
    return {
        "shape": list(shape),
        "scores": detector.score_samples(X).tolist(),
        "p_values": detector.p_values(X).tolist(),
        "offset": detector.offset_,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    parser.add_argument("--compare", action="store_true")
    options = parser.parse_args()
    if options.compare:
        paths = sorted(options.folder.glob("*.ncae"))
        for path in paths:
            expected = json.loads(path.with_suffix(".json").read_text())
            found = answers(persistence.load(path), tuple(expected["shape"]))
            if found != expected:
                raise SystemExit(f"{path} scores {found}, and not {expected}.")
        print(f"{len(paths)} files score bitwise as where they were written.")
        return
    for name, (detector, shape) in DETECTORS.items():
        path = options.folder / f"format_{persistence._FORMAT_VERSION}_{name}.ncae"
        persistence.save(detector.fit(images(30, shape, seed=0)), path)
        expected = answers(detector, shape)
        path.with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n")
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
