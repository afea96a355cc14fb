"""Defects drawn into images of good parts, to train a network that repairs and marks them."""

from collections.abc import Callable
from numbers import Integral

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, uniform_filter
from sklearn.utils import check_random_state

from sklearn_ncae._image_arrays import without_mask

Floats = NDArray[np.float32]
# How deep each pixel of a box lies inside a shape, in pixels and negative outside, with the row
# and column of the box's first pixel in the image. The box may stick out of the image.
Shape = tuple[int, int, Floats]
Box = tuple[slice, slice]

_MIN_SIDE = 8
_MASK_THRESHOLD = 0.15  # in standard deviations of the image
_LINE_STEP = 0.7  # pixels between two points of a line: no gap between them is seen
_LINE_REACH = 2  # pixels around a point of a line: half of the widest line and its edge
_LINE_OFFSETS = np.arange(-_LINE_REACH, _LINE_REACH + 1)


def _ellipse(
    height: int, width: int, random_state: RandomState, *, smallest_aspect: float = 0.1
) -> Shape:
    """Draw an ellipse of any direction, from a speck to two fifths of the shorter side."""
    # Evenly on a logarithmic scale: as many small ones as large ones.
    major = np.exp(random_state.uniform(np.log(1.5), np.log(min(height, width) / 5)))
    minor = max(0.75, major * random_state.uniform(smallest_aspect, 1))
    angle = random_state.uniform(0, np.pi)
    sine, cosine = np.sin(angle), np.cos(angle)
    row, column = random_state.uniform(0, height - 1), random_state.uniform(0, width - 1)
    reach_down = np.hypot(major * sine, minor * cosine) + 1
    reach_right = np.hypot(major * cosine, minor * sine) + 1
    top, left = int(row - reach_down), int(column - reach_right)
    rows = np.arange(top, int(row + reach_down) + 2, dtype=np.float32)[:, np.newaxis] - row
    columns = np.arange(left, int(column + reach_right) + 2, dtype=np.float32) - column
    along = (columns * cosine + rows * sine) / major
    across = (rows * cosine - columns * sine) / minor
    depth = (1 - np.sqrt(along * along + across * across)) * minor
    return top, left, depth.astype(np.float32)


def _blob(height: int, width: int, random_state: RandomState) -> Shape:
    """Draw the irregular parts of an ellipse where smooth noise is above its mean."""
    top, left, depth = _ellipse(height, width, random_state, smallest_aspect=0.4)
    coarseness = max(0.7, random_state.uniform(0.1, 0.2) * min(depth.shape))
    noise = gaussian_filter(
        random_state.standard_normal(depth.shape).astype(np.float32), coarseness, truncate=2
    )
    noise -= noise.mean()
    # Smooth noise climbs by about its standard deviation over its coarseness: this is in pixels.
    noise *= coarseness / noise.std()
    return top, left, np.minimum(depth, noise)


