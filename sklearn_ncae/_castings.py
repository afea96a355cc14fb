"""Drawing of machined castings, the images of `datasets.make_castings`.

Lengths are in units of the disc's radius unless a name ends in ``_px``. ``u, v`` are coordinates
of the part, which turn with it; ``x, y`` are those of the image, in which the lamps stand still.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Radii of the part's edges, from the bore outwards.
BORE, HUB, CAVITY, LIP, GROOVE = 0.185, 0.27, 0.52, 0.61, 0.645


class _Part(NamedTuple):
    """Where the part lies, and how it is lit."""

    center: tuple[float, float]  # row and column, in pixels
    radius_px: float
    angle: float
    tilt: float  # the disc's height over its width
    light: tuple[float, float]  # unit vector (x, y) from which the light comes
    x: Floats
    y: Floats
    r: Floats


def draw_casting(
    shape: tuple[int, int], defect: str | None, generator: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw one casting and, where `defect` names one, a defect with its mask."""
    part = _pose(shape, generator)
    image = _draw_part(part, generator)
    # Before the defect, so that one seed draws the same part with and without it.
    noise = generator.standard_normal(shape, dtype=np.float32) * np.float32(2.5)
    mask = np.zeros(shape, dtype=bool)
    if defect is not None:
        _DEFECTS[defect](image, mask, part, generator)
    image += noise
    return np.clip(image, 0, 255).astype(np.uint8), mask


def _pose(shape: tuple[int, int], generator: np.random.Generator) -> _Part:
    height, width = shape
    side = min(shape)
    radius = 0.41 * side * generator.uniform(0.93, 1.05)
    row = (height - 1) / 2 + 0.03 * side * generator.uniform(-1, 1)
    column = (width - 1) / 2 + 0.03 * side * generator.uniform(-1, 1)
    tilt = generator.uniform(0.97, 1.0)
    towards = generator.uniform(0, 2 * np.pi)
    x = ((np.arange(width) - column) / radius).astype(np.float32)[np.newaxis, :]
    y = ((np.arange(height) - row) / (radius * tilt)).astype(np.float32)[:, np.newaxis]
    return _Part(
        center=(row, column),
        radius_px=radius,
        angle=generator.uniform(0, 2 * np.pi),
        tilt=tilt,
        light=(np.cos(towards), np.sin(towards)),
        x=x,
        y=y,
        r=np.sqrt(x * x + y * y),
    )


def _draw_part(part: _Part, generator: np.random.Generator) -> Floats:
    x, y, r = part.x, part.y, part.r
    shape = r.shape
    to_light = (x * part.light[0] + y * part.light[1]).astype(np.float32)
    # Turned metal reflects a lamp along one direction through the centre: a bright bow tie.
    inverse_r = 1 / np.maximum(r, np.float32(0.02))
    gloss = np.zeros(shape, dtype=np.float32)
    for strength, sharpness in ((generator.uniform(15, 30), 2), (generator.uniform(10, 40), 8)):
        lamp = generator.uniform(0, np.pi)
        along = (x * np.float32(np.cos(lamp)) + y * np.float32(np.sin(lamp))) * inverse_r
        gloss += np.float32(strength) * (along * along) ** sharpness
    blotches = _blotches(shape, 9, generator)

    # The table, with the shadow that the part casts away from the light.
    image = generator.uniform(145, 180) + 3 * blotches
    away = np.sqrt((x + 0.05 * part.light[0]) ** 2 + (y + 0.05 * part.light[1]) ** 2)
    depth = np.float32(generator.uniform(40, 80))
    image -= depth * np.exp(-np.maximum(away - 1, 0) * np.float32(12))

    # Turning marks: rings of slightly different brightness, interrupted by blotches.
    rings = generator.normal(0, 1, size=int(1.1 * part.radius_px) + 2).astype(np.float32)
    at_radius = np.minimum((r * np.float32(part.radius_px)).astype(np.intp), len(rings) - 1)
    texture = (4 + 2 * blotches) * rings[at_radius] + 5 * _blotches(shape, 17, generator)

    face = generator.uniform(165, 185) + gloss + texture
    bevel = np.float32(18) * to_light
    dark = generator.uniform(20, 34)
    curve = part.angle + np.arctan2(y, x) + 2.2 * r
    vanes = np.clip(3 * np.cos(generator.integers(6, 8) * curve) - 1.6, 0, 1)
    layers = (
        (1.0, face),
        (GROOVE, 45 + 45 * np.clip(-to_light / GROOVE, 0, 1) + 0.3 * gloss),
        (LIP, face + 12 + bevel),
        (CAVITY, dark + np.float32(generator.uniform(22, 38)) * vanes + 2 * blotches),
        (HUB, face + 8 - bevel),
        (BORE, generator.uniform(110, 150) - 160 * to_light + 4 * blotches),
    )
    for radius, layer in layers:
        coverage = _step((radius - r) * part.radius_px)
        image = image + coverage * (layer - image)
        # A chamfer catches light on one side and is dark on the other.
        edge = np.maximum(1 - np.abs(r - radius) * part.radius_px / 1.2, 0)
        image += np.float32(30 / radius) * edge * (to_light if radius != GROOVE else -to_light)

    slope = generator.uniform(0, 0.15)
    exposure = generator.uniform(0.9, 1.08)
    image *= exposure * (1 + slope * to_light)
    return image.astype(np.float32, copy=False)


