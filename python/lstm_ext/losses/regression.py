"""Losses for numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _cpu
from .._arrays import is_on_device
from .._registry import check_number
from .base import Loss, as_float, match_shapes

__all__ = ["Huber", "MeanAbsoluteError", "MeanSquaredError"]

Array = NDArray[Any]


class MeanSquaredError(Loss):
    """mean((y_pred - y_true)^2) over the last axis."""

    def value_and_grad(
        self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[Any, Array]:
        """Return the loss and its gradient with respect to `y_pred`, as of every loss."""
        if (
            sample_weight is not None
            or self.reduction in ("sum", "none", None)
            or is_on_device(y_pred)
        ):
            return super().value_and_grad(y_true, y_pred, sample_weight)
        # The mean over everything in one native pass: small batches pay for each call.
        found = _cpu.mean_squared_error(y_true, y_pred)
        if found is not None:
            return found
        given = as_float(y_pred, "y_pred")
        plain = [_plain(array) for array in match_shapes(y_true, given)]
        found = _cpu.mean_squared_error(*plain)
        if found is None:  # float16 and long double
            return super().value_and_grad(y_true, y_pred)
        return found[0], found[1].reshape(given.shape)

    def _values_and_slopes(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        error = y_pred - y_true
        return np.square(error).mean(axis=-1), error * (2 / _width(error))


class MeanAbsoluteError(Loss):
    """mean(|y_pred - y_true|) over the last axis; the slope at zero is zero."""

    def _values_and_slopes(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        error = y_pred - y_true
        return np.abs(error).mean(axis=-1), np.sign(error) / _width(error)


class Huber(Loss):
    """The mean over the last axis of e^2 / 2 up to |e| = delta and the tangent there beyond.

    e is y_pred - y_true; beyond, the value is ``delta * |e| - delta^2 / 2`` (Huber 1964).

    Parameters
    ----------
    delta : float
        Positive.
    reduction, name
        As of `Loss`.
    """

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "huber_loss",
        **unsupported: Any,
    ) -> None:
        super().__init__(reduction, name, **unsupported)
        self.delta = check_number(delta, "delta", low=0.0, open_low=True)

    def _values_and_slopes(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        error = y_pred - y_true
        inside = np.clip(error, -self.delta, self.delta)
        # Both cases in one: e * (e - e / 2) within delta, delta * (|e| - delta / 2) beyond.
        values = (inside * (error - inside / 2)).mean(axis=-1)
        return values, inside / _width(error)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal loss."""
        return {**super().get_config(), "delta": self.delta}


def _width(array: Array) -> int:
    width: int = array.shape[-1]
    return max(width, 1)


def _plain(array: Array) -> Array:
    """Return the array as the native pass reads it: contiguous, aligned, in the machine's order."""
    return np.require(array, array.dtype.newbyteorder("="), ["C", "A"])
