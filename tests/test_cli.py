import csv
import importlib
import importlib.util
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from sklearn_ncae import NCAEDetector, ResidualDetector, __main__, persistence
from sklearn_ncae._cli import base, cli
from sklearn_ncae.baselines import PCAReconstructor
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.near_duplicates import leakage_report

pytestmark = pytest.mark.usefixtures("eager_tensorflow")

MODULES = {name: importlib.import_module(f"sklearn_ncae._cli.{name}") for name in cli.commands}


def ncae(*arguments, code=0):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="ncae")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def detector(good_images):
    """A quick detector, in place of one that is loaded from a model file."""
    return ResidualDetector(PCAReconstructor(4), false_alarm_rate=0.2, random_state=0).fit(
        good_images
    )


@pytest.fixture
def model(tmp_path, monkeypatch, detector):
    """A file that the commands take for a model."""
    for name in ("score", "report", "tune"):
        monkeypatch.setattr(MODULES[name], "load_detector", lambda path: deepcopy(detector))
    monkeypatch.setattr(MODULES["report"], "model_summary", lambda path: {"trained_on": 3})
    path = tmp_path / "part.ncae"
    path.touch()
    return path


@pytest.fixture
def parts(tmp_path, labelled_images):
    """Forty good parts and eight defects, in subfolders."""
    for i, (image, label) in enumerate(zip(*labelled_images, strict=True)):
        path = tmp_path / "parts" / ("good" if label == 1 else "defect") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "parts"


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_help_names_every_command_and_every_command_has_an_example():
    text = ncae("--help").stdout
    for name, command in cli.commands.items():
        assert f"\n  {name} " in text
        help_text = ncae(name, "--help").stdout
        assert "--verbose" in help_text
        assert "\\b" not in help_text  # a mark for click, not for readers
        assert f"ncae {name}" in help_text
        assert command.get_short_help_str(limit=60)[-3:] != "..."


def test_help_loads_no_keras():
    code = (
        "import sys\nfrom sklearn_ncae._cli import cli\n"
        "try:\n    cli(['score', '--help'])\nexcept SystemExit:\n    pass\n"
        "print({'keras', 'tensorflow', 'PIL'} & set(sys.modules) or 'none')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip().endswith("none")


def test_without_click_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "click", None)
    with pytest.raises(SystemExit) as stopped:
        __main__.main()
    assert stopped.value.code == 2  # 1 would be a defect
    assert 'pip install "sklearn-ncae[cli]"' in capsys.readouterr().err


def test_the_module_is_the_command():
    run = subprocess.run(
        [sys.executable, "-m", "sklearn_ncae", "--version"], capture_output=True, text=True
    )
    assert run.returncode == 0 and run.stdout.startswith("ncae, version ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "part.ncae", "parts", "--settle", "1"],
        ["report", "part.ncae", "parts", "-o", "a.html", "--no-labels", "--good", "fine"],
        ["compare", "parts", "--without-ncae", "--epochs", "3"],
        ["fit", "parts/good", "-o", "a.ncae", "--texture-only", "--seed", "3"],
    ],
)
def test_an_option_that_would_change_nothing_is_refused(arguments, model, parts, monkeypatch):
    monkeypatch.chdir(parts.parent)
    assert f"leave out {arguments[-2]}." in ncae(*arguments, code=2).stderr


def test_an_onnx_file_is_not_exported(tmp_path):
    (tmp_path / "part.onnx").touch()
    assert "has been exported" in ncae("export", tmp_path / "part.onnx", code=2).stderr


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_reader_that_has_gone_is_no_defect(tmp_path):
    code = "import os, click\nfrom sklearn_ncae._cli import cli, base\n" + (
        "@cli.command(cls=base.NcaeCommand)\n"
        "def chat():\n"
        "    for _ in range(100_000):\n"
        "        click.echo('good')\n"
        "cli(['chat'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout.readline() == b"good\n"
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scor"], "No such command 'scor'"),
        (["score"], "Missing argument 'MODEL'"),
        (["score", "missing.ncae", "x"], "'missing.ncae' does not exist"),
        (["fit", ".", "-o", "x.ncae", "--size", "big"], "'big' is no size"),
        (["fit", ".", "-o", "x.ncae", "--size", "4x9"], "'4x9' is no size"),
        (["fit", ".", "-o", "x.ncae", "--false-alarm-rate", "2"], "is not in the range 0<x<1"),
        (["fit", ".", "-o", "x.onnx"], "'x.onnx' must end in .ncae"),
        (["report", __file__, ".", "-o", "x.ncae"], "'x.ncae' must end in .html or .htm"),
        (["export", __file__, "-o", "x.ncae"], "'x.ncae' must end in .onnx"),
        (["score", __file__, ".", "-o", "x.ncae"], "let it end in .csv or .jsonl"),
    ],
)
def test_usage_errors_are_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = ncae(*arguments, code=2)
    assert result.stdout == "" and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("ncae: ") and message in result.stderr
    assert "--help" in result.stderr


def test_size():
    size = base.ImageSize()
    assert size("128") == (128, 128) and size("96X160") == (96, 160) and size("native") is None
    assert size((8, 9)) == (8, 9) and size("8") == (8, 8)


