"""Two LSTMs in two directions: merging, states, weights, gradients, models and errors."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

from layer_support import (
    STEPS,
    VARIANTS,
    NoiseRecord,
    assert_layer_gradients,
    bidirectional_by_reference,
    by_reference,
    draw_steps,
    draw_weights,
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

B, T, F, H = 4, 5, 3, 4
MERGE_MODES = ["concat", "sum", "mul", "ave", None]


def inputs(seed: int = 0, dtype: Any = np.float64) -> Array:
    return np.random.default_rng([seed, 1]).standard_normal((B, T, F)).astype(dtype)


def make(
    merge_mode: str | None = "concat",
    *,
    seed: int = 0,
    backward: dict[str, Any] | None = None,
    dtype: str = "float64",
    **options: Any,
) -> Bidirectional:
    """Return a built layer with random weights."""
    layer = LSTM(H, dtype=dtype, seed=seed, **options)
    other = None
    if backward is not None:
        shared = ("return_sequences", "return_state", "stateful")
        kept = {name: options[name] for name in shared if name in options}
        other = LSTM(**{"units": H, "dtype": dtype, "go_backwards": True, **kept, **backward})
    both = Bidirectional(layer, merge_mode, backward_layer=other)
    both.build((None, None, F))
    draw_weights(both, seed)
    return both


def assert_same(actual: Any, expected: Any) -> None:
    for index, (a, e) in enumerate(zip(actual, expected, strict=True)):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-13, err_msg=str(index))
        assert a.shape == e.shape, index


@pytest.mark.parametrize("merge_mode", MERGE_MODES)
def test_results_are_the_references(merge_mode: str | None) -> None:
    for seed, variant in enumerate(VARIANTS):
        rng = np.random.default_rng(seed)
        layer = make(
            merge_mode, seed=seed, return_sequences=bool(seed % 2), return_state=True,
            zero_output_for_mask=bool(rng.integers(2)), **VARIANTS[variant],
        )  # fmt: skip
        given = draw_steps(rng, B, T, STEPS[seed % len(STEPS)])
        size = layer.forward_layer.output_size
        given["initial_state"] = (
            [rng.standard_normal((B, n)) for n in (size, H, size, H)] if seed % 3 else None
        )
        x = inputs(seed)
        outputs, states = bidirectional_by_reference(layer, x, **given)
        assert_same(layer(x, **given), [*outputs, *states])


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("merge_mode", MERGE_MODES)
def test_a_layer_of_another_kind_for_the_way_back(
    merge_mode: str | None, return_sequences: bool
) -> None:
    other = {"units": 5 if merge_mode in ("concat", None) else H, "activation": "relu"}
    for turned in (False, True):
        layer = make(
            merge_mode, backward={**other, "go_backwards": not turned}, go_backwards=turned,
            return_sequences=return_sequences, return_state=True, peepholes=True,
        )  # fmt: skip
        x, given = inputs(), draw_steps(np.random.default_rng(1), B, T, "mask, reset")
        outputs, states = bidirectional_by_reference(layer, x, **given)
        assert_same(layer(x, **given), [*outputs, *states])
        if merge_mode is not None:
            y, _ = layer.vjp(x, True, **given)
            assert_same([y], outputs)


def test_masked_outputs_are_zeros_with_sequences_only() -> None:
    mask = np.array([[True, False, True, False, False]] * B)
    layer = make(return_sequences=True)
    y = layer(inputs(), mask=mask)
    assert not y[:, [1, 3, 4]].any() and y[:, [0, 2]].all()
    last = make(return_sequences=False, zero_output_for_mask=True)
    assert last(inputs(), mask=mask).all()
    for inner in last.inner_layers:
        assert isinstance(inner, LSTM) and not inner.zero_output_for_mask


def test_what_a_call_returns() -> None:
    x = inputs()
    assert make(return_sequences=True)(x).shape == (B, T, 2 * H)
    assert make("sum")(x).shape == (B, H)
    first, second = make(None, return_sequences=True)(x)
    assert first.shape == second.shape == (B, T, H)
    results = make("ave", return_state=True)(x)
    assert [a.shape for a in results] == [(B, H)] * 5
    results = make(None, return_state=True, proj_size=2)(x)
    assert [a.shape for a in results] == [(B, 2), (B, 2), (B, 2), (B, H), (B, 2), (B, H)]
    shape = (None, 7, F)
    assert make(return_sequences=True).compute_output_shape(shape) == (None, 7, 2 * H)
    assert make("mul", proj_size=2).compute_output_shape(shape) == (None, 2)
    assert make(None).compute_output_shape(shape) == ((None, H), (None, H))


def test_results_are_the_callers_to_change() -> None:
    for merge_mode in MERGE_MODES:
        layer = make(merge_mode, stateful=True, return_state=True)
        results = layer(inputs())
        kept = layer.state
        assert kept is not None and layer.state is not None
        for index, array in enumerate(results):
            others = [a.copy() for a in results[index + 1 :]]
            array[...] = 9
            assert_same(results[index + 1 :], others)
        assert_same(layer.state, kept)


# ---- names, weights, configuration ----


def test_names_and_weights_are_as_in_keras() -> None:
    layer = LSTM(H, name="mine", use_bias=False)
    layer.build((None, None, F))
    both = Bidirectional(layer, name="both")
    assert both.forward_layer.name == "forward_mine" and both.name == "both"
    assert both.backward_layer.name == "backward_mine" and both.backward_layer.go_backwards
    assert not both.built and not both.forward_layer.built
    both.build((None, None, F))
    assert both.weight_names == [
        "forward/kernel", "forward/recurrent_kernel", "backward/kernel",
        "backward/recurrent_kernel",
    ]  # fmt: skip
    assert both.count_params() == 2 * layer.count_params()
    assert not np.array_equal(both.weights[0], layer.weights[0])
    x = inputs(dtype=np.float32)
    before = both(x)
    both.set_weights([w + 1 for w in both.get_weights()])
    np.testing.assert_array_equal(both.forward_layer.kernel, both.weights[0])
    after = both(x)
    assert not np.array_equal(before, after)
    both.backward_layer.kernel = both.backward_layer.kernel * 0
    np.testing.assert_array_equal(both.weights[2], np.zeros((F, 4 * H)))
    assert not np.array_equal(both(x), after)
    assert Bidirectional(LSTM(2)).name.startswith("bidirectional")
    assert Bidirectional(LSTM(2, input_shape=(T, F))).input_shape == (None, T, F)


@pytest.mark.parametrize("turned", [False, True])
def test_the_configuration_makes_the_same_layer(turned: bool) -> None:
    layer = make(
        "mul", backward={"activation": ("elu", 0.5), "go_backwards": not turned, "name": "back"},
        go_backwards=turned, return_sequences=True, dropout=0.2, peepholes=True,
    )  # fmt: skip
    config = json.loads(json.dumps(layer.get_config()))
    again = Bidirectional.from_config(config)
    assert again.get_config() == config and again.backward_layer.name == "back"
    again.build((None, None, F))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(inputs()), layer(inputs()))
    nested = {**config, "layer": {"class_name": "Dense", "config": {"units": 3}}}
    with pytest.raises(ValueError, match="layer: got 'Dense', expected an LSTM"):
        Bidirectional.from_config(nested)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_is_independent(how: Any) -> None:
    layer = make()
    layer(inputs())
    other = how(layer)
    np.testing.assert_array_equal(other(inputs()), layer(inputs()))
    other.set_weights([w + 1 for w in other.get_weights()])
    np.testing.assert_array_equal(other.forward_layer.kernel, layer.forward_layer.kernel + 1)
    assert not np.array_equal(other(inputs()), layer(inputs()))


# ---- training ----


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave"])
def test_gradients(merge_mode: str, return_sequences: bool) -> None:
    for turned in (False, True):
        layer = make(
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
        layer = make()
        getattr(layer, frozen).trainable = False
        y, backward = layer.vjp(inputs())
        _, gradients = backward(np.ones_like(y), False)
        wanted = [n for n in layer.weight_names if n.split("/")[0] in names]
        assert len(gradients) == len(layer.trainable_weights) == len(wanted) == 3
        index = layer.weight_names.index(wanted[0])
        assert layer.trainable_weights[0] is layer._weights[layer.weight_names[index]]
    layer = make()
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
    assert record.take() == [(None, None)]


def test_noise_reaches_the_direction_it_was_drawn_for(monkeypatch: pytest.MonkeyPatch) -> None:
    record = NoiseRecord(monkeypatch)
    for turned in (False, True):
        layer = make(
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


# ---- state ----


def test_a_stateful_layer_keeps_both_states() -> None:
    layer = make(stateful=True, return_state=True)
    x = inputs()
    assert layer.state is None
    first = layer(x)
    assert_same(layer.state or (), first[1:])
    second = layer(x)
    want = make(return_state=True)(x, initial_state=first[1:])
    assert_same(second, want)
    layer.vjp(x)
    assert_same(layer.state or (), make(return_state=True)(x, initial_state=second[1:])[1:])
    with pytest.raises(ValueError, match="x: got 3 sequences, expected 4"):
        layer(x[:3])
    layer.reset_states()
    assert_same(layer(x), first)
    model = Sequential([Bidirectional(LSTM(H, stateful=True))])
    fresh = model(x)
    assert not np.array_equal(model(x), fresh)
    model.reset_states()
    np.testing.assert_array_equal(model(x), fresh)


def test_a_state_that_one_of_the_two_layers_brings() -> None:
    layer = make(backward={}, stateful=True, return_state=True)
    x = inputs()
    _, h, c = layer.backward_layer(x)
    zeros = np.zeros((B, H))
    want = make(backward={}, return_state=True)(x, initial_state=(zeros, zeros, h, c))
    assert_same(layer(x), want)


# ---- small weights ----


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


# ---- errors ----


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
        (lambda: make(None).vjp(inputs()), ValueError, "merge_mode: got None"),
        (lambda: Bidirectional(LSTM(3)).build((None, 5)), ValueError, "expected 3 axes"),
    ],
)  # fmt: skip
def test_bad_arguments(make_layer: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_layer()


@pytest.mark.parametrize("training", [False, True])
def test_bad_calls_change_nothing(training: bool) -> None:
    layer = make(stateful=True, dropout=0.5)
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
