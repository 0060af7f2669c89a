"""The formats of small weights in plain NumPy: how far from full weights each has to be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ROUNDING", "run"]

Array = NDArray[Any]

#: The largest rounding error of one number, relative to itself or to the largest of its scale.
ROUNDING = {"bfloat16": 2.0**-9, "int8": 1 / 254}


def run(x: Array, weights: tuple[Array, Array, Array], weights_dtype: str) -> Array:
    """Return the output of an LSTM whose products take rounded weights and rounded activations.

    Parameters
    ----------
    x : (B, T, I) array of float32
    weights : kernel (I, 4H), recurrent_kernel (H, 4H), bias (4H) of float32
    weights_dtype : "bfloat16" or "int8"
        int8 has a scale for each column of the weights and for each row of a step.

    Returns
    -------
    (B, T, H) array of float64
        All else is computed in float64.
    """
    rounded = {"bfloat16": _to_bfloat16, "int8": _to_int8}[weights_dtype]
    kernel, recurrent_kernel = (rounded(w, 0) for w in weights[:2])
    h = c = np.zeros((x.shape[0], recurrent_kernel.shape[0]))
    output = np.empty((*x.shape[:2], h.shape[1]))
    for t in range(x.shape[1]):
        z = rounded(x[:, t], 1) @ kernel + rounded(h, 1) @ recurrent_kernel + weights[2]
        z_i, z_f, z_c, z_o = np.split(z, 4, axis=1)
        c = _sigmoid(z_f) * c + _sigmoid(z_i) * np.tanh(z_c)
        h = _sigmoid(z_o) * np.tanh(c)
        output[:, t] = h
    return output


def _sigmoid(z: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(0.5 * z)


def _to_bfloat16(x: Array, axis: int) -> Array:
    """Round to 8 significant bits, ties to even, whatever the axis."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    values: Array = rounded.view(np.float32).astype(np.float64)
    return values


def _to_int8(x: Array, axis: int) -> Array:
    """Round to whole multiples of a 127th of the largest magnitude along `axis`."""
    scale = np.abs(x).max(axis=axis, keepdims=True).astype(np.float64) / 127
    values: Array = np.rint(x / np.where(scale > 0, scale, 1)) * scale
    return values
