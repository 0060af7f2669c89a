"""What a forward pass keeps, and the backward pass over it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _cpu
from .._arguments import as_gradient, too_large
from .._cpu import PackedWeights
from ..variants import LayerNorm
from ._steps import Extras, Gradients, call_options, count_steps, last_output

__all__ = ["Backward", "Downstream", "Kept", "Upstream", "check_not_consumed"]

Array = NDArray[Any]


class Kept:
    """The results of a forward pass, and what the backward pass needs of it.

    Attributes
    ----------
    x : (B, T, I) array
        As it is multiplied.
    output : (B, T, P) array
        In the order of the slots.
    h, c : (B, P) and (B, H) arrays
    gates, cells : (N, 4H) and (N, H) arrays
        gates is None when it has been consumed.
    options : CallOptions or None
    """

    __slots__ = (
        "c", "c0", "cells", "extras", "gates", "go_backwards", "h", "h0", "options", "output",
        "weights", "x",
    )  # fmt: skip

    def __init__(
        self,
        x: Array,
        h0: Array | None,
        c0: Array | None,
        extras: Extras | None,
        weights: PackedWeights,
        go_backwards: bool,
        output: Array,
    ) -> None:
        batch, units, dtype = x.shape[0], weights.units, x.dtype
        count = batch * x.shape[1] if extras is None else count_steps(x, extras)
        self.x = x if extras is None else extras.multiplied(x)
        self.h0, self.c0, self.extras = h0, c0, extras
        self.weights, self.go_backwards, self.output = weights, go_backwards, output
        self.h = np.empty((batch, weights.output_size), dtype)
        self.c = np.empty((batch, units), dtype)
        self.gates: Array | None = np.empty((count, 4 * units), dtype)
        self.cells = np.empty((count, units), dtype)
        hidden = np.empty((count, units), dtype) if weights.has_projection else None
        normed = np.empty((count, 8 * units + 2), dtype) if weights.has_layer_norm else None
        self.options = None
        if not (extras is None and hidden is None and normed is None):
            self.options = call_options(extras, hidden, normed)

    def forward_arguments(self) -> tuple[Any, ...]:
        """Return the arguments of the forward pass, after the weights."""
        return (
            self.x, self.h0, self.c0, self.go_backwards, self.output, self.h, self.c, self.gates,
            self.cells, self.options,
        )  # fmt: skip

    @property
    def is_complete(self) -> bool:
        """Whether every slot is a step."""
        return self.extras is None or self.extras.steps is None or self.extras.steps.all


class Upstream:
    """The gradients of a call's results, checked: (B, T, P), (B, P) and (B, H), or None."""

    __slots__ = ("c", "h", "output")

    def __init__(
        self,
        kept: Kept,
        d_output: ArrayLike | None,
        d_h: ArrayLike | None,
        d_c: ArrayLike | None,
        return_sequences: bool,
        time_major: bool,
        prefix: str = "",
    ) -> None:
        batch, steps, size = kept.output.shape
        dtype = kept.h.dtype
        self.output: Array | None = None
        self.h = self.c = None
        if d_h is not None:
            self.h = as_gradient(d_h, f"{prefix}d_h", (batch, size), dtype)
        if d_c is not None:
            self.c = as_gradient(d_c, f"{prefix}d_c", (batch, kept.weights.units), dtype)
        if d_output is None:
            return
        if return_sequences:
            shape = (steps, batch, size) if time_major else (batch, steps, size)
            given = as_gradient(d_output, "d_output", shape, dtype)
            self.output = given.swapaxes(0, 1) if time_major else given
            return
        self.add_last(as_gradient(d_output, "d_output", (batch, size), dtype), kept)

    def add_last(self, d_last: Array, kept: Kept) -> None:
        """Add the gradient of the last slot's output to that of h, where it is h."""
        d_last = last_output(d_last, kept.output.shape[1], kept.extras, kept.go_backwards)
        self.h = d_last if self.h is None else d_last + self.h


