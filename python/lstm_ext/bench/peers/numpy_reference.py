"""A loop in plain NumPy."""

from __future__ import annotations

from typing import Any

from ..cases import Case
from ..variants import BACKWARD, LAYERS, LENGTHS, PEEPHOLES, PROJECTION, run
from .base import Array, Peer, Unsupported

__all__ = ["Numpy"]


class Numpy(Peer):
    """`lstm_ext.reference`, on shapes where that takes less than seconds."""

    name = "numpy"
    modes = ("forward", "stream", "training")
    dtypes = ("float32", "float64")
    features = (PEEPHOLES, PROJECTION, LENGTHS, BACKWARD, LAYERS)

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        if case.multiply_adds > 500_000_000:
            raise Unsupported("too slow at this shape")

    def run(self) -> Any:
        """Run the reference."""
        case = self.case
        output, backward = run(case.x, case.layers, case.lengths)
        return output, backward(case.d_output) if case.mode == "training" else None

    def results(self) -> tuple[Array, Array | None]:
        """Return the output and the gradient."""
        output, gradient = self.run()
        return output, gradient
