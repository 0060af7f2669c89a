"""The matrix product and Adam's update, each instruction set by name.

Matrices of small whole numbers have exact products, so those must agree to the last bit whatever
the order of additions; a tile that reads or writes one element amiss cannot hide behind a
tolerance.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lstm_ext import _cpu, config, functional
from support import FUSED, Array, assert_same_bits, wider

# On both sides of the heights of tiles, of one to four vectors of any length, of one, two and four
# blocks of depth.
ROWS = [1, 2, 3, 4, 5, 6, 7, 11, 13, 18]
COLUMNS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 127, 129]
DEPTHS = [0, 1, 2, 31, 127, 128, 129, 255, 256, 257, 513]


@pytest.fixture
def forced(isa: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make each instruction set the one that is used without `isa=`."""
    monkeypatch.setenv("LSTM_EXT_ISA", isa)
    assert _cpu.chosen_isa() == isa
    return isa


def whole_numbers(*shape: int, dtype: Any) -> Array:
    rng = np.random.default_rng([*shape, 1])
    return rng.integers(-9, 10, shape).astype(dtype)


def random_numbers(*shape: int, dtype: Any, seed: int = 0) -> Array:
    return np.random.default_rng([*shape, seed]).standard_normal(shape).astype(dtype)


def guarded_matmul(a: Array, b: Array, bias: Array | None) -> Array:
    """Return the product, computed between two elements that must stay as they are."""
    rows, columns = a.shape[0], b.shape[1]
    buffer = np.full(rows * columns + 2, 7, a.dtype)
    out = buffer[1:-1].reshape(rows, columns)
    assert _cpu.matmul(a, b, bias, 1, out) is out
    assert buffer[0] == buffer[-1] == 7
    return out


def test_matmul_of_whole_numbers_is_exact(forced: str, dtype: Any) -> None:
    for columns, depth in itertools.product(COLUMNS, DEPTHS):
        a = whole_numbers(max(ROWS), depth, dtype=dtype)
        b = whole_numbers(depth, columns, dtype=dtype)
        bias = whole_numbers(columns, dtype=dtype)
        expected = a @ b
        for rows in ROWS:
            assert np.array_equal(guarded_matmul(a[:rows], b, None), expected[:rows])
            assert np.array_equal(guarded_matmul(a[:rows], b, bias), expected[:rows] + bias)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
def test_matmul_with_an_empty_axis(shape: tuple[int, int, int], forced: str, dtype: Any) -> None:
    rows, depth, columns = shape
    bias = whole_numbers(columns, dtype=dtype)
    product = functional.matmul(np.ones((rows, depth), dtype), np.ones((depth, columns), dtype))
    assert_same_bits([product], [np.zeros((rows, columns), dtype) + depth])
    product = functional.matmul(np.ones((rows, 0), dtype), np.ones((0, columns), dtype), bias)
    assert_same_bits([product], [np.broadcast_to(bias, (rows, columns))])


def test_matmul_of_any_strides(forced: str, dtype: Any) -> None:
    large_a = random_numbers(40, 600, dtype=dtype)
    large_b = random_numbers(600, 160, dtype=dtype)
    views = [
        (large_a[::2], large_b),
        (large_a[:, ::2], large_b[::-2]),
        (large_a[::-1, ::-1], large_b[:, ::-3]),
        (large_b.T, large_a.T),
        (large_b.T[::5, 3:], large_a.T[3:, 7:]),
        (np.broadcast_to(large_a[:, :1], (40, 600)), np.broadcast_to(large_b[:1], (600, 160))),
    ]
    for a, b in views:
        expected = functional.matmul(a.copy(), b.copy())
        assert_same_bits([functional.matmul(a, b)], [expected])


def test_matmul_rows_do_not_depend_on_each_other(forced: str, dtype: Any) -> None:
    a = random_numbers(70, 300, dtype=dtype)
    b = random_numbers(300, 90, dtype=dtype)
    bias = random_numbers(90, dtype=dtype)
    whole = functional.matmul(a, b, bias, num_threads=1)
    for num_threads in (2, 3, 4):
        assert_same_bits([functional.matmul(a, b, bias, num_threads=num_threads)], [whole])
    for first, size in [(0, 1), (5, 2), (6, 3), (1, 4), (7, 5), (20, 6), (3, 7), (11, 59)]:
        rows = slice(first, first + size)
        assert_same_bits([functional.matmul(a[rows], b, bias)], [whole[rows]])
    # Nor does a column on the columns beside it, though narrow matrices have narrower panels.
    for columns in (1, 7, 16, 40):
        narrow = functional.matmul(a, b[:, :columns], bias[:columns])
        assert_same_bits([narrow], [np.ascontiguousarray(whole[:, :columns])])


