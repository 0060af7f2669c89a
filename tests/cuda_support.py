"""The CUDA operator without a GPU: its kernels on the emulator, its arrays by a stand-in for CuPy.

`tests/native/cuda_emulation/` compiles the sources of csrc/cuda/ for the CPU. Memory that is
allocated here is full of NaN, and stands between stretches that must keep their bits.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.machinery
import importlib.util
import subprocess
import sys
import sysconfig
import tempfile
import time
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from build_support import SOURCE, compiler_for
from lstm_ext import config
from support import Problem

Array = NDArray[Any]

EMULATION = SOURCE / "tests" / "native" / "cuda_emulation"
SOURCES = [
    *(
        SOURCE / "csrc" / "cuda" / f"{name}.cu"
        for name in (
            "cluster",
            "grid",
            "steps",
            "variants",
            "projected",
            "driver",
            "product",
            "rows",
        )
    ),
    SOURCE / "csrc" / "cuda" / "plan.cpp",
    *(
        SOURCE / "csrc" / "bindings" / "cuda" / f"{name}.cpp"
        for name in ("operator", "device", "variant")
    ),
    *sorted(EMULATION.glob("*.cpp")),
]
FLAGS = [
    "-std=c++17", "-fPIC", "-O1", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra",
    "-Werror", "-Wno-unknown-pragmas", "-U_FORTIFY_SOURCE", "-x", "c++",
]  # fmt: skip

# What an H200 says of itself, and a chip without clusters.
H200 = {"capability": 90, "processors": 132, "shared_bytes": 232448, "largest_cluster": 16}
A100 = {"capability": 80, "processors": 108, "shared_bytes": 166912, "largest_cluster": 1}


@functools.cache
def emulation() -> Any:
    """Compile the module `_cuda` for the emulator and import it, once in a process."""
    if sys.platform != "linux":
        pytest.skip("the emulator needs the fibers of Linux's C library")
    pybind11 = pytest.importorskip("pybind11", reason="needs pybind11 to build the emulator")
    folder = Path(_folder.name)
    includes = [EMULATION, SOURCE / "csrc", pybind11.get_include(), sysconfig.get_path("include")]
    flags = FLAGS + [f"-I{path}" for path in includes]
    compiler = compiler_for("baseline")

    def compile_one(source: Path) -> str:
        made = str(folder / f"{source.parent.name}_{source.stem}.o")
        subprocess.run([compiler, *flags, "-c", str(source), "-o", made], check=True)
        return made

    with ThreadPoolExecutor(config.get_num_threads()) as pool:
        objects = list(pool.map(compile_one, SOURCES))
    path = folder / f"_cuda{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    subprocess.run([compiler, "-shared", *objects, "-o", str(path)], check=True)
    spec = importlib.util.spec_from_file_location("_cuda", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_folder = tempfile.TemporaryDirectory(prefix="lstm_ext_emulation")


class DeviceArray(np.ndarray):
    """A NumPy array that says it is on a device, as CuPy's arrays do."""

    device = types.SimpleNamespace(id=0)

    def get(self) -> Array:
        return np.array(self)

    @property
    def data(self) -> Any:  # type: ignore[override]
        return types.SimpleNamespace(ptr=self.ctypes.data)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        strides = None if self.flags.c_contiguous else self.strides
        return {
            "shape": self.shape, "typestr": self.dtype.str, "data": (self.ctypes.data, False),
            "strides": strides, "version": 3,
        }  # fmt: skip


_GUARD = 64  # bytes on either side
_guarded: list[Array] = []


def _allocate(shape: Any, dtype: Any = np.float32) -> DeviceArray:
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.full(size + 2 * _GUARD, 0xFF, np.uint8)
    _guarded.append(memory)
    inner = memory[_GUARD : _GUARD + size].view(dtype).reshape(shape)
    return inner.view(DeviceArray)


def check_guards() -> None:
    """Assert that nothing was written beside an array since this was last called."""
    for memory in _guarded:
        assert (memory[:_GUARD] == 0xFF).all() and (memory[-_GUARD:] == 0xFF).all()
    _guarded.clear()


def to_device(array: Any) -> DeviceArray:
    copy = _allocate(np.shape(array), np.asarray(array).dtype)
    copy[...] = array
    return copy


def _from_interface(value: Any) -> DeviceArray:
    interface = value.__cuda_array_interface__
    assert interface["strides"] is None
    dtype = np.dtype(interface["typestr"])
    size = int(np.prod(interface["shape"])) * dtype.itemsize
    buffer = (ctypes.c_byte * size).from_address(interface["data"][0])
    return np.frombuffer(buffer, dtype).reshape(interface["shape"]).view(DeviceArray)


# What cuBLAS numbers float32, bfloat16 and float64.
_TYPES = {0: np.float32, 14: np.uint16, 1: np.float64}


