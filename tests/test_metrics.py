"""Metrics: Keras's results over batches, names, weights, bad input."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from lstm_ext import metrics
from training_support import Case, load_golden, ulps

GOLDEN = load_golden("metrics")
BATCH_SIZES = GOLDEN.pop("")["batch_sizes"]
Y_TRUE, Y_PRED = [[0.0], [1.0], [1.0]], np.array([[0.1], [0.4], [0.9]], np.float32)


def batches(case: Case) -> list[tuple[Any, ...]]:
    cuts = np.cumsum(BATCH_SIZES)[:-1]
    arrays = (np.split(case[key], cuts) for key in ("y_true", "y_pred", "sample_weight"))
    return list(zip(*arrays, strict=True))


def describe(case: str) -> str:
    config = GOLDEN[case]["config"]
    return f"{case}-{config if isinstance(config, str) else config['class_name']}"


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("case", GOLDEN, ids=describe)
def test_results_over_batches_are_keras(case: str, weighted: bool) -> None:
    golden = GOLDEN[case]
    metric = metrics.get(golden["config"])
    assert metric.name == golden["name"]
    expected = golden["results_weighted" if weighted else "results_plain"]
    for _ in range(2):
        metric.reset_state()
        results = []
        for y_true, y_pred, weight in batches(golden):
            metric.update_state(y_true, y_pred, weight if weighted else None)
            results.append(metric.result())
        # Keras sums in float32 over 12 samples: as many roundings, at most half a unit each.
        assert ulps(results, expected, np.float32) <= 6


@pytest.mark.parametrize("case", GOLDEN, ids=describe)
def test_a_call_updates_and_returns_the_result(case: str) -> None:
    first, second = metrics.get(GOLDEN[case]["config"]), metrics.get(GOLDEN[case]["config"])
    for batch in batches(GOLDEN[case]):
        second.update_state(*batch)
        assert first(*batch) == second.result()


@pytest.mark.parametrize("case", GOLDEN, ids=describe)
def test_configs_make_equal_metrics(case: str) -> None:
    metric = metrics.get(GOLDEN[case]["config"])
    again = metrics.get(json.loads(json.dumps(metrics.serialize(metric))))
    assert type(again) is type(metric) and again.get_config() == metric.get_config()
    batch = batches(GOLDEN[case])[0]
    assert again(*batch) == metric(*batch)


def test_mean() -> None:
    mean = metrics.Mean()
    assert mean.result() == 0.0
    mean.update_state([1, 3, 5, 7])
    assert mean.result() == 4.0
    mean.reset_state()
    assert mean([1, 3, 5, 7], sample_weight=[1, 1, 0, 0]) == 2.0
    mean.reset_state()
    mean.update_state(3.0)
    mean.update_state(6.0, 2.0)
    assert mean.result() == 5.0
    mean.update(1.0, 3)
    assert mean.result() == 3.0
    # A sample counts once however many values it has.
    mean.reset_state()
    mean.update_state([[1.0, 3.0]])
    mean.update_state([[5.0], [8.0]])
    assert mean.result() == 5.0


def test_names() -> None:
    expected = {
        "mse": "MeanSquaredError",
        "MSE": "MeanSquaredError",
        "mean_squared_error": "MeanSquaredError",
        "mae": "MeanAbsoluteError",
        "rmse": "RootMeanSquaredError",
        "root_mean_squared_error": "RootMeanSquaredError",
        "binary_accuracy": "BinaryAccuracy",
        "categorical_accuracy": "CategoricalAccuracy",
        "sparse_categorical_accuracy": "SparseCategoricalAccuracy",
        "accuracy": "AccuracyByShapes",
        "acc": "AccuracyByShapes",
        "Accuracy": "AccuracyByShapes",
    }
    for name, class_name in expected.items():
        metric = metrics.get(name)
        assert type(metric).__name__ == class_name
        assert metric.name == name
        assert metrics.get(metric) is metric
    assert metrics.MeanSquaredError().name == "mean_squared_error"
    assert metrics.Accuracy().name == "accuracy"
    assert metrics.MeanAbsoluteError("error").name == "error"
    assert metrics.get(metrics.Mean).name == "mean"
    assert repr(metrics.Mean("loss")) == "<metric loss: 0>"
    with pytest.raises(ValueError, match="metrics: got 'msee', expected one of"):
        metrics.get("msee")
    for identifier in (None, 3, np.square):
        with pytest.raises(TypeError, match="metrics: got"):
            metrics.get(identifier)


def test_shapes_are_matched_as_by_the_losses() -> None:
    for name in ("mse", "mae", "rmse", "binary_accuracy", "accuracy"):
        metric = metrics.get(name)
        expected = metric(Y_TRUE, Y_PRED)
        for y_true in ([0, 1, 1], np.array([0, 1, 1], np.uint8), [[False], [True], [True]]):
            metric.reset_state()
            assert metric(y_true, Y_PRED) == expected


@pytest.mark.parametrize("name", ["mse", "mae", "binary_accuracy", "accuracy"])
def test_bad_input_leaves_a_metric_as_it_is(name: str) -> None:
    metric = metrics.get(name)
    before = metric(Y_TRUE, Y_PRED)
    for error, message, arguments in (
        (ValueError, "y_true: got shape", ([[0], [1]], Y_PRED)),
        (TypeError, "y_true: got an array", (["a", "b", "c"], Y_PRED)),
        (TypeError, "y_pred: got an array", (Y_TRUE, ["a", "b", "c"])),
        (ValueError, "sample_weight: got shape", (Y_TRUE, Y_PRED, [1, 2])),
        (TypeError, "sample_weight: got an array", (Y_TRUE, Y_PRED, ["a", "b", "c"])),
    ):
        with pytest.raises(error, match=message):
            metric.update_state(*arguments)
        assert metric.result() == before


def test_the_first_batch_decides_which_accuracy() -> None:
    metric = metrics.get("accuracy")
    metric.update_state([[0], [1]], [[0.2], [0.7]])
    metric.update_state([[0, 1], [1, 1]], [[0.2, 0.7], [0.1, 0.9]])  # categorical would be 0.5
    assert metric.result() == (2 + 1 + 0.5) / 4


def test_a_bad_first_batch_does_not_decide_which_accuracy() -> None:
    metric = metrics.get("accuracy")
    with pytest.raises(ValueError, match="y_true"):
        metric.update_state([0, 9], np.eye(3))
    assert metric([[0], [1]], np.array([[0.2], [0.7]])) == 1.0


def test_class_numbers_have_to_be_classes() -> None:
    metric = metrics.get("sparse_categorical_accuracy")
    for labels in ([0, 3], [-1, 0], [0.5, 1]):
        with pytest.raises(ValueError, match="y_true: got"):
            metric.update_state(labels, np.eye(3)[:2])


def test_an_empty_batch_changes_nothing() -> None:
    metric = metrics.get("mse")
    metric.update_state(np.zeros((0, 2)), np.zeros((0, 2)))
    assert metric.result() == 0.0
    metric.update_state([[1.0]], [[3.0]])
    metric.update_state(np.zeros((0, 1)), np.zeros((0, 1)), np.zeros(0))
    assert metric.result() == 4.0


def test_small_values_are_not_lost_in_a_long_sum() -> None:
    metric = metrics.get("mae")
    ones = np.ones((1000, 1), np.float32)
    for _ in range(50):
        metric.update_state(ones * np.float32(1e-4), ones * 0)
    assert abs(metric.result() / float(np.float32(1e-4)) - 1) < 1e-12


def test_arguments() -> None:
    assert metrics.BinaryAccuracy(threshold=0.3)([[1]], [[0.4]]) == 1.0
    with pytest.raises(ValueError, match="threshold: got nan"):
        metrics.BinaryAccuracy(threshold=np.nan)
    metrics.MeanSquaredError(dtype=None)
    with pytest.raises(NotImplementedError, match="dtype"):
        metrics.MeanSquaredError(dtype="float64")
    with pytest.raises(TypeError, match="treshold"):
        metrics.BinaryAccuracy(treshold=0.3)
