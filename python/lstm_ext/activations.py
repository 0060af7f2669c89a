"""Activation functions with their gradients, by Keras's names and definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Activation", "get"]

Array = NDArray[Any]


class Activation:
    """A function y = f(z) and its vector-Jacobian product.

    Parameters
    ----------
    name : str
    function : callable
        z -> y, of the dtype of z.
    gradient : callable
        (z, y, dy) -> dz, given what the forward pass saw and made.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Array], Array],
        gradient: Callable[[Array, Array, Array], Array],
    ) -> None:
        self.name = name
        self._function = function
        self._gradient = gradient

    def __call__(self, z: Array) -> Array:
        return self._function(z)

    def grad(self, z: Array, y: Array, dy: Array) -> Array:
        """Return the gradient with respect to z, given y = f(z) and the gradient dy of y."""
        return self._gradient(z, y, dy)

    def __repr__(self) -> str:
        return f"<activation {self.name}>"


def sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z)) without overflow."""
    e = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1, e) / (1 + e))


def softmax(z: Array) -> Array:
    """Return exp(z) normalised to sum to one along the last axis."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def softplus(z: Array) -> Array:
    """Return log(1 + exp(z)) without overflow."""
    return np.asarray(np.logaddexp(z, z.dtype.type(0)))


def _softmax_gradient(z: Array, y: Array, dy: Array) -> Array:
    return np.asarray(y * (dy - (y * dy).sum(axis=-1, keepdims=True)))


def _elu(z: Array, alpha: float = 1.0) -> Array:
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0))).astype(z.dtype, copy=False)


# Klambauer et al. 2017, equation 14.
_SELU_SCALE = 1.0507009873554805
_SELU_ALPHA = 1.6732632423543772

_ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("linear", lambda z: z, lambda z, y, dy: dy),
        Activation("relu", lambda z: np.maximum(z, 0), lambda z, y, dy: dy * (z > 0)),
        Activation("tanh", np.tanh, lambda z, y, dy: dy * (1 - y * y)),
        Activation("sigmoid", sigmoid, lambda z, y, dy: dy * (y * (1 - y))),
        Activation(
            "hard_sigmoid",
            lambda z: np.clip(z / 6 + z.dtype.type(0.5), 0, 1),
            lambda z, y, dy: np.where(np.abs(z) < 3, dy / 6, 0).astype(dy.dtype, copy=False),
        ),
        Activation("softmax", softmax, _softmax_gradient),
        Activation("softplus", softplus, lambda z, y, dy: dy * sigmoid(z)),
        Activation(
            "softsign", lambda z: z / (1 + np.abs(z)), lambda z, y, dy: dy / (1 + np.abs(z)) ** 2
        ),
        Activation(
            "elu", _elu, lambda z, y, dy: dy * np.where(z > 0, 1, y + 1).astype(z.dtype, copy=False)
        ),
        Activation(
            "selu",
            lambda z: _elu(z, _SELU_ALPHA) * z.dtype.type(_SELU_SCALE),
            lambda z, y, dy: (
                dy * np.where(z > 0, _SELU_SCALE, y + _SELU_SCALE * _SELU_ALPHA).astype(z.dtype)
            ),
        ),
        Activation("exponential", np.exp, lambda z, y, dy: dy * y),
        Activation(
            "silu",
            lambda z: z * sigmoid(z),
            lambda z, y, dy: dy * (sigmoid(z) * (1 + z * (1 - sigmoid(z)))),
        ),
    )
}
_ACTIVATIONS["swish"] = _ACTIVATIONS["silu"]


def get(identifier: str | Activation | None, argument: str = "activation") -> Activation:
    """Return the activation of that name; None is linear.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `identifier` is no name, no `Activation` and not None. A bare function has no gradient.
    """
    if identifier is None:
        return _ACTIVATIONS["linear"]
    if isinstance(identifier, Activation):
        return identifier
    if not isinstance(identifier, str):
        raise TypeError(f"{argument}: got {identifier!r}, expected a name or an Activation")
    if identifier not in _ACTIVATIONS:
        known = ", ".join(sorted(_ACTIVATIONS))
        raise ValueError(f"{argument}: got {identifier!r}, expected one of {known}")
    return _ACTIVATIONS[identifier]
