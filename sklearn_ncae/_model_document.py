"""What of a detector goes into a model file, and which of it is accepted back.

A value becomes JSON as it is, or an object of one entry whose key says what it stands for: a
tuple, a dict, an array, a float that JSON has no word for, or an object of one of a few classes.
"""

import math
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import validate_parameter_constraints

from sklearn_ncae._model_archive import ModelArchive, ModelFileError, refusing
from sklearn_ncae.detector import _ALL_STATISTICS
from sklearn_ncae.reconstructor import _refuse_after_fork
from sklearn_ncae.residuals import STATISTICS
from sklearn_ncae.texture import description_shape

# The classes that a model file may hold, and where they are.
_MODULES = {
    "NCAEDetector": "sklearn_ncae.detector",
    "ResidualDetector": "sklearn_ncae.detector",
    "TextureDetector": "sklearn_ncae.texture",
    "NCAEReconstructor": "sklearn_ncae.reconstructor",
    "PixelScale": "sklearn_ncae._pixel_scale",
    "TextureModel": "sklearn_ncae.texture",
}

# Parameters that only training reads: where JSON cannot hold them, a model is saved without.
_FOR_TRAINING = {
    "callbacks",
    "checkpoint_path",
    "draw_defects",
    "loss",
    "optimizer",
    "random_state",
}

# What a reconstructor's network is built by, see `NCAEReconstructor._check_network`.
_NETWORK = {
    "image_shape",
    "training",
    "filters",
    "bottleneck",
    "bottleneck_size",
    "convolution",
    "block_size",
}

# More levels would halve an image of any size to nothing.
_MAX_LEVELS = 16
_MAX_DEPTH = 8


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and 0 < len(value) <= 3 and all(map(_is_count, value))


def _is_image_shape(value: Any) -> bool:
    return _is_shape(value) and len(value) == 3


def _is_vector(value: Any) -> bool:
    is_floats = isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind == "f"
    return is_floats and bool(np.isfinite(value).all())


def _is_image_like(value: Any) -> bool:
    return _is_weights([value]) and value.ndim == 3


def _is_weights(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(weights, np.ndarray)
        and weights.dtype.kind == "f"
        and bool(np.isfinite(weights).all())
        for weights in leaves(value)
    )


def _is_statistics(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(name, str) and name in _ALL_STATISTICS for name in value)
    )


def _is_history(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(values, list) and all(isinstance(loss, float) for loss in values)
        for values in value.values()
    )


def _is_network(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_image_shape(value.get("image_shape"))
        and isinstance(value.get("filters"), tuple)
        and 0 < len(value["filters"]) <= _MAX_LEVELS
        and all(map(_is_count, value["filters"]))
        and _is_count(value.get("bottleneck_size"))
        and value.keys() == _NETWORK
        and value["block_size"] in (1, 2)
    )


