"""``ncae report``."""

import os
from typing import Any

import click

from sklearn_ncae._cli.base import (
    FOLDER,
    MODEL,
    NcaeCommand,
    Output,
    image_files,
    jobs_option,
    labelled_files,
    load_detector,
    n_of,
    progress_bar,
    refuse_given,
    report_unreadable,
    say,
)
from sklearn_ncae._cli.info import in_words, model_summary


@click.command(cls=NcaeCommand)
@click.argument("model", type=MODEL)
@click.argument("folder", type=FOLDER)
@click.option(
    "-o", "--output", type=Output(".html", ".htm"), default="report.html", show_default=True
)
@click.option(
    "--good",
    multiple=True,
    metavar="NAME",
    help="Name of the subfolder of good images; may be repeated. [default: good, ok, ok_front, "
    "normal]",
)
@click.option("--no-labels", is_flag=True, help="Do not take names of subfolders for labels.")
@click.option(
    "--train",
    type=FOLDER,
    help="Images the model was trained on: warn of those in FOLDER that are copies of them.",
)
@click.option(
    "--missed-defect",
    type=click.FloatRange(0),
    default=10,
    show_default=True,
    help="Cost of a defect not found; can be changed on the page.",
)
@click.option(
    "--false-alarm",
    type=click.FloatRange(0),
    default=1,
    show_default=True,
    help="Cost of a good part flagged; can be changed on the page.",
)
@click.option("--title", help="[default: the names of model and folder]")
@click.option(
    "--thumbnails",
    type=click.IntRange(16),
    default=128,
    show_default=True,
    help="Longer side of the pictures in the file.",
)
@jobs_option
def report(
    model: str,
    folder: str,
    output: str,
    good: tuple[str, ...],
    no_labels: bool,
    train: str | None,
    missed_defect: float,
    false_alarm: float,
    title: str | None,
    thumbnails: int,
    jobs: int,
) -> None:
    """Write one HTML page to inspect images with.

    It shows the scores, a threshold to drag and what it costs, and the images, worst first, and
    needs nothing but a browser. Where FOLDER has a subfolder of good images (and
    others of defects), their names are the labels, and the page shows misses, false alarms, costs
    and curves. With train and test folders in it, only the images for testing are shown.

    \b
    Example:
      ncae report part.ncae labelled_parts -o report.html
    """
    from sklearn_ncae.inspection import write_report

    if no_labels:
        refuse_given("good", why="--no-labels takes no subfolder for that of good images")
    detector = load_detector(model)
    files, labels = _labelled(folder, good) if not no_labels else (None, None)
    if files is None:
        files = image_files([folder])
        say(f"{n_of(len(files), 'image')} without labels")
    leakage = None
    if train is not None:
        leakage = _leakage(train, files, jobs)
    errors = []
    with progress_bar(len(files), "Scoring") as bar:

        def scored(one: Any) -> None:
            if one.error:
                errors.append(one.error)
            bar.update(1)

        write_report(
            output,
            detector,
            files,
            labels,
            names=[os.path.relpath(file, folder) for file in files],
            costs={"missed_defect": missed_defect, "false_alarm": false_alarm},
            leakage=leakage,
            summary=in_words(model_summary(model)),
            title=title or f"{model} on {folder}",
            thumbnail_size=thumbnails,
            n_jobs=jobs,
            progress=scored,
        )
    report_unreadable(errors)
    click.echo(f"{output}: open it in a browser.")


def _labelled(folder: str, good: tuple[str, ...]) -> tuple[Any, Any]:
    """Return files and labels, or None where the folder is not sorted by label."""
    try:
        return labelled_files(folder, good)
    except ValueError:
        if good:
            raise
        return None, None


def _leakage(train: str, files: list[str], jobs: int) -> Any:
    from sklearn_ncae.near_duplicates import leakage_report

    found = leakage_report(image_files([train]), files, on_error="skip", n_jobs=jobs)
    say(f"{n_of(int(found.leaked.sum()), 'image')} with a copy among the training images")
    return found
