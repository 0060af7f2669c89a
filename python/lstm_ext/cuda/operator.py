"""`lstm` and `lstm_vjp` on device arrays: checks, allocates, enqueues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._arguments import check_flag
from ..variants import Gates
from .arrays import Kind, as_device_array, current
from .availability import require
from .call import TIMEOUT_NS, Call, checked_call, raise_timeout
from .products import multiply

__all__ = ["Gradients", "lstm", "lstm_vjp", "synchronize"]

Array = Any  # a device array of the caller's library
Outputs = tuple[Array, Array, Array]


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


Backward = Callable[..., Gradients]


def lstm(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    *,
    initial_state: tuple[Array, Array] | None = None,
    go_backwards: bool = False,
    time_major: bool = False,
    return_sequences: bool = True,
    algorithm: str | None = None,
    return_gates: bool = False,
    **options: Any,
) -> Any:
    """Run an LSTM over sequences on a CUDA device.

    Parameters
    ----------
    x : (B, T, I) array of float32, float64 or bfloat16
        Of CuPy or torch, or with ``__cuda_array_interface__`` or DLPack; any strides. (T, B, I) if
        `time_major`.
    kernel : (I, 4H) array, contiguous, of the dtype and on the device of x
    recurrent_kernel : (H, 4H) array, the same
    bias : (4H,) array, the same, optional
    initial_state : pair of (B, H) arrays, contiguous, optional
        h, of the dtype of x, and c, which is float32 beside bfloat16; zeros by default.
    go_backwards : bool
        Read the sequence from its end. The output stands in the order of the steps.
    time_major : bool
        Whether `x` and the output are (T, B, ...).
    return_sequences : bool
        Whether the output holds every step, or is h after the last.
    algorithm : "cluster", "grid" or "steps", optional
        Force how the steps are run; by default the one that is expected to be fastest.
    return_gates : bool
        Whether to return the gates and cells of all steps as well.
    **options
        `lengths`, `mask`, `reset`, `zero_output_for_mask` and `noise` (without zoneout, not in
        bfloat16) as of `lstm_ext.functional.lstm`, in arrays on the device of x. Nothing waits for
        it, so lengths are not looked at: more than T count as T. The other arguments are not there
        on the GPU yet.

    Returns
    -------
    output : (B, T, H) array, or (B, H) without `return_sequences`
        (T, B, H) if `time_major`; else a transposed view of that. ``output[:, -1]`` equals `h`, but
        where a mask makes it zero.
    h, c : (B, H) arrays
        The state after the last step; c is float32 beside bfloat16.
    gates : variants.Gates
        With `return_gates`; zeros at masked steps.

    All are arrays of torch if x is one, else of CuPy. The work is on the current stream of that
    library and may not be done yet.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type, dtype, shape, layout or device; the message names it, what
        came and what was expected. A forced algorithm that cannot do the call is a ValueError.
    NotImplementedError
        If another argument of `functional.lstm` is used.
    RuntimeError
        If CUDA is not available, or a kernel of an earlier call gave up waiting.
    """
    call = checked_call(
        x, kernel, recurrent_kernel, bias, initial_state, algorithm, options,
        (go_backwards, time_major, return_sequences),
    )  # fmt: skip
    check_flag(return_gates, "return_gates")
    with current(call.kind) as stream:
        run = _forward(call, stream, keep=return_gates)
        return (*run.outputs, _gates(call, run)) if return_gates else run.outputs


def lstm_vjp(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    *,
    initial_state: tuple[Array, Array] | None = None,
    go_backwards: bool = False,
    time_major: bool = False,
    return_sequences: bool = True,
    algorithm: str | None = None,
    **options: Any,
) -> tuple[Outputs, Backward]:
    """Run an LSTM and return its results with the function that carries gradients back.

    The arguments are those of `lstm`. Inputs and outputs are kept, not copied: do not change them
    before `backward` has run.

    Returns
    -------
    (output, h, c)
        As of `lstm`.
    backward : callable
        ``backward(d_output=None, d_h=None, d_c=None) -> Gradients``. Each argument is the gradient
        of a loss with respect to that result, of its shape and dtype; None means zeros. With
        ``need_x=False`` or ``need_state=False`` the gradients of x, or of h0 and c0, are None; with
        ``consume=True`` what was kept is overwritten, and there is no second call.

    Raises
    ------
    TypeError, ValueError, NotImplementedError, RuntimeError
        As `lstm`.

    Notes
    -----
    Sums are in a fixed order: the same call gives the same bits in every run on the same device,
    as far as cuBLAS does.
    """
    call = checked_call(
        x, kernel, recurrent_kernel, bias, initial_state, algorithm, options,
        (go_backwards, time_major, return_sequences),
    )  # fmt: skip
    with current(call.kind) as stream:
        inputs, hidden, gates, cells, outputs = _forward(call, stream, keep=True)

    def backward(
        d_output: Array | None = None,
        d_h: Array | None = None,
        d_c: Array | None = None,
        *,
        need_x: bool = True,
        need_state: bool = True,
        consume: bool = False,
    ) -> Gradients:
        nonlocal gates
        if gates is None:
            raise ValueError("consume: backward was called with it before, and can run no more")
        with current(call.kind) as stream:
            upstream = _upstream(call, d_output, d_h, d_c)
            d_z = gates if consume else call.kind.cupy.empty_like(gates)
            d_state = _backward(call, stream, gates, cells, d_z, upstream)
            if consume:
                gates = None
            return _gradients(call, inputs, hidden, d_z, d_state, need_x, need_state)

    return outputs, backward


def synchronize() -> None:
    """Wait for the current device, and raise what went wrong on it.

    Raises
    ------
    RuntimeError
        If a kernel gave up waiting: its results are NaN.
    """
    native, cupy = require()
    cupy.cuda.runtime.deviceSynchronize()
    raise_timeout(native)


def _rows(array: Any) -> Any:
    """Return a (T, B, features) array as a contiguous (T * B, features) matrix."""
    return array.reshape(-1, array.shape[-1])


class _Run(NamedTuple):
    """What a forward pass made: CuPy arrays, and results as the caller's library has them."""

    rows: Any | None  # (T * B, I), of x, if they are to be kept
    hidden: Any  # (T+1, B, H)
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
        rows = _rows(cupy.ascontiguousarray(x))
        return _project(call, rows, stream).reshape(shape), rows
    rows = _rows(by_row)
    product = _project(call, rows, stream)
    product = product.reshape(shape[1], shape[0], shape[2]).swapaxes(0, 1)
    return product[::-1] if call.go_backwards else product, rows


