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
