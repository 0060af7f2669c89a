"""What several test files share: random LSTM problems and the measure of their errors."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_ext import config, reference

Array = NDArray[Any]

# Instruction sets that differ for float32 and float64. AVX-512's newer ones have products of their
# own for small weights only: test_small_weights.py runs over all.
ISAS = [isa for isa in config.available_isas() if not isa.startswith("avx512_")]
FUSED = [isa for isa in ISAS if isa != "baseline"]


def run_python(script: str, **environment: str) -> str:
    """Run a script in a fresh interpreter that no setting of the caller's threads reaches."""
    settings = ("LSTM_EXT_NUM_THREADS", "OMP_NUM_THREADS", "LSTM_EXT_ISA", "LSTM_EXT_SPIN_TIME")
    kept = {name: value for name, value in os.environ.items() if name not in settings}
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


class Problem(NamedTuple):
    """The arguments of an LSTM call and upstream gradients for each of its results."""

    x: Array
    kernel: Array
    recurrent_kernel: Array
    bias: Array | None
    h0: Array
    c0: Array
    d_output: Array
    d_h: Array
    d_c: Array

    @property
    def weights(self) -> tuple[Array, Array, Array | None]:
        return self.kernel, self.recurrent_kernel, self.bias

    @property
    def arguments(self) -> tuple[Array, Array, Array, Array | None]:
        return self.x, *self.weights

    @property
    def initial_state(self) -> tuple[Array, Array]:
        return self.h0, self.c0

    @property
    def upstream(self) -> tuple[Array, Array, Array]:
        return self.d_output, self.d_h, self.d_c

    def astype(self, dtype: Any) -> Problem:
        return Problem(*(None if a is None else a.astype(dtype) for a in self))

    def rows(self, rows: slice) -> Problem:
        """Return the problem of some rows of the batch."""
        return self._replace(
            x=self.x[rows],
            h0=self.h0[rows],
            c0=self.c0[rows],
            d_output=self.d_output[rows],
            d_h=self.d_h[rows],
            d_c=self.d_c[rows],
        )


def make_problem(
    batch_size: int,
    seq_len: int,
    input_size: int,
    units: int,
    dtype: Any = np.float32,
    *,
    seed: int = 0,
    bias: bool = True,
) -> Problem:
    """Draw a problem whose gates are neither all open nor all saturated."""
    rng = np.random.default_rng([seed, batch_size, seq_len, input_size, units])

    def normal(*shape: int, scale: float = 1.0) -> Array:
        return (scale * rng.standard_normal(shape)).astype(dtype)

    state = (batch_size, units)
    return Problem(
        x=normal(batch_size, seq_len, input_size),
        kernel=normal(input_size, 4 * units, scale=input_size**-0.5),
        recurrent_kernel=normal(units, 4 * units, scale=units**-0.5),
        bias=normal(4 * units) if bias else None,
        h0=normal(*state),
        c0=normal(*state),
        d_output=normal(batch_size, seq_len, units),
        d_h=normal(*state),
        d_c=normal(*state),
    )


def wider(dtype: Any) -> Any:
    """Return the float type that counts as exact beside `dtype`."""
    return {np.dtype(np.float32): np.float64, np.dtype(np.float64): np.longdouble}[np.dtype(dtype)]


def error(actual: Array, exact: Array) -> float:
    """Return the largest deviation from the exact values."""
    return float(np.max(np.abs(actual - exact), initial=0))


def rms_error(actual: Sequence[Array], exact: Sequence[Array]) -> float:
    """Return the root mean square of the deviations over all arrays."""
    squares = sum(float(np.sum((a - e) ** 2)) for a, e in zip(actual, exact, strict=True))
    return (squares / max(1, sum(e.size for e in exact))) ** 0.5


def assert_as_accurate(
    actual: Sequence[Array],
    plain: Sequence[Array],
    exact: Sequence[Array],
    name: str,
    factor: float = 2,
) -> None:
    """Assert that `actual` errs at most `factor` times as much as `plain`, NumPy's results.

    Each is a list over draws of one problem: an error is the root mean square over all of them, so
    that the luck of a single rounding, which decides the largest error, averages out.
    """
    for a, p in zip(actual, plain, strict=True):
        assert a.dtype == p.dtype, f"{name}: {a.dtype}, expected {p.dtype}"
        assert a.shape == p.shape, f"{name}: {a.shape}, expected {p.shape}"
    found, allowed = rms_error(actual, exact), factor * rms_error(plain, exact)
    assert found <= allowed, f"{name}: error {found:.3g}, allowed {allowed:.3g}"


def assert_no_slip(actual: Array, expected: Array, name: str) -> None:
    """Assert that at least half the digits agree: a slip changes more, and rounding far fewer."""
    half_the_digits = float(np.finfo(actual.dtype).eps) ** 0.5
    scale = max(1.0, float(np.max(np.abs(expected), initial=0)))
    assert error(actual, expected) <= half_the_digits * scale, name


