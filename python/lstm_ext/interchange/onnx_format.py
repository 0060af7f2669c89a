"""LSTMs and models in ONNX. onnx is imported where it is used; no runtime is needed."""

from __future__ import annotations

import os
from typing import Any

from .. import activations
from ..layers import LSTM, Dense, Embedding
from ..models import Sequential
from ..models.safetensors import replace_file
from .building import as_layers, naming
from .onnx_graph import read_graph
from .onnx_lstm import OPERATORS, read_lstm
from .onnx_model import Graph, label, opened, operator
from .onnx_writer import Writer

__all__ = ["from_onnx", "to_onnx"]

_LARGEST = 2**31 - 2**20  # bytes of weights; a protobuf message holds no more than 2 GiB


def from_onnx(source: Any, node: str | None = None) -> LSTM | Sequential:
    """Return an LSTM node as a layer of ours, or a whole graph as a model.

    Called with (batch, time, features), it returns the graph's first output with the batch first,
    whichever of batch and time the graph has first. States start from zeros.

    Parameters
    ----------
    source : path, bytes or onnx.ModelProto
        Of a model with its data inside or, by its path, in files of the same folder.
    node : str, optional
        The name, or that of an output, of an ``LSTM`` or ``DynamicQuantizeLSTM`` to read by itself.
        It returns sequences; one with ``direction="reverse"`` goes backwards, and its outputs stand
        in the order of the steps, where ONNX's stand in that of time.

    Returns
    -------
    LSTM or Sequential
        The layer if there is but one. Weights of a ``DynamicQuantizeLSTM`` become floats, exactly;
        `LSTM.quantize` makes them small again.

    Raises
    ------
    ValueError
        If the source is cut off or no ONNX model, or does not fit together, or has no such node.
    NotImplementedError
        If an operator or a feature is not supported; the message names the node and the feature.
        A graph may have Gather from a table, LSTM, Gemm or MatMul with Add, activations after
        these, Dropout, and Transpose, Squeeze, Unsqueeze, Reshape, Slice and Gather between.
    TypeError
        If `source` is of another type.
    ModuleNotFoundError
        If onnx is not installed.
    OSError
        If the file cannot be read.
    """
    with opened(source) as graph:
        if node is not None:
            lstm = _node(graph, node)
            with naming(f"node {label(lstm)!r}"):
                found = read_lstm(graph, lstm)
            return found.layer(go_backwards=found.reverse, return_sequences=True)
        return read_graph(graph)


def _node(graph: Graph, name: str) -> Any:
    lstms = [node for node in graph.nodes if operator(node) in OPERATORS]
    for node in lstms:
        if name == node.name or name in node.output:
            return node
    known = ", ".join(repr(label(node)) for node in lstms) or "none"
    raise ValueError(f"node: got {name!r}, expected one of its LSTMs: {known}")


def to_onnx(model: LSTM | Sequential, path: str | os.PathLike[str] | None = None) -> Any:
    """Return an ONNX model that computes what a layer or model does.

    Batch and time may have any size. Beside ``x`` it has inputs ``initial_h`` and ``initial_c``
    (1, B, H), which may be left out for zeros, and beside ``output`` the outputs ``final_h`` and
    ``final_c`` of the same shape; of several LSTMs, with ``_0``, ``_1`` and so on.

    Parameters
    ----------
    model : LSTM or Sequential
        Built, and of one dtype. The full weights are written, also where a layer computes with
        small ones. ONNX Runtime has no LSTM in float64.
    path : str or path, optional
        Also write it there.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ValueError
        If the model is not built, has no LSTM, mixes dtypes, or is larger than ONNX's 2 GiB.
    TypeError
        If it is no layer or model of ours.
    ModuleNotFoundError
        If onnx is not installed.
    OSError
        If the file cannot be written.
    """
    layers = as_layers(model, "to_onnx")
    if not any(isinstance(layer, LSTM) for layer in layers):
        raise ValueError(f"to_onnx: {model.name} has no LSTM, expected at least one")
    if any(isinstance(layer, Embedding) for layer in layers[1:]):
        raise ValueError("to_onnx: got an Embedding after another layer, expected it first")
    dtypes = sorted({layer.dtype for layer in layers if layer.weights})
    if len(dtypes) != 1:
        raise ValueError(f"to_onnx: got layers of {' and '.join(dtypes)}, expected one dtype")
    size = sum(weight.nbytes for layer in layers for weight in layer.weights)
    if size > _LARGEST:
        raise ValueError(f"to_onnx: got {size} bytes of weights, expected at most {_LARGEST}")
    for layer in layers:
        if isinstance(layer, Dense):
            activations.serialize(layer.activation)  # raises for one that has no name
    proto = Writer(layers).model()
    if path is not None:
        replace_file(path, [proto.SerializeToString()])
    return proto
