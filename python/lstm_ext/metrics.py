"""Metrics, gathered over batches, by Keras's names and definitions."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._arrays import is_on_device, total
from ._registry import (
    Configurable,
    by_name,
    check_number,
    check_unsupported,
    resolve,
    serialize,
    snake_case,
)
from .losses.base import as_float, as_numbers, as_weights, match_shapes
from .losses.crossentropy import as_labels

__all__ = [
    "Accuracy",
    "AccuracyByShapes",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "Mean",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "get",
    "serialize",
]

Array = NDArray[Any]

# Arguments of Keras's metrics that are not there yet, with Keras's defaults.
_UNSUPPORTED = {"dtype": None}


class Metric(Configurable):
    """A weighted mean over all samples since the last reset.

    A sample's value is the mean over its own axes, and so is its weight.

    Parameters
    ----------
    name : str, optional
        By default the class's name in snake case.
    """

    #: Which way is better, for callbacks that wait for it.
    larger_is_better: ClassVar[bool] = False

    #: Whether the mask of a model's outputs is its `sample_weight`.
    masked: ClassVar[bool] = True

    def __init__(self, name: str | None = None, **unsupported: Any) -> None:
        check_unsupported(type(self).__name__, unsupported, _UNSUPPORTED)
        self.name = snake_case(type(self).__name__) if name is None else name
        self.reset_state()

    def __call__(self, *args: Any, **kwargs: Any) -> float:
        """Take in a batch as `update_state` does, and return `result`."""
        self.update_state(*args, **kwargs)
        return self.result()

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Take in a batch."""
        raise NotImplementedError

    def result(self) -> float:
        """Return the value over everything taken in; 0 if nothing was."""
        # On a device these are arrays there, and here is where they are waited for.
        return float(self._total / self._count) if self._count else 0.0

    def reset_state(self) -> None:
        """Forget everything taken in."""
        self._total: Any = 0.0
        self._count: Any = 0.0

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal metric."""
        return {"name": self.name}

    def _add(self, values: Array, sample_weight: ArrayLike | None) -> None:
        """Take in the values of a batch, its samples along the first axis."""
        if not values.size:
            return
        samples = len(values) if values.ndim else 1
        share = samples / values.size
        if sample_weight is None:
            self._total += _number(values.sum(dtype=np.float64)) * share
            self._count += samples
        else:
            values = values.astype(np.float64)
            weights = as_weights(sample_weight, values)
            self._total += total(values * weights) * share
            self._count += total(weights) * share

    def __repr__(self) -> str:
        return f"<metric {self.name}: {self.result():.6g}>"


class Mean(Metric):
    """The mean of values that are given as they are."""

    def update_state(self, values: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Take in a number, or an array with samples along its first axis."""
        numbers: Any = values if is_on_device(values) else np.asarray(values, np.float64)
        self._add(numbers, sample_weight)

    def update(self, value: Any, weight: float = 1.0) -> None:
        """Take in one number, perhaps an array without axes on a device, of `weight` samples."""
        self._total += value * weight
        self._count += weight


