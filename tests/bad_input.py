"""Input of every kind, for the test of bad input and for the page of the documentation on it.

A case of `ARRAYS` makes from a stack of eight 16 x 16 images, uint8, what a tool is given. What it
answers has to be an error, or equal what it answers to the same values as a plain float64 array.
A case of `FILES` writes what is read: it holds the image, or is refused by name.
"""

import io
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse
from sklearn.base import clone

from sklearn_ncae import (
    KerasReconstructor,
    NCAEDetector,
    NCAEReconstructor,
    ResidualDetector,
    ResidualStatistics,
)
from sklearn_ncae.baselines import MeanBrightnessDetector, PCAReconstructor
from sklearn_ncae.defects import draw_defects
from sklearn_ncae.metrics import aupro_score, pixel_roc_auc_score
from sklearn_ncae.model_selection import TunedThresholdDetector
from sklearn_ncae.near_duplicates import near_duplicate_groups
from sklearn_ncae.network import build_network
from sklearn_ncae.onnx import OnnxDetector, export
from sklearn_ncae.residuals import residual_image
from sklearn_ncae.texture import TextureDetector

# What a tool may raise; some take paths as well, and would look for the file.
ANSWERS = (TypeError, ValueError, FileNotFoundError)

# The tools that are given made-up arrays as well.
GENERATED = [
    "NCAEDetector.score_samples",
    "ResidualDetector.score_samples",
    "ResidualStatistics.transform",
    "pixel_roc_auc_score (maps)",
]

# Images of several sizes are what it is made for.
ANSWERED_WITHOUT_REFERENCE = {("near_duplicate_groups", "mixed sizes")}


def example_images(n: int = 8) -> np.ndarray:
    """Stripes and noise: (n, 16, 16), uint8."""
    rng = np.random.default_rng(0)
    stripes = 100 + 60 * np.sin(np.arange(16) * rng.uniform(0.5, 0.7, (n, 1, 1)))
    return (stripes + rng.normal(0, 12, (n, 16, 16))).astype(np.uint8)


def _with(X: np.ndarray, value: Any, dtype: Any = np.float64) -> np.ndarray:
    changed = X.astype(dtype)
    changed[2, 3, 4] = value
    return changed


def _read_only(X: np.ndarray) -> np.ndarray:
    X = X.copy()
    X.flags.writeable = False
    return X


