"""Matrix products over whole sequences, by cuBLAS through CuPy.

CuPy's own `matmul` costs the host several times what a call of cuBLAS does.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .arrays import Kind

__all__ = ["multiply"]

# Of cuBLAS and the CUDA runtime.
_NORMAL, _TRANSPOSED = 0, 1
_FLOAT32, _BFLOAT16 = 0, 14
_COMPUTE_FLOAT32, _COMPUTE_TF32 = 68, 77
_DEFAULT_ALGORITHM = -1

# One and zero, as cuBLAS reads them from the host's memory.
_SCALES = {name: np.array([1, 0], name) for name in ("float32", "float64")}
_ONE = {name: scales[:1].ctypes.data for name, scales in _SCALES.items()}
_ZERO = {name: scales[1:].ctypes.data for name, scales in _SCALES.items()}


# Whether CuPy was told to use TF32 for float32; like CuPy, asked once.
_ALLOWS_TF32 = os.environ.get("CUPY_TF32", "0") == "1"


def multiply(
    kind: Kind,
    a: Any,
    b: Any,
    *,
    dtype: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    out: Any | None = None,
) -> Any:
    """Return the product of two contiguous matrices, transposed where asked, on the current stream.

    Parameters
    ----------
    a, b : (M, K) and (K, N) arrays in the stored dtype of `kind`
    dtype : numpy.dtype
        Of the result: the computed or the stored dtype of `kind`. Sums are in the computed dtype.
    out : (M, N) contiguous array of it, optional

    Returns
    -------
    (M, N) array
        `out` if it was given.
    """
    rows, depth = a.shape[::-1] if transpose_a else a.shape
    columns = b.shape[0] if transpose_b else b.shape[1]
    if out is None:
        out = kind.cupy.empty((rows, columns), dtype)
    if rows * columns == 0:
        return out
    if depth == 0:
        out[...] = 0
        return out
    # cuBLAS knows columns first: to it our arrays are transposed, and outᵀ = bᵀ·aᵀ.
    operations = (
        _TRANSPOSED if transpose_b else _NORMAL,
        _TRANSPOSED if transpose_a else _NORMAL,
    )
    sizes = columns, rows, depth
    left, right = (b.data.ptr, b.shape[1]), (a.data.ptr, a.shape[1])
    result = out.data.ptr, columns
    cublas = kind.cupy.cuda.cublas  # by attribute, which has CuPy load the library first
    handle = kind.cupy.cuda.device.get_cublas_handle()
    computed = "float64" if kind.dtype == "float64" else "float32"
    one, zero = _ONE[computed], _ZERO[computed]
    if kind.dtype == "bfloat16" or (kind.dtype == "float32" and _ALLOWS_TF32):
        stored = _BFLOAT16 if kind.dtype == "bfloat16" else _FLOAT32
        cublas.gemmEx(
            handle, *operations, *sizes, one, left[0], stored, left[1], right[0], stored, right[1],
            zero, result[0], _FLOAT32 if out.dtype.char == "f" else _BFLOAT16, result[1],
            _COMPUTE_FLOAT32 if kind.dtype == "bfloat16" else _COMPUTE_TF32, _DEFAULT_ALGORITHM,
        )  # fmt: skip
    else:
        function = cublas.dgemm if computed == "float64" else cublas.sgemm
        function(handle, *operations, *sizes, one, *left, *right, zero, *result)
    return out
