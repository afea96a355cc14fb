import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType

# Before anything imports TensorFlow or matplotlib: no start-up notes, no window.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
# Processes that share the tests (pytest -n) share the cores: a thread for each.
if "PYTEST_XDIST_WORKER" in os.environ:
    for library in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(library, "1")

import numpy as np
import pytest
from hypothesis import settings

# How long one input takes says nothing where processes share the cores.
settings.register_profile("default", deadline=None)
settings.load_profile("default")
# pytest --hypothesis-profile=nightly
settings.register_profile("nightly", max_examples=1000, deadline=None)


@pytest.fixture(scope="session")
def ncae_data() -> Path:
    """The folder of real images that the environment variable NCAE_DATA names."""
    folder = os.environ.get("NCAE_DATA")
    if not folder:
        pytest.skip("NCAE_DATA is unset: it names the folder of real images for this test")
    return Path(folder)


@pytest.fixture
def load_benchmark(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """``load_benchmark("detection")`` imports ``benchmarks/detection.py`` anew."""

    def load(name: str) -> ModuleType:
        script = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
        monkeypatch.syspath_prepend(str(script.parent))
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", script)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def eagerly() -> Callable[[], AbstractContextManager[None]]:
    """``with eagerly():`` for fits that are not the point of a test.

    Compiling a network takes seconds, and all the steps of a tiny fit take less.
    """
    tf = pytest.importorskip("tensorflow")

    @contextmanager
    def run_eagerly() -> Iterator[None]:
        before = tf.config.functions_run_eagerly()
        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(before)

    return run_eagerly


@pytest.fixture(scope="module")
def eager_tensorflow(eagerly) -> Iterator[None]:
    """`eagerly` for the tests and fixtures of a whole module."""
    with eagerly():
        yield


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
