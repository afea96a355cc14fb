"""Model files: save a fitted detector, and load it without running anybody's code.

A model file (``.ncae``) is a zip of one JSON document and of arrays, with no pickle and no code
in it, so that one from a stranger may be loaded: it is either refused with a `ModelFileError`, or
gives a detector. See the page on saving models for when to use what.
"""

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime
from typing import Any, BinaryIO

from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sklearn_ncae._fitted_parts import after_loading
from sklearn_ncae._image_outliers import ImageOutlierMixin
from sklearn_ncae._model_archive import ModelArchive, ModelFileError, refusing, write_archive
from sklearn_ncae._model_document import decode, encode, holds, leaves
from sklearn_ncae._warn import warn

_FORMAT = "sklearn-ncae model"
_FORMAT_VERSION = 7  # the first that is read: those before were never released


def save(detector: Any, path: str | os.PathLike[str]) -> None:
    """Save a fitted detector to a model file.

    The file is written beside its final place and then moved there: after a crash or on a full
    disk, a file of that name from before is whole.

    Parameters
    ----------
    detector : NCAEDetector, TextureDetector, NCAEReconstructor, ResidualDetector or \
            TunedThresholdDetector
        Fitted; a `ResidualDetector` around an `NCAEReconstructor`. Of a `TunedThresholdDetector`
        around one of the detectors, or a pipeline of an `ImageLoader` and one, that one is saved,
        with the threshold that was found: it decides alike, by its own `score_samples`. Its
        `false_alarm_rate_` is what its held-out images say of that threshold.
    path : str or os.PathLike
        Where to, by convention ``*.ncae``. A file of that name is replaced.

    Raises
    ------
    NotFittedError
        If the detector is not fitted.
    TypeError
        If it is of another class, or holds what a model file cannot hold.
    ValueError
        If its values could not be loaded again, such as an offset that is not finite.
    OSError
        If the file cannot be written.

    Warns
    -----
    UserWarning
        If parameters that only training reads hold code or objects (a `draw_defects` or `loss`
        of your own, callbacks, an optimizer object, a `RandomState`). They are saved as None: the
        loaded detector scores the same, but they must be set before it is fitted again.

    See Also
    --------
    load : The way back.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sklearn_ncae import NCAEDetector, persistence
    >>> X = np.random.RandomState(0).randint(0, 256, (30, 16, 16), dtype=np.uint8)
    >>> detector = NCAEDetector(filters=(4,), epochs=1, contamination=0.1, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "detector.ncae"
    ...     persistence.save(detector, path)
    ...     loaded = persistence.load(path)
    ...     persistence.info(path)["image_shape"]
    [16, 16, 1]
    >>> bool((loaded.score_samples(X) == detector.score_samples(X)).all())
    True
    """
    from sklearn_ncae.model_selection import TunedThresholdDetector  # not needed to load

    if isinstance(detector, TunedThresholdDetector):
        detector = _with_threshold_found(detector)
    name = type(detector).__name__
    if not (holds(detector) and isinstance(detector, BaseEstimator)):
        raise TypeError(
            "A model file holds an NCAEDetector, a TextureDetector, an NCAEReconstructor, or a "
            "ResidualDetector around an NCAEReconstructor, also from within a "
            "TunedThresholdDetector, and no subclass of these; got "
            f"{detector!r}. Use pickle, joblib or skops for other estimators."
        )
    check_is_fitted(detector)
    arrays: list[NDArray[Any]] = []
    left_out: set[str] = set()
    document = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "summary": None,  # the first thing to read, the last to be known
        "model": encode(detector, arrays, left_out, name),
    }
    document["summary"] = _summary(detector, sorted(left_out))
    if left_out:
        warn(
            f"The {name} is saved without its {', '.join(sorted(left_out))}: a model file has no "
            "place for code and objects. They matter for training alone, the loaded detector "
            "scores the same. Set them before you fit it again."
        )
    try:
        write_archive(path, document, arrays, check=_read)
    except ModelFileError as error:
        raise ValueError(
            f"The {name} is not saved, for it could not be loaded again: {error}."
        ) from error


def _with_threshold_found(tuned: Any) -> Any:
    """Return the detector within a `TunedThresholdDetector`, which then decides as that does."""
    check_is_fitted(tuned)
    detector = copy(after_loading(tuned.detector_))
    if isinstance(detector, ImageOutlierMixin):  # or it is none that a model file holds
        detector.offset_ = tuned.offset_ + tuned._shift
    return detector


