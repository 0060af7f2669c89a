"""The NumPy reference: against torch, Keras and central differences."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ext import reference
from support import (
    Array,
    assert_gradients_match_central_differences,
    assert_same_bits,
    error,
    make_problem,
    run,
)

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.npz"))
DTYPES = [np.float16, np.float32, np.float64, np.longdouble]


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def golden(request: pytest.FixtureRequest) -> dict[str, Array]:
    with np.load(request.param) as file:
        return dict(file)


def run_golden(golden: dict[str, Array], dtype: Any = np.float64) -> dict[str, Array]:
    """Return the reference's results on a golden file's inputs, named as in the file."""
    arrays = {name: golden[name].astype(dtype) for name in golden if name != "go_backwards"}
    state = (arrays["h0"], arrays["c0"]) if "h0" in arrays else None
    results, backward = reference.lstm_vjp(
        arrays["x"],
        arrays["kernel"],
        arrays["recurrent_kernel"],
        arrays.get("bias"),
        initial_state=state,
        go_backwards=bool(golden["go_backwards"]),
    )
    gradients = backward(arrays["d_output"], arrays["d_h"], arrays["d_c"])
    named = {f"gradient_{name}": array for name, array in gradients._asdict().items()}
    named |= zip(("output", "h", "c"), results, strict=True)
    return {name: named[name] for name in golden if name in named}


def relative_error(actual: Array, exact: Array) -> float:
    return error(actual, exact) / float(np.max(np.abs(exact)))


def assert_agrees_with_golden(golden: dict[str, Array]) -> None:
    """Assert that two float64 results differ by no more than their roundings can explain.

    What roundings do to this very problem is seen in float32. Float64 rounds 2**29 times more
    finely; both results may err, each by twice as much as usual: four times in all.
    """
    actual, single = run_golden(golden), run_golden(golden, np.float32)
    assert len(actual) >= 6
    rounding = max(relative_error(single[name], actual[name]) for name in actual)
    for name, array in actual.items():
        assert relative_error(array, golden[name]) <= 4 * rounding * 2.0**-29, name


def test_golden_files_are_there() -> None:
    frameworks = [path.stem.split("_")[0] for path in GOLDEN]
    assert frameworks.count("torch") >= 5 and frameworks.count("keras") >= 4


def test_agrees_with_golden_vectors(golden: dict[str, Array]) -> None:
    assert_agrees_with_golden(golden)


@pytest.mark.parametrize("order", [o for o in itertools.permutations("ifco") if o != tuple("ifco")])
def test_no_other_gate_order_agrees(golden: dict[str, Array], order: tuple[str, ...]) -> None:
    for name in ("kernel", "recurrent_kernel", "bias"):
        if name in golden:
            gates = dict(zip("ifco", np.split(golden[name], 4, axis=-1), strict=True))
            golden[name] = np.concatenate([gates[gate] for gate in order], axis=-1)
    with pytest.raises(AssertionError):
        assert_agrees_with_golden(golden)


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (2, 3, 3, 2), (1, 4, 2, 3)])
def test_gradients_match_central_differences(
    size: tuple[int, int, int, int], go_backwards: bool
) -> None:
    problem = make_problem(*size, np.longdouble)

    def loss() -> Any:
        results = reference.lstm(
            *problem.arguments, initial_state=problem.initial_state, go_backwards=go_backwards
        )
        return sum((d * r).sum() for d, r in zip(problem.upstream, results, strict=True))

    gradients = run(reference, problem, go_backwards=go_backwards)[3:]
    arguments = [*problem.arguments, *problem.initial_state]
    assert_gradients_match_central_differences(loss, arguments, gradients)


def test_every_float_type_computes_in_itself() -> None:
    exact = run(reference, make_problem(3, 5, 4, 6, np.float16).astype(np.longdouble))
    errors = []
    for dtype in DTYPES:
        results = run(reference, make_problem(3, 5, 4, 6, np.float16).astype(dtype))
        assert {array.dtype for array in results} == {np.dtype(dtype)}
        errors.append(max(map(error, results, exact)))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[1] > errors[2]


def test_missing_upstream_gradients_are_zeros() -> None:
    problem = make_problem(3, 4, 2, 5, np.float64)
    _, backward = reference.lstm_vjp(*problem.arguments, initial_state=problem.initial_state)
    zeros = [np.zeros_like(d) for d in problem.upstream]
    for position, name in enumerate(("d_output", "d_h", "d_c")):
        upstream = zeros.copy()
        upstream[position] = problem.upstream[position]
        assert_same_bits(backward(**{name: problem.upstream[position]}), backward(*upstream))


def test_go_backwards_reads_from_the_end() -> None:
    problem = make_problem(3, 4, 2, 5, np.float64)
    flipped = problem._replace(x=problem.x[:, ::-1])
    actual = list(run(reference, problem, go_backwards=True))
    actual[3] = actual[3][:, ::-1]
    assert_same_bits(actual, run(reference, flipped))


def test_time_major_swaps_the_axes() -> None:
    problem = make_problem(3, 4, 2, 5, np.float64)
    swapped = problem._replace(x=problem.x.swapaxes(0, 1), d_output=problem.d_output.swapaxes(0, 1))
    actual = list(run(reference, swapped, time_major=True))
    for position in (0, 3):
        actual[position] = actual[position].swapaxes(0, 1)
    assert_same_bits(actual, run(reference, problem))


def test_without_bias_or_state_is_with_zeros() -> None:
    problem = make_problem(3, 4, 2, 5, np.float64)
    zeros = problem._replace(
        bias=np.zeros(20), h0=np.zeros_like(problem.h0), c0=np.zeros_like(problem.c0)
    )
    results, backward = reference.lstm_vjp(*problem.arguments[:3])
    gradients = backward(*problem.upstream)
    expected = run(reference, zeros)
    assert gradients.bias is None
    assert_same_bits([*results, *gradients[:6]], [*expected[:6], None, *expected[7:]])
    assert gradients[6:] == (None, None, None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch_size", "seq_len"), [(0, 3), (2, 0), (0, 0)])
def test_empty(batch_size: int, seq_len: int, dtype: Any) -> None:
    problem = make_problem(batch_size, seq_len, 3, 4, dtype)
    output, h, c, *gradients = run(reference, problem)
    assert_same_bits([output, h, c], [np.empty((batch_size, seq_len, 4), dtype), *problem[4:6]])
    zeros = [np.zeros_like(array) for array in problem.arguments]
    assert_same_bits(gradients, [*zeros, problem.d_h, problem.d_c])


@pytest.mark.parametrize("dtype", DTYPES)
def test_saturated_gates_overflow_nowhere(dtype: Any) -> None:
    x = np.array([[[1], [-1]]], dtype)
    kernel = np.full((1, 4), np.finfo(dtype).max, dtype)
    (output, _, c), backward = reference.lstm_vjp(x, kernel, np.zeros((1, 4), dtype))
    np.testing.assert_array_equal(output[0, :, 0], [np.tanh(dtype(1)), 0])
    assert c == 0
    gradients = backward(np.ones_like(output))
    assert all(np.isfinite(g).all() for g in gradients if g is not None)


def test_results_are_not_the_arguments() -> None:
    problem = make_problem(2, 0, 3, 4, np.float64)
    _, h, c, *gradients = run(reference, problem)
    for array in (h, c, *gradients):
        assert not any(np.shares_memory(array, argument) for argument in problem)


@pytest.mark.parametrize(
    ("change", "expected", "message"),
    [
        ({"x": np.zeros((2, 3))}, ValueError, r"x: got shape \(2, 3\), expected \(batch, time"),
        ({"x": np.zeros((2, 3, 4), "i8")}, TypeError, "x: got an array of int64, expected floats"),
        ({"x": [[[1.0], [1.0, 2.0]]]}, ValueError, "x: expected an array of floats"),
        ({"kernel": np.zeros((5, 8))}, ValueError, r"kernel: got shape \(5, 8\), expected \(4, 8"),
        ({"kernel": np.zeros((4, 8), "f4")}, TypeError, "kernel: got .* float32, expected float64"),
        ({"recurrent_kernel": np.zeros((2, 4))}, ValueError, "recurrent_kernel: got shape"),
        ({"bias": np.zeros(7)}, ValueError, r"bias: got shape \(7,\), expected \(8,\)"),
        ({"initial_state": np.zeros((2, 2))}, ValueError, "initial_state: got ndarray"),
        ({"initial_state": (np.zeros((2, 2)), np.zeros((1, 2)))}, ValueError, r"state\[1\]: got"),
    ],
)
def test_bad_input(change: dict[str, Any], expected: type[Exception], message: str) -> None:
    good = {
        "x": np.zeros((2, 3, 4)),
        "kernel": np.zeros((4, 8)),
        "recurrent_kernel": np.zeros((2, 8)),
    }
    reference.lstm(**good)
    with pytest.raises(expected, match=message):
        reference.lstm(**(good | change))
