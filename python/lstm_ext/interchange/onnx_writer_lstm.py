"""Our LSTM and Bidirectional layers as nodes of ONNX, and what has to stand around these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..layers import LSTM, Bidirectional
from .building import reorder_gates
from .features import check_features
from .onnx_cell import cell_attributes
from .onnx_lstm import ORDER, ORDER_OF_PEEPHOLES
from .onnx_nodes import Nodes

__all__ = ["LSTMWriter", "check_for_onnx", "node_groups"]

Array = NDArray[Any]

_FEATURES = ("peepholes", "clip", "input_forget", "output_activation")


def check_for_onnx(layer: LSTM | Bidirectional) -> None:
    """Refuse a layer that ONNX's LSTM cannot be; the message names what it has.

    Raises
    ------
    ValueError
    """
    if isinstance(layer, Bidirectional):
        if layer.merge_mode is None:
            raise ValueError(f"{layer.name}: got merge_mode=None, expected one output alone")
        if layer.forward_layer.go_backwards:
            raise ValueError(
                f"{layer.name}: got a first layer with go_backwards, expected one that reads "
                "forwards, as ONNX's first direction does"
            )
    for group in node_groups(layer):
        for inner in group:
            check_features(inner, "ONNX's LSTM", _FEATURES)
        cell_attributes(group)  # raises for an activation that ONNX does not have


def node_groups(layer: LSTM | Bidirectional) -> list[list[LSTM]]:
    """Return the layers that become nodes, those together that share one."""
    if isinstance(layer, LSTM):
        return [[layer]]
    both = [layer.forward_layer, layer.backward_layer]
    first, second = (
        (a.units, a.use_bias, a.peepholes, a.cell.clip, a.cell.input_forget) for a in both
    )
    return [both] if first == second else [[inner] for inner in both]


class _Outputs(NamedTuple):
    """The outputs of a node: sequences (T, D, B, H) and last states (D, B, H)."""

    y: str
    h: str


class LSTMWriter:
    """Adds LSTMs to a graph.

    Parameters
    ----------
    nodes : Nodes
    count : int
        How many nodes of LSTMs there will be.
    state_shape : str
        The value that makes (D, 1, H) to (D, B, H).
    lengths : str
        The input that says where sequences end, or nothing.
    """

    def __init__(self, nodes: Nodes, count: int, state_shape: str, lengths: str) -> None:
        self._nodes = nodes
        self._count = count
        self._state_shape = state_shape
        self._lengths = lengths
        self._written = 0

    def lstm(self, layer: LSTM, x: str, prefix: str) -> str:
        """Add a layer that takes x (T, B, I); return (T, B, H) or (B, H)."""
        outputs = self._node([layer], x, prefix, layer.name)
        value = self._alone(outputs, layer, prefix)
        if not (layer.go_backwards and layer.return_sequences):
            return value
        # Ours stand in the order of the steps.
        numbers = {"from": -1, "to": np.iinfo(np.int64).min, "axis": 0, "by": -1}
        bounds = [self._nodes.ints(f"{prefix}/{n}", number) for n, number in numbers.items()]
        return self._nodes.node("Slice", [value, *bounds], f"{prefix}/reversed")

    def bidirectional(self, layer: Bidirectional, x: str, prefix: str) -> str:
        """Add a layer that takes x (T, B, I); return (T, B, F) or (B, F)."""
        groups = node_groups(layer)
        steps = layer.return_sequences
        if len(groups) == 2:
            values = []
            for group, way in zip(groups, ("forward", "backward"), strict=True):
                own = f"{prefix}/{way}"
                name = layer.name if way == "forward" else f"{layer.name}/{way}"
                values.append(self._alone(self._node(group, x, own, name), group[0], own))
            return self._merged(layer, values, prefix)
        y, h = self._node(groups[0], x, prefix, layer.name)
        if layer.merge_mode != "concat":
            values = [
                self._nodes.node(
                    "Gather",
                    [y if steps else h, self._nodes.constant(f"{prefix}/{way}/index", index)],
                    f"{prefix}/{way}",
                    axis=1 if steps else 0,
                )
                for way, index in (("forward", np.array(0)), ("backward", np.array(1)))
            ]
            return self._merged(layer, values, prefix)
        order, width = ([0, 2, 1, 3] if steps else [1, 0, 2]), 2 * layer.forward_layer.units
        beside = self._nodes.node("Transpose", [y if steps else h], f"{prefix}/beside", perm=order)
        shape = self._nodes.ints(f"{prefix}/shape", *([0, 0, width] if steps else [0, width]))
        return self._nodes.node("Reshape", [beside, shape], f"{prefix}/concat")

    def _merged(self, layer: Bidirectional, values: list[str], prefix: str) -> str:
        output = f"{prefix}/{layer.merge_mode}"
        if layer.merge_mode == "concat":
            axis = 2 if layer.return_sequences else 1
            return self._nodes.node("Concat", values, output, axis=axis)
        if layer.merge_mode == "mul":
            return self._nodes.node("Mul", values, output)
        total = self._nodes.node("Add", values, f"{prefix}/sum")
        if layer.merge_mode == "sum":
            return total
        half = self._nodes.constant(f"{prefix}/half", np.array(0.5, self._nodes.dtype))
        return self._nodes.node("Mul", [total, half], output)

    def _alone(self, outputs: _Outputs, layer: LSTM, prefix: str) -> str:
        """Return the output of one direction without the axis of directions."""
        if layer.return_sequences:
            axis = self._nodes.ints(f"{prefix}/directions", 1)
            return self._nodes.node("Squeeze", [outputs.y, axis], f"{prefix}/sequence")
        axis = self._nodes.ints(f"{prefix}/directions", 0)
        return self._nodes.node("Squeeze", [outputs.h, axis], f"{prefix}/h")

    def _node(self, layers: Sequence[LSTM], x: str, prefix: str, name: str) -> _Outputs:
        count, units = len(layers), layers[0].units
        number = f"_{self._written}" if self._count > 1 else ""
        self._written += 1
        states = [self._state(f"initial_{state}{number}", count, units) for state in "hc"]
        inputs = [x, *self._weights(layers, prefix), self._lengths, *states]
        if layers[0].peepholes:
            peepholes = [reorder_gates(a.peephole, "ifo", ORDER_OF_PEEPHOLES) for a in layers]
            inputs.append(self._nodes.constant(f"{prefix}/P", np.stack(peepholes)))
        finals = [f"final_{state}{number}" for state in "hc"]
        direction = "reverse" if layers[0].go_backwards else "forward"
        self._nodes.nodes.append(
            self._nodes.onnx.helper.make_node(
                "LSTM",
                inputs,
                [f"{prefix}/y", *finals],
                name=name,
                direction="bidirectional" if count == 2 else direction,
                hidden_size=units,
                **cell_attributes(layers),
            )
        )
        for final in finals:
            self._nodes.outputs.append(self._nodes.info(final, [count, "batch", units]))
        return _Outputs(f"{prefix}/y", finals[0])

    def _weights(self, layers: Sequence[LSTM], prefix: str) -> list[str]:
        w = [reorder_gates(layer.kernel.T, "ifco", ORDER) for layer in layers]
        r = [reorder_gates(layer.recurrent_kernel.T, "ifco", ORDER) for layer in layers]
        names = [
            self._nodes.constant(f"{prefix}/{name}", np.stack(own))
            for name, own in (("W", w), ("R", r))
        ]
        if not layers[0].use_bias:
            return [*names, ""]
        biases = [reorder_gates(layer.bias, "ifco", ORDER) for layer in layers]
        # Not 0: of all numbers, only -0 leaves every other as it is, -0 included.
        both = [np.concatenate([bias, np.full_like(bias, -0.0)]) for bias in biases]
        return [*names, self._nodes.constant(f"{prefix}/B", np.stack(both))]

    def _state(self, name: str, count: int, units: int) -> str:
        """Add an input that may be left out, for zeros."""
        self._nodes.inputs.append(self._nodes.info(name, [count, "batch", units]))
        self._nodes.constant(name, np.zeros((count, 1, units), self._nodes.dtype))
        return self._nodes.node("Expand", [name, self._state_shape], f"{name}/of_batch")
