"""Losses: Keras's values, exact gradients, shapes, weights, bad input."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from losses_support import KINDS, NAMES, REDUCTIONS, draw, make, problem
from lstm_ext import losses
from support import Array, assert_gradients_match_central_differences, assert_same_bits, error
from training_support import assert_as_keras, load_golden, ulps

GOLDEN = load_golden("losses")


# ---- values ----


@pytest.mark.parametrize("case", GOLDEN)
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "none"])
def test_values_and_gradients_are_keras(case: str, reduction: str) -> None:
    golden = GOLDEN[case]
    config = golden["config"]["config"]
    loss = make(golden["config"]["class_name"], **config, reduction=reduction)
    values, gradients = {}, {}
    for suffix, dtype in (("32", np.float32), ("64", np.float64)):
        arguments = (golden["y_true"], golden["y_pred"].astype(dtype), golden["sample_weight"])
        values[suffix] = loss(*arguments)
        if reduction != "none":
            value, gradients[suffix] = loss.value_and_grad(*arguments)
            assert ulps(value, values[suffix], dtype) <= 4
            assert gradients[suffix].dtype == dtype
    keys = [reduction, f"{reduction}_gradient"]
    for key, ours in zip(keys, (values, gradients), strict=True):
        if f"{key}_32" in golden:
            exact = golden[f"{key}_64"]
            assert_as_keras(ours, golden[f"{key}_32"], exact, f"{case} {key}", 16)


@pytest.mark.parametrize(("name", "config", "true", "pred"), KINDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradients_are_central_differences(
    name: str, config: dict[str, Any], true: str, pred: str, reduction: str
) -> None:
    loss = make(name, **config, reduction=reduction)
    y_true, y_pred = problem(true, pred)
    for weight in weights_for((4, 3)):
        value, gradient = loss.value_and_grad(y_true, y_pred, weight)
        assert isinstance(value, float)
        assert ulps(value, loss(y_true, y_pred, weight), np.float64) <= 4
        call = partial(loss, y_true, y_pred, weight)
        if name in ("mse", "mae", "huber"):
            assert_slopes_of_parabolas(call, y_true, y_pred, gradient)
        else:
            assert_gradients_match_central_differences(call, [y_pred], [gradient])


def assert_slopes_of_parabolas(call: Any, y_true: Array, y_pred: Array, gradient: Array) -> None:
    """Compare with central differences: of parabolas they are exact but for rounding."""
    h = 1e-3
    distance = np.abs(y_pred - y_true)
    assert min(distance.min(), np.abs(distance - 0.7).min()) > h, "a kink in reach of a difference"
    allowed = 8 * np.finfo(np.float64).eps * call() / h
    for index in np.ndindex(y_pred.shape):
        value = y_pred[index]
        y_pred[index] = value + h
        above = call()
        y_pred[index] = value - h
        below = call()
        y_pred[index] = value
        assert abs((above - below) / (2 * h) - gradient[index]) <= allowed


def weights_for(shape: tuple[int, int]) -> list[Any]:
    """Return sample weights of every shape that goes with values of that shape."""
    full = draw("probabilities", shape)
    return [None, 0.7, full[:, 0], full[:, :1], full, full[..., None]]


def test_mean_squared_error_by_hand() -> None:
    y_true, y_pred = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[2.0, 2.0], [0.0, 4.0]])
    value, gradient = losses.MeanSquaredError().value_and_grad(y_true, y_pred)
    assert value == (1 + 0 + 9 + 1) / 4
    assert_same_bits([gradient], [np.array([[0.5, 0.0], [-1.5, -0.5]])])
    weighted = losses.MeanSquaredError("sum")(y_true, y_pred, [2.0, 3.0])
    assert weighted == 2 * (1 + 0) / 2 + 3 * (9 + 1) / 2


def test_sparse_is_categorical_of_one_hot(dtype: Any) -> None:
    labels = draw("labels")
    one_hot = np.eye(5)[labels]
    for config, kind in (({}, "probabilities"), ({"from_logits": True}, "numbers")):
        y_pred = draw(kind).astype(dtype)
        sparse, categorical = (
            make(name, **config).value_and_grad(y_true, y_pred)
            for name, y_true in (
                ("SparseCategoricalCrossentropy", labels),
                ("CategoricalCrossentropy", one_hot),
            )
        )
        assert ulps(sparse[0], categorical[0], dtype) <= 4
        assert ulps(sparse[1], categorical[1], dtype) <= 4


def test_logits_of_any_size_are_finite(dtype: Any) -> None:
    large = 1e30
    y_pred = np.array([[large, -large, 0.0], [-large, 0.0, large]], dtype)
    for name, y_true in (
        ("bce", [[1, 0, 1], [0, 1, 1]]),
        ("categorical_crossentropy", [[1, 0, 0], [0, 0, 1]]),
        ("sparse_categorical_crossentropy", [0, 2]),
    ):
        value, gradient = make(name, from_logits=True).value_and_grad(y_true, y_pred)
        assert 0 <= value < 1 and np.isfinite(gradient).all()


def test_probabilities_at_the_ends_are_clipped(dtype: Any) -> None:
    y_pred = np.array([[0.0, 1.0]], dtype)
    largest = float(dtype(1) - dtype(1e-7))
    for name, y_true in (
        ("bce", [[1, 0]]),
        ("categorical_crossentropy", [[1, 0]]),
        ("sparse_categorical_crossentropy", [0]),
    ):
        value, gradient = make(name).value_and_grad(y_true, y_pred)
        assert abs(value + np.log(1e-7)) < 0.2
        assert not gradient.any()
    value, gradient = make("bce").value_and_grad([[0, 1]], y_pred)
    expected = -(np.log1p(-1e-7) + np.log(largest)) / 2
    assert ulps(value, expected, dtype) <= 4 and not gradient.any()


def test_nan_and_infinity_flow_through() -> None:
    for name, config, true, pred in KINDS:
        loss = make(name, **config)
        y_true, y_pred = problem(true, pred)
        y_pred[1, 2, 3] = np.nan
        value, gradient = loss.value_and_grad(y_true, y_pred)
        assert np.isnan(value) and np.isnan(gradient[1, 2]).any() and np.isfinite(gradient[0]).all()
    for name in ("mse", "mae", "huber"):
        assert make(name)([[0.0]], np.array([[np.inf]])) == np.inf


# ---- shapes and conversions ----


@pytest.mark.parametrize("name", ["mse", "mae", "huber", "bce"])
def test_an_axis_of_size_one_may_be_missing(name: str, dtype: Any) -> None:
    loss = losses.get(name)
    pred = draw("probabilities", (6, 1)).astype(dtype)
    true = draw("probabilities", (6, 1), seed=5)
    expected = loss.value_and_grad(true, pred)
    for y_true in (true[:, 0], true.tolist(), true[:, 0].tolist()):
        value, gradient = loss.value_and_grad(y_true, pred)
        assert value == expected[0]
        assert_same_bits([gradient], [expected[1]])
    value, gradient = loss.value_and_grad(true, pred[:, 0])
    assert value == expected[0]
    assert_same_bits([gradient], [expected[1][:, 0]])


def test_a_longer_shape_loses_its_last_axis_as_in_keras() -> None:
    true, pred = draw("numbers", (4, 3)), draw("numbers", (4, 3, 1))
    weight = [1.0, 2.0, 3.0, 4.0]
    loss = losses.MeanSquaredError("none")
    expected = loss(true, pred[..., 0], weight)
    assert expected.shape == (4,)
    assert_same_bits([loss(true, pred, weight), loss(true[..., None], pred[..., 0], weight)],
                     [expected] * 2)  # fmt: skip
    assert losses.get("mse").value_and_grad(true, pred, weight)[1].shape == pred.shape


@pytest.mark.parametrize(
    ("true", "pred"),
    [
        ((5,), (4, 1)),
        ((4, 2), (4, 1)),
        ((4, 1), (4, 2)),
        ((4,), (4, 4)),
        ((1,), (4, 1)),
        ((), (4, 1)),
        ((4, 3), (3, 4)),
        ((4, 1, 1), (4, 1, 1, 1, 1)),
        ((4,), (4, 1, 1)),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_shapes_that_do_not_fit_raise(
    name: str, true: tuple[int, ...], pred: tuple[int, ...]
) -> None:
    if name.startswith("sparse") and true in (pred[:-1], (*pred[:-1], 1)):
        true = (7, *true)  # those are the shapes of class numbers
    loss = losses.get(name)
    for call in (loss, loss.value_and_grad):
        with pytest.raises(ValueError, match=r"y_true: got shape .* expected"):
            call(np.zeros(true), np.full(pred, 0.5))


def test_numbers_of_other_types_are_converted(dtype: Any) -> None:
    loss = losses.get("mse")
    y_pred = draw("numbers", (4, 1)).astype(dtype)
    expected = loss.value_and_grad(np.array([[1], [0], [0], [1]], dtype), y_pred)
    for y_true in ([1, 0, 0, 1], [[True], [False], [False], [True]], np.array([1, 0, 0, 1], "u1")):
        value, gradient = loss.value_and_grad(y_true, y_pred)
        assert value == expected[0]
        assert_same_bits([gradient], [expected[1]])
    value, gradient = loss.value_and_grad([2], [[1]])
    assert value == 1.0 and gradient.dtype == np.float32


@pytest.mark.parametrize("name", NAMES)
def test_what_holds_no_numbers_raises(name: str) -> None:
    loss = losses.get(name)
    pred = np.full((2, 1), 0.5)
    for bad in (["a", "b"], [None, None], [[1j], [2]]):
        with pytest.raises(TypeError, match="y_true: got an array of"):
            loss(bad, pred)
        with pytest.raises(TypeError, match="y_pred: got an array of"):
            loss([0, 0], bad)
        with pytest.raises(TypeError, match="sample_weight: got an array of"):
            loss([0, 0], pred, bad)
    with pytest.raises(ValueError, match="y_true"):
        loss([[1], [2, 3]], pred)
    with pytest.raises(ValueError, match="y_pred: got a single number"):
        loss(0, 0.5)


def test_class_numbers_have_to_be_classes() -> None:
    loss = losses.get("sparse_categorical_crossentropy")
    pred = np.full((2, 3), 1 / 3)
    for bad in ([0, 3], [-1, 0], [0, 2**40], [0, 1e30], [0, np.nan], [0, np.inf]):
        with pytest.raises(ValueError, match="y_true: got class numbers from"):
            loss(bad, pred)
    with pytest.raises(ValueError, match="y_true: got numbers that are not whole"):
        loss([0, 0.5], pred)
    expected = loss(np.array([0, 2]), pred)
    for good in ([0.0, 2.0], [[0], [2]], np.array([0, 2], np.uint8)):
        assert loss(good, pred) == expected


def test_class_numbers_given_as_categories_raise_with_advice() -> None:
    loss = losses.get("categorical_crossentropy")
    for labels in ([0, 2], [[0], [2]]):
        with pytest.raises(ValueError, match="sparse_categorical_crossentropy"):
            loss(labels, np.full((2, 3), 1 / 3))


@pytest.mark.parametrize("shape", [(3,), (4, 2), (4, 3, 5), (4, 3, 2), (3, 4), (2, 4, 3)])
def test_sample_weights_that_do_not_fit_raise(shape: tuple[int, ...]) -> None:
    loss = losses.get("mse")
    for call in (loss, loss.value_and_grad):
        with pytest.raises(ValueError, match="sample_weight: got shape"):
            call(draw("numbers"), draw("numbers"), np.ones(shape))


def test_weights_of_zero_leave_nothing() -> None:
    for reduction in REDUCTIONS:
        value, gradient = make("mse", reduction=reduction).value_and_grad(
            draw("numbers"), draw("numbers", seed=3), np.zeros(4)
        )
        assert value == 0 and not gradient.any()
    # Nor does dividing by a sum of zero, as in Keras.
    loss = make("mse", reduction="mean_with_sample_weight")
    value, gradient = loss.value_and_grad([[1.0], [2.0]], [[2.0], [4.0]], [1.0, -1.0])
    assert value == 0 and not gradient.any()


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_costs_nothing(name: str) -> None:
    pred = np.zeros((0, 3), np.float32)
    true = np.zeros(0 if name.startswith("sparse") else (0, 3))
    for reduction in REDUCTIONS:
        value, gradient = make(name, reduction=reduction).value_and_grad(true, pred)
        assert value == 0 and gradient.shape == (0, 3) and gradient.dtype == np.float32


@pytest.mark.parametrize(("name", "config", "true", "pred"), KINDS)
def test_arguments_are_left_as_they_are(
    name: str, config: dict[str, Any], true: str, pred: str
) -> None:
    arguments = (*problem(true, pred, np.float32), draw("numbers", (4,)))
    for array in arguments:
        array.flags.writeable = False
    before = [array.copy() for array in arguments]
    first = make(name, **config).value_and_grad(*arguments)[1]
    second = make(name, **config).value_and_grad(*arguments)[1]
    assert_same_bits([*arguments, first], [*before, second])
    assert first.flags.writeable and not np.shares_memory(first, second)


def test_strided_arrays_give_the_same() -> None:
    for name, config, true, pred in KINDS:
        loss = make(name, **config)
        y_true, y_pred = problem(true, pred)
        wide = np.repeat(y_pred, 2, axis=-1)[::-1]
        value, gradient = loss.value_and_grad(y_true[::-1], wide[..., ::2])
        expected = loss.value_and_grad(y_true, y_pred)
        assert ulps(value, expected[0], np.float64) <= 4
        assert error(gradient[::-1], expected[1]) == 0


@pytest.mark.parametrize("kind", [">f4", "<f8", "float16"])
def test_squares_of_any_float_in_any_memory(kind: str) -> None:
    """Whole numbers: every way to compute them is exact."""
    loss = losses.get("mse")
    true, pred = np.arange(12.0).reshape(4, 3), 3 * np.arange(12.0).reshape(4, 3) % 7
    bytes_ = np.zeros(12 * np.dtype(kind).itemsize + 1, np.uint8)
    crooked = bytes_[1:].view(kind).reshape(4, 3)
    crooked[...] = pred
    for y_true, y_pred in (
        (true.astype(kind), crooked),
        (true.tolist(), pred.astype(kind).T.copy().T),
    ):
        value, gradient = loss.value_and_grad(y_true, y_pred)
        np.testing.assert_allclose(value, np.square(pred - true).mean(), rtol=1e-15)
        np.testing.assert_allclose(gradient, (pred - true) / 6, rtol=np.finfo(kind).eps)
