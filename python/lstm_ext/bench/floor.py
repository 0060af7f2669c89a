"""What the machine allows: its ceilings, measured now, and the time that no program can beat.

A pass has phases; each takes at least its operations over the rate of fused multiply-adds, and at
least the bytes that it must move over the bandwidth of the level where they live. The floor is the
sum over phases of the larger one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _cpu
from .fit import EPOCHS, SAMPLES
from .grid import Shape

__all__ = ["Ceilings", "floor_seconds", "measure_ceilings"]

_SIZES = (16 << 10, 256 << 10, 768 << 10, 4 << 20, 16 << 20, 128 << 20)
_SHARED_FROM = 64 << 20  # memory is shared: its bandwidth does not grow with the threads


class Ceilings(NamedTuple):
    """Of one core: float32 operations a second, and bytes a second by the size of what is read."""

    flops: float
    bandwidth: dict[int, float]

    def read_seconds(self, size: float, threads: int) -> float:
        """Return the least time for threads to read `size` bytes once from where they live."""
        share = size / threads
        for level, rate in sorted(self.bandwidth.items()):
            if share <= level and size < _SHARED_FROM:
                return share / rate
        return size / self.bandwidth[max(self.bandwidth)]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for a file."""
        return {
            "gflops": self.flops / 1e9,
            "read_gb_per_s": {str(k): v / 1e9 for k, v in self.bandwidth.items()},
        }


def measure_ceilings(seconds: float = 0.1) -> Ceilings:
    """Measure one core for about `seconds` a figure."""
    bandwidth = {size: _cpu.measure_read_bandwidth(size, seconds) for size in _SIZES}
    return Ceilings(_cpu.measure_fma_rate(seconds), bandwidth)


def floor_seconds(shape: Shape, mode: str, dtype: str, threads: int, ceilings: Ceilings) -> float:
    """Return the least time for a pass over `shape`."""
    size = np.dtype(dtype).itemsize
    rate = ceilings.flops * 4 / size * threads
    batch, steps, features, units = shape

    def phase(rows: int, depth: int) -> float:
        """Return that of (rows, depth) by (depth, 4 * units), the weights read once."""
        operations = 2.0 * rows * depth * 4 * units
        return max(operations / rate, ceilings.read_seconds(depth * 4.0 * units * size, threads))

    projection = phase(batch * steps, features)
    recurrence = steps * phase(batch, units)
    if mode in ("forward", "stream"):
        return projection + recurrence
    # Backward: d_h in every step, d_x, and the gradients of both matrices over all steps.
    step_seconds = 3 * projection + 2 * recurrence + phase(batch * steps, units)
    return step_seconds * EPOCHS * -(-SAMPLES // batch) if mode == "fit" else step_seconds
