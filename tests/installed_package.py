"""Uses the installed package; the nox session `package` runs this on a wheel and an sdist."""

import importlib
import json
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

import sklearn_ncae
from sklearn_ncae import NCAEDetector, persistence
from sklearn_ncae.inspection import write_report

HERE = Path(__file__).parent


def ncae(*arguments: object, codes: tuple[int, ...] = (0,)) -> str:
    command = [Path(sysconfig.get_path("scripts")) / "ncae", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode in codes, f"{command}: {run.returncode}\n{run.stderr}"
    return run.stdout


def main() -> None:
    installed = Path(sklearn_ncae.__file__).parent
    assert installed.is_relative_to(sys.prefix), f"{installed} is not the installed package"
    assert distribution("sklearn-ncae").version == sklearn_ncae.__version__
    for name in ("py.typed", "_report/template.html", "_report/report.css", "_report/report.js"):
        assert (files("sklearn_ncae") / name).read_bytes() is not None, name
    # The optional dependencies are imported late: every module can be imported without them.
    for name in (HERE / "public_api.txt").read_text().split():
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name

    images = np.random.default_rng(0).integers(90, 110, (40, 16, 16), dtype=np.uint8)
    detector = NCAEDetector(filters=(2,), epochs=1, false_alarm_rate=0.2, random_state=0)
    scores = detector.fit(images).score_samples(images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "part.ncae"
        persistence.save(detector, model)
        np.testing.assert_array_equal(persistence.load(model).score_samples(images), scores)
        write_report(folder / "report.html", detector, images)
        assert "</html>" in (folder / "report.html").read_text(encoding="utf-8")

        assert "score" in ncae("--help")
        assert json.loads(ncae("info", model, "--json"))["image_shape"] == [16, 16, 1]
        Image.fromarray(images[0]).save(folder / "a.png")
        row = ncae("score", model, folder / "a.png", codes=(0, 1)).splitlines()[1].split(",")
        np.testing.assert_allclose(float(row[1]), scores[0], rtol=1e-5)
    print(f"{installed}: works")


if __name__ == "__main__":
    main()
