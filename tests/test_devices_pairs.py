"""Bidirectional layers and streams on a pretended CUDA device."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import device_support
from device_support import B, CupyArray, H, I, T, X, Y, host, make_pairs, to_device
from lstm_ext import LSTM, Bidirectional, Dense, Input, Sequential, set_random_seed
from lstm_ext.cuda import DeviceStream
from support import assert_as_accurate, assert_no_slip, assert_same_bits

Array = NDArray[Any]

pytestmark = pytest.mark.usefixtures("device")

_rng = np.random.default_rng(12)
MASK = _rng.random((B, T)) < 0.6


def compare(found: Any, expected: Any, name: str = "") -> None:
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert isinstance(a, CupyArray)
        assert_no_slip(host(a), b, f"{name} {index}")


def make_pair(merge_mode: str | None, device: str = "cpu", **options: Any) -> Bidirectional:
    forward = LSTM(H, seed=1, return_state=True, **options)
    turned = not options.get("go_backwards", False)
    backward = LSTM(H, seed=2, return_state=True, **{**options, "go_backwards": turned})
    return Bidirectional(forward, merge_mode, backward_layer=backward, device=device)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave", None])
def test_bidirectional(
    merge_mode: str | None, return_sequences: bool, go_backwards: bool, masked: bool
) -> None:
    options = {"return_sequences": return_sequences, "go_backwards": go_backwards}
    ours, theirs = make_pair(merge_mode, **options), make_pair(merge_mode, "cuda", **options)
    given = {"mask": MASK} if masked else {}
    given_there = {"mask": to_device(MASK)} if masked else {}
    state = [_rng.standard_normal((B, H)).astype(np.float32) for _ in range(4)]
    for initial in (None, state):
        there = None if initial is None else list(map(to_device, initial))
        compare(theirs(to_device(X), there, **given_there), ours(X, initial, **given), "results")
    if merge_mode is None:
        return
    output, back = ours.vjp(X, **given)
    output_there, back_there = theirs.vjp(to_device(X), **given_there)
    compare([output_there], [output])
    dy = _rng.standard_normal(output.shape).astype(np.float32)
    d_x, gradients = back(dy, True)
    d_x_there, gradients_there = back_there(to_device(dy), True)
    compare([d_x_there, *gradients_there], [d_x, *gradients], "gradients")
    assert back_there is not None and theirs.vjp(to_device(X))[1](to_device(dy), False)[0] is None


def fitted(model: Sequential, x: Any, y: Any) -> list[Array]:
    set_random_seed(7)
    model.fit(x, y, epochs=3, batch_size=4, verbose=0)
    return [*model.get_weights(), host(model.predict(x, verbose=0))]


def test_fit_is_that_of_numpy() -> None:
    exact = fitted(make_pairs("float64"), X.astype(np.float64), Y.astype(np.float64))
    ours = fitted(make_pairs(), X, Y)
    model = make_pairs().to_device("cuda")
    found = fitted(model, to_device(X), to_device(Y))
    assert_as_accurate(found, ours, exact, "fit")
    # Back, with what was trained.
    predicted = model.to_device("cpu").predict(X, verbose=0)
    assert_no_slip(predicted, found[-1], "back")


def test_a_pair_keeps_its_states_there() -> None:
    ours, theirs = make_pair("concat", stateful=True), make_pair("concat", stateful=True)
    ours(X)
    theirs(X)
    theirs.to_device("cuda")
    compare(theirs(to_device(X)), ours(X))
    assert theirs.state is not None and ours.state is not None
    compare(theirs.state, ours.state)
    theirs.to_device("cpu")
    for a, b in zip(theirs.state, ours.state, strict=True):
        assert_no_slip(a, b, "state")


# ---- streams ----


def steps_of(stream: Any, x: Any) -> Array:
    return np.stack([host(stream.step(x[:, t])) for t in range(T)], axis=1)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_stream_gives_the_sequence(num_layers: int) -> None:
    layer = LSTM(H, return_sequences=True, seed=1, num_layers=num_layers, device="cuda")
    expected = host(layer(to_device(X)))
    stream = layer.stream(B)
    assert_no_slip(steps_of(stream, to_device(X)), expected, "steps")
    stream.reset()
    layer.set_weights([0 * w for w in layer.get_weights()])  # it has its own
    assert_no_slip(steps_of(stream, to_device(X)), expected, "steps")


def test_a_step_waits_for_nothing() -> None:
    layer = LSTM(H, seed=1, device="cuda")
    layer(to_device(X))
    stream, x, out = layer.stream(B), to_device(X[:, 0]), to_device(np.empty((B, H), np.float32))
    device_support.waits = 0
    assert stream.step(x, out=out) is out
    again = stream.step(x)
    assert device_support.waits == 0
    assert not np.array_equal(host(out), host(again))


def test_a_model_streams() -> None:
    layers = [Input((T, I)), LSTM(H, return_sequences=True, seed=1), LSTM(H, seed=2)]
    model = Sequential([*layers, Dense(2, "tanh", seed=3)]).to_device("cuda")
    expected = host(model.predict(to_device(X), verbose=0))
    stream = model.stream(B)
    assert_no_slip(steps_of(stream, to_device(X))[:, -1], expected, "steps")
    assert len(stream.state) == 2


def test_the_state_of_a_stream() -> None:
    layer = LSTM(H, seed=1, device="cuda")
    layer(to_device(X))
    stream = layer.stream(B)
    assert isinstance(stream, DeviceStream)
    x = to_device(X[:, 0])
    stream.step(x)
    state = stream.state
    others = [copy.copy(stream), copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))]
    expected = host(stream.step(x))
    for other in others:
        assert_same_bits([host(other.step(x))], [expected])
    stream.state = state
    assert_same_bits([host(stream.step(x))], [expected])
    stream.state = state
    stream.reset([1, 3])
    fresh = host(layer.stream(B).step(x))
    mixed = host(stream.step(x))
    assert np.array_equal(mixed[[1, 3]], fresh[[1, 3]])
    assert np.array_equal(np.delete(mixed, [1, 3], 0), np.delete(expected, [1, 3], 0))
    stream.reset(np.arange(B) < 2)
    assert not host(stream.state[0])[:2].any() and host(stream.state[0])[2:].all()


def test_what_a_stream_refuses() -> None:
    layer = LSTM(H, seed=1, device="cuda")
    layer(to_device(X))
    stream = layer.stream(B)
    before = [host(a) for a in stream.state]
    x = to_device(X[:, 0])
    with pytest.raises(ValueError, match=r"x: got an array of float32 of shape \(6, 2\), expected"):
        stream.step(to_device(X[:, 0, :2]))
    with pytest.raises(TypeError, match="x: got a NumPy array, expected one on a CUDA device"):
        stream.step(X[:, 0])
    with pytest.raises(ValueError, match="out: got an array of float32 of shape"):
        stream.step(x, out=to_device(X[:, 0]))
    with pytest.raises(ValueError, match="state: got 3, expected a pair"):
        stream.state = 3  # type: ignore[assignment]
    with pytest.raises(ValueError, match="for c, expected shape"):
        stream.state = (to_device(before[0]), x)
    with pytest.raises(TypeError, match="state, h: got a NumPy array"):
        stream.state = (before[0], before[1])
    with pytest.raises(ValueError, match="rows: got"):
        stream.reset([B])
    assert_same_bits([host(a) for a in stream.state], before)
