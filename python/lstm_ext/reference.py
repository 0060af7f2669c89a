"""The LSTM in NumPy, as its equations are written: what the kernels are held to.

Shares no code with the kernels and runs in any float dtype, so that a result in float32 can be
compared with the same result in float64, and that with longdouble. It is plain, not fast.

With gates in the order i, f, c, o along an axis of ``4 * units``, and rows as vectors::

    z_t = x_t @ kernel + h_{t-1} @ recurrent_kernel + bias
    i_t = sigmoid(z_i)                          input gate
    f_t = sigmoid(z_f)                          forget gate
    g_t = tanh(z_c)                             candidate cell
    o_t = sigmoid(z_o)                          output gate
    c_t = f_t * c_{t-1} + i_t * g_t             cell update
    h_t = o_t * tanh(c_t)                       hidden state

(Hochreiter and Schmidhuber 1997; the forget gate of Gers, Schmidhuber and Cummins 2000.) Shapes
below use B, T, I, H for batch size, sequence length, input size and units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .variants import LayerNorm

__all__ = ["Gradients", "lstm", "lstm_vjp"]

Array = NDArray[Any]
State = tuple[Array, Array]
Outputs = tuple[Array, Array, Array]


class Gradients(NamedTuple):
    """The gradients of everything that went into an LSTM, each of its argument's shape.

    None stands where there was no argument.
    """

    x: Array
    kernel: Array
    recurrent_kernel: Array
    bias: Array | None
    h0: Array
    c0: Array
    peephole: Array | None = None
    projection_kernel: Array | None = None
    layer_norm: LayerNorm | None = None


Backward = Callable[..., Gradients]


class _Parameters(NamedTuple):
    kernel: Array  # (I, 4H)
    recurrent_kernel: Array  # (H, 4H)
    bias: Array | None  # (4H,)


class _Step(NamedTuple):
    """One step's values, as its backward step needs them; each (B, H) but x."""

    x: Array  # (B, I)
    h_prev: Array
    c_prev: Array
    i: Array
    f: Array
    g: Array
    o: Array
    c: Array
    h: Array


def lstm(
    x: ArrayLike,
    kernel: ArrayLike,
    recurrent_kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    initial_state: tuple[ArrayLike, ArrayLike] | None = None,
    go_backwards: bool = False,
    time_major: bool = False,
) -> Outputs:
    """Run an LSTM over sequences.

    Parameters
    ----------
    x : (B, T, I) array of any float dtype
        (T, B, I) if `time_major`. All arguments have the same dtype, and so have the results.
    kernel : (I, 4H) array
    recurrent_kernel : (H, 4H) array
    bias : (4H,) array, optional
    initial_state : pair of (B, H) arrays, optional
        h and c before the first step; zeros by default.
    go_backwards : bool
        Read the sequence from its end. The output stands in the order of the steps, so its first
        entry belongs to the last input.
    time_major : bool
        Whether `x` and the output are (T, B, ...).

    Returns
    -------
    output : (B, T, H) array
        h after each step; (T, B, H) if `time_major`.
    h, c : (B, H) arrays
        The state after the last step.

    Raises
    ------
    TypeError
        If an argument is not an array of floats, or the dtypes differ.
    ValueError
        If the shapes do not fit.
    """
    inputs, parameters, state = _checked(
        x, kernel, recurrent_kernel, bias, initial_state, go_backwards, time_major
    )
    return _outputs(_run(inputs, parameters, state), state, time_major)


def lstm_vjp(
    x: ArrayLike,
    kernel: ArrayLike,
    recurrent_kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    initial_state: tuple[ArrayLike, ArrayLike] | None = None,
    go_backwards: bool = False,
    time_major: bool = False,
) -> tuple[Outputs, Backward]:
    """Run an LSTM and return its results with the function that carries gradients back.

    The arguments are those of `lstm`.

    Returns
    -------
    (output, h, c)
        As of `lstm`.
    backward : callable
        ``backward(d_output=None, d_h=None, d_c=None) -> Gradients``. Each argument is the gradient
        of a loss with respect to that result, of its shape and dtype; None means zeros.

    Raises
    ------
    TypeError, ValueError
        As `lstm`.
    """
    inputs, parameters, state = _checked(
        x, kernel, recurrent_kernel, bias, initial_state, go_backwards, time_major
    )
    steps = _run(inputs, parameters, state)
    outputs = _outputs(steps, state, time_major)

    def backward(
        d_output: ArrayLike | None = None,
        d_h: ArrayLike | None = None,
        d_c: ArrayLike | None = None,
    ) -> Gradients:
        upstream = [
            np.zeros_like(result)
            if gradient is None
            else _as_floats(gradient, name, result.shape, result.dtype)
            for name, gradient, result in zip(
                ("d_output", "d_h", "d_c"), (d_output, d_h, d_c), outputs, strict=True
            )
        ]
        d_steps = upstream[0] if time_major else upstream[0].swapaxes(0, 1)
        gradients = _run_back(steps, parameters, d_steps, upstream[1], upstream[2])
        d_x = gradients.x[::-1] if go_backwards else gradients.x
        return gradients._replace(x=d_x if time_major else d_x.swapaxes(0, 1))

    return outputs, backward


def _sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z)), by the exponential that cannot overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


