"""Write the model file of a format version, which later versions have to read.

    python tests/data/write_model_file.py

Run it once for a new format; the files of older formats stay.
"""

import json
from pathlib import Path

import numpy as np

from sklearn_ncae import NCAEDetector, persistence

X = np.add.outer(np.arange(30), np.indices((12, 10)).sum(axis=0) % 7).astype(np.uint8)
detector = NCAEDetector(
    filters=(2,), bottleneck_size=2, epochs=2, false_alarm_rate=0.2, random_state=0
).fit(X)
path = Path(__file__).with_name(f"format_{persistence._FORMAT_VERSION}.ncae")
persistence.save(detector, path)
expected = {
    "scores": detector.score_samples(X[:5]).tolist(),
    "labels": detector.predict(X[:5]).tolist(),
}
path.with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n")
print(f"{path}: {path.stat().st_size} bytes")
