"""What an image is here: stacks of images in arrays, and image files read into them."""

import errno
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any, ClassVar, Self

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import Tags
from sklearn.utils._param_validation import StrOptions, validate_params
from sklearn.utils.validation import check_array, validate_data

from sklearn_ncae._image_arrays import (
    as_stack,
    check_fitted_shape,
    check_rank,
    check_values,
    forget_features,
    refuse_channels_first,
    refuse_single,
    with_channels,
    with_squares,
)
from sklearn_ncae._optional import import_extra
from sklearn_ncae._warn import warn

# The largest value of 12 bits.
_TWELVE_BITS = 4095
_FULL_SCALE = {"uint8": 255, "uint16": 65535, "float32": 1}

_READING: dict[str, list[Any]] = {
    "size": [tuple, list, None],
    "mode": [StrOptions({"gray", "color"})],
    "dtype": [StrOptions(set(_FULL_SCALE))],
}


def check_image_stack(
    estimator: Any, X: Any, *, image_shape: Sequence[int] | None = None, reset: bool
) -> tuple[NDArray[Any], tuple[int, ...]]:
    """Validate images given in any of the accepted layouts.

    Parameters
    ----------
    estimator : estimator
        On `reset` its attributes `n_features_in_`, `image_shape_` and, for a DataFrame,
        `feature_names_in_` are set; otherwise X must agree with them.
    X : array-like of shape (n, h, w), (n, h, w, c), or (n, n_features)
        Images of one size, of any real dtype. Rows of a table are flattened images of
        `image_shape`, or without it images of height 1.
    image_shape : sequence of two or three int, default=None
        Height, width and, optionally, channels of one image.
    reset : bool
        Whether this is the data to fit.

    Returns
    -------
    images : ndarray of shape (n, h, w, c)
        A view of X where X is an array: nothing is copied or scaled, but for floats of other
        sizes than float64 can hold, and for those whose squares only float64 can hold.
    layout : tuple of int
        The shape of one image as it was given, ``X.shape[1:]``.

    Raises
    ------
    TypeError
        If X is sparse, or holds file paths, dates or other objects.
    ValueError
        If X is empty, not finite, masked, complex, larger than 1e100, of another rank, by its
        shape channels first, or of another shape than `image_shape` or than the images the
        estimator was fitted on.
    """
    name = type(estimator).__name__
    if image_shape is not None:
        image_shape = tuple(image_shape)
        if len(image_shape) not in (2, 3) or not all(
            isinstance(side, Integral) and side > 0 for side in image_shape
        ):
            raise ValueError(
                "image_shape must be (height, width) or (height, width, channels), positive "
                f"integers; got {image_shape!r}."
            )
    X = as_stack(X, name)
    if not reset:
        refuse_single(X.shape, estimator.image_shape_, name)
    if X.ndim == 2:
        X = validate_data(estimator, X, reset=reset)
        fitted_shape = None if reset else estimator.image_shape_
        shape = image_shape or fitted_shape or (1, X.shape[1])
        if np.prod(shape) != X.shape[1]:
            raise ValueError(
                f"{name} got rows of {X.shape[1]} values, but an image_shape of {shape} has "
                f"{np.prod(shape)}. Give the shape of the images as image_shape, or X as "
                "(n, height, width) or (n, height, width, channels)."
            )
        layout = X.shape[1:]
        images: NDArray[Any] = X.reshape(len(X), *shape)
    else:
        images = check_array(X, ensure_2d=False, allow_nd=True, estimator=estimator, input_name="X")
        check_rank(images.shape, name)
        if image_shape is not None and with_channels(image_shape) != with_channels(
            images.shape[1:]
        ):
            raise ValueError(
                f"{name} got images of shape {images.shape[1:]}, but image_shape={image_shape}."
            )
        layout = images.shape[1:]
        if reset:
            if image_shape is None:
                refuse_channels_first(images.shape, name)
            forget_features(estimator)
    check_values(images, name)
    images = with_squares(images)
    images = images.reshape(len(images), *with_channels(images.shape[1:]))
    if reset:
        estimator.image_shape_ = images.shape[1:]
        estimator.n_features_in_ = int(np.prod(images.shape[1:]))
    else:
        check_fitted_shape(images.shape[1:], estimator.image_shape_, name)
    return images, layout


