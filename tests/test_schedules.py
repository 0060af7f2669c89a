"""Learning rates: schedules, and how an optimizer takes one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lstm_ext import optimizers
from lstm_ext.optimizers import schedules


def test_schedules() -> None:
    exponential = schedules.ExponentialDecay(0.5, 10, 0.25)
    assert [exponential(step) for step in (0, 5, 10, 20)] == [0.5, 0.25, 0.125, 0.03125]
    stairs = schedules.ExponentialDecay(0.5, 10, 0.25, staircase=True)
    assert [stairs(step) for step in (0, 9, 10, 29)] == [0.5, 0.5, 0.125, 0.03125]
    pieces = schedules.PiecewiseConstantDecay([3, 5], [0.1, 0.2, 0.3])
    assert [pieces(step) for step in (0, 3, 4, 5, 6)] == [0.1, 0.1, 0.2, 0.2, 0.3]
    cosine = schedules.CosineDecay(0.4, 10, alpha=0.5)
    found = [cosine(step) for step in (0, 5, 10, 99)]
    np.testing.assert_allclose(found, [0.4, 0.3, 0.2, 0.2], rtol=1e-15)
    warm = schedules.CosineDecay(0.0, 10, warmup_target=0.4, warmup_steps=4)
    found = [warm(step) for step in (0, 1, 4, 9, 14)]
    np.testing.assert_allclose(found, [0.0, 0.1, 0.4, 0.2, 0.0], rtol=1e-15)


def test_a_schedule_sets_the_rate_of_each_step() -> None:
    optimizer = optimizers.SGD(schedules.PiecewiseConstantDecay([0, 1], [1.0, 0.5, 0.25]))
    weight = np.zeros(1)
    seen = []
    for _ in range(3):
        seen.append(optimizer.learning_rate)
        optimizer.apply([np.ones(1)], [weight])
        seen.append(float(weight[0]))
    assert seen == [1.0, -1.0, 0.5, -1.5, 0.25, -1.75]


def test_the_learning_rate_can_be_set() -> None:
    optimizer = optimizers.SGD(1.0)
    weight = np.zeros(1)
    optimizer.apply([np.ones(1)], [weight])
    optimizer.learning_rate = np.float32(0.5)
    optimizer.apply([np.ones(1)], [weight])
    assert weight[0] == -1.5 and optimizer.get_config()["learning_rate"] == 0.5
    optimizer.learning_rate = schedules.ExponentialDecay(4.0, 1, 0.5)
    assert optimizer.learning_rate == 1.0
    optimizer.learning_rate = 1
    assert optimizer.learning_rate == 1.0
    for bad, error in ((-1.0, ValueError), (math.nan, ValueError), ("1", TypeError),
                       (None, TypeError), (True, TypeError), (lambda: 0.1, TypeError)):  # fmt: skip
        with pytest.raises(error, match="learning_rate: got"):
            optimizer.learning_rate = bad
        assert optimizer.learning_rate == 1.0


def test_own_schedule() -> None:
    class Halving(schedules.LearningRateSchedule):
        def __call__(self, step: int) -> float:
            return 0.5**step

    weight = np.zeros(1)
    optimizer = optimizers.SGD(Halving())
    for _ in range(3):
        optimizer.apply([np.ones(1)], [weight])
    assert weight[0] == -1.75


def test_bad_schedules() -> None:
    for make_bad, message in (
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.9), "decay_steps: got 0"),
        (lambda: schedules.ExponentialDecay(-0.1, 5, 0.9), "initial_learning_rate: got -0.1"),
        (lambda: schedules.CosineDecay(0.1, -5), "decay_steps: got -5"),
        (lambda: schedules.PiecewiseConstantDecay([1], [0.1]), "values: got 1"),
        (lambda: schedules.PiecewiseConstantDecay([2, 1], [1, 2, 3]), "boundaries: got"),
    ):
        with pytest.raises(ValueError, match=message):
            make_bad()
    with pytest.raises(ValueError, match="learning_rate: got 'Linear'"):
        optimizers.Adam({"class_name": "Linear", "config": {}})