class Downstream:
    """Room for the gradients of one LSTM's arguments."""

    __slots__ = (
        "bias",
        "c0",
        "h0",
        "kept",
        "kernel",
        "norm",
        "peephole",
        "projection_kernel",
        "recurrent_kernel",
        "x",
    )  # fmt: skip

    def __init__(self, kept: Kept, need_x: bool, need_state: bool) -> None:
        weights, dtype = kept.weights, kept.h.dtype
        units, size = weights.units, weights.output_size
        self.kept = kept
        self.x: Array | None = None
        if need_x:
            # Where there is no step nothing is written.
            new = np.empty if kept.is_complete else np.zeros
            self.x = new(kept.x.shape, dtype)
        self.kernel = np.empty((weights.input_size, 4 * units), dtype)
        self.recurrent_kernel = np.empty((size, 4 * units), dtype)
        self.bias = np.empty(4 * units, dtype) if weights.has_bias else None
        self.h0 = np.empty(kept.h.shape, dtype) if need_state else None
        self.c0 = np.empty(kept.c.shape, dtype) if need_state else None
        self.peephole = np.empty(3 * units, dtype) if weights.has_peephole else None
        self.projection_kernel = np.empty((units, size), dtype) if weights.has_projection else None
        self.norm = np.empty(10 * units, dtype) if weights.has_layer_norm else None

    def backward_arguments(
        self, upstream: Upstream, consume: bool, adds_to_x: bool = False
    ) -> tuple[Any, ...]:
        """Return the arguments of the backward pass that fills it, after the weights."""
        kept = self.kept
        gates = kept.gates
        return (
            kept.x, kept.h0, kept.c0, kept.go_backwards, kept.output, gates, kept.cells,
            upstream.output, upstream.h, upstream.c, gates if consume else np.empty_like(gates),
            self.x, self.kernel, self.recurrent_kernel, self.bias, self.h0, self.c0, self.peephole,
            self.projection_kernel, self.norm, kept.options, adds_to_x,
        )  # fmt: skip

    def gradients(self, time_major: bool) -> Gradients:
        """Return it under the names of the arguments; what was not wanted is empty."""
        x, extras = self.x, self.kept.extras
        if x is None:
            x = np.empty(0, self.kernel.dtype)
        else:
            if extras is not None and extras.x_factors is not None:
                x *= extras.x_factors
            if time_major:
                x = np.ascontiguousarray(x.swapaxes(0, 1))
        return Gradients(
            x,
            self.kernel,
            self.recurrent_kernel,
            self.bias,
            np.empty(0, self.kernel.dtype) if self.h0 is None else self.h0,
            np.empty(0, self.kernel.dtype) if self.c0 is None else self.c0,
            self.peephole,
            self.projection_kernel,
            None if self.norm is None else _parted(self.norm),
        )


def _parted(norm: Array) -> LayerNorm:
    units = norm.size // 10
    return LayerNorm(*np.split(norm, [4 * units, 8 * units, 9 * units]))


class Backward:
    """The function that `lstm_vjp` returns: it carries gradients back."""

    __slots__ = ("_kept", "_return_sequences", "_threads", "_time_major")

    def __init__(self, kept: Kept, return_sequences: bool, time_major: bool, threads: int) -> None:
        self._kept, self._threads = kept, threads
        self._return_sequences, self._time_major = return_sequences, time_major

    def __call__(
        self,
        d_output: ArrayLike | None = None,
        d_h: ArrayLike | None = None,
        d_c: ArrayLike | None = None,
        *,
        need_x: bool = True,
        need_state: bool = True,
        consume: bool = False,
    ) -> Gradients:
        """Return the gradients of the arguments from those of the results."""
        kept = self._kept
        check_not_consumed(kept)
        upstream = Upstream(kept, d_output, d_h, d_c, self._return_sequences, self._time_major)
        try:
            room = Downstream(kept, need_x, need_state)
            arguments = (*room.backward_arguments(upstream, consume), self._threads)
            _cpu.lstm_backward(kept.weights, *arguments)
        except MemoryError as error:
            raise too_large(kept.x, kept.weights) from error
        if consume:
            kept.gates = None
        return room.gradients(self._time_major)


def check_not_consumed(kept: Kept) -> None:
    """Raise if what was kept has been overwritten."""
    if kept.gates is None:
        raise ValueError("consume: backward was called with it before, and can run no more")