@validate_params({"path": [str, os.PathLike], **_READING}, prefer_skip_nested_validation=True)
def read_image(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    mode: str = "gray",
    dtype: str = "uint8",
) -> NDArray[Any]:
    """Read one image file.

    Parameters
    ----------
    path : str or os.PathLike
        The file, in any format that Pillow reads.
    size : tuple of (int, int), default=None
        Height and width of the result in pixels. The image is averaged over the area of each new
        pixel; its aspect ratio is not kept. `None` leaves the size of the file.
    mode : {"gray", "color"}, default="gray"
        One channel (luminance), or three (red, green, blue).
    dtype : {"uint8", "uint16", "float32"}, default="uint8"
        Type of the result. Black to white is 0 to 255, 0 to 65535, or 0.0 to 1.0, whichever depth
        the file has.

    Returns
    -------
    ndarray of shape (height, width) or (height, width, 3)
        The upright image: an EXIF orientation is applied.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If the file cannot be read as an image; the message names it.
    ValueError
        If a parameter is out of range, or the file holds 32-bit pixels, which have no known scale.

    See Also
    --------
    ImageLoader : The same for many files, as a transformer.

    Notes
    -----
    Transparency is ignored. Grayscale files of 16 bits (PNG, TIFF, PGM) keep their precision with
    ``dtype="uint16"`` and ``"float32"``; Pillow reads 16-bit colour files as 8-bit ones. A camera
    of 10 or 12 bits that leaves the upper bits of a 16-bit file empty gives dark images: the
    scale is that of the file, never that of the single image, so that images stay comparable. As
    uint8 they keep few gray levels, of which a warning tells.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from sklearn_ncae.images import read_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "part.png"
    ...     Image.new("L", (6, 4), color=51).save(path)
    ...     image = read_image(path, size=(2, 3), dtype="float32")
    >>> image.shape, round(float(image[0, 0]), 3)
    ((2, 3), 0.2)
    """
    image, few_levels = _decode(path, _check_size(size), mode, dtype)
    if few_levels:
        _warn_of_few_levels()
    return image


