import os
from pathlib import Path

# Before anything imports TensorFlow or matplotlib: no start-up notes, no window.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
from hypothesis import settings

# pytest --hypothesis-profile=nightly
settings.register_profile("nightly", max_examples=1000, deadline=None)


@pytest.fixture(scope="session")
def ncae_data() -> Path:
    """The folder of real images that the environment variable NCAE_DATA names."""
    folder = os.environ.get("NCAE_DATA")
    if not folder:
        pytest.skip("NCAE_DATA is unset: it names the folder of real images for this test")
    return Path(folder)


@pytest.fixture(scope="session")
def good_images() -> np.ndarray:
    """Small drawn images of good parts: (40, 16, 16), uint8."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:16, :16]
    shift = rng.uniform(-1, 1, (40, 1, 1))
    part = 80 + 100 * (np.hypot(rows - 8 + shift, columns - 8) < 5)
    return np.clip(part + rng.normal(0, 8, (40, 16, 16)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def labelled_images(good_images) -> tuple[np.ndarray, np.ndarray]:
    """The good images and eight with a bright scratch, with their labels."""
    defective = good_images[:8].copy()
    defective[:, 5:7, 2:12] = 250
    return np.concatenate([good_images, defective]), np.repeat([1, -1], [40, 8])