def test_suffixes_may_be_in_capitals(model, parts, tmp_path):
    ncae("report", model, parts, "-o", tmp_path / "REPORT.HTML")
    (tmp_path / "PART.ONNX").touch()
    assert "has been exported" in ncae("export", tmp_path / "PART.ONNX", code=2).stderr


def test_a_folder_that_cannot_be_written_to_is_named_before_the_work(
    model, parts, tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda path, mode, **options: mode != os.W_OK)
    result = ncae("report", model, parts, "-o", tmp_path / "a.html", code=2)
    assert f"the folder {str(tmp_path)!r} of" in result.stderr
    assert "cannot be written to" in result.stderr


def test_what_is_no_model_is_refused_before_tensorflow_is_started(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "start_tensorflow", lambda: pytest.fail("started"))
    (tmp_path / "part.ncae").write_text("no model")
    result = ncae("score", tmp_path / "part.ncae", parts, code=2)
    assert "truncated, or no model file" in result.stderr


def test_parts_are_named_by_what_is_seen_from_the_given_folder(tmp_path):
    number = re.compile("part[0-9]+")
    file = str(tmp_path / "part7" / "part1.png")
    assert base.names_of_parts(number, [file], [file]) == ["part1"]  # one part is no mistake
    (tmp_path / "part7").mkdir()
    assert base.names_of_parts(number, [str(tmp_path / "part7")], [file]) == ["part1"]
    assert base.names_of_parts(number, [str(tmp_path)], [file]) == ["part7"]


def test_score_writes_a_line_for_each_image(model, parts, detector, labelled_images):
    result = ncae("score", model, parts, code=1)
    rows = rows_of(result.stdout)
    order = [*range(40, 48), *range(40)]  # "defect" comes before "good"
    images = labelled_images[0][order]
    assert [Path(row["path"]).stem for row in rows] == [f"{i:02d}" for i in order]
    np.testing.assert_allclose(
        [float(row["score"]) for row in rows], detector.score_samples(images)
    )
    assert [float(row["p_value"]) for row in rows] == detector.p_values(images).tolist()
    flagged = [row["decision"] == "defect" for row in rows]
    assert flagged == (detector.predict(images) == -1).tolist()
    assert f"48 images scored: {48 - sum(flagged)} good, {sum(flagged)} defects" in result.stderr


def test_exit_codes_of_score(model, parts):
    ncae("score", model, parts / "good", "--threshold", "-1e9", code=0)
    ncae("score", model, parts / "good", "--threshold", "1", code=1)
    bad = parts / "good" / "99.png"
    bad.write_text("no image")
    result = ncae("score", model, parts / "good", "--threshold", "-1e9", code=2)
    (row,) = [row for row in rows_of(result.stdout) if row["decision"] == "error"]
    assert row["path"] == str(bad) and "99.png" in row["error"] and row["score"] == ""
    assert len(rows_of(result.stdout)) == 41 and "99.png" in result.stderr
    assert "1 file could not be read" in result.stderr


def test_score_to_files(model, parts, tmp_path):
    output = tmp_path / "scores.jsonl"
    ncae("score", model, parts, "-o", output, "--maps", tmp_path / "maps", code=1)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 48 and isinstance(rows[0]["score"], float)
    pictures = sorted(path.relative_to(tmp_path / "maps") for path in tmp_path.rglob("*.png.png"))
    assert len(pictures) == 48 and pictures[0] == Path("defect/40.png.png")
    picture = np.asarray(Image.open(tmp_path / "maps" / pictures[0]), int)
    assert (picture[5:7, 2:12, 0] - picture[5:7, 2:12, 2]).max() > 50  # the scratch is marked
    ncae("score", model, parts / "good" / "00.png", "--maps", tmp_path / "one")
    assert (tmp_path / "one" / "00.png.png").exists()

    table = tmp_path / "scores.csv"
    ncae("score", model, parts, "-o", table, "--format", "jsonl", code=1)
    assert table.read_text() == output.read_text()


def test_score_does_not_write_over_what_it_reads(model, parts):
    image = parts / "good" / "00.png"
    before = model.read_bytes(), image.read_bytes()
    for output, where in ((model, parts), (image, image), (image, parts)):
        result = ncae("score", model, where, "-o", output, "--format", "csv", code=2)
        assert "is what is to be read" in result.stderr
    assert (model.read_bytes(), image.read_bytes()) == before


def test_maps_among_the_images_would_be_scored(model, parts):
    result = ncae("score", model, parts, "--maps", parts / "maps", code=2)
    assert "would be scored as well" in result.stderr and not (parts / "maps").exists()


def test_maps_of_a_file_may_lie_beside_it(model, parts, monkeypatch):
    monkeypatch.chdir(parts / "good")
    ncae("score", model, "00.png", "01.png", "--maps", "maps", code=1)
    assert (parts / "good" / "maps" / "01.png.png").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere such names cannot be")
def test_names_that_are_not_text(model, parts, tmp_path):
    name = os.fsdecode(b"\xff\n.png")
    (parts / "good" / "00.png").rename(parts / "good" / name)
    result = CliRunner().invoke(cli, ["score", str(model), str(parts / "good")])
    assert b"\xff\n.png" in result.stdout_bytes and result.exit_code == 1
    output = tmp_path / "scores.csv"
    ncae("score", model, parts / "good", "-o", output, code=1)
    assert b"\xff\n.png" in output.read_bytes()
    ncae("report", model, parts, "-o", tmp_path / "report.html")


