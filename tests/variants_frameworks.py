"""The frameworks' own LSTMs with their variants, on arrays in our layout.

Each takes a problem of variants_support.py and options of `reference.lstm`, and returns results
named as there. Gates stand in our order i, f, c, o on the way in and out.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from lstm_ext.variants import Cell, Noise
from support import Array

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

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


def run_torch(
    arrays: Arrays, *, lengths: Array | None = None, go_backwards: bool = False
) -> Arrays:
    """Run nn.LSTM in float64 with its gradients; a projection is its proj_size.

    Going backwards is the second direction of a bidirectional one.
    """
    torch = pytest.importorskip("torch", reason="torch is not installed")
    size, units, outputs = arrays["x"].shape[2], arrays["c0"].shape[1], arrays["h0"].shape[1]
    lstm = torch.nn.LSTM(
        size,
        units,
        batch_first=True,
        bidirectional=go_backwards,
        proj_size=outputs if "projection_kernel" in arrays else 0,
        dtype=torch.float64,
    )
    suffix = "l0_reverse" if go_backwards else "l0"
    parameters = dict(lstm.named_parameters())
    theirs = {
        "kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias_ih",
        "projection_kernel": "weight_hr",
    }  # fmt: skip
    named = {ours: parameters[f"{theirs[ours]}_{suffix}"] for ours in theirs if ours in arrays}
    with torch.no_grad():
        # torch has two biases that are added; the first gets all of ours.
        parameters[f"bias_hh_{suffix}"].zero_()
        for name, parameter in named.items():
            parameter.copy_(torch.from_numpy(arrays[name].T))
    for name in ("x", "h0", "c0"):
        named[name] = torch.from_numpy(arrays[name].copy()).requires_grad_()
    directions = 1 + go_backwards
    state = tuple(torch.stack([named[name]] * directions) for name in ("h0", "c0"))
    x = named["x"]
    if lengths is not None:
        x = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.from_numpy(lengths), batch_first=True, enforce_sorted=False
        )
    output, (h, c) = lstm(x, state)
    if lengths is not None:
        output, _ = torch.nn.utils.rnn.pad_packed_sequence(
            output, batch_first=True, total_length=arrays["x"].shape[1]
        )
    # The last direction alone reaches the loss, and its steps are put in their own order.
    output = output[..., -outputs:]
    output = output.flip(1) if go_backwards else output
    results = {"output": output, "h": h[-1], "c": c[-1]}
    sum(
        (torch.from_numpy(arrays[f"d_{n}"]) * result).sum() for n, result in results.items()
    ).backward()
    return {name: result.detach().numpy() for name, result in results.items()} | {
        f"gradient_{name}": (tensor.grad.T if name in theirs else tensor.grad).numpy()
        for name, tensor in named.items()
    }


def run_keras(
    arrays: Arrays,
    cell: Cell | None = None,
    *,
    mask: Array | None = None,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
    noise: Noise | None = None,
) -> Arrays:
    """Run keras.layers.LSTM on TensorFlow in the dtype of the arrays, with its gradients.

    Of noise, x alone goes to Keras as dropout, and h as recurrent_dropout. With the latter Keras
    draws a mask for each gate; here the four are the same.
    """
    keras = pytest.importorskip("keras", reason="keras is not installed")
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    cell = Cell() if cell is None else cell
    noise = Noise() if noise is None else noise
    rates = [0.0 if factors is None else 0.5 for factors in noise[:2]]
    layer = keras.layers.LSTM(
        arrays["c0"].shape[1],
        activation=cell.activation,
        recurrent_activation=cell.recurrent_activation,
        return_sequences=True,
        return_state=True,
        go_backwards=go_backwards,
        zero_output_for_mask=zero_output_for_mask,
        dropout=rates[0],
        recurrent_dropout=rates[1],
        dtype=arrays["x"].dtype.name,
    )
    layer.build(arrays["x"].shape)
    weights = ["kernel", "recurrent_kernel", "bias"]
    layer.set_weights([arrays[name] for name in weights])
    one_for_each_gate = layer.cell.implementation == 1
    for name, factors in (("_dropout_mask", noise.x), ("_recurrent_dropout_mask", noise.h)):
        if factors is not None:
            drawn = tf.constant(factors)
            setattr(layer.cell, name, [drawn] * 4 if one_for_each_gate else drawn)
    named = dict(zip(weights, (v.value for v in layer.trainable_variables), strict=True))
    named |= {name: tf.constant(arrays[name]) for name in ("x", "h0", "c0")}
    with tf.GradientTape() as tape:
        tape.watch([named[name] for name in ("x", "h0", "c0")])
        results = layer(
            named["x"],
            initial_state=[named["h0"], named["c0"]],
            mask=None if mask is None else tf.constant(mask),
            training=any(rates),
        )
        results = dict(zip(("output", "h", "c"), results, strict=True))
        loss = sum(tf.reduce_sum(arrays[f"d_{n}"] * result) for n, result in results.items())
    gradients = tape.gradient(loss, named)
    return {name: result.numpy() for name, result in results.items()} | {
        f"gradient_{name}": gradient.numpy() for name, gradient in gradients.items()
    }
