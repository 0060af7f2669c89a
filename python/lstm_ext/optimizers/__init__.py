"""Optimizers, by Keras's names, defaults and update rules."""

from __future__ import annotations

from typing import Any

from .._registry import by_name, resolve, serialize
from . import schedules
from .adam import Adam, AdamW
from .base import Optimizer
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "get", "schedules", "serialize"]

_KNOWN = by_name(Adam, AdamW, RMSprop, SGD, adamw=AdamW)


def get(identifier: Any) -> Optimizer:
    """Return the optimizer for a name, a config or an `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        If there is no such optimizer.
    """
    return resolve(identifier, Optimizer, _KNOWN, "optimizer")
