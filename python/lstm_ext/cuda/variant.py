"""What differs from the plain cell in a call on a device."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..functional._packing import cell_arguments
from ..variants import Cell
from .arrays import Kind, as_device_array

__all__ = ["Variant", "as_variant"]

_PLAIN = Cell()
_PLAIN_ARGUMENTS = cell_arguments(_PLAIN)


Array = Any  # a device array of any library


class Variant(NamedTuple):
    """Checked, and as the kernels take it."""

    bound: Any  # _cuda.Variant
    has_peephole: bool


def as_variant(
    native: Any,
    kind: Kind,
    units: int,
    cell: Cell | None,
    peephole: Array | None,
    algorithm: str | None,
) -> Variant | None:
    """Return what the arguments of `lstm` say of the cell; None if it is the plain one.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        If an argument has a wrong type or value, or stands beside an algorithm or a dtype that has
        no variants.
    """
    is_plain = cell is None or (type(cell) is Cell and cell == _PLAIN)
    if is_plain and peephole is None:
        return None
    arguments = _PLAIN_ARGUMENTS if cell is None else cell_arguments(cell)
    if arguments == _PLAIN_ARGUMENTS and peephole is None:
        return None
    name = "peephole" if peephole is not None else _first_of(cell)
    if algorithm not in (None, "steps"):
        raise ValueError(f"algorithm: got {algorithm!r} beside {name}, expected 'steps' or None")
    if cell is not None and (cell.zoneout or cell.cell_zoneout):
        raise NotImplementedError(
            "cell.zoneout: got a rate, but the CUDA operator does not have it yet; expected 0"
        )
    if kind.dtype == "bfloat16":
        raise NotImplementedError(f"{name}: got it beside bfloat16, expected float32 or float64")
    if peephole is not None:
        peephole = as_device_array(peephole, "peephole", kind, (3 * units,))
    return Variant(native.Variant(*arguments, peephole), peephole is not None)


def _first_of(cell: Cell | None) -> str:
    """Return the name of what a cell has."""
    return next(
        f"cell.{name}" for name in Cell._fields if getattr(cell, name) != getattr(_PLAIN, name)
    )
