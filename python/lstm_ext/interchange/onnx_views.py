"""What the nodes after an LSTM take of its output: a direction, the last step, the other order."""

from __future__ import annotations

from typing import Any, NamedTuple

from .onnx_axes import DIRECTIONS, UNIT, Axes, Shapes, axis_index, constant_ints
from .onnx_model import Graph, attributes, operator, optional_input
from .onnx_path import picked_rows

__all__ = ["MOVING", "View", "Views"]

MOVING = (
    "Flatten", "Gather", "Identity", "Reshape", "ReverseSequence", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
)  # fmt: skip
_END = 2**31 - 1  # what stands for the end of an axis in a Slice, at least


class View(NamedTuple):
    """A value, as a view of what the last LSTM puts out.

    Attributes
    ----------
    axes : tuple of str
    backwards : bool
        Whether that LSTM, or the direction that is left of it, reads from the end.
    flipped : bool
        Whether the steps stand in the opposite order of that in which we put them out.
    direction : int or None
        Which direction is left of two; None for what has one or both.
    last : bool
        Whether only the last step is left.
    ragged : bool
        Whether sequences may end before the last step.
    """

    axes: Axes
    backwards: bool = False
    flipped: bool = False
    direction: int | None = None
    last: bool = False
    ragged: bool = False


class Views:
    """Follows values through nodes that move numbers.

    Parameters
    ----------
    graph : Graph
    shapes : Shapes

    Attributes
    ----------
    time : str or None
        The axis of steps, once it is known.
    """

    def __init__(self, graph: Graph, shapes: Shapes) -> None:
        self._graph = graph
        self._shapes = shapes
        self.time: str | None = None

    def move(self, node: Any, output: str, view: View) -> View:
        """Return what one of the nodes of `MOVING` makes of a value.

        Raises
        ------
        NotImplementedError
            If it takes something else than a direction or the last step.
        """
        kind = operator(node)
        if kind == "Split":
            return self._split(node, output, view)
        if output != node.output[0]:
            raise NotImplementedError("another output than the first is not supported")
        if kind == "Identity":
            return view
        if kind == "Gather":
            return self._gather(node, view)
        if kind == "Slice":
            return self._slice(node, view)
        if kind == "ReverseSequence":
            return self._reverse(node, view)
        return view._replace(axes=self._shapes.move(node, view.axes))

    def is_full(self, name: str, time: str) -> bool:
        """Return whether a value is the number of all steps, for every sequence."""
        node = self._graph.producer(name)
        if self._graph.is_constant(name):
            lengths = self._graph.constant(name, "sequence_lens")
            return bool(lengths.size and (lengths == self._shapes.sizes.get(time)).all())
        if node is not None and operator(node) in ("Cast", "Identity"):
            return self.is_full(node.input[0], time)
        if node is None or operator(node) not in ("Expand", "Tile"):
            return False
        try:
            return self._shapes.ints(node.input[0]) == [(time,)]
        except NotImplementedError:
            return False

    def _split(self, node: Any, output: str, view: View) -> View:
        axis = axis_index(attributes(node).get("axis", 0), len(view.axes))
        outputs = list(node.output)
        if view.axes[axis] != DIRECTIONS or len(outputs) != 2:
            raise NotImplementedError("Split of anything but the two directions")
        given = attributes(node).get("split")
        if optional_input(node, 1):
            given = constant_ints(self._graph, node.input[1], "split")
        if given is not None and list(given) != [1, 1]:
            raise ValueError(f"split: got {list(given)} for two directions")
        return self._pick(view, axis, outputs.index(output), kept=True)

    def _gather(self, node: Any, view: View) -> View:
        axis = axis_index(attributes(node).get("axis", 0), len(view.axes))
        indices = self._graph.constant(node.input[1], "indices")
        if indices.size != 1 or indices.dtype.kind not in "iu" or indices.ndim > 1:
            raise NotImplementedError("Gather of anything but one step")
        index = int(indices.reshape(-1)[0])
        picked = picked_rows(self._graph, node)
        if picked is not None:
            index = picked[1][0]
        kept = indices.ndim == 1
        name = view.axes[axis]
        if name == DIRECTIONS and -2 <= index < 2:
            return self._pick(view, axis, index % 2, kept)
        if name != UNIT:
            view = self._take(view, axis, index)
        elif index not in (0, -1):
            raise NotImplementedError(f"index {index} of an axis of size one")
        return _without(view, axis, kept)

    def _slice(self, node: Any, view: View) -> View:
        start, stop = (constant_ints(self._graph, node.input[i], "Slice") for i in (1, 2))
        given = optional_input(node, 3)
        indices = constant_ints(self._graph, given, "axes") if given else list(range(len(start)))
        given = optional_input(node, 4)
        steps = constant_ints(self._graph, given, "steps") if given else [1]
        if not len(start) == len(stop) == len(indices) == len(steps) == 1:
            raise NotImplementedError("Slice along several axes")
        axis = axis_index(indices[0], len(view.axes))
        name, bounds = view.axes[axis], slice(start[0], stop[0], steps[0])
        to_end = stop[0] >= _END and steps[0] == 1
        if start[0] == 0 and to_end:
            return view
        picked = picked_rows(self._graph, node)
        if picked is not None or name in (DIRECTIONS, UNIT):
            rows = [0, 1] if name == DIRECTIONS else [0]
            taken = rows[bounds] if picked is None else picked[1]
            if taken == rows:
                return view
            if len(taken) == 1 and name == DIRECTIONS:
                return self._pick(view, axis, taken[0], kept=True)
        elif start[0] == -1 and stop[0] <= -_END and steps[0] == -1:
            return self._flip(view, name)
        elif (bounds.start, bounds.stop, bounds.step) == (0, 1, 1) or (start[0] == -1 and to_end):
            return _without(self._take(view, axis, start[0]), axis, kept=True)
        raise NotImplementedError("Slice of anything but the last step or all in reverse")

    def _reverse(self, node: Any, view: View) -> View:
        options = {"time_axis": 0, "batch_axis": 1, **attributes(node)}
        axis = axis_index(options["time_axis"], len(view.axes))
        name = view.axes[axis]
        if not self.is_full(node.input[1], name):
            raise NotImplementedError("ReverseSequence of some steps only")
        return self._flip(view, name)

    def _flip(self, view: View, axis: str) -> View:
        self.time = self.time or axis
        if axis != self.time:
            raise NotImplementedError("Slice of anything but the last step or all in reverse")
        return view._replace(flipped=not view.flipped)

    def _take(self, view: View, axis: int, index: int) -> View:
        """Return the last step, if that is what an index takes."""
        if view.axes[axis] != self.time or index != (0 if view.flipped else -1):
            raise NotImplementedError("a step of it is taken that is not an LSTM's last")
        if DIRECTIONS in view.axes:
            raise NotImplementedError("a step of both directions is taken, the last of one alone")
        if view.ragged and not view.backwards:
            raise NotImplementedError(
                "the last of all steps is taken, before which sequences may end"
            )
        return view._replace(flipped=False, last=True)

    def _pick(self, view: View, axis: int, direction: int, kept: bool) -> View:
        """Return one direction of two."""
        # Both stand in the order of time, and the second reads from the end.
        flipped = not view.last and view.flipped != (direction == 1)
        view = view._replace(direction=direction, backwards=direction == 1, flipped=flipped)
        return _without(view, axis, kept)


def _without(view: View, axis: int, kept: bool) -> View:
    """Return a view that has an axis no more, or as one of size one."""
    return view._replace(axes=(*view.axes[:axis], *(UNIT,) * kept, *view.axes[axis + 1 :]))
