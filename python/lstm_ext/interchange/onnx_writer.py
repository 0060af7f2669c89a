"""Our models as ONNX graphs, of operators that every runtime has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..layers import LSTM, Bidirectional, Dense, Dropout, Embedding, Layer
from .building import input_size
from .onnx_nodes import Nodes
from .onnx_parts import ACTIVATIONS
from .onnx_writer_lstm import LSTMWriter, node_groups

__all__ = ["write_model"]

_OPSET, _IR_VERSION = 17, 8
_OPSET_OF_GELU, _IR_VERSION_OF_GELU = 20, 9
_LENGTHS = "sequence_lens"


def write_model(layers: Sequence[Layer], lengths: bool) -> Any:
    """Return the ModelProto of layers.

    Parameters
    ----------
    layers : sequence of Layer
        Built, of one dtype, at least one of them an LSTM, none of several layers.
    lengths : bool
        Whether it has an input that says where sequences end.
    """
    dtype = next(layer.dtype for layer in layers if layer.weights)
    return _Writer(Nodes(np.dtype(dtype)), layers, lengths).model()


class _Writer:
    """Adds layer after layer to a graph.

    Sequences are (T, B, features) between LSTMs, as ONNX's LSTM takes and gives them.
    """

    def __init__(self, nodes: Nodes, layers: Sequence[Layer], lengths: bool) -> None:
        self._nodes = nodes
        self._layers = layers
        self._with_lengths = lengths
        self._value = "x"
        self._features: int | None = None
        self._axes = ["batch", "time"]
        self._time_major = False

    def model(self) -> Any:
        """Return the ModelProto."""
        nodes, helper = self._nodes, self._nodes.onnx.helper
        first = next(layer for layer in self._layers if layer.weights)
        words = isinstance(first, Embedding)
        size = [] if words else [input_size(first)]
        type_of_x = nodes.onnx.TensorProto.INT64 if words else nodes.type
        nodes.inputs.append(helper.make_tensor_value_info("x", type_of_x, [*self._axes, *size]))
        # The batch's size, for states of zeros: (D, 1, H) becomes (D, B, H).
        one = nodes.ints("one", 1)
        batch = nodes.node("Shape", ["x"], "batch_size", end=1)
        state_shape = nodes.node("Concat", [one, batch, one], "state_shape", axis=0)
        lstms = [layer for layer in self._layers if isinstance(layer, (LSTM, Bidirectional))]
        count = sum(len(node_groups(layer)) for layer in lstms)
        lengths = _LENGTHS if self._with_lengths else ""
        self._lstms = LSTMWriter(nodes, count, state_shape, lengths)
        for index, layer in enumerate(self._layers):
            self._layer(layer, f"layers/{index}")
        if lengths:
            int32 = nodes.onnx.TensorProto.INT32
            nodes.inputs.append(helper.make_tensor_value_info(lengths, int32, ["batch"]))
        if self._time_major:
            self._value = nodes.node("Transpose", [self._value], "batch_first", perm=[1, 0, 2])
        nodes.node("Identity", [self._value], "output")
        assert self._features is not None
        outputs = [nodes.info("output", [*self._axes, self._features]), *nodes.outputs]
        graph = helper.make_graph(nodes.nodes, "lstm_ext", nodes.inputs, outputs, nodes.constants)
        gelu = any(node.op_type == "Gelu" for node in nodes.nodes)
        opset = helper.make_opsetid("", _OPSET_OF_GELU if gelu else _OPSET)
        version = _IR_VERSION_OF_GELU if gelu else _IR_VERSION
        return helper.make_model(
            graph, opset_imports=[opset], ir_version=version, producer_name="lstm_ext"
        )

    def _layer(self, layer: Layer, prefix: str) -> None:
        nodes = self._nodes
        if isinstance(layer, (LSTM, Bidirectional)):
            self._lstm(layer, prefix)
        elif isinstance(layer, Dense):
            self._dense(layer, prefix)
        elif isinstance(layer, Embedding):
            table = nodes.constant(f"{prefix}/embeddings", layer.embeddings)
            self._value = nodes.node("Gather", [table, self._value], prefix, name=layer.name)
            self._features = layer.output_dim
        elif isinstance(layer, Dropout):
            rate = nodes.constant(f"{prefix}/rate", np.array(layer.rate, np.float32))
            self._value = nodes.node("Dropout", [self._value, rate], prefix, name=layer.name)
        else:
            raise ValueError(f"{layer.name}: got a {type(layer).__name__}, which is not supported")

    def _lstm(self, layer: LSTM | Bidirectional, prefix: str) -> None:
        if not self._time_major:
            self._value = self._nodes.node(
                "Transpose", [self._value], f"{prefix}/steps", perm=[1, 0, 2]
            )
        if isinstance(layer, LSTM):
            self._value = self._lstms.lstm(layer, self._value, prefix)
            self._features = layer.units
        else:
            self._value = self._lstms.bidirectional(layer, self._value, prefix)
            sizes = [layer.forward_layer.units, layer.backward_layer.units]
            self._features = sum(sizes) if layer.merge_mode == "concat" else sizes[0]
        self._time_major = layer.return_sequences
        if not layer.return_sequences:
            self._axes = ["batch"]

    def _dense(self, layer: Dense, prefix: str) -> None:
        nodes = self._nodes
        kernel = nodes.constant(f"{prefix}/kernel", layer.kernel)
        value = nodes.node("MatMul", [self._value, kernel], f"{prefix}/product", name=layer.name)
        if layer.use_bias:
            bias = nodes.constant(f"{prefix}/bias", layer.bias)
            value = nodes.node("Add", [value, bias], f"{prefix}/sum")
        name = layer.activation.name
        if name == "silu":
            gate = nodes.node("Sigmoid", [value], f"{prefix}/gate")
            value = nodes.node("Mul", [value, gate], f"{prefix}/{name}")
        elif name != "linear":
            kind, options, _ = ACTIVATIONS[name]
            value = nodes.node(kind, [value], f"{prefix}/{name}", **options)
        self._value = value
        self._features = layer.units