def test_errors_are_one_line_and_verbose_shows_the_traceback(model, tmp_path, monkeypatch):
    result = ncae("score", model, tmp_path / "missing", code=2)
    assert result.stderr == f"ncae: There is no file or folder '{tmp_path / 'missing'}'.\n"
    (tmp_path / "empty").mkdir()
    assert "no image files" in ncae("score", model, tmp_path / "empty", code=2).stderr

    def fail(path):
        raise KeyError("unexpected")

    monkeypatch.setattr(MODULES["score"], "load_detector", fail)
    result = ncae("score", model, tmp_path, code=2)
    assert result.stderr == "ncae: KeyError: 'unexpected' (--verbose shows where)\n"
    assert "Traceback" in ncae("score", model, tmp_path, "--verbose", code=2).stderr

    def fail_at_length(path):
        raise ValueError("on one line\n  and on another")

    monkeypatch.setattr(MODULES["score"], "load_detector", fail_at_length)
    result = ncae("score", model, tmp_path, code=2)
    assert result.stderr == "ncae: on one line and on another\n"


def test_ctrl_c_leaves_the_old_file(model, parts, tmp_path, monkeypatch, detector):
    output = tmp_path / "scores.csv"
    output.write_text("old")

    class Interrupted:
        image_shape_, offset_ = (16, 16, 1), 0.0

        def score_samples(self, X):
            raise KeyboardInterrupt

    monkeypatch.setattr(MODULES["score"], "load_detector", lambda path: Interrupted())
    assert "interrupted" in ncae("score", model, parts, "-o", output, code=130).stderr
    assert output.read_text() == "old" and {p.name for p in tmp_path.iterdir()} == {
        "scores.csv",
        "parts",
        "part.ncae",
    }


def test_watch_scores_new_files_once_also_after_a_restart(model, parts, tmp_path, monkeypatch):
    output = tmp_path / "scores.csv"
    ncae("score", model, parts, "--watch", code=2)  # no file to record what is done
    new = parts / "good" / "new.png"

    def look(*looks):
        """Let the command wait that often, do something in each, and press Ctrl-C at last."""
        remaining = iter(looks)

        def wait(seconds):
            action = next(remaining, None)
            if action is None:
                raise KeyboardInterrupt
            action()

        monkeypatch.setattr(time, "sleep", wait)
        from sklearn_ncae import file_scoring

        monkeypatch.setitem(file_scoring.watch_folder.__kwdefaults__, "wait", wait)
        return ncae("score", model, parts, "--watch", "-o", output, "--settle", "0", code=code)

    code = 1
    result = look(lambda: None, lambda: new.write_bytes((parts / "good/00.png").read_bytes()))
    assert "0 images in" in result.stderr and "48 images scored" in result.stderr
    assert len(rows_of(output.read_text())) == 48  # the new one may still be written to
    with output.open("a") as file:
        file.write("cut off by a crash,-1.")
    code = 0
    result = look(lambda: None, lambda: None)
    assert "48 images in" in result.stderr and "1 image scored" in result.stderr
    paths = [row["path"] for row in rows_of(output.read_text())]
    assert len(paths) == len(set(paths)) == 49 and paths[-1] == str(new)


def test_options_of_score_reach_the_scoring(model, parts, tmp_path, monkeypatch):
    from sklearn_ncae import file_scoring

    given, score_images = {}, file_scoring.score_images

    def note(*arguments, **options):
        given.update(options)
        return score_images(*arguments, **options)

    def watch(paths, **options):
        given.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(file_scoring, "score_images", note)
    monkeypatch.setattr(file_scoring, "watch_folder", watch)
    ncae("score", model, parts, "-j", 3, code=1)
    ncae("score", model, parts, "--watch", "-o", tmp_path / "scores.csv", "--settle", 7)
    assert (given["n_jobs"], given["settle"], given["interval"]) == (3, 7, 1)


def test_tune_for_a_rate(model, parts, detector):
    text = ncae("tune", model, "--false-alarm-rate", "0.5").stdout
    assert "threshold" in text and "On average, at most 44.4 % of new good parts" in text
    assert "judged by 8 good images" in text
    (parts / "good" / "99.png").write_text("no image")
    result = ncae("tune", model, parts / "good", "--false-alarm-rate", "0.1")
    assert "judged by 40 good images" in result.stdout and "99.png" in result.stderr
    result = ncae("tune", model, parts, "--false-alarm-rate", "0.1", code=2)
    assert "in the folders defect" in result.stderr
    result = ncae("tune", model, parts / "good" / "99.png", "--false-alarm-rate", "0.1", code=2)
    assert "None of the image files can be read" in result.stderr


@pytest.mark.parametrize("command", ["fit", "score", "report", "tune", "compare"])
def test_where_to_write_is_checked_before_the_work(model, parts, tmp_path, command):
    suffix = {"report": "html", "score": "csv", "compare": "csv"}.get(command, "ncae")
    arguments = [parts] if command in ("fit", "compare") else [model, parts]
    result = ncae(command, *arguments, "-o", tmp_path / "nowhere" / f"a.{suffix}", code=2)
    assert "there is no folder" in result.stderr.lower() and "nowhere" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_no_thread_reads_nothing(model, parts):
    assert "0 threads read nothing" in ncae("score", model, parts, "-j", 0, code=2).stderr


