"""Writes models.npz: small models that Keras trained, with everything needed to train them again.

Run in an environment with Keras 3 and TensorFlow::

    python tests/golden_keras/make_golden_keras.py
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np

layers = keras.layers


def record(store, name, model, x, y, **fit):
    """Store the first weights, what each epoch logged, the last weights and a prediction."""
    for i, w in enumerate(model.get_weights()):
        store[f"{name}/before/{i}"] = w
    history = model.fit(x, y, shuffle=False, verbose=0, **fit).history
    for key, values in history.items():
        store[f"{name}/history/{key}"] = np.array(values)
    for i, w in enumerate(model.get_weights()):
        store[f"{name}/after/{i}"] = w
    store[f"{name}/x"], store[f"{name}/y"] = x, y
    store[f"{name}/prediction"] = model.predict(x, verbose=0)
    evaluated = model.evaluate(x, y, verbose=0, return_dict=True)
    for key, value in evaluated.items():
        store[f"{name}/evaluated/{key}"] = np.array(value)


def main() -> None:
    """Train each model and write the file."""
    keras.utils.set_random_seed(7)
    rng = np.random.default_rng(7)
    store: dict[str, np.ndarray] = {}

    x = rng.standard_normal((22, 4, 3)).astype(np.float32)
    y = x.sum(axis=(1, 2), keepdims=True)[:, 0].astype(np.float32)
    model = keras.Sequential([keras.Input((4, 3)), layers.LSTM(5), layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse", metrics=["mae"])
    record(store, "regression", model, x, y, epochs=3, batch_size=8, validation_split=0.25)

    labels = (x[:, :, 0].sum(axis=1) > 0).astype(np.int64) + (x[:, -1, 1] > 0)
    stacked = keras.Sequential(
        [
            keras.Input((4, 3)),
            layers.LSTM(6, return_sequences=True, go_backwards=True),
            layers.LSTM(4, use_bias=False),
            layers.Dense(7, activation="relu"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    stacked.compile(
        optimizer=keras.optimizers.RMSprop(0.01),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    record(store, "classes", stacked, x, labels, epochs=3, batch_size=5)

    words = rng.integers(0, 9, (20, 6))
    spam = (words == 3).any(axis=1).astype(np.float32)[:, None]
    text = keras.Sequential(
        [keras.Input((6,)), layers.Embedding(9, 4), layers.LSTM(5), layers.Dense(1, "sigmoid")]
    )
    text.compile(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=0.5),
        loss="binary_crossentropy",
        metrics=["accuracy"],
    )
    record(store, "text", text, words, spam, epochs=3, batch_size=6)

    np.savez_compressed(Path(__file__).with_name("models.npz"), **store)


if __name__ == "__main__":
    main()
