"""Time on a GPU, by CUDA events, and what the chip can do at most."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from ...cuda.arrays import Kind
from ...cuda.products import multiply
from ..grid import Shape

__all__ = ["Ceilings", "interleave", "measure_ceilings"]

Call = Callable[[int], Any]  # with the number of the set of inputs


class Ceilings(NamedTuple):
    """What the chip was seen to do: operations and bytes a second."""

    float32: float
    bfloat16: float
    bandwidth: float

    def floor_seconds(self, shape: Shape, mode: str, dtype: str) -> float:
        """Return the time that the operations take at best, or the bytes, whichever is longer.

        Training is three times the operations; the weights, inputs and outputs move once, and in
        training the gates and cells too.
        """
        batch, steps, features, units = shape
        item = 2 if dtype == "bfloat16" else 4
        rows = batch * steps
        operations = 2.0 * shape.multiply_adds * (3 if mode == "training" else 1)
        moved = (features + units) * 4 * units + rows * (features + units)
        if mode == "training":
            moved = 2 * moved + 2 * rows * 5 * units
        rate = self.bfloat16 if dtype == "bfloat16" else self.float32
        return max(operations / rate, moved * item / self.bandwidth)


def measure_ceilings(cupy: Any, size: int = 8192) -> Ceilings:
    """Measure large products of matrices, strict float32 and bfloat16, and a large copy."""
    rates = {}
    for dtype in ("float32", "bfloat16"):
        kind = Kind(dtype, 0, "cupy", cupy)
        # Random bits of small numbers: products of zeros run faster.
        drawn = cupy.asarray(np.random.default_rng(0).standard_normal((size, size), np.float32))
        values = drawn if dtype == "float32" else (drawn.view(np.uint32) >> 16).astype(np.uint16)
        product = functools.partial(multiply, kind, values, values, dtype=np.dtype("float32"))
        seconds = _best(cupy, product)
        rates[dtype] = 2.0 * size**3 / seconds
    source = cupy.zeros((2 * size, 2 * size), np.float32)
    target = cupy.empty_like(source)

    def copy() -> None:
        target[...] = source

    return Ceilings(rates["float32"], rates["bfloat16"], 2 * source.nbytes / _best(cupy, copy))


def _best(cupy: Any, function: Callable[[], Any]) -> float:
    function()
    return min(_seconds(cupy, lambda _: function(), 3, 1) for _ in range(5))


def _seconds(cupy: Any, call: Call, calls: int, sets: int) -> float:
    """Return the seconds of a call, over several in a row, each with the next set of inputs."""
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    for number in range(calls):
        call(number % sets)
    end.record()
    end.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, end)) / 1000 / calls


def interleave(
    cupy: Any, subjects: Mapping[str, Call], sets: int, rounds: int, seconds: float
) -> dict[str, float]:
    """Return each subject's median over rounds in which all have their turn, in random order.

    Parameters
    ----------
    sets : int
        How many sets of inputs the calls go through.
    rounds : int
    seconds : float
        About how long all rounds take together.
    """
    share = seconds / max(1, rounds * len(subjects))
    calls = {}
    for name, call in subjects.items():
        for number in range(sets):
            call(number)
        once = _seconds(cupy, call, sets, sets)
        calls[name] = max(sets, min(1000, round(share / max(once, 1e-6))))
    order, generator = list(subjects), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in order}
    for _ in range(rounds):
        generator.shuffle(order)
        for name in order:
            subjects[name](0)
            times[name].append(_seconds(cupy, subjects[name], calls[name], sets))
    return {name: median(values) for name, values in times.items()}
