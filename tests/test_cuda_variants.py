"""lstm_ext.cuda with variants of the cell, forward and backward, on the emulator."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cuda_support import BFloat16Array, Split, emulating, emulation, to_device
from cuda_variants_support import NAMES, SLOTS, OnDevice, assert_as_accurate_as_numpy
from lstm_ext import cuda, reference
from lstm_ext.variants import Cell, Noise
from operator_support import Accuracy, Case, options_astype
from support import assert_no_slip, assert_same_bits
from variants_support import ACTIVATIONS, arguments, astype, run_variant

# B, T, I, H, and P of a projection: every kernel of both directions, with units and rows that are
# no multiple of a tile.
SIZES = [
    (2, 3, 4, 1, 2), (5, 4, 6, 17, 6), (14, 3, 5, 9, 21), (19, 2, 3, 18, 7), (35, 2, 2, 20, 33),
    (3, 7, 2, 37, 18),
]  # fmt: skip
FEW = [(5, 4, 6, 17, 6), (19, 3, 5, 9, 12)]
DEVICE = OnDevice(to_device, lambda a: np.array(np.asarray(a)))


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with emulating(emulation(), Split("auto"), monkeypatch):
        yield emulation()


@pytest.mark.parametrize("variant", NAMES)
def test_every_variant(variant: str, checked_dtype: Any, emulated: Any) -> None:
    assert_as_accurate_as_numpy(
        DEVICE,
        (Case.of(variant, size, checked_dtype, seed=s) for size in SIZES for s in range(2)),
    )


@pytest.mark.parametrize("slots", SLOTS, ids=" ".join)
@pytest.mark.parametrize("variant", NAMES)
def test_masks_and_resets(variant: str, slots: tuple[str, ...], emulated: Any) -> None:
    assert_as_accurate_as_numpy(
        DEVICE,
        (
            Case.of(variant, size, np.float32, slots=slots, noise=("x", "h")[: s % 3], seed=s)
            for size in FEW
            for s in range(3)
        ),
    )


@pytest.mark.parametrize("kinds", [*itertools.combinations(Noise._fields, 1), Noise._fields])
@pytest.mark.parametrize("slots", [(), *SLOTS], ids=" ".join)
@pytest.mark.parametrize("variant", ["plain", "zoneout", "peephole, zoneout", "everything"])
def test_noise(variant: str, slots: tuple[str, ...], kinds: tuple[str, ...], emulated: Any) -> None:
    assert_as_accurate_as_numpy(
        DEVICE,
        (
            Case.of(variant, size, np.float32, slots=slots, noise=kinds, seed=s)
            for size in FEW
            for s in range(2)
        ),
    )


@pytest.mark.parametrize("place", ["activation", "recurrent_activation", "output_activation"])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_activation(activation: Any, place: str, checked_dtype: Any, emulated: Any) -> None:
    cell = Cell()._replace(**{"output_activation": "tanh", place: activation})
    sizes = [(19, 2, 4, 9, 0), (6, 3, 5, 17, 0)]
    assert_as_accurate_as_numpy(
        DEVICE,
        (Case(size, checked_dtype, cell, scale=0.7, seed=s) for size in sizes for s in range(4)),
    )


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_activation_far_out(activation: Any, dtype: Any, emulated: Any) -> None:
    """c is half the activation of x, which has every magnitude and what is not finite."""
    sizes = [0, 1e-30, 1e-9, 0.05, 0.3, 1.4, 2.9, 9, 30, 80, 1e3, 1e30, np.inf, np.nan]
    x = np.array([*sizes, *np.negative(sizes)], dtype)[:, None, None]
    kernel = np.array([[0, 0, 1, 0]], dtype)
    upstream = (np.zeros_like(x), *np.zeros((2, len(x), 1), dtype))
    upstream[2][:] = 1
    found = []
    with np.errstate(all="ignore"):
        for module in (DEVICE, reference):
            (_, _, c), backward = module.lstm_vjp(x, kernel, kernel * 0, cell=Cell(activation))
            found.append((c, backward(*upstream).x))
    eps = float(np.finfo(dtype).eps)
    for actual, expected in zip(*found, strict=True):
        # To half the digits of each value, or of the smallest x between which functions bend.
        np.testing.assert_allclose(actual, expected, rtol=eps**0.5, atol=eps)


@pytest.mark.parametrize("gate", range(4))
@pytest.mark.parametrize("cell", [Cell(clip=0.8), Cell(cell_clip=0.5), *map(Cell, ACTIVATIONS)])
def test_what_is_not_a_number_passes(cell: Cell, gate: int, emulated: Any) -> None:
    """From z of one gate of a unit, where nothing else is NaN."""
    if cell.recurrent_activation == "sigmoid" and cell.clip is None and cell.cell_clip is None:
        cell = cell._replace(recurrent_activation=cell.activation)
    arrays, _ = Case.of("plain", FEW[0], np.float32).draw()
    units = arrays["h0"].shape[1]
    arrays["bias"][gate * units] = np.nan
    with np.errstate(invalid="ignore"):
        found, expected = (
            module.lstm(*arguments(arrays)[0], cell=cell) for module in (DEVICE, reference)
        )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))


@pytest.mark.parametrize("slots", [(), ("mask", "reset", "go_backwards")], ids=["", "masked"])
@pytest.mark.parametrize("variant", NAMES)
def test_gates(variant: str, slots: tuple[str, ...], emulated: Any) -> None:
    accuracy = Accuracy()
    for size in FEW:
        arrays, options = Case.of(variant, size, np.float32, slots=slots).draw()
        positional, named = arguments(arrays)
        *results, gates = DEVICE.lstm(*positional, return_gates=True, **named, **options)
        assert_same_bits(results, DEVICE.lstm(*positional, **named, **options))
        plain, exact = (
            reference.lstm(
                *arguments(astype(arrays, kind))[0], return_gates=True,
                **arguments(astype(arrays, kind))[1], **options_astype(options, kind),
            )[3]
            for kind in (np.float32, np.float64)
        )  # fmt: skip
        accuracy.add(gates._asdict(), plain._asdict(), exact._asdict(), str(size))
    accuracy.finish()


@pytest.mark.parametrize("given", list(itertools.product([False, True], repeat=4)), ids=str)
def test_options(given: tuple[bool, ...], emulated: Any) -> None:
    """Each option is held to the plain call that it stands for, which others here check."""
    bias, state, time_major, return_sequences = given
    arrays, options = Case.of(NAMES[-1], FEW[0], np.float32, noise=Noise._fields).draw()
    if not bias:
        arrays["bias"] = np.zeros_like(arrays["bias"])
    if not state:
        arrays |= {name: np.zeros_like(arrays[name]) for name in ("h0", "c0")}
    if not return_sequences:
        arrays["d_output"][:, :-1] = 0
    expected = run_variant(DEVICE, arrays, **options)
    flags: dict[str, Any] = {"time_major": time_major, "return_sequences": return_sequences}
    if time_major:
        arrays["x"] = arrays["x"].swapaxes(0, 1).copy()
        expected["gradient_x"] = expected["gradient_x"].swapaxes(0, 1)
    if not return_sequences:
        arrays["d_output"] = arrays["d_output"][:, -1].copy()
        expected["output"] = expected["output"][:, -1]
    elif time_major:
        arrays["d_output"] = arrays["d_output"].swapaxes(0, 1).copy()
        expected["output"] = expected["output"].swapaxes(0, 1)
    if not bias:
        del arrays["bias"], expected["gradient_bias"]
    if not state:
        del arrays["h0"], arrays["c0"]
    actual = run_variant(DEVICE, arrays, **flags, **options)
    assert actual.keys() == expected.keys()
    assert_same_bits(actual.values(), expected.values())


@pytest.mark.parametrize("variant", NAMES)
def test_the_same_bits_in_any_order_of_threads(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays, options = Case.of(variant, (67, 2, 2, 35, 19), np.float32, slots=("mask",)).draw()
    found = []
    for order, seed in (("forward", 0), ("reverse", 0), ("random", 1), ("random", 2)):
        with emulating(emulation(), Split("steps", order=order, seed=seed), monkeypatch):
            found.append(run_variant(DEVICE, arrays, **options))
    for other in found[1:]:
        assert_same_bits(other.values(), found[0].values())


@pytest.mark.parametrize(("batch", "steps"), [(0, 3), (2, 0)])
def test_nothing_to_do(batch: int, steps: int, emulated: Any) -> None:
    arrays, options = Case.of(NAMES[-1], (batch, steps, 3, 4, 2), np.float32).draw()
    found = run_variant(DEVICE, arrays, **options)
    assert found["output"].shape == (batch, steps, 2)
    assert_same_bits([found["h"], found["c"]], [arrays["h0"], arrays["c0"]])
    for name in ("kernel", "peephole", "projection_kernel"):
        assert not found[f"gradient_{name}"].any()
    assert_same_bits([found["gradient_c0"]], [arrays["d_c"]])
    if steps == 0:
        assert_same_bits([found["gradient_h0"]], [arrays["d_h"]])


@pytest.mark.parametrize("variant", ["peephole", "projection"])
def test_what_is_masked_is_not_looked_at(variant: str, emulated: Any) -> None:
    """Not even a cell that is NaN, if a reset ends it before a step."""
    arrays, options = Case.of(variant, FEW[0], np.float32).draw()
    shape = arrays["x"].shape[:2]
    mask, reset = np.ones(shape, bool), np.zeros(shape, bool)
    mask[1, :2], reset[1, 2] = False, True
    arrays["c0"][1] = np.nan
    expected, found = (
        run_variant(module, arrays, mask=mask, reset=reset, **options)
        for module in (reference, DEVICE)
    )
    for name, array in found.items():
        assert np.isfinite(array).all()
        assert_no_slip(array, expected[name], name)


@pytest.mark.parametrize("variant", ["peephole", "projection", "projection, zoneout"])
def test_a_gradient_ends_at_a_masked_reset(variant: str, emulated: Any) -> None:
    """Even one that is NaN: what is put out there is zero, whatever the weights are."""
    arrays, options = Case.of(variant, FEW[0], np.float32).draw()
    mask, reset = np.ones((2, *arrays["x"].shape[:2]), bool)
    mask[1, 2], reset[:] = False, False
    reset[1, 2] = True
    arrays["d_output"][1, 2] = np.nan
    found = run_variant(DEVICE, arrays, mask=mask, reset=reset, **options)
    arrays["d_output"][1, 2] = 0
    expected = run_variant(reference, arrays, mask=mask, reset=reset, **options)
    for name, array in found.items():
        assert_no_slip(array, expected[name], name)


def test_consumed(emulated: Any) -> None:
    arrays, options = Case.of("projection, zoneout", FEW[0], np.float32).draw()
    positional, named = arguments(arrays)
    options |= {name: DEVICE.there(value) for name, value in named.items()}
    _, backward = cuda.lstm_vjp(*map(DEVICE.there, positional), **options)
    d_output = DEVICE.there(arrays["d_output"])
    kept, consumed = (DEVICE.here(backward(d_output, consume=consume)) for consume in (False, True))
    assert_same_bits([a for a in consumed if a is not None], [a for a in kept if a is not None])


def test_a_cell_that_is_the_plain_one(emulated: Any) -> None:
    """By other names: it takes the way of the plain one, with its bits."""
    arrays, _ = Case.of("plain", FEW[0], np.float32).draw()
    spelled = Cell(("scaled_tanh", 1.0), "sigmoid", "tanh")
    found, plain = (
        run_variant(DEVICE, arrays, cell=cell, algorithm="cluster") for cell in (spelled, None)
    )
    assert_same_bits(found.values(), plain.values())


PLACES = np.zeros((5, 4, 17), bool)
WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"cell": Cell(clip=1.0), "algorithm": "cluster"},
        ValueError,
        r"algorithm: got 'cluster' beside cell.clip, expected 'steps' or None",
    ),
    (
        {"cell": Cell("relu"), "algorithm": "grid"},
        ValueError,
        r"algorithm: got 'grid' beside cell.activation, expected 'steps' or None",
    ),
    (
        {"peephole": DEVICE.there(np.zeros(51, np.float32)), "algorithm": "grid"},
        ValueError,
        r"algorithm: got 'grid' beside peephole, expected 'steps' or None",
    ),
    (
        {"peephole": DEVICE.there(np.zeros(17, np.float32))},
        ValueError,
        r"peephole: got shape \(17,\), expected \(51,\)",
    ),
    (
        {"peephole": np.zeros(51, np.float32)},
        TypeError,
        "peephole: got a NumPy array, expected one",
    ),
    (
        {"noise": Noise(cell_zoneout=DEVICE.there(PLACES)), "algorithm": "cluster"},
        ValueError,
        r"algorithm: got 'cluster' beside noise.cell_zoneout, expected 'steps' or None",
    ),
    (
        {"noise": Noise(zoneout=DEVICE.there(PLACES * 1.0))},
        TypeError,
        r"noise.zoneout: got an array of float64, expected bool",
    ),
    (
        {"projection_kernel": DEVICE.there(np.zeros((17, 17), np.float32)), "algorithm": "grid"},
        ValueError,
        r"algorithm: got 'grid' beside projection_kernel, expected 'steps' or None",
    ),
    (
        {"projection_kernel": DEVICE.there(np.zeros((17, 6), np.float32))},
        ValueError,
        r"projection_kernel: got shape \(17, 6\), expected \(17, 17\)",
    ),
    (
        {"projection_kernel": DEVICE.there(np.zeros((17, 17)))},
        TypeError,
        "projection_kernel: got an array of float64, expected float32",
    ),
    ({"cell": Cell(zoneout=1.5)}, ValueError, r"cell.zoneout: got 1.5, expected"),
    ({"cell": Cell(clip=-1.0)}, ValueError, r"cell.clip: got -1.0, expected a positive finite"),
    ({"cell": Cell("sine")}, ValueError, r"cell.activation: got 'sine', expected one of affine"),
    ({"cell": "lstm"}, TypeError, r"cell: got str, expected a Cell"),
]


@pytest.mark.parametrize(("options", "error", "message"), WRONG)
def test_wrong_arguments(
    options: dict[str, Any], error: type[Exception], message: str, emulated: Any
) -> None:
    arrays, _ = Case.of("plain", FEW[0], np.float32).draw()
    launches = emulated.launches()
    for function in (cuda.lstm, cuda.lstm_vjp):
        with pytest.raises(error, match=message):
            function(*map(DEVICE.there, arguments(arrays)[0]), **options)
    assert emulated.launches() == launches


def test_bfloat16_is_refused(emulated: Any) -> None:
    arrays, _ = Case.of("plain", FEW[0], np.float32).draw()
    small = [BFloat16Array(a) for a in arguments(arrays)[0]]
    with pytest.raises(NotImplementedError, match=r"cell.clip: got it beside bfloat16, expected"):
        cuda.lstm(*small, cell=Cell(clip=1.0))
    square = BFloat16Array(np.zeros((17, 17)))
    with pytest.raises(NotImplementedError, match="projection_kernel: got it beside bfloat16"):
        cuda.lstm(*small, projection_kernel=square)


def test_a_projection_has_its_own_shape(emulated: Any) -> None:
    """Of the weights and the state, where all but one fits."""
    arrays, _ = Case.of("projection", FEW[0], np.float32).draw()
    wrong = {
        "recurrent_kernel": (np.zeros((6, 66), np.float32), r"projection_units, 4 \* units"),
        "projection_kernel": (np.zeros((6, 17), np.float32), r"expected \(17, 6\)"),
        "h0": (np.zeros((5, 17), np.float32), r"initial_state\[0\]: .* expected \(5, 6\)"),
        "c0": (np.zeros((5, 6), np.float32), r"initial_state\[1\]: .* expected \(5, 17\)"),
    }
    for name, (value, message) in wrong.items():
        positional, named = arguments(arrays | {name: value})
        with pytest.raises(ValueError, match=message):
            DEVICE.lstm(*positional, **named)
    positional, named = arguments(arrays)
    del named["projection_kernel"]
    with pytest.raises(
        ValueError, match=r"recurrent_kernel: got shape \(6, 68\), expected \(units"
    ):
        DEVICE.lstm(*positional, **named)
