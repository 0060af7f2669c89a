"""The noise of an LSTM layer in training: dropout and zoneout, drawn anew for each call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import functional, random
from ..variants import Noise
from .dropout import dropout_factors

__all__ = ["Rates", "Sizes", "draw_noise", "noise_seed"]

Array = NDArray[Any]


def noise_seed(seed: int) -> int:
    """Return the seed of a layer's noise, apart from those of its initial weights."""
    return random.check_seed(seed) + 2**32


class Sizes(NamedTuple):
    """Of one layer, where there are no packed weights that have them."""

    input_size: int
    output_size: int
    units: int


class Rates(NamedTuple):
    """How much of each kind of noise a layer draws in training."""

    dropout: float
    recurrent_dropout: float
    zoneout: float
    cell_zoneout: float


def draw_noise(
    rates: Rates,
    generator: np.random.Generator,
    x: Array,
    packed: Sequence[functional.PackedWeights | Sizes],
) -> list[Noise]:
    """Draw the noise of a call for every layer, in one order whatever computes it."""
    batch, steps, _ = x.shape

    def factors(rate: float, size: int) -> Array | None:
        return dropout_factors(generator, (batch, size), rate, x.dtype) if rate else None

    def keeps(rate: float, size: int) -> Array | None:
        return generator.random((batch, steps, size)) < rate if rate else None

    return [
        Noise(
            factors(rates.dropout, weights.input_size),
            factors(rates.recurrent_dropout, weights.output_size),
            keeps(rates.zoneout, weights.output_size),
            keeps(rates.cell_zoneout, weights.units),
        )
        for weights in packed
    ]
