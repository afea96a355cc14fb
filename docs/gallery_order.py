"""The order of the gallery: a way through the package, not the alphabet."""

from pathlib import Path

ORDER = (
    "plot_first_detection.py",
    "plot_residual_maps.py",
    "plot_compare_detectors.py",
    "plot_leakage.py",
    "plot_false_alarms.py",
    "plot_tuned_threshold.py",
    "plot_threshold_search.py",
    "plot_statistics.py",
    "plot_neighbor_convolution.py",
    "plot_drawn_defects.py",
    "plot_own_autoencoder.py",
    "plot_onnx.py",
    "plot_dask.py",
)


def by_reading(path: str) -> tuple[int, str]:
    """Sort the examples that are named above first, and others by name."""
    name = Path(path).name
    return (ORDER.index(name) if name in ORDER else len(ORDER)), name
