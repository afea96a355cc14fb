"""Which images are held out of training: single ones, or all that show the same part."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from sklearn_ncae._labels import is_missing

Rows = NDArray[np.intp]


def check_groups(groups: Any, n: int) -> Rows:
    """Return a number for the group of each image; without groups, each image is one.

    Parameters
    ----------
    groups : array-like of shape (n,) or None
        What images that belong together have in common: numbers or names.
    n : int
        Number of images.

    Returns
    -------
    groups : ndarray of shape (n,), intp
        0, 1, ... in the order in which they first appear.

    Raises
    ------
    ValueError
        If there is not one number or name for each image, or some are missing.
    """
    if groups is None:
        return np.arange(n)
    # What is no array stays as it is: in an array of text, a nan would be a name.
    given = np.asarray(groups).tolist() if hasattr(groups, "__array__") else groups
    if (
        not isinstance(given, Sequence)
        or isinstance(given, str | bytes)
        or not all(isinstance(one, Hashable) for one in given)
    ):
        raise ValueError(
            f"groups must be an array or list of one number or name for each image, got a "
            f"{type(groups).__name__}: {groups!r:.100}"
        )
    if len(given) != n:
        raise ValueError(f"groups has {len(given)} values for {n} images; give one for each image.")
    if any(map(is_missing, given)):
        raise ValueError(
            "groups has missing values (None or nan): give images of no known group one each."
        )
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in given], dtype=np.intp)


def hold_out(groups: Rows, share: float, random_state: RandomState) -> NDArray[np.bool_]:
    """Draw a share of the groups, at least one, and mark their images.

    Parameters
    ----------
    groups : ndarray of shape (n,), intp
        Of the images, as from `check_groups`.
    share : float in (0, 1)
    random_state : numpy.random.RandomState

    Returns
    -------
    held_out : ndarray of shape (n,), bool
        All True where the share leaves no group to train on.
    """
    names = np.unique(groups)
    drawn = random_state.permutation(names)[: max(1, round(share * len(names)))]
    return np.isin(groups, drawn)


def one_of_each(groups: Rows, random_state: RandomState) -> Rows:
    """Draw one image of each group, and return their positions in ascending order.

    So p-values can rest on the same scores as the threshold, each of which counts alike.
    """
    positions = random_state.permutation(len(groups))
    _, first = np.unique(groups[positions], return_index=True)
    return np.sort(positions[first])
