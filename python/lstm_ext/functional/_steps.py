"""What a call consists of besides its weights: which slots are steps, the state, noise."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arguments import as_array, as_float_array, check_flag
from .._cpu import CallOptions, PackedWeights
from ..variants import Gates, LayerNorm, Noise

__all__ = [
    "Extras",
    "Gradients",
    "as_extras",
    "call_options",
    "count_steps",
    "last_output",
    "spread_gates",
]

Array = NDArray[Any]


class Gradients(NamedTuple):
    """The gradients of everything that went into an LSTM, each of its argument's shape."""

    x: Array
    kernel: Array
    recurrent_kernel: Array
    bias: Array | None
    h0: Array
    c0: Array
    peephole: Array | None = None
    projection_kernel: Array | None = None
    layer_norm: LayerNorm | None = None


class Steps:
    """Which slots of a batch of sequences are steps.

    Attributes
    ----------
    lengths : (B,) int64 array or None
    mask, reset : (B, T) uint8 array or None
        In the order of time.
    zero_output : bool
        Whether the output is zero where there is no step.
    """

    __slots__ = ("lengths", "mask", "reset", "shape", "zero_output")

    def __init__(
        self,
        shape: tuple[int, int],
        lengths: Array | None,
        mask: Array | None,
        reset: Array | None,
        zero_output: bool,
    ) -> None:
        self.shape, self.lengths, self.mask, self.reset = shape, lengths, mask, reset
        self.zero_output = zero_output

    @property
    def all(self) -> bool:
        """Whether every slot is a step."""
        return self.lengths is None and self.mask is None

    @property
    def count(self) -> int:
        """N, the number of steps of all rows."""
        if self.lengths is not None:
            return int(self.lengths.sum())
        return self.shape[0] * self.shape[1] if self.mask is None else int(self.mask.sum())

    def valid(self, go_backwards: bool) -> Array:
        """Return whether each slot is a step: (B, T) bools in the order of the slots."""
        batch, steps = self.shape
        if self.lengths is not None:
            valid: Array = np.arange(steps) < self.lengths[:, None]
        else:
            valid = np.ones((batch, steps), bool) if self.mask is None else self.mask.view(bool)
        return valid[:, ::-1] if go_backwards else valid

    def last_has_output(self, go_backwards: bool) -> Array:
        """Return for each row whether the last slot's output is h, rather than zero."""
        valid = self.valid(go_backwards)
        return np.asarray(valid[:, -1] if self.zero_output else valid.any(axis=1))


class Extras:
    """What a call has besides x, weights and state. Most calls have nothing of it.

    Attributes
    ----------
    steps : Steps or None
        None: every slot is a step, and no state is reset.
    x_factors : (B, 1, I) array or None
        By which x is multiplied.
    noise_h : (B, P) array or None
    zoneout, cell_zoneout : (B, T, P), (B, T, H) uint8 array or None
    """

    __slots__ = ("cell_zoneout", "noise_h", "steps", "x_factors", "zoneout")

    def __init__(
        self,
        x: Array,
        weights: PackedWeights,
        lengths: ArrayLike | None,
        mask: ArrayLike | None,
        reset: ArrayLike | None,
        zero_output_for_mask: bool,
        noise: Noise | None,
    ) -> None:
        batch, time, features = x.shape
        self.steps = as_steps((batch, time), lengths, mask, reset, zero_output_for_mask)
        self.x_factors = self.noise_h = self.zoneout = self.cell_zoneout = None
        if noise is None:
            return
        if not isinstance(noise, Noise):
            raise TypeError(f"noise: got {type(noise).__name__}, expected a Noise")
        size, units = weights.output_size, weights.units
        for name in ("zoneout", "cell_zoneout"):
            if weights.has_layer_norm and getattr(noise, name) is not None:
                raise ValueError(f"noise.{name}: got it beside layer_norm, expected one of the two")
        factors = _factors(noise.x, "noise.x", (batch, features), x.dtype)
        self.x_factors = None if factors is None else factors[:, None, :]
        self.noise_h = _factors(noise.h, "noise.h", (batch, size), x.dtype)
        self.zoneout = _as_bytes(noise.zoneout, "noise.zoneout", (batch, time, size))
        self.cell_zoneout = _as_bytes(
            noise.cell_zoneout, "noise.cell_zoneout", (batch, time, units)
        )

    def multiplied(self, x: Array) -> Array:
        """Return x times its factors."""
        return x if self.x_factors is None else x * self.x_factors


def as_extras(
    x: Array,
    weights: PackedWeights,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    reset: ArrayLike | None,
    zero_output_for_mask: bool,
    noise: Noise | None,
) -> Extras | None:
    """Check what a call has besides x (B, T, I), weights and state; None if it has nothing."""
    if (
        lengths is None
        and mask is None
        and reset is None
        and noise is None
        and zero_output_for_mask is False
    ):
        return None
    return Extras(x, weights, lengths, mask, reset, zero_output_for_mask, noise)


def count_steps(x: Array, extras: Extras | None) -> int:
    """Return N, the number of steps of all rows."""
    if extras is None or extras.steps is None:
        return int(x.shape[0] * x.shape[1])
    return extras.steps.count


