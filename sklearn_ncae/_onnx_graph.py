"""A builder of ONNX graphs: nodes and constants are added one by one, and named by themselves."""

from os import PathLike
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike, NDArray
from onnx import helper, numpy_helper

from sklearn_ncae._atomic import replacing

# The oldest version that has every operator in the form used here, so that older runtimes can
# read the files; and the version of the file format that came with it.
_OPSET = 18
_IR_VERSION = 8


def onnx_type(dtype: DTypeLike) -> int:
    """Return the number by which ONNX knows a NumPy dtype."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def integers(*values: int) -> NDArray[np.int64]:
    """Return integers as ONNX takes sides and axes."""
    return np.array(values, np.int64)


class Graph:
    """Nodes and constants of a graph under construction.

    A tensor of the graph is known by its name, a str.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def add(
        self,
        operator: str,
        *inputs: str | ArrayLike,
        output: str | None = None,
        n_outputs: int = 1,
        **attributes: Any,
    ) -> str:
        """Add a node.

        Parameters
        ----------
        operator : str
            Name of the ONNX operator.
        *inputs : str or array-like
            Tensors of the graph, or constants, whose dtype matters.
        output : str, default=None
            Name of the first output.
        n_outputs : int, default=1
            Number of outputs.
        **attributes
            Attributes of the node.

        Returns
        -------
        output : str
            The first output.
        """
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        first = output or f"{operator}_{len(self.nodes)}"
        outputs = [first, *(f"{first}_{i}" for i in range(1, n_outputs))]
        self.nodes.append(helper.make_node(operator, names, outputs, name=first, **attributes))
        return first

    def _constant(self, value: ArrayLike) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def cast(self, tensor: str, dtype: DTypeLike) -> str:
        """Convert a tensor to a dtype."""
        return self.add("Cast", tensor, to=onnx_type(dtype))

    def reduce(self, operator: str, tensor: str, axes: tuple[int, ...], keepdims: bool) -> str:
        """Reduce a tensor over axes, such as by ReduceMean."""
        return self.add(operator, tensor, integers(*axes), keepdims=int(keepdims))

    def reshape(self, tensor: str, shape: tuple[int, ...]) -> str:
        """Give each image another shape."""
        return self.add("Reshape", tensor, integers(-1, *shape))

    def channels_first(self, tensor: str, shape: tuple[int, ...]) -> str:
        """Turn images (n, h, w, c), of that shape each, into (n, c, h, w)."""
        height, width, n_channels = shape
        if n_channels == 1:  # nothing moves
            return self.reshape(tensor, (1, height, width))
        return self.add("Transpose", tensor, perm=[0, 3, 1, 2])

    def channels_last(self, tensor: str, shape: tuple[int, ...]) -> str:
        """Turn images (n, c, h, w) into (n, h, w, c), of that shape each."""
        if shape[2] == 1:
            return self.reshape(tensor, shape)
        return self.add("Transpose", tensor, perm=[0, 2, 3, 1])

    def input(self, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> str:
        """Declare an input of any number of images."""
        self.inputs.append(helper.make_tensor_value_info(name, onnx_type(dtype), ["n", *shape]))
        return name

    def output(self, name: str, tensor: str, dtype: DTypeLike, shape: tuple[int, ...] = ()) -> None:
        """Declare a tensor to be an output, with a value per image."""
        self.add("Identity", tensor, output=name)
        self.outputs.append(helper.make_tensor_value_info(name, onnx_type(dtype), ["n", *shape]))

    def save(
        self, path: str | PathLike[str], *, name: str, version: str, metadata: dict[str, str]
    ) -> None:
        """Check the model and write it to a file, without the nodes that no output needs."""
        needed = {output.name for output in self.outputs}
        nodes = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                nodes.append(node)
                needed.update(node.input)
        constants = [constant for constant in self.constants if constant.name in needed]
        graph = helper.make_graph(nodes[::-1], name, self.inputs, self.outputs, constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="sklearn-ncae",
            producer_version=version,
        )
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        with replacing(path) as temporary:
            temporary.write_bytes(model.SerializeToString())