def test_images_beside_the_subfolders_are_told_of(model, parts, tmp_path):
    (parts / "good" / "00.png").rename(parts / "00.png")
    for command in ("report", "tune"):
        options = {"report": ["-o", tmp_path / "a.html"], "tune": []}[command]
        costs = ["--missed-defect", 5, "--false-alarm", 1]
        result = ncae(command, model, parts, *options, *costs)
        assert "1 image in no subfolder left out" in result.stderr
    # Without a folder of defects, the others are no good parts, but images to be inspected.
    for path in (parts / "defect").iterdir():
        path.rename(parts / path.name)
    (parts / "defect").rmdir()
    result = ncae("report", model, parts, "-o", tmp_path / "a.html")
    assert "48 images without labels" in result.stderr
    result = ncae("tune", model, parts, "--missed-defect", 5, "--false-alarm", 1, code=2)
    assert "9 images beside it, but no subfolder of defects" in result.stderr


def test_tune_for_costs_leaves_out_what_was_for_training(model, parts):
    for name in ("good", "defect"):
        (parts / "test").mkdir(exist_ok=True)
        (parts / name).rename(parts / "test" / name)
    (parts / "train" / "good").mkdir(parents=True)
    for path in sorted((parts / "test" / "good").iterdir())[:30]:
        path.rename(parts / "train" / "good" / path.name)
    result = ncae("tune", model, parts, "--missed-defect", 5, "--false-alarm", 1)
    assert "18 labelled images" in result.stdout and "30 images in the train" in result.stderr


def test_tune_for_costs(model, parts):
    costs = ("--missed-defect", "500", "--false-alarm", "20", "--defect-rate", "0.1")
    text = ncae("tune", model, parts, *costs).stdout
    assert "48 labelled images; the mean cost is" in text


def test_tune_where_there_are_no_defects_in_production_flags_nothing(
    model, parts, detector, labelled_images
):
    costs = ("--missed-defect", "500", "--false-alarm", "20", "--defect-rate", "0")
    text = ncae("tune", model, parts, *costs).stdout
    threshold = float(re.search(r"threshold (\S+) \(was", text)[1])
    assert threshold <= 0.9999 * detector.score_samples(labelled_images[0]).min()


def test_tune_for_costs_warns_of_images_that_the_model_knows(model, parts, monkeypatch, detector):
    costs = ("--missed-defect", 500, "--false-alarm", 20)
    warning = "of the 40 labelled good images defective, but 8 of the 8 that were held out"
    assert "labelled good images" not in ncae("tune", model, parts, *costs).stderr
    worse = deepcopy(detector)
    worse.calibration_scores_ -= 1000
    monkeypatch.setattr(MODULES["tune"], "load_detector", lambda path: worse)
    assert warning in ncae("tune", model, parts, *costs).stderr


def test_tune_for_costs_leaves_out_what_cannot_be_read(model, parts):
    costs = ("--missed-defect", 500, "--false-alarm", 20)
    text = ncae("tune", model, parts, *costs).stdout
    (parts / "defect" / "00.png").write_text("no image")
    result = ncae("tune", model, parts, *costs)
    assert result.stdout == text and "00.png" in result.stderr


def test_tune_sets_a_given_threshold(model, detector, parts):
    text = ncae("tune", model, "--threshold", "-12.5").stdout
    assert f"threshold -12.5 (was {detector.offset_:.6g})" in text
    result = ncae("tune", model, parts / "good", "--threshold", "-12.5", code=2)
    assert "give no images with it" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Give one aim"),
        (["--threshold", "1", "--false-alarm-rate", "0.1"], "Give one aim"),
        (["--missed-defect", "1"], "one folder of labelled images"),
        (["--false-alarm-rate", "0.1", "--defect-rate", "0.1"], "leave out --defect-rate"),
    ],
)
def test_tune_takes_one_aim(model, options, message):
    assert message in ncae("tune", model, *options, code=2).stderr


def test_report_with_and_without_labels(model, parts, tmp_path):
    output = tmp_path / "report.html"
    train = tmp_path / "train"
    train.mkdir()
    image = Image.open(parts / "good" / "00.png").resize((64, 64))
    image.save(train / "a.png")
    image.save(parts / "good" / "00.png")
    result = ncae("report", model, parts, "-o", output, "--train", train, "--title", "Our <parts>")
    assert "open it in a browser" in result.stdout
    page = output.read_text(encoding="utf-8")
    assert "Our &lt;parts>" in page or "Our &lt;parts&gt;" in page
    assert '"labels":[-1,' in page and '["trained on","3"]' in page
    found = leakage_report([str(train / "a.png")], [str(parts / "good" / "00.png")])
    assert f"{found.leaked.sum()} image" in result.stderr
    (parts / "good" / "99.png").write_text("no image")
    (train / "damaged.png").write_text("no image")
    for options in ((), ("--train", train)):
        result = ncae("report", model, parts, "-o", output, *options)
        assert "left out: Cannot read" in result.stderr and "99.png" in result.stderr
    assert "1 of 2 files of train cannot be read, and are not compared" in result.stderr
    assert "1 image with a copy" in result.stderr
    (parts / "good" / "99.png").unlink()
    result = ncae("report", model, parts, "-o", output, "--no-labels")
    assert "48 images without labels" in result.stderr
    assert '"labels":null' in output.read_text(encoding="utf-8")
    ncae("report", model, parts / "good", "-o", output)
    assert '"labels":null' in output.read_text(encoding="utf-8")
    assert "looked for ['fine']" in ncae("report", model, parts, "--good", "fine", code=2).stderr


