"""Detection, and false alarms where the camera changes, on drawn products of several kinds.

The sets of real images of the other benchmarks are gray and their parts lie alike. Here are
products that are not so: in any pose, in colour, on a black background, or a surface of which each
image shows another place. They are drawn, and easier than real ones: the figures say which kinds
the defaults suit, and not how good they are.

    python benchmarks/drawn_products.py
    python benchmarks/drawn_products.py --texture-only
    python benchmarks/drawn_products.py --write  # docs/benchmarks/drawn_products.md
"""

import argparse
import os
from collections.abc import Callable
from datetime import date
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from detection_report import table
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.spatial import cKDTree
from sklearn.metrics import roc_auc_score

import sklearn_ncae
from sklearn_ncae import NCAEDetector, NeighborConv2D, network, texture
from sklearn_ncae.residuals import DEFECT_MAP_STATISTICS
from sklearn_ncae.texture import TextureDetector

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks" / "drawn_products.md"
SIDE = 128
N_TRAIN, N_GOOD, N_DEFECTIVE = 100, 150, 75
Floats = NDArray[np.float64]
Random = np.random.RandomState

ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.float64)
MIDDLE = (SIDE - 1) / 2


def noise(random: Random, sigma: float) -> Floats:
    """Draw smooth noise of mean 0 and deviation 1."""
    values = gaussian_filter(random.standard_normal((SIDE, SIDE)), sigma, mode="wrap")
    return values / values.std()


def turned(place: ArrayLike, angle: float) -> tuple[Floats, Floats]:
    """Return how far each pixel is from a place, along a direction and across it."""
    row, column = np.asarray(place)
    down, right = ROWS - row, COLUMNS - column
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * down + sine * right, cosine * right - sine * down


def spot(random: Random, inside: NDArray[np.bool_], radius: tuple[float, float]) -> Floats:
    """Draw a soft ellipse around a pixel that is inside the part, from 0 to 1."""
    place = np.argwhere(inside)[random.randint(inside.sum())]
    angle, longer = random.uniform(0, np.pi), random.uniform(*radius)
    shorter = longer * random.uniform(0.3, 1)
    along, across = turned(place, angle)
    return np.clip(2 * (1.3 - np.hypot(along / longer, across / shorter)), 0, 1)


def finished(image: Floats, random: Random) -> NDArray[np.uint8]:
    """Add an exposure and the noise of a camera, but none where the image is black."""
    exposed = image * random.uniform(0.95, 1.05) + 2 * random.standard_normal(image.shape)
    return np.where(image > 0, np.clip(np.rint(exposed), 0, 255), 0).astype(np.uint8)


def cloth(random: Random, *, defective: bool) -> NDArray[np.uint8]:
    """Draw a brown weave that begins anywhere; a stain of another tint, or a pulled thread."""
    down, right = random.uniform(0, 7, 2)
    warp = np.sin(2 * np.pi * (COLUMNS + right + 0.7 * noise(random, 10)) / 6)
    weft = np.sin(2 * np.pi * (ROWS + down + 0.7 * noise(random, 10)) / 7)
    weave = 1 + 0.2 * np.maximum(warp, weft) + 0.04 * noise(random, 1)
    image = weave[..., None] * [150, 105, 60]
    if defective:
        mark = spot(random, np.ones((SIDE, SIDE), bool), (4, 10))[..., None]
        tint = [0.85, 1.05, 1.3] if random.randint(2) else [1.15, 1.15, 1.15]
        image = image * (1 - mark + mark * np.array(tint))
    return finished(image, random)


def leather(random: Random, *, defective: bool) -> NDArray[np.uint8]:
    """Draw grains of leather, anywhere on a hide; a cut, a pale scratch or a worn place."""
    seeds = random.uniform(-8, SIDE + 8, (420, 2))
    nearest, _ = cKDTree(seeds).query(np.stack([ROWS, COLUMNS], axis=-1), k=2)
    grain = np.tanh((nearest[..., 1] - nearest[..., 0]) / 2.5)
    image = 90 + 45 * grain + 6 * noise(random, 1) + 6 * noise(random, 12)
    if defective:
        kind = random.randint(3)
        if kind == 2:
            mark = spot(random, np.ones((SIDE, SIDE), bool), (9, 18))
            image += mark * (gaussian_filter(image, 2.5) - image)
        else:
            angle, length = random.uniform(0, np.pi), random.uniform(12, 35)
            along, across = turned(random.uniform(length, SIDE - length, 2), angle)
            inside = (np.abs(along) < length) * np.clip(1.5 - np.abs(across), 0, 1)
            image += inside * (-35, 35)[kind]
    return finished(image, random)


