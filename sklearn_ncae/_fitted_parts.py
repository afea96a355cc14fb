"""What is inside fitted pipelines, searches and other meta-estimators."""

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline


def part_with(estimator: Any, name: str, X: Any = None) -> tuple[Any, Any]:
    """Look inside pipelines and meta-estimators for the fitted part that has a method or attribute.

    Returns the part and `X`, if given, as that part takes it; ``(None, X)`` where there is none.
    """
    while not hasattr(estimator, name):
        if isinstance(estimator, Pipeline):
            if len(estimator) > 1 and X is not None:
                X = estimator[:-1].transform(X)
            estimator = estimator[-1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "detector_"):
            estimator = estimator.detector_
        else:
            return None, X
    return estimator, X


def fitted_offset(estimator: Any) -> float | None:
    """Return the ``offset_`` of the fitted part that has one; None where there is none."""
    part = part_with(estimator, "offset_")[0]
    # OneClassSVM's is an array of one.
    return None if part is None else float(np.asarray(part.offset_).item())
