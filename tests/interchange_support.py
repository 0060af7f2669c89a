"""What tests of other frameworks' weights share: exact results, wrong models, broken files."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ext import (
    LSTM,
    Bidirectional,
    Dense,
    Embedding,
    Masking,
    Sequential,
    functional,
    reference,
)
from lstm_ext.variants import Cell
from support import Array, assert_as_accurate, assert_no_slip, rms_error

GOLDEN = Path(__file__).parent / "golden_interchange"
WRONG_ORDERS = [order for order in itertools.permutations(range(4)) if order != (0, 1, 2, 3)]

Model = LSTM | Bidirectional | Sequential
ORDERS_OF_PEEPHOLES = [order for order in itertools.permutations(range(3)) if order != (0, 1, 2)]


def layers_of(model: Model) -> list[Any]:
    return model.layers if isinstance(model, Sequential) else [model]


def lstms_of(model: Model) -> list[LSTM]:
    inner = [part for layer in layers_of(model) for part in (layer, *layer.inner_layers)]
    return [layer for layer in inner if isinstance(layer, LSTM)]


def run_lstm(layer: LSTM, x: Array, dtype: Any, lstm: Callable[..., Any], **call: Any) -> Any:
    """Return (output, h, c) of a layer, computed in a dtype with an operator."""
    weights = dict(zip(layer.weight_names, layer.weights, strict=True))
    weights = {name: weight.astype(dtype) for name, weight in weights.items()}
    plain = [weights.pop(name, None) for name in ("kernel", "recurrent_kernel", "bias")]
    if call.get("initial_state") is not None:
        call["initial_state"] = [state.astype(dtype) for state in call["initial_state"]]
    return lstm(
        x.astype(dtype),
        *plain,
        **weights,
        cell=layer.cell,
        go_backwards=layer.go_backwards,
        zero_output_for_mask=layer.zero_output_for_mask,
        **call,
    )


def run_bidirectional(
    layer: Bidirectional, x: Array, dtype: Any, lstm: Callable[..., Any], **call: Any
) -> Any:
    """Return (output, h, c, h, c) of both layers, each by itself."""
    state = call.pop("initial_state", None)
    results = []
    for index, inner in enumerate((layer.forward_layer, layer.backward_layer)):
        own = None if state is None else state[2 * index : 2 * index + 2]
        results.append(run_lstm(inner, x, dtype, lstm, initial_state=own, **call))
    first, second = (
        result[0] if layer.return_sequences else result[0][:, -1] for result in results
    )
    if layer.return_sequences:
        second = second[:, ::-1]
    merged = {
        "concat": lambda: np.concatenate([first, second], axis=-1),
        "sum": lambda: first + second,
        "mul": lambda: first * second,
        "ave": lambda: (first + second) / 2,
    }[str(layer.merge_mode)]()
    return merged, *results[0][1:], *results[1][1:]


def run_layers(
    model: Model, x: Array, dtype: Any, lstm: Callable[..., Any], mask: Array | None = None
) -> Array:
    """Return a model's output, computed in a dtype with an operator for its LSTMs."""
    values = np.asarray(x)
    for layer in layers_of(model):
        if isinstance(layer, LSTM):
            output = run_lstm(layer, values, dtype, lstm, mask=mask)[0]
            values = output if layer.return_sequences else output[:, -1]
            mask = mask if layer.return_sequences else None
        elif isinstance(layer, Bidirectional):
            values = run_bidirectional(layer, values, dtype, lstm, mask=mask)[0]
            mask = mask if layer.return_sequences else None
        elif isinstance(layer, Dense):
            weights = [weight.astype(dtype) for weight in layer.weights]
            values = layer.activation(sum(weights[1:], values.astype(dtype) @ weights[0]))
        elif isinstance(layer, Embedding):
            mask = values != 0 if layer.mask_zero else mask
            values = layer.embeddings.astype(dtype)[values.astype(np.int64)]
        elif isinstance(layer, Masking):
            mask = np.any(values.astype(dtype) != layer.mask_value, axis=-1)
            values = np.where(mask[..., None], values, 0)
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

    def add(self, model: Model, x: Array, expected: Array, mask: Array | None = None) -> None:
        call = {} if mask is None else {"mask": mask}
        plain = run_layers(model, x, np.float32, reference.lstm, **call)
        exact = run_layers(model, x, np.float64, reference.lstm, **call)
        assert exact.shape == expected.shape, (exact.shape, expected.shape)
        if expected.dtype == np.float32:
            self.add_single(model(x, **call), plain, exact, expected)
            return
        wide = run_layers(model, x, np.float64, functional.lstm, **call)
        assert_no_slip(wide, expected, "in float64")
        in_float64 = [plain.astype(np.float64), exact, expected]
        self._wide.append([wide, *in_float64])
        actual = model(x, **call)
        assert_no_slip(actual, expected, "as it is")
        if actual.dtype == np.float32:
            self._single.append([actual, plain, expected])
        else:
            self._wide.append([actual, *in_float64])

    def add_single(self, actual: Array, plain: Array, exact: Array, expected: Array) -> None:
        """Add results that both sides computed in float32."""
        assert actual.shape == expected.shape, (actual.shape, expected.shape)
        assert_no_slip(actual, expected, "in float32")
        self._both_single.append([actual, plain, exact, expected])

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


