"""Detectors as ONNX files, for machines without TensorFlow and Keras.

`export` writes a fitted detector to a file: the whole of it is one graph, from the pixels as they
are to the score, the decision and the p-value. Any ONNX runtime can run it; `OnnxDetector` does
with NumPy and onnxruntime alone. Both need the extra `onnx`:
``pip install "sklearn-ncae[onnx]"``.
"""

import json
import math
import operator
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_ncae._image_arrays import (
    LARGEST_SINGLE,
    as_stack,
    check_fitted_shape,
    check_rank,
    check_values,
    magnitude_of,
    refuse_single,
    warn_of_other_unit,
    with_channels,
)
from sklearn_ncae._optional import import_extra

__all__ = ["OnnxDetector", "export"]

# Images are scored in batches of about this many pixels, at most 32 images: larger ones take more
# memory and are not faster.
_BATCH_PIXELS = 400_000
_BATCH_IMAGES = 32

_DTYPES = ("auto", "uint8", "uint16", "float32", "float64")


def export(
    detector: Any, path: str | PathLike[str], *, dtype: str = "auto", maps: bool = True
) -> None:
    r"""Write a fitted detector to an ONNX file.

    The graph takes a batch of images as they were given to `fit`, and has these outputs, the last
    three only with `maps`:

    =============== ==========================  ===================================================
    name            shape, dtype                value
    =============== ==========================  ===================================================
    ``score``       (n,), float64               as `score_samples`
    ``decision``    (n,), float64               as `decision_function`
    ``prediction``  (n,), int64                 as `predict`: +1 for good, -1 for defective
    ``p_value``     (n,), float64               as `p_values`; where the detector has them
    ``residual``    (n, \*image), float         as `residual`; where the detector has one
    ``defect_map``  (n, h, w), float32          as `defect_map`; with ``training="repair"``
    ``anomaly_map`` (n, h, w), float32          as `anomaly_map`, or of texture alone the map
    =============== ==========================  ===================================================

    The metadata of the model holds, as JSON, the ``offset``, the ``labels``, ``image_shape``, the
    ``pixel_range`` of the training images (to repair and of texture, without faulty
    pixels), the ``statistics``, ``false_alarm_rate``, ``estimator``
    and ``sklearn_ncae_version``.

    Parameters
    ----------
    detector : NCAEDetector, TextureDetector, ResidualDetector, or TunedThresholdDetector around one
        Fitted. The reconstructor of a `ResidualDetector` must be a
        :class:`~sklearn_ncae.KerasReconstructor` or :class:`~sklearn_ncae.NCAEReconstructor`.
    path : str or path-like
        The file, usually named ``*.onnx``. An existing one is replaced.
    dtype : {"auto", "uint8", "uint16", "float32", "float64"}, default="auto"
        What number type the graph takes. ``"auto"`` is float32, which holds 8 and 16 bit pixels
        exactly, or float64 if float32 cannot resolve the range of the training images. Choose
        ``"uint8"`` to hand camera images to another runtime without converting them.
    maps : bool, default=True
        Whether the graph has the maps too. Runtimes compute all outputs whatever is asked for, so
        that a file without maps scores faster, the more so the larger the images.

    Raises
    ------
    ImportError
        If onnx is not installed.
    NotFittedError
        If the detector is not fitted.
    TypeError
        If the detector, its reconstructor or a layer of its network cannot be exported.
    ValueError
        If `dtype` is unknown, or a layer has an option that cannot be exported.

    See Also
    --------
    OnnxDetector : Runs the file.

    Notes
    -----
    Scores differ from those of the detector by rounding, relatively by at most 1e-5; scores of
    several statistics, which may be close to 0, by 1e-5. A score that differs from the
    threshold or a calibration score by some millionths counts as equal, so that an image is judged
    alike by both even where it was the threshold's origin.

    A convolution of concatenated images becomes one for each of them, which is faster; every other
    convolution, neighbour convolutions too, is one node.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae import NCAEDetector
    >>> from sklearn_ncae.onnx import OnnxDetector, export
    >>> X = np.random.RandomState(0).randint(0, 256, (40, 16, 16), dtype=np.uint8)
    >>> detector = NCAEDetector(filters=(4, 8), epochs=1, contamination=0.1, random_state=0).fit(X)
    >>> export(detector, "detector.onnx")  # doctest: +SKIP
    >>> OnnxDetector("detector.onnx").predict(X)  # doctest: +SKIP
    """
    import_extra("onnx", "onnx")
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}; got {dtype!r}.")
    # Only here: this module is for machines without Keras too.
    from sklearn_ncae._onnx_detector import export_detector

    export_detector(detector, path, dtype, maps)