def _memmap(X: np.ndarray) -> np.ndarray:
    with tempfile.TemporaryFile() as file:
        file.write(X.tobytes())
        file.flush()
        return np.memmap(file, X.dtype, "r", shape=X.shape)


ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {
    # Types
    "bool": lambda X: X > 120,
    "int8": lambda X: (X // 2).astype(np.int8),
    "int16": lambda X: X.astype(np.int16) - 300,
    "int32": lambda X: X.astype(np.int32) * 1000,
    "int64": lambda X: X.astype(np.int64) * 2**40,
    "uint16": lambda X: X.astype(np.uint16) * 257,
    "uint64": lambda X: X.astype(np.uint64) * 2**40,
    "float16": lambda X: X.astype(np.float16),
    "float32": lambda X: X.astype(np.float32) / 255,
    "float64": lambda X: X / 255,
    "longdouble": lambda X: X.astype(np.longdouble) / 255,
    "big-endian int16": lambda X: X.astype(">i2"),
    "big-endian float32": lambda X: X.astype(">f4"),
    "complex": lambda X: X + 1j,
    "objects that are numbers": lambda X: X.astype(object),
    "objects that are not": lambda X: _with(X, None, object),
    "strings that are numbers": lambda X: X.astype(str),
    "strings": lambda X: np.full(X.shape, "x"),
    "dates": lambda X: X.astype("datetime64[s]"),
    "time differences": lambda X: X.astype("timedelta64[s]"),
    "records": lambda X: X.astype([("value", "u1")]),
    # Containers
    "list of arrays": list,
    "column of images": lambda X: pd.Series(list(X)),
    "column of images as an array": lambda X: pd.Series(list(X)).to_numpy(),
    "nested lists": lambda X: X.tolist(),
    "tuple of arrays": tuple,
    "memory map": _memmap,
    "read-only": _read_only,
    "Fortran order": np.asfortranarray,
    "every second image": lambda X: np.repeat(X, 2, axis=0)[::2],
    "mirrored view": lambda X: X[:, :, ::-1],
    "nothing masked": lambda X: np.ma.array(X),
    "a masked pixel": lambda X: np.ma.masked_where(np.arange(X.size).reshape(X.shape) == 9, X),
    "list with a masked pixel": lambda X: [np.ma.masked_where(x == x.max(), x) for x in X],
    "DataFrame of pixels": lambda X: pd.DataFrame(X.reshape(len(X), -1)),
    "DataFrame with missing pixels": lambda X: pd.DataFrame(_with(X, np.nan).reshape(len(X), -1)),
    "sparse matrix": lambda X: sparse.csr_array(X.reshape(len(X), -1)),
    "generator": lambda X: (x for x in X),
    "dict": lambda X: {"images": X},
    "None": lambda X: None,
    "a number": lambda X: 3.0,
    "a path": lambda X: "part.png",
    "list of paths": lambda X: ["part_0.png", "part_1.png"],
    "bytes": lambda X: X.tobytes(),
    # Values
    "nan": lambda X: _with(X, np.nan),
    "nan in float16": lambda X: _with(X, np.nan, np.float16),
    "infinity": lambda X: _with(X, np.inf),
    "negative": lambda X: X - 500.0,
    "1e10 times": lambda X: X * 1e10,
    "1e30 times, float32": lambda X: X.astype(np.float32) * np.float32(1e30),
    "1e-30 times, float32": lambda X: X.astype(np.float32) * np.float32(1e-30),
    "1e60 times": lambda X: X * 1e60,
    "1e200 times": lambda X: X * 1e200,
    "one value of 1e308": lambda X: _with(X, 1e308),
    "constant": lambda X: np.full_like(X, 7),
    "all zero": np.zeros_like,
    "all the same image": lambda X: np.repeat(X[:1], len(X), axis=0),
    # Shapes
    "one image in a stack": lambda X: X[:1],
    "one image": lambda X: X[0],
    "one row": lambda X: X[0, 0],
    "no image": lambda X: X[:0],
    "no pixel": lambda X: X[:, :0],
    "empty list": lambda X: [],
    "0-dimensional": lambda X: np.array(3.0),
    "5-dimensional": lambda X: X[..., None, None],
    "one channel": lambda X: X[..., None],
    "colour": lambda X: np.stack([X, X, X], axis=-1),
    "colour with alpha": lambda X: np.stack([X, X, X, X], axis=-1),
    "one channel, channels first": lambda X: X[:, None],
    "colour, channels first": lambda X: np.stack([X, X, X], axis=1),
    "no channel": lambda X: X[..., None][..., :0],
    "images of 1 x 1": lambda X: X[:, :1, :1],
    "images of 3 x 5": lambda X: X[:, :3, :5],
    "images of 320 x 320": lambda X: np.tile(X[:2], (1, 20, 20)),
    "transposed to 8 x 32": lambda X: X.reshape(len(X), 8, 32),
    "mixed sizes": lambda X: [X[0], X[1, :12], X[2]],
    "mixed ranks": lambda X: [X[0], X[1, 0]],
    "flat rows": lambda X: X.reshape(len(X), -1),
}


def _png_of(width: int, height: int) -> bytes:
    """Write a PNG that declares a size and has hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    )


def _encoded(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _rotated(path: Path, gray: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to be upright
    gray.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def _inverted(gray: Image.Image) -> Image.Image:
    return gray.point(lambda value: 255 - value)


def _cmyk(gray: Image.Image) -> Image.Image:
    zero = Image.new("L", gray.size)
    return Image.merge("CMYK", [zero, zero, zero, _inverted(gray)])


def _palette(gray: Image.Image) -> Image.Image:
    image = Image.frombytes("P", gray.size, gray.tobytes())
    image.putpalette([value for level in range(256) for value in (level, level, level)])
    return image


def _deep(gray: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)


# What writes a file, from its path and a gray image, and whether that image is read from it.
FILES: dict[str, tuple[Callable[[Path, Image.Image], Any], bool]] = {
    "gray": (lambda p, g: g.save(p), True),
    "colour": (lambda p, g: g.convert("RGB").save(p), True),
    "colour with alpha": (lambda p, g: g.convert("RGBA").save(p), True),
    "gray with alpha": (lambda p, g: g.convert("LA").save(p), True),
    "palette": (lambda p, g: _palette(g).save(p), True),
    "16 bits": (lambda p, g: _deep(g).save(p), True),
    "16 bits, big-endian TIFF": (
        lambda p, g: Image.frombytes(
            "I;16B", g.size, np.asarray(_deep(g)).astype(">u2").tobytes()
        ).save(p, "tiff"),
        True,
    ),
    "CMYK": (lambda p, g: _cmyk(g).save(p, "tiff"), True),
    "EXIF-rotated": (_rotated, True),
    "TIFF named .png": (lambda p, g: g.save(p, "tiff"), True),
    "animated GIF: the first frame": (
        lambda p, g: _palette(g).save(p, "gif", save_all=True, append_images=[_inverted(g)]),
        True,
    ),
    "TIFF of two pages: the first": (
        lambda p, g: g.save(p, "tiff", save_all=True, append_images=[_inverted(g)]),
        True,
    ),
    "text after the image": (lambda p, g: p.write_bytes(_encoded(g) + b"trailing text"), True),
    "32 bits": (lambda p, g: g.convert("I").save(p, "tiff"), False),
    "floats": (lambda p, g: g.convert("F").save(p, "tiff"), False),
    "CIELAB": (lambda p, g: Image.new("LAB", g.size).save(p, "tiff"), False),
    "truncated PNG": (lambda p, g: p.write_bytes(_encoded(g)[:-40]), False),
    "truncated JPEG": (lambda p, g: p.write_bytes(_encoded(g, "jpeg")[:-40]), False),
    "a flipped byte in a PNG": (
        lambda p, g: p.write_bytes(bytes(b ^ (i == 60) for i, b in enumerate(_encoded(g)))),
        False,
    ),
    "zero bytes": (lambda p, g: p.write_bytes(b""), False),
    "text named .png": (lambda p, g: p.write_text("not an image"), False),
    "HTML named .png": (lambda p, g: p.write_text("<html>404</html>"), False),
    "decompression bomb": (lambda p, g: p.write_bytes(_png_of(100_000, 100_000)), False),
    "size beyond the data": (lambda p, g: p.write_bytes(_png_of(2000, 2000)), False),
    "size of 0": (lambda p, g: p.write_bytes(_png_of(0, 16)), False),
    "a folder": (lambda p, g: p.mkdir(), False),
    "no file": (lambda p, g: None, False),
    "a broken link": (lambda p, g: p.symlink_to("nothing.png"), False),
    "a link to itself": (lambda p, g: p.symlink_to(p.name), False),
    "a link to an image": (
        lambda p, g: (g.save(p.with_name("linked.png")), p.symlink_to("linked.png")),
        True,
    ),
}
NAMES = ["ü ñ 部品 🔩.png", "a b\tc'\"%s{}.png", "-rf.png", "é.PNG", "n" * 250 + ".png"]


def plain(given: Any) -> np.ndarray | None:
    """Give the same values as a plain float64 array, or None if no such array says the same."""
    parts = given if isinstance(given, list | tuple) else [given]
    if any(isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part) for part in parts):
        return None
    try:
        array = np.asarray(given)
        if array.ndim == 1 and array.dtype == object:
            array = np.asarray(list(array))  # a column of images
        return array.astype(np.float64) if array.dtype.kind in "biufO" else None
    except (TypeError, ValueError):
        return None


class Tools:
    """What is tried: each from one input to an array that is compared.

    Parameters
    ----------
    X : ndarray
        Images that the estimators are fitted to.
    """

    NAMES = (
        "NCAEReconstructor.fit",
        "NCAEDetector.score_samples",
        "NCAEDetector.residual",
        "NCAEDetector.anomaly_map",
        "NCAEReconstructor.predict",
        "OnnxDetector.score_samples",
        "ResidualDetector.fit",
        "ResidualDetector.score_samples",
        "KerasReconstructor.predict",
        "TextureDetector.fit",
        "TextureDetector.score_samples",
        "TunedThresholdDetector.fit",
        "ResidualStatistics.transform",
        "residual_image",
        "MeanBrightnessDetector.score_samples",
        "draw_defects",
        "near_duplicate_groups",
        "pixel_roc_auc_score (maps)",
        "aupro_score (maps)",
    )

    def __init__(self, X: np.ndarray) -> None:
        self._network = NCAEReconstructor(
            filters=(2,), training="reconstruct", epochs=1, batch_size=100, random_state=0
        )
        detector = NCAEDetector(
            filters=(2,),
            statistic=["defect_peak", "texture", "mse"],
            contamination=0.2,
            epochs=1,
            random_state=0,
        ).fit(X)
        texture = TextureDetector(contamination=0.2)
        autoencoder = build_network((*X.shape[1:], 1), filters=(2,))
        keras_reconstructor = KerasReconstructor(autoencoder, loss="mse", optimizer="sgd").fit(X)
        brightness = MeanBrightnessDetector().fit(X)
        tuned = TunedThresholdDetector(brightness, cv="prefit", refit=False)
        labels = np.repeat([1, -1], [6, 2])
        truth = np.zeros(X.shape, bool)
        truth[:, 2:5, 3:9] = True
        self.by_name: dict[str, Callable[[Any], Any]] = {
            "NCAEReconstructor.fit": self._fit_network,
            "NCAEDetector.score_samples": detector.score_samples,
            "NCAEDetector.residual": detector.residual,
            "NCAEDetector.anomaly_map": detector.anomaly_map,
            "NCAEReconstructor.predict": detector.reconstructor_.predict,
            "OnnxDetector.score_samples": _exported(detector).score_samples,
            "ResidualDetector.fit": self._fit_pca,
            "ResidualDetector.score_samples": self._pca().fit(X).score_samples,
            "KerasReconstructor.predict": keras_reconstructor.predict,
            "TextureDetector.fit": lambda X: texture.fit(X).offset_,
            "TextureDetector.score_samples": clone(texture).fit(X).score_samples,
            "TunedThresholdDetector.fit": lambda X: tuned.fit(X, labels).offset_,
            "ResidualStatistics.transform": ResidualStatistics().transform,
            "residual_image": lambda given: residual_image(given, X),
            "MeanBrightnessDetector.score_samples": brightness.score_samples,
            "draw_defects": lambda X: draw_defects(_with_channel(X), random_state=0)[0],
            "near_duplicate_groups": near_duplicate_groups,
            "pixel_roc_auc_score (maps)": lambda X: pixel_roc_auc_score(truth, X),
            "aupro_score (maps)": lambda X: aupro_score(truth, X),
        }

    def _pca(self) -> ResidualDetector:
        return ResidualDetector(PCAReconstructor(2), contamination=0.2)

    def _fit_network(self, given: Any) -> np.ndarray:
        # One step of training: more would make rounding visible.
        return np.concatenate([np.ravel(w) for w in self._network.fit(given).weights_])

    def _fit_pca(self, given: Any) -> float:
        return self._pca().fit(given).offset_


def _exported(detector: NCAEDetector) -> OnnxDetector:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "detector.onnx")
        export(detector, path, dtype="float64")
        return OnnxDetector(path, n_threads=1)


def _with_channel(X: Any) -> Any:
    return X[..., None] if isinstance(X, np.ndarray) and X.ndim == 3 else X


def answer(tool: Callable[[Any], Any], given: Any) -> np.ndarray | Exception:
    """What a tool returns, as a float64 array, or the error it raises."""
    try:
        return np.asarray(tool(given), dtype=np.float64)
    except ANSWERS as error:
        return error
