"""Make the golden values beside this file: what Keras's training functions give for small inputs.

    python tests/golden_keras_training/make_golden.py

Each .npz holds cases. An array's key is ``case/array``; ``case/config`` is JSON that says what was
called. Inputs are numbers of float32, so that both runs see the same: ``_32`` is what Keras gave in
float32, ``_64`` in float64, against which the error of the first is known. Metrics and optimizers
are in float32 only: Keras on TensorFlow rounds some of their parameters to it in any case. Needs
Keras on TensorFlow, which the tests do not.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

Arrays = dict[str, Any]
DTYPES = {"32": "float32", "64": "float64"}
HERE = Path(__file__).parent

ACTIVATIONS = (
    "linear", "relu", "leaky_relu", "tanh", "sigmoid", "hard_sigmoid", "softmax", "softplus",
    "softsign", "elu", "selu", "gelu", "silu", "swish", "exponential",
)  # fmt: skip

# name: (class, arguments, kind of data)
LOSSES: dict[str, tuple[str, Arrays, str]] = {
    "mse": ("MeanSquaredError", {}, "numbers"),
    "mae": ("MeanAbsoluteError", {}, "numbers"),
    "huber": ("Huber", {}, "numbers"),
    "huber_narrow": ("Huber", {"delta": 0.3}, "numbers"),
    "bce": ("BinaryCrossentropy", {}, "binary"),
    "bce_smooth": ("BinaryCrossentropy", {"label_smoothing": 0.2}, "binary"),
    "bce_clipped": ("BinaryCrossentropy", {}, "binary_clipped"),
    "bce_logits": ("BinaryCrossentropy", {"from_logits": True}, "binary_logits"),
    "bce_logits_smooth": (
        "BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, "binary_logits",
    ),
    "cce": ("CategoricalCrossentropy", {}, "classes"),
    "cce_smooth": ("CategoricalCrossentropy", {"label_smoothing": 0.3}, "classes"),
    "cce_clipped": ("CategoricalCrossentropy", {}, "classes_clipped"),
    "cce_logits": ("CategoricalCrossentropy", {"from_logits": True}, "classes_logits"),
    "cce_logits_smooth": (
        "CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, "classes_logits",
    ),
    "scce": ("SparseCategoricalCrossentropy", {}, "labels"),
    "scce_logits": ("SparseCategoricalCrossentropy", {"from_logits": True}, "labels_logits"),
}  # fmt: skip
WITH_GRADIENT = ("sum_over_batch_size", "mean_with_sample_weight")
REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none")

CLIPS: tuple[Arrays, ...] = (
    {}, {"clipnorm": 0.6}, {"clipvalue": 0.4}, {"global_clipnorm": 0.9},
)  # fmt: skip
OPTIMIZERS: tuple[tuple[str, Arrays], ...] = (
    *(("SGD", {"learning_rate": 0.05, **clip}) for clip in CLIPS),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.9}),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.1, "clipnorm": 0.6}),
    *(("RMSprop", {"learning_rate": 0.01, **clip}) for clip in CLIPS),
    ("RMSprop", {"learning_rate": 0.01, "rho": 0.8, "momentum": 0.5}),
    ("RMSprop", {"learning_rate": 0.01, "centered": True}),
    ("RMSprop", {"learning_rate": 0.01, "centered": True, "momentum": 0.5, "weight_decay": 0.1}),
    *(("Adam", {"learning_rate": 0.01, **clip}) for clip in CLIPS),
    ("Adam", {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 0.1}),
    ("Adam", {"learning_rate": 0.01, "weight_decay": 0.1}),
    ("Adam", {"learning_rate": 0.01, "amsgrad": True, "weight_decay": 0.1, "clipvalue": 0.4}),
    *(("AdamW", {"learning_rate": 0.01, **clip}) for clip in CLIPS),
    ("AdamW", {"learning_rate": 0.01, "weight_decay": 0.2, "amsgrad": True}),
)
SCHEDULES: tuple[tuple[str, Arrays], ...] = (
    ("ExponentialDecay", {"decay_steps": 7, "decay_rate": 0.8}),
    ("ExponentialDecay", {"decay_steps": 7, "decay_rate": 0.8, "staircase": True}),
    ("PiecewiseConstantDecay", {"boundaries": [4, 9], "values": [0.1, 0.05, 0.01]}),
    ("CosineDecay", {"decay_steps": 12, "alpha": 0.1}),
    ("CosineDecay", {"decay_steps": 8, "warmup_target": 0.2, "warmup_steps": 5}),
)
WEIGHT_SHAPES = ((2, 3), (3,), (1, 1))
STEPS = 20
KEPT_STEPS = (1, 2, 3, 4, 6, 10, 15, 20)
BATCH_SIZES = (5, 5, 2)


def draw_activation_input(rng: np.random.Generator) -> Arrays:
    near = rng.normal(size=(4, 6)) * 2
    far = np.array([[-30.0, -9.5, -4.0, 4.0, 9.5, 30.0]])  # exp(30) is still far from overflow
    z = np.concatenate([near, far])
    return {"z": z.astype(np.float32), "dy": rng.normal(size=z.shape).astype(np.float32)}


def make_activations(rng: np.random.Generator) -> Arrays:
    arrays = draw_activation_input(rng)
    for suffix, dtype in DTYPES.items():
        keras.config.set_floatx(dtype)
        z, dy = (tf.constant(arrays[key], dtype) for key in ("z", "dy"))
        for name in ACTIVATIONS:
            with tf.GradientTape() as tape:
                tape.watch(z)
                y = keras.activations.get(name)(z)
            arrays[f"{name}/y_{suffix}"] = y.numpy()
            arrays[f"{name}/dz_{suffix}"] = tape.gradient(y, z, dy).numpy()
    return arrays


def draw_loss_input(kind: str, rng: np.random.Generator) -> Arrays:
    """Draw sequences of samples: y_pred is (batch, time, outputs)."""
    shape = (4, 3, 5)
    weight = rng.uniform(0.2, 2, size=shape[:2])
    logits = 2 * rng.normal(size=shape)
    labels = rng.integers(0, shape[-1], size=shape[:2])
    one_hot = np.eye(shape[-1])[labels]
    softmax = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    hard = np.eye(shape[-1])[rng.integers(0, shape[-1], size=shape[:2])]
    y_true, y_pred = {
        "numbers": (rng.normal(size=shape), rng.normal(size=shape)),
        "binary": (rng.integers(0, 2, size=shape), rng.uniform(0.02, 0.98, size=shape)),
        "binary_clipped": (rng.integers(0, 2, size=shape), rng.integers(0, 2, size=shape)),
        "binary_logits": (rng.integers(0, 2, size=shape), 3 * logits),
        "classes": (one_hot, softmax),
        "classes_clipped": (one_hot, hard),
        "classes_logits": (one_hot, 3 * logits),
        "labels": (labels, softmax),
        "labels_logits": (labels, 3 * logits),
    }[kind]
    return {
        "y_true": y_true.astype(np.float32),
        "y_pred": y_pred.astype(np.float32),
        "sample_weight": weight.astype(np.float32),
    }


def make_losses(rng: np.random.Generator) -> Arrays:
    arrays: Arrays = {}
    for case, (class_name, config, kind) in LOSSES.items():
        given = draw_loss_input(kind, rng)
        arrays[f"{case}/config"] = json.dumps({"class_name": class_name, "config": config})
        arrays.update({f"{case}/{key}": value for key, value in given.items()})
        for suffix, dtype in DTYPES.items():
            keras.config.set_floatx(dtype)
            for reduction in REDUCTIONS:
                loss = getattr(keras.losses, class_name)(**config, reduction=reduction)
                y_true, weight = given["y_true"], given["sample_weight"]
                y_pred = tf.constant(given["y_pred"], dtype)
                with tf.GradientTape() as tape:
                    tape.watch(y_pred)
                    value = loss(y_true, y_pred, sample_weight=weight)
                arrays[f"{case}/{reduction}_{suffix}"] = value.numpy()
                if reduction in WITH_GRADIENT:
                    gradient = tape.gradient(value, y_pred)
                    arrays[f"{case}/{reduction}_gradient_{suffix}"] = gradient.numpy()
    return arrays


def make_optimizers(rng: np.random.Generator) -> Arrays:
    """Follow the weights, all in one row, over steps with the same gradients for every case."""
    keras.config.set_floatx("float32")
    size = sum(int(np.prod(shape)) for shape in WEIGHT_SHAPES)
    arrays: Arrays = {
        "start": rng.normal(size=size).astype(np.float32),
        "grads": rng.normal(size=(STEPS, size)).astype(np.float32),
        "kept_steps": KEPT_STEPS,
    }
    for index, (class_name, config) in enumerate([*OPTIMIZERS, *scheduled()]):
        described = {"class_name": class_name, "config": config}
        arrays[f"{index:02}/config"] = json.dumps(described)
        arrays[f"{index:02}/weights"] = follow(described, arrays)
    return arrays


def scheduled() -> list[tuple[str, Arrays]]:
    cases = []
    for name, options in SCHEDULES:
        config = options if "values" in options else {"initial_learning_rate": 0.1, **options}
        cases.append(("SGD", {"learning_rate": {"class_name": name, "config": config}}))
    return cases


def follow(described: Arrays, arrays: Arrays) -> Any:
    config = dict(described["config"])
    if isinstance(rate := config.get("learning_rate"), dict):
        schedule = getattr(keras.optimizers.schedules, rate["class_name"])
        config["learning_rate"] = schedule(**rate["config"])
    optimizer = getattr(keras.optimizers, described["class_name"])(**config)
    weights = [keras.Variable(w) for w in split(arrays["start"])]
    path = []
    for step, grads in enumerate(arrays["grads"], 1):
        optimizer.apply([tf.constant(g) for g in split(grads)], weights)
        if step in KEPT_STEPS:
            path.append(np.concatenate([w.numpy().ravel() for w in weights]))
    return np.array(path)


def split(row: Any) -> list[Any]:
    """Cut a row into arrays of WEIGHT_SHAPES."""
    ends = np.cumsum([int(np.prod(shape)) for shape in WEIGHT_SHAPES])
    parts = np.split(row, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, WEIGHT_SHAPES, strict=True)]


def draw_metric_data(kind: str, size: int, rng: np.random.Generator) -> tuple[Any, Any]:
    shape = (size, 3, 4)
    labels = rng.integers(0, 4, size=shape[:2])
    return {
        "numbers": (rng.normal(size=shape), rng.normal(size=shape)),
        "column": (rng.normal(size=size), rng.normal(size=(size, 1))),
        "equal": (rng.integers(0, 3, size=shape), rng.integers(0, 3, size=shape)),
        "binary": (rng.integers(0, 2, size=(size, 1)), rng.uniform(size=(size, 1))),
        "one_hot": (np.eye(4)[labels], rng.uniform(size=shape)),
        "labels": (labels, rng.uniform(size=shape)),
        "label_column": (labels[:, :1], rng.uniform(size=(size, 4))),
    }[kind]


METRICS: tuple[tuple[str, Arrays, str], ...] = (
    ("MeanSquaredError", {}, "numbers"),
    ("MeanSquaredError", {}, "column"),
    ("RootMeanSquaredError", {}, "numbers"),
    ("MeanAbsoluteError", {}, "numbers"),
    ("Accuracy", {}, "equal"),
    ("BinaryAccuracy", {}, "binary"),
    ("BinaryAccuracy", {"threshold": 0.3}, "binary"),
    ("CategoricalAccuracy", {}, "one_hot"),
    ("SparseCategoricalAccuracy", {}, "labels"),
    ("SparseCategoricalAccuracy", {}, "label_column"),
    ("accuracy", {}, "binary"),
    ("accuracy", {}, "one_hot"),
    ("acc", {}, "labels"),
    ("accuracy", {}, "label_column"),
)


def make_metrics(rng: np.random.Generator) -> Arrays:
    """Feed each metric three batches, the last one smaller; without and with sample weights."""
    keras.config.set_floatx("float32")
    arrays: Arrays = {"batch_sizes": BATCH_SIZES}
    for index, (class_name, config, kind) in enumerate(METRICS):
        by_name = class_name in ("accuracy", "acc")
        described = class_name if by_name else {"class_name": class_name, "config": config}
        arrays[f"{index:02}/config"] = json.dumps(described)
        y_true, y_pred = draw_metric_data(kind, sum(BATCH_SIZES), rng)
        # Per value where Keras can take them so, else per sample.
        weight_shape = y_pred.shape[: 2 if kind in ("one_hot", "labels") else 1]
        data = {
            "y_true": y_true.astype(np.float32),
            "y_pred": y_pred.astype(np.float32),
            "sample_weight": rng.uniform(0.2, 2, size=weight_shape).astype(np.float32),
        }
        arrays.update({f"{index:02}/{key}": value for key, value in data.items()})
        cuts = np.cumsum(BATCH_SIZES)[:-1]
        batches = list(zip(*(np.split(array, cuts) for array in data.values()), strict=True))
        for weighted in (False, True):
            metric = resolve_metric(class_name, config, *batches[0][:2])
            results = []
            for true, pred, weight in batches:
                metric.update_state(true, pred, sample_weight=weight if weighted else None)
                results.append(float(metric.result()))
            arrays[f"{index:02}/results_{'weighted' if weighted else 'plain'}"] = results
        arrays[f"{index:02}/name"] = metric.name
    return arrays


def resolve_metric(class_name: str, config: Arrays, y_true: Any, y_pred: Any) -> Any:
    """Return the metric; of a name, the one that a compiled model makes of it."""
    if class_name not in ("accuracy", "acc"):
        return getattr(keras.metrics, class_name)(**config)
    model = keras.Sequential([keras.Input(y_pred.shape[1:]), keras.layers.Activation("linear")])
    model.compile(loss="mse", metrics=[class_name])
    model.compute_metrics(y_pred, y_true, y_pred)
    metric = model.metrics[-1].metrics[0]
    metric.reset_state()
    return metric


def main() -> None:
    makers = {
        "activations": make_activations,
        "losses": make_losses,
        "metrics": make_metrics,
        "optimizers": make_optimizers,
    }
    for seed, (name, make) in enumerate(makers.items()):
        arrays = make(np.random.default_rng(seed))
        np.savez_compressed(HERE / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()