def _columns(address: int, rows: int, count: int, dtype: Any, stride: int) -> Array:
    """A matrix that lies columns first."""
    memory = (ctypes.c_byte * (np.dtype(dtype).itemsize * stride * count)).from_address(address)
    return np.frombuffer(memory, dtype).reshape(count, stride)[:, :rows].T


def _gemm_ex(
    handle: int, trans_a: int, trans_b: int, m: int, n: int, k: int, alpha: int, a: int,
    a_type: int, lda: int, b: int, b_type: int, ldb: int, beta: int, c: int, c_type: int,
    ldc: int, compute: int, algorithm: int,
) -> None:  # fmt: skip
    """What cublasGemmEx does with bfloat16 operands."""
    assert (a_type, b_type, compute) == (14, 14, 68)
    _gemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, a_type, c_type)


def _gemm(
    trans_a: int, trans_b: int, m: int, n: int, k: int, alpha: int, a: int, lda: int, b: int,
    ldb: int, beta: int, c: int, ldc: int, in_type: int, out_type: int,
) -> None:  # fmt: skip
    scale_type = ctypes.c_double if in_type == 1 else ctypes.c_float
    scale = [ctypes.cast(p, ctypes.POINTER(scale_type))[0] for p in (alpha, beta)]
    assert scale == [1, 0]
    dtype = _TYPES[in_type]
    left = _columns(a, k, m, dtype, lda).T if trans_a else _columns(a, m, k, dtype, lda)
    right = _columns(b, n, k, dtype, ldb).T if trans_b else _columns(b, k, n, dtype, ldb)
    if in_type == 14:
        left, right = from_bfloat16(left), from_bfloat16(right)
    product = left @ right
    out = _columns(c, m, n, _TYPES[out_type], ldc)
    out[...] = to_bfloat16(product) if out_type == 14 else product


def _plain_gemm(number: int) -> Any:
    """cublasSgemm or cublasDgemm."""

    def gemm(
        handle: int, trans_a: int, trans_b: int, m: int, n: int, k: int, alpha: int, a: int,
        lda: int, b: int, ldb: int, beta: int, c: int, ldc: int,
    ) -> None:  # fmt: skip
        _gemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, number, number)

    return gemm


class _Device(contextlib.nullcontext[None]):
    def __init__(self, number: int = 0) -> None:
        super().__init__()
        self.id, self.attributes = number, {"L2CacheSize": 1000}


class _Event:
    time = 0.0

    def record(self) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        pass


def fake_cupy() -> types.ModuleType:
    """Return what lstm_ext.cuda uses of CuPy, over NumPy."""
    cupy = types.ModuleType("cupy")
    cupy.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    cupy.ndarray = DeviceArray  # type: ignore[attr-defined]
    cupy.empty = _allocate  # type: ignore[attr-defined]
    cupy.asarray = (  # type: ignore[attr-defined]
        lambda a: to_device(a) if type(a) is np.ndarray else _from_interface(a)
    )
    cupy.empty_like = lambda a: _allocate(a.shape, a.dtype)  # type: ignore[attr-defined]
    cupy.zeros = lambda s, d: to_device(np.zeros(s, d))  # type: ignore[attr-defined]
    cupy.full = lambda s, v, d: to_device(np.full(s, v, d))  # type: ignore[attr-defined]
    cupy.arange = lambda n: to_device(np.arange(n))  # type: ignore[attr-defined]
    cupy.where = lambda *a: np.where(*a).view(DeviceArray)  # type: ignore[attr-defined]
    cupy.stack = lambda arrays: to_device(np.stack(arrays))  # type: ignore[attr-defined]
    cupy.ascontiguousarray = (  # type: ignore[attr-defined]
        lambda a: a if a.flags.c_contiguous else to_device(a)
    )
    cupy.cuda = types.SimpleNamespace(  # type: ignore[attr-defined]
        Device=_Device,
        Event=_Event,
        get_elapsed_time=lambda start, end: 1000 * (end.time - start.time),
        get_current_stream=lambda: types.SimpleNamespace(ptr=0, is_capturing=lambda: False),
        device=types.SimpleNamespace(get_cublas_handle=lambda: 0),
        cublas=fake_cublas(),
        runtime=types.SimpleNamespace(deviceSynchronize=lambda: None, getDevice=lambda: 0),
    )
    return cupy


def fake_cublas() -> types.ModuleType:
    cublas = types.ModuleType("cupy.cuda.cublas")
    cublas.gemmEx = _gemm_ex  # type: ignore[attr-defined]
    cublas.sgemm = _plain_gemm(0)  # type: ignore[attr-defined]
    cublas.dgemm = _plain_gemm(1)  # type: ignore[attr-defined]
    return cublas


def to_bfloat16(array: Any) -> Array:
    """Round to the nearest bfloat16, ties to even; as bits."""
    bits = np.asarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: Any) -> Array:
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)


def rounded(array: Any) -> Array:
    return from_bfloat16(to_bfloat16(array))


class BFloat16Array:
    """An array of another library, which has bfloat16: known by its dtype and its interface."""

    def __init__(self, values: Any) -> None:
        self.bits = to_device(to_bfloat16(values))

    dtype = "other.bfloat16"

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.bits.__cuda_array_interface__


