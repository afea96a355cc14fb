"""Find images that show the same photograph: groups for honest splits, and a leakage report.

Each image is described twice by values on rings around a centre: its gray values around its
best-outlined region, after the affine map that makes that region round, and the amplitudes of its
Fourier transform, which do not move when the image is shifted. A rotation of the image is then a
circular shift of the description and a mirror image its reversal, so the best circular correlation
over both is the similarity of two images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from sklearn_ncae._optional import import_extra

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["LeakageReport", "leakage_report", "near_duplicate_groups"]

_SIDE = 128  # pixels of the square thumbnail everything is measured on
_ANGLES = 128
_FREQUENCIES = 24  # kept of each ring's spectrum; the rest is mostly noise and JPEG blocks
_PART_RINGS = np.linspace(0.15, 1.6, 20)  # in radii of the region
_AMPLITUDE_RINGS = np.linspace(3.0, 34.0, 20)  # in periods per thumbnail side
_BLOCK = 192  # images per side of one block of the comparison: about 40 MB of scratch memory

Images = Sequence[Any] | NDArray[Any]
Floats = NDArray[np.float32]


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
    described = _describe(images, "images", n_jobs)
    # Exact copies are compared once: they need no descriptor, and blank images have none.
    _, first, copy_of = np.unique(described.digests, return_index=True, return_inverse=True)
    (spectra,) = _discount_the_common(described.spectra[:, first])
    m = len(first)
    i, j, _ = _similar_pairs(spectra, spectra, threshold, n_jobs, upper=True)
    graph = coo_array((np.ones(len(i), bool), (i, j)), shape=(m, m))
    n_components, component = connected_components(graph, directed=False)
    order = np.argsort(component, kind="stable")
    labels = np.arange(m)
    for members in np.split(order, np.cumsum(np.bincount(component, minlength=n_components))[:-1]):
        if len(members) > 2:
            similarity = _dense_similarity(spectra[:, members], n_jobs)
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
    n_jobs : int, default=None
        Threads. None means 1.

    Returns
    -------
    LeakageReport
        With the pairs in `table`, and `plot()` to see them.

    Raises
    ------
    ValueError, TypeError
        As in :func:`near_duplicate_groups`, or if `max_matches` is not a positive integer or None.
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
    if max_matches is not None and (not isinstance(max_matches, int) or max_matches < 1):
        raise ValueError(f"max_matches={max_matches!r} must be a positive integer or None.")
    pandas = import_extra("pandas", "duplicates")
    old, new = _describe(train, "train", n_jobs), _describe(test, "test", n_jobs)
    new_spectra, old_spectra = _discount_the_common(new.spectra, old.spectra)
    t, r, similarity = _similar_pairs(new_spectra, old_spectra, threshold, n_jobs)
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
        if _is_path(source[0]):
            table[f"{name}_path"] = [str(source[k]) for k in table[name]]
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
            above.imshow(_pixels(self.test_images[row.test]), cmap="gray")
            below.imshow(_pixels(self.train_images[row.train]), cmap="gray")
            above.set_title(f"test {row.test}", fontsize="small")
            kind = "identical" if row.identical else f"{row.similarity:.3f}"
            below.set_title(f"train {row.train}\n{kind}", fontsize="small")
        return figure  # type: ignore[no-any-return]


@dataclass
class _Described:
    spectra: NDArray[np.complex64]  # (2 descriptions, n, frequencies, rings), unit norm or zero
    digests: NDArray[np.str_]  # (n,) of shape, type and pixels


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold!r} must be in (0, 1].")


def _is_path(image: Any) -> bool:
    return isinstance(image, (str, Path))


def _describe(images: Images, name: str, n_jobs: int | None) -> _Described:
    if _is_path(images) or not hasattr(images, "__len__"):
        raise TypeError(
            f"{name} must be an array (n, h, w[, c]) or a sequence of images or paths; "
            f"got {type(images).__name__}. For one folder pass sorted(folder.rglob('*.png'))."
        )
    if isinstance(images, np.ndarray) and images.ndim not in (3, 4) and images.dtype.kind in "biuf":
        raise ValueError(
            f"{name} has shape {images.shape}; expected (n, h, w) or (n, h, w, c). "
            "Reshape flat images first."
        )
    if len(images) == 0:
        raise ValueError(f"{name} is empty; at least one image is needed.")
    import_extra("cv2", "duplicates")
    done = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(_describe_one)(images[k], f"{name}[{k}]") for k in range(len(images))
    )
    return _Described(np.stack([d[0] for d in done], axis=1), np.array([d[1] for d in done]))


def _pixels(image: Any) -> NDArray[Any]:
    if not _is_path(image):
        return np.asarray(image)
    pil = import_extra("PIL.Image", "duplicates")
    with pil.open(image) as file:
        # Gray of any depth stays as it is; palettes, alpha, CMYK and the like become RGB.
        gray = file.mode in ("L", "F", "1") or file.mode.startswith("I")
        return np.asarray(file if gray else file.convert("RGB"))


def _describe_one(image: Any, name: str) -> tuple[NDArray[np.complex64], str]:
    if not _is_path(image) and not isinstance(image, (np.ndarray, list, tuple)):
        raise TypeError(f"{name} must be an array or a path; got {type(image).__name__}.")
    pixels = _pixels(image)
    if _is_path(image):
        name = f"{name} ({str(image)!r})"
    if pixels.dtype.kind not in "biuf":
        raise TypeError(f"{name} must have numeric pixels; got dtype {pixels.dtype}.")
    if pixels.ndim not in (2, 3) or min(pixels.shape[:2]) < 8 or pixels.shape[-1] == 0:
        raise ValueError(
            f"{name} has shape {pixels.shape}; expected (h, w) or (h, w, c) with h, w >= 8."
        )
    if not np.isfinite(pixels).all():
        raise ValueError(f"{name} contains NaN or infinity; fill in or drop such pixels.")
    content = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()
    return _spectra(pixels), f"{pixels.shape}{pixels.dtype.str}{content}"


def _spectra(pixels: NDArray[Any]) -> NDArray[np.complex64]:
    """Both descriptions of one image: shape (2, frequencies, rings), each of norm 1 or zero."""
    import cv2

    gray = pixels.astype(np.float64) if pixels.ndim == 2 else pixels.mean(axis=2, dtype=float)
    low, high = gray.min(), gray.max()
    spectra = np.zeros((2, _FREQUENCIES, len(_PART_RINGS)), np.complex64)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return spectra
    # One thumbnail size makes resized and stretched copies comparable; the blur then hides how
    # sharp each was.
    small = ((gray - low) / (high - low)).astype(np.float32)
    shrink = min(small.shape) >= _SIDE
    small = cv2.resize(
        small, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    )
    small = cv2.GaussianBlur(small, (0, 0), 1.0)
    poses = []
    # The round window has no orientation of its own; the square root keeps the few strongest
    # waves from drowning the others. Half a turn of amplitudes says all.
    window = _round_window()
    faded = window * (small - np.average(small, weights=window))
    amplitude = np.sqrt(np.abs(np.fft.fftshift(np.fft.fft2(faded, (2 * _SIDE, 2 * _SIDE)))))
    origin = np.full(2, float(_SIDE))
    poses.append((amplitude.astype(np.float32), origin, 2 * np.eye(2), _AMPLITUDE_RINGS, np.pi))
    region = _best_outlined_region(small)
    if region is not None:
        poses.append((small, *region, _PART_RINGS, 2 * np.pi))
    for k, (picture, centre, axes, rings, turn) in enumerate(poses):
        angle = np.arange(_ANGLES) * (turn / _ANGLES)
        circle = np.stack([np.cos(angle), np.sin(angle)])
        at = centre[:, None, None] + rings[:, None] * (axes @ circle)[:, None]
        x, y = at.astype(np.float32)
        values = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # Without the mean of each ring, and with the weight growing with frequency, what all
        # parts of one design share (rings, hubs, light falling off) counts little.
        spectrum = np.fft.rfft(values, axis=1).T[1 : _FREQUENCIES + 1] / _ANGLES
        spectrum *= np.arange(1, _FREQUENCIES + 1)[:, None]
        norm = np.linalg.norm(spectrum)
        if norm > 1e-3:  # below, it is rounding noise: blank or perfectly round
            spectra[k] = spectrum / norm
    return spectra


@cache
def _round_window() -> NDArray[np.float64]:
    position = np.linspace(-1, 1, _SIDE + 1)[:-1] + 1 / _SIDE
    radius = np.minimum(np.hypot(position[:, None], position), 1.0)
    return np.asarray(np.cos(np.pi / 2 * radius) ** 2)


def _discount_the_common(*sets: NDArray[np.complex64]) -> list[NDArray[np.complex64]]:
    """Weigh down what all images have in common, as the bars of solar cells.

    The rings of each frequency are whitened, half-way. Because only the covariance of the rings is
    used, which no rotation or mirroring of an image changes, copies stay copies.
    """
    pooled = np.concatenate(sets, axis=1)
    covariance = np.einsum("knfr,knfs->kfrs", pooled.conj(), pooled, optimize=True).real
    n_rings = covariance.shape[-1]
    level = np.trace(covariance, axis1=2, axis2=3).mean(axis=1) / n_rings
    level = np.where(level > 0, level, 1.0)
    covariance += level[:, None, None, None] * np.eye(n_rings)
    values, vectors = np.linalg.eigh(covariance)
    whitener = (vectors / np.sqrt(values)[..., None, :]) @ vectors.swapaxes(2, 3)
    whitened = []
    for spectra in sets:
        spectra = spectra.swapaxes(1, 2) @ whitener.astype(np.float32)
        norm = np.linalg.norm(spectra, axis=(1, 3), keepdims=True)
        spectra /= np.where(norm > 0, norm, 1.0)
        whitened.append(np.ascontiguousarray(spectra.swapaxes(1, 2)))
    return whitened


def _best_outlined_region(small: Floats) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Centre and axes (2, 2) of the ellipse of the closed region with the strongest outline."""
    import cv2

    slope = cv2.magnitude(cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1))
    best, found = 0.0, None
    low, high = np.percentile(small, [2, 98])
    for level in np.linspace(low, high, 14)[1:-1]:
        for side in (small > level, small <= level):
            outlines, _ = cv2.findContours(
                side.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
            )
            for outline in outlines:
                x, y, width, height = cv2.boundingRect(outline)
                cut = min(x, y) == 0 or max(x + width, y + height) == _SIDE
                # Small regions say too little about the image, and cut ones have no fixed shape.
                if cut or cv2.contourArea(outline) < 0.05 * _SIDE**2:
                    continue
                contrast = float(slope[outline[:, 0, 1], outline[:, 0, 0]].mean())
                if contrast > best:
                    best, found = contrast, cv2.moments(outline)
    if found is None:
        return None
    area = found["m00"]
    covariance = np.array([[found["mu20"], found["mu11"]], [found["mu11"], found["mu02"]]]) / area
    centre = np.array([found["m10"], found["m01"]]) / area
    # A filled ellipse of axes L has the covariance L L' / 4.
    return centre, 2 * np.linalg.cholesky(covariance)