def grain(random: Random, *, defective: bool) -> NDArray[np.uint8]:
    """Draw fine grain that is alike everywhere; a crack, a scratch, a spot or a stain."""
    image = 120 + 25 * (noise(random, 1.2) - 0.8 * noise(random, 3))
    if defective:
        kind = random.randint(4)
        if kind < 2:
            angle, length = random.uniform(0, np.pi), random.uniform(10, 30)
            along, across = turned(random.uniform(length, SIDE - length, 2), angle)
            bent = across + (3 * np.sin(along / 6) if kind == 0 else 0)
            inside = (np.abs(along) < length) * np.clip(1.2 - np.abs(bent), 0, 1)
            image += inside * (-40, 40)[kind]
        else:
            radius = ((3, 6), (10, 20))[kind - 2]
            mark = spot(random, np.ones((SIDE, SIDE), bool), radius)
            image += mark * ((120 - image) * 0.9 if kind == 2 else 22 * random.choice([-1, 1]))
    return finished(image, random)


def nut(random: Random, *, defective: bool) -> NDArray[np.uint8]:
    """Draw a hazelnut in any pose on black; a crack, a hole or a pale spot."""
    angle, squeezed = random.uniform(0, 2 * np.pi), random.uniform(0.85, 1)
    along, across = turned(MIDDLE + random.uniform(-8, 8, 2), angle)
    across /= squeezed
    reach = np.hypot(along, across) / random.uniform(40, 46)
    inside = reach < 1
    ribs = 0.06 * np.sin(across / 2.2 + noise(random, 8))
    shade = np.sqrt(np.clip(1 - 0.8 * reach**2, 0, 1)) * (1 + ribs + 0.03 * noise(random, 1.5))
    image = np.where(inside, 40 + 120 * shade * np.where(along > 25, 1.15, 1), 0)
    if defective:
        kind = random.randint(3)
        mark = spot(random, reach < 0.75, ((10, 20), (3, 5), (5, 9))[kind])
        image *= 1 - mark * (0.35, 0.5, -0.25)[kind] * inside
    return finished(image[..., None] * [1, 0.75, 0.5], random)


def tablet(random: Random, *, defective: bool) -> NDArray[np.uint8]:
    """Draw a white tablet in any pose on gray; a chip, a crack or a speck."""
    turned, moved = random.uniform(0, 2 * np.pi), random.uniform(-5, 5, 2)
    reach = np.hypot(ROWS - MIDDLE, COLUMNS - MIDDLE) / 44
    image = np.where(reach < 1, 205 - 40 * reach**6, 90.0)
    image -= 50 * np.exp(-(((ROWS - MIDDLE) / 2) ** 2)) * (reach < 0.93)
    if defective:
        kind = random.randint(3)
        rim = (reach > 0.85) & (reach < 0.98)
        mark = spot(random, rim if kind == 0 else reach < 0.8, ((4, 8), (8, 15), (1.5, 3))[kind])
        image += mark * (reach < 1) * (-60, -35, -80)[kind]
    cosine, sine = np.cos(turned), np.sin(turned)
    matrix = np.array([[cosine, sine], [-sine, cosine]])
    offset = MIDDLE - matrix @ (MIDDLE + moved)
    image = affine_transform(image, matrix, offset, order=1, cval=90.0)
    return finished(image * (1 + 0.02 * noise(random, 1)), random)


