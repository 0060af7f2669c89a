"""The arguments of a call on a CUDA device: checked, and as CuPy arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._arguments import check_flag, check_flags
from ..variants import Noise
from .arrays import Kind, as_device_array, current, kind_of
from .availability import require
from .slots import Slots, as_slots
from .variant import Variant, as_variant

__all__ = ["TIMEOUT_NS", "Call", "checked_call", "raise_timeout"]

Array = Any  # a device array of the caller's library

# A wait inside a kernel ends after this, so that nothing can hang. It is far longer than any wait
# that is not a mistake.
TIMEOUT_NS = 10_000_000_000

_ALGORITHMS = ("cluster", "grid", "steps")

# What functional.lstm takes and this does not.
_MISSING = ("layer_norm", "return_gates")


class Call(NamedTuple):
    """Checked arguments, as CuPy arrays."""

    native: Any
    kind: Kind
    x: Any  # (T, B, I), in the order of the steps, any strides
    kernel: Any
    recurrent_kernel: Any
    bias: Any | None
    h0: Any | None
    c0: Any | None
    slots: Slots | None
    x_factors: Any | None  # (1, B, I)
    h_factors: Any | None  # (B, P)
    projection_kernel: Any | None  # (H, P), with a variant
    variant: Variant | None
    algorithm: str
    go_backwards: bool
    time_major: bool
    return_sequences: bool

    @property
    def batch_size(self) -> int:
        """Rows of x."""
        return int(self.x.shape[1])

    @property
    def steps(self) -> int:
        """Steps of x."""
        return int(self.x.shape[0])

    @property
    def bound_variant(self) -> Any | None:
        """What the kernels are told of the cell, None of the plain one."""
        return None if self.variant is None else self.variant.bound

    @property
    def units(self) -> int:
        """Units of the layer, H."""
        return int(self.recurrent_kernel.shape[1]) // 4

    @property
    def outputs(self) -> int:
        """Features of h, P: the units, or those of a projection."""
        return int(self.recurrent_kernel.shape[0])

    def plan(self, direction: str) -> Any:
        """Return how the current device runs the call forward or backward."""
        return self.native.plan(
            self.kind.dtype, direction, self.batch_size, self.units, self.algorithm,
            variant=self.variant is not None,
        )  # fmt: skip

    def scratch(self, plan: Any) -> Any | None:
        """Return the memory that a plan needs, if any."""
        if plan.scratch_bytes == 0:
            return None
        return self.kind.cupy.empty(-(-plan.scratch_bytes // 8), np.uint64)


def checked_call(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None,
    initial_state: tuple[Array, Array] | None,
    algorithm: str | None,
    variants: dict[str, Any],
    flags: tuple[bool, bool, bool],
) -> Call:
    """Return the call that the arguments of `lstm` make; raises what that promises.

    `flags` are go_backwards, time_major and return_sequences.
    """
    check_flags(*flags)
    go_backwards, time_major, return_sequences = flags
    which = {name: variants.pop(name, None) for name in ("lengths", "mask", "reset")}
    noise, cell, peephole = (variants.pop(name, None) for name in ("noise", "cell", "peephole"))
    projection_kernel = variants.pop("projection_kernel", None)
    zero_output = variants.pop("zero_output_for_mask", False)
    check_flag(zero_output, "zero_output_for_mask")
    _check_variants(variants)
    if algorithm is not None and algorithm not in _ALGORITHMS:
        names = ", ".join(_ALGORITHMS)
        raise ValueError(f"algorithm: got {algorithm!r}, expected one of {names}")
    native, cupy = require()
    raise_timeout(native)
    kind = kind_of(x, cupy)
    x = as_device_array(x, "x", kind, contiguous=False)
    recurrent_kernel = as_device_array(recurrent_kernel, "recurrent_kernel", kind)
    units, outputs = _checked_sizes(tuple(recurrent_kernel.shape), projection_kernel is not None)
    kernel = as_device_array(kernel, "kernel", kind)
    if kernel.ndim != 2 or kernel.shape[1] != 4 * units or kernel.shape[0] == 0:
        raise ValueError(
            f"kernel: got shape {tuple(kernel.shape)}, expected (input_size, {4 * units})"
        )
    if x.ndim != 3 or x.shape[2] != kernel.shape[0]:
        axes = "time, batch" if time_major else "batch, time"
        raise ValueError(f"x: got shape {tuple(x.shape)}, expected ({axes}, {kernel.shape[0]})")
    if bias is not None:
        bias = as_device_array(bias, "bias", kind, (4 * units,))
    x = x if time_major else x.swapaxes(0, 1)
    batch_size, steps = int(x.shape[1]), int(x.shape[0])
    if projection_kernel is not None:
        projection_kernel = as_device_array(
            projection_kernel, "projection_kernel", kind, (units, outputs)
        )
    h0, c0 = _checked_state(initial_state, kind, (batch_size, outputs), (batch_size, units))
    x_factors, h_factors = _checked_noise(noise, kind, (batch_size, int(x.shape[2])), outputs)
    with current(kind):
        sizes = batch_size, steps, units, outputs
        variant = as_variant(
            native, kind, sizes, cell, peephole, noise, algorithm,
            projects=projection_kernel is not None,
        )  # fmt: skip
        slots = as_slots(
            kind, (batch_size, steps), **which, zero_output=zero_output, go_backwards=go_backwards
        )
        if slots is not None and slots.reset_first is not None:
            h0, c0 = (_zeroed(kind, a, slots.reset_first) for a in (h0, c0))
    return Call(
        native, kind, x[::-1] if go_backwards else x, kernel, recurrent_kernel, bias, h0, c0,
        slots, x_factors, h_factors, projection_kernel, variant, algorithm or "auto", go_backwards,
        time_major, return_sequences,
    )  # fmt: skip


def _checked_sizes(shape: tuple[int, ...], projects: bool) -> tuple[int, int]:
    """Return the units and the features of h, from the shape of the recurrent kernel."""
    fits = len(shape) == 2 and shape[1] % 4 == 0 and 0 not in shape
    if not fits or (not projects and shape[1] != 4 * shape[0]):
        expected = "(projection_units, 4 * units)" if projects else "(units, 4 * units)"
        raise ValueError(f"recurrent_kernel: got shape {shape}, expected {expected}")
    return shape[1] // 4, shape[0]


def _zeroed(kind: Kind, state: Any | None, rows: Any) -> Any | None:
    """Return a state with zeros in some rows."""
    if state is None:
        return None
    return kind.cupy.where(rows[:, None], np.zeros((), state.dtype)[()], state)


def _checked_noise(
    noise: Noise | None, kind: Kind, shape: tuple[int, int], outputs: int
) -> tuple[Any | None, Any | None]:
    """Return the factors of x, (1, B, I), and of h."""
    if noise is None:
        return None, None
    if not isinstance(noise, Noise):
        raise TypeError(f"noise: got {type(noise).__name__}, expected a Noise")
    if kind.dtype == "bfloat16":
        raise NotImplementedError("noise: got it beside bfloat16, expected float32 or float64")
    x, h = noise.x, noise.h
    x_factors = None if x is None else as_device_array(x, "noise.x", kind, shape)[None]
    h = None if h is None else as_device_array(h, "noise.h", kind, (shape[0], outputs))
    return x_factors, h


def _check_variants(variants: dict[str, Any]) -> None:
    for name, value in variants.items():
        if name not in _MISSING:
            raise TypeError(f"lstm() got an unexpected keyword argument {name!r}")
        if value is not None and value is not False:
            raise NotImplementedError(
                f"{name}: got a value, but the CUDA operator does not have it yet; expected None"
            )


def _checked_state(
    state: tuple[Array, Array] | None, kind: Kind, of_h: tuple[int, int], of_c: tuple[int, int]
) -> tuple[Any | None, Any | None]:
    if state is None:
        return None, None
    if not isinstance(state, (tuple, list)) or len(state) != 2:
        got = f"{len(state)} values" if isinstance(state, (tuple, list)) else type(state).__name__
        raise ValueError(f"initial_state: got {got}, expected a pair (h, c)")
    h0 = as_device_array(state[0], "initial_state[0]", kind, of_h)
    return h0, as_device_array(state[1], "initial_state[1]", kind, of_c, computed=True)


def raise_timeout(native: Any) -> None:
    """Raise a RuntimeError if a kernel gave up waiting since this was last asked."""
    if native.take_timeout():
        raise RuntimeError(
            "a CUDA kernel of an earlier call of lstm_ext gave up waiting for another block after "
            f"{TIMEOUT_NS // 1_000_000_000} s, and its results are NaN; please report this"
        )