def test_what_report_is_told_is_on_the_page(model, parts, tmp_path, monkeypatch):
    output, train = tmp_path / "report.html", tmp_path / "train"
    train.mkdir()
    (train / "a.png").write_bytes((parts / "good" / "00.png").read_bytes())
    costs = ("--missed-defect", 5, "--false-alarm", 2)
    ncae("report", model, parts, "-o", output, "--train", train, *costs)
    page = output.read_text(encoding="utf-8")
    assert '"costs":{"missed_defect":5.0,"false_alarm":2.0}' in page
    assert '"names":["defect/40.png","defect/41.png"' in page
    assert f'["good/00.png","{train / "a.png"}",1.0]' in page
    ncae("report", model, parts, "-o", output)
    page = output.read_text(encoding="utf-8")
    assert '"costs":{"missed_defect":10.0,"false_alarm":1.0}' in page and '"leaks":[]' in page
    assert f"<title>{model} on {parts}" in page
    given = {}
    monkeypatch.setattr(
        "sklearn_ncae.inspection.write_report", lambda *arguments, **options: given.update(options)
    )
    ncae("report", model, parts, "-o", output, "--thumbnails", 64, "-j", 3)
    assert (given["thumbnail_size"], given["n_jobs"]) == (64, 3)


def test_report_leaves_out_what_was_for_training(model, parts, tmp_path):
    (tmp_path / "all").mkdir()
    for split in ("train", "test"):
        (tmp_path / "all" / split).mkdir()
        (tmp_path / "all" / split / "good").symlink_to(parts / "good")
    for split in ("train", "test"):
        (tmp_path / "all" / split / "good").unlink()
        (tmp_path / "all" / split / "good").mkdir()
        for i in (0, 1, 2)[: 3 if split == "test" else 2]:
            image = (parts / "good" / f"{i:02d}.png").read_bytes()
            (tmp_path / "all" / split / "good" / f"{i}.png").write_bytes(image)
    result = ncae("report", model, tmp_path / "all", "-o", tmp_path / "report.html")
    assert "2 images in the train folder left out" in result.stderr
    train_only = tmp_path / "train_only" / "train"
    train_only.mkdir(parents=True)
    (tmp_path / "all" / "train" / "good").rename(train_only / "good")
    ncae("report", model, tmp_path / "train_only", "-o", tmp_path / "report.html")


def test_compare(parts, tmp_path):
    options = ("--size", "native", "--splits", "2", "--without-ncae")
    (parts / "good" / "99.png").write_text("no image")
    result = ncae("compare", parts, *options, "-o", tmp_path / "table.csv")
    assert "99.png" in result.stderr and "Fitting 6 detectors on 2 splits" in result.stderr
    assert "mean brightness" in result.stdout and "IsolationForest" in result.stdout
    assert "40 good images, 8 defects" in result.stderr
    rows = rows_of((tmp_path / "table.csv").read_text())
    assert len(rows) == 6 and not any(row["error"] for row in rows)
    ncae("compare", parts, *options, "--no-groups")


