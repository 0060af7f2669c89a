"""The public functions: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..variants import Cell, Gates, LayerNorm, Noise
from .cell import Equations, Parameters
from .checks import (
    as_equations,
    as_floats,
    as_inputs,
    as_parameters,
    as_steps,
    check_together,
)
from .sequences import Inputs, Run, run, run_back

__all__ = ["Gradients", "lstm", "lstm_vjp"]

Array = NDArray[Any]
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


class _Call(NamedTuple):
    """A call that has been checked and run."""

    inputs: Inputs
    parameters: Parameters
    equations: Equations
    result: Run


@overload
def lstm(
    x: ArrayLike,
    kernel: ArrayLike,
    recurrent_kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    return_gates: Literal[False] = False,
    **options: Any,
) -> Outputs: ...


@overload
def lstm(
    x: ArrayLike,
    kernel: ArrayLike,
    recurrent_kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    return_gates: Literal[True],
    **options: Any,
) -> tuple[Array, Array, Array, Gates]: ...


# The overloads name only what decides the type of the results.
def lstm(  # type: ignore[misc]
    x: ArrayLike,
    kernel: ArrayLike,
    recurrent_kernel: ArrayLike,
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
) -> Outputs | tuple[Array, Array, Array, Gates]:
    """Run an LSTM over sequences.

    Parameters
    ----------
    x : (B, T, I) array of any float dtype
        (T, B, I) if `time_major`. All arguments have the same dtype, and so have the results.
    kernel : (I, 4H) array
    recurrent_kernel : (P, 4H) array
    bias : (4H,) array, optional
    initial_state : pair of (B, P) and (B, H) arrays, optional
        h and c before the first step; zeros by default.
    go_backwards : bool
        Read the sequence, and with it `lengths`, `mask` and `reset`, from its end. The output
        stands in the order of the steps, so its first entry belongs to the last input.
    time_major : bool
        Whether `x` and the output are (T, B, ...). Nothing else changes its axes.
    return_sequences : bool
        Whether the output holds every step or the last alone.
    lengths : (B,) array of integers, optional
        The steps of each row; what follows is masked. Not with `mask`.
    mask : (B, T) array of bool, optional
        Where there is a step. Elsewhere nothing is read, the state is kept, and the last output
        since the beginning or the last reset is repeated, zeros if there was none.
    reset : (B, T) array of bool, optional
        Where the state is zeroed before the step, masked or not.
    zero_output_for_mask : bool
        Put out zeros at masked steps.
    peephole : (3H,) array, optional
        What gates i, f and o see of the cell.
    projection_kernel : (H, P) array, optional
        Projects the output; P is H without.
    layer_norm : variants.LayerNorm, optional
        Not with what changes the cell otherwise: only with other activations, and `noise` of x and
        h.
    cell : variants.Cell, optional
        Any object with its attributes; so are `layer_norm` and `noise`.
    noise : variants.Noise, optional
    return_gates : bool
        Whether to return the values inside the steps.

    Returns
    -------
    output : (B, T, P) array, or (B, P) without `return_sequences`
        The output of each step, h but where masked; (T, B, P) if `time_major`.
    h : (B, P) array
    c : (B, H) array
        The state after the last step.
    gates : variants.Gates
        If `return_gates`; arrays (B, T, H).

    Raises
    ------
    TypeError
        If an argument has a wrong type, or the dtypes differ.
    ValueError
        If shapes or values do not fit, or arguments do not go together.
    """
    call = _call(
        x, kernel, recurrent_kernel, bias, initial_state=initial_state, go_backwards=go_backwards,
        time_major=time_major, lengths=lengths, mask=mask, reset=reset,
        zero_output_for_mask=zero_output_for_mask, peephole=peephole,
        projection_kernel=projection_kernel, layer_norm=layer_norm, cell=cell, noise=noise,
    )  # fmt: skip
    outputs = _outputs(call.result, time_major, return_sequences)
    return (*outputs, _gates(call)) if return_gates else outputs


def lstm_vjp(
    x: ArrayLike,
    kernel: ArrayLike,
    recurrent_kernel: ArrayLike,
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
) -> tuple[Outputs, Backward]:
    """Run an LSTM and return its results with the function that carries gradients back.

    The arguments are those of `lstm`, without `return_gates`.

    Returns
    -------
    (output, h, c)
        As of `lstm`.
    backward : callable
        ``backward(d_output=None, d_h=None, d_c=None) -> Gradients``. Each argument is the gradient
        of a loss with respect to that result, of its shape and dtype; None means zeros. Nothing of
        `d_output` is read where the output is zero because of a mask.

    Raises
    ------
    TypeError, ValueError
        As `lstm`.
    """
    call = _call(
        x, kernel, recurrent_kernel, bias, initial_state=initial_state, go_backwards=go_backwards,
        time_major=time_major, lengths=lengths, mask=mask, reset=reset,
        zero_output_for_mask=zero_output_for_mask, peephole=peephole,
        projection_kernel=projection_kernel, layer_norm=layer_norm, cell=cell, noise=noise,
    )  # fmt: skip
    outputs = _outputs(call.result, time_major, return_sequences)

    def backward(
        d_output: ArrayLike | None = None,
        d_h: ArrayLike | None = None,
        d_c: ArrayLike | None = None,
    ) -> Gradients:
        d_output, d_h, d_c = (
            np.zeros_like(result)
            if gradient is None
            else as_floats(gradient, name, result.shape, result.dtype)
            for name, gradient, result in zip(
                ("d_output", "d_h", "d_c"), (d_output, d_h, d_c), outputs, strict=True
            )
        )
        if return_sequences:
            d_steps = d_output if time_major else d_output.swapaxes(0, 1)
        elif len(call.inputs.x):
            d_steps = np.zeros_like(call.result.output)
            d_steps[-1] = d_output
        else:
            d_steps, d_h = call.result.output, d_output + d_h
        d_x, d_h0, d_c0, d = run_back(
            call.result, call.inputs, call.parameters, call.equations, d_steps, d_h, d_c
        )
        d_x = d_x[::-1] if go_backwards else d_x
        return Gradients(
            d_x if time_major else d_x.swapaxes(0, 1), d.kernel, d.recurrent_kernel, d.bias, d_h0,
            d_c0, d.peephole, d.projection_kernel,
            None if d.layer_norm is None else LayerNorm(*d.layer_norm),
        )  # fmt: skip

    return outputs, backward


def _call(
    x: ArrayLike,
    kernel: ArrayLike,
    recurrent_kernel: ArrayLike,
    bias: ArrayLike | None,
    *,
    go_backwards: bool,
    time_major: bool,
    initial_state: tuple[ArrayLike, ArrayLike] | None,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    reset: ArrayLike | None,
    zero_output_for_mask: bool,
    peephole: ArrayLike | None,
    projection_kernel: ArrayLike | None,
    layer_norm: LayerNorm | None,
    cell: Cell | None,
    noise: Noise | None,
) -> _Call:
    steps = as_steps(x, time_major)
    parameters = as_parameters(
        steps, kernel, recurrent_kernel, bias, peephole, projection_kernel, layer_norm
    )
    equations = as_equations(cell)
    inputs = as_inputs(
        steps,
        parameters,
        initial_state=initial_state,
        lengths=lengths,
        mask=mask,
        reset=reset,
        go_backwards=go_backwards,
        zero_output_for_mask=zero_output_for_mask,
        noise=noise,
    )
    check_together(parameters, equations, inputs.noise)
    return _Call(inputs, parameters, equations, run(inputs, parameters, equations))


def _outputs(result: Run, time_major: bool, return_sequences: bool) -> Outputs:
    if not return_sequences:
        last = result.output[-1] if len(result.output) else result.h
        return last.copy(), result.h, result.c
    output = result.output if time_major else result.output.swapaxes(0, 1)
    return output, result.h, result.c


def _gates(call: _Call) -> Gates:
    shape = (len(call.inputs.x), *call.inputs.c0.shape)
    gates = Gates(*(np.zeros(shape, call.inputs.x.dtype) for _ in Gates._fields))
    for t, (rows, values) in enumerate(call.result.steps):
        for gate, value in zip(
            gates, (values.i, values.f, values.g, values.o, values.c), strict=True
        ):
            gate[t, rows] = value
    return Gates(*(gate.swapaxes(0, 1) for gate in gates))