def assert_computes(model: Model, x: Array, expected: Array, mask: Array | None = None) -> None:
    """Assert that a model computes what another framework computed in float64."""
    comparison = Comparison()
    comparison.add(model, x, expected, mask)
    comparison.finish()


def count_wrong_models(
    model: Model, x: Array, expected: Array, mask: Array | None = None
) -> Counter[str]:
    """Assert that no wrong model computes what is expected of the right one; count their kinds."""
    count: Counter[str] = Counter()
    for name, wrong in wrong_models(model):
        count[name.split(":")[0]] += 1
        with pytest.raises((AssertionError, ValueError)):  # the latter of sizes that do not fit
            assert_computes(wrong, x, expected, mask)
            pytest.fail(name)
    return count


def wrong_models(model: Model) -> Iterator[tuple[str, Model]]:
    """Yield copies of a model that a mistake in a reader could have made."""
    for order in WRONG_ORDERS:
        yield f"gates: {order}", _changed(model, lambda n, w, o=order: _gates(n, w, list(o)))
    for order in ORDERS_OF_PEEPHOLES if lstms_of(model)[0].peepholes else ():
        yield f"peepholes: {order}", _changed(model, lambda n, w, o=order: _peepholes(n, w, o))
    yield from _transposed(model)
    yield from _swapped(model)
    yield from _without(model)


def _transposed(model: Model) -> Iterator[tuple[str, Model]]:
    lstms = lstms_of(model)
    if not any(layer.proj_size for layer in lstms):
        change = _of("recurrent_kernel", _transpose)
        yield "transposed: recurrent kernels", _changed(model, change)
    if all(layer.kernel.shape[0] == layer.units for layer in lstms):
        yield "transposed: kernels", _changed(model, _of("kernel", _transpose))
    if all(layer.kernel.shape == layer.recurrent_kernel.shape for layer in lstms):
        yield "swapped: kernels", _changed(model, lambda n, w: [w[1], w[0], *w[2:]])


def _swapped(model: Model) -> Iterator[tuple[str, Model]]:
    """Yield models with the weights of two layers, or of two directions, in each other's place."""
    for first, second in itertools.combinations(range(len(lstms_of(model))), 2):
        wrong = copy.deepcopy(model)
        a, b = lstms_of(wrong)[first], lstms_of(wrong)[second]
        if [w.shape for w in a.weights] == [w.shape for w in b.weights]:
            weights = a.get_weights(), b.get_weights()
            a.set_weights(weights[1])
            b.set_weights(weights[0])
            _forget(wrong)
            yield f"swapped: layers {first} and {second}", wrong
    for index, layer in enumerate(layers_of(model)):
        if isinstance(layer, Bidirectional):
            for mode in {"concat", "sum", "mul", "ave"} - {layer.merge_mode}:
                wrong = copy.deepcopy(model)
                layers_of(wrong)[index].merge_mode = mode
                yield f"merged: by {mode}", wrong


