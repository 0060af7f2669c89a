"""The forward pass of a checked call on a device: allocates and enqueues."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..variants import Gates
from .call import TIMEOUT_NS, Call
from .products import multiply

__all__ = ["Outputs", "Run", "flags_of", "forward", "gates_of", "rows_of"]

Array = Any  # a device array of the caller's library
Outputs = tuple[Array, Array, Array]


def rows_of(array: Any) -> Any:
    """Return a (T, B, features) array as a contiguous (T * B, features) matrix."""
    return array.reshape(-1, array.shape[-1])


class Run(NamedTuple):
    """What a forward pass made: CuPy arrays, and results as the caller's library has them."""

    rows: Any | None  # (T * B, I), of x, if they are to be kept
    hidden: Any  # (T+1, B, P)
    made: Any | None  # (T, B, H), what a projection multiplied
    gates: Any | None  # (T, B, 4H), as rows
    cells: Any | None  # (T, B, H), as rows
    outputs: Outputs


# Up to so many multiply-adds our own product takes less time than the host needs to call cuBLAS.
_SMALL_PRODUCT = 1 << 24


def _project(call: Call, rows: Any, stream: int) -> Any:
    """Return rows·kernel, for a contiguous matrix of inputs.

    CuPy does not let cuBLAS be captured in a graph.
    """
    kind, kernel = call.kind, call.kernel
    small = rows.size * kernel.shape[1] <= _SMALL_PRODUCT
    if not small and not kind.cupy.cuda.get_current_stream().is_capturing():
        return multiply(kind, rows, kernel, dtype=kind.computed)
    out = kind.cupy.empty((rows.shape[0], kernel.shape[1]), kind.computed)
    call.native.multiply(kind.dtype, rows, kernel, out, stream)
    return out


def _projected(call: Call, keep: bool, stream: int) -> tuple[Any, Any]:
    """Return x·kernel, (T, B, 4H) with any strides, and the rows of x that a backward pass wants.

    Without one x is multiplied as it lies, where that is enough; with one in the order of the
    steps, and with zeros where it is masked: zero times a NaN that lies there would be NaN.
    """
    cupy, x, shape = call.kind.cupy, call.x, (*call.x.shape[:2], 4 * call.units)
    if call.x_factors is not None:
        x = x * call.x_factors
    if keep and call.slots is not None and call.slots.valid is not None:
        x = cupy.where(call.slots.valid[:, :, None], x, np.zeros((), x.dtype)[()])
    by_row = x.swapaxes(0, 1)[:, :: -1 if call.go_backwards else 1]
    if keep or not by_row.flags.c_contiguous:
        rows = rows_of(cupy.ascontiguousarray(x))
        return _project(call, rows, stream).reshape(shape), rows
    rows = rows_of(by_row)
    product = _project(call, rows, stream)
    product = product.reshape(shape[1], shape[0], shape[2]).swapaxes(0, 1)
    return product[::-1] if call.go_backwards else product, rows


def forward(call: Call, stream: int, *, keep: bool, activated: bool = False) -> Run:
    """Run the steps; with `keep` for a backward pass, with `activated` too to look at gates."""
    cupy, kind = call.kind.cupy, call.kind
    steps, batch, units, outputs = call.steps, call.batch_size, call.units, call.outputs
    projected, rows = _projected(call, keep, stream)
    sequence, hidden = kind.empty((steps + 1, batch, outputs))
    sequence, output = sequence[1:], None
    if call.slots is not None or call.h_factors is not None:
        sequence, output = kind.empty((steps, batch, outputs))
    h, h_out = kind.empty((batch, outputs))
    c, c_out = kind.empty((batch, units), computed=True)
    gates = cupy.empty((steps, batch, 4 * units), kind.stored) if keep else None
    cells = cupy.empty((steps, batch, units), kind.computed) if keep else None
    projection = made = None
    if call.projection_kernel is not None:
        projection = cupy.ascontiguousarray(call.projection_kernel.T)
        made = cupy.empty((steps if keep else 1, batch, units), kind.stored)
    plan, h0 = call.plan("forward"), call.h0
    if call.h_factors is not None:  # h goes on from h0, steps read it times the factors
        h_out[...] = 0 if h0 is None else h0
        h0 = None if h0 is None else h0 * call.h_factors
    call.native.forward(
        plan, projected, call.recurrent_kernel, call.bias, h0, call.c0, flags_of(call),
        call.h_factors, call.bound_variant, projection, hidden, output, h_out, c_out, made, gates,
        cells, activated, call.scratch(plan), stream, TIMEOUT_NS,
    )  # fmt: skip
    if call.return_sequences:
        returned = sequence if call.time_major else sequence.swapaxes(0, 1)
    else:
        returned = h if call.slots is None else sequence[-1]
    return Run(rows if keep else None, hidden, made, gates, cells, (returned, h, c))


def gates_of(call: Call, run: Run) -> Gates:
    """Return what was kept of all steps, (B, T, H) each."""
    kind, shape = call.kind, (call.batch_size, call.steps, call.units)
    parts: list[Any] = [(run.gates, gate * call.units, False) for gate in range(4)]
    made = []
    for values, first, computed in (*parts, (run.cells, 0, True)):
        owned, out = kind.empty(shape, computed=computed)
        part = values[:, :, first : first + call.units]
        if call.slots is not None and call.slots.valid is not None:
            zero = np.zeros((), part.dtype)[()]
            part = kind.cupy.where(call.slots.valid[:, :, None], part, zero)
        out[...] = part.swapaxes(0, 1)
        made.append(owned)
    return Gates(*made)


def flags_of(call: Call) -> Any | None:
    """Return the bytes of the slots, None if they are all the same."""
    return None if call.slots is None else call.slots.flags
