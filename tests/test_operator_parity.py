"""The operator's results against the NumPy reference, on every instruction set."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lstm_ext import functional
from support import (
    OUTPUTS,
    RESULTS,
    SIZES,
    Size,
    assert_as_accurate,
    assert_same_bits,
    draws,
    make_problem,
    wider,
)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_results(size: Size, isa: str, checked_dtype: Any) -> None:
    drawn = draws(size, checked_dtype)
    actual = [
        functional.lstm(*d.problem.arguments, initial_state=d.problem.initial_state, isa=isa)
        for d in drawn
    ]
    for i, name in enumerate(RESULTS[OUTPUTS]):
        assert_as_accurate(
            [a[i] for a in actual], [d.plain[i] for d in drawn], [d.exact[i] for d in drawn], name
        )


@pytest.mark.parametrize(
    ("bias", "state", "go_backwards", "time_major"),
    list(itertools.product([False, True], repeat=4)),
)
def test_options(
    bias: bool, state: bool, go_backwards: bool, time_major: bool, isa: str, dtype: Any
) -> None:
    """Each option is held to the plain call that it stands for, which test_results checks."""
    problem = make_problem(14, 6, 5, 19, dtype, bias=bias)
    zeros = np.zeros_like(problem.h0), np.zeros_like(problem.c0)
    plain_output, *plain_state = functional.lstm(
        problem.x[:, ::-1] if go_backwards else problem.x,
        problem.kernel,
        problem.recurrent_kernel,
        problem.bias if bias else np.zeros(4 * 19, dtype),
        initial_state=problem.initial_state if state else zeros,
        isa=isa,
    )
    output, *final_state = functional.lstm(
        problem.x.swapaxes(0, 1) if time_major else problem.x,
        *problem.weights,
        initial_state=problem.initial_state if state else None,
        go_backwards=go_backwards,
        time_major=time_major,
        isa=isa,
    )
    output = output.swapaxes(0, 1) if time_major else output
    assert_same_bits([output, *final_state], [plain_output, *plain_state])


@pytest.mark.parametrize("time_major", [False, True])
def test_without_sequences_the_output_is_h(time_major: bool, isa: str, dtype: Any) -> None:
    problem = make_problem(3, 4, 5, 6, dtype)
    x = problem.x.swapaxes(0, 1) if time_major else problem.x
    call = {"initial_state": problem.initial_state, "time_major": time_major, "isa": isa}
    _, h, c = functional.lstm(x, *problem.weights, **call)
    results = functional.lstm(x, *problem.weights, return_sequences=False, **call)
    assert_same_bits(results, (h, h, c))


def test_packed_weights(isa: str, dtype: Any) -> None:
    problem = make_problem(3, 4, 5, 6, dtype)
    packed = functional.pack(*problem.weights, isa=isa)
    assert (packed.input_size, packed.units, packed.has_bias) == (5, 6, True)
    assert packed.dtype == dtype and packed.isa == isa
    assert not functional.pack(*problem.weights[:2], isa=isa).has_bias
    expected = functional.lstm(*problem.arguments, isa=isa)
    for weights in problem.weights:
        weights[...] = np.nan  # packing copied them
    assert_same_bits(functional.lstm(problem.x, packed), expected)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 13, 64])
@pytest.mark.parametrize("columns", [1, 5, 16, 33, 65])
@pytest.mark.parametrize("depth", [1, 2, 17, 64, 257, 600])
def test_matmul(rows: int, depth: int, columns: int, checked_dtype: Any) -> None:
    actual, plain, exact = [], [], []
    for seed in range(max(4, 256 // (rows * columns))):
        rng = np.random.default_rng([seed, rows, depth, columns])
        a = rng.standard_normal((rows, depth)).astype(checked_dtype)
        b = rng.standard_normal((depth, columns)).astype(checked_dtype)
        bias = rng.standard_normal(columns).astype(checked_dtype)
        actual.append(functional.matmul(a, b, bias))
        plain.append(a @ b + bias)
        exact.append(a.astype(wider(checked_dtype)) @ b.astype(wider(checked_dtype)) + bias)
        assert_same_bits([functional.matmul(a, b)], [functional.matmul(a, b, np.zeros_like(bias))])
    # The operator adds up to a block's length one by one. For the smallest products BLAS has other
    # kernels, with a dozen partial sums, whose error is smaller by the root of that.
    assert_as_accurate(actual, plain, exact, "matmul", factor=3)


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 0, 2), (3, 2, 0)])
def test_empty_matmul(shape: tuple[int, int, int], dtype: Any) -> None:
    a, b = np.ones(shape[:2], dtype), np.ones(shape[1:], dtype)
    bias = np.ones(shape[2], dtype)
    assert_same_bits([functional.matmul(a, b, bias)], [a @ b + bias])
