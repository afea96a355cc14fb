"""Layouts of image stacks, checked with NumPy alone, for what runs without scikit-learn too."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np


def with_channels(shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of an image with its channels: (h, w) becomes (h, w, 1)."""
    return (*shape, 1) if len(shape) == 2 else tuple(shape)


def as_stack(X: Any, name: str) -> Any:
    """Turn X into an array, where it is not an array, a table or a sparse matrix already."""
    if isinstance(X, str | os.PathLike):
        X = [X]
    if not hasattr(X, "ndim"):
        if isinstance(X, list | tuple) and len(X) > 0 and isinstance(X[0], str | os.PathLike):
            raise TypeError(
                f"{name} takes images, got file paths such as {os.fspath(X[0])!r}. Load them "
                f"first: make_pipeline(ImageLoader(size=...), {name}(...))."
            )
        try:
            X = np.asarray(X)
        except ValueError as error:
            shapes = sorted({np.shape(image) for image in X})
            raise ValueError(
                f"{name} takes images of one size, got shapes {shapes[0]} and {shapes[-1]}. "
                "Resize them, for example with ImageLoader(size=...)."
            ) from error
    if isinstance(X, np.ndarray) and X.dtype.kind in "OUS" and X.ndim == 1 and len(X) > 0:
        what = "file paths" if isinstance(X[0], str | os.PathLike) else f"{type(X[0]).__name__}s"
        raise TypeError(
            f"{name} takes images of one size as an array of numbers, got an array of {what}. "
            f"Load files first: make_pipeline(ImageLoader(size=...), {name}(...))."
        )
    return X


def check_rank(shape: tuple[int, ...], name: str) -> None:
    """Refuse what is neither (n, h, w) nor (n, h, w, c), or has no pixel."""
    if len(shape) not in (3, 4) or 0 in shape:
        raise ValueError(
            f"{name} takes images as (n, height, width), (n, height, width, channels) or "
            f"(n, n_features); got an array of shape {shape}. Reshape your data, for "
            "a single image to image[np.newaxis]."
        )


def check_fitted_shape(shape: tuple[int, ...], fitted: tuple[int, ...], name: str) -> None:
    """Refuse images of another (height, width, channels) than those of fit."""
    if shape != fitted:
        raise ValueError(
            f"{name} was fitted on images of shape {fitted} (height, width, "
            f"channels), got images of shape {shape}. Resize them, for example with "
            "ImageLoader(size=...)."
        )
