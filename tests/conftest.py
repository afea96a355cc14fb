import os
from pathlib import Path

# Before anything imports TensorFlow or matplotlib: no start-up notes, no window.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest


@pytest.fixture(scope="session")
def ncae_data() -> Path:
    """The folder of real images that the environment variable NCAE_DATA names."""
    folder = os.environ.get("NCAE_DATA")
    if not folder:
        pytest.skip("NCAE_DATA is unset: it names the folder of real images for this test")
    return Path(folder)
