"""Find images that show the same photograph: groups for honest splits, and a leakage report."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from sklearn_ncae._image_similarity import (
    Images,
    as_sequence,
    dense_similarity,
    describe,
    discount_the_common,
    is_path,
    read_pixels,
    similar_pairs,
)
from sklearn_ncae._optional import import_extra

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["LeakageReport", "leakage_report", "near_duplicate_groups"]


def near_duplicate_groups(
    images: Images, *, threshold: float = 0.8, n_jobs: int | None = None
) -> NDArray[np.int64]:
    """Group images that are copies of the same photograph.

    Copies are identical files and re-encoded, resized, brightened, contrast-changed, mirrored,
    rotated, slightly shifted or warped (affine) versions. Pass the labels as `groups` to a group
    splitter, so that no copy of a test image is trained on.

    Parameters
    ----------
    images : array of shape (n, h, w) or (n, h, w, c), or sequence of images or paths
        Integer, bool or float values of any range; at least 8 x 8 pixels. In a sequence the images
        may differ in size and be (h, w) or (h, w, c), or paths of files that Pillow can read.
        Colours are averaged to gray.
    threshold : float in (0, 1], default=0.8
        Mean similarity, at most 1, that two groups must have to be joined. Lower finds more
        heavily changed copies; higher keeps more similar but different parts apart.
    n_jobs : int, default=None
        Threads for reading, describing and comparing the images. None means 1.

    Returns
    -------
    ndarray of shape (n,), dtype int64
        Group of each image: 0, 1, ... in order of first appearance.

    Raises
    ------
    ValueError
        If there are no images, an image has another shape, too few pixels or values that are not
        finite, or `threshold` is outside (0, 1].
    TypeError
        If an image is neither an array nor a path.
    OSError
        If a file cannot be read; the message names it.
    ImportError
        If OpenCV, or Pillow for paths, is not installed.

    Notes
    -----
    Pairs that reach the threshold are joined by average linkage, not by single linkage: a chain of
    similar pairs does not join two groups that are unlike as a whole. Identical images always share
    a group.

    Every pair of different images is compared, so the time grows with n squared; memory grows with
    n, and with the square of the largest set of images that are linked by similar pairs. What all
    the given images have in common is weighed down, so the similarity of two images depends a
    little on the others.

    The affine description needs a closed, well-outlined region inside the image (the part, or a
    hole in it). Without one, as for a texture that fills the image, copies are found when rotated
    (square images), mirrored or shifted by a few percent, but often not when stretched or sheared.
    Images without contrast, or perfectly round, are only grouped when identical.

    References
    ----------
    J. Matas, O. Chum, M. Urban, T. Pajdla, "Robust wide-baseline stereo from maximally stable
    extremal regions", Image and Vision Computing 22 (2004): affine frames from regions.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae.near_duplicates import near_duplicate_groups
    >>> a, b = np.random.default_rng(0).integers(0, 256, size=(2, 12, 12)).repeat(8, 1).repeat(8, 2)
    >>> near_duplicate_groups([a, b, a[:, ::-1], np.rot90(b) // 2 + 40])
    array([0, 1, 0, 1])
    """
    _check_threshold(threshold)
    described = describe(as_sequence(images, "images"), "images", n_jobs)
    # Exact copies are compared once: they need no descriptor, and blank images have none.
    _, first, copy_of = np.unique(described.digests, return_index=True, return_inverse=True)
    (spectra,) = discount_the_common(described.spectra[:, first])
    m = len(first)
    i, j, _ = similar_pairs(spectra, spectra, threshold, n_jobs, upper=True)
    graph = coo_array((np.ones(len(i), bool), (i, j)), shape=(m, m))
    n_components, component = connected_components(graph, directed=False)
    order = np.argsort(component, kind="stable")
    labels = np.arange(m)
    for members in np.split(order, np.cumsum(np.bincount(component, minlength=n_components))[:-1]):
        if len(members) > 2:
            similarity = dense_similarity(spectra[:, members], n_jobs)
            distance = squareform(np.clip(1.0 - similarity, 0.0, 2.0), checks=False)
            cut = fcluster(linkage(distance, "average"), 1.0 - threshold, "distance")
            labels[members] = members[np.unique(cut, return_index=True)[1][cut - 1]]
        else:
            labels[members] = members[0]
    _, start, group = np.unique(labels[copy_of], return_index=True, return_inverse=True)
    renumbered = np.empty(len(start), np.int64)
    renumbered[np.argsort(start)] = np.arange(len(start))
    return np.asarray(renumbered[group])


def leakage_report(
    train: Images,
    test: Images,
    *,
    threshold: float = 0.8,
    max_matches: int | None = 1,
    on_error: str = "raise",
    n_jobs: int | None = None,
) -> LeakageReport:
    """List the test images that have a copy among the training images.

    Parameters
    ----------
    train, test : images
        As in :func:`near_duplicate_groups`.
    threshold : float in (0, 1], default=0.8
        Similarity from which a pair is reported.
    max_matches : int or None, default=1
        Training images to list for each test image, the most similar first; None lists all.
    on_error : {"raise", "skip"}, default="raise"
        What a file does that cannot be read: it raises, or it has no copy, with a warning.
    n_jobs : int, default=None
        Threads. None means 1.

    Returns
    -------
    LeakageReport
        With the pairs in `table`, and `plot()` to see them.

    Raises
    ------
    ValueError, TypeError
        As in :func:`near_duplicate_groups`, or if `max_matches` is not a positive integer or None,
        or `on_error` neither "raise" nor "skip".
    OSError
        If a file cannot be read, with ``on_error="raise"``.
    ImportError
        If OpenCV, pandas, or Pillow for paths, is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae.near_duplicates import leakage_report
    >>> a, b = np.random.default_rng(0).integers(0, 256, size=(2, 12, 12)).repeat(8, 1).repeat(8, 2)
    >>> report = leakage_report(train=[a], test=[b, a, a[::-1]])
    >>> report
    LeakageReport(2 of 3 test images have a copy in train, 1 identical; threshold=0.8)
    >>> report.table[["test", "train", "identical"]].values.tolist()
    [[1, 0, True], [2, 0, False]]
    """
    _check_threshold(threshold)
    if max_matches is not None and (not isinstance(max_matches, Integral) or max_matches < 1):
        raise ValueError(f"max_matches={max_matches!r} must be a positive integer or None.")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error={on_error!r} must be 'raise' or 'skip'.")
    pandas = import_extra("pandas", "duplicates")
    train, test = as_sequence(train, "train"), as_sequence(test, "test")
    old = describe(train, "train", n_jobs, on_error)
    new = describe(test, "test", n_jobs, on_error)
    new_spectra, old_spectra = discount_the_common(new.spectra, old.spectra)
    t, r, similarity = similar_pairs(new_spectra, old_spectra, threshold, n_jobs)
    table = pandas.DataFrame({"test": t, "train": r, "similarity": similarity})
    # Identical pairs come from the digests, so that they are exact and include blank images.
    same = pandas.merge(
        pandas.DataFrame({"test": np.arange(len(new.digests)), "digest": new.digests}),
        pandas.DataFrame({"train": np.arange(len(old.digests)), "digest": old.digests}),
        on="digest",
    )[["test", "train"]].assign(identical=True)
    table = table.merge(same, on=["test", "train"], how="outer")
    table["identical"] = table["identical"].eq(True)
    table.loc[table["identical"], "similarity"] = 1.0
    table = table.sort_values(
        ["test", "identical", "similarity", "train"], ascending=[True, False, False, True]
    )
    if max_matches is not None:
        table = table.groupby("test").head(max_matches)
    table = table.reset_index(drop=True).astype({"similarity": float})
    for name, source in (("test", test), ("train", train)):
        if is_path(source[0]):
            table[f"{name}_path"] = [os.fspath(source[k]) for k in table[name]]
    return LeakageReport(table, threshold, len(train), len(test), train, test)


@dataclass(repr=False)
class LeakageReport:
    """Test images with a copy in the training images, made by :func:`leakage_report`.

    Attributes
    ----------
    table : DataFrame
        One row a pair: `test` and `train` (positions), `similarity` (1 for identical images),
        `identical` (the same pixels), and `test_path` and `train_path` where paths were given.
    threshold : float
        Similarity from which pairs were reported.
    n_train, n_test : int
        Number of images given.
    """

    table: pd.DataFrame
    threshold: float
    n_train: int
    n_test: int
    train_images: Images = field(repr=False)
    test_images: Images = field(repr=False)

    @cached_property
    def leaked(self) -> NDArray[np.bool_]:
        """Which test images have a copy in train: shape (n_test,), bool."""
        leaked = np.zeros(self.n_test, dtype=bool)
        leaked[self.table["test"].to_numpy()] = True
        return leaked

    def __repr__(self) -> str:
        """Say how many test images leaked."""
        identical = self.table.loc[self.table["identical"], "test"].nunique()
        return (
            f"LeakageReport({self.leaked.sum()} of {self.n_test} test images have a copy in train, "
            f"{identical} identical; threshold={self.threshold:g})"
        )

    def plot(self, *, max_pairs: int = 8) -> Figure:
        """Show pairs: test images above, their copies in train below.

        Parameters
        ----------
        max_pairs : int, default=8
            Pairs to show, spread evenly over the table from the least to the most similar.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `max_pairs` is less than 1.
        """
        if max_pairs < 1:
            raise ValueError(f"max_pairs={max_pairs!r} must be at least 1.")
        pyplot = import_extra("matplotlib.pyplot", "plot")
        rows = self.table.sort_values("similarity", kind="stable")
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(max_pairs, len(rows))).astype(int))
        columns = max(1, len(chosen))
        figure, axes = pyplot.subplots(
            2, columns, squeeze=False, figsize=(1.8 * columns, 4.2), layout="constrained"
        )
        for ax in axes.flat:
            ax.set_axis_off()
        figure.suptitle(repr(self)[len("LeakageReport(") : -1], fontsize="small")
        for (above, below), row in zip(axes.T, rows.iloc[chosen].itertuples(), strict=False):
            above.imshow(read_pixels(self.test_images[row.test]), cmap="gray")
            below.imshow(read_pixels(self.train_images[row.train]), cmap="gray")
            above.set_title(f"test {row.test}", fontsize="small")
            kind = "identical" if row.identical else f"{row.similarity:.3f}"
            below.set_title(f"train {row.train}\n{kind}", fontsize="small")
        return figure


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold!r} must be in (0, 1].")
