"""Rows of a device matrix added up by number."""

from __future__ import annotations

from typing import Any

from .availability import require

__all__ = ["add_rows"]

Array = Any  # an array of CuPy


def add_rows(numbers: Array, rows: Array, count: int) -> Array:
    """Return sums of rows: row n of the result is that of the rows whose number is n.

    Parameters
    ----------
    numbers : (N,) array of integers
        Others than 0 to count - 1 are left out.
    rows : (N, width) array of float32 or float64

    Returns
    -------
    (count, width) array
        Rows are added in their order: the same bits in every run.
    """
    native, cupy = require()
    numbers = numbers.astype("i8", copy=False)
    order = numbers.argsort(kind="stable").astype("i8", copy=False)
    sums = cupy.zeros((count, rows.shape[1]), rows.dtype)
    stream = int(cupy.cuda.get_current_stream().ptr)
    native.add_rows(
        rows.dtype.name, numbers[order], order, cupy.ascontiguousarray(rows), sums, stream
    )
    return sums
