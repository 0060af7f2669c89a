"""LSTMs and models in ONNX. onnx is imported where it is used; no runtime is needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .. import activations
from ..layers import LSTM, Bidirectional, Dense, Embedding, Layer, Masking
from ..models import Sequential
from ..models.safetensors import replace_file
from .building import as_layers, float_dtype, naming
from .features import single_layers, warn_of_training
from .onnx_graph import read_graph
from .onnx_lstm import OPERATORS, read_lstm
from .onnx_model import Graph, attributes, label, opened, operator
from .onnx_parts import LSTMPart
from .onnx_writer import write_model
from .onnx_writer_lstm import check_for_onnx

__all__ = ["from_onnx", "to_onnx"]

_LARGEST = 2**31 - 2**20  # bytes of weights; a protobuf message holds no more than 2 GiB


def from_onnx(
    source: Any, node: str | None = None, *, weights_dtype: str | None = None
) -> LSTM | Bidirectional | Sequential:
    """Return an LSTM node as a layer of ours, or a whole graph as a model.

    Called with (batch, time, features), it returns the graph's first output with the batch first,
    whichever of batch and time the graph has first. States start from zeros. What reads both ways
    has the features of both directions side by side, as most graphs put them.

    Where an input of the graph is `sequence_lens`, a layer takes it as `lengths` when it is called,
    and a model as the mask ``np.arange(time) < lengths[:, None]``.

    Parameters
    ----------
    source : path, bytes or onnx.ModelProto
        Of a model with its data inside or, by its path, in files of the same folder.
    node : str, optional
        The name, or that of an output, of an ``LSTM`` or ``DynamicQuantizeLSTM`` to read by itself.
        It returns sequences; one with ``direction="reverse"`` goes backwards, and its outputs stand
        in the order of the steps, where ONNX's stand in that of time.
    weights_dtype : "int8" or "bfloat16", optional
        Compute with small weights, as `LSTM.quantize`: for a ``DynamicQuantizeLSTM``, say.

    Returns
    -------
    LSTM, Bidirectional or Sequential
        The layer if there is but one. Weights of a ``DynamicQuantizeLSTM`` become floats, exactly.

    Raises
    ------
    ValueError
        If the source is cut off or no ONNX model, or does not fit together, or has no such node.
    NotImplementedError
        If an operator or a feature is not supported; the message names the node and the feature.
        A graph may have Gather from a table, LSTM, Gemm or MatMul with Add, activations after
        these, Dropout, and Transpose, Squeeze, Unsqueeze, Reshape, Flatten, Slice, Split, Gather
        and ReverseSequence between; Concat, Add, Mul, Mean of the two directions of an LSTM.
    TypeError
        If `source` is of another type.
    ModuleNotFoundError
        If onnx is not installed.
    OSError
        If the file cannot be read.
    """
    with opened(source) as graph:
        if node is None:
            return read_graph(graph, weights_dtype)
        lstm = _node(graph, node)
        with naming(f"node {label(lstm)!r}"):
            found = read_lstm(graph, lstm, is_full=lambda name: _is_full(graph, lstm, name))
            part = LSTMPart(
                found.directions,
                found.name,
                go_backwards=found.reverse,
                lengths=found.lengths is not None,
                weights_dtype=weights_dtype,
            )
            return part.layer(float_dtype(part.arrays()))


def _node(graph: Graph, name: str) -> Any:
    lstms = [node for node in graph.nodes if operator(node) in OPERATORS]
    for node in lstms:
        if name == node.name or name in node.output:
            return node
    known = ", ".join(repr(label(node)) for node in lstms) or "none"
    raise ValueError(f"node: got {name!r}, expected one of its LSTMs: {known}")


def _is_full(graph: Graph, node: Any, name: str) -> bool:
    """Return whether constant lengths are those that the input of a node declares for all."""
    shape = graph.input_shape(node.input[0]) or []
    steps = shape[attributes(node).get("layout", 0)] if len(shape) == 3 else None
    if steps is None or not graph.is_constant(name):
        return False
    return bool((graph.constant(name, "sequence_lens") == steps).all())


def to_onnx(
    model: LSTM | Bidirectional | Sequential,
    path: str | os.PathLike[str] | None = None,
    *,
    sequence_lens: bool = False,
) -> Any:
    """Return an ONNX model that computes what a layer or model does.

    Batch and time may have any size. Beside ``x`` it has inputs ``initial_h`` and ``initial_c``
    (D, B, H), which may be left out for zeros, and beside ``output`` the outputs ``final_h`` and
    ``final_c`` of the same shape; D is the number of directions, one or two. Of several LSTMs they
    end in ``_0``, ``_1`` and so on.

    Parameters
    ----------
    model : LSTM, Bidirectional or Sequential
        Built, and of one dtype. The full weights are written, also where a layer computes with
        small ones. ONNX Runtime has no LSTM in float64. An LSTM with `num_layers` becomes as many
        nodes; a kept state (`stateful`) is left to whoever gives ``initial_h``.
    path : str or path, optional
        Also write it there.
    sequence_lens : bool
        Whether the model has an input ``sequence_lens`` (B,) of int32: where each sequence ends. It
        is what `lengths` is to a layer of ours.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ValueError
        If the model is not built, has no LSTM, mixes dtypes, is larger than ONNX's 2 GiB, or has
        what ONNX has not: a projection, cell_clip, layer normalisation, zoneout, a mask that is
        computed, an activation of other name; with `sequence_lens`, outputs other than zeros where
        a sequence has ended.
    TypeError
        If it is no layer or model of ours.
    ModuleNotFoundError
        If onnx is not installed.
    OSError
        If the file cannot be written.

    Warns
    -----
    UserWarning
        If a layer has dropout or recurrent_dropout of its own, which act in training alone.
    """
    layers = as_layers(model, "to_onnx")
    _check_layers(layers, model.name)
    if sequence_lens:
        _check_ends([layer for layer in layers if isinstance(layer, (LSTM, Bidirectional))])
    parts = [single_layers(layer) if isinstance(layer, LSTM) else [layer] for layer in layers]
    proto = write_model([layer for part in parts for layer in part], sequence_lens)
    for inner in (inner for layer in layers for inner in (layer, *layer.inner_layers)):
        if isinstance(inner, LSTM):
            warn_of_training(inner, "ONNX")
    if path is not None:
        replace_file(path, [proto.SerializeToString()])
    return proto


def _check_layers(layers: Sequence[Layer], name: str) -> None:
    """Refuse a model that has no form in ONNX."""
    if not any(isinstance(layer, (LSTM, Bidirectional)) for layer in layers):
        raise ValueError(f"to_onnx: {name} has no LSTM, expected at least one")
    if any(isinstance(layer, Embedding) for layer in layers[1:]):
        raise ValueError("to_onnx: got an Embedding after another layer, expected it first")
    dtypes = sorted({layer.dtype for layer in layers if layer.weights})
    if len(dtypes) != 1:
        raise ValueError(f"to_onnx: got layers of {' and '.join(dtypes)}, expected one dtype")
    size = sum(weight.nbytes for layer in layers for weight in layer.weights)
    if size > _LARGEST:
        raise ValueError(f"to_onnx: got {size} bytes of weights, expected at most {_LARGEST}")
    for layer in layers:
        _check(layer)


def _check(layer: Layer) -> None:
    """Refuse a layer that has no form in ONNX."""
    if isinstance(layer, (LSTM, Bidirectional)):
        check_for_onnx(layer)
    elif isinstance(layer, Masking) or (isinstance(layer, Embedding) and layer.mask_zero):
        raise ValueError(
            f"{layer.name}: got a layer that masks steps, which ONNX does not; expected a model "
            "without, and sequence_lens=True"
        )
    elif isinstance(layer, Dense):
        activations.serialize(layer.activation)  # raises for one that has no name


def _check_ends(lstms: Sequence[LSTM | Bidirectional]) -> None:
    """Refuse what computes something else than ONNX where a sequence has ended."""
    for layer in lstms:
        if isinstance(layer, LSTM) and layer.num_layers > 1 and layer.go_backwards:
            raise ValueError(
                f"{layer.name}: got go_backwards with num_layers={layer.num_layers} beside "
                "sequence_lens, where ONNX does not turn the lengths around; expected one layer"
            )
    last = lstms[-1]
    if isinstance(last, LSTM) and last.return_sequences != last.zero_output_for_mask:
        raise ValueError(
            f"{last.name}: got zero_output_for_mask={last.zero_output_for_mask} beside "
            f"sequence_lens, expected {last.return_sequences}, as ONNX's outputs"
        )
