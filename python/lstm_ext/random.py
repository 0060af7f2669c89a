"""The one source of randomness: initial weights, dropout and shuffling draw from it."""

from __future__ import annotations

import operator

import numpy as np

__all__ = ["check_seed", "generator", "set_random_seed"]

# Made when first needed: NumPy loads its random module late, and so keeps importing fast.
_global: np.random.Generator | None = None


def set_random_seed(seed: int) -> None:
    """Make everything that is drawn without a seed of its own repeatable from here on.

    Parameters
    ----------
    seed : int
        Not negative. Only draws of this package follow it, not those of `random` or `numpy.random`.

    Raises
    ------
    TypeError, ValueError
        If `seed` is no integer, or negative.
    """
    global _global
    _global = np.random.default_rng(check_seed(seed))


def generator(seed: int | None = None) -> np.random.Generator:
    """Return a new generator for `seed`, or the global one for None.

    Raises
    ------
    TypeError, ValueError
        If `seed` is no integer, or negative.
    """
    global _global
    if seed is not None:
        return np.random.default_rng(check_seed(seed))
    if _global is None:
        _global = np.random.default_rng()
    return _global


def check_seed(seed: int, name: str = "seed") -> int:
    """Return `seed` as an int, or raise a TypeError or ValueError that names it."""
    try:
        value = operator.index(seed)
    except TypeError:
        raise TypeError(f"{name}: got {seed!r}, expected an integer") from None
    if value < 0:
        raise ValueError(f"{name}: got {value}, expected an integer that is not negative")
    return value
