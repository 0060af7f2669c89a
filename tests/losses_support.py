"""Losses of every kind, and numbers that go with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_ext import losses
from support import Array

REDUCTIONS = ["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight"]

# (loss, kind of y_true, kind of y_pred), reduction left open
KINDS: list[tuple[str, dict[str, Any], str, str]] = [
    ("mse", {}, "numbers", "numbers"),
    ("mae", {}, "numbers", "numbers"),
    ("huber", {"delta": 0.7}, "numbers", "numbers"),
    ("bce", {"label_smoothing": 0.1}, "probabilities", "probabilities"),
    ("bce", {"from_logits": True}, "probabilities", "numbers"),
    ("categorical_crossentropy", {"label_smoothing": 0.1}, "probabilities", "probabilities"),
    ("categorical_crossentropy", {"from_logits": True}, "probabilities", "numbers"),
    ("sparse_categorical_crossentropy", {}, "labels", "probabilities"),
    ("sparse_categorical_crossentropy", {"from_logits": True}, "labels", "numbers"),
]
NAMES = sorted({name for name, *_ in KINDS})


def make(name: str, /, **config: Any) -> losses.Loss:
    return losses.get({"class_name": name, "config": config})


def draw(kind: str, shape: tuple[int, ...] = (4, 3, 5), seed: int = 0) -> Array:
    rng = np.random.default_rng([seed, *shape])
    if kind == "labels":
        return rng.integers(0, shape[-1], size=shape[:-1])
    if kind == "probabilities":
        return rng.uniform(0.05, 0.95, size=shape)
    return rng.normal(size=shape)


def problem(true: str, pred: str, dtype: Any = np.float64) -> tuple[Array, Array]:
    """Return y_true and y_pred of these kinds."""
    return draw(true, seed=1), draw(pred, seed=2).astype(dtype)
