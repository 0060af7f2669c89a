"""What all readers share: another order of gates, and layers made from arrays that came with them.

A file tells sizes twice, in its description and in its arrays. Here they are compared before
anything is allocated, so that no description can ask for more memory than its arrays take.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._arrays import require_cpu
from ..layers import LSTM, Bidirectional, Dense, Embedding, Layer
from ..models import Sequential
from ..models.saving import nothing_drawn

__all__ = [
    "Direction",
    "add_biases",
    "as_layers",
    "bidirectional_from",
    "built",
    "check_matrix",
    "float_dtype",
    "input_size",
    "lstm_from",
    "naming",
    "reorder_gates",
]

Array = NDArray[Any]
L = TypeVar("L", bound=Layer)

# The weights of an LSTM by our names, in the order in which a layer has them.
_WEIGHTS = ("kernel", "recurrent_kernel", "bias", "peephole", "projection_kernel")


class Direction(NamedTuple):
    """An LSTM that came with its arrays.

    Attributes
    ----------
    weights : dict of arrays
        In our layout, by our names: kernel and recurrent_kernel, and what else there is.
    options : dict
        Arguments of `LSTM` beside those that the weights tell.
    """

    weights: Mapping[str, Array]
    options: Mapping[str, Any]

    @property
    def arrays(self) -> list[Array]:
        """The weights in the order in which a layer has them."""
        return [self.weights[name] for name in _WEIGHTS if name in self.weights]

    @property
    def output_size(self) -> int:
        """The size of the hidden state."""
        return int(self.weights["recurrent_kernel"].shape[0])

    def layer(self, dtype: str, **options: Any) -> LSTM:
        """Return the layer, not built."""
        recurrent = self.weights["recurrent_kernel"]
        return LSTM(
            recurrent.shape[1] // 4,
            use_bias="bias" in self.weights,
            peepholes="peephole" in self.weights,
            proj_size=recurrent.shape[0] if "projection_kernel" in self.weights else None,
            dtype=dtype,
            **{**self.options, **options},
        )


def reorder_gates(array: Array, order: str, target: str = "ifco") -> Array:
    """Return an array whose first axis holds gates in one order with them in another.

    Parameters
    ----------
    array : (4H, ...) or (3H, ...) array
    order, target : str
        Permutations of "ifco", or of "ifo".
    """
    gates = dict(zip(order, np.split(array, len(order)), strict=True))
    return np.concatenate([gates[gate] for gate in target])


@np.errstate(over="ignore", invalid="ignore")
def add_biases(first: Array, second: Array) -> Array:
    """Return the sum of two biases; infinity and NaN flow through."""
    return np.asarray(first + second)


def lstm_from(direction: Direction, dtype: str | None = None, **options: Any) -> LSTM:
    """Return a layer with these weights, built; of their dtype unless another is given."""
    dtype = dtype or float_dtype(direction.arrays)
    return built(direction.layer(dtype, **options), direction.arrays)


def bidirectional_from(
    forward: Direction,
    backward: Direction,
    dtype: str | None = None,
    *,
    name: str | None = None,
    merge_mode: str = "concat",
    **options: Any,
) -> Bidirectional:
    """Return a layer that reads both ways with these weights, built.

    Parameters
    ----------
    forward, backward : Direction
    dtype, name, merge_mode
        Of the layer.
    **options
        Of both its parts.
    """
    arrays = [*forward.arrays, *backward.arrays]
    dtype = dtype or float_dtype(arrays)
    first = forward.layer(dtype, **options)
    second = backward.layer(dtype, **options, name=f"backward_{first.name}", go_backwards=True)
    layer = Bidirectional(first, merge_mode, backward_layer=second, name=name)
    return built(layer, arrays)


def float_dtype(arrays: Sequence[Array]) -> str:
    """Return the dtype for a layer of these arrays: float64 if one is, else float32."""
    return "float64" if any(array.dtype == np.float64 for array in arrays) else "float32"


def built(layer: L, arrays: Sequence[Array]) -> L:
    """Build a layer for the arrays and give them to it.

    Raises
    ------
    ValueError
        If they are of another number or other shapes than its arguments ask for.
    """
    expected = _expected_shapes(layer, arrays)
    if expected and not arrays:
        raise ValueError(f"{layer.name}: got no weights, as of a layer that was never built")
    found = [array.shape for array in arrays]
    if found != expected:
        raise ValueError(
            f"{layer.name}: got weights of shapes {_list(found)}, expected {_list(expected)}"
        )
    with nothing_drawn([layer]):
        steps = [None] * isinstance(layer, (LSTM, Bidirectional))
        layer.build((None, *steps, _first_size(arrays)))
    layer.set_weights(arrays)
    return layer


def _expected_shapes(layer: Layer, arrays: Sequence[Array]) -> list[tuple[int, ...]]:
    size = _first_size(arrays)
    if isinstance(layer, LSTM):
        return list(layer.weight_shapes(size).values())
    if isinstance(layer, Bidirectional):
        layers = (layer.forward_layer, layer.backward_layer)
        return [shape for inner in layers for shape in inner.weight_shapes(size).values()]
    if isinstance(layer, Dense):
        return [(size, layer.units), *[(layer.units,)] * layer.use_bias]
    if isinstance(layer, Embedding):
        return [(layer.input_dim, layer.output_dim)]
    return []


def _first_size(arrays: Sequence[Array]) -> int:
    return int(arrays[0].shape[0]) if arrays and arrays[0].ndim else 1


def input_size(layer: Layer) -> int:
    """Return the number of features that a built layer with weights takes."""
    return int(layer.weights[0].shape[0])


def _list(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes)) or "none"


def check_matrix(array: Array, name: str, shape: tuple[int | None, ...]) -> Array:
    """Return the array, or raise a ValueError if its shape is another; None fits any size."""
    fits = array.ndim == len(shape) and all(
        want in (None, got) and got > 0 for got, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name}: got shape {array.shape}, expected ({expected})")
    return array


def as_layers(model: Any, writer: str) -> list[Layer]:
    """Return the built layers of a layer or a model.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If it has no weights yet.
    NotImplementedError
        If it is on a device.
    """
    if not isinstance(model, (Layer, Sequential)):
        raise TypeError(f"{writer}: got {type(model).__name__}, expected a layer or a Sequential")
    if not model.built:
        raise ValueError(f"{writer}: {model.name} is not built; build or call it first")
    layers = [model] if isinstance(model, Layer) else model.layers
    require_cpu(layers, writer)
    return layers


@contextmanager
def naming(what: Any) -> Iterator[None]:
    """Let errors about arguments begin with what they are about."""
    try:
        yield
    except NotImplementedError as error:
        raise NotImplementedError(f"{what}: {error}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what}: {error}") from error
