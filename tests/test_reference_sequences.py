"""The reference's masks, lengths and resets: the same as sequences without, cut by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lstm_ext import reference
from lstm_ext.variants import Cell, Noise
from support import Array, assert_no_slip, assert_same_bits
from variants_support import (
    VARIANTS,
    Arrays,
    arguments,
    draw,
    draw_noise,
    draw_places,
    run_variant,
)

B, T, INPUTS, H = 5, 8, 3, 4
SIZE = B, T, INPUTS, H
EXTRA: dict[str, Any] = {"peephole": True, "outputs": 3}
CELL = Cell("softsign", "sigmoid", "tanh", 1.5, 0.9)


def piece_of(
    arrays: Arrays, row: int, slots: Array, state: tuple[Array, Array], noise: Noise
) -> tuple[Arrays, Noise]:
    """Return the problem of some slots of a row, whose outputs and state have no gradients yet."""
    h, c = state
    piece = arrays | {
        "x": arrays["x"][row : row + 1, slots], "h0": h, "c0": c, "d_h": np.zeros_like(h),
        "d_c": np.zeros_like(c), "d_output": np.zeros((1, len(slots), h.shape[1])),
    }  # fmt: skip
    own = Noise(
        *(None if a is None else a[row : row + 1] for a in noise[:2]),
        *(None if a is None else a[row : row + 1, slots] for a in noise[2:]),
    )
    return piece, own


def cut_by_hand(
    arrays: Arrays, mask: Array, reset: Array, zero_output: bool, noise: Noise, cell: Cell
) -> Arrays:
    """Run each row's valid steps between two resets as a sequence of its own."""
    found = {f"gradient_{name}": np.zeros_like(array) for name, array in arrays.items()}
    found = {name: array for name, array in found.items() if "_d_" not in name}
    found |= {name: np.zeros_like(arrays[f"d_{name}"]) for name in ("output", "h", "c")}
    for row in range(len(mask)):
        cuts = [0, *np.flatnonzero(reset[row]), mask.shape[1]]
        d_h, d_c = (arrays[name][row : row + 1] for name in ("d_h", "d_c"))
        state = arrays["h0"][row : row + 1], arrays["c0"][row : row + 1]
        pieces = []
        for begin, end in itertools.pairwise(cuts):
            if reset[row, begin : begin + 1].any():
                state = tuple(np.zeros_like(array) for array in state)
            slots = begin + np.flatnonzero(mask[row, begin:end])
            piece, own = piece_of(arrays, row, slots, state, noise)
            result = run_variant(reference, piece, noise=own, cell=cell)
            for slot, step in enumerate(np.cumsum(mask[row, begin:end]) - 1, begin):
                if step >= 0 and (mask[row, slot] or not zero_output):
                    found["output"][row, slot] = result["output"][0, step]
                    piece["d_output"][0, step] += arrays["d_output"][row, slot]
            state = result["h"], result["c"]
            pieces.append((piece, own, slots))
        found["h"][row], found["c"][row] = state[0][0], state[1][0]
        for index, (piece, own, slots) in reversed(list(enumerate(pieces))):
            is_last = index == len(pieces) - 1
            piece |= {"d_h": d_h, "d_c": d_c} if is_last else {}
            result = run_variant(reference, piece, noise=own, cell=cell)
            found["gradient_x"][row, slots] = result.pop("gradient_x")[0]
            starts = result.pop("gradient_h0"), result.pop("gradient_c0")
            if index == 0 and not reset[row, 0]:
                found["gradient_h0"][row], found["gradient_c0"][row] = starts[0][0], starts[1][0]
            for name, gradient in result.items():
                if name.startswith("gradient_"):
                    found[name] += gradient
    return found


def assert_alike(actual: Arrays, expected: Arrays) -> None:
    assert actual.keys() == expected.keys()
    for name, array in actual.items():
        assert_no_slip(array, expected[name], name)


def flipped(arrays: Arrays) -> Arrays:
    return arrays | {"x": arrays["x"][:, ::-1]}


