"""For tests of Keras's files: recorded results, changed files, a model of every layer."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from interchange_support import GOLDEN
from lstm_ext import (
    LSTM,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Input,
    Sequential,
    from_keras,
)
from support import Array

CASES = [
    "both_ways.keras", "functional.keras", "keras_2.h5", "masked_words.keras", "sequential.keras",
    "two_ways.weights.h5", "two_ways_of_keras_2.h5", "weights.weights.h5",
]  # fmt: skip


def golden(case: str) -> tuple[Any, Array, Array]:
    with np.load(GOLDEN / "keras.npz") as file:
        x, output = file[f"{case}/x"], file[f"{case}/output"]
    return from_keras(GOLDEN / f"keras_{case}", declared(case)), x, output


def declared(case: str) -> Sequential | None:
    """Return the model that a file of weights alone goes into."""
    if case == "weights.weights.h5":
        stack: list[Any] = [LSTM(3, return_sequences=True), LSTM(3), Dense(2, "sigmoid")]
        return Sequential([Input((None, 3)), *stack])
    if case == "two_ways.weights.h5":
        stack = [Bidirectional(LSTM(2, return_sequences=True)), Bidirectional(LSTM(2), "ave")]
        return Sequential([Input((None, 4)), *stack])
    return None


def config_of(case: str) -> dict[str, Any]:
    with zipfile.ZipFile(GOLDEN / f"keras_{case}") as archive:
        return json.loads(archive.read("config.json"))


def write(path: Path, config: Any, weights: bytes | None = None, **options: Any) -> Path:
    """Write a .keras file with the weights of the sequential one."""
    with zipfile.ZipFile(GOLDEN / "keras_sequential.keras") as archive:
        weights = weights or archive.read("model.weights.h5")
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.writestr("model.weights.h5", weights)
    return path


def every_layer(dtype: str = "float32") -> Sequential:
    denses = [
        Dense(4, activation, use_bias=activation != "relu", dtype=dtype)
        for activation in ("relu", "softmax", "gelu", None)
    ]
    return Sequential(
        [
            Input((None,), dtype="int32"),
            Embedding(9, 4, mask_zero=True, dtype=dtype),
            LSTM(
                5, "softsign", "hard_sigmoid", return_sequences=True, name="first", dropout=0.25,
                recurrent_dropout=0.5, zero_output_for_mask=True, dtype=dtype,
            ),
            Bidirectional(LSTM(4, return_sequences=True, dtype=dtype), "ave", name="both"),
            Dropout(0.2, seed=3, dtype=dtype),
            *denses,
            LSTM(4, go_backwards=True, use_bias=False, kernel_initializer="he_normal", dtype=dtype),
        ]
    )  # fmt: skip
