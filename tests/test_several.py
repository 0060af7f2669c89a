"""Two directions and stacks of layers in one call: to the bit what single calls give."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lstm_ext import functional
from lstm_ext.variants import Noise
from operator_support import NOISE, Case, Options, Size, pack, slot_options
from support import Array, assert_same_bits
from test_small_weights import FORMATS
from variants_support import Arrays

# Small calls run one after the other. With few rows directions run side by side and layers as a
# pipeline, where there are threads for it; with many rows a layer takes all threads.
SIZES = [(3, 7, 5, 9, 4), (1, 100, 64, 64, 40), (2, 60, 64, 200, 40), (32, 20, 64, 128, 70)]
THREADS = (1, 2, 3, 4)
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "masked": {"slots": ("mask", "reset")},
    "everything": {"variant": "everything", "slots": ("mask", "reset"), "noise": NOISE},
    "noise of h, lengths": {"slots": ("lengths", "zero_output_for_mask"), "noise": ("h",)},
}
NAMES = ("d_output", "d_h", "d_c")


class Side:
    """One direction's weights, state, noise and upstream gradients."""

    def __init__(self, arrays: Arrays, options: Options, **more: Any) -> None:
        self.weights = pack(arrays, options["cell"], **more)
        self.state = arrays["h0"], arrays["c0"]
        self.noise: Noise | None = options.get("noise")
        self.upstream = tuple(arrays[name] for name in NAMES)


def draw_sides(kind: str, size: Size, dtype: Any) -> tuple[Array, Side, Side, Options]:
    """Return x, two directions of different sizes, and what says which slots are steps."""
    more = dict(KINDS[kind])
    variant, slots = more.pop("variant", "plain"), more.pop("slots", ())
    batch, steps, features, units, outputs = size
    sides = []
    for seed, own in enumerate((size, (batch, steps, features, units + 3, outputs + 2))):
        sides.append(Case.of(variant, own, dtype, seed=seed, **more).draw())
    x = sides[0][0]["x"]
    return x, Side(*sides[0]), Side(*sides[1]), slot_options(slots, batch, steps)


def single(x: Array, side: Side, go_backwards: bool, **options: Any) -> tuple[Any, Any]:
    return functional.lstm_vjp(
        x, side.weights, initial_state=side.state, noise=side.noise, go_backwards=go_backwards,
        **options,
    )  # fmt: skip


def by_hand(
    x: Array, forward: Side, backward: Side, options: Options, return_sequences: bool = True
) -> tuple[list[Array], tuple[Any, Any]]:
    """Return output, both states, and both gradients, from single calls."""
    options = options | {"return_sequences": return_sequences}
    (first, *state), back = single(x, forward, False, **options)
    (second, *other_state), other_back = single(x, backward, True, **options)
    upstream = list(backward.upstream)
    if return_sequences:
        second, upstream[0] = second[:, ::-1], upstream[0][:, ::-1]
    gradients, others = back(*forward.upstream), other_back(*upstream)
    gradients = gradients._replace(x=gradients.x + others.x)
    others = others._replace(x=np.empty(0, x.dtype))
    return [np.concatenate([first, second], axis=-1), *state, *other_state], (gradients, others)


def flat(results: Any) -> list[Array]:
    output, *states = results
    return [output, *itertools.chain.from_iterable(states)]


def together(
    x: Array, forward: Side, backward: Side, options: Options
) -> tuple[list[Array], tuple[Any, Any]]:
    """Return the same from one call, asserting that without gradients it gives the same bits."""
    named = options | {
        "initial_state": (forward.state, backward.state), "noise": (forward.noise, backward.noise),
    }  # fmt: skip
    results, back = functional.bidirectional_vjp(x, forward.weights, backward.weights, **named)
    alone = functional.bidirectional(x, forward.weights, backward.weights, **named)
    assert_same_bits(flat(alone), flat(results))
    d_output = np.concatenate([forward.upstream[0], backward.upstream[0]], axis=-1)
    if options.get("time_major") and d_output.ndim == 3:
        d_output = d_output.swapaxes(0, 1)
    return flat(results), back(d_output, forward.upstream[1:], backward.upstream[1:])


