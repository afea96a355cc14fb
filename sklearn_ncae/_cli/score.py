"""``ncae score``."""

import io
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sklearn_ncae._atomic import replacing
from sklearn_ncae._cli.base import (
    FAILED,
    MODEL,
    NcaeCommand,
    image_files,
    jobs_option,
    load_detector,
    n_of,
    progress_bar,
    refuse_given,
    say,
)
from sklearn_ncae._score_table import FORMATS, ScoreTable, format_of

if TYPE_CHECKING:
    from sklearn_ncae.file_scoring import ImageScore


@click.command(cls=NcaeCommand)
@click.argument("model", type=MODEL)
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o",
    "--output",
    default="-",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Table to write. [default: standard output]",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    help="CSV or JSON Lines. [default: by the name of the output, else csv]",
)
@click.option(
    "--maps",
    type=click.Path(file_okay=False),
    help="Folder for pictures with the deviations marked, one for each image.",
)
@click.option("--threshold", type=float, help="Instead of the model's: lower scores are defects.")
@click.option(
    "--watch",
    is_flag=True,
    help="Go on with new files until stopped (Ctrl-C). Each is scored once, also after a restart: "
    "those in the output are done.",
)
@click.option(
    "--settle",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="With --watch: a file is complete when it has not changed for so many seconds.",
)
@jobs_option
@click.pass_context
def score(
    ctx: click.Context,
    model: str,
    paths: tuple[str, ...],
    output: str,
    kind: str | None,
    maps: str | None,
    threshold: float | None,
    watch: bool,
    settle: float,
    jobs: int,
) -> None:
    """Score images with a model.

    PATHS are image files, or folders, which are searched with their subfolders. Writes a line for
    each image: path, score (the lower, the more abnormal), p_value (how rarely a good part looks
    as abnormal), decision (good, defect or error) and error. A file that cannot be read gets the
    decision "error" and the reason; the others are scored.

    \b
    Exit code:
      0  every image was scored and is good
      1  every image was scored, and at least one is a defect
      2  an image could not be read, or the command failed

    \b
    Examples:
      ncae score part.ncae new_parts -o scores.csv --maps maps
      ncae score part.ncae camera --watch -o scores.jsonl
    """
    if watch and output == "-":
        raise click.UsageError("--watch needs a file to record what is done: give -o FILE.")
    if not watch:
        refuse_given("settle", why="Files settle with --watch only")
    kind = kind or ("csv" if output == "-" else format_of(output))
    if kind is None:
        raise click.UsageError(
            f"The name {output!r} does not say what to write: let it end in .csv or .jsonl, or "
            "give --format."
        )
    _refuse_overwriting(output, [model, *paths])
    layout = None if maps is None else _MapLayout(maps, paths)
    scoring = _Scoring(load_detector(model), threshold, jobs, layout)
    if watch:
        table = _watch(scoring, paths, output, kind, settle)
    else:
        files = image_files(paths)
        _refuse_overwriting(output, files)
        bar: AbstractContextManager[Any] = progress_bar(len(files), "Scoring")
        if output == "-" and sys.stdout.isatty():
            bar = nullcontext()  # the lines themselves show the progress
        if output == "-":
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="surrogateescape")  # for names that are not text
            table = ScoreTable(sys.stdout, kind)
            with bar as shown:
                scoring.run(files, table, shown)
        else:
            with (
                replacing(output) as written,
                written.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
                bar as shown,
            ):
                table = ScoreTable(file, kind)
                scoring.run(files, table, shown)
    counts = table.counts
    say(
        f"{n_of(counts['good'] + counts['defect'], 'image')} scored: {counts['good']} good, "
        f"{n_of(counts['defect'], 'defect')}; {n_of(counts['error'], 'file')} could not be read."
    )
    ctx.exit(FAILED if counts["error"] else int(counts["defect"] > 0))


def _refuse_overwriting(output: str, inputs: Iterable[str]) -> None:
    for path in filter(os.path.exists, inputs if os.path.exists(output) else ()):
        if os.path.samefile(output, path):
            raise click.UsageError(f"The output {output!r} is what is to be read. Name another.")


class _MapLayout:
    """Pictures are laid out as the images are, below the folder that has all of them."""

    def __init__(self, folder: str, paths: Sequence[str]) -> None:
        self.folder = Path(folder)
        roots = [os.path.abspath(path) for path in paths]
        self.common = os.path.commonpath(
            [root if os.path.isdir(root) else os.path.dirname(root) for root in roots]
        )
        for root in filter(os.path.isdir, roots):
            if os.path.commonpath([root, os.path.abspath(folder)]) == root:
                raise click.UsageError(
                    f"The folder of --maps, {folder!r}, lies in {root!r}, whose images are scored, "
                    "so the pictures would be scored as well. Choose one elsewhere."
                )

    def draw(self, one: "ImageScore") -> None:
        """Write the picture of an image."""
        from sklearn_ncae._overlay import overlay_picture, picture_of

        inside = os.path.relpath(os.path.abspath(one.name), self.common)
        path = self.folder / f"{inside}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert one.image is not None  # maps were asked for
        if one.map is None:
            picture = picture_of(one.image, one.black_and_white)
        else:
            picture = overlay_picture(one.image, one.map, one.black_and_white)
        with replacing(path) as written:
            picture.save(written, format="PNG")


@dataclass
class _Scoring:
    detector: Any
    threshold: float | None
    jobs: int
    layout: _MapLayout | None

    def run(self, files: Sequence[str], table: ScoreTable, bar: Any = None) -> None:
        """Score files into a table, and draw their maps."""
        from sklearn_ncae.file_scoring import score_images

        for one in score_images(
            self.detector,
            files,
            threshold=self.threshold,
            maps=self.layout is not None,
            n_jobs=self.jobs,
        ):
            if one.decision == "error":
                say(f"ncae: not scored: {one.error}")
            elif self.layout is not None:
                self.layout.draw(one)
            table.write(one)
            if bar is not None:
                bar.update(1)


def _watch(
    scoring: _Scoring, paths: Iterable[str], output: str, kind: str, settle: float
) -> ScoreTable:
    """Score new files until the user stops it."""
    from sklearn_ncae.file_scoring import watch_folder

    table, done = ScoreTable.append_to(output, kind)
    say(f"Watching; {n_of(len(done), 'image')} in {output} already. Ctrl-C stops.")
    try:
        for files in watch_folder(
            paths, done=done, interval=min(1.0, settle or 0.1), settle=settle
        ):
            if files:
                scoring.run(files, table)
    except KeyboardInterrupt:  # the way to stop
        say("")
    finally:
        table.close()
    return table
