"""Variants by the operator: a call for a layer, for two directions, or for a stack of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import functional
from ...functional import PackedWeights
from ..cases import Case
from ..variants import Weights
from .base import Array

__all__ = ["Composed"]


class Composed:
    """A case of the operator, forward with packed weights or training.

    Parameters
    ----------
    case : Case
    lengths : (B,) array of int or None
        Those of the case, or None to compute all steps.
    """

    def __init__(self, case: Case, lengths: Array | None) -> None:
        self._case = case
        self._options: dict[str, Any] = {}
        if lengths is not None:
            self._options = {"lengths": lengths, "zero_output_for_mask": True}
        self._layers = [self._pack(directions) for directions in case.layers]

    def forward(self) -> Array:
        """Return the output."""
        x: Array = self._case.x
        if all(len(layer) == 1 for layer in self._layers):
            if len(self._layers) == 1:
                return _first(functional.lstm(x, self._layers[0][0], **self._options))
            layers = [layer[0] for layer in self._layers]
            return functional.stack(x, layers, **self._options)[0]
        for forward, backward in self._layers:
            x = functional.bidirectional(x, forward, backward, **self._options)[0]
        return x

    def train(self) -> tuple[Array, Array]:
        """Return the output, and the gradient of the first layer's kernels."""
        x: Array = self._case.x
        calls = []
        for directions in self._case.layers:
            # A training step meets new weights every time: packing them is part of it.
            weights = self._pack(directions)
            vjp: Any = functional.lstm_vjp if len(weights) == 1 else functional.bidirectional_vjp
            results, backward = vjp(x, *weights, **self._options)
            x = results[0]
            calls.append(backward)
        d_output = self._case.d_output
        for backward in reversed(calls):
            gradients = backward(d_output, need_state=False, consume=True)
            if isinstance(gradients, functional.Gradients):
                gradients = (gradients,)
            d_output = gradients[0].x
        return x, np.concatenate([gradient.kernel for gradient in gradients], axis=1)

    def _pack(self, directions: Sequence[Weights]) -> list[PackedWeights]:
        isa = self._case.isa
        return [functional.pack(*w.arguments, **w.options, isa=isa) for w in directions]


def _first(results: Any) -> Array:
    output: Array = results[0]
    return output
