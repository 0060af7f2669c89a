"""Arguments and calls that LSTM layers refuse, and change nothing by."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from layer_support import B, F, H, T, assert_same, inputs, make_layer, noisy
from lstm_ext import LSTM


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"activation": "tanhh"}, ValueError, "^activation: got 'tanhh', expected one of affine"),
        ({"activation": "softmax"}, ValueError, "^activation: got 'softmax', expected one of"),
        ({"activation": ("relu", 1)}, ValueError, "^activation: .*at most 0 numbers for relu"),
        ({"activation": ("elu", "a")}, TypeError, "^activation: .*expected numbers after the name"),
        ({"recurrent_activation": 3}, TypeError, "^recurrent_activation: got 3, expected a name"),
        ({"output_activation": ()}, TypeError, r"^output_activation: got \(\), expected a name"),
        ({"activation": np.tanh}, TypeError, "^activation: got <ufunc"),
        ({"dropout": 1.5}, ValueError, "^dropout: got 1.5, expected 0 to 1"),
        ({"dropout": True}, TypeError, "^dropout: got True"),
        ({"recurrent_dropout": "a"}, TypeError, "^recurrent_dropout: got 'a'"),
        ({"zoneout": -0.1}, ValueError, "^zoneout: got -0.1"),
        ({"cell_zoneout": 2}, ValueError, "^cell_zoneout: got 2"),
        ({"clip": 0}, ValueError, "^clip: got 0, expected a finite number, above 0"),
        ({"cell_clip": -1}, ValueError, "^cell_clip: got -1"),
        ({"clip": np.inf}, ValueError, "^clip: got inf"),
        ({"proj_size": 0}, ValueError, "^proj_size: got 0, expected a positive integer"),
        ({"num_layers": 0}, ValueError, "^num_layers: got 0"),
        ({"num_layers": 5000}, ValueError, "^num_layers: got 5000, expected at most 4096"),
        ({"num_layers": 1.5}, TypeError, "^num_layers: got 1.5"),
        ({"implementation": 3}, ValueError, "^implementation: got 3"),
        ({"seed": -1}, ValueError, "^seed: got -1"),
        ({"seed": 1.5}, TypeError, "^seed: got 1.5"),
        ({"kernel_constraint": "x"}, NotImplementedError, "kernel_constraint='x'"),
        ({"recurrent_regularizer": "l2"}, NotImplementedError, "recurrent_regularizer='l2'"),
        *[
            ({"layer_norm": True, name: value}, ValueError, f"^{name}: got .* beside layer_norm")
            for name, value in {
                "peepholes": True, "proj_size": 2, "clip": 1.0, "cell_clip": 1.0,
                "input_forget": True, "zoneout": 0.1, "cell_zoneout": 0.1, "weights_dtype": "int8",
            }.items()
        ],
    ],
)  # fmt: skip
def test_bad_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LSTM(3, **options)


def test_a_normalised_layer_has_no_small_weights() -> None:
    layer = make_layer(H, F, layer_norm=True, dtype="float32")
    with pytest.raises(ValueError, match="mode: got 'int8' beside layer_norm"):
        layer.quantize("int8")
    with pytest.raises(ValueError, match="weights_dtype: got 'bfloat16' beside layer_norm"):
        layer.weights_dtype = "bfloat16"
    assert layer.weights_dtype == "float32"


def bad_calls(num_layers: int) -> list[tuple[dict[str, Any], type[Exception], str]]:
    pair = np.zeros((B, H)), np.zeros((B, H))
    state: list[tuple[Any, str]] = [
        ([pair[0]], r"initial_state: got 1 values, expected "),
        (5, r"initial_state: got 5, expected "),
    ]
    if num_layers == 1:
        state.append(((pair[0], pair[1][:2]), r"initial_state\[1\]: got shape \(2, 4\)"))
        state.append(([pair, pair, pair], r"initial_state: got 3 values, expected a pair"))
    else:
        state.append(
            ([pair, (pair[0], pair[1][:2])], r"initial_state\[1\]\[1\]: got shape \(2, 4\)")
        )
        state.append(
            ([pair, pair[0][:3]], r"initial_state\[1\]: got an array of shape .*, expected a pair")
        )
        state.append((pair, r"initial_state\[0\]: got an array of shape .*, expected a pair"))
    return [
        ({"mask": np.ones((B, T + 1), bool)}, ValueError, r"mask: got shape \(4, 6\)"),
        ({"mask": np.ones(B, bool)}, ValueError, r"mask: got shape \(4,\)"),
        ({"reset": np.ones((B, 1), bool)}, ValueError, r"reset: got shape \(4, 1\)"),
        ({"lengths": [1, 2]}, ValueError, r"lengths: got shape \(2,\)"),
        ({"lengths": [1, 2, 3, T + 1]}, ValueError, "lengths: got "),
        ({"lengths": [1, 2, 3, -1]}, ValueError, "lengths: got "),
        ({"lengths": [1.0, 2, 3, 4]}, TypeError, "lengths: got "),
        ({"lengths": [1] * B, "mask": np.ones((B, T), bool)}, ValueError, "mask"),
        *(({"initial_state": given}, ValueError, message) for given, message in state),
    ]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_bad_calls_change_nothing(num_layers: int, training: bool) -> None:
    layer = noisy(num_layers=num_layers, stateful=True)
    x = inputs()
    layer(x)
    assert layer._generator is not None
    generator, state = copy.deepcopy(layer._generator.bit_generator.state), layer.state
    calls = bad_calls(num_layers)
    for given, error, message in calls:
        with pytest.raises(error, match=message):
            layer(x, training=training, **given)
        with pytest.raises(error, match=message):
            layer.vjp(x, training, **given)
    for bad in (x[..., :2], x[0]):
        with pytest.raises(ValueError, match="x: got shape"):
            layer(bad, training=training)
    with pytest.raises(ValueError, match="x: got 3 sequences, expected 4"):
        layer(x[:3], training=training)
    assert_same(layer.state, state)
    assert layer._generator.bit_generator.state == generator


def test_a_layer_with_several_layers_cannot_stream_backwards() -> None:
    layer = make_layer(H, F, num_layers=2, go_backwards=True)
    with pytest.raises(ValueError, match="go_backwards, expected a layer that reads forwards"):
        layer.stream()


def test_no_steps_and_no_sequences() -> None:
    for num_layers in (1, 2):
        for shape in ((0, T, F), (B, 0, F)):
            layer = make_layer(H, F, num_layers=num_layers, return_sequences=True, dropout=0.5)
            for training in (False, True):
                assert layer(np.zeros(shape), training=training).shape == (*shape[:2], H)
            layer = make_layer(H, F, num_layers=num_layers)
            assert layer(np.zeros(shape)).shape == (shape[0], H)
