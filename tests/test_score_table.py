import csv
import io
import json
import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_ncae._score_table import COLUMNS, ScoreTable, format_of
from sklearn_ncae.file_scoring import ImageScore

GOOD = ImageScore("a.png", -0.1, 0.5, "good")
DEFECT = ImageScore('we"ird,\nname <b>.png', -1 / 3, math.nan, "defect")
ERROR = ImageScore("b.png", math.nan, math.nan, "error", "It is damaged.")


def rows_of(path):
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_what_is_written_is_read_back(tmp_path, kind):
    path = tmp_path / f"scores.{kind}"
    assert format_of(str(path)) == format_of(str(path).upper()) == kind
    assert format_of(str(path) + ".part.ncae") is None
    table, done = ScoreTable.append_to(str(path), kind)
    assert done == set()
    for one in (GOOD, DEFECT, ERROR):
        table.write(one)
    table.close()
    assert table.counts == {"good": 1, "defect": 1, "error": 1}
    rows = rows_of(path)
    assert [row["path"] for row in rows] == [GOOD.name, DEFECT.name, ERROR.name]
    assert [float(row["score"] or "nan") for row in rows[:2]] == [-0.1, -1 / 3]  # to the last bit
    assert not rows[1]["p_value"] and not rows[2]["score"]
    assert rows[2]["error"] == "It is damaged."

    table, done = ScoreTable.append_to(str(path), kind)
    table.write(ImageScore("c.png", 1.0, 1.0, "good"))
    table.close()
    assert done == {GOOD.name, DEFECT.name, ERROR.name}
    assert [row["path"] for row in rows_of(path)] == [*[row["path"] for row in rows], "c.png"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_line_cut_off_anywhere_is_scored_again(tmp_path, kind):
    path = tmp_path / f"scores.{kind}"
    table, _ = ScoreTable.append_to(str(path), kind)
    table.write(GOOD)
    whole = path.stat().st_size
    table.write(DEFECT)
    table.close()
    text = path.read_bytes()
    for end in range(whole, len(text)):
        path.write_bytes(text[:end])
        table, done = ScoreTable.append_to(str(path), kind)
        table.close()
        assert done == {GOOD.name}, text[:end]
        assert path.read_bytes() == text[:whole]


# Names that a file can have: any text, and any bytes, which need not be text.
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
NAMES |= st.binary(min_size=1).filter(lambda name: b"\0" not in name).map(os.fsdecode)


@given(name=NAMES)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_any_name_survives(tmp_path_factory, kind, name):
    path = tmp_path_factory.mktemp("table") / "scores"
    table, _ = ScoreTable.append_to(str(path), kind)
    table.write(ImageScore(name, 0.0, 1.0, "good"))
    table.close()
    table, done = ScoreTable.append_to(str(path), kind)
    table.close()
    assert done == {name}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("csv", "name,age\nAnn,3\n"),
        ("csv", ",".join(COLUMNS) + "\na,1\nb,1,1,good,\n"),
        ("jsonl", "hello\n"),
        ("jsonl", '{"path": "a"}\n'),
        ("jsonl", "3\n"),
    ],
)
def test_other_files_are_not_touched(tmp_path, kind, text):
    path = tmp_path / "other"
    path.write_text(text)
    with pytest.raises(ValueError, match="no table of scores"):
        ScoreTable.append_to(str(path), kind)
    assert path.read_text() == text
