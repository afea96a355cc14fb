"""The inspection report: scored images as one HTML file."""

import base64
import html
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_ncae._atomic import replacing
from sklearn_ncae._labels import check_detection_labels
from sklearn_ncae._optional import import_extra
from sklearn_ncae._overlay import common_scale, map_levels, picture_of, shrunk
from sklearn_ncae._threshold_search import check_costs
from sklearn_ncae.file_scoring import ImageScore, score_images, threshold_of

_DEFAULT_COSTS = {"missed_defect": 10.0, "false_alarm": 1.0}
# Maps are smooth, and the browser enlarges them smoothly.
_MAP_SIDE = 64


def write_report(
    path: str | os.PathLike[str],
    detector: Any,
    X: Any,
    y: ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
    pos_label: Any = None,
    threshold: float | None = None,
    costs: Mapping[str, float] | None = None,
    leakage: Any = None,
    summary: Mapping[str, Any] | None = None,
    title: str = "Inspection report",
    thumbnail_size: int = 128,
    n_jobs: int | None = None,
    progress: Callable[[ImageScore], object] | None = None,
) -> Path:
    """Score images and write what was found into one HTML file.

    The page shows the scores with a threshold that can be dragged, what the threshold costs, ROC
    and precision-recall curves where there are labels, and the images, worst first, with the
    deviations marked. It needs nothing but a browser: no server and no network.

    Parameters
    ----------
    path : str or os.PathLike
        The file to write, such as ``report.html``. An existing one is replaced.
    detector : fitted outlier detector
        Anything with ``score_samples``, or a Pipeline that ends in it. Deviations are marked where
        it has an ``anomaly_map``, ``defect_map`` or ``residual``.
    X : ndarray of shape (n, h, w) or (n, h, w, c), or sequence of str
        Images, or the paths of image files, which are read in chunks.
    y : array-like of shape (n,), default=None
        +1 for good and -1 for a defect, unless `pos_label` is given.
    names : sequence of str, default=None
        Names of the images; by default the paths, or the positions of images in X.
    pos_label : int, bool or str, default=None
        The label that marks a defect where `y` is not in {+1, -1}.
    threshold : float, default=None
        The threshold that the page starts with. By default the detector's ``offset_``.
    costs : mapping, default=None
        ``"missed_defect"`` and ``"false_alarm"``, and optionally ``"defect_rate"``, the share of
        defects in production: what the page starts with. By default a missed defect costs ten
        false alarms.
    leakage : LeakageReport, default=None
        Test images with a copy among the training images, from
        :func:`~sklearn_ncae.near_duplicates.leakage_report` with X (or the same images as paths)
        as `test`: shown as a warning.
    summary : mapping of str to object, default=None
        What is to be said of the detector: names and values, shown as text.
    title : str, default="Inspection report"
        Title of the page.
    thumbnail_size : int, default=128
        Longer side of the pictures in the file, in pixels. They are never enlarged beyond what
        the detector saw.
    n_jobs : int, default=None
        Number of threads that read files.
    progress : callable, default=None
        Called with the :class:`~sklearn_ncae.file_scoring.ImageScore` of each image.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError
        If `X` is empty, or `y`, `names`, `costs` or `thumbnail_size` do not fit.
    ImportError
        If Pillow is not installed.

    Notes
    -----
    A file that cannot be read is listed on the page by name; the others are shown. Names and
    texts are inserted as text, so that no name of a file can become part of the page's code.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sklearn_ncae import ResidualDetector
    >>> from sklearn_ncae.baselines import PCAReconstructor
    >>> from sklearn_ncae.inspection import write_report
    >>> X = np.random.default_rng(0).integers(90, 110, (99, 16, 16), dtype=np.uint8)
    >>> detector = ResidualDetector(PCAReconstructor(4), random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = write_report(Path(folder) / "report.html", detector, X)
    ...     report.read_text(encoding="utf-8")[:15]
    '<!doctype html>'
    """
    if isinstance(X, str | os.PathLike):
        X = [X]
    if len(X) == 0:
        raise ValueError("X holds no image; there is nothing to report.")
    labels = None
    if y is not None:
        labels = check_detection_labels(y, pos_label=pos_label, need_both=False)
    names = None if names is None else list(names)
    for name, given in (("y", labels), ("names", names)):
        if given is not None and len(given) != len(X):
            raise ValueError(f"{name} has {len(given)} entries for {len(X)} images.")
    if thumbnail_size < 16:
        raise ValueError(f"thumbnail_size={thumbnail_size!r} must be at least 16 pixels.")
    if costs is not None:
        check_costs(costs)
    import_extra("PIL.Image", "images")
    threshold = threshold_of(detector) if threshold is None else float(threshold)
    if not math.isfinite(threshold):
        raise ValueError(f"threshold={threshold!r} must be a finite number.")
    scored = score_images(detector, X, names=names, threshold=threshold, maps=True, n_jobs=n_jobs)
    data: dict[str, Any] = {
        "threshold": threshold,
        "costs": {name: float(cost) for name, cost in (costs or _DEFAULT_COSTS).items()},
        "created": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "leaks": _leaks(leakage, names),
        "summary": [[str(key), str(value)] for key, value in (summary or {}).items()],
        **_columns(scored, labels, thumbnail_size, progress),
    }
    page = _page(title, data)
    with replacing(path) as written:
        # A file name may hold bytes that are not text; they are shown as question marks.
        written.write_text(page, encoding="utf-8", errors="replace")
    return Path(path)


