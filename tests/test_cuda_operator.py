"""lstm_ext.cuda: layouts, options, libraries and errors, over a stand-in for CuPy."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cuda_support import BFloat16Array, Split, emulating, emulation, to_device
from lstm_ext import config, cuda, reference
from lstm_ext.cuda import availability
from support import assert_no_slip, make_problem

B, T, I, H = 3, 4, 5, 6  # noqa: E741 - the names that the equations use


@pytest.fixture(params=["steps", "cluster", "grid"])
def algorithm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = str(request.param)
    with emulating(emulation(), Split(name, 0 if name == "steps" else 2), monkeypatch):
        yield name


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with emulating(emulation(), Split("auto"), monkeypatch):
        yield emulation()


def host(arrays: Any) -> list[Any]:
    return [None if a is None else np.array(np.asarray(a)) for a in arrays]


def compare(found: Any, expected: Any) -> None:
    for index, (a, b) in enumerate(zip(host(found), expected, strict=True)):
        assert a.shape == b.shape and a.dtype == b.dtype, index
        assert_no_slip(a, b, str(index))


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("time_major", [False, True])
def test_options(
    time_major: bool, go_backwards: bool, bias: bool, state: bool, algorithm: str
) -> None:
    problem = make_problem(B, T, I, H, bias=bias)
    x = problem.x.swapaxes(0, 1) if time_major else problem.x
    d_output = problem.d_output.swapaxes(0, 1) if time_major else problem.d_output
    options = {"go_backwards": go_backwards, "time_major": time_major}
    initial = problem.initial_state if state else None
    expected, expected_backward = reference.lstm_vjp(
        x, *problem.weights, initial_state=initial, **options
    )
    device = [None if w is None else to_device(w) for w in (x, *problem.weights)]
    device_state = tuple(map(to_device, initial)) if initial else None
    forward_only = cuda.lstm(*device, initial_state=device_state, **options)
    found, backward = cuda.lstm_vjp(*device, initial_state=device_state, **options)
    compare(found, expected)
    assert all(np.array_equal(a, b) for a, b in zip(forward_only, found, strict=True))
    last = found[0][-1] if time_major else found[0][:, -1]
    assert np.array_equal(last, found[1])
    gradients = backward(*map(to_device, (d_output, problem.d_h, problem.d_c)))
    wanted = expected_backward(d_output, problem.d_h, problem.d_c)[:6]
    assert (gradients.bias is None) == (not bias)
    compare([g for g in gradients if g is not None], [g for g in wanted if g is not None])


@pytest.mark.parametrize("upstream", ["output", "h", "c", "output+h", "none"])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_parts_of_the_upstream_gradients(
    return_sequences: bool, upstream: str, algorithm: str
) -> None:
    problem = make_problem(B, T, I, H)
    expected_results, expected_backward = reference.lstm_vjp(*problem.arguments)
    device = list(map(to_device, problem.arguments))
    results, backward = cuda.lstm_vjp(*device, return_sequences=return_sequences)
    if return_sequences:
        compare(results, expected_results)
    else:
        compare(results, (expected_results[1], *expected_results[1:]))
    d_output = problem.d_output if "output" in upstream else None
    d_h = problem.d_h if "h" in upstream.split("+") else None
    d_c = problem.d_c if upstream == "c" else None
    given = d_output
    if d_output is not None and not return_sequences:
        given = d_output[:, -1].copy()
        d_output = np.zeros_like(d_output)
        d_output[:, -1] = given
    gradients = backward(*(None if g is None else to_device(g) for g in (given, d_h, d_c)))
    compare(gradients[:6], expected_backward(d_output, d_h, d_c)[:6])


def test_gradients_that_are_not_needed(emulated: Any) -> None:
    problem = make_problem(B, T, I, H)
    _, backward = cuda.lstm_vjp(*map(to_device, problem.arguments))
    d_output = to_device(problem.d_output)
    full = backward(d_output)
    part = backward(d_output, need_x=False, need_state=False)
    assert part.x is part.h0 is part.c0 is None
    consumed = backward(d_output, consume=True)
    for other in (part, consumed):
        assert np.array_equal(other.kernel, full.kernel)
        assert np.array_equal(other.recurrent_kernel, full.recurrent_kernel)
    with pytest.raises(ValueError, match="consume: backward was called with it before"):
        backward(d_output)


@pytest.mark.parametrize(("batch", "steps"), [(0, 3), (2, 0), (0, 0)])
def test_nothing_to_do(batch: int, steps: int, algorithm: str) -> None:
    problem = make_problem(batch, steps, I, H)
    device = list(map(to_device, problem.arguments))
    state = tuple(map(to_device, problem.initial_state))
    results, backward = cuda.lstm_vjp(*device, initial_state=state)
    assert results[0].shape == (batch, steps, H)
    compare(results[1:], problem.initial_state)
    gradients = backward(*map(to_device, problem.upstream))
    assert not np.any(gradients.kernel) and not np.any(gradients.bias)
    compare(gradients[4:6], (problem.d_h, problem.d_c))


def test_strides(emulated: Any) -> None:
    """Of x and of the gradient of the output any; they are copied if need be."""
    problem = make_problem(B, T, I, H)
    expected, expected_backward = reference.lstm_vjp(*problem.arguments)
    x = to_device(problem.x.transpose(2, 0, 1)).transpose(1, 2, 0)
    results, backward = cuda.lstm_vjp(x, *map(to_device, problem.weights))
    compare(results, expected)
    d_output = to_device(problem.d_output.transpose(2, 1, 0)).transpose(2, 1, 0)
    compare(backward(d_output)[:6], expected_backward(problem.d_output)[:6])
    doubled = to_device(np.repeat(problem.d_output, 2, axis=1))[:, ::2]
    compare(backward(doubled)[:6], expected_backward(problem.d_output)[:6])


def test_arrays_of_cupy_with_bfloat16(emulated: Any) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    problem = make_problem(B, T, I, H)
    device = [to_device(a.astype(ml_dtypes.bfloat16)) for a in problem.arguments]
    (output, h, c), backward = cuda.lstm_vjp(*device)
    assert output.dtype == h.dtype == ml_dtypes.bfloat16 and c.dtype == np.float32
    gradients = backward(to_device(problem.d_output.astype(ml_dtypes.bfloat16)))
    assert gradients.x.dtype == gradients.bias.dtype == ml_dtypes.bfloat16
    expected = reference.lstm(*problem.arguments)[0]
    assert np.max(np.abs(np.asarray(output, np.float32) - expected)) < 0.05


def zeros(*shape: int, dtype: Any = np.float32) -> Any:
    return to_device(np.zeros(shape, dtype))


class Elsewhere:
    """An array of another library on the CPU, by DLPack."""

    dtype = np.dtype(np.float32)

    def __dlpack__(self) -> None:
        raise AssertionError("not to be read")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def on_device(array: Any, number: int) -> Any:
    array.device = types.SimpleNamespace(id=number)
    return array


WRONG: list[tuple[str, Any, type[Exception], str]] = [
    ("x", lambda: np.zeros((B, T, I), "f4"), TypeError, "x: got a NumPy array, expected one on a"),
    ("x", lambda: [[[1.0]]], TypeError, "x: got list, expected an array on a CUDA device"),
    ("x", Elsewhere, TypeError, "x: got an array off the GPU"),
    ("x", lambda: zeros(B, T, I, dtype="f2"), TypeError, "x: got an array of float16, expected fl"),
    ("x", lambda: zeros(B, T, I, dtype="i4"), TypeError, "x: got an array of int32"),
    ("x", lambda: zeros(B, I), ValueError, r"x: got shape \(3, 5\), expected \(batch, time, 5\)"),
    ("x", lambda: zeros(B, T, 4), ValueError, r"x: got shape \(3, 4, 4\), expected \(batch, time"),
    ("kernel", lambda: zeros(I, 4 * H, dtype="f8"), TypeError, "kernel: got an array of float64"),
    ("kernel", lambda: zeros(I, 8), ValueError, r"kernel: got shape \(5, 8\), expected \(input_si"),
    ("kernel", lambda: zeros(4 * H, I).T, ValueError, "kernel: got strides .* contiguous"),
    ("recurrent_kernel", lambda: zeros(H, H), ValueError, r"recurrent_kernel: got shape \(6, 6\)"),
    (
        "recurrent_kernel",
        lambda: on_device(zeros(H, 4 * H), 1),
        ValueError,
        "recurrent_kernel: got an array on device 1, expected device 0, where x is",
    ),
    ("bias", lambda: zeros(H), ValueError, r"bias: got shape \(6,\), expected \(24,\)"),
    ("initial_state", lambda: zeros(B, H), ValueError, "initial_state: got DeviceArray, expected"),
    ("initial_state", lambda: (zeros(B, H),), ValueError, "initial_state: got 1 values"),
    (
        "initial_state",
        lambda: (zeros(B, H), zeros(B, H + 1)),
        ValueError,
        r"initial_state\[1\]: got shape \(3, 7\), expected \(3, 6\)",
    ),
    ("algorithm", lambda: "fast", ValueError, "algorithm: got 'fast', expected one of cluster"),
    ("go_backwards", lambda: 1, TypeError, "go_backwards: got 1, expected True or False"),
    ("lengths", lambda: [1, 2, 3], TypeError, "lengths: got list, expected an array on a CUDA"),
    ("layer_norm", lambda: zeros(3 * H), NotImplementedError, "layer_norm: got a value, but the"),
    ("isa", lambda: "avx2", TypeError, "unexpected keyword argument 'isa'"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), WRONG)
def test_wrong_arguments(
    name: str, value: Any, error: type[Exception], message: str, emulated: Any
) -> None:
    arguments = {
        "x": zeros(B, T, I), "kernel": zeros(I, 4 * H), "recurrent_kernel": zeros(H, 4 * H),
        "bias": zeros(4 * H),
    }  # fmt: skip
    launches = emulated.launches()
    for function in (cuda.lstm, cuda.lstm_vjp):
        with pytest.raises(error, match=message):
            function(**{**arguments, name: value()})
    assert emulated.launches() == launches


@pytest.mark.parametrize(
    ("position", "value", "error", "message"),
    [
        (0, lambda: zeros(B, T, 5), ValueError, r"d_output: got shape \(3, 4, 5\), expected"),
        (0, lambda: np.zeros((B, T, H)), TypeError, "d_output: got a NumPy array"),
        (1, lambda: zeros(B, H, dtype="f8"), TypeError, "d_h: got an array of float64, expected"),
        (2, lambda: zeros(1, H), ValueError, r"d_c: got shape \(1, 6\), expected \(3, 6\)"),
    ],
)
def test_wrong_gradients(
    position: int, value: Any, error: type[Exception], message: str, emulated: Any
) -> None:
    _, backward = cuda.lstm_vjp(zeros(B, T, I), zeros(I, 4 * H), zeros(H, 4 * H))
    upstream: list[Any] = [None, None, None]
    upstream[position] = value()
    with pytest.raises(error, match=message):
        backward(*upstream)


def test_bfloat16_keeps_c_in_float32(emulated: Any) -> None:
    small = BFloat16Array(np.zeros((B, H), np.float32))
    x, kernel = (BFloat16Array(np.zeros(s, np.float32)) for s in ((B, T, I), (I, 4 * H)))
    recurrent_kernel = BFloat16Array(np.zeros((H, 4 * H), np.float32))
    with pytest.raises(
        TypeError, match=r"initial_state\[1\]: got an array of .*, expected float32"
    ):
        cuda.lstm(x, kernel, recurrent_kernel, initial_state=(small, small))
    _, _, c = cuda.lstm(x, kernel, recurrent_kernel, initial_state=(small, zeros(B, H)))
    assert c.dtype == np.float32


def test_tensors_on_the_cpu_are_refused(emulated: Any) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(TypeError, match=r'x: got a tensor on cpu, .*x.to\("cuda"\) moves it'):
        cuda.lstm(torch.zeros(B, T, I), zeros(I, 4 * H), zeros(H, 4 * H))


def test_each_missing_part_has_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "native", lambda: None)
    assert "built without CUDA" in config.cuda_available().reason
    with pytest.raises(RuntimeError, match="CUDA is not available: lstm_ext was built without"):
        cuda.lstm(None, None, None)
    count = {"value": (0, "no CUDA driver is installed")}
    module = types.SimpleNamespace(device_count=lambda: count["value"])
    monkeypatch.setattr(availability, "native", lambda: module)
    assert config.cuda_available().reason == "no CUDA driver is installed"
    assert availability.parts()["device"] == "not asked: there is no driver"
    count["value"] = (0, "the CUDA driver finds no device")
    assert config.cuda_available().reason == "the CUDA driver finds no device"
    assert availability.parts()["driver"] == ""
    count["value"] = (1, "")
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "CuPy is not installed" in config.cuda_available().reason


def test_available_with_all_parts(emulated: Any) -> None:
    assert config.cuda_available() and not config.cuda_available().reason
    emulated.emulate_devices(0)
    assert config.cuda_available().reason == "the CUDA driver finds no device"
    emulated.emulate_devices(1)


def test_importing_it_imports_no_cupy() -> None:
    script = "import sys, lstm_ext.cuda; lstm_ext.cuda.available(); print('cupy' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_forced_algorithms_that_cannot(emulated: Any) -> None:
    arguments = [
        zeros(B, T, I, dtype="f8"),
        zeros(I, 4 * H, dtype="f8"),
        zeros(H, 4 * H, dtype="f8"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(availability, "native", lambda: emulated)
        with pytest.raises(ValueError, match="algorithm: got grid, expected steps for float64"):
            cuda.lstm(*arguments, algorithm="grid")