def _is_feature_names(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype == object


def _is_a(name: str) -> Callable[[Any], bool]:
    return lambda value: type(value).__name__ == name


_IMAGES_SEEN: dict[str, Callable[[Any], bool]] = {
    "image_shape_": _is_image_shape,
    "n_features_in_": _is_count,
    "feature_names_in_": _is_feature_names,
    "n_samples_fit_": _is_count,
}

_THRESHOLD: dict[str, Callable[[Any], bool]] = {
    "offset_": _is_number,
    "calibration_scores_": _is_vector,
}

_DETECTOR = {
    **_IMAGES_SEEN,
    "reconstructor_": _is_a("NCAEReconstructor"),
    **_THRESHOLD,
    "_layout": _is_shape,
    "_names": _is_statistics,
    "_center": _is_vector,
    "_reach": _is_vector,
}

# What is saved of each class beside its parameters, and which values of it can be. A new fitted
# attribute is a new line here.
_ATTRIBUTES: dict[str, dict[str, Callable[[Any], bool]]] = {
    "NCAEDetector": {
        **_DETECTOR,
        "_texture": lambda value: value is None or _is_a("TextureModel")(value),
        "_trained_on": lambda value: value is None or type(value) is int,
    },
    "ResidualDetector": _DETECTOR,
    "TextureDetector": {
        **_IMAGES_SEEN,
        "texture_": _is_a("TextureModel"),
        **_THRESHOLD,
        "_layout": _is_shape,
        "_scale": _is_a("PixelScale"),
    },
    "NCAEReconstructor": {
        **_IMAGES_SEEN,
        "weights_": _is_weights,
        "history_": _is_history,
        "n_iter_": _is_count,
        "_network": _is_network,
        "_scale": _is_a("PixelScale"),
    },
    "PixelScale": {
        "low": _is_number,
        "span": _is_positive,
        "per_image": lambda value: isinstance(value, bool),
    },
    "TextureModel": {
        "mean": _is_image_like,
        "deviation": _is_image_like,
        "components": lambda value: _is_weights([value]) and value.ndim == 4,
    },
}
_OPTIONAL = {
    "feature_names_in_",
    "n_samples_fit_",
    "calibration_scores_",
}
# Made from the rest after loading; and what scikit-learn's metadata routing asks for in training.
_NOT_SAVED = {"_model", "_metadata_request"}


def leaves(nested: Any) -> Iterator[Any]:
    """Yield what is in lists of lists.

    Parameters
    ----------
    nested : object

    Yields
    ------
    leaf : object
    """
    if isinstance(nested, list):
        for item in nested:
            yield from leaves(item)
    else:
        yield nested


def _images_agree(value: Any) -> dict[str, bool]:
    n_features = math.prod(value.image_shape_)
    shape = value.image_shape
    names = getattr(value, "feature_names_in_", None)
    return {
        "image_shape_ and n_features_in_": value.n_features_in_ == n_features,
        "image_shape_ and feature_names_in_": names is None or len(names) == n_features,
        "image_shape and image_shape_": shape is None or (*shape, 1)[:3] == value.image_shape_,
        "_layout": math.prod(getattr(value, "_layout", value.image_shape_)) == n_features,
    }


def _detector_agrees(detector: Any) -> dict[str, bool]:
    network = detector.reconstructor_._network
    of_repair = set(detector._names) - set(STATISTICS)
    texture = getattr(detector, "_texture", None)
    return {
        **_images_agree(detector),
        "image_shape_": detector.image_shape_ == detector.reconstructor_.image_shape_,
        "_names": len(set(detector._names)) == len(detector._names),
        "_names and training": not of_repair or network.get("training") == "repair",
        "_names and _texture": ("texture" in detector._names) == (texture is not None),
        "_texture and image_shape_": texture is None
        or texture.mean.shape == description_shape(detector.image_shape_),
        "_center": len(detector._center) == len(detector._names),
        "_reach": len(detector._reach) == len(detector._names) and (detector._reach > 0).all(),
    }


def _reconstructor_agrees(reconstructor: Any) -> dict[str, bool]:
    network = reconstructor._network
    n_weights = sum(weights.size for weights in leaves(reconstructor.weights_))
    return {
        **_images_agree(reconstructor),
        "image_shape_": reconstructor.image_shape_ == network["image_shape"],
        "weights_ and filters": _fewest_weights(**network) <= n_weights,
    }


def _texture_detector_agrees(detector: Any) -> dict[str, bool]:
    return {
        **_images_agree(detector),
        "texture_ and image_shape_": detector.texture_.mean.shape
        == description_shape(detector.image_shape_),
        "_scale": detector._scale.per_image,
    }


def _texture_agrees(texture: Any) -> dict[str, bool]:
    return {
        "mean and deviation": texture.deviation.shape == texture.mean.shape,
        "deviation": bool((texture.deviation > 0).all()),
        "mean and components": texture.components.shape[1:] == texture.mean.shape,
    }


def _fewest_weights(
    image_shape: tuple[int, int, int],
    filters: tuple[int, ...],
    bottleneck_size: int,
    bottleneck: str,
    training: str,
    **others: Any,
) -> int:
    """Fewest weights that any such network has.

    A network is several times that, not thousands of times: one that the weights of the file
    would not fill is refused before it takes memory.
    """
    channels = [image_shape[2], *filters]
    n_weights = sum(8 * channels[i] * channels[i + 1] for i in range(len(filters)))
    if training == "repair":
        return n_weights  # there is no code
    code = filters[-1]
    if bottleneck == "dense":
        code *= math.prod(-(-side // 2 ** len(filters)) for side in image_shape[:2])
    return n_weights + 2 * code * bottleneck_size


# What has to agree within an object, by what is said where it does not.
_AGREEMENTS: dict[str, Callable[[Any], dict[str, bool]]] = {
    "NCAEDetector": _detector_agrees,
    "ResidualDetector": _detector_agrees,
    "TextureDetector": _texture_detector_agrees,
    "NCAEReconstructor": _reconstructor_agrees,
    "TextureModel": _texture_agrees,
}


def encode(value: Any, arrays: list[NDArray[Any]], left_out: set[str], where: str) -> Any:
    """Turn a value into JSON.

    Parameters
    ----------
    value : object
        A fitted detector, or anything within one.
    arrays : list of ndarray
        Arrays are appended to it.
    left_out : set of str
        The names of parameters that JSON cannot hold, and scoring does not read, are added.
    where : str
        What the value is, for messages.

    Returns
    -------
    json : None, bool, int, float, str, list or dict

    Raises
    ------
    TypeError
        If there is no way to write the value.
    """

    def each(values: Any) -> list[Any]:
        return [encode(item, arrays, left_out, where) for item in values]

    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, list):
        return each(value)
    if isinstance(value, tuple):
        return {"tuple": each(value)}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": dict(zip(value, each(value.values()), strict=True))}
    if isinstance(value, np.ndarray) and value.size > 0 and value.dtype.kind in "fiubUO":
        is_names = value.dtype == object
        if not is_names or all(isinstance(name, str) for name in value.flat):
            arrays.append(value.astype(str) if is_names else value)
            return {"names" if is_names else "array": len(arrays) - 1}
    if holds(value):
        return {"object": _encode_object(value, arrays, left_out)}
    raise TypeError(
        f"A model file cannot hold {where}: {value!r}. Use pickle or joblib for this detector, or "
        "change that."
    )


def holds(value: Any) -> bool:
    """Whether a model file has a place for objects of the value's very class."""
    return _MODULES.get(type(value).__name__) == type(value).__module__


def _encode_object(value: Any, arrays: list[NDArray[Any]], left_out: set[str]) -> dict[str, Any]:
    kind = type(value).__name__
    names = value._get_param_names() if isinstance(value, BaseEstimator) else []
    parameters: dict[str, Any] = {}
    for name in names:
        parameter = getattr(value, name)
        try:
            parameters[name] = encode(parameter, arrays, left_out, f"{name} of {kind}")
        except TypeError:
            if name not in _FOR_TRAINING:
                raise
            parameters[name] = None
            left_out.add(name)
    attributes = {
        name: attribute
        for name, attribute in vars(value).items()
        if name not in parameters and name not in _NOT_SAVED
    }
    unknown = attributes.keys() - _ATTRIBUTES[kind].keys()
    if unknown:
        raise TypeError(
            f"A model file has no place for the attribute {min(unknown)} of {kind}. Delete it, or "
            "use pickle or joblib for this detector."
        )
    return {
        "class": kind,
        "parameters": parameters,
        "attributes": {
            name: encode(attribute, arrays, left_out, f"{name} of {kind}")
            for name, attribute in attributes.items()
        },
    }


def decode(json: Any, archive: ModelArchive, depth: int = 0) -> Any:
    """Turn what `encode` has made into a value again, and check it.

    Parameters
    ----------
    json : None, bool, int, float, str, list or dict
    archive : ModelArchive
        Where the arrays are.
    depth : int
        How many values this one is within.

    Returns
    -------
    value : object

    Raises
    ------
    ModelFileError
        If `encode` would not have made it, or it is no detector that could have been fitted.
    """
    if depth > _MAX_DEPTH:
        raise ModelFileError(f"its values are nested deeper than {_MAX_DEPTH}")

    def each(values: Any) -> list[Any]:
        return [decode(item, archive, depth + 1) for item in values]

    if isinstance(json, list):
        return each(json)
    if not isinstance(json, dict):
        return json
    match [*json.items()]:
        case [("tuple", list(values))]:
            return tuple(each(values))
        case [("dict", dict(values))]:
            return dict(zip(values, each(values.values()), strict=True))
        case [("float", "nan" | "inf" | "-inf" as text)]:
            return float(text)
        case [("array", int(number))]:
            return archive.array(number)
        case [("names", int(number))]:
            with refusing("its names are damaged"):
                return archive.array(number).astype(object)
        case [
            (
                "object",
                {"class": str(kind), "parameters": dict(given), "attributes": dict(found)},
            )
        ] if kind in _MODULES:
            parameters = dict(zip(given, each(given.values()), strict=True))
            attributes = dict(zip(found, each(found.values()), strict=True))
            return _decode_object(kind, parameters, attributes)
    raise ModelFileError(f"it has a value of no known kind: {str(json)[:80]}")


def _decode_object(kind: str, parameters: dict[str, Any], attributes: dict[str, Any]) -> Any:
    cls = getattr(import_module(_MODULES[kind]), kind)
    if issubclass(cls, BaseEstimator):
        given = {
            name: parameter
            for name, parameter in parameters.items()
            if parameter is not None or name not in _FOR_TRAINING
        }
        with refusing(f"the parameters of its {kind} are not valid"):
            value = cls(**parameters)
            validate_parameter_constraints(cls._parameter_constraints, given, caller_name=kind)
        if not attributes:
            return value  # not fitted
    else:
        value = cls.__new__(cls)
    checks = _ATTRIBUTES[kind]
    missing = checks.keys() - attributes.keys() - _OPTIONAL
    unknown = attributes.keys() - checks.keys()
    if missing or unknown:
        raise ModelFileError(
            f"its {kind} " + (f"lacks {min(missing)}" if missing else f"has a {min(unknown)}")
        )
    for name, attribute in attributes.items():
        if not checks[name](attribute):
            raise ModelFileError(f"{name} of its {kind} cannot be {str(attribute)[:80]}")
    vars(value).update(attributes)
    if kind in _AGREEMENTS:
        for what, agree in _AGREEMENTS[kind](value).items():
            if not agree:
                raise ModelFileError(f"its {kind} contradicts itself in {what}")
    if kind == "NCAEReconstructor":
        _refuse_after_fork()
        with refusing("its weights are not those of its network"):
            value._keep(value._build_model())
    return value
