"""What differs from the plain cell in a call on a device."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..functional._packing import cell_arguments
from ..variants import Cell
from .arrays import Kind

__all__ = ["Variant", "as_variant"]

_PLAIN = Cell()
_PLAIN_ARGUMENTS = cell_arguments(_PLAIN)


class Variant(NamedTuple):
    """Checked, and as the kernels take it."""

    bound: Any  # _cuda.Variant


def as_variant(native: Any, kind: Kind, cell: Cell | None, algorithm: str | None) -> Variant | None:
    """Return what the arguments of `lstm` say of the cell; None if it is the plain one.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        If an argument has a wrong type or value, or stands beside an algorithm or a dtype that has
        no variants.
    """
    if cell is None or (type(cell) is Cell and cell == _PLAIN):
        return None
    arguments = cell_arguments(cell)
    if arguments == _PLAIN_ARGUMENTS:
        return None
    name = _first_of(cell)
    if algorithm not in (None, "steps"):
        raise ValueError(f"algorithm: got {algorithm!r} beside {name}, expected 'steps' or None")
    if cell.zoneout or cell.cell_zoneout:
        raise NotImplementedError(
            "cell.zoneout: got a rate, but the CUDA operator does not have it yet; expected 0"
        )
    if kind.dtype == "bfloat16":
        raise NotImplementedError(f"{name}: got it beside bfloat16, expected float32 or float64")
    return Variant(native.Variant(*arguments))


def _first_of(cell: Cell) -> str:
    """Return the name of what a cell has."""
    return next(
        f"cell.{name}" for name in Cell._fields if getattr(cell, name) != getattr(_PLAIN, name)
    )
