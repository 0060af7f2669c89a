"""Models: how they are put together, what they take, and how they are shown."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from lstm_ext import LSTM, Dense, Embedding, Input, Sequential

RNG = np.random.default_rng(9)


def test_a_model_is_built_by_its_first_input() -> None:
    by_data = Sequential([LSTM(4), Dense(2)])
    assert not by_data.built
    by_data(np.zeros((3, 5, 2)))
    assert by_data.built and by_data.output_shape == (None, 2)
    for model in (
        Sequential([Input((5, 2)), LSTM(4), Dense(2)]),
        Sequential([LSTM(4, input_shape=(5, 2)), Dense(2)]),
    ):
        assert model.built and model.count_params() == by_data.count_params() == 122
    late = Sequential([LSTM(4), Dense(2)])
    late.build((None, 5, 2))
    assert [w.shape for w in late.weights] == [w.shape for w in by_data.weights]


def test_summary_shows_layers_shapes_and_weights() -> None:
    model = Sequential(name="a_model")
    model.add(LSTM(64, input_shape=(1, 1), name="memory"))
    model.add(Dense(1, trainable=False))
    shown: list[str] = []
    model.summary(print_fn=shown.append)
    text = "\n".join(shown)
    for part in ('"a_model"', "memory (LSTM)", "(None, 64)", "16,896", "65", "16,961"):
        assert part in text
    assert "Trainable params: 16,896" in text and "Non-trainable params: 65" in text
    shown.clear()
    Sequential([Dense(3)]).summary(print_fn=shown.append)
    assert "0 (unbuilt)" in shown[0]


def test_add_refuses_what_does_not_fit_and_stays_as_it_was() -> None:
    model = Sequential([Input((5, 2)), LSTM(4)])
    layer = model.layers[0]
    for bad, error, message in (
        (3, TypeError, "layer: got 3"),
        (Input((3,)), ValueError, "Input"),
        (LSTM(3, return_state=True), ValueError, "return_state"),
        (layer, ValueError, "already"),
        (LSTM(3), ValueError, r"\(None, 4\), expected 3 axes"),
    ):
        with pytest.raises(error, match=message):
            model.add(bad)  # type: ignore[arg-type]
        assert model.layers == [layer]
    assert model.pop() is layer and model.layers == []


def test_set_weights_of_a_model_takes_all_or_nothing() -> None:
    model = Sequential([Input((5, 2)), LSTM(4), Dense(2)])
    before = model.get_weights()
    wrong = [np.ones_like(w) for w in before]
    wrong[-1] = np.ones(7)
    for weights in (wrong, before[:-1], [*before, before[0]]):
        with pytest.raises(ValueError, match=r"bias: got shape \(7,\)|got [46] arrays"):
            model.set_weights(weights)
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_input_of_the_wrong_shape_is_refused() -> None:
    model = Sequential([Input((5, 2)), LSTM(4)])
    for shape in ((3, 5, 3), (3, 5), (5,)):
        with pytest.raises(ValueError, match=r"x: got shape .*expected \(None, (5|None), 2\)"):
            model(np.zeros(shape))
    with pytest.raises(ValueError, match="no layers"):
        Sequential()(np.zeros((1, 2)))


def test_inputs_are_fitted_to_the_model_as_in_keras() -> None:
    """A last axis of one may be missing or too much; sequences may have any length."""
    model = Sequential([Input((3, 1)), LSTM(4), Dense(1)])
    x = RNG.standard_normal((5, 3, 1)).astype(np.float32)
    expected = model(x)
    np.testing.assert_array_equal(model(x[..., 0]), expected)
    np.testing.assert_array_equal(model(x[..., None]), expected)
    assert model(x[:, :2]).shape == (5, 1)
    flat = Sequential([Dense(2, input_dim=1)])
    np.testing.assert_array_equal(flat(x[:, 0, 0]), flat(x[:, 0]))
    by_data = Sequential([LSTM(4), Dense(1)])
    by_data(x)
    assert by_data.input_shape == (None, 3, 1) and by_data(x[:, :1]).shape == (5, 1)
    assert by_data(x[:, :0]).shape == (5, 1) and by_data(x[:0]).shape == (0, 1)


def test_an_input_converts_to_its_dtype() -> None:
    model = Sequential([Input((2, 1), dtype="int32"), LSTM(4)])
    x = RNG.uniform(0, 3, (4, 2, 1))
    np.testing.assert_array_equal(model(x), model(x.astype(np.int32)))
    words = Sequential([Input((3,), dtype="int32"), Embedding(5, 2), LSTM(4)])
    assert words(np.ones((2, 3))).shape == (2, 4)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: Input((3, 2)), (None, 3, 2)),
        (lambda: Input((None, 2), 4), (4, None, 2)),
        (lambda: Input(batch_shape=(4, 3, 2)), (4, 3, 2)),
        (lambda: Input(batch_shape=(None, 3)), (None, 3)),
    ],
)
def test_an_input_has_a_shape(make: Any, shape: tuple[Any, ...]) -> None:
    layer = make()
    assert layer.input_shape == shape
    assert Input.from_config(layer.get_config()).input_shape == shape
    if len(shape) == 3:
        assert Sequential([layer, LSTM(5)]).output_shape == (shape[0], 5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "shape: got None"),
        ({"shape": (3,), "batch_shape": (2, 3)}, ValueError, "expected one of them"),
        ({"batch_size": 2, "batch_shape": (2, 3)}, ValueError, "batch_size: got 2"),
        ({"shape": 3}, TypeError, "shape: got 3, expected a tuple"),
        ({"shape": "33"}, TypeError, "shape: got '33'"),
        ({"shape": (3, -1)}, ValueError, "shape: got -1"),
        ({"shape": (3, 1.5)}, TypeError, "shape: got 1.5"),
        ({"shape": (3,), "dtype": "string"}, ValueError, "dtype: got 'string'"),
        ({"shape": (3,), "sparse": True}, NotImplementedError, "sparse=True"),
        ({"shape": (3,), "shapes": True}, TypeError, "'shapes'"),
    ],
)
def test_a_bad_input_declaration(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Input(**options)


def test_layers_that_do_not_fit_are_not_built() -> None:
    model = Sequential([LSTM(4), LSTM(3)])
    with pytest.raises(ValueError, match=r"\(None, 4\), expected 3 axes"):
        model(np.zeros((3, 5, 2)))
    assert not model.layers[0].built and model.input_shape is None
    dense = Dense(3)
    dense.build((None, 7))
    with pytest.raises(ValueError, match=r"\(None, 4\), expected 7 features"):
        Sequential([Input((5, 2)), LSTM(4), dense])


def test_models_are_numbered() -> None:
    base, _, number = Sequential().name.rpartition("_")
    assert base == "sequential" and Sequential().name == f"sequential_{int(number) + 1}"


def test_a_model_can_be_copied() -> None:
    model = Sequential([Input((5, 2)), LSTM(4), Dense(2)])
    model.compile("adam", "mse")
    x = RNG.standard_normal((3, 5, 2)).astype(np.float32)
    expected = model.predict(x, verbose=0)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(x, verbose=0), expected)
        other.fit(x, np.ones((3, 2)), verbose=0)
        assert not np.array_equal(other.predict(x, verbose=0), expected)
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
