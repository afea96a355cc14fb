"""``ncae compare``."""

from typing import Any

import click

from sklearn_ncae._cli.base import (
    FOLDER,
    NcaeCommand,
    Output,
    count_unlabelled,
    jobs_option,
    n_of,
    progress_bar,
    reading_options,
    refuse_given,
    say,
    start_tensorflow,
)


@click.command(cls=NcaeCommand)
@click.argument("folder", type=FOLDER)
@reading_options
@click.option("--splits", type=click.IntRange(2), default=5, show_default=True, help="Of the data.")
@click.option("--epochs", type=click.IntRange(1), help="Of NCAE. [default: its own]")
@click.option(
    "--without-ncae", is_flag=True, help="Only the quick ones, to see how hard the data are."
)
@click.option(
    "--groups/--no-groups",
    default=True,
    show_default=True,
    help="Keep near duplicates on one side of each split.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="For the same splits again.")
@click.option("-o", "--output", type=Output(".csv"), help="CSV file for the whole table.")
@jobs_option
def compare(
    folder: str,
    size: tuple[int, int] | None,
    color: bool,
    splits: int,
    epochs: int | None,
    without_ncae: bool,
    groups: bool,
    seed: int,
    output: str | None,
    jobs: int,
) -> None:
    """Compare detectors on your own images.

    They are NCAE, texture alone, scikit-learn's own on pixels, and mean brightness. FOLDER holds
    good and defective images in subfolders (good, and any other names). Every detector is trained
    on the good images of each split and judged on the rest; defects are the positive class of the
    figures. A detector that does not beat mean brightness has learned nothing.

    \b
    Example:
      ncae compare labelled_parts --size 96 -o table.csv
    """
    import numpy as np

    from sklearn_ncae import NCAEDetector
    from sklearn_ncae._atomic import replacing
    from sklearn_ncae.baselines import usual_detectors
    from sklearn_ncae.datasets import load_image_folder
    from sklearn_ncae.metrics import compare_detectors
    from sklearn_ncae.near_duplicates import near_duplicate_groups
    from sklearn_ncae.texture import TextureDetector

    if without_ncae:
        refuse_given("epochs", why="--without-ncae trains no network")
    mode = "color" if color else "gray"
    parts = load_image_folder(folder, size=size, mode=mode, n_jobs=jobs, on_error="skip")
    n_others = count_unlabelled(folder, load_image_folder(folder, load=False).paths)
    if n_others:
        say(f"{n_of(n_others, 'image')} in no subfolder left out")
    n_good = int(np.count_nonzero(parts.target == 1))
    say(f"{n_of(n_good, 'good image')}, {n_of(len(parts.target) - n_good, 'defect')}")
    group_of = None
    if groups:
        group_of = near_duplicate_groups(parts.images, n_jobs=jobs)
        say(f"{n_of(len(np.unique(group_of)), 'group')} of near duplicates and single images")
    # Half of what a split leaves: groups make splits of uneven size.
    n_components = max(1, min(64, n_good * (splits - 1) // splits // 2))
    detectors: dict[str, Any] = {}
    if not without_ncae:
        ncae = NCAEDetector(epochs="auto" if epochs is None else epochs, random_state=seed)
        detectors["NCAE"] = ncae
        start_tensorflow()
    detectors["texture"] = TextureDetector()
    detectors |= usual_detectors(n_components=n_components, random_state=seed)
    n_fits = (len(detectors) + 1) * splits  # and mean brightness
    with progress_bar(n_fits, f"Fitting {len(detectors) + 1} detectors on {splits} splits") as bar:
        table = compare_detectors(
            detectors,
            parts.images,
            parts.target,
            groups=group_of,
            cv=splits,
            random_state=seed,
            progress=lambda record: bar.update(1),
        )
    if output is not None:
        with replacing(output) as written:
            table.to_csv(written)
    shown = table[
        [
            "accuracy",
            "roc_auc",
            "roc_auc_std",
            "prc_auc",
            "f1",
            "fit_seconds",
            "score_ms",
            "verdict",
        ]
    ]
    click.echo(shown.to_string(float_format=lambda value: f"{value:.3f}"))
    for name, error in table["error"].items():
        if error:
            say(f"ncae: {name} failed: {error}")
