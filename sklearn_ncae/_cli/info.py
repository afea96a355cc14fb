"""``ncae info``."""

import json
from typing import Any

import click

from sklearn_ncae._cli.base import MODEL, NcaeCommand, is_onnx, load_detector

# What entries of a summary are called that do not speak for themselves.
_WORDS = {
    "image_shape": "height, width, channels",
    "n_samples_fit": "images trained on",
    "n_calibration": "images behind the threshold",
    "n_weights": "weights of the network",
    "left_out": "parameters left out",
    "offset": "threshold",
    "false_alarm_rate": "false-alarm rate",
}


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
    words = in_words(summary)
    width = max(map(len, words))
    for name, text in words.items():
        click.echo(f"{name:{width}}  {text}")


def model_summary(path: str) -> dict[str, Any]:
    """Return what a .ncae or .onnx file says of itself."""
    if is_onnx(path):
        return dict(load_detector(path).metadata_)
    from sklearn_ncae import persistence

    return persistence.info(path)


def in_words(summary: dict[str, Any]) -> dict[str, str]:
    """Return a summary for people: plain words, no more digits than they read, what there is."""
    return {
        _WORDS.get(name, name.replace("_", " ")): as_text(value)
        for name, value in summary.items()
        if value is not None
    }


def as_text(value: Any) -> str:
    """Return a value of a summary for people."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {as_text(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(as_text, value)) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)
