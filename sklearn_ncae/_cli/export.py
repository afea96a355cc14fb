"""``ncae export``."""

from pathlib import Path

import click

from sklearn_ncae._cli.base import MODEL, NcaeCommand, Output, is_onnx, load_detector


@click.command(cls=NcaeCommand)
@click.argument("model", type=MODEL)
@click.option("-o", "--output", type=Output(".onnx"), help="[default: MODEL with the suffix .onnx]")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "uint8", "uint16", "float32", "float64"]),
    default="auto",
    show_default=True,
    help="Number type of the images that the graph takes.",
)
@click.option(
    "--maps/--no-maps",
    default=True,
    show_default=True,
    help="Whether the graph has the maps too. Without, it scores faster.",
)
def export(model: str, output: str | None, dtype: str, maps: bool) -> None:
    """Write a model as one ONNX file.

    It runs on machines without TensorFlow. Scores, decisions, p-values and maps come out of the
    graph. `ncae score` takes the file as well as a .ncae file.

    \b
    Example:
      ncae export part.ncae -o part.onnx
    """
    if is_onnx(model):
        raise click.UsageError("An .onnx file has been exported: give the .ncae file.")
    from sklearn_ncae import onnx

    output = output or Output(".onnx").convert(str(Path(model).with_suffix(".onnx")), None, None)
    onnx.export(load_detector(model), output, dtype=dtype, maps=maps)
    click.echo(f"{output}: {Path(output).stat().st_size / 1e6:.1f} MB")
