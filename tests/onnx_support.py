"""ONNX models for tests: a node, a graph of nodes, nodes after an LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support import Array

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

SIZE, UNITS = 3, 4


def weights() -> dict[str, Array]:
    rng = np.random.default_rng(4)
    shapes = {"W": (1, 4 * UNITS, SIZE), "R": (1, 4 * UNITS, UNITS), "B": (1, 8 * UNITS)}
    return {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}


def node(inputs: str = "x W R B", outputs: str = "y", kind: str = "LSTM", **options: Any) -> Any:
    """Return a node; "-" leaves an input or an output out."""
    names = [[n if n != "-" else "" for n in text.split()] for text in (inputs, outputs)]
    if kind == "LSTM":
        options = {"hidden_size": UNITS, "name": "lstm", **options}
    return helper.make_node(kind, *names, **options)


def graph(
    *nodes: Any,
    constants: dict[str, Array] | None = None,
    output: str = "y",
    inputs: tuple[str, ...] = (),
    rank: int = 3,
) -> Any:
    """Return the model of nodes that begins with an LSTM's weights and x (T, B, size)."""
    arrays = {
        **weights(), "one": np.array([1]), "zero": np.array([0]), **(constants or {}),
    }  # fmt: skip
    shapes = {"x": ["t", "b", SIZE][:rank], **{name: [1, "b", UNITS] for name in inputs}}
    float32 = onnx.TensorProto.FLOAT
    proto = helper.make_graph(
        nodes or [node()],
        "test",
        [helper.make_tensor_value_info(name, float32, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(name, float32, None) for name in output.split()],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 20)])


def after(*nodes: Any, output: str = "z", **options: Any) -> Any:
    """Return the model of an LSTM's sequence "s" (T, B, H) and nodes that take it."""
    squeeze = node("y one", "s", "Squeeze")
    rng = np.random.default_rng(6)
    constants = {
        "k": rng.normal(size=(UNITS, 2)), "k_t": rng.normal(size=(2, UNITS)), "b": np.ones(2),
        "wide": np.ones(UNITS), "last": np.array([-1]), "scalar": np.array(-1),
        "end": np.array([2**40]), "begin": np.array([-(2**40)]), "rate": np.array(0.25),
        "yes": np.array(True), "table": np.ones((9, 2)), "two": np.array([0, 1]),
        "flat": np.array([-1, 4]), "mixed": np.array([0, -1, 2]), "more": np.array([0, 0, 0, 2]),
    }  # fmt: skip
    constants = {
        name: array.astype(np.float32) if array.dtype == np.float64 else array
        for name, array in constants.items()
    }
    lstm = node("x W R B", "y h c", **options)
    return graph(lstm, squeeze, *nodes, constants=constants, output=output)


def constant(model: Any, name: str) -> Array:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    return numpy_helper.to_array(tensors[name])


ACTIVATIONS = [
    "elu", "exponential", "gelu", "hard_sigmoid", "leaky_relu", "relu", "selu", "sigmoid", "silu",
    "softmax", "softplus", "softsign", "tanh", None,
]  # fmt: skip


def session(model: Any) -> Any:
    """Return a session of ONNX Runtime on one thread."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(model.SerializeToString(), options)


# How many numbers each activation of ONNX's LSTM takes.
OF_CELLS = {
    "Affine": 2, "Elu": 1, "HardSigmoid": 2, "LeakyRelu": 1, "Relu": 0, "ScaledTanh": 2,
    "Sigmoid": 0, "Softplus": 0, "Softsign": 0, "Tanh": 0, "ThresholdedRelu": 1,
}  # fmt: skip


def random_activations(rng: np.random.Generator, directions: int) -> dict[str, Any]:
    """Draw activations of a node, with numbers for all that take some or, at times, for none."""
    names = [str(name) for name in rng.choice(list(OF_CELLS), 3 * directions)]
    if {"Affine", "ScaledTanh", "ThresholdedRelu"} & set(names) or rng.integers(3):
        counts = [OF_CELLS[name] for name in names]
        alphas = rng.uniform(0.1, 0.9, sum(count > 0 for count in counts)).round(2)
        betas = rng.uniform(0.1, 0.9, sum(count > 1 for count in counts)).round(2)
    else:
        alphas = betas = np.array([])
    given = {"activation_alpha": alphas.tolist(), "activation_beta": betas.tolist()}
    return {"activations": names, **{name: values for name, values in given.items() if values}}


def random_node(rng: np.random.Generator) -> tuple[Any, dict[str, Array]]:
    """Draw a model of one node, "lstm", and what to give it: x, and perhaps lens, h0 and c0."""
    steps, batch, size, units = (int(n) for n in rng.integers(1, [9, 5, 17, 17]))
    direction = ("forward", "reverse", "bidirectional")[rng.integers(3)]
    d = 2 if direction == "bidirectional" else 1
    shapes = {
        "W": (d, 4 * units, size), "R": (d, 4 * units, units), "B": (d, 8 * units),
        "P": (d, 3 * units), "h0": (d, batch, units), "c0": (d, batch, units),
    }  # fmt: skip
    has = {name: bool(rng.integers(2)) for name in ("B", "P", "h0", "lens", "cells", "clip")}
    scale = 0.7 if not has["cells"] else 0.3
    arrays = {n: rng.normal(0, scale, s).astype(np.float32) for n, s in shapes.items()}
    arrays["x"] = rng.normal(size=(steps, batch, size)).astype(np.float32)
    arrays["lens"] = rng.integers(0, steps + 1, batch).astype(np.int32)
    options: dict[str, Any] = random_activations(rng, d) if has["cells"] else {}
    if has["clip"]:
        options["clip"] = float(rng.uniform(0.3, 3))
    options["input_forget"] = int(rng.integers(4) == 0)
    named = {"lens": has["lens"], "h0": has["h0"], "c0": has["h0"], "B": has["B"], "P": has["P"]}
    names = ("x", "W", "R", "B", "lens", "h0", "c0", "P")
    inputs = [name if named.get(name, True) else "" for name in names]
    lstm = helper.make_node(
        "LSTM", inputs, ["y", "h", "c"], name="lstm", hidden_size=units, direction=direction,
        **options,
    )  # fmt: skip
    given = {name: arrays[name] for name in ("x", "lens", "h0", "c0") if name in inputs}
    proto = helper.make_graph(
        [lstm],
        "test",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in given.items()
        ],
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in lstm.output],
        [numpy_helper.from_array(arrays[n], n) for n in ("W", "R", "B", "P") if n in inputs],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, given


def node_inputs_as_constants(model: Any, inputs: list[Array]) -> Any:
    """Return a model of one node of which all inputs but the first are constants."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    rest = list(changed.graph.input)[1:]
    del changed.graph.input[1:]
    for value, array in zip(rest, inputs[1:], strict=True):
        changed.graph.initializer.append(numpy_helper.from_array(array, value.name))
    return changed