def test_compare_in_colour(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(48):
        image = rng.integers(95, 106, (32, 32, 1)).repeat(3, axis=2).astype(np.uint8)
        if i >= 40:
            image[8:16, 8:16] = 180, 60, 98  # as gray as what is around
        path = tmp_path / "parts" / ("good" if i < 40 else "defect") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    found = {}
    for option in ("--gray", "--color"):
        options = (option, "--size", "native", "--splits", "2", "--without-ncae", "--no-groups")
        ncae("compare", tmp_path / "parts", *options, "-o", tmp_path / "table.csv")
        rows = rows_of((tmp_path / "table.csv").read_text())
        found[option] = next(float(row["roc_auc"]) for row in rows if "texture" in row.values())
    assert found["--color"] == 1 and found["--gray"] < 0.9


@pytest.mark.parametrize("groups", [True, False])
def test_what_compare_is_told_is_done(parts, monkeypatch, groups):
    from sklearn_ncae import metrics

    given, compare_detectors = {}, metrics.compare_detectors

    def note(detectors, X, y, **options):
        given.update(options, shape=X.shape)
        return compare_detectors(detectors, X, y, **options)

    monkeypatch.setattr(metrics, "compare_detectors", note)
    (parts / "good" / "99.png").write_bytes((parts / "good" / "00.png").read_bytes())
    (parts / "00.png").write_bytes((parts / "good" / "00.png").read_bytes())
    options = ("--size", "native", "--splits", "3", "--seed", "7", "--without-ncae")
    result = ncae("compare", parts, *options, *([] if groups else ["--no-groups"]))
    assert "1 image in no subfolder left out" in result.stderr
    assert (given["cv"], given["random_state"], given["shape"]) == (3, 7, (49, 16, 16))
    if groups:
        of_good = np.flatnonzero(given["groups"] == given["groups"][8])
        assert {8, 48} <= set(of_good)  # an image and its copy, after the eight defects
    else:
        assert given["groups"] is None


def test_compare_reports_what_failed(parts, monkeypatch):
    from sklearn_ncae import baselines

    def failing(**options):
        return {"broken": ResidualDetector(PCAReconstructor(-1))}

    monkeypatch.setattr(baselines, "usual_detectors", failing)
    result = ncae(
        "compare", parts, "--size", "16", "--splits", "2", "--without-ncae", "--no-groups"
    )
    assert "broken failed" in result.stderr and "mean brightness" in result.stdout


def test_durations():
    duration = MODULES["fit"]._duration
    assert [duration(seconds) for seconds in (0.96, 59.4, 60, 125.2)] == [
        "1.0 s",
        "59.4 s",
        "1 min 0 s",
        "2 min 5 s",
    ]


def test_texts_of_summaries():
    as_text = MODULES["info"].as_text
    assert as_text({"a": 1, "b": [1, 2]}) == "a 1, b 1, 2"
    assert as_text(None) == as_text([]) == "none"
    assert as_text(1 / 13) == "0.0769231"
    words = MODULES["info"].in_words(
        {"n_samples_fit": 48, "false_alarm_rate": 0.1, "saved_at": "", "training": None}
    )
    assert words == {"images trained on": "48", "false-alarm rate": "0.1", "saved at": ""}


# ---- with real model files --------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What `ncae demo` leaves behind: drawn castings, a model and a report."""
    pytest.importorskip("sklearn_ncae.persistence")
    folder = tmp_path_factory.mktemp("demo") / "castings"
    demo = ncae("demo", folder, "--size", "16", "--images", "40", "--epochs", "2")
    return folder, demo


def test_demo(trained):
    folder, result = trained
    assert len(list(folder.glob("train/good/*.png"))) == 40
    assert len(list(folder.glob("test/*/*.png"))) == 20
    assert (folder / "report.html").stat().st_size > 20_000
    assert persistence.load(folder / "castings.ncae").epochs == 2
    of_training, new = (
        {path.read_bytes() for path in folder.glob(f"{split}/good/*.png")}
        for split in ("train", "test")
    )
    assert not of_training & new
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert '"labels":[-1,' in page and '"names":["defect/' in page
    assert "trained on 32 images" in result.stdout and "8 held out" in result.stdout
    commands = [line for line in result.stderr.splitlines() if line.startswith("$ ncae ")]
    assert [shlex.split(line)[2] for line in commands] == ["fit", "report"]
    assert "is not empty" in ncae("demo", folder, code=2).stderr


def test_verbose_holds_for_what_a_command_runs(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no room")

    monkeypatch.setattr(MODULES["fit"], "image_files", fail)
    options = ("--size", "16", "--images", "20", "--epochs", "1")
    shown = ncae("demo", tmp_path / "demo", "--verbose", *options, code=2).stderr
    assert "Traceback" in shown and "no room" in shown


def test_demo_takes_a_folder_that_is_empty(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("drawn")

    monkeypatch.setattr(MODULES["fit"], "image_files", fail)
    assert "drawn" in ncae("demo", tmp_path, "--size", "16", "--images", "20", code=2).stderr


def test_options_of_fit_reach_the_detector(trained, tmp_path):
    folder, _ = trained
    fit = ("fit", folder / "train", "-o", tmp_path / "part.ncae", "--size", "16")
    options = ("--training", "reconstruct", "--epochs", "2", "--early-stopping", "--seed", "3")
    ncae(*fit, *options, "--false-alarm-rate", "0.2", "--held-out", "0.25")
    expected = {
        "training": "reconstruct",
        "epochs": 2,
        "early_stopping": True,
        "random_state": 3,
        "false_alarm_rate": 0.2,
        "calibration": 0.25,
    }
    found = persistence.load(tmp_path / "part.ncae").get_params()
    assert {name: found[name] for name in expected} == expected
    ncae(*fit, "--texture-only", "--false-alarm-rate", "0.2")
    assert persistence.load(tmp_path / "part.ncae").false_alarm_rate == 0.2


def test_fit_leaves_out_what_cannot_be_read(trained, tmp_path):
    folder, _ = trained
    (tmp_path / "bad.png").write_text("no image")
    options = ("-o", tmp_path / "part.ncae", "--size", "16x24", "--color", "--epochs", "1")
    options += ("--checkpoint", tmp_path / "part.state", "--held-out", "0.25")
    good = folder / "train" / "good"
    result = ncae("fit", good, tmp_path / "bad.png", *options, "--training", "reconstruct")
    assert "bad.png" in result.stderr and "warning: 10 held-out" in result.stderr
    assert "40 images of 16 x 24 pixels" in result.stderr
    summary = json.loads(ncae("info", tmp_path / "part.ncae", "--json").stdout)
    assert summary["image_shape"] == [16, 24, 3] and summary["left_out"] == []
    result = ncae("fit", folder / "test", *options, code=2)
    assert "in the folders defect" in result.stderr
    result = ncae("fit", tmp_path / "bad.png", *options, code=2)
    assert "None of the image files can be read" in result.stderr


def test_fit_holds_parts_out_whole(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    images = make_castings(40, 0, image_size=32, random_state=0).images
    for number, image in enumerate(images):
        for side in ("left", "right"):
            Image.fromarray(image).save(pictures / f"part{number:02}_{side}.png")
    model = tmp_path / "part.ncae"
    options = ("-o", model, "--size", "native")
    network = ("--epochs", "1", "--held-out", "0.5")
    result = ncae("fit", pictures, *options, *network, "--group-by", "part[0-9]+")
    assert "40 groups of 80 images" in result.stderr
    assert "trained on 20 groups" in result.stdout and "20 held out" in result.stdout
    summary = json.loads(ncae("info", model, "--json").stdout)
    assert (summary["n_samples_fit"], summary["n_calibration"]) == (40, 20)
    result = ncae("fit", pictures, *options, "--texture-only", "--group-by", "(unit|part)[0-9]+_")
    assert "learned from 40 groups" in result.stdout
    result = ncae("fit", pictures, *options, "--texture-only", "--groups")
    assert "40 groups of 80 images" in result.stderr
    tune = ("tune", model, "--false-alarm-rate", "0.1", pictures)
    assert "judged by 80 good images" in ncae(*tune).stdout
    assert "judged by 40 good images" in ncae(*tune, "--group-by", "part[0-9]+").stdout
    (pictures / "part99_broken.png").write_text("no image")
    assert "judged by 40 good images" in ncae(*tune, "--group-by", "part[0-9]+").stdout
    result = ncae("fit", pictures, *options, "--texture-only", "--group-by", "part[0-9]+")
    assert "learned from 40 groups" in result.stdout and "part99_broken" in result.stderr
    (pictures / "part99_broken.png").unlink()
    refused = ncae("tune", model, "--threshold", "-1", "--group-by", "part", code=2)
    assert "goes with --false-alarm-rate" in refused.stderr
    for wrong, message in [
        (("--group-by", "left"), "finds nothing in 40 of 80, such as"),
        (("--group-by", "part"), "finds 'part' in all 80 files"),
        (("--group-by", "pictures"), "finds nothing in 80 of 80"),
        (("--group-by", "part("), "is no regular expression"),
        (("--group-by", "part", "--groups"), "Give one of --groups and --group-by"),
    ]:
        assert message in ncae("fit", pictures, *options, *wrong, code=2).stderr


def test_texture_alone(parts, tmp_path):
    model = tmp_path / "part.ncae"
    network = ("--held-out", "0.4")
    refused = ncae("fit", parts / "good", "-o", model, "--texture-only", *network, code=2)
    assert "leave out --held-out" in refused.stderr
    result = ncae("fit", parts / "good", "-o", model, "--size", "native", "--texture-only")
    assert "learned from 40 images" in result.stdout and "About 4.88 % of new good" in result.stdout
    assert "TextureDetector" in ncae("info", model).stdout
    rows = rows_of(ncae("score", model, parts / "defect", code=1).stdout)
    assert {row["decision"] for row in rows} == {"defect"}
    assert float(rows[0]["p_value"]) == 1 / 41
    assert "judged by 40 good" in ncae("tune", model, "--false-alarm-rate", "0.1").stdout
    ncae("tune", model, parts / "good", "--false-alarm-rate", "0.1", "-o", tmp_path / "t.ncae")
    rows = rows_of(ncae("score", tmp_path / "t.ncae", parts / "defect", code=1).stdout)
    assert rows[0]["decision"] == "defect"


def test_texture_alone_does_not_need_tensorflow(parts, tmp_path):
    script = (
        "import sys; sys.modules.update(keras=None, tensorflow=None)\n"
        "from sklearn_ncae._cli import cli\n"
        "cli(sys.argv[1:], prog_name='ncae')"
    )
    model = tmp_path / "part.ncae"
    for arguments, code in [
        (("fit", parts / "good", "-o", model, "--size", "native", "--texture-only"), 0),
        (("score", model, parts / "defect"), 1),
    ]:
        command = [sys.executable, "-c", script, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == code, done.stderr


def test_info_score_and_tune_of_a_model_file(trained, tmp_path):
    folder, _ = trained
    model = folder / "castings.ncae"
    assert "NCAEDetector" in ncae("info", model).stdout
    tuned = tmp_path / "tuned.ncae"
    text = ncae("tune", model, "--threshold", "1e6", "-o", tuned).stdout
    assert "On average, at most 100 %" in text and f"Saved as {tuned}" in text
    rows = rows_of(ncae("score", tuned, folder / "test", code=1).stdout)
    assert {row["decision"] for row in rows} == {"defect"} and len(rows) == 20
    result = ncae("score", folder / "report.html", folder / "test", code=2)
    assert "report.html" in result.stderr and len(result.stderr.splitlines()) == 1


def test_an_exported_model_scores_the_same(trained, tmp_path):
    pytest.importorskip("sklearn_ncae.onnx")
    pytest.importorskip("onnxruntime")
    folder, _ = trained
    model, exported = folder / "castings.ncae", tmp_path / "part.onnx"
    assert "MB" in ncae("export", model, "-o", exported).stdout
    kept, other = (
        rows_of(CliRunner().invoke(cli, ["score", str(path), str(folder / "test")]).stdout)
        for path in (model, exported)
    )
    np.testing.assert_allclose(
        *([float(row["score"]) for row in rows] for rows in (kept, other)), rtol=1e-5, atol=1e-4
    )
    assert [row["p_value"] for row in kept] == [row["p_value"] for row in other]
    assert "threshold" in ncae("info", exported).stdout
    assert "cannot be tuned" in ncae("tune", exported, "--threshold", "1", code=2).stderr
    ncae("report", exported, folder / "test", "-o", tmp_path / "report.html")


def test_export_of_scores_alone_for_another_number_type(trained, tmp_path):
    pytest.importorskip("sklearn_ncae.onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = tmp_path / "part.ncae"
    model.write_bytes((trained[0] / "castings.ncae").read_bytes())
    ncae("export", model)
    whole = onnxruntime.InferenceSession(str(tmp_path / "part.onnx"))
    ncae("export", model, "--dtype", "float64", "--no-maps")
    part = onnxruntime.InferenceSession(str(tmp_path / "part.onnx"))
    assert part.get_inputs()[0].type == "tensor(double)" != whole.get_inputs()[0].type
    assert len(part.get_outputs()) < len(whole.get_outputs())


def test_a_model_of_floats_from_0_to_1_takes_no_files(parts, good_images, tmp_path):
    detector = NCAEDetector(filters=(2,), epochs=1, training="reconstruct", false_alarm_rate=0.2)
    model, exported, page = (tmp_path / name for name in ("f.ncae", "f.onnx", "report.html"))
    persistence.save(detector.fit(good_images / 255), model)
    ncae("export", model, "-o", exported)
    rate = ("--false-alarm-rate", "0.1")
    for command in (
        ("score", model, parts),
        ("score", exported, parts, "-o", tmp_path / "scores.csv"),
        ("report", model, parts, "-o", page),
        ("report", exported, parts, "-o", page),
        ("tune", model, parts / "good", *rate, "-o", tmp_path / "tuned.ncae"),
    ):
        result = ncae(*command, code=2)
        last = result.stderr.splitlines()[-1]
        assert last.startswith("ncae: The model was trained on pixel values from 0")
        assert "image files are read as 0 to 255" in last
        assert result.stdout in ("", "path,score,p_value,decision,error\n")
    assert {path.name for path in tmp_path.iterdir()} == {"f.ncae", "f.onnx", "parts"}
    assert "threshold" in ncae("tune", model, *rate).stdout  # reads no file


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_while_training_leaves_no_file(trained, tmp_path):
    folder, _ = trained
    state = tmp_path / "part.state"
    # A process that a shell starts in the background ignores the interrupt, and its children do.
    reset = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{reset}; from sklearn_ncae.__main__ import main; main()"
    options = ["--size", "16", "--epochs", "100000", "--checkpoint", state]
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            code,
            "fit",
            folder / "train",
            "-o",
            tmp_path / "part.ncae",
            *options,
        ],
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            while not state.exists():
                assert run.poll() is None
                time.sleep(0.1)
            run.send_signal(signal.SIGINT)
            assert "interrupted" in run.communicate(timeout=60)[1]
        finally:
            run.kill()
    assert run.returncode == 130 and list(tmp_path.iterdir()) == [state]


def documented_commands():
    page = Path(__file__).parents[1] / "docs" / "command_line.md"
    return [
        line
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for line in block.splitlines()
        if line.startswith("ncae ")
    ]


def test_what_the_documentation_says_works(tmp_path, monkeypatch, good_images, labelled_images):
    pytest.importorskip("sklearn_ncae.persistence")
    monkeypatch.chdir(tmp_path)
    for folder, (images, labels) in {
        "good_parts": (good_images, None),
        "holdout": (good_images[:20], None),
        "new_parts": (good_images[:3], None),
        "camera": (good_images[:2], None),
        "labelled": labelled_images,
    }.items():
        for i, image in enumerate(images):
            kind = "" if labels is None else "good" if labels[i] == 1 else "scratch"
            path = tmp_path / folder / kind / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)

    for variable in ("FIT_EPOCHS", "DEMO_EPOCHS", "COMPARE_EPOCHS"):
        monkeypatch.setenv(f"NCAE_{variable}", "1")
    for command in ("FIT", "DEMO", "COMPARE"):
        monkeypatch.setenv(f"NCAE_{command}_SIZE", "16")
    monkeypatch.setenv("NCAE_DEMO_IMAGES", "20")

    def stop(seconds):
        raise KeyboardInterrupt

    from sklearn_ncae import file_scoring

    monkeypatch.setitem(file_scoring.watch_folder.__kwdefaults__, "wait", stop)
    ran = set()
    for line in documented_commands():
        _, command, *arguments = shlex.split(line)
        if "onnx" in line and not importlib.util.find_spec("sklearn_ncae.onnx"):
            continue
        result = CliRunner().invoke(cli, [command, *arguments], prog_name="ncae")
        allowed = (0, 1) if command == "score" else (0,)
        assert result.exit_code in allowed, f"{line}: {result.output}"
        ran.add(command)
    assert ran >= set(cli.commands) - {"export"}
