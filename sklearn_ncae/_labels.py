"""The label convention of outlier detectors, checked in one place."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d

from sklearn_ncae._warn import warn


def check_detection_labels(
    y: ArrayLike, *, pos_label: Any = None, need_both: bool = True
) -> NDArray[np.int64]:
    """Return labels as +1 (good) and -1 (defect), or say what is wrong with them.

    Parameters
    ----------
    y : array-like of shape (n,)
        One label per image. +1 for good and -1 for a defect unless `pos_label` is given.
    pos_label : int, bool or str, default=None
        The label that marks a *defect* where `y` follows another convention, such as
        ``pos_label=1`` for ``y`` in {0, 1} with 1 for a defect, or ``pos_label="bad"``.
    need_both : bool, default=True
        Whether at least one good and one defective image are required.

    Returns
    -------
    ndarray of shape (n,), dtype int64
        +1 for good, -1 for a defect.

    Raises
    ------
    ValueError
        If the labels follow another convention and `pos_label` is not given, if there are
        more than two labels or none, or if a class is missing although both are needed.

    Examples
    --------
    >>> from sklearn_ncae._labels import check_detection_labels
    >>> check_detection_labels([0, 0, 1], pos_label=1)
    array([ 1,  1, -1])
    """
    labels = column_or_1d(np.asarray(y))
    if labels.size == 0:
        raise ValueError("y has no labels; give one label per image, +1 for good, -1 for a defect.")
    if any(map(is_missing, labels.tolist())):
        raise ValueError(
            "y has missing labels (None or nan): label those images, or leave them out."
        )
    found = sorted({_plain(label) for label in labels.tolist()}, key=str)
    shown = ", ".join(map(repr, found[:5])) + (", ..." if len(found) > 5 else "")

    if pos_label is None:
        # bool is refused although True == 1: whether True means good cannot be guessed.
        if labels.dtype == bool or not set(found) <= {1, -1}:
            hint = (
                "pass pos_label=1 if 1 marks a defect, or pos_label=0 if 0 does"
                if set(found) <= {0, 1}
                else "pass pos_label=<the label that marks a defect>"
            )
            raise ValueError(
                f"y holds the labels {{{shown}}}, but outlier detectors use +1 for good and -1 for "
                f"a defect. Either convert y, or {hint}."
            )
        defect = labels.astype(np.float64) == -1
    else:
        if len(found) > 2 or (len(found) == 2 and _plain(pos_label) not in found):
            raise ValueError(
                f"With pos_label={pos_label!r}, y must hold this label for defects and one other "
                f"for good images, but it holds {{{shown}}}. Merge or rename labels first."
            )
        defect = np.array([_plain(label) == _plain(pos_label) for label in labels.tolist()])

    if need_both and (defect.all() or not defect.any()):
        missing, present = ("good", "defects") if defect.all() else ("defective", "good")
        raise ValueError(
            f"y has no {missing} images: all {defect.size} labels are {found[0]!r} "
            f"({present}). Both good images and defects are needed here."
        )
    return np.where(defect, -1, 1).astype(np.int64)


def is_missing(label: Any) -> bool:
    """Tell whether a label, or what a group is named by, is None or a kind of nan."""
    # pandas.NA is not equal to itself either, but will not say so.
    return label is None or type(label).__name__ == "NAType" or label != label


def check_labels_and_scores(
    y: ArrayLike, scores: ArrayLike, *, pos_label: Any = None, need_both: bool = True
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return labels as `check_detection_labels` does, and as many finite scores as float64."""
    labels = check_detection_labels(y, pos_label=pos_label, need_both=need_both)
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"scores must be one number per image, got shape {values.shape}.")
    check_consistent_length(labels, values)
    assert_all_finite(values, input_name="scores")
    return labels, values


def warn_of_defects(y: Any) -> None:
    """Warn of two labels, where a detector is fitted to all images as if they were good."""
    try:
        labels = column_or_1d(y)
    except ValueError:  # no labels, and ignored like they
        return
    of_text = labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels.flat)
    if not of_text and labels.dtype.kind not in "biufU":
        return
    counts = Counter(labels.tolist())
    if -1 in counts and counts.keys() <= {1, -1}:
        what = f"{counts[-1]} of the {labels.size} training images are labelled -1, as defects"
    elif len(counts) == 2 and labels.dtype.kind != "f":
        first, second = sorted(counts)
        what = f"Some training images are labelled {first!r} and some {second!r}"
    else:
        return
    warn(
        f"{what}, and all are learned from as good ones. Leave defects out, or put a "
        "TunedThresholdDetector around the detector, which does."
    )


def _plain(label: Any) -> Any:
    """Return a label that prints and compares as the user wrote it (a float 1.0 as 1)."""
    label = label.item() if isinstance(label, np.generic) else label
    return int(label) if isinstance(label, float) and label.is_integer() else label
