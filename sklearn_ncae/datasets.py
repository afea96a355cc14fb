"""Images of good and defective parts: drawn ones, solar cells, and a user's own folders."""

import os
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from sklearn_ncae._castings import draw_casting
from sklearn_ncae._optional import import_extra
from sklearn_ncae.images import ImageLoader

_DEFECT_KINDS = ("blow_hole", "scratch", "burr")
# What Pillow reads in any installation.
_SUFFIXES = """
.png .apng .jpg .jpeg .jpe .jfif .jp2 .bmp .dib .tif .tiff .webp .gif .pbm .pgm .ppm .pnm .tga .pcx
"""
IMAGE_SUFFIXES = set(_SUFFIXES.split())
_SPLITS = ("train", "test", "val", "validation")
_GOOD_NAMES = ("good", "ok", "ok_front", "normal")

_CASTINGS_DESCR = """\
Drawn castings: discs with hub, lip, groove and vanes, seen from above, as grayscale images. Pose,
lamps, exposure, texture and noise vary from image to image. A defective part has one defect, a
blow hole, a scratch or a burr, whose pixels are True in its mask."""

_ELPV_DESCR = """\
ELPV: electroluminescence images of solar cells, 300x300 pixels, cut from 44 photovoltaic modules,
each with the probability of a defect as judged by experts (0, 1/3, 2/3 or 1).
Images: CC BY-NC-SA 4.0, by way of the PyPI package elpv-dataset; not for commercial use.
Buerhop-Lutz et al. (2018), A benchmark for visual identification of defective solar cells in
electroluminescence imagery, EU PVSEC, doi:10.4229/35thEUPVSEC20182018-5CV.3.15.
Deitsch et al. (2019), Automatic classification of defective photovoltaic module cells in
electroluminescence images, Solar Energy 185, 455-468, doi:10.1016/j.solener.2019.02.067."""


@validate_params(
    {
        "n_good": [Interval(Integral, 0, None, closed="left")],
        "n_defect": [Interval(Integral, 0, None, closed="left")],
        "image_size": [Integral, tuple, list],
        "random_state": [Integral, np.random.RandomState, np.random.Generator, None],
    },
    prefer_skip_nested_validation=True,
)
def make_castings(
    n_good: int = 200,
    n_defect: int = 60,
    *,
    image_size: int | tuple[int, int] = (128, 128),
    random_state: int | np.random.RandomState | np.random.Generator | None = None,
) -> Bunch:
    """Draw machined castings with and without defects.

    The parts look like pump impellers seen from above. They are placed, turned and lit
    differently in every image, so that a defect is easy to see but hard to find by comparing
    pixel by pixel.

    Parameters
    ----------
    n_good : int, default=200
        Number of good parts.
    n_defect : int, default=60
        Number of defective parts. Blow holes, scratches and burrs take turns.
    image_size : int or tuple of (int, int), default=(128, 128)
        Height and width in pixels, at least 16 each; one number means a square.
    random_state : int, RandomState, Generator or None, default=None
        Seed. The same integer draws the same images; `None` draws new ones at each call.

    Returns
    -------
    Bunch
        With the good parts first, then the defective ones:

        images : ndarray of shape (n_good + n_defect, height, width), dtype uint8
            Grayscale images.
        target : ndarray of shape (n_good + n_defect,)
            +1 for a good part, -1 for a defective one.
        masks : ndarray of shape (n_good + n_defect, height, width), dtype bool
            The pixels of the defect.
        kind : ndarray of shape (n_good + n_defect,), dtype object
            "good", "blow_hole", "scratch" or "burr".
        DESCR : str
            What the images are.

    Raises
    ------
    ValueError
        If no image or an image size below 16 is asked for.

    Notes
    -----
    With an integer `random_state`, the good parts are the same whatever `n_defect` is, and the
    defective ones whatever `n_good` is; a larger number appends images. The same defects are
    drawn on a smaller scale in smaller images, but never thinner than about one pixel.

    Examples
    --------
    >>> from sklearn_ncae.datasets import make_castings
    >>> castings = make_castings(4, 2, image_size=(48, 64), random_state=0)
    >>> castings.images.shape, castings.images.dtype
    ((6, 48, 64), dtype('uint8'))
    >>> castings.target
    array([ 1,  1,  1,  1, -1, -1])
    >>> castings.kind[-2:].tolist()
    ['blow_hole', 'scratch']
    """
    size = list(image_size) if isinstance(image_size, tuple | list) else [image_size] * 2
    if len(size) != 2 or not all(isinstance(side, Integral) and side >= 16 for side in size):
        raise ValueError(
            f"image_size must be a side or (height, width), in pixels, at least 16 each; got "
            f"{image_size!r}."
        )
    n = n_good + n_defect
    if n == 0:
        raise ValueError("n_good and n_defect are both 0; ask for at least one image.")
    if isinstance(random_state, np.random.RandomState):
        random_state = int(random_state.randint(2**31))
    good_generator, defect_generator = np.random.default_rng(random_state).spawn(2)

    shape = (int(size[0]), int(size[1]))
    images = np.empty((n, *shape), dtype=np.uint8)
    masks = np.empty((n, *shape), dtype=bool)
    kind = np.full(n, "good", dtype=object)
    for i in range(n_good):
        images[i], masks[i] = draw_casting(shape, None, good_generator)
    for i in range(n_defect):
        defect = _DEFECT_KINDS[i % len(_DEFECT_KINDS)]
        kind[n_good + i] = defect
        images[n_good + i], masks[n_good + i] = draw_casting(shape, defect, defect_generator)
    return Bunch(
        images=images,
        target=np.where(kind == "good", 1, -1),
        masks=masks,
        kind=kind,
        DESCR=_CASTINGS_DESCR,
    )


