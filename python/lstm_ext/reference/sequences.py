"""The loop over time: which rows take a step, which are reset, what is put out.

A masked row keeps its state and repeats its last output since the beginning or the last reset, or
zeros if there was none (Keras's masking). A reset zeroes the state, and what would be repeated,
before the step. Nothing of a masked step is read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cell import Equations, Norm, Parameters, Step, StepNoise, step, step_back

__all__ = ["Inputs", "Run", "SequenceNoise", "run", "run_back"]

Array = NDArray[Any]
Rows = Any  # what selects some rows of the batch: a slice or indices


class SequenceNoise(NamedTuple):
    """What `variants.Noise` holds, time first, in the order of the steps."""

    x: Array | None  # (B, I)
    h: Array | None  # (B, P)
    zoneout: Array | None  # (T, B, P) of bool
    cell_zoneout: Array | None  # (T, B, H) of bool


class Inputs(NamedTuple):
    """What goes through an LSTM, time first, in the order of the steps."""

    x: Array  # (T, B, I)
    h0: Array  # (B, P)
    c0: Array  # (B, H)
    mask: Array | None  # (T, B) of bool: where there is a step
    reset: Array | None  # (T, B) of bool: where the state is zeroed before it
    zero_output_for_mask: bool
    noise: SequenceNoise


class Run(NamedTuple):
    """What came of it, with what the way back needs."""

    output: Array  # (T, B, P)
    h: Array
    c: Array
    steps: list[tuple[Rows, Step]]  # the rows that took each step, and their values


def run(inputs: Inputs, parameters: Parameters, equations: Equations) -> Run:
    """Run forward through all steps."""
    h, c = inputs.h0.copy(), inputs.c0.copy()
    last = np.zeros_like(h)
    zero = h.dtype.type(0)
    output = np.zeros((len(inputs.x), *h.shape), h.dtype)
    steps = []
    for t, x in enumerate(inputs.x):
        if inputs.reset is not None:
            h, c, last = (np.where(inputs.reset[t, :, None], zero, a) for a in (h, c, last))
        rows = slice(None) if inputs.mask is None else np.flatnonzero(inputs.mask[t])
        noise = _noise_of(inputs.noise, t, rows)
        values = step(x[rows], h[rows], c[rows], parameters, equations, noise)
        h, c, last = h.copy(), c.copy(), last.copy()  # the step keeps what it was given
        h[rows], c[rows], last[rows] = values.h, values.c, values.h
        if inputs.zero_output_for_mask:
            output[t, rows] = values.h
        else:
            output[t] = last
        steps.append((rows, values))
    return Run(output, h, c, steps)


def run_back(
    result: Run,
    inputs: Inputs,
    parameters: Parameters,
    equations: Equations,
    d_output: Array,
    d_h: Array,
    d_c: Array,
) -> tuple[Array, Array, Array, Parameters]:
    """Return the gradients of x, h0, c0 and the parameters; `d_output` is (T, B, P)."""
    d_x = np.zeros_like(inputs.x)
    totals = _zeros_like(parameters)
    d_h, d_c = d_h.copy(), d_c.copy()  # what comes back must not be what was given
    d_last = np.zeros_like(d_h)  # of the output that later masked steps repeat
    for t, (rows, values) in reversed(list(enumerate(result.steps))):
        if inputs.zero_output_for_mask:
            d_last[rows] += d_output[t, rows]
        else:
            d_last += d_output[t]
        back = step_back(values, d_h[rows] + d_last[rows], d_c[rows], parameters, equations)
        d_x[t, rows], d_h[rows], d_c[rows], d_last[rows] = back.x, back.h_prev, back.c_prev, 0
        _add(totals, back.parameters)
        if inputs.reset is not None:
            for gradient in (d_h, d_c, d_last):
                gradient[inputs.reset[t]] = 0
    return d_x, d_h, d_c, totals


def _noise_of(noise: SequenceNoise, t: int, rows: Rows) -> StepNoise:
    return StepNoise(
        None if noise.x is None else noise.x[rows],
        None if noise.h is None else noise.h[rows],
        None if noise.zoneout is None else noise.zoneout[t, rows],
        None if noise.cell_zoneout is None else noise.cell_zoneout[t, rows],
    )


def _zeros_like(p: Parameters) -> Parameters:
    bias, peephole, projection = (
        None if a is None else np.zeros_like(a) for a in (p.bias, p.peephole, p.projection_kernel)
    )
    return Parameters(
        np.zeros_like(p.kernel),
        np.zeros_like(p.recurrent_kernel),
        bias,
        peephole,
        projection,
        None if p.layer_norm is None else Norm(*map(np.zeros_like, p.layer_norm)),
    )


def _add(totals: Parameters, p: Parameters) -> None:
    for total, a in zip(totals[:5], p[:5], strict=True):
        if total is not None and a is not None:
            total += a
    if totals.layer_norm is not None and p.layer_norm is not None:
        for total, a in zip(totals.layer_norm, p.layer_norm, strict=True):
            total += a
