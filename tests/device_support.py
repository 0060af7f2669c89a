"""A stand-in for CuPy that is as strict as CuPy: nothing gets to the host without being counted.

`cuda_support` has one for the operator alone, whose arrays are NumPy's. These are not: NumPy's
functions take them by its two protocols, as they do CuPy's, and refuse to mix them with their own.
"""

from __future__ import annotations

import functools
import importlib.machinery
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from cuda_support import Split, _Device, emulating, emulation, fake_cublas
from lstm_ext import LSTM, Bidirectional, Dense, Dropout, Embedding, Input, Masking, Sequential

waits = 0  # how often the host had to wait for a number or an array

# What of NumPy's functions without a ufunc may be called; CuPy has all of them.
_FUNCTIONS = {
    "any", "broadcast_to", "clip", "concatenate", "empty_like", "nan_to_num", "where",
    "zeros_like",
}  # fmt: skip


def _inner(value: Any) -> Any:
    if isinstance(value, CupyArray):
        return value.memory
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (tuple, list)):
        return type(value)(_inner(part) for part in value)
    return value


def _waited(value: Any) -> Any:
    global waits
    waits += 1
    return value


class CupyArray(NDArrayOperatorsMixin):
    """An array on the pretended device."""

    device = types.SimpleNamespace(id=0)

    def __init__(self, memory: Any) -> None:
        self.memory: NDArray[Any] = np.asarray(memory)

    def __array__(self, *_: Any, **__: Any) -> None:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use `.get()`")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        assert method == "__call__", "CuPy is not asked for more here"
        out = kwargs.pop("out", None)
        if out is not None:
            kwargs["out"] = _inner(out)
        result = ufunc(*_inner(inputs), **kwargs)
        return CupyArray(result) if out is None else out[0]

    def __array_function__(self, func: Any, _: Any, args: Any, kwargs: Any) -> Any:
        assert func.__name__ in _FUNCTIONS, f"{func.__name__} is not expected of CuPy"
        return CupyArray(func(*_inner(args), **{k: _inner(v) for k, v in kwargs.items()}))

    def get(self) -> NDArray[Any]:
        return np.array(_waited(self.memory))

    def __float__(self) -> float:
        return float(_waited(self.memory))

    def __int__(self) -> int:
        return int(_waited(self.memory))

    def __bool__(self) -> bool:
        return bool(_waited(self.memory))

    def __len__(self) -> int:
        return len(self.memory)

    def __getitem__(self, key: Any) -> CupyArray:
        return CupyArray(self.memory[_inner(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.memory[_inner(key)] = _inner(value)

    @property
    def T(self) -> CupyArray:
        return CupyArray(self.memory.T)

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self.memory.ctypes.data)

    @property
    def flags(self) -> Any:
        return types.SimpleNamespace(c_contiguous=self.memory.flags.c_contiguous)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        a = self.memory
        strides = None if a.flags.c_contiguous else a.strides
        return {
            "shape": a.shape, "typestr": a.dtype.str, "data": (a.ctypes.data, False),
            "strides": strides, "version": 3,
        }  # fmt: skip

    def max(self, axis: Any = None, out: None = None, keepdims: bool = False) -> CupyArray:
        return CupyArray(self.memory.max(axis=axis, keepdims=keepdims))

    def sum(
        self, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False
    ) -> CupyArray:
        return CupyArray(self.memory.sum(axis=axis, dtype=dtype, keepdims=keepdims))

    def mean(self, axis: Any = None) -> CupyArray:
        return CupyArray(self.memory.mean(axis=axis))

    def argmax(self, axis: Any = None) -> CupyArray:
        return CupyArray(self.memory.argmax(axis=axis))


def _same(name: str) -> Any:
    def method(self: CupyArray, *args: Any, **kwargs: Any) -> CupyArray:
        return CupyArray(getattr(self.memory, name)(*args, **kwargs))

    return method


for _name in ("argsort", "astype", "copy", "cumsum", "ravel", "reshape", "swapaxes", "view"):
    setattr(CupyArray, _name, _same(_name))
for _name in ("dtype", "itemsize", "nbytes", "ndim", "shape", "size", "strides"):
    setattr(CupyArray, _name, property(lambda self, name=_name: getattr(self.memory, name)))


def to_device(array: Any) -> CupyArray:
    if isinstance(array, CupyArray):
        return array
    if hasattr(array, "__cuda_array_interface__"):
        return CupyArray(array.owner.memory)
    return CupyArray(np.array(array))


def strict_cupy() -> types.ModuleType:
    """Return what lstm_ext uses of CuPy."""
    cupy = types.ModuleType("cupy")
    cupy.__spec__ = importlib.machinery.ModuleSpec("cupy", None)

    def made(function: Any) -> Any:
        return lambda *args: CupyArray(function(*_inner(args)))

    def matmul(a: CupyArray, b: CupyArray, out: CupyArray | None = None) -> CupyArray:
        product = np.matmul(a, b, **({} if out is None else {"out": out}))
        assert isinstance(product, CupyArray)
        return product

    functions = {
        name: made(getattr(np, name))
        for name in (
            "arange", "empty_like", "full", "ones", "stack", "where", "zeros", "ascontiguousarray"
        )
    }  # fmt: skip
    functions["empty"] = lambda shape, dtype: CupyArray(np.full(shape, np.nan).astype(dtype))
    attributes = {
        **functions, "ndarray": CupyArray, "asarray": to_device, "matmul": matmul,
        "cuda": types.SimpleNamespace(
            Device=_Device,
            get_current_stream=lambda: types.SimpleNamespace(ptr=0, is_capturing=lambda: False),
            device=types.SimpleNamespace(get_cublas_handle=lambda: 0),
            cublas=fake_cublas(),
            runtime=types.SimpleNamespace(getDevice=lambda: 0),
        ),
    }  # fmt: skip
    for name, value in attributes.items():
        setattr(cupy, name, value)
    return cupy


@contextmanager
def pretended_device(monkeypatch: Any) -> Iterator[None]:
    """Let lstm_ext find a device: the emulator's, and this module's CuPy."""
    with emulating(emulation(), Split("auto"), monkeypatch), monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cupy", strict_cupy())
        yield


@functools.singledispatch
def host(value: Any) -> Any:
    """Return an array of either kind in NumPy, uncounted."""
    return value


@host.register
def _(value: CupyArray) -> Any:
    return np.array(value.memory)


# ---- what is tried on it ----

B, T, I, H = 6, 4, 3, 5  # noqa: E741 - the names that the equations use

_rng = np.random.default_rng(3)
X = _rng.standard_normal((B, T, I)).astype(np.float32)
Y = _rng.standard_normal((B, 1)).astype(np.float32)
CLASSES = np.eye(3, dtype=np.float32)[_rng.integers(0, 3, B)]
WEIGHTS = _rng.uniform(0.5, 2, B).astype(np.float32)


def make_model(dtype: str = "float32", **compiled: Any) -> Sequential:
    model = Sequential(
        [
            Input((T, I)),
            LSTM(H, return_sequences=True, seed=1, dtype=dtype),
            LSTM(H, seed=2, dtype=dtype),
            Dropout(0.25, seed=3, dtype=dtype),
            Dense(4, "tanh", seed=4, dtype=dtype),
            Dense(1, seed=5, dtype=dtype),
        ]
    )
    model.compile(**{"optimizer": "adam", "loss": "mse", **compiled})
    return model


MASK = _rng.random((B, T)) < 0.6
MASK[1], MASK[2] = False, True
MASKED_X = X.copy()
MASKED_X[~MASK] = 0
NUMBERS = np.where(MASK, _rng.integers(1, 7, (B, T)), 0)


def make_masked(dtype: str = "float32", sequences: bool = False) -> Sequential:
    model = Sequential(
        [
            Input((T, I)),
            Masking(dtype=dtype),
            LSTM(H, return_sequences=True, seed=1, dtype=dtype, dropout=0.2),
            LSTM(H, return_sequences=sequences, seed=2, dtype=dtype, recurrent_dropout=0.2),
            Dense(1, seed=5, dtype=dtype),
        ]
    )
    model.compile("adam", "mse", metrics=["mae"])
    return model


def make_embedded(dtype: str = "float32", sequences: bool = False) -> Sequential:
    model = Sequential(
        [
            Input((T,)),
            Embedding(7, I, mask_zero=True, seed=3, dtype=dtype),
            LSTM(H, return_sequences=sequences, seed=2, dtype=dtype),
            Dense(1, seed=5, dtype=dtype),
        ]
    )
    model.compile("adam", "mse", metrics=["mae"])
    return model


def make_pairs(dtype: str = "float32") -> Sequential:
    inner = LSTM(H, return_sequences=True, seed=1, dtype=dtype, dropout=0.2)
    model = Sequential(
        [
            Input((T, I)),
            Bidirectional(inner),
            Bidirectional(LSTM(H, seed=2, dtype=dtype), "ave"),
            Dense(1, seed=5, dtype=dtype),
        ]
    )
    model.compile("adam", "mse")
    return model


def make_variants(dtype: str = "float32") -> Sequential:
    """Return a model of cells that are not plain, with noise."""
    inner = LSTM(
        H, ("elu", 0.7), clip=2.0, return_sequences=True, seed=1, dtype=dtype, zoneout=0.2,
        cell_zoneout=0.3, proj_size=4,
    )  # fmt: skip
    model = Sequential(
        [
            Input((T, I)),
            Bidirectional(inner),
            LSTM(
                H,
                input_forget=True,
                cell_clip=0.8,
                peepholes=True,
                seed=2,
                dtype=dtype,
                dropout=0.2,
            ),
            Dense(1, seed=5, dtype=dtype),
        ]
    )
    model.compile("adam", "mse")
    return model
