"""The promises of the results: the same bits however a call is cut up, and NumPy's NaN and inf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lstm_ext import functional, reference
from support import (
    FUSED,
    RESULTS,
    Array,
    Problem,
    Size,
    assert_no_slip,
    assert_same_bits,
    make_problem,
    run,
)

# One for each way in which a call is cut up: small; steps projected together, in several chunks;
# each step on its own; rows shared among threads; units shared among threads; input weights too
# large for the cache.
CUTS = [
    (3, 5, 4, 7),
    (1, 260, 3, 65),
    (13, 6, 33, 37),
    (67, 6, 40, 100),
    (5, 8, 255, 260),
    (14, 5, 2100, 512),
]


def call(problem: Problem, **options: Any) -> tuple[Array, Array, Array]:
    return functional.lstm(*problem.arguments, initial_state=problem.initial_state, **options)


@pytest.mark.parametrize("size", CUTS, ids=str)
def test_the_last_output_is_h(size: Size, isa: str, dtype: Any) -> None:
    output, h, _ = call(make_problem(*size, dtype), isa=isa)
    assert_same_bits([output[:, -1]], [h])


@pytest.mark.parametrize("size", CUTS, ids=str)
def test_a_row_does_not_depend_on_its_batch(size: Size, isa: str, dtype: Any) -> None:
    problem = make_problem(*size, dtype)
    batch_size = size[0]
    packed = functional.pack(*problem.weights, isa=isa)
    whole = functional.lstm(problem.x, packed, initial_state=problem.initial_state)
    for first, last in ((0, 1), (batch_size - 1, batch_size), (1, 3), (0, 12), (2, 40)):
        part = problem.rows(slice(first, last))
        rows = functional.lstm(part.x, packed, initial_state=part.initial_state)
        assert_same_bits(rows, [array[first:last] for array in whole])


@pytest.mark.parametrize("size", CUTS, ids=str)
def test_results_do_not_depend_on_threads_or_run(size: Size, isa: str, dtype: Any) -> None:
    problem = make_problem(*size, dtype)
    expected = run(functional, problem, num_threads=1, isa=isa)
    for num_threads in (1, 2, 3, 4, 7, None):
        assert_same_bits(run(functional, problem, num_threads=num_threads, isa=isa), expected)


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("size", CUTS, ids=str)
def test_steps_may_come_in_several_calls(
    size: Size, go_backwards: bool, isa: str, dtype: Any
) -> None:
    problem = make_problem(*size, dtype)
    whole = call(problem, go_backwards=go_backwards, isa=isa)
    packed = functional.pack(*problem.weights, isa=isa)
    steps = size[1]
    x = problem.x[:, ::-1] if go_backwards else problem.x
    for lengths in ([1] * steps, [2, 1, steps - 3], [steps - 1, 1]):
        outputs, state = [], problem.initial_state
        for end, length in zip(np.cumsum(lengths), lengths, strict=True):
            output, *state = functional.lstm(x[:, end - length : end], packed, initial_state=state)
            outputs.append(output)
        assert_same_bits((np.concatenate(outputs, axis=1), *state), whole)


@pytest.mark.skipif(len(FUSED) < 2, reason="needs two instruction sets with FMA")
@pytest.mark.parametrize("size", [*CUTS, (1, 1, 1, 1), (9, 3, 17, 15), (2, 7, 64, 129)], ids=str)
def test_instruction_sets_with_fma_agree(size: Size, dtype: Any) -> None:
    problem = make_problem(*size, dtype)
    expected = run(functional, problem, isa=FUSED[0])
    for isa in FUSED[1:]:
        assert_same_bits(run(functional, problem, isa=isa), expected)


@pytest.mark.parametrize("shape", [(3, 5, 4), (70, 300, 65), (33, 64, 512)], ids=str)
def test_a_row_of_matmul_depends_on_nothing_else(shape: tuple[int, int, int], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal(shape[:2]).astype(dtype)
    b = rng.standard_normal(shape[1:]).astype(dtype)
    whole = functional.matmul(a, b, num_threads=1)
    for num_threads in (2, 3):
        assert_same_bits([functional.matmul(a, b, num_threads=num_threads)], [whole])
    for rows in (slice(0, 1), slice(1, 3), slice(2, 20)):
        assert_same_bits([functional.matmul(a[rows], b)], [whole[rows]])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("x", (2, 1, 0)),
        ("kernel", (1, 5)),
        ("recurrent_kernel", (3, 40)),
        ("bias", (60,)),
        ("h0", (1, 17)),
        ("c0", (4, 3)),
        ("d_output", (2, 2, 9)),
        ("d_c", (0, 1)),
    ],
)
def test_nan_and_inf_go_where_numpy_takes_them(
    name: str, index: tuple[int, ...], value: float, isa: str, dtype: Any
) -> None:
    problem = make_problem(5, 4, 3, 18, dtype)
    getattr(problem, name)[index] = value
    with np.errstate(all="ignore"):
        expected = run(reference, problem)
    assert_same_special_values(run(functional, problem, isa=isa), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("name", "index"),
    [("x", (2, 0, 1)), ("recurrent_kernel", (3, 40)), ("d_output", (2, 0, 9)), ("d_c", (1, 17))],
)
@pytest.mark.parametrize("seq_len", [1, 2])
def test_zero_state_times_nan_or_inf_is_nan(
    seq_len: int, name: str, index: tuple[int, ...], value: float, isa: str, dtype: Any
) -> None:
    """No state is a state of zeros, whose products may not be left out here."""
    problem = make_problem(5, seq_len, 3, 18, dtype)
    getattr(problem, name)[index] = value
    found = []
    with np.errstate(all="ignore"):
        for module, options in ((functional, {"isa": isa}), (reference, {})):
            results, backward = module.lstm_vjp(*problem.arguments, **options)
            found.append([*results, *backward(*problem.upstream)[:6]])
    assert_same_special_values(*found)


def assert_same_special_values(actual: Sequence[Array], expected: Sequence[Array]) -> None:
    """Assert that NaN and inf stand in the same places, and that the rest agrees."""
    for name, a, e in zip(RESULTS, actual, expected, strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(e), err_msg=name)
        np.testing.assert_array_equal(a[np.isinf(e)], e[np.isinf(e)], err_msg=name)
        assert_no_slip(a[np.isfinite(e)], e[np.isfinite(e)], name)


@pytest.mark.parametrize("z", [1e3, 1e30, np.inf])
def test_saturated_gates(z: float, isa: str, dtype: Any) -> None:
    problem = make_problem(2, 1, 1, 20, dtype)
    _, h, c = functional.lstm(
        np.array([[[z]], [[-z]]], dtype),
        np.ones_like(problem.kernel),
        np.zeros_like(problem.recurrent_kernel),
        initial_state=problem.initial_state,
        isa=isa,
    )
    # All gates are 1 in the first row and 0 in the second, and the candidates 1 and -1.
    np.testing.assert_array_equal(c, [problem.c0[0] + 1, np.zeros(20)])
    np.testing.assert_array_max_ulp(h[0], np.tanh(c[0]), maxulp=2)
    np.testing.assert_array_equal(h[1], np.zeros(20))


def test_denormals_are_kept(isa: str, dtype: Any) -> None:
    zeros = np.zeros((1, 1), dtype)
    c0, halved, quartered = ((zeros + np.finfo(dtype).smallest_subnormal) * k for k in (8, 4, 2))
    # Zero weights: the gates are one half, so c is halved, and h is half of it.
    _, h, c = functional.lstm(
        zeros[None],
        np.zeros((1, 4), dtype),
        np.zeros((1, 4), dtype),
        initial_state=(zeros, c0),
        isa=isa,
    )
    assert_same_bits((h, c), (quartered, halved))


@pytest.mark.parametrize(("batch_size", "seq_len"), [(0, 3), (2, 0), (0, 0)])
@pytest.mark.parametrize("time_major", [False, True])
def test_empty(batch_size: int, seq_len: int, time_major: bool, isa: str, dtype: Any) -> None:
    problem = make_problem(batch_size, seq_len, 3, 4, dtype)
    if time_major:
        problem = problem._replace(
            x=problem.x.swapaxes(0, 1), d_output=problem.d_output.swapaxes(0, 1)
        )
    expected = run(reference, problem, time_major=time_major)
    assert_same_bits(run(functional, problem, time_major=time_major, isa=isa), expected)
    without_state = functional.lstm(*problem.arguments, time_major=time_major, isa=isa)
    assert_same_bits(
        without_state, [expected[0], np.zeros_like(problem.h0), np.zeros_like(problem.c0)]
    )


def test_results_are_not_the_arguments(isa: str, dtype: Any) -> None:
    for size in ((2, 0, 3, 4), (2, 3, 3, 4)):
        problem = make_problem(*size, dtype)
        copies = problem.astype(dtype)
        for result in run(functional, problem, isa=isa):
            assert not any(np.shares_memory(result, argument) for argument in problem)
            result[...] = np.nan
        assert_same_bits(problem, copies)
