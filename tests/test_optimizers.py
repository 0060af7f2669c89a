"""Optimizers: Keras's trajectories, textbook formulas, state, clipping, schedules, bad input."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from lstm_ext import optimizers
from support import Array, assert_same_bits
from training_support import load_golden, ulps

GOLDEN = load_golden("optimizers")
SHARED = GOLDEN.pop("")
SHAPES = [(2, 3), (3,), (1, 1)]
NAMES = ["sgd", "rmsprop", "adam", "adamw"]
# Every optimizer with every kind of state.
STATEFUL: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True, "clipvalue": 0.4}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "global_clipnorm": 0.9}),
    ("AdamW", {"clipnorm": 0.6}),
]


def make(name: str, /, **config: Any) -> optimizers.Optimizer:
    return optimizers.get({"class_name": name, "config": config})


def split(row: Array, dtype: Any = np.float32) -> list[Array]:
    """Cut a row into new arrays of SHAPES."""
    parts = np.split(row.astype(dtype), np.cumsum([math.prod(shape) for shape in SHAPES])[:-1])
    return [part.reshape(shape).copy() for part, shape in zip(parts, SHAPES, strict=True)]


def start(dtype: Any = np.float32) -> list[Array]:
    return split(SHARED["start"], dtype)


def gradients(step: int = 0, dtype: Any = np.float32) -> list[Array]:
    return split(SHARED["grads"][step], dtype)


def follow(optimizer: optimizers.Optimizer, dtype: Any = np.float32) -> Array:
    """Return the weights after each of the steps, as rows."""
    weights, rows = start(dtype), []
    for step in range(len(SHARED["grads"])):
        optimizer.apply(gradients(step, dtype), weights)
        rows.append(np.concatenate([w.ravel() for w in weights]))
    return np.array(rows)


def describe(case: str) -> str:
    return f"{case}-{GOLDEN[case]['config']['class_name']}"


# ---- trajectories ----


@pytest.mark.parametrize("case", GOLDEN, ids=describe)
def test_trajectories_are_keras(case: str) -> None:
    golden = GOLDEN[case]
    kept = SHARED["kept_steps"] - 1
    exact = follow(optimizers.get(golden["config"]), np.float64)[kept]
    ours = follow(optimizers.get(golden["config"]))[kept]
    assert ours.dtype == np.float32 and exact.dtype == np.float64
    # Half a unit for every step: the formula is Keras's.
    keras_error = ulps(golden["weights"], exact, np.float32)
    assert keras_error <= 0.5 * len(SHARED["grads"])
    assert ulps(ours, exact, np.float32) <= 2 * max(1.0, keras_error)


def textbook(name: str, config: dict[str, Any]) -> Array:
    """Follow the weights by the formulas as the papers give them, without clipping."""
    w, rows = SHARED["start"].astype(np.float64), []
    m, v, a, v_max = (np.zeros_like(w) for _ in range(4))
    rate = config["learning_rate"]
    for t, g in enumerate(SHARED["grads"].astype(np.float64), 1):
        w = w - rate * config.get("weight_decay", 0.004 if name == "AdamW" else 0) * w
        if name == "SGD":
            m = config.get("momentum", 0) * m - rate * g
            w = w + (config.get("momentum", 0) * m - rate * g if config.get("nesterov") else m)
        elif name == "RMSprop":
            rho = config.get("rho", 0.9)
            v, a = rho * v + (1 - rho) * g**2, rho * a + (1 - rho) * g
            variance = v - a**2 if config.get("centered") else v
            m = config.get("momentum", 0) * m + rate * g / np.sqrt(variance + 1e-7)
            w = w - m
        else:
            beta_1, beta_2 = config.get("beta_1", 0.9), config.get("beta_2", 0.999)
            m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
            v_max = np.maximum(v, v_max)
            # The papers' epsilon is added to the root of the corrected v: "epsilon hat" rescales.
            correction = np.sqrt(1 - beta_2**t)
            epsilon = config.get("epsilon", 1e-7) / correction
            root = np.sqrt(v_max if config.get("amsgrad") else v) / correction
            w = w - rate * (m / (1 - beta_1**t)) / (root + epsilon)
        rows.append(w)
    return np.array(rows)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("SGD", {}),
        ("SGD", {"momentum": 0.7, "weight_decay": 0.1}),
        ("SGD", {"momentum": 0.7, "nesterov": True}),
        ("RMSprop", {"rho": 0.8, "momentum": 0.5}),
        ("RMSprop", {"centered": True, "weight_decay": 0.1}),
        ("Adam", {}),
        ("Adam", {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 0.01}),
        ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
        ("AdamW", {}),
    ],
)
def test_trajectories_in_float64_are_the_textbooks(name: str, config: dict[str, Any]) -> None:
    config = {"learning_rate": 0.02, **config}
    # A unit for each of the few roundings of a step.
    assert ulps(follow(make(name, **config), np.float64), textbook(name, config), np.float64) <= 40


@pytest.mark.parametrize(("name", "config"), STATEFUL)
def test_weights_do_not_depend_on_what_stands_beside_them(
    name: str, config: dict[str, Any]
) -> None:
    if "global_clipnorm" in config:
        config = {**config, "global_clipnorm": 1e9}
    together = make(name, **config)
    weights = start()
    alone = [make(name, **config) for _ in weights]
    singles = start()
    for step in range(5):
        together.apply(gradients(step), weights)
        for optimizer, w, g in zip(alone, singles, gradients(step), strict=True):
            optimizer.apply([g], [w])
    assert_same_bits(weights, singles)


# ---- clipping ----


def clipped(grads: list[Array], **config: float) -> list[Array]:
    """Return what a step of plain descent takes off weights of zero."""
    weights = [np.zeros_like(g) for g in grads]
    make("SGD", learning_rate=1.0, **config).apply(grads, weights)
    return [-w for w in weights]


def test_clipnorm_shortens_each_gradient(dtype: Any) -> None:
    long, short = np.array([[3.0, 4.0]], dtype), np.array([0.3, 0.4], dtype)
    assert_same_bits(clipped([long, short], clipnorm=1.25), [np.array([[0.75, 1.0]], dtype), short])


def test_global_clipnorm_shortens_all_alike(dtype: Any) -> None:
    grads = [np.array([[4.0, 8.0]], dtype), np.array([8.0], dtype)]  # of norm 12
    assert_same_bits(clipped(grads, global_clipnorm=3.0), [g / 4 for g in grads])
    assert_same_bits(clipped(grads, global_clipnorm=12.0), grads)


def test_clipvalue_cuts_elements(dtype: Any) -> None:
    grads = [np.array([[-3.0, 0.25, 9.0]], dtype)]
    assert_same_bits(clipped(grads, clipvalue=0.5), [np.array([[-0.5, 0.25, 0.5]], dtype)])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gradients_that_are_not_finite(bad: float) -> None:
    grads = [np.array([bad, 1.0]), np.array([1.0])]
    assert all(np.isnan(g).all() for g in clipped(grads, global_clipnorm=1.0))
    first, second = clipped(grads, clipnorm=1.0)
    assert np.isnan(first[0]) and second == 1.0
    assert np.isnan(first[1]) if np.isnan(bad) else first[1] == 0
    assert np.isfinite(clipped(grads, clipvalue=1.0)[0]).all() or np.isnan(bad)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("clip", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_gradients_are_left_as_they_are(name: str, clip: str) -> None:
    grads, weights = gradients(), start()
    for g in grads:
        g.flags.writeable = False
    make(name, **{clip: 0.1}).apply(grads, weights)
    assert_same_bits(grads, gradients())


def test_at_most_one_clip() -> None:
    with pytest.raises(ValueError, match="clipnorm: got clipnorm and clipvalue"):
        make("adam", clipnorm=1.0, clipvalue=1.0)
    with pytest.raises(ValueError, match="clipvalue: got clipvalue and global_clipnorm"):
        make("adam", clipvalue=1.0, global_clipnorm=1.0)


# ---- state ----


@pytest.mark.parametrize(("name", "config"), STATEFUL)
def test_a_restored_state_goes_on_with_the_same_bits(name: str, config: dict[str, Any]) -> None:
    config = {**config, "learning_rate": {"class_name": "ExponentialDecay", "config": {
        "initial_learning_rate": 0.1, "decay_steps": 2, "decay_rate": 0.5}}}  # fmt: skip
    first, weights = make(name, **config), start()
    for step in range(3):
        first.apply(gradients(step), weights)
    second = optimizers.get(json.loads(json.dumps(optimizers.serialize(first))))
    assert second.get_config() == first.get_config()
    second.build(weights)
    second.set_state({key: array.copy() for key, array in first.state().items()}, first.iterations)
    copies = [w.copy() for w in weights]
    for step in range(3, 6):
        first.apply(gradients(step), weights)
        second.apply(gradients(step), copies)
    assert_same_bits(weights, copies)
    assert first.iterations == second.iterations == 6
    assert_same_bits(first.state().values(), second.state().values())


def test_names_of_the_state() -> None:
    expected = {
        ("SGD", ()): [],
        ("SGD", (("momentum", 0.9),)): ["momentum/0"],
        ("RMSprop", (("centered", True),)): ["velocity/0", "average_gradient/0"],
        ("Adam", (("amsgrad", True),)): ["momentum/0", "velocity/0", "velocity_hat/0"],
    }
    for (name, config), keys in expected.items():
        optimizer = make(name, **dict(config))
        assert not optimizer.built and optimizer.state() == {}
        optimizer.build([np.ones(2)])
        assert optimizer.built and list(optimizer.state()) == keys
        assert all(not array.any() for array in optimizer.state().values())


def test_a_state_that_does_not_fit_raises_and_changes_nothing() -> None:
    optimizer = optimizers.Adam()
    weights = start()
    optimizer.apply(gradients(), weights)
    before = {key: array.copy() for key, array in optimizer.state().items()}
    missing = {key: a for key, a in before.items() if key != "velocity/2"}
    shape = {**before, "velocity/2": np.zeros(7, np.float32)}
    kind = {**before, "velocity/2": before["velocity/2"].astype(np.float64)}
    for bad in (missing, shape, kind, {}):
        with pytest.raises(ValueError, match="state: got"):
            optimizer.set_state({key: 0 * a for key, a in bad.items()}, 5)
    for iterations in (-1, 2.5):
        with pytest.raises(ValueError, match="iterations: got"):
            optimizer.set_state({key: 0 * a for key, a in before.items()}, iterations)
    assert optimizer.iterations == 1
    assert_same_bits(optimizer.state().values(), before.values())


# ---- bad input ----


@pytest.mark.parametrize("name", NAMES)
def test_gradients_that_do_not_fit_raise_and_change_nothing(name: str) -> None:
    optimizer, weights = make(name), start()
    optimizer.apply(gradients(), weights)
    before = [array.copy() for array in (*weights, *optimizer.state().values())]
    good = gradients(1)
    for bad in (
        good[:2],
        [*good[:2], np.zeros((1, 2), np.float32)],
        [*good[:2], np.zeros(1, np.float32)],
        [*good[:2], np.zeros((1, 1))],
    ):
        with pytest.raises(ValueError, match="grads: got"):
            optimizer.apply(bad, weights)
    with pytest.raises(ValueError, match="grads: got"):
        optimizer.apply(good, weights[:2])
    with pytest.raises(ValueError, match="grads: got"):
        optimizer.apply(good, weights[::-1])
    assert_same_bits([*weights, *optimizer.state().values()], before)
    assert optimizer.iterations == 1


def test_an_optimizer_serves_one_model() -> None:
    optimizer = optimizers.Adam()
    optimizer.build(start())
    optimizer.build(start())
    with pytest.raises(ValueError, match=r"weights: got .* another model needs another optimizer"):
        optimizer.build([np.zeros(4, np.float32)])


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_cannot_be_changed_in_place_raise(name: str) -> None:
    fixed = np.zeros(4, np.float32)
    fixed.flags.writeable = False
    for bad in (fixed, np.zeros((4, 4), np.float32)[:, ::2], np.zeros(3, np.int64)):
        optimizer = make(name)
        with pytest.raises(ValueError, match="weights: got an array of"):
            optimizer.apply([np.zeros(bad.shape, bad.dtype)], [bad])
        assert not optimizer.built


@pytest.mark.parametrize("name", NAMES)
def test_gradients_may_be_strided(name: str, dtype: Any) -> None:
    gradient = np.random.default_rng(0).normal(size=(4, 6)).astype(dtype)
    strided, plain = (np.ones((3, 4), dtype) for _ in range(2))
    make(name, clipnorm=1.0).apply([gradient[:, ::2].T], [strided])
    make(name, clipnorm=1.0).apply([np.ascontiguousarray(gradient[:, ::2].T)], [plain])
    np.testing.assert_allclose(strided, plain, rtol=4 * np.finfo(dtype).eps)
    strided, plain = (np.ones((3, 4), dtype) for _ in range(2))
    make(name).apply([gradient[:, ::2].T], [strided])
    make(name).apply([np.ascontiguousarray(gradient[:, ::2].T)], [plain])
    assert_same_bits([strided], [plain])


@pytest.mark.parametrize("name", NAMES)
def test_mixed_dtypes_and_empty_weights(name: str) -> None:
    weights = [np.ones(3, np.float32), np.ones((2, 2)), np.ones((0, 4), np.float32)]
    optimizer = make(name, learning_rate=0.1)
    optimizer.apply([np.ones_like(w) for w in weights], weights)
    for w in weights[:2]:
        assert (w < 1).all()
    make(name).apply([], [])


@pytest.mark.parametrize("name", NAMES)
def test_arguments_that_are_not_there_yet_raise(name: str) -> None:
    defaults = {
        "use_ema": (False, True),
        "ema_momentum": (0.99, 0.9),
        "ema_overwrite_frequency": (None, 3),
        "loss_scale_factor": (None, 2.0),
        "gradient_accumulation_steps": (None, 4),
    }
    for argument, (default, other) in defaults.items():
        make(name, **{argument: default})
        with pytest.raises(NotImplementedError, match=argument):
            make(name, **{argument: other})
    with pytest.raises(TypeError, match="lr"):
        make(name, lr=0.1)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("sgd", {"learning_rate": -0.1}, "learning_rate: got -0.1"),
        ("sgd", {"momentum": 1.5}, "momentum: got 1.5"),
        ("rmsprop", {"rho": -0.1}, "rho: got -0.1"),
        ("rmsprop", {"epsilon": math.nan}, "epsilon: got nan"),
        ("adam", {"beta_1": 1.0}, "beta_1: got 1"),
        ("adam", {"beta_2": 2}, "beta_2: got 2"),
        ("adam", {"epsilon": -1}, "epsilon: got -1"),
        ("adam", {"weight_decay": -1}, "weight_decay: got -1"),
        ("adam", {"clipnorm": 0}, "clipnorm: got 0"),
        ("adam", {"clipvalue": -1}, "clipvalue: got -1"),
        ("adam", {"global_clipnorm": math.inf}, "global_clipnorm: got inf"),
        ("adamw", {"weight_decay": None}, "weight_decay: got None"),
    ],
)
def test_bad_arguments(name: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **config)


def test_names() -> None:
    expected = {"sgd": "SGD", "SGD": "SGD", "rmsprop": "RMSprop", "RMSprop": "RMSprop",
                "adam": "Adam", "Adam": "Adam", "adamw": "AdamW", "AdamW": "AdamW"}  # fmt: skip
    for name, class_name in expected.items():
        optimizer = optimizers.get(name)
        assert type(optimizer).__name__ == class_name
        assert optimizer.name == class_name.lower()
        assert optimizers.get(optimizer) is optimizer
    rates = [optimizers.get(name).learning_rate for name in NAMES]
    assert rates == [0.01, 0.001, 0.001, 0.001]
    assert optimizers.AdamW().weight_decay == 0.004 and optimizers.Adam().weight_decay is None
    assert repr(optimizers.Adam()) == "<optimizer adam, 0 steps taken>"
    with pytest.raises(ValueError, match="optimizer: got 'adma', expected one of"):
        optimizers.get("adma")
    for identifier in (None, 3, np.square):
        with pytest.raises(TypeError, match="optimizer: got"):
            optimizers.get(identifier)
