"""Random layers and models beside Keras itself: masks, states, directions, dropout, losses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from layer_support import NoiseRecord, bidirectional_by_reference, by_reference
from lstm_ext import LSTM, Bidirectional, Dense, Embedding, Input, Masking, Sequential
from lstm_ext.optimizers import SGD
from support import Array, assert_as_accurate, assert_no_slip

# Without gelu and leaky_relu, in which Keras keeps constants in float32 also for float64, and
# exponential, which overflows now and then.
ACTIVATIONS = [
    "tanh", "sigmoid", "relu", "softplus", "softsign", "elu", "selu", "silu", "hard_sigmoid", None,
]  # fmt: skip


@pytest.fixture
def keras() -> Any:
    return pytest.importorskip("keras", reason="keras is not installed")


class Comparison:
    """Ours in float32, held to Keras in float64 by what the reference errs in float32."""

    def __init__(self) -> None:
        self._found: list[Array] = []
        self._plain: list[Array] = []
        self._exact: list[Array] = []

    def add(self, found: Any, plain: Any, exact: Any, name: str) -> None:
        for a, p, e in zip(found, plain, exact, strict=True):
            e = np.asarray(e)
            assert a.shape == e.shape, (name, a.shape, e.shape)
            assert_no_slip(a, e, name)
            # Cells may grow without bounds: each array counts by its largest value.
            scale = np.float32(max(1.0, float(np.max(np.abs(e), initial=0))))
            for kept, values in ((self._found, a), (self._plain, p), (self._exact, e)):
                kept.append(values / scale)

    def finish(self) -> None:
        assert len(self._found) >= 200
        assert_as_accurate(self._found, self._plain, self._exact, "all of them")


def draw_options(rng: np.random.Generator) -> dict[str, Any]:
    """Draw arguments that Keras's LSTM and ours have."""
    usual = bool(rng.integers(2))
    options = {
        "activation": "tanh" if usual else ACTIVATIONS[rng.integers(len(ACTIVATIONS))],
        "recurrent_activation": "sigmoid"
        if usual
        else ("hard_sigmoid", "sigmoid")[rng.integers(2)],
        "use_bias": bool(rng.integers(4)),
        "return_sequences": bool(rng.integers(2)),
        "return_state": bool(rng.integers(2)),
        "zero_output_for_mask": bool(rng.integers(2)),
        "stateful": bool(rng.integers(3) == 0),
        "unroll": bool(rng.integers(6) == 0),
        "implementation": int(rng.integers(1, 3)),
    }
    return {"units": int(rng.integers(1, 7)), **options}


def draw_mask(rng: np.random.Generator, batch: int, steps: int) -> Array | None:
    """Draw nothing, any mask, or one that ends or begins with what is masked."""
    kind = rng.integers(4)
    if kind == 0:
        return None
    if kind == 1:
        return np.asarray(rng.random((batch, steps)) < 0.6)
    padded = np.arange(steps) < rng.integers(0, steps + 1, batch)[:, None]
    return padded if kind == 2 else padded[:, ::-1]


def set_random_weights(rng: np.random.Generator, theirs: Any, *ours: Any) -> None:
    weights = [rng.normal(0, 0.6, w.shape).astype(np.float32) for w in theirs.get_weights()]
    for layer in (theirs, *ours):
        layer.set_weights(weights)


def listed(results: Any) -> list[Array]:
    return [np.asarray(a) for a in (results if isinstance(results, (tuple, list)) else [results])]


