"""Masks, lengths and resets: the reference's results, and the bits of sequences cut by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_ext import functional, reference
from lstm_ext.variants import Cell
from operator_support import (
    NAMES,
    NOISE,
    Case,
    Options,
    assert_as_accurate_as_numpy,
    of_rows,
    of_steps,
    pack,
    run_packed,
)
from support import FUSED, ISAS, assert_no_slip, assert_same_bits
from variants_support import ACTIVATIONS, Arrays, run_variant

SLOTS = [
    ("mask",),
    ("lengths",),
    ("reset",),
    ("mask", "reset"),
    ("mask", "zero_output_for_mask"),
    ("lengths", "reset", "go_backwards"),
    ("mask", "reset", "zero_output_for_mask", "go_backwards"),
]
SIZES = [
    (1, 7, 3, 5, 2),
    (5, 4, 6, 17, 11),
    (14, 5, 2, 9, 16),
    (26, 6, 3, 4, 3),
    (3, 9, 20, 33, 17),
]
BEST = FUSED[0] if FUSED else "baseline"


@pytest.mark.parametrize("slots", SLOTS, ids=" ".join)
@pytest.mark.parametrize(
    ("variant", "noise"),
    [
        ("plain", ()),
        ("plain", ("h",)),
        ("peephole", ()),
        ("zoneout", ("cell_zoneout",)),
        ("wide projection, clips", ()),
        ("everything", NOISE),
    ],
    ids=str,
)
def test_results_and_gradients(
    variant: str, noise: tuple[str, ...], slots: tuple[str, ...], isa: str, checked_dtype: Any
) -> None:
    def cases() -> Any:
        for size, seed in itertools.product(SIZES, range(4)):
            yield Case.of(variant, size, checked_dtype, noise=noise, slots=slots, seed=seed)

    assert_as_accurate_as_numpy(cases(), isa)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_any_combination(data: st.DataObject) -> None:
    """Whatever can be given, given together: no slip against the reference in float64."""

    def maybe(value: Any, otherwise: Any = None) -> Any:
        return value if data.draw(st.booleans()) else otherwise

    activation = st.sampled_from([a for a in ACTIVATIONS if "threshold" not in str(a)])
    cell = Cell(
        *(data.draw(activation) for _ in range(3)), maybe(0.9), maybe(0.7), maybe(True, False),
        maybe(0.3, 0.0), maybe(0.2, 0.0),
    )  # fmt: skip
    size = tuple(
        data.draw(st.integers(*ends)) for ends in ((0, 15), (0, 6), (1, 9), (1, 18), (1, 20))
    )
    kinds = ("mask", "reset", "zero_output_for_mask", "go_backwards")
    case = Case(
        size, np.float64, cell, maybe(True, False), maybe(True, False),
        noise=tuple(kind for kind in NOISE if maybe(True)),
        slots=tuple(kind for kind in kinds if maybe(True)), scale=0.5,
        seed=data.draw(st.integers(0, 99)),
    )  # fmt: skip
    arrays, options = case.draw()
    if maybe(True):
        del arrays["h0"], arrays["c0"]
    expected = run_variant(reference, arrays, **options)
    actual = run_variant(functional, arrays, isa=data.draw(st.sampled_from(ISAS)), **options)
    assert actual.keys() == expected.keys()
    for name, array in actual.items():
        assert_no_slip(array, expected[name], name)


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("variant", NAMES)
def test_lengths_are_masks(variant: str, go_backwards: bool, isa: str, dtype: Any) -> None:
    slots = ("lengths", "reset", *(["go_backwards"] if go_backwards else []))
    arrays, options = Case.of(variant, (14, 5, 3, 9, 6), dtype, noise=NOISE, slots=slots).draw()
    weights = pack(arrays, options["cell"], isa=isa)
    expected = run_packed(weights, arrays, **options)
    lengths = options.pop("lengths")
    options["mask"] = np.arange(5) < lengths[:, None]
    assert_same_bits(run_packed(weights, arrays, **options).values(), expected.values())
    del options["mask"]
    for kind in (np.uint8, np.int32, np.uint64):
        actual = run_packed(weights, arrays, lengths=lengths.astype(kind), **options)
        assert_same_bits(actual.values(), expected.values())


# ---- to the bit ----


def rows_by_hand(weights: Any, arrays: Arrays, options: Options) -> Arrays:
    """Run each row's steps between two resets as sequences of their own, read forwards.

    Gradients are those of x, h0 and c0, for a `d_output` that is zero where there is no step.
    """
    batch, steps, _ = arrays["x"].shape
    mask = options.get("mask", np.ones((batch, steps), bool))
    reset = options.get("reset", np.zeros((batch, steps), bool))
    found = {name: np.zeros_like(arrays[f"d_{name}"]) for name in ("output", "h", "c")}
    found |= {f"gradient_{name}": np.zeros_like(arrays[name]) for name in ("x", "h0", "c0")}
    noise = {name: options[name] for name in ("noise",) if name in options}
    for row in range(batch):
        own, own_noise = of_rows(arrays, noise, slice(row, row + 1))
        state = {name: own[name] for name in ("h0", "c0")}
        for begin, end in itertools.pairwise([0, *np.flatnonzero(reset[row]), steps]):
            if reset[row, begin : begin + 1].any():
                state = {name: np.zeros_like(array) for name, array in state.items()}
            here = begin + np.flatnonzero(mask[row, begin:end])
            piece, piece_noise = of_steps(own | state, own_noise, here)
            if end < steps:
                piece |= {name: np.zeros_like(own[name]) for name in ("d_h", "d_c")}
            result = run_packed(weights, piece, **piece_noise)
            for slot, step in enumerate(np.cumsum(mask[row, begin:end]) - 1, begin):
                if step >= 0 and (mask[row, slot] or not options["zero_output_for_mask"]):
                    found["output"][row, slot] = result["output"][0, step]
            found["gradient_x"][row, here] = result["gradient_x"][0]
            if begin == 0 and not reset[row, :1].any():
                for name in ("gradient_h0", "gradient_c0"):
                    found[name][row] = result[name][0]
            state = {"h0": result["h"], "c0": result["c"]}
        found["h"][row], found["c"][row] = state["h0"][0], state["c0"][0]
    return found


@pytest.mark.parametrize("zero_output", [False, True], ids=["", "zero_output"])
@pytest.mark.parametrize("slots", [("mask",), ("reset",), ("mask", "reset")], ids=" ".join)
@pytest.mark.parametrize("variant", ["plain", *NAMES])
def test_a_row_is_its_steps_alone(
    variant: str, slots: tuple[str, ...], zero_output: bool, dtype: Any
) -> None:
    """And a reset cuts it: the same bits, whatever the other rows have."""
    size, noise = (15, 6, 4, 19, 7), NOISE if zero_output else ()
    arrays, options = Case.of(variant, size, dtype, noise=noise, slots=slots).draw()
    options["zero_output_for_mask"] = zero_output
    if "mask" in slots:
        arrays["d_output"][~options["mask"]] = 0
    weights = pack(arrays, options["cell"], isa=BEST)
    actual = run_packed(weights, arrays, **options)
    expected = rows_by_hand(weights, arrays, options)
    assert_same_bits([actual[name] for name in expected], expected.values())


SIZE = (14, 6, 4, 19, 7)


@pytest.mark.parametrize("zero_output", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_nothing_of_a_masked_step_is_read(
    go_backwards: bool, zero_output: bool, isa: str, dtype: Any
) -> None:
    for variant in ("plain", "everything"):
        case = Case.of(variant, SIZE, dtype, noise=NOISE, slots=("mask", "reset"))
        arrays, options = case.draw()
        weights = pack(arrays, options["cell"], isa=isa)
        options |= {"go_backwards": go_backwards, "zero_output_for_mask": zero_output}
        expected = run_packed(weights, arrays, **options)
        in_time, mask = options["mask"], options["mask"]
        if go_backwards:
            mask = mask[:, ::-1]
        arrays["x"][~in_time] = np.nan
        if zero_output:
            arrays["d_output"][~mask] = np.nan
        for places in options["noise"][2:]:
            places[~mask] ^= True
        actual = run_packed(weights, arrays, **options)
        assert all(np.isfinite(array).all() for array in actual.values())
        assert_same_bits(actual.values(), expected.values())
        assert not actual["gradient_x"][~in_time].any()
        if zero_output:
            assert not actual["output"][~mask].any()


def test_what_is_repeated() -> None:
    """Since the beginning or the last reset, zeros if there is nothing yet."""
    arrays, options = Case.of("everything", (2, 6, 4, 19, 7), np.float32).draw()
    weights = pack(arrays, options["cell"])
    mask = np.array([[0, 1, 0, 0, 0, 1], [1, 0, 0, 0, 1, 0]], bool)
    reset = np.array([[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]], bool)
    found = run_packed(weights, arrays, mask=mask, reset=reset)
    first, second = found["output"]
    zeros = np.zeros_like(first[0])
    assert_same_bits(first, [zeros, first[1], first[1], zeros, zeros, first[5]])
    assert_same_bits(second, [second[0]] * 4 + [second[4], zeros])
    assert all(first[i].all() for i in (1, 5)) and all(second[i].all() for i in (0, 4))
    assert_same_bits(
        [found["h"][0], found["h"][1], found["c"][1]], [first[5], zeros, np.zeros(19, "f")]
    )


@pytest.mark.parametrize("zero_output", [False, True])
@pytest.mark.parametrize("is_reset", [False, True])
def test_no_step_at_all(is_reset: bool, zero_output: bool, isa: str, dtype: Any) -> None:
    """The state is the initial one, or zeros after a reset; so are the gradients."""
    arrays, options = Case.of("everything", (5, 4, 3, 9, 6), dtype, noise=NOISE).draw()
    weights = pack(arrays, options["cell"], isa=isa)
    if is_reset:
        options["reset"] = np.eye(5, 4, dtype=bool) | (np.arange(5) == 4)[:, None]
    states = [arrays[name] for name in ("h0", "c0", "d_h", "d_c")]
    if is_reset:
        states = [np.zeros_like(state) for state in states]
    for empty in ({"mask": np.zeros((5, 4), bool)}, {"lengths": np.zeros(5, int)}):
        found = run_packed(weights, arrays, **options, **empty, zero_output_for_mask=zero_output)
        names = ("h", "c", "gradient_h0", "gradient_c0")
        assert_same_bits([found.pop(name) for name in names], states)
        assert not any(array.any() for array in found.values())
        positional = arrays["x"], weights
        for state in (None, (arrays["h0"], arrays["c0"])):
            _, h, c, gates = functional.lstm(
                *positional, initial_state=state, **empty, return_gates=True
            )
            assert not any(gate.any() for gate in gates)
            if state is None:
                assert not (h.any() or c.any())
