"""Scores in a CSV or JSON Lines file, which doubles as the record of what has been scored."""

import csv
import io
import json
import math
import os
from typing import IO, TYPE_CHECKING, Any, Self

from sklearn_ncae._atomic import replacing

if TYPE_CHECKING:
    from sklearn_ncae.file_scoring import ImageScore

COLUMNS = ("path", "score", "p_value", "decision", "error")
FORMATS = ("csv", "jsonl")


def format_of(path: str) -> str | None:
    """Return the format that the suffix of a file asks for, or None."""
    suffix = os.path.splitext(path)[1].lower()
    return {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}.get(suffix)


class ScoreTable:
    """Writes scores as they come, one line each.

    Parameters
    ----------
    file : text file
        Open for writing, with ``newline=""``.
    kind : {"csv", "jsonl"}
    header : bool, default=True
        Whether a CSV file begins here.
    """

    def __init__(self, file: IO[str], kind: str, *, header: bool = True) -> None:
        self.file = file
        self.kind = kind
        self.counts = {"good": 0, "defect": 0, "error": 0}
        if header and kind == "csv":
            self._write(_csv_line(COLUMNS))

    @classmethod
    def append_to(cls, path: str, kind: str) -> tuple[Self, set[str]]:
        """Go on with a file, or start it; return also the paths that are in it.

        A last line that was cut off, when the machine stopped in the middle of it, is removed: its
        image is scored again.
        """
        rows = _whole_rows(path, kind) if os.path.exists(path) else []
        with (
            replacing(path) as written,
            written.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            table = cls(file, kind)
            for row in rows:
                table._write_row(row)
        file = open(path, "a", encoding="utf-8", errors="surrogateescape", newline="")  # noqa: SIM115
        return cls(file, kind, header=False), {row["path"] for row in rows}

    def write(self, one: "ImageScore") -> None:
        """Write one line and hand it to the operating system."""
        self.counts[one.decision] += 1
        values = (one.name, one.score, one.p_value, one.decision, one.error)
        self._write_row(
            {
                column: None if isinstance(value, float) and math.isnan(value) else value
                for column, value in zip(COLUMNS, values, strict=True)
            }
        )
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _write_row(self, row: dict[str, Any]) -> None:
        if self.kind == "csv":
            self._write(_csv_line(["" if row[c] is None else row[c] for c in COLUMNS]))
        else:
            self._write(json.dumps(row) + "\n")

    def _write(self, line: str) -> None:
        self.file.write(line)


def _csv_line(values: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(values)  # so that it quotes both of them
    return line.getvalue().removesuffix("\r\n") + "\n"


def _whole_rows(path: str, kind: str) -> list[dict[str, Any]]:
    """Read the rows of a file, without a last one that was cut off; refuse other files."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        text = file.read()
    rows: list[dict[str, Any]] = []
    if kind == "jsonl":
        for line in text.splitlines(keepends=True):
            if line.endswith("\n"):
                rows.append(_json_row(line, path))
        return rows
    lines = list(csv.reader(io.StringIO(text, newline="")))
    if lines and not text.endswith("\n"):
        lines.pop()
    if lines and tuple(lines[0]) != COLUMNS:
        raise _other_file(path)
    for i, values in enumerate(lines[1:], start=2):
        if len(values) == len(COLUMNS):
            rows.append(dict(zip(COLUMNS, values, strict=True)))
        elif i < len(lines):  # only the last line may be cut off
            raise _other_file(path)
    return rows


def _json_row(line: str, path: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        return {column: row[column] for column in COLUMNS}
    except (ValueError, TypeError, KeyError) as error:
        raise _other_file(path) from error


def _other_file(path: str) -> ValueError:
    return ValueError(
        f"{path!r} is no table of scores, so it cannot be gone on with. Give another file."
    )
