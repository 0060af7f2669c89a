"""A case as an ONNX model, for the runtimes that read one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cases import Case
from .base import Array

__all__ = ["build", "build_int8"]


def build(case: Case) -> bytes:
    """Return a model with one LSTM node: X (T, B, I) to Y (T, 1, B, H)."""
    inputs = {
        "W": _iofc(case.kernel).T[None],
        "R": _iofc(case.recurrent_kernel).T[None],
        "B": _both_biases(case),
    }
    return _model(case, "LSTM", ["X", *inputs], inputs)


def build_int8(case: Case) -> bytes:
    """Return the same with ONNX Runtime's operator for int8 weights, symmetric in each column."""
    w, w_scale = _to_int8(_iofc(case.kernel))
    r, r_scale = _to_int8(_iofc(case.recurrent_kernel))
    zero = np.zeros((1, 4 * case.shape.H), np.int8)
    inputs = {
        "W": w[None], "R": r[None], "B": _both_biases(case),
        "W_scale": w_scale, "W_zero": zero, "R_scale": r_scale, "R_zero": zero,
    }  # fmt: skip
    absent = [""] * 4  # lengths, the state before, peepholes
    names = ["X", "W", "R", "B", *absent, "W_scale", "W_zero", "R_scale", "R_zero"]
    return _model(case, "DynamicQuantizeLSTM", names, inputs, "com.microsoft")


def _model(
    case: Case, operator: str, names: list[str], inputs: dict[str, Array], domain: str = ""
) -> bytes:
    """Return a model of one node, which takes X and constants in the order of `names`."""
    from onnx import TensorProto, helper, numpy_helper

    shape = case.shape
    node = helper.make_node(operator, names, ["Y"], domain=domain, hidden_size=shape.H)
    graph = helper.make_graph(
        [node],
        "lstm",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [shape.T, shape.B, shape.I])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [shape.T, 1, shape.B, shape.H])],
        [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in inputs.items()],
    )
    opsets = [helper.make_opsetid("", 14), helper.make_opsetid("com.microsoft", 1)]
    model: Any = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def _iofc(weights: Array) -> Array:
    """(..., 4H) in the order i, f, c, o, as one in ONNX's order i, o, f, c."""
    i, f, c, o = np.split(weights, 4, axis=-1)
    return np.concatenate([i, o, f, c], axis=-1)


def _both_biases(case: Case) -> Array:
    """ONNX has two, which are added: (1, 8H)."""
    return np.concatenate([_iofc(case.bias), np.zeros_like(case.bias)])[None]


def _to_int8(weights: Array) -> tuple[Array, Array]:
    """(K, 4H) as whole numbers up to 127, with a scale (1, 4H) for each column."""
    scale = np.abs(weights).max(axis=0, keepdims=True) / np.float32(127)
    return np.rint(weights / scale).astype(np.int8), scale
