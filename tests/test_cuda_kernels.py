"""The CUDA kernels, compiled for the CPU and run by an emulator: csrc/cuda/ with no GPU.

The emulator starts shared memory as NaN, runs the threads of a block in an order that a test
chooses, and lets what blocks send each other arrive late, so that a missing barrier and a wrong
index show as wrong numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cuda_support import (
    Emulated,
    Split,
    emulating,
    emulation,
    plain_bfloat16,
    round_problem,
    run_emulated,
)
from lstm_ext import reference
from support import RESULTS, assert_as_accurate, assert_same_bits, make_problem, run, wider

Size = tuple[int, int, int, int]

# Sizes (B, T, I, H) with the divisions to try: blocks and rows of a group.
DIVISIONS: list[tuple[Size, list[Split]]] = [
    ((1, 3, 2, 1), [Split("steps"), Split("cluster", 1), Split("cluster", 2), Split("grid", 1)]),
    ((3, 4, 5, 20), [Split("steps"), Split("cluster", 1), Split("cluster", 4), Split("grid", 3)]),
    (
        (5, 3, 3, 37),
        [
            Split("steps"),
            Split("cluster", 1, 5),
            Split("cluster", 2, 2),
            Split("cluster", 8, 3),
            Split("grid", 3, 4),
            Split("grid", 19, 5),
        ],
    ),
    ((19, 2, 3, 33), [Split("steps"), Split("cluster", 4, 9), Split("grid", 5, 10)]),
    ((35, 2, 2, 34), [Split("steps")]),
    ((18, 2, 2, 150), [Split("steps")]),
    ((67, 2, 2, 42), [Split("steps")]),
    ((67, 2, 2, 18), [Split("steps"), Split("cluster", 1, 33), Split("grid", 2, 34)]),
]
# As many weights as need the shared memory too.
DEEP: list[tuple[str, Size, Split]] = [
    ("float32", (5, 3, 2, 100), Split("cluster", 1, 5)),
    ("float32", (3, 2, 2, 201), Split("cluster", 4, 3)),
    ("float32", (2, 2, 2, 201), Split("grid", 4, 2)),
    ("bfloat16", (9, 2, 2, 150), Split("cluster", 1, 4)),
    ("bfloat16", (3, 2, 2, 301), Split("cluster", 4, 3)),
    ("bfloat16", (2, 2, 2, 301), Split("grid", 4, 2)),
]
CASES = [
    pytest.param(dtype, size, split, id=f"{dtype}-{split.algorithm}{split.blocks or ''}-{size}")
    for size, splits in DIVISIONS
    for split in splits
    for dtype in ("float32", "float64", "bfloat16")
    if dtype != "float64" or split.algorithm == "steps"
]


@pytest.fixture(scope="module")
def native() -> Any:
    return emulation()


def problems_of(dtype: str, size: Size, count: int) -> list[Any]:
    kind = np.float64 if dtype == "float64" else np.float32
    problems = [make_problem(*size, kind, seed=seed) for seed in range(count)]
    return [round_problem(p) for p in problems] if dtype == "bfloat16" else problems


def assert_accurate(dtype: str, problems: list[Any], found: list[tuple[Any, ...]]) -> None:
    small = dtype == "bfloat16"
    plain = [plain_bfloat16(p) if small else run(reference, p) for p in problems]
    exact = [run(reference, p.astype(wider(p.x.dtype))) for p in problems]
    for index, name in enumerate(RESULTS):
        columns = ([result[index] for result in results] for results in (found, plain, exact))
        assert_as_accurate(*columns, f"{name} in {dtype}")


@pytest.mark.parametrize(("dtype", "size", "split"), CASES)
def test_results_and_gradients(
    dtype: str, size: Size, split: Split, native: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = problems_of(dtype, size, min(64, max(2, 4000 // (size[0] * size[1] * size[3]))))
    with emulating(native, split, monkeypatch):
        found = [run_emulated(problem, dtype) for problem in problems]
    assert_accurate(dtype, problems, found)


@pytest.mark.parametrize(("dtype", "size", "split"), DEEP)
def test_weights_that_registers_cannot_hold(
    dtype: str, size: Size, split: Split, native: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for direction in ("forward", "backward"):
        plan = native.plan(dtype, direction, size[0], size[3], *split[:3])
        assert plan.describe()["deep"]
    problems = problems_of(dtype, size, 2)
    with emulating(native, split, monkeypatch):
        found = [run_emulated(problem, dtype) for problem in problems]
    assert_accurate(dtype, problems, found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("size", "split", "rounds", "launches"),
    [
        ((9, 3, 2, 34), Split("grid", 3, 2, processors=9), 2, 1),  # one row in the last
        ((17, 3, 2, 37), Split("grid", 2, 5, processors=2), 4, 1),
        ((35, 2, 1, 5), Split("grid", 2, 1, processors=5), 16, 2),
        ((7, 2, 1, 150), Split("grid", 4, 3, "random", 3, 4), 3, 1),  # several warps a block
    ],
)
def test_more_rows_than_groups_hold_at_once(
    size: Size,
    split: Split,
    rounds: int,
    launches: int,
    dtype: str,
    native: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for direction in ("forward", "backward"):
        plan = native.plan(
            dtype, direction, size[0], size[3], *split[:3], device=split.chip
        ).describe()
        assert (plan["rounds"], plan["launches"]) == (rounds, launches)
    problems = problems_of(dtype, size, 2)
    with emulating(native, split, monkeypatch):
        found = [run_emulated(problem, dtype) for problem in problems]
    assert_accurate(dtype, problems, found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("algorithm", ["steps", "cluster", "grid"])
def test_the_same_bits_in_any_order_of_threads(
    algorithm: str, dtype: str, native: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the tiles of "steps" there are two in every direction.
    size, blocks = ((67, 2, 2, 35), 0) if algorithm == "steps" else ((7, 5, 2, 22), 4)
    problem = problems_of(dtype, size, 1)[0]
    rows, processors = (0, 0) if algorithm == "steps" else (3, 4 if algorithm == "grid" else 0)
    split = Split(algorithm, blocks, rows, processors=processors)  # a grid takes three rounds
    with emulating(native, split, monkeypatch):
        expected = run_emulated(problem, dtype)
    orders = [("reverse", 0), *(("random", seed) for seed in range(6))]
    for order, seed in orders:
        with emulating(native, split._replace(order=order, seed=seed), monkeypatch):
            assert_same_bits(run_emulated(problem, dtype), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("algorithm", ["cluster", "grid"])
def test_a_row_does_not_depend_on_the_batch(
    algorithm: str, dtype: str, native: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problems_of(dtype, (9, 3, 2, 22), 1)[0]
    with emulating(native, Split(algorithm, 2, 5), monkeypatch):
        whole = run_emulated(problem, dtype)
        part = run_emulated(problem.rows(slice(3, 4)), dtype)
    assert_same_bits([a[:1] for a in part[1:3]], [a[3:4] for a in whole[1:3]])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("algorithm", ["cluster", "grid"])
@pytest.mark.parametrize("order", ["forward", "random"])
def test_a_word_that_never_comes_ends_in_an_error(
    algorithm: str, dtype: str, order: str, native: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lstm_ext import cuda
    from lstm_ext.cuda import backward, forward

    problem = problems_of(dtype, (2, 4, 2, 12), 1)[0]
    for passes in (forward, backward):
        monkeypatch.setattr(passes, "TIMEOUT_NS", 1_000_000)
    with emulating(native, Split(algorithm, 2, 2), monkeypatch):
        native.emulate(order, 1, 7)
        output, h, c, *gradients = run_emulated(problem, dtype)
        assert np.isfinite(output[:, 0]).all()
        assert np.isnan(output[:, 3]).all() and np.isnan(h).all() and np.isnan(c).all()
        assert all(np.isnan(gradient).any() for gradient in gradients)
        with pytest.raises(RuntimeError, match="gave up waiting"):
            cuda.synchronize()
        cuda.synchronize()  # once told, it is over
        native.emulate("forward")
        assert np.isfinite(run_emulated(problem, dtype)[0]).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_not_finite_stays_in_its_row(
    dtype: str, native: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problems_of(dtype, (5, 3, 2, 12), 1)[0]
    problem.x[2, 1, 0] = np.nan
    for split in (Split("steps"), Split("cluster", 2, 5), Split("grid", 3, 5)):
        with emulating(native, split, monkeypatch):
            output = run_emulated(problem, dtype)[0]
        assert np.isnan(output[2, 1:]).all()
        assert np.isfinite(np.delete(output, 2, axis=0)).all() and np.isfinite(output[2, 0]).all()


def test_the_emulator_notices(native: Any) -> None:
    """A launch that no chip takes is none here either."""
    emulated = Emulated(native, Split("cluster"))
    with pytest.raises(ValueError, match="algorithm: got cluster with 4000 units"):
        emulated.plan("float32", "forward", 1, 4000, "auto")