class _IfExported:
    """A method that is there if the model has the output it asks for, else an AttributeError."""

    def __init__(self, output: str, advice: str) -> None:
        self.output, self.advice = output, advice

    def __call__(self, method: Callable[..., Any]) -> "_IfExported":
        self.method = method
        self.__doc__ = method.__doc__
        return self

    def __get__(self, detector: Any, owner: type) -> Any:
        if detector is None:
            return self.method
        if self.output not in detector._outputs:
            raise AttributeError(f"This model has no output {self.output!r}: {self.advice}")
        return MethodType(self.method, detector)


class OnnxDetector:
    """Outlier detector from an ONNX file, with NumPy and onnxruntime alone.

    Neither TensorFlow and Keras nor scikit-learn and SciPy need to be installed. It scores as the
    detector that was exported, in the same input layouts, and raises the same errors.

    Parameters
    ----------
    path : str or path-like
        A file that `export` wrote. It is read at once and not needed afterwards.
    n_threads : int, default=None
        Number of threads; None for one per core. A batch of a few images is computed by all of
        them together, several batches side by side, one by each. With several processes or
        threads that score at the same time, 1 wastes least.
    providers : sequence of str, default=("CPUExecutionProvider",)
        What onnxruntime computes on, in the order of preference; see
        ``onnxruntime.get_available_providers()``.

    Attributes
    ----------
    offset_ : float
        ``decision_function = score_samples - offset_``.
    false_alarm_rate_ : float
        The rate promised for `offset_`; only of detectors that have `calibration_scores_`.
    image_shape_ : tuple of (int, int, int)
        Height, width and channels of the images.
    n_features_in_ : int
        Number of values of an image.
    metadata_ : dict
        What `export` says about the detector: its class, statistic, labels and version.

    Raises
    ------
    ImportError
        If onnxruntime is not installed.
    OSError
        If the file cannot be read.
    ValueError
        If it is not an ONNX file that `export` wrote.

    See Also
    --------
    export : Writes the file.

    Notes
    -----
    Threads may share a detector. A pickle or copy of it holds the model and needs no file.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae.onnx import OnnxDetector
    >>> detector = OnnxDetector("detector.onnx", n_threads=1)  # doctest: +SKIP
    >>> detector.predict(np.zeros((1, 128, 128), np.uint8))  # doctest: +SKIP
    array([-1])
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        n_threads: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        self.path = path
        self.n_threads = n_threads
        self.providers = tuple(providers)
        self._model = Path(path).read_bytes()
        self._open()

    def _open(self) -> None:
        self._session = self._new_session(self.n_threads or 0)
        metadata = self._session.get_modelmeta().custom_metadata_map
        if "sklearn_ncae_version" not in metadata:
            raise ValueError(
                f"{self.path} is an ONNX model of something else: only files that "
                "sklearn_ncae.onnx.export wrote can be used."
            )
        self._outputs = [output.name for output in self._session.get_outputs()]
        try:
            self.metadata_ = {name: json.loads(value) for name, value in metadata.items()}
            height, width, n_channels = map(operator.index, self.metadata_["image_shape"])
            self.image_shape_ = (height, width, n_channels)
            self.n_features_in_ = height * width * n_channels
            if "false_alarm_rate" in self.metadata_:
                self.false_alarm_rate_ = float(self.metadata_["false_alarm_rate"])
            float(self.metadata_["offset"])
            (image,) = self._session.get_inputs()
            # onnxruntime calls them tensor(float), tensor(double), tensor(uint8), ...
            kind = image.type.removeprefix("tensor(").removesuffix(")")
            self._dtype = np.dtype({"float": "float32", "double": "float64"}.get(kind, kind))
            self._layout = tuple(image.shape[1:])
            if math.prod(self._layout) != self.n_features_in_:
                raise ValueError(f"images of {self._layout}")
            if missing := {"score", "decision", "prediction"}.difference(self._outputs):
                raise ValueError(f"no output {', '.join(sorted(missing))}")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{self.path} is not as sklearn_ncae.onnx.export wrote it "
                f"({type(error).__name__}: {error}). Export the detector again."
            ) from error

    @property
    def offset_(self) -> float:
        """The threshold, which is part of the file."""
        return float(self.metadata_["offset"])

    @offset_.setter
    def offset_(self, value: float) -> None:
        raise AttributeError(
            f"The threshold is part of {str(self.path)!r}. Set another one in the detector and "
            "export it again, or compare score_samples with it."
        )

    def _new_session(self, n_threads: int) -> Any:
        runtime = import_extra("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors are raised, and warnings are of no use to users
        options.intra_op_num_threads = n_threads
        try:
            return runtime.InferenceSession(self._model, options, providers=list(self.providers))
        except Exception as error:  # onnxruntime's own have no common class but this
            raise ValueError(
                f"{self.path} could not be read as an ONNX model: {error}. Give a file that "
                "sklearn_ncae.onnx.export wrote."
            ) from error

    @cached_property
    def _one_thread_session(self) -> Any:
        """Opened for the first call with several batches: one image is faster in the other."""
        return self._new_session(1)

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Score images, the lower the more abnormal.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images, of any real dtype.

        Returns
        -------
        scores : ndarray of shape (n,), float64

        Raises
        ------
        TypeError, ValueError
            If X is not a stack of finite images of the size of the training images, or has values
            that the number type of the model cannot hold.
        """
        return self._run("score", X)

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Score images relative to the threshold.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        decision : ndarray of shape (n,), float64
            ``score_samples(X) - offset_``; negative for defects, 0 where it is rounding alone.
        """
        return self._run("decision", X)

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
        return self._run("prediction", X)

    @_IfExported("p_value", "it is of a detector without contamination='auto'.")
    def p_values(self, X: ArrayLike) -> NDArray[np.float64]:
        """Conformal p-value of each image: how rarely a good image looks as abnormal.

        Available if the detector has them.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        p_values : ndarray of shape (n,), float64
            In (0, 1]; at most ``a`` with probability at most ``a`` for a new good image.
        """
        return self._run("p_value", X)

    @_IfExported("residual", "it is of a detector of texture alone, or without maps.")
    def residual(self, X: ArrayLike) -> NDArray[Any]:
        """Subtract the reconstructions from the images: the map of where a defect is.

        Available if the detector was exported with its maps.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        residual : ndarray of the shape of X
            Signed, in the unit of X, as float32, or float64 if the model takes that.
        """
        return self._images_and_residual(X)[1]

    @_IfExported("residual", "it is of a detector of texture alone, or without maps.")
    def reconstruct(self, X: ArrayLike) -> NDArray[Any]:
        """Return what the network makes of images: good ones, it should be.

        Available if the detector was exported with its maps.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        reconstructions : ndarray of the shape of X
            In the unit of X, as float32, or float64 if the model takes that.
        """
        images, residual = self._images_and_residual(X)
        return images.astype(residual.dtype) - residual

    @_IfExported("defect_map", "it is of a detector without training='repair', or without maps.")
    def defect_map(self, X: ArrayLike) -> NDArray[np.float32]:
        """Mark where the network sees a defect.

        Available if the detector had ``training="repair"``.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        probabilities : ndarray of shape (n, h, w), float32
            In [0, 1]; not calibrated on real defects, which the network has never seen.
        """
        return self._run("defect_map", X)

    @_IfExported("anomaly_map", "none of its statistics is the peak of a map, or it has no maps.")
    def anomaly_map(self, X: ArrayLike) -> NDArray[np.float32]:
        """Show what makes the score.

        Available if the detector had it, as by default.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.

        Returns
        -------
        maps : ndarray of shape (n, h, w), float32
            In the unit of the score, but higher where more abnormal.
        """
        return self._run("anomaly_map", X)

    def run(
        self, X: ArrayLike, outputs: Sequence[str] = ("score", "prediction")
    ) -> dict[str, NDArray[Any]]:
        """Compute several outputs at once, in the time of one of them.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the size of the training images.
        outputs : sequence of str, default=("score", "prediction")
            Names of outputs of the model, see :func:`~sklearn_ncae.onnx.export`.

        Returns
        -------
        values : dict of str to ndarray of shape (n, ...)
            Each as the method of that output returns it.

        Raises
        ------
        TypeError, ValueError
            If the model has no such output, or X is not as for `score_samples`.
        """
        outputs = [outputs] if isinstance(outputs, str) else [*outputs]
        if unknown := [name for name in outputs if name not in self._outputs]:
            raise ValueError(
                f"{self.path} has no output {', '.join(map(repr, unknown))}; it has "
                f"{', '.join(self._outputs)}."
            )
        return self._run_checked(outputs, *self._check(X))

    def _images_and_residual(self, X: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return both in the layout of X."""
        images, layout = self._check(X)
        residual = self._run_checked(["residual"], images, layout)["residual"]
        return images.reshape(residual.shape), residual

    def _run(self, output: str, X: ArrayLike) -> NDArray[Any]:
        return self.run(X, [output])[output]

    def _run_checked(
        self, outputs: list[str], images: NDArray[Any], layout: tuple[int, ...]
    ) -> dict[str, NDArray[Any]]:
        pixels = int(np.prod(self.image_shape_[:2]))
        step = min(max(1, _BATCH_PIXELS // pixels), _BATCH_IMAGES)
        starts = range(0, len(images), step)

        def run(session: Any, start: int) -> list[NDArray[Any]]:
            batch = self._convert(images[start : start + step])
            values: list[NDArray[Any]] = session.run(outputs, {"image": batch})
            return values

        # Many operations are too small to be divided: whole batches keep all cores busy.
        on_cpu = self.providers == ("CPUExecutionProvider",)
        n_threads = min(self.n_threads or os.cpu_count() or 1, len(starts)) if on_cpu else 1
        if n_threads == 1:
            batches = [run(self._session, start) for start in starts]
        else:
            with ThreadPoolExecutor(n_threads) as threads:
                batches = [*threads.map(partial(run, self._one_thread_session), starts)]
        values = dict(zip(outputs, map(np.concatenate, zip(*batches, strict=True)), strict=True))
        if "residual" in values:
            values["residual"] = values["residual"].reshape(len(images), *layout)
        return values

    def _convert(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Give images the dtype and layout that the model takes."""
        with np.errstate(over="ignore", invalid="ignore"):
            converted = batch.astype(self._dtype, order="C", copy=False)
        if self._dtype.kind == "u" and not np.array_equal(converted, batch):
            raise ValueError(
                f"{self.path} takes {self._dtype} images, and X, of dtype {batch.dtype}, has "
                "values that it cannot hold. Export the detector with dtype='float32'."
            )
        if batch.dtype.kind == "f" and not np.isfinite(converted).all():
            what = "NaN" if np.isnan(batch).any() else "infinity or a value too large for "
            what += "" if what == "NaN" else repr(self._dtype)
            raise ValueError(f"Input X contains {what}.")
        check_values(batch, type(self).__name__)
        may_be_large = self._dtype == np.float32 and batch.dtype.itemsize > 2
        if may_be_large and (largest := magnitude_of(converted)) > LARGEST_SINGLE:
            raise ValueError(
                f"{self.path} computes in float32, which does not hold the squares of pixels above "
                f"{LARGEST_SINGLE:g}, and X has {largest:g}. Export the detector with "
                "dtype='float64'."
            )
        return converted.reshape(len(batch), *self._layout)

    def _check_stack(self, X: Any) -> tuple[NDArray[Any], tuple[int, ...]]:
        """Images as (n, h, w, c), and the layout they came in; errors as of scikit-learn."""
        name = type(self).__name__
        X = as_stack(X, name)
        names, fitted = getattr(X, "columns", None), self.metadata_.get("feature_names")
        if fitted is not None and names is not None and [*map(str, names)] != fitted:
            raise ValueError(
                "The feature names should match those that were passed during fit: give the "
                "columns of the training table, in their order."
            )
        if hasattr(X, "toarray"):
            raise TypeError(
                "Sparse data was passed for X, but dense data is required. Use '.toarray()' to "
                "convert to a dense numpy array."
            )
        X = np.asarray(X)
        if X.ndim == 0:
            raise TypeError(f"Input should have at least 1 dimension, got the scalar {X!r}.")
        if X.dtype.kind == "O":
            X = X.astype(np.float64)
        if X.dtype.kind == "c":
            raise ValueError(f"Complex data not supported\n{X}\n")
        if X.dtype.kind not in "biuf":
            raise ValueError(
                f"{name} takes images as an array of numbers, got an array of dtype {X.dtype}. "
                "Convert your data to numeric values explicitly instead."
            )
        if len(X) == 0:
            raise ValueError(
                f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required "
                f"by {name}."
            )
        refuse_single(X.shape, self.image_shape_, name)
        layout = X.shape[1:]
        if X.ndim == 2:
            if layout != (self.n_features_in_,):
                raise ValueError(
                    f"X has {X.shape[1]} features, but {name} is expecting "
                    f"{self.n_features_in_} features as input."
                )
            return X.reshape(len(X), *self.image_shape_), layout
        check_rank(X.shape, name)
        images = X.reshape(len(X), *with_channels(layout))
        check_fitted_shape(images.shape[1:], self.image_shape_, name)
        return images, layout

    def _check(self, X: Any) -> tuple[NDArray[Any], tuple[int, ...]]:
        images, layout = self._check_stack(X)
        warn_of_other_unit(images, self.metadata_.get("pixel_range"), type(self).__name__)
        return images, layout

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the sessions of onnxruntime: they are opened again from the model."""
        sessions = ("_session", "_one_thread_session")
        return {name: value for name, value in self.__dict__.items() if name not in sessions}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open a session."""
        self.__dict__.update(state)
        self._open()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"
