"""What all readers share: another order of gates, and layers made from arrays that came with them.

A file tells sizes twice, in its description and in its arrays. Here they are compared before
anything is allocated, so that no description can ask for more memory than its arrays take.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._arrays import require_cpu
from ..layers import LSTM, Dense, Embedding, Layer
from ..models import Sequential
from ..models.saving import nothing_drawn

__all__ = [
    "add_biases",
    "as_layers",
    "built",
    "check_matrix",
    "lstm_from_arrays",
    "naming",
    "reorder_gates",
]

Array = NDArray[Any]
L = TypeVar("L", bound=Layer)


def reorder_gates(array: Array, order: str, target: str = "ifco") -> Array:
    """Return an array whose first axis holds gates in one order with them in another.

    Parameters
    ----------
    array : (4H, ...) array
    order, target : str
        Permutations of "ifco".
    """
    gates = dict(zip(order, np.split(array, 4), strict=True))
    return np.concatenate([gates[gate] for gate in target])


@np.errstate(over="ignore", invalid="ignore")
def add_biases(first: Array, second: Array) -> Array:
    """Return the sum of two biases; infinity and NaN flow through."""
    return np.asarray(first + second)


def lstm_from_arrays(
    kernel: Array, recurrent_kernel: Array, bias: Array | None, **options: Any
) -> LSTM:
    """Return a layer with these weights, in our layout, built and of their dtype."""
    arrays = [kernel, recurrent_kernel] if bias is None else [kernel, recurrent_kernel, bias]
    layer = LSTM(
        recurrent_kernel.shape[0],
        use_bias=bias is not None,
        dtype=_float_dtype(*arrays).name,
        **options,
    )
    return built(layer, arrays)


def _float_dtype(*arrays: Array) -> np.dtype[Any]:
    """Return the dtype for a layer of these arrays: float64 if one is, else float32."""
    wide = any(array.dtype == np.float64 for array in arrays)
    return np.dtype(np.float64 if wide else np.float32)


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
        layer.build((None, *[None] * isinstance(layer, LSTM), _input_size(arrays)))
    layer.set_weights(arrays)
    return layer


def _expected_shapes(layer: Layer, arrays: Sequence[Array]) -> list[tuple[int, ...]]:
    size = _input_size(arrays)
    if isinstance(layer, LSTM):
        columns = 4 * layer.units
        return [(size, columns), (layer.units, columns), *[(columns,)] * layer.use_bias]
    if isinstance(layer, Dense):
        return [(size, layer.units), *[(layer.units,)] * layer.use_bias]
    if isinstance(layer, Embedding):
        return [(layer.input_dim, layer.output_dim)]
    return []


def _input_size(arrays: Sequence[Array]) -> int:
    return int(arrays[0].shape[0]) if arrays and arrays[0].ndim else 1


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
