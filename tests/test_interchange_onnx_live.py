"""Random nodes and models beside ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from interchange_support import (
    Comparison,
    layers_of,
    run_bidirectional,
    run_lstm,
)
from lstm_ext import (
    LSTM,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Sequential,
    from_onnx,
    reference,
    to_onnx,
)
from onnx_support import ACTIVATIONS, random_node, session
from support import Array, assert_as_accurate

onnx = pytest.importorskip("onnx", reason="onnx is not installed")


def run_node(layer: Any, x: Array, dtype: Any, **call: Any) -> list[Array]:
    """Return what the reference makes of a node: output and the states of its directions."""
    run = run_bidirectional if isinstance(layer, Bidirectional) else run_lstm
    return list(run(layer, x, dtype, reference.lstm, **call))


def with_reset(lengths: Array, steps: int) -> dict[str, Array]:
    """Return lengths, and what zeroes the state where there is no step, as ONNX Runtime does."""
    return {"lengths": lengths, "reset": np.repeat(lengths[:, None] == 0, steps, axis=1)}


@pytest.mark.live
def test_random_nodes_of_onnx() -> None:
    """Single nodes with everything: directions, peepholes, activations, lengths, states."""
    comparison = Comparison()
    for seed in range(250):
        rng = np.random.default_rng([10, seed])
        model, inputs = random_node(rng)
        layer = from_onnx(model, node="lstm")
        y, h, c = session(model).run(None, inputs)
        x = inputs["x"].swapaxes(0, 1)
        call: dict[str, Any] = {}
        if "lens" in inputs:
            call |= with_reset(inputs["lens"], x.shape[1])
        if "h0" in inputs:
            states = zip(inputs["h0"], inputs["c0"], strict=True)
            call["initial_state"] = [state for pair in states for state in pair]
        for inner in (layer, *layer.inner_layers):
            inner.return_state = True
        actual = layer(x, **call)
        y = np.concatenate(list(y.transpose(1, 2, 0, 3)), axis=-1)  # (D, B, T, H), side by side
        backwards = isinstance(layer, LSTM) and layer.go_backwards
        expected = [y[:, ::-1] if backwards else y]
        expected += [state for pair in zip(h, c, strict=True) for state in pair]
        plain, exact = (run_node(layer, x, dtype, **call) for dtype in (np.float32, np.float64))
        for results in zip(actual, plain, exact, expected, strict=True):
            comparison.add_single(*results)
    comparison.finish()


# What a layer of ours can have that ONNX has too.
NAMES = [
    "tanh", "sigmoid", "linear", "relu", ("leaky_relu", 0.3), "hard_sigmoid", "softplus",
    "softsign", "elu", ("elu", 0.7), ("affine", 0.7, 0.1), ("scaled_tanh", 1.2, 0.8),
    ("thresholded_relu", 0.4),
]  # fmt: skip


def random_cell(rng: np.random.Generator) -> dict[str, Any]:
    """Draw arguments of an LSTM; weights are small where a cell may grow."""
    options: dict[str, Any] = {
        "use_bias": bool(rng.integers(2)),
        "peepholes": bool(rng.integers(2)),
    }
    if rng.integers(2):
        options["clip"] = round(float(rng.uniform(0.3, 3)), 2)
    options["input_forget"] = bool(rng.integers(4) == 0)
    if rng.integers(2):
        for name in ("activation", "recurrent_activation", "output_activation"):
            options[name] = NAMES[rng.integers(len(NAMES))]
    return options


def random_lstm(rng: np.random.Generator, last: bool, lengths: bool) -> Any:
    """Draw an LSTM or a Bidirectional, at times of two different layers."""
    units = int(rng.integers(1, 12))
    sequences = not last or bool(rng.integers(2))
    options = {"return_sequences": sequences, **random_cell(rng)}
    if rng.integers(2):
        mode = ("concat", "sum", "mul", "ave")[rng.integers(4)]
        layer, other = LSTM(units, **options), None
        if rng.integers(2):
            again = (
                options if rng.integers(2) else {**random_cell(rng), "return_sequences": sequences}
            )
            others = int(rng.integers(1, 12)) if mode == "concat" else units
            other = LSTM(others, go_backwards=True, **again)
        return Bidirectional(layer, mode, backward_layer=other)
    layers = int(rng.integers(1, 3))
    return LSTM(
        units,
        go_backwards=bool(rng.integers(2)) and not (lengths and layers > 1),
        zero_output_for_mask=sequences and lengths,
        num_layers=layers,
        **options,
    )


def random_model(rng: np.random.Generator, lengths: bool) -> Sequential:
    layers: list[Any] = []
    words = bool(rng.integers(4) == 0) and not lengths
    if words:
        layers.append(Embedding(9, 4))
    count = int(rng.integers(1, 4))
    for index in range(count):
        layers.append(random_lstm(rng, index == count - 1, lengths))
        if rng.integers(3) == 0:
            layers.append(Dropout(0.5))
        if rng.integers(2) and not lengths:
            name = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
            layers.append(Dense(int(rng.integers(1, 9)), name, bias_initializer="normal"))
    model = Sequential(layers)
    model.build((None, None) if words else (None, None, int(rng.integers(1, 9))))
    scale = 0.3
    model.set_weights([rng.normal(0, scale, w.shape) for w in model.weights])
    return model


@pytest.mark.live
@pytest.mark.parametrize("lengths", [False, True])
def test_the_runtime_computes_what_was_written(lengths: bool) -> None:
    """Random models, of random batches and lengths, there and back."""
    comparison = Comparison()
    for seed in range(200):
        rng = np.random.default_rng([11, seed])
        model = random_model(rng, lengths)
        proto = to_onnx(model, sequence_lens=lengths)
        onnx.checker.check_model(proto, full_check=True)
        again = from_onnx(proto)
        assert layers_of(again)[0].name == model.layers[0].name
        assert_same_weights(again, model)
        run = session(proto)
        for _ in range(2):
            batch, steps = (int(n) for n in rng.integers(1, 6, 2))
            assert model.input_shape is not None
            if len(model.input_shape) == 2:
                x = rng.integers(0, 9, (batch, steps))
            else:
                x = rng.normal(size=(batch, steps, model.input_shape[2])).astype(np.float32)
            given, mask = {"x": x}, None
            if lengths:
                given["sequence_lens"] = rng.integers(0, steps + 1, batch).astype(np.int32)
                mask = np.arange(steps) < given["sequence_lens"][:, None]
            expected = run.run(["output"], given)[0]
            np.testing.assert_array_equal(again(x, mask=mask), model(x, mask=mask))
            comparison.add(again, x, expected, mask)
    comparison.finish()


def assert_same_weights(again: Any, model: Sequential) -> None:
    """Assert that the bits of all weights are the same, in however many layers."""
    ours = [w for layer in layers_of(again) for w in layer.weights]
    assert [w.tobytes() for w in ours] == [w.tobytes() for w in model.weights]


@pytest.mark.live
@pytest.mark.parametrize("both_ways", [False, True])
def test_the_runtime_goes_on_from_a_state(both_ways: bool) -> None:
    layer: Any = LSTM(5, return_sequences=True, return_state=True, peepholes=True)
    if both_ways:
        layer = Bidirectional(layer)
    layer.build((None, None, 3))
    layer.set_weights([np.random.default_rng(1).normal(0, 0.5, w.shape) for w in layer.weights])
    run = session(to_onnx(layer))
    x = np.random.default_rng(0).normal(size=(40, 7, 3)).astype(np.float32)
    names = ["output", "final_h", "final_c"]
    _, h, c = run.run(names, {"x": x[:, :3]})
    y, *state = run.run(names, {"x": x[:, 3:], "initial_h": h, "initial_c": c})
    given = [s for pair in zip(h, c, strict=True) for s in pair]
    expected = [y, *(s for pair in zip(*state, strict=True) for s in pair)]
    actual = layer(x[:, 3:], initial_state=given)
    plain, exact = (
        run_node(layer, x[:, 3:], dtype, initial_state=given) for dtype in (np.float32, np.float64)
    )
    assert_as_accurate(expected, plain, exact, "the runtime", factor=4)
    assert_as_accurate(actual, plain, exact, "ours", factor=4)