@pytest.mark.parametrize("go_backwards", [False, True], ids=["", "go_backwards"])
@pytest.mark.parametrize("zero_output", [False, True], ids=["", "zero_output"])
@pytest.mark.parametrize("variant", ["masks", "resets", "both", "both, noisy"])
def test_masks_and_resets_cut_sequences(
    variant: str, zero_output: bool, go_backwards: bool
) -> None:
    arrays = draw(*SIZE, **EXTRA)
    noise = draw_noise(arrays) if "noisy" in variant else Noise()
    mask, reset = draw_places(B, T), draw_places(B, T, share=0.3, seed=1)
    mask[0], mask[1, :3], mask[2, 5:] = False, False, False
    reset[3, 0] = True
    if variant == "masks":
        reset[:] = False
    if variant == "resets":
        mask[:] = True
    expected = cut_by_hand(arrays, mask, reset, zero_output, noise, CELL)
    options = {"cell": CELL, "noise": noise, "zero_output_for_mask": zero_output}
    if go_backwards:
        flip = {"mask": mask[:, ::-1], "reset": reset[:, ::-1], "go_backwards": True}
        actual = run_variant(reference, flipped(arrays), **flip, **options)
        actual["gradient_x"] = actual["gradient_x"][:, ::-1]
    else:
        actual = run_variant(reference, arrays, mask=mask, reset=reset, **options)
    assert_alike(actual, expected)


