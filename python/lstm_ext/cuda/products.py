"""Matrix products over whole sequences, by CuPy: its matmul, or cuBLAS through it for bfloat16."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from .arrays import Kind

__all__ = ["multiply"]

# Of cuBLAS and the CUDA runtime.
_NORMAL, _TRANSPOSED = 0, 1
_FLOAT32, _BFLOAT16 = 0, 14
_COMPUTE_FLOAT32 = 68
_DEFAULT_ALGORITHM = -1


def multiply(
    kind: Kind,
    a: Any,
    b: Any,
    *,
    dtype: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> Any:
    """Return the product of two contiguous matrices, transposed where asked, on the current stream.

    Parameters
    ----------
    a, b : (M, K) and (K, N) arrays in the stored dtype of `kind`
    dtype : numpy.dtype
        Of the result: the computed or the stored dtype of `kind`. Sums are in the computed dtype.

    Returns
    -------
    (M, N) array
    """
    rows, depth = a.shape[::-1] if transpose_a else a.shape
    columns = b.shape[0] if transpose_b else b.shape[1]
    if rows * columns == 0 or depth == 0:
        return kind.cupy.zeros((rows, columns), dtype)
    out = kind.cupy.empty((rows, columns), dtype)
    if kind.dtype == "bfloat16":
        _multiply_bfloat16(kind, a, b, out, depth, transpose_a, transpose_b)
    else:
        left, right = a.T if transpose_a else a, b.T if transpose_b else b
        kind.cupy.matmul(left, right, out=out)
    return out


def _multiply_bfloat16(
    kind: Kind, a: Any, b: Any, out: Any, depth: int, transpose_a: bool, transpose_b: bool
) -> None:
    """Call cuBLAS, which knows columns first: to it our arrays are transposed, and outᵀ = bᵀ·aᵀ."""
    cublas = importlib.import_module("cupy_backends.cuda.libs.cublas")
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    rows, columns = out.shape
    cublas.gemmEx(
        kind.cupy.cuda.device.get_cublas_handle(),
        _TRANSPOSED if transpose_b else _NORMAL,
        _TRANSPOSED if transpose_a else _NORMAL,
        columns,
        rows,
        depth,
        one.ctypes.data,
        b.data.ptr,
        _BFLOAT16,
        b.shape[1],
        a.data.ptr,
        _BFLOAT16,
        a.shape[1],
        zero.ctypes.data,
        out.data.ptr,
        _FLOAT32 if out.dtype == np.float32 else _BFLOAT16,
        columns,
        _COMPUTE_FLOAT32,
        _DEFAULT_ALGORITHM,
    )
