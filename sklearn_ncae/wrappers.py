"""KerasReconstructor: a user's own Keras autoencoder, through scikeras.

This is the one module that imports scikeras, which patches Keras' pickling when it is imported.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, Self

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scikeras.wrappers import BaseWrapper
from sklearn.utils.validation import check_array

from sklearn_ncae._all_or_nothing import all_or_nothing
from sklearn_ncae._image_arrays import as_stack, check_values


class KerasReconstructor(BaseWrapper):
    """Your own Keras autoencoder as a reconstructor.

    Parameters
    ----------
    model : keras.Model or callable
        The autoencoder, of which a copy is trained that Keras saves and loads, or a function that
        builds it, from a batch of images to a batch of the same shape. It need not be compiled if
        `loss` and `optimizer` are given. The function is given those of its arguments that are
        set here as ``model__<argument>``, and, where it has an argument ``meta``, a dict with the
        shape of the images as ``meta["X_shape_"]``.
    random_state : None
        Left None: scikeras would seed the global generators and switch TensorFlow's op
        determinism on for the whole process. Give your layers' initializers a seed instead.
    **kwargs
        Every other parameter of `scikeras.wrappers.BaseWrapper`: `loss`, `optimizer`, `epochs`,
        `batch_size`, `callbacks`, `verbose` (here 0 by default), ..., and routed ones such as
        ``model__filters`` or ``optimizer__learning_rate``.

    Attributes
    ----------
    model_ : keras.Model
        The trained autoencoder.
    history_ : dict of str to list of float
        Loss of every epoch.

    Notes
    -----
    Images go to the model as they come: divide 8-bit images by 255 first, in a pipeline or in a
    ``keras.layers.Rescaling`` inside the model (whose output must then be scaled back).

    References
    ----------
    scikeras, https://www.adriangb.com/scikeras/

    Examples
    --------
    >>> import keras, numpy as np
    >>> from sklearn_ncae import KerasReconstructor, ResidualDetector
    >>> def build(meta, filters=4):
    ...     images = keras.Input(meta["X_shape_"][1:])
    ...     code = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(images)
    ...     return keras.Model(images, keras.layers.Conv2D(1, 3, padding="same")(code))
    >>> reconstructor = KerasReconstructor(build, loss="mse", optimizer="adam", model__filters=8)
    >>> X = np.random.RandomState(0).uniform(size=(100, 8, 8, 1))
    >>> ResidualDetector(reconstructor, random_state=0).fit(X).predict(X).shape
    (100,)
    """

    _unseeded = True  # Keras seeds its layers by itself

    def __init__(
        self, model: Any = None, *, random_state: None = None, verbose: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(model=model, random_state=random_state, verbose=verbose, **kwargs)

    @all_or_nothing
    def fit(self, X: ArrayLike, y: Any = None, **kwargs: Any) -> Self:
        """Train the autoencoder to reproduce X.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of good parts, in the shape that the model takes.
        y : None
            Ignored: the images are their own targets.
        **kwargs
            Passed to scikeras.

        Returns
        -------
        self : KerasReconstructor

        Raises
        ------
        TypeError, ValueError
            If `random_state` is set, if X is not a finite array of numbers, if the model does not
            return the shape it is given, or if the loss is not finite. The estimator is then as it
            was before, as after an interrupt.
        """
        return self._train(super().fit, X, kwargs)

    @all_or_nothing
    def partial_fit(self, X: ArrayLike, y: Any = None, **kwargs: Any) -> Self:
        """Train the autoencoder for one more epoch, or for a first one.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of good parts, as for `fit`.
        y : None
            Ignored: the images are their own targets.
        **kwargs
            Passed to scikeras.

        Returns
        -------
        self : KerasReconstructor

        Raises
        ------
        TypeError, ValueError
            As by `fit`, or if X has another shape than in the epochs before.
        """
        return self._train(super().partial_fit, X, kwargs)

    def initialize(self, X: ArrayLike, y: Any = None) -> Self:
        """Build the model, and do not train it, as one that was trained before.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape that it is to take.
        y : None
            Ignored.

        Returns
        -------
        self : KerasReconstructor

        Raises
        ------
        TypeError, ValueError
            If `random_state` is set, or X is not a finite array of numbers.
        """
        self._refuse_random_state()
        X = _check_images(X)
        super().initialize(X, X)
        return self

    @property
    def score(self) -> Any:
        """There is none: detectors score images. Scikeras' is for classifiers and regressors."""
        raise AttributeError("KerasReconstructor has no score; put a ResidualDetector around it.")

    def _train(self, train: Callable[..., Any], X: ArrayLike, kwargs: dict[str, Any]) -> Self:
        self._refuse_random_state()
        X = _check_images(X)
        previous = getattr(self, "model_", None)
        weights = None if previous is None else previous.get_weights()
        try:
            train(X, X, **kwargs)
            if not np.isfinite(self.history_.get("loss", [])).all():
                raise ValueError(
                    f"Training diverged: the losses were {self.history_['loss']}. Lower the "
                    "learning rate, or scale the images for the model."
                )
        except BaseException:
            if previous is not None:  # it may be the one that was trained
                previous.set_weights(weights)
            raise
        return self

    def _refuse_random_state(self) -> None:
        if self.random_state is not None:
            raise ValueError(
                f"KerasReconstructor got random_state={self.random_state!r}, but takes None only: "
                "scikeras would seed the global generators and leave TensorFlow's op determinism "
                "switched on. Give the layers' initializers a seed instead."
            )

    def predict(self, X: ArrayLike, **kwargs: Any) -> NDArray[Any]:
        """Reconstruct images.

        Parameters
        ----------
        X : array-like of the shape given to `fit`, but for the number of images
            Images.
        **kwargs
            Passed to scikeras.

        Returns
        -------
        reconstructions : ndarray of the shape of X, float32

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError, ValueError
            If X is not a finite array of numbers, has another shape than in `fit`, or the model's
            output another than X.
        """
        X = _check_images(X)
        reconstructions = np.asarray(super().predict(X, **kwargs))
        if reconstructions.size != X.size:
            raise ValueError(
                "The model must return images of the shape it is given, "
                f"{X.shape}, but returned {reconstructions.shape}."
            )
        return reconstructions.reshape(X.shape)

    def _check_model_param(self) -> Callable[..., keras.Model]:
        # scikeras would train the parameter: the next fit, and clones, would begin with what it
        # has learned.
        if isinstance(self.model, keras.Model):
            return partial(_copy_of, self.model)
        build: Callable[..., keras.Model] = super()._check_model_param()
        return build

    def _validate_data(
        self, X: Any = None, y: Any = None, reset: bool = False, y_numeric: bool = False
    ) -> tuple[Any, Any]:
        # In place of scikeras', which takes no target of more than two dimensions.
        if reset:
            self.X_dtype_, self.X_shape_ = X.dtype, X.shape
            self.n_features_in_ = int(np.prod(X.shape[1:]))
            self.target_type_ = "continuous-multioutput"
        elif X.shape[1:] != self.X_shape_[1:]:
            raise ValueError(
                f"KerasReconstructor was fitted on images of shape {self.X_shape_[1:]}, got "
                f"{X.shape[1:]}."
            )
        return X, y


def _copy_of(model: keras.Model) -> keras.Model:
    if model.compiled and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)  # without, Keras cannot read the copy
    return deepcopy(model)


def _check_images(X: ArrayLike) -> NDArray[np.float32]:
    name = "KerasReconstructor"
    check = partial(check_array, ensure_2d=False, allow_nd=True, input_name="X")
    given = check(as_stack(X, name))
    check_values(given, name)
    # Again: what float32 cannot hold has become infinite.
    checked: NDArray[np.float32] = check(given, dtype=np.float32)
    return checked
