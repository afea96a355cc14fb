"""Score image files as they come: in chunks, past unreadable ones, and from a watched folder."""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from sklearn_ncae._ahead import one_ahead
from sklearn_ncae._fitted_parts import after_loading, fitted_offset, part_with
from sklearn_ncae._image_arrays import as_stack, full_scale, strongest_channel
from sklearn_ncae._pixel_scale import scale_of
from sklearn_ncae._warn import warn
from sklearn_ncae.calibration import conformal_p_values
from sklearn_ncae.datasets import _walk_images
from sklearn_ncae.images import ImageLoader
from sklearn_ncae.model_selection import TunedThresholdDetector

# Where a detector marks no defects, a residual of this part of the full scale is drawn strongest.
_STRONG_RESIDUAL = 0.25
# Thresholds are not taken to be lower than this in drawing a map: little would fill the picture.
_LEAST_THRESHOLD = 0.5


@dataclass(frozen=True)
class ImageScore:
    """What is known about one image after scoring.

    Attributes
    ----------
    name : str
        The file, or what else names the image.
    score : float
        ``score_samples``, the lower the more abnormal; nan for a file that cannot be read.
    p_value : float
        How rarely a good image looks as abnormal; nan where the detector cannot say.
    decision : {"good", "defect", "error"}
        Whether the score is below the threshold; "error" for a file that cannot be read, or an
        image that gets no score.
    error : str
        Why there is no score, else empty.
    image : ndarray of shape (h, w) or (h, w, c), or None
        The image as the detector saw it, where maps were asked for.
    black_and_white : tuple of (float, float), or None
        The values that are black and white in it, the same for all images that are scored
        together, where maps were asked for.
    map : ndarray of shape (h, w), float32 in [0, 1], or None
        How strongly each pixel deviates, where maps were asked for and the detector makes them.
    """

    name: str
    score: float
    p_value: float
    decision: str
    error: str = ""
    image: NDArray[Any] | None = None
    black_and_white: tuple[float, float] | None = None
    map: NDArray[np.float32] | None = None


def find_image_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
) -> list[str]:
    """List image files, those of folders by their suffix.

    Parameters
    ----------
    paths : str, os.PathLike or iterable of these
        Files, which are listed whatever their suffix, and folders, which are searched with their
        subfolders. Names that start with a dot are left out of folders.

    Returns
    -------
    list of str
        Each file once; those of a folder in alphabetical order, and then those of its subfolders.

    Raises
    ------
    FileNotFoundError
        If one of the paths does not exist.

    Warns
    -----
    UserWarning
        If a subfolder cannot be read; the others are searched all the same.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_ncae.file_scoring import find_image_files
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.png", "a.JPG", "notes.txt"):
    ...         (Path(folder) / name).touch()
    ...     [Path(path).name for path in find_image_files([folder])]
    ['a.JPG', 'b.png']
    """
    found: dict[str, str] = {}  # by the absolute path, as folders may lie in one another

    def add(path: str) -> None:
        found.setdefault(os.path.abspath(path), path)

    for path in _listed(paths):
        if os.path.isdir(path):
            for image in _walk_images(path, onerror=_warn_unreadable):
                add(image)
        elif os.path.lexists(path):  # a broken link is a file that cannot be read
            add(path)
        else:
            raise FileNotFoundError(f"There is no file or folder {path!r}.")
    return list(found.values())


