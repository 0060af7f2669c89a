"""Device arrays of any library as CuPy's, without a copy, and back.

NumPy and CuPy have no bfloat16 of their own: inside this package it travels as its bits, uint16.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Kind", "as_device_array", "current", "dtype_name", "kind_of", "to_cupy"]

_DTYPES = ("float32", "float64", "bfloat16")
_CUDA_DEVICES = (2, 13)  # DLPack's kDLCUDA and kDLCUDAManaged


class Kind(NamedTuple):
    """What a call computes in, where, and whose arrays its results become."""

    dtype: str
    device: int
    owner: str  # "torch" or "cupy"
    cupy: Any
    bfloat16: Any = None  # CuPy's dtype, if x has it; else results are bits or torch's

    @property
    def stored(self) -> Any:
        """The dtype of inputs, weights, h and outputs."""
        return np.dtype("uint16" if self.dtype == "bfloat16" else self.dtype)

    @property
    def computed(self) -> Any:
        """The dtype of sums and of c."""
        return np.dtype("float32" if self.dtype == "bfloat16" else self.dtype)

    def result(self, array: Any) -> Any:
        """Return an array as the caller's library has it, bfloat16 restored."""
        is_bits = self.dtype == "bfloat16" and array.dtype == np.uint16
        if self.owner == "torch":
            torch = sys.modules["torch"]
            # Not through uint16, which few of torch's functions know.
            tensor = torch.from_dlpack(array.view(np.int16) if is_bits else array)
            return tensor.view(torch.bfloat16) if is_bits else tensor
        return array.view(self.bfloat16) if is_bits and self.bfloat16 is not None else array


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def dtype_name(value: Any) -> str:
    """Return the name of an array's dtype, in any library."""
    return str(getattr(value, "dtype", "")).rsplit(".", 1)[-1]


def kind_of(x: Any, cupy: Any) -> Kind:
    """Return what the operator's first argument asks for.

    Raises
    ------
    TypeError
        If it is not an array on a CUDA device, of float32, float64 or bfloat16.
    """
    array = to_cupy(x, "x", cupy)
    name = dtype_name(x) or dtype_name(array)
    if name not in _DTYPES:
        raise TypeError(f"x: got an array of {name}, expected {', '.join(_DTYPES)}")
    owner = "torch" if _is_tensor(x) else "cupy"
    own_dtype = x.dtype if isinstance(x, cupy.ndarray) and name == "bfloat16" else None
    return Kind(name, int(array.device.id), owner, cupy, own_dtype)


def as_device_array(
    value: Any,
    name: str,
    kind: Kind,
    shape: tuple[int, ...] | None = None,
    *,
    computed: bool = False,
    contiguous: bool = True,
) -> Any:
    """Return `value` as a CuPy array on the device of `kind`, without a copy.

    Parameters
    ----------
    shape : tuple of int, optional
        What it must be.
    computed : bool
        Whether its dtype must be that of sums, float32 beside bfloat16, instead of that of x.
    contiguous : bool
        Whether it must be contiguous.

    Raises
    ------
    TypeError, ValueError
        If it is not so; the message names it, what came and what was expected.
    """
    array = to_cupy(value, name, kind.cupy)
    expected = kind.computed.name if computed else kind.dtype
    found = dtype_name(value) or dtype_name(array)
    if found != expected:
        raise TypeError(f"{name}: got an array of {found}, expected {expected}")
    if int(array.device.id) != kind.device:
        raise ValueError(
            f"{name}: got an array on device {int(array.device.id)}, expected device "
            f"{kind.device}, where x is"
        )
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name}: got shape {tuple(array.shape)}, expected {shape}")
    if contiguous and not array.flags.c_contiguous:
        raise ValueError(f"{name}: got strides {tuple(array.strides)}, expected a contiguous array")
    return array


def to_cupy(value: Any, name: str, cupy: Any) -> Any:
    """Return a CuPy array over the same memory; bfloat16 as uint16."""
    if isinstance(value, np.ndarray) and not isinstance(value, cupy.ndarray):
        raise TypeError(
            f"{name}: got a NumPy array, expected one on a CUDA device; cupy.asarray({name}) "
            "moves it there"
        )
    if isinstance(value, cupy.ndarray):
        return value.view(np.uint16) if value.dtype.name == "bfloat16" else value
    if _is_tensor(value):
        if not value.is_cuda:
            raise TypeError(
                f"{name}: got a tensor on {value.device}, expected one on a CUDA device; "
                f'{name}.to("cuda") moves it there'
            )
        tensor = value.detach()
        if dtype_name(value) == "bfloat16":
            # As integers, which DLPack readers without bfloat16 take.
            return cupy.from_dlpack(tensor.view(sys.modules["torch"].int16)).view(np.uint16)
        return cupy.from_dlpack(tensor)
    if hasattr(value, "__cuda_array_interface__"):
        return cupy.asarray(value)
    if hasattr(value, "__dlpack__"):
        if int(value.__dlpack_device__()[0]) not in _CUDA_DEVICES:
            raise TypeError(f"{name}: got an array off the GPU, expected one on a CUDA device")
        return cupy.from_dlpack(value)
    raise TypeError(f"{name}: got {type(value).__name__}, expected an array on a CUDA device")


@contextlib.contextmanager
def current(kind: Kind) -> Iterator[int]:
    """Make the device of `kind` and its caller's stream current; yield the stream's handle."""
    with kind.cupy.cuda.Device(kind.device):
        if kind.owner != "torch":
            yield int(kind.cupy.cuda.get_current_stream().ptr)
            return
        handle = int(sys.modules["torch"].cuda.current_stream(kind.device).cuda_stream)
        with kind.cupy.cuda.ExternalStream(handle):
            yield handle
