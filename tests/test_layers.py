"""Layers: shapes, conversions, weights, configurations, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_ext import LSTM, Dense, Dropout, Embedding, Input, Layer, reference

RNG = np.random.default_rng(11)


def make(kind: str, **options: Any) -> tuple[Layer, np.ndarray]:
    """Return a layer and an input for it."""
    dtype = options.get("dtype", "float32")
    x = RNG.standard_normal((2, 5, 3)).astype(dtype)
    if kind == "LSTM":
        return LSTM(4, **options), x
    if kind == "Dense":
        return Dense(4, activation="tanh", **options), x
    if kind == "Embedding":
        return Embedding(7, 4, **options), RNG.integers(0, 7, (2, 5))
    return Dropout(0.5, **options), x


KINDS = ("LSTM", "Dense", "Embedding", "Dropout")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_output_shape_and_dtype(kind: str, dtype: str) -> None:
    layer, x = make(kind, dtype=dtype)
    y = layer(x)
    assert layer.built and y.dtype == dtype == layer.dtype
    assert y.shape == layer.compute_output_shape(x.shape)
    assert layer.count_params() == sum(w.size for w in layer.get_weights())


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_makes_an_equal_layer(kind: str) -> None:
    layer, x = make(kind, name="a_name", input_shape=(5, 3) if kind != "Embedding" else (5,))
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config() and again.name == "a_name"
    layer.build((None, *x.shape[1:]))
    again.build((None, *x.shape[1:]))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), layer(x))


@pytest.mark.parametrize("kind", ["Dense", "Embedding", "LSTM"])
def test_gradients_against_central_differences(kind: str) -> None:
    layer, x = make(kind, dtype="float64")
    layer(x)
    dy = RNG.standard_normal(layer(x).shape)
    y, backward = layer.vjp(x)
    np.testing.assert_array_equal(y, layer(x))
    need_x = kind != "Embedding"
    d_x, grads = backward(dy, need_x)
    h = 1e-6
    for index, (grad, name) in enumerate(zip(grads, layer.weight_names, strict=True)):
        weights = layer.get_weights()
        where = tuple(RNG.integers(0, n) for n in weights[index].shape)
        values = []
        for sign in (1, -1):
            moved = [w.copy() for w in weights]
            moved[index][where] += sign * h
            layer.set_weights(moved)
            values.append((layer(x) * dy).sum())
        layer.set_weights(weights)
        assert grad[where] == pytest.approx((values[0] - values[1]) / (2 * h), abs=1e-7), name
    if need_x:
        moved = x.copy()
        moved[1, 2, 0] += h
        rise = (layer(moved) * dy).sum()
        moved[1, 2, 0] -= 2 * h
        assert d_x is not None
        assert d_x[1, 2, 0] == pytest.approx((rise - (layer(moved) * dy).sum()) / (2 * h), abs=1e-7)


def test_names_are_numbered() -> None:
    first, second = Dropout(0.1), Dropout(0.1)
    base, _, number = second.name.rpartition("_")
    assert base == "dropout" and first.name != second.name
    assert Dropout(0.1).name == f"dropout_{int(number) + 1}"


def test_weights_are_read_only_copies_or_views() -> None:
    layer, x = make("Dense")
    assert isinstance(layer, Dense)
    before = layer(x)
    with pytest.raises(ValueError, match="read-only"):
        layer.kernel[0, 0] = 1
    layer.get_weights()[0][...] = 0
    np.testing.assert_array_equal(layer(x), before)
    layer.kernel = np.zeros((3, 4))
    layer.bias = [1, 2, 3, 4]
    np.testing.assert_allclose(layer(x)[0, 0], np.tanh([1, 2, 3, 4]), rtol=1e-6)


def test_set_weights_takes_all_or_nothing() -> None:
    layer, _ = make("Dense")
    with pytest.raises(ValueError, match="built"):
        layer.set_weights([])
    layer.build((None, 3))
    before = layer.get_weights()
    kernel = np.ones((3, 4))
    for weights, message in (
        ([kernel], r"got 1 arrays.*expected 2 \(kernel, bias\)"),
        ([kernel, np.ones(5)], r"bias: got shape \(5,\), expected \(4,\)"),
        ([kernel, np.array(["a"] * 4)], "bias: got an array of <U1"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            layer.set_weights(weights)
        for a, b in zip(before, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_dense_is_the_same_row_by_row() -> None:
    layer = Dense(5, activation="softmax")
    x = RNG.standard_normal((40, 33)).astype(np.float32)
    whole = layer(x)
    for row in (0, 7, 39):
        np.testing.assert_array_equal(layer(x[row : row + 1])[0], whole[row])


def test_dropout_keeps_the_mean_and_drops_in_training_only() -> None:
    layer = Dropout(0.25, seed=4)
    x = np.ones((200, 100), np.float32)
    np.testing.assert_array_equal(layer(x), x)
    y = layer(x, training=True)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(float((y == 0).mean()) - 0.25) < 0.02  # 5 standard deviations
    assert not np.array_equal(layer(x, training=True), y)
    assert np.array_equal(Dropout(0.25, seed=4)(x, training=True), y)


def test_dropout_with_a_noise_shape_drops_whole_axes() -> None:
    layer = Dropout(0.5, noise_shape=(None, 1, None), seed=1)
    y = layer(np.ones((3, 6, 50), np.float32), training=True)
    assert (y == y[:, :1]).all()


def test_dropout_carries_gradients_through_its_mask() -> None:
    layer = Dropout(0.5, seed=2)
    x = np.ones((4, 9), np.float32)
    y, backward = layer.vjp(x)
    dy = RNG.standard_normal(x.shape).astype(np.float32)
    d_x, grads = backward(dy, True)
    np.testing.assert_array_equal(d_x, dy * y)
    assert grads == []


def test_embedding_adds_up_the_gradients_of_a_number() -> None:
    layer = Embedding(4, 2)
    x = np.array([[1, 1, 3]])
    layer(x)
    dy = np.ones((1, 3, 2), np.float32)
    _, grads = layer.vjp(x)[1](dy, False)
    np.testing.assert_array_equal(grads[0][:, 0], [0, 2, 0, 1])


def test_embedding_takes_whole_numbers_of_any_type() -> None:
    layer = Embedding(4, 2)
    expected = layer(np.array([[0, 3]]))
    np.testing.assert_array_equal(layer([[0.0, 3.0]]), expected)
    for x in ([[4]], [[-1]]):
        with pytest.raises(ValueError, match=r"x: got numbers .* expected 0 to 3"):
            layer(x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Dense(0), ValueError, "units: got 0"),
        (lambda: Dense(-3), ValueError, "units: got -3"),
        (lambda: LSTM(2**40), ValueError, "units: got 1099511627776"),
        (lambda: LSTM(2.5), TypeError, "units: got 2.5"),
        (lambda: LSTM(True), ValueError, "units: got True"),
        (lambda: Embedding(3, "x"), TypeError, "output_dim: got 'x'"),
        (lambda: Dropout(1.5), ValueError, "rate: got 1.5"),
        (lambda: Dropout("half"), TypeError, "rate: got 'half'"),
        (lambda: Dense(3, dtype="float16"), ValueError, "dtype: got 'float16'"),
        (lambda: Dense(3, activation="tanhh"), ValueError, "activation: got 'tanhh'"),
        (lambda: Dense(3, activation=np.tanh), TypeError, "activation: got"),
        (lambda: Dense(3, kernel_initializer="x"), ValueError, "kernel_initializer: got 'x'"),
        (lambda: LSTM(3, seed=-1)(np.ones((1, 2, 3))), ValueError, "seed: got -1"),
        (lambda: LSTM(3, unit=2), TypeError, "'unit'"),
        (lambda: Dense(3)(np.ones(4)), ValueError, r"dense.*\(None,\)|x: got shape \(4,\)"),
        (lambda: LSTM(3)(np.ones((4, 5))), ValueError, r"lstm.*\(None, 5\), expected 3 axes"),
    ],
)
def test_bad_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("make_layer", "name"),
    [
        (lambda: LSTM(3, kernel_regularizer="l2"), "kernel_regularizer='l2'"),
        (lambda: Dense(3, bias_constraint="x"), "bias_constraint='x'"),
        (lambda: Dense(3, activity_regularizer="l1"), "activity_regularizer='l1'"),
    ],
)
def test_what_keras_has_and_we_do_not_is_refused(make_layer: Any, name: str) -> None:
    with pytest.raises(NotImplementedError, match=name):
        make_layer()


def test_keras_defaults_that_are_not_there_are_accepted() -> None:
    LSTM(3, dropout=0.0, kernel_regularizer=None, use_cudnn="auto", unroll=True)
    assert Input((3, 2)).input_shape == (None, 3, 2)


def test_the_reference_and_the_layer_agree() -> None:
    layer, x = make("LSTM", dtype="float64", return_sequences=True)
    y = layer(x)
    output, _, _ = reference.lstm(x, *layer.get_weights())
    np.testing.assert_allclose(y, output, rtol=0, atol=1e-14)


def test_dropout_of_everything() -> None:
    np.testing.assert_array_equal(Dropout(1)(np.ones((3, 2)), training=True), np.zeros((3, 2)))


def test_arguments_of_older_keras() -> None:
    assert Dense(3, input_dim=4).input_shape == (None, 4)
    with pytest.raises(ValueError, match="input_dim: got 4"):
        Dense(3, input_dim=4, input_shape=(4,))
    with pytest.warns(UserWarning, match="input_length"):
        Embedding(5, 2, input_length=3)