@pytest.mark.parametrize("columns", [5, 64])
def test_matmul_lets_nan_and_infinity_flow(columns: int, forced: str, dtype: Any) -> None:
    """Neither reaches another row, nor, through the zeros that pad a panel, another column."""
    a = np.ones((9, 20), dtype)
    b = np.ones((20, columns), dtype)
    a[1, 3], a[4, 5], a[7, 0] = np.nan, np.inf, -np.inf
    b[2, 3] = np.inf
    with np.errstate(invalid="ignore"):
        expected = a @ b
    np.testing.assert_array_equal(functional.matmul(a, b), expected)


def test_matmul_errs_no_more_than_any_order_of_additions_may(
    forced: str, checked_dtype: Any
) -> None:
    """By Higham, Accuracy and Stability of Numerical Algorithms, section 3.1."""
    a = random_numbers(7, 600, dtype=checked_dtype)
    b = random_numbers(600, 33, dtype=checked_dtype)
    exact = a.astype(wider(checked_dtype)) @ b.astype(wider(checked_dtype))
    bound = 600 * np.finfo(checked_dtype).eps / 2 * (np.abs(a) @ np.abs(b))
    assert (np.abs(functional.matmul(a, b) - exact) <= bound).all()


def test_matmul_bits_are_the_same_on_every_fused_instruction_set(
    dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = random_numbers(13, 300, dtype=dtype), random_numbers(300, 77, dtype=dtype)
    products = []
    for isa in FUSED:
        monkeypatch.setenv("LSTM_EXT_ISA", isa)
        products.append(functional.matmul(a, b))
    for product in products[1:]:
        assert_same_bits([product], products[:1])


ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}


def adam_arrays(size: int, dtype: Any) -> list[Array]:
    """Return param, grad, m and v, the latter not negative."""
    param, grad, m, v = (random_numbers(size, dtype=dtype, seed=seed) for seed in range(4))
    return [param, grad, dtype(0.1) * m, v * v]


def plain_adam(arrays: list[Array], step_size: float, decay: float) -> list[Array]:
    """Return the new param, m and v, computed in the arrays' dtype."""
    param, grad, m, v = arrays
    number = param.dtype.type
    m = m + (grad - m) * number(1 - ADAM["beta_1"])
    v = v + (grad * grad - v) * number(1 - ADAM["beta_2"])
    update = number(step_size) * m / (np.sqrt(v) + number(ADAM["epsilon"]))
    return [param * number(1 - decay) - update, m, v]


def kernel_adam(arrays: list[Array], step_size: float, decay: float) -> list[Array]:
    param, grad, m, v = (array.copy() for array in arrays)
    _cpu.adam_update([param], [grad], [m], [v], step_size=step_size, decay=decay, **ADAM)
    return [param, m, v]


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_adam_update(decay: float, forced: str, dtype: Any) -> None:
    """The baseline does NumPy's very operations; the others leave out two roundings of them."""
    for size in range(70):
        arrays = adam_arrays(size, dtype)
        actual, plain = kernel_adam(arrays, 0.1, decay), plain_adam(arrays, 0.1, decay)
        if forced == "baseline":
            assert_same_bits(actual, plain)
            continue
        param, grad, m, v = (np.abs(array).astype(np.longdouble) for array in arrays)
        rounding = np.finfo(dtype).eps
        scales = [param + 1, grad + m, grad * grad + v]
        for a, p, scale in zip(actual, plain, scales, strict=True):
            assert (np.abs(a - p) <= 2 * rounding * scale).all()


