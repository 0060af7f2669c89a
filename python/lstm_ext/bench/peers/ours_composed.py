"""Variants: a layer, two directions, or a stack of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import LSTM, Bidirectional, functional
from ...functional import PackedWeights
from ..cases import Case
from ..variants import Weights
from .base import Array

__all__ = ["Composed"]


class Composed:
    """A case forward by layers, or training by the operator.

    Parameters
    ----------
    case : Case
    lengths : (B,) array of int or None
        Those of the case, or None to compute all steps.
    """

    def __init__(self, case: Case, lengths: Array | None) -> None:
        self._case = case
        self._lengths: dict[str, Any] = {} if lengths is None else {"lengths": lengths}
        self._layers = self._build() if case.mode == "forward" else []

    def forward(self) -> Array:
        """Return the output."""
        x: Array = self._case.x
        for layer in self._layers:
            x = layer(x, **self._lengths)
        return x

    def train(self) -> tuple[Array, Array]:
        """Return the output, and the gradient of the first layer's kernels."""
        x: Array = self._case.x
        calls = []
        for directions in self._case.layers:
            # A training step meets new weights every time: packing them is part of it.
            weights = self._pack(directions)
            vjp: Any = functional.lstm_vjp if len(weights) == 1 else functional.bidirectional_vjp
            options = {"zero_output_for_mask": True, **self._lengths} if self._lengths else {}
            results, backward = vjp(x, *weights, **options)
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

    def _build(self) -> list[LSTM | Bidirectional]:
        packed = [self._pack(directions) for directions in self._case.layers]
        if len(packed[0]) == 1:
            lstm = self._lstm(self._case.layers[0][0], num_layers=len(packed))
            lstm.build(self._case.x.shape)
            # Forced for the life of the layer, whose weights are not changed again.
            lstm._packed = tuple(own[0] for own in packed)
            return [lstm]
        pairs: list[LSTM | Bidirectional] = []
        features = self._case.shape.I
        for directions, own in zip(self._case.layers, packed, strict=True):
            pair = Bidirectional(self._lstm(directions[0]))
            pair.build((None, None, features))
            pair.forward_layer._packed, pair.backward_layer._packed = ((one,) for one in own)
            features = 2 * directions[0].output_size
            pairs.append(pair)
        return pairs

    def _lstm(self, weights: Weights, num_layers: int = 1) -> LSTM:
        projects = weights.projection_kernel is not None
        return LSTM(
            weights.units,
            return_sequences=True,
            zero_output_for_mask=True,
            peepholes=weights.peephole is not None,
            proj_size=weights.output_size if projects else None,
            num_layers=num_layers,
            dtype=self._case.dtype,
        )
