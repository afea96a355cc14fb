"""Similarity of images that rotation, mirroring, light, shifts and warps hardly change.

Each image is described twice by values on rings around a centre: its gray values around its
best-outlined region, after the affine map that makes that region round, and the amplitudes of its
Fourier transform, which do not move when the image is shifted. A rotation of the image is then a
circular shift of the description and a mirror image its reversal, so the best circular correlation
over both is the similarity of two images.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from sklearn_ncae._image_arrays import usual_range, without_mask
from sklearn_ncae._optional import import_extra
from sklearn_ncae._warn import warn
from sklearn_ncae.images import _naming, _open_upright

_SIDE = 128  # pixels of the square thumbnail everything is measured on
_ANGLES = 128
_FREQUENCIES = 24  # kept of each ring's spectrum; the rest is mostly noise and JPEG blocks
_PART_RINGS = np.linspace(0.15, 1.6, 20)  # in radii of the region
_AMPLITUDE_RINGS = np.linspace(3.0, 34.0, 20)  # in periods per thumbnail side
_BLOCK = 192  # images per side of one block of the comparison: about 40 MB of scratch memory

Images = Sequence[Any] | NDArray[Any]
Floats = NDArray[np.float32]


@dataclass
class Described:
    spectra: NDArray[np.complex64]  # (2 descriptions, n, frequencies, rings), unit norm or zero
    digests: NDArray[np.str_]  # (n,) of shape, type and pixels


def is_path(image: Any) -> bool:
    return isinstance(image, (str, os.PathLike))


def as_sequence(images: Images, name: str) -> Images:
    """Check that this is several images; anything but an array (a Series, say) becomes a list."""
    if is_path(images) or not hasattr(images, "__len__"):
        raise TypeError(
            f"{name} must be an array (n, h, w[, c]) or a sequence of images or paths; "
            f"got {type(images).__name__}. For one folder pass sorted(folder.rglob('*.png'))."
        )
    if isinstance(images, np.ndarray) and images.ndim not in (3, 4) and images.dtype.kind in "biuf":
        raise ValueError(
            f"{name} has shape {images.shape}; expected (n, h, w) or (n, h, w, c). "
            "Reshape flat images first."
        )
    if hasattr(images, "columns"):
        raise TypeError(
            f"{name} is a DataFrame; give its column of images or paths, such as table['path']."
        )
    if len(images) == 0:
        raise ValueError(f"{name} is empty; at least one image is needed.")
    images = without_mask(images, name)
    return images if isinstance(images, np.ndarray) else list(images)


def describe(images: Images, name: str, n_jobs: int | None, on_error: str = "raise") -> Described:
    """Describe each image by its spectra and its digest.

    With ``on_error="skip"`` a file that cannot be read is like no other image, and is warned of.
    """
    import_extra("cv2", "duplicates")
    errors = []

    def describe_one(image: Any, which: str) -> tuple[NDArray[np.complex64], str]:
        try:
            return _describe_one(image, which)
        except OSError as error:
            if on_error != "skip":
                raise
            errors.append(str(error))
            return _no_spectra(), which

    done = Parallel(n_jobs=n_jobs, require="sharedmem")(
        delayed(describe_one)(images[k], f"{name}[{k}]") for k in range(len(images))
    )
    if errors:
        warn(
            f"{len(errors)} of {len(images)} files of {name} cannot be read, and are not compared: "
            f"{' '.join(errors)}"
        )
    return Described(np.stack([d[0] for d in done], axis=1), np.array([d[1] for d in done]))


def read_pixels(image: Any) -> NDArray[Any]:
    if not is_path(image):
        return np.asarray(image)
    with _naming(image):
        opened, _ = _open_upright(image, "duplicates")
        # Gray of any depth stays as it is; palettes, alpha, CMYK and the like become RGB.
        gray = opened.mode in ("L", "F", "1") or opened.mode.startswith("I")
        return np.asarray(opened if gray else opened.convert("RGB"))


def _describe_one(image: Any, name: str) -> tuple[NDArray[np.complex64], str]:
    if not is_path(image) and not isinstance(image, (np.ndarray, list, tuple)):
        raise TypeError(f"{name} must be an array or a path; got {type(image).__name__}.")
    pixels = read_pixels(image)
    if is_path(image):
        name = f"{name} ({os.fspath(image)!r})"
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


def _no_spectra() -> NDArray[np.complex64]:
    return np.zeros((2, _FREQUENCIES, len(_PART_RINGS)), np.complex64)


def _spectra(pixels: NDArray[Any]) -> NDArray[np.complex64]:
    """Both descriptions of one image: shape (2, frequencies, rings), each of norm 1 or zero."""
    import cv2

    gray = pixels.astype(np.float64) if pixels.ndim == 2 else pixels.mean(axis=2, dtype=float)
    # A hot pixel of 16 bits would be all that two different images have, and have in common.
    low, high = usual_range(gray[np.newaxis, ..., np.newaxis])
    spectra = _no_spectra()
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return spectra
    # One thumbnail size makes resized and stretched copies comparable; the blur then hides how
    # sharp each was.
    small = ((gray.clip(low, high) - low) / (high - low)).astype(np.float32)
    shrink = min(small.shape) >= _SIDE
    small = cv2.resize(
        small, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    )
    small = np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), np.float32)
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


def discount_the_common(*sets: NDArray[np.complex64]) -> list[NDArray[np.complex64]]:
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


def similar_pairs(
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

    found = Parallel(n_jobs=n_jobs, require="sharedmem")(
        delayed(block)(p, q)
        for p in range(0, a.shape[1], _BLOCK)
        for q in range(p if upper else 0, b.shape[1], _BLOCK)
    )
    i, j, similarity = (np.concatenate(part) for part in zip(*found, strict=True))
    return i, j, similarity


def dense_similarity(spectra: NDArray[np.complex64], n_jobs: int | None) -> Floats:
    i, j, values = similar_pairs(spectra, spectra, -1.0, n_jobs, upper=True)
    similarity = np.eye(spectra.shape[1], dtype=np.float32)
    similarity[i, j] = similarity[j, i] = values
    return similarity
