"""What the machine allows: its ceilings, measured now, and the time that no program can beat.

A pass has phases; each takes at least its operations over the rate of fused multiply-adds, and at
least the bytes that it must move over the bandwidth of the level where they live. The floor is the
sum over phases of the larger one. Small weights move fewer bytes, and instructions that multiply
them in groups multiply more of them at a time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import _cpu
from .cases import Case
from .fit import EPOCHS, SAMPLES

__all__ = ["WEIGHT_BYTES", "Ceilings", "floor_seconds", "measure_ceilings", "rate_over_fma"]

_SIZES = (16 << 10, 256 << 10, 768 << 10, 4 << 20, 16 << 20, 128 << 20)
WEIGHT_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "int8": 1}
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


def rate_over_fma(weights_dtype: str, isa: str) -> float:
    """Return how many multiply-adds with such weights take the place of one in float32.

    A vector has twice as many lanes of float32 as of float64. The dot instruction for bfloat16 adds
    two products to a lane of 32 bits, that for int8 four. Without them bfloat16 is widened to
    float32, and int8 to 16 bits, of which x86 multiplies two in a lane and NEON one.
    """
    if weights_dtype == "float64":
        return 0.5
    if weights_dtype == "bfloat16":
        return 2 if isa == "avx512_bf16" else 1
    if weights_dtype == "int8":
        return {"avx512_bf16": 4, "avx512_vnni": 4, "neon": 1}.get(isa, 2)
    return 1


def floor_seconds(case: Case, isa: str, ceilings: Ceilings) -> float:
    """Return the least time for a case with that instruction set."""
    weights_dtype = case.weights_dtype or case.dtype
    size = WEIGHT_BYTES[weights_dtype]
    rate = ceilings.flops * rate_over_fma(weights_dtype, isa) * case.threads
    batch, steps, features, units = case.shape

    def phase(rows: int, depth: int) -> float:
        """Return that of (rows, depth) by (depth, 4 * units), the weights read once."""
        operations = 2.0 * rows * depth * 4 * units
        return max(
            operations / rate, ceilings.read_seconds(depth * 4.0 * units * size, case.threads)
        )

    projection = phase(batch * steps, features)
    recurrence = steps * phase(batch, units)
    if case.mode in ("forward", "stream"):
        return projection + recurrence
    # Backward: d_h in every step, d_x, and the gradients of both matrices over all steps.
    step_seconds = 3 * projection + 2 * recurrence + phase(batch * steps, units)
    return step_seconds * EPOCHS * -(-SAMPLES // batch) if case.mode == "fit" else step_seconds
