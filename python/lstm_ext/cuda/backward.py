"""The backward pass of a call on a device: the steps, and the products behind them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .arrays import Kind, as_device_array
from .call import TIMEOUT_NS, Call
from .forward import Run, flags_of, rows_of
from .products import multiply

__all__ = ["Gradients", "backward", "gradients_of", "upstream_of"]

Array = Any  # a device array of the caller's library


class Gradients(NamedTuple):
    """The gradients of everything that went into an LSTM, each of its argument's shape and dtype.

    Those that were not asked for are None.
    """

    x: Array | None
    kernel: Array
    recurrent_kernel: Array
    bias: Array | None
    h0: Array | None
    c0: Array | None
    peephole: Array | None = None
    projection_kernel: Array | None = None


class Made(NamedTuple):
    """The gradients that come of the steps themselves, as the caller's library has them."""

    h0: Array
    c0: Array
    peephole: Array | None
    projected: Any | None  # (T, B, P), of what a projection made, as CuPy's


def upstream_of(
    call: Call, d_output: Array | None, d_h: Array | None, d_c: Array | None
) -> tuple[Any | None, Any | None, Any | None]:
    """Return the gradients of the sequence (B, T, P), of h and of c."""
    cupy, kind, steps = call.kind.cupy, call.kind, call.steps
    state = (call.batch_size, call.outputs)
    d_sequence = None
    if d_h is not None:
        d_h = as_device_array(d_h, "d_h", kind, state)
    if d_c is not None:
        d_c = as_device_array(d_c, "d_c", kind, (state[0], call.units), computed=True)
    if d_output is not None and not call.return_sequences:
        d_last = as_device_array(d_output, "d_output", kind, state)
        if steps == 0 or (d_h is None and call.slots is None):
            return None, d_last if d_h is None else _sum(kind, d_last, d_h), d_c
        # As the gradient of the last output, to which the kernels add that of h.
        d_sequence = cupy.zeros((call.batch_size, steps, call.outputs), kind.stored)
        d_sequence[:, -1] = d_last
    elif d_output is not None:
        shape = (steps, *state) if call.time_major else (state[0], steps, state[1])
        d_sequence = as_device_array(d_output, "d_output", kind, shape, contiguous=False)
        if d_sequence.size and d_sequence.strides[-1] != d_sequence.itemsize:
            d_sequence = cupy.ascontiguousarray(d_sequence)
        if call.time_major:
            d_sequence = d_sequence.swapaxes(0, 1)
    return d_sequence, d_h, d_c


def _sum(kind: Kind, a: Any, b: Any) -> Any:
    """Return a + b where there is no step whose kernel would add them."""
    if kind.dtype != "bfloat16":
        return a + b
    ones = kind.cupy.full((1, 2), 0x3F80, np.uint16)
    pair = kind.cupy.stack([a.reshape(-1), b.reshape(-1)])
    return multiply(kind, ones, pair, dtype=kind.stored).reshape(a.shape)


def backward(
    call: Call,
    stream: int,
    gates: Any,
    cells: Any,
    d_z: Any,
    upstream: tuple[Any | None, Any | None, Any | None],
) -> Made:
    """Fill the gradients of z (T, B, 4H); return the others."""
    kind = call.kind
    d_h0, d_h0_out = kind.empty((call.batch_size, call.outputs))
    d_c0, d_c0_out = kind.empty((call.batch_size, call.units), computed=True)
    variant = call.variant
    d_peephole = d_peephole_out = None
    if variant is not None and variant.has_peephole:
        d_peephole, d_peephole_out = kind.empty((3 * call.units,))
    plan = call.plan("backward")
    carry = None
    if call.slots is not None or (variant is not None and variant.keeps_h):
        carry = kind.cupy.empty((call.batch_size, call.outputs), kind.computed)
    d_projected = None
    if call.projection_kernel is not None:
        d_projected = kind.cupy.empty((call.steps, call.batch_size, call.outputs), kind.stored)
    call.native.backward(
        plan, call.recurrent_kernel, call.c0, flags_of(call), call.h_factors, call.bound_variant,
        call.projection_kernel, carry, gates, cells, *upstream, d_z, d_h0_out, d_c0_out,
        d_projected, d_peephole_out, call.scratch(plan), stream, TIMEOUT_NS,
    )  # fmt: skip
    return Made(d_h0, d_c0, d_peephole, d_projected)


def gradients_of(
    call: Call,
    run: Run,
    d_z: Any,
    made: Made,
    need_x: bool,
    need_state: bool,
) -> Gradients:
    """Return all gradients: the products of those of z with what went into it."""
    kind, rows = call.kind, rows_of(d_z)

    def product(a: Any, b: Any, **transposed: bool) -> Any:
        """Return a product as the caller's library has it."""
        columns = b.shape[0] if transposed.get("transpose_b") else b.shape[1]
        result, out = kind.empty((a.shape[1 if transposed.get("transpose_a") else 0], columns))
        multiply(kind, a, b, dtype=kind.stored, out=out, **transposed)
        return result

    d_kernel = product(run.rows, rows, transpose_a=True)
    d_recurrent = product(rows_of(run.hidden[:-1]), rows, transpose_a=True)
    d_projection = d_bias = None
    if call.projection_kernel is not None:
        d_projection = product(rows_of(run.made), rows_of(made.projected), transpose_a=True)
    if call.bias is not None:
        one = 0x3F80 if kind.dtype == "bfloat16" else 1  # the bits of 1 in bfloat16
        ones = kind.cupy.full((1, rows.shape[0]), one, kind.stored)
        d_bias = product(ones, rows).reshape(-1)
    d_x = _input_gradient(call, rows) if need_x else None
    d_h0, d_c0 = made[:2] if need_state else (None, None)
    return Gradients(d_x, d_kernel, d_recurrent, d_bias, d_h0, d_c0, made.peephole, d_projection)


def _input_gradient(call: Call, rows: Any) -> Any:
    """Return the gradient of x, from the (T * B, 4H) gradients of z."""
    kind, shape = call.kind, tuple(call.x.shape)
    factors = call.x_factors
    in_order = not call.go_backwards and (call.time_major or 1 in shape[:2])
    in_order = in_order and factors is None
    d_x, out = kind.empty(shape if call.time_major else (shape[1], shape[0], shape[2]))
    product = multiply(
        kind, rows, call.kernel, dtype=kind.stored, transpose_b=True,
        out=rows_of(out) if in_order else None,
    )  # fmt: skip
    if not in_order:
        product = product.reshape(shape)[:: -1 if call.go_backwards else 1]
        product = product if factors is None else product * factors
        out[...] = product if call.time_major else product.swapaxes(0, 1)
    return d_x
