"""What is inside fitted pipelines, searches and other meta-estimators."""

from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from sklearn_ncae.images import ImageLoader


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


def after_loading(estimator: Any) -> Any:
    """Return the last step of a pipeline that does nothing before but read image files."""
    if isinstance(estimator, Pipeline):
        *before, (_, last) = estimator.steps
        if all(isinstance(step, ImageLoader) for _, step in before):
            return last
    return estimator


def groups_for(detector: Any, groups: Any) -> dict[str, Any]:
    """Return groups as the `fit` of a detector takes them; nothing if it takes none."""
    if has_fit_parameter(detector, "groups") or hasattr(detector, "_takes_groups"):
        return {"groups": groups}
    if isinstance(detector, Pipeline):
        name, last = detector.steps[-1]
        of_last = groups_for(last, groups)
        if get_config()["enable_metadata_routing"]:
            return of_last
        return {f"{name}__{parameter}": value for parameter, value in of_last.items()}
    return {}


def fitted_offset(estimator: Any) -> float | None:
    """Return the ``offset_`` of the fitted part that has one; None where there is none."""
    part = part_with(estimator, "offset_")[0]
    # OneClassSVM's is an array of one.
    return None if part is None else float(np.asarray(part.offset_).item())
