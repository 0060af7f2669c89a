"""Losses with their gradients, by Keras's names, defaults and reductions."""

from __future__ import annotations

from typing import Any

from .._registry import by_name, resolve, serialize
from .base import Loss
from .crossentropy import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
)
from .regression import Huber, MeanAbsoluteError, MeanSquaredError

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "get",
    "serialize",
]

_KNOWN = by_name(
    BinaryCrossentropy, CategoricalCrossentropy, Huber, MeanAbsoluteError, MeanSquaredError,
    SparseCategoricalCrossentropy, bce=BinaryCrossentropy, huber_loss=Huber,
    mae=MeanAbsoluteError, mse=MeanSquaredError,
)  # fmt: skip


def get(identifier: Any) -> Loss:
    """Return the loss for a name, a config or a `Loss`.

    Raises
    ------
    ValueError, TypeError
        If there is no such loss.
    """
    return resolve(identifier, Loss, _KNOWN, "loss")
