"""The named shapes."""

from __future__ import annotations

from typing import NamedTuple

from .variants import VARIANTS

__all__ = ["GROUPS", "SUITES", "Shape", "parse_shape"]


class Shape(NamedTuple):
    """Batch size, sequence length, input size, units."""

    B: int
    T: int
    I: int  # noqa: E741 - the name that the equations use
    H: int

    def __str__(self) -> str:
        return ",".join(map(str, self))

    @property
    def multiply_adds(self) -> int:
        """Of a plain forward pass."""
        return self.B * self.T * (self.I + self.H) * 4 * self.H


def _shapes(text: str) -> list[Shape]:
    return [parse_shape(item) for item in text.split()]


def parse_shape(text: str) -> Shape:
    """Read "B,T,I,H".

    Raises
    ------
    ValueError
        If it is not four positive whole numbers.
    """
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"shape: got {text!r}, expected B,T,I,H as positive whole numbers")
    return Shape(*map(int, parts))


GROUPS: dict[str, list[Shape]] = {
    "streaming": _shapes("1,1,10,20 1,1,64,64 1,1,128,128 1,1,128,256 1,1,512,512"),
    "sequence": _shapes(
        "1,5,10,20 1,100,1,64 1,100,64,64 1,100,128,128 1,100,256,256 1,50,512,512 1,50,1024,1024"
    ),
    "batch": _shapes("8,100,64,128 16,50,128,128 32,100,128,256"),
    "large": _shapes("64,50,512,512 128,25,1024,1024 32,20,2048,2048"),
    "training": _shapes(
        "32,1,1,64 1,100,64,64 1,100,128,128 16,50,128,128 32,100,128,256 64,50,512,512 "
        "32,20,1024,1024"
    ),
    "fit": _shapes("32,1,1,64"),
    "small": _shapes(
        "1,1,128,128 1,1,512,512 1,100,128,128 1,100,256,256 1,50,1024,1024 64,50,512,512 "
        "32,100,128,256"
    ),
    **{
        name: _shapes("1,5,10,20 1,100,64,64 1,100,256,256 16,50,128,128 32,100,128,256")
        for name in VARIANTS
    },
}

#: Names for several groups: those of plain LSTMs with full weights, and those of the others.
SUITES = {
    "grid": tuple(name for name in GROUPS if name != "small" and name not in VARIANTS),
    "variants": tuple(VARIANTS),
}