class Split(NamedTuple):
    """How a call is divided: what `_cuda.plan` is made to take."""

    algorithm: str
    blocks: int = 0
    rows: int = 0
    order: str = "forward"
    seed: int = 0
    processors: int = 0  # of a smaller chip, on which fewer groups run at once

    @property
    def chip(self) -> dict[str, int] | None:
        """The chip that is divided for; None: the emulator's own."""
        return {**H200, "processors": self.processors} if self.processors else None


class Emulated:
    """`lstm_vjp` of lstm_ext.cuda on the emulator, for NumPy arrays, in a given division."""

    def __init__(self, native: Any, split: Split) -> None:
        self._native, self._split = native, split

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def plan(
        self, dtype: str, direction: str, batch: int, units: int, _: str = "",
        variant: bool = False,
    ) -> Any:  # fmt: skip
        s = self._split
        return self._native.plan(
            dtype, direction, batch, units, s.algorithm, s.blocks, s.rows, s.chip, variant
        )


@contextlib.contextmanager
def emulating(native: Any, split: Split, monkeypatch: Any) -> Iterator[None]:
    """Make lstm_ext.cuda run on the emulator in this division."""
    from lstm_ext.cuda import availability

    with monkeypatch.context() as patch:
        patch.setattr(availability, "native", lambda: Emulated(native, split))
        patch.setitem(sys.modules, "cupy", fake_cupy())
        native.emulate(split.order, split.seed)
        yield
        native.emulate("forward")
    check_guards()


def run_emulated(problem: Problem, dtype: str, **options: Any) -> tuple[Array, ...]:
    """Run lstm_vjp and its backward with all upstream gradients, inside `emulating`.

    Results in bfloat16 come widened.
    """
    from lstm_ext import cuda

    small = dtype == "bfloat16"
    put: Any = BFloat16Array if small else to_device
    arguments = [None if a is None else put(a) for a in problem.arguments]
    state = put(problem.h0), to_device(problem.c0)
    results, backward = cuda.lstm_vjp(*arguments, initial_state=state, **options)
    gradients = backward(put(problem.d_output), put(problem.d_h), to_device(problem.d_c))
    found = [None if a is None else np.array(np.asarray(a)) for a in (*results, *gradients[:6])]
    return tuple(
        np.zeros(0) if a is None else from_bfloat16(a) if a.dtype == np.uint16 else a for a in found
    )


def plain_bfloat16(problem: Problem) -> tuple[Array, ...]:
    """The same in NumPy, rounding where the CUDA operator rounds; arguments are rounded already."""
    steps, units = problem.x.shape[1], problem.h0.shape[1]
    h, c = rounded(problem.h0), problem.c0
    hidden, cells, gates = [h], [c], []
    for t in range(steps):
        z = problem.x[:, t] @ problem.kernel + problem.bias + h @ problem.recurrent_kernel
        i, f, g, o = np.split(z, 4, axis=1)
        i, f, g, o = 1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-f)), np.tanh(g), 1 / (1 + np.exp(-o))
        c = f * c + i * g
        h = rounded(o * np.tanh(c))
        hidden.append(h)
        cells.append(c)
        gates.append(rounded(np.concatenate([i, f, g, o], axis=1)))
    d_h, d_c = problem.d_h, problem.d_c
    d_z = np.zeros((steps, *h.shape[:1], 4 * units), np.float32)
    for t in reversed(range(steps)):
        i, f, g, o = np.split(gates[t], 4, axis=1)
        d_h = d_h + problem.d_output[:, t]
        tanh_c = np.tanh(cells[t + 1])
        d_cell = d_c + d_h * o * (1 - tanh_c**2)
        parts = (
            d_cell * g * i * (1 - i),
            d_cell * cells[t] * f * (1 - f),
            d_cell * i * (1 - g**2),
            d_h * tanh_c * o * (1 - o),
        )
        d_z[t] = rounded(np.concatenate(parts, axis=1))
        d_c = d_cell * f
        d_h = d_z[t] @ problem.recurrent_kernel.T
    rows = d_z.reshape(-1, 4 * units)
    inputs = problem.x.swapaxes(0, 1).reshape(len(rows), -1)
    before = np.stack(hidden[:-1]).reshape(len(rows), units)
    return (
        np.stack(hidden[1:], axis=1), h, c,
        rounded((d_z @ problem.kernel.T).swapaxes(0, 1)), rounded(inputs.T @ rows),
        rounded(before.T @ rows), rounded(rows.sum(axis=0)), rounded(d_h), d_c,
    )  # fmt: skip


def round_problem(problem: Problem) -> Problem:
    """Return the problem that a call in bfloat16 sees, as float32."""
    keep = {"c0", "d_c"}
    fields = {
        name: value if name in keep or value is None else rounded(value)
        for name, value in problem._asdict().items()
    }
    return Problem(**fields)