def call_options(
    extras: Extras | None,
    hidden: Array | None = None,
    normed: Array | None = None,
    activated: bool = False,
) -> CallOptions | None:
    """Return what the kernels are told of a call, None if it is nothing."""
    if extras is None:
        if hidden is None and normed is None and not activated:
            return None
        return CallOptions(hidden=hidden, normed=normed, activated=activated)
    steps = extras.steps
    return CallOptions(
        lengths=None if steps is None else steps.lengths,
        mask=None if steps is None else steps.mask,
        reset=None if steps is None else steps.reset,
        repeats_output=steps is None or not steps.zero_output,
        noise_h=extras.noise_h,
        zoneout=extras.zoneout,
        cell_zoneout=extras.cell_zoneout,
        hidden=hidden,
        normed=normed,
        activated=activated,
    )


def last_output(h: Array, seq_len: int, extras: Extras | None, go_backwards: bool) -> Array:
    """Return the output of the last slot: h, but zeros where that is no step's output."""
    if extras is None or extras.steps is None or extras.steps.all or seq_len == 0:
        return h
    return np.where(extras.steps.last_has_output(go_backwards)[:, None], h, h.dtype.type(0))


def _factors(
    value: ArrayLike | None, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array | None:
    if value is None:
        return None
    array = as_float_array(value, name, like=dtype)
    if array.shape != shape:
        raise ValueError(f"{name}: got shape {array.shape}, expected {shape}")
    return np.ascontiguousarray(array)


def as_steps(
    shape: tuple[int, int],
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    reset: ArrayLike | None,
    zero_output_for_mask: bool,
) -> Steps | None:
    """Check what says which slots of (B, T) are steps; None if all are and nothing is reset."""
    check_flag(zero_output_for_mask, "zero_output_for_mask")
    if lengths is not None and mask is not None:
        raise ValueError("lengths: got it beside mask, expected one of the two")
    counts = None if lengths is None else _as_lengths(lengths, shape)
    valid, resets = _as_bytes(mask, "mask", shape), _as_bytes(reset, "reset", shape)
    if counts is not None and (counts == shape[1]).all():
        counts = None
    if valid is not None and valid.all():
        valid = None
    if resets is not None and not resets.any():
        resets = None
    if counts is None and valid is None and resets is None:
        return None
    # Copies: the backward pass reads as many steps as were kept, whatever becomes of the arrays.
    return Steps(
        shape, _copied(counts), _copied(valid), _copied(resets), bool(zero_output_for_mask)
    )


def _copied(array: Array | None) -> Array | None:
    return None if array is None else array.copy()


def _as_lengths(value: ArrayLike, shape: tuple[int, int]) -> Array:
    batch, steps = shape
    array = as_array(value, "lengths", "integers")
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"lengths: got an array of {array.dtype}, expected integers")
    if array.shape != (batch,):
        raise ValueError(f"lengths: got shape {array.shape}, expected {(batch,)}")
    if batch and not (array.min() >= 0 and array.max() <= steps):
        wrong = array[(array < 0) | (array > steps)][0]
        raise ValueError(f"lengths: got {wrong}, expected 0 to {steps}")
    return np.ascontiguousarray(array, np.int64)


def _as_bytes(value: ArrayLike | None, name: str, shape: tuple[int, ...]) -> Array | None:
    """Return bools as contiguous bytes of 0 or 1."""
    if value is None:
        return None
    array = as_array(value, name, "bools")
    if array.dtype != np.bool_:
        raise TypeError(f"{name}: got an array of {array.dtype}, expected bools")
    if array.shape != shape:
        raise ValueError(f"{name}: got shape {array.shape}, expected {shape}")
    return np.ascontiguousarray(array).view(np.uint8)


def spread_gates(
    gates: Array, cells: Array, shape: tuple[int, int], extras: Extras | None, go_backwards: bool
) -> Gates:
    """Return what the kernels kept of N steps in its place among all slots (B, T)."""
    batch, steps = shape
    units = cells.shape[1]
    if extras is None or extras.steps is None:
        out = np.empty((5, batch, steps, units), cells.dtype)
        out[:4] = gates.reshape(steps, batch, 4, units).transpose(2, 1, 0, 3)
        out[4] = cells.reshape(steps, batch, units).swapaxes(0, 1)
        return Gates(*out)
    out = np.zeros((5, batch, steps, units), cells.dtype)
    valid = extras.steps.valid(go_backwards)
    # The order of the N rows (csrc/lstm.hpp): steps by number, in each the longest rows first.
    lengths = valid.sum(axis=1)
    order = np.argsort(-lengths, kind="stable")
    position, slot = np.nonzero(valid[order])
    number = np.concatenate([np.arange(length) for length in lengths[order]] or [lengths])
    by_step = np.lexsort((position, number))
    rows, slots = order[position[by_step]], slot[by_step]
    for index in range(4):
        out[index, rows, slots] = gates[:, index * units : (index + 1) * units]
    out[4, rows, slots] = cells
    return Gates(*out)
