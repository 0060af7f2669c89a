"""A whole ONNX graph as a model: the nodes from its input to its first output, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layers import LSTM, Embedding
from ..models import Sequential
from .building import check_matrix, naming
from .onnx_axes import FEATURES, UNIT, Axes, Shapes, axis_index, constant_ints, without_units
from .onnx_lstm import OPERATORS, read_lstm
from .onnx_model import Graph, attributes, import_onnx, label, operator, optional_input
from .onnx_parts import (
    ACTIVATIONS,
    BY_OPERATOR,
    DensePart,
    DropoutPart,
    EmbeddingPart,
    LSTMPart,
)

__all__ = ["read_graph"]

Array = NDArray[Any]

_OF_STATES = ("Concat", "Identity", "Reshape", "Squeeze", "Transpose")
_END = 2**31 - 1  # what stands for the end of an axis in a Slice, at least


def read_graph(graph: Graph) -> LSTM | Sequential:
    """Return the LSTM or the model that a graph computes.

    Raises
    ------
    NotImplementedError
        If an operator or what it does is not supported; the message names the node.
    ValueError
        If the graph does not fit together.
    """
    name, path = _path(graph)
    reader = _Reader(graph, name)
    for node, output in path:
        with naming(f"node {label(node)!r} ({operator(node)})"):
            reader.read(node, output)
    _check_other_outputs(graph, {id(node) for node, _ in path})
    return reader.model()


def _path(graph: Graph) -> tuple[str, list[tuple[Any, str]]]:
    """Return the graph's input, and the nodes from there to its first output.

    Each comes with the output by which the path goes on.
    """
    if not graph.outputs:
        raise ValueError("the graph has no output")
    name, seen = graph.outputs[0], set()
    path: list[tuple[Any, str]] = []
    while graph.input_shape(name) is None:
        node = graph.producer(name)
        if node is None or name in seen:
            raise ValueError(f"{name!r} is made by no node, or from itself")
        seen.add(name)
        path.append((node, name))
        name = _data_input(graph, node)
    return name, path[::-1]


def _data_input(graph: Graph, node: Any) -> str:
    """Return the input of a node that carries what the graph computes on."""
    kind = operator(node)
    names = list(node.input)
    if kind == "Gather" and len(names) > 1 and graph.is_constant(names[0]):
        return str(names[1])
    if kind == "Gather":
        names[0] = _picked(graph, node) or names[0]
    if kind in ("Add", "MatMul", "Mul") and len(names) == 2:
        gate = _swish_input(graph, node)
        if gate is not None:
            return gate
        names.sort(key=graph.is_constant)
        if not graph.is_constant(names[1]):
            raise NotImplementedError(f"node {label(node)!r}: {kind} of two computed values")
    if not names or not names[0]:
        raise NotImplementedError(f"node {label(node)!r}: operator {kind} has no input to follow")
    return str(names[0])


def _swish_input(graph: Graph, node: Any) -> str | None:
    """Return x if the node is x * Sigmoid(x)."""
    for gate, value in (node.input, node.input[::-1]):
        made_by = graph.producer(gate)
        is_gate = made_by is not None and operator(made_by) == "Sigmoid"
        if is_gate and made_by.input[0] == value and operator(node) == "Mul":
            return str(value)
    return None


def _picked(graph: Graph, node: Any) -> str | None:
    """Return which of several LSTMs' states a Gather takes from their Concat, as h_n[-1] does."""
    states = graph.producer(node.input[0])
    if states is None or operator(states) != "Concat" or not graph.is_constant(node.input[1]):
        return None
    axes = {attributes(made).get("axis", 0) for made in (node, states)}
    index = constant_ints(graph, node.input[1], "indices")
    makers = [graph.producer(name) for name in states.input]
    if axes != {0} or len(index) != 1 or not -len(makers) <= index[0] < len(makers):
        return None
    name = states.input[index[0]]
    if any(maker is None or operator(maker) not in OPERATORS for maker in makers):
        return None
    return str(name)