def test_adam_bits_are_the_same_on_every_fused_instruction_set(
    dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = adam_arrays(1001, dtype)
    results = []
    for isa in FUSED:
        monkeypatch.setenv("LSTM_EXT_ISA", isa)
        results.append(kernel_adam(arrays, 0.1, 0.01))
    for result in results[1:]:
        assert_same_bits(result, results[0])


def test_adam_update_of_several_arrays(forced: str, dtype: Any) -> None:
    """Of any rank; what lies before and behind an array is another's."""
    shapes = [(3,), (2, 5), (0,), (4, 2, 3), (61,)]
    buffers = [adam_arrays(int(np.prod(shape)) + 2, dtype) for shape in shapes]
    expected = [[buffer.copy() for buffer in group] for group in buffers]
    for group in expected:
        param, m, v = kernel_adam([buffer[1:-1] for buffer in group], 0.1, 0.0)
        group[0][1:-1], group[2][1:-1], group[3][1:-1] = param, m, v
    views = [
        [buffer[1:-1].reshape(shape) for buffer in group]
        for group, shape in zip(buffers, shapes, strict=True)
    ]
    _cpu.adam_update(*map(list, zip(*views, strict=True)), step_size=0.1, **ADAM)
    for group, result in zip(buffers, expected, strict=True):
        assert_same_bits(group, result)


@pytest.mark.parametrize(
    ("position", "bad", "message"),
    [
        (0, np.zeros((4, 6), np.float32)[:, ::2], "^params: expected contiguous arrays$"),
        (1, np.zeros(11, np.float32), "^grads: expected the shape of its parameter$"),
        (1, np.zeros(12), "^grads: expected the type of its parameter$"),
        (2, np.zeros(12), "^m: expected the type of its parameter$"),
        (3, np.zeros(13, np.float32), "^v: expected the shape of its parameter$"),
    ],
)
def test_adam_update_refuses_arrays_that_do_not_fit(
    position: int, bad: Array, message: str
) -> None:
    arrays = [np.ones(12, np.float32) for _ in range(4)]
    arrays[position] = bad
    before = [array.copy() for array in arrays]
    with pytest.raises(ValueError, match=message):
        _cpu.adam_update(*([array] for array in arrays), step_size=0.1, **ADAM)
    assert_same_bits(arrays, before)


def test_adam_update_refuses_read_only_arrays_and_lists_of_other_lengths() -> None:
    arrays = [np.ones(12, np.float32) for _ in range(4)]
    arrays[0].flags.writeable = False
    with pytest.raises(ValueError, match=r"^params: expected arrays that can be written to$"):
        _cpu.adam_update(*([array] for array in arrays), step_size=0.1, **ADAM)
    with pytest.raises(ValueError, match=r"^params: expected four lists of one length$"):
        _cpu.adam_update(arrays[:2], arrays[:1], arrays[:1], arrays[:1], step_size=0.1, **ADAM)


def test_packed_weights_keep_their_instruction_set(isa: str, dtype: Any) -> None:
    arrays = np.ones((3, 20), dtype), np.ones((5, 20), dtype)
    packed = functional.pack(*arrays, isa=isa)
    assert (packed.isa, packed.input_size, packed.units) == (isa, 3, 5)
    assert packed.dtype == dtype
    assert packed.has_bias is False
    assert functional.pack(*arrays, np.ones(20, dtype), isa=isa).has_bias is True


def test_an_argument_goes_before_the_environment(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTM_EXT_ISA", "unknown")
    arrays = np.ones((3, 20)), np.ones((5, 20))
    assert functional.pack(*arrays, isa=isa).isa == isa
    available = ", ".join(config.available_isas())
    with pytest.raises(ValueError, match=f"^LSTM_EXT_ISA='unknown': expected .* {available}$"):
        functional.pack(*arrays)
    with pytest.raises(ValueError, match=f"^isa='sse9': expected .* {available}$"):
        functional.pack(*arrays, isa="sse9")
    monkeypatch.setenv("LSTM_EXT_ISA", "")
    assert functional.pack(*arrays).isa == config.available_isas()[0]


@pytest.mark.parametrize("position", ["params", "grads", "m", "v"])
@pytest.mark.parametrize("bad", ["a number", "another size", "another dtype", "strided"])
def test_adam_update_checks_all_arrays_before_it_changes_any(position: str, bad: str) -> None:
    lists = {
        name: [np.ones(4, np.float32), np.ones(6, np.float32)] for name in ("params", "m", "v")
    }
    lists["grads"] = [np.ones(4, np.float32), np.ones(6, np.float32)]
    replacement: Any = {
        "a number": 1.0,
        "another size": np.ones(5, np.float32),
        "another dtype": np.ones(6, np.float16),
        "strided": np.ones(12, np.float32)[::2],
    }[bad]
    lists[position][1] = replacement
    with pytest.raises(ValueError, match=r"params|grads|m|v"):
        _cpu.adam_update(
            lists["params"], lists["grads"], lists["m"], lists["v"], step_size=0.1, **ADAM
        )
    assert all((lists[name][0] == 1).all() for name in ("params", "m", "v"))
