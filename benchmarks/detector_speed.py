"""Time of the detector beside that of its bare Keras network.

Scoring: `score_samples` of uint8 images, beside the compiled forward pass of the network on batches
of the same sizes that are scaled already. One image: the time to answer, as for a camera on a line.
Training: `fit` beside `model.fit` on batches that are drawn already, in as many steps.

    python benchmarks/detector_speed.py
    python benchmarks/detector_speed.py --size 64 --images 64 --repetitions 2
    python benchmarks/detector_speed.py --write  # also the tables in docs/performance.md
"""

import argparse
import os
import time
from functools import partial
from typing import Any, Literal
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from performance import interleaved_seconds, medians, report

from sklearn_ncae import NCAEDetector, NCAEReconstructor
from sklearn_ncae._pixel_scale import PixelScale
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.network import build_network

TRAININGS: tuple[Literal["reconstruct", "repair"], ...] = ("reconstruct", "repair")


def run(forward: Any, batches: list[NDArray[np.float32]]) -> None:
    """Run the network on batches; that the outputs become arrays waits for them."""
    for batch in batches:
        np.asarray(forward(batch))


def scoring(images: NDArray[np.uint8], repetitions: int) -> list[list[str]]:
    """Return a row for each training: throughput, latency of one image, tracing."""
    scaled: NDArray[np.float32] = np.divide(images[..., np.newaxis], 255, dtype=np.float32)
    batches = [scaled[start : start + 16] for start in range(0, len(scaled), 16)]
    rows = []
    for training in TRAININGS:
        detector = NCAEDetector(training=training, epochs=1, contamination=0.1, random_state=0)
        detector.fit(images[:64])
        reconstructor = detector.reconstructor_
        forward = tf.function(partial(reconstructor.model_, training=False), reduce_retracing=True)

        reconstructor._model = None  # built again, as in a new process
        start = time.perf_counter()
        detector.score_samples(images[:16])
        first = time.perf_counter() - start
        # A layer is called in Python only where the network is traced.
        layer = reconstructor.model_.layers[1]
        with patch.object(layer, "call", wraps=layer.call) as traced_again:
            for n in (16, len(images) - 5, 3, 1):
                detector.score_samples(images[:n])

        many = medians(
            {
                "ours": partial(detector.score_samples, images),
                "bare": partial(run, forward, batches),
            },
            repetitions,
        )
        seconds = interleaved_seconds(
            {
                "ours": partial(detector.score_samples, images[:1]),
                "bare": partial(run, forward, [scaled[:1]]),
            },
            20 * repetitions,
        )
        ours, bare = (1000 * np.percentile(seconds[name], [50, 99]) for name in ("ours", "bare"))
        rows.append(
            [
                f'"{training}"',
                f"{1000 * many['ours'] / len(images):.2f}",
                f"{many['bare'] / many['ours']:.2f}",
                f"{ours[0]:.1f} / {ours[1]:.1f}",
                f"{ours[0] / bare[0]:.2f} / {ours[1] / bare[1]:.2f}",
                f"{first:.1f}",
                str(traced_again.call_count),
            ]
        )
    return rows


def fit_bare(
    template: NCAEReconstructor,
    training: Any,
    loss: Any,
    epochs: int,
    inputs: NDArray[np.float32],
    targets: NDArray[np.float32],
) -> None:
    """Train the network that `template` would, on what is in memory."""
    policy: Any = template.dtype_policy
    model = build_network(inputs.shape[1:], training=training, dtype_policy=policy)
    n_steps = epochs * -(-len(inputs) // template.batch_size)
    model.compile(optimizer=template._make_optimizer(n_steps), loss=loss, jit_compile=False)
    model.fit(inputs, targets, batch_size=template.batch_size, epochs=epochs, verbose=0)


def training_steps(
    images: NDArray[np.uint8], kinds: list[tuple[str, str, int]], repetitions: int
) -> list[list[str]]:
    """Return a row for each training, policy and number of epochs: the time of a step."""
    stack = images[..., np.newaxis]
    rows = []
    for training, policy, epochs in kinds:
        ours = NCAEReconstructor(
            training=training, dtype_policy=policy, epochs=epochs, random_state=0
        )
        ours.image_shape_ = stack.shape[1:]
        make_batches, loss, _ = ours._training_kind(stack)
        scale = PixelScale.of(stack, per_image=training == "repair")
        rows_used = np.arange(len(stack))
        batches = make_batches(stack, rows_used, scale, ours.batch_size, np.random.RandomState(0))
        start = time.perf_counter()
        made = [batches[i] for i in range(len(batches))]
        making = (time.perf_counter() - start) / len(made)
        inputs, targets = (np.concatenate(part) for part in zip(*made, strict=True))
        time_of = medians(
            {
                "ours": partial(ours.fit, images),
                "bare": partial(fit_bare, ours, training, loss, epochs, inputs, targets),
            },
            repetitions,
        )
        step = time_of["ours"] / (epochs * len(made))
        rows.append(
            [
                f'"{training}"',
                f'"{policy}"',
                str(epochs * len(made)),
                f"{1000 * step:.0f}",
                f"{time_of['ours'] / time_of['bare']:.2f}",
                f"{1000 * making:.1f}",
                f"{making / step:.0%}",
            ]
        )
    return rows


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=300, help="side of the images")
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=5, help="to reconstruct (default: 5)")
    parser.add_argument(
        "--repair-epochs",
        type=int,
        default=20,
        help="to repair (default: 20, which are 200 steps of the usual 1500)",
    )
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    images = make_castings(
        n_good=options.images,
        n_defect=1,
        image_size=(options.size, options.size),
        random_state=0,
    ).images[: options.images]
    header = [
        "`training`",
        "ms per image",
        "of the bare network's throughput",
        "one image: p50 / p99, ms",
        "of the bare network's time",
        "first call, s",
        "traced again",
    ]
    report("scoring", header, scoring(images, options.repetitions), options.write)
    header = [
        "`training`",
        "`dtype_policy`",
        "steps",
        "ms per step",
        "of `model.fit`'s time",
        "making a batch, ms",
        "share of a step",
    ]
    kinds = [
        ("reconstruct", "float32", options.epochs),
        ("repair", "float32", options.repair_epochs),
        ("repair", "mixed_bfloat16", options.repair_epochs),
    ]
    rows = training_steps(images, kinds, max(1, options.repetitions // 2))
    report("training", header, rows, options.write)


if __name__ == "__main__":
    main()