class ImageLoader(TransformerMixin, BaseEstimator):
    """Read image files into one array.

    A first step for a pipeline that starts from file paths, so that cross-validation splits a
    short list of paths instead of the images. Nothing is learned: `fit` only checks.

    Parameters
    ----------
    size : tuple of (int, int), default=None
        Height and width of the result in pixels. Images are averaged over the area of each new
        pixel; their aspect ratio is not kept. With `None` all files must have one size.
    mode : {"gray", "color"}, default="gray"
        One channel (luminance), or three (red, green, blue).
    dtype : {"uint8", "uint16", "float32"}, default="uint8"
        Type of the result. Black to white is 0 to 255, 0 to 65535, or 0.0 to 1.0, whichever depth
        a file has.
    n_jobs : int, default=None
        Number of threads that decode. `None` means 1 unless in a
        :obj:`joblib.parallel_config` context, -1 means one per processor.
    on_error : {"raise", "skip"}, default="raise"
        What a file does that cannot be read: it raises, or it is skipped. Skipped files are named
        by a warning and in `unreadable_`. Their images are black, so that the rows of the result
        are those of `X`, and what a detector says of them means nothing; see the example.

    Attributes
    ----------
    unreadable_ : dict of int to str
        With ``on_error="skip"``, the rows that the last `transform` has skipped, and why; absent
        if it raised.

    See Also
    --------
    read_image : Reads one file, and states how depths and colours are converted.
    sklearn_ncae.datasets.load_image_folder : Leaves unreadable files out, for training.
    sklearn_ncae.file_scoring.score_images : Scores files, and calls unreadable ones an error.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from PIL import Image
    >>> from sklearn_ncae.images import ImageLoader
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = [Path(folder) / f"part_{i}.png" for i in range(3)]
    ...     for path in paths:
    ...         Image.new("L", (64, 48), color=128).save(path)
    ...     images = ImageLoader(size=(24, 32)).fit_transform(paths)
    >>> images.shape, images.dtype
    ((3, 24, 32), dtype('uint8'))

    A file that cannot be read must not lose the scores of the others, and must not pass for good:

    >>> import warnings
    >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     paths = [Path(folder) / "part.png", Path(folder) / "damaged.png"]
    ...     Image.new("L", (64, 48), color=128).save(paths[0])
    ...     _ = paths[1].write_bytes(b"")
    ...     loader = ImageLoader(on_error="skip")
    ...     scores = loader.fit_transform(paths).mean(axis=(1, 2))
    >>> scores[list(loader.unreadable_)] = np.nan
    >>> scores
    array([128.,  nan])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_READING,
        "n_jobs": [Integral, None],
        "on_error": [StrOptions({"raise", "skip"})],
    }

    def __init__(
        self,
        *,
        size: tuple[int, int] | None = None,
        mode: str = "gray",
        dtype: str = "uint8",
        n_jobs: int | None = None,
        on_error: str = "raise",
    ) -> None:
        self.size = size
        self.mode = mode
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.on_error = on_error

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Check the parameters and that `X` holds paths; no file is opened.

        Parameters
        ----------
        X : array-like of str or os.PathLike, of shape (n_images,) or (n_images, 1)
            Paths of image files.
        y : None
            Ignored.

        Returns
        -------
        ImageLoader
            This transformer.

        Raises
        ------
        TypeError
            If `X` holds something else than paths.
        ValueError
            If `X` is empty or has several columns, or a parameter is out of range.
        """
        _check_size(self.size)
        _check_paths(X)
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Read the files.

        Parameters
        ----------
        X : array-like of str or os.PathLike, of shape (n_images,) or (n_images, 1)
            Paths of image files.

        Returns
        -------
        ndarray of shape (n_images, height, width) or (n_images, height, width, 3)
            The images in the order of `X`, of type `dtype`.

        Raises
        ------
        TypeError
            If `X` holds something else than paths.
        ValueError
            If `X` is empty or has several columns, a parameter is out of range, or `size` is
            `None` and the files differ in size.
        FileNotFoundError
            If a file is missing.
        OSError
            If a file cannot be read as an image; the message names it. With ``on_error="skip"``
            if none can.

        Warns
        -----
        UserWarning
            With ``on_error="skip"``, naming the files that were skipped.
        """
        self._validate_params()  # a stateless transformer may be used without fit
        size = _check_size(self.size)
        paths = _check_paths(X)
        self.__dict__.pop("unreadable_", None)  # of other files
        read = _decode if self.on_error == "raise" else _decode_or_error
        # Threads, because Pillow releases the interpreter lock while it decodes. A generator,
        # because a list of images and their stack would be in memory together.
        decoded = joblib.Parallel(n_jobs=self.n_jobs, require="sharedmem", return_as="generator")(
            joblib.delayed(read)(path, size, self.mode, self.dtype) for path in paths
        )
        errors: dict[int, Exception] = {}
        images: NDArray[Any] | None = None
        any_few_levels = False
        for i, read_or_error in enumerate(decoded):
            if isinstance(read_or_error, Exception):
                errors[i] = read_or_error
                continue
            image, few_levels = read_or_error
            any_few_levels |= few_levels
            if images is None:
                first, images = i, np.zeros((len(paths), *image.shape), dtype=self.dtype)
            if image.shape != images.shape[1:]:
                with warnings.catch_warnings():  # joblib warns of the reads that this cancels
                    warnings.simplefilter("ignore", UserWarning)
                    decoded.close()
                raise ValueError(
                    f"The images differ in size: {paths[first]} has (height, width) "
                    f"{images.shape[1:3]}, {paths[i]} has {image.shape[:2]}. Set size=(height, "
                    "width) to bring all of them to one size."
                )
            images[i] = image
        if images is None:
            raise errors[0]
        if any_few_levels:
            _warn_of_few_levels()
        if self.on_error == "skip":
            self.unreadable_ = {i: str(error) for i, error in errors.items()}
        if errors:
            warn(
                f"{len(errors)} of {len(paths)} files cannot be read, and what is said of them "
                f"means nothing: {' '.join(map(str, errors.values()))}"
            )
        return images

    def set_output(self, *, transform: str | None = None) -> Self:
        """Do nothing: images stay arrays, whatever the other steps of a pipeline return.

        Parameters
        ----------
        transform : str, default=None
            Ignored.

        Returns
        -------
        self : ImageLoader
        """
        return self

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn that the input is paths and that `fit` is not needed."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _open_upright(path: str | os.PathLike[str], extra: str) -> tuple[Any, str | None]:
    """Return a file's whole image, turned as its EXIF says, and its format; an extra has Pillow."""
    pil, pil_ops = import_extra("PIL.Image", extra), import_extra("PIL.ImageOps", extra)
    # Opened here: a path, Pillow may map into memory, and turned TIFF files wrongly.
    with open(path, "rb") as opened, pil.open(opened) as file:
        file_format = file.format
        return pil_ops.exif_transpose(file), file_format  # which decodes, so all of it is read


@contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Make an OSError that names the file of whatever its decoding raises."""
    try:
        yield
    except ImportError:  # of an extra, which says so itself
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no image file {os.fspath(path)!r}.") from error
    except MemoryError as error:
        what = f"Cannot read {os.fspath(path)!r}: there is not enough memory for its pixels"
        raise OSError(errno.ENOMEM, what) from error
    except Exception as error:  # damaged files raise nearly anything in Pillow's decoders
        if isinstance(error, OSError) and error.errno is not None:  # of the system, not of Pillow
            what = f"Cannot read {os.fspath(path)!r}: {error.strerror}"
            raise type(error)(error.errno, what) from error
        raise OSError(
            f"Cannot read {os.fspath(path)!r} as an image; it is damaged or of an unknown format "
            f"({type(error).__name__}: {error})."
        ) from error


def _decode(
    path: str | os.PathLike[str], size: tuple[int, int] | None, mode: str, dtype: str
) -> tuple[NDArray[Any], bool]:
    """Read one file, and tell whether few gray levels are left; the arguments have been checked."""
    pil = import_extra("PIL.Image", "images")
    with _naming(path):
        image, file_format = _open_upright(path, "images")
        if not image.mode.startswith(("I", "F")):
            image = image.convert("L" if mode == "gray" else "RGB")

    # 16-bit grayscale is "I;16", "I;16B", ... and, for some formats, Pillow's 32-bit mode "I".
    deep = image.mode.startswith("I;16") or (image.mode == "I" and file_format in {"PNG", "PPM"})
    if image.mode in {"I", "F"} and not deep:
        raise ValueError(
            f"{os.fspath(path)!r} has 32-bit pixels (Pillow mode {image.mode!r}), of which black "
            "and white are unknown. Save it with 8 or 16 bits."
        )
    few_levels = False
    if deep:
        values = np.asarray(image)
        few_levels = dtype == "uint8" and bool(0 < values.max() <= _TWELVE_BITS)
        bands = [pil.fromarray(values.astype(np.float32))]
    else:
        # Averages rounded to 8 bits are all that uint8 needs, and several times faster.
        bands = [image] if dtype == "uint8" else [band.convert("F") for band in image.split()]
    if size is not None:
        height, width = size
        bands = [band.resize((width, height), pil.Resampling.BOX) for band in bands]

    pixels = np.asarray(bands[0]) if len(bands) == 1 else np.stack(bands, axis=-1)
    if pixels.dtype != np.uint8:
        pixels = pixels * np.float32(_FULL_SCALE[dtype] / (65535 if deep else 255))
        if dtype != "float32":
            pixels = np.rint(pixels)
    if deep and mode == "color":
        pixels = np.repeat(pixels[..., np.newaxis], 3, axis=-1)
    return pixels.astype(dtype, copy=False), few_levels


def _warn_of_few_levels() -> None:
    warn(
        f"A 16-bit file has no value above {_TWELVE_BITS}, as those of 10- and 12-bit cameras: of "
        "8 bits, few gray levels are left. Read it with dtype='uint16' or 'float32', or write such "
        "files with their values times 16."
    )


def _decode_or_error(*arguments: Any) -> tuple[NDArray[Any], bool] | Exception:
    try:
        return _decode(*arguments)
    except (OSError, ValueError) as error:
        return error


def _check_size(size: object) -> tuple[int, int] | None:
    """Return (height, width) as integers, or None."""
    if size is None:
        return None
    values = list(size) if isinstance(size, list | tuple) else []
    if len(values) != 2 or not all(isinstance(v, Integral) and int(v) >= 1 for v in values):
        raise ValueError(
            f"size must be None or (height, width), two integers of at least 1; got {size!r}."
        )
    return int(values[0]), int(values[1])


def _check_paths(X: Any) -> list[str]:
    """Return the paths of an array-like as strings."""
    accepted = "a list, 1-D array or single column of paths (str or os.PathLike)"
    if isinstance(X, str | bytes | os.PathLike):
        raise TypeError(f"X must be {accepted}; got the single path {X!r}. Pass [path].")
    if isinstance(X, Iterator):
        raise TypeError(
            f"X must be {accepted}; got a {type(X).__name__}, which can be read once only. Pass "
            "sorted(...) of it, such as sorted(folder.glob('*.png'))."
        )
    array = np.asarray(X, dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim > 0 and array.size == 0:
        raise ValueError(f"X must be {accepted}, of at least one image; got none.")
    for path in array.flat:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(
                f"X must be {accepted}; got {type(path).__name__} values in an array of shape "
                f"{array.shape}. Images that are already arrays need no ImageLoader."
            )
    if array.ndim != 1:
        raise ValueError(f"X must be {accepted}; got an array of paths of shape {array.shape}.")
    return [os.fspath(path) for path in array]
