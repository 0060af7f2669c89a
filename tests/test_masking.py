"""Masks: where they begin, how models pass them on, and what losses and metrics make of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from layer_support import by_reference, draw_weights
from lstm_ext import (
    LSTM,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Input,
    Layer,
    Masking,
    Sequential,
    load_model,
    metrics,
)
from lstm_ext.losses import MeanSquaredError, SparseCategoricalCrossentropy
from lstm_ext.losses.base import apply_mask
from lstm_ext.optimizers import SGD
from support import Array

B, T, F = 6, 5, 3
RNG = np.random.default_rng(4)


def masked_inputs(value: float = 0.0) -> tuple[Array, Array]:
    """Return x with steps that are all `value`, and where they are not."""
    rng = np.random.default_rng(1)
    mask = rng.random((B, T)) < 0.6
    mask[0], mask[1] = False, True
    x = rng.standard_normal((B, T, F)).astype(np.float32)
    x[~mask] = value
    x[mask, 0] = value  # one feature alone masks nothing
    return x, mask


def tagger(*layers: Layer, outputs: int = 2) -> Sequential:
    model = Sequential([Input((T, F)), Masking(), *layers, Dense(outputs)])
    draw_weights(model)
    return model


# ---- where masks begin ----


@pytest.mark.parametrize("value", [0.0, -1.5, 0.1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_masking_finds_steps_of_one_value(value: float, dtype: str) -> None:
    layer = Masking(value, dtype=dtype)
    x, mask = masked_inputs(value)
    x = x.astype(dtype)
    if dtype == "float64":
        x[~mask] = value
    np.testing.assert_array_equal(layer.compute_mask(x), mask)
    y = layer(x)
    assert y.dtype == dtype and layer.compute_output_shape(x.shape) == x.shape
    np.testing.assert_array_equal(y, np.where(mask[..., None], x, 0))
    same, backward = layer.vjp(x)
    np.testing.assert_array_equal(same, y)
    dy = RNG.standard_normal(x.shape).astype(dtype)
    dx, parameters = backward(dy, True)
    np.testing.assert_array_equal(dx, np.where(mask[..., None], dy, 0))
    assert parameters == [] and layer.weights == []


def test_nan_is_no_value_to_mask() -> None:
    x = np.full((1, 2, 3), np.nan)
    assert Masking().compute_mask(x).all() and np.isnan(Masking()(x)).all()


def test_an_embedding_masks_zeros() -> None:
    x = np.array([[1, 0, 2], [0, 0, 0]])
    layer = Embedding(5, 4, mask_zero=True)
    np.testing.assert_array_equal(layer.compute_mask(x), x != 0)
    assert Embedding(5, 4).compute_mask(x) is None
    assert Embedding.from_config(layer.get_config()).mask_zero
    np.testing.assert_array_equal(layer(x)[0, 1], layer.embeddings[0])


# ---- how they are passed on ----


@pytest.mark.parametrize("first", ["masking", "embedding", "given"])
def test_a_model_skips_masked_steps(first: str) -> None:
    x, mask = masked_inputs()
    start: list[Layer] = [Input((T, F)), Masking()] if first == "masking" else [Input((T, F))]
    if first == "embedding":
        x = np.random.default_rng(1).integers(1, 9, (B, T)) * mask
        start = [Input((T,)), Embedding(9, F, mask_zero=True)]
    lstms = LSTM(4, return_sequences=True), LSTM(3)
    model = Sequential([*start, Dropout(0.5), Dense(F), lstms[0], Dense(4), lstms[1], Dense(2)])
    draw_weights(model)
    found = model(x, mask=mask) if first == "given" else model(x)
    values: Any = x
    for layer in model.layers:
        if isinstance(layer, LSTM):
            values = by_reference(layer, np.asarray(values), np.float32, mask=mask).output
        else:
            values = layer(values)
    np.testing.assert_allclose(found, values, atol=1e-6)
    unmasked: Any = x
    for layer in model.layers:
        unmasked = layer(unmasked)
    assert np.abs(found - unmasked).max() > 1e-3
    if first != "given":
        np.testing.assert_array_equal(model.predict(x, batch_size=4, verbose=0), found)
        np.testing.assert_array_equal(model.predict_on_batch(x), found)


def test_which_layers_pass_a_mask_on() -> None:
    x, mask = np.zeros((B, T, F)), np.ones((B, T), bool)
    passing = [Dense(2), Dropout(0.5), LSTM(2, return_sequences=True)]
    passing.append(Bidirectional(LSTM(2, return_sequences=True)))
    for layer in passing:
        assert layer.supports_masking and layer.compute_mask(x, mask) is mask
        assert layer.compute_mask(x) is None
    for layer in (LSTM(2), Bidirectional(LSTM(2))):
        assert layer.supports_masking and layer.compute_mask(x, mask) is None
    assert Masking().compute_mask(x, mask) is not mask
    assert not Embedding(3, 2).supports_masking


def test_a_mask_is_not_turned_around_as_in_keras() -> None:
    x, mask = masked_inputs()
    model = tagger(LSTM(3, return_sequences=True, go_backwards=True), LSTM(2))
    first, second, dense = model.layers[1:]
    assert isinstance(first, LSTM) and isinstance(second, LSTM)
    values = by_reference(first, x, np.float32, mask=mask).output
    values = by_reference(second, values, np.float32, mask=mask).output
    np.testing.assert_allclose(model(x), dense(values), atol=1e-6)


class Plain(Layer):
    """Knows nothing of masks, as layers did before there were any."""

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def _forward(self, x: Array, training: bool) -> Array:
        return 2 * x

    def vjp(self, x: Array, training: bool = True) -> Any:  # type: ignore[override]
        return 2 * x, lambda dy, need_x: (2 * dy, [])


def test_a_layer_that_cannot_take_a_mask_drops_it_with_a_warning() -> None:
    x, _ = masked_inputs()
    model = tagger(Plain(name="plain"), LSTM(3))
    lstm, dense = model.layers[2:]
    assert isinstance(lstm, LSTM)
    want = dense(by_reference(lstm, 2 * x, np.float32).output)
    with pytest.warns(UserWarning, match="plain of the class Plain does not support masking"):
        np.testing.assert_allclose(model(x), want, atol=1e-6)
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="plain of the class Plain"):
        model.train_on_batch(x, np.ones((B, 2)))


def test_masked_steps_of_the_input_are_not_read() -> None:
    x, mask = masked_inputs()
    layer = LSTM(3, return_sequences=True)
    want = layer(x, mask=mask)
    x[~mask] = np.nan
    np.testing.assert_array_equal(layer(x, mask=mask), want)


# ---- losses ----


@pytest.mark.parametrize(
    "reduction", ["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight"]
)
@pytest.mark.parametrize("weighted", [None, "samples", "steps", "one feature"])
def test_a_loss_counts_what_is_not_masked(reduction: str, weighted: str | None) -> None:
    _, mask = masked_inputs()
    y, pred = RNG.standard_normal((2, B, T, 2))
    weight = {
        None: None, "samples": RNG.random(B), "steps": RNG.random((B, T)),
        "one feature": RNG.random((B, T, 1)),
    }[weighted]  # fmt: skip
    loss = MeanSquaredError(reduction)
    values = np.square(y - pred).mean(axis=-1)
    full = (
        np.ones((B, T))
        if weight is None
        else np.broadcast_to(weight.reshape(B, *weight.shape[1:2] or (1,)), (B, T))
    )
    divisor = {"sum": 1.0, "mean_with_sample_weight": float((full * mask).sum())}
    want = float((values * full)[mask].sum()) / divisor.get(reduction, float(mask.sum()))
    given = apply_mask(weight, mask, reduction)
    assert loss(y, pred, given) == pytest.approx(want, rel=1e-12)
    value, gradient = loss.value_and_grad(y, pred, given)
    assert value == pytest.approx(want, rel=1e-12)
    assert not gradient[~mask].any() and gradient[mask].all()


def test_a_loss_of_nothing_is_zero() -> None:
    y, pred = RNG.standard_normal((2, B, T, 2))
    for reduction in ("mean", "sum", "mean_with_sample_weight"):
        value, gradient = MeanSquaredError(reduction).value_and_grad(
            y, pred, apply_mask(None, np.zeros((B, T), bool), reduction)
        )
        assert value == 0 and not gradient.any()


def test_weights_that_do_not_go_with_a_mask_are_refused() -> None:
    mask = np.ones((B, T), bool)
    with pytest.raises(ValueError, match=r"sample_weight: got shape \(6, 4\), expected \(6, 5\)"):
        apply_mask(np.ones((B, 4)), mask, "mean")


# ---- training and evaluation ----


def masked_loss(model: Sequential, x: Array, y: Array, mask: Array) -> float:
    pred = model(x)
    return float(np.square(pred - y)[mask].mean())


def test_evaluation_is_masked() -> None:
    x, mask = masked_inputs()
    y = RNG.standard_normal((B, T, 2)).astype(np.float32)
    model = tagger(LSTM(3, return_sequences=True))
    model.compile("sgd", "mse", ["mae", "mse", metrics.RootMeanSquaredError()])
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    assert isinstance(found, dict)
    error = model(x) - y
    assert found["loss"] == pytest.approx(np.square(error)[mask].mean(), rel=1e-5)
    assert found["mse"] == pytest.approx(np.square(error)[mask].mean(), rel=1e-5)
    assert found["mae"] == pytest.approx(np.abs(error)[mask].mean(), rel=1e-5)
    # Keras's, which alone never hears of masks.
    assert found["root_mean_squared_error"] == pytest.approx(
        np.sqrt(np.square(error).mean()), rel=1e-5
    )
    batches = model.evaluate(x, y, batch_size=4, verbose=0)
    parts = [masked_loss(model, x[s], y[s], mask[s]) for s in (slice(0, 4), slice(4, 6))]
    assert isinstance(batches, list)
    assert batches[0] == pytest.approx((4 * parts[0] + 2 * parts[1]) / 6, rel=1e-5)


def test_labels_are_masked_too() -> None:
    x = np.array([[1, 2, 0, 0], [3, 1, 2, 0], [0, 0, 0, 0]])
    labels = RNG.integers(0, 3, x.shape)
    stack = [Embedding(4, 5, mask_zero=True), LSTM(4, return_sequences=True)]
    model = Sequential([Input((4,)), *stack, Dense(3, "softmax")])
    model.compile("sgd", SparseCategoricalCrossentropy(), ["accuracy"])
    found = model.evaluate(x, labels, verbose=0, return_dict=True)
    p = np.take_along_axis(model(x), labels[..., None], -1)[..., 0]
    assert isinstance(found, dict)
    assert found["loss"] == pytest.approx(-np.log(p[x != 0]).mean(), rel=1e-5)
    right = model(x).argmax(-1) == labels
    assert found["accuracy"] == pytest.approx(right[x != 0].mean())


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_follows_the_gradient_of_the_masked_loss(weighted: bool) -> None:
    x, mask = masked_inputs()
    x, y = x.astype(np.float64), RNG.standard_normal((B, T, 2))
    weight = RNG.random((B, T)) if weighted else np.ones((B, T))
    options: dict[str, Any] = {"dtype": "float64"}
    layers = [
        Masking(**options),
        Bidirectional(LSTM(3, return_sequences=True, **options), "mul"),
        LSTM(2, return_sequences=True, **options),
        Dense(2, **options),
    ]
    model = Sequential([Input((T, F)), *layers])
    draw_weights(model)
    before = model.get_weights()
    model.compile(SGD(1.0), "mse")
    given = weight if weighted else None

    def loss() -> float:
        values = np.square(model(x) - y).mean(-1) * weight
        return float(values[mask].sum() / mask.sum())

    value = model.train_on_batch(x, y, given)
    steps = [old - new for old, new in zip(before, model.get_weights(), strict=True)]
    model.set_weights(before)
    assert value == pytest.approx(loss(), rel=1e-12)
    h, rng = 1e-5, np.random.default_rng(0)
    for index, step in enumerate(steps):
        direction = rng.standard_normal(step.shape)
        ends = []
        for sign in (1, -1):
            moved = [w.copy() for w in before]
            moved[index] += sign * h * direction
            model.set_weights(moved)
            ends.append(loss())
        # Differences of this h err by some h**2, and by rounding's 1e-16 / h.
        slope = (ends[0] - ends[1]) / (2 * h)
        assert float(np.sum(step * direction)) == pytest.approx(slope, abs=1e-8)


def test_fit_and_files(tmp_path: Any) -> None:
    x, mask = masked_inputs()
    y = x[..., :2] - 0.5
    model = tagger(LSTM(8, return_sequences=True, dropout=0.1), Dropout(0.1))
    model.compile("adam", "mse", ["mae"])
    history = model.fit(x, y, epochs=40, verbose=0, validation_split=0.2).history
    assert history["loss"][-1] < history["loss"][0] and "val_mae" in history
    model.save(tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    assert isinstance(again.layers[0], Masking)
    np.testing.assert_array_equal(again(x), model(x))
    assert not np.array_equal(model(x), model(x, training=True))
    assert masked_loss(again, x, y, mask) == pytest.approx(
        again.evaluate(x, y, verbose=0, return_dict=True)["loss"],
        rel=1e-5,  # type: ignore[index]
    )


# ---- errors ----


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Masking("a"), TypeError, "^mask_value: got 'a', expected a number"),
        (lambda: Masking(True), TypeError, "^mask_value: got True"),
        (lambda: Masking(float("nan")), ValueError, "^mask_value: got NaN"),
        (lambda: Masking()(np.ones(3)), ValueError, r"^x: got shape \(3,\)"),
        (
            lambda: tagger(LSTM(3)).stream(),
            ValueError,
            "^masking.*: got a layer that masks steps, which a stream does not skip",
        ),
        (
            lambda: Sequential([Input((T,)), Embedding(3, 2, mask_zero=True), LSTM(2)]).stream(),
            ValueError,
            "^embedding.*: got a layer that masks steps",
        ),
        (
            lambda: tagger(LSTM(3))(np.ones((B, T, F)), mask="a"),
            TypeError,
            "^mask: got an array of <U1",
        ),
        (
            lambda: Sequential([LSTM(3)])(np.ones((B, T, F)), mask=np.ones((B, 2))),
            ValueError,
            r"^mask: got shape \(6, 2\), expected \(6, 5\)",
        ),
    ],
)
def test_bad_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_data_that_do_not_go_with_a_mask_are_refused_before_anything_changes() -> None:
    x, _ = masked_inputs()
    layer = LSTM(3, return_sequences=True, stateful=True)
    model = tagger(layer, outputs=1)
    model.compile("sgd", "mse")
    before = model.get_weights()
    for y, weight, message in (
        (np.ones((B, T)), None, r"y: got shape \(6, 5\) for outputs that are masked.*\(6, 5, 1\)"),
        (np.ones((B, T, 1)), np.ones((B, 4)), r"sample_weight: got shape \(1, 4\)"),
    ):
        for method in (model.fit, model.evaluate, model.train_on_batch):
            with pytest.raises(ValueError, match=message):
                method(x, y, sample_weight=weight)  # type: ignore[operator]
    assert layer.state is None
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
