"""Write the model file of a format version, which later versions have to read.

    python tests/data/write_model_file.py

Run it once for a new format; the files of older formats stay.
"""

import json
from pathlib import Path

import numpy as np

from sklearn_ncae import NCAEDetector, persistence


def main():
    good = np.random.RandomState(0).randint(0, 256, (30, 12, 10), dtype=np.uint8)
    detector = NCAEDetector(filters=(2,), epochs=2, false_alarm_rate=0.2, random_state=0).fit(good)
    path = Path(__file__).with_name(f"format_{persistence._FORMAT_VERSION}.ncae")
    persistence.save(detector, path)
    X = np.random.RandomState(1).randint(0, 256, (5, 12, 10), dtype=np.uint8)
    expected = {
        "scores": detector.score_samples(X).tolist(),
        "p_values": detector.p_values(X).tolist(),
        "offset": detector.offset_,
    }
    path.with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n")
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