def calls(
    rng: np.random.Generator, state_sizes: list[int]
) -> Iterator[tuple[Array, dict[str, Any]]]:
    """Yield two inputs of a batch with arguments; the second meets the state of the first."""
    batch, steps, features = (int(n) for n in rng.integers(1, 6, 3))
    for _ in range(2):
        given: dict[str, Any] = {"mask": draw_mask(rng, batch, steps)}
        if rng.integers(3) == 0:
            given["initial_state"] = [
                rng.normal(size=(batch, n)).astype(np.float32) for n in state_sizes
            ]
        yield rng.normal(size=(batch, steps, features)).astype(np.float32), given


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
def test_random_lstms(keras: Any) -> None:
    comparison = Comparison()
    for seed in range(150):
        rng = np.random.default_rng([1, seed])
        options = {**draw_options(rng), "go_backwards": bool(rng.integers(2))}
        if options["go_backwards"] and options["zero_output_for_mask"]:
            options["unroll"] = False  # where Keras forgets to turn the mask of the zeros around
        theirs = keras.layers.LSTM(**options, dtype="float64")
        ours = LSTM(**options)
        state: Any = None
        for x, given in calls(rng, [ours.units] * 2):
            if not ours.built:
                theirs.build(x.shape)
                ours.build(x.shape)
                set_random_weights(rng, theirs, ours)
            exact = listed(theirs(x.astype(np.float64), **given))
            found = listed(ours(x, **given))
            if "initial_state" not in given and ours.stateful:
                given["initial_state"] = state
            plain = by_reference(ours, x, np.float32, **given)
            state = plain.states[0]
            wanted = [plain.output, *(state if ours.return_state else ())]
            comparison.add(found, wanted, exact, f"seed {seed}, {options}")
    comparison.finish()


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
def test_random_bidirectionals(keras: Any) -> None:
    comparison = Comparison()
    for seed in range(100):
        rng = np.random.default_rng([2, seed])
        options, merge_mode = draw_options(rng), ("concat", "sum", "mul", "ave", None)[seed % 5]
        options["unroll"] = False  # as above: the outputs of one of the two are zeros backwards
        # Keras fails to say which mask goes with the states.
        options["return_state"] &= not options["stateful"]
        shared = {name: options[name] for name in ("return_sequences", "return_state", "stateful")}
        theirs_back = ours_back = None
        turned = False
        if rng.integers(3) == 0:  # another layer for the other direction
            turned = bool(rng.integers(2))
            other = {**draw_options(rng), **shared, "units": options["units"], "unroll": False}
            other["go_backwards"] = not turned
            theirs_back = keras.layers.LSTM(**other, dtype="float64")
            ours_back = LSTM(**other)
        options["go_backwards"] = turned
        theirs = keras.layers.Bidirectional(
            keras.layers.LSTM(**options, dtype="float64"), merge_mode, backward_layer=theirs_back,
            dtype="float64",
        )  # fmt: skip
        ours = Bidirectional(LSTM(**options), merge_mode, backward_layer=ours_back)
        state: Any = None
        for x, given in calls(rng, [options["units"]] * 4):
            if not ours.built:
                theirs.build(x.shape)
                ours.build(x.shape)
                set_random_weights(rng, theirs, ours)
            exact = listed(theirs(x.astype(np.float64), **given))
            found = listed(ours(x, **given))
            if "initial_state" not in given and ours.stateful:
                given["initial_state"] = state
            merged, state = bidirectional_by_reference(ours, x, np.float32, **given)
            wanted = [*merged, *(state if ours.return_state else ())]
            comparison.add(found, wanted, exact, f"seed {seed}, {merge_mode}, {options}")
    comparison.finish()


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
def test_dropout_with_the_same_masks(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours are given to Keras, which takes four, one for each gate, or one for all."""
    record, comparison = NoiseRecord(monkeypatch), Comparison()
    for seed in range(120):
        rng = np.random.default_rng([3, seed])
        options = {**draw_options(rng), "return_state": True, "stateful": False}
        rates = {
            "dropout": 0.4 * int(rng.integers(2)),
            "recurrent_dropout": 0.3 * int(seed % 3 > 0),
        }
        theirs = keras.layers.LSTM(**options, **rates, use_cudnn=False, dtype="float64")
        ours = LSTM(**options, **rates)
        x, given = next(calls(rng, [ours.units] * 2))
        theirs.build(x.shape)
        ours.build(x.shape)
        set_random_weights(rng, theirs, ours)
        found = listed(ours(x, training=True, **given))
        (noise,) = record.take()
        count = 4 if theirs.cell.implementation == 1 else 1
        for name, factors in zip(("dropout", "recurrent_dropout"), noise or (), strict=False):
            if factors is not None:
                masks = [keras.ops.convert_to_tensor(factors.astype(np.float64))] * count
                attribute = {
                    "dropout": "_dropout_mask",
                    "recurrent_dropout": "_recurrent_dropout_mask",
                }
                setattr(theirs.cell, attribute[name], masks if count > 1 else masks[0])
        exact = listed(theirs(x.astype(np.float64), training=True, **given))
        plain = by_reference(ours, x, np.float32, noise=noise and [noise], **given)
        name = f"seed {seed}, {options}, {rates}"
        comparison.add(found, [plain.output, *plain.states[0]], exact, name)
    comparison.finish()


def draw_model(keras: Any, rng: np.random.Generator) -> tuple[Any, Sequential, Array]:
    """Return a random model that begins with a mask, Keras's and ours, and inputs for it."""
    layers, steps = keras.layers, int(rng.integers(2, 6))
    mask = rng.random((7, steps)) < 0.6
    if rng.integers(2):
        x = rng.integers(1, 9, mask.shape) * mask
        theirs = [keras.Input((steps,), dtype="int32"), layers.Embedding(9, 3, mask_zero=True)]
        ours = [Input((steps,), dtype="int32"), Embedding(9, 3, mask_zero=True)]
    else:
        value = float(rng.integers(0, 2))
        x = np.where(mask[..., None], rng.normal(size=(*mask.shape, 3)), value).astype(np.float32)
        theirs = [keras.Input((steps, 3)), layers.Masking(value)]
        ours = [Input((steps, 3)), Masking(value)]
    for index in range(int(rng.integers(1, 3))):
        options = {
            "units": int(rng.integers(1, 6)),
            "return_sequences": index == 0 or bool(rng.integers(2)),
            "go_backwards": bool(rng.integers(2)),
        }  # fmt: skip
        if rng.integers(2):
            options["go_backwards"] = False
            theirs.append(layers.Bidirectional(layers.LSTM(**options), "ave"))
            ours.append(Bidirectional(LSTM(**options), "ave"))
        else:
            theirs.append(layers.LSTM(**options))
            ours.append(LSTM(**options))
        if not options["return_sequences"]:
            break
        theirs.append(layers.Dense(3, "tanh"))
        ours.append(Dense(3, "tanh"))
    classes = 3
    theirs.append(layers.Dense(classes, "softmax"))
    ours.append(Dense(classes, "softmax"))
    return keras.Sequential(theirs), Sequential(ours), x


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
def test_random_models_are_trained_with_masks(keras: Any) -> None:
    """Losses, metrics and steps are Keras's, to some roundings of float32."""
    for seed in range(24):
        rng = np.random.default_rng([4, seed])
        theirs, ours, x = draw_model(keras, rng)
        set_random_weights(rng, theirs, ours)
        labels = bool(rng.integers(2))
        shape = (*ours.compute_output_shape(x.shape),)
        y = rng.integers(0, 3, shape[:-1]) if labels else rng.random(shape).astype(np.float32)
        loss = "sparse_categorical_crossentropy" if labels else ("mse", "mae")[rng.integers(2)]
        names = ["accuracy"] if labels else ["mse", "mae"]
        weight = rng.random(shape[:-1]).astype(np.float32) if rng.integers(2) else None
        theirs.compile(keras.optimizers.SGD(0.5), loss, metrics=list(names), run_eagerly=True)
        ours.compile(SGD(0.5), loss, list(names))
        for _ in range(2):
            results = [
                model.train_on_batch(x, y, sample_weight=weight, return_dict=True)
                for model in (ours, theirs)
            ]
            assert_close(results, f"seed {seed}, training")
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            assert_no_slip(a, b, f"seed {seed}")
        results = [
            model.evaluate(x, y, batch_size=4, sample_weight=weight, verbose=0, return_dict=True)
            for model in (ours, theirs)
        ]
        assert_close(results, f"seed {seed}, evaluation")


def assert_close(results: Any, name: str) -> None:
    ours, theirs = results
    assert ours.keys() == theirs.keys(), name
    for key, value in ours.items():
        assert_no_slip(np.float32([value]), np.float32([theirs[key]]), f"{name}, {key}")
