"""Matrix products in one fixed order of additions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _cpu
from .._arguments import as_float_array, as_thread_limit
from .._arrays import namespace

__all__ = ["matmul", "product", "product_vjp"]

Array = NDArray[Any]


def matmul(
    a: ArrayLike,
    b: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    num_threads: int | None = None,
) -> Array:
    """Multiply two matrices in one fixed order of additions.

    Parameters
    ----------
    a : (M, K) array of float32 or float64
        Any strides; pass a transpose as ``a.T``.
    b : (K, N) array of the same dtype
    bias : (N,) array of the same dtype, optional
        Added to every row.
    num_threads : int, optional
        As in `lstm`.

    Returns
    -------
    (M, N) array
        Unlike those of ``a @ b``, a row's bits depend neither on the rows around it nor on the
        number of threads.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type, dtype or shape.
    """
    a = as_float_array(a, "a")
    b = as_float_array(b, "b", like=a.dtype)
    if a.ndim != 2:
        raise ValueError(f"a: got shape {a.shape}, expected (M, K)")
    if b.ndim != 2 or b.shape[0] != a.shape[1]:
        raise ValueError(f"b: got shape {b.shape}, expected ({a.shape[1]}, N)")
    if bias is not None:
        bias = np.ascontiguousarray(as_float_array(bias, "bias", like=a.dtype))
        if bias.shape != (b.shape[1],):
            raise ValueError(f"bias: got shape {bias.shape}, expected ({b.shape[1]},)")
    threads = as_thread_limit(num_threads)
    try:
        return product(a, b, bias, threads)
    except (MemoryError, ValueError) as error:
        raise ValueError(
            f"{'a' if a.size > b.size else 'b'}: got shape {max(a, b, key=np.size).shape}, whose "
            f"product {a.shape[0], b.shape[1]} cannot be allocated; expected a size that fits in "
            "memory"
        ) from error


def product(a: Array, b: Array, bias: Array | None = None, threads: int = 0) -> Array:
    """Return what `matmul` returns for arguments that are known to be right.

    For layers: checking them takes as long as a small product. Of arrays on a device it is CuPy's
    product, whose order of additions is cuBLAS's.
    """
    if type(a) is not np.ndarray:
        result: Array = namespace(a).matmul(a, b)
        return result if bias is None else np.add(result, bias, out=result)
    return _cpu.matmul(a, b, bias, threads)


def product_vjp(
    a: Array, b: Array, d_out: Array, need_a: bool, has_bias: bool
) -> tuple[Array | None, Array, Array | None]:
    """Return the gradients of a product's a, b and bias for that of its result.

    For layers, as `product`. None is in the place of what is not wanted.
    """
    if type(a) is np.ndarray:
        return _cpu.matmul_vjp(a, b, d_out, need_a, has_bias, 0)
    d_a = product(d_out, b.T) if need_a else None
    return d_a, product(a.T, d_out), d_out.sum(axis=0) if has_bias else None
