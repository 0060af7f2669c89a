"""Activation functions with their gradients, by Keras's names and definitions.

Each is an `Activation`: ``relu(z)`` computes it, ``relu.grad(z, y, dy)`` carries a gradient back.
float32 and float64 stay what they are; integers and other numbers become float32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _cpu
from ._arrays import is_on_device, namespace

__all__ = [
    "Activation",
    "elu",
    "exponential",
    "gelu",
    "get",
    "hard_sigmoid",
    "leaky_relu",
    "linear",
    "relu",
    "selu",
    "serialize",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "swish",
    "tanh",
]

Array = NDArray[Any]

_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)

# NaN and infinity flow through as the formulas say; only the warnings are left out.
_quiet = np.errstate(over="ignore", invalid="ignore")


class Activation:
    """A function y = f(z) and its vector-Jacobian product.

    Parameters
    ----------
    name : str
        Keras's name, by which `get` finds it and a file remembers it.
    function : callable
        z -> y, of the shape and dtype of z.
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

    def __call__(self, z: ArrayLike) -> Array:
        """Return f(z); of the identity, z itself."""
        if type(z) is not np.ndarray or (z.dtype is not _FLOAT32 and z.dtype is not _FLOAT64):
            z = _as_float(z)
        return self._function(z)

    def grad(self, z: Array, y: Array, dy: Array) -> Array:
        """Return the gradient with respect to z, given y = f(z) and the gradient dy of y."""
        return self._gradient(z, y, dy)

    def __repr__(self) -> str:
        return f"<activation {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if _ACTIVATIONS.get(self.name) is self:
            return get, (self.name,)
        return Activation, (self.name, self._function, self._gradient)


def _as_float(z: ArrayLike) -> Array:
    array: Array = z if is_on_device(z) else np.asarray(z)  # type: ignore[assignment]
    if array.dtype.kind not in "fiub":
        raise TypeError(f"z: got an array of {array.dtype}, expected real numbers")
    wide = array.dtype.kind == "f" and array.dtype.itemsize >= 8
    return array.astype(np.float64 if wide else np.float32, copy=False)


def _native(name: str, z: Array) -> Array:
    """Return the cell's own sigmoid or tanh: the same bits with every instruction set with FMA."""
    if type(z) is not np.ndarray:
        return _on_device(name, z)
    y = np.empty(z.shape, z.dtype)
    _cpu.activate(name, (z if z.flags.aligned else z.copy()).ravel(), y.ravel())
    return y


def _on_device(name: str, z: Array) -> Array:
    if name == "tanh":
        y: Array = np.tanh(z)
    else:
        small = np.exp(-np.abs(z))  # which cannot overflow
        y = np.where(z >= 0, 1, small) / (1 + small)
    return y


def _sigmoid(z: Array) -> Array:
    return _native("sigmoid", z)


@_quiet
def _softmax(z: Array) -> Array:
    if z.size == 0:
        return z.copy()
    y: Array = np.exp(z - z.max(axis=-1, keepdims=True))
    y /= y.sum(axis=-1, keepdims=True)
    return y


@_quiet
def _softmax_grad(z: Array, y: Array, dy: Array) -> Array:
    dz: Array = y * (dy - (y * dy).sum(axis=-1, keepdims=True))
    return dz


@_quiet
def _softplus(z: Array) -> Array:
    y: Array = np.logaddexp(z, z.dtype.type(0))
    return y


@_quiet
def _softsign(z: Array) -> Array:
    y: Array = z / (1 + np.abs(z))
    return y


@_quiet
def _softsign_grad(z: Array, y: Array, dy: Array) -> Array:
    dz: Array = dy / np.square(1 + np.abs(z))
    return dz


# Clevert, Unterthiner and Hochreiter 2016.
def _elu(z: Array, alpha: float = 1.0) -> Array:
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))


# Klambauer et al. 2017, equation 14.
_SELU_SCALE = 1.0507009873554805
_SELU_ALPHA = 1.6732632423543772


def _selu(z: Array) -> Array:
    return _SELU_SCALE * _elu(z, _SELU_ALPHA)


@_quiet
def _silu(z: Array) -> Array:
    return z * _sigmoid(z)


@_quiet
def _silu_grad(z: Array, y: Array, dy: Array) -> Array:
    # sigmoid(-z) is 1 - sigmoid(z) without its cancellation.
    dz: Array = dy * (_sigmoid(z) * (1 + z * _sigmoid(-z)))
    return dz


# The normal distribution function by its Taylor series about the nearest of many points, since
# NumPy has no erf. Half a step to the sixth power, over 6!, is below the rounding of float64; past
# the last point the function is 0 or 1 to within it.
_NORMAL_STEP = 1 / 64
_NORMAL_LIMIT = 9.0