def load(path: str | os.PathLike[str]) -> Any:
    """Load a detector from a model file.

    Nothing in the file is executed, and it takes no more memory than a small multiple of its
    size. It may come from a stranger; whether to trust that detector's decisions is another
    question.

    Parameters
    ----------
    path : str or os.PathLike
        A file that `save` has written, with this or an older version of the package.

    Returns
    -------
    detector : NCAEDetector, TextureDetector, NCAEReconstructor or ResidualDetector
        Scores bitwise as the saved one did, with the same versions and processor.

    Raises
    ------
    ModelFileError
        If the file is damaged, hostile, of a newer format, or no model file.
    OSError
        If the file cannot be opened, such as FileNotFoundError.
    """
    with open(path, "rb") as file, _naming(path):
        return _read(file)


def info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the summary of a model file, without its weights and without Keras.

    Parameters
    ----------
    path : str or os.PathLike
        A file that `save` has written.

    Returns
    -------
    summary : dict
        ``format_version``, ``estimator`` (its class), ``saved_at`` (UTC), ``image_shape``,
        ``n_samples_fit`` and ``n_calibration`` (images it was trained on, and held out),
        ``training``, ``statistics``, ``contamination``, ``false_alarm_rate``, ``offset``,
        ``n_weights``, ``left_out`` (parameters that were not saved) and ``versions``; None where
        a detector has no such thing. These are the words of whoever wrote the file: `load` does
        not read them.

    Raises
    ------
    ModelFileError
        If the file is damaged, hostile, of a newer format, or no model file.
    OSError
        If the file cannot be opened, such as FileNotFoundError.
    """
    with open(path, "rb") as file, _naming(path):
        document = ModelArchive(file).document
        _check_format(document)
        summary = document.get("summary")
        if not isinstance(summary, dict):
            raise ModelFileError("its summary is missing")
        return {"format_version": document["format_version"], **summary}


def _read(file: BinaryIO) -> Any:
    archive = ModelArchive(file)
    _check_format(archive.document)
    with refusing("its values cannot be those of a detector"):
        detector = decode(archive.document.get("model"), archive)
    if not hasattr(detector, "image_shape_"):
        raise ModelFileError("it holds no fitted detector")
    archive.check_all_read()
    return detector


@contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file in what it is refused for."""
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError(f"Cannot load {os.fspath(path)!r}: {error}.") from error.__cause__


def _check_format(document: dict[str, Any]) -> None:
    version = document.get("format_version")
    if document.get("format") != _FORMAT or type(version) is not int or version < 1:
        raise ModelFileError("it is not the file of a sklearn-ncae model")
    if version > _FORMAT_VERSION:
        raise ModelFileError(
            f"it has format {version}, and this version of sklearn-ncae reads formats up to "
            f"{_FORMAT_VERSION}. Upgrade sklearn-ncae"
        )
    if version < _FORMAT_VERSION:
        raise ModelFileError(
            f"it has format {version}, of a version of sklearn-ncae before the first release. "
            "Train and save again"
        )


def _summary(detector: Any, left_out: list[str]) -> dict[str, Any]:
    from sklearn_ncae import __version__

    reconstructor = getattr(detector, "reconstructor_", detector)
    network = getattr(reconstructor, "_network", {})  # of texture alone there is none
    distributions = ("keras", "numpy", "scikit-learn", "tensorflow")
    summary = {
        "estimator": type(detector).__name__,
        "saved_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "image_shape": list(detector.image_shape_),
        "n_samples_fit": getattr(reconstructor, "n_samples_fit_", None),
        "n_calibration": len(getattr(detector, "calibration_scores_", ())) or None,
        "training": network.get("training"),
        "statistics": getattr(detector, "_names", None),
        "contamination": getattr(detector, "contamination", None),
        "false_alarm_rate": getattr(detector, "false_alarm_rate_", None),
        "offset": getattr(detector, "offset_", None),
        "n_weights": sum(
            weights.size for weights in leaves(getattr(reconstructor, "weights_", []))
        ),
        "left_out": left_out,
    }
    return {
        **{name: encode(value, [], set(), name) for name, value in summary.items()},
        "versions": {
            "python": platform.python_version(),
            "sklearn-ncae": __version__,
            **{name: _version(name) for name in distributions},
        },
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


__all__ = ["ModelFileError", "info", "load", "save"]
