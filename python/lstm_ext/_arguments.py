"""The operator's arguments: converted, checked, and refused with a message that names them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._cpu import PackedWeights

Array = NDArray[Any]

_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)


def as_array(value: ArrayLike, name: str, kind: str) -> Array:
    """Return an array of whatever dtype; `kind` is what it should hold."""
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{name}: expected an array of {kind}, got {error}") from None


def as_float_array(value: ArrayLike, name: str, like: np.dtype[Any] | None = None) -> Array:
    if type(value) is not np.ndarray:
        value = as_array(value, name, "numbers")
    dtype = value.dtype
    if dtype not in (_FLOAT32, _FLOAT64) or (like is not None and dtype != like):
        expected = "float32 or float64" if like is None else f"{like} like the other arrays"
        raise TypeError(f"{name}: got an array of {dtype}, expected {expected}")
    if not value.flags.aligned:
        value = value.copy()
    return value


def as_weights_dtype(
    value: str | None, dtype: np.dtype[Any], name: str = "weights_dtype"
) -> str | None:
    """Return "bfloat16", "int8", or None for weights that are stored in their own dtype."""
    if value is None or value == dtype.name:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name}: got {value!r}, expected the name of a dtype")
    if value not in ("bfloat16", "int8"):
        raise ValueError(f"{name}: got {value!r}, expected bfloat16, int8 or {dtype.name}")
    if dtype != _FLOAT32:
        raise ValueError(f"{name}: got {value!r} beside weights of {dtype}, expected float32 ones")
    return value


def check_differentiable(weights: PackedWeights, name: str = "kernel") -> None:
    if weights.weights_dtype not in ("float32", "float64"):
        raise ValueError(
            f"{name}: got weights packed as {weights.weights_dtype}, expected float32 or float64 "
            "ones, since small weights have no backward pass"
        )


def with_unit_columns(matrix: Array) -> Array:
    return matrix if matrix.strides[1] == matrix.itemsize else np.ascontiguousarray(matrix)


def as_input(x: ArrayLike, weights: PackedWeights, time_major: bool) -> Array:
    x = as_float_array(x, "x", like=weights.dtype)
    if x.ndim != 3 or x.shape[2] != weights.input_size:
        axes = "time, batch" if time_major else "batch, time"
        raise ValueError(f"x: got shape {x.shape}, expected ({axes}, {weights.input_size})")
    return x.swapaxes(0, 1) if time_major else x


def as_state(
    state: tuple[ArrayLike, ArrayLike] | None, name: str, x: Array, weights: PackedWeights
) -> tuple[Array | None, Array | None]:
    if state is None:
        return None, None
    check_pair(state, name, "(h, c)")
    batch = x.shape[0]
    h = as_gradient(state[0], f"{name}[0]", (batch, weights.output_size), x.dtype)
    c = as_gradient(state[1], f"{name}[1]", (batch, weights.units), x.dtype)
    return np.ascontiguousarray(h), np.ascontiguousarray(c)


def check_pair(value: Any, name: str, of: str) -> None:
    if isinstance(value, (tuple, list)):
        if len(value) == 2:
            return
        got = f"{len(value)} values"
    else:
        got = type(value).__name__
    raise ValueError(f"{name}: got {got}, expected a pair {of}")


def as_list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name}: got {type(value).__name__}, expected a list")
    return list(value)


def as_gradient(value: ArrayLike, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    array = as_float_array(value, name, like=dtype)
    if array.shape != shape:
        raise ValueError(f"{name}: got shape {array.shape}, expected {shape}")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def check_flags(go_backwards: bool, time_major: bool, return_sequences: bool) -> None:
    if type(go_backwards) is type(time_major) is type(return_sequences) is bool:
        return
    flags = {
        "go_backwards": go_backwards,
        "time_major": time_major,
        "return_sequences": return_sequences,
    }
    for name, flag in flags.items():
        check_flag(flag, name)


def check_flag(flag: bool, name: str) -> None:
    if not isinstance(flag, (bool, np.bool_)):
        raise TypeError(f"{name}: got {flag!r}, expected True or False")


def as_rate(value: float, name: str) -> float:
    """Return a number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name}: got {value!r}, expected a number")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: got {value}, expected 0 to 1")
    return float(value)


def as_thread_limit(num_threads: int | None) -> int:
    """Return what `_cpu` expects: 0 for its own default."""
    if num_threads is None:
        return 0
    if isinstance(num_threads, bool) or not isinstance(num_threads, (int, np.integer)):
        raise TypeError(f"num_threads: got {num_threads!r}, expected an integer")
    if not 1 <= num_threads <= 4096:
        raise ValueError(f"num_threads: got {num_threads}, expected 1 to 4096")
    return int(num_threads)


def new_sequence(
    batch: int, steps: int, size: int, dtype: np.dtype[Any], time_major: bool
) -> Array:
    """Return an uninitialised (B, T, size) array, laid out as (T, B, size) if `time_major`."""
    if time_major:
        return np.empty((steps, batch, size), dtype).swapaxes(0, 1)
    return np.empty((batch, steps, size), dtype)


def too_large(x: Array, weights: PackedWeights) -> ValueError:
    batch, steps, _ = x.shape
    return ValueError(
        f"x: got batch {batch} and time {steps}, which with {weights.units} units gives results "
        "that cannot be allocated; expected a size that fits in memory"
    )
