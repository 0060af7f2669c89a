"""What tests of other frameworks' weights share: exact results, wrong models, broken files."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ext import LSTM, Dense, Embedding, Sequential, functional, reference
from support import Array, assert_as_accurate, assert_no_slip, rms_error

GOLDEN = Path(__file__).parent / "golden_interchange"
WRONG_ORDERS = [order for order in itertools.permutations(range(4)) if order != (0, 1, 2, 3)]

Model = LSTM | Sequential


def layers_of(model: Model) -> list[Any]:
    return [model] if isinstance(model, LSTM) else model.layers


def run_layers(model: Model, x: Array, dtype: Any, lstm: Callable[..., Any]) -> Array:
    """Return a model's output, computed in a dtype with an operator for its LSTMs."""
    values = np.asarray(x)
    for layer in layers_of(model):
        weights = [weight.astype(dtype) for weight in layer.weights]
        if isinstance(layer, LSTM):
            output = lstm(values.astype(dtype), *weights, go_backwards=layer.go_backwards)[0]
            values = output if layer.return_sequences else output[:, -1]
        elif isinstance(layer, Dense):
            values = layer.activation(sum(weights[1:], values.astype(dtype) @ weights[0]))
        elif isinstance(layer, Embedding):
            values = weights[0][values.astype(np.int64)]
    return values


class Comparison:
    """Many results beside those that another framework computed in float64, or in float32.

    What roundings do to the models is seen in float32. Float64 rounds 2**29 times more finely; both
    results may err, each by twice as much as usual: four times in all. An error is the root mean
    square over all results, so that the luck of single roundings averages out; each by itself has
    to be free of slips.
    """

    def __init__(self) -> None:
        self._wide: list[list[Array]] = []
        self._single: list[list[Array]] = []
        self._both_single: list[list[Array]] = []

    def add(self, model: Model, x: Array, expected: Array) -> None:
        plain = run_layers(model, x, np.float32, reference.lstm)
        exact = run_layers(model, x, np.float64, reference.lstm)
        assert exact.shape == expected.shape, (exact.shape, expected.shape)
        if expected.dtype == np.float32:
            actual = model(x)
            assert_no_slip(actual, expected, "in float32")
            self._both_single.append([actual, plain, exact, expected])
            return
        wide = run_layers(model, x, np.float64, functional.lstm)
        assert_no_slip(wide, expected, "in float64")
        in_float64 = [plain.astype(np.float64), exact, expected]
        self._wide.append([wide, *in_float64])
        actual = model(x)
        assert_no_slip(actual, expected, "as it is")
        if actual.dtype == np.float32:
            self._single.append([actual, plain, expected])
        else:
            self._wide.append([actual, *in_float64])

    def finish(self) -> None:
        for name, results, share in (
            ("float64", self._wide, 2.0**-29),
            ("float32", self._both_single, 1.0),
        ):
            if results:
                actual, plain, exact, expected = zip(*results, strict=True)
                found = rms_error(actual, expected)
                allowed = 4 * share * rms_error(plain, exact)
                assert found <= allowed, f"in {name}: error {found:.3g}, allowed {allowed:.3g}"
        if self._single:
            assert_as_accurate(*zip(*self._single, strict=True), "in float32")


def assert_computes(model: Model, x: Array, expected: Array) -> None:
    """Assert that a model computes what another framework computed in float64."""
    comparison = Comparison()
    comparison.add(model, x, expected)
    comparison.finish()


def count_wrong_models(model: Model, x: Array, expected: Array) -> int:
    """Assert that no wrong model computes what is expected of the right one; count them."""
    count = 0
    for name, wrong in wrong_models(model):
        count += 1
        with pytest.raises(AssertionError):
            assert_computes(wrong, x, expected)
            pytest.fail(name)
    return count


def wrong_models(model: Model) -> Iterator[tuple[str, Model]]:
    """Yield copies of a model that a mistake in a reader could have made."""
    for order in WRONG_ORDERS:
        yield f"gates {order}", _changed(model, lambda w, o=order: _gates(w, list(o)))
    yield (
        "transposed recurrent kernels",
        _changed(model, lambda w: [w[0], _transpose(w[1]), *w[2:]]),
    )
    if all(w.shape[0] == layer.units for layer in _lstms(model) for w in layer.weights[:1]):
        yield "transposed kernels", _changed(model, lambda w: [_transpose(w[0]), *w[1:]])
        yield "swapped kernels", _changed(model, lambda w: [w[1], w[0], *w[2:]])
    for first, second in itertools.combinations(range(len(_lstms(model))), 2):
        wrong = copy.deepcopy(model)
        a, b = _lstms(wrong)[first], _lstms(wrong)[second]
        if [w.shape for w in a.weights] == [w.shape for w in b.weights]:
            weights = a.get_weights(), b.get_weights()
            a.set_weights(weights[1])
            b.set_weights(weights[0])
            yield f"swapped layers {first} and {second}", wrong


def _lstms(model: Model) -> list[LSTM]:
    return [layer for layer in layers_of(model) if isinstance(layer, LSTM)]


def _changed(model: Model, change: Callable[[list[Array]], list[Array]]) -> Model:
    wrong = copy.deepcopy(model)
    for layer in _lstms(wrong):
        layer.set_weights(change(layer.get_weights()))
    return wrong


def _gates(weights: list[Array], order: list[int]) -> list[Array]:
    return [np.concatenate([np.split(w, 4, axis=-1)[i] for i in order], axis=-1) for w in weights]


def _transpose(weight: Array) -> Array:
    return np.concatenate([gate.T for gate in np.split(weight, 4, axis=1)], axis=1)


def assert_same_model(actual: Model, expected: Model) -> None:
    """Assert that layers, their arguments and the bits of their weights agree."""
    assert type(actual) is type(expected)
    ours, theirs = layers_of(actual), layers_of(expected)
    assert [type(layer) for layer in ours] == [type(layer) for layer in theirs]
    arguments = (
        "dtype", "units", "use_bias", "return_sequences", "go_backwards", "activation", "rate",
        "input_dim", "output_dim",
    )  # fmt: skip
    for a, b in zip(ours, theirs, strict=True):
        for name in arguments:
            assert getattr(a, name, None) == getattr(b, name, None), (a, name)
        assert [w.shape for w in a.weights] == [w.shape for w in b.weights]
        assert [w.tobytes() for w in a.weights] == [w.tobytes() for w in b.weights]


def broken_files(path: Path, directory: Path, flips: int = 200) -> Iterator[Path]:
    """Yield copies of a file that are cut off or have a byte changed."""
    data = path.read_bytes()
    broken = directory / f"broken{''.join(path.suffixes)}"
    for length in range(0, len(data), 50):
        broken.write_bytes(data[:length])
        yield broken
    rng = np.random.default_rng(len(data))
    for position in rng.integers(0, len(data), flips):
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(8))
        broken.write_bytes(changed)
        yield broken
