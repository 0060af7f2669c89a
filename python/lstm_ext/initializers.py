"""Initial weights, by Keras's names, defaults and distributions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import random
from ._registry import resolve, snake_case

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "Seeded",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "get",
]

Array = NDArray[Any]
Shape = tuple[int, ...]


class Initializer:
    """Makes an array of a shape: ``initializer(shape, dtype)``.

    One with a seed makes the same values in every call; without, values come from the generator
    that `lstm_ext.random.set_random_seed` sets.
    """

    def __init__(self) -> None:
        self._config: dict[str, Any] = {}

    def __call__(self, shape: Shape, dtype: DTypeLike = "float32") -> Array:
        """Return an array of `shape` and `dtype`."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal initializer."""
        return dict(self._config)


class Constant(Initializer):
    """Every element is `value`."""

    def __init__(self, value: float = 0.0) -> None:
        self._config = {"value": value}
        self.value = value

    def __call__(self, shape: Shape, dtype: DTypeLike = "float32") -> Array:
        """Return a filled array."""
        return np.full(shape, self.value, dtype)


class Zeros(Constant):
    """Every element is 0."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self._config = {}


class Ones(Constant):
    """Every element is 1."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self._config = {}


class _Random(Initializer):
    """Draws from a distribution in float64 and rounds to the dtype."""

    def __init__(self, seed: int | None, **config: Any) -> None:
        self.seed = None if seed is None else random.check_seed(seed)
        self._config = {**config, "seed": self.seed}

    def __call__(self, shape: Shape, dtype: DTypeLike = "float32") -> Array:
        """Return an array of draws."""
        return np.asarray(self._draw(random.generator(self.seed), shape)).astype(dtype)

    def _draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        raise NotImplementedError


class RandomUniform(_Random):
    """Uniform on [minval, maxval)."""

    def __init__(
        self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None
    ) -> None:
        super().__init__(seed, minval=minval, maxval=maxval)
        self.minval, self.maxval = minval, maxval

    def _draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        return rng.uniform(self.minval, self.maxval, shape)


class RandomNormal(_Random):
    """Normal."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed, mean=mean, stddev=stddev)
        self.mean, self.stddev = mean, stddev

    def _draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        return rng.normal(self.mean, self.stddev, shape)


class TruncatedNormal(_Random):
    """Normal, drawn anew where it falls more than two standard deviations from the mean."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed, mean=mean, stddev=stddev)
        self.mean, self.stddev = mean, stddev

    def _draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        return self.mean + self.stddev * _truncated_normal(rng, shape)


def _truncated_normal(rng: np.random.Generator, shape: Shape) -> Array:
    values = rng.standard_normal(shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.standard_normal(int(outside.sum()))
    return values


def _fans(shape: Shape) -> tuple[float, float]:
    """Return how many inputs and outputs a weight of that shape connects."""
    if len(shape) < 2:
        size = float(shape[0]) if shape else 1.0
        return size, size
    receptive_field = math.prod(shape[:-2])
    return float(shape[-2] * receptive_field), float(shape[-1] * receptive_field)


class VarianceScaling(_Random):
    """Draws whose variance is `scale` over the fan: inputs, outputs, or their mean.

    The family of Glorot and Bengio 2010, He et al. 2015 and LeCun et al. 1998.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        modes = ("fan_in", "fan_out", "fan_avg")
        distributions = ("truncated_normal", "untruncated_normal", "uniform")
        if not scale > 0:
            raise ValueError(f"scale: got {scale}, expected a positive number")
        if mode not in modes:
            raise ValueError(f"mode: got {mode!r}, expected one of {', '.join(modes)}")
        if distribution not in distributions:
            expected = ", ".join(distributions)
            raise ValueError(f"distribution: got {distribution!r}, expected one of {expected}")
        super().__init__(seed, scale=scale, mode=mode, distribution=distribution)
        self.scale, self.mode, self.distribution = scale, mode, distribution

    def _draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        fan_in, fan_out = _fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return rng.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return rng.normal(0, math.sqrt(variance), shape)
        # Cutting at two deviations leaves this share of the deviation; it is made up for.
        return math.sqrt(variance) / 0.87962566103423978 * _truncated_normal(rng, shape)


class _NamedScaling(VarianceScaling):
    """A `VarianceScaling` with its parameters fixed by name."""

    _parameters: tuple[float, str, str]

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(*self._parameters, seed)
        self._config = {"seed": self.seed}


class GlorotUniform(_NamedScaling):
    """Uniform with variance 2 / (fan_in + fan_out): Keras's default for kernels."""

    _parameters = (1.0, "fan_avg", "uniform")


class GlorotNormal(_NamedScaling):
    """Truncated normal with variance 2 / (fan_in + fan_out)."""

    _parameters = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_NamedScaling):
    """Uniform with variance 2 / fan_in."""

    _parameters = (2.0, "fan_in", "uniform")