def _listed(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return paths as strings; a single one is a list of one, not of its characters."""
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    return [os.fspath(path) for path in paths]


def _warn_unreadable(error: OSError) -> None:
    warn(f"The folder {error.filename!r} is left out: it cannot be read ({error.strerror}).")


def read_image_files(
    loader: ImageLoader, paths: Sequence[str], *, size: tuple[int, int] | None = None
) -> tuple[list[str], NDArray[Any] | None, dict[str, str]]:
    """Read image files, and list those that cannot be read instead of raising.

    Parameters
    ----------
    loader : ImageLoader
        How to read.
    paths : sequence of str
        The files.
    size : tuple of (int, int), default=None
        Height and width that the images must have; by default those of most of them.

    Returns
    -------
    readable : list of str
        The files that were read; one that is given twice is in it twice.
    images : ndarray of shape (n_readable, h, w) or (n_readable, h, w, c), or None
        Their images; None if there are none.
    errors : dict of str to str
        Of the other files, why not.

    Examples
    --------
    >>> from sklearn_ncae import ImageLoader
    >>> from sklearn_ncae.file_scoring import read_image_files
    >>> read_image_files(ImageLoader(size=(8, 8)), ["missing.png"])
    ([], None, {'missing.png': "There is no image file 'missing.png'."})
    """
    if not paths:
        return [], None, {}
    loader = _raising(loader)
    size = None if size is None else (size[0], size[1])  # of a list, to compare it with shapes
    with suppress(OSError, ValueError):
        stack = loader.transform(list(paths))
        if size is None or stack.shape[1:3] == size:
            return list(paths), stack, {}
    # Some file is bad: read them one by one to find out which.
    parallel = Parallel(n_jobs=getattr(loader, "n_jobs", None), require="sharedmem")
    read = parallel(delayed(_read)(loader, path) for path in paths)
    shapes = Counter(
        image.shape
        for image in read
        if not isinstance(image, str) and size in (None, image.shape[:2])
    )
    wanted = shapes.most_common(1)[0][0] if shapes else size
    whose = "the others are of" if size is None else "the detector takes"
    readable, images, errors = [], [], {}
    for path, image in zip(paths, read, strict=True):
        if isinstance(image, str):
            errors[path] = image
        elif image.shape != wanted:
            errors[path] = f"{path!r} is of shape {image.shape}, and {whose} {wanted}."
        else:
            readable.append(path)
            images.append(image)
    return readable, np.stack(images) if images else None, errors


def _raising(loader: Any) -> Any:
    """Return a loader that raises: what it skips would be a black image here."""
    if isinstance(loader, Pipeline):
        return Pipeline([(name, _raising(step)) for name, step in loader.steps])
    if isinstance(loader, ImageLoader) and loader.on_error != "raise":
        return clone(loader).set_params(on_error="raise")
    return loader


def _read(loader: Any, path: str) -> NDArray[Any] | str:
    """Return the image in a file, or why it cannot be read."""
    try:
        image: NDArray[Any] = loader.transform([path])[0]
    except (OSError, ValueError) as error:
        return str(error)
    return image


def score_images(
    detector: Any,
    X: Any,
    *,
    names: Sequence[str] | None = None,
    threshold: float | None = None,
    maps: bool = False,
    chunk_size: int = 32,
    n_jobs: int | None = None,
) -> Iterator[ImageScore]:
    """Score images or image files, with the next chunk of them being read while one is scored.

    Parameters
    ----------
    detector : fitted outlier detector
        Anything with ``score_samples``, or a Pipeline that ends in it. Files given to a detector
        of arrays are read as gray or colour images (uint8) of its ``image_shape_``.
    X : ndarray of shape (n, h, w) or (n, h, w, c), or sequence of str
        Images, or the paths of image files.
    names : sequence of str, default=None
        Names of the images; by default the paths, or the positions of images in X.
    threshold : float, default=None
        Images that score below it are defects. By default the detector's ``offset_``.
    maps : bool, default=False
        Whether to return the images and their maps as well: the anomaly map, which is 1 at
        twice what makes an image a defect; where there is none, the defect map; else the size of
        the residual, which is 1 at a quarter of the full scale.
    chunk_size : int, default=32
        Images in memory at a time are two to three times as many.
    n_jobs : int, default=None
        Number of threads that read files for a detector of arrays, as in
        :class:`~sklearn_ncae.images.ImageLoader`; a pipeline reads with those of its own loader.
        (A `joblib.parallel_config` around the call does not reach them.)

    Yields
    ------
    ImageScore
        One for each image, in the order of X; what is raised is raised with the first. A file that
        cannot be read, or whose image is not of the detector's size, has the decision "error" and
        says why; the others are scored.

    Raises
    ------
    TypeError
        If the detector has no threshold, or does not say of what size its images are, or if X is a
        mapping.
    ValueError
        If `chunk_size` is less than 1, `threshold` is nan, or there are more or fewer names than
        images.

    See Also
    --------
    watch_folder : The files to score as they arrive.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae.baselines import MeanBrightnessDetector
    >>> from sklearn_ncae.file_scoring import score_images
    >>> images = np.full((20, 8, 8), 100, dtype=np.uint8)
    >>> detector = MeanBrightnessDetector().fit(images)
    >>> [image.decision for image in score_images(detector, [images[0], images[0] + 50])]
    ['good', 'defect']
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size!r}.")
    if isinstance(X, str | os.PathLike):
        X = [X]
    if isinstance(X, Mapping):
        raise TypeError(
            f"X must be images or the paths of image files, got a {type(X).__name__}. Give its "
            "values, and its keys as names."
        )
    if names is not None and len(names) != len(X):
        raise ValueError(f"There are {len(names)} names for {len(X)} images: give one for each.")
    if len(X) == 0:
        return
    if hasattr(X, "to_numpy"):  # a Series of paths, whose labels are no positions
        X = X.to_numpy()
    of_paths = isinstance(X[0], str | os.PathLike)
    if names is None:
        names = [os.fspath(path) for path in X] if of_paths else [str(i) for i in range(len(X))]
    if threshold is None:
        threshold = threshold_of(detector)
    if math.isnan(threshold):
        raise ValueError("threshold=nan would call nothing a defect; give a number.")
    loader, last, size = _reader(detector, n_jobs) if of_paths else (None, _found(detector), None)
    black_and_white = None

    def read(start: int) -> tuple[slice, list[str], list[str], NDArray[Any] | None, dict[str, str]]:
        nonlocal size
        part = slice(start, start + chunk_size)
        if loader is None:
            keys = [str(i) for i in range(len(X))[part]]
            return part, keys, keys, np.asarray(as_stack(X[part], type(last).__name__)), {}
        keys = [os.fspath(path) for path in X[part]]
        readable, images, errors = read_image_files(loader, keys, size=size)
        if images is not None and images.ndim > 2:
            size = images.shape[1:3]  # those of the other files have to be alike
        return part, keys, readable, images, errors

    for part, keys, readable, images, errors in one_ahead(read, range(0, len(X), chunk_size)):
        position = {key: i for i, key in enumerate(readable)}
        scores = p_values = np.empty(0)
        of_image: NDArray[np.float32] | None = None
        pictures = None
        if images is not None:
            outputs = _outputs_of_onnx(last, images, maps)
            scores = outputs["score"] if outputs else last.score_samples(images)
            scores = np.asarray(scores, np.float64)
            p_values = _p_values(last, images, scores, outputs)
            if maps:
                if black_and_white is None:
                    black_and_white = _black_and_white(last, images if of_paths else X)
                of_image = _maps(last, images, threshold, black_and_white, outputs)
                pictures = _pictures(last, images)
        for key, name in zip(keys, names[part], strict=True):
            if key not in position:
                yield ImageScore(name, math.nan, math.nan, "error", errors[key])
                continue
            i = position[key]
            if math.isnan(scores[i]):
                error = "The detector gives it no score (nan)."
                yield ImageScore(name, math.nan, math.nan, "error", error)
                continue
            yield ImageScore(
                name,
                float(scores[i]),
                float(p_values[i]),
                "defect" if scores[i] < threshold else "good",
                image=None if pictures is None else pictures[i],
                black_and_white=black_and_white,
                map=None if of_image is None else of_image[i],
            )


