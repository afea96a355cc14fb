"""Time of NeighborConv2D beside Conv2D and beside the article's recipe, in compiled TensorFlow.

The recipe, written literally, pads the image, slices and concatenates the eight shifted copies and
convolves them by 1x1. A training step is the forward pass and the gradients of the weights and of
the input.

    python benchmarks/layers.py
    python benchmarks/layers.py --write  # also the table in docs/performance.md
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from keras import ops
from performance import medians, report

from sklearn_ncae.layers import NeighborConv2D

# Batch, height, width, channels; filters; strides.
CASES = [
    ((8, 300, 300, 1), 32, 1),
    ((4, 300, 300, 1), 256, 1),
    ((8, 150, 150, 32), 32, 1),
    ((32, 64, 64, 1), 32, 1),
    ((16, 128, 128, 16), 16, 1),
    ((8, 300, 300, 1), 32, 2),
    ((8, 150, 150, 32), 32, 2),
]


class Recipe(keras.layers.Layer):
    """The neighbour convolution as the article writes it."""

    def __init__(self, filters: int, strides: int) -> None:
        super().__init__()
        self.strides = strides
        self.pointwise = keras.layers.Conv2D(filters, 1, activation="relu")

    def call(self, inputs: Any) -> Any:
        """Convolve a batch."""
        _, height, width, _ = inputs.shape
        padded = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
        copies = [
            padded[:, i : i + height : self.strides, j : j + width : self.strides]
            for i in range(3)
            for j in range(3)
            if (i, j) != (1, 1)
        ]
        return self.pointwise(ops.concatenate(copies, axis=-1))


def compiled(layer: keras.Layer, images: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return the forward pass and the training step as functions without arguments."""
    gradient = tf.random.normal(layer(images).shape)
    variables = [variable.value for variable in layer.trainable_variables]

    @tf.function
    def forward(images: Any) -> Any:
        return layer(images)

    @tf.function
    def step(images: Any, gradient: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images)
        return tape.gradient(outputs, [*variables, images], output_gradients=gradient)

    def wait(function: Callable[..., Any], *arguments: Any) -> None:
        function(*arguments)
        tf.test.experimental.sync_devices()

    return partial(wait, forward, images), partial(wait, step, images, gradient)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=25)
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = []
    for shape, filters, strides in CASES[: options.cases]:
        images = tf.random.normal(shape)
        kinds: dict[str, Callable[..., Any]] = {
            "ours": NeighborConv2D,
            "keras": partial(keras.layers.Conv2D, kernel_size=3, padding="same", activation="relu"),
            "recipe": Recipe,
        }
        functions = {}
        for name, kind in kinds.items():
            layer = kind(filters=filters, strides=strides)
            functions[name, "forward"], functions[name, "step"] = compiled(layer, images)
        row: list[Any] = [f"{shape} -> {filters}" + (f", strides {strides}" * (strides > 1))]
        for what in ("forward", "step"):
            time = medians({name: functions[name, what] for name in kinds}, options.repetitions)
            row += [
                f"{1000 * time['ours']:.1f}",
                f"{time['ours'] / time['keras']:.2f}",
                f"{time['recipe'] / time['ours']:.1f}",
            ]
        rows.append(row)
    header = ["input -> filters"]
    for what in ("forward", "step"):
        header += [f"{what}, ms", "of Conv2D's time", "times faster than the recipe"]
    report("layers", header, rows, options.write)


if __name__ == "__main__":
    main()
