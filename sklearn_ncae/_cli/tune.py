"""``ncae tune``."""

import re
from itertools import compress
from typing import Any

import click

from sklearn_ncae._cli.base import (
    MODEL,
    NcaeCommand,
    Output,
    group_by_option,
    image_files,
    is_onnx,
    jobs_option,
    labelled_files,
    load_detector,
    n_of,
    names_of_parts,
    progress_bar,
    refuse_defects,
    refuse_given,
    report_unreadable,
)
from sklearn_ncae._warn import warn

# So unlikely it is that labelled good images look as much better as they do by chance.
_SURPRISING = 0.01


@click.command(cls=NcaeCommand)
@click.argument("model", type=MODEL)
@click.argument("paths", nargs=-1, type=click.Path(exists=True))
@click.option(
    "--false-alarm-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of good parts that may be called defective.",
)
@group_by_option
@click.option("--missed-defect", type=click.FloatRange(0), help="Cost of a defect not found.")
@click.option("--false-alarm", type=click.FloatRange(0), help="Cost of a good part flagged.")
@click.option(
    "--defect-rate",
    type=click.FloatRange(0, 1),
    help="Share of defects in production, for the costs. [default: that of the images]",
)
@click.option("--threshold", type=float, help="The threshold itself, such as one from a report.")
@click.option(
    "-o", "--output", type=Output(".ncae"), help="Model file to write with the new threshold."
)
@jobs_option
def tune(
    model: str,
    paths: tuple[str, ...],
    false_alarm_rate: float | None,
    group_by: re.Pattern[str] | None,
    missed_defect: float | None,
    false_alarm: float | None,
    defect_rate: float | None,
    threshold: float | None,
    output: str | None,
    jobs: int,
) -> None:
    """Find a threshold for a rate of false alarms, or for costs.

    For --false-alarm-rate, PATHS are good images that the model was not trained on; without PATHS
    those count that were held out in training. For costs, PATHS is one folder with good and
    defective images in subfolders (good, and any other names), which the model was not trained on
    either: it knows those. Without -o the threshold is only printed; with -o it is saved, and so
    are the new good images' scores, on which p-values rest.

    \b
    Examples:
      ncae tune part.ncae --false-alarm-rate 0.01 -o strict.ncae
      ncae tune part.ncae labelled --missed-defect 500 --false-alarm 20 -o part.ncae
    """
    by_cost = missed_defect is not None or false_alarm is not None
    if (false_alarm_rate is not None) + by_cost + (threshold is not None) != 1:
        raise click.UsageError(
            "Give one aim: --false-alarm-rate, or --missed-defect with --false-alarm, or "
            "--threshold."
        )
    if group_by is not None and (false_alarm_rate is None or not paths):
        raise click.UsageError("--group-by goes with --false-alarm-rate and new good images.")
    if not by_cost:
        refuse_given("defect_rate", why="--defect-rate goes with costs")
    if threshold is not None and paths:
        raise click.UsageError("--threshold says it all: give no images with it.")
    if is_onnx(model):
        raise click.UsageError("An .onnx file cannot be tuned: tune the .ncae file and export it.")
    detector = load_detector(model)
    before = detector.offset_
    if threshold is not None:
        detector.offset_ = threshold
    elif false_alarm_rate is not None:
        _for_rate(detector, false_alarm_rate, paths, group_by, jobs)
    else:
        if missed_defect is None or false_alarm is None or len(paths) != 1:
            raise click.UsageError(
                "Costs need --missed-defect, --false-alarm and one folder of labelled images."
            )
        costs = {"missed_defect": missed_defect, "false_alarm": false_alarm}
        if defect_rate is not None:
            costs["defect_rate"] = defect_rate
        detector.offset_ = _for_costs(detector, costs, paths[0], jobs)
    click.echo(f"threshold {detector.offset_:.6g} (was {before:.6g})")
    if hasattr(detector, "calibration_scores_"):
        by_others = bool(paths) and not by_cost
        # In cross-validation, each score is of another detector than the one that is used.
        how_many = (
            "On average, at most" if by_others or hasattr(detector, "reconstructor_") else "About"
        )
        click.echo(
            f"{how_many} {100 * detector.false_alarm_rate_:.3g} % of new good parts will be called "
            f"defective, judged by {n_of(len(detector.calibration_scores_), 'good image')}"
            f"{', if the model was not trained on these' if by_others else ''}."
        )
    if output is not None:
        from sklearn_ncae import persistence

        persistence.save(detector, output)
        click.echo(f"Saved as {output}.")


def _for_rate(
    detector: Any,
    rate: float,
    paths: tuple[str, ...],
    group_by: re.Pattern[str] | None,
    jobs: int,
) -> None:
    if paths:
        refuse_defects(paths)
        files = image_files(paths)
        names = files if group_by is None else names_of_parts(group_by, paths, files)
        scores, read = _scores(detector, files, jobs)
        detector._recalibrate_by(scores, [*compress(names, read)], rate)
    elif hasattr(detector, "calibration_scores_"):
        detector.recalibrate(false_alarm_rate=rate)
    else:
        raise click.UsageError(
            "This model has no scores of images held out of training: give good images that it was "
            "not trained on."
        )


def _for_costs(detector: Any, costs: dict[str, float], folder: str, jobs: int) -> float:
    from sklearn_ncae.model_selection import cost_offset

    files, labels = labelled_files(folder)
    scores, read = _scores(detector, files, jobs)
    offset, cost = cost_offset(labels[read], scores, costs)
    click.echo(
        f"{n_of(len(scores), 'labelled image')}; the mean cost is {cost:.6g} for each part. The "
        "threshold was chosen on these images: expect somewhat more on others."
    )
    if hasattr(detector, "calibration_scores_"):
        _warn_of_known_images(detector.calibration_scores_, scores[labels[read] == 1], offset)
    return offset


def _warn_of_known_images(held_out: Any, labelled: Any, offset: float) -> None:
    """Warn of labelled good images that look better than those held out of training do."""
    import numpy as np
    from scipy.stats import fisher_exact

    flagged = [int(np.sum(scores < offset)) for scores in (labelled, held_out)]
    passed = [len(labelled) - flagged[0], len(held_out) - flagged[1]]
    if fisher_exact([flagged, passed], alternative="less").pvalue < _SURPRISING:
        warn(
            f"The threshold calls {flagged[0]} of the {n_of(len(labelled), 'labelled good image')} "
            f"defective, but {flagged[1]} of the {len(held_out)} that were held out of training. "
            "If the model was trained on these images, give others: on those it knows, no "
            "threshold can be chosen."
        )


def _scores(detector: Any, files: list[str], jobs: int) -> tuple[Any, Any]:
    """Return the scores of the files that can be read, and which these are."""
    import numpy as np

    from sklearn_ncae.file_scoring import score_images

    scored = []
    with progress_bar(len(files), "Scoring") as bar:
        for one in score_images(detector, files, n_jobs=jobs):
            scored.append(one)
            bar.update(1)
    report_unreadable(one.error for one in scored if one.error)
    read = np.array([not one.error for one in scored])
    if not read.any():
        raise ValueError("None of the image files can be read.")
    return np.array([one.score for one in scored])[read], read