def threshold_of(detector: Any) -> float:
    """Return the ``offset_`` of a detector, or of the one inside a pipeline or a search.

    Parameters
    ----------
    detector : fitted outlier detector
        Anything with ``offset_``, or a Pipeline, a search or another meta-estimator around it.

    Returns
    -------
    float
        Images that score below it are defects.

    Raises
    ------
    TypeError
        If there is none.
    """
    offset = fitted_offset(detector)
    if offset is None:
        raise TypeError(
            f"{type(detector).__name__} has no offset_, so it does not say which scores are those "
            "of defects. Fit it first, or give a threshold."
        )
    return offset


def loader_for(detector: Any, *, n_jobs: int | None = None) -> ImageLoader:
    """Return what reads image files as a detector takes them.

    Parameters
    ----------
    detector : fitted outlier detector
        With ``image_shape_``, (height, width, channels).
    n_jobs : int, default=None
        Number of threads that read.

    Returns
    -------
    ImageLoader
        For gray or colour images of that size, as uint8.

    Raises
    ------
    TypeError
        If the detector has no ``image_shape_``, or its images have another number of channels
        than files have.
    ValueError
        If it was trained on pixel values that are not those of uint8 images, such as 0 to 1: the
        scores of files would mean nothing.
    """
    shape = getattr(part_with(detector, "image_shape_")[0], "image_shape_", None)
    mode = None if shape is None else {1: "gray", 3: "color"}.get(shape[2])
    if shape is None or mode is None:
        raise TypeError(
            f"{type(detector).__name__} does not say how to read files for it: image_shape_ is "
            f"{shape}, not (height, width, 1 or 3). Give images, or a pipeline that starts with "
            "an ImageLoader."
        )
    low, high = _pixel_range(detector) or (0, 255)
    if low < 0 or high <= 1 or high > 255:
        raise ValueError(
            f"The model was trained on pixel values from {low:g} to {high:g}, and image files are "
            "read as 0 to 255, so their scores would mean nothing. Score arrays of the range of "
            "training in Python, or train the model on files or uint8 images."
        )
    return ImageLoader(size=(int(shape[0]), int(shape[1])), mode=mode, n_jobs=n_jobs)


