"""The arrays that `fit`, `evaluate` and `predict` are given: checked, split, shuffled, cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays import as_numbers, is_on_device, namespace
from .._registry import check_number

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
        x: Array,
        y: ArrayLike,
        weight: ArrayLike | None,
        dtype: np.dtype[Any],
    ) -> Data:
        """Convert y and the weights for an x that is ready, and compare the numbers of samples.

        Whole numbers in y stay as they are, since they may be labels.

        Raises
        ------
        TypeError, ValueError
            If an array holds no numbers, is ragged, or has another number of samples than x.
        """
        device = "cuda" if is_on_device(x) else "cpu"
        if device == "cpu" and isinstance(y, np.ndarray) and y.dtype.kind in "iu":
            wanted: Array = y
        else:
            wanted = as_numbers(y, "y", None if device == "cuda" else dtype, device)
            if wanted.dtype.kind not in "iu":
                wanted = wanted.astype(dtype, copy=False)
        weights = None if weight is None else as_numbers(weight, "sample_weight", dtype, device)
        for name, array in (("y", wanted), ("sample_weight", weights)):
            if array is not None and (array.ndim == 0 or len(array) != len(x)):
                raise ValueError(
                    f"{name}: got shape {array.shape}, expected {len(x)} samples as in x"
                )
        return cls(x, wanted, weights)

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

    def weighted_by_class(self, class_weight: Mapping[int, float]) -> Data:
        """Return the samples with weights by their class; 1 for classes that have none.

        Raises
        ------
        TypeError, ValueError
            If `class_weight` is no mapping of numbers, or there are weights already.
        """
        if not isinstance(class_weight, Mapping):
            raise TypeError(f"class_weight: got {class_weight!r}, expected a dict")
        if self.weight is not None:
            raise ValueError("class_weight: got it beside sample_weight, expected one of them")
        classes = self.y
        if classes.ndim > 1:
            classes = classes[..., 0] if classes.shape[-1] == 1 else classes.argmax(axis=-1)
        if classes.ndim != 1:
            raise ValueError(
                f"class_weight: got y of shape {self.y.shape}, expected (B,) or (B, C)"
            )
        classes = np.rint(classes)
        weight = namespace(classes).ones(len(self), np.float32)
        for number, value in class_weight.items():
            weight[classes == number] = check_number(value, f"class_weight[{number!r}]")
        return Data(self.x, self.y, weight)

    def shuffled(self, order: NDArray[np.intp] | None) -> Data:
        """Return the samples in another order, as contiguous copies; as they are for None."""
        if order is None:
            return self
        order = namespace(self.x).asarray(order)
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
