"""The package itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import LSTM, functional, set_num_threads
from ..cases import Case
from .base import Array, Peer

__all__ = ["Ours"]


class Ours(Peer):
    """``layer(x)`` forward; the operator with its gradients in training."""

    name = "lstm_ext"
    modes = ("forward", "training")
    dtypes = ("float32", "float64")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        set_num_threads(case.threads)
        self._layer = LSTM(case.shape.H, return_sequences=True, dtype=case.dtype)
        self._layer.build(case.x.shape)
        self._layer.set_weights(list(case.weights))
        # Forced for the life of the layer, whose weights are not changed again.
        self._layer._packed = functional.pack(*case.weights, isa=case.isa)
        self.run = self._train if case.mode == "training" else self._forward  # type: ignore[method-assign]

    def _forward(self) -> Any:
        return self._layer(self.case.x)

    def _train(self) -> Any:
        # A training step meets new weights every time: packing them is part of it.
        weights = functional.pack(*self.case.weights, isa=self.case.isa)
        outputs, backward = functional.lstm_vjp(self.case.x, weights)
        return outputs[0], backward(self.case.d_output, need_state=False, consume=True)

    def results(self) -> tuple[Array, Array | None]:
        """Return the output and the gradient."""
        if self.case.mode == "forward":
            return np.asarray(self._forward()), None
        output, gradients = self._train()
        return output, gradients.kernel
