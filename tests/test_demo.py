import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("eager_tensorflow")

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "demo.py"


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def few_castings(demo, monkeypatch):
    """The script with fewer images of the same kind."""
    draw_all = demo.make_castings
    monkeypatch.setattr(
        demo,
        "make_castings",
        lambda n_good, n_defect, **options: draw_all(n_good // 3, n_defect // 3, **options),
    )


def table(text):
    header = text.index("accuracy  ROC AUC")
    lines = text[header:].split("\n* ")[0].splitlines()[1:]
    return {line[:27].strip(): [float(number) for number in line[27:].split()] for line in lines}


def test_synthetic(demo, few_castings, tmp_path, capsys):
    demo.main(
        ["--data", "synthetic", "--size", "32", "--epochs", "1", "--output", str(tmp_path / "out")]
    )
    text = capsys.readouterr().out
    rows = table(text)
    assert list(rows) == [
        "NCAE",
        "its texture alone",
        "NCAE, article's recipe",
        "mean brightness",
        "mean brightness, one side*",
        "IsolationForest",
        "PCA + OneClassSVM",
        "PCA + LocalOutlierFactor",
        "PCA reconstruction",
        "plain convolutional AE",
    ]
    for figures in rows.values():
        assert len(figures) == 6
        assert all(0 <= figure <= 1 for figure in figures[:4])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "precision_recall_curves.png",
        "residuals_best.png",
        "residuals_borderline.png",
        "residuals_worst.png",
        "roc_curves.png",
    }
    ncae = rows["NCAE"][1]
    brightness = max(figures[1] for name, figures in rows.items() if "brightness" in name)
    if abs(ncae - brightness) > 0.001:  # the table is rounded
        expected = "NCAE beats mean brightness" if ncae > brightness else "does NOT beat"
        assert expected in text


def test_verdict_is_plain(demo):
    rows = {
        "NCAE": {"roc_auc": 0.6},
        "mean brightness": {"roc_auc": 0.5},
        "mean brightness, one side*": {"roc_auc": 0.7},
    }
    assert "does NOT beat mean brightness" in demo.verdict(rows)
    rows["NCAE"]["roc_auc"] = 0.8
    assert demo.verdict(rows) == "NCAE beats mean brightness: ROC AUC 0.800 against 0.700."
    rows["IsolationForest"] = {"roc_auc": 0.9}
    assert demo.verdict(rows).endswith("The best here is IsolationForest.")
