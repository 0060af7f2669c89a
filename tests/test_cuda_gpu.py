"""lstm_ext.cuda on a CUDA device. All other tests of CUDA run without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from cuda_support import plain_bfloat16, round_problem, rounded
from cuda_variants_support import NAMES, SLOTS, OnDevice, assert_as_accurate_as_numpy
from lstm_ext import config, cuda, reference
from lstm_ext.variants import Cell, Noise
from operator_support import Case
from support import (
    RESULTS,
    Problem,
    assert_as_accurate,
    assert_no_slip,
    assert_same_bits,
    make_problem,
    run,
    wider,
)
from variants_support import ACTIVATIONS, run_variant

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not config.cuda_available(), reason=config.cuda_available().reason),
]

ALGORITHMS = ["cluster", "grid", "steps"]
# Batch, time, input, units: one block, clusters, weights that need shared memory, grids, several
# launches of one; odd sizes throughout.
SIZES = [
    (1, 1, 1, 1),
    (3, 7, 5, 20),
    (17, 6, 13, 65),
    (2, 300, 3, 129),
    (33, 5, 32, 256),
    (5, 4, 64, 512),
    (9, 3, 7, 1000),
    (70, 3, 16, 600),
]


def put(array: Any, dtype: str) -> Any:
    """Move an array to the device; bfloat16 by way of torch, which has it."""
    import cupy

    if dtype != "bfloat16":
        return cupy.asarray(array)
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("torch was built without CUDA")
    return torch.from_numpy(np.array(array)).cuda().to(torch.bfloat16)


def get(array: Any) -> Any:
    if array is None:
        return None
    return array.float().cpu().numpy() if hasattr(array, "cpu") else array.get()


def run_on_gpu(problem: Problem, dtype: str, **options: Any) -> tuple[Any, ...]:
    wide = "float32" if dtype == "bfloat16" else dtype

    def put_wide(array: Any) -> Any:
        placed = put(array, wide)
        return placed if dtype != "bfloat16" else as_tensor(placed)

    arguments = [None if a is None else put(a, dtype) for a in problem.arguments]
    state = put(problem.h0, dtype), put_wide(problem.c0)
    results, backward = cuda.lstm_vjp(*arguments, initial_state=state, **options)
    upstream = put(problem.d_output, dtype), put(problem.d_h, dtype), put_wide(problem.d_c)
    gradients = backward(*upstream)
    cuda.synchronize()
    return tuple(map(get, (*results, *gradients[:6])))


def as_tensor(array: Any) -> Any:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    return torch.from_dlpack(array)


def assert_accurate(dtype: str, problems: Sequence[Problem], found: Sequence[Any]) -> None:
    plain = [plain_bfloat16(p) if dtype == "bfloat16" else run(reference, p) for p in problems]
    exact = [run(reference, p.astype(wider(p.x.dtype))) for p in problems]
    for index, name in enumerate(RESULTS):
        columns = ([result[index] for result in results] for results in (found, plain, exact))
        # cuBLAS adds the sums over a sequence in another order than NumPy.
        assert_as_accurate(*columns, f"{name} in {dtype}", factor=3)


@pytest.mark.parametrize("algorithm", [None, *ALGORITHMS])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("size", SIZES)
def test_parity(size: tuple[int, int, int, int], dtype: str, algorithm: str | None) -> None:
    kind = np.float64 if dtype == "float64" else np.float32
    least = 2 if dtype == "float64" else 4  # NumPy is slow in what is wider than that
    count = min(64, max(least, 4000 // (size[0] * size[1] * size[3])))
    problems = [make_problem(*size, kind, seed=seed) for seed in range(count)]
    if dtype == "bfloat16":
        problems = [round_problem(problem) for problem in problems]
    try:
        found = [run_on_gpu(problem, dtype, algorithm=algorithm) for problem in problems]
    except ValueError as error:
        if algorithm in ("cluster", "grid") and str(error).startswith("algorithm: got"):
            pytest.skip(str(error))
        raise
    assert_accurate(dtype, problems, found)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("size", [(5, 6, 3, 10), (17, 20, 13, 65), (33, 9, 32, 128)])
def test_masks_resets_and_noise(
    size: tuple[int, int, int, int], go_backwards: bool, algorithm: str
) -> None:
    rng = np.random.default_rng(size[0])
    slots = size[:2]
    options: dict[str, Any] = {"mask": rng.random(slots) < 0.6, "reset": rng.random(slots) < 0.2}
    factors = [np.where(rng.random((size[0], n)) < 0.3, 0, 1 / 0.7).astype("f4") for n in size[2:]]
    problem = make_problem(*size)
    flags = {"go_backwards": go_backwards}
    expected, expected_back = reference.lstm_vjp(
        *problem.arguments, initial_state=problem.initial_state, noise=Noise(*factors), **options,
        **flags,
    )  # fmt: skip
    device = [put(a, "float32") for a in (*problem.arguments, *problem.initial_state)]
    found, back = cuda.lstm_vjp(
        *device[:-2], initial_state=tuple(device[-2:]), algorithm=algorithm,
        noise=Noise(*(put(f, "float32") for f in factors)),
        **{name: put(value, "bool") for name, value in options.items()}, **flags,
    )  # fmt: skip
    upstream = problem.d_output, problem.d_h, problem.d_c
    gradients = back(*(put(a, "float32") for a in upstream))
    cuda.synchronize()
    wanted = (*expected, *expected_back(*upstream)[:6])
    for index, (a, b) in enumerate(zip((*found, *gradients[:6]), wanted, strict=True)):
        assert_no_slip(get(a), b, str(index))


def device_arrays() -> OnDevice:
    import cupy

    return OnDevice(cupy.asarray, get)


# cuBLAS adds the sums over a sequence in another order than NumPy: errors of 3 times NumPy's.
@pytest.mark.parametrize("slots", [(), *SLOTS], ids=" ".join)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("variant", NAMES)
def test_variants(variant: str, dtype: Any, slots: tuple[str, ...]) -> None:
    noise = ("x", "h") if slots else ()
    cases = [
        Case.of(variant, size, dtype, slots=slots, noise=noise, seed=seed)
        for size in [
            (3, 7, 5, 20, 9),
            (17, 6, 13, 65, 70),
            (33, 5, 32, 128, 64),
            (70, 3, 16, 300, 130),
        ]
        for seed in range(2)
    ]
    assert_as_accurate_as_numpy(device_arrays(), cases, factor=3)
    cuda.synchronize()


@pytest.mark.parametrize("place", ["activation", "recurrent_activation", "output_activation"])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_activation(activation: Any, place: str) -> None:
    cell = Cell()._replace(**{"output_activation": "tanh", place: activation})
    sizes = [(19, 2, 4, 9, 0), (6, 3, 5, 17, 0)]
    cases = [
        Case(size, dtype, cell, scale=0.7, seed=seed)
        for size in sizes
        for dtype in (np.float32, np.float64)
        for seed in range(4)
    ]
    assert_as_accurate_as_numpy(device_arrays(), cases, factor=3)


@pytest.mark.parametrize("variant", NAMES)
def test_variants_give_the_same_bits_in_every_run(variant: str) -> None:
    arrays, options = Case.of(variant, (33, 20, 20, 130, 50), np.float32, slots=("mask",)).draw()
    device = device_arrays()
    expected = run_variant(device, arrays, **options)
    for _ in range(20):
        assert_same_bits(run_variant(device, arrays, **options).values(), expected.values())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_bits_in_every_run(dtype: str, algorithm: str) -> None:
    problem = round_problem(make_problem(13, 40, 20, 130))
    expected = run_on_gpu(problem, dtype, algorithm=algorithm)
    for _ in range(20):
        assert_same_bits(run_on_gpu(problem, dtype, algorithm=algorithm), expected)


def test_two_streams_at_once() -> None:
    import cupy

    problems = [make_problem(8, 200, 16, 256, seed=seed) for seed in (1, 2)]
    expected = [run_on_gpu(problem, "float32")[0] for problem in problems]
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in problems]
    device = [list(map(cupy.asarray, problem.arguments)) for problem in problems]
    state = [tuple(map(cupy.asarray, problem.initial_state)) for problem in problems]
    cuda.synchronize()
    for _ in range(10):
        found: list[Any] = []
        for stream, arguments, initial in zip(streams, device, state, strict=True):
            with stream:
                found.append(cuda.lstm(*arguments, initial_state=initial)[0])
        cuda.synchronize()
        assert_same_bits([get(output) for output in found], expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_graph_holds_a_call(algorithm: str) -> None:
    """As docs/cuda.md says: with a pool of its own, which holds what the call takes meanwhile."""
    import cupy

    first, second = (make_problem(4, 20, 8, 130, seed=seed) for seed in (1, 2))
    pool, stream = cupy.cuda.MemoryPool(), cupy.cuda.Stream(non_blocking=True)
    weights = list(map(cupy.asarray, first.arguments[1:]))
    x = cupy.asarray(first.x)
    cupy.cuda.Device().synchronize()
    with stream, cupy.cuda.using_allocator(pool.malloc):
        cuda.lstm(x, *weights, algorithm=algorithm)  # everything is loaded, the pool is filled
        stream.synchronize()
        stream.begin_capture()
        output = cuda.lstm(x, *weights, algorithm=algorithm)[0]
        graph = stream.end_capture()
        for problem in (second, first):
            x.set(problem.x, stream=stream)
            graph.launch(stream)
            found = output.copy()
            expected = cuda.lstm(cupy.asarray(problem.x), *weights, algorithm=algorithm)[0]
            assert_same_bits([get(found)], [get(expected)])
    cuda.synchronize()


def test_out_of_memory_leaves_the_device_usable() -> None:
    import cupy

    weights = [cupy.zeros(shape, "f4") for shape in ((4, 20), (5, 20))]
    x = cupy.zeros((2, 3, 4), "f4")
    most = cupy.cuda.MemoryPool()
    most.set_limit(size=1 << 12)
    with cupy.cuda.using_allocator(most.malloc), pytest.raises(cupy.cuda.memory.OutOfMemoryError):
        cuda.lstm(cupy.broadcast_to(x, (300, 2, 3, 4)).reshape(600, 3, 4), *weights)
    output, _, _ = cuda.lstm(x, *weights)
    cuda.synchronize()
    assert not output.get().any()


def test_arrays_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("torch was built without CUDA")
    problem = make_problem(4, 9, 5, 33)
    arguments = [torch.from_numpy(a).cuda() for a in problem.arguments]
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        (output, h, c), backward = cuda.lstm_vjp(*arguments)
        gradients = backward(torch.from_numpy(problem.d_output).cuda())
    side.synchronize()
    assert all(isinstance(a, torch.Tensor) and a.is_cuda for a in (output, h, c, gradients.kernel))
    expected = run_on_gpu(problem._replace(h0=problem.h0 * 0, c0=problem.c0 * 0), "float32")
    assert_same_bits([get(output), get(h), get(c)], expected[:3])


def test_nothing_is_left_after_an_error() -> None:
    import cupy

    x, kernel = cupy.zeros((2, 3, 4), "f4"), cupy.zeros((4, 20), "f4")
    with pytest.raises(ValueError, match="recurrent_kernel: got shape"):
        cuda.lstm(x, kernel, cupy.zeros((5, 5), "f4"))
    with pytest.raises(TypeError, match="kernel: got a NumPy array, expected one on a CUDA"):
        cuda.lstm(x, np.zeros((4, 20), "f4"), cupy.zeros((5, 20), "f4"))
    output, _, _ = cuda.lstm(x, kernel, cupy.zeros((5, 20), "f4"))
    cuda.synchronize()
    assert not output.get().any()


def test_rounding_is_that_of_the_chip() -> None:
    """What the tests without a GPU take for bfloat16."""
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert_same_bits([get(put(values, "bfloat16"))], [rounded(values)])
