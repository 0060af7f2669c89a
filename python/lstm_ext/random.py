"""The one source of randomness: initial weights, dropout and shuffling draw from it."""

from __future__ import annotations

import operator

import numpy as np

__all__ = ["generator", "set_random_seed"]

_global = np.random.default_rng()


def set_random_seed(seed: int) -> None:
    """Make everything that is drawn without a seed of its own repeatable from here on.

    Raises
    ------
    ValueError
        If `seed` is not a non-negative integer.
    """
    global _global
    _global = np.random.default_rng(check_seed(seed))


def check_seed(seed: int, name: str = "seed") -> int:
    """Return `seed` as an int, or raise a ValueError that names it."""
    try:
        value = operator.index(seed)
    except TypeError:
        raise ValueError(f"{name}: got {seed!r}, expected an integer") from None
    if value < 0:
        raise ValueError(f"{name}: got {value}, expected a non-negative integer")
    return value


def generator(seed: int | None = None) -> np.random.Generator:
    """Return a new generator for `seed`, or the global one for None."""
    return _global if seed is None else np.random.default_rng(check_seed(seed))