class _Compared(Metric):
    """A metric of y_true and y_pred; a subclass gives `_values`."""

    def update_state(
        self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> None:
        """Take in a batch.

        Parameters
        ----------
        y_true, y_pred : arrays of numbers
            As of the losses.
        sample_weight : array, optional
            A weight a sample, (batch,), or a value, (batch, ...).

        Raises
        ------
        ValueError, TypeError
            If the shapes do not fit, or an argument does not hold numbers; nothing is taken in
            then.
        """
        self._add(self._values(y_true, as_float(y_pred, "y_pred")), sample_weight)

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        """Return an array with samples along its first axis."""
        raise NotImplementedError


class MeanSquaredError(_Compared):
    """mean((y_pred - y_true)^2)."""

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        true, pred = match_shapes(y_true, y_pred)
        values: Array = np.square(pred - true)
        return values


class RootMeanSquaredError(MeanSquaredError):
    """The square root of the mean squared error over everything taken in.

    In a model that masks its outputs, it is the one metric that counts what is masked, as in Keras.
    """

    masked = False

    def result(self) -> float:
        """Return the value over everything taken in; 0 if nothing was."""
        return math.sqrt(super().result())


class MeanAbsoluteError(_Compared):
    """mean(|y_pred - y_true|)."""

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        true, pred = match_shapes(y_true, y_pred)
        values: Array = np.abs(pred - true)
        return values


class Accuracy(_Compared):
    """The share of y_pred that equals y_true.

    The name "accuracy" means `AccuracyByShapes`, as in Keras; this class is asked for as an object.
    """

    larger_is_better = True

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        true, pred = match_shapes(y_true, y_pred)
        values: Array = pred == true
        return values


class BinaryAccuracy(_Compared):
    """The share of y_pred that is on the same side of `threshold` as y_true, 0 or 1, says.

    Parameters
    ----------
    name : str, optional
    threshold : float
        Larger is 1.
    """

    larger_is_better = True

    def __init__(self, name: str | None = None, threshold: float = 0.5, **unsupported: Any) -> None:
        super().__init__(name, **unsupported)
        self.threshold = check_number(threshold, "threshold")

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        true, pred = match_shapes(y_true, y_pred)
        values: Array = (pred > self.threshold) == true
        return values

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal metric."""
        return {**super().get_config(), "threshold": self.threshold}


class CategoricalAccuracy(_Compared):
    """The share of samples whose largest y_pred is where the largest y_true is."""

    larger_is_better = True

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        true, pred = match_shapes(y_true, y_pred)
        values: Array = true.argmax(axis=-1) == pred.argmax(axis=-1)
        return values


class SparseCategoricalAccuracy(_Compared):
    """The share of samples whose largest y_pred is at the class number y_true."""

    larger_is_better = True

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        values: Array = as_labels(y_true, y_pred) == y_pred.argmax(axis=-1)
        return values


class AccuracyByShapes(_Compared):
    """Binary, categorical or sparse accuracy, by the shapes of the first batch, as in Keras.

    Binary if y_pred's last axis has size 1; else sparse if y_true has fewer axes or a last one of
    size 1; else categorical.
    """

    larger_is_better = True

    def __init__(self, name: str | None = "accuracy", **unsupported: Any) -> None:
        super().__init__(name, **unsupported)
        self._kind: _Compared | None = None

    def _values(self, y_true: ArrayLike, y_pred: Array) -> Array:
        kind = self._kind or _accuracy_for(as_numbers(y_true, "y_true").shape, y_pred.shape)
        values = kind._values(y_true, y_pred)
        self._kind = kind
        return values


def _number(value: Any) -> Any:
    """Return a NumPy number as a float; one on a device stays, so that nothing waits for it."""
    return value if is_on_device(value) else float(value)


def _accuracy_for(true: tuple[int, ...], pred: tuple[int, ...]) -> _Compared:
    if pred[-1] == 1:
        return BinaryAccuracy()
    if len(true) < len(pred) or true[-1] == 1:
        return SparseCategoricalAccuracy()
    return CategoricalAccuracy()


_KNOWN = by_name(
    Accuracy, AccuracyByShapes, BinaryAccuracy, CategoricalAccuracy, Mean, MeanAbsoluteError,
    MeanSquaredError, RootMeanSquaredError, SparseCategoricalAccuracy, mae=MeanAbsoluteError,
    mse=MeanSquaredError, rmse=RootMeanSquaredError,
)  # fmt: skip


def get(identifier: Any) -> Metric:
    """Return the metric for a name, a config or a `Metric`.

    A metric asked for by name is called by that name in logs, as in Keras.

    Raises
    ------
    ValueError, TypeError
        If there is no such metric.
    """
    if not isinstance(identifier, str):
        return resolve(identifier, Metric, _KNOWN, "metrics")
    if identifier.lower() in ("accuracy", "acc"):
        return AccuracyByShapes(identifier)
    metric = resolve(identifier, Metric, _KNOWN, "metrics")
    metric.name = identifier
    return metric
