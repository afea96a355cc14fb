"""A fitted detector as one ONNX graph, from the pixels to the decision."""

import json
from collections.abc import Callable
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike
from sklearn.utils.validation import check_is_fitted

import sklearn_ncae
from sklearn_ncae._fitted_parts import after_loading
from sklearn_ncae._image_arrays import LARGEST_SINGLE
from sklearn_ncae._onnx_graph import Graph, integers
from sklearn_ncae._onnx_layers import add_network
from sklearn_ncae._onnx_statistics import (
    DEFECT_MAP_STATISTICS,
    STATISTICS,
    Residuals,
    add_texture,
    add_texture_map,
)
from sklearn_ncae._pixel_scale import PixelScale, scale_of
from sklearn_ncae.calibration import promised_rate
from sklearn_ncae.detector import _is_two_sided, _ResidualDetectorBase, needs_detail
from sklearn_ncae.model_selection import TunedThresholdDetector
from sklearn_ncae.network import without_detail
from sklearn_ncae.reconstructor import NCAEReconstructor
from sklearn_ncae.texture import TextureDetector


class Outputs(NamedTuple):
    """What a reconstructor adds to a graph.

    Reconstructions have the shape (n, h, w, c), dtype and unit of the pixels. A network that
    repairs has logits of defect maps (n, height, width) too, one for each block of pixels. Without
    detail, the blocks may be larger than a pixel, and there are no reconstructions then.
    """

    reconstruction: str | None
    logits: str | None = None
    block_size: int = 1


AddReconstructor = Callable[[Graph, Any, str, DTypeLike, bool], Outputs]

# Statistics of the detector and of its graph differ by rounding, by less than this share. A score
# as close to a calibration score or the threshold is equal to it, as is the image it is taken from.
_ROUNDING = 1e-6

# These may be close to 0 whatever the residuals are: rounding, in their powers, is a share of this.
_MAGNITUDES = {"skewness": 10.0, "kurtosis": 10.0}

# Pixels are float32 unless it resolves the range of the training images no finer than this, or does
# not hold sums of their squares.
_RESOLUTION = 1e-6