@validate_params(
    {
        "kind": [StrOptions({"mono", "poly", "all"})],
        "size": [tuple, list, None],
        "uncertain": ["boolean"],
        "n_jobs": [Integral, None],
    },
    prefer_skip_nested_validation=True,
)
def load_elpv(
    *,
    kind: str = "mono",
    size: tuple[int, int] | None = None,
    uncertain: bool = False,
    n_jobs: int | None = None,
) -> Bunch:
    """Load the ELPV images of solar cells from the package ``elpv-dataset``.

    The images are licensed CC BY-NC-SA 4.0 (not for commercial use). They come with the PyPI
    package, which ``pip install "sklearn-ncae[demo]"`` installs; nothing is downloaded here.

    Parameters
    ----------
    kind : {"mono", "poly", "all"}, default="mono"
        Cells of monocrystalline or polycrystalline modules, or both.
    size : tuple of (int, int), default=None
        Height and width to which the images are reduced; `None` keeps 300 x 300.
    uncertain : bool, default=False
        Whether to return also the cells on which the experts did not agree (probability 1/3 or
        2/3). Their target is 0, and they are neither in `train` nor in `test`.
    n_jobs : int, default=None
        Number of threads that read, as in :class:`~sklearn_ncae.images.ImageLoader`.

    Returns
    -------
    Bunch
        In the order of the data set:

        images : ndarray of shape (n_images, height, width), dtype uint8
            Grayscale images.
        target : ndarray of shape (n_images,)
            +1 for probability 0 (good), -1 for probability 1 (defective).
        probability : ndarray of shape (n_images,)
            Probability of a defect: 0, 1/3, 2/3 or 1.
        kind : ndarray of shape (n_images,), dtype object
            "mono" or "poly".
        paths : ndarray of shape (n_images,), dtype object
            The files.
        train, test : ndarray of int
            Indices of the block split, see Notes.
        DESCR : str
            What the images are, their licence, and what to cite.

    Raises
    ------
    ImportError
        If the package ``elpv-dataset`` is not installed.
    ValueError
        If a parameter is out of range.

    Notes
    -----
    Cells of one module resemble each other and stand together in the data set, which does not
    say where a module ends. A random split would put cells of a module on both sides. Here,
    of each kind, the first 60 % are the training block, of which `train` holds the good cells, and
    `test` holds the good and the defective cells of the rest.

    References
    ----------
    .. [1] C. Buerhop-Lutz et al., "A benchmark for visual identification of defective solar cells
       in electroluminescence imagery", EU PVSEC, 2018.
       https://doi.org/10.4229/35thEUPVSEC20182018-5CV.3.15
    .. [2] S. Deitsch et al., "Automatic classification of defective photovoltaic module cells in
       electroluminescence images", Solar Energy 185, 455-468, 2019.
       https://doi.org/10.1016/j.solener.2019.02.067

    Examples
    --------
    >>> from sklearn_ncae.datasets import load_elpv
    >>> cells = load_elpv(kind="mono", size=(64, 64))  # doctest: +SKIP
    >>> cells.images.shape  # doctest: +SKIP
    (901, 64, 64)
    """
    package = import_extra("elpv_dataset", "demo")
    folder = Path(str(package.__file__)).parent / "data"
    rows = [line.split() for line in (folder / "labels.csv").read_text().splitlines()]
    paths = np.array([str(folder / path) for path, _, _ in rows], dtype=object)
    probability = np.array([float(p) for _, p, _ in rows])
    kinds = np.array([name for _, _, name in rows], dtype=object)

    # The blocks are counted over all cells of a kind, so they do not depend on `uncertain`.
    in_train_block = np.zeros(len(rows), dtype=bool)
    for name in ("mono", "poly"):
        of_kind = np.flatnonzero(kinds == name)
        in_train_block[of_kind[: int(0.6 * len(of_kind))]] = True

    target = np.select([probability == 0, probability == 1], [1, -1], 0)
    kept = ((kinds == kind) | (kind == "all")) & ((target != 0) | uncertain)
    return Bunch(
        images=ImageLoader(size=size, n_jobs=n_jobs).fit_transform(paths[kept]),
        target=target[kept],
        probability=probability[kept],
        kind=kinds[kept],
        paths=paths[kept],
        train=np.flatnonzero((in_train_block & (target == 1))[kept]),
        test=np.flatnonzero((~in_train_block & (target != 0))[kept]),
        DESCR=_ELPV_DESCR,
    )


