"""lstm_ext.cuda: masks, lengths, resets and noise, forward and backward, by every algorithm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cuda_support import (
    BFloat16Array,
    DeviceArray,
    Split,
    emulating,
    emulation,
    from_bfloat16,
    round_problem,
    to_device,
)
from lstm_ext import cuda, functional, reference
from lstm_ext.variants import Noise
from support import assert_no_slip, make_problem

B, T, I, H = 5, 6, 3, 10  # noqa: E741 - the names that the equations use
SPLITS = {
    "steps": Split("steps"),
    "cluster": Split("cluster", 2, 2),
    "grid": Split("grid", 2, 2, "random", 1, processors=2),  # three rounds of two rows
}

_rng = np.random.default_rng(5)
MASK = _rng.random((B, T)) < 0.6
MASK[1], MASK[2] = False, True
MASK[3, 0], MASK[4, -1] = False, False
RESET = _rng.random((B, T)) < 0.3
RESET[0, 0], RESET[3, 2] = True, True
LENGTHS = np.array([T, 0, 3, 1, 5])
GIVEN: dict[str, dict[str, Any]] = {
    "mask": {"mask": MASK},
    "lengths": {"lengths": LENGTHS},
    "reset": {"reset": RESET},
    "mask+reset": {"mask": MASK, "reset": RESET},
    "zeros": {"mask": MASK, "zero_output_for_mask": True},
    "zeros+reset": {"mask": MASK, "reset": RESET, "zero_output_for_mask": True},
}
# As dropout draws them, and other numbers.
NOISE = Noise(
    (_rng.random((B, I)) < 0.5).astype(np.float32) * 2,
    np.where(_rng.random((B, H)) < 0.3, 0, _rng.uniform(0.5, 2, (B, H))).astype(np.float32),
)
NOISES = {
    "x": Noise(x=NOISE.x),
    "h": Noise(h=NOISE.h),
    "both": NOISE,
}
NOISED = {"noise": NOISE}
GIVEN |= {f"noise {name}": {"noise": noise} for name, noise in NOISES.items()}
GIVEN |= {f"{name}, noise": {**GIVEN[name], "noise": NOISE} for name in ("zeros", "mask+reset")}


@pytest.fixture(params=list(SPLITS))
def algorithm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with emulating(emulation(), SPLITS[request.param], monkeypatch):
        yield request.param


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with emulating(emulation(), Split("auto"), monkeypatch):
        yield


def there(options: dict[str, Any]) -> dict[str, Any]:
    def moved(value: Any) -> Any:
        if isinstance(value, Noise):
            return Noise(*(None if a is None else to_device(a) for a in value))
        return to_device(value) if isinstance(value, np.ndarray) else value

    return {name: moved(value) for name, value in options.items()}


def compare(found: Any, expected: Any) -> None:
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert_no_slip(np.array(np.asarray(a)), b, str(index))


@pytest.mark.parametrize("given", list(GIVEN))
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_the_reference_agrees(
    return_sequences: bool, go_backwards: bool, state: bool, given: str, algorithm: str
) -> None:
    problem = make_problem(B, T, I, H)
    options = {**GIVEN[given], "go_backwards": go_backwards}
    state_here = problem.initial_state if state else None
    expected, expected_backward = reference.lstm_vjp(
        problem.x, *problem.weights, initial_state=state_here, **options
    )
    device = [to_device(a) for a in (problem.x, *problem.weights)]
    state_there = tuple(map(to_device, state_here)) if state_here else None
    options = {**there(options), "initial_state": state_there}
    options["return_sequences"] = return_sequences
    alone = cuda.lstm(*device, **options)
    found, backward = cuda.lstm_vjp(*device, **options)
    assert all(np.array_equal(a, b) for a, b in zip(alone, found, strict=True))
    output = expected[0] if return_sequences else expected[0][:, -1]
    compare(found, (output, *expected[1:]))

    d_output = problem.d_output
    if not return_sequences:
        d_output = np.zeros_like(d_output)
        d_output[:, -1] = problem.d_output[:, -1]
    upstream = d_output if return_sequences else d_output[:, -1].copy()
    gradients = backward(*map(to_device, (upstream, problem.d_h, problem.d_c)))
    compare(gradients[:6], expected_backward(d_output, problem.d_h, problem.d_c)[:6])


@pytest.mark.parametrize("given", ["lengths", "mask+reset", "noise both"])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_gates(go_backwards: bool, given: str, algorithm: str) -> None:
    problem = make_problem(B, T, I, H)
    options = {**GIVEN[given], "go_backwards": go_backwards}
    expected = functional.lstm(problem.x, *problem.weights, return_gates=True, **options)[3]
    device = [to_device(a) for a in (problem.x, *problem.weights)]
    plain = cuda.lstm(*device, **there(options))
    *results, gates = cuda.lstm(*device, return_gates=True, **there(options))
    assert all(np.array_equal(a, b) for a, b in zip(plain, results, strict=True))
    compare(gates, expected)


def test_what_is_masked_is_not_looked_at(algorithm: str) -> None:
    problem = make_problem(B, T, I, H)
    x = problem.x.copy()
    x[~MASK] = np.nan
    results = []
    for inputs in (problem.x, x):
        found, backward = cuda.lstm_vjp(
            *map(to_device, (inputs, *problem.weights)), mask=to_device(MASK)
        )
        gradients = backward(to_device(problem.d_output))
        results.append([*found, *gradients[:6]])
    for a, b in zip(*results, strict=True):
        assert np.isfinite(b).all()
        assert np.array_equal(a, b)


def test_a_reset_ends_what_is_not_finite(algorithm: str) -> None:
    problem = make_problem(B, T, I, H)
    problem.x[1, 1, 0] = np.nan
    reset = np.zeros((B, T), bool)
    reset[1, 3] = True
    output, h, c = cuda.lstm(
        *map(to_device, problem.arguments), reset=to_device(reset), noise=there(NOISED)["noise"]
    )
    assert np.isnan(output[1, 1:3]).all()
    assert np.isfinite(output[1, 3:]).all() and np.isfinite(h).all() and np.isfinite(c).all()


def test_nothing_masked_gives_the_bits_of_no_mask(algorithm: str) -> None:
    problem = make_problem(B, T, I, H)
    device = [to_device(a) for a in problem.arguments]
    everything = to_device(np.ones((B, T), bool))
    plain, plain_back = cuda.lstm_vjp(*device)
    found, back = cuda.lstm_vjp(*device, mask=everything, reset=to_device(np.zeros((B, T), bool)))
    d_output = to_device(problem.d_output)
    gradients = plain_back(d_output)[:6], back(d_output)[:6]
    for a, b in zip((*plain, *gradients[0]), (*found, *gradients[1]), strict=True):
        assert np.array_equal(a, b)


def test_bfloat16_keeps_its_state_past_masked_steps(algorithm: str) -> None:
    """Against the rows that have no masked steps, whose bits must be the same."""
    problem = round_problem(make_problem(B, T, I, H))
    steps = np.argsort(~MASK, axis=1, kind="stable")  # those that count, then the others
    count = MASK.sum(axis=1)
    packed_x = np.take_along_axis(problem.x, steps[:, :, None], axis=1)
    state = BFloat16Array(problem.h0), to_device(problem.c0)
    weights = [BFloat16Array(w) for w in problem.weights]
    spread, _ = cuda.lstm_vjp(
        BFloat16Array(problem.x), *weights, initial_state=state, mask=to_device(MASK)
    )
    dense, _ = cuda.lstm_vjp(BFloat16Array(packed_x), *weights, initial_state=state)
    outputs, dense_outputs = (from_bfloat16(np.asarray(a[0])) for a in (spread, dense))
    for row in range(B):
        assert np.array_equal(outputs[row, MASK[row]], dense_outputs[row, : count[row]])
        last = dense_outputs[row, count[row] - 1] if count[row] else problem.h0[row]
        assert np.array_equal(from_bfloat16(np.asarray(spread[1]))[row], last)


def test_time_major(emulated: None) -> None:
    problem = make_problem(B, T, I, H)
    device = [to_device(a) for a in problem.arguments]
    options = there(GIVEN["mask+reset"])
    rows = cuda.lstm(*device, **options)
    turned = cuda.lstm(to_device(problem.x.swapaxes(0, 1)), *device[1:], time_major=True, **options)
    assert np.array_equal(turned[0].swapaxes(0, 1), rows[0])
    assert np.array_equal(turned[1], rows[1])


@pytest.mark.parametrize(("batch", "steps"), [(0, 3), (2, 0)])
def test_nothing_to_do(batch: int, steps: int, emulated: None) -> None:
    problem = make_problem(batch, steps, I, H)
    mask = to_device(np.zeros((batch, steps), bool))
    state = tuple(map(to_device, problem.initial_state))
    results, backward = cuda.lstm_vjp(
        *map(to_device, problem.arguments), initial_state=state, mask=mask
    )
    assert results[0].shape == (batch, steps, H)
    assert np.array_equal(results[1], problem.h0)
    assert backward(d_h=to_device(problem.d_h)).kernel.shape == (I, 4 * H)


def on_another_device(array: Any) -> Any:
    class Elsewhere(DeviceArray):
        device = type("Device", (), {"id": 1})()

    return to_device(array).view(Elsewhere)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mask": MASK}, TypeError, "mask: got a NumPy array, expected one on a CUDA device"),
        (
            {"mask": to_device(MASK.astype("f4"))},
            TypeError,
            "mask: got an array of float32, expected bool",
        ),
        ({"mask": to_device(MASK[:, 1:])}, ValueError, r"mask: got shape \(5, 5\), expected"),
        ({"reset": to_device(RESET.T)}, ValueError, r"reset: got shape \(6, 5\), expected \(5, 6"),
        (
            {"lengths": to_device(LENGTHS * 1.0)},
            TypeError,
            "lengths: got an array of float64, expected integers",
        ),
        ({"lengths": to_device(LENGTHS[1:])}, ValueError, r"lengths: got shape \(4,\), expected"),
        (
            {"lengths": to_device(LENGTHS), "mask": to_device(MASK)},
            ValueError,
            "lengths: got them beside mask, expected one of the two",
        ),
        (
            {"mask": on_another_device(MASK)},
            ValueError,
            "mask: got an array on device 1, expected device 0",
        ),
        ({"zero_output_for_mask": 1}, TypeError, "zero_output_for_mask: got"),
        ({"return_gates": 1}, TypeError, "return_gates: got"),
        ({"noise": NOISE}, TypeError, "noise.x: got a NumPy array, expected one on a CUDA device"),
        ({"noise": 1}, TypeError, "noise: got int, expected a Noise"),
        (
            {"noise": Noise(h=to_device(NOISE.h[:, 1:]))},
            ValueError,
            r"noise.h: got shape \(5, 9\), expected \(5, 10\)",
        ),
        (
            {"noise": Noise(zoneout=to_device(MASK))},
            ValueError,
            r"noise.zoneout: got shape \(5, 6\), expected \(5, 6, 10\)",
        ),
    ],
)
def test_wrong_arguments(
    options: dict[str, Any], error: type[Exception], message: str, emulated: None
) -> None:
    problem = make_problem(B, T, I, H)
    with pytest.raises(error, match=message):
        cuda.lstm(*map(to_device, problem.arguments), **options)
