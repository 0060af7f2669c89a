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

# By the name of what a call computes in: what is stored, and what sums and c are.
_STORED = {name: np.dtype("uint16" if name == "bfloat16" else name) for name in _DTYPES}
_COMPUTED = {name: np.dtype("float32" if name == "bfloat16" else name) for name in _DTYPES}

# Names of dtypes seen before. NumPy takes microseconds to make one.
_names: dict[Any, str] = {}


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
        return _STORED[self.dtype]

    @property
    def computed(self) -> Any:
        """The dtype of sums and of c."""
        return _COMPUTED[self.dtype]

    def empty(self, shape: tuple[int, ...], *, computed: bool = False) -> tuple[Any, Any]:
        """Return a new array of the caller's library and the CuPy array that shares its memory.

        Its dtype is the stored one, or the computed one.
        """
        dtype = self.computed if computed else self.stored
        if self.owner == "torch":
            torch = sys.modules["torch"]
            name = dtype.name if computed else self.dtype
            tensor = torch.empty(shape, dtype=getattr(torch, name), device=self.device)
            return tensor, _over_tensor(tensor, self.cupy)
        array = self.cupy.empty(shape, dtype)
        is_bits = self.bfloat16 is not None and not computed
        return (array.view(self.bfloat16) if is_bits else array), array


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def dtype_name(value: Any) -> str:
    """Return the name of an array's dtype, in any library."""
    dtype = getattr(value, "dtype", None)
    name = _names.get(dtype)
    if name is None:
        name = "" if dtype is None else str(dtype).rsplit(".", 1)[-1]
        _names[dtype] = name
    return name


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


def _over_tensor(tensor: Any, cupy: Any) -> Any:
    """Return a CuPy array over a tensor's memory, which it keeps alive; bfloat16 as uint16.

    Both are used on torch's current stream, so nothing has to be ordered, which is what makes
    DLPack slow.
    """
    name = dtype_name(tensor)
    dtype = _STORED.get(name) or np.dtype(name)
    pointer, device = tensor.data_ptr(), tensor.device.index
    size = tensor.untyped_storage().nbytes()
    memory = cupy.cuda.UnownedMemory(pointer, size, tensor.detach(), device)
    strides = tuple(stride * dtype.itemsize for stride in tensor.stride())
    start = cupy.cuda.MemoryPointer(memory, 0)
    return cupy.ndarray(tuple(tensor.shape), dtype, start, strides)


def to_cupy(value: Any, name: str, cupy: Any) -> Any:
    """Return a CuPy array over the same memory; bfloat16 as uint16."""
    if isinstance(value, np.ndarray) and not isinstance(value, cupy.ndarray):
        raise TypeError(
            f"{name}: got a NumPy array, expected one on a CUDA device; cupy.asarray({name}) "
            "moves it there"
        )
    if isinstance(value, cupy.ndarray):
        return value.view(np.uint16) if dtype_name(value) == "bfloat16" else value
    if _is_tensor(value):
        if not value.is_cuda:
            raise TypeError(
                f"{name}: got a tensor on {value.device}, expected one on a CUDA device; "
                f'{name}.to("cuda") moves it there'
            )
        return _over_tensor(value, cupy)
    if hasattr(value, "__cuda_array_interface__"):
        return cupy.asarray(value)
    if hasattr(value, "__dlpack__"):
        if int(value.__dlpack_device__()[0]) not in _CUDA_DEVICES:
            raise TypeError(f"{name}: got an array off the GPU, expected one on a CUDA device")
        return cupy.from_dlpack(value)
    raise TypeError(f"{name}: got {type(value).__name__}, expected an array on a CUDA device")


class _Foreign:
    """A stream of another library, in the protocol by which CuPy takes one."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        """Return the protocol's version and the stream."""
        return 0, self._handle


# By their handles: CuPy's objects for streams of torch.
_streams: dict[int, Any] = {}


def _stream_of(handle: int, cuda: Any) -> Any:
    stream = _streams.get(handle)
    if stream is None:
        if hasattr(cuda.Stream, "from_external"):
            stream = cuda.Stream.from_external(_Foreign(handle))
        else:  # before CuPy 14
            stream = cuda.ExternalStream(handle)
        _streams[handle] = stream
    return stream


@contextlib.contextmanager
def current(kind: Kind) -> Iterator[int]:
    """Make the device of `kind` and its caller's stream current; yield the stream's handle."""
    cuda = kind.cupy.cuda
    if kind.owner != "torch" and int(cuda.runtime.getDevice()) == kind.device:
        yield int(cuda.get_current_stream().ptr)
        return
    with cuda.Device(kind.device):
        if kind.owner != "torch":
            yield int(cuda.get_current_stream().ptr)
            return
        handle = int(sys.modules["torch"].cuda.current_stream(kind.device).cuda_stream)
        with _stream_of(handle, cuda):
            yield handle