def _line(height: int, width: int, random_state: RandomState, *, bends: float) -> Shape:
    """Draw a line of one to three pixels that turns by about `bends` every now and then."""
    length = random_state.uniform(0.25, 1.2) * min(height, width)
    half_width = random_state.uniform(0.5, 1.5)
    n_points = int(length / _LINE_STEP) + 2
    turns = random_state.normal(0, bends, n_points) * (random_state.random_sample(n_points) < 0.15)
    angles = random_state.uniform(0, 2 * np.pi) + np.cumsum(turns)
    path = np.cumsum(np.stack([np.sin(angles), np.cos(angles)]), axis=1) * _LINE_STEP
    # The middle of the line is inside the image, its ends need not be.
    sides = np.array([[height], [width]])
    path += random_state.uniform(0, 1, (2, 1)) * (sides - 1) - path[:, n_points // 2, np.newaxis]
    path = path[:, ((path >= -_LINE_REACH) & (path < sides + _LINE_REACH)).all(axis=0)]

    pixels = np.rint(path).astype(np.intp)
    first = pixels.min(axis=1, keepdims=True) - _LINE_REACH
    shape = tuple(np.ptp(pixels, axis=1) + 1 + 2 * _LINE_REACH)
    # The distance of every pixel near a point to that point; a pixel keeps its smallest.
    down = (pixels - path)[0, :, np.newaxis] + _LINE_OFFSETS
    right = (pixels - path)[1, :, np.newaxis] + _LINE_OFFSETS
    distance = np.sqrt((down * down)[:, :, np.newaxis] + (right * right)[:, np.newaxis])
    rows, columns = (pixels - first)[:, :, np.newaxis] + _LINE_OFFSETS
    depth = np.full(shape, -1, np.float32)
    np.maximum.at(
        depth.ravel(),
        (rows[:, :, np.newaxis] * shape[1] + columns[:, np.newaxis]).ravel(),
        (half_width - distance).astype(np.float32).ravel(),
    )
    return int(first[0, 0]), int(first[1, 0]), depth


def _crack(height: int, width: int, random_state: RandomState) -> Shape:
    return _line(height, width, random_state, bends=0.7)


def _scratch(height: int, width: int, random_state: RandomState) -> Shape:
    return _line(height, width, random_state, bends=0.0)


def _polygon(height: int, width: int, random_state: RandomState) -> Shape:
    """Draw a large area between two to four straight lines, which may reach the borders."""
    row, column = random_state.uniform(0, height - 1), random_state.uniform(0, width - 1)
    rows = np.arange(height, dtype=np.float32)[:, np.newaxis] - row
    columns = np.arange(width, dtype=np.float32) - column
    depth = np.full((height, width), np.inf, np.float32)
    for _ in range(random_state.randint(2, 5)):
        angle = random_state.uniform(0, 2 * np.pi)
        distance = random_state.uniform(0.01, 0.35) * min(height, width)
        line = distance - np.sin(angle) * rows - np.cos(angle) * columns
        np.minimum(depth, line, out=depth)
    return 0, 0, depth


def _bar(height: int, width: int, random_state: RandomState) -> Shape:
    """Draw a rectangle along the axes, half of the time as thin as a line."""
    sides = np.array([height, width])
    half = np.exp(random_state.uniform(np.log(0.75), np.log(sides / 3)))
    if random_state.random_sample() < 0.5:
        thin = random_state.randint(2)
        half[thin] = random_state.uniform(0.5, 1.5)
        half[1 - thin] = random_state.uniform(0.1, 0.6) * sides[1 - thin]
    centre = random_state.uniform(0, sides - 1)
    top, left = np.maximum(0, centre - half - 2).astype(int)
    bottom, right = np.minimum(sides, centre + half + 3).astype(int)
    rows = np.abs(np.arange(top, bottom, dtype=np.float32) - np.float32(centre[0]))
    columns = np.abs(np.arange(left, right, dtype=np.float32) - np.float32(centre[1]))
    depth = np.minimum(half[0] - rows[:, np.newaxis], half[1] - columns)
    return int(top), int(left), depth.astype(np.float32)


def _color_shift(n_channels: int, random_state: RandomState) -> Floats:
    """Draw a shift of 0.3 to 2.5 in its largest channel, half of the time of gray."""
    size = random_state.uniform(0.3, 2.5)
    color = random_state.uniform(-1, 1, n_channels)
    if random_state.random_sample() < 0.5:
        color[:] = color[0]
    return (size * color / np.abs(color).max()).astype(np.float32)


def _shift(
    images: Floats, index: int, box: Box, scale: np.float32, random_state: RandomState
) -> Floats:
    """Make the image brighter, darker or of another colour."""
    return images[index][box] + scale * _color_shift(images.shape[-1], random_state)


def _paste(
    images: Floats, index: int, box: Box, scale: np.float32, random_state: RandomState
) -> Floats:
    """Show another place of any image of the batch, continued across its borders."""
    _, height, width, _ = images.shape
    source = images[random_state.randint(len(images))]
    rows = (np.arange(box[0].start, box[0].stop) + random_state.randint(height)) % height
    columns = (np.arange(box[1].start, box[1].stop) + random_state.randint(width)) % width
    return source[rows[:, np.newaxis], columns]


def _constant(
    images: Floats, index: int, box: Box, scale: np.float32, random_state: RandomState
) -> Floats:
    """Replace the image by one colour with noise."""
    content = images[index][box]
    noise = random_state.standard_normal(content.shape).astype(np.float32)
    noise *= random_state.uniform(0, 0.5)
    color = images[index].mean(axis=(0, 1))
    return color + scale * (_color_shift(len(color), random_state) + noise)


def _smooth(
    images: Floats, index: int, box: Box, scale: np.float32, random_state: RandomState
) -> Floats:
    """Average the texture away."""
    size = random_state.randint(3, 10)
    return uniform_filter(images[index][box], size=(size, size, 1))


def _contrast(
    images: Floats, index: int, box: Box, scale: np.float32, random_state: RandomState
) -> Floats:
    """Weaken or strengthen the contrast, around another brightness."""
    content = images[index][box]
    mean = content.mean(axis=(0, 1))
    strength = np.float32(random_state.uniform(0.2, 1.6))
    return mean + strength * (content - mean) + scale * _color_shift(len(mean), random_state)


# One of each is drawn per defect. An entry that stands there twice is drawn twice as often.
_SHAPES: tuple[Callable[[int, int, RandomState], Shape], ...] = (
    *(_ellipse, _ellipse),
    _blob,
    *(_crack, _crack),
    _scratch,
    _bar,
    _polygon,
)
_FILLS: tuple[Callable[[Floats, int, Box, np.float32, RandomState], Floats], ...] = (
    *(_shift, _shift, _shift),
    *(_paste, _paste),
    _constant,
    _smooth,
    _contrast,
)


def draw_defects(
    images: ArrayLike,
    *,
    random_state: int | RandomState | None = None,
    probability: float = 0.9,
    max_defects: int = 3,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Draw random defects into a batch of images of good parts.

    Most images get a few shapes: ellipses, irregular blobs, cracks, straight scratches, bars, or
    large areas between straight lines, with hard or soft edges. Each is filled with a shift of
    brightness or colour, a piece of some image of the batch, one colour with noise, or the
    image's own texture smoothed out or with another contrast.

    Any function that takes `images` and `random_state`, and returns images and masks as this one
    does, can stand in for it where the defects of a product are known better. In training it is
    given a `numpy.random.RandomState` and float32 crops of at most 96 by 96 pixels, of images whose
    shorter side has 192 pixels or more those of the means of 2 by 2. They are standardised: changes
    are in standard deviations of the image, not in gray levels. Of its masks, whatever is not 0 is
    a defect.

    Parameters
    ----------
    images : array-like of shape (n, h, w, c)
        Images of any real dtype and scale, with sides of at least 8 pixels. They are not modified.
    random_state : int, RandomState or None, default=None
        Seed. The same integer draws the same defects into the same images; `None` draws new ones
        at each call. NumPy's global generator is neither read nor changed.
    probability : float, default=0.9
        How likely an image is to get any defect, from 0 to 1.
    max_defects : int, default=3
        Such an image gets one to so many defects, each number equally often.

    Returns
    -------
    defective : ndarray of shape (n, h, w, c), dtype float32
        The images with the defects, in the units of `images`.
    masks : ndarray of shape (n, h, w, 1), dtype bool
        True where a channel was changed by more than 0.15 standard deviations of the whole image.

    Raises
    ------
    ValueError
        If `images` is not a batch of real and finite images of at least 8 by 8 pixels,
        `probability` not between 0 and 1, or `max_defects` not an integer of 1
        or more.

    Notes
    -----
    All changes are relative to the standard deviation of the image, so that an image without
    any contrast is only changed by pieces of others. A defect that happens to look like what it
    covers is not in the mask, and an image may so have an empty mask though it got a defect.

    Shapes filled with other image content are an idea of [1]_ and [2]_; noise for irregular
    outlines, and the mask as a second target, of [3]_.

    References
    ----------
    .. [1] C.-L. Li et al., "CutPaste: Self-Supervised Learning for Anomaly Detection and
       Localization", CVPR 2021.
    .. [2] H. M. Schlüter et al., "Natural Synthetic Anomalies for Self-Supervised Anomaly
       Detection and Localization", ECCV 2022.
    .. [3] V. Zavrtanik et al., "DRAEM: A Discriminatively Trained Reconstruction Embedding for
       Surface Anomaly Detection", ICCV 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ncae.defects import draw_defects
    >>> images = np.random.RandomState(0).normal(size=(4, 32, 48, 1))
    >>> defective, masks = draw_defects(images, random_state=0, probability=1.0)
    >>> defective.shape, defective.dtype
    ((4, 32, 48, 1), dtype('float32'))
    >>> masks.shape, masks.dtype
    ((4, 32, 48, 1), dtype('bool'))
    >>> bool(np.all(np.abs(defective - images)[masks] > 0.14))
    True
    """
    given = np.asarray(without_mask(images, "draw_defects"))
    if given.ndim != 4 or given.dtype.kind not in "biuf" or not given.shape[-1]:
        raise ValueError(
            f"images must be real numbers of shape (n, h, w, c), not {given.dtype} of shape "
            f"{given.shape}; a stack of gray images (n, h, w) becomes one by "
            "images[..., numpy.newaxis]."
        )
    n_images, height, width, n_channels = given.shape
    if min(height, width) < _MIN_SIDE:
        raise ValueError(
            f"images are {height} by {width} pixels, but defects need at least {_MIN_SIDE} by "
            f"{_MIN_SIDE}: use larger images or crops."
        )
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be from 0 to 1, not {probability!r}.")
    if not isinstance(max_defects, Integral) or max_defects < 1:
        raise ValueError(
            f"max_defects must be an integer of at least 1, not {max_defects!r}; probability=0 "
            "draws none."
        )
    random_state = RandomState() if random_state is None else check_random_state(random_state)

    clean = given.astype(np.float32, copy=False)
    # Pieces are always taken from the clean images: no defect is passed on to another image.
    defective = clean.copy()
    # By rows of an array with one axis, which NumPy sums much faster than over three.
    scales = clean.reshape(n_images, height * width * n_channels).std(axis=1)
    if not np.isfinite(scales).all():
        raise ValueError(
            "images must be finite in float32, but there are NaN, infinite or huge pixels: "
            "replace or rescale them."
        )
    for index in range(n_images):
        if random_state.random_sample() >= probability:
            continue
        for _ in range(random_state.randint(1, max_defects + 1)):
            shape = _SHAPES[random_state.randint(len(_SHAPES))]
            fill = _FILLS[random_state.randint(len(_FILLS))]
            top, left, depth = shape(height, width, random_state)
            depth = depth[max(-top, 0) : height - top, max(-left, 0) : width - left]
            top, left = max(top, 0), max(left, 0)
            box = slice(top, top + depth.shape[0]), slice(left, left + depth.shape[1])
            # A hard edge is one pixel wide, the softest reaches the middle of the shape.
            edge = 1.0
            if random_state.random_sample() < 0.5:
                edge += random_state.random_sample() * max(0.0, float(depth.max()) - 0.5)
            opacity = np.clip((depth + 0.5) / edge, 0, 1)[:, :, np.newaxis]
            content = fill(clean, index, box, scales[index], random_state)
            target = defective[index][box]
            target += opacity * (content - target)
    # Rounding is no change.
    rounding = 4 * np.finfo(np.float32).eps * np.abs(clean).max(axis=(1, 2, 3))
    thresholds = np.maximum(_MASK_THRESHOLD * scales, rounding)[:, np.newaxis, np.newaxis]
    masks = np.zeros((n_images, height, width, 1), bool)
    # NumPy is slow along an axis as short as the channels.
    for channel in range(n_channels):
        change = np.abs(defective[..., channel] - clean[..., channel])
        masks[..., 0] |= change > thresholds
    return defective, masks
