"""Our models as ONNX graphs, of operators that every runtime has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layers import LSTM, Dense, Dropout, Embedding, Layer
from .building import reorder_gates
from .onnx_lstm import ORDER
from .onnx_model import import_onnx
from .onnx_parts import ACTIVATIONS

__all__ = ["Writer"]

Array = NDArray[Any]

_OPSET, _IR_VERSION = 17, 8
_OPSET_OF_GELU, _IR_VERSION_OF_GELU = 20, 9


class Writer:
    """Adds layer after layer to a graph.

    Sequences are (T, B, features) between LSTMs, as ONNX's LSTM takes and gives them.

    Parameters
    ----------
    layers : sequence of Layer
        Built, of one dtype, at least one of them an LSTM.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._onnx = import_onnx()
        self._layers = layers
        self._lstms = [layer for layer in layers if isinstance(layer, LSTM)]
        self._dtype = np.dtype(self._lstms[0].dtype)
        self._type = self._onnx.helper.np_dtype_to_tensor_dtype(self._dtype)
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._constants: list[Any] = []
        self._value = "x"
        self._axes = ["batch", "time"]
        self._time_major = False

    def model(self) -> Any:
        """Return the ModelProto."""
        helper = self._onnx.helper
        first = next(layer for layer in self._layers if layer.weights)
        words = isinstance(first, Embedding)
        size = [] if words else [first.weights[0].shape[0]]
        type_of_x = self._onnx.TensorProto.INT64 if words else self._type
        self._inputs.append(helper.make_tensor_value_info("x", type_of_x, [*self._axes, *size]))
        # The batch's size, for states of zeros: (1, 1, H) becomes (1, B, H).
        one = self._constant("one", np.array([1], np.int64))
        batch = self._node("Shape", ["x"], "batch_size", end=1)
        self._state_shape = self._node("Concat", [one, batch, one], "state_shape", axis=0)
        for index, layer in enumerate(self._layers):
            self._layer(layer, f"layers/{index}")
        self._to_batch_major()
        self._node("Identity", [self._value], "output")
        units = next(n.units for n in self._layers[::-1] if isinstance(n, (LSTM, Dense)))
        output = helper.make_tensor_value_info("output", self._type, [*self._axes, units])
        graph = helper.make_graph(
            self._nodes, "lstm_ext", self._inputs, [output, *self._outputs], self._constants
        )
        gelu = any(node.op_type == "Gelu" for node in self._nodes)
        opset = helper.make_opsetid("", _OPSET_OF_GELU if gelu else _OPSET)
        version = _IR_VERSION_OF_GELU if gelu else _IR_VERSION
        return helper.make_model(
            graph, opset_imports=[opset], ir_version=version, producer_name="lstm_ext"
        )

    def _layer(self, layer: Layer, prefix: str) -> None:
        if isinstance(layer, LSTM):
            self._lstm(layer, prefix)
        elif isinstance(layer, Dense):
            self._dense(layer, prefix)
        elif isinstance(layer, Embedding):
            table = self._constant(f"{prefix}/embeddings", layer.embeddings)
            self._value = self._node("Gather", [table, self._value], prefix, name=layer.name)
        elif isinstance(layer, Dropout):
            rate = self._constant(f"{prefix}/rate", np.array(layer.rate, np.float32))
            self._value = self._node("Dropout", [self._value, rate], prefix, name=layer.name)
        else:
            raise ValueError(f"{layer.name}: got a {type(layer).__name__}, which is not supported")

    def _lstm(self, layer: LSTM, prefix: str) -> None:
        if not self._time_major:
            self._value = self._node("Transpose", [self._value], f"{prefix}/steps", perm=[1, 0, 2])
            self._time_major = True
        number = f"_{self._lstms.index(layer)}" if len(self._lstms) > 1 else ""
        states = [self._state(f"initial_{state}{number}", layer.units) for state in "hc"]
        inputs = [self._value, *self._weights(layer, prefix), "", *states]
        finals = [f"final_{state}{number}" for state in "hc"]
        self._nodes.append(
            self._onnx.helper.make_node(
                "LSTM", inputs, [f"{prefix}/y", *finals], name=layer.name,
                direction="reverse" if layer.go_backwards else "forward", hidden_size=layer.units,
            )
        )  # fmt: skip
        for final in finals:
            self._outputs.append(self._state_info(final, layer.units))
        if not layer.return_sequences:
            zero = self._constant(f"{prefix}/directions", np.array([0], np.int64))
            self._value = self._node("Squeeze", [finals[0], zero], f"{prefix}/h")
            self._time_major = False
            self._axes = ["batch"]
            return
        axis = self._constant(f"{prefix}/directions", np.array([1], np.int64))
        self._value = self._node("Squeeze", [f"{prefix}/y", axis], f"{prefix}/sequence")
        if layer.go_backwards:  # ours stand in the order of the steps
            numbers = {"from": -1, "to": np.iinfo(np.int64).min, "axis": 0, "by": -1}
            bounds = [
                self._constant(f"{prefix}/{name}", np.array([number], np.int64))
                for name, number in numbers.items()
            ]
            self._value = self._node("Slice", [self._value, *bounds], f"{prefix}/reversed")

    def _weights(self, layer: LSTM, prefix: str) -> list[str]:
        w = reorder_gates(layer.kernel.T, "ifco", ORDER)[None]
        r = reorder_gates(layer.recurrent_kernel.T, "ifco", ORDER)[None]
        names = [self._constant(f"{prefix}/W", w), self._constant(f"{prefix}/R", r)]
        if not layer.use_bias:
            return [*names, ""]
        bias = reorder_gates(layer.bias, "ifco", ORDER)
        # Not 0: of all numbers, only -0 leaves every other as it is, -0 included.
        both = np.concatenate([bias, np.full_like(bias, -0.0)])[None]
        return [*names, self._constant(f"{prefix}/B", both)]

    def _state(self, name: str, units: int) -> str:
        """Add an input that may be left out, for zeros."""
        self._inputs.append(self._state_info(name, units))
        self._constant(name, np.zeros((1, 1, units), self._dtype))
        return self._node("Expand", [name, self._state_shape], f"{name}/of_batch")

    def _state_info(self, name: str, units: int) -> Any:
        shape = [1, "batch", units]
        return self._onnx.helper.make_tensor_value_info(name, self._type, shape)

    def _dense(self, layer: Dense, prefix: str) -> None:
        kernel = self._constant(f"{prefix}/kernel", layer.kernel)
        value = self._node("MatMul", [self._value, kernel], f"{prefix}/product", name=layer.name)
        if layer.use_bias:
            bias = self._constant(f"{prefix}/bias", layer.bias)
            value = self._node("Add", [value, bias], f"{prefix}/sum")
        name = layer.activation.name
        if name == "silu":
            gate = self._node("Sigmoid", [value], f"{prefix}/gate")
            value = self._node("Mul", [value, gate], f"{prefix}/{name}")
        elif name != "linear":
            kind, options, _ = ACTIVATIONS[name]
            value = self._node(kind, [value], f"{prefix}/{name}", **options)
        self._value = value

    def _to_batch_major(self) -> None:
        if self._time_major:
            self._value = self._node("Transpose", [self._value], "batch_first", perm=[1, 0, 2])

    def _node(self, kind: str, inputs: Sequence[str], output: str, **options: Any) -> str:
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, [output], **options))
        return output

    def _constant(self, name: str, array: Array) -> str:
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name
