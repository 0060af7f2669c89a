"""The frameworks' own LSTMs with their variants, on arrays in our layout.

Each takes a problem of variants_support.py and options of `reference.lstm`, and returns results
named as there. Gates stand in our order i, f, c, o on the way in and out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_ext.variants import Cell
from support import Array

Arrays = dict[str, Array]

ONNX_NAMES = {
    "affine": "Affine", "elu": "Elu", "hard_sigmoid": "HardSigmoid", "leaky_relu": "LeakyRelu",
    "relu": "Relu", "scaled_tanh": "ScaledTanh", "sigmoid": "Sigmoid", "softplus": "Softplus",
    "softsign": "Softsign", "tanh": "Tanh", "thresholded_relu": "ThresholdedRelu",
}  # fmt: skip


def _onnx_gates(array: Array, order: str) -> Array:
    """Return gates i, f, c, o (or i, f, o) of the last axis in the order of ONNX, transposed."""
    names = "ifco" if len(order) == 4 else "ifo"
    gates = dict(zip(names, np.split(array, len(names), axis=-1), strict=True))
    return np.concatenate([gates[name] for name in order], axis=-1).T[np.newaxis]


def _onnx_activations(cell: Cell) -> dict[str, Any]:
    last = cell.activation if cell.output_activation is None else cell.output_activation
    specs = [
        spec if isinstance(spec, tuple) else (spec,)
        for spec in (cell.recurrent_activation, cell.activation, last)
    ]
    attributes: dict[str, Any] = {
        "activations": [ONNX_NAMES[spec[0]] for spec in specs],
        "activation_alpha": [float(spec[1]) for spec in specs if len(spec) > 1],
        "activation_beta": [float(spec[2]) for spec in specs if len(spec) > 2],
    }
    return {name: value for name, value in attributes.items() if value}


def run_onnxruntime(
    arrays: Arrays,
    cell: Cell | None = None,
    *,
    lengths: Array | None = None,
    go_backwards: bool = False,
) -> Arrays:
    """Run the ONNX node in float32; alpha and beta have to be given where a function has them."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    cell = Cell() if cell is None else cell
    units = len(arrays["bias"]) // 4
    bias = _onnx_gates(arrays["bias"], "iofc")
    inputs = {
        "X": arrays["x"].swapaxes(0, 1),
        "W": _onnx_gates(arrays["kernel"], "iofc"),
        "R": _onnx_gates(arrays["recurrent_kernel"], "iofc"),
        "B": np.concatenate([bias, np.zeros_like(bias)], axis=1),
        "sequence_lens": lengths,
        "initial_h": arrays["h0"][np.newaxis] if "h0" in arrays else None,
        "initial_c": arrays["c0"][np.newaxis] if "c0" in arrays else None,
        "P": _onnx_gates(arrays["peephole"], "iof") if "peephole" in arrays else None,
    }
    given = {
        name: value.astype(np.int32 if name == "sequence_lens" else np.float32)
        for name, value in inputs.items()
        if value is not None
    }
    helper = onnx.helper
    node = helper.make_node(
        "LSTM",
        [name if name in given else "" for name in inputs],
        ["Y", "Y_h", "Y_c"],
        hidden_size=units,
        direction="reverse" if go_backwards else "forward",
        input_forget=int(cell.input_forget),
        **({} if cell.clip is None else {"clip": float(cell.clip)}),
        **_onnx_activations(cell),
    )
    graph = helper.make_graph(
        [node],
        "lstm",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            for name, value in given.items()
        ],
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in node.output],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), options)
    y, h, c = session.run(None, given)
    output = y[::-1, 0] if go_backwards else y[:, 0]
    return {"output": output.swapaxes(0, 1), "h": h[0], "c": c[0]}
