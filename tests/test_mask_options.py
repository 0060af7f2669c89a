"""What goes with masks, lengths and resets: the same bits as the plain calls that it stands for."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lstm_ext import functional
from operator_support import NOISE, Case, Options, pack, run_packed
from support import Array, assert_no_slip, assert_same_bits
from test_masks import BEST, SIZE, SLOTS
from variants_support import Arrays

UPSTREAM = ("d_output", "d_h", "d_c")


def draw_everything(
    dtype: Any, slots: tuple[str, ...], **more: Any
) -> tuple[Arrays, Options, functional.PackedWeights]:
    """Return a problem with everything that there is, and its weights."""
    arrays, options = Case.of("everything", SIZE, dtype, slots=slots, **more).draw()
    return arrays, options, pack(arrays, options.pop("cell"), isa=BEST)


@pytest.mark.parametrize("slots", [*SLOTS, ("mask", "go_backwards")], ids=" ".join)
@pytest.mark.parametrize("seq_len", [0, 1, 6])
def test_without_return_sequences_the_last_output_is_returned(
    seq_len: int, slots: tuple[str, ...], dtype: Any
) -> None:
    case = Case.of("everything", (14, seq_len, *SIZE[2:]), dtype, noise=NOISE, slots=slots)
    arrays, options = case.draw()
    weights = pack(arrays, options.pop("cell"), isa=BEST)
    d_last = arrays["d_h"][::-1].copy()
    actual = run_packed(weights, arrays | {"d_output": d_last}, return_sequences=False, **options)
    arrays["d_output"][:] = 0
    if seq_len:
        arrays["d_output"][:, -1] = d_last
    else:
        arrays["d_h"] = arrays["d_h"] + d_last
    expected = run_packed(weights, arrays, **options)
    expected["output"] = expected["output"][:, -1] if seq_len else expected["h"]
    results = [actual.pop(name) for name in ("output", "h", "c")]
    assert_same_bits(results, [expected.pop(name) for name in ("output", "h", "c")])
    for name, array in actual.items():
        # d_h and the last output's gradient are added in another order.
        assert_no_slip(array, expected[name], name)
    assert_same_bits(
        functional.lstm(
            arrays["x"], weights, initial_state=(arrays["h0"], arrays["c0"]),
            return_sequences=False, **options,
        ),
        results,
    )  # fmt: skip


def flipped(array: Array) -> Array:
    return array[:, ::-1]


@pytest.mark.parametrize("zero_output", [False, True])
def test_go_backwards_turns_x_masks_and_resets(zero_output: bool, isa: str, dtype: Any) -> None:
    case = Case.of("everything", SIZE, dtype, noise=NOISE, slots=("mask", "reset"))
    arrays, options = case.draw()
    weights = pack(arrays, options["cell"], isa=isa)
    options["zero_output_for_mask"] = zero_output
    actual = run_packed(weights, arrays, go_backwards=True, **options)
    turned = {name: flipped(options[name]) for name in ("mask", "reset")}
    expected = run_packed(weights, arrays | {"x": flipped(arrays["x"])}, **options | turned)
    expected["gradient_x"] = flipped(expected["gradient_x"])
    assert_same_bits(actual.values(), expected.values())


@pytest.mark.parametrize("slots", SLOTS, ids=" ".join)
def test_time_major(slots: tuple[str, ...], isa: str, dtype: Any) -> None:
    arrays, options = Case.of("everything", SIZE, dtype, noise=NOISE, slots=slots).draw()
    weights = pack(arrays, options["cell"], isa=isa)
    expected = run_packed(weights, arrays, **options)
    swapped = arrays | {name: arrays[name].swapaxes(0, 1) for name in ("x", "d_output")}
    actual = run_packed(weights, swapped, time_major=True, **options)
    for name in ("output", "gradient_x"):
        actual[name] = actual[name].swapaxes(0, 1)
    assert_same_bits(actual.values(), expected.values())
    call = {name: value for name, value in options.items() if name != "cell"}
    (*_, gates), (*_, same_gates) = (
        functional.lstm(given["x"], weights, time_major=swaps, return_gates=True, **call)
        for given, swaps in ((arrays, False), (swapped, True))
    )
    assert_same_bits(same_gates, gates)  # whose axes stay


@pytest.mark.parametrize("variant", ["plain", "everything"])
def test_no_state_is_a_state_of_zeros(variant: str, isa: str, dtype: Any) -> None:
    arrays, options = Case.of(variant, SIZE, dtype, noise=NOISE, slots=("mask", "reset")).draw()
    weights = pack(arrays, options["cell"], isa=isa)
    for name in ("h0", "c0"):
        arrays[name] = np.zeros_like(arrays[name])
    expected = run_packed(weights, arrays, **options)
    del arrays["h0"], arrays["c0"]
    assert_same_bits(run_packed(weights, arrays, **options).values(), expected.values())


def test_nothing_masked_is_no_mask(dtype: Any) -> None:
    arrays, options, weights = draw_everything(dtype, ())
    expected = run_packed(weights, arrays, **options)
    shape = arrays["x"].shape[:2]
    for trivial in (
        {"mask": np.ones(shape, bool)},
        {"lengths": np.full(shape[0], shape[1])},
        {"reset": np.zeros(shape, bool)},
        {"mask": np.ones(shape, bool), "zero_output_for_mask": True},
    ):
        assert_same_bits(run_packed(weights, arrays, **trivial).values(), expected.values())


def test_masks_of_any_strides_and_kinds(dtype: Any) -> None:
    arrays, options, weights = draw_everything(dtype, ("mask", "reset"), noise=NOISE)
    expected = run_packed(weights, arrays, **options)
    wide = {name: np.repeat(options[name], 2, axis=1)[:, ::2] for name in ("mask", "reset")}
    lists = {name: options[name].tolist() for name in ("mask", "reset")}
    turned = {name: np.asfortranarray(options[name]) for name in ("mask", "reset")}
    places = (np.asfortranarray(a) for a in options["noise"])
    turned["noise"] = type(options["noise"])(*places)
    for given_so in (wide, lists, turned):
        found = run_packed(weights, arrays, **options | given_so)
        assert_same_bits(found.values(), expected.values())


@pytest.mark.parametrize("names", [("d_output",), ("d_h",), ("d_c",), ()], ids=str)
def test_upstream_gradients_left_out_are_zeros(names: tuple[str, ...], dtype: Any) -> None:
    arrays, options, weights = draw_everything(dtype, ("mask", "reset"), noise=NOISE)
    state = arrays["h0"], arrays["c0"]
    _, backward = functional.lstm_vjp(arrays["x"], weights, initial_state=state, **options)
    zeros = {name: np.zeros_like(arrays[name]) for name in UPSTREAM}
    given_some = {name: arrays[name] for name in names}
    expected = backward(**zeros | given_some)
    assert_same_bits(backward(**given_some)[:8], expected[:8])
    if not names:
        assert not any(gradient.any() for gradient in expected[:8])


@pytest.mark.parametrize("slots", [(), ("mask", "reset")], ids=["", "masked"])
def test_what_a_backward_leaves_out(slots: tuple[str, ...], dtype: Any) -> None:
    """Gradients that are not needed, and what is consumed, change no other gradient."""
    arrays, options, weights = draw_everything(dtype, slots, noise=NOISE)
    state, upstream = (arrays["h0"], arrays["c0"]), [arrays[name] for name in UPSTREAM]
    _, backward = functional.lstm_vjp(arrays["x"], weights, initial_state=state, **options)
    expected = backward(*upstream)[:8]
    nothing = np.empty(0, dtype)
    for needs in itertools.product([False, True], repeat=2):
        found = backward(*upstream, need_x=needs[0], need_state=needs[1])
        wanted = list(expected)
        if not needs[0]:
            wanted[0] = nothing
        if not needs[1]:
            wanted[4:6] = nothing, nothing
        assert_same_bits(found[:8], wanted)
    assert_same_bits(backward(*upstream, consume=True)[:8], expected)
    with pytest.raises(ValueError, match=r"consume: .* before"):
        backward(*upstream)
