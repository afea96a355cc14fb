"""Cross-validation that trains on good images only."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.utils.metadata_routing import get_routing_for_object

from sklearn_ncae._labels import check_detection_labels
from sklearn_ncae._warn import warn


class OneClassSplit(BaseCrossValidator):
    """Cross-validation that trains on good images only and tests on good and defective ones.

    Wraps any splitter and drops the defects from each training fold. Test folds are untouched.

    Parameters
    ----------
    cv : int, cross-validation splitter or iterable of (train, test) indices, default=5
        The splitter. An int is the number of folds of a `StratifiedKFold` (not shuffled).
        With several images of one part use
        :class:`~sklearn.model_selection.StratifiedGroupKFold` and pass ``groups``.
    pos_label : int, bool or str, default=None
        The label that marks a defect, where y does not hold +1 (good) and -1 (defect).

    See Also
    --------
    TunedThresholdDetector : Drops the defects from its training folds by itself.

    Notes
    -----
    A fit inside such a split sees no defect. An estimator that needs some in ``fit``, such as
    ``TunedThresholdDetector(detector, scoring="f1")``, goes with the plain splitter instead.

    With labels of one's own, score by ``make_detection_scorer("roc_auc", pos_label=...)``:
    scikit-learn takes the larger of two labels for the good images, as +1 is, so that with
    defects of 1 and good images of 0 its "roc_auc" finds the worst parameters the best.

    A search refits on all images, defects included, which detectors warn of: ``refit=False``, and
    a fit of the best parameters to the good images.

    Where scikit-learn's metadata routing is on, the request for ``groups`` is that of the
    wrapped splitter.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.model_selection import StratifiedKFold, cross_val_score
    >>> from sklearn_ncae.model_selection import OneClassSplit
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(60, 2)), rng.normal(5.0, size=(12, 2))])
    >>> y = np.array([1] * 60 + [-1] * 12)
    >>> cv = OneClassSplit(StratifiedKFold(3))
    >>> cv
    OneClassSplit(cv=StratifiedKFold(n_splits=3, random_state=None, shuffle=False),
           pos_label=None)
    >>> [(len(train), len(test)) for train, test in cv.split(X, y)]
    [(40, 24), (40, 24), (40, 24)]
    >>> forest = IsolationForest(random_state=0)
    >>> bool(cross_val_score(forest, X, y, cv=cv, scoring="roc_auc").min() > 0.9)
    True
    """

    def __init__(self, cv: Any = 5, *, pos_label: Any = None) -> None:
        # An iterator of splits is read here because it can be read only once.
        self.cv = list(cv) if isinstance(cv, Iterator) else cv
        self.pos_label = pos_label

    def split(
        self, X: Any, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Generate the indices of the good training images and of all test images.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            The images, paths or features; only their number matters.
        y : array-like of shape (n,)
            +1 for good, -1 for a defect (or see `pos_label`).
        groups : array-like of shape (n,), default=None
            Group labels, handed to the wrapped splitter.

        Yields
        ------
        train : ndarray of int
            The training indices, good images only.
        test : ndarray of int
            The test indices, as the wrapped splitter gave them.

        Raises
        ------
        ValueError
            If y is missing or follows another convention, or a training fold has no good image.

        Warns
        -----
        UserWarning
            If y has good and defective images but a test fold lacks one of them.
        """
        if y is None:
            raise ValueError(
                "OneClassSplit needs y to tell good images (+1) from defects (-1): "
                "pass y to split, or to the fit or cross-validation function that uses it."
            )
        labels = check_detection_labels(y, pos_label=self.pos_label, need_both=False)
        n_classes = np.unique(labels).size
        splitter = check_cv(self.cv, labels, classifier=True)
        for fold, (train, test) in enumerate(splitter.split(X, y, groups)):
            train, test = good_only(train, labels, fold), as_rows(test)
            if np.unique(labels[test]).size < n_classes:
                missing = "defect" if (labels[test] == 1).all() else "good image"
                warn(
                    f"Test fold {fold} has no {missing}: ROC AUC, F1 and the like are undefined "
                    "there (nan). Use a stratified splitter, shuffle, or use fewer folds."
                )
            yield train, test

    def get_n_splits(self, X: Any = None, y: Any = None, groups: ArrayLike | None = None) -> int:
        """Return the number of splits of the wrapped splitter.

        Parameters
        ----------
        X, y : object, default=None
            Handed to the wrapped splitter; most ignore them.
        groups : array-like of shape (n,), default=None
            Group labels; splitters such as `LeaveOneGroupOut` need them here.

        Returns
        -------
        int
            Number of splits.
        """
        return int(check_cv(self.cv).get_n_splits(X, y, groups))

    def get_metadata_routing(self) -> Any:
        """Return the metadata requests of the wrapped splitter.

        Returns
        -------
        MetadataRequest
            The requests.
        """
        return get_routing_for_object(self.cv)


def as_rows(side: Any) -> NDArray[np.intp]:
    """Return one side of a split as indices, where it is a mask too."""
    side = np.asarray(side)
    return np.flatnonzero(side) if side.dtype == bool else side


def good_only(train: Any, labels: NDArray[np.int64], fold: int) -> NDArray[np.intp]:
    train = as_rows(train)
    good: NDArray[np.intp] = train[labels[train] == 1]
    if good.size == 0:
        raise ValueError(
            f"The training part of fold {fold} has no good image (y = +1) to learn from. Use a "
            "stratified splitter, shuffle, or use other groups."
        )
    return good