def board(random: Random, *, defective: bool) -> NDArray[np.uint8]:
    """Draw the conductors that all boards have; one is cut, or touches another."""
    plan = Random(7)
    copper = np.zeros((SIDE, SIDE), bool)
    for _ in range(26):
        row, column = plan.randint(4, SIDE - 8, 2)
        length = plan.randint(20, 70)
        if plan.randint(2):
            copper[row : row + 3, column : column + length] = True
        else:
            copper[row : row + length, column : column + 3] = True
    copper = np.roll(copper, random.randint(-1, 2, 2), (0, 1))
    if defective:
        mark = spot(random, gaussian_filter(copper.astype(float), 2) > 0.25, (2.5, 4)) > 0.5
        copper = copper & ~mark if random.randint(2) else copper | mark
    image = 70 + 90 * gaussian_filter(copper.astype(float), 0.6)
    return finished(image * (1 + 0.03 * noise(random, 1)), random)


class Product(NamedTuple):
    """A kind of product: how it is called in the tables, and what draws one."""

    title: str
    draw: Callable[..., NDArray[np.uint8]]


PRODUCTS = {
    "cloth": Product("cloth, in colour, any place", cloth),
    "leather": Product("leather, gray, any place", leather),
    "grain": Product("grain, gray, any place", grain),
    "nut": Product("nut, in colour, any pose, on black", nut),
    "tablet": Product("tablet, gray, any pose", tablet),
    "board": Product("board, gray, all alike", board),
}


