"""ONNX's LSTM and ONNX Runtime's DynamicQuantizeLSTM: the weights of one node.

Gates stand in the order i, o, f, c. With D = 1 direction::

    LSTM                    W (D, 4H, I)   R (D, 4H, H)   B (D, 8H), that of W and that of R
    DynamicQuantizeLSTM     W (D, I, 4H)   R (D, H, 4H)   and scales, zero points (D) or (D, 4H)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..layers import LSTM
from .building import Direction, add_biases, check_matrix, lstm_from, reorder_gates
from .onnx_model import Graph, attributes, operator, optional_input

__all__ = ["OPERATORS", "ORDER", "OnnxLSTM", "read_lstm"]

Array = NDArray[Any]

OPERATORS = ("LSTM", "DynamicQuantizeLSTM")
ORDER = "iofc"

_DEFAULT_ACTIVATIONS = ["sigmoid", "tanh", "tanh"]


class OnnxLSTM(NamedTuple):
    """The weights of a node in our layout, and how it reads."""

    kernel: Array
    recurrent_kernel: Array
    bias: Array | None
    reverse: bool
    layout: int
    name: str

    def layer(self, **options: Any) -> LSTM:
        """Return it as a layer."""
        if self.name:
            options["name"] = self.name
        w = {"kernel": self.kernel, "recurrent_kernel": self.recurrent_kernel}
        return lstm_from(Direction(w if self.bias is None else {**w, "bias": self.bias}, {}), **options)


def read_lstm(graph: Graph, node: Any, data: str | None = None) -> OnnxLSTM:
    """Return what a node holds.

    Parameters
    ----------
    graph : Graph
    node : onnx.NodeProto
        Of one of `OPERATORS`.
    data : str, optional
        The graph input that the whole graph computes on. Others may give the node its state.

    Raises
    ------
    NotImplementedError
        If it has a feature that is not supported; the message names it.
    ValueError
        If its arrays do not fit together.
    """
    options = attributes(node)
    reverse = _check_attributes(options)
    _check_inputs(graph, node, data)
    quantized = operator(node) == "DynamicQuantizeLSTM"
    w, r = _matrices(graph, node, quantized)
    units = r.shape[1]
    if options.get("hidden_size", units) != units:
        raise ValueError(f"hidden_size: got {options['hidden_size']} beside R of {units}")
    kernel = reorder_gates(w, ORDER).T
    recurrent_kernel = reorder_gates(r, ORDER).T
    bias = None
    if optional_input(node, 3):
        both = _constant(graph, node, 3, "B", (1, 8 * units))[0]
        w_bias, r_bias = (reorder_gates(part, ORDER) for part in np.split(both, 2))
        bias = add_biases(w_bias, r_bias)
    layout = int(options.get("layout", 0))
    return OnnxLSTM(kernel, recurrent_kernel, bias, reverse, layout, str(node.name))


def _check_attributes(options: dict[str, Any]) -> bool:
    """Return whether the node reads backwards, or refuse an attribute."""
    direction = options.get("direction", "forward")
    if direction == "bidirectional":
        raise NotImplementedError("direction='bidirectional' is not supported yet")
    if direction not in ("forward", "reverse"):
        raise ValueError(f"direction: got {direction!r}, expected forward or reverse")
    activations = options.get("activations", _DEFAULT_ACTIVATIONS)
    if [str(name).lower() for name in activations] != _DEFAULT_ACTIVATIONS:
        raise NotImplementedError(f"activations={activations} are not supported yet")
    for name in ("clip", "activation_alpha", "activation_beta"):
        if options.get(name):
            raise NotImplementedError(f"{name}={options[name]} is not supported yet")
    if "clip" in options:
        raise NotImplementedError("clip=0.0 is not supported yet")
    if options.get("input_forget", 0):
        raise NotImplementedError("input_forget=1, coupled gates, is not supported yet")
    if options.get("layout", 0) not in (0, 1):
        raise ValueError(f"layout: got {options['layout']}, expected 0 or 1")
    known = {
        "activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size",
        "input_forget", "layout",
    }  # fmt: skip
    for name in options:
        if name not in known:
            raise NotImplementedError(f"attribute {name} is not supported")
    return bool(direction == "reverse")


def _check_inputs(graph: Graph, node: Any, data: str | None) -> None:
    """Refuse inputs that we could only ignore."""
    if optional_input(node, 4):
        raise NotImplementedError("sequence_lens is not supported yet")
    for index, name in ((5, "initial_h"), (6, "initial_c")):
        state = optional_input(node, index)
        given = graph.given_by(state)
        if state and not graph.is_zero(state) and (given is None or given == data):
            raise NotImplementedError(f"{name} is neither zeros nor an input: not supported")
    peepholes = optional_input(node, 7)
    if peepholes and not graph.is_zero(peepholes):
        raise NotImplementedError("P, peepholes, is not supported yet")


def _matrices(graph: Graph, node: Any, quantized: bool) -> tuple[Array, Array]:
    """Return W (4H, I) and R (4H, H) as floats."""
    if not quantized:
        r = _constant(graph, node, 2, "R", (1, None, None))[0]
        units = r.shape[1]
        check_matrix(r, "R", (4 * units, units))
        return _constant(graph, node, 1, "W", (1, 4 * units, None))[0], r
    r = _dequantized(graph, node, 2, "R", 10)
    units = r.shape[1]
    check_matrix(r, "R transposed", (4 * units, units))
    w = _dequantized(graph, node, 1, "W", 8)
    return check_matrix(w, "W transposed", (4 * units, None)), r


def _dequantized(graph: Graph, node: Any, index: int, name: str, scale_index: int) -> Array:
    """Return (whole numbers - zero point) * scale, transposed."""
    whole = graph.constant(optional_input(node, index), name)
    if whole.dtype not in (np.int8, np.uint8):
        raise ValueError(f"{name}: got an array of {whole.dtype}, expected int8 or uint8")
    whole = check_matrix(whole, name, (1, None, None))[0]
    scale = _scale(graph, node, scale_index, f"{name}_scale", whole.shape[1])
    if scale.dtype.kind != "f":
        raise ValueError(f"{name}_scale: got an array of {scale.dtype}, expected floats")
    zero = _scale(graph, node, scale_index + 1, f"{name}_zero_point", whole.shape[1])
    if zero.dtype != whole.dtype:
        raise ValueError(f"{name}_zero_point: got an array of {zero.dtype}, not {whole.dtype}")
    values: Array = (whole.astype(np.int32) - zero.astype(np.int32)).astype(scale.dtype) * scale
    return values.T


def _scale(graph: Graph, node: Any, index: int, name: str, columns: int) -> Array:
    """Return one number, or one for each column."""
    array = graph.constant(optional_input(node, index), name)
    if array.shape not in ((1,), (1, 1), (1, columns)):
        raise ValueError(f"{name}: got shape {array.shape}, expected (1) or (1, {columns})")
    return array.reshape(-1)


def _constant(
    graph: Graph, node: Any, index: int, name: str, shape: tuple[int | None, ...]
) -> Array:
    array = graph.constant(optional_input(node, index), name)
    if array.dtype.kind != "f":
        raise ValueError(f"{name}: got an array of {array.dtype}, expected floats")
    check_matrix(array, name, shape)
    return array if array.dtype == np.float64 else array.astype(np.float32, copy=False)
