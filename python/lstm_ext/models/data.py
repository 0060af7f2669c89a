"""The arrays that `fit`, `evaluate` and `predict` are given: checked, split, shuffled, cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..layers.base import as_numbers

__all__ = ["Data"]

Array = NDArray[Any]


class Data(NamedTuple):
    """Samples with what is wanted for them, along the first axis of each array."""

    x: Array
    y: Array
    weight: Array | None = None

    @classmethod
    def check(
        cls,
        x: ArrayLike,
        y: ArrayLike,
        weight: ArrayLike | None,
        dtype: np.dtype[Any],
    ) -> Data:
        """Convert, and compare the numbers of samples.

        Raises
        ------
        TypeError, ValueError
            If an array holds no numbers, is ragged, or has another number of samples than x.
        """
        samples = _as_samples(x, "x", dtype)
        targets = _as_samples(y, "y", dtype)
        weights = None if weight is None else as_numbers(weight, "sample_weight", dtype)
        for name, array in (("y", targets), ("sample_weight", weights)):
            if array is not None and (array.ndim == 0 or len(array) != len(samples)):
                raise ValueError(
                    f"{name}: got shape {array.shape}, expected {len(samples)} samples as in x"
                )
        return cls(samples, targets, weights)

    def __len__(self) -> int:
        return len(self.x)

    def split(self, share: float) -> tuple[Data, Data]:
        """Return all but the last `share` of the samples, and these.

        Raises
        ------
        ValueError
            If `share` is not in (0, 1) or leaves one part empty.
        """
        if not 0 < share < 1:
            raise ValueError(f"validation_split: got {share}, expected 0 to 1, without both")
        at = int(len(self) * (1 - share))
        if at in (0, len(self)):
            raise ValueError(f"validation_split: got {share}, which leaves a part of x empty")
        return self._map(lambda a: a[:at]), self._map(lambda a: a[at:])

    def shuffled(self, order: NDArray[np.intp]) -> Data:
        """Return the samples in another order, as contiguous copies."""
        return self._map(lambda a: a[order])

    def batches(self, size: int) -> Iterator[Data]:
        """Yield views of `size` samples each, the last one perhaps smaller."""
        x, y, weight = self
        for start in range(0, len(x), size):
            stop = start + size
            yield Data(x[start:stop], y[start:stop], None if weight is None else weight[start:stop])

    def _map(self, function: Callable[[Array], Array]) -> Data:
        weight = None if self.weight is None else function(self.weight)
        return Data(function(self.x), function(self.y), weight)


def _as_samples(value: ArrayLike, name: str, dtype: np.dtype[Any]) -> Array:
    """Return an array; floats in `dtype`, whole numbers as they are, since they may be labels."""
    if hasattr(value, "__next__") or callable(value):
        raise TypeError(f"{name}: got {type(value).__name__}, expected an array")
    if not (isinstance(value, np.ndarray) and value.dtype.kind in "iu"):
        value = as_numbers(value, name, dtype)
    if value.ndim == 0:
        raise ValueError(f"{name}: got a single number, expected an array of samples")
    return value
