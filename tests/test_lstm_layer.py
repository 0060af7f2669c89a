"""The LSTM layer: Keras's defaults, calls, states, and its stream."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest

from lstm_ext import LSTM, Dense, Dropout, Input, Sequential, functional, reference

RNG = np.random.default_rng(3)


def test_the_notebooks_first_cell() -> None:
    x = np.random.default_rng(0).random((1, 5, 10))
    layer = LSTM(20, return_sequences=True, return_state=True)
    outputs, h, c = layer(x)
    assert (outputs.shape, h.shape, c.shape) == ((1, 5, 20), (1, 20), (1, 20))
    assert outputs.dtype == h.dtype == c.dtype == np.float32
    assert np.abs(outputs[:, -1] - h).max() == 0.0


def test_initial_weights_are_keras_defaults() -> None:
    layer = LSTM(30, seed=1)
    layer.build((None, None, 7))
    assert [w.shape for w in layer.weights] == [(7, 120), (30, 120), (120,)]
    limit = np.sqrt(6 / (7 + 120))
    assert np.abs(layer.kernel).max() <= limit < 1.1 * np.abs(layer.kernel).max()
    product = layer.recurrent_kernel @ layer.recurrent_kernel.T
    np.testing.assert_allclose(product, np.eye(30), atol=1e-5)
    assert layer.bias is not None
    np.testing.assert_array_equal(layer.bias, np.repeat([0, 1, 0, 0], 30))
    bare = LSTM(3, use_bias=False)
    bare.build((None, None, 7))
    assert bare.bias is None and len(bare.weights) == 2
    even = LSTM(3, unit_forget_bias=False)
    even.build((None, None, 7))
    assert even.bias is not None and not even.bias.any()


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_results_are_the_references(return_sequences: bool, go_backwards: bool) -> None:
    options = {"return_sequences": return_sequences, "go_backwards": go_backwards}
    layer = LSTM(6, return_state=True, dtype="float64", **options)
    x = RNG.standard_normal((3, 5, 4))
    state = (RNG.standard_normal((3, 6)), RNG.standard_normal((3, 6)))
    output, h, c = layer(x, initial_state=state)
    want, want_h, want_c = reference.lstm(
        x, *layer.get_weights(), initial_state=state, go_backwards=go_backwards
    )
    np.testing.assert_allclose(output, want if return_sequences else want[:, -1], atol=1e-14)
    np.testing.assert_allclose(h, want_h, atol=1e-14)
    np.testing.assert_allclose(c, want_c, atol=1e-14)


def test_inputs_are_converted() -> None:
    layer = LSTM(4)
    x = RNG.integers(-3, 3, (2, 3, 2))
    expected = layer(x.astype(np.float32))
    for given in (x, x.astype(np.float64), x.tolist(), x.astype(np.int8), x > 5):
        if given is not x and np.asarray(given).dtype == bool:
            assert layer(given).dtype == np.float32
        else:
            np.testing.assert_array_equal(layer(given), expected)


@pytest.mark.parametrize("change", ["set_weights", "setter", "training"])
def test_new_weights_are_used_at_once(change: str) -> None:
    layer = LSTM(4, input_shape=(3, 2))
    model = Sequential([layer])
    x = RNG.standard_normal((2, 3, 2)).astype(np.float32)
    before = layer(x)
    if change == "set_weights":
        layer.set_weights([2 * w for w in layer.get_weights()])
    elif change == "setter":
        layer.recurrent_kernel = np.eye(4, 16)
    else:
        model.compile("sgd", "mse")
        model.fit(x, np.ones((2, 4)), verbose=0)
    want, _, _ = reference.lstm(x, *layer.get_weights())
    assert not np.array_equal(layer(x), before)
    np.testing.assert_allclose(layer(x), want[:, -1], atol=1e-6)


def test_a_stateful_layer_goes_on_where_it_was() -> None:
    layer = LSTM(5, stateful=True, return_sequences=True)
    x = RNG.standard_normal((2, 8, 3)).astype(np.float32)
    assert layer.state is None
    parts = np.concatenate([layer(x[:, :3]), layer(x[:, 3:])], axis=1)
    layer.reset_state()
    np.testing.assert_array_equal(layer(x), parts)
    with pytest.raises(ValueError, match=r"x: got 3 sequences, expected 2.*reset_state"):
        layer(np.zeros((3, 1, 3)))
    layer.reset_states()
    layer(np.zeros((3, 1, 3)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda layer: layer(np.zeros((2, 3, 9))), ValueError, r"x: got shape \(2, 3, 9\)"),
        (lambda layer: layer(np.zeros((2, 3))), ValueError, r"x: got shape \(2, 3\)"),
        (lambda layer: layer("text"), TypeError, "x: got an array of <U4"),
        (lambda layer: layer([[[1, 2], [3]]]), ValueError, "x: .*inhomogeneous"),
        (
            lambda layer: layer(np.zeros((2, 3, 2)), initial_state=np.zeros((2, 4))),
            ValueError,
            "initial_state: got",
        ),
        (
            lambda layer: layer(np.zeros((2, 3, 2)), initial_state=[np.zeros((1, 4))] * 2),
            ValueError,
            r"initial_state\[0\]: got shape \(1, 4\), expected \(2, 4\)",
        ),
        (
            lambda layer: layer(np.zeros((2, 3, 2)), mask=[1]),
            ValueError,
            r"mask: got shape \(1,\), expected \(2, 3\)",
        ),
        (lambda layer: layer.set_weights([]), ValueError, "got 0 arrays"),
        (lambda layer: setattr(layer, "kernel", np.zeros((3, 16))), ValueError, "kernel: got"),
        (lambda layer: layer.stream(0), ValueError, "batch_size: got 0"),
    ],
)
def test_bad_calls_change_nothing(call: Any, error: type[Exception], message: str) -> None:
    layer = LSTM(4, stateful=True)
    x = RNG.standard_normal((2, 3, 2)).astype(np.float32)
    layer(x)
    weights, state = layer.get_weights(), layer.state
    with pytest.raises(error, match=message):
        call(layer)
    assert layer.state is not None and state is not None
    for a, b in zip([*weights, *state], [*layer.get_weights(), *layer.state], strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_layer_serves_many_threads() -> None:
    layer = LSTM(33, return_sequences=True)
    inputs = [RNG.standard_normal((3, 20, 17)).astype(np.float32) for _ in range(8)]
    expected = [layer(x) for x in inputs]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(50):
            if not np.array_equal(layer(inputs[index]), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- streams ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 10, 20), (1, 1, 1), (3, 7, 33), (6, 64, 65), (2, 300, 260)])
def test_a_stream_gives_the_bits_of_the_sequence(shape: tuple[int, ...], dtype: str) -> None:
    batch, features, units = shape
    layer = LSTM(units, return_sequences=True, dtype=dtype)
    x = RNG.standard_normal((batch, 5, features)).astype(dtype)
    whole = layer(x)
    stream = layer.stream(batch)
    out = np.empty((batch, units), dtype)
    for t in range(5):
        if t == 2:
            stream = copy.copy(stream)
        elif t == 3:
            stream = pickle.loads(pickle.dumps(copy.deepcopy(stream)))
        result = stream.step(x[:, t], out)
        assert result is out
        np.testing.assert_array_equal(result, whole[:, t])
    h, c = stream.state
    np.testing.assert_array_equal(h, whole[:, -1])
    np.testing.assert_array_equal(c, functional.lstm(x, *layer.get_weights())[2])


def test_a_copied_stream_is_independent() -> None:
    layer = LSTM(4)
    x = RNG.standard_normal((1, 2)).astype(np.float32)
    layer.build((None, None, 2))
    stream = layer.stream()
    first = stream.step(x)
    other = copy.copy(stream)
    np.testing.assert_array_equal(stream.step(x), other.step(x))
    stream.reset()
    np.testing.assert_array_equal(stream.step(x), first)
    assert not np.array_equal(other.step(x), first)


@pytest.mark.parametrize("rows", [[1, 3], np.array([False, True, False, True])])
def test_rows_are_reset_one_by_one(rows: Any) -> None:
    layer = LSTM(5)
    x = RNG.standard_normal((4, 3)).astype(np.float32)
    layer.build((None, None, 3))
    stream = layer.stream(4)
    first = stream.step(x)
    stream.reset(rows)
    second = stream.step(x)
    same = [bool(np.array_equal(first[row], second[row])) for row in range(4)]
    assert same == [False, True, False, True]


def test_the_state_can_be_set() -> None:
    layer = LSTM(5, return_sequences=True)
    x = RNG.standard_normal((2, 4, 3)).astype(np.float32)
    whole = layer(x)
    stream = layer.stream(2)
    stream.step(x[:, 0])
    saved = stream.state
    stream.step(x[:, 1])
    stream.state = saved
    np.testing.assert_array_equal(stream.step(x[:, 1]), whole[:, 1])
    for bad in (saved[0], (saved[0],), (saved[0][:1], saved[1]), ("h", "c")):
        with pytest.raises(ValueError, match="state: got"):
            stream.state = bad
    np.testing.assert_array_equal(stream.step(x[:, 2]), whole[:, 2])


@pytest.mark.parametrize(
    ("x", "out", "error", "message"),
    [
        (
            np.zeros((2, 3)),
            None,
            TypeError,
            r"x: got an array of float64, expected .*float32.*\(2, 3\)",
        ),
        ([[1, 2, 3]], None, TypeError, "x: got list"),
        (np.zeros((1, 3), "f"), None, ValueError, r"x: got shape \(1, 3\), expected .*\(2, 3\)"),
        (np.zeros(3, "f"), None, ValueError, r"x: got shape \(3,\)"),
        (np.zeros((2, 6), "f")[:, ::2], None, ValueError, "x: got scattered features"),
        (np.zeros((2, 3), "f"), np.zeros((2, 5)), TypeError, "out: got an array of float64"),
        (np.zeros((2, 3), "f"), np.zeros((2, 4), "f"), ValueError, r"out: got shape \(2, 4\)"),
        (np.zeros((2, 3), "f"), np.zeros((2, 10), "f")[:, ::2], ValueError, "out: .*contiguous"),
    ],
)
def test_a_bad_step_leaves_the_state(
    x: Any, out: Any, error: type[Exception], message: str
) -> None:
    layer = LSTM(5)
    layer.build((None, None, 3))
    stream = layer.stream(2)
    stream.step(np.ones((2, 3), np.float32))
    before = stream.state
    with pytest.raises(error, match=message):
        stream.step(x, out)
    for a, b in zip(before, stream.state, strict=True):
        np.testing.assert_array_equal(a, b)


def test_reset_refuses_rows_that_are_not_there() -> None:
    layer = LSTM(5)
    layer.build((None, None, 3))
    stream = layer.stream(2)
    for rows in ([2], [-1], [True, False, True], ["a"]):
        with pytest.raises((ValueError, TypeError), match="rows: got"):
            stream.reset(rows)


def test_a_layer_that_cannot_stream_says_why() -> None:
    with pytest.raises(ValueError, match="built"):
        LSTM(3).stream()
    backwards = LSTM(3, go_backwards=True)
    backwards.build((None, None, 2))
    with pytest.raises(ValueError, match="go_backwards"):
        backwards.stream()


def test_a_model_streams() -> None:
    layers = [Input((None, 4)), LSTM(8, return_sequences=True), Dropout(0.5), LSTM(5), Dense(3)]
    model = Sequential(layers)
    x = RNG.standard_normal((2, 6, 4)).astype(np.float32)
    stream = model.stream(2)
    for t in range(6):
        if t == 3:
            saved = stream.state
        y = stream.step(x[:, t])
        np.testing.assert_array_equal(y, model.predict(x[:, : t + 1], verbose=0))
    stream.state = saved
    np.testing.assert_array_equal(
        stream.step(x[:, 3], np.empty((2, 3), np.float32)), model.predict(x[:, :4], verbose=0)
    )
    with pytest.raises(ValueError, match="state: got 1 pairs, expected 2"):
        stream.state = saved[:1]
    stream.reset([0])
    y = stream.step(x[:, 0])
    np.testing.assert_array_equal(y[0], model.predict(x[:, :1], verbose=0)[0])


def test_threads_that_call_a_new_layer_build_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = LSTM(3)
    x = np.ones((1, 2, 2), np.float32)
    build, built = layer.build, threading.Event()
    shapes: list[Any] = []

    def slow_build(shape: Any) -> None:
        shapes.append(shape)
        built.wait(0.1)
        build(shape)

    monkeypatch.setattr(layer, "build", slow_build)
    threads = [threading.Thread(target=layer, args=(x,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == [(None, 2, 2)]


def test_weights_set_while_others_are_laid_out_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that lays out old weights must not put them back after new ones were set."""
    layer = LSTM(3)
    x = np.ones((1, 2, 2), np.float32)
    layer(x)
    layer.weights_changed()
    reading, written = threading.Event(), threading.Event()
    lay_out = layer._laid_out

    def slowly(weights_dtype: str | None) -> Any:
        packed = lay_out(weights_dtype)
        reading.set()
        written.wait(0.2)
        return packed

    monkeypatch.setattr(layer, "_laid_out", slowly)
    caller = threading.Thread(target=layer, args=(x,))
    caller.start()
    assert reading.wait(10)
    layer.set_weights([w + 1 for w in layer.get_weights()])
    written.set()
    caller.join()
    monkeypatch.undo()
    want, _, _ = reference.lstm(x, *layer.get_weights())
    np.testing.assert_allclose(layer(x), want[:, -1], atol=1e-6)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_layer_can_be_copied(how: Any) -> None:
    layer = LSTM(4, stateful=True)
    x = RNG.standard_normal((2, 3, 2)).astype(np.float32)
    layer(x)
    other = how(layer)
    np.testing.assert_array_equal(other(x), layer(x))


def test_results_are_the_callers_to_change() -> None:
    layer = LSTM(4, stateful=True, return_state=True)
    x = RNG.standard_normal((2, 3, 2)).astype(np.float32)
    output, h, c = layer(x)
    kept = layer.state
    for array in (output, h, c):
        array[...] = 9
    assert kept is not None and layer.state is not None
    for a, b in zip(kept, layer.state, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_argument_is_in_the_configuration() -> None:
    options = {
        "units": 3, "use_bias": False, "unit_forget_bias": False, "return_sequences": True,
        "return_state": True, "go_backwards": True, "stateful": True, "unroll": True, "seed": 4,
        "dtype": "float64", "trainable": False, "name": "x",
    }  # fmt: skip
    config = LSTM(**options, kernel_initializer="ones").get_config()
    assert {name: config[name] for name in options} == options
    assert config["kernel_initializer"]["class_name"] == "Ones"
    assert LSTM.from_config(config).get_config() == config
