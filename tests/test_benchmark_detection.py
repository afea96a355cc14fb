import csv
import json

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.usefixtures("eager_tensorflow")

QUICK = ["brightness", "brightness_dark", "ocsvm", "pca_max"]


@pytest.fixture
def benchmark(load_benchmark):
    return load_benchmark("detection")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two data sets of eight good and eight defective groups; "c120" has both labels."""
    rng = np.random.default_rng(0)
    for name in ("casting", "magnetic_tile"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        rows = [("path", "label", "split", "kind", "group")]
        for group in range(17):
            photograph = rng.integers(60, 120, (20, 20))
            for copy in range(22):
                label = copy % 2 if group == 16 else int(group >= 8)
                image = photograph + rng.integers(0, 4, (20, 20))
                if label:
                    image[5:9, 3:15] = 255
                path = f"{group}_{copy}.png"
                Image.fromarray(image.astype(np.uint8)).save(folder / path)
                rows.append((path, label, "", "", f"c{group + 104}"))
        with (folder / "manifest.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    monkeypatch.setenv("NCAE_DATA", str(tmp_path / "data"))
    return tmp_path


def arguments(folder, *more):
    return [
        *(
            "--size",
            "16",
            "--epochs",
            "1",
            "--repair-epochs",
            "1",
            "--splits",
            "2",
            "--max-train",
            "100",
        ),
        *("--results", str(folder / "results" / "detection.jsonl")),
        *("--output", str(folder / "docs" / "detection.md")),
        *more,
    ]


def results(folder):
    lines = (folder / "results" / "detection.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def test_group_splits_share_no_group_and_train_on_good_images(benchmark, folders):
    data = benchmark.load("casting", 16)
    assert "c120" not in data.groups
    for split in range(3):
        train, test = benchmark.split_rows(data, "group", split, 100)
        assert len(train) == 100 and set(data.target[train]) == {1}
        assert set(data.target[test]) == {1, -1}
        assert not set(data.groups[train]) & set(data.groups[test])
    train, test = benchmark.split_rows(data, "random", 0, None)
    assert set(data.groups[train]) & set(data.groups[test])


def test_results_are_reported_and_not_computed_again(benchmark, folders, capsys, monkeypatch):
    wanted = arguments(folders, "--datasets", "casting", "--leak")
    benchmark.main([*wanted, "--detectors", *QUICK])
    first = results(folders)
    # Capped, and with all training images on both kinds of split.
    assert len(first) == 3 * 2 * len(QUICK)
    assert all(0 <= row["roc_auc"] <= 1 and row["fit_seconds"] > 0 for row in first)

    # A run that is stopped while it writes leaves half a line: only that result is computed again.
    path = folders / "results" / "detection.jsonl"
    path.write_text(path.read_text()[:-40] + "\n")
    computed = []
    evaluate = benchmark.evaluate
    monkeypatch.setattr(benchmark, "evaluate", lambda task: computed.append(task) or evaluate(task))
    benchmark.main([*wanted, "--detectors", *QUICK])
    assert len(computed) == 1
    assert results(folders)[-1]["roc_auc"] == first[-1]["roc_auc"]

    benchmark.main([*wanted, "--detectors", *QUICK, "--report"])
    assert len(computed) == 1
    page = (folders / "docs" / "detection.md").read_text()
    for text in ("PCA + OneClassSVM", "The leak", "100 good images", "± 0."):
        assert text in page
    assert (
        "--splits 2 --size 16 --epochs 1 --repair-epochs 1 --max-train 100 --leak --report" in page
    )
    assert (folders / "docs" / "detection.png").stat().st_size > 1000


def test_other_parameters_are_other_results(benchmark, folders):
    both = ("--datasets", "magnetic_tile", "--splits", "1", "--detectors", "ncae", "article")
    benchmark.main(arguments(folders, *both, "pca_max", "pca_mean"))
    rows = results(folders)
    parameters = [json.loads(row["parameters"]) for row in rows]
    assert [row["statistic"] for row in parameters[:2]] == ["abs_max", "mse"]
    # The article's recipe is the article's, whatever the detector's defaults are.
    assert parameters[3]["training"] == "reconstruct" and parameters[3]["statistic"] == "mse"
    n = len(rows)
    benchmark.main(arguments(folders, *both, "conv_ae"))
    assert len(results(folders)) == n + 1


def test_a_failure_is_told_and_tried_again(benchmark, folders, monkeypatch, capsys):
    wanted = arguments(folders, "--datasets", "casting", "--detectors", "brightness", "lof")
    evaluate = benchmark.evaluate

    def fail(task):
        if task.name == "lof":
            raise MemoryError("no room")
        return evaluate(task)

    monkeypatch.setattr(benchmark, "evaluate", fail)
    with pytest.raises(SystemExit, match="2 results are missing"):
        benchmark.main(wanted)
    assert "MemoryError: no room" in capsys.readouterr().out
    assert len(results(folders)) == 2
    monkeypatch.undo()
    monkeypatch.setenv("NCAE_DATA", str(folders / "data"))
    benchmark.main(wanted)
    assert len(results(folders)) == 4


def test_without_data_or_results(benchmark, tmp_path, monkeypatch):
    monkeypatch.delenv("NCAE_DATA", raising=False)
    with pytest.raises(SystemExit, match="NCAE_DATA is not set"):
        benchmark.main(arguments(tmp_path, "--datasets", "casting"))
    with pytest.raises(SystemExit, match="has no results for these options"):
        benchmark.main(arguments(tmp_path, "--datasets", "casting", "--report"))
