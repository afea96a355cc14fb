"""Training a detector on part of the images and scoring the others."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import _check_method_params


def seeded_clone(detector: Any, random_state: Any) -> Any:
    """Return an unfitted copy; a given `random_state` seeds what is unseeded in it."""
    detector = clone(detector)
    if random_state is not None:
        generator = check_random_state(random_state)
        params = detector.get_params(deep=True)
        unset = [
            name
            for name, value in sorted(params.items())
            if value is None
            and (name == "random_state" or name.endswith("__random_state"))
            # Keras models are seeded by Keras.
            and not getattr(params.get(name.removesuffix("__random_state")), "_unseeded", False)
        ]
        detector.set_params(**{name: generator.randint(2**31 - 1) for name in unset})
    return detector


def response_names(response_method: str) -> tuple[str, ...]:
    """Return the methods that may give the scores, the preferred one first."""
    if response_method == "auto":
        return ("score_samples", "decision_function")
    return (response_method,)


def response(
    detector: Any, X: Any, response_method: str, *, check: bool = True
) -> NDArray[np.float64]:
    """Return the detector's float64 scores; with `check`, refuse those that are not finite."""
    names = response_names(response_method)
    name = next((name for name in names if hasattr(detector, name)), None)
    if name is None:
        raise TypeError(
            f"{type(detector).__name__} has no {' or '.join(names)}, which the threshold is "
            "applied to. LocalOutlierFactor has it with novelty=True."
        )
    scores = np.asarray(getattr(detector, name)(X), dtype=np.float64)
    if check and not np.isfinite(scores).all():
        raise ValueError(
            f"{type(detector).__name__}.{name} gave nan or infinite scores for "
            f"{np.sum(~np.isfinite(scores))} of {scores.size} images; no threshold can be found."
        )
    return scores


def fit_and_score(
    detector: Any,
    X: Any,
    train: NDArray[np.intp],
    test: NDArray[np.intp] | None,
    fit_params: dict[str, Any],
    response_method: str,
    return_detector: bool,
) -> tuple[NDArray[np.float64], float, Any]:
    """Fit; return the test scores, the median training score, and the detector if wanted."""
    params = _check_method_params(X, params=fit_params, indices=train)
    detector.fit(_safe_indexing(X, train), None, **params)  # a FrozenEstimator wants a y
    some = train[:: max(1, train.size // 200)]
    typical = float(np.median(response(detector, _safe_indexing(X, some), response_method)))
    scores = np.empty(0)
    if test is not None:
        scores = response(detector, _safe_indexing(X, test), response_method)
    return scores, typical, detector if return_detector else None