@pytest.mark.parametrize("zero_output", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_of_a_masked_step_is_read(variant: str, zero_output: bool) -> None:
    extra, cell = VARIANTS[variant]
    arrays, mask = draw(*SIZE, **extra), draw_places(B, T)
    options = {"mask": mask, "cell": cell, "zero_output_for_mask": zero_output}
    expected = run_variant(reference, arrays, **options)
    arrays["x"][~mask] = np.nan
    if zero_output:
        arrays["d_output"][~mask] = np.nan
    actual = run_variant(reference, arrays, **options)
    assert_same_bits(actual.values(), expected.values())
    assert not actual["gradient_x"][~mask].any()
    if zero_output:
        assert not actual["output"][~mask].any()


def test_outputs_before_the_first_step_are_zeros_and_then_repeat() -> None:
    arrays = draw(1, 6, INPUTS, H)
    mask = np.array([[False, True, False, False, False, True]])
    reset = np.array([[False, False, False, True, False, False]])
    found = run_variant(reference, arrays, mask=mask, reset=reset)
    output = found["output"][0]
    assert output[1].all() and output[5].all()
    assert_same_bits([output[2], output[[0, 3, 4]]], [output[1], np.zeros((3, H))])
    only_the_end = run_variant(
        reference, arrays, mask=mask & (np.arange(6) == 5), reset=np.arange(6)[None] == 5
    )
    assert_same_bits([output[5]], [only_the_end["output"][0, 5]])


@pytest.mark.parametrize("go_backwards", [False, True])
def test_lengths_are_masks(go_backwards: bool) -> None:
    arrays, lengths = draw(*SIZE, **EXTRA), np.array([T, 0, 3, 1, T - 1])
    for dtype in (np.int64, np.int32, np.uint8):
        found = [
            run_variant(reference, arrays, go_backwards=go_backwards, cell=CELL, **option)
            for option in (
                {"lengths": lengths.astype(dtype)},
                {"mask": np.arange(T) < lengths[:, None]},
            )
        ]
        assert_same_bits(found[0].values(), found[1].values())
    assert_same_bits([found[0]["h"][1], found[0]["c"][1]], [arrays["h0"][1], arrays["c0"][1]])


def test_nothing_masked_is_no_mask() -> None:
    arrays = draw(*SIZE, **EXTRA)
    plain = run_variant(reference, arrays)
    everything = {"mask": np.ones((B, T), bool), "reset": np.zeros((B, T), bool)}
    for options in (everything, {"lengths": [T] * B}, {"zero_output_for_mask": True}):
        assert_alike(run_variant(reference, arrays, **options), plain)


@pytest.mark.parametrize(("batch_size", "seq_len"), [(0, 3), (2, 0), (2, 3)])
def test_a_sequence_without_steps_keeps_its_state(batch_size: int, seq_len: int) -> None:
    arrays = draw(batch_size, seq_len, INPUTS, H, **EXTRA)
    mask = np.zeros((batch_size, seq_len), bool)
    found = run_variant(reference, arrays, mask=mask, cell=CELL)
    gradients = (found["gradient_h0"], found["gradient_c0"])
    assert_same_bits((found["h"], found["c"]), (arrays["h0"], arrays["c0"]))
    assert_same_bits(gradients, (arrays["d_h"], arrays["d_c"]))
    assert not found["output"].any() and not found["gradient_kernel"].any()


@pytest.mark.parametrize("go_backwards", [False, True])
def test_time_major_swaps_the_axes_of_x_and_output_alone(go_backwards: bool) -> None:
    arrays = draw(*SIZE, **EXTRA)
    options = {
        "mask": draw_places(B, T), "reset": draw_places(B, T, share=0.2, seed=1),
        "noise": draw_noise(arrays), "cell": CELL, "go_backwards": go_backwards,
    }  # fmt: skip
    swapped = arrays | {name: arrays[name].swapaxes(0, 1) for name in ("x", "d_output")}
    actual = run_variant(reference, swapped, time_major=True, **options)
    for name in ("output", "gradient_x"):
        actual[name] = actual[name].swapaxes(0, 1)
    expected = run_variant(reference, arrays, **options)
    assert_same_bits(actual.values(), expected.values())
    gates = []
    for given, time_major in ((arrays, False), (swapped, True)):
        positional, named = arguments(given)
        gates.append(
            reference.lstm(
                *positional, **named, **options, time_major=time_major, return_gates=True
            )[3]
        )
    assert_same_bits(*gates)


@pytest.mark.parametrize("zero_output", [False, True])
@pytest.mark.parametrize("seq_len", [0, 1, T])
def test_without_return_sequences_the_last_output_is_returned(
    seq_len: int, zero_output: bool
) -> None:
    arrays = draw(B, seq_len, INPUTS, H, **EXTRA)
    options = {"mask": draw_places(B, seq_len), "zero_output_for_mask": zero_output}
    d_last = arrays["d_h"][::-1]
    last = run_variant(reference, arrays | {"d_output": d_last}, return_sequences=False, **options)
    d_output = np.zeros_like(arrays["d_output"])
    if seq_len:
        d_output[:, -1] = d_last
    else:
        arrays["d_h"] = arrays["d_h"] + d_last
    expected = run_variant(reference, arrays | {"d_output": d_output}, **options)
    expected["output"] = expected["output"][:, -1] if seq_len else expected["h"]
    assert_same_bits(last.values(), expected.values())


@pytest.mark.parametrize("go_backwards", [False, True])
def test_gates_are_those_of_the_equations(go_backwards: bool) -> None:
    arrays, mask = draw(*SIZE), draw_places(B, T)
    positional, named = arguments(arrays)
    results = reference.lstm(
        *positional, **named, mask=mask, go_backwards=go_backwards, return_gates=True
    )
    output, _, c, gates = results
    assert gates._fields == ("input", "forget", "candidate", "output", "cell")
    mask = mask[:, ::-1] if go_backwards else mask
    x = arrays["x"][:, ::-1] if go_backwards else arrays["x"]
    h_prev, c_prev = arrays["h0"], arrays["c0"]
    for t in range(T):
        here = mask[:, t, None]
        z = x[:, t] @ arrays["kernel"] + h_prev @ arrays["recurrent_kernel"] + arrays["bias"]
        i, f, g, o = np.split(np.where(here, z, np.nan), 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-z)) for z in (i, f, o))
        cell = f * c_prev + i * np.tanh(g)
        for gate, value in zip(gates, (i, f, np.tanh(g), o, cell), strict=True):
            assert_no_slip(gate[:, t], np.where(here, value, 0), "gate")
        h_prev = np.where(here, output[:, t], h_prev)
        c_prev = np.where(here, gates.cell[:, t], c_prev)
    assert_same_bits([c], [c_prev])


@pytest.mark.parametrize("variant", VARIANTS)
def test_gates_of_every_variant(variant: str) -> None:
    extra, cell = VARIANTS[variant]
    arrays = draw(*SIZE, **extra)
    positional, named = arguments(arrays)
    _, _, c, gates = reference.lstm(*positional, **named, cell=cell, return_gates=True)
    assert all(gate.shape == (B, T, H) and gate.any() for gate in gates)
    assert_same_bits([gates.cell[:, -1]], [c])
    if cell.input_forget:
        assert_same_bits([gates.forget], [1 - gates.input])


def test_results_are_not_what_is_kept_or_given() -> None:
    """Changing every result and argument in place changes no later gradient."""
    arrays = draw(*SIZE, **EXTRA)
    upstream = [arrays[name] for name in ("d_output", "d_h", "d_c")]
    given = {name: array.copy() for name, array in arrays.items()}
    positional, named = arguments(given)
    results, backward = reference.lstm_vjp(*positional, **named, cell=CELL)
    first = backward(*upstream)
    expected = [None if g is None else g.copy() for g in first]
    for array in (*results, *first):
        if array is not None:
            array[:] = np.nan
    assert_same_bits(backward(*upstream), expected)
