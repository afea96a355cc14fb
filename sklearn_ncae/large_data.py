"""Scoring of more images than fit into memory, and on more than one machine."""

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from sklearn_ncae._ahead import one_ahead
from sklearn_ncae._optional import import_extra

# What gives one value per image, and its type.
_METHODS: dict[str, Any] = {
    "score_samples": np.float64,
    "decision_function": np.float64,
    "p_values": np.float64,
    "predict": np.int64,
}


@validate_params(
    {
        "estimator": "no_validation",
        "X": "no_validation",
        "method": [StrOptions(set(_METHODS))],
        "chunk_size": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def score_in_chunks(
    estimator: Any, X: Any, *, method: str = "score_samples", chunk_size: int = 256
) -> NDArray[Any]:
    """Score images chunk by chunk, with the next chunk being read while one is scored.

    Memory does not grow with the number of images but for their scores. Of a pipeline, all steps
    but the last read ahead: ``make_pipeline(ImageLoader(n_jobs=2), NCAEDetector())`` decodes files
    with two threads while the network works on the chunk before (a `joblib.parallel_config` around
    the call does not reach them). Of a search around a pipeline, give its ``best_estimator_``.

    Where some files may be damaged, :func:`~sklearn_ncae.file_scoring.score_images` names them; a
    loader that skips them would have black images scored here.

    Parameters
    ----------
    estimator : estimator
        A fitted detector, or a fitted pipeline that ends in one.
    X : sequence or array
        What the estimator takes, as anything with a length that gives a part of itself when
        sliced: a list of paths, an `numpy.ndarray` or `numpy.memmap`, a data set of an HDF5 or
        Zarr file.
    method : {"score_samples", "decision_function", "p_values", "predict"}, \
            default="score_samples"
        What to call.
    chunk_size : int, default=256
        Images in memory at a time are two to three times as many.

    Returns
    -------
    scores : ndarray of shape (n,)
        float64, or int64 for ``"predict"``; the same as ``getattr(estimator, method)(X)``, and
        empty for an empty X.

    Raises
    ------
    NotFittedError, TypeError, ValueError, OSError
        What the estimator raises.

    See Also
    --------
    score_dask : The same on several machines.

    Examples
    --------
    >>> from sklearn_ncae import ResidualDetector
    >>> from sklearn_ncae.baselines import PCAReconstructor
    >>> from sklearn_ncae.datasets import make_castings
    >>> from sklearn_ncae.large_data import score_in_chunks
    >>> images = make_castings(n_good=100, n_defect=20, image_size=(32, 32)).images
    >>> detector = ResidualDetector(PCAReconstructor(5)).fit(images)
    >>> score_in_chunks(detector, images, chunk_size=16).shape
    (120,)
    """
    prepare, score = _stages(estimator, method)
    scores = np.empty(len(X), _METHODS[method])

    def read(start: int) -> tuple[slice, Any]:
        rows = slice(start, start + chunk_size)
        return rows, prepare(X[rows])  # to slice is what reads a memmap or an HDF5 file

    for rows, chunk in one_ahead(read, range(0, len(X), chunk_size)):
        scores[rows] = score(chunk)
    return scores


def _stages(estimator: Any, method: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        return estimator[:-1].transform, getattr(estimator[-1], method)
    if isinstance(estimator, Pipeline):
        estimator = estimator[-1]
    return lambda chunk: chunk, getattr(estimator, method)


@validate_params(
    {"estimator": "no_validation", "X": "no_validation", "method": [StrOptions(set(_METHODS))]},
    prefer_skip_nested_validation=True,
)
def score_dask(estimator: Any, X: Any, *, method: str = "score_samples") -> Any:
    """Score the images of a Dask array, or the files of a Dask bag of paths.

    Nothing is computed yet: ``score_dask(...).compute()`` runs it, on the workers of a
    `dask.distributed.Client` if there is one. The detector is part of the task graph, so that it
    travels to each worker once, and to a worker that replaces a lost one again; the chunks of a
    lost worker are computed by others. Where some files may be damaged, map
    :func:`~sklearn_ncae.file_scoring.score_images` over the bag instead, which names them: an error
    of one file ends the whole, and a loader that skips it would have a black image scored here.

    Parameters
    ----------
    estimator : estimator
        A fitted detector; for a bag of paths, a fitted pipeline that starts with an
        :class:`~sklearn_ncae.ImageLoader`.
    X : dask.array.Array of shape (n, h, w), (n, h, w, c) or (n, n_features), or dask.bag.Bag of str
        Images or paths. A chunk along the first axis, or a partition of the bag, is one task: a few
        hundred images are a good size.
    method : {"score_samples", "decision_function", "p_values", "predict"}, \
            default="score_samples"
        What to call.

    Returns
    -------
    scores : dask.array.Array of shape (n,)
        float64, or int64 for ``"predict"``, in the order and in the chunks of X. Of a bag, whose
        length Dask does not know, the shape is ``(nan,)`` until it is computed.

    Raises
    ------
    ImportError
        If Dask is not installed.
    TypeError
        If X is neither a Dask array nor a Dask bag.

    See Also
    --------
    score_in_chunks : Chunk by chunk without Dask.

    Examples
    --------
    >>> import dask.array as da
    >>> from sklearn_ncae import ResidualDetector
    >>> from sklearn_ncae.baselines import PCAReconstructor
    >>> from sklearn_ncae.datasets import make_castings
    >>> from sklearn_ncae.large_data import score_dask
    >>> images = make_castings(n_good=100, n_defect=20, image_size=(32, 32)).images
    >>> detector = ResidualDetector(PCAReconstructor(5)).fit(images)
    >>> score_dask(detector, da.from_array(images, chunks=(16, -1, -1))).compute().shape
    (120,)
    """
    dask = import_extra("dask", "dask")
    array, bag = import_extra("dask.array", "dask"), import_extra("dask.bag", "dask")
    if isinstance(X, array.Array):
        whole_images = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
        chunks, lengths = whole_images.to_delayed().ravel(), whole_images.chunks[0]
    elif isinstance(X, bag.Bag):
        chunks, lengths = X.to_delayed(), [np.nan] * X.npartitions
    else:
        raise TypeError(
            f"score_dask takes a Dask array of images or a Dask bag of paths, got "
            f"{type(X).__name__}. Make one with dask.array.from_array(X, chunks=(256, -1, -1)) or "
            "dask.bag.from_sequence(paths, partition_size=256)."
        )
    # One task that gives the estimator, on which the task of each chunk depends.
    shared = dask.delayed(estimator, traverse=False)
    score, dtype = dask.delayed(_score_chunk, pure=False), _METHODS[method]
    return array.concatenate(
        [
            array.from_delayed(score(shared, chunk, method), shape=(length,), dtype=dtype)
            for chunk, length in zip(chunks, lengths, strict=True)
        ]
    )


def _score_chunk(estimator: Any, chunk: Any, method: str) -> NDArray[Any]:
    if not hasattr(chunk, "__len__"):
        chunk = list(chunk)
    if len(chunk) == 0:  # such as a partition of a bag of which a filter left nothing
        return np.empty(0, _METHODS[method])
    return np.asarray(getattr(estimator, method)(chunk))


__all__ = ["score_dask", "score_in_chunks"]
