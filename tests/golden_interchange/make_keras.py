"""Writes files of Keras's models, keras_*, and keras.npz: what Keras computes with them.

The weights are float32; x and the output are what Keras computes in float64 with them. Names in
keras.npz begin with the file's.

    python tests/golden_interchange/make_keras.py

Needs Keras 3 on TensorFlow, which the tests do not.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np

HERE = Path(__file__).parent
layers = keras.layers


def sequential():
    """LSTMs of every kind, a square one first; names that say nothing of their place."""
    return keras.Sequential(
        [
            keras.Input((None, 4)),
            layers.LSTM(4, return_sequences=True, name="lstm_3"),
            layers.Dropout(0.25, seed=3),
            layers.LSTM(4, return_sequences=True, go_backwards=True, use_bias=False, name="b"),
            layers.LSTM(4, return_sequences=True, name="a"),
            layers.Dense(3, activation="tanh", use_bias=False, name="c"),
            layers.LSTM(5, name="lstm_1"),
        ]
    )


def functional():
    """Numbered words, in a functional model."""
    words = keras.Input((None,), dtype="int32")
    rows = layers.Embedding(9, 4)(words)
    encoded = layers.LSTM(5, go_backwards=True)(rows)
    return keras.Model(words, layers.Dense(3, activation="softmax")(encoded))


def weights():
    """Two LSTMs that could be one another's."""
    stack = [layers.LSTM(3, return_sequences=True), layers.LSTM(3), layers.Dense(2, "sigmoid")]
    return keras.Sequential([keras.Input((None, 3)), *stack])


def keras_2():
    """In the file of Keras 2, which goes by the names of layers."""
    stack = [layers.LSTM(3, return_sequences=True, name="z"), layers.LSTM(3, name="a")]
    return keras.Sequential([keras.Input((None, 3)), *stack, layers.Dense(2)])


def both_ways():
    """Masked steps; both directions by themselves, of two kinds, and of several layers."""
    first = layers.LSTM(
        4, activation="softsign", recurrent_activation="hard_sigmoid", return_sequences=True
    )
    middle = layers.LSTM(
        4, return_sequences=True, zero_output_for_mask=True, dropout=0.5, recurrent_dropout=0.25
    )
    backward = layers.LSTM(5, go_backwards=True, activation="relu", use_bias=False, name="mine")
    return keras.Sequential(
        [
            keras.Input((None, 4)),
            layers.Masking(MASK_VALUE),
            layers.Bidirectional(first, merge_mode="sum", name="sum"),
            middle,
            layers.Bidirectional(layers.LSTM(3), backward_layer=backward),
        ]
    )


def masked_words():
    """Numbered words of which 0 is none, in a functional model."""
    words = keras.Input((None,), dtype="int32")
    rows = layers.Embedding(9, 4, mask_zero=True)(words)
    encoded = layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode="mul")(rows)
    return keras.Model(words, layers.LSTM(4, go_backwards=True)(encoded))


def two_ways():
    """Two layers that read both ways and could be one another's."""
    stack = [layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="z")]
    stack += [layers.Bidirectional(layers.LSTM(2), merge_mode="ave", name="a")]
    return keras.Sequential([keras.Input((None, 4)), *stack])


def without_dates(path: Path) -> None:
    """Write a .keras file again without the time at which it was saved."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["metadata.json"] = b'{"keras_version": "%s"}' % keras.__version__.encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data)


CASES = {
    "sequential.keras": sequential,
    "functional.keras": functional,
    "weights.weights.h5": weights,
    "keras_2.h5": keras_2,
    "both_ways.keras": both_ways,
    "masked_words.keras": masked_words,
    "two_ways.weights.h5": two_ways,
    "two_ways_of_keras_2.h5": two_ways,
}
MASK_VALUE = -1.5


def main() -> None:
    """Draw weights that differ everywhere and record what comes of them."""
    rng = np.random.default_rng(12)
    results = {}
    for file, make in CASES.items():
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
        keras.utils.clear_session()
        model = make()
        drawn = [rng.normal(size=w.shape).astype(np.float32) for w in model.get_weights()]
        model.set_weights(drawn)
        if file.endswith(".weights.h5"):
            model.save_weights(HERE / f"keras_{file}")
        else:
            model.save(HERE / f"keras_{file}")
        if file.endswith(".keras"):
            without_dates(HERE / f"keras_{file}")
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        exact = make()
        exact.set_weights(drawn)
        if make in (functional, masked_words):
            x = rng.integers(0, 9 if make is functional else 3, (3, 6))
        else:
            x = rng.normal(size=(3, 6, model.input_shape[-1]))
        if make is both_ways:
            x[rng.random((3, 6)) < 0.4] = MASK_VALUE
        results[f"{file}/x"] = x
        results[f"{file}/output"] = np.asarray(exact(x))
    np.savez_compressed(HERE / "keras.npz", **results)


if __name__ == "__main__":
    main()
