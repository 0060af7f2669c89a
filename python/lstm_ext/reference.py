"""The LSTM in plain NumPy, as the equations stand: what every kernel is held to.

Any float dtype. It shares no code with the kernels or with `lstm_ext.functional`, and makes no
attempt at speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Gradients", "lstm", "lstm_vjp", "sigmoid"]

Array = NDArray[Any]
State = tuple[Array, Array]
Outputs = tuple[Array, Array, Array]


class Gradients(NamedTuple):
    """The gradients of everything that went into an LSTM, each of its argument's shape."""

    x: Array
    kernel: Array
    recurrent_kernel: Array
    bias: Array | None
    h0: Array
    c0: Array


class _Step(NamedTuple):
    """What one step leaves for the backward pass; all (B, H) but x (B, I)."""

    x: Array
    h_prev: Array
    c_prev: Array
    i: Array
    f: Array
    g: Array
    o: Array
    c: Array


def sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z)), by the exponential that does not overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e)).astype(z.dtype)


def _forward(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None,
    initial_state: State | None,
) -> tuple[Outputs, list[_Step]]:
    """Run over x (B, T, I) in the order of its steps."""
    batch, seq_len, _ = x.shape
    units = recurrent_kernel.shape[0]
    zeros = np.zeros((batch, units), x.dtype)
    h, c = (zeros, zeros) if initial_state is None else initial_state
    output = np.empty((batch, seq_len, units), x.dtype)
    steps = []
    for t in range(seq_len):
        z = x[:, t] @ kernel + h @ recurrent_kernel
        if bias is not None:
            z = z + bias
        z_i, z_f, z_c, z_o = np.split(z, 4, axis=1)
        i, f, g, o = sigmoid(z_i), sigmoid(z_f), np.tanh(z_c), sigmoid(z_o)
        h_prev, c_prev = h, c
        c = f * c_prev + i * g
        h = o * np.tanh(c)
        output[:, t] = h
        steps.append(_Step(x[:, t], h_prev, c_prev, i, f, g, o, c))
    return (output, h.copy(), c.copy()), steps


def lstm(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    *,
    initial_state: State | None = None,
    go_backwards: bool = False,
    time_major: bool = False,
) -> Outputs:
    """Run an LSTM over sequences; see `lstm_ext.functional.lstm` for shapes and meaning.

    Returns
    -------
    output : (B, T, H) array, or (T, B, H) if `time_major`
    h, c : (B, H) arrays
    """
    outputs, _ = lstm_vjp(
        x,
        kernel,
        recurrent_kernel,
        bias,
        initial_state=initial_state,
        go_backwards=go_backwards,
        time_major=time_major,
    )
    return outputs


def lstm_vjp(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    *,
    initial_state: State | None = None,
    go_backwards: bool = False,
    time_major: bool = False,
) -> tuple[Outputs, Callable[..., Gradients]]:
    """Run an LSTM and return its results with the function that carries gradients back.

    Returns
    -------
    (output, h, c)
        As of `lstm`.
    backward : callable
        ``backward(d_output=None, d_h=None, d_c=None) -> Gradients``; None means zeros.
    """

    def oriented(sequence: Array) -> Array:
        """Swap between the caller's layout and (batch, step)."""
        return np.swapaxes(sequence, 0, 1) if time_major else sequence

    forwards = slice(None, None, -1 if go_backwards else 1)
    outputs, steps = _forward(
        oriented(x)[:, forwards], kernel, recurrent_kernel, bias, initial_state
    )
    output, h_last, c_last = outputs

    def backward(
        d_output: Array | None = None, d_h: Array | None = None, d_c: Array | None = None
    ) -> Gradients:
        d_sequence = np.zeros_like(output) if d_output is None else oriented(d_output)
        d_h = np.zeros_like(h_last) if d_h is None else d_h
        d_c = np.zeros_like(c_last) if d_c is None else d_c
        d_x = np.zeros_like(oriented(x))
        d_kernel = np.zeros_like(kernel)
        d_recurrent_kernel = np.zeros_like(recurrent_kernel)
        d_bias = np.zeros(kernel.shape[1], kernel.dtype)
        for t in reversed(range(len(steps))):
            s = steps[t]
            d_h = d_h + d_sequence[:, t]
            tanh_c = np.tanh(s.c)
            d_c = d_c + d_h * s.o * (1 - tanh_c**2)
            d_z = np.concatenate(
                [
                    d_c * s.g * s.i * (1 - s.i),
                    d_c * s.c_prev * s.f * (1 - s.f),
                    d_c * s.i * (1 - s.g**2),
                    d_h * tanh_c * s.o * (1 - s.o),
                ],
                axis=1,
            )
            d_kernel += s.x.T @ d_z
            d_recurrent_kernel += s.h_prev.T @ d_z
            d_bias += d_z.sum(axis=0)
            d_x[:, t] = d_z @ kernel.T
            d_h = d_z @ recurrent_kernel.T
            d_c = d_c * s.f
        return Gradients(
            oriented(d_x[:, forwards]),
            d_kernel,
            d_recurrent_kernel,
            None if bias is None else d_bias,
            d_h,
            d_c,
        )

    return (oriented(output), h_last, c_last), backward
