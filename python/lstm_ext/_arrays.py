"""Arrays of NumPy and, for what is on a CUDA device, of CuPy: which one it is, and the ways across.

Layers, losses, optimizers and metrics are one code for both. NumPy's functions, given an array of
CuPy, call CuPy's (NEP 13 and NEP 18), so a formula needs no word about it; arrays that are made
anew come from `namespace`. Nothing crosses but by `put` and `to_host`, which only those call that
were asked to move something: CuPy refuses NumPy's arrays, and to become one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "as_device_numbers",
    "as_mask",
    "as_numbers",
    "check_device",
    "check_same_place",
    "is_on_device",
    "namespace",
    "put",
    "require_cpu",
    "to_host",
    "total",
]

Array = NDArray[Any]  # or a CuPy array, which no type of NumPy's describes


def namespace(array: Any) -> Any:
    """Return the module whose array it is: `cupy`, or `numpy` for everything else."""
    return sys.modules["cupy"] if is_on_device(array) else np


def is_on_device(array: Any) -> bool:
    """Whether it is an array of CuPy. That is imported by whoever makes the first one."""
    if type(array) is np.ndarray:
        return False
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(array, cupy.ndarray)


def check_device(device: Any) -> str:
    """Return "cpu" or "cuda".

    Raises
    ------
    ValueError
        If `device` is neither.
    RuntimeError
        If it is "cuda" and that is not available, with the reason.
    """
    if device is None or device == "cpu":
        return "cpu"
    if device != "cuda":
        raise ValueError(f"device: got {device!r}, expected 'cpu' or 'cuda'")
    from .cuda.availability import require

    require()
    return "cuda"


def put(array: Any, device: str) -> Any:
    """Return the array on the device, its bits unchanged; itself if it is there."""
    if device == "cpu":
        return to_host(array)
    if is_on_device(array):
        return array
    from .cuda.availability import require

    _, cupy = require()
    return cupy.asarray(array)


def to_host(array: Any) -> Array:
    """Return the array in NumPy, waiting for the device if it is on one."""
    host: Array = array.get() if is_on_device(array) else array
    return host


def require_cpu(layers: Sequence[Any], name: str) -> None:
    """Raise a NotImplementedError if a layer is on a device, for what reads its weights here."""
    for layer in layers:
        if layer.device != "cpu":
            raise NotImplementedError(
                f"{name}: {layer.name} is on the device {layer.device!r}, expected the CPU; "
                'to_device("cpu") moves it'
            )


def check_same_place(value: Any, name: str, other: Any, other_name: str) -> None:
    """Raise a TypeError if just one of two is on a device."""
    if is_on_device(other) and not is_on_device(value):
        raise TypeError(
            f"{name}: got {_describe(value)}, expected an array of CuPy as {other_name} is; "
            f"cupy.asarray({name}) moves it to the device"
        )
    if is_on_device(value) and not is_on_device(other):
        raise TypeError(
            f"{name}: got an array on a CUDA device, expected one of NumPy as {other_name} is; "
            f"cupy.asnumpy({name}) moves it to the host"
        )


def total(values: Array) -> Any:
    """Return the sum as a float, or on a device as an array without axes: nothing waits for it."""
    # In double precision there, since it is in that in which Python would go on to add it up.
    return values.sum(dtype=np.float64) if is_on_device(values) else float(values.sum())


def as_numbers(
    value: ArrayLike, name: str, dtype: np.dtype[Any] | None, device: str = "cpu"
) -> Array:
    """Return `value` as an array of `dtype`, converting numbers as Keras does.

    With a dtype of None, its own is kept.

    Raises
    ------
    TypeError
        If it does not hold real numbers, or is not where `device` says.
    ValueError
        If it is ragged.
    """
    if device != "cpu":
        there: Array = as_device_numbers(value, name, dtype)
        return there
    if type(value) is np.ndarray and value.dtype == dtype:
        return value
    if hasattr(value, "__cuda_array_interface__"):
        raise TypeError(
            f"{name}: got an array on a CUDA device, expected one of NumPy, since the layer is on "
            f'the CPU; to_device("cuda") moves the layer there, cupy.asnumpy({name}) the array here'
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array of numbers, got {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: got an array of {array.dtype}, expected real numbers")
    return array if dtype is None else array.astype(dtype)


def as_device_numbers(value: Any, name: str, dtype: np.dtype[Any] | None = None) -> Any:
    """Return `value` as an array of CuPy; those of other libraries by DLPack, in stream order.

    Raises
    ------
    TypeError
        If it is not on a CUDA device, or does not hold numbers that NumPy knows.
    """
    if not is_on_device(value):
        from .cuda.arrays import dtype_name, to_cupy
        from .cuda.availability import require

        if not hasattr(value, "__cuda_array_interface__") and not hasattr(value, "__dlpack__"):
            raise _not_there(value, name)
        if isinstance(value, np.ndarray):
            raise _not_there(value, name)
        if dtype_name(value) == "bfloat16":
            raise TypeError(f"{name}: got an array of bfloat16, expected float32 or float64")
        value = to_cupy(value, name, require()[1])
    if value.dtype.kind not in "fiub":
        raise TypeError(f"{name}: got an array of {value.dtype}, expected real numbers")
    return value if dtype is None else value.astype(dtype, copy=False)


def _not_there(value: Any, name: str) -> TypeError:
    return TypeError(
        f"{name}: got {_describe(value)}, expected an array on a CUDA device, where the layer is; "
        f'cupy.asarray({name}) moves it there, to_device("cpu") the layer here'
    )


def _describe(value: Any) -> str:
    return "a NumPy array" if isinstance(value, np.ndarray) else type(value).__name__


def as_mask(value: ArrayLike | None, name: str = "mask", device: str = "cpu") -> Array | None:
    """Return a mask as an array of bools, converting numbers as Keras does.

    Raises
    ------
    TypeError, ValueError
        If it does not hold numbers, is ragged, or is not where `device` says.
    """
    if value is not None and device != "cpu":
        return as_numbers(value, name, np.dtype(np.bool_), device)
    if value is None or (type(value) is np.ndarray and value.dtype == np.bool_):
        return value
    return as_numbers(value, name, np.dtype(np.bool_))