def _blotches(shape: tuple[int, int], cells: int, generator: np.random.Generator) -> Floats:
    """Draw smooth noise of standard deviation about 0.6, interpolated from a coarse grid."""
    values = generator.standard_normal((cells, cells), dtype=np.float32)
    rows, columns = (_interpolation(cells, length) for length in shape)
    return np.asarray(rows @ values @ columns.T)


def _interpolation(cells: int, length: int) -> Floats:
    """Matrix of shape (length, cells) that interpolates linearly along one axis."""
    position = np.linspace(0, cells - 1, length)[:, np.newaxis]
    weights: Floats = np.maximum(1 - np.abs(position - np.arange(cells)), 0).astype(np.float32)
    return weights


def _step(distance_px: Floats) -> Floats:
    """Part of a pixel that an edge covers; `distance_px` is positive inside."""
    covered: Floats = np.clip(distance_px + np.float32(0.5), 0, 1)
    return covered


def _window(
    part: _Part, row: float, column: float, reach_px: float
) -> tuple[tuple[slice, slice], Floats, Floats]:
    """Cut out a square around a point; return it with each pixel's offset (down, right) to it."""
    height, width = part.r.shape
    top, left = max(int(row - reach_px), 0), max(int(column - reach_px), 0)
    bottom, right = min(int(row + reach_px) + 2, height), min(int(column + reach_px) + 2, width)
    down = (np.arange(top, bottom) - row).astype(np.float32)[:, np.newaxis]
    across = (np.arange(left, right) - column).astype(np.float32)[np.newaxis, :]
    return (slice(top, bottom), slice(left, right)), down, across


def _pixel(part: _Part, r: float, angle: float) -> tuple[float, float]:
    """Row and column of a point on the part."""
    row = part.center[0] + r * np.sin(angle) * part.radius_px * part.tilt
    return row, part.center[1] + r * np.cos(angle) * part.radius_px


def _draw_blow_hole(
    image: Floats, mask: NDArray[np.bool_], part: _Part, generator: np.random.Generator
) -> None:
    """Draw a dark pit of irregular outline, often with a smaller one beside it."""
    r = generator.uniform(0.70, 0.94) if generator.random() < 0.8 else generator.uniform(0.55, 0.6)
    angle = generator.uniform(0, 2 * np.pi)
    radius_px = max(generator.uniform(0.030, 0.060) * part.radius_px, 1.4)
    for i in range(generator.integers(1, 4)):
        if i > 0:
            r = np.clip(r + generator.normal(0, 0.04), 0.55, 0.95)
            angle += generator.normal(0, 0.09)
            radius_px = max(radius_px * generator.uniform(0.5, 0.9), 1.0)
        row, column = _pixel(part, float(r), angle)
        window, down, across = _window(part, row, column, 2 * radius_px + 3)
        distance = np.sqrt(down * down + across * across)
        around = np.arctan2(down, across)
        outline = np.full_like(distance, radius_px)
        for waves in (2, 3, 5):
            outline += radius_px * generator.normal(0, 0.13) * np.cos(
                waves * around + generator.uniform(0, 2 * np.pi)
            )  # fmt: skip
        coverage = _step(outline - distance)
        # The wall away from the light is lit; opposite, the rim outside shines.
        lit = (across * part.light[0] + down * part.light[1]) / radius_px
        pit = generator.uniform(25, 55) + 50 * np.clip(-lit - 0.3, 0, 1)
        rim = np.maximum(1 - np.abs(distance - outline - 0.8), 0) * np.clip(-lit, 0, 1)
        patch = image[window]
        patch += 35 * rim
        patch += coverage * (pit - patch)
        mask[window] |= coverage > 0.3