def _walk_images(
    folder: str | os.PathLike[str], onerror: Callable[[OSError], object] | None = None
) -> Iterator[str]:
    """Yield the image files of a folder and its subfolders, in the order of their names.

    Parameters
    ----------
    folder : str or os.PathLike
        Links to folders are followed, but for those that lead back. Names that start with a dot
        are left out.
    onerror : callable, default=None
        Called with the error of a folder that cannot be read.

    Yields
    ------
    str
        The paths of files with the suffix of an image.
    """
    # The real paths of each folder and of those above it.
    real_paths = {os.fspath(folder): [os.path.realpath(folder)]}
    for path, subfolders, files in os.walk(folder, onerror=onerror, followlinks=True):
        above = real_paths.pop(path)
        below = {name: os.path.realpath(os.path.join(path, name)) for name in sorted(subfolders)}
        subfolders[:] = [
            name
            for name, real in below.items()
            if not name.startswith(".")
            and not any(os.path.commonpath([real, one]) == real for one in above)
        ]
        for name in subfolders:
            real_paths[os.path.join(path, name)] = [*above, below[name]]
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield os.path.join(path, name)


@validate_params(
    {
        "folder": [str, os.PathLike],
        "good": [str, "array-like"],
        "defect": [str, "array-like", None],
        "load": ["boolean"],
    },
    prefer_skip_nested_validation=False,
)
def load_image_folder(
    folder: str | os.PathLike[str],
    *,
    good: str | Iterable[str] = _GOOD_NAMES,
    defect: str | Iterable[str] | None = None,
    load: bool = True,
    size: tuple[int, int] | None = None,
    mode: str = "gray",
    dtype: str = "uint8",
    n_jobs: int | None = None,
    on_error: str = "raise",
) -> Bunch:
    """Load a folder of images that are sorted into good and defective ones by subfolder.

    Parameters
    ----------
    folder : str or os.PathLike
        Folder with one subfolder per kind of image (``good``, ``scratch``, ...), or with
        ``train`` and ``test`` (or ``val``, ``validation``) that hold these subfolders. The
        layouts of the Kaggle casting data (``train/ok_front``, ``test/def_front``) and of MVTec AD
        (``train/good``, ``test/crack``) are read as they are; ``ground_truth``, where MVTec AD
        keeps masks, is left out. Deeper subfolders belong to the kind above them.
    good : str or list of str, default=("good", "ok", "ok_front", "normal")
        Names of the subfolders of good images, in upper or lower case.
    defect : str or list of str, default=None
        Names of the subfolders of defective images. `None` means all that are not good; otherwise
        images elsewhere are left out.
    load : bool, default=True
        Whether to read the images. Without, only their paths are returned, for a pipeline that
        starts with an :class:`~sklearn_ncae.images.ImageLoader`.
    size : tuple of (int, int), default=None
        Height and width to which the images are brought. With `None` all must have one size.
    mode : {"gray", "color"}, default="gray"
        One channel or three.
    dtype : {"uint8", "uint16", "float32"}, default="uint8"
        Type of the images, see :class:`~sklearn_ncae.images.ImageLoader`.
    n_jobs : int, default=None
        Number of threads that read.
    on_error : {"raise", "skip"}, default="raise"
        What a file does that cannot be read: it raises, or it is left out with a warning that
        names it.

    Returns
    -------
    Bunch
        In the alphabetical order of the paths inside `folder`:

        images : ndarray of shape (n_images, height, width) or (n_images, height, width, 3)
            The images; absent with ``load=False``.
        paths : ndarray of shape (n_images,), dtype object
            The files, as str.
        target : ndarray of shape (n_images,)
            +1 for a good image, -1 for a defective one.
        split : ndarray of shape (n_images,), dtype object
            "train", "test", "val" or "validation"; "" where there is no such folder.
        kind : ndarray of shape (n_images,), dtype object
            Name of the subfolder.
        DESCR : str
            The folder and what was found in it.

    Raises
    ------
    FileNotFoundError
        If `folder` does not exist or is not a folder.
    ValueError
        If it holds no images, none of the `good` subfolders, or not all of the `defect` subfolders
        asked for; the message lists what was found.
    OSError
        If a file cannot be read as an image, with ``on_error="skip"`` if none can.

    Notes
    -----
    Images of one part, or copies of one photograph, may lie on both sides of a split that comes
    with a data set, which makes results look better than they are. In the Kaggle casting data
    they do.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from sklearn_ncae.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("good", "scratch"):
    ...         (Path(folder) / name).mkdir()
    ...         Image.new("L", (8, 6)).save(Path(folder) / name / "0.png")
    ...     parts = load_image_folder(folder)
    >>> parts.images.shape, parts.target.tolist(), parts.kind.tolist()
    ((2, 6, 8), [1, -1], ['good', 'scratch'])
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {str(root)!r}.")
    good_names = _names(good)
    defect_names = None if defect is None else _names(defect)
    if defect_names is not None and (both := good_names & defect_names):
        raise ValueError(f"{sorted(both)} are named both as good and as defect.")

    # (path, split, kind) of every image file that lies in a subfolder.
    found: list[tuple[Path, str, str]] = []
    images_found = map(Path, _walk_images(root))
    for path in sorted(images_found, key=lambda path: path.relative_to(root).as_posix()):
        folders = path.relative_to(root).parts[:-1]
        split = folders[0].lower() if folders and folders[0].lower() in _SPLITS else ""
        below = folders[1:] if split else folders
        if below and below[0].lower() != "ground_truth" and path.is_file():
            found.append((path, split, below[0]))
    if not found:
        raise ValueError(
            f"No images in subfolders of {str(root)!r}. Expected are files "
            f"({', '.join(sorted(IMAGE_SUFFIXES))}) in folders such as good/ and defect/, or "
            "train/good, test/good and test/defect."
        )

    counts: dict[str, int] = {}
    for _, split, name in found:
        label = f"{split}/{name}" if split else name
        counts[label] = counts.get(label, 0) + 1
    listing = ", ".join(f"{label} ({count} images)" for label, count in counts.items())
    present = {name.lower() for _, _, name in found}
    if not good_names & present:
        raise ValueError(
            f"No folder of good images in {str(root)!r}: looked for {sorted(good_names)}, found "
            f"{listing}. Name it with good=..., or pass the folder that holds it."
        )
    if defect_names is not None:
        if missing := defect_names - present:
            raise ValueError(
                f"No defect folders {sorted(missing)} in {str(root)!r}; found {listing}."
            )
        found = [row for row in found if row[2].lower() in good_names | defect_names]

    paths = np.array([str(path) for path, _, _ in found], dtype=object)
    bunch = Bunch(
        paths=paths,
        target=np.array([1 if name.lower() in good_names else -1 for _, _, name in found]),
        split=np.array([split for _, split, _ in found], dtype=object),
        kind=np.array([name for _, _, name in found], dtype=object),
        DESCR=f"Images of {str(root)!r}: {listing}.",
    )
    loader = ImageLoader(size=size, mode=mode, dtype=dtype, n_jobs=n_jobs, on_error=on_error)
    loader.fit(paths)  # checks the parameters
    if load:
        bunch["images"] = loader.transform(paths)
        if unreadable := list(getattr(loader, "unreadable_", ())):
            for name in ("images", "paths", "target", "split", "kind"):
                bunch[name] = np.delete(bunch[name], unreadable, axis=0)
    return bunch


def _names(names: str | Iterable[Any]) -> set[str]:
    """Folder names in lower case."""
    return {str(name).lower() for name in ([names] if isinstance(names, str) else names)}
