"""The statistics of residuals, of defect maps and of texture as nodes of an ONNX graph."""

from collections.abc import Callable, Iterator
from functools import cached_property
from math import log, prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.ndimage import gaussian_filter1d

from sklearn_ncae import residuals, texture
from sklearn_ncae._image_arrays import block_means
from sklearn_ncae._onnx_graph import Graph, integers
from sklearn_ncae._pixel_scale import PixelScale
from sklearn_ncae.texture import TextureModel

_ZERO, _ONE = np.float64(0), np.float64(1)


class Residuals:
    """The nodes that the statistics of a residual share, added when first needed.

    Parameters
    ----------
    graph : Graph
    residual : str
        (n, height, width, channels).
    shape : tuple of (int, int, int)
        Height, width and channels.
    dtype : dtype
        Of the residual: float32 or float64.
    """

    def __init__(
        self, graph: Graph, residual: str, shape: tuple[int, ...], dtype: DTypeLike
    ) -> None:
        self.graph = graph
        self.residual = residual
        self.shape = shape
        self.n_values = prod(shape)
        self.rounding = 4 * np.finfo(np.dtype(dtype)).eps

    def reduce(self, operator: str, rows: str, *, keepdims: bool = False) -> str:
        return self.graph.reduce(operator, rows, (1,), keepdims)

    def mean_power(self, rows: str, power: int) -> str:
        powers = rows
        for _ in range(power - 1):
            powers = self.graph.add("Mul", powers, rows)
        return self.reduce("ReduceMean", powers)

    @cached_property
    def signed(self) -> str:
        rows = self.graph.reshape(self.residual, (self.n_values,))
        return self.graph.cast(rows, np.float64)

    @cached_property
    def mean(self) -> str:
        return self.reduce("ReduceMean", self.signed)

    @cached_property
    def centred(self) -> str:
        mean = self.reduce("ReduceMean", self.signed, keepdims=True)
        return self.graph.add("Sub", self.signed, mean)

    @cached_property
    def var(self) -> str:
        return self.mean_power(self.centred, 2)

    @cached_property
    def std(self) -> str:
        return self.graph.add("Sqrt", self.var)

    @cached_property
    def standardised(self) -> str:
        # As in residuals.py: where all values are one value but for rounding, 0.
        add = self.graph.add
        rounding = add("Mul", add("Abs", self.mean), np.float64(self.rounding))
        constant = add("LessOrEqual", self.std, rounding)
        inverse = add("Where", constant, _ZERO, add("Div", _ONE, self.positive(self.std)))
        return add("Mul", self.centred, add("Unsqueeze", inverse, integers(1)))

    def positive(self, rows: str) -> str:
        """Lift zeros to the smallest number, for what divides by them or takes their logarithm."""
        return self.graph.add("Max", rows, np.finfo(np.float64).tiny)

    @cached_property
    def minimum(self) -> str:
        return self.reduce("ReduceMin", self.signed)

    @cached_property
    def maximum(self) -> str:
        return self.reduce("ReduceMax", self.signed)

    @cached_property
    def absolute(self) -> str:
        return self.graph.add("Abs", self.signed)

    @cached_property
    def entropy(self) -> str:
        add = self.graph.add
        total = self.reduce("ReduceSum", self.absolute, keepdims=True)
        shares = add("Div", self.absolute, self.positive(total))
        information = add("Mul", shares, add("Log", self.positive(shares)))
        return add("Neg", self.reduce("ReduceSum", information))

    def kurtosis(self) -> str:
        add = self.graph.add
        moment = self.mean_power(self.standardised, 4)
        excess = add("Sub", moment, np.float64(3))
        return add("Where", add("Greater", moment, _ZERO), excess, _ZERO)

    def abs_peak(self) -> str:
        absolute = self.graph.add("Abs", self.graph.cast(self.residual, np.float64))
        maps = self.graph.reduce("ReduceMean", absolute, (3,), False)
        return _peak(self.graph, maps, self.shape[:2], dtype=np.float64)

    def normalized_entropy(self) -> str:
        most = log(self.n_values) if self.n_values > 1 else 1.0
        return self.graph.add("Div", self.entropy, np.float64(most))


#: Every statistic of residuals.STATISTICS, computed as there. A new one is a new line here.
STATISTICS: dict[str, Callable[[Residuals], str]] = {
    "mean": lambda r: r.mean,
    "std": lambda r: r.std,
    "var": lambda r: r.var,
    "kurtosis": lambda r: r.kurtosis(),
    "skewness": lambda r: r.mean_power(r.standardised, 3),
    "range": lambda r: r.graph.add("Sub", r.maximum, r.minimum),
    "min": lambda r: r.minimum,
    "max": lambda r: r.maximum,
    "sum": lambda r: r.reduce("ReduceSum", r.signed),
    "entropy": lambda r: r.entropy,
    "normalized_entropy": lambda r: r.normalized_entropy(),
    "mse": lambda r: r.mean_power(r.signed, 2),
    "abs_mean": lambda r: r.reduce("ReduceMean", r.absolute),
    "abs_max": lambda r: r.reduce("ReduceMax", r.absolute),
    "abs_peak": lambda r: r.abs_peak(),
}


