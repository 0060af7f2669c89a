"""The LSTM operator: arrays in, arrays out, nothing kept.

The equations, with gates in the order i, f, c, o along an axis of ``4 * units``::

    z_t = x_t @ kernel + h_{t-1} @ recurrent_kernel + bias
    i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o)
    c_t = f * c_{t-1} + i * tanh(z_c)
    h_t = o * tanh(c_t)

(Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000.) Shapes below use B, T, I, H
for batch size, sequence length, input size and units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _cpu
from ._arguments import (
    as_float_array,
    as_gradient,
    as_input,
    as_optional_gradient,
    as_state,
    as_thread_limit,
    as_weights_dtype,
    check_differentiable,
    check_flags,
    new_sequence,
    too_large,
    with_unit_columns,
)
from ._cpu import PackedWeights

__all__ = ["Gradients", "PackedWeights", "lstm", "lstm_vjp", "matmul", "pack"]

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


Backward = Callable[..., Gradients]


def pack(
    kernel: ArrayLike,
    recurrent_kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    weights_dtype: str | None = None,
    isa: str | None = None,
) -> PackedWeights:
    """Copy weights into the layout of the kernels, once for many calls.

    Parameters
    ----------
    kernel : (I, 4H) array of float32 or float64
    recurrent_kernel : (H, 4H) array of the same dtype
    bias : (4H,) array of the same dtype, optional
    weights_dtype : "bfloat16" or "int8", optional
        Store kernel and recurrent_kernel smaller; they are then float32. Inputs, state and outputs
        stay float32. By default weights are stored as they are.
    isa : str, optional
        One of `lstm_ext.available_isas()`. The default is the best, or what the environment
        variable LSTM_EXT_ISA names.

    Returns
    -------
    PackedWeights
        Takes the place of `kernel` in `lstm` and `lstm_vjp`. Later changes to the arrays do not
        reach it. It has the attributes `input_size`, `units`, `has_bias`, `dtype`,
        `weights_dtype` and `isa`.

    Raises
    ------
    TypeError
        If an argument is not an array of float32 or float64, or the dtypes differ.
    ValueError
        If the shapes do not fit, `weights_dtype` is unknown or stands beside float64, or `isa` is
        unknown or does not run here.

    Notes
    -----
    bfloat16: weights and, on their way into products, activations are rounded to 8 significant
    bits; sums are float32. int8: weights are whole numbers up to 127 times a scale for each unit
    and gate, and activations the same with a scale for each row of each step, found as it comes;
    sums are exact. Small weights have no backward pass.
    """
    kernel = as_float_array(kernel, "kernel")
    recurrent_kernel = as_float_array(recurrent_kernel, "recurrent_kernel", like=kernel.dtype)
    if recurrent_kernel.ndim != 2 or 4 * recurrent_kernel.shape[0] != recurrent_kernel.shape[1]:
        raise ValueError(
            f"recurrent_kernel: got shape {recurrent_kernel.shape}, expected (units, 4 * units)"
        )
    columns = recurrent_kernel.shape[1]
    if kernel.ndim != 2 or kernel.shape[1] != columns or 0 in kernel.shape:
        raise ValueError(
            f"kernel: got shape {kernel.shape}, expected (input_size, {columns}) to go with "
            f"recurrent_kernel {recurrent_kernel.shape}, no axis empty"
        )
    if bias is not None:
        bias = as_float_array(bias, "bias", like=kernel.dtype)
        if bias.shape != (columns,):
            raise ValueError(f"bias: got shape {bias.shape}, expected ({columns},)")
        bias = np.ascontiguousarray(bias)
    if isa is not None and not isinstance(isa, str):
        raise TypeError(f"isa: got {type(isa).__name__}, expected a string")
    if isa == "":
        raise ValueError(f"isa: got '', expected one of {', '.join(_cpu.available_isas())}")
    small = as_weights_dtype(weights_dtype, kernel.dtype)
    try:
        return PackedWeights(
            with_unit_columns(kernel),
            with_unit_columns(recurrent_kernel),
            bias,
            isa or "",
            small or "",
        )
    except MemoryError as error:
        raise ValueError(
            f"kernel: got shapes {kernel.shape} and {recurrent_kernel.shape}, of which no copy can "
            "be allocated; expected sizes that fit in memory"
        ) from error


def lstm(
    x: ArrayLike,
    kernel: ArrayLike | PackedWeights,
    recurrent_kernel: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    initial_state: tuple[ArrayLike, ArrayLike] | None = None,
    go_backwards: bool = False,
    time_major: bool = False,
    return_sequences: bool = True,
    num_threads: int | None = None,
    isa: str | None = None,
) -> Outputs:
    """Run an LSTM over sequences.

    Parameters
    ----------
    x : (B, T, I) array of float32 or float64
        Any strides. (T, B, I) if `time_major`.
    kernel, recurrent_kernel, bias
        As in `pack`, of the dtype of `x`; or a `PackedWeights` for `kernel` and nothing else.
    initial_state : pair of (B, H) arrays, optional
        h and c before the first step; zeros by default.
    go_backwards : bool
        Read the sequence from its end. The output stands in the order of the steps, so its first
        entry belongs to the last input.
    time_major : bool
        Whether `x` and the output are (T, B, ...).
    return_sequences : bool
        Whether the output holds every step, or is h after the last.
    num_threads : int, optional
        The most threads to use; by default `lstm_ext.get_num_threads()`. Small calls use one.
    isa : str, optional
        As in `pack`; not with a `PackedWeights`, which has one.

    Returns
    -------
    output : (B, T, H) array, or (B, H) without `return_sequences`
        (T, B, H) if `time_major`. ``output[:, -1]`` equals `h` exactly; without `return_sequences`
        it is `h` itself.
    h, c : (B, H) arrays
        The state after the last step.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type, dtype or shape; the message names it, what came and what
        was expected. A result too large to allocate is a ValueError. Nothing was computed then.

    Notes
    -----
    A row's result is the same to the last bit for any batch around it, any number of threads, and
    whether its steps come in one call or in several.
    """
    check_flags(go_backwards, time_major, return_sequences)
    weights = _weights(kernel, recurrent_kernel, bias, isa)
    x = as_input(x, weights, time_major)
    h0, c0 = as_state(initial_state, "initial_state", x, weights)
    threads = as_thread_limit(num_threads)
    batch, steps, _ = x.shape
    try:
        output = new_sequence(batch, steps, weights, time_major) if return_sequences else None
        h = np.empty((batch, weights.units), x.dtype)
        c = np.empty((batch, weights.units), x.dtype)
        _cpu.lstm_forward(weights, x, h0, c0, go_backwards, output, h, c, None, None, threads)
    except (MemoryError, ValueError) as error:
        raise too_large(x, weights) from error
    if output is None:
        return h, h, c
    return output.swapaxes(0, 1) if time_major else output, h, c


def lstm_vjp(
    x: ArrayLike,
    kernel: ArrayLike | PackedWeights,
    recurrent_kernel: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    initial_state: tuple[ArrayLike, ArrayLike] | None = None,
    go_backwards: bool = False,
    time_major: bool = False,
    return_sequences: bool = True,
    num_threads: int | None = None,
    isa: str | None = None,
) -> tuple[Outputs, Backward]:
    """Run an LSTM and return its results with the function that carries gradients back.

    The arguments are those of `lstm`. What the backward pass needs is kept, some ``6 * B * T * H``
    values: the inputs, the outputs, the gates and the cells. Inputs and outputs are not copied: do
    not change them before `backward` has run.

    Returns
    -------
    (output, h, c)
        As of `lstm`, with the same bits.
    backward : callable
        ``backward(d_output=None, d_h=None, d_c=None) -> Gradients``. Each argument is the gradient
        of a loss with respect to that result, of its shape; None means zeros. May be called more
        than once. The gradients depend neither on the number of threads nor on the run. With
        ``need_x=False`` or ``need_state=False`` the gradients of x, or of h0 and c0, are not
        computed and are empty arrays; with ``consume=True`` what was kept is overwritten, which
        saves ``4 * B * T * H`` values, and there is no second call.

    Raises
    ------
    TypeError, ValueError
        As `lstm`.
    """
    check_flags(go_backwards, time_major, return_sequences)
    weights = _weights(kernel, recurrent_kernel, bias, isa)
    check_differentiable(weights)
    x = as_input(x, weights, time_major)
    h0, c0 = as_state(initial_state, "initial_state", x, weights)
    threads = as_thread_limit(num_threads)
    batch, steps, _ = x.shape
    units, dtype = weights.units, x.dtype
    try:
        output = new_sequence(batch, steps, weights, time_major)
        h = np.empty((batch, units), dtype)
        c = np.empty((batch, units), dtype)
        gates: Array | None = np.empty((steps, batch, 4 * units), dtype)
        cells = np.empty((steps, batch, units), dtype)
        _cpu.lstm_forward(weights, x, h0, c0, go_backwards, output, h, c, gates, cells, threads)
    except (MemoryError, ValueError) as error:
        raise too_large(x, weights) from error

    def backward(
        d_output: ArrayLike | None = None,
        d_h: ArrayLike | None = None,
        d_c: ArrayLike | None = None,
        *,
        need_x: bool = True,
        need_state: bool = True,
        consume: bool = False,
    ) -> Gradients:
        nonlocal gates
        if gates is None:
            raise ValueError("consume: backward was called with it before, and can run no more")
        d_sequence = None
        if d_output is not None and return_sequences:
            shape = (steps, batch, units) if time_major else (batch, steps, units)
            d_sequence = as_gradient(d_output, "d_output", shape, dtype)
            d_sequence = d_sequence.swapaxes(0, 1) if time_major else d_sequence
        d_state_h = as_optional_gradient(d_h, "d_h", (batch, units), dtype)
        d_state_c = as_optional_gradient(d_c, "d_c", (batch, units), dtype)
        if d_output is not None and not return_sequences:
            d_last = as_gradient(d_output, "d_output", (batch, units), dtype)
            d_state_h = d_last if d_state_h is None else d_last + d_state_h
        try:
            d_x = np.empty(x.shape if need_x else 0, dtype)
            d_kernel = np.empty((weights.input_size, 4 * units), dtype)
            d_recurrent_kernel = np.empty((units, 4 * units), dtype)
            d_bias = np.empty(4 * units, dtype) if weights.has_bias else None
            d_h0 = np.empty((batch, units) if need_state else 0, dtype)
            d_c0 = np.empty((batch, units) if need_state else 0, dtype)
            _cpu.lstm_backward(
                weights, x, h0, c0, go_backwards, output, gates, cells,
                d_sequence, d_state_h, d_state_c, gates if consume else np.empty_like(gates),
                d_x if need_x else None,
                d_kernel, d_recurrent_kernel, d_bias,
                d_h0 if need_state else None, d_c0 if need_state else None, threads,
            )  # fmt: skip
        except MemoryError as error:
            raise too_large(x, weights) from error
        if consume:
            gates = None
        if time_major and need_x:
            d_x = np.ascontiguousarray(d_x.swapaxes(0, 1))
        return Gradients(d_x, d_kernel, d_recurrent_kernel, d_bias, d_h0, d_c0)

    if not return_sequences:
        return (h, h, c), backward
    return (output.swapaxes(0, 1) if time_major else output, h, c), backward


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
        out = np.empty((a.shape[0], b.shape[1]), a.dtype)
        _cpu.matmul(a, b, bias, out, threads)
    except (MemoryError, ValueError) as error:
        raise ValueError(
            f"{'a' if a.size > b.size else 'b'}: got shape {max(a, b, key=np.size).shape}, whose "
            f"product {a.shape[0], b.shape[1]} cannot be allocated; expected a size that fits in "
            "memory"
        ) from error
    return out


def _weights(
    kernel: ArrayLike | PackedWeights,
    recurrent_kernel: ArrayLike | None,
    bias: ArrayLike | None,
    isa: str | None,
) -> PackedWeights:
    if isinstance(kernel, PackedWeights):
        for name, value in (("recurrent_kernel", recurrent_kernel), ("bias", bias), ("isa", isa)):
            if value is not None:
                raise ValueError(
                    f"{name}: got {type(value).__name__}, expected None beside a PackedWeights, "
                    "which has its own"
                )
        return kernel
    if kernel is None:
        raise ValueError("kernel: got None, expected an (input_size, 4 * units) array")
    if recurrent_kernel is None:
        raise ValueError("recurrent_kernel: got None, expected a (units, 4 * units) array")
    return pack(kernel, recurrent_kernel, bias, isa=isa)
