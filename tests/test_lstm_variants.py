"""What LSTM layers can have beside the usual: results, weights, gradients, states, streams."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

from layer_support import (
    NOISE,
    STEPS,
    VARIANTS,
    B,
    F,
    H,
    T,
    assert_layer_gradients,
    assert_same,
    by_reference,
    draw_steps,
    flat,
    inputs,
    make_layer,
    states_for,
)
from lstm_ext import LSTM, Dense, Input, Sequential, activations, set_num_threads, set_random_seed
from lstm_ext.config import get_num_threads
from lstm_ext.optimizers import Adam
from lstm_ext.streaming import ModelStream, Stream
from support import assert_no_slip


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("num_layers", [1, 3])
def test_results_are_the_references(variant: str, num_layers: int) -> None:
    for seed, kind in enumerate(STEPS):
        rng = np.random.default_rng([seed, num_layers])
        flags = [bool(rng.integers(2)) for _ in range(3)]
        layer = make_layer(
            H, F, seed=seed, num_layers=num_layers, return_state=True,
            return_sequences=flags[0], go_backwards=flags[1], zero_output_for_mask=flags[2],
            **VARIANTS[variant],
        )  # fmt: skip
        given = draw_steps(rng, B, T, kind)
        given["initial_state"] = states_for(layer, seed) if seed % 2 else None
        x = inputs(seed)
        want = by_reference(layer, x, **given)
        output, *states = layer(x, **given)
        assert_same([output, *states], [want.output, want.states])
        *results, gates = layer(x, **given, return_gates=True)
        assert_same(results, [output, *states])
        assert_same(gates, want.gates)


def test_what_a_call_returns() -> None:
    x = inputs()
    for num_layers, arrays in ((1, 2), (2, 4)):
        layer = make_layer(H, F, num_layers=num_layers)
        assert layer(x).shape == (B, H)
        output, gates = layer(x, return_gates=True)
        assert output.shape == (B, H)
        many = gates if num_layers > 1 else [gates]
        assert [g.cell.shape for g in many] == [(B, T, H)] * num_layers
        layer = make_layer(H, F, num_layers=num_layers, return_state=True)
        assert len(layer(x)) == 1 + arrays and len(layer(x, return_gates=True)) == 2 + arrays


def test_masks_and_resets_are_converted_as_in_keras() -> None:
    layer = make_layer(H, F)
    x, mask = inputs(), np.random.default_rng(0).integers(0, 2, (B, T))
    want = layer(x, mask=mask.astype(bool))
    for given in (mask, mask.astype(np.float32), mask.tolist()):
        np.testing.assert_array_equal(layer(x, mask=given), want)
    want = layer(x, reset=mask.astype(bool))
    np.testing.assert_array_equal(layer(x, reset=mask.tolist()), want)
    with pytest.raises(TypeError, match="mask: got an array of"):
        layer(x, mask=[["a"] * T] * B)


# ---- weights ----


def test_weights_their_order_and_their_initial_values() -> None:
    layer = LSTM(4, proj_size=2, peepholes=True, num_layers=2, kernel_initializer="he_normal")
    layer.build((None, None, 3))
    first = ["kernel", "recurrent_kernel", "bias", "peephole", "projection_kernel"]
    assert layer.weight_names == [*first, *(f"{name}_l1" for name in first)]
    assert [w.shape for w in layer.weights] == [
        (3, 16), (2, 16), (16,), (12,), (4, 2), (2, 16), (2, 16), (16,), (12,), (4, 2),
    ]  # fmt: skip
    assert layer.count_params() == sum(w.size for w in layer.weights)
    assert layer.compute_output_shape((None, 7, 3)) == (None, 2) and layer.output_size == 2
    for bias in (layer.weights[2], layer.weights[7]):
        np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], 4))
    assert not layer.peephole.any()
    assert layer.projection_kernel.any() and layer.kernel_gain is None
    layer = LSTM(4, layer_norm=True, use_bias=False)
    layer.build((None, None, 3))
    names = ["kernel_gain", "recurrent_gain", "cell_gain", "cell_offset"]
    assert layer.weight_names == ["kernel", "recurrent_kernel", *names]
    assert [w.shape for w in layer.weights[2:]] == [(16,), (16,), (4,), (4,)]
    assert [set(w.tolist()) for w in layer.weights[2:]] == [{1.0}, {1.0}, {1.0}, {0.0}]
    layer.cell_offset = np.arange(4)
    np.testing.assert_array_equal(layer.get_weights()[-1], np.arange(4))


def test_seeded_layers_start_alike_and_their_layers_differ() -> None:
    one, other = (make_initial(seed=4) for _ in range(2))
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.weights[1], one.weights[4])


def make_initial(seed: int) -> LSTM:
    layer = LSTM(4, num_layers=2, seed=seed)
    layer.build((None, None, 4))
    return layer


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_configuration_makes_the_same_layer(variant: str) -> None:
    layer = make_layer(
        H, F, num_layers=2, zero_output_for_mask=True, return_state=True, **VARIANTS[variant]
    )
    config = json.loads(json.dumps(layer.get_config()))
    again = LSTM.from_config(config)
    assert again.get_config() == config and again.cell == layer.cell
    again.build((None, None, F))
    again.set_weights(layer.get_weights())
    assert_same(again(inputs()), layer(inputs()))
    for option, value in VARIANTS[variant].items():
        found = config[option]
        want = {None: "linear"}.get(value, value) if "activation" in option else value
        assert found == (list(want) if isinstance(want, tuple) else want), option


def test_names_of_activations() -> None:
    keras = {"module": "builtins", "class_name": "function", "config": "relu"}
    for given, want in (
        (None, "linear"), ("swish", "swish"), (activations.relu, "relu"), (keras, "relu"),
        (["elu", 2], ("elu", 2)), (("affine", 2, 1), ("affine", 2, 1)), (("tanh",), "tanh"),
    ):  # fmt: skip
        assert LSTM(3, activation=given).cell.activation == want
        assert LSTM(3, recurrent_activation=given).cell.recurrent_activation == want
    assert LSTM(3, "relu").cell.output_activation is None
    assert LSTM(3, output_activation=["elu", 2]).cell.output_activation == ("elu", 2)


# ---- gradients ----


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_gradients(variant: str, num_layers: int) -> None:
    options = dict(VARIANTS[variant])
    # What has kinks or clips is held to differences in the reference's tests, far from them.
    if "cell_clip" in options:
        options["cell_clip"] = 9.0
    if "clip" in options:
        options["clip"] = 9.0
    if options.get("recurrent_activation") == "hard_sigmoid":
        options["recurrent_activation"] = "softsign"
    sequences = num_layers == 1
    layer = make_layer(
        2, F, num_layers=num_layers, return_sequences=sequences, go_backwards=True, **options
    )
    x = inputs()[:2]
    rng = np.random.default_rng(3)
    given = draw_steps(rng, 2, T, "mask, reset")
    rates = any(options.get(name) for name in NOISE)

    def run() -> Any:
        layer._generator = np.random.default_rng(11) if rates else None
        return layer.vjp(x, True, **given)

    output, backward = run()
    dy = rng.standard_normal(output.shape)
    d_x, gradients = backward(dy, True)
    assert d_x is not None
    assert_layer_gradients(layer, x, [d_x, *gradients], lambda: float(np.sum(dy * run()[0])))
    _, backward = run()
    none, again = backward(dy, False)
    assert none is None
    assert_same(again, gradients)
    layer.trainable = False
    _, backward = run()
    assert backward(dy, True)[1] == []


def test_gradients_do_not_depend_on_threads() -> None:
    x = np.random.default_rng(0).standard_normal((16, 12, 24)).astype(np.float32)
    before, found = get_num_threads(), []
    try:
        for threads in (1, 2):
            set_num_threads(threads)
            layer = make_layer(
                32, 24, dtype="float32", num_layers=2, proj_size=16, peepholes=True, dropout=0.3,
                recurrent_dropout=0.2, zoneout=0.1,
            )  # fmt: skip
            output, backward = layer.vjp(x)
            found.append([output, *flat(backward(np.ones_like(output), True))])
    finally:
        set_num_threads(before)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_changes_every_weight(variant: str) -> None:
    set_random_seed(0)
    layer = LSTM(6, num_layers=2, seed=1, **{**VARIANTS[variant], "activation": "tanh"})
    # So many features that none of the sequences loses all: the normalisation would blow up what
    # units that are all alike have left.
    model = Sequential([Input((T, 16)), layer, Dense(1, seed=2)])
    model.compile(Adam(0.02), "mse")
    x = np.random.default_rng(0).standard_normal((64, T, 16))
    before = layer.get_weights()
    history = model.fit(x, x.mean(axis=(1, 2))[:, None], epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    for name, old, new in zip(layer.weight_names, before, layer.weights, strict=True):
        assert not np.array_equal(old, new), name


# ---- states ----


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("variant", ["plain", "projection", "layer_norm", "zoneout"])
def test_a_stateful_layer_keeps_its_state_through_masks(variant: str, num_layers: int) -> None:
    layer = make_layer(
        H, F, stateful=True, return_state=True, num_layers=num_layers, **VARIANTS[variant]
    )
    x, rng = inputs(steps=7), np.random.default_rng(2)
    given = draw_steps(rng, B, 7, "mask, reset")
    whole = layer(x, **given)
    assert layer.state is not None
    assert_same(layer.state, whole[1:])
    layer.reset_state()
    layer(x[:, :3], **{name: steps[:, :3] for name, steps in given.items()})
    parts = layer(x[:, 3:], **{name: steps[:, 3:] for name, steps in given.items()})
    assert_same(parts[1:], whole[1:])
    layer.reset_state()
    layer.vjp(x[:, :3], False, given["mask"][:, :3], reset=given["reset"][:, :3])
    layer.vjp(x[:, 3:], False, given["mask"][:, 3:], reset=given["reset"][:, 3:])
    assert_same(layer.state, whole[1:])
    kept = layer.state
    given_state = states_for(layer)
    want = by_reference(layer, x, initial_state=given_state)
    assert_same(layer(x, initial_state=given_state)[1:], want.states)
    assert_same(layer.state, want.states)
    assert not np.array_equal(flat(kept)[0], flat(layer.state)[0])


# ---- streams ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stream_gives_the_bits_of_the_sequence(variant: str, num_layers: int, dtype: str) -> None:
    layer = make_layer(
        H, F, dtype=dtype, num_layers=num_layers, return_sequences=True, return_state=True,
        **VARIANTS[variant],
    )  # fmt: skip
    x = inputs(dtype=dtype)
    whole, *states = layer(x)
    stream = layer.stream(B)
    assert isinstance(stream, Stream if num_layers == 1 else ModelStream)
    out = np.empty((B, layer.output_size), dtype)
    for t in range(T):
        if t == 2:
            stream = copy.deepcopy(stream)
        elif t == 3:
            stream = pickle.loads(pickle.dumps(stream))
        assert stream.step(x[:, t], out) is out
        np.testing.assert_array_equal(out, whole[:, t])
    for a, b in zip(flat(stream.state), states, strict=True):
        np.testing.assert_array_equal(a, b)
    before = stream.state
    stream.reset([0])
    for a, b in zip(flat(stream.state), flat(before), strict=True):
        assert not a[0].any()
        np.testing.assert_array_equal(a[1:], b[1:])
    stream.state = before
    assert_same(stream.state, before)


def test_a_model_streams_through_layers_on_top_of_each_other() -> None:
    layers = [
        Input((None, F)),
        LSTM(H, num_layers=2, return_sequences=True, proj_size=2),
        LSTM(3, peepholes=True),
        Dense(2),
    ]
    model = Sequential(layers)
    x = inputs(dtype=np.float32)
    stream = model.stream(B)
    for t in range(T):
        y = stream.step(x[:, t])
    np.testing.assert_array_equal(y, model.predict(x, verbose=0))
    assert [h.shape for h, _ in stream.state] == [(B, 2), (B, 2), (B, 3)]
    assert [c.shape for _, c in stream.state] == [(B, 4), (B, 4), (B, 3)]


# ---- small weights ----


# Without cells that grow, and with them what small weights cost.
@pytest.mark.parametrize("variant", [v for v in VARIANTS if "norm" not in v and v != "linear"])
def test_small_weights_are_for_calls_and_full_ones_for_training(variant: str) -> None:
    options = dict(VARIANTS[variant], return_sequences=True, num_layers=2, dtype="float32")
    full, small = (make_layer(32, F, **options, weights_dtype=kind) for kind in (None, "bfloat16"))
    x = inputs(dtype=np.float32)
    rough = small(x)
    assert_no_slip(rough.astype(np.float16), full(x).astype(np.float16), variant)
    assert not np.array_equal(rough, full(x))
    for layer in (full, small):
        layer._generator = np.random.default_rng(3)
    np.testing.assert_array_equal(small(x, training=True), full(x, training=True))
    (y, backward), (want, want_backward) = small.vjp(x), full.vjp(x)
    np.testing.assert_array_equal(y, want)
    for a, b in zip(backward(y, False)[1], want_backward(y, False)[1], strict=True):
        np.testing.assert_array_equal(a, b)
