"""A case as an ONNX model, for the runtimes that read one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import _cpu
from ..cases import Case
from ..variants import Weights
from .base import Array

__all__ = ["build", "build_int8", "in_rows"]

_HAS_VNNI = not {"avx512_vnni", "avx512_amx", "neon"}.isdisjoint(_cpu.available_isas())


def build(case: Case) -> bytes:
    """Return a model with an LSTM node for each layer: X (T, B, I) to Y (T, directions, B, H)."""
    model = _Model(case)
    name = "X"
    for number, directions in enumerate(case.layers):
        if number:
            name = model.join_directions(name)
        inputs = {
            "W": np.stack([_iofc(weights.kernel).T for weights in directions]),
            "R": np.stack([_iofc(weights.recurrent_kernel).T for weights in directions]),
            "B": np.stack([_both_biases(weights) for weights in directions]),
            "lengths": case.lengths,
            "h0": None,
            "c0": None,
            "P": _peepholes(directions[0]),
        }
        direction = "bidirectional" if len(directions) == 2 else "forward"
        name = model.add_lstm("LSTM", name, inputs, direction=direction)
    return model.serialize(name)


def build_int8(case: Case) -> bytes:
    """Return the same with ONNX Runtime's operator for int8 weights, symmetric in each column.

    Without VNNI it multiplies signed weights by an instruction that adds two products within 16
    bits, and results are off by a tenth. There the same weights are given as unsigned numbers with
    an offset, as its documentation advises.
    """
    weights = case.layers[0][0]
    w, w_scale = _to_int8(_iofc(weights.kernel))
    r, r_scale = _to_int8(_iofc(weights.recurrent_kernel))
    zero = np.zeros((1, 4 * case.shape.H), np.int8)
    if not _HAS_VNNI:
        w, r, zero = (_with_offset(array) for array in (w, r, zero))
    inputs = {
        "W": w[None], "R": r[None], "B": _both_biases(weights)[None],
        "lengths": None, "h0": None, "c0": None, "P": None,
        "W_scale": w_scale, "W_zero": zero, "R_scale": r_scale, "R_zero": zero,
    }  # fmt: skip
    model = _Model(case)
    name = model.add_lstm("DynamicQuantizeLSTM", "X", inputs, domain="com.microsoft")
    return model.serialize(name)


def in_rows(output: Array) -> Array:
    """Turn Y (T, directions, B, H) into (B, T, directions * H)."""
    steps, _, batch, _ = output.shape
    return output.transpose(2, 0, 1, 3).reshape(batch, steps, -1)


class _Model:
    """Nodes and constants, collected."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add_lstm(
        self, operator: str, x: str, inputs: dict[str, Array | None], **attributes: Any
    ) -> str:
        """Add a node with constants in the order of its inputs, None where it takes its default."""
        names = [x]
        for name, array in inputs.items():
            names.append("" if array is None else self._constant(name, array))
        return self._add(operator, names, hidden_size=self._case.shape.H, **attributes)

    def join_directions(self, name: str) -> str:
        """Turn (T, directions, B, H) into (T, B, directions * H), what the next layer reads."""
        if self._case.variant.directions == 1:
            return self._add("Squeeze", [name, self._constant("axis", np.array([1]))])
        turned = self._add("Transpose", [name], perm=[0, 2, 1, 3])
        return self._add("Reshape", [turned, self._constant("shape", np.array([0, 0, -1]))])

    def serialize(self, output: str) -> bytes:
        """Return the model from X to `output`, which an LSTM node puts out."""
        from onnx import TensorProto, helper

        batch, steps, features, units = self._case.shape
        y = [steps, self._case.variant.directions, batch, units]
        graph = helper.make_graph(
            self._nodes,
            "lstm",
            [helper.make_tensor_value_info("X", TensorProto.FLOAT, [steps, batch, features])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, y)],
            self._constants,
        )
        opsets = [helper.make_opsetid("", 14), helper.make_opsetid("com.microsoft", 1)]
        model: Any = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return bytes(model.SerializeToString())

    def _add(self, operator: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = f"Y{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(operator, inputs, [output], domain=domain, **attributes)
        )
        return output

    def _constant(self, name: str, array: Array) -> str:
        from onnx import numpy_helper

        name = f"{name}{len(self._nodes)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


def _iofc(weights: Array) -> Array:
    """(..., 4H) in the order i, f, c, o, as one in ONNX's order i, o, f, c."""
    i, f, c, o = np.split(weights, 4, axis=-1)
    return np.concatenate([i, o, f, c], axis=-1)


def _both_biases(weights: Weights) -> Array:
    """ONNX has two, which are added: (8H)."""
    return np.concatenate([_iofc(weights.bias), np.zeros_like(weights.bias)])


def _peepholes(weights: Weights) -> Array | None:
    """(1, 3H) in ONNX's order i, o, f, if there are any."""
    if weights.peephole is None:
        return None
    i, f, o = np.split(weights.peephole, 3)
    return np.concatenate([i, o, f])[None]


def _with_offset(numbers: Array) -> Array:
    """Int8 as uint8, greater by 128."""
    return (numbers.astype(np.int16) + 128).astype(np.uint8)


def _to_int8(weights: Array) -> tuple[Array, Array]:
    """(K, 4H) as whole numbers up to 127, with a scale (1, 4H) for each column."""
    scale = np.abs(weights).max(axis=0, keepdims=True) / np.float32(127)
    return np.rint(weights / scale).astype(np.int8), scale
