"""``ncae info``."""

import json
from typing import Any

import click

from sklearn_ncae._cli.base import MODEL, NcaeCommand, load_detector


@click.command(cls=NcaeCommand)
@click.argument("model", type=MODEL)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def info(model: str, as_json: bool) -> None:
    """Say what a model file holds.

    \b
    Example:
      ncae info part.ncae
    """
    summary = model_summary(model)
    if as_json:
        click.echo(json.dumps(summary))
        return
    width = max(map(len, summary))
    for name, value in summary.items():
        click.echo(f"{name:{width}}  {as_text(value)}")


def model_summary(path: str) -> dict[str, Any]:
    """Return what a .ncae or .onnx file says of itself."""
    if path.lower().endswith(".onnx"):
        return dict(load_detector(path).metadata_)
    from sklearn_ncae import persistence

    return persistence.info(path)


def as_text(value: Any) -> str:
    """Return a value of a summary for people."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {as_text(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(as_text, value)) or "none"
    return "none" if value is None else str(value)
