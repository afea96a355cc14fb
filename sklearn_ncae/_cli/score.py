"""``ncae score``."""

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

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
    say,
)
from sklearn_ncae._score_table import FORMATS, ScoreTable, format_of


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
    r"""Score images with a model.

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
    kind = kind or format_of(output)
    detector = load_detector(model)
    scoring = _Scoring(detector, threshold, jobs, paths, maps)
    if watch:
        if output == "-":
            raise click.UsageError("--watch needs a file to record what is done: give -o FILE.")
        table = _watch(scoring, paths, output, kind, settle)
    else:
        files = image_files(paths)
        to_terminal = output == "-" and sys.stdout.isatty()
        bar = nullcontext() if to_terminal else progress_bar(len(files), "Scoring")
        if output == "-":
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


class _Scoring:
    """Scores files into a table, and draws their maps."""

    def __init__(
        self,
        detector: Any,
        threshold: float | None,
        jobs: int,
        roots: Sequence[str],
        maps: str | None,
    ) -> None:
        self.detector = detector
        self.options: dict[str, Any] = {
            "threshold": threshold,
            "n_jobs": jobs,
            "maps": maps is not None,
        }
        self.maps = maps
        # Pictures are laid out as the images are, below the folder that has all of them.
        folders = [
            os.path.abspath(root if os.path.isdir(root) else Path(root).parent) for root in roots
        ]
        self.root = os.path.commonpath(folders)
        for folder in folders if maps is not None else []:
            if os.path.commonpath([folder, os.path.abspath(str(maps))]) == folder:
                raise click.UsageError(
                    f"The folder of --maps, {maps!r}, lies in {folder!r}, whose images are scored, "
                    "so the pictures would be scored as well. Choose one elsewhere."
                )

    def run(self, files: Sequence[str], table: ScoreTable, bar: Any = None) -> None:
        from sklearn_ncae.file_scoring import score_images

        for one in score_images(self.detector, files, **self.options):
            if self.maps is not None and one.image is not None:
                self._draw(one)
            table.write(one)
            if one.decision == "error":
                say(f"ncae: not scored: {one.error}")
            if bar is not None:
                bar.update(1)

    def _draw(self, one: Any) -> None:
        from sklearn_ncae._overlay import overlay_picture, picture_of

        inside = os.path.relpath(os.path.abspath(one.name), self.root)
        path = Path(str(self.maps)) / f"{inside}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = picture_of(one.image) if one.map is None else overlay_picture(one.image, one.map)
        with replacing(path) as written:
            picture.save(written, format="PNG")


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
