"""Losses with their gradients, by Keras's names, defaults and reductions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._registry import Configurable, resolve, snake_case
from .activations import sigmoid, softmax

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "get",
    "match_shapes",
]

Array = NDArray[Any]

# Keras's guard against log(0), on probabilities only.
EPSILON = 1e-7


def match_shapes(y_true: ArrayLike, y_pred: Array) -> Array:
    """Return y_true in the dtype of y_pred and, if they differ by a last axis of one, its rank.

    Raises
    ------
    ValueError
        If the shapes differ otherwise: nothing is broadcast.
    """
    if type(y_true) is not np.ndarray or y_true.dtype != y_pred.dtype:
        y_true = np.asarray(y_true).astype(y_pred.dtype)
    if y_true.shape == y_pred.shape:
        return y_true
    if y_true.shape + (1,) == y_pred.shape:
        return y_true[..., None]
    if y_true.shape == y_pred.shape + (1,):
        return y_true[..., 0]
    raise ValueError(f"y_true: got shape {y_true.shape}, expected that of y_pred, {y_pred.shape}")


class Loss(Configurable):
    """A function of (y_true, y_pred), one value a sample, and its reduction.

    Parameters
    ----------
    reduction : str or None
        "sum_over_batch_size" (the mean over all samples), "mean", "sum", or "none".
    name : str, optional
    """

    #: Whether y_true holds class numbers, which are not converted to the dtype of y_pred.
    takes_labels = False

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str | None = None
    ) -> None:
        reductions = ("sum_over_batch_size", "mean", "sum", "none", None)
        if reduction not in reductions:
            raise ValueError(f"reduction: got {reduction!r}, expected one of {reductions}")
        self.reduction = reduction
        self.name = snake_case(type(self).__name__) if name is None else name

    def __call__(
        self, y_true: ArrayLike, y_pred: Array, sample_weight: ArrayLike | None = None
    ) -> Any:
        """Return the loss: a float, or with reduction "none" one value a sample."""
        values, _ = self._values_and_slopes(self._match(y_true, y_pred), y_pred, slopes=False)
        weights = _sample_weights(sample_weight, values)
        if weights is not None:
            values = values * weights
        if self.reduction in ("none", None):
            return values
        return float(values.sum()) * self._scale(values)

    def value_and_grad(
        self, y_true: ArrayLike, y_pred: Array, sample_weight: ArrayLike | None = None
    ) -> tuple[float, Array]:
        """Return the loss and its gradient with respect to `y_pred`.

        Raises
        ------
        ValueError
            If the shapes do not fit, or the reduction is "none".
        """
        if self.reduction in ("none", None):
            raise ValueError("reduction: got 'none', expected one that gives a single value")
        values, slopes = self._values_and_slopes(self._match(y_true, y_pred), y_pred, slopes=True)
        weights = _sample_weights(sample_weight, values)
        scale = self._scale(values)
        if weights is not None:
            values = values * weights
            slopes = slopes * weights[..., None]
        slopes *= y_pred.dtype.type(scale)
        return float(values.sum()) * scale, slopes

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal loss."""
        return {"reduction": self.reduction, "name": self.name}

    def _scale(self, values: Array) -> float:
        return 1.0 if self.reduction == "sum" else 1.0 / max(values.size, 1)

    def _match(self, y_true: ArrayLike, y_pred: Array) -> Array:
        return match_shapes(y_true, y_pred)

    def _values_and_slopes(self, y_true: Array, y_pred: Array, slopes: bool) -> tuple[Array, Array]:
        """Return a value a sample, and if `slopes` the derivative of each by its own y_pred."""
        raise NotImplementedError


def _sample_weights(sample_weight: ArrayLike | None, values: Array) -> Array | None:
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, values.dtype)
    if weights.ndim == values.ndim + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    if weights.shape != values.shape[: weights.ndim]:
        raise ValueError(f"sample_weight: got shape {weights.shape}, expected {values.shape}")
    return np.broadcast_to(
        weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim)), values.shape
    )


class MeanSquaredError(Loss):
    """mean((y_true - y_pred)^2) over the last axis."""

    def _values_and_slopes(self, y_true: Array, y_pred: Array, slopes: bool) -> tuple[Array, Array]:
        error = y_pred - y_true
        width = y_pred.shape[-1]
        values = np.einsum("...i,...i->...", error, error)
        if width == 1:
            return values, error + error
        return values / width, error * y_pred.dtype.type(2 / width)


class MeanAbsoluteError(Loss):
    """mean(|y_true - y_pred|) over the last axis."""

    def _values_and_slopes(self, y_true: Array, y_pred: Array, slopes: bool) -> tuple[Array, Array]:
        error = y_pred - y_true
        return np.abs(error).mean(axis=-1), np.sign(error) / y_pred.dtype.type(y_pred.shape[-1])


