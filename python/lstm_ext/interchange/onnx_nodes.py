"""A graph of ONNX as it grows: nodes, constants, and a value that goes from node to node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .onnx_model import import_onnx

__all__ = ["Nodes"]

Array = NDArray[Any]


class Nodes:
    """What a graph has so far.

    Parameters
    ----------
    dtype : numpy dtype
        Of the weights and of what is computed.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.onnx = import_onnx()
        self.dtype = dtype
        self.type = self.onnx.helper.np_dtype_to_tensor_dtype(dtype)
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, inputs: Sequence[str], output: str, **options: Any) -> str:
        """Add a node with one output, and return the output's name."""
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], **options))
        return output

    def constant(self, name: str, array: Array) -> str:
        """Add a constant, and return its name."""
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def ints(self, name: str, *numbers: int) -> str:
        """Add a constant list of whole numbers, and return its name."""
        return self.constant(name, np.array(numbers, np.int64))

    def info(self, name: str, shape: Sequence[int | str]) -> Any:
        """Return the description of an input or output of floats."""
        return self.onnx.helper.make_tensor_value_info(name, self.type, shape)
