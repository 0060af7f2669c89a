"""What every loss is: one value a sample, weighted and reduced to a number with its gradient."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays import check_same_place, is_on_device, total
from .._registry import Configurable, check_unsupported, snake_case

__all__ = ["Loss", "apply_mask", "as_float", "as_numbers", "as_weights", "match_shapes"]

Array = NDArray[Any]

_REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none", None)


class Loss(Configurable):
    """A function of (y_true, y_pred) with one value a sample, and its reduction to a number.

    A subclass gives `_values_and_slopes`, and `_match` if its y_true is not shaped like y_pred.
    The last axis of y_pred holds the outputs or classes of a sample; a value is over them.

    Parameters
    ----------
    reduction : str or None
        "sum_over_batch_size", the same as "mean": the mean over all values. "sum".
        "mean_with_sample_weight": the sum over that of the weights, each counted for every value
        that it weighs. "none" or None: the values themselves, which have no gradient here.
    name : str, optional
        By default the class's name in snake case.

    Raises
    ------
    ValueError
        If an argument is unknown or out of range.
    NotImplementedError
        If an argument of Keras's that is not there yet differs from Keras's default.
    """

    #: Whether y_true holds class numbers, which are not converted to the dtype of y_pred.
    takes_labels = False
    #: Arguments of Keras's that are not there yet, with Keras's defaults.
    _unsupported: ClassVar[dict[str, Any]] = {"dtype": None}

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        **unsupported: Any,
    ) -> None:
        check_unsupported(type(self).__name__, unsupported, self._unsupported)
        if reduction not in _REDUCTIONS:
            expected = ", ".join(map(repr, _REDUCTIONS))
            raise ValueError(f"reduction: got {reduction!r}, expected one of {expected}")
        self.reduction = reduction
        self.name = snake_case(type(self).__name__) if name is None else name

    def __call__(
        self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Any:
        """Return the loss: a float, or with reduction "none" one value a sample.

        Arrays of CuPy are taken too, all of them or none. The loss is then one there, without axes,
        and nothing waits for it.

        Parameters
        ----------
        y_true : array of numbers
            Of the shape of y_pred, or with one of the two lacking a last axis of size 1. It is
            converted to the dtype of y_pred.
        y_pred : array
            (batch, ..., outputs). Numbers of another kind become float32.
        sample_weight : array, optional
            A weight a sample, (batch,), or a value, (batch, ...); a size may be 1.

        Raises
        ------
        ValueError, TypeError
            If the shapes do not fit, or an argument does not hold numbers.
        """
        y_true, pred = self._match(y_true, as_float(y_pred, "y_pred"))
        values, _ = self._values_and_slopes(y_true, pred)
        weights = None if sample_weight is None else as_weights(sample_weight, values)
        if weights is not None:
            values = values * weights
        if self.reduction in ("none", None):
            return values
        return total(values) * self._scale(values, weights)

    def value_and_grad(
        self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[Any, Array]:
        """Return the loss, as a call does, and its gradient with respect to `y_pred`, of its shape.

        Raises
        ------
        ValueError, TypeError
            As a call, and if the reduction is "none".
        """
        if self.reduction in ("none", None):
            raise ValueError("reduction: got 'none', expected one that gives a single value")
        given = as_float(y_pred, "y_pred")
        y_true, pred = self._match(y_true, given)
        values, slopes = self._values_and_slopes(y_true, pred)
        if sample_weight is None:
            scale = self._scale(values, None)
            slopes *= scale
        else:
            weights = as_weights(sample_weight, values)
            scale = self._scale(values, weights)
            values = values * weights
            slopes *= (weights * scale)[..., None]
        return total(values) * scale, slopes.reshape(given.shape)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal loss."""
        return {"reduction": self.reduction, "name": self.name}

    def _scale(self, values: Array, weights: Array | None) -> Any:
        """Return what the sum of the values is multiplied by; 0 in place of 1 / 0."""
        if self.reduction == "sum":
            return 1.0
        if self.reduction == "mean_with_sample_weight" and weights is not None:
            divisor = total(weights)
            if is_on_device(weights):
                return np.where(divisor != 0, 1 / divisor, 0)
        else:
            divisor = float(values.size)
        return 1 / divisor if divisor else 0.0

    def _match(self, y_true: ArrayLike, y_pred: Array) -> tuple[Array, Array]:
        """Return both, brought into the shapes that `_values_and_slopes` takes."""
        return match_shapes(y_true, y_pred)

    def _values_and_slopes(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return a value a sample, and a new array: the derivative of each by its own y_pred."""
        raise NotImplementedError


def as_float(value: ArrayLike, name: str) -> Array:
    """Return an array of float32 or float64; other numbers become float32."""
    if type(value) is np.ndarray and value.dtype.kind == "f" and value.ndim:
        return value
    array = as_numbers(value, name)
    if array.ndim == 0:
        raise ValueError(f"{name}: got a single number, expected an array of samples")
    return array if array.dtype.kind == "f" else array.astype(np.float32)


def as_numbers(value: ArrayLike, name: str) -> Array:
    """Return an array of real numbers, or raise a TypeError or ValueError that names it."""
    try:
        array: Array = value if is_on_device(value) else np.asarray(value)  # type: ignore[assignment]
    except ValueError as error:
        raise ValueError(f"{name}: expected an array of numbers, got {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: got an array of {array.dtype}, expected real numbers")
    return array


def match_shapes(y_true: ArrayLike, y_pred: Array) -> tuple[Array, Array]:
    """Return y_true in the dtype of y_pred, and both in one shape.

    If one lacks a last axis of size 1, the other loses it, or, having no axis to lose, the first
    gains one: (N,) with (N, 1) makes (N, 1), but (N, T) with (N, T, 1) makes (N, T), as in Keras.

    Raises
    ------
    ValueError
        If the shapes differ otherwise: nothing is broadcast.
    TypeError
        If y_true does not hold numbers.
    """
    if type(y_true) is not type(y_pred):
        check_same_place(y_true, "y_true", y_pred, "y_pred")
    true = y_true if type(y_true) is np.ndarray else as_numbers(y_true, "y_true")
    if true.dtype != y_pred.dtype:
        true = as_numbers(true, "y_true").astype(y_pred.dtype)
    if true.shape == y_pred.shape:
        return true, y_pred
    if (*true.shape, 1) == y_pred.shape:
        return (true[:, None], y_pred) if true.ndim == 1 else (true, y_pred[..., 0])
    if true.shape == (*y_pred.shape, 1):
        return (true, y_pred[:, None]) if y_pred.ndim == 1 else (true[..., 0], y_pred)
    raise ValueError(f"y_true: got shape {true.shape}, expected that of y_pred, {y_pred.shape}")


def as_weights(sample_weight: ArrayLike, values: Array) -> Array:
    """Return the weight of every value."""
    check_same_place(sample_weight, "sample_weight", values, "y_pred")
    weights = as_numbers(sample_weight, "sample_weight").astype(values.dtype)
    if weights.ndim == values.ndim + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    shape = weights.shape + (1,) * (values.ndim - weights.ndim)
    if len(shape) != values.ndim or any(
        own not in (1, size) for own, size in zip(shape, values.shape, strict=True)
    ):
        raise ValueError(
            f"sample_weight: got shape {weights.shape}, expected {values.shape} or its first axes"
        )
    return np.broadcast_to(weights.reshape(shape), values.shape)


def apply_mask(sample_weight: ArrayLike | None, mask: Array, reduction: str | None) -> Array:
    """Return weights that leave out what is masked, as Keras's losses do.

    Parameters
    ----------
    sample_weight : array, optional
        A weight a sample, (B,), or a value, (B, ...).
    mask : (B, ...) array of bool
        Of the outputs.
    reduction : str or None
        Under one that divides by the number of values, those that count are weighted so that it
        becomes their own number.

    Raises
    ------
    ValueError
        If the shapes of the weights and of the mask do not go together.
    """
    weights = mask.astype(np.float64)
    if reduction in ("sum_over_batch_size", "mean"):
        # Without a number that the host would have to wait for; nothing counts: zeros.
        weights = weights * (mask.size / np.maximum(weights.sum(), 1))
    if sample_weight is None:
        return weights
    given = as_numbers(sample_weight, "sample_weight")
    rank = max(given.ndim, weights.ndim)
    given = given.reshape(given.shape + (1,) * (rank - given.ndim))
    weights = weights.reshape(weights.shape + (1,) * (rank - weights.ndim))
    try:
        product: Array = given * weights
    except ValueError:
        raise ValueError(
            f"sample_weight: got shape {np.shape(sample_weight)}, expected {mask.shape} as of the "
            "mask of the outputs, or its first axes"
        ) from None
    return product