def assert_same_bits(actual: Iterable[Any], expected: Iterable[Any]) -> None:
    """Assert that two sequences of arrays (or None) agree to the last bit, NaN included."""
    for index, (a, b) in enumerate(zip(actual, expected, strict=True)):
        if b is None:
            assert a is None, index
            continue
        assert a.dtype == b.dtype and a.shape == b.shape, (index, a.dtype, b.dtype, a.shape)
        assert a.tobytes() == b.tobytes(), f"array {index} differs by up to {error(a, b)}"


def assert_gradients_match_central_differences(
    loss: Callable[[], Any], arguments: Sequence[Array], gradients: Sequence[Array]
) -> None:
    """Assert that `gradients` are those of `loss`, which reads `arguments` anew in each call.

    A central difference of step h errs by a multiple of h**2, so the difference between those of
    2h and h is three times the error of the latter, and once that is the tolerance. The fourth
    root of the precision as h keeps the rounding errors, about precision / h, far below h**2.
    """
    dtype = arguments[0].dtype
    h = dtype.type(np.finfo(dtype).eps) ** dtype.type(0.25)
    for position, (argument, gradient) in enumerate(zip(arguments, gradients, strict=True)):
        assert gradient.shape == argument.shape, position
        near, far = np.empty_like(argument), np.empty_like(argument)
        for index in np.ndindex(argument.shape):
            near[index] = _central_difference(loss, argument, index, h)
            far[index] = _central_difference(loss, argument, index, 2 * h)
        found, allowed = error(gradient, near), error(far, near)
        assert found <= allowed, f"argument {position}: {found:.3g}, allowed {allowed:.3g}"


def _central_difference(
    loss: Callable[[], Any], argument: Array, index: tuple[int, ...], h: Any
) -> Any:
    value = argument[index]
    argument[index] = value + h
    above = loss()
    argument[index] = value - h
    below = loss()
    argument[index] = value
    return (above - below) / (2 * h)


class Draw(NamedTuple):
    """A problem with the reference's results in its dtype and in a wider one.

    Results are in the order of `RESULTS`.
    """

    problem: Problem
    plain: tuple[Array, ...]
    exact: tuple[Array, ...]


# Batch, time, input, units: 1, primes, powers of two and their neighbours, on both sides of every
# length of vector, tile and block; one to two rows, a few, and enough for every kernel and thread.
SIZES = [
    (1, 1, 1, 1),
    (1, 5, 10, 20),
    (2, 3, 1, 2),
    (3, 2, 4, 3),
    (1, 2, 3, 5),
    (4, 7, 2, 7),
    (5, 4, 8, 8),
    (6, 3, 7, 9),
    (7, 5, 16, 15),
    (3, 8, 15, 16),
    (2, 9, 17, 17),
    (8, 2, 31, 31),
    (11, 3, 33, 32),
    (12, 5, 32, 33),
    (13, 4, 1, 37),
    (16, 3, 64, 63),
    (1, 31, 5, 64),
    (17, 6, 13, 65),
    (1, 61, 3, 129),
    (33, 2, 65, 127),
    (1, 1, 255, 64),
    (1, 2, 257, 97),
    (1, 11, 513, 11),
    (4, 2, 255, 256),
    (2, 1, 256, 257),
    (64, 2, 3, 24),
    (65, 33, 2, 5),
    (1, 67, 1, 13),
    (40, 3, 257, 33),
]
Size = tuple[int, int, int, int]

RESULTS = ("output", "h", "c", "d_x", "d_kernel", "d_recurrent_kernel", "d_bias", "d_h0", "d_c0")
OUTPUTS, GRADIENTS = slice(0, 3), slice(3, None)


@functools.cache
def draws(size: Size, dtype: Any) -> list[Draw]:
    """Draw problems of a size (B, T, I, H) until there are values enough to tell an error by."""
    batch_size, seq_len, _, units = size
    count = min(128, max(8, 8192 // (batch_size * min(seq_len, 16) * units)))
    problems = [make_problem(*size, dtype, seed=seed) for seed in range(count)]
    return [
        Draw(problem, run(reference, problem), run(reference, problem.astype(wider(dtype))))
        for problem in problems
    ]


def run(module: Any, problem: Problem, **options: Any) -> tuple[Array, ...]:
    """Run a module's lstm_vjp and its backward with all upstream gradients.

    The gradients are the six that every LSTM has.
    """
    results, backward = module.lstm_vjp(
        *problem.arguments, initial_state=problem.initial_state, **options
    )
    return *results, *backward(*problem.upstream)[:6]


def to_bfloat16(x: Array) -> Array:
    """Round to nearest even, as float64; below the normal numbers to zero."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)
    return np.where(np.abs(x) < 2.0**-126, 0.0, rounded).astype(np.float64)
