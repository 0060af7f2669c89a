"""What a forward pass keeps, and the backward pass over it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _cpu
from .._arguments import as_gradient, as_optional_gradient, new_sequence, too_large
from .._cpu import BackwardArrays, CallOptions, ForwardArrays, PackedWeights
from ._steps import Gradients, Inputs

__all__ = ["Backward", "Kept", "Upstream"]

Array = NDArray[Any]


class Kept:
    """The results of a forward pass, and what the backward pass needs of it.

    Attributes
    ----------
    output : (B, T, P) array
        In the order of the slots.
    h, c : (B, P) and (B, H) arrays
    gates, cells, hidden : (N, 4H), (N, H) and, with a projection, (N, H) arrays
        gates is None when it has been consumed.
    """

    def __init__(
        self, inputs: Inputs, weights: PackedWeights, go_backwards: bool, output: Array
    ) -> None:
        self.inputs, self.weights, self.go_backwards = inputs, weights, go_backwards
        batch, units, dtype = len(inputs.x), weights.units, inputs.x.dtype
        count = inputs.step_count
        self.output = output
        self.h = np.empty((batch, weights.output_size), dtype)
        self.c = np.empty((batch, units), dtype)
        self.gates: Array | None = np.empty((count, 4 * units), dtype)
        self.cells = np.empty((count, units), dtype)
        hidden = np.empty((count, units), dtype) if weights.has_projection else None
        self.options: CallOptions | None = inputs.options(hidden)

    @classmethod
    def allocate(
        cls, inputs: Inputs, weights: PackedWeights, go_backwards: bool, time_major: bool
    ) -> Kept:
        """Make room for the results, or raise a ValueError that says for what there is none."""
        batch, steps, _ = inputs.x.shape
        try:
            output = new_sequence(batch, steps, weights.output_size, inputs.x.dtype, time_major)
            return cls(inputs, weights, go_backwards, output)
        except (MemoryError, ValueError) as error:
            raise too_large(inputs.x, weights) from error

    def run(self, threads: int) -> None:
        """Run the forward pass."""
        i = self.inputs
        try:
            _cpu.lstm_forward(
                self.weights, i.x, i.h0, i.c0, self.go_backwards, self.output, self.h, self.c,
                self.gates, self.cells, self.options, threads,
            )  # fmt: skip
        except MemoryError as error:
            raise too_large(i.x, self.weights) from error

    def forward_arrays(self) -> ForwardArrays:
        """Return the forward pass as one of several."""
        i = self.inputs
        return ForwardArrays(
            i.x, i.h0, i.c0, self.go_backwards, self.output, self.h, self.c, self.gates,
            self.cells, self.options,
        )  # fmt: skip


class Upstream:
    """The gradients of a call's results, checked: (B, T, P), (B, P) and (B, H), or None."""

    def __init__(
        self,
        kept: Kept,
        d_output: ArrayLike | None,
        d_h: ArrayLike | None,
        d_c: ArrayLike | None,
        *,
        return_sequences: bool,
        time_major: bool,
        prefix: str = "",
    ) -> None:
        batch, steps, size = kept.output.shape
        dtype = kept.h.dtype
        self.output: Array | None = None
        self.h = as_optional_gradient(d_h, f"{prefix}d_h", (batch, size), dtype)
        self.c = as_optional_gradient(d_c, f"{prefix}d_c", (batch, kept.weights.units), dtype)
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
        steps = kept.inputs.steps
        if steps is not None and not steps.all and kept.output.shape[1]:
            has_output = steps.last_has_output(kept.go_backwards)[:, None]
            d_last = np.where(has_output, d_last, d_last.dtype.type(0))
        self.h = d_last if self.h is None else d_last + self.h


class Downstream:
    """Room for the gradients of one LSTM's arguments."""

    def __init__(self, kept: Kept, need_x: bool, need_state: bool) -> None:
        weights, inputs = kept.weights, kept.inputs
        dtype, units, size = kept.h.dtype, weights.units, weights.output_size
        # Where there is no step nothing is written.
        complete = inputs.steps is None or inputs.steps.all
        new = np.empty if complete else np.zeros
        self.x = new(inputs.x.shape, dtype) if need_x else None
        self.kernel = np.empty((weights.input_size, 4 * units), dtype)
        self.recurrent_kernel = np.empty((size, 4 * units), dtype)
        self.bias = np.empty(4 * units, dtype) if weights.has_bias else None
        self.h0 = np.empty((len(kept.h), size), dtype) if need_state else None
        self.c0 = np.empty((len(kept.h), units), dtype) if need_state else None
        self.peephole = np.empty(3 * units, dtype) if weights.has_peephole else None
        self.projection_kernel = np.empty((units, size), dtype) if weights.has_projection else None

    def arrays(
        self, kept: Kept, upstream: Upstream, consume: bool, adds_to_x: bool = False
    ) -> BackwardArrays:
        """Return the backward pass that fills it."""
        inputs, gates = kept.inputs, kept.gates
        assert gates is not None
        return BackwardArrays(
            inputs.x, inputs.h0, inputs.c0, kept.go_backwards, kept.output, gates, kept.cells,
            upstream.output, upstream.h, upstream.c, gates if consume else np.empty_like(gates),
            self.x, self.kernel, self.recurrent_kernel, self.bias, self.h0, self.c0, self.peephole,
            self.projection_kernel, kept.options, adds_to_x,
        )  # fmt: skip

    def gradients(self, kept: Kept, time_major: bool) -> Gradients:
        """Return it under the names of the arguments; what was not wanted is empty."""
        empty = np.empty(0, kept.h.dtype)
        x = self.x
        if x is not None and kept.inputs.x_factors is not None:
            x *= kept.inputs.x_factors
        if x is not None and time_major:
            x = np.ascontiguousarray(x.swapaxes(0, 1))
        return Gradients(
            empty if x is None else x,
            self.kernel,
            self.recurrent_kernel,
            self.bias,
            empty if self.h0 is None else self.h0,
            empty if self.c0 is None else self.c0,
            self.peephole,
            self.projection_kernel,
        )


class Backward:
    """The function that `lstm_vjp` returns: it carries gradients back."""

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
        upstream = Upstream(
            kept, d_output, d_h, d_c,
            return_sequences=self._return_sequences, time_major=self._time_major,
        )  # fmt: skip
        try:
            room = Downstream(kept, need_x, need_state)
            call = room.arrays(kept, upstream, consume)
            _cpu.lstm_backward([(kept.weights, call)], self._threads)
        except MemoryError as error:
            raise too_large(kept.inputs.x, kept.weights) from error
        if consume:
            kept.gates = None
        return room.gradients(kept, self._time_major)


def check_not_consumed(kept: Kept) -> None:
    """Raise if what was kept has been overwritten."""
    if kept.gates is None:
        raise ValueError("consume: backward was called with it before, and can run no more")
