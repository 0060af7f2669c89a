"""The training that the project began with: LSTM(H) and Dense(1) learn the next number.

X (100, T, I) and y (100, 1), Adam at its defaults, mean squared error, batches of B, 100 epochs, in
order. Every subject starts from the same weights; what it then predicts is compared with the same
training in plain NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import reference

__all__ = ["EPOCHS", "SAMPLES", "train_in_numpy"]

Array = NDArray[Any]

SAMPLES, EPOCHS = 100, 100
_RATE, _BETA_1, _BETA_2, _EPSILON = 0.001, 0.9, 0.999, 1e-7


def train_in_numpy(x: Array, y: Array, weights: list[Array], batch_size: int) -> Array:
    """Return what the trained model predicts for x, computed in the dtype of the weights.

    Parameters
    ----------
    x : (100, T, I) array
    y : (100, 1) array
    weights : list of arrays
        kernel, recurrent_kernel and bias of the LSTM, kernel (H, 1) and bias (1) of the Dense.
    batch_size : int
    """
    dtype = weights[0].dtype
    weights = [w.copy() for w in weights]
    means = [np.zeros_like(w) for w in weights]
    squares = [np.zeros_like(w) for w in weights]
    step = 0
    for _ in range(EPOCHS):
        for start in range(0, len(x), batch_size):
            rows = slice(start, start + batch_size)
            (_, h, _), backward = reference.lstm_vjp(x[rows], *weights[:3])
            error = h @ weights[3] + weights[4] - y[rows]
            d_y = error * dtype.type(2 / len(error))
            lstm = backward(d_h=d_y @ weights[3].T)
            gradients = [lstm.kernel, lstm.recurrent_kernel, lstm.bias, h.T @ d_y, d_y.sum(axis=0)]
            step += 1
            rate = dtype.type(_RATE * np.sqrt(1 - _BETA_2**step) / (1 - _BETA_1**step))
            for w, g, m, v in zip(weights, gradients, means, squares, strict=True):
                m += (g - m) * dtype.type(1 - _BETA_1)
                v += (g * g - v) * dtype.type(1 - _BETA_2)
                w -= rate * m / (np.sqrt(v) + dtype.type(_EPSILON))
    _, h, _ = reference.lstm(x, *weights[:3])
    return h @ weights[3] + weights[4]
