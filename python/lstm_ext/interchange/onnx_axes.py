"""What the axes of values in an ONNX graph mean, and what shape operators do to them.

An axis is a name: "0", "1", ... for those of the graph's input, "features" for the last one,
"directions" for that of an LSTM which reads both ways, "" for an axis of size one. The names tell,
whatever was transposed and squeezed on the way, which axis an LSTM takes for time, and whether two
Transposes undo one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .onnx_model import Graph, attributes, operator, optional_input

__all__ = [
    "DIRECTIONS",
    "FEATURES",
    "UNIT",
    "Axes",
    "Shapes",
    "axis_index",
    "constant_ints",
    "without_units",
]

Axes = tuple[str, ...]
# A size: a number, or the axes whose product it is. Axes of size one do not appear in it.
Size = int | Axes

FEATURES = "features"
DIRECTIONS = "directions"
UNIT = ""

_SIZED = (FEATURES, DIRECTIONS)
_UNKNOWN = "unknown"  # an axis that no value has
_LONGEST = 16  # of anything that a shape is computed from; values have a handful of axes


class Shapes:
    """The axes of all values met so far, and the shapes that are computed from them.

    Parameters
    ----------
    graph : Graph
    sizes : dict
        The sizes of axes as far as they are known.
    """

    def __init__(self, graph: Graph, sizes: dict[str, int]) -> None:
        self._graph = graph
        self.sizes = {DIRECTIONS: 2, **sizes}
        self._shapes: dict[str, list[Size]] = {}
        self._computed: dict[str, list[Size]] = {}

    def record(self, name: str, axes: Axes) -> None:
        """Remember the axes of a value."""
        # The size of features is that of this value: others have others.
        self._shapes[name] = [
            () if axis == UNIT else self.sizes.get(axis, (axis,)) if axis in _SIZED else (axis,)
            for axis in axes
        ]

    def move(self, node: Any, axes: Axes) -> Axes:
        """Return the axes after a Transpose, Squeeze, Unsqueeze, Reshape or Flatten."""
        if operator(node) == "Transpose":
            order = attributes(node).get("perm", range(len(axes))[::-1])
            if sorted(order) != list(range(len(axes))):
                raise ValueError(f"perm: got {list(order)} for {len(axes)} axes")
            return tuple(axes[index] for index in order)
        if operator(node) == "Squeeze":
            return self._squeeze(node, axes)
        if operator(node) == "Unsqueeze":
            return self._unsqueeze(node, axes)
        if operator(node) == "Flatten":
            if attributes(node).get("axis", 1) != 1 or not axes:
                raise NotImplementedError("Flatten into another axis than the second")
            return self._reshape([0, -1], axes)
        return self._reshape(self.ints(node.input[1]), axes)

    def _squeeze(self, node: Any, axes: Axes) -> Axes:
        given = self._given_axes(node)
        if given is None:
            raise NotImplementedError("Squeeze of whatever axes have size one is not supported")
        dropped = {axis_index(index, len(axes)) for index in given}
        if any(axes[index] != UNIT for index in dropped):
            raise NotImplementedError("Squeeze of another axis than that of directions")
        return tuple(axis for index, axis in enumerate(axes) if index not in dropped)

    def _unsqueeze(self, node: Any, axes: Axes) -> Axes:
        given = self._given_axes(node) or []
        rank = len(axes) + len(given)
        new = {axis_index(index, rank) for index in given}
        rest = iter(axes)
        return tuple(UNIT if index in new else next(rest) for index in range(rank))

    def _given_axes(self, node: Any) -> list[int] | None:
        if optional_input(node, 1):
            return constant_ints(self._graph, node.input[1], "axes")
        given = attributes(node).get("axes")
        return None if given is None else [int(index) for index in given]

    def _reshape(self, target: list[Size], axes: Axes) -> Axes:
        """Return the axes after a Reshape that drops or adds axes of size one, or joins directions.

        Both directions become one axis of features if they stand right before theirs. A number for
        an axis of unknown size is taken for that size: torch writes the length of the sequence that
        it exported with, though it declares any.
        """
        core = [axis for axis in axes if axis != UNIT]
        result: list[str] = []
        for index, size in enumerate(target):
            if size == 0 and index < len(axes):
                size = () if axes[index] == UNIT else (axes[index],)
            left = len(target) - index
            if size in (1, ()) and (left > len(core) or core[:1] == [DIRECTIONS]):
                result.append(UNIT)
            elif core[:2] == [DIRECTIONS, FEATURES] and self._joins(size, last=left == 1):
                self.sizes[FEATURES] *= 2
                del core[:2]
                result.append(FEATURES)
            elif core and (size in (-1, (core[0],)) or size == self.sizes.get(core[0], size)):
                result.append(core.pop(0))
            else:
                break
        if core or len(result) != len(target):
            raise NotImplementedError(
                "Reshape that does more than drop axes of size one or join both directions"
            )
        return tuple(result)

    def _joins(self, size: Size, last: bool) -> bool:
        """Return whether a size is that of the features of both directions."""
        return size == 2 * self.sizes[FEATURES] or (size == -1 and last)

    def ints(self, name: str) -> list[Size]:
        """Return the numbers of a shape, constant or computed from the shapes of values."""
        if name in self._computed:
            return self._computed[name]
        found = self._compute(name)
        if len(found) > _LONGEST or any(isinstance(s, tuple) and len(s) > _LONGEST for s in found):
            raise NotImplementedError("a shape that is computed at length is not supported")
        self._computed[name] = found
        return found

    def _compute(self, name: str) -> list[Size]:
        if self._graph.is_constant(name):
            return list(constant_ints(self._graph, name, "shape"))
        node = self._graph.producer(name)
        kind = None if node is None else operator(node)
        if kind == "Shape":
            options = attributes(node)
            return self._shape(node.input[0])[options.get("start", 0) : options.get("end")]
        if kind == "Slice":
            start, stop = (constant_ints(self._graph, node.input[i], "Slice")[0] for i in (1, 2))
            return self.ints(node.input[0])[start:stop]
        if kind == "Gather":
            values = self.ints(node.input[0])
            return [values[i] for i in constant_ints(self._graph, node.input[1], "Gather")]
        if kind == "Concat":
            return [size for part in node.input for size in self.ints(part)]
        if kind in ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"):
            return self.ints(node.input[0])
        if kind == "Mul":
            first, second = (self.ints(part) for part in node.input)
            return [_product(a, b) for a, b in zip(first, second, strict=True)]
        raise NotImplementedError("a shape that is computed in other ways is not supported")

    def _shape(self, name: str) -> list[Size]:
        """Return the shape of a value that was met, or of several together."""
        if name in self._shapes:
            return self._shapes[name]
        node = self._graph.producer(name)
        if node is not None and operator(node) == "Concat":
            part = next((part for part in node.input if part in self._shapes), None)
            if part is not None:
                sizes = list(self._shapes[part])
                sizes[axis_index(attributes(node).get("axis", 0), len(sizes))] = (_UNKNOWN,)
                return sizes
        raise NotImplementedError("a shape that is computed in other ways is not supported")


def _product(a: Size, b: Size) -> Size:
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    factors = [factor for factor in (a, b) if factor not in (1, ())]
    if len(factors) == 1:
        return factors[0]
    if any(isinstance(factor, int) for factor in factors):
        raise NotImplementedError("a shape that is computed in other ways is not supported")
    return tuple(axis for factor in factors for axis in factor if axis)  # type: ignore[union-attr]


def constant_ints(graph: Graph, name: str, what: str) -> list[int]:
    """Return a constant list of a few whole numbers."""
    array = graph.constant(name, what)
    if array.dtype.kind not in "iu" or array.size > _LONGEST:
        raise ValueError(f"{what}: got {array.size} elements of {array.dtype}, expected few ints")
    return [int(number) for number in array.reshape(-1)]


def axis_index(index: int, rank: int) -> int:
    """Return the index of an axis that may be counted from the end."""
    if not -rank <= index < rank:
        raise ValueError(f"axis: got {index} for {rank} axes")
    return index % rank


def without_units(axes: Sequence[str]) -> Axes:
    """Return the axes that may have another size than one."""
    return tuple(axis for axis in axes if axis != UNIT)
