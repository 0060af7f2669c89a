"""Losses: names, configurations, and arguments that are not there."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from losses_support import KINDS, NAMES, draw, make, problem
from lstm_ext import losses


def test_names() -> None:
    expected = {
        "mse": "MeanSquaredError",
        "MSE": "MeanSquaredError",
        "mean_squared_error": "MeanSquaredError",
        "mae": "MeanAbsoluteError",
        "mean_absolute_error": "MeanAbsoluteError",
        "huber": "Huber",
        "bce": "BinaryCrossentropy",
        "binary_crossentropy": "BinaryCrossentropy",
        "categorical_crossentropy": "CategoricalCrossentropy",
        "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
    }
    for name, class_name in expected.items():
        loss = losses.get(name)
        assert type(loss).__name__ == class_name
        assert losses.get(loss) is loss
        assert type(losses.get(type(loss))) is type(loss)
    assert losses.get("mse").name == "mean_squared_error"
    assert losses.get("huber").name == "huber_loss"
    with pytest.raises(ValueError, match="loss: got 'msee', expected one of"):
        losses.get("msee")
    for identifier in (None, 3, np.square):
        with pytest.raises(TypeError, match="loss: got"):
            losses.get(identifier)


@pytest.mark.parametrize(("name", "config", "true", "pred"), KINDS)
def test_configs_make_equal_losses(name: str, config: dict[str, Any], true: str, pred: str) -> None:
    loss = make(name, **config, reduction="sum", name="mine")
    again = losses.get(json.loads(json.dumps(losses.serialize(loss))))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
    assert again.name == "mine"
    arguments = problem(true, pred)
    assert again(*arguments) == loss(*arguments)


def test_no_reduction() -> None:
    for reduction in ("none", None):
        loss = losses.MeanSquaredError(reduction)
        assert loss(draw("numbers"), draw("numbers", seed=1)).shape == (4, 3)
        with pytest.raises(ValueError, match="reduction: got 'none'"):
            loss.value_and_grad([[1.0]], [[2.0]])
    with pytest.raises(ValueError, match="reduction: got 'avg', expected one of"):
        losses.MeanSquaredError("avg")


@pytest.mark.parametrize("name", NAMES)
def test_arguments_that_are_not_there_yet_raise(name: str) -> None:
    given = {"axis": 1, "dtype": "float16", "ignore_class": 3}
    known = type(losses.get(name))._unsupported
    for argument, default in known.items():
        make(name, **{argument: default})
        with pytest.raises(NotImplementedError, match=argument):
            make(name, **{argument: given[argument]})
    with pytest.raises(TypeError, match="axes"):
        make(name, axes=1)


def test_bad_parameters() -> None:
    for delta in (0, -1, np.nan):
        with pytest.raises(ValueError, match="delta: got"):
            losses.Huber(delta)
    for smoothing in (-0.1, 1.1):
        with pytest.raises(ValueError, match="label_smoothing: got"):
            losses.BinaryCrossentropy(label_smoothing=smoothing)
    with pytest.raises(TypeError, match="delta: got '1'"):
        losses.Huber("1")
