"""For tests of LSTM layers: what they can have, and what the reference makes of their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from lstm_ext import LSTM, Bidirectional, functional, reference
from lstm_ext.variants import LayerNorm, Noise
from support import Array, assert_gradients_match_central_differences

# Batch, time, features and units of most layers.
B, T, F, H = 4, 5, 3, 4

# What an LSTM layer can have, alone and together.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no bias": {"use_bias": False},
    "activations": {
        "activation": ("elu", 0.7), "recurrent_activation": "hard_sigmoid",
        "output_activation": ("scaled_tanh", 1.1, 0.6),
    },
    "linear": {"activation": None, "cell_clip": 2.0},
    "clip": {"clip": 0.8},
    "cell_clip": {"cell_clip": 0.5},
    "input_forget": {"input_forget": True},
    "peepholes": {"peepholes": True},
    "projection": {"proj_size": 2},
    "layer_norm": {"layer_norm": True},
    "zoneout": {"zoneout": 0.3, "cell_zoneout": 0.2},
    "dropout": {"dropout": 0.4, "recurrent_dropout": 0.3},
    "layer_norm, dropout": {"layer_norm": True, "dropout": 0.4, "recurrent_dropout": 0.3},
    "everything": {
        "peepholes": True, "proj_size": 2, "clip": 1.1, "cell_clip": 0.7, "input_forget": True,
        "zoneout": 0.3, "cell_zoneout": 0.2, "dropout": 0.3, "recurrent_dropout": 0.3,
        "activation": "softsign", "recurrent_activation": "gelu", "output_activation": "tanh",
    },
}  # fmt: skip
NOISE = ("dropout", "recurrent_dropout", "zoneout", "cell_zoneout")

NORM = LayerNorm._fields


def make_layer(
    units: int, input_size: int, *, seed: int = 0, dtype: str = "float64", **options: Any
) -> LSTM:
    """Return a built layer with random weights, none of them at its initial value."""
    layer = LSTM(units, dtype=dtype, seed=seed, **options)
    layer.build((None, None, input_size))
    draw_weights(layer, seed)
    return layer


def draw_weights(layer: Any, seed: int = 0) -> None:
    rng = np.random.default_rng([seed, 5])
    layer.set_weights([rng.normal(0, 0.6, w.shape) for w in layer.weights])


def operands(layer: LSTM, dtype: Any = np.float64) -> list[tuple[list[Any], dict[str, Any]]]:
    """Return the weights of each of the layers in it, as the reference takes them."""
    named = {
        name: weight.astype(dtype)
        for name, weight in zip(layer.weight_names, layer.weights, strict=True)
    }
    result = []
    for index in range(layer.num_layers):
        end = f"_l{index}" if index else ""
        plain = [named.get(f"{name}{end}") for name in ("kernel", "recurrent_kernel", "bias")]
        options: dict[str, Any] = {
            name: named.get(f"{name}{end}") for name in ("peephole", "projection_kernel")
        }
        if layer.layer_norm:
            options["layer_norm"] = LayerNorm(*(named[f"{name}{end}"] for name in NORM))
        result.append((plain, {**options, "cell": layer.cell}))
    return result


class Found(NamedTuple):
    """What the reference computes: the output, the states and the gates of every layer."""

    output: Array
    states: list[tuple[Array, Array]]
    gates: list[Any]


def by_reference(
    layer: LSTM,
    x: Array,
    dtype: Any = np.float64,
    *,
    initial_state: Sequence[Any] | None = None,
    noise: Sequence[Noise] | None = None,
    mask: Array | None = None,
    lengths: Array | None = None,
    reset: Array | None = None,
) -> Found:
    """Run the layers in a layer one after the other, each by the reference."""
    backwards = layer.go_backwards
    if layer.num_layers == 1 and initial_state is not None:
        initial_state = [initial_state]
    states, gates = [], []
    x = x.astype(dtype)
    for index, (plain, options) in enumerate(operands(layer, dtype)):
        last = index == layer.num_layers - 1
        x, h, c, values = reference.lstm(
            x, *plain, **options, return_gates=True, mask=mask, lengths=lengths, reset=reset,
            initial_state=None
            if initial_state is None
            else tuple(np.asarray(a, dtype) for a in initial_state[index]),
            noise=None if noise is None else cast_noise(noise[index], dtype),
            go_backwards=backwards,
            return_sequences=layer.return_sequences or not last,
            zero_output_for_mask=layer.zero_output_for_mask and last,
        )  # fmt: skip
        states.append((h, c))
        gates.append(values)
        if backwards:  # what the layers above read stands in the order of reading
            backwards = False
            if lengths is not None:
                mask, lengths = np.arange(x.shape[1]) < lengths[:, None], None
            mask, reset = (None if a is None else a[:, ::-1] for a in (mask, reset))
    return Found(x, states, gates)


def bidirectional_by_reference(
    layer: Bidirectional,
    x: Array,
    dtype: Any = np.float64,
    *,
    initial_state: Any = None,
    **steps: Any,
) -> tuple[list[Array], list[Array]]:
    """Return the outputs, merged or both, and the states."""
    halves = (None, None) if initial_state is None else (initial_state[:2], initial_state[2:])
    forward, backward = (
        by_reference(inner, x, dtype, initial_state=state, **steps)
        for inner, state in zip((layer.forward_layer, layer.backward_layer), halves, strict=True)
    )
    y, y_back = forward.output, backward.output
    if layer.return_sequences:
        y_back = y_back[:, ::-1]
    merged = {
        "concat": lambda: [np.concatenate([y, y_back], -1)], "sum": lambda: [y + y_back],
        "mul": lambda: [y * y_back], "ave": lambda: [(y + y_back) / 2], None: lambda: [y, y_back],
    }[layer.merge_mode]()  # fmt: skip
    return merged, [*forward.states[0], *backward.states[0]]


def cast_noise(noise: Noise | None, dtype: Any) -> Noise | None:
    if noise is None:
        return None
    factors = (None if a is None else np.asarray(a, dtype) for a in noise[:2])
    return Noise(*factors, *noise[2:])


def assert_layer_gradients(
    layer: Any, x: Array, gradients: Sequence[Array], loss: Callable[[], float]
) -> None:
    """Assert that the gradients of x and of a layer's weights are those of a loss that reads them.

    All of them are one argument: where a gradient is zero, rounding is all that a difference shows.
    """
    parts = [x, *layer.get_weights()]
    assert [g.shape for g in gradients] == [part.shape for part in parts]
    everything = np.concatenate([part.ravel() for part in parts])
    ends = np.cumsum([part.size for part in parts])[:-1]

    def whole() -> float:
        values = [
            value.reshape(part.shape)
            for value, part in zip(np.split(everything, ends), parts, strict=True)
        ]
        x[...] = values[0]
        layer.set_weights(values[1:])
        return loss()

    assert_gradients_match_central_differences(
        whole, [everything], [np.concatenate([np.ravel(g) for g in gradients])]
    )
    whole()


class NoiseRecord:
    """Takes down the noise that layers give to the operator."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drawn: list[Any] = []
        for name in ("lstm", "lstm_vjp", "bidirectional", "bidirectional_vjp"):
            monkeypatch.setattr(functional, name, self._listening(getattr(functional, name)))

    def _listening(self, function: Any) -> Any:
        def call(*args: Any, noise: Any = None, **options: Any) -> Any:
            self.drawn.append(noise)
            return function(*args, noise=noise, **options)

        return call

    def take(self) -> list[Any]:
        """Return what was drawn since the last time."""
        taken, self.drawn = self.drawn, []
        return taken