def _peak(
    graph: Graph,
    maps: str,
    shape: tuple[int, ...],
    block_size: int = 1,
    dtype: type = np.float32,
) -> str:
    # Halved and filtered, an identity matrix is the matrix that does both, borders included.
    sigma, halved = residuals._PEAK_SIGMA / 2, 2 // block_size
    down, across = (
        gaussian_filter1d(block_means(np.eye(side), halved, axis=0), sigma, axis=0).astype(dtype)
        for side in shape
    )
    smoothed = _along_both_axes(graph, maps, down, across)
    n_pixels = len(down) * len(across)
    n_brightest = residuals.n_brightest(n_pixels)
    return _mean_of_highest(graph, smoothed, n_pixels, n_brightest)


def _mean_of_highest(graph: Graph, maps: str, n_pixels: int, n_highest: int) -> str:
    pixels = graph.reshape(maps, (n_pixels,))
    highest = graph.add("TopK", pixels, integers(n_highest), n_outputs=2, sorted=0)
    return graph.reduce("ReduceMean", graph.cast(highest, np.float64), (1,), False)


#: Every statistic of residuals.DEFECT_MAP_STATISTICS, from maps (n, *shape), float32.
DEFECT_MAP_STATISTICS: dict[str, Callable[[Graph, str, tuple[int, ...], int], str]] = {
    "defect_peak": _peak,
    "defect_max": lambda graph, maps, shape, block_size: graph.cast(
        graph.reduce("ReduceMax", maps, (1, 2), False), np.float64
    ),
    "defect_mean": lambda graph, maps, shape, block_size: graph.reduce(
        "ReduceMean", graph.cast(maps, np.float64), (1, 2), False
    ),
}


def add_texture(
    graph: Graph,
    model: TextureModel,
    scale: PixelScale,
    pixels: str,
    shape: tuple[int, ...],
    dtype: DTypeLike,
) -> tuple[str, str]:
    """Add the peak of the texture, and its cells.

    The arithmetic is that of texture.py, sum by sum, as a logarithm follows: convolutions, which
    runtimes sum in orders of their own, would not do.

    Parameters
    ----------
    graph : Graph
    model : TextureModel
    scale : PixelScale
    pixels : str
        Images (n, *shape).
    shape : tuple of (int, int, int)
        Height, width and channels.
    dtype : dtype
        Of the images: float32 or float64.

    Returns
    -------
    peak : str
        (n,), float64.
    cells : str
        (n, n_rows, n_columns), float64.
    """
    add = graph.add
    levels = graph.channels_first(pixels, shape)
    size, sides = texture.block_size(shape), texture.shrunk_shape(shape)
    if size > 1 and dtype == np.float64:
        levels = _block_means(graph, levels, shape[:2], (size, size))
    elif size > 1:
        levels = _pool(graph, "AveragePool", levels, shape[:2], (size, size))
    cell = texture.cell_shape(shape)
    cells = _block_means(graph, graph.cast(levels, np.float64), sides, cell)
    brightness, around = _relative_brightness(graph, cells, scale, model.mean.shape[1:])
    parts = []
    for distance in texture._DISTANCES:
        for axis in (2, 3):
            levels = _smooth(graph, levels, sides[axis - 2], distance, axis)
        for line in _compare(graph, levels, sides, distance):
            parts.append(_pool(graph, "MaxPool", line, sides, cell))
    largest = add("Concat", *parts, axis=1)
    largest = add("Max", largest, np.asarray(texture._NOISE * scale.span, dtype))
    contrasts = add("Div", graph.cast(largest, np.float64), around)
    roughness = add("Log", add("Add", contrasts, np.float64(texture._FAINTEST)))
    descriptions = add("Concat", brightness, roughness, axis=1)
    standardised = add("Div", add("Sub", descriptions, model.mean), model.deviation)
    rows = graph.reshape(standardised, (model.mean.size,))
    # Once and in float32 in the file, of which they are most.
    components = add("Identity", model.components.reshape(len(model.components), -1))
    components = graph.cast(components, np.float64)
    code = add("MatMul", rows, add("Transpose", components, perm=[1, 0]))
    usual = add("MatMul", code, components)
    left = graph.reshape(add("Sub", rows, usual), model.mean.shape)
    left = add(
        "Where", add("Greater", add("Abs", left), np.float64(texture._ROUNDING)), left, _ZERO
    )
    left = add("Max", left, add("Mul", left, model._either_way))

    def gathered(part: str) -> str:
        positive = add("Relu", part)
        square = add("Mul", positive, positive)
        cells = graph.reduce("ReduceSum", add("Mul", square, square), (1,), False)
        return _filter_cells(graph, cells, model.mean.shape[1:], texture._REACH, "reflect")

    smoother = add("Mul", left, np.float64(-texture._SMOOTHER))
    cells = add("Sqrt", add("Sqrt", add("Max", gathered(left), gathered(smoother))))
    n_cells = prod(model.mean.shape[1:])
    return _mean_of_highest(graph, cells, n_cells, texture.n_highest(n_cells)), cells


