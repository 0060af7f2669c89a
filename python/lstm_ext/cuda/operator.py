"""`lstm` and `lstm_vjp` on device arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._arguments import check_flag
from .arrays import current
from .availability import require
from .backward import Gradients, backward, gradients_of, upstream_of
from .call import checked_call, raise_timeout
from .forward import Outputs, forward, gates_of

__all__ = ["Gradients", "lstm", "lstm_vjp", "synchronize"]

Array = Any  # a device array of the caller's library


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
    recurrent_kernel : (P, 4H) array, the same
        P is H without a projection.
    bias : (4H,) array, the same, optional
    initial_state : pair of (B, P) and (B, H) arrays, contiguous, optional
        h, of the dtype of x, and c, which is float32 beside bfloat16; zeros by default.
    go_backwards : bool
        Read the sequence from its end. The output stands in the order of the steps.
    time_major : bool
        Whether `x` and the output are (T, B, ...).
    return_sequences : bool
        Whether the output holds every step, or is h after the last.
    algorithm : "cluster", "grid" or "steps", optional
        Force how the steps are run; by default the one that is expected to be fastest. Only "steps"
        has float64, other cells and projections.
    return_gates : bool
        Whether to return the gates and cells of all steps as well.
    **options
        `lengths`, `mask`, `reset`, `zero_output_for_mask` and, not in bfloat16, `cell`, `peephole`,
        `projection_kernel` and `noise` as of `lstm_ext.functional.lstm`, in arrays on the device of
        x. Nothing waits for it, so lengths are not looked at: more than T count as T. The other
        arguments are not there on the GPU yet.

    Returns
    -------
    output : (B, T, P) array, or (B, P) without `return_sequences`
        (T, B, P) if `time_major`; else a transposed view of that. ``output[:, -1]`` equals `h`, but
        where a mask makes it zero.
    h : (B, P) array
    c : (B, H) array
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
        run = forward(call, stream, keep=return_gates, activated=return_gates)
        return (*run.outputs, gates_of(call, run)) if return_gates else run.outputs


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
        run = forward(call, stream, keep=True)

    def pull_back(
        d_output: Array | None = None,
        d_h: Array | None = None,
        d_c: Array | None = None,
        *,
        need_x: bool = True,
        need_state: bool = True,
        consume: bool = False,
    ) -> Gradients:
        nonlocal run
        if run.gates is None:
            raise ValueError("consume: backward was called with it before, and can run no more")
        with current(call.kind) as stream:
            upstream = upstream_of(call, d_output, d_h, d_c)
            d_z = run.gates if consume else call.kind.cupy.empty_like(run.gates)
            made = backward(call, stream, run.gates, run.cells, d_z, upstream)
            if consume:
                run = run._replace(gates=None)
            return gradients_of(call, run, d_z, made, need_x, need_state)

    return run.outputs, pull_back


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
