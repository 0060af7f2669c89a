"""Training: Keras's numbers for the same weights, data and order; and what fit promises besides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ext import LSTM, Dense, Dropout, Embedding, Input, Sequential, set_random_seed
from lstm_ext.models import Callback
from lstm_ext.optimizers import SGD, Adam, RMSprop

GOLDEN = np.load(Path(__file__).parent / "golden_keras" / "models.npz")

# Both frameworks round in float32 at every operation, in different orders. A training of some ten
# steps carries such differences along; a wrong formula, order of batches or default changes the
# second or third digit.
ROUNDINGS = 300 * float(np.finfo(np.float32).eps)


def regression() -> tuple[Sequential, dict[str, Any]]:
    model = Sequential([Input((4, 3)), LSTM(5), Dense(1)])
    model.compile(optimizer=Adam(0.01), loss="mse", metrics=["mae"])
    return model, {"epochs": 3, "batch_size": 8, "validation_split": 0.25}


def classes() -> tuple[Sequential, dict[str, Any]]:
    layers = [
        Input((4, 3)),
        LSTM(6, return_sequences=True, go_backwards=True),
        LSTM(4, use_bias=False),
        Dense(7, activation="relu"),
        Dense(3, activation="softmax"),
    ]
    model = Sequential(layers)
    model.compile(RMSprop(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    return model, {"epochs": 3, "batch_size": 5}


def text() -> tuple[Sequential, dict[str, Any]]:
    model = Sequential([Input((6,)), Embedding(9, 4), LSTM(5), Dense(1, "sigmoid")])
    optimizer = SGD(0.1, momentum=0.9, nesterov=True, clipnorm=0.5)
    model.compile(optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    return model, {"epochs": 3, "batch_size": 6}


MODELS = {"regression": regression, "classes": classes, "text": text}


def golden(name: str) -> dict[str, np.ndarray]:
    return {key[len(name) + 1 :]: GOLDEN[key] for key in GOLDEN.files if key.startswith(name + "/")}


def in_order(values: dict[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    count = sum(key.startswith(prefix) for key in values)
    return [values[f"{prefix}/{i}"] for i in range(count)]


@pytest.mark.parametrize("name", MODELS)
def test_training_as_in_keras(name: str) -> None:
    want = golden(name)
    model, settings = MODELS[name]()
    model.set_weights(in_order(want, "before"))
    history = model.fit(want["x"], want["y"], shuffle=False, verbose=0, **settings).history
    logged = {key.removeprefix("history/") for key in want if key.startswith("history/")}
    assert set(history) == logged
    for key in logged:
        np.testing.assert_allclose(
            history[key], want[f"history/{key}"], rtol=ROUNDINGS, err_msg=key
        )
    for own, theirs in zip(model.get_weights(), in_order(want, "after"), strict=True):
        np.testing.assert_allclose(own, theirs, rtol=ROUNDINGS, atol=ROUNDINGS)
    prediction = model.predict(want["x"], verbose=0)
    np.testing.assert_allclose(prediction, want["prediction"], rtol=ROUNDINGS, atol=ROUNDINGS)
    evaluated = model.evaluate(want["x"], want["y"], verbose=0, return_dict=True)
    for key, value in evaluated.items():
        np.testing.assert_allclose(value, want[f"evaluated/{key}"], rtol=ROUNDINGS, err_msg=key)


def small_model(seed: int = 0) -> Sequential:
    model = Sequential([Input((3, 2)), LSTM(4, seed=seed), Dense(1, seed=seed)])
    model.compile(optimizer="adam", loss="mse")
    return model


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((20, 3, 2)).astype(np.float32)
    return x, x.sum(axis=(1, 2))


def test_integers_and_floats_train_alike(data: Any) -> None:
    x = np.arange(120).reshape(20, 3, 2)
    y = np.arange(20)
    results = []
    for kind in (np.int64, np.float64, np.float32, list):
        model = small_model()
        converted = (x.tolist(), y.tolist()) if kind is list else (x.astype(kind), y.astype(kind))
        model.fit(*converted, epochs=2, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_seed_repeats_shuffling_and_dropout(data: Any) -> None:
    def train() -> list[np.ndarray]:
        set_random_seed(3)
        model = Sequential([Input((3, 2)), LSTM(4), Dropout(0.3), Dense(1)])
        model.compile(optimizer="sgd", loss="mae")
        model.fit(*data, epochs=2, batch_size=7, verbose=0)
        return model.get_weights()

    for a, b in zip(train(), train(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_shuffling_changes_the_order_and_loses_nothing(data: Any) -> None:
    y = data[1]
    seen: list[np.ndarray] = []

    class Spy(Dense):
        def vjp(self, x: Any, training: bool = True) -> Any:
            seen.append(x.copy())
            return super().vjp(x, training)

    model = Sequential([Input((1,)), Spy(1)])
    model.compile(optimizer="sgd", loss="mse")
    numbers = np.arange(20.0)[:, None]
    model.fit(numbers, y, batch_size=6, verbose=0)
    epoch = np.concatenate(seen)[:, 0]
    assert [len(batch) for batch in seen] == [6, 6, 6, 2]
    assert sorted(epoch) == list(range(20)) and list(epoch) != list(range(20))


def test_sample_weights_of_zero_drop_samples(data: Any) -> None:
    x, y = data
    weighted, cut = small_model(), small_model()
    weights = np.ones(20)
    weights[10:] = 0
    weighted.compile(optimizer=SGD(0.1), loss="mse")
    cut.compile(optimizer=SGD(0.05), loss="mse")  # the mean is over twice as many samples
    weighted.fit(x, y, sample_weight=weights, shuffle=False, verbose=0)
    cut.fit(x[:10], y[:10], shuffle=False, verbose=0)
    for a, b in zip(weighted.get_weights(), cut.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_frozen_layer_keeps_its_weights(data: Any) -> None:
    model = Sequential([Input((3, 2)), LSTM(4, trainable=False), Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    before = model.get_weights()
    model.fit(*data, verbose=0)
    after = model.get_weights()
    for index, (a, b) in enumerate(zip(before, after, strict=True)):
        assert np.array_equal(a, b) == (index < 3)


def test_training_on_a_batch_is_a_step_of_fit(data: Any) -> None:
    by_batch, by_fit = small_model(), small_model()
    loss = by_batch.train_on_batch(*data)
    history = by_fit.fit(*data, batch_size=20, shuffle=False, verbose=0)
    assert loss == history.history["loss"][0]
    for a, b in zip(by_batch.get_weights(), by_fit.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert by_batch.test_on_batch(*data) == by_batch.evaluate(*data, verbose=0)


def test_prediction_does_not_depend_on_the_batch_size(data: Any) -> None:
    model = small_model()
    whole = model.predict(data[0], batch_size=20, verbose=0)
    for size in (1, 3, 7):
        np.testing.assert_array_equal(model.predict(data[0], batch_size=size, verbose=0), whole)
    np.testing.assert_array_equal(model.predict_on_batch(data[0]), whole)
    assert model.predict(data[0][:0], verbose=0).shape == (0, 1)


def test_validation_is_taken_from_the_end(data: Any) -> None:
    x, y = data
    split, given = small_model(), small_model()
    a = split.fit(x, y, validation_split=0.3, shuffle=False, verbose=0).history
    b = given.fit(
        x[:14], y[:14], validation_data=(x[14:], y[14:]), shuffle=False, verbose=0
    ).history
    assert a == b and "val_loss" in a


@pytest.mark.parametrize(("verbose", "lines"), [(0, 0), (1, 4), (2, 4), ("auto", 4)])
def test_what_is_printed(data: Any, capsys: Any, verbose: Any, lines: int) -> None:
    small_model().fit(*data, epochs=2, verbose=verbose)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == lines
    if lines:
        assert printed[0] == "Epoch 1/2" and "loss: " in printed[1]


def bad_calls() -> dict[str, tuple[dict[str, Any], type[Exception], str]]:
    x, y = np.zeros((4, 3, 2)), np.zeros(4)
    return {
        "features": (
            {"x": np.zeros((4, 3, 5)), "y": y},
            ValueError,
            r"x: .*\(4, 3, 5\).*\(None, 3, 2\)",
        ),
        "rank": ({"x": np.zeros((4, 3)), "y": y}, ValueError, r"x: got shape \(4, 3\)"),
        "number of targets": ({"x": x, "y": np.zeros(5)}, ValueError, r"y: .*\(5,\).*4 samples"),
        "shape of targets": ({"x": x, "y": np.zeros((4, 2))}, ValueError, r"y_true: .*\(1, 2\)"),
        "strings": ({"x": x, "y": np.array(list("abcd"))}, TypeError, "y: .*<U1"),
        "objects": ({"x": np.array([None] * 4), "y": y}, TypeError, "x: .*object"),
        "ragged": ({"x": [[[1, 2]], [[3]]], "y": y}, ValueError, "x: .*inhomogeneous"),
        "no targets": ({"x": x, "y": None}, ValueError, "y: got None"),
        "no samples": ({"x": x[:0], "y": y[:0]}, ValueError, "x: got no samples"),
        "batch size": ({"x": x, "y": y, "batch_size": 0}, ValueError, "batch_size: got 0"),
        "split": (
            {"x": x, "y": y, "validation_split": 1.5},
            ValueError,
            "validation_split: got 1.5",
        ),
        "validation": ({"x": x, "y": y, "validation_data": x}, ValueError, "validation_data: got"),
        "verbose": ({"x": x, "y": y, "verbose": 7}, ValueError, "verbose: got 7"),
        "callbacks": ({"x": x, "y": y, "callbacks": [3]}, TypeError, "callbacks: got 3"),
        "not there yet": (
            {"x": x, "y": y, "steps_per_epoch": 3},
            NotImplementedError,
            "steps_per_epoch",
        ),
        "unknown": ({"x": x, "y": y, "epoch": 3}, TypeError, "'epoch'"),
        "weights": ({"x": x, "y": y, "sample_weight": [1, 2]}, ValueError, "sample_weight: got"),
    }


@pytest.mark.parametrize("case", bad_calls())
def test_a_bad_call_changes_nothing(case: str) -> None:
    arguments, error, message = bad_calls()[case]
    model = small_model()
    before = model.get_weights()
    with pytest.raises(error, match=message):
        model.fit(**{"verbose": 0, **arguments})
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.optimizer is not None and model.optimizer.iterations == 0


def test_a_model_that_is_not_compiled_says_so(data: Any) -> None:
    model = Sequential([LSTM(2), Dense(1)])
    for call in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(ValueError, match="compile"):
            call(*data)


def test_compile_refuses_what_it_does_not_know() -> None:
    model = small_model()
    optimizer, loss = model.optimizer, model.loss
    for arguments, error, message in (
        ({"loss": None}, ValueError, "loss"),
        ({"loss": "mse", "optimizer": "adamm"}, ValueError, "optimizer: got 'adamm'"),
        ({"loss": "msq"}, ValueError, "loss: got 'msq'"),
        ({"loss": "mse", "metrics": "mae"}, TypeError, "metrics"),
        ({"loss": "mse", "metrics": ["nothing"]}, ValueError, "metrics: got 'nothing'"),
        ({"loss": "mse", "loss_weights": [1]}, NotImplementedError, "loss_weights"),
    ):
        with pytest.raises(error, match=message):
            model.compile(**arguments)
        assert model.optimizer is optimizer and model.loss is loss


def test_an_interrupted_fit_leaves_a_usable_model(data: Any) -> None:
    class Interrupt(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 1:
                raise KeyboardInterrupt

    model = small_model()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data, batch_size=5, callbacks=[Interrupt()], verbose=0)
    again = small_model()
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(
        model.predict(data[0], verbose=0), again.predict(data[0], verbose=0)
    )
