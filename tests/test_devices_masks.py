"""Masks, lengths, resets, dropout and gates of layers and models on a pretended CUDA device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import device_support
from device_support import (
    MASK,
    MASKED_X,
    NUMBERS,
    WEIGHTS,
    B,
    CupyArray,
    H,
    T,
    X,
    Y,
    host,
    make_embedded,
    make_masked,
    to_device,
)
from lstm_ext import LSTM, Embedding, Sequential, losses, set_random_seed
from support import assert_as_accurate, assert_no_slip

Array = NDArray[Any]

pytestmark = pytest.mark.usefixtures("device")

_rng = np.random.default_rng(11)
RESET = _rng.random((B, T)) < 0.3
LENGTHS = np.array([T, 0, 1, 2, 3, T])
GIVEN: dict[str, dict[str, Array]] = {
    "mask": {"mask": MASK},
    "numbers": {"mask": MASK.astype(np.float32)},
    "lengths": {"lengths": LENGTHS},
    "mask+reset": {"mask": MASK, "reset": RESET},
}


def there(options: dict[str, Any]) -> dict[str, Any]:
    return {k: to_device(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}


def pair(**options: Any) -> tuple[LSTM, LSTM]:
    """The same layer on the CPU and on the device, both built."""
    ours, theirs = LSTM(H, seed=1, **options), LSTM(H, seed=1, device="cuda", **options)
    ours(X)
    theirs(to_device(X))
    return ours, theirs


def compare(found: Any, expected: Any, name: str = "") -> None:
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert isinstance(a, CupyArray)
        assert_no_slip(host(a), b, f"{name} {index}")


@pytest.mark.parametrize("given", list(GIVEN))
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_a_layer_skips_steps(go_backwards: bool, num_layers: int, given: str) -> None:
    ours, theirs = pair(
        return_sequences=True, return_state=True, go_backwards=go_backwards, num_layers=num_layers
    )
    options = GIVEN[given]
    compare(theirs(to_device(X), **there(options)), ours(X, **options), "results")
    output, back = ours.vjp(X, **options)
    output_there, back_there = theirs.vjp(to_device(X), **there(options))
    compare([output_there], [output])
    dy = _rng.standard_normal(output.shape).astype(np.float32)
    d_x, gradients = back(dy, True)
    d_x_there, gradients_there = back_there(to_device(dy), True)
    compare([d_x_there, *gradients_there], [d_x, *gradients], "gradients")


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("given", [{}, {"mask": MASK}])
def test_gates(given: dict[str, Array], num_layers: int) -> None:
    ours, theirs = pair(num_layers=num_layers)
    output, gates = ours(X, return_gates=True, **given)
    output_there, gates_there = theirs(to_device(X), return_gates=True, **there(given))
    compare([output_there], [output])
    every, every_there = ([g] if num_layers == 1 else g for g in (gates, gates_there))
    for own, own_there in zip(every, every_there, strict=True):
        compare(own_there, own, "gates")


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("rates", [(0.4, 0.0), (0.0, 0.4), (0.3, 0.3)])
def test_dropout_is_drawn_as_on_the_cpu(rates: tuple[float, float], num_layers: int) -> None:
    dropout, recurrent_dropout = rates
    ours, theirs = pair(dropout=dropout, recurrent_dropout=recurrent_dropout, num_layers=num_layers)
    compare([theirs(to_device(X), training=True)], [ours(X, training=True)], "a call")
    output, back = ours.vjp(X, mask=MASK)
    output_there, back_there = theirs.vjp(to_device(X), mask=to_device(MASK))
    compare([output_there], [output], "vjp")
    dy = _rng.standard_normal(output.shape).astype(np.float32)
    d_x, gradients = back(dy, True)
    d_x_there, gradients_there = back_there(to_device(dy), True)
    compare([d_x_there, *gradients_there], [d_x, *gradients], "gradients")
    compare([theirs(to_device(X))], [ours(X)], "without training")


def fitted(model: Sequential, x: Any, y: Any, weight: Any) -> list[Array]:
    """Train, and return the losses and metrics, the weights and a prediction, on the host."""
    set_random_seed(7)
    history = model.fit(
        x, y, epochs=3, batch_size=4, verbose=0, sample_weight=weight, shuffle=False
    ).history
    logs = [np.array(values, np.float32) for values in history.values()]
    return [*logs, *model.get_weights(), host(model.predict(x, verbose=0))]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("kind", ["masked", "embedded"])
def test_fit_is_that_of_numpy(kind: str, sequences: bool, weighted: bool) -> None:
    make, x = {"masked": (make_masked, MASKED_X), "embedded": (make_embedded, NUMBERS)}[kind]
    y = _rng.standard_normal((B, T, 1)).astype(np.float32) if sequences else Y
    weight = WEIGHTS if weighted else None
    exact_x = x.astype(np.float64) if kind == "masked" else x
    exact = fitted(make("float64", sequences), exact_x, y.astype(np.float64), weight)
    ours = fitted(make(sequences=sequences), x, y, weight)
    model = make(sequences=sequences).to_device("cuda")
    found = fitted(model, to_device(x), to_device(y), None if weight is None else to_device(weight))
    logs = 2
    assert_as_accurate(found[logs:], ours[logs:], exact[logs:], "fit")
    for index in range(logs):
        assert_no_slip(found[index], ours[index], "logs")


def test_a_masked_step_waits_for_nothing() -> None:
    model = make_masked(sequences=True).to_device("cuda")
    x, y = to_device(MASKED_X), to_device(np.zeros((B, T, 1), np.float32))
    waits = []
    for batch_size in (1, B):
        device_support.waits = 0
        model.fit(x, y, batch_size=batch_size, verbose=0)
        waits.append(device_support.waits)
    assert waits[0] == waits[1] <= 4


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_weights_of_masked_losses(reduction: str) -> None:
    for mask in (MASK, np.zeros((B, T), bool)):
        expected = losses.base.apply_mask(WEIGHTS, mask, reduction)
        found = losses.base.apply_mask(to_device(WEIGHTS), to_device(mask), reduction)
        assert np.array_equal(host(found), expected)


def test_numbers_without_a_row_give_nan() -> None:
    layer = Embedding(3, 2, seed=1, device="cuda")
    numbers = np.array([[0, 2, 3], [-1, 1, 0]])
    rows = host(layer(to_device(numbers)))
    assert np.isnan(rows[0, 2]).all() and np.isnan(rows[1, 0]).all()
    table = host(layer.get_weights()[0])
    assert np.array_equal(rows[1, 1:], table[[1, 0]])
    # Nor do they get a gradient.
    _, back = layer.vjp(to_device(numbers))
    (gradient,) = back(to_device(np.ones((2, 3, 2), np.float32)), False)[1]
    assert np.array_equal(host(gradient), [[2, 2], [1, 1], [1, 1]])


def test_an_embedding_without_numbers() -> None:
    layer = Embedding(3, 2, seed=1, device="cuda")
    assert layer(to_device(np.zeros((0, 4), np.int64))).shape == (0, 4, 2)
    _, back = layer.vjp(to_device(np.zeros((0, 4), np.int64)))
    (gradient,) = back(to_device(np.zeros((0, 4, 2), np.float32)), False)[1]
    assert not host(gradient).any()


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"mask": MASK}, TypeError, "mask: got a NumPy array, expected an array on a CUDA device"),
    ({"lengths": [1] * B}, TypeError, "lengths: got list, expected an array on a CUDA device"),
    ({"mask": CupyArray(MASK[:, 1:])}, ValueError, r"mask: got shape \(6, 3\), expected \(6, 4"),
    ({"lengths": CupyArray(LENGTHS[1:])}, ValueError, r"lengths: got shape \(5,\), expected \(6,"),
    (
        {"lengths": CupyArray(LENGTHS), "mask": CupyArray(MASK)},
        ValueError,
        "lengths: got them beside mask",
    ),
]


@pytest.mark.parametrize(("options", "error", "message"), WRONG)
def test_wrong_arguments_draw_no_noise(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    ours, theirs = pair(dropout=0.5)
    with pytest.raises(error, match=message):
        theirs(to_device(X), training=True, **options)
    compare([theirs(to_device(X), training=True)], [ours(X, training=True)])
