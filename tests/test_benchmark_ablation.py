from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import pytest


@pytest.fixture
def benchmark(load_benchmark):
    return load_benchmark("ablation")


def test_every_variant_of_the_texture_finds_what_is_drawn(benchmark):
    rng = np.random.default_rng(0)
    images = rng.integers(90, 110, (60, 64, 64)).astype(np.uint8)
    images[50:, 20:44, 30:33] = 255
    for variant in benchmark.TEXTURE_VARIANTS:
        scores = benchmark.texture_scores(variant, images[:40], images[40:])
        assert scores[10:].max() < scores[:10].min(), variant


def test_what_is_changed_of_the_network_is_there(benchmark):
    for variant in benchmark.VARIANTS.values():
        with ExitStack() as stack:
            for constant, value in variant.constants.items():
                stack.enter_context(patch(f"sklearn_ncae.{constant}", value))
        benchmark.NCAEDetector().set_params(**variant.parameters)
