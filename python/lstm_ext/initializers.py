"""Initial weights, by Keras's names, defaults and distributions."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import random
from ._registry import (
    Configurable,
    by_name,
    check_number,
    check_unsupported,
    resolve,
    serialize,
)

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
    "serialize",
]

Array = NDArray[Any]
Shape = tuple[int, ...]


class Initializer(Configurable):
    """Makes an array of a shape: ``initializer(shape, dtype)``.

    One with a seed makes the same values in every call; without, values come from the generator
    that `lstm_ext.random.set_random_seed` sets.
    """

    _config: dict[str, Any]

    def __call__(self, shape: Iterable[int], dtype: DTypeLike = "float32") -> Array:
        """Return a new array of `shape` and `dtype`.

        Raises
        ------
        ValueError, TypeError
            If `shape` is not made of integers that are not negative, or has too few axes.
        """
        return np.asarray(self._make(_as_shape(shape)), dtype)

    def _make(self, shape: Shape) -> Array:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal initializer."""
        return dict(self._config)


def _as_shape(shape: Iterable[int]) -> Shape:
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        raise TypeError(f"shape: got {shape!r}, expected a tuple of integers") from None
    if any(size < 0 for size in sizes):
        raise ValueError(f"shape: got {sizes}, expected no negative size")
    return sizes


class Constant(Initializer):
    """Every element is `value`."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = check_number(value, "value")
        self._config = {"value": self.value}

    def _make(self, shape: Shape) -> Array:
        return np.full(shape, self.value)


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


class Identity(Initializer):
    """The identity matrix times `gain`; of a matrix that is not square, its diagonal."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = check_number(gain, "gain")
        self._config = {"gain": self.gain}

    def _make(self, shape: Shape) -> Array:
        if len(shape) != 2:
            raise ValueError(f"shape: got {shape}, expected two axes")
        return self.gain * np.eye(*shape)


class _Random(Initializer):
    """Draws from a distribution in float64; the caller rounds to the dtype asked for."""

    def __init__(self, seed: int | None, **config: Any) -> None:
        self.seed = None if seed is None else random.check_seed(seed)
        self._config = {**config, "seed": self.seed}

    def _make(self, shape: Shape) -> Array:
        return self._draw(random.generator(self.seed), shape)

    def _draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        raise NotImplementedError


class RandomUniform(_Random):
    """Uniform on [minval, maxval)."""

    def __init__(
        self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None
    ) -> None:
        self.minval = check_number(minval, "minval")
        self.maxval = check_number(maxval, "maxval", low=self.minval)
        super().__init__(seed, minval=self.minval, maxval=self.maxval)

    def _draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        return rng.uniform(self.minval, self.maxval, shape)


class RandomNormal(_Random):
    """Normal with that mean and standard deviation."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        self.mean = check_number(mean, "mean")
        self.stddev = check_number(stddev, "stddev", low=0.0)
        super().__init__(seed, mean=self.mean, stddev=self.stddev)

    def _draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        return rng.normal(self.mean, self.stddev, shape)


class TruncatedNormal(RandomNormal):
    """Normal, drawn anew where it falls more than two standard deviations from the mean.

    `stddev` is that of the normal distribution before the cut, as in Keras.
    """

    def _draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        return self.mean + self.stddev * _truncated_normal(rng, shape)


# The standard deviation that is left of a normal distribution's 1 when it is cut at two:
# 1 - 2 * 2 * density(2) / P(|z| < 2) is the variance (Johnson, Kotz and Balakrishnan 1994, 13.10).
_TRUNCATED_STDDEV = math.sqrt(
    1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(2 / math.sqrt(2))
)


def _truncated_normal(rng: np.random.Generator, shape: Shape) -> Array:
    values = np.asarray(rng.standard_normal(shape))
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


# Arguments of Keras's that are not there yet, with Keras's defaults.
_UNSUPPORTED_SCALING = {"input_axes": None, "output_axes": None}


class VarianceScaling(_Random):
    """Draws whose variance is `scale` over the fan: inputs, outputs, or their mean.

    The family of Glorot and Bengio 2010, He et al. 2015 and LeCun et al. 1998.

    Parameters
    ----------
    scale : float
        Positive.
    mode : "fan_in", "fan_out" or "fan_avg"
        The fan is shape[-2], shape[-1] or their mean, times the product of the axes before.
    distribution : "truncated_normal" (also "normal"), "untruncated_normal" or "uniform"
    seed : int, optional
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        **unsupported: Any,
    ) -> None:
        check_unsupported(type(self).__name__, unsupported, _UNSUPPORTED_SCALING)
        modes = ("fan_in", "fan_out", "fan_avg")
        if mode not in modes:
            raise ValueError(f"mode: got {mode!r}, expected one of {', '.join(modes)}")
        distributions = ("truncated_normal", "untruncated_normal", "uniform")
        if distribution == "normal":
            distribution = "truncated_normal"
        if distribution not in distributions:
            expected = ", ".join(distributions)
            raise ValueError(f"distribution: got {distribution!r}, expected one of {expected}")
        self.scale = check_number(scale, "scale", low=0.0, open_low=True)
        self.mode, self.distribution = mode, distribution
        super().__init__(seed, scale=self.scale, mode=mode, distribution=distribution)

    def _draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        fan_in, fan_out = _fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, fan))
        if self.distribution == "uniform":
            limit = math.sqrt(3) * stddev
            return rng.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return rng.normal(0, stddev, shape)
        return stddev / _TRUNCATED_STDDEV * _truncated_normal(rng, shape)


class _NamedScaling(VarianceScaling):
    """A `VarianceScaling` with its parameters fixed by name."""

    _parameters: tuple[float, str, str]

    def __init__(self, seed: int | None = None, **unsupported: Any) -> None:
        super().__init__(*self._parameters, seed, **unsupported)
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
    """Rows or columns, whichever are fewer, orthonormal, times `gain` (Saxe et al. 2014).

    A shape of more than two axes is a matrix of its last axis by all others.
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        self.gain = check_number(gain, "gain")
        super().__init__(seed, gain=self.gain)

    def _draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        if len(shape) < 2:
            raise ValueError(f"shape: got {shape}, expected at least two axes")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        normal = rng.standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(normal)
        # Makes the distribution uniform over orthogonal matrices (Mezzadri 2007).
        q *= np.where(np.diag(r) < 0, -1, 1)
        return self.gain * (q.T if rows < columns else q).reshape(shape)


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
            initializer = initializer.from_config({**config, "seed": self._next})
            self._next += 1
        return initializer(shape, dtype)


_KNOWN = by_name(
    Constant, GlorotNormal, GlorotUniform, HeNormal, HeUniform, Identity, LecunNormal,
    LecunUniform, Ones, Orthogonal, RandomNormal, RandomUniform, TruncatedNormal, VarianceScaling,
    Zeros, normal=RandomNormal, one=Ones, uniform=RandomUniform, zero=Zeros,
)  # fmt: skip


def get(identifier: Any, argument: str = "initializer") -> Initializer:
    """Return the initializer for a name, a config or an `Initializer`.

    Raises
    ------
    ValueError, TypeError
        If there is no such initializer; the message names `argument`.
    """
    return resolve(identifier, Initializer, _KNOWN, argument)
