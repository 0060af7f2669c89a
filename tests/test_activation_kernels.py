"""The kernels' sigmoid and tanh against NumPy in a wider type: every float32, samples of float64.

An error is |result - exact| in units in the last place (ulp) of the exact value, which is not
rounded to the type. Over all float32 the largest is 1.95 for the sigmoid and 1.97 for tanh; over
the samples of float64, 1.86 and 2.16.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import support
from lstm_ext import _cpu, config

Array = NDArray[Any]

LARGEST_ERROR = {np.float32: 2, np.float64: 4}
FUNCTIONS = ["sigmoid", "tanh"]
INTEGERS = {np.float32: np.int32, np.float64: np.int64}
# The instruction sets that promise the same bits; the baseline where there is no other.
FUSED = support.FUSED or ["baseline"]


def activate(name: str, x: Array, isa: str) -> Array:
    out = np.empty_like(x)
    _cpu.activate(name, x, out, isa)
    return out


def exact(name: str, x: Array) -> Array:
    if name == "tanh":
        return np.tanh(x)
    with np.errstate(over="ignore"):
        y = np.exp(-x)
    y += 1
    return np.divide(1, y, out=y)


def largest_error(y: Array, exact_y: Array) -> float:
    """Return the largest error in ulp of `y` against finite values of a wider type."""
    kind = np.finfo(y.dtype)
    _, exponent = np.frexp(exact_y)
    unit_exponent = np.maximum(exponent, kind.minexp + 1) - kind.nmant - 1
    return float(np.abs(np.ldexp(y - exact_y, -unit_exponent)).max())


def same_bits(a: Array, b: Array) -> bool:
    integers = INTEGERS[a.dtype.type]
    return bool((a.view(integers) == b.view(integers)).all())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_float32(name: str) -> None:
    part = 1 << 26
    with ThreadPoolExecutor(config.get_num_threads()) as pool:
        errors = list(pool.map(lambda first: sweep(name, first, part), range(0, 1 << 32, part)))
    assert max(errors) <= LARGEST_ERROR[np.float32]


def sweep(name: str, first: int, count: int) -> float:
    """Return the largest error over the float32 whose bits count up from `first`."""
    block = 1 << 16  # small enough for the cache; infinity is the first number of its block
    bits = np.arange(first, first + block, dtype=np.uint32)
    x = bits.view(np.float32)
    largest = 0.0
    for _ in range(count // block):
        y = activate(name, x, FUSED[0])
        if np.isnan(x[1]):
            assert all(np.isnan(activate(name, x, isa)[1:]).all() for isa in FUSED), hex(bits[0])
        else:
            largest = max(largest, block_error(name, x, y))
            for isa in FUSED[1:]:
                assert same_bits(activate(name, x, isa), y), hex(bits[0])
        bits += np.uint32(block)
    return largest


def block_error(name: str, x: Array, y: Array) -> float:
    """Return the largest error of `y` for ascending or descending float32 `x`, or a bound of it."""
    if name == "tanh" and np.abs(x[-1]) < 2**-12 and same_bits(x, y):
        return 0.5  # tanh(x) = x - x**3 / 3 + ..., less than half an ulp from x
    ends = exact(name, x[[0, -1]].astype(np.float64))
    if ends[0].astype(np.float32) == ends[1].astype(np.float32):
        # The functions are monotone: no error is larger than from one end or the other.
        return largest_error(np.array([[y.min()], [y.max()]]), ends)
    return largest_error(y, exact(name, x.astype(np.float64)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_samples_of_float32(name: str, isa: str) -> None:
    bits = np.arange(0, 1 << 32, 1009, dtype=np.uint32)
    x = bits.view(np.float32)
    x = x[~np.isnan(x)]
    error = largest_error(activate(name, x, isa), exact(name, x.astype(np.float64)))
    assert error <= LARGEST_ERROR[np.float32]


def samples_of_float64() -> Array:
    """Return float64 where the functions bend, and some of every exponent and sign."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 64, 200_000, dtype=np.uint64).view(np.float64)
    return np.concatenate(
        [
            bits[~np.isnan(bits)],
            rng.uniform(-1, 1, 200_000),
            rng.uniform(-45, 45, 400_000),
            rng.uniform(-750, -700, 50_000),  # where the sigmoid becomes denormal and vanishes
            np.arange(-1100, 60) * np.log(2),  # where the exponential changes its power of two
        ]
    )


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps == np.finfo(np.float64).eps,
    reason="longdouble is no wider than float64 on this platform",
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_samples_of_float64(name: str, isa: str) -> None:
    x = samples_of_float64()
    error = largest_error(activate(name, x, isa), exact(name, x.astype(np.longdouble)))
    assert error <= LARGEST_ERROR[np.float64]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64_bits_are_the_same_on_every_fused_instruction_set(name: str) -> None:
    x = samples_of_float64()
    results = [activate(name, x, isa) for isa in FUSED]
    assert all(same_bits(result, results[0]) for result in results[1:])


def test_special_values(isa: str, dtype: Any) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    large = np.finfo(dtype).max
    x = np.array([0.0, -0.0, np.inf, -np.inf, large, -large, 800, -800, np.nan, -np.nan], dtype)
    tanh = activate("tanh", x, isa)
    assert same_bits(tanh[:8], np.array([0.0, -0.0, 1, -1, 1, -1, 1, -1], dtype))
    assert np.isnan(tanh[8:]).all()
    sigmoid = activate("sigmoid", x, isa)
    assert same_bits(sigmoid[:8], np.array([0.5, 0.5, 1, 0, 1, 0, 1, 0], dtype))
    assert np.isnan(sigmoid[8:]).all()
    denormals = np.array([tiny, -tiny, 3 * tiny, np.finfo(dtype).tiny - tiny], dtype)
    assert same_bits(activate("tanh", denormals, isa), denormals)
    assert same_bits(activate("sigmoid", denormals, isa), np.full(4, 0.5, dtype))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_stay_in_range_and_saturate(name: str, isa: str, dtype: Any) -> None:
    x = np.linspace(0, 800, 100_001, dtype=dtype)
    lowest = -1 if name == "tanh" else 0
    up, down = activate(name, x, isa), activate(name, -x, isa)
    assert up.max() == 1 and down.min() == lowest
    assert (up[x >= 45] == 1).all()


def test_tanh_is_odd(isa: str, dtype: Any) -> None:
    x = np.linspace(-30, 30, 100_001, dtype=dtype)
    assert same_bits(activate("tanh", -x, isa), -activate("tanh", x, isa))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_value_does_not_depend_on_its_place(name: str, isa: str, dtype: Any) -> None:
    x = np.linspace(-3, 3, 70, dtype=dtype)
    whole = activate(name, x, isa)
    for size in range(50):
        out = np.full(size + 1, 7, dtype)
        _cpu.activate(name, x[20 : 20 + size], out[:size], isa)
        assert same_bits(out[:size], whole[20 : 20 + size])
        assert out[size] == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("relu", np.zeros(3), np.zeros(3)), "^name: expected 'sigmoid' or 'tanh'$"),
        (("tanh", np.zeros(3), np.zeros(4)), "^out: expected axis 0 of size 3$"),
        (("tanh", np.zeros(3), np.zeros(3, np.float32)), "^out: expected elements of float64$"),
        (("tanh", np.zeros(3, int), np.zeros(3)), "^x: expected elements of float64$"),
        (("tanh", np.zeros(3), np.zeros(3), "sse9"), "^isa='sse9': expected an instruction set"),
    ],
)
def test_bad_arguments(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _cpu.activate(*arguments)
