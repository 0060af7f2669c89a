"""What the machine allows: its ceilings, measured now, and the time that no program can beat.

A pass has phases; each takes at least its operations over the rate of fused multiply-adds, and at
least the bytes that it must move over the bandwidth of the levels where they live. The floor is the
sum over phases of the larger one. Small weights move fewer bytes, and instructions that multiply
them in groups multiply more of them at a time.

The weights of a step are read again in the next. Going there and back, a byte is found in the level
that holds what was read since: those read last are still in the first cache, and only what none of
the small ones holds comes from the large. So the floor takes the first bytes of a step's weights at
the rate of the first cache, the next at that of the second, and so on. The product with the inputs
of all steps reads its weights once a call, behind those of the steps.

Not counted: activations, what is neither weights nor multiplied by them, and meetings of threads.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .. import _cpu
from .cases import Case
from .fit import EPOCHS, SAMPLES
from .variants import Weights

__all__ = ["WEIGHT_BYTES", "Ceilings", "floor_seconds", "measure_ceilings", "rate_over_fma"]

_SIZES = tuple(
    kib << 10
    for kib in (16, 32, 64, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384, 131072)
)
WEIGHT_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "int8": 1}
_SHARED_FROM = 64 << 20  # memory is shared: its bandwidth does not grow with the threads


class Ceilings(NamedTuple):
    """Of one core: float32 operations a second, and bytes a second by the size of what is read."""

    flops: float
    bandwidth: dict[int, float]

    def read_seconds(self, size: float, threads: int, behind: float = 0.0) -> float:
        """Return the least time for threads to read `size` bytes that they read before.

        Each reads its share. In between, `behind` other bytes were read; of the rest, those read
        last come first. What lies between two of the measured sizes is taken at the rate of the
        smaller one.
        """
        sizes = sorted(self.bandwidth)
        edges = [0.0, *(float(min(s * threads, _SHARED_FROM)) for s in sizes[1:-1]), _SHARED_FROM]
        rates = [self.bandwidth[s] * threads for s in sizes[:-1]]
        edges.append(float("inf"))
        rates.append(self.bandwidth[sizes[-1]])
        seconds = 0.0
        for (start, end), rate in zip(pairwise(edges), rates, strict=True):
            inside = min(end, behind + size) - max(start, behind)
            seconds += max(inside, 0.0) / rate
        return seconds

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for a file."""
        return {
            "gflops": self.flops / 1e9,
            "read_gb_per_s": {str(k): v / 1e9 for k, v in self.bandwidth.items()},
        }


def measure_ceilings(seconds: float = 0.05) -> Ceilings:
    """Measure one core for about `seconds` a figure."""
    bandwidth: dict[int, float] = {}
    for size in reversed(_SIZES):
        # What is read at some rate in a large block can be in a small one.
        rate = _cpu.measure_read_bandwidth(size, seconds)
        bandwidth[size] = max([rate, *bandwidth.values()])
    bandwidth = dict(sorted(bandwidth.items()))
    return Ceilings(_cpu.measure_fma_rate(seconds), bandwidth)


def rate_over_fma(weights_dtype: str, isa: str) -> float:
    """Return how many multiply-adds with such weights take the place of one in float32.

    A vector has twice as many lanes of float32 as of float64. AMX multiplies tiles of 16 rows at
    the rate of 16 (bfloat16) or 32 (int8) vector instructions. Dot instructions add two products
    (bfloat16) or four (int8) to a lane of 32 bits. Without them bfloat16 is widened to float32, and
    int8 to 16 bits, of which x86 multiplies two in a lane and NEON one.
    """
    if weights_dtype == "float64":
        return 0.5
    if weights_dtype == "bfloat16":
        return {"avx512_amx": 16, "avx512_bf16": 2}.get(isa, 1)
    if weights_dtype == "int8":
        return {"avx512_amx": 32, "avx512_bf16": 4, "avx512_vnni": 4, "neon": 1}.get(isa, 2)
    return 1


def floor_seconds(case: Case, isa: str, ceilings: Ceilings) -> float:
    """Return the least time for a case with that instruction set.

    It is the sum over directions and layers, which may share the threads in any way.
    """
    weights_dtype = case.weights_dtype or case.dtype
    machine = _Machine(
        ceilings,
        ceilings.flops * rate_over_fma(weights_dtype, isa) * case.threads,
        case.threads,
        WEIGHT_BYTES[weights_dtype],
    )
    rows = np.count_nonzero(case.mask, axis=0).tolist()
    seconds = sum(
        _lstm_seconds(weights, rows, case.mode, machine)
        for directions in case.layers
        for weights in directions
    )
    return seconds * EPOCHS * -(-SAMPLES // case.shape.B) if case.mode == "fit" else seconds


class _Machine(NamedTuple):
    """The ceilings for one case."""

    ceilings: Ceilings
    rate: float  # operations a second, of all threads
    threads: int
    weight_bytes: int

    def product(self, rows: int, count: int, behind: int = 0) -> float:
        """Return the time to multiply rows with `count` weights that are read once."""
        if not rows:
            return 0.0
        size = count * self.weight_bytes
        reading = self.ceilings.read_seconds(size, self.threads, behind * self.weight_bytes)
        return max(2.0 * rows * count / self.rate, reading)


def _lstm_seconds(weights: Weights, rows: list[int], mode: str, machine: _Machine) -> float:
    """Return the time of one LSTM where `rows` have a first, a second, ... step."""
    own = weights.projection_kernel
    recurrent, projection = weights.recurrent_kernel.size, 0 if own is None else own.size
    # In the first step of a call the state is zero, and its product need not be computed; the state
    # of a stream goes on from call to call.
    later = rows if mode == "stream" else rows[1:]
    stepped = recurrent + projection
    steps = sum(machine.product(count, stepped) for count in later)
    if projection and mode != "stream":
        steps += machine.product(rows[0], projection)
    inputs = machine.product(sum(rows), weights.kernel.size, behind=stepped if later else 0)
    if mode in ("forward", "stream"):
        return inputs + steps
    # Backward: the gradients of h step by step, and those of the weights over all steps; those of
    # x, which a fit has no use for.
    gradients = inputs + machine.product(sum(later), recurrent)
    if projection:
        gradients += machine.product(sum(rows), projection)
    d_x = 0.0 if mode == "fit" else inputs
    return inputs + d_x + gradients + 2 * steps
