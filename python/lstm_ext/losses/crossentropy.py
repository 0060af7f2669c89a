"""Losses for classes: cross-entropies of probabilities or of logits."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import activations
from .._arrays import check_same_place, is_on_device, namespace
from .._registry import check_number
from .base import Loss, as_numbers, match_shapes

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "SparseCategoricalCrossentropy",
    "as_labels",
]

Array = NDArray[Any]

# Keras's guard against log(0). Probabilities closer to 0 or 1 count as this close, with slope 0.
_EPSILON = 1e-7


class _Crossentropy(Loss):
    """What the cross-entropies with probabilities as y_true share."""

    _unsupported: ClassVar[dict[str, Any]] = {"axis": -1, "dtype": None}

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        *,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        **unsupported: Any,
    ) -> None:
        super().__init__(reduction, name, **unsupported)
        self.from_logits = bool(from_logits)
        self.label_smoothing = check_number(label_smoothing, "label_smoothing", 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal loss."""
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "label_smoothing": self.label_smoothing,
        }

    def _smoothed(self, y_true: Array, classes: int) -> Array:
        if not self.label_smoothing:
            return y_true
        return y_true * (1 - self.label_smoothing) + self.label_smoothing / classes


class BinaryCrossentropy(_Crossentropy):
    """The mean over the last axis of -y log(p) - (1 - y) log(1 - p), p = sigmoid(logits).

    Parameters
    ----------
    from_logits : bool
        Whether y_pred is what a sigmoid would make probabilities of.
    label_smoothing : float
        In [0, 1]: the share of y_true that is replaced by one half.
    reduction, name
        As of `Loss`.
    """

    def _values_and_slopes(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        y = self._smoothed(y_true, 2)
        if self.from_logits:
            # -log(sigmoid(z)) = max(-z, 0) + log(1 + exp(-|z|)), which cannot overflow.
            values = np.maximum(y_pred, 0) - y_pred * y + np.log1p(np.exp(-np.abs(y_pred)))
            slopes = activations.sigmoid(y_pred) - y
        else:
            p = np.clip(y_pred, _EPSILON, 1 - _EPSILON)
            values = -(y * np.log(p) + (1 - y) * np.log1p(-p))
            slopes = np.where(_is_clipped(y_pred), 0, (p - y) / (p * (1 - p)))
        return values.mean(axis=-1), slopes / max(y_pred.shape[-1], 1)


class CategoricalCrossentropy(_Crossentropy):
    """-sum(y log(p)) over the last axis; p = softmax(logits), or y_pred over its sum.

    Parameters
    ----------
    from_logits : bool
        Whether y_pred is what a softmax would make probabilities of.
    label_smoothing : float
        In [0, 1]: the share of y_true that is replaced by the even distribution.
    reduction, name
        As of `Loss`.
    """

    def _match(self, y_true: ArrayLike, y_pred: Array) -> tuple[Array, Array]:
        check_same_place(y_true, "y_true", y_pred, "y_pred")
        true = as_numbers(y_true, "y_true")
        samples = y_pred.shape[:-1]
        if y_pred.shape[-1] != 1 and true.shape in (samples, (*samples, 1)):
            raise ValueError(
                f"y_true: got shape {true.shape}, expected that of y_pred, {y_pred.shape}; class "
                "numbers go with sparse_categorical_crossentropy"
            )
        return match_shapes(true, y_pred)

    def _values_and_slopes(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        y = self._smoothed(y_true, y_pred.shape[-1])
        if self.from_logits:
            log_p, p = _log_softmax(y_pred)
            return -(y * log_p).sum(axis=-1), p * y.sum(axis=-1, keepdims=True) - y
        total = y_pred.sum(axis=-1, keepdims=True)
        share = y_pred / total
        p = np.clip(share, _EPSILON, 1 - _EPSILON)
        d_share = np.where(_is_clipped(share), 0, -y / p)
        slopes = (d_share - (d_share * share).sum(axis=-1, keepdims=True)) / total
        return -(y * np.log(p)).sum(axis=-1), slopes


class SparseCategoricalCrossentropy(Loss):
    """-log(p[y]) for class numbers y; p = softmax(logits), or y_pred over its sum.

    Parameters
    ----------
    from_logits : bool
        Whether y_pred is what a softmax would make probabilities of.
    reduction, name
        As of `Loss`.
    """

    takes_labels = True
    _unsupported: ClassVar[dict[str, Any]] = {"ignore_class": None, "axis": -1, "dtype": None}

    def __init__(
        self,
        from_logits: bool = False,
        *,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        **unsupported: Any,
    ) -> None:
        super().__init__(reduction, name, **unsupported)
        self.from_logits = bool(from_logits)
        self._dense = CategoricalCrossentropy(self.from_logits)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal loss."""
        return {**super().get_config(), "from_logits": self.from_logits}

    def _match(self, y_true: ArrayLike, y_pred: Array) -> tuple[Array, Array]:
        return as_labels(y_true, y_pred), y_pred

    def _values_and_slopes(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        if is_on_device(y_pred):
            return self._dense._values_and_slopes(_one_hot(y_true, y_pred), y_pred)
        at = y_true[..., None]
        if self.from_logits:
            log_p, slopes = _log_softmax(y_pred)
            values = -np.take_along_axis(log_p, at, axis=-1)
            d_label = np.take_along_axis(slopes, at, axis=-1) - 1
        else:
            # By -log(p[y] / sum(p)): 1 / sum(p) for every class, and -1 / p[y] for the label's.
            total = y_pred.sum(axis=-1, keepdims=True)
            share = np.take_along_axis(y_pred, at, axis=-1) / total
            p = np.clip(share, _EPSILON, 1 - _EPSILON)
            values = -np.log(p)
            unclipped = np.where(_is_clipped(share), 0, 1 / total)
            slopes = np.broadcast_to(unclipped, y_pred.shape).copy()
            d_label = unclipped * (1 - 1 / p)
        np.put_along_axis(slopes, at, d_label, axis=-1)
        return values[..., 0], slopes


def as_labels(y_true: ArrayLike, y_pred: Array) -> NDArray[np.int64]:
    """Return class numbers of the shape of y_pred without its last axis.

    Parameters
    ----------
    y_true : array of whole numbers
        (batch, ...), or with a last axis of size 1 more.
    y_pred : (batch, ..., classes) array

    Raises
    ------
    ValueError
        If the shape does not fit, or a number is not whole or no class.
    TypeError
        If y_true does not hold numbers.

    Notes
    -----
    On a device the numbers stay as they are: to look at them is to wait for it.
    """
    check_same_place(y_true, "y_true", y_pred, "y_pred")
    given = as_numbers(y_true, "y_true")
    if given.ndim == y_pred.ndim and given.shape[-1] == 1:
        given = given[..., 0]
    if given.shape != y_pred.shape[:-1]:
        raise ValueError(
            f"y_true: got shape {given.shape}, expected class numbers of shape "
            f"{y_pred.shape[:-1]} for y_pred {y_pred.shape}"
        )
    if is_on_device(given):
        return given
    classes = y_pred.shape[-1]
    # Compared before the conversion, which would wrap what is too large and cut what is not whole.
    if given.size and not (given.min() >= 0 and given.max() < classes):
        raise ValueError(
            f"y_true: got class numbers from {given.min()} to {given.max()}, "
            f"expected 0 to {classes - 1}"
        )
    labels = given.astype(np.int64)
    if given.dtype.kind == "f" and (labels != given).any():
        raise ValueError("y_true: got numbers that are not whole, expected class numbers")
    return labels


def _one_hot(labels: Array, y_pred: Array) -> Array:
    """Return ones where the class is, of the shape of y_pred; NaN in rows whose number is none."""
    hot: Array = (labels[..., None] == namespace(y_pred).arange(y_pred.shape[-1])).astype(
        y_pred.dtype
    )
    with np.errstate(invalid="ignore"):
        hot /= hot.sum(axis=-1, keepdims=True)
    return hot


def _is_clipped(p: Array) -> NDArray[np.bool_]:
    # Not the opposite comparison: NaN is not clipped, and so goes on into the slopes.
    clipped: NDArray[np.bool_] = (p < _EPSILON) | (p > 1 - _EPSILON)
    return clipped


def _log_softmax(z: Array) -> tuple[Array, Array]:
    """Return log(softmax(z)) and softmax(z) over the last axis."""
    shifted = z - (z.max(axis=-1, keepdims=True) if z.size else 0)
    p = np.exp(shifted)
    total = p.sum(axis=-1, keepdims=True)
    p /= total
    return shifted - np.log(total), p
