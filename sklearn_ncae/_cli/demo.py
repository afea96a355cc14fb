"""``ncae demo``."""

import shlex
from pathlib import Path
from typing import Any

import click

from sklearn_ncae._cli.base import NcaeCommand, say
from sklearn_ncae._cli.fit import fit
from sklearn_ncae._cli.report import report


@click.command(cls=NcaeCommand)
@click.argument("folder", default="ncae-demo", type=click.Path(file_okay=False))
@click.option("--size", type=click.IntRange(16), default=64, show_default=True, help="In pixels.")
@click.option(
    "--images", type=click.IntRange(20), default=200, show_default=True, help="To train on."
)
@click.option("--epochs", type=click.IntRange(1), default=60, show_default=True)
@click.pass_context
def demo(ctx: click.Context, folder: str, size: int, images: int, epochs: int) -> None:
    """Try it on drawn castings.

    Draws them into FOLDER, trains on the good ones, and writes a report. Takes a few minutes, and
    prints the commands that it stands for, to be tried again with other options.
    """
    root = Path(folder)
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{folder!r} is not empty; name another folder: ncae demo FOLDER")
    say(f"Drawing castings into {folder}")
    draw_folders(root, n_good=images, n_test=max(10, images // 5), size=size)
    model, page = str(root / "castings.ncae"), str(root / "report.html")
    for command, options in (
        (fit, [str(root / "train"), "-o", model, "--size", str(size), "--epochs", str(epochs)]),
        (report, [model, str(root / "test"), "-o", page, "--title", "Drawn castings"]),
    ):
        say(f"\n$ ncae {command.name} {shlex.join(options)}")
        with command.make_context(str(command.name), list(options), parent=ctx) as context:
            command.callback(**context.params)  # type: ignore[misc]


def draw_folders(root: Path, *, n_good: int, n_test: int, size: int) -> None:
    """Write drawn castings into train/good, test/good and test/defect."""
    from sklearn_ncae._overlay import picture_of
    from sklearn_ncae.datasets import make_castings

    train = make_castings(n_good, 0, image_size=size, random_state=0)
    test = make_castings(n_test, n_test, image_size=size, random_state=1)
    parts: list[tuple[str, Any]] = [("train", train), ("test", test)]
    for split, castings in parts:
        for i, (image, label) in enumerate(zip(castings.images, castings.target, strict=True)):
            path = root / split / ("good" if label == 1 else "defect") / f"part_{i:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture_of(image).save(path)
