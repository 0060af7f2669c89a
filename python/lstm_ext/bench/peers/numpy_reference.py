"""A loop in plain NumPy."""

from __future__ import annotations

from typing import Any

from ... import reference
from ..cases import Case
from .base import Array, Peer, Unsupported

__all__ = ["Numpy"]


class Numpy(Peer):
    """`lstm_ext.reference`, on shapes where that takes less than seconds."""

    name = "numpy"
    modes = ("forward", "stream", "training")
    dtypes = ("float32", "float64")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        if case.shape.multiply_adds > 500_000_000:
            raise Unsupported("too slow at this shape")

    def run(self) -> Any:
        """Run the reference."""
        outputs, backward = reference.lstm_vjp(self.case.x, *self.case.weights)
        if self.case.mode != "training":
            return outputs, None
        return outputs, backward(self.case.d_output)

    def results(self) -> tuple[Array, Array | None]:
        """Return the output and the gradient."""
        outputs, gradients = self.run()
        return outputs[0], None if gradients is None else gradients.kernel
