"""The operator's gradients against the NumPy reference and central differences."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lstm_ext import functional, reference
from support import (
    GRADIENTS,
    RESULTS,
    SIZES,
    Array,
    Problem,
    Size,
    assert_as_accurate,
    assert_gradients_match_central_differences,
    assert_same_bits,
    draws,
    make_problem,
    run,
    wider,
)

UPSTREAM = ("d_output", "d_h", "d_c")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gradients(size: Size, isa: str, checked_dtype: Any) -> None:
    drawn = draws(size, checked_dtype)
    actual = [run(functional, d.problem, isa=isa) for d in drawn]
    for i, name in list(enumerate(RESULTS))[GRADIENTS]:
        assert_as_accurate(
            [a[i] for a in actual], [d.plain[i] for d in drawn], [d.exact[i] for d in drawn], name
        )


def backward_of(module: Any, problem: Problem, name: str, **options: Any) -> tuple[Array, ...]:
    """Return the gradients for one upstream gradient alone."""
    _, backward = module.lstm_vjp(
        *problem.arguments, initial_state=problem.initial_state, **options
    )
    return tuple(backward(**{name: getattr(problem, name)}))


@pytest.mark.parametrize("name", UPSTREAM)
@pytest.mark.parametrize("size", [(1, 5, 10, 20), (13, 4, 7, 17), (3, 9, 2, 33)], ids=str)
def test_each_upstream_gradient_alone(size: Size, name: str, isa: str, checked_dtype: Any) -> None:
    problems = [make_problem(*size, checked_dtype, seed=seed) for seed in range(32)]
    exact_problems = [p.astype(wider(checked_dtype)) for p in problems]
    actual = [backward_of(functional, p, name, isa=isa) for p in problems]
    plain = [backward_of(reference, p, name) for p in problems]
    exact = [backward_of(reference, p, name) for p in exact_problems]
    for i, result in enumerate(RESULTS[GRADIENTS]):
        assert_as_accurate(
            [a[i] for a in actual], [p[i] for p in plain], [e[i] for e in exact], result
        )


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (2, 3, 3, 2), (1, 4, 2, 5)], ids=str)
def test_gradients_match_central_differences(size: Size, go_backwards: bool, isa: str) -> None:
    problem = make_problem(*size, np.float64)
    options = {"go_backwards": go_backwards, "isa": isa}

    def loss() -> Any:
        results = functional.lstm(
            *problem.arguments, initial_state=problem.initial_state, **options
        )
        return sum((d * r).sum() for d, r in zip(problem.upstream, results, strict=True))

    gradients = run(functional, problem, **options)[GRADIENTS]
    arguments = [*problem.arguments, *problem.initial_state]
    assert_gradients_match_central_differences(loss, arguments, gradients)


@pytest.mark.parametrize(
    ("bias", "state", "go_backwards", "time_major"),
    list(itertools.product([False, True], repeat=4)),
)
def test_options(
    bias: bool, state: bool, go_backwards: bool, time_major: bool, isa: str, dtype: Any
) -> None:
    """Each option is held to the plain call that it stands for, which test_gradients checks."""
    problem = make_problem(14, 6, 5, 19, dtype, bias=bias)
    zeros = np.zeros_like(problem.h0), np.zeros_like(problem.c0)
    (plain_output, *_), backward = functional.lstm_vjp(
        problem.x[:, ::-1] if go_backwards else problem.x,
        problem.kernel,
        problem.recurrent_kernel,
        problem.bias if bias else np.zeros(4 * 19, dtype),
        initial_state=problem.initial_state if state else zeros,
        isa=isa,
    )
    plain = backward(*problem.upstream)
    (output, *_), backward = functional.lstm_vjp(
        problem.x.swapaxes(0, 1) if time_major else problem.x,
        *problem.weights,
        initial_state=problem.initial_state if state else None,
        go_backwards=go_backwards,
        time_major=time_major,
        isa=isa,
    )
    d_output = problem.d_output.swapaxes(0, 1) if time_major else problem.d_output
    gradients = backward(d_output, problem.d_h, problem.d_c)
    d_x = gradients.x.swapaxes(0, 1) if time_major else gradients.x
    assert_same_bits([output.swapaxes(0, 1) if time_major else output], [plain_output])
    assert_same_bits(
        gradients._replace(x=d_x[:, ::-1] if go_backwards else d_x),
        plain if bias else plain._replace(bias=None),
    )


def test_without_sequences_d_output_is_added_to_d_h(isa: str, dtype: Any) -> None:
    problem = make_problem(3, 4, 5, 6, dtype)
    call = {"initial_state": problem.initial_state, "isa": isa}
    d_last = problem.d_output[:, -1]
    results, backward = functional.lstm_vjp(*problem.arguments, **call)
    (output, h, c), backward_of_last = functional.lstm_vjp(
        *problem.arguments, return_sequences=False, **call
    )
    assert_same_bits((output, h, c), (results[1], *results[1:]))
    assert_same_bits(
        backward_of_last(d_last, problem.d_h, problem.d_c),
        backward(None, d_last + problem.d_h, problem.d_c),
    )
    assert_same_bits(backward_of_last(d_last), backward(None, d_last))


def test_the_forward_pass_before_a_backward_has_the_same_bits(isa: str, dtype: Any) -> None:
    for size in SIZES[:20]:
        problem = make_problem(*size, dtype)
        call = {"initial_state": problem.initial_state, "isa": isa}
        results, _ = functional.lstm_vjp(*problem.arguments, **call)
        assert_same_bits(results, functional.lstm(*problem.arguments, **call))


def test_backward_can_be_called_again(isa: str, dtype: Any) -> None:
    problem = make_problem(3, 4, 5, 6, dtype)
    _, backward = functional.lstm_vjp(*problem.arguments, isa=isa)
    first = backward(*problem.upstream)
    kept = [g.copy() for g in first if g is not None]
    assert_same_bits(backward(*(2 * d for d in problem.upstream))[:6], [2 * g for g in kept])
    assert_same_bits(backward(*problem.upstream)[:6], kept)
    assert_same_bits(first[:6], kept)


def test_a_consuming_backward_gives_the_same_bits_once(isa: str, dtype: Any) -> None:
    problem = make_problem(3, 4, 5, 6, dtype)
    _, backward = functional.lstm_vjp(*problem.arguments, isa=isa)
    expected = backward(*problem.upstream)
    with pytest.raises(ValueError, match="d_h: got shape"):
        backward(d_h=problem.d_h[0], consume=True)
    assert_same_bits(backward(*problem.upstream, consume=True), expected)
    with pytest.raises(ValueError, match=r"consume: .* before"):
        backward(*problem.upstream)


def test_no_upstream_gradient_gives_zeros(isa: str, dtype: Any) -> None:
    problem = make_problem(3, 4, 5, 6, dtype)
    _, backward = functional.lstm_vjp(*problem.arguments, isa=isa)
    expected = [*problem.arguments, *problem.initial_state]
    for gradient, argument in zip(backward()[:6], expected, strict=True):
        np.testing.assert_array_equal(gradient, np.zeros_like(argument))


@pytest.mark.parametrize("need_x", [False, True])
@pytest.mark.parametrize("need_state", [False, True])
def test_gradients_not_needed_are_empty(
    need_x: bool, need_state: bool, isa: str, dtype: Any
) -> None:
    problem = make_problem(3, 4, 5, 6, dtype)
    _, backward = functional.lstm_vjp(
        *problem.arguments, initial_state=problem.initial_state, isa=isa
    )
    expected = backward(*problem.upstream)
    nothing = np.empty(0, dtype)
    if not need_x:
        expected = expected._replace(x=nothing)
    if not need_state:
        expected = expected._replace(h0=nothing, c0=nothing)
    actual = backward(*problem.upstream, need_x=need_x, need_state=need_state)
    assert_same_bits(actual, expected)
