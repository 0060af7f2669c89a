"""Layers and models with variants of the cell on a pretended CUDA device, beside the CPU."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import device_support
from device_support import MASK, B, CupyArray, H, I, T, X, Y, host, make_variants, to_device
from lstm_ext import LSTM, Bidirectional, Dense, Input, Sequential, set_random_seed
from lstm_ext.models import load_model
from support import assert_as_accurate, assert_no_slip, assert_same_bits

Array = NDArray[Any]

pytestmark = pytest.mark.usefixtures("device")

_rng = np.random.default_rng(13)
LENGTHS = np.array([T, 0, 1, 2, 3, T])
RESET = _rng.random((B, T)) < 0.3
VARIANTS: dict[str, dict[str, Any]] = {
    "activations": {"activation": ("elu", 0.7), "recurrent_activation": "hard_sigmoid"},
    "output_activation": {"output_activation": "softsign"},
    "clips": {"clip": 0.8, "cell_clip": 0.5},
    "input_forget": {"input_forget": True},
    "peepholes": {"peepholes": True},
    "zoneout": {"zoneout": 0.3},
    "cell_zoneout, peepholes": {"cell_zoneout": 0.2, "peepholes": True},
    "projection": {"proj_size": 2},
    "projection, zoneout": {"proj_size": 7, "zoneout": 0.3, "peepholes": True},
    "peepholes, clip": {"peepholes": True, "clip": 0.8, "use_bias": False},
}
SLOTS: dict[str, dict[str, Array]] = {
    "": {},
    "mask+reset": {"mask": MASK, "reset": RESET},
    "lengths": {"lengths": LENGTHS},
}


def there(options: dict[str, Any]) -> dict[str, Any]:
    return {k: to_device(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}


def pair(**options: Any) -> tuple[LSTM, LSTM]:
    """The same layer on the CPU and on the device, its weights none that a new layer has."""
    ours = LSTM(H, seed=1, **options)
    ours.build((None, None, I))
    rng = np.random.default_rng(4)
    ours.set_weights([w + 0.3 * rng.standard_normal(w.shape) for w in ours.get_weights()])
    return ours, copy.deepcopy(ours).to_device("cuda")


def compare(found: Any, expected: Any, name: str = "") -> None:
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert isinstance(a, CupyArray)
        assert_no_slip(host(a), b, f"{name} {index}")


def compare_gradients(ours: Any, theirs: Any, **options: Any) -> None:
    output, back = ours.vjp(X, **options)
    output_there, back_there = theirs.vjp(to_device(X), **there(options))
    compare([output_there], [output], "vjp")
    dy = _rng.standard_normal(output.shape).astype(np.float32)
    d_x, gradients = back(dy, True)
    d_x_there, gradients_there = back_there(to_device(dy), True)
    compare([d_x_there, *gradients_there], [d_x, *gradients], "gradients")


@pytest.mark.parametrize("slots", list(SLOTS))
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_a_layer(variant: str, num_layers: int, go_backwards: bool, slots: str) -> None:
    ours, theirs = pair(
        return_sequences=True, return_state=True, go_backwards=go_backwards, num_layers=num_layers,
        dropout=0.3, recurrent_dropout=0.2, **VARIANTS[variant],
    )  # fmt: skip
    options = SLOTS[slots]
    compare(theirs(to_device(X), **there(options)), ours(X, **options), "results")
    compare_gradients(ours, theirs, **options)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_gates(variant: str, num_layers: int) -> None:
    ours, theirs = pair(num_layers=num_layers, **VARIANTS[variant])
    output, gates = ours(X, return_gates=True, mask=MASK)
    output_there, gates_there = theirs(to_device(X), return_gates=True, mask=to_device(MASK))
    compare([output_there], [output])
    every, every_there = ([g] if num_layers == 1 else g for g in (gates, gates_there))
    for own, own_there in zip(every, every_there, strict=True):
        compare(own_there, own, "gates")


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_bidirectional(variant: str) -> None:
    options = {"return_sequences": True, "stateful": True, **VARIANTS[variant]}
    forward, _ = pair(**options)
    ours = Bidirectional(forward, backward_layer=pair(**options, go_backwards=True)[0])
    ours.build((None, None, I))
    theirs = copy.deepcopy(ours).to_device("cuda")
    for _ in range(2):  # the second from the state of the first
        compare([theirs(to_device(X), mask=to_device(MASK))], [ours(X, mask=MASK)])
        compare_gradients(ours, theirs)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_a_state_moves_along(variant: str) -> None:
    ours, theirs = pair(stateful=True, return_state=True, **VARIANTS[variant])
    compare(theirs(to_device(X)), ours(X), "the first call")
    compare(theirs(to_device(X)), ours(X), "the second")
    theirs.to_device("cpu")
    for a, b in zip(theirs(X), ours(X), strict=True):
        assert_no_slip(a, b, "back")


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_a_stream_gives_the_sequence(variant: str, num_layers: int) -> None:
    ours, theirs = pair(return_sequences=True, num_layers=num_layers, **VARIANTS[variant])
    stream, x = theirs.stream(B), to_device(X)
    device_support.waits = 0
    steps = [stream.step(x[:, t]) for t in range(T // 2)]
    assert device_support.waits == 0
    stream = pickle.loads(pickle.dumps(copy.copy(stream)))
    steps += [stream.step(x[:, t]) for t in range(T // 2, T)]
    assert_no_slip(np.stack([host(step) for step in steps], axis=1), ours(X), "steps")


def fitted(model: Sequential, x: Any, y: Any) -> list[Array]:
    set_random_seed(7)
    model.fit(x, y, epochs=3, batch_size=4, verbose=0)
    return [*model.get_weights(), host(model.predict(x, verbose=0))]


def test_fit_is_that_of_numpy(tmp_path: Path) -> None:
    exact = fitted(make_variants("float64"), X.astype(np.float64), Y.astype(np.float64))
    ours = fitted(make_variants(), X, Y)
    model = make_variants().to_device("cuda")
    found = fitted(model, to_device(X), to_device(Y))
    assert_as_accurate(found, ours, exact, "fit")
    model.save(tmp_path / "model.safetensors")
    back = load_model(tmp_path / "model.safetensors")
    assert_same_bits(back.get_weights(), found[:-1])
    assert_no_slip(back.predict(X, verbose=0), found[-1], "back")


def test_a_step_waits_for_nothing() -> None:
    model = make_variants().to_device("cuda")
    waits = []
    for batch_size in (1, B):
        device_support.waits = 0
        model.fit(to_device(X), to_device(Y), batch_size=batch_size, verbose=0)
        waits.append(device_support.waits)
    assert waits[0] == waits[1] <= 4


def test_a_model_streams() -> None:
    options = {"seed": 1, "clip": 0.8, "return_sequences": True}
    model = Sequential([Input((T, I)), LSTM(H, **options), Dense(2, seed=3)]).to_device("cuda")
    expected = host(model.predict(to_device(X), verbose=0))
    stream = model.stream(B)
    steps = [host(stream.step(to_device(X[:, t]))) for t in range(T)]
    assert_no_slip(np.stack(steps, axis=1), expected, "steps")
