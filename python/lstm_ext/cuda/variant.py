"""What differs from the plain cell in a call on a device."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..functional._packing import cell_arguments
from ..variants import Cell, Noise
from .arrays import Kind, as_device_array
from .slots import checked

__all__ = ["Variant", "as_variant"]

Array = Any  # a device array of any library

_PLAIN = Cell()
_PLAIN_ARGUMENTS = cell_arguments(_PLAIN)


class Variant(NamedTuple):
    """Checked, and as the kernels take it."""

    bound: Any  # _cuda.Variant
    has_peephole: bool
    keeps_h: bool


def as_variant(
    native: Any,
    kind: Kind,
    sizes: tuple[int, int, int, int],
    cell: Cell | None,
    peephole: Array | None,
    noise: Noise | None,
    algorithm: str | None,
    *,
    projects: bool,
) -> Variant | None:
    """Return what the arguments of `lstm` say of the cell; None if it is the plain one.

    `sizes` are B, T, H and P; with `projects` a call has a projection as well, for which it takes a
    variant even of the plain cell. Runs on the caller's stream.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        If an argument has a wrong type or value, or stands beside an algorithm or a dtype that has
        no variants.
    """
    batch, steps, units, outputs = sizes
    given = {} if peephole is None else {"peephole": peephole}
    for name in ("zoneout", "cell_zoneout"):
        if noise is not None and getattr(noise, name) is not None:
            given[f"noise.{name}"] = getattr(noise, name)
    if not given and not projects and (cell is None or (type(cell) is Cell and cell == _PLAIN)):
        return None
    arguments = _PLAIN_ARGUMENTS if cell is None else cell_arguments(cell)
    if not given and not projects and arguments == _PLAIN_ARGUMENTS:
        return None
    name = "projection_kernel" if projects else next(iter(given), None) or _first_of(cell)
    if algorithm not in (None, "steps"):
        raise ValueError(f"algorithm: got {algorithm!r} beside {name}, expected 'steps' or None")
    if kind.dtype == "bfloat16":
        raise NotImplementedError(f"{name}: got it beside bfloat16, expected float32 or float64")
    if peephole is not None:
        peephole = as_device_array(peephole, "peephole", kind, (3 * units,))
    places = [
        _places(given, name, kind, (batch, steps, size))
        for name, size in (("noise.zoneout", outputs), ("noise.cell_zoneout", units))
    ]
    keeps_h = places[0] is not None or (cell is not None and cell.zoneout > 0)
    bound = native.Variant(*arguments, peephole, *places)
    return Variant(bound, peephole is not None, keeps_h)


def _places(
    given: dict[str, Array], name: str, kind: Kind, shape: tuple[int, int, int]
) -> Any | None:
    """Return bools as contiguous bytes."""
    array = checked(given.get(name), name, kind, shape, "b", "bool")
    return None if array is None else kind.cupy.ascontiguousarray(array).view("u1")


def _first_of(cell: Cell | None) -> str:
    """Return the name of what a cell has."""
    return next(
        f"cell.{name}" for name in Cell._fields if getattr(cell, name) != getattr(_PLAIN, name)
    )
