"""One LSTM: results, and results with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _cpu
from .._arguments import (
    as_input,
    as_state,
    as_thread_limit,
    check_differentiable,
    check_flag,
    check_flags,
    new_sequence,
    too_large,
)
from .._cpu import PackedWeights
from ..variants import Cell, LayerNorm, Noise
from ._backward import Backward, Kept
from ._packing import as_packed
from ._steps import as_extras, call_options, count_steps, last_output, spread_gates

__all__ = ["lstm", "lstm_vjp"]

Array = NDArray[Any]
State = tuple[Array, Array]
Outputs = tuple[Array, Array, Array]


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
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reset: ArrayLike | None = None,
    zero_output_for_mask: bool = False,
    peephole: ArrayLike | None = None,
    projection_kernel: ArrayLike | None = None,
    layer_norm: LayerNorm | None = None,
    cell: Cell | None = None,
    noise: Noise | None = None,
    return_gates: bool = False,
    num_threads: int | None = None,
    isa: str | None = None,
) -> Any:
    """Run an LSTM over sequences.

    Parameters
    ----------
    x : (B, T, I) array of float32 or float64
        Any strides. (T, B, I) if `time_major`.
    kernel, recurrent_kernel, bias, peephole, projection_kernel, layer_norm, cell, isa
        As in `pack`, of the dtype of `x`; or a `PackedWeights` for `kernel` and nothing else.
    initial_state : pair of (B, P) and (B, H) arrays, optional
        h and c before the first step; zeros by default.
    go_backwards : bool
        Read the sequence from its end. The output stands in the order of the steps, so its first
        entry belongs to the last input.
    time_major : bool
        Whether `x` and the output are (T, B, ...).
    return_sequences : bool
        Whether the output holds every step, or is what it is after the last.
    lengths : (B,) array of int, optional
        How many steps, from the first time on, each sequence has.
    mask : (B, T) array of bool, optional
        Where there is a step, in the order of time. Not beside `lengths`.
    reset : (B, T) array of bool, optional
        Where the state is zeroed before that time's step.
    zero_output_for_mask : bool
        Whether the output is zero where there is no step. By default it is that of the last step
        since the beginning or a reset, zero if there is none.
    noise : Noise, optional
        Dropout and zoneout that were drawn for this call.
    return_gates : bool
        Whether to return the gates and cells of all steps as well.
    num_threads : int, optional
        The most threads to use; by default `lstm_ext.get_num_threads()`. Small calls use one.

    Returns
    -------
    output : (B, T, P) array, or (B, P) without `return_sequences`
        (T, B, P) if `time_major`. Where every slot is a step, ``output[:, -1]`` equals `h` exactly;
        without `return_sequences` it is `h` itself.
    h, c : (B, P) and (B, H) arrays
        The state after the last step.
    gates : Gates
        With `return_gates`.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type, dtype or shape; the message names it, what came and what
        was expected. A result too large to allocate is a ValueError. Nothing was computed then.

    Notes
    -----
    A row's result is the same to the last bit for any batch around it, any number of threads, and
    whether its steps come in one call or in several. Where there is no step nothing is computed,
    and x is not read.
    """
    check_flags(go_backwards, time_major, return_sequences)
    if return_gates is not False:
        check_flag(return_gates, "return_gates")
    weights = as_packed(
        kernel, recurrent_kernel, bias, peephole, projection_kernel, layer_norm, cell, isa
    )
    x = as_input(x, weights, time_major)
    h0, c0 = as_state(initial_state, "initial_state", x, weights)
    extras = as_extras(x, weights, lengths, mask, reset, zero_output_for_mask, noise)
    threads = as_thread_limit(num_threads)
    dtype, (batch, steps, _) = x.dtype, x.shape
    size, units = weights.output_size, weights.units
    gates = cells = output = None
    try:
        if extras is not None:
            x = extras.multiplied(x)
        if return_sequences:
            output = new_sequence(batch, steps, size, dtype, time_major)
        h = np.empty((batch, size), dtype)
        c = np.empty((batch, units), dtype)
        if return_gates:
            count = count_steps(x, extras)
            gates = np.empty((count, 4 * units), dtype)
            cells = np.empty((count, units), dtype)
        _cpu.lstm_forward(
            weights, x, h0, c0, go_backwards, output, h, c, gates, cells,
            call_options(extras, activated=True) if return_gates else
            None if extras is None else call_options(extras), threads,
        )  # fmt: skip
    except (MemoryError, ValueError) as error:
        raise too_large(x, weights) from error
    if output is None:
        output = h if extras is None else last_output(h, steps, extras, go_backwards)
    elif time_major:
        output = output.swapaxes(0, 1)
    if gates is None or cells is None:
        return output, h, c
    return output, h, c, spread_gates(gates, cells, (batch, steps), extras, go_backwards)


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
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reset: ArrayLike | None = None,
    zero_output_for_mask: bool = False,
    peephole: ArrayLike | None = None,
    projection_kernel: ArrayLike | None = None,
    layer_norm: LayerNorm | None = None,
    cell: Cell | None = None,
    noise: Noise | None = None,
    num_threads: int | None = None,
    isa: str | None = None,
) -> tuple[Outputs, Backward]:
    """Run an LSTM and return its results with the function that carries gradients back.

    The arguments are those of `lstm`. What the backward pass needs is kept, some ``6 * B * T * H``
    values: the inputs, the outputs, the gates and the cells; of sequences with a mask, those of
    their steps. Inputs and outputs are not copied: do not change them before `backward` has run.

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
    weights = as_packed(
        kernel, recurrent_kernel, bias, peephole, projection_kernel, layer_norm, cell, isa
    )
    check_differentiable(weights)
    x = as_input(x, weights, time_major)
    h0, c0 = as_state(initial_state, "initial_state", x, weights)
    extras = as_extras(x, weights, lengths, mask, reset, zero_output_for_mask, noise)
    threads = as_thread_limit(num_threads)
    batch, steps, _ = x.shape
    try:
        output = new_sequence(batch, steps, weights.output_size, x.dtype, time_major)
        kept = Kept(x, h0, c0, extras, weights, go_backwards, output)
        _cpu.lstm_forward(weights, *(*kept.forward_arguments(), threads))
    except (MemoryError, ValueError) as error:
        raise too_large(x, weights) from error
    backward = Backward(kept, return_sequences, time_major, threads)
    if not return_sequences:
        return (last_output(kept.h, steps, extras, go_backwards), kept.h, kept.c), backward
    return (output.swapaxes(0, 1) if time_major else output, kept.h, kept.c), backward