class HeNormal(_NamedScaling):
    """Truncated normal with variance 2 / fan_in."""

    _parameters = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_NamedScaling):
    """Uniform with variance 1 / fan_in."""

    _parameters = (1.0, "fan_in", "uniform")


class LecunNormal(_NamedScaling):
    """Truncated normal with variance 1 / fan_in."""

    _parameters = (1.0, "fan_in", "truncated_normal")


class Orthogonal(_Random):
    """Rows or columns, whichever are fewer, orthonormal, times `gain` (Saxe et al. 2014)."""

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed, gain=gain)
        self.gain = gain

    def _draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        if len(shape) < 2:
            raise ValueError(f"shape: got {shape}, expected at least two axes")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        normal = rng.standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(normal)
        q *= np.sign(np.diag(r))  # makes the distribution uniform over orthogonal matrices
        return self.gain * (q.T if rows < columns else q).reshape(shape)


class Identity(Initializer):
    """The identity matrix times `gain`."""

    def __init__(self, gain: float = 1.0) -> None:
        self._config = {"gain": gain}
        self.gain = gain

    def __call__(self, shape: Shape, dtype: DTypeLike = "float32") -> Array:
        """Return a matrix."""
        if len(shape) != 2:
            raise ValueError(f"shape: got {shape}, expected two axes")
        return np.asarray(self.gain * np.eye(*shape)).astype(dtype)


class Seeded:
    """Calls initializers, giving those without a seed of their own one after another from `seed`.

    With a seed of None it only calls them.
    """

    def __init__(self, seed: int | None) -> None:
        self._next = None if seed is None else random.check_seed(seed)

    def __call__(self, initializer: Initializer, shape: Shape, dtype: DTypeLike) -> Array:
        """Return ``initializer(shape, dtype)``."""
        config = initializer.get_config()
        if self._next is not None and "seed" in config and config["seed"] is None:
            initializer = type(initializer)(**{**config, "seed": self._next})
            self._next += 1
        return initializer(shape, dtype)


_CLASSES: tuple[type[Initializer], ...] = (
    Constant, GlorotNormal, GlorotUniform, HeNormal, HeUniform, Identity, LecunNormal,
    LecunUniform, Ones, Orthogonal, RandomNormal, RandomUniform, TruncatedNormal, VarianceScaling,
    Zeros,
)  # fmt: skip
_KNOWN: dict[str, type[Initializer]] = {
    **{name: c for c in _CLASSES for name in (c.__name__, snake_case(c.__name__))},
    "uniform": RandomUniform,
    "normal": RandomNormal,
}


def get(identifier: Any, argument: str = "initializer") -> Initializer:
    """Return the initializer for a name, a config or an `Initializer`.

    Raises
    ------
    ValueError, TypeError
        If there is no such initializer; the message names `argument`.
    """
    return resolve(identifier, Initializer, _KNOWN, argument)
