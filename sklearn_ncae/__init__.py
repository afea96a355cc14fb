"""Image outlier detection with a neighbor convolution autoencoder, for scikit-learn.

Importing the package imports neither Keras nor TensorFlow: they are loaded when a network is
built.
"""

import os
from typing import Any

from sklearn_ncae.detector import NCAEDetector, ResidualDetector
from sklearn_ncae.images import ImageLoader
from sklearn_ncae.reconstructor import NCAEReconstructor
from sklearn_ncae.residuals import ResidualStatistics

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

# These are Keras classes: they are imported with Keras when first asked for.
_NEED_KERAS = {
    "KerasReconstructor": "sklearn_ncae.wrappers",
    "NeighborConv2D": "sklearn_ncae.layers",
}


def __getattr__(name: str) -> Any:
    if name in _NEED_KERAS:
        from importlib import import_module

        return getattr(import_module(_NEED_KERAS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_NEED_KERAS])
