"""One LSTM: results, and results with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _cpu
from .._arguments import (
    as_thread_limit,
    check_differentiable,
    check_flags,
    new_sequence,
    too_large,
)
from .._cpu import PackedWeights
from ..variants import Cell, LayerNorm, Noise
from ._backward import Backward, Kept
from ._packing import as_packed
from ._steps import Inputs, as_inputs, as_steps, spread_gates

__all__ = ["last_output", "lstm", "lstm_vjp"]

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
    weights = as_packed(
        kernel, recurrent_kernel, bias, peephole=peephole, projection_kernel=projection_kernel,
        layer_norm=layer_norm, cell=cell, isa=isa,
    )  # fmt: skip
    inputs = _inputs(
        x, weights, initial_state, time_major, lengths, mask, reset, zero_output_for_mask, noise
    )
    threads = as_thread_limit(num_threads)
    x, dtype = inputs.x, inputs.x.dtype
    batch, steps, _ = x.shape
    size, units = weights.output_size, weights.units
    gates = cells = None
    try:
        output = new_sequence(batch, steps, size, dtype, time_major) if return_sequences else None
        h = np.empty((batch, size), dtype)
        c = np.empty((batch, units), dtype)
        if return_gates:
            gates, cells = _new_gates(inputs.step_count, units, dtype)
        options = inputs.options(activated=return_gates)
        _cpu.lstm_forward(
            weights, x, inputs.h0, inputs.c0, go_backwards, output, h, c, gates, cells, options,
            threads,
        )  # fmt: skip
    except (MemoryError, ValueError) as error:
        raise too_large(x, weights) from error
    if output is None:
        output = last_output(h, inputs, go_backwards)
    elif time_major:
        output = output.swapaxes(0, 1)
    if gates is None or cells is None:
        return output, h, c
    return output, h, c, spread_gates(gates, cells, inputs, go_backwards)


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
        kernel, recurrent_kernel, bias, peephole=peephole, projection_kernel=projection_kernel,
        layer_norm=layer_norm, cell=cell, isa=isa,
    )  # fmt: skip
    check_differentiable(weights)
    inputs = _inputs(
        x, weights, initial_state, time_major, lengths, mask, reset, zero_output_for_mask, noise
    )
    threads = as_thread_limit(num_threads)
    kept = Kept.allocate(inputs, weights, go_backwards, time_major)
    kept.run(threads)
    backward = Backward(kept, return_sequences, time_major, threads)
    if not return_sequences:
        return (last_output(kept.h, inputs, go_backwards), kept.h, kept.c), backward
    output = kept.output.swapaxes(0, 1) if time_major else kept.output
    return (output, kept.h, kept.c), backward


def _inputs(
    x: ArrayLike,
    weights: PackedWeights,
    initial_state: Any,
    time_major: bool,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    reset: ArrayLike | None,
    zero_output_for_mask: bool,
    noise: Noise | None,
) -> Inputs:
    inputs = as_inputs(x, weights, initial_state, time_major, None, noise)
    if lengths is None and mask is None and reset is None and zero_output_for_mask is False:
        return inputs
    batch, time, _ = inputs.x.shape
    steps = as_steps((batch, time), lengths, mask, reset, zero_output_for_mask)
    return inputs._replace(steps=steps)


def last_output(h: Array, inputs: Inputs, go_backwards: bool) -> Array:
    """Return the output of the last slot: h, but zeros where that is no step's output."""
    if inputs.steps is None or inputs.steps.all or inputs.x.shape[1] == 0:
        return h
    return np.where(inputs.steps.last_has_output(go_backwards)[:, None], h, h.dtype.type(0))


def _new_gates(count: int, units: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    return np.empty((count, 4 * units), dtype), np.empty((count, units), dtype)
