"""Metrics, gathered over batches, by Keras's names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import losses
from ._registry import Configurable, resolve, snake_case

__all__ = [
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "Mean",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "get",
]

Array = NDArray[Any]


class Metric(Configurable):
    """A weighted mean over all samples since the last reset."""

    def __init__(self, name: str | None = None) -> None:
        self.name = snake_case(type(self).__name__) if name is None else name
        self.reset_state()

    def update_state(
        self, y_true: ArrayLike, y_pred: Array, sample_weight: ArrayLike | None = None
    ) -> None:
        """Take in a batch."""
        values = self._values(y_true, y_pred)
        if sample_weight is None:
            self._total += float(values.sum(dtype=np.float64))
            self._count += values.size
            return
        weights = np.asarray(sample_weight, np.float64)
        weights = np.broadcast_to(
            weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim)), values.shape
        )
        self._total += float((values * weights).sum())
        self._count += float(weights.sum())

    def result(self) -> float:
        """Return the value over everything taken in; 0 if nothing was."""
        return self._total / self._count if self._count else 0.0

    def reset_state(self) -> None:
        """Forget everything taken in."""
        self._total = 0.0
        self._count = 0.0

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal metric."""
        return {"name": self.name}

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        """Return one value a sample."""
        raise NotImplementedError


class Mean(Metric):
    """The mean of values given one by one."""

    def update(self, value: float, weight: float = 1.0) -> None:
        """Take in a value that stands for `weight` samples."""
        self._total += value * weight
        self._count += weight


class MeanSquaredError(Metric):
    """mean((y_true - y_pred)^2)."""

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        error = y_pred - losses.match_shapes(y_true, y_pred)
        return np.asarray((error * error).mean(axis=-1))


class RootMeanSquaredError(MeanSquaredError):
    """The square root of the mean squared error."""

    def result(self) -> float:
        """Return the value over everything taken in."""
        return float(np.sqrt(super().result()))


class MeanAbsoluteError(Metric):
    """mean(|y_true - y_pred|)."""

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        return np.asarray(np.abs(y_pred - losses.match_shapes(y_true, y_pred)).mean(axis=-1))


class BinaryAccuracy(Metric):
    """The share of y_pred on the right side of `threshold`."""

    def __init__(self, name: str | None = None, threshold: float = 0.5) -> None:
        super().__init__(name)
        self.threshold = threshold

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        hits = losses.match_shapes(y_true, y_pred) == (y_pred > self.threshold)
        return np.asarray(hits.mean(axis=-1))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal metric."""
        return {**super().get_config(), "threshold": self.threshold}


class CategoricalAccuracy(Metric):
    """The share of samples whose largest y_pred is at the largest y_true."""

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        y_true = losses.match_shapes(y_true, y_pred)
        return np.asarray(y_true.argmax(axis=-1) == y_pred.argmax(axis=-1), np.float64)


class SparseCategoricalAccuracy(Metric):
    """The share of samples whose largest y_pred is at the class number y_true."""

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        labels = np.asarray(y_true)
        if labels.ndim == y_pred.ndim and labels.shape[-1] == 1:
            labels = labels[..., 0]
        if labels.shape != y_pred.shape[:-1]:
            raise ValueError(
                f"y_true: got shape {labels.shape}, expected class numbers of shape "
                f"{y_pred.shape[:-1]} for y_pred {y_pred.shape}"
            )
        return np.asarray(labels == y_pred.argmax(axis=-1), np.float64)


class _Accuracy(Metric):
    """ "accuracy": binary, categorical or sparse, by the shapes of the first batch, as in Keras."""

    def __init__(self, name: str | None = "accuracy") -> None:
        self._kind: Metric | None = None
        super().__init__(name)

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        if self._kind is None:
            shape = np.shape(y_true)
            if y_pred.shape[-1] == 1:
                self._kind = BinaryAccuracy()
            elif len(shape) < y_pred.ndim or (shape[-1] == 1 and y_pred.shape[-1] > 1):
                self._kind = SparseCategoricalAccuracy()
            else:
                self._kind = CategoricalAccuracy()
        return self._kind._values(y_true, y_pred)


_CLASSES: tuple[type[Metric], ...] = (
    BinaryAccuracy, CategoricalAccuracy, MeanAbsoluteError, MeanSquaredError,
    RootMeanSquaredError, SparseCategoricalAccuracy,
)  # fmt: skip
_KNOWN: dict[str, type[Metric]] = {
    **{name: c for c in _CLASSES for name in (c.__name__, snake_case(c.__name__))},
    "accuracy": _Accuracy,
    "acc": _Accuracy,
    "_Accuracy": _Accuracy,
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "rmse": RootMeanSquaredError,
}


def get(identifier: Any) -> Metric:
    """Return the metric for a name, a config or a `Metric`; a name is kept, as Keras prints it."""
    metric = resolve(identifier, Metric, _KNOWN, "metrics")
    if isinstance(identifier, str):
        metric.name = identifier
    return metric