def _columns(
    scored: Iterable[ImageScore],
    labels: NDArray[np.int64] | None,
    side: int,
    progress: Callable[[ImageScore], object] | None,
) -> dict[str, Any]:
    """Return what the page knows about the images, one entry per image that was read."""
    columns: dict[str, Any] = {
        name: [] for name in ("names", "scores", "p_values", "labels", "thumbs", "errors")
    }
    maps: list[NDArray[np.float32]] = []
    for i, one in enumerate(scored):
        if progress is not None:
            progress(one)
        if one.image is None:
            columns["errors"].append([one.name, one.error])
            continue
        columns["names"].append(one.name)
        columns["scores"].append(one.score)
        columns["p_values"].append(None if math.isnan(one.p_value) else one.p_value)
        columns["thumbs"].append(_thumbnail(one, side))
        if one.map is not None:
            maps.append(shrunk(one.map, _MAP_SIDE))
        if labels is not None:
            columns["labels"].append(int(labels[i]))
    if labels is None:
        columns["labels"] = None
    columns["maps"] = _map_pictures(maps)
    return columns | {"thumbType": "image/webp"}


def _thumbnail(one: ImageScore, side: int) -> str:
    assert one.image is not None
    picture = picture_of(one.image, one.black_and_white)
    picture.thumbnail((side, side))
    return _encoded(picture, format="WEBP", quality=75)


def _map_pictures(maps: list[NDArray[np.float32]]) -> list[str] | None:
    """Return PNGs of few levels, transparent where nothing deviates; empty if nowhere does."""
    if not maps:
        return None
    low, high = common_scale(maps)
    pictures = [map_levels(one, low, high) for one in maps]
    return ["" if one is None else _encoded(one, format="PNG", optimize=True) for one in pictures]


def _encoded(picture: Any, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _leaks(leakage: Any, names: Sequence[str] | None) -> list[list[Any]]:
    if leakage is None:
        return []
    table = leakage.table
    rows = []
    for row in table.to_dict("records"):
        test, train = row["test"], row["train"]
        shown = names[test] if names is not None else row.get("test_path", test)
        similarity = 1.0 if row["identical"] else min(float(row["similarity"]), 0.999)
        rows.append([str(shown), str(row.get("train_path", train)), similarity])
    return rows


def _page(title: str, data: Mapping[str, Any]) -> str:
    """Fill the template; the data are JSON in which no character can end the script element."""
    folder = files("sklearn_ncae") / "_report"
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    parts = {
        "title": html.escape(title),
        "css": (folder / "report.css").read_text(encoding="utf-8"),
        "js": (folder / "report.js").read_text(encoding="utf-8"),
        "data": text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
    }
    template = (folder / "template.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)
