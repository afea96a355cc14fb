"""Image outlier detection with a neighbor convolution autoencoder, for scikit-learn.

Importing the package imports nothing else: every name is loaded when first asked for, Keras and
TensorFlow when a network is built. So `sklearn_ncae.onnx` runs where they are not installed.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn_ncae.detector import NCAEDetector, ResidualDetector
    from sklearn_ncae.images import ImageLoader
    from sklearn_ncae.layers import NeighborConv2D
    from sklearn_ncae.reconstructor import NCAEReconstructor
    from sklearn_ncae.residuals import ResidualStatistics
    from sklearn_ncae.wrappers import KerasReconstructor

__version__ = "0.1.0"

__all__ = [
    "ImageLoader",
    "KerasReconstructor",
    "NCAEDetector",
    "NCAEReconstructor",
    "NeighborConv2D",
    "ResidualDetector",
    "ResidualStatistics",
]

# joblib and Dask say by this variable how many threads each of their workers may use. TensorFlow
# does not read it, but one of its own, when it starts.
if "OMP_NUM_THREADS" in os.environ:
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ["OMP_NUM_THREADS"])

_MODULES = {
    "ImageLoader": "images",
    "KerasReconstructor": "wrappers",
    "NCAEDetector": "detector",
    "NCAEReconstructor": "reconstructor",
    "NeighborConv2D": "layers",
    "ResidualDetector": "detector",
    "ResidualStatistics": "residuals",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
