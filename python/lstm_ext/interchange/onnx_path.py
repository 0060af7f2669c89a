"""The nodes of an ONNX graph from its input to its first output.

They follow one another, but where the two directions of an LSTM part and come together again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .onnx_axes import constant_ints
from .onnx_lstm import OPERATORS, count_directions
from .onnx_model import Graph, attributes, label, operator

__all__ = ["MERGES", "Step", "check_other_outputs", "find_path", "picked_rows", "swish_input"]

MERGES = ("Add", "Concat", "Mean", "Mul", "Sum")
# What may stand between an LSTM and the node where its directions come together.
_OF_DIRECTIONS = (
    "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
)  # fmt: skip
_MOST_STEPS = 32  # from an LSTM to where its directions come together
_OF_STATES = ("Concat", "Identity", "Reshape", "Squeeze", "Transpose")


class Step(NamedTuple):
    """A node on the way.

    Attributes
    ----------
    node : onnx.NodeProto
    output : str
        The output by which the path goes on.
    branches : tuple of tuple of Step
        Of a node that merges two directions, the way to it from an LSTM on, for each input.
    """

    node: Any
    output: str
    branches: tuple[tuple[Step, ...], ...] = ()


def find_path(graph: Graph) -> tuple[str, list[Step]]:
    """Return the graph's input, and the nodes from there to its first output.

    Raises
    ------
    NotImplementedError
        If a node computes on two values that are not directions of an LSTM.
    ValueError
        If the graph does not fit together.
    """
    if not graph.outputs:
        raise ValueError("the graph has no output")
    name, seen = graph.outputs[0], set()
    path: list[Step] = []
    while graph.input_shape(name) is None:
        node = graph.producer(name)
        if node is None or name in seen:
            raise ValueError(f"{name!r} is made by no node, or from itself")
        seen.add(name)
        branches = _branches(graph, node)
        path.append(Step(node, name, branches))
        name = branches[0][0].node.input[0] if branches else _data_input(graph, node)
    return name, path[::-1]


def _data_input(graph: Graph, node: Any) -> str:
    """Return the input of a node that carries what the graph computes on."""
    kind = operator(node)
    names = list(node.input)
    if kind == "Gather" and len(names) > 1 and graph.is_constant(names[0]):
        return str(names[1])
    picked = picked_rows(graph, node)
    if picked is not None:
        return picked[0]
    if kind in ("Add", "Div", "MatMul", "Mul") and len(names) == 2:
        gate = swish_input(graph, node)
        if gate is not None:
            return gate
        names.sort(key=graph.is_constant)
        if not graph.is_constant(names[1]):
            raise NotImplementedError(f"node {label(node)!r}: {kind} of two computed values")
    if kind == "Concat":
        raise NotImplementedError(f"node {label(node)!r}: Concat of what no LSTM's directions are")
    if not names or not names[0]:
        raise NotImplementedError(f"node {label(node)!r}: operator {kind} has no input to follow")
    return str(names[0])


def swish_input(graph: Graph, node: Any) -> str | None:
    """Return x if the node is x * Sigmoid(x)."""
    for gate, value in (node.input, node.input[::-1]):
        made_by = graph.producer(gate)
        is_gate = made_by is not None and operator(made_by) == "Sigmoid"
        if is_gate and made_by.input[0] == value and operator(node) == "Mul":
            return str(value)
    return None


# ---- two directions ----


def _branches(graph: Graph, node: Any) -> tuple[tuple[Step, ...], ...]:
    """Return the ways from LSTMs to a node that merges two directions; nothing of another node."""
    if operator(node) not in MERGES or len(node.input) != 2:
        return ()
    branches = []
    for name in node.input:
        branch = _branch(graph, name)
        if branch is None:
            return ()
        branches.append(branch)
    first, second = (branch[0].node for branch in branches)
    # Two nodes are two directions if they read the same.
    return tuple(branches) if first.input[0] == second.input[0] else ()


def _branch(graph: Graph, name: str) -> tuple[Step, ...] | None:
    steps: list[Step] = []
    for _ in range(_MOST_STEPS):
        node = graph.producer(name)
        if node is None:
            return None
        steps.append(Step(node, name))
        if operator(node) in OPERATORS:
            return tuple(steps[::-1])
        if operator(node) not in _OF_DIRECTIONS or not node.input:
            return None
        picked = picked_rows(graph, node)
        name = node.input[0] if picked is None else picked[0]
    return None


def picked_rows(graph: Graph, node: Any) -> tuple[str, list[int]] | None:
    """Return which state of several LSTMs a node takes from their Concat, as h_n[-1] does.

    Returns
    -------
    str, list of int
        The state of one LSTM, and which of its directions; None of another node.
    """
    kind = operator(node)
    states = graph.producer(node.input[0]) if node.input else None
    if kind not in ("Gather", "Slice") or states is None or operator(states) != "Concat":
        return None
    makers = [graph.producer(name) for name in states.input]
    if attributes(states).get("axis", 0) != 0 or any(
        maker is None or operator(maker) not in OPERATORS for maker in makers
    ):
        return None
    rows = [
        (str(name), row)
        for name, maker in zip(states.input, makers, strict=True)
        for row in range(count_directions(maker))
    ]
    taken = _taken_rows(graph, node, len(rows))
    names = {rows[index][0] for index in taken}
    if len(names) != 1:
        return None
    return names.pop(), [rows[index][1] for index in taken]


def _taken_rows(graph: Graph, node: Any, count: int) -> list[int]:
    """Return the rows that a Gather or a Slice takes along the first axis; none if it does not."""
    if not all(graph.is_constant(name) for name in filter(None, node.input[1:])):
        return []
    if operator(node) == "Gather":
        index = constant_ints(graph, node.input[1], "indices")
        along_first = attributes(node).get("axis", 0) == 0 and len(index) == 1
        return [index[0] % count] if along_first and -count <= index[0] < count else []
    bounds = [constant_ints(graph, name, "Slice") for name in node.input[1:]]
    start, stop, axes, step = [*bounds, [0], [1]][:4] if len(bounds) == 2 else [*bounds, [1]][:4]
    if axes != [0] or not len(start) == len(stop) == len(step) == 1 or step[0] < 1:
        return []
    return list(range(count))[start[0] : stop[0] : step[0]]


# ---- other outputs ----


def check_other_outputs(graph: Graph, path: list[Step]) -> None:
    """Refuse outputs other than the first, unless they are the last states of LSTMs on the way."""
    on_the_way = {
        id(step.node) for outer in path for step in (outer, *(b[0] for b in outer.branches))
    }
    names, seen = graph.outputs[1:], set(graph.outputs[:1])
    for name in names:
        if name in seen:
            continue
        seen.add(name)
        node = graph.producer(name)
        if node is not None and operator(node) in _OF_STATES:
            count = len(node.input) if operator(node) == "Concat" else 1
            names.extend(node.input[:count])
        elif node is None or id(node) not in on_the_way or name not in list(node.output)[1:3]:
            raise NotImplementedError(
                f"output {name!r} beside the first is not supported, as it is no LSTM's state"
            )
