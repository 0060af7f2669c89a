"""Writes models.npz: small models that Keras trained, with everything needed to train them again.

Each is trained twice from the same weights, in float32 and in float64: the difference says what
rounding does to that training.

Run in an environment with Keras 3 and TensorFlow::

    python tests/golden_keras/make_golden_keras.py
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np

layers, optimizers = keras.layers, keras.optimizers
RNG = np.random.default_rng(7)


def adam(**options):
    """Return an Adam whose numbers float32 holds exactly: Keras rounds some of them to it."""
    return optimizers.Adam(2**-6, beta_1=0.875, beta_2=1 - 2**-10, **options)


def regression():
    """Adam, a metric, a share for validation, a batch that is not full."""
    model = keras.Sequential([keras.Input((4, 3)), layers.LSTM(5), layers.Dense(1)])
    model.compile(optimizer=adam(), loss="mse", metrics=["mae"])
    x = RNG.standard_normal((22, 4, 3)).astype(np.float32)
    fit = {"epochs": 3, "batch_size": 8, "validation_split": 0.25}
    return model, x, x.sum(axis=(1, 2))[:, None], fit, {}


def classes():
    """Two LSTMs, one of them backwards; RMSprop; labels with class weights."""
    stack = [
        keras.Input((4, 3)),
        layers.LSTM(6, return_sequences=True, go_backwards=True),
        layers.LSTM(4, use_bias=False),
        layers.Dense(7, activation="relu"),
        layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(stack)
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer=optimizers.RMSprop(2**-7, rho=0.875), loss=loss, metrics=["accuracy"])
    x = RNG.standard_normal((22, 4, 3)).astype(np.float32)
    labels = (x[:, :, 0].sum(axis=1) > 0).astype(np.int64) + (x[:, -1, 1] > 0)
    fit = {"epochs": 3, "batch_size": 5, "class_weight": {0: 0.5, 2: 3.0}}
    return model, x, labels, fit, {}


def text():
    """An embedding; SGD with momentum, clipped.

    Not Adam: on TensorFlow, Keras squares the gradients of repeated words before it adds them up,
    and on JAX and torch after.
    """
    stack = [keras.Input((6,)), layers.Embedding(9, 4), layers.LSTM(5), layers.Dense(1, "sigmoid")]
    model = keras.Sequential(stack)
    optimizer = optimizers.SGD(0.125, momentum=0.875, nesterov=True, clipnorm=0.5)
    model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    x = RNG.integers(0, 9, (20, 6))
    spam = (x == 3).any(axis=1).astype(np.float32)[:, None]
    return model, x, spam, {"epochs": 3, "batch_size": 6}, {}


def tagging():
    """An output a step; logits; weights a sample; validation now and then."""
    stack = [
        keras.Input((5, 2), dtype="int32"),
        layers.LSTM(4, return_sequences=True, unit_forget_bias=False),
        layers.Dense(3),
    ]
    model = keras.Sequential(stack)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    optimizer = adam(global_clipnorm=0.25)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    x = RNG.integers(-2, 3, (18, 5, 2))
    y = np.eye(3, dtype=np.float32)[x.sum(axis=-1) % 3]
    weights = np.linspace(0, 2, 18).astype(np.float32)[:, None]
    fit = {"epochs": 4, "batch_size": 5, "initial_epoch": 1, "validation_freq": 2}
    arrays = {"sample_weight": weights, "validation_data": (x[:7], y[:7], weights[-7:])}
    return model, x, y, fit, arrays


def stateful():
    """A state that goes on from batch to batch and from epoch to epoch; AdamW; Huber."""
    stack = [keras.Input((3, 2), batch_size=4), layers.LSTM(5, stateful=True), layers.Dense(2)]
    model = keras.Sequential(stack)
    optimizer = optimizers.AdamW(2**-6, 0.125, beta_1=0.875, beta_2=1 - 2**-10)
    model.compile(optimizer=optimizer, loss=keras.losses.Huber(0.75), metrics=["mse", "mae"])
    x = RNG.standard_normal((12, 3, 2)).astype(np.float32)
    return model, x, 2 * x[:, -1], {"epochs": 3, "batch_size": 4}, {}


def squares():
    """Train the notebook's model of squares of scaled numbers for a while."""
    model = keras.Sequential([keras.Input((1, 1)), layers.LSTM(8), layers.Dense(1)])
    model.compile(optimizer=adam(), loss="mse")
    x = np.linspace(0, 1, 100, dtype=np.float32).reshape(100, 1, 1)
    return model, x, x[:, 0] ** 2, {"epochs": 25}, {}


def record(store, name, make):
    """Store the first weights and the data, and what came of them in float32 and float64."""
    state = RNG.bit_generator.state
    before = None
    for dtype in ("float32", "float64"):
        RNG.bit_generator.state = state  # the same data
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        model, x, y, fit, arrays = make()
        before = model.get_weights() if before is None else before
        model.set_weights(before)
        result = f"{name}/{dtype}"
        history = model.fit(x, y, shuffle=False, verbose=0, **fit, **arrays).history
        for key, values in history.items():
            store[f"{result}/history/{key}"] = np.array(values)
        for i, w in enumerate(model.get_weights()):
            store[f"{result}/after/{i}"] = w
        size = fit.get("batch_size", 32)
        store[f"{result}/prediction"] = model.predict(x, batch_size=size, verbose=0)
        evaluated = model.evaluate(x, y, batch_size=size, verbose=0, return_dict=True)
        for key, value in evaluated.items():
            store[f"{result}/evaluated/{key}"] = np.array(value)
    for i, w in enumerate(before):
        store[f"{name}/before/{i}"] = w
    store[f"{name}/x"], store[f"{name}/y"] = x, y
    for key, value in arrays.items():
        if isinstance(value, tuple):
            for i, array in enumerate(value):
                store[f"{name}/{key}/{i}"] = array
        else:
            store[f"{name}/{key}"] = value


def main() -> None:
    """Train each model and write the file."""
    keras.utils.set_random_seed(7)
    store: dict[str, np.ndarray] = {}
    for make in (regression, classes, text, tagging, stateful, squares):
        record(store, make.__name__, make)
    np.savez_compressed(Path(__file__).with_name("models.npz"), **store)


if __name__ == "__main__":
    main()
