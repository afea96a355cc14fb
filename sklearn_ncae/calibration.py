"""From scores of good images to an offset and to p-values, by split conformal prediction.

The scores must come from good images that the detector was not trained on. If they and a new
good image are exchangeable (same process, same camera, no image drawn because of another), every
rank of the new score among them is equally likely, and the statements below hold for any
detector and any number of images.

References
----------
Laxhammar and Falkman, "Conformal prediction for distribution-independent anomaly detection in
streaming vessel data", 2010. Bates, Candès, Lei, Romano and Sesia, "Testing for outliers with
conformal p-values", Annals of Statistics 51(1), 2023.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_ncae._warn import warn


def conformal_offset(scores: ArrayLike, false_alarm_rate: float) -> tuple[float, float]:
    """Offset below which at most a given fraction of new good images will score.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Scores of held-out good images, lower is more abnormal.
    false_alarm_rate : float
        The largest acceptable probability that a new good image scores below the offset, in
        (0, 1).

    Returns
    -------
    offset : float
        The k-th smallest score with ``k = floor(false_alarm_rate * (n + 1))``. An image is
        abnormal when its score is strictly smaller.
    promised_rate : float
        The bound that holds for this offset, ``k / (n + 1)``, at most `false_alarm_rate` unless
        there are too few scores for it.

    Raises
    ------
    ValueError
        If there is no score, one is not finite, or the rate is not in (0, 1).

    Warns
    -----
    UserWarning
        If ``n < 1 / false_alarm_rate - 1``: no offset within the scores can promise the rate.
        The smallest score is returned, with the rate that it does promise.

    Examples
    --------
    >>> from sklearn_ncae.calibration import conformal_offset
    >>> conformal_offset(range(99), false_alarm_rate=0.05)
    (4.0, 0.05)
    """
    ordered = np.sort(_check_scores(scores))
    if not 0 < false_alarm_rate < 1:
        raise ValueError(
            f"false_alarm_rate must be larger than 0 and smaller than 1, got {false_alarm_rate!r}."
        )
    n = len(ordered)
    k = rank_for(false_alarm_rate, n)
    if k == 0:
        warn(
            f"{n} held-out good images cannot promise a false-alarm rate of "
            f"{false_alarm_rate:.3g}, the lowest they can is {1 / (n + 1):.3g}, and the offset is "
            f"set for that. At least {n_needed(false_alarm_rate)} are needed, or a higher rate. "
            "Where groups are given, one image of each counts."
        )
        k = 1
    return float(ordered[k - 1]), k / (n + 1)


def rank_for(rate: float, n: int) -> int:
    """Return which of n scores, counted from the lowest, promises a rate; 0 if none does."""
    # The rounding keeps 0.29 * 100 from falling just below 29.
    return min(math.floor(round(rate * (n + 1), 9)), n)


def n_needed(rate: float) -> int:
    """Return how many scores it takes to promise a rate."""
    return math.ceil(round(1 / rate, 9)) - 1


def conformal_p_values(calibration_scores: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Conformal p-value of each score: how rarely a good image looks as abnormal.

    Parameters
    ----------
    calibration_scores : array-like of shape (n_calibration,)
        Scores of held-out good images, lower is more abnormal.
    scores : array-like of shape (n,)
        Scores to judge.

    Returns
    -------
    p_values : ndarray of shape (n,), float64
        ``(1 + number of calibration scores <= score) / (n_calibration + 1)``, in (0, 1]. For a
        good image, the probability that it is at most ``a`` is at most ``a``, for every ``a``.

    Raises
    ------
    ValueError
        If there is no calibration score, or a score is not finite.

    Examples
    --------
    >>> from sklearn_ncae.calibration import conformal_p_values
    >>> conformal_p_values([1.0, 2.0, 3.0], [0.5, 2.0, 9.0])
    array([0.25, 0.75, 1.  ])
    """
    ordered = np.sort(_check_scores(calibration_scores))
    below = np.searchsorted(ordered, _check_scores(scores, allow_empty=True), side="right")
    return np.asarray((1 + below) / (len(ordered) + 1), dtype=np.float64)


def promised_rate(calibration_scores: ArrayLike, offset: float) -> float:
    """False-alarm rate that an offset chosen in any other way can promise.

    Parameters
    ----------
    calibration_scores : array-like of shape (n,)
        Scores of held-out good images, lower is more abnormal.
    offset : float
        Images that score strictly below it are abnormal. It must not depend on these scores.

    Returns
    -------
    rate : float
        ``(1 + number of calibration scores < offset) / (n + 1)``, in (0, 1]. Of an offset
        of :func:`conformal_offset` that is at most the bound given there, less where scores are
        equal.

    Raises
    ------
    ValueError
        If there is no calibration score, or one is not finite; if the offset is nan.

    Examples
    --------
    >>> from sklearn_ncae.calibration import promised_rate
    >>> promised_rate(range(99), offset=4.0)
    0.05
    """
    ordered = np.sort(_check_scores(calibration_scores))
    if np.isnan(offset):
        raise ValueError("offset is nan; give the score below which images are abnormal.")
    below = int(np.searchsorted(ordered, offset, side="left"))
    return (1 + below) / (len(ordered) + 1)


def _check_scores(scores: ArrayLike, allow_empty: bool = False) -> NDArray[np.float64]:
    checked = np.asarray(scores, dtype=np.float64)
    if checked.ndim != 1 or (checked.size == 0 and not allow_empty):
        raise ValueError(
            f"Scores must be a one-dimensional array with at least one score, got {checked.shape}."
        )
    if not np.isfinite(checked).all():
        raise ValueError("Scores must be finite, got nan or infinity.")
    return checked


__all__ = ["conformal_offset", "conformal_p_values", "promised_rate"]
