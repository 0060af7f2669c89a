"""Activations: Keras's values and gradients, dtypes, extremes, names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lstm_ext import activations
from support import assert_gradients_match_central_differences, assert_same_bits
from training_support import assert_as_keras, load_golden, ulps

NAMES = [
    "linear", "relu", "leaky_relu", "tanh", "sigmoid", "hard_sigmoid", "softmax", "softplus",
    "softsign", "elu", "selu", "gelu", "silu", "swish", "exponential",
]  # fmt: skip
# Of lines, central differences are exact but for rounding, so nothing tells how much that may be.
LINES = ["linear", "relu", "leaky_relu", "hard_sigmoid"]
# Keras on TensorFlow rounds the constants of these to float32 also in float64.
ROUNDED_CONSTANTS = ["gelu", "leaky_relu"]
GOLDEN = load_golden("activations")


@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_are_keras(name: str) -> None:
    act, golden = activations.get(name), GOLDEN[name]
    ys, dzs = {}, {}
    for suffix, dtype in (("32", np.float32), ("64", np.float64)):
        z, dy = (GOLDEN[""][key].astype(dtype) for key in ("z", "dy"))
        ys[suffix] = act(z)
        dzs[suffix] = act.grad(z, ys[suffix], dy)
        assert ys[suffix].dtype == dzs[suffix].dtype == dtype
    few = 2.0**29 if name in ROUNDED_CONSTANTS else 8
    assert_as_keras(ys, golden["y_32"], golden["y_64"], f"{name} value", few)
    assert_as_keras(dzs, golden["dz_32"], golden["dz_64"], f"{name} gradient", few)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LINES])
def test_gradients_are_central_differences(name: str) -> None:
    act = activations.get(name)
    rng = np.random.default_rng(1)
    z, dy = rng.uniform(-4, 4, size=(2, 5, 3)), rng.normal(size=(2, 5, 3))
    z[np.abs(z) < 0.01] += 0.02  # elu and selu have a kink at zero
    gradient = act.grad(z, act(z), dy)
    assert_gradients_match_central_differences(lambda: float((act(z) * dy).sum()), [z], [gradient])


@pytest.mark.parametrize("name", NAMES)
def test_extremes_neither_warn_nor_become_nan(name: str, dtype: Any) -> None:
    act = activations.get(name)
    large = math.sqrt(np.finfo(dtype).max) / 16
    z = np.array([-large, -200.0, -88.8, -1e-30, 0.0, 1e-30, 88.8, 200.0, large], dtype)
    y = act(z)
    assert not np.isnan(y).any()
    if name != "exponential":  # whose value is infinite there
        assert np.isfinite(y).all()
        assert np.isfinite(act.grad(z, y, np.ones_like(z))).all()


@pytest.mark.parametrize("name", NAMES)
def test_nan_flows_through(name: str, dtype: Any) -> None:
    z = np.array([[np.nan, 1.0], [1.0, 2.0]], dtype)
    y = activations.get(name)(z)
    assert np.isnan(y[0, 0]) and np.isfinite(y[1]).all()
    # Infinite arguments may give NaN, as in Keras, but do not warn.
    activations.get(name)(np.array([np.inf, -np.inf], dtype))


@pytest.mark.parametrize("name", NAMES)
def test_arguments_of_any_kind_and_layout(name: str, dtype: Any) -> None:
    act = activations.get(name)
    wide = np.random.default_rng(2).normal(size=(4, 6, 10)).astype(dtype)
    strided = wide[::-1, :, ::2]
    assert_same_bits([act(strided)], [act(np.ascontiguousarray(strided))])
    assert act(np.zeros((0, 3), dtype)).shape == (0, 3)
    assert_same_bits([act([[1, -2]])], [act(np.array([[1, -2]], np.float32))])
    assert_same_bits([act(wide.astype(wide.dtype.newbyteorder()))], [act(wide)])
    before = wide.copy()
    act.grad(wide, act(wide), wide)
    assert_same_bits([wide], [before])


def test_gelu_is_its_definition() -> None:
    z = np.linspace(-12, 12, 20001)
    exact = np.array([0.5 * v * math.erfc(-v / math.sqrt(2)) for v in z])
    assert ulps(activations.gelu(z), exact, np.float64) <= 8
    assert activations.gelu(np.array([-1e30]))[0] == 0


def test_leaky_relu_is_its_definition(dtype: Any) -> None:
    z = np.array([-10.0, -0.5, 0.0, 2.0], dtype)
    assert_same_bits([activations.leaky_relu(z)], [np.array([-2.0, -0.1, 0.0, 2.0], dtype)])
    gradient = activations.leaky_relu.grad(z, z, np.full_like(z, 3))
    assert ulps(gradient, np.array([0.6, 0.6, 0.6, 3.0]), dtype) <= 1


def test_softmax_sums_to_one(dtype: Any) -> None:
    z = np.random.default_rng(3).normal(scale=30, size=(50, 7)).astype(dtype)
    assert ulps(activations.softmax(z).sum(axis=-1), np.ones(50), dtype) <= 7


def test_names() -> None:
    for name in NAMES:
        act = activations.get(name)
        assert activations.get(act) is act
        assert activations.get({"class_name": "function", "config": name}) is act
        assert activations.get(activations.serialize(act)) is act
        assert getattr(activations, name) is act
        assert repr(act) == f"<activation {act.name}>"
    assert activations.get(None).name == "linear"
    assert activations.get("swish") is activations.get("silu")


def test_own_activation_has_no_name_here() -> None:
    own = activations.Activation("relu", np.square, lambda z, y, dy: 2 * z * dy)
    assert activations.get(own) is own
    with pytest.raises(ValueError, match="activation"):
        activations.serialize(own)


def test_what_is_no_activation_raises() -> None:
    with pytest.raises(ValueError, match=r"activation: got 'rleu', expected one of .*relu"):
        activations.get("rleu")
    for identifier in (np.tanh, 3, {"config": 3}):
        with pytest.raises(TypeError, match="dense_activation: got"):
            activations.get(identifier, "dense_activation")
    with pytest.raises(TypeError, match="z: got an array of"):
        activations.relu(["a"])