def add_texture_map(graph: Graph, cells: str, shape: tuple[int, ...]) -> str:
    """Add the map (n, height, width) of texture, float32, from its cells."""
    down, across = (weights.astype(np.float32) for weights in texture.interpolations(shape))
    return _along_both_axes(graph, graph.cast(cells, np.float32), down, across)


def _relative_brightness(
    graph: Graph, cells: str, scale: PixelScale, sides: tuple[int, ...]
) -> tuple[str, str]:
    add = graph.add
    least = np.float64(scale.least_contrast)
    brightness = add("Relu", add("Sub", cells, np.float64(scale.black)))
    mean = graph.reduce("ReduceMean", brightness, (1, 2, 3), True)
    around = graph.reduce("ReduceMean", brightness, (1,), True)
    around = _filter_cells(graph, around, sides, texture._SURROUNDINGS, "nearest")
    even = add("Add", add("Mul", mean, np.float64(texture._EVEN_LIGHT)), least)
    of_channels = graph.reduce("ReduceMean", brightness, (2, 3), True)
    contrast = add("Mul", add("Sub", brightness, of_channels), np.float64(texture._BRIGHTNESS))
    return add("Div", contrast, add("Add", mean, least)), add("Add", around, even)


def _filter_cells(
    graph: Graph, cells: str, sides: tuple[int, ...], deviation: float, mode: str
) -> str:
    """Filter the last two axes, of these sides, as `scipy.ndimage.gaussian_filter` does."""
    down, across = (gaussian_filter1d(np.eye(side), deviation, axis=0, mode=mode) for side in sides)
    return _along_both_axes(graph, cells, down, across)


def _along_both_axes(graph: Graph, values: str, down: NDArray[Any], across: NDArray[Any]) -> str:
    """Multiply the last two axes by matrices."""
    return graph.add("MatMul", graph.add("MatMul", down, values), across.T)


def _block_means(graph: Graph, levels: str, sides: tuple[int, ...], block: tuple[int, int]) -> str:
    """Average blocks of float64 values, for which runtimes have no AveragePool."""
    down, across = (
        block_means(np.eye(side), step, axis=0) for side, step in zip(sides, block, strict=True)
    )
    return _along_both_axes(graph, levels, down, across)


def _smooth(graph: Graph, levels: str, side: int, distance: int, axis: int) -> str:
    add = graph.add
    margin = integers(0, 0, 0, 0)
    margin[axis] = 2 * distance
    padded = add("Pad", levels, np.concatenate([margin, margin]), mode="edge")

    def shifted(steps: int) -> str:
        start = (2 + steps) * distance
        return add("Slice", padded, integers(start), integers(start + side), integers(axis))

    pairs = [add("Add", shifted(-2), shifted(2)), add("Add", shifted(-1), shifted(1)), levels]
    outer, inner, centre = (
        # The weights in the number type of the levels.
        add("Mul", pair, add("CastLike", np.float64(weight), levels))
        for pair, weight in zip(pairs, texture._BINOMIAL[:3], strict=True)
    )
    return add("Add", add("Add", outer, inner), centre)


def _compare(graph: Graph, levels: str, sides: tuple[int, ...], distance: int) -> Iterator[str]:
    add = graph.add

    def pad(tensor: str, width: int, mode: str) -> str:
        margin = integers(0, 0, width, width)
        return add("Pad", tensor, np.concatenate([margin, margin]), mode=mode)

    def shifted(padded: str, width: int, down: int, right: int) -> str:
        start = integers(width + down * distance, width + right * distance)
        return add("Slice", padded, start, start + sides, integers(2, 3))

    edged = pad(levels, distance, "edge")
    twice = add("Add", levels, levels)
    margin = texture._LINE[-1] * distance
    for down, right in texture._DIRECTIONS:
        neighbors = [shifted(edged, distance, sign * down, sign * right) for sign in (1, -1)]
        wide = pad(add("Sub", add("Add", *neighbors), twice), margin, "constant")
        line, *others = (
            shifted(wide, margin, step * right, -step * down) for step in texture._LINE
        )
        for other in others:
            line = add("Add", line, other)
        yield add("Abs", line)


def _pool(
    graph: Graph, operator: str, levels: str, sides: tuple[int, ...], block: tuple[int, int]
) -> str:
    """Pool blocks side by side, of which the last may be partial."""
    after = [-side % step for side, step in zip(sides, block, strict=True)]
    return graph.add(operator, levels, kernel_shape=block, strides=block, pads=[0, 0, *after])
