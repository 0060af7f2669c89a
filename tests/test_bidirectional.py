"""Two LSTMs in two directions: results, merging, weights, states and configurations."""

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
    B,
    F,
    H,
    T,
    assert_same,
    bidirectional_by_reference,
    draw_steps,
    inputs,
    make_bidirectional,
)
from lstm_ext import LSTM, Bidirectional, Sequential

MERGE_MODES = ["concat", "sum", "mul", "ave", None]


@pytest.mark.parametrize("merge_mode", MERGE_MODES)
def test_results_are_the_references(merge_mode: str | None) -> None:
    for seed, variant in enumerate(VARIANTS):
        rng = np.random.default_rng(seed)
        layer = make_bidirectional(
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
        layer = make_bidirectional(
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
    layer = make_bidirectional(return_sequences=True)
    y = layer(inputs(), mask=mask)
    assert not y[:, [1, 3, 4]].any() and y[:, [0, 2]].all()
    last = make_bidirectional(return_sequences=False, zero_output_for_mask=True)
    assert last(inputs(), mask=mask).all()
    for inner in last.inner_layers:
        assert isinstance(inner, LSTM) and not inner.zero_output_for_mask


def test_what_a_call_returns() -> None:
    x = inputs()
    assert make_bidirectional(return_sequences=True)(x).shape == (B, T, 2 * H)
    assert make_bidirectional("sum")(x).shape == (B, H)
    first, second = make_bidirectional(None, return_sequences=True)(x)
    assert first.shape == second.shape == (B, T, H)
    results = make_bidirectional("ave", return_state=True)(x)
    assert [a.shape for a in results] == [(B, H)] * 5
    results = make_bidirectional(None, return_state=True, proj_size=2)(x)
    assert [a.shape for a in results] == [(B, 2), (B, 2), (B, 2), (B, H), (B, 2), (B, H)]
    shape = (None, 7, F)
    assert make_bidirectional(return_sequences=True).compute_output_shape(shape) == (None, 7, 2 * H)
    assert make_bidirectional("mul", proj_size=2).compute_output_shape(shape) == (None, 2)
    assert make_bidirectional(None).compute_output_shape(shape) == ((None, H), (None, H))


def test_results_are_the_callers_to_change() -> None:
    for merge_mode in MERGE_MODES:
        layer = make_bidirectional(merge_mode, stateful=True, return_state=True)
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
    layer = make_bidirectional(
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
    layer = make_bidirectional()
    layer(inputs())
    other = how(layer)
    np.testing.assert_array_equal(other(inputs()), layer(inputs()))
    other.set_weights([w + 1 for w in other.get_weights()])
    np.testing.assert_array_equal(other.forward_layer.kernel, layer.forward_layer.kernel + 1)
    assert not np.array_equal(other(inputs()), layer(inputs()))


# ---- state ----


def test_a_stateful_layer_keeps_both_states() -> None:
    layer = make_bidirectional(stateful=True, return_state=True)
    x = inputs()
    assert layer.state is None
    first = layer(x)
    assert_same(layer.state or (), first[1:])
    second = layer(x)
    want = make_bidirectional(return_state=True)(x, initial_state=first[1:])
    assert_same(second, want)
    layer.vjp(x)
    assert_same(
        layer.state or (), make_bidirectional(return_state=True)(x, initial_state=second[1:])[1:]
    )
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
    layer = make_bidirectional(backward={}, stateful=True, return_state=True)
    x = inputs()
    _, h, c = layer.backward_layer(x)
    zeros = np.zeros((B, H))
    want = make_bidirectional(backward={}, return_state=True)(x, initial_state=(zeros, zeros, h, c))
    assert_same(layer(x), want)
