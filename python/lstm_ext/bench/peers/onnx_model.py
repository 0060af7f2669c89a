"""A case as an ONNX model, for the runtimes that read one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cases import Case
from .base import Array

__all__ = ["build"]


def build(case: Case) -> bytes:
    """Return a model with one LSTM node: X (T, B, I) to Y (T, 1, B, H)."""
    from onnx import TensorProto, helper, numpy_helper

    shape = case.shape
    inputs = {
        "W": _iofc(case.kernel)[None],
        "R": _iofc(case.recurrent_kernel)[None],
        "B": np.concatenate([_iofc(case.bias[None])[:, 0], np.zeros_like(case.bias)])[None],
    }
    node = helper.make_node("LSTM", ["X", *inputs], ["Y"], hidden_size=shape.H)
    graph = helper.make_graph(
        [node],
        "lstm",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [shape.T, shape.B, shape.I])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [shape.T, 1, shape.B, shape.H])],
        [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in inputs.items()],
    )
    opset = helper.make_opsetid("", 14)
    model: Any = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return bytes(model.SerializeToString())


def _iofc(weights: Array) -> Array:
    """(K, 4H) in the order i, f, c, o, as ONNX's (4H, K) in the order i, o, f, c."""
    i, f, c, o = np.split(weights, 4, axis=1)
    return np.concatenate([i, o, f, c], axis=1).T
