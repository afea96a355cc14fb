"""The statistics of residuals and of defect maps as nodes of an ONNX graph, in float64."""

from collections.abc import Callable
from functools import cached_property
from math import log, prod

import numpy as np
from scipy.ndimage import gaussian_filter1d

from sklearn_ncae import residuals
from sklearn_ncae._onnx_graph import Graph, integers

_ZERO, _ONE = np.float64(0), np.float64(1)


class Residuals:
    """The nodes that the statistics of a residual share, added when first needed.

    Parameters
    ----------
    graph : Graph
    residual : str
        (n, height, width, channels), of any float dtype.
    shape : tuple of (int, int, int)
        Height, width and channels.
    """

    def __init__(self, graph: Graph, residual: str, shape: tuple[int, ...]) -> None:
        self.graph = graph
        self.residual = residual
        self.shape = shape
        self.n_values = prod(shape)

    def reduce(self, operator: str, rows: str, *, keepdims: bool = False) -> str:
        return self.graph.reduce(operator, rows, (1,), keepdims)

    def mean_power(self, rows: str, power: int) -> str:
        powers = rows
        for _ in range(power - 1):
            powers = self.graph.add("Mul", powers, rows)
        return self.reduce("ReduceMean", powers)

    @cached_property
    def signed(self) -> str:
        rows = self.graph.add("Reshape", self.residual, integers(-1, self.n_values))
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
        rounding = add("Mul", add("Abs", self.mean), np.finfo(np.float64).eps)
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
        return _peak(self.graph, maps, self.shape[:2], np.float64)

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


def _peak(graph: Graph, maps: str, shape: tuple[int, ...], dtype: type = np.float32) -> str:
    # Halved and filtered, an identity matrix is the matrix that does both, borders included.
    sigma = residuals._PEAK_SIGMA / 2
    down, across = (
        gaussian_filter1d(residuals._halved(np.eye(side), 0), sigma, axis=0).astype(dtype)
        for side in shape
    )
    smoothed = graph.add("MatMul", graph.add("MatMul", down, maps), across.T)
    n_pixels = len(down) * len(across)
    pixels = graph.add("Reshape", smoothed, integers(-1, n_pixels))
    n_brightest = max(1, round(residuals._PEAK_SHARE * n_pixels))
    brightest = graph.add("TopK", pixels, integers(n_brightest), n_outputs=2, sorted=0)
    return graph.reduce("ReduceMean", graph.cast(brightest, np.float64), (1,), False)


#: Every statistic of residuals.DEFECT_MAP_STATISTICS, from maps (n, *shape), float32.
DEFECT_MAP_STATISTICS: dict[str, Callable[[Graph, str, tuple[int, ...]], str]] = {
    "defect_peak": _peak,
    "defect_max": lambda graph, maps, _: graph.cast(
        graph.reduce("ReduceMax", maps, (1, 2), False), np.float64
    ),
    "defect_mean": lambda graph, maps, _: graph.reduce(
        "ReduceMean", graph.cast(maps, np.float64), (1, 2), False
    ),
}