def draw_steps(rng: np.random.Generator, batch: int, steps: int, kind: str) -> dict[str, Array]:
    """Draw which steps count and where the state is reset."""
    given: dict[str, Array] = {}
    if "mask" in kind:
        given["mask"] = rng.random((batch, steps)) < 0.6
    if "lengths" in kind:
        given["lengths"] = rng.integers(0, steps + 1, batch)
    if "reset" in kind:
        given["reset"] = rng.random((batch, steps)) < 0.3
    return given


STEPS = ["all", "mask", "lengths", "reset", "mask, reset", "lengths, reset"]


def inputs(seed: int = 0, dtype: Any = np.float64, steps: int = T) -> Array:
    return np.random.default_rng([seed, 1]).standard_normal((B, steps, F)).astype(dtype)


def states_for(layer: LSTM, seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, 2])
    pairs = [
        (rng.standard_normal((B, layer.output_size)), rng.standard_normal((B, layer.units)))
        for _ in range(layer.num_layers)
    ]
    return pairs[0] if layer.num_layers == 1 else pairs


def flat(results: Any) -> list[Array]:
    """Return all arrays in nested tuples and lists, in order."""
    if isinstance(results, np.ndarray):
        return [results]
    return [array for part in results for array in flat(part)]


def assert_same(actual: Any, expected: Any) -> None:
    for index, (a, e) in enumerate(zip(flat(actual), flat(expected), strict=True)):
        assert a.shape == e.shape, (index, a.shape, e.shape)
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-13, err_msg=str(index))


def noisy(seed: int = 1, **options: Any) -> LSTM:
    rates = {"dropout": 0.4, "recurrent_dropout": 0.3, "zoneout": 0.2, "cell_zoneout": 0.5}
    return make_layer(H, F, seed=seed, **{**rates, **options})


def make_bidirectional(
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
