"""Training: the order of samples, their weights, what is refused, what an interrupt leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_ext import LSTM, Dense, Dropout, Input, Sequential, set_random_seed
from lstm_ext.models import Callback
from lstm_ext.optimizers import SGD


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


@pytest.mark.parametrize("frozen", [{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}])
def test_a_frozen_layer_keeps_its_weights(data: Any, frozen: set[int]) -> None:
    layers = [LSTM(4, return_sequences=True), LSTM(3), Dense(1)]
    for index in frozen:
        layers[index].trainable = False
    model = Sequential([Input((3, 2)), *layers])
    model.compile(optimizer="adam", loss="mse")
    before = [layer.get_weights() for layer in layers]
    model.fit(*data, verbose=0)
    for index, layer in enumerate(layers):
        for a, b in zip(before[index], layer.get_weights(), strict=True):
            assert np.array_equal(a, b) == (index in frozen)


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
        "validation batch": (
            {"x": x, "y": y, "validation_batch_size": 0},
            ValueError,
            "validation_batch_size: got 0",
        ),
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
        "epochs": ({"x": x, "y": y, "epochs": 1.5}, TypeError, "epochs: got 1.5"),
        "first epoch": ({"x": x, "y": y, "initial_epoch": -1}, ValueError, "initial_epoch: got -1"),
        "shuffle": ({"x": x, "y": y, "shuffle": "batch"}, TypeError, "shuffle: got 'batch'"),
        "frequency": ({"x": x, "y": y, "validation_freq": 0}, ValueError, "validation_freq: got 0"),
        "class weights": ({"x": x, "y": y, "class_weight": [1]}, TypeError, "class_weight: got"),
        "a class weight": (
            {"x": x, "y": y, "class_weight": {1: "much"}},
            TypeError,
            r"class_weight\[1\]: got 'much'",
        ),
        "two weights": (
            {"x": x, "y": y, "class_weight": {}, "sample_weight": y},
            ValueError,
            "class_weight: .*sample_weight",
        ),
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


def test_an_interrupted_update_leaves_no_stale_weights(data: Any, monkeypatch: Any) -> None:
    """The kernels' own copy of the weights is dropped even if nothing runs after the update."""
    model = small_model()
    optimizer = model.optimizer
    assert optimizer is not None
    model.predict(data[0], verbose=0)
    apply = optimizer.apply

    def interrupted(grads: Any, weights: Any) -> None:
        apply(grads, weights)
        raise KeyboardInterrupt

    monkeypatch.setattr(optimizer, "apply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data, verbose=0)
    again = small_model(seed=1)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(
        model.predict(data[0], verbose=0), again.predict(data[0], verbose=0)
    )


def test_weights_laid_out_by_others_in_the_midst_of_an_update_are_dropped(
    data: Any, monkeypatch: Any
) -> None:
    model = small_model()
    optimizer = model.optimizer
    assert optimizer is not None
    apply = optimizer.apply

    def watched(grads: Any, weights: Any) -> None:
        model.predict(data[0], verbose=0)  # as another thread might
        apply(grads, weights)

    monkeypatch.setattr(optimizer, "apply", watched)
    model.fit(*data, verbose=0)
    again = small_model(seed=1)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(
        model.predict(data[0], verbose=0), again.predict(data[0], verbose=0)
    )


@pytest.mark.parametrize("shape", ["(B,)", "(B, 1)", "(B, C)"])
def test_class_weights_are_weights_of_samples(data: Any, shape: str) -> None:
    x = data[0]
    labels = np.arange(20) % 3
    targets = {"(B,)": labels, "(B, 1)": labels[:, None] * 1.0, "(B, C)": np.eye(3)[labels]}[shape]
    by_class, by_sample = small_model(), small_model()
    for model in (by_class, by_sample):
        units = 3 if shape == "(B, C)" else 1
        model.pop()
        model.add(Dense(units, seed=0))
        model.compile("sgd", "mse")
    by_class.fit(x, targets, class_weight={0: 0.5, 2: 4}, shuffle=False, verbose=0)
    weights = np.array([0.5, 1, 4])[labels]
    by_sample.fit(x, targets, sample_weight=weights, shuffle=False, verbose=0)
    for a, b in zip(by_class.get_weights(), by_sample.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("frequency", "epochs"), [(1, 4), (2, 2), (3, 1), ([1, 4], 2)])
def test_validation_in_some_epochs_only(data: Any, frequency: Any, epochs: int) -> None:
    settings = {"epochs": 4, "validation_split": 0.2, "validation_freq": frequency}
    history = small_model().fit(*data, verbose=0, **settings).history
    assert len(history["loss"]) == 4 and len(history["val_loss"]) == epochs


def test_layers_of_two_dtypes_train_together(data: Any) -> None:
    layers = [Input((3, 2)), LSTM(4, dtype="float64", seed=0), Dropout(0.0), Dense(1, seed=0)]
    mixed, single = Sequential(layers), small_model()
    mixed.compile("sgd", "mse")
    single.compile("sgd", "mse")
    for model in (mixed, single):
        model.fit(*data, epochs=2, shuffle=False, verbose=0)
    assert [w.dtype.name for w in mixed.weights] == ["float64"] * 3 + ["float32"] * 2
    # Two steps of the same training; wrong gradients differ in the first digits.
    for a, b in zip(mixed.weights, single.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=20 * np.finfo(np.float32).eps)


def test_what_is_refused_names_the_validation_data(data: Any) -> None:
    x, y = data
    with pytest.raises(ValueError, match=r"validation_data: x: got shape \(20, 3, 1\)"):
        small_model().fit(x, y, validation_data=(x[..., :1], y), verbose=0)
    with pytest.raises(ValueError, match=r"validation_data: y: got shape \(3,\)"):
        small_model().fit(x, y, validation_data=(x, y[:3]), verbose=0)
