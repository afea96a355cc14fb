"""Figures for one score per pixel: how well a map shows where the defect is."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from sklearn_ncae._image_arrays import without_mask


def pixel_roc_auc_score(
    masks: ArrayLike | Sequence[ArrayLike], maps: ArrayLike | Sequence[ArrayLike]
) -> float:
    """ROC AUC over all pixels of all images.

    Large defects dominate this figure, and with few defective pixels it is close to 1 even for
    poor maps; :func:`aupro_score` is the stricter one.

    Parameters
    ----------
    masks : array-like of shape (n, h, w), or sequence of n array-likes of shape (h_i, w_i)
        Non-zero where a pixel belongs to a defect. All zero for a good image.
    maps : array-like of shape (n, h, w), or sequence of n array-likes of shape (h_i, w_i)
        The *larger*, the more abnormal, such as the absolute or squared residual; any real dtype.

    Returns
    -------
    float
        In [0, 1]; ties count half.

    Raises
    ------
    ValueError
        If shapes differ, a map or mask has values that are not finite or are masked, or there
        are no defective or no good pixels.
    TypeError
        If a map or mask holds no real numbers.

    Examples
    --------
    >>> from sklearn_ncae.metrics import pixel_roc_auc_score
    >>> pixel_roc_auc_score([[[0, 0], [0, 1]]], [[[0.1, 0.2], [0.4, 0.3]]])
    0.6666666666666666
    """
    pairs = _checked_pairs(masks, maps)
    good = np.sort(_joined(values[~mask] for mask, values in pairs))
    defective = _joined(values[mask] for mask, values in pairs)
    return float(_area_right_of(defective, good, max_fpr=1.0).mean())


def aupro_score(
    masks: ArrayLike | Sequence[ArrayLike],
    maps: ArrayLike | Sequence[ArrayLike],
    *,
    max_fpr: float = 0.3,
) -> float:
    """Area under the per-region-overlap curve up to a false-positive rate, normalised to [0, 1].

    Every connected region of a mask (pixels that touch at an edge or a corner belong together)
    counts the same, however large it is. For each threshold the share of each region that the map
    covers is averaged over the regions of all images; this mean overlap is integrated over the
    false-positive rate of the pixels outside all regions, from 0 to `max_fpr`, and divided by
    `max_fpr`.

    Parameters
    ----------
    masks : array-like of shape (n, h, w), or sequence of n array-likes of shape (h_i, w_i)
        Non-zero where a pixel belongs to a defect. All zero for a good image.
    maps : array-like of shape (n, h, w), or sequence of n array-likes of shape (h_i, w_i)
        The *larger*, the more abnormal, such as the absolute or squared residual; any real dtype.
    max_fpr : float in (0, 1], default=0.3
        False-positive rate of pixels up to which the curve is integrated.

    Returns
    -------
    float
        In [0, 1]. A map without information reaches ``max_fpr / 2``.

    Raises
    ------
    ValueError
        If shapes differ, a map or mask has values that are not finite or are masked, `max_fpr`
        is not in (0, 1], or there are no defective or no good pixels.
    TypeError
        If a map or mask holds no real numbers.

    Notes
    -----
    The curve is exact: all distinct values of the maps are thresholds, and it is linear between
    two of them (and so through ties). Only the good pixels are sorted, once.

    References
    ----------
    P. Bergmann, M. Fauser, D. Sattlegger, C. Steger, "MVTec AD: A Comprehensive Real-World Dataset
    for Unsupervised Anomaly Detection", CVPR 2019.

    P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger, C. Steger, "The MVTec Anomaly Detection
    Dataset", International Journal of Computer Vision 129, 2021.

    Examples
    --------
    >>> from sklearn_ncae.metrics import aupro_score
    >>> aupro_score([[[0, 0], [0, 1]]], [[[0.1, 0.2], [0.4, 0.3]]], max_fpr=1.0)
    0.6666666666666666
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr={max_fpr!r} must be larger than 0 and at most 1.")
    pairs = _checked_pairs(masks, maps)
    good = np.sort(_joined(values[~mask] for mask, values in pairs))
    overlaps: list[NDArray[np.float64]] = []
    for mask, values in pairs:
        regions, n_regions = ndimage.label(mask, structure=np.ones((3, 3)))
        if n_regions:
            area = _area_right_of(values[mask].astype(good.dtype), good, max_fpr=max_fpr)
            region = regions[mask] - 1
            overlaps.append(np.bincount(region, weights=area) / np.bincount(region))
    return float(np.concatenate(overlaps).mean() / max_fpr)


def _area_right_of(
    defective: NDArray[Any], sorted_good: NDArray[Any], *, max_fpr: float
) -> NDArray[np.float64]:
    """Area that each defective pixel adds under a curve over the false-positive rate.

    As the threshold falls, a defective pixel is found after all good pixels with larger values;
    good pixels with the same value come at the same time, which makes the curve rise linearly from
    rate `before` to rate `after`. Summing these areas over pixels is the trapezoidal rule.
    """
    after = 1 - np.searchsorted(sorted_good, defective, side="left") / sorted_good.size
    before = 1 - np.searchsorted(sorted_good, defective, side="right") / sorted_good.size
    area = max_fpr - (before + after) / 2
    cut = after > max_fpr
    rise = np.maximum(max_fpr - before[cut], 0)
    # after == before only where rise is 0 (both lie beyond max_fpr): then the area is 0.
    width = np.where(rise > 0, after[cut] - before[cut], 1)
    area[cut] = rise**2 / (2 * width)
    return np.asarray(area, dtype=np.float64)


def _joined(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate pixels of all images, float32 where that loses nothing (half the memory)."""
    arrays = list(parts)
    return np.concatenate(arrays, dtype=np.result_type(np.float32, *arrays))


def _real(values: Any, name: str) -> NDArray[Any]:
    values = np.asarray(without_mask(values, name))
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got {values.dtype}.")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has values that are not finite.")
    return values


def _checked_pairs(masks: Any, maps: Any) -> list[tuple[NDArray[np.bool_], NDArray[Any]]]:
    """Return one (boolean mask, map) pair of 2-D arrays per image."""
    if len(masks) != len(maps):
        raise ValueError(f"There are {len(masks)} masks but {len(maps)} maps; give one for each.")
    pairs = []
    for index, (mask, values) in enumerate(zip(masks, maps, strict=True)):
        mask = _real(mask, f"The mask of image {index}") != 0
        values = _real(values, f"The map of image {index}")
        if values.ndim != 2 or mask.shape != values.shape:
            raise ValueError(
                f"Image {index}: the mask has shape {mask.shape} and the map {values.shape}, but "
                "both must be (h, w) alike. Reduce channels first, for example by "
                "np.abs(residual).max(axis=-1), and pass a single image in a list."
            )
        pairs.append((mask, values))
    n_defective = sum(np.count_nonzero(mask) for mask, _ in pairs)
    if n_defective == 0:
        raise ValueError("No pixel of any mask is non-zero: at least one defect is needed.")
    if n_defective == sum(mask.size for mask, _ in pairs):
        raise ValueError("All pixels of all masks are non-zero: good pixels are needed as well.")
    return pairs