def _without(model: Model) -> Iterator[tuple[str, Model]]:
    """Yield models that lack something of the cell or of a layer."""
    plain = Cell()
    for index, layer in enumerate(lstms_of(model)):
        for name in Cell._fields:
            if getattr(layer.cell, name) != getattr(plain, name):
                wrong = copy.deepcopy(model)
                other = lstms_of(wrong)[index]
                other.cell = other.cell._replace(**{name: getattr(plain, name)})
                _forget(wrong)
                yield f"without: {name} of layer {index}", wrong
        for name in ("peephole", "bias"):
            if getattr(layer, name) is not None:
                wrong = copy.deepcopy(model)
                setattr(lstms_of(wrong)[index], name, np.zeros_like(getattr(layer, name)))
                _forget(wrong)
                yield f"without: {name} of layer {index}", wrong


def _forget(model: Model) -> None:
    """Have every layer lay its weights out anew."""
    for layer in (*layers_of(model), *lstms_of(model)):
        layer.weights_changed()


Change = Callable[[list[str], list[Array]], list[Array]]


def _changed(model: Model, change: Change) -> Model:
    wrong = copy.deepcopy(model)
    for layer in lstms_of(wrong):
        layer.set_weights(change(layer.weight_names, layer.get_weights()))
    _forget(wrong)
    return wrong


def _of(kind: str, change: Callable[[Array], Array]) -> Change:
    """Return what changes the weights of one name."""
    return lambda names, weights: [
        change(w) if name == kind else w for name, w in zip(names, weights, strict=True)
    ]


def _gates(names: list[str], weights: list[Array], order: list[int]) -> list[Array]:
    return [
        np.concatenate([np.split(w, 4, axis=-1)[i] for i in order], axis=-1)
        if name in ("kernel", "recurrent_kernel", "bias")
        else w
        for name, w in zip(names, weights, strict=True)
    ]


def _peepholes(names: list[str], weights: list[Array], order: Sequence[int]) -> list[Array]:
    change = _of("peephole", lambda w: np.concatenate([np.split(w, 3)[i] for i in order]))
    return change(names, weights)


def _transpose(weight: Array) -> Array:
    return np.concatenate([gate.T for gate in np.split(weight, 4, axis=1)], axis=1)


def assert_same_model(actual: Model, expected: Model) -> None:
    """Assert that layers, their arguments and the bits of their weights agree."""
    assert type(actual) is type(expected)
    ours, theirs = layers_of(actual), layers_of(expected)
    assert [type(layer) for layer in ours] == [type(layer) for layer in theirs]
    arguments = (
        "dtype", "units", "use_bias", "return_sequences", "go_backwards", "activation", "rate",
        "input_dim", "output_dim", "cell", "proj_size", "peepholes", "merge_mode", "mask_value",
        "mask_zero", "zero_output_for_mask", "dropout", "recurrent_dropout", "stateful",
        "num_layers",
    )  # fmt: skip
    for a, b in zip(ours, theirs, strict=True):
        for inner_a, inner_b in zip((a, *a.inner_layers), (b, *b.inner_layers), strict=True):
            for name in arguments:
                assert getattr(inner_a, name, None) == getattr(inner_b, name, None), (a, name)
        assert [w.shape for w in a.weights] == [w.shape for w in b.weights]
        assert [w.tobytes() for w in a.weights] == [w.tobytes() for w in b.weights]


def broken_files(path: Path, directory: Path, flips: int = 200) -> Iterator[Path]:
    """Yield copies of a file that are cut off or have a byte changed."""
    data = path.read_bytes()
    broken = directory / f"broken{''.join(path.suffixes)}"
    for length in range(0, len(data), max(50, len(data) // 400)):
        broken.write_bytes(data[:length])
        yield broken
    rng = np.random.default_rng(len(data))
    for position in rng.integers(0, len(data), flips):
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(8))
        broken.write_bytes(changed)
        yield broken