def _draw_scratch(
    image: Floats, mask: NDArray[np.bool_], part: _Part, generator: np.random.Generator
) -> None:
    """Draw a thin curved groove across the machined face: dark, with a bright side."""
    length = generator.uniform(0.25, 0.55)
    r = generator.uniform(0.74, 0.88)
    angle = generator.uniform(0, 2 * np.pi)
    # Within 60 degrees of the tangent, or a long scratch would leave the face.
    direction = angle + np.pi / 2 + generator.uniform(-1, 1) * np.pi / 3
    bend = generator.uniform(-0.15, 0.15) * length
    t = np.linspace(-1, 1, 24, dtype=np.float32)
    half = length / 2
    x = r * np.cos(angle) + half * t * np.cos(direction) - bend * (1 - t * t) * np.sin(direction)
    y = r * np.sin(angle) + half * t * np.sin(direction) + bend * (1 - t * t) * np.cos(direction)
    columns = x * part.radius_px
    rows = y * part.radius_px * part.tilt
    row, column = float(rows.mean()), float(columns.mean())
    window, down, across = _window(
        part, part.center[0] + row, part.center[1] + column, half * part.radius_px * 1.2 + 3
    )
    offset_down = (down - (rows - row)[:, np.newaxis, np.newaxis]).astype(np.float32)
    offset_across = (across - (columns - column)[:, np.newaxis, np.newaxis]).astype(np.float32)
    nearest = np.argmin(offset_down**2 + offset_across**2, axis=0)[np.newaxis]
    offset_down = np.take_along_axis(offset_down, nearest, axis=0)[0]
    offset_across = np.take_along_axis(offset_across, nearest, axis=0)[0]
    tangent_down, tangent_across = np.gradient(rows), np.gradient(columns)
    norm = np.hypot(tangent_down, tangent_across)
    normal_down = (tangent_across / norm)[nearest[0]]
    normal_across = (-tangent_down / norm)[nearest[0]]
    aside = offset_down * normal_down + offset_across * normal_across
    beyond = np.abs(offset_down * normal_across - offset_across * normal_down)
    # Scratches fade where the tool left the surface; distances along are to a sample of the curve.
    spacing = float(norm.max())
    pressure = np.clip(1.4 - np.abs(t), 0.35, 1)[nearest[0]]
    pressure *= _step(spacing + 1 - beyond) * (np.abs(part.r[window] - 0.825) < 0.165)
    width_px = max(0.008 * part.radius_px, 0.55) * generator.uniform(1, 1.6)
    furrow = _step(width_px - np.abs(aside)) * pressure
    ridge = _step(width_px - np.abs(aside - 2 * width_px)) * pressure
    patch = image[window]
    patch += ridge * generator.uniform(20, 40)
    patch -= furrow * generator.uniform(60, 95)
    mask[window] |= (furrow > 0.25) | (ridge > 0.5)


def _draw_burr(
    image: Floats, mask: NDArray[np.bool_], part: _Part, generator: np.random.Generator
) -> None:
    """Draw ragged metal that stands out over an edge, with nicks in the edge between."""
    # Outwards over the rim, or inwards over the dark cavity, where metal shows best.
    edge, outwards = (1.0, 1) if generator.random() < 0.7 else (CAVITY, -1)
    extent = max(generator.uniform(0.35, 0.9) / edge**0.5, 9 / (edge * part.radius_px))
    middle = generator.uniform(0, 2 * np.pi)
    height = max(generator.uniform(0.05, 0.09), 2.5 / part.radius_px)
    steps = int(np.clip(extent * edge * part.radius_px / 2, 5, 60))
    profile = height * np.clip(generator.normal(0.45, 0.45, size=steps), -0.35, 1.0)
    profile[np.argmax(profile)] = height  # whatever the draw, something stands out
    profile[0] = profile[-1] = 0
    # Facets that glint or lie in shadow; the highest one in contrast to what is behind it.
    bright = generator.random(size=steps) < (0.4 if outwards == 1 else 0.8)
    bright[np.argmax(profile)] = outwards == -1
    shine = np.where(bright, generator.uniform(215, 245, steps), generator.uniform(40, 90, steps))

    rows, columns = np.nonzero(np.abs(part.r - edge) < 1.5 * height)
    x, y = part.x[0, columns], part.y[rows, 0]
    around = np.arctan2(y, x) - middle
    around = (around + np.pi) % (2 * np.pi) - np.pi
    within = np.abs(around) < extent / 2
    rows, columns, around = rows[within], columns[within], around[within]
    beyond = outwards * (part.r[rows, columns] - edge)

    knots = np.linspace(-extent / 2, extent / 2, steps)
    outline = np.interp(around, knots, profile)
    covered = _step((outline - beyond) * part.radius_px)
    before = _step(-beyond * part.radius_px)
    metal, nick = np.maximum(covered - before, 0), np.maximum(before - covered, 0)
    # Dark along its outline, and glinting inside, as crumpled metal is.
    crest = np.clip(1.5 - (outline - beyond) * part.radius_px, 0, 1)
    colour = np.interp(around, knots, shine) * (1 - 0.55 * crest)
    pixels = image[rows, columns]
    pixels += metal * (colour - pixels)
    pixels += nick * (45 - pixels)
    image[rows, columns] = pixels
    mask[rows, columns] |= np.maximum(metal, nick) > 0.15


_DEFECTS = {"blow_hole": _draw_blow_hole, "scratch": _draw_scratch, "burr": _draw_burr}