def _step(x: Array, h_prev: Array, c_prev: Array, parameters: _Parameters) -> _Step:
    z = x @ parameters.kernel + h_prev @ parameters.recurrent_kernel
    if parameters.bias is not None:
        z = z + parameters.bias
    z_i, z_f, z_c, z_o = np.split(z, 4, axis=1)
    i = _sigmoid(z_i)
    f = _sigmoid(z_f)
    g = np.tanh(z_c)
    o = _sigmoid(z_o)
    c = f * c_prev + i * g
    h = o * np.tanh(c)
    return _Step(x, h_prev, c_prev, i, f, g, o, c, h)


def _step_back(step: _Step, d_h: Array, d_c: Array) -> tuple[Array, Array]:
    """Return the gradients of z (B, 4H) and of the cell before the step (B, H).

    `d_h` and `d_c` hold the gradients from all later uses of h_t and c_t. The activations'
    derivatives are s' = s (1 - s) for the sigmoid and t' = 1 - t**2 for tanh.
    """
    _, _, c_prev, i, f, g, o, c, _ = step
    tanh_c = np.tanh(c)
    d_cell = d_c + d_h * o * (1 - tanh_c**2)
    d_z_i = d_cell * g * i * (1 - i)
    d_z_f = d_cell * c_prev * f * (1 - f)
    d_z_c = d_cell * i * (1 - g**2)
    d_z_o = d_h * tanh_c * o * (1 - o)
    return np.concatenate([d_z_i, d_z_f, d_z_c, d_z_o], axis=1), d_cell * f


def _run(inputs: Array, parameters: _Parameters, state: State) -> list[_Step]:
    h, c = state
    steps = []
    for x in inputs:
        step = _step(x, h, c, parameters)
        h, c = step.h, step.c
        steps.append(step)
    return steps


def _run_back(
    steps: list[_Step], parameters: _Parameters, d_steps: Array, d_h: Array, d_c: Array
) -> Gradients:
    """Return the gradients, that of x (T, B, I) in the order of the steps."""
    d_x = np.zeros((len(steps), len(d_h), len(parameters.kernel)), d_h.dtype)
    d_kernel = np.zeros_like(parameters.kernel)
    d_recurrent_kernel = np.zeros_like(parameters.recurrent_kernel)
    d_bias = None if parameters.bias is None else np.zeros_like(parameters.bias)
    d_h, d_c = d_h.copy(), d_c.copy()  # what comes back must not be what was given
    for t, step in reversed(list(enumerate(steps))):
        d_z, d_c = _step_back(step, d_h + d_steps[t], d_c)
        d_x[t] = d_z @ parameters.kernel.T
        d_kernel += step.x.T @ d_z
        d_recurrent_kernel += step.h_prev.T @ d_z
        if d_bias is not None:
            d_bias += d_z.sum(axis=0)
        d_h = d_z @ parameters.recurrent_kernel.T
    return Gradients(d_x, d_kernel, d_recurrent_kernel, d_bias, d_h, d_c)


def _outputs(steps: list[_Step], state: State, time_major: bool) -> Outputs:
    h, c = (steps[-1].h, steps[-1].c) if steps else state
    output = np.stack([step.h for step in steps]) if steps else np.zeros((0, *h.shape), h.dtype)
    return output if time_major else output.swapaxes(0, 1), h.copy(), c.copy()


def _checked(
    x: ArrayLike,
    kernel: ArrayLike,
    recurrent_kernel: ArrayLike,
    bias: ArrayLike | None,
    initial_state: tuple[ArrayLike, ArrayLike] | None,
    go_backwards: bool,
    time_major: bool,
) -> tuple[Array, _Parameters, State]:
    """Return the inputs (T, B, I) in the order of the steps, the parameters and (h0, c0)."""
    x = _as_floats(x, "x")
    if x.ndim != 3:
        axes = "time, batch" if time_major else "batch, time"
        raise ValueError(f"x: got shape {x.shape}, expected ({axes}, features)")
    inputs = x if time_major else x.swapaxes(0, 1)
    if go_backwards:
        inputs = inputs[::-1]
    batch_size, input_size = inputs.shape[1:]
    recurrent_kernel = _as_floats(recurrent_kernel, "recurrent_kernel")
    units = recurrent_kernel.shape[0] if recurrent_kernel.ndim else 0
    parameters = _Parameters(
        _as_floats(kernel, "kernel", (input_size, 4 * units), x.dtype),
        _as_floats(recurrent_kernel, "recurrent_kernel", (units, 4 * units), x.dtype),
        None if bias is None else _as_floats(bias, "bias", (4 * units,), x.dtype),
    )
    if initial_state is None:
        zeros = np.zeros((batch_size, units), x.dtype)
        return inputs, parameters, (zeros, zeros)
    if not isinstance(initial_state, (tuple, list)) or len(initial_state) != 2:
        raise ValueError(f"initial_state: got {type(initial_state).__name__}, expected (h, c)")
    h0 = _as_floats(initial_state[0], "initial_state[0]", (batch_size, units), x.dtype)
    c0 = _as_floats(initial_state[1], "initial_state[1]", (batch_size, units), x.dtype)
    return inputs, parameters, (h0, c0)


def _as_floats(
    value: ArrayLike,
    name: str,
    shape: tuple[int, ...] | None = None,
    dtype: np.dtype[Any] | None = None,
) -> Array:
    """Return `value` as an array of floats, of `shape` and `dtype` if these are given."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise ValueError(f"{name}: expected an array of floats, got {error}") from None
    is_wrong = dtype is not None and array.dtype != dtype
    if is_wrong or not np.issubdtype(array.dtype, np.floating):
        expected = "floats" if dtype is None else f"{dtype} like the other arrays"
        raise TypeError(f"{name}: got an array of {array.dtype}, expected {expected}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name}: got shape {array.shape}, expected {shape}")
    return array
