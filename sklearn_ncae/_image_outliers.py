"""What the outlier detectors of image stacks share, whatever they score by."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import Tags


class ImageOutlierMixin(OutlierMixin, BaseEstimator):
    """Decisions by `offset_`; a subclass has `fit` and `score_samples`."""

    offset_: float

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Score images, the lower the more abnormal."""
        raise NotImplementedError

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Score images relative to the threshold.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        decision : ndarray of shape (n,), float64
            ``score_samples(X) - offset_``; negative for defects.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Decide which images are good.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        labels : ndarray of shape (n,), int
            +1 for good, -1 for defective.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def __sklearn_tags__(self) -> Tags:
        """Declare that stacks of images are accepted beside tables."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
