"""Calls of layers with masks, directions and layers, by one native call: the operator's bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lstm_ext import LSTM, Bidirectional, _cpu, functional

Array = NDArray[Any]

PLAIN = [name for name in dir(_cpu) if name.startswith(("lstm_plain", "lstm_vjp_plain"))]

BATCH, TIME, FEATURES, UNITS = 5, 7, 6, 9


def slots(kind: str, rng: np.random.Generator) -> dict[str, Any]:
    """Return arguments that say which slots are steps."""
    mask = rng.random((BATCH, TIME)) < 0.6
    mask[0], mask[1], mask[2, [0, -1]] = False, True, [False, True]
    mask[3, [0, -1]] = [True, False]
    lengths = np.array([0, TIME, 3, 1, 5])
    return {
        "all": {},
        "mask": {"mask": mask},
        "full mask": {"mask": np.ones((BATCH, TIME), bool)},
        "turned mask": {"mask": mask[:, ::-1]},
        "lengths": {"lengths": lengths},
        "int32": {"lengths": lengths.astype(np.int32)},
        "list": {"lengths": lengths.tolist()},
        "reset": {"reset": rng.random((BATCH, TIME)) < 0.3},
        "both": {"mask": mask, "reset": rng.random((BATCH, TIME)) < 0.3},
    }[kind]


SLOTS = ["all", "mask", "full mask", "turned mask", "lengths", "int32", "list", "reset", "both"]
# Copied by the operator, as it is not contiguous.
NATIVE = [kind for kind in SLOTS if kind != "turned mask"]


def same(actual: Any, expected: Any) -> None:
    """Compare nested arrays bit by bit."""
    if isinstance(expected, (tuple, list)):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            same(one, other)
        return
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the native calls that were made and left it to the operator."""
    names: list[str] = []
    for name in PLAIN:
        native = getattr(_cpu, name)

        def call(*args: Any, name: str = name, native: Any = native) -> Any:
            result = native(*args)
            names.extend([name] if result is None else [])
            return result

        monkeypatch.setattr(_cpu, name, call)
    return names


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every native call leave it to the operator."""
    for name in PLAIN:
        monkeypatch.setattr(_cpu, name, lambda *_: None)


LAYERS = {
    "one": lambda **options: LSTM(UNITS, **options),
    "backwards": lambda **options: LSTM(UNITS, go_backwards=True, **options),
    "two layers": lambda **options: LSTM(UNITS, num_layers=2, **options),
    "cell": lambda **options: LSTM(UNITS, activation="relu", clip=1.5, **options),
    "projection": lambda **options: LSTM(UNITS, proj_size=4, peepholes=True, **options),
    "directions": lambda **options: Bidirectional(LSTM(UNITS, **options)),
    "sum": lambda **options: Bidirectional(LSTM(UNITS, **options), merge_mode="sum"),
    "small": lambda **options: LSTM(UNITS, weights_dtype="int8", **options),
}


def make(kind: str, sequences: bool, **options: Any) -> tuple[Any, Array]:
    rng = np.random.default_rng(3)
    layer = LAYERS[kind](return_sequences=sequences, seed=1, **options)
    x = rng.standard_normal((BATCH, TIME, FEATURES)).astype(layer.dtype)
    layer(x)
    layer.set_weights([rng.standard_normal(w.shape) * 0.4 for w in layer.get_weights()])
    return layer, x


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("kind", SLOTS)
@pytest.mark.parametrize("name", LAYERS)
def test_a_call_has_the_bits_of_the_operator(
    name: str, kind: str, sequences: bool, left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    for zero_output in [False, True]:
        layer, x = make(
            name, sequences, return_state=True, zero_output_for_mask=zero_output, dtype="float32"
        )
        given = slots(kind, rng)
        results = layer(x, **given)
        if kind in NATIVE:
            assert not left
        with monkeypatch.context() as patch:
            refuse(patch)
            same(results, layer(x, **given))


@pytest.mark.parametrize("kind", SLOTS)
@pytest.mark.parametrize("name", ["one", "two layers", "directions"])
def test_states_go_in_and_out(
    name: str, kind: str, left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    layer, x = make(name, True, stateful=True, return_state=True, dtype="float64")
    given = slots(kind, rng)
    sizes = [UNITS] * (2 if name == "one" else 4)
    initial: Any = [rng.standard_normal((BATCH, size)) for size in sizes]
    if name == "two layers":
        initial = [tuple(initial[:2]), tuple(initial[2:])]
    results = [layer(x, initial_state=initial, **given), layer(x, **given)]
    if kind in NATIVE:
        assert not left
    refuse(monkeypatch)
    layer.reset_state()
    same(results, [layer(x, initial_state=initial, **given), layer(x, **given)])


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("kind", SLOTS)
@pytest.mark.parametrize(
    "name", ["one", "backwards", "two layers", "cell", "projection", "directions", "sum"]
)
def test_gradients_have_the_bits_of_the_operator(
    name: str, kind: str, sequences: bool, left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    for zero_output in [False, True]:
        layer, x = make(name, sequences, zero_output_for_mask=zero_output, dtype="float32")
        given = slots(kind, rng)
        size = 4 if name == "projection" else UNITS
        states = [
            tuple(rng.standard_normal((BATCH, n)).astype(np.float32) for n in (size, UNITS))
            for _ in range(2)
        ]
        given["initial_state"] = {
            "two layers": states, "directions": [*states[0], *states[1]], "sum": None
        }.get(name, states[0])  # fmt: skip
        output, back = layer.vjp(x, True, **given)
        if kind in NATIVE and name not in ("projection", "two layers"):
            assert not left  # a second layer may get the operator's turned mask
        dy = rng.standard_normal(output.shape).astype(np.float32)
        gradients = back(dy.copy(), True)
        with monkeypatch.context() as patch:
            refuse(patch)
            expected, other_back = layer.vjp(x, True, **given)
            same(output, expected)
            d_x, parameters = other_back(dy, True)
        same(gradients[0], d_x)
        same(gradients[1], parameters)


@pytest.mark.parametrize("name", ["one", "two layers", "directions"])
@pytest.mark.parametrize("kind", ["mask", "lengths", "both"])
def test_slots_may_change_between_the_passes(name: str, kind: str) -> None:
    gradients = []
    for changes in [False, True]:
        layer, x = make(name, True)
        given = slots(kind, np.random.default_rng(8))
        output, back = layer.vjp(x, True, **given)
        if changes:
            for array in given.values():
                array[...] = 1
        gradients.append(back(np.ones_like(output), True))
    same(*gradients)


@pytest.mark.parametrize("kind", ["mask", "lengths", "both"])
def test_slots_of_the_operator_may_change_too(kind: str) -> None:
    gradients = []
    for changes in [False, True]:
        layer, x = make("one", True)
        given = slots(kind, np.random.default_rng(8))
        (output, _, _), back = functional.lstm_vjp(x, *layer.weights, **given)
        if changes:
            for array in given.values():
                array[...] = 1
        gradients.append(back(np.ones_like(output))[:4])
    same(*gradients)


def test_no_step_at_all_has_gradients() -> None:
    layer, x = make("one", True)
    output, back = layer.vjp(x, True, mask=np.zeros((BATCH, TIME), bool))
    d_x, parameters = back(np.ones_like(output), True)
    assert not d_x.any() and not any(p.any() for p in parameters)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"mask": np.ones((BATCH, TIME + 1), bool)}, ValueError, "mask: got shape"),
        ({"reset": np.ones((BATCH,), bool)}, ValueError, "reset: got shape"),
        ({"lengths": np.full(BATCH, TIME + 1)}, ValueError, "lengths: got"),
        ({"lengths": [-1] * BATCH}, ValueError, "lengths: got"),
        ({"lengths": np.full(BATCH, 2**64 - 1, np.uint64)}, ValueError, "lengths: got"),
        ({"lengths": np.ones(BATCH)}, TypeError, "lengths: got an array of float64"),
        ({"lengths": np.ones(BATCH, bool)}, TypeError, "lengths: got an array of bool"),
        ({"lengths": "abc"}, (TypeError, ValueError), "lengths"),
        (
            {"lengths": [1] * BATCH, "mask": np.ones((BATCH, TIME), bool)},
            ValueError,
            "lengths: got (it|them) beside mask",
        ),
    ],
)
@pytest.mark.parametrize("name", ["one", "two layers", "directions"])
def test_what_does_not_fit_is_named(name: str, given: Any, error: Any, match: str) -> None:
    layer, x = make(name, True)
    with pytest.raises(error, match=match):
        layer(x, **given)
    with pytest.raises(error, match=match):
        layer.vjp(x, True, **given)


def test_weights_that_do_not_go_together_are_left_to_the_operator() -> None:
    rng = np.random.default_rng(7)

    def packed(features: int, units: int, dtype: type = np.float32) -> functional.PackedWeights:
        kernel, recurrent = (
            rng.standard_normal((rows, 4 * units)).astype(dtype) for rows in (features, units)
        )
        return functional.pack(kernel, recurrent)

    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    rest = (False, True, None, None, None, False)
    for pair in (
        [packed(4, 5), packed(6, 5)],
        [packed(4, 5), packed(5, 5, np.float64)],
        [],
        [packed(3, 5)],
    ):
        assert _cpu.lstm_plain_layers(pair, x, None, *rest) is None
        assert _cpu.lstm_plain_directions(pair, x, None, *rest[1:]) is None
        if len(pair) == 2:
            states = [(None, None)] * 2
            assert _cpu.lstm_vjp_plain_directions(*pair, x, states, *rest[1:]) is None
    assert _cpu.lstm_plain_layers([packed(4, 5)] * 1, x, [None, None], *rest) is None
    two = [packed(4, 5), packed(5, 5)]
    assert _cpu.lstm_plain_layers(two, x, None, True, *rest[1:]) is None