def _forward(call: Call, stream: int, *, keep: bool) -> _Run:
    cupy, kind = call.kind.cupy, call.kind
    steps, batch, units = call.steps, call.batch_size, call.units
    projected, rows = _projected(call, keep, stream)
    sequence, hidden = kind.empty((steps + 1, batch, units))
    sequence, output = sequence[1:], None
    if call.slots is not None or call.h_factors is not None:
        sequence, output = kind.empty((steps, batch, units))
    h, h_out = kind.empty((batch, units))
    c, c_out = kind.empty((batch, units), computed=True)
    gates = cupy.empty((steps, batch, 4 * units), kind.stored) if keep else None
    cells = cupy.empty((steps, batch, units), kind.computed) if keep else None
    plan, h0 = call.plan("forward"), call.h0
    if call.h_factors is not None:  # h goes on from h0, steps read it times the factors
        h_out[...] = 0 if h0 is None else h0
        h0 = None if h0 is None else h0 * call.h_factors
    call.native.forward(
        plan, projected, call.recurrent_kernel, call.bias, h0, call.c0, _flags(call),
        call.h_factors, hidden, output, h_out, c_out, gates, cells, call.scratch(plan), stream,
        TIMEOUT_NS,
    )  # fmt: skip
    if call.return_sequences:
        returned = sequence if call.time_major else sequence.swapaxes(0, 1)
    else:
        returned = h if call.slots is None else sequence[-1]
    return _Run(rows if keep else None, hidden, gates, cells, (returned, h, c))


def _gates(call: Call, run: _Run) -> Gates:
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


def _flags(call: Call) -> Any | None:
    return None if call.slots is None else call.slots.flags


