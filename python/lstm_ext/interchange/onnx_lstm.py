"""ONNX's LSTM and ONNX Runtime's DynamicQuantizeLSTM: what one node holds.

Gates stand in the order i, o, f, c. With D directions, one or two::

    LSTM                    W (D, 4H, I)   R (D, 4H, H)   B (D, 8H), that of W and that of R
                            P (D, 3H), peepholes, in the order i, o, f
    DynamicQuantizeLSTM     W (D, I, 4H)   R (D, H, 4H)   and scales, zero points (D) or (D, 4H)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .building import Direction, add_biases, check_matrix, reorder_gates
from .onnx_cell import read_cells
from .onnx_model import Graph, attributes, operator, optional_input

__all__ = ["OPERATORS", "ORDER", "ORDER_OF_PEEPHOLES", "LSTMNode", "count_directions", "read_lstm"]

Array = NDArray[Any]

OPERATORS = ("LSTM", "DynamicQuantizeLSTM")
ORDER = "iofc"
ORDER_OF_PEEPHOLES = "iof"

_ATTRIBUTES = {
    "activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size",
    "input_forget", "layout",
}  # fmt: skip


class LSTMNode(NamedTuple):
    """What a node holds, and how it reads.

    Attributes
    ----------
    directions : tuple of Direction
        One, or that which reads forwards and that which reads backwards.
    reverse : bool
        Whether the only one reads backwards.
    layout : int
        0 for time first, 1 for the batch first.
    name : str
    lengths : str or None
        The graph input that says how long each sequence is.
    """

    directions: tuple[Direction, ...]
    reverse: bool
    layout: int
    name: str
    lengths: str | None

    @property
    def input_size(self) -> int:
        """The number of features that it takes."""
        return int(self.directions[0].weights["kernel"].shape[0])


def count_directions(node: Any) -> int:
    """Return how many directions a node has."""
    return 2 if attributes(node).get("direction") == "bidirectional" else 1


def read_lstm(
    graph: Graph,
    node: Any,
    data: str | None = None,
    is_full: Callable[[str], bool] = lambda name: False,
) -> LSTMNode:
    """Return what a node holds.

    Parameters
    ----------
    graph : Graph
    node : onnx.NodeProto
        Of one of `OPERATORS`.
    data : str, optional
        The graph input that the whole graph computes on. Others may give the node its state.
    is_full : callable
        Whether the value of a name says that all sequences have all steps.

    Raises
    ------
    NotImplementedError
        If it has a feature that is not supported; the message names it.
    ValueError
        If its arrays do not fit together.
    """
    options = attributes(node)
    for name in options:
        if name not in _ATTRIBUTES:
            raise NotImplementedError(f"attribute {name} is not supported")
    direction = options.get("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ValueError(f"direction: got {direction!r}, expected forward, reverse, bidirectional")
    if options.get("layout", 0) not in (0, 1):
        raise ValueError(f"layout: got {options['layout']}, expected 0 or 1")
    count = count_directions(node)
    cells = read_cells(options, count)
    _check_states(graph, node, data)
    lengths = _lengths(graph, node, data, is_full)
    weights = _weights(graph, node, count)
    units = weights[0]["recurrent_kernel"].shape[0]
    if options.get("hidden_size", units) != units:
        raise ValueError(f"hidden_size: got {options['hidden_size']} beside R of {units}")
    return LSTMNode(
        tuple(map(Direction, weights, cells)),
        direction == "reverse",
        int(options.get("layout", 0)),
        str(node.name),
        lengths,
    )


def _check_states(graph: Graph, node: Any, data: str | None) -> None:
    """Refuse initial states that we could only ignore."""
    for index, name in ((5, "initial_h"), (6, "initial_c")):
        state = optional_input(node, index)
        given = graph.given_by(state)
        if state and not graph.is_zero(state) and (given is None or given == data):
            raise NotImplementedError(f"{name} is neither zeros nor an input: not supported")


def _lengths(
    graph: Graph, node: Any, data: str | None, is_full: Callable[[str], bool]
) -> str | None:
    """Return the graph input that gives the lengths; None if all sequences have all steps."""
    name = optional_input(node, 4)
    if not name or is_full(name):
        return None
    given = graph.given_by(name, ("Cast", "Identity"))
    if given is None or given == data:
        raise NotImplementedError(
            "sequence_lens is neither an input nor the number of all steps: not supported"
        )
    return given


# ---- weights ----


def _weights(graph: Graph, node: Any, count: int) -> list[dict[str, Array]]:
    """Return the weights of each direction by our names, in our layout."""
    w, r = _matrices(graph, node, count)
    units = r.shape[2]
    found: list[dict[str, Array]] = [
        {"kernel": reorder_gates(w[k], ORDER).T, "recurrent_kernel": reorder_gates(r[k], ORDER).T}
        for k in range(count)
    ]
    if optional_input(node, 3):
        both = _constant(graph, node, 3, "B", (count, 8 * units))
        for k in range(count):
            parts = (reorder_gates(part, ORDER) for part in np.split(both[k], 2))
            found[k]["bias"] = add_biases(*parts)
    if optional_input(node, 7):
        peepholes = _constant(graph, node, 7, "P", (count, 3 * units))
        for k in range(count):
            found[k]["peephole"] = reorder_gates(peepholes[k], ORDER_OF_PEEPHOLES, "ifo")
    return found


def _matrices(graph: Graph, node: Any, count: int) -> tuple[Array, Array]:
    """Return W (D, 4H, I) and R (D, 4H, H) as floats."""
    if operator(node) != "DynamicQuantizeLSTM":
        r = _constant(graph, node, 2, "R", (count, None, None))
        units = r.shape[2]
        check_matrix(r, "R", (count, 4 * units, units))
        return _constant(graph, node, 1, "W", (count, 4 * units, None)), r
    r = _dequantized(graph, node, 2, "R", 10, count)
    units = r.shape[2]
    check_matrix(r, "R transposed", (count, 4 * units, units))
    w = _dequantized(graph, node, 1, "W", 8, count)
    return check_matrix(w, "W transposed", (count, 4 * units, None)), r


def _dequantized(
    graph: Graph, node: Any, index: int, name: str, scale_index: int, count: int
) -> Array:
    """Return (whole numbers - zero point) * scale, transposed."""
    whole = graph.constant(optional_input(node, index), name)
    if whole.dtype not in (np.int8, np.uint8):
        raise ValueError(f"{name}: got an array of {whole.dtype}, expected int8 or uint8")
    check_matrix(whole, name, (count, None, None))
    columns = whole.shape[2]
    scale = _scale(graph, node, scale_index, f"{name}_scale", (count, columns))
    if scale.dtype.kind != "f":
        raise ValueError(f"{name}_scale: got an array of {scale.dtype}, expected floats")
    zero = _scale(graph, node, scale_index + 1, f"{name}_zero_point", (count, columns))
    if zero.dtype != whole.dtype:
        raise ValueError(f"{name}_zero_point: got an array of {zero.dtype}, not {whole.dtype}")
    values: Array = (whole.astype(np.int32) - zero.astype(np.int32)).astype(scale.dtype) * scale
    return values.swapaxes(1, 2)


def _scale(graph: Graph, node: Any, index: int, name: str, shape: tuple[int, int]) -> Array:
    """Return numbers of shape (D, 1, 1) or (D, 1, 4H)."""
    array = graph.constant(optional_input(node, index), name)
    count, columns = shape
    if array.shape not in ((count,), (count, 1), (count, columns)):
        raise ValueError(
            f"{name}: got shape {array.shape}, expected ({count}) or ({count}, {columns})"
        )
    return array.reshape(count, 1, -1)


def _constant(
    graph: Graph, node: Any, index: int, name: str, shape: tuple[int | None, ...]
) -> Array:
    array = graph.constant(optional_input(node, index), name)
    if array.dtype.kind != "f":
        raise ValueError(f"{name}: got an array of {array.dtype}, expected floats")
    check_matrix(array, name, shape)
    return array if array.dtype == np.float64 else array.astype(np.float32, copy=False)