class Huber(Loss):
    """Half the squared error up to `delta`, linear beyond (Huber 1964)."""

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "huber_loss",
    ) -> None:
        super().__init__(reduction, name)
        if not delta > 0:
            raise ValueError(f"delta: got {delta}, expected a positive number")
        self.delta = delta

    def _values_and_slopes(self, y_true: Array, y_pred: Array, slopes: bool) -> tuple[Array, Array]:
        error = y_pred - y_true
        inside = np.clip(error, -self.delta, self.delta)
        # delta * |e| - delta^2 / 2 beyond delta, and e^2 / 2 within, in one expression.
        values = (inside * (error - inside / 2)).mean(axis=-1)
        return values, inside / y_pred.dtype.type(y_pred.shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal loss."""
        return {**super().get_config(), "delta": self.delta}


class _Crossentropy(Loss):
    """What the cross-entropies share."""

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(reduction, name)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing: got {label_smoothing}, expected 0 to 1")
        self.from_logits = bool(from_logits)
        self.label_smoothing = label_smoothing

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal loss."""
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "label_smoothing": self.label_smoothing,
        }


class BinaryCrossentropy(_Crossentropy):
    """-y log(p) - (1 - y) log(1 - p), mean over the last axis; p = sigmoid(logits)."""

    def _values_and_slopes(self, y_true: Array, y_pred: Array, slopes: bool) -> tuple[Array, Array]:
        y = y_true * (1 - self.label_smoothing) + self.label_smoothing / 2
        if self.from_logits:
            values = np.maximum(y_pred, 0) - y_pred * y + np.log1p(np.exp(-np.abs(y_pred)))
            slope = sigmoid(y_pred) - y
        else:
            p = np.clip(y_pred, EPSILON, 1 - EPSILON)
            values = -(y * np.log(p) + (1 - y) * np.log1p(-p))
            slope = np.where(p == y_pred, (p - y) / (p * (1 - p)), 0)
        return values.mean(axis=-1), (slope / y_pred.shape[-1]).astype(y_pred.dtype, copy=False)


def _class_crossentropy(y: Array, y_pred: Array, from_logits: bool) -> tuple[Array, Array]:
    """Return -sum(y log p) over the last axis and its slopes, y being a distribution."""
    if from_logits:
        shifted = y_pred - y_pred.max(axis=-1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        slopes = softmax(y_pred) * y.sum(axis=-1, keepdims=True) - y
    else:
        total = y_pred.sum(axis=-1, keepdims=True)
        share = y_pred / total
        p = np.clip(share, EPSILON, 1 - EPSILON)
        log_p = np.log(p)
        d_share = np.where(p == share, -y / p, 0)
        slopes = (d_share - (d_share * share).sum(axis=-1, keepdims=True)) / total
    return -(y * log_p).sum(axis=-1), slopes.astype(y_pred.dtype, copy=False)


class CategoricalCrossentropy(_Crossentropy):
    """-sum(y log(p)) over classes in the last axis; p = softmax(logits), or y_pred over its sum."""

    def _values_and_slopes(self, y_true: Array, y_pred: Array, slopes: bool) -> tuple[Array, Array]:
        y = y_true * (1 - self.label_smoothing) + self.label_smoothing / y_pred.shape[-1]
        return _class_crossentropy(y, y_pred, self.from_logits)


class SparseCategoricalCrossentropy(Loss):
    """-log(p[y]) for class numbers y; p as in `CategoricalCrossentropy`."""

    takes_labels = True

    def __init__(
        self,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(reduction, name)
        self.from_logits = bool(from_logits)

    def _match(self, y_true: ArrayLike, y_pred: Array) -> Array:
        labels = np.asarray(y_true)
        if labels.ndim == y_pred.ndim and labels.shape[-1] == 1:
            labels = labels[..., 0]
        if labels.shape != y_pred.shape[:-1]:
            raise ValueError(
                f"y_true: got shape {labels.shape}, expected class numbers of shape "
                f"{y_pred.shape[:-1]} for y_pred {y_pred.shape}"
            )
        classes = y_pred.shape[-1]
        numbers = labels.astype(np.int64)
        if numbers.size and not (numbers.min() >= 0 and numbers.max() < classes):
            raise ValueError(
                f"y_true: got class numbers from {numbers.min()} to {numbers.max()}, "
                f"expected 0 to {classes - 1}"
            )
        return numbers

    def _values_and_slopes(self, y_true: Array, y_pred: Array, slopes: bool) -> tuple[Array, Array]:
        one_hot = np.zeros(y_pred.shape, y_pred.dtype)
        np.put_along_axis(one_hot, y_true[..., None], 1, axis=-1)
        return _class_crossentropy(one_hot, y_pred, self.from_logits)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal loss."""
        return {**super().get_config(), "from_logits": self.from_logits}


_CLASSES: tuple[type[Loss], ...] = (
    BinaryCrossentropy, CategoricalCrossentropy, Huber, MeanAbsoluteError, MeanSquaredError,
    SparseCategoricalCrossentropy,
)  # fmt: skip
_KNOWN: dict[str, type[Loss]] = {
    **{name: c for c in _CLASSES for name in (c.__name__, snake_case(c.__name__))},
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "bce": BinaryCrossentropy,
    "huber_loss": Huber,
}


def get(identifier: Any) -> Loss:
    """Return the loss for a name, a config or a `Loss`."""
    return resolve(identifier, Loss, _KNOWN, "loss")
