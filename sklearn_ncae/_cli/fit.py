"""``ncae fit``."""

import re
import shlex
import time
from collections.abc import Sequence
from typing import Any

import click

from sklearn_ncae._cli.base import (
    NcaeCommand,
    Output,
    group_by_option,
    image_files,
    jobs_option,
    n_of,
    names_of_parts,
    progress_bar,
    reading_options,
    refuse_defects,
    refuse_given,
    report_unreadable,
    say,
    start_tensorflow,
)


@click.command(cls=NcaeCommand)
@click.argument("good", nargs=-1, required=True, type=click.Path(exists=True))
@click.option(
    "-o", "--output", required=True, type=Output(".ncae"), help="Model file, such as part.ncae."
)
@reading_options
@click.option(
    "--training",
    type=click.Choice(["repair", "reconstruct"]),
    default="repair",
    show_default=True,
    help="Learn to repair and to mark defects drawn in, or to reproduce good images.",
)
@click.option(
    "--texture-only",
    is_flag=True,
    help="No network: learn in seconds what texture is usual where. It takes none of the options "
    "of the training.",
)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the images. [default: by mode]")
@click.option("--early-stopping", is_flag=True, help="Stop when held-out images no longer improve.")
@click.option(
    "--false-alarm-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Share of new good parts that may be called defective.",
)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the images that sets the threshold and is not trained on.",
)
@group_by_option
@click.option(
    "--groups/--no-groups",
    default=False,
    show_default=True,
    help="The same for near duplicates, which are looked for.",
)
@click.option(
    "--checkpoint",
    type=Output(),
    help="Keeps the state of the training in this file: after a stop the same command goes on.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="For the same model again.")
@jobs_option
def fit(
    good: tuple[str, ...],
    output: str,
    size: tuple[int, int] | None,
    color: bool,
    training: str,
    texture_only: bool,
    epochs: int | None,
    early_stopping: bool,
    false_alarm_rate: float,
    held_out: float,
    group_by: re.Pattern[str] | None,
    groups: bool,
    checkpoint: str | None,
    seed: int,
    jobs: int,
) -> None:
    """Learn from images of good parts.

    GOOD are image files, or folders, which are searched with their subfolders. A fifth of the
    images is held out to set the threshold: a new good part is called defective with at most the
    given --false-alarm-rate, which takes at least 1 / rate - 1 held-out images: 19 for 0.05, so 93
    images, or fewer with a larger share --held-out. Each image is to show a part of its own;
    where it does not, say with --group-by or --groups which belong together.

    \b
    Examples:
      ncae fit good_parts -o part.ncae --size 160
      ncae fit good_parts -o part.ncae --group-by 'part[0-9]+'
    """
    from sklearn_ncae import ImageLoader, NCAEDetector, persistence
    from sklearn_ncae.file_scoring import read_image_files
    from sklearn_ncae.near_duplicates import near_duplicate_groups
    from sklearn_ncae.texture import TextureDetector

    if texture_only:
        refuse_given(
            *("training", "epochs", "early_stopping", "held_out", "checkpoint", "seed"),
            why="--texture-only trains no network and holds nothing out",
        )
    if groups and group_by is not None:
        raise click.UsageError("Give one of --groups and --group-by.")
    refuse_defects(good)
    found = image_files(good)
    names = {}
    if group_by is not None:
        names = dict(zip(found, names_of_parts(group_by, good, found), strict=True))
    loader = ImageLoader(size=size, mode="color" if color else "gray", n_jobs=jobs)
    files, images, errors = read_image_files(loader, found)
    report_unreadable(errors.values())
    if images is None:
        raise ValueError("None of the image files can be read.")
    of_images: Sequence[Any] | None = None
    if group_by is not None:
        of_images = [names[file] for file in files]
    elif groups:
        of_images = list(near_duplicate_groups(images, n_jobs=jobs))
    n_parts, part = len(files), "image"
    if of_images is not None:
        n_parts, part = len(set(of_images)), "group"
        say(f"{n_of(n_parts, 'group')} of {n_of(len(files), 'image')}")
    if texture_only:
        texture = TextureDetector(false_alarm_rate=false_alarm_rate)
        texture.fit(images, groups=of_images)
        persistence.save(texture, output)
        learned = f"learned from {n_of(n_parts, part)}, which set"
        click.echo(_summary(texture, output, learned, "About"))
        return
    start_tensorflow()
    say(f"Training on {n_of(len(files), 'image')} of {images.shape[1]} x {images.shape[2]} pixels")
    detector = NCAEDetector(
        training=training,
        epochs="auto" if epochs is None else epochs,
        early_stopping=early_stopping,
        false_alarm_rate=false_alarm_rate,
        calibration=held_out,
        checkpoint_path=checkpoint,
        random_state=seed,
        callbacks=[training_progress()],
    )
    start = time.perf_counter()
    detector.fit(images, groups=of_images)
    seconds = time.perf_counter() - start
    for trained in (detector, detector.reconstructor_):  # a model file is no place for these
        trained.set_params(callbacks=None, checkpoint_path=None)
    persistence.save(detector, output)

    n_held_out = len(detector.calibration_scores_)
    learned = (
        f"trained on {n_of(n_parts - n_held_out, part)} in {_duration(seconds)}, "
        f"{n_held_out} held out for"
    )
    click.echo(_summary(detector, output, learned, "On average, at most"))


def _summary(detector: Any, model: str, learned: str, how_many: str) -> str:
    quoted = shlex.quote(model)
    return (
        f"{model}: {learned} the threshold {detector.offset_:.6g}.\n"
        f"{how_many} {100 * detector.false_alarm_rate_:.3g} % of new good parts will be called "
        "defective, if they are like these.\n"
        f"Next: ncae score {quoted} NEW_IMAGES, or ncae report {quoted} NEW_IMAGES -o report.html"
    )


def training_progress() -> Any:
    """Return a Keras callback that shows a bar with the time left."""
    from keras.callbacks import Callback

    class Progress(Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            length = self.params["epochs"] * self.params["steps"]
            self.bar = progress_bar(length, "Training").__enter__()

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            # After a checkpoint the first epoch is not the first one.
            self.bar.update(epoch * self.params["steps"] - self.bar.pos)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.bar.update(1)

        def on_train_end(self, logs: Any = None) -> None:
            self.bar.__exit__(None, None, None)

    return Progress()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
