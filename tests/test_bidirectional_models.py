"""Two LSTMs in two directions: gradients, noise, models, small weights and errors."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from layer_support import (
    B,
    F,
    H,
    NoiseRecord,
    T,
    assert_layer_gradients,
    assert_same,
    by_reference,
    draw_steps,
    inputs,
    make_bidirectional,
)
from lstm_ext import (
    LSTM,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Input,
    Sequential,
    load_model,
    quantization_error,
    set_random_seed,
)
from support import Array


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave"])
def test_gradients(merge_mode: str, return_sequences: bool) -> None:
    for turned in (False, True):
        layer = make_bidirectional(
            merge_mode, backward={"go_backwards": not turned}, go_backwards=turned, proj_size=None,
            return_sequences=return_sequences, dropout=0.3, recurrent_dropout=0.3, peepholes=True,
        )  # fmt: skip
        x = inputs()[:2]
        rng = np.random.default_rng(3)
        given = draw_steps(rng, 2, T, "mask, reset")

        def run(layer: Bidirectional = layer, x: Array = x, given: Any = given) -> Any:
            layer.forward_layer._generator = np.random.default_rng(11)
            return layer.vjp(x, True, **given)

        output, backward = run()
        dy = rng.standard_normal(output.shape)
        d_x, gradients = backward(dy, True)
        assert_layer_gradients(
            layer, x, [d_x, *gradients], lambda dy=dy, run=run: float(np.sum(dy * run()[0]))
        )
        none, again = run()[1](dy, False)
        assert none is None
        assert_same(again, gradients)


def test_frozen_layers_have_no_gradients() -> None:
    for frozen, names in (("forward_layer", ["backward"]), ("backward_layer", ["forward"])):
        layer = make_bidirectional()
        getattr(layer, frozen).trainable = False
        y, backward = layer.vjp(inputs())
        _, gradients = backward(np.ones_like(y), False)
        wanted = [n for n in layer.weight_names if n.split("/")[0] in names]
        assert len(gradients) == len(layer.trainable_weights) == len(wanted) == 3
        index = layer.weight_names.index(wanted[0])
        assert layer.trainable_weights[0] is layer._weights[layer.weight_names[index]]
    layer = make_bidirectional()
    layer.trainable = False
    y, backward = layer.vjp(inputs())
    assert backward(np.ones_like(y), True)[1] == layer.trainable_weights == []


def test_each_direction_draws_its_own_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    record = NoiseRecord(monkeypatch)
    layer = Bidirectional(LSTM(8, dropout=0.5, recurrent_dropout=0.5, zoneout=0.2))
    x = np.ones((B, T, 16))
    for run in (lambda: layer(x, training=True), lambda: layer.vjp(x.astype(np.float32))):
        run()
        (noise,) = record.take()
        for first, second in zip(noise[0][:3], noise[1][:3], strict=True):
            assert first.shape == second.shape and not np.array_equal(first, second)
    layer(x)
    assert record.take() == []  # the native call takes no noise


def test_noise_reaches_the_direction_it_was_drawn_for(monkeypatch: pytest.MonkeyPatch) -> None:
    record = NoiseRecord(monkeypatch)
    for turned in (False, True):
        layer = make_bidirectional(
            None, backward={"units": 5, "dropout": 0.3, "zoneout": 0.2, "go_backwards": not turned},
            go_backwards=turned, dropout=0.3, recurrent_dropout=0.3, return_sequences=True,
        )  # fmt: skip
        x = inputs()
        outputs = layer(x, training=True)
        (noise,) = record.take()
        noise = noise[::-1] if turned else noise
        assert noise[0].h is not None and noise[1].h is None
        want = [
            by_reference(inner, x, noise=[drawn]).output
            for inner, drawn in zip(layer.inner_layers, noise, strict=True)
            if isinstance(inner, LSTM)
        ]
        assert_same(outputs, [want[0], want[1][:, ::-1]])


def test_a_model_learns_through_two_directions() -> None:
    set_random_seed(3)
    layers = [
        Input((6,)),
        Embedding(9, 4, mask_zero=True),
        Bidirectional(LSTM(5, return_sequences=True, dropout=0.1)),
        Bidirectional(LSTM(4), "sum"),
        Dropout(0.1),
        Dense(1, "sigmoid"),
    ]
    model = Sequential(layers)
    model.compile("adam", "bce", ["accuracy"])
    assert model.output_shape == (None, 1)
    x = np.random.default_rng(0).integers(0, 9, (80, 6))
    before = model.get_weights()
    losses = model.fit(x, (x == 3).any(axis=1)[:, None], epochs=12, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for name, old, new in zip(range(99), before, model.weights, strict=False):
        assert not np.array_equal(old, new), name
    text: list[str] = []
    layers[2].trainable = False
    model.summary(print_fn=text.append)
    frozen = layers[2].count_params()
    assert f"Non-trainable params: {frozen:,}" in text[0]
    assert f"Trainable params: {model.count_params() - frozen:,}" in text[0]


def test_a_model_comes_back_from_a_file(tmp_path: Any) -> None:
    layers = [
        Input((T, F)),
        Bidirectional(LSTM(5, return_sequences=True, layer_norm=True), "ave"),
        Bidirectional(
            LSTM(4, peepholes=True), backward_layer=LSTM(3, go_backwards=True, proj_size=2)
        ),
        Dense(2),
    ]
    model = Sequential(layers)
    model.compile("adam", "mse")
    x, y = inputs(dtype=np.float32), np.ones((B, 2))
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    assert again.layers[0].get_config() == model.layers[0].get_config()
    a, b = (m.fit(x, y, epochs=2, verbose=0, shuffle=False).history for m in (model, again))
    assert a == b
    initializer = again.layers[0].inner_layers[0].kernel_initializer  # type: ignore[attr-defined]
    assert type(initializer).__name__ == "GlorotUniform"


def test_small_weights() -> None:
    model = Sequential([Bidirectional(LSTM(32, return_sequences=True)), LSTM(16)])
    x = np.random.default_rng(0).standard_normal((2, 9, 24)).astype(np.float32)
    full = model(x)
    report = quantization_error(model, x, "int8")
    assert 0 < report.relative < 0.1
    np.testing.assert_array_equal(model(x), full)
    model.quantize("int8")
    small = model(x)
    assert not np.array_equal(small, full)
    assert [layer.weights_dtype for layer in model.layers[0].inner_layers] == ["int8"] * 2  # type: ignore[attr-defined]
    config = model.layers[0].get_config()
    assert config["layer"]["config"]["weights_dtype"] == "int8"
    layer = Bidirectional(LSTM(32), None)
    layer(x)
    assert quantization_error(layer, x, "bfloat16").rms > 0
    layer.quantize("bfloat16")
    assert layer.backward_layer.weights_dtype == "bfloat16"
    halved = Bidirectional(LSTM(3), backward_layer=LSTM(3, go_backwards=True, layer_norm=True))
    with pytest.raises(ValueError, match="layer_norm"):
        halved.quantize("int8")
    assert halved.forward_layer.weights_dtype == "float32"


@pytest.mark.parametrize(
    ("make_layer", "error", "message"),
    [
        (lambda: Bidirectional(Dense(3)), TypeError, "^layer: got <Dense .*expected an LSTM"),
        (
            lambda: Bidirectional(LSTM(3), backward_layer=3),
            TypeError,
            "^backward_layer: got 3, expected an LSTM",
        ),
        (lambda: Bidirectional(LSTM(3), "max"), ValueError, "^merge_mode: got 'max', expected one"),
        (
            lambda: Bidirectional(LSTM(3, go_backwards=True)),
            ValueError,
            "^go_backwards: got True of both layers",
        ),
        (
            lambda: Bidirectional(LSTM(3), backward_layer=LSTM(3)),
            ValueError,
            "^go_backwards: got False of both layers",
        ),
        *[
            (
                lambda name=name: Bidirectional(
                    LSTM(3), backward_layer=LSTM(3, go_backwards=True, **{name: True})
                ),
                ValueError,
                f"^backward_layer: got {name}=True, expected False",
            )
            for name in ("stateful", "return_sequences", "return_state")
        ],
        (
            lambda: Bidirectional(
                LSTM(3), backward_layer=LSTM(3, go_backwards=True, dtype="float64")
            ),
            ValueError,
            "^backward_layer: got dtype='float64', expected 'float32'",
        ),
        (
            lambda: Bidirectional(LSTM(3), dtype="float64"),
            ValueError,
            "^dtype: got 'float64', expected 'float32' as of the layer",
        ),
        (
            lambda: Bidirectional(LSTM(3, num_layers=2)),
            ValueError,
            "^num_layers: got 2 in .*several Bidirectional on top of each other",
        ),
        (
            lambda: Bidirectional(LSTM(3), "sum", backward_layer=LSTM(4, go_backwards=True)),
            ValueError,
            "^merge_mode: got 'sum' for outputs of sizes 3 and 4",
        ),
        (lambda: Bidirectional(LSTM(3), weights=[1]), NotImplementedError, "weights="),
        (lambda: Bidirectional(LSTM(3), axis=1), TypeError, "axis"),
        (
            lambda: Sequential([Bidirectional(LSTM(3), None)]),
            ValueError,
            "merge_mode of None, expected one output",
        ),
        (
            lambda: Sequential([Bidirectional(LSTM(3, return_state=True))]),
            ValueError,
            "return_state, expected one output",
        ),
        (
            lambda: Sequential([Input((5, 2)), Bidirectional(LSTM(3))]).stream(),
            ValueError,
            "bidirectional.*a layer that reads backwards too",
        ),
        (lambda: make_bidirectional(None).vjp(inputs()), ValueError, "merge_mode: got None"),
        (lambda: Bidirectional(LSTM(3)).build((None, 5)), ValueError, "expected 3 axes"),
    ],
)  # fmt: skip
def test_bad_arguments(make_layer: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_layer()


@pytest.mark.parametrize("training", [False, True])
def test_bad_calls_change_nothing(training: bool) -> None:
    layer = make_bidirectional(stateful=True, dropout=0.5)
    x = inputs()
    layer(x)
    state = layer.state
    assert state is not None and layer.forward_layer._generator is not None
    drawn = copy.deepcopy(layer.forward_layer._generator.bit_generator.state)
    h = np.zeros((B, H))
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"mask": np.ones((B, 2), bool)}, ValueError, r"mask: got shape \(4, 2\)"),
        ({"reset": np.ones(B, bool)}, ValueError, r"reset: got shape \(4,\)"),
        ({"lengths": [9] * B}, ValueError, "lengths: got numbers from 9 to 9, expected 0 to 5"),
        ({"lengths": [1] * 2}, ValueError, r"lengths: got shape \(2,\)"),
        ({"lengths": [1.5] * B}, TypeError, "lengths: got an array of float64"),
        ({"lengths": [1] * B, "mask": np.ones((B, T), bool)}, ValueError, "lengths: .*mask"),
        ({"initial_state": (h, h)}, ValueError, r"initial_state: got 2 values, expected \(h, c"),
        ({"initial_state": h}, ValueError, r"initial_state: got an array of shape \(4, 4\)"),
        (
            {"initial_state": (h, h, h, h[:2])},
            ValueError,
            r"initial_state\[3\]: got shape \(2, 4\), expected \(4, 4\)",
        ),
        ({"initial_state": (h, h, "a", h)}, TypeError, r"initial_state\[2\]: got an array of <U1"),
    ]
    for given, error, message in cases:
        with pytest.raises(error, match=message):
            layer(x, training=training, **given)
        with pytest.raises(error, match=message):
            layer.vjp(x, training, **given)
    with pytest.raises(ValueError, match=r"x: got shape \(4, 5, 2\)"):
        layer(x[..., :2], training=training)
    assert_same(layer.state, state)
    assert layer.forward_layer._generator.bit_generator.state == drawn