def _check_other_outputs(graph: Graph, path: set[int]) -> None:
    """Refuse outputs other than the first, unless they are the last states of LSTMs on the way."""
    names, seen = graph.outputs[1:], set(graph.outputs[:1])
    for name in names:
        if name in seen:
            continue
        seen.add(name)
        node = graph.producer(name)
        if node is not None and operator(node) in _OF_STATES:
            count = len(node.input) if operator(node) == "Concat" else 1
            names.extend(node.input[:count])
        elif node is None or id(node) not in path or name not in list(node.output)[1:3]:
            raise NotImplementedError(
                f"output {name!r} beside the first is not supported, as it is no LSTM's state"
            )


class _Reader:
    """The layers that the nodes so far make, and what the axes of the last value are."""

    def __init__(self, graph: Graph, name: str) -> None:
        shape = graph.input_shape(name) or []
        self._graph = graph
        self._data = self._name = name
        self._axes: Axes = tuple(map(str, range(len(shape))))
        sizes = {str(axis): size for axis, size in enumerate(shape) if size is not None}
        self._shapes = Shapes(graph, sizes)
        self._shapes.axes[name] = self._axes
        self._rank = len(shape)
        self._made: list[LSTMPart | DensePart | EmbeddingPart | DropoutPart] = []
        self._time: str | None = None
        self._batch: str | None = None
        self._flipped = False  # whether our outputs stand in the opposite order

    def read(self, node: Any, output: str) -> None:
        """Take the next node, whose output of that name goes on."""
        kind = operator(node)
        if kind in BY_OPERATOR:
            self._activation(node, BY_OPERATOR[kind])
        elif kind in OPERATORS:
            self._lstm(node, list(node.output).index(output))
        elif output != node.output[0]:
            raise NotImplementedError("another output than the first is not supported")
        elif kind in ("Transpose", "Squeeze", "Unsqueeze", "Reshape"):
            self._axes = self._shapes.move(node, self._axes)
        else:
            handlers: dict[str, Callable[[Any], None]] = {
                "Add": self._add,
                "Cast": self._cast,
                "Dropout": self._dropout,
                "Gather": self._gather,
                "Gemm": self._gemm,
                "Identity": lambda node: None,
                "MatMul": self._matmul,
                "Mul": self._mul,
                "Slice": self._slice,
            }
            if kind not in handlers:
                raise NotImplementedError("the operator is not supported")
            handlers[kind](node)
        self._name = output
        self._shapes.axes[output] = self._axes

    # ---- LSTMs and time ----

    def _lstm(self, node: Any, output: int) -> None:
        found = read_lstm(self._graph, node, self._data)
        first, second, features = self._axes if len(self._axes) == 3 else (UNIT,) * 3
        batch, time = (first, second) if found.layout else (second, first)
        known = (self._batch or batch, self._time or time)
        if UNIT in (batch, time, features) or (batch, time) != known:
            raise NotImplementedError(f"its input has other axes than layout={found.layout} takes")
        if node.input[0] != self._name:
            raise NotImplementedError("the path goes into it by another input than X")
        self._check_features(found.kernel.shape[0])
        self._batch, self._time = batch, time
        # Our outputs stand in the order in which the steps were taken, ONNX's in that of time.
        made = LSTMPart(found, go_backwards=found.reverse != self._flipped)
        self._made.append(made)
        self._shapes.sizes[FEATURES] = found.recurrent_kernel.shape[0]
        if output == 0:
            self._flipped = found.reverse
            sequence = (batch, time, UNIT) if found.layout else (time, UNIT, batch)
            self._axes = (*sequence, FEATURES)
        elif output == 1:
            made.return_sequences = False
            self._flipped = False
            self._axes = ((batch, UNIT) if found.layout else (UNIT, batch)) + (FEATURES,)
        else:
            raise NotImplementedError("the cell state as the output is not supported")

    def _gather(self, node: Any) -> None:
        axis = attributes(node).get("axis", 0)
        if self._graph.is_constant(node.input[0]):
            table = check_matrix(self._float(node.input[0], "the table"), "the table", (None, None))
            if self._made or axis != 0:
                raise NotImplementedError("a table that is not for the graph's input")
            self._made.append(EmbeddingPart(table, node.name))
            self._axes = (*self._axes, FEATURES)
            self._shapes.sizes[FEATURES] = table.shape[1]
            return
        axis = axis_index(axis, len(self._axes))
        indices = self._graph.constant(node.input[1], "indices")
        if indices.size != 1 or indices.dtype.kind not in "iu" or indices.ndim > 1:
            raise NotImplementedError("Gather of anything but one step")
        index = int(indices.reshape(-1)[0])
        if self._axes[axis] != UNIT:
            self._take(axis, index)
        elif index not in (0, -1) and _picked(self._graph, node) != self._name:
            raise NotImplementedError(f"index {index} of an axis of size one")
        kept = (UNIT,) * indices.ndim
        self._axes = self._axes[:axis] + kept + self._axes[axis + 1 :]

    def _slice(self, node: Any) -> None:
        start, stop = (constant_ints(self._graph, node.input[i], "Slice") for i in (1, 2))
        given = optional_input(node, 3)
        indices = constant_ints(self._graph, given, "axes") if given else list(range(len(start)))
        given = optional_input(node, 4)
        steps = constant_ints(self._graph, given, "steps") if given else [1]
        if not len(start) == len(stop) == len(indices) == len(steps) == 1:
            raise NotImplementedError("Slice along several axes")
        axis = axis_index(indices[0], len(self._axes))
        bounds = (start[0], stop[0], steps[0])
        if start[0] == 0 and stop[0] >= _END and steps[0] == 1:
            return
        if (
            start[0] == -1
            and stop[0] <= -_END
            and steps[0] == -1
            and self._axes[axis] == self._time
        ):
            self._flipped = not self._flipped
        elif bounds == (0, 1, 1) or (start[0] == -1 and stop[0] >= _END and steps[0] == 1):
            self._take(axis, start[0])
            self._axes = (*self._axes[:axis], UNIT, *self._axes[axis + 1 :])
        else:
            raise NotImplementedError("Slice of anything but the last step or all in reverse")

    def _take(self, axis: int, index: int) -> None:
        """Have the last LSTM return its last step alone, if that is what an index takes."""
        lstm = next((made for made in self._made[::-1] if isinstance(made, LSTMPart)), None)
        last = 0 if self._flipped else -1
        if lstm is None or self._axes[axis] != self._time or index != last:
            raise NotImplementedError("a step of it is taken that is not an LSTM's last")
        lstm.return_sequences = False
        self._flipped = False

    # ---- layers without time ----

    def _matmul(self, node: Any) -> None:
        if node.input[0] != self._name:
            raise NotImplementedError("a product with the constant on the left")
        self._dense(self._float(node.input[1], "the second factor"), node)

    def _gemm(self, node: Any) -> None:
        options = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0, **attributes(node)}
        if (options["alpha"], options["beta"], options["transA"]) != (1.0, 1.0, 0):
            raise NotImplementedError("alpha, beta or transA")
        if node.input[0] != self._name:
            raise NotImplementedError("a product with the constant on the left")
        kernel = self._float(node.input[1], "B")
        self._dense(kernel.T if options["transB"] else kernel, node)
        if optional_input(node, 2):
            self._add_bias(self._float(node.input[2], "C"))

    def _dense(self, kernel: Array, node: Any) -> None:
        check_matrix(kernel, "kernel", (None, None))
        self._check_features(kernel.shape[0])
        self._made.append(DensePart(kernel, node.name))
        self._axes = (*self._axes[:-1], FEATURES)
        self._shapes.sizes[FEATURES] = kernel.shape[1]

    def _add(self, node: Any) -> None:
        others = [name for name in node.input if name != self._name]
        if len(others) != 1:
            raise NotImplementedError("Add of a value to itself")
        self._add_bias(self._float(others[0], "the summand"))

    def _add_bias(self, bias: Array) -> None:
        dense = self._linear()
        units = dense.kernel.shape[1]
        if dense.bias is not None or bias.size != units or bias.shape[-1:] != (units,):
            raise NotImplementedError(f"a summand of shape {bias.shape} that is no Dense's bias")
        dense.bias = bias.reshape(units)

    def _activation(self, node: Any, name: str) -> None:
        _, expected, defaults = ACTIVATIONS[name]
        options = {**defaults, **attributes(node)}
        if name == "softmax":
            options["axis"] = options["axis"] - len(self._axes) * (options["axis"] > 0)
        for option, value in options.items():
            want = expected.get(option, defaults.get(option))
            same = value == want or (
                isinstance(want, float) and np.float32(value) == np.float32(want)
            )
            if not same:
                raise NotImplementedError(f"{option}={value}, expected {want}")
        self._linear().activation = name

    def _mul(self, node: Any) -> None:
        if _swish_input(self._graph, node) != self._name:
            raise NotImplementedError("a product that is not x * Sigmoid(x)")
        self._linear().activation = "silu"

    def _linear(self) -> DensePart:
        """Return the Dense that made the last value, if it has no activation yet."""
        dense = self._made[-1] if self._made else None
        if not isinstance(dense, DensePart) or dense.activation is not None:
            raise NotImplementedError("it does not follow a Gemm or a MatMul")
        return dense

    def _dropout(self, node: Any) -> None:
        rate = attributes(node).get("ratio", 0.5)
        if optional_input(node, 1):
            rate = self._graph.constant(node.input[1], "ratio").reshape(-1)[0]
        training = optional_input(node, 2)
        if training and not self._graph.is_zero(training):
            raise NotImplementedError("training_mode is not supported")
        self._made.append(DropoutPart(float(rate), node.name))

    def _cast(self, node: Any) -> None:
        types = import_onnx().TensorProto
        target = attributes(node).get("to")
        whole = target in (types.INT32, types.INT64) and not self._made
        if not whole and target not in (types.FLOAT, types.DOUBLE):
            raise NotImplementedError(f"to={target}")

    def _float(self, name: str, what: str) -> Array:
        array = self._graph.constant(name, what)
        if array.dtype.kind != "f":
            raise NotImplementedError(f"{what} has elements of {array.dtype}, expected floats")
        return array

    def _check_features(self, size: int) -> None:
        """Refuse a last axis that is not that of features, or is of another size."""
        axis = self._axes[-1]
        if axis not in (FEATURES, str(self._rank - 1)):
            raise NotImplementedError("its input does not have its features last")
        if self._shapes.sizes.get(axis, size) != size:
            raise ValueError(
                f"got weights for {size} features, expected {self._shapes.sizes[axis]}"
            )

    # ---- the end ----

    def model(self) -> LSTM | Sequential:
        """Return the layers as a model, or the layer if it is one LSTM."""
        axes = without_units(self._axes)
        if not any(isinstance(made, LSTMPart) for made in self._made):
            raise ValueError("the graph has no LSTM on the way to its first output")
        if axes[-1:] != (FEATURES,):
            raise NotImplementedError("the output does not have its features last")
        if self._flipped and self._time in axes:
            raise NotImplementedError(
                "a reversed LSTM's sequence as output, which we return in the order of its steps; "
                "give node= to read the LSTM by itself"
            )
        wide = any(array.dtype == np.float64 for made in self._made for array in made.arrays())
        layers = [made.layer("float64" if wide else "float32") for made in self._made]
        if len(layers) == 1 and isinstance(layers[0], LSTM):
            return layers[0]
        first = next(layer for layer in layers if layer.weights)
        features = () if isinstance(first, Embedding) else (first.weights[0].shape[0],)
        model = Sequential(layers)
        model.build((None, *[None] * (self._rank - 1 - len(features)), *features))
        return model