def _upstream(
    call: Call, d_output: Array | None, d_h: Array | None, d_c: Array | None
) -> tuple[Any | None, Any | None, Any | None]:
    """Return the gradients of the sequence (B, T, H), of h and of c."""
    cupy, kind, steps = call.kind.cupy, call.kind, call.steps
    state = (call.batch_size, call.units)
    d_sequence = None
    if d_h is not None:
        d_h = as_device_array(d_h, "d_h", kind, state)
    if d_c is not None:
        d_c = as_device_array(d_c, "d_c", kind, state, computed=True)
    if d_output is not None and not call.return_sequences:
        d_last = as_device_array(d_output, "d_output", kind, state)
        if steps == 0 or (d_h is None and call.slots is None):
            return None, d_last if d_h is None else _sum(kind, d_last, d_h), d_c
        # As the gradient of the last output, to which the kernels add that of h.
        d_sequence = cupy.zeros((call.batch_size, steps, call.units), kind.stored)
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


def _backward(
    call: Call,
    stream: int,
    gates: Any,
    cells: Any,
    d_z: Any,
    upstream: tuple[Any | None, Any | None, Any | None],
) -> tuple[Any, Any]:
    """Fill the gradients of z (T, B, 4H); return those of h0 and c0."""
    kind = call.kind
    d_h0, d_h0_out = kind.empty((call.batch_size, call.units))
    d_c0, d_c0_out = kind.empty((call.batch_size, call.units), computed=True)
    plan = call.plan("backward")
    carry = None
    if call.slots is not None:
        carry = kind.cupy.empty((call.batch_size, call.units), kind.computed)
    call.native.backward(
        plan, call.recurrent_kernel, call.c0, _flags(call), call.h_factors, carry, gates, cells,
        *upstream, d_z, d_h0_out, d_c0_out, call.scratch(plan), stream, TIMEOUT_NS,
    )  # fmt: skip
    return d_h0, d_c0


def _gradients(
    call: Call,
    inputs: Any,
    hidden: Any,
    d_z: Any,
    d_state: tuple[Any, Any],
    need_x: bool,
    need_state: bool,
) -> Gradients:
    """Return all gradients: the products of those of z with what went into it."""
    kind, rows = call.kind, _rows(d_z)

    def product(a: Any, b: Any, **transposed: bool) -> Any:
        """Return a product as the caller's library has it."""
        columns = b.shape[0] if transposed.get("transpose_b") else b.shape[1]
        result, out = kind.empty((a.shape[1 if transposed.get("transpose_a") else 0], columns))
        multiply(kind, a, b, dtype=kind.stored, out=out, **transposed)
        return result

    d_kernel = product(inputs, rows, transpose_a=True)
    d_recurrent = product(_rows(hidden[:-1]), rows, transpose_a=True)
    d_bias = None
    if call.bias is not None:
        one = 0x3F80 if kind.dtype == "bfloat16" else 1  # the bits of 1 in bfloat16
        ones = kind.cupy.full((1, rows.shape[0]), one, kind.stored)
        d_bias = product(ones, rows).reshape(-1)
    d_x = _input_gradient(call, rows) if need_x else None
    d_h0, d_c0 = d_state if need_state else (None, None)
    return Gradients(d_x, d_kernel, d_recurrent, d_bias, d_h0, d_c0)


def _input_gradient(call: Call, rows: Any) -> Any:
    """Return the gradient of x, from the (T * B, 4H) gradients of z."""
    kind, shape = call.kind, tuple(call.x.shape)
    factors = call.x_factors
    in_order = not call.go_backwards and (call.time_major or 1 in shape[:2])
    in_order = in_order and factors is None
    d_x, out = kind.empty(shape if call.time_major else (shape[1], shape[0], shape[2]))
    product = multiply(
        kind, rows, call.kernel, dtype=kind.stored, transpose_b=True,
        out=_rows(out) if in_order else None,
    )  # fmt: skip
    if not in_order:
        product = product.reshape(shape)[:: -1 if call.go_backwards else 1]
        product = product if factors is None else product * factors
        out[...] = product if call.time_major else product.swapaxes(0, 1)
    return d_x