def export_detector(detector: Any, path: str | PathLike[str], dtype: str, maps: bool) -> None:
    """Write a detector to an ONNX file; see `sklearn_ncae.onnx.export`."""
    detector, offset, shift = _detector_and_offset(detector)
    reconstructor = getattr(detector, "reconstructor_", None)  # of texture alone there is none
    add_reconstructor = None if reconstructor is None else _find_converter(reconstructor)
    scale = scale_of(detector)
    statistics = _joined_statistics(detector)
    names = [name for name, *_ in statistics]
    input_dtype = _sufficient_dtype(scale) if dtype == "auto" else dtype
    height, width, _ = detector.image_shape_
    layout = tuple(detector._layout)

    graph = Graph()
    image = graph.input("image", input_dtype, layout)
    unit = np.result_type(input_dtype, np.float32)
    pixels = graph.cast(graph.reshape(image, detector.image_shape_), unit)
    seen = pixels  # by the network and the texture
    if scale is not None and scale.per_image:
        seen = graph.add("Clip", pixels, *(np.asarray(bound, unit) for bound in scale.bounds))
    outputs = Outputs(None)
    if add_reconstructor is not None:
        detail = maps or needs_detail(names)
        outputs = add_reconstructor(graph, reconstructor, seen, unit, detail)
    values: dict[str, str] = {}
    if outputs.reconstruction is not None:
        residual = graph.add("Sub", pixels, outputs.reconstruction)
        residuals = Residuals(graph, residual, detector.image_shape_, unit)
        values |= {n: STATISTICS[n](residuals) for n in names if n in STATISTICS}
        if maps:
            residual = graph.reshape(residual, layout)
            graph.output("residual", residual, unit, layout)
    maps_of: dict[str, str] = {}  # by the statistic that is their peak
    if outputs.logits is not None and hasattr(detector, "defect_map"):
        marked = graph.add("Sigmoid", outputs.logits)
        maps_of["defect_peak"] = marked
        if maps:
            graph.output("defect_map", marked, np.float32, (height, width))
        size = outputs.block_size
        shape = (-(-height // size), -(-width // size))
        values |= {
            name: DEFECT_MAP_STATISTICS[name](graph, marked, shape, size)
            for name in names
            if name in DEFECT_MAP_STATISTICS
        }
    if "texture" in names:
        assert scale is not None  # what describes texture has one
        texture = detector.texture_ if reconstructor is None else detector._texture
        values["texture"], cells = add_texture(
            graph, texture, scale, seen, detector.image_shape_, unit
        )
        if maps:
            maps_of["texture"] = add_texture_map(graph, cells, detector.image_shape_)
    if maps and any(name in maps_of for name in names):
        joined = [
            _quotient(graph, maps_of[name], np.float32(center), np.float32(reach))
            for name, center, reach in statistics
            if name in maps_of
        ]
        graph.output("anomaly_map", _smooth_maximum(graph, joined), np.float32, (height, width))
    _add_decision(graph, detector, values, offset, shift)
    graph.save(
        path,
        name=type(detector).__name__,
        version=sklearn_ncae.__version__,
        metadata=_metadata(detector, scale, offset, shift),
    )


def _detector_and_offset(detector: Any) -> tuple[Any, float, float]:
    """Look up the detector behind a tuned threshold, that, and what is subtracted from scores."""
    base, tuned = detector, isinstance(detector, TunedThresholdDetector)
    if tuned:
        check_is_fitted(detector)
        base = after_loading(detector.detector_)
    if not isinstance(base, _ResidualDetectorBase | TextureDetector):
        raise TypeError(
            "export takes a fitted NCAEDetector, TextureDetector or ResidualDetector, or a "
            f"TunedThresholdDetector around one; got {detector!r}. Of a pipeline, export the last "
            "step."
        )
    check_is_fitted(base)
    return base, detector.offset_, detector._shift if tuned else 0.0


def _find_converter(reconstructor: Any) -> AddReconstructor:
    if isinstance(reconstructor, NCAEReconstructor):
        return _add_ncae
    # Imports scikeras, which no one else needs.
    from sklearn_ncae.wrappers import KerasReconstructor

    if isinstance(reconstructor, KerasReconstructor):
        return _add_keras
    raise TypeError(
        f"The ONNX export does not know the reconstructor {type(reconstructor).__name__}. It "
        "knows NCAEReconstructor and KerasReconstructor."
    )


def _sufficient_dtype(scale: PixelScale | None) -> str:
    if scale is None:
        return "float32"
    largest = max(abs(scale.low), abs(scale.low + scale.span))
    resolution = np.finfo(np.float32).eps * largest / scale.span
    has_squares = 1 / LARGEST_SINGLE < largest < LARGEST_SINGLE
    return "float32" if resolution <= _RESOLUTION and has_squares else "float64"


def _add_ncae(
    graph: Graph, reconstructor: Any, pixels: str, unit: DTypeLike, detail: bool
) -> Outputs:
    scale, shape = reconstructor._scale, reconstructor.image_shape_
    low: Any = np.asarray(scale.low, unit)
    span: Any = np.asarray(scale.span, unit)
    if scale.per_image:
        # Rows of float32 pixels are summed in float32: that rounding is small beside
        # `least_contrast`, which is added to a contrast.
        of_row = (2,) if shape[2] > 1 else (2, 3)
        mean = _mean_over_rows(graph, graph.reduce("ReduceMean", pixels, of_row, True))
        low = graph.cast(mean, unit)
        centred = graph.add("Sub", pixels, low)
        square = graph.add("Mul", centred, centred)
        variance = _mean_over_rows(graph, graph.reduce("ReduceMean", square, (2, 3), True))
        least = np.float64(scale.least_contrast)
        span = graph.cast(graph.add("Add", graph.add("Sqrt", variance), least), unit)
    else:
        centred = graph.add("Sub", pixels, low)
    scaled = graph.add("Div", centred, span)
    scaled = graph.cast(scaled, np.float32)
    model = reconstructor.model_ if detail else without_detail(reconstructor.model_)
    outputs = add_network(graph, model, scaled, shape)
    n_channels, n_outputs = shape[2], outputs.shape[2]

    def take(start: int, stop: int) -> str:
        return graph.add("Slice", outputs.name, *(integers(i) for i in (start, stop, 3)))

    logits = None
    reconstruction = outputs.name
    if n_outputs > n_channels:
        reconstruction = take(0, n_channels)
        logits = graph.add("Squeeze", take(n_channels, n_channels + 1), integers(3))
    if not detail:
        return Outputs(None, logits, reconstructor._network["block_size"])
    reconstruction = graph.cast(reconstruction, unit)
    reconstruction = graph.add("Add", graph.add("Mul", reconstruction, span), low)
    return Outputs(reconstruction, logits)


def _mean_over_rows(graph: Graph, of_rows: str) -> str:
    """Average means of rows in float64: a runtime sums in any order, and few numbers by then."""
    return graph.reduce("ReduceMean", graph.cast(of_rows, np.float64), (1,), True)


def _add_keras(
    graph: Graph, reconstructor: Any, pixels: str, unit: DTypeLike, detail: bool
) -> Outputs:
    shape = reconstructor.X_shape_[1:]
    images = graph.cast(pixels, np.float32)
    image_shape = (1, *shape, 1) if len(shape) == 1 else (*shape, 1)[:3]
    outputs = add_network(graph, reconstructor.model_, images, image_shape)
    reconstruction = graph.reshape(outputs.name, image_shape)
    return Outputs(graph.cast(reconstruction, unit))


def _add_decision(
    graph: Graph, detector: Any, values: dict[str, str], offset: float, shift: float
) -> None:
    """Join the statistics as the detector does, and judge the score."""
    add = graph.add
    statistics = _joined_statistics(detector)
    quotients = [
        _quotient(graph, values[name], np.float64(center), np.float64(reach), _is_two_sided(name))
        for name, center, reach in statistics
    ]
    score = add("Neg", _smooth_maximum(graph, quotients))
    graph.output("score", add("Sub", score, np.float64(shift)) if shift else score, np.float64)

    threshold = offset + shift
    decision = add("Sub", score, np.float64(threshold))
    # Of several statistics, the score is a difference of larger numbers.
    least = _ROUNDING * max(
        max(abs(center), _MAGNITUDES.get(name, 0.0)) / reach for name, center, reach in statistics
    )
    reach = max(_ROUNDING * abs(threshold), least)
    near = add("LessOrEqual", add("Abs", decision), np.float64(reach))
    decision = add("Where", near, np.float64(0), decision)
    graph.output("decision", decision, np.float64)
    good = add("GreaterOrEqual", decision, np.float64(0))  # what is no number is not
    graph.output("prediction", add("Where", good, np.int64(1), np.int64(-1)), np.int64)

    if hasattr(detector, "calibration_scores_"):
        calibration = np.asarray(detector.calibration_scores_, np.float64)
        nearly = calibration - np.maximum(_ROUNDING * np.abs(calibration), least)
        below = add("LessOrEqual", nearly, add("Unsqueeze", score, integers(1)))
        rank = graph.reduce("ReduceSum", graph.cast(below, np.float64), (1,), False)
        rank = add("Add", rank, np.float64(1))
        graph.output("p_value", add("Div", rank, np.float64(len(calibration) + 1)), np.float64)


def _joined_statistics(detector: Any) -> list[tuple[str, float, float]]:
    """List the statistics of the score, with what is subtracted and what they are divided by."""
    if isinstance(detector, TextureDetector):
        return [("texture", 0.0, 1.0)]
    return [*zip(detector._names, detector._center, detector._reach, strict=True)]


def _quotient(graph: Graph, value: str, center: Any, scale: Any, is_two_sided: bool = False) -> str:
    deviation = graph.add("Sub", value, center)
    if is_two_sided:
        deviation = graph.add("Abs", deviation)
    return graph.add("Div", deviation, scale)


def _smooth_maximum(graph: Graph, quotients: list[str]) -> str:
    largest = graph.add("Max", *quotients)
    if len(quotients) == 1:
        return largest
    # The logarithm of the sum of exponentials, of which none is more than 1.
    shares = [graph.add("Exp", graph.add("Sub", quotient, largest)) for quotient in quotients]
    return graph.add("Add", largest, graph.add("Log", graph.add("Sum", *shares)))


def _metadata(
    detector: Any, scale: PixelScale | None, offset: float, shift: float
) -> dict[str, str]:
    properties: dict[str, Any] = {
        "sklearn_ncae_version": sklearn_ncae.__version__,
        "estimator": type(detector).__name__,
        "statistics": [name for name, *_ in _joined_statistics(detector)],
        "offset": float(offset),
        "labels": {"1": "good", "-1": "defective"},
        "image_shape": [int(side) for side in detector.image_shape_],
    }
    if hasattr(detector, "feature_names_in_"):
        properties["feature_names"] = [*detector.feature_names_in_]
    if scale is not None:
        properties["pixel_range"] = scale.pixel_range
    if hasattr(detector, "calibration_scores_"):
        properties["false_alarm_rate"] = promised_rate(detector.calibration_scores_, offset + shift)
    return {name: json.dumps(value) for name, value in properties.items()}
