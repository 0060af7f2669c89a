"""What tests of variants on the emulator and on a GPU share: cases, and the way there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lstm_ext import cuda
from lstm_ext.variants import Cell, Gates, Noise
from operator_support import Accuracy, Case, drawn
from variants_support import VARIANTS, run_variant

# Those of variants_support.VARIANTS that a device has: no layer normalisation so far.
NAMES = [name for name in VARIANTS if not name.startswith("layer_norm")]
# What the slots of a call can have.
SLOTS = [
    ("mask",),
    ("lengths", "go_backwards"),
    ("reset",),
    ("mask", "reset", "go_backwards"),
    ("mask", "reset", "zero_output_for_mask"),
]


class OnDevice:
    """`lstm_ext.cuda` for NumPy's arrays, which move there and back."""

    def __init__(self, put: Callable[[Any], Any], get: Callable[[Any], Any]) -> None:
        self._put, self._get = put, get

    def there(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self._put(value)
        if isinstance(value, tuple) and not isinstance(value, Cell):
            moved = [self.there(part) for part in value]
            return type(value)(*moved) if isinstance(value, Noise) else tuple(moved)
        return value

    def here(self, values: Iterable[Any]) -> list[Any]:
        return [None if a is None else self._get(a) for a in values]

    def lstm(self, *arrays: Any, **options: Any) -> Any:
        results = cuda.lstm(*map(self.there, arrays), **self._moved(options))
        *results, last = results
        last = Gates(*self.here(last)) if isinstance(last, Gates) else self._get(last)
        return (*self.here(results), last)

    def lstm_vjp(self, *arrays: Any, **options: Any) -> Any:
        results, backward = cuda.lstm_vjp(*map(self.there, arrays), **self._moved(options))

        def pull_back(*upstream: Any) -> cuda.Gradients:
            return cuda.Gradients(*self.here(backward(*map(self.there, upstream))))

        return self.here(results), pull_back

    def _moved(self, options: dict[str, Any]) -> dict[str, Any]:
        return {name: self.there(value) for name, value in options.items()}


def assert_as_accurate_as_numpy(device: OnDevice, cases: Iterable[Case], factor: float = 2) -> None:
    """Assert that results and gradients err at most `factor` times as much as NumPy's."""
    accuracy = Accuracy()
    for case in cases:
        problem = drawn(case)
        actual = run_variant(device, problem.arrays, **problem.options)
        accuracy.add(actual, problem.plain, problem.exact, str(case.size))
    accuracy.finish(factor)