@functools.cache
def _normal_table(dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return the points and the normal distribution function there."""
    count = round(_NORMAL_LIMIT / _NORMAL_STEP)
    points = np.arange(-count, count + 1) * _NORMAL_STEP
    values = np.array([0.5 * math.erfc(-p / math.sqrt(2)) for p in points])
    values[0] = 0  # so that z times it vanishes for every z below
    return points.astype(dtype), values.astype(dtype)


def _normal_density(z: Array) -> Array:
    density: Array = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return density


def _normal_distribution(z: Array) -> Array:
    points, values = (namespace(z).asarray(part) for part in _normal_table(z.dtype))
    inside = np.clip(np.nan_to_num(z), -_NORMAL_LIMIT, _NORMAL_LIMIT)
    nearest = np.rint((inside + _NORMAL_LIMIT) * (1 / _NORMAL_STEP)).astype(np.intp)
    p = points[nearest]
    d = inside - p
    p2 = p * p
    # The derivatives of the density are Hermite polynomials of p times the density.
    series = (p2 * (p2 - 6) + 3) / 120 * d - p * (p2 - 3) / 24
    series = ((series * d + (p2 - 1) / 6) * d - p / 2) * d + 1
    distribution: Array = values[nearest] + _normal_density(p) * d * series
    return distribution


# Hendrycks and Gimpel 2016; Keras's default, not its approximation by tanh.
@_quiet
def _gelu(z: Array) -> Array:
    return z * _normal_distribution(z)


@_quiet
def _gelu_grad(z: Array, y: Array, dy: Array) -> Array:
    dz: Array = dy * (_normal_distribution(z) + z * _normal_density(z))
    return dz


linear = Activation("linear", lambda z: z, lambda z, y, dy: dy)
relu = Activation("relu", lambda z: np.maximum(z, 0), lambda z, y, dy: np.where(z > 0, dy, 0))
leaky_relu = Activation(
    "leaky_relu",
    lambda z: np.where(z > 0, z, 0.2 * z),
    lambda z, y, dy: np.where(z > 0, dy, 0.2 * dy),
)
tanh = Activation("tanh", lambda z: _native("tanh", z), lambda z, y, dy: dy * (1 - y * y))
sigmoid = Activation("sigmoid", _sigmoid, lambda z, y, dy: dy * (y * (1 - y)))
hard_sigmoid = Activation(
    "hard_sigmoid",
    lambda z: np.clip(z / 6 + 0.5, 0, 1),
    lambda z, y, dy: np.where(np.abs(z) < 3, dy / 6, 0),
)
softmax = Activation("softmax", _softmax, _softmax_grad)
softplus = Activation("softplus", _softplus, lambda z, y, dy: dy * _sigmoid(z))
softsign = Activation("softsign", _softsign, _softsign_grad)
elu = Activation("elu", _elu, lambda z, y, dy: np.where(z > 0, dy, dy * (y + 1)))
selu = Activation(
    "selu",
    _selu,
    lambda z, y, dy: dy * np.where(z > 0, _SELU_SCALE, y + _SELU_SCALE * _SELU_ALPHA),
)
gelu = Activation("gelu", _gelu, _gelu_grad)
silu = Activation("silu", _silu, _silu_grad)
swish = silu
exponential = Activation("exponential", _quiet(np.exp), lambda z, y, dy: dy * y)

_ACTIVATIONS = {
    activation.name: activation
    for activation in (
        linear, relu, leaky_relu, tanh, sigmoid, hard_sigmoid, softmax, softplus, softsign, elu,
        selu, gelu, silu, exponential,
    )
}  # fmt: skip
_ACTIVATIONS["swish"] = silu


def get(identifier: Any, argument: str = "activation") -> Activation:
    """Return the activation of that name; None is linear.

    Parameters
    ----------
    identifier : str, Activation, dict or None
        A dict as Keras writes one: ``{"class_name": "function", "config": name}``.
    argument : str
        What the error message calls it.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `identifier` is none of these. A bare function has no gradient; wrap it in `Activation`.
    """
    if identifier is None:
        return linear
    if isinstance(identifier, Activation):
        return identifier
    if isinstance(identifier, dict) and isinstance(identifier.get("config"), str):
        identifier = identifier["config"]
    if not isinstance(identifier, str):
        raise TypeError(f"{argument}: got {identifier!r}, expected a name or an Activation")
    if identifier not in _ACTIVATIONS:
        known = ", ".join(sorted(_ACTIVATIONS))
        raise ValueError(f"{argument}: got {identifier!r}, expected one of {known}")
    return _ACTIVATIONS[identifier]


def serialize(activation: Activation) -> str:
    """Return the name by which `get` finds the activation.

    Raises
    ------
    ValueError
        If `get` would not: it is an `Activation` of one's own.
    """
    if _ACTIVATIONS.get(activation.name) is not activation:
        raise ValueError(f"activation: {activation!r} is not one of lstm_ext and has no name here")
    return activation.name
