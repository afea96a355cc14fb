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
    from sklearn_ncae.texture import TextureDetector
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
    "TextureDetector",
]

# joblib and Dask say by this variable how many threads each of their workers may use. TensorFlow
# does not read it, but one of its own, when it starts. Processes inherit that from the one that
# starts them, where the limit may have been another: only a value that is not from here stays.
_HANDED_ON = "SKLEARN_NCAE_OMP_NUM_THREADS"
if "OMP_NUM_THREADS" in os.environ and os.environ.get("TF_NUM_INTRAOP_THREADS") in (
    None,
    os.environ.get(_HANDED_ON),
):
    for _name in (_HANDED_ON, "TF_NUM_INTRAOP_THREADS"):
        os.environ[_name] = os.environ["OMP_NUM_THREADS"]

_MODULES = {
    "ImageLoader": "images",
    "KerasReconstructor": "wrappers",
    "NCAEDetector": "detector",
    "NCAEReconstructor": "reconstructor",
    "NeighborConv2D": "layers",
    "ResidualDetector": "detector",
    "ResidualStatistics": "residuals",
    "TextureDetector": "texture",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