def watch_folder(
    paths: Iterable[str | os.PathLike[str]],
    *,
    done: Collection[str] = (),
    interval: float = 1.0,
    settle: float = 2.0,
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[list[str]]:
    """Wait for new image files, without end.

    Parameters
    ----------
    paths : iterable of str or os.PathLike
        Folders, which are searched with their subfolders, and files.
    done : collection of str, default=()
        Files that are not to be returned, for example those of an earlier run.
    interval : float, default=1.0
        Seconds between two looks.
    settle : float, default=2.0
        A file is complete when its size and its time of modification have not changed for so many
        seconds.
    wait : callable, default=time.sleep
        Called with `interval` between two looks.

    Yields
    ------
    list of str
        The files that have become complete since the last look, possibly none; each file once,
        also if it is written again later.

    Raises
    ------
    FileNotFoundError
        If one of the paths does not exist at the first look. Later it may be gone for a while, as
        a folder on the network is.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_ncae.file_scoring import watch_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     watch = watch_folder([folder], interval=0, settle=0)
    ...     (Path(folder) / "a.png").touch()
    ...     looks = [len(next(watch)) for _ in range(3)]
    >>> looks
    [0, 1, 0]
    """
    paths = _listed(paths)
    files = find_image_files(paths)
    finished = {os.path.abspath(path) for path in done}
    seen: dict[str, tuple[tuple[int, int], float]] = {}
    while True:
        now = time.monotonic()
        before, seen = seen, {}  # what has been moved away since is forgotten
        complete = []
        for path in files:
            absolute = os.path.abspath(path)
            if absolute in finished:
                continue
            try:
                status = os.stat(path)
            except OSError:  # moved away, or a broken link: reading says so, once it has settled
                state = (-1, -1)
            else:
                state = (status.st_size, status.st_mtime_ns)
            of_state, since = before.get(absolute, (None, now))
            if of_state == state and now - since >= settle:
                complete.append(path)
                finished.add(absolute)
            else:
                seen[absolute] = (state, since if of_state == state else now)
        yield complete
        wait(interval)
        with suppress(FileNotFoundError):  # gone between the two questions: the next look sees
            files = find_image_files(filter(os.path.lexists, paths))


def _found(detector: Any) -> Any:
    """Return what a search has found."""
    return getattr(detector, "best_estimator_", detector)


def _reader(detector: Any, n_jobs: int | None) -> tuple[Any, Any, tuple[int, int] | None]:
    """Split what takes files into what reads them and the detector of images.

    The third is the height and width of the images that the detector takes, where it says so.
    """
    detector = _found(detector)
    if isinstance(_found(getattr(detector, "detector_", None)), Pipeline):  # with a threshold
        loader, last, size = _reader(detector.detector_, n_jobs)
        detector = copy(detector)
        detector.detector_ = last
        return loader, detector, size
    if isinstance(detector, Pipeline) and len(detector) > 1:
        *steps, (_, last) = detector.steps
        shape = getattr(part_with(last, "image_shape_")[0], "image_shape_", None)
        size = shape[:2] if shape and after_loading(detector) is last else None
        return Pipeline(steps), last, size
    return loader_for(detector, n_jobs=n_jobs), detector, None


def _pixel_range(detector: Any) -> tuple[float, float] | None:
    """Return the darkest and brightest pixel value of training, where the detector knows them."""
    if hasattr(detector, "metadata_"):  # of an ONNX file; None in those of earlier versions
        return detector.metadata_.get("pixel_range")
    scale = scale_of(part_with(detector, "image_shape_")[0])
    return None if scale is None else scale.pixel_range


def _shift(detector: Any) -> float:
    """Return what its scores are less than those of the detector inside."""
    return detector._shift if isinstance(detector, TunedThresholdDetector) else 0.0


def _outputs_of_onnx(detector: Any, images: NDArray[Any], maps: bool) -> dict[str, NDArray[Any]]:
    """Return what an ONNX file computes in one run; of other detectors, nothing."""
    if not hasattr(detector, "metadata_"):
        return {}
    outputs = ["score"]
    if hasattr(detector, "p_values"):
        outputs.append("p_value")
    if maps and hasattr(detector, "anomaly_map"):
        outputs.append("anomaly_map")
    return detector.run(images, outputs)


def _p_values(
    detector: Any,
    images: NDArray[Any],
    scores: NDArray[np.float64],
    outputs: dict[str, NDArray[Any]],
) -> NDArray[np.float64]:
    part = part_with(detector, "calibration_scores_")[0]
    p_values = np.full(len(scores), math.nan)
    if "p_value" in outputs:
        p_values[:] = outputs["p_value"]
    elif part is not None:
        scored = ~np.isnan(scores)
        of_part = scores[scored] + _shift(detector)
        p_values[scored] = conformal_p_values(part.calibration_scores_, of_part)
    elif hasattr(detector, "p_values"):
        p_values[:] = detector.p_values(images)
    return p_values


def _pictures(detector: Any, images: NDArray[Any]) -> NDArray[Any]:
    """Return images as (n, h, w) or (n, h, w, c), also where the detector takes flat rows."""
    shape = getattr(part_with(detector, "image_shape_")[0], "image_shape_", None)
    if images.ndim > 2 or shape is None or math.prod(shape) != images.shape[1]:
        return images
    return images.reshape(-1, *(shape[:2] if shape[2] == 1 else shape))


def _black_and_white(detector: Any, images: Any) -> tuple[float, float]:
    """Return the values that are black and white, of the images that are to be drawn alike."""
    dtype = getattr(images, "dtype", None)
    known = None if dtype in (np.uint8, np.uint16) else _pixel_range(detector)
    return full_scale(np.asarray(images if known is None else known))


def _maps(
    detector: Any,
    images: NDArray[Any],
    threshold: float,
    black_and_white: tuple[float, float],
    outputs: dict[str, NDArray[Any]],
) -> NDArray[np.float32] | None:
    part, inputs = part_with(detector, "anomaly_map", images)
    if part is not None:
        # Strongest at twice what makes an image a defect, in the units of the part's scores.
        strongest = 2 * max(-(threshold + _shift(detector)), _LEAST_THRESHOLD)
        maps = outputs["anomaly_map"] if outputs else part.anomaly_map(inputs)
        return np.clip(maps / np.float32(strongest), 0, 1)
    part, inputs = part_with(detector, "defect_map", images)
    if part is not None:
        return np.clip(part.defect_map(inputs), 0, 1)
    part, inputs = part_with(detector, "residual", images)
    if part is None:
        return None
    residual = np.abs(strongest_channel(np.asarray(part.residual(inputs), np.float32)))
    black, white = black_and_white
    return np.clip(residual / np.float32(_STRONG_RESIDUAL * (white - black)), 0, 1)
