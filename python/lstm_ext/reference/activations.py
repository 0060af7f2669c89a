"""Activations and their derivatives in any float dtype, by Keras's and ONNX's names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Activation", "get"]

Array = NDArray[Any]


class Activation(NamedTuple):
    """y = f(z), and back(d, z, y): the gradient of z given d, that of y.

    At a kink the slope is that from below.
    """

    function: Callable[[Array], Array]
    back: Callable[[Array, Array, Array], Array]

    def __call__(self, z: Array) -> Array:
        """Return f(z)."""
        return self.function(z)


def _sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z)), by the exponential that cannot overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


def _normal_density(z: Array) -> Array:
    density: Array = np.exp(-z * z / 2) / np.sqrt(2 * _pi(z.dtype))
    return density


def _pi(dtype: np.dtype[Any]) -> Any:
    return 4 * np.arctan(dtype.type(1))


def _normal_distribution(z: Array) -> Array:
    """Return the normal distribution function, which NumPy lacks.

    Near zero by the series 1/2 + density * (z + z**3 / 3 + z**5 / (3 * 5) + ...); beyond 2 by the
    continued fraction of what is left, density / (z + 1 / (z + 2 / (z + ...))), which loses no
    digits (Abramowitz and Stegun 1964, 26.2.11 and 26.2.14).
    """
    near = np.clip(z, -2, 2)
    term = series = near
    for n in range(3, 99, 2):
        term = term * near * near / n
        series = series + term
    size = np.maximum(np.abs(z), 2)
    fraction = size
    for n in range(120, 0, -1):
        fraction = size + n / fraction
    tail = _normal_density(z) / fraction
    far = np.where(z > 0, 1 - tail, tail)
    return np.where(np.abs(z) < 2, 0.5 + _normal_density(near) * series, far)


def _elu(alpha: float) -> Activation:
    return Activation(
        lambda z: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0))),
        lambda d, z, y: np.where(z > 0, d, d * alpha * np.exp(np.minimum(z, 0))),
    )


def _selu() -> Activation:
    # Klambauer et al. 2017, equation 14.
    scale, elu = 1.0507009873554805, _elu(1.6732632423543772)
    return Activation(lambda z: scale * elu(z), lambda d, z, y: elu.back(scale * d, z, y))


def _affine(alpha: float, beta: float) -> Activation:
    return Activation(lambda z: alpha * z + beta, lambda d, z, y: alpha * d)


def _hard_sigmoid(alpha: float, beta: float) -> Activation:
    return Activation(
        lambda z: np.clip(alpha * z + beta, 0, 1),
        lambda d, z, y: np.where((y > 0) & (y < 1), alpha * d, np.zeros_like(d)),
    )


def _leaky_relu(alpha: float) -> Activation:
    return Activation(
        lambda z: np.where(z > 0, z, alpha * z), lambda d, z, y: np.where(z > 0, d, alpha * d)
    )


def _thresholded_relu(alpha: float) -> Activation:
    return Activation(
        lambda z: np.where(z > alpha, z, np.zeros_like(z)),
        lambda d, z, y: np.where(z > alpha, d, np.zeros_like(d)),
    )


def _scaled_tanh(alpha: float, beta: float) -> Activation:
    return Activation(
        lambda z: alpha * np.tanh(beta * z),
        lambda d, z, y: d * alpha * beta * (1 - np.tanh(beta * z) ** 2),
    )


_SILU = Activation(
    lambda z: z * _sigmoid(z), lambda d, z, y: d * _sigmoid(z) * (1 + z * (1 - _sigmoid(z)))
)
_PLAIN = {
    "linear": Activation(lambda z: z, lambda d, z, y: d),
    "relu": Activation(
        lambda z: np.maximum(z, 0), lambda d, z, y: np.where(z > 0, d, np.zeros_like(d))
    ),
    "tanh": Activation(np.tanh, lambda d, z, y: d * (1 - y**2)),
    "sigmoid": Activation(_sigmoid, lambda d, z, y: d * y * (1 - y)),
    "softplus": Activation(
        lambda z: np.logaddexp(z, z.dtype.type(0)), lambda d, z, y: d * _sigmoid(z)
    ),
    "softsign": Activation(lambda z: z / (1 + np.abs(z)), lambda d, z, y: d / (1 + np.abs(z)) ** 2),
    "selu": _selu(),
    "gelu": Activation(
        lambda z: z * _normal_distribution(z),
        lambda d, z, y: d * (_normal_distribution(z) + z * _normal_density(z)),
    ),
    "silu": _SILU,
    "swish": _SILU,
    "exponential": Activation(np.exp, lambda d, z, y: d * y),
}
# Each with the defaults of alpha and, where it has one, of beta.
_SHAPED: dict[str, tuple[Callable[..., Activation], tuple[float, ...]]] = {
    "affine": (_affine, (1.0, 0.0)),
    "elu": (_elu, (1.0,)),
    "hard_sigmoid": (_hard_sigmoid, (1 / 6, 0.5)),
    "leaky_relu": (_leaky_relu, (0.2,)),
    "scaled_tanh": (_scaled_tanh, (1.0, 1.0)),
    "thresholded_relu": (_thresholded_relu, (1.0,)),
}


def get(identifier: Any, argument: str) -> Activation:
    """Return the activation of a name, ``(name, alpha)`` or ``(name, alpha, beta)``.

    Parameters
    ----------
    identifier : str or tuple
    argument : str
        What the error message calls it.

    Raises
    ------
    ValueError
        If the name is unknown or the function has no such alpha or beta.
    TypeError
        If `identifier` is none of these.
    """
    name, *shape = identifier if isinstance(identifier, tuple) and identifier else (identifier,)
    if not isinstance(name, str) or not all(isinstance(n, (int, float)) for n in shape):
        raise TypeError(f"{argument}: got {identifier!r}, expected a name or (name, alpha, beta)")
    if name not in _PLAIN and name not in _SHAPED:
        known = ", ".join(sorted([*_PLAIN, *_SHAPED]))
        raise ValueError(f"{argument}: got {name!r}, expected one of {known}")
    make, defaults = _SHAPED.get(name, (lambda: _PLAIN[name], ()))
    if len(shape) > len(defaults) or not all(map(math.isfinite, shape)):
        raise ValueError(
            f"{argument}: got {identifier!r}, expected at most {len(defaults)} finite numbers "
            f"after {name!r}"
        )
    return make(*shape, *defaults[len(shape) :])
