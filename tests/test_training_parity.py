"""Training as in Keras: the numbers it got for the same weights, data and order of batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ext import LSTM, Dense, Embedding, Input, Sequential
from lstm_ext.losses import CategoricalCrossentropy, Huber
from lstm_ext.optimizers import SGD, Adam, AdamW, RMSprop
from training_support import ulps

GOLDEN = np.load(Path(__file__).parent / "golden_keras" / "models.npz")

# How much larger than Keras's ours may be: both are sums of many roundings in another order.
MARGIN = 4

Made = tuple[Sequential, dict[str, Any]]


def adam(**options: Any) -> Adam:
    return Adam(2**-6, beta_1=0.875, beta_2=1 - 2**-10, **options)


def regression(dtype: str) -> Made:
    model = Sequential([Input((4, 3)), LSTM(5, dtype=dtype), Dense(1, dtype=dtype)])
    model.compile(optimizer=adam(), loss="mse", metrics=["mae"])
    return model, {"epochs": 3, "batch_size": 8, "validation_split": 0.25}


def classes(dtype: str) -> Made:
    layers = [
        Input((4, 3)),
        LSTM(6, return_sequences=True, go_backwards=True, dtype=dtype),
        LSTM(4, use_bias=False, dtype=dtype),
        Dense(7, activation="relu", dtype=dtype),
        Dense(3, activation="softmax", dtype=dtype),
    ]
    model = Sequential(layers)
    loss = "sparse_categorical_crossentropy"
    model.compile(RMSprop(2**-7, rho=0.875), loss, ["accuracy"])
    return model, {"epochs": 3, "batch_size": 5, "class_weight": {0: 0.5, 2: 3.0}}


def text(dtype: str) -> Made:
    layers = [
        Input((6,)),
        Embedding(9, 4, dtype=dtype),
        LSTM(5, dtype=dtype),
        Dense(1, "sigmoid", dtype=dtype),
    ]
    model = Sequential(layers)
    optimizer = SGD(0.125, momentum=0.875, nesterov=True, clipnorm=0.5)
    model.compile(optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    return model, {"epochs": 3, "batch_size": 6}


def tagging(dtype: str) -> Made:
    layers = [
        Input((5, 2), dtype="int32"),
        LSTM(4, return_sequences=True, unit_forget_bias=False, dtype=dtype),
        Dense(3, dtype=dtype),
    ]
    model = Sequential(layers)
    loss = CategoricalCrossentropy(from_logits=True)
    model.compile(adam(global_clipnorm=0.25), loss, metrics=["accuracy"])
    return model, {"epochs": 4, "batch_size": 5, "initial_epoch": 1, "validation_freq": 2}


def stateful(dtype: str) -> Made:
    layers = [
        Input((3, 2), batch_size=4),
        LSTM(5, stateful=True, dtype=dtype),
        Dense(2, dtype=dtype),
    ]
    model = Sequential(layers)
    optimizer = AdamW(2**-6, 0.125, beta_1=0.875, beta_2=1 - 2**-10)
    model.compile(optimizer, Huber(0.75), ["mse", "mae"])
    return model, {"epochs": 3, "batch_size": 4}


def squares(dtype: str) -> Made:
    model = Sequential([Input((1, 1)), LSTM(8, dtype=dtype), Dense(1, dtype=dtype)])
    model.compile(optimizer=adam(), loss="mse")
    return model, {"epochs": 25}


MODELS = {make.__name__: make for make in (regression, classes, text, tagging, stateful, squares)}


def golden(name: str) -> dict[str, np.ndarray]:
    return {key[len(name) + 1 :]: GOLDEN[key] for key in GOLDEN.files if key.startswith(name + "/")}


def train(name: str, dtype: str, given: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return what Keras's file has of a training."""
    model, settings = MODELS[name](dtype)
    arrays: dict[str, Any] = {}
    if "sample_weight" in given:
        arrays["sample_weight"] = given["sample_weight"]
        arrays["validation_data"] = tuple(given[f"validation_data/{i}"] for i in range(3))
    model.set_weights([given[f"before/{i}"] for i in range(len(model.weights))])
    history = model.fit(given["x"], given["y"], shuffle=False, verbose=0, **settings, **arrays)
    results: dict[str, Any] = {f"history/{k}": np.array(v) for k, v in history.history.items()}
    results |= {f"after/{i}": w for i, w in enumerate(model.get_weights())}
    size = settings.get("batch_size", 32)
    results["prediction"] = model.predict(given["x"], batch_size=size, verbose=0)
    evaluated = model.evaluate(given["x"], given["y"], batch_size=size, verbose=0, return_dict=True)
    assert isinstance(evaluated, dict)
    return results | {f"evaluated/{key}": value for key, value in evaluated.items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_training_as_in_keras(name: str, dtype: str) -> None:
    """Ours errs, in units of its precision, about as much as Keras in float32 against float64."""
    given = golden(name)
    exact = {k.removeprefix("float64/"): v for k, v in given.items() if k.startswith("float64/")}
    noise = max(ulps(given[f"float32/{k}"], exact[k], np.float32) for k in exact)
    results = train(name, dtype, given)
    assert set(results) == set(exact)
    for key, value in results.items():
        assert np.shape(value) == exact[key].shape, key
        found = ulps(value, exact[key], dtype)
        assert found <= MARGIN * noise, f"{key}: {found:.3g} units, Keras {noise:.3g}"


def test_keras_logs_in_this_order() -> None:
    for name, make in MODELS.items():
        model, settings = make("float32")
        given = golden(name)
        arrays = {"validation_data": (given["x"], given["y"])} if name == "tagging" else {}
        history = model.fit(given["x"], given["y"], verbose=0, **settings, **arrays).history
        theirs = [key for key in given if key.startswith("float32/history/")]
        assert list(history) == [key.removeprefix("float32/history/") for key in theirs]