def assert_same(actual: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    assert_same_bits(actual[0], expected[0])
    for found, wanted in zip(actual[1], expected[1], strict=True):
        assert_same_bits(found, wanted)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_two_directions_are_two_calls(kind: str, size: Size, dtype: Any) -> None:
    x, forward, backward, options = draw_sides(kind, size, dtype)
    expected = by_hand(x, forward, backward, options)
    for num_threads in THREADS:
        actual = together(x, forward, backward, options | {"num_threads": num_threads})
        assert_same(actual, expected)


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_options_of_two_directions(
    kind: str, return_sequences: bool, time_major: bool, dtype: Any
) -> None:
    x, forward, backward, options = draw_sides(kind, SIZES[0], dtype)
    if not return_sequences:
        for side in (forward, backward):
            side.upstream = side.upstream[1][::-1].copy(), *side.upstream[1:]
    output_and_states, gradients = by_hand(x, forward, backward, options, return_sequences)
    options |= {"time_major": time_major, "return_sequences": return_sequences}
    if time_major:
        gradients = gradients[0]._replace(x=gradients[0].x.swapaxes(0, 1)), gradients[1]
        if return_sequences:
            output_and_states[0] = output_and_states[0].swapaxes(0, 1)
    given = np.ascontiguousarray(x.swapaxes(0, 1)) if time_major else x
    actual = together(given, forward, backward, options)
    assert_same(actual, (output_and_states, gradients))


@pytest.mark.parametrize("absent", [(0,), (1,), (0, 1)], ids=str)
def test_states_of_two_directions_may_be_absent(absent: tuple[int, ...], dtype: Any) -> None:
    x, forward, backward, options = draw_sides("masked", SIZES[0], dtype)
    sides = forward, backward
    for index in absent:
        sides[index].state = None  # type: ignore[assignment]
    expected = by_hand(x, *sides, options)
    assert_same(together(x, *sides, options), expected)
    if len(absent) == 2:
        weights = forward.weights, backward.weights
        assert_same_bits(flat(functional.bidirectional(x, *weights, **options)), expected[0])


@pytest.mark.parametrize("kind", ["masked", "everything"])
def test_what_a_backward_of_two_directions_leaves_out(kind: str, dtype: Any) -> None:
    x, forward, backward, options = draw_sides(kind, SIZES[0], dtype)
    states, noise = (forward.state, backward.state), (forward.noise, backward.noise)
    _, back = functional.bidirectional_vjp(
        x, forward.weights, backward.weights, initial_state=states, noise=noise, **options
    )
    d_output = np.concatenate([forward.upstream[0], backward.upstream[0]], axis=-1)
    upstream: Any = (d_output, forward.upstream[1:], backward.upstream[1:])
    expected = back(*upstream)
    nothing = np.empty(0, dtype)
    for found, wanted in zip(back(*upstream, need_x=False), expected, strict=True):
        assert_same_bits(found, wanted._replace(x=nothing))
    for found, wanted in zip(back(*upstream, need_state=False), expected, strict=True):
        assert_same_bits(found, wanted._replace(h0=nothing, c0=nothing))
    with_zeros = [[np.zeros_like(array) for array in pair] for pair in (upstream[1], upstream[2])]
    for found, wanted in zip(back(d_output), back(d_output, *with_zeros), strict=True):
        assert_same_bits(found, wanted)
    for found, wanted in zip(back(*upstream, consume=True), expected, strict=True):
        assert_same_bits(found, wanted)
    with pytest.raises(ValueError, match=r"consume: .* before"):
        back(*upstream)


# ---- layers ----


def draw_layers(
    kind: str, size: Size, count: int, dtype: Any, **more: Any
) -> tuple[Array, list[Side], Options]:
    """Return x, layers of different sizes, and what says which slots are steps."""
    variant, slots = KINDS[kind].get("variant", "plain"), KINDS[kind].get("slots", ())
    batch, steps, features, units, outputs = size
    layers = []
    for index in range(count):
        own = (batch, steps, features, units + index, outputs + index)
        arrays, options = Case.of(variant, own, dtype, seed=index).draw()
        if index == 0:
            x = arrays["x"]
        layers.append(Side(arrays, options, **more))
        features = layers[-1].weights.output_size
    return x, layers, slot_options(slots, batch, steps)


def one_by_one(x: Array, layers: list[Side], options: Options, **last: Any) -> list[Array]:
    """Return the last output and all states from single calls."""
    states = []
    for index, layer in enumerate(layers):
        named = options | (last if index + 1 == len(layers) else {})
        x, h, c = functional.lstm(x, layer.weights, initial_state=layer.state, **named)
        states += [h, c]
    return [x, *states]


def stacked(x: Array, layers: list[Side], **options: Any) -> list[Array]:
    weights, states = [side.weights for side in layers], [side.state for side in layers]
    output, found = functional.stack(x, weights, initial_state=states, **options)
    return [output, *itertools.chain.from_iterable(found)]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", ["plain", "masked", "everything"])
def test_a_stack_is_its_layers(kind: str, size: Size, count: int, dtype: Any) -> None:
    x, layers, options = draw_layers(kind, size, count, dtype)
    expected = one_by_one(x, layers, options)
    for num_threads in THREADS:
        assert_same_bits(stacked(x, layers, num_threads=num_threads, **options), expected)


@pytest.mark.parametrize("weights_dtype", FORMATS)
@pytest.mark.parametrize("size", SIZES[:2], ids=str)
def test_small_weights(size: Size, weights_dtype: str) -> None:
    x, layers, options = draw_layers("masked", size, 2, np.float32, weights_dtype=weights_dtype)
    expected = one_by_one(x, layers, options)
    for num_threads in THREADS:
        assert_same_bits(stacked(x, layers, num_threads=num_threads, **options), expected)
    first, second = (
        layers[0],
        Side(*Case(size, np.float32, seed=7).draw(), weights_dtype=weights_dtype),
    )
    (one, *state), (two, *other_state) = (
        functional.lstm(x, side.weights, initial_state=side.state, go_backwards=back, **options)
        for side, back in ((first, False), (second, True))
    )
    for num_threads in THREADS:
        results = functional.bidirectional(
            x, first.weights, second.weights, initial_state=(first.state, second.state),
            num_threads=num_threads, **options,
        )  # fmt: skip
        wanted = [np.concatenate([one, two[:, ::-1]], axis=-1), *state, *other_state]
        assert_same_bits(flat(results), wanted)


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize(
    "slots", [(), ("mask", "reset"), ("lengths", "zero_output_for_mask")], ids=str
)
def test_options_of_a_stack(
    slots: tuple[str, ...], return_sequences: bool, time_major: bool, dtype: Any
) -> None:
    x, layers, _ = draw_layers("everything", SIZES[0], 3, dtype)
    layers[1].state = None  # type: ignore[assignment]
    options = slot_options(slots, *x.shape[:2])
    expected = one_by_one(x, layers, options, return_sequences=return_sequences)
    if time_major:
        x = x.swapaxes(0, 1)
        if return_sequences:
            expected[0] = expected[0].swapaxes(0, 1)
    actual = stacked(x, layers, time_major=time_major, return_sequences=return_sequences, **options)
    assert_same_bits(actual, expected)


def test_a_stack_without_states(dtype: Any) -> None:
    x, layers, _ = draw_layers("plain", SIZES[0], 2, dtype)
    for layer in layers:
        layer.state = None  # type: ignore[assignment]
    output, states = functional.stack(x, [layer.weights for layer in layers])
    assert_same_bits(flat((output, *states)), one_by_one(x, layers, {}))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_to_compute(shape: tuple[int, int], dtype: Any) -> None:
    size = (*shape, 4, 9, 5)
    x, forward, backward, options = draw_sides("everything", size, dtype)
    results, gradients = together(x, forward, backward, options)
    assert_same_bits(results[1:], [*forward.state, *backward.state])
    assert_same_bits([g.h0 for g in gradients], [forward.upstream[1], backward.upstream[1]])
    assert not any(g.any() for each in gradients for g in (each.x, each.kernel, each.peephole))
    x, layers, options = draw_layers("everything", size, 2, dtype)
    output, *states = stacked(x, layers, **options)
    assert output.shape == (*shape, 6)
    assert_same_bits(states, [array for layer in layers for array in layer.state])
