"""What is particular about the slots of a batch of sequences on a device: masks and resets."""

from __future__ import annotations

from typing import Any, NamedTuple

from .arrays import Kind, to_cupy

__all__ = ["Slots", "as_slots", "checked"]

Array = Any  # a device array of any library

# As in csrc/cuda/recurrence.hpp.
_MASKED, _RESET, _SILENT = 1, 2, 4


class Slots(NamedTuple):
    """Arrays of CuPy, in the order of the steps."""

    flags: Any  # (T, B) uint8
    valid: Any | None  # (T, B) bool; None: all
    reset_first: Any | None  # (B,) bool, of the first step; None: nowhere


def as_slots(
    kind: Kind,
    shape: tuple[int, int],
    lengths: Array | None,
    mask: Array | None,
    reset: Array | None,
    zero_output: bool,
    go_backwards: bool,
) -> Slots | None:
    """Return what the arguments of `lstm` say of a (B, T) batch; None if nothing.

    Nothing waits for the device, so lengths are not looked at: more than T count as T.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type, dtype, shape or device.
    """
    if lengths is not None and mask is not None:
        raise ValueError("lengths: got them beside mask, expected one of the two")
    batch, steps = shape
    marked = {
        name: checked(value, name, kind, shape, "b", "bool")
        for name, value in (("mask", mask), ("reset", reset))
    }
    valid, resets = marked["mask"], marked["reset"]
    if lengths is not None:
        counts: Any = checked(lengths, "lengths", kind, (batch,), "iu", "integers")
        valid = kind.cupy.arange(steps)[None, :] < counts[:, None]
    if (valid is None and resets is None) or batch == 0 or steps == 0:
        return None
    step = -1 if go_backwards else 1
    valid = None if valid is None else valid.swapaxes(0, 1)[::step]
    resets = None if resets is None else resets.swapaxes(0, 1)[::step]
    return Slots(
        kind.cupy.ascontiguousarray(_flags(valid, resets, zero_output)),
        valid,
        None if resets is None else resets[0],
    )


def _flags(valid: Any | None, resets: Any | None, zero_output: bool) -> Any:
    reset_bits = None if resets is None else resets.astype("u1") * _RESET
    if valid is None:
        return reset_bits
    masked = ~valid
    if zero_output:
        silent = masked
    else:  # no step yet whose output could be repeated, nor a state that was made zero
        begins = valid if resets is None else valid | resets
        silent = masked & (begins.cumsum(axis=0) == 0)
    flags = masked.astype("u1") * _MASKED + silent.astype("u1") * _SILENT
    return flags if reset_bits is None else flags + reset_bits


def checked(
    value: Array | None, name: str, kind: Kind, shape: tuple[int, ...], kinds: str, what: str
) -> Any | None:
    """Return a CuPy array of this shape, whose dtype is of one of these kinds."""
    if value is None:
        return None
    array = to_cupy(value, name, kind.cupy)
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name}: got an array of {array.dtype}, expected {what}")
    if int(array.device.id) != kind.device:
        raise ValueError(
            f"{name}: got an array on device {int(array.device.id)}, expected device "
            f"{kind.device}, where x is"
        )
    if tuple(array.shape) != shape:
        raise ValueError(f"{name}: got shape {tuple(array.shape)}, expected {shape}")
    return array
