"""A whole ONNX graph as a model: the nodes from its input to its first output, one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layers import LSTM, Bidirectional, Embedding
from ..models import Sequential
from .building import check_matrix, input_size, naming
from .onnx_axes import DIRECTIONS, FEATURES, UNIT, Axes, Shapes, without_units
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
from .onnx_path import Step, check_other_outputs, find_path, swish_input
from .onnx_views import MOVING, View, Views

__all__ = ["read_graph"]

Array = NDArray[Any]


def read_graph(graph: Graph, weights_dtype: str | None = None) -> LSTM | Bidirectional | Sequential:
    """Return the LSTM or the model that a graph computes.

    Parameters
    ----------
    graph : Graph
    weights_dtype : str, optional
        Of its LSTMs.

    Raises
    ------
    NotImplementedError
        If an operator or what it does is not supported; the message names the node.
    ValueError
        If the graph does not fit together.
    """
    name, path = find_path(graph)
    reader = _Reader(graph, name, weights_dtype)
    for step in path:
        with naming(f"node {label(step.node)!r} ({operator(step.node)})"):
            reader.read(step)
    check_other_outputs(graph, path)
    return reader.model()


class _Reader:
    """The layers that the nodes so far make, and what the last value is of the last of them."""

    def __init__(self, graph: Graph, name: str, weights_dtype: str | None) -> None:
        shape = graph.input_shape(name) or []
        self._graph = graph
        self._data = self._name = name
        self._weights_dtype = weights_dtype
        self._view = View(tuple(map(str, range(len(shape)))))
        sizes = {str(axis): size for axis, size in enumerate(shape) if size is not None}
        self._shapes = Shapes(graph, sizes)
        self._shapes.record(name, self._view.axes)
        self._views = Views(graph, self._shapes)
        self._rank = len(shape)
        self._made: list[LSTMPart | DensePart | EmbeddingPart | DropoutPart] = []
        self._batch: str | None = None
        self._lengths: str | None = None
        self._is_told = False  # whether an LSTM has said which lengths it takes, if any

    @property
    def _axes(self) -> Axes:
        return self._view.axes

    def read(self, step: Step) -> None:
        """Take the next node."""
        node, kind = step.node, operator(step.node)
        handlers: dict[str, Callable[[Any], None]] = {
            "Add": self._add,
            "Cast": self._cast,
            "Div": self._scale,
            "Dropout": self._dropout,
            "Gemm": self._gemm,
            "MatMul": self._matmul,
            "Mul": self._mul,
        }
        if step.branches:
            self._merge(step)
        elif kind in OPERATORS:
            part, self._view = self._lstm(node, step.output)
            self._made.append(part)
        elif kind in BY_OPERATOR:
            self._activation(node, BY_OPERATOR[kind])
        elif kind == "Gather" and self._graph.is_constant(node.input[0]):
            self._look_up(node)
        elif kind in MOVING:
            self._use(self._views.move(node, step.output, self._view))
        elif kind not in handlers:
            raise NotImplementedError("the operator is not supported")
        elif step.output != node.output[0]:
            raise NotImplementedError("another output than the first is not supported")
        else:
            handlers[kind](node)
        self._name = step.output
        self._shapes.record(self._name, self._axes)

    # ---- LSTMs and time ----

    def _lstm(self, node: Any, output: str) -> tuple[LSTMPart, View]:
        """Return an LSTM, and the view of it that one of its outputs is."""
        axes = self._axes if len(self._axes) == 3 else (UNIT,) * 3
        time_axis = 1 if attributes(node).get("layout", 0) == 1 else 0
        batch, time, features = axes[1 - time_axis], axes[time_axis], axes[2]
        found = read_lstm(
            self._graph, node, self._data, lambda name: self._views.is_full(name, time)
        )
        known = (self._batch or batch, self._views.time or time)
        if UNIT in (batch, time, features) or (batch, time) != known:
            raise NotImplementedError(f"its input has other axes than layout={found.layout} takes")
        if node.input[0] != self._name:
            raise NotImplementedError("the path goes into it by another input than X")
        self._check_features(found.input_size)
        self._check_lengths(found.lengths)
        self._batch, self._views.time = batch, time
        flipped, two = self._view.flipped, len(found.directions) == 2
        if two and flipped:
            raise NotImplementedError("both directions of a sequence in reverse")
        part = LSTMPart(
            found.directions,
            found.name,
            # Our outputs stand in the order in which the steps were taken, ONNX's in that of time.
            go_backwards=found.reverse != flipped,
            lengths=found.lengths is not None,
            weights_dtype=self._weights_dtype,
        )
        self._shapes.sizes[FEATURES] = found.directions[0].output_size
        directions = DIRECTIONS if two else UNIT
        index = list(node.output).index(output)
        if index == 0:
            steps: Axes = (batch, time, directions) if found.layout else (time, directions, batch)
        elif index == 1:
            steps = (batch, directions) if found.layout else (directions, batch)
        else:
            raise NotImplementedError("the cell state as the output is not supported")
        part.return_sequences = index == 0
        return part, View(
            (*steps, FEATURES),
            backwards=found.reverse,
            flipped=found.reverse and index == 0,
            last=index == 1,
            ragged=found.lengths is not None,
        )

    def _check_lengths(self, lengths: str | None) -> None:
        """Refuse an LSTM that is told otherwise than the others where sequences end."""
        if self._is_told and lengths != self._lengths:
            raise NotImplementedError("sequence_lens is another than that of the LSTMs before it")
        self._lengths, self._is_told = lengths, True
        if lengths is not None and self._view.flipped:
            raise NotImplementedError("sequence_lens beside a sequence in reverse")
        if lengths is not None and any(isinstance(made, EmbeddingPart) for made in self._made):
            raise NotImplementedError("sequence_lens after a table, where the mask of a model ends")

    def _use(self, view: View) -> None:
        """Take a view of the last LSTM for the value, and have the layer give no more than that."""
        lstm = next((made for made in self._made[::-1] if isinstance(made, LSTMPart)), None)
        if lstm is None:
            if view.last:
                raise NotImplementedError("a step of it is taken that is not an LSTM's last")
        else:
            lstm.return_sequences = lstm.return_sequences and not view.last
            if view.direction is not None and len(lstm.directions) == 2:
                if lstm is not self._made[-1]:
                    raise NotImplementedError("a direction of what is no LSTM's output")
                lstm.directions = lstm.directions[view.direction :][:1]
                lstm.go_backwards = view.backwards
        self._view = view

    def _merge(self, step: Step) -> None:
        """Take a node where two directions come together."""
        views: list[View] = []
        parts: dict[int, LSTMPart] = {}
        sizes = dict(self._shapes.sizes)
        for branch in step.branches:
            first, *rest = branch
            self._shapes.sizes = dict(sizes)  # both read the same
            with naming(f"node {label(first.node)!r}"):
                part, view = self._lstm(first.node, first.output)
            parts.setdefault(id(first.node), part)
            self._shapes.record(first.output, view.axes)
            for inner in rest:
                with naming(f"node {label(inner.node)!r} ({operator(inner.node)})"):
                    view = self._views.move(inner.node, inner.output, view)
                self._shapes.record(inner.output, view.axes)
            views.append(view)
        part = _joined(list(parts.values()), views)
        kind, axes = operator(step.node), views[0].axes
        self._shapes.sizes[FEATURES] = part.directions[0].output_size
        if kind == "Concat":
            axis = attributes(step.node).get("axis")
            if axis not in (-1, len(axes) - 1) or axes[-1] != FEATURES:
                raise NotImplementedError("Concat along another axis than the features")
            self._shapes.sizes[FEATURES] = sum(d.output_size for d in part.directions)
        elif part.directions[0].output_size != part.directions[1].output_size:
            raise ValueError("the two directions are of different sizes")
        part.merge_mode = {"Concat": "concat", "Mul": "mul", "Mean": "ave"}.get(kind, "sum")
        part.return_sequences = not views[0].last
        self._made.append(part)
        self._view = views[0]._replace(backwards=False, direction=None)

    def _look_up(self, node: Any) -> None:
        table = check_matrix(self._float(node.input[0], "the table"), "the table", (None, None))
        if self._made or attributes(node).get("axis", 0) != 0:
            raise NotImplementedError("a table that is not for the graph's input")
        self._made.append(EmbeddingPart(table, node.name))
        self._view = self._view._replace(axes=(*self._axes, FEATURES))
        self._shapes.sizes[FEATURES] = table.shape[1]

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
        self._view = self._view._replace(axes=(*self._axes[:-1], FEATURES))
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
        if swish_input(self._graph, node) == self._name:
            self._linear().activation = "silu"
        else:
            self._scale(node)

    def _scale(self, node: Any) -> None:
        """Take a product with a half, or a division by two, after the sum of two directions."""
        others = [name for name in node.input if name != self._name]
        half = 2.0 if operator(node) == "Div" else 0.5
        part = self._made[-1] if self._made else None
        is_half = len(others) == 1 and np.array_equal(
            self._float(others[0], "the factor").reshape(-1), [half]
        )
        in_order = operator(node) == "Mul" or node.input[0] == self._name
        if not (isinstance(part, LSTMPart) and part.merge_mode == "sum" and is_half and in_order):
            raise NotImplementedError("a product that is not x * Sigmoid(x), nor a mean")
        part.merge_mode = "ave"

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
        if DIRECTIONS in self._axes:
            raise NotImplementedError("its input has both directions apart")
        axis = self._axes[-1]
        if axis not in (FEATURES, str(self._rank - 1)):
            raise NotImplementedError("its input does not have its features last")
        if self._shapes.sizes.get(axis, size) != size:
            raise ValueError(
                f"got weights for {size} features, expected {self._shapes.sizes[axis]}"
            )

    # ---- the end ----

    def model(self) -> LSTM | Bidirectional | Sequential:
        """Return the layers as a model, or the layer if it is one LSTM."""
        axes = without_units(self._axes)
        if not any(isinstance(made, LSTMPart) for made in self._made):
            raise ValueError("the graph has no LSTM on the way to its first output")
        if axes[-1:] != (FEATURES,):
            raise NotImplementedError("the output does not have its features last")
        if self._view.flipped and self._views.time in axes:
            raise NotImplementedError(
                "a reversed LSTM's sequence as output, which we return in the order of its steps; "
                "give node= to read the LSTM by itself"
            )
        wide = any(array.dtype == np.float64 for made in self._made for array in made.arrays())
        layers = [made.layer("float64" if wide else "float32") for made in self._made]
        if len(layers) == 1 and isinstance(layers[0], (LSTM, Bidirectional)):
            return layers[0]
        first = next(layer for layer in layers if layer.weights)
        features = () if isinstance(first, Embedding) else (input_size(first),)
        model = Sequential(layers)
        model.build((None, *[None] * (self._rank - 1 - len(features)), *features))
        return model


def _joined(parts: Sequence[LSTMPart], views: Sequence[View]) -> LSTMPart:
    """Return the two directions of one LSTM, or two LSTMs, as one.

    Raises
    ------
    NotImplementedError
        If they are not one that reads forwards and one that reads backwards, in this order, with
        both outputs in the order of time.
    """
    forward, backward = views
    two = len(parts) == 2
    told = [view.direction if not two else int(view.backwards) for view in views]
    apart = two and all(len(part.directions) == 1 for part in parts)
    if told != [0, 1] or not (apart or len(parts[0].directions) == 2):
        raise NotImplementedError(
            "it takes two values that are not an LSTM that reads forwards and one that reads "
            "backwards, in this order"
        )
    if forward.axes != backward.axes or forward.last != backward.last:
        raise NotImplementedError("it takes two directions of which each has other steps")
    if not forward.last and (forward.flipped, backward.flipped) != (False, True):
        raise NotImplementedError("it takes two directions that are not both in the order of time")
    if two:
        parts[0].directions += parts[1].directions
    return parts[0]