def _similarity(a: NDArray[np.complex64], b: NDArray[np.complex64], threshold: float) -> Floats:
    """Best circular correlation of each a with each b, over descriptions, turns and mirroring.

    Values below the threshold may come out as -1.
    """
    frequency = np.arange(1, _FREQUENCIES + 1)
    phase = 2 * np.pi * np.outer(np.arange(_ANGLES // 2), frequency) / _ANGLES
    wave = np.stack([np.cos(phase), -np.sin(phase)], axis=1).astype(np.float32)
    odd, even = frequency % 2 == 1, frequency % 2 == 0
    odd_wave, even_wave = (wave[:, :, part].reshape(len(wave), -1) for part in (odd, even))
    best = np.full(a.shape[1] * b.shape[1], -1.0, np.float32)
    for one, other in zip(a, b, strict=True):
        # No correlation exceeds that of the magnitudes, which costs a hundredth of it.
        bound = np.tensordot(np.abs(one), np.abs(other), ((1, 2), (1, 2))).ravel()
        candidates = np.flatnonzero(bound >= threshold - 1e-4)
        if not len(candidates):
            continue
        one, other = one.transpose(1, 0, 2), other.transpose(1, 2, 0)
        rr, ri, ir, ii = (
            np.matmul(np.ascontiguousarray(p), np.ascontiguousarray(q)).reshape(_FREQUENCIES, -1)
            for p in (one.real, one.imag)
            for q in (other.real, other.imag)
        )
        for sign in (1.0, -1.0):  # -1: mirrored
            for start in range(0, len(candidates), 4096):
                pairs = candidates[start : start + 4096]
                real = rr[:, pairs] + sign * ii[:, pairs]
                imag = ri[:, pairs] - sign * ir[:, pairs]
                # Half a turn more only flips the sign of the odd frequencies: half the work.
                turned = even_wave @ np.concatenate([real[even], imag[even]])
                turned += np.abs(odd_wave @ np.concatenate([real[odd], imag[odd]]))
                best[pairs] = np.maximum(best[pairs], turned.max(axis=0))
    return best.reshape(a.shape[1], b.shape[1])


def _similar_pairs(
    a: NDArray[np.complex64],
    b: NDArray[np.complex64],
    threshold: float,
    n_jobs: int | None,
    upper: bool = False,
) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Pairs that reach the threshold (only i < j with `upper`), block by block."""

    def block(p: int, q: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
        similarity = _similarity(a[:, p : p + _BLOCK], b[:, q : q + _BLOCK], threshold)
        i, j = np.nonzero(similarity >= threshold)
        keep = (i + p < j + q) | (not upper)
        i, j = i[keep], j[keep]
        return i + p, j + q, similarity[i, j]

    found = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(block)(p, q)
        for p in range(0, a.shape[1], _BLOCK)
        for q in range(p if upper else 0, b.shape[1], _BLOCK)
    )
    i, j, similarity = (np.concatenate(part) for part in zip(*found, strict=True))
    return i, j, similarity


def _dense_similarity(spectra: NDArray[np.complex64], n_jobs: int | None) -> Floats:
    i, j, values = _similar_pairs(spectra, spectra, -1.0, n_jobs, upper=True)
    similarity = np.eye(spectra.shape[1], dtype=np.float32)
    similarity[i, j] = similarity[j, i] = values
    return similarity