def jpeg(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Write and read images as JPEG files of a quality of 90."""
    read = []
    for image in images:
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=90)
        read.append(np.asarray(Image.open(file)))
    return np.stack(read)


def changed(change: Callable[[Floats], Floats]) -> Callable[[Any], NDArray[np.uint8]]:
    """Return a change of images of 8 bits, whose last axes are rows and columns."""

    def apply(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        pixels = images.reshape(*images.shape[:3], -1).astype(np.float64)
        result = np.clip(np.rint(change(np.moveaxis(pixels, 3, 1))), 0, 255).astype(np.uint8)
        return np.moveaxis(result, 1, 3).reshape(images.shape)

    return apply


def with_noise(pixels: Floats, n_levels: float, seed: int) -> Floats:
    """Add noise of some gray levels."""
    return pixels + n_levels * Random(seed).standard_normal(pixels.shape)


SLOPE = (COLUMNS - MIDDLE) / SIDE
#: What may be different about the pictures of the line from those of training.
CHANGES: dict[str, Callable[[Any], NDArray[np.uint8]]] = {
    "nothing": lambda images: images,
    "a fifth less light": changed(lambda x: 0.8 * x),
    "black is 10 of 255 lower": changed(lambda x: x - 10),
    "10 % more light at the right than at the left": changed(lambda x: x * (1 + 0.1 * SLOPE)),
    "40 % more light at the right than at the left": changed(lambda x: x * (1 + 0.4 * SLOPE)),
    "noise of one gray level": changed(partial(with_noise, n_levels=1, seed=9)),
    "noise of four gray levels": changed(partial(with_noise, n_levels=4, seed=9)),
    "JPEG, quality 90": jpeg,
}


def stack(name: str, n: int, seed: int, *, defective: bool = False) -> NDArray[np.uint8]:
    """Draw several products."""
    random = Random(seed)
    return np.stack([PRODUCTS[name].draw(random, defective=defective) for _ in range(n)])


def auc(good: Floats, defective: Floats) -> str:
    """Return the ROC AUC of scores, the lower the more abnormal."""
    labels = np.repeat([0, 1], [len(good), len(defective)])
    return f"{roc_auc_score(labels, -np.concatenate([good, defective])):.3f}"


def flagged(detector: Any, images: NDArray[np.uint8]) -> str:
    """Return the share of images that are called defective."""
    return f"{100 * np.mean(detector.predict(images) == -1):.0f} %"


def repeated_row(train: NDArray[np.uint8], good: NDArray[np.uint8], n_pictures: int) -> list[str]:
    """Return the false alarms where each part was photographed so often, known and not."""
    part = np.repeat(np.arange(len(train) // 2), n_pictures)
    pictures, new = (
        changed(partial(with_noise, n_levels=2, seed=seed))(images)
        for seed, images in enumerate([train[part], good])
    )
    detectors = TextureDetector().fit(pictures), TextureDetector().fit(pictures, groups=part)
    return [flagged(detector, new) for detector in detectors]


def detection_row(
    name: str, kind: str, detector: Any, good: NDArray[np.uint8], defective: NDArray[np.uint8]
) -> list[str]:
    """Return what a fitted detector finds, and the ROC AUC of its defect map if it has one."""
    peaks, likeness = "", ""
    if isinstance(detector, TextureDetector):
        likeness = f"{detector.texture_.likeness:.2f}"
    if hasattr(detector, "defect_map"):
        peak = DEFECT_MAP_STATISTICS["defect_peak"].compute
        peaks = auc(*(-peak(detector.defect_map(images)) for images in (good, defective)))
    scores = detector.score_samples(good), detector.score_samples(defective)
    found = flagged(detector, defective), flagged(detector, good)
    return [PRODUCTS[name].title, kind, likeness, auc(*scores), peaks, *found]


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--products", nargs="+", choices=PRODUCTS, default=list(PRODUCTS))
    parser.add_argument("--texture-only", action="store_true", help="no networks: in seconds")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} too")
    options = parser.parse_args()

    detection, camera, repeated = [], [], []
    for name in options.products:
        print(f"==> {name}", flush=True)
        train = stack(name, N_TRAIN, 0)
        good, defective = stack(name, N_GOOD, 1), stack(name, N_DEFECTIVE, 2, defective=True)
        detectors: dict[str, Any] = {"texture alone": TextureDetector().fit(train)}
        with patch.object(texture, "_BESIDE", 0.0):
            detectors["the same, each cell's own variance"] = TextureDetector().fit(train)
        if not options.texture_only:
            narrower = NCAEDetector(filters=(16, 32, 64), random_state=0)
            detectors["NCAE, outermost level of 16 filters"] = narrower.fit(train)
            # Which do not see a quarter of the pixels.
            with patch.object(network, "_StandardConv2D", NeighborConv2D):
                blind = NCAEDetector(random_state=0).fit(train)
            detectors["NCAE, strides of neighbour convolutions"] = blind
            detectors["NCAE"] = NCAEDetector(random_state=0).fit(train)
        detection += [
            detection_row(name, kind, detector, good, defective)
            for kind, detector in detectors.items()
        ]
        pictures = [change(good) for change in CHANGES.values()]
        for kind in [kind for kind in ("texture alone", "NCAE") if kind in detectors]:
            alarms = [flagged(detectors[kind], images) for images in pictures]
            camera.append([PRODUCTS[name].title, kind, *alarms])
        repeated += [
            [PRODUCTS[name].title, str(n_pictures), *repeated_row(train, good, n_pictures)]
            for n_pictures in (1, 2, 4)
        ]

    lines = [
        *table(
            [
                "",
                "",
                "likeness",
                "ROC AUC",
                "of the peak of its defect map",
                "defects found",
                "false alarms",
            ],
            detection,
        ),
        "",
        "## The camera changes",
        "",
        "Of the good products above, how many are called defective if all pictures are changed.",
        "",
        *table(["", "", *CHANGES], camera),
        "",
        "## Several pictures of each part",
        "",
        f"The false alarms of the texture alone, if {N_TRAIN // 2} training parts are "
        "photographed once or more. The pictures, and those of the new parts, differ in noise of "
        "two gray levels. `groups` are the numbers of the parts.",
        "",
        *table(["", "pictures of each part", "`fit(X)`", "`fit(X, groups=groups)`"], repeated),
    ]
    print("\n".join(lines))
    if options.write:
        introduction = f"""\
---
orphan: true
---

# Drawn products of other kinds

Products that are unlike the real sets of the other benchmarks, with all defaults: {N_TRAIN} good
images of {SIDE} x {SIDE} pixels to train on, {N_GOOD} new good and {N_DEFECTIVE} defective ones to
test on, thresholds for 5 % false alarms, one seed. sklearn-ncae {sklearn_ncae.__version__},
{date.today().isoformat()}.

Drawn products are easier than real ones. What can be read from the tables is which kinds of
products suit the defaults, and which changes of the camera do not. `likeness` is the share of the
variance of the texture that lies between places: near 0 on a surface, larger the more alike parts
lie.

```sh
python benchmarks/drawn_products.py --write
```

"""
        PAGE.write_text(introduction + "\n".join(lines) + "\n")
        print(f"==> Wrote {PAGE}")


if __name__ == "__main__":
    main()
