"""The promises of the results, for variants, masks and noise: the same bits however calls are cut.

And NumPy's NaN and inf.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstm_ext
from lstm_ext import functional, reference
from lstm_ext.variants import Cell
from operator_support import (
    NAMES,
    NOISE,
    Case,
    Options,
    Size,
    of_rows,
    of_steps,
    pack,
    run_packed,
)
from support import FUSED, Array, assert_no_slip, assert_same_bits
from test_small_weights import FORMATS
from variants_support import ACTIVATIONS, Arrays, run_variant

# One for each way in which a call is cut up: small; steps projected together, in several chunks;
# each step on its own; rows shared among threads; units shared among threads; both.
CUTS: list[Size] = [
    (3, 5, 4, 7, 5), (1, 130, 3, 65, 33), (13, 6, 33, 37, 40), (24, 16, 40, 100, 31),
    (2, 90, 40, 160, 70), (13, 20, 30, 130, 37),
]  # fmt: skip
BEST = FUSED[0] if FUSED else "baseline"
MASKED = ("mask", "reset")
# What makes a call take other ways than the usual one.
KINDS: dict[str, dict[str, Any]] = {
    "plain, masked": {"variant": "plain", "slots": MASKED},
    "plain, noise of h": {"variant": "plain", "noise": ("x", "h")},
    "peephole, clip": {"variant": "peephole, clip"},
    "projection": {"variant": "projection"},
    "projection, zoneout": {"variant": "projection, zoneout", "slots": ("lengths",)},
    "everything": {"variant": "everything"},
    "everything, noisy": {"variant": "everything, coupled", "slots": MASKED, "noise": NOISE},
}


def draw_kind(kind: str, size: Size, dtype: Any, isa: str) -> tuple[Any, Arrays, Options]:
    """Return weights, arrays and options of one of `KINDS`."""
    arrays, options = Case.of(**KINDS[kind], size=size, dtype=dtype).draw()
    return pack(arrays, options.pop("cell"), isa=isa), arrays, options


@pytest.mark.parametrize("size", CUTS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_threads_or_run(kind: str, size: Size, dtype: Any) -> None:
    for isa in [BEST, "baseline"] if kind == "everything, noisy" else [BEST]:
        weights, arrays, options = draw_kind(kind, size, dtype, isa)
        expected = run_packed(weights, arrays, num_threads=1, **options)
        for num_threads in (1, 2, 3, 7, None):
            actual = run_packed(weights, arrays, num_threads=num_threads, **options)
            assert_same_bits(actual.values(), expected.values())


@pytest.mark.parametrize("size", [*CUTS[:4], (14, 3, 130, 129, 65)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_its_batch(kind: str, size: Size, dtype: Any) -> None:
    """Nor do the gradients of its x and state."""
    weights, arrays, options = draw_kind(kind, size, dtype, BEST)
    names = ("output", "h", "c", "gradient_x", "gradient_h0", "gradient_c0")
    whole = run_packed(weights, arrays, **options)
    for rows in (slice(0, 1), slice(size[0] - 1, size[0]), slice(1, 3), slice(0, 12), [4, 1, 0]):
        if isinstance(rows, list) and size[0] < 5:
            continue
        part, own = of_rows(arrays, options, rows)
        found = run_packed(weights, part, **own)
        assert_same_bits([found[name] for name in names], [whole[name][rows] for name in names])


@pytest.mark.parametrize("size", [*CUTS[:3], (2, 40, 40, 160, 70)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_steps_may_come_in_several_calls(kind: str, size: Size, isa: str, dtype: Any) -> None:
    weights, arrays, options = draw_kind(kind, size, dtype, isa)
    steps = size[1]
    if "lengths" in options:
        options["mask"] = np.arange(steps) < options.pop("lengths")[:, None]
    options["zero_output_for_mask"] = True  # what is repeated begins anew in each call
    state: Any = (arrays["h0"], arrays["c0"])
    whole = functional.lstm(arrays["x"], weights, initial_state=state, **options)
    for lengths in ([1] * steps, [2, 1, steps - 3], [steps - 1, 1]):
        outputs, now = [], state
        for end, length in zip(np.cumsum(lengths), lengths, strict=True):
            part, own = of_steps(arrays, options, slice(end - length, end))
            output, *now = functional.lstm(part["x"], weights, initial_state=now, **own)
            outputs.append(output)
        assert_same_bits((np.concatenate(outputs, axis=1), *now), whole)


@pytest.mark.parametrize("variant", NAMES)
def test_the_last_output_is_h(variant: str, isa: str, dtype: Any) -> None:
    for size in CUTS[:3]:
        arrays, options = Case.of(variant, size, dtype, noise=NOISE).draw()
        found = run_variant(functional, arrays, isa=isa, **options)
        assert_same_bits([found["output"][:, -1]], [found["h"]])


needs_two = pytest.mark.skipif(len(FUSED) < 2, reason="needs two instruction sets with FMA")


@needs_two
@pytest.mark.parametrize("slots", [(), ("mask", "reset")], ids=["", "masked"])
@pytest.mark.parametrize("variant", NAMES)
def test_instruction_sets_with_fma_agree(variant: str, slots: tuple[str, ...], dtype: Any) -> None:
    for size in [*CUTS[:3], (1, 1, 1, 1, 1), (9, 3, 17, 15, 16), (2, 7, 64, 129, 130)]:
        case = Case.of(variant, size, dtype, slots=slots, noise=NOISE if slots else ())
        arrays, options = case.draw()
        expected, *others = (
            run_packed(pack(arrays, options["cell"], isa=isa), arrays, **options) for isa in FUSED
        )
        for other in others:
            assert_same_bits(other.values(), expected.values())


@needs_two
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations_agree_on_instruction_sets_with_fma(activation: Any, dtype: Any) -> None:
    for place in ("activation", "recurrent_activation", "output_activation"):
        cell = Cell()._replace(**{"output_activation": "tanh", place: activation})
        arrays, options = Case((5, 3, 4, 21, 0), dtype, cell, scale=0.7).draw()
        expected, *others = (run_variant(functional, arrays, isa=i, **options) for i in FUSED)
        for other in others:
            assert_same_bits(other.values(), expected.values())


# ---- streams ----


def stream_of(weights: Any, arrays: Arrays, reset: Array | None = None) -> list[Array]:
    """Return the outputs, h and c of a stream that takes a problem's steps one by one."""
    batch, steps, _ = arrays["x"].shape
    stream = lstm_ext._cpu.Stream(weights, batch)
    stream.set_state(arrays["h0"], arrays["c0"])
    outputs = np.empty((steps, batch, weights.output_size), arrays["x"].dtype)
    for t in range(steps):
        if reset is not None:
            stream.reset(np.flatnonzero(reset[:, t]))
        stream.step(np.ascontiguousarray(arrays["x"][:, t]), outputs[t])
    return [outputs.swapaxes(0, 1), *stream.state()]


@pytest.mark.parametrize("variant", NAMES)
def test_a_stream_gives_the_bits_of_a_call(variant: str, isa: str, dtype: Any) -> None:
    for size in [*CUTS[:3], (1, 3, 2, 8, 1), (2, 4, 17, 129, 130)]:
        arrays, options = Case.of(variant, size, dtype, slots=("reset",)).draw()
        weights = pack(arrays, options["cell"], isa=isa)
        state, reset = (arrays["h0"], arrays["c0"]), options["reset"]
        expected = functional.lstm(arrays["x"], weights, initial_state=state)
        assert_same_bits(stream_of(weights, arrays), expected)
        expected = functional.lstm(arrays["x"], weights, initial_state=state, reset=reset)
        assert_same_bits(stream_of(weights, arrays, reset), expected)


@pytest.mark.parametrize("weights_dtype", FORMATS)
@pytest.mark.parametrize("variant", NAMES)
def test_a_stream_of_small_weights(variant: str, weights_dtype: str) -> None:
    arrays, options = Case.of(variant, (3, 5, 9, 37, 20), np.float32).draw()
    weights = pack(arrays, options["cell"], weights_dtype=weights_dtype)
    state = arrays["h0"], arrays["c0"]
    expected = functional.lstm(arrays["x"], weights, initial_state=state)
    assert_same_bits(stream_of(weights, arrays), expected)


@pytest.mark.parametrize("variant", ["peephole, zoneout", "everything"])
def test_a_stream_that_threads_share(variant: str, dtype: Any) -> None:
    arrays, options = Case.of(variant, (3, 8, 130, 500, 257), dtype).draw()
    weights = pack(arrays, options["cell"])
    state = arrays["h0"], arrays["c0"]
    expected = functional.lstm(arrays["x"], weights, initial_state=state, num_threads=1)
    before = lstm_ext.get_num_threads()
    try:
        for num_threads in (1, 2, 3):
            lstm_ext.set_num_threads(num_threads)
            assert_same_bits(stream_of(weights, arrays), expected)
    finally:
        lstm_ext.set_num_threads(before)


@pytest.mark.parametrize("weights_dtype", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_small_weights_keep_the_promises(kind: str, weights_dtype: str) -> None:
    """Of rows, threads and steps, and on all instruction sets with FMA."""
    results = {}
    sets = [isa for isa in lstm_ext.available_isas() if isa != "baseline"] or ["baseline"]
    for size in ((13, 6, 9, 37, 20), (3, 40, 64, 140, 70)):
        arrays, options = Case.of(**KINDS[kind], size=size, dtype=np.float32).draw()
        cell = options.pop("cell")
        for isa in sets:
            weights = pack(arrays, cell, weights_dtype=weights_dtype, isa=isa)
            state = arrays["h0"], arrays["c0"]
            for threads in (1, 2, 3):
                results[isa, threads] = functional.lstm(
                    arrays["x"], weights, initial_state=state, num_threads=threads, **options
                )
            part, own = of_rows(arrays, options, slice(1, 3))
            found = functional.lstm(
                part["x"], weights, initial_state=(part["h0"], part["c0"]), **own
            )
            assert_same_bits(found, [array[1:3] for array in results[isa, 1]])
        expected = results[sets[0], 1]
        for result in results.values():
            assert_same_bits(result, expected)


# ---- special values ----


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("x", (2, 1, 0)), ("kernel", (1, 5)), ("recurrent_kernel", (3, 40)), ("bias", (60,)),
        ("h0", (1, 7)), ("c0", (4, 3)), ("d_output", (2, 2, 9)), ("d_c", (0, 1)),
        ("peephole", (20,)), ("peephole", (50,)), ("projection_kernel", (5, 6)),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["peephole, clip", "projection, zoneout", "everything, noisy"])
def test_nan_and_inf_go_where_numpy_takes_them(
    kind: str, name: str, index: tuple[int, ...], value: float, isa: str, dtype: Any
) -> None:
    arrays, options = Case.of(**KINDS[kind], size=(5, 4, 3, 18, 12), dtype=dtype).draw()
    if name not in arrays:
        return
    arrays[name][index] = value
    with np.errstate(all="ignore"):
        expected = run_variant(reference, arrays, **options)
        found = run_variant(functional, arrays, isa=isa, **options)
    for name, actual in found.items():
        exact = expected[name]
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(exact), err_msg=name)
        np.testing.assert_array_equal(actual[np.isinf(exact)], exact[np.isinf(exact)], name)
        assert_no_slip(actual[np.isfinite(exact)], exact[np.isfinite(exact)], name)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_reset_stops_nan_and_inf(value: float, isa: str, dtype: Any) -> None:
    arrays, options = Case.of("everything", (5, 4, 3, 18, 12), dtype, noise=NOISE).draw()
    options["reset"] = np.zeros((5, 4), bool)
    options["reset"][:, 2] = True
    arrays["x"][0, 1], arrays["h0"][1], arrays["c0"][2] = value, value, value
    arrays["d_output"][3, 3] = value
    with np.errstate(invalid="ignore"):  # of infinity times a noise of zero
        found = run_variant(functional, arrays, isa=isa, **options)
    assert np.isfinite(found["output"][:, 2:]).all() and np.isfinite(found["h"]).all()
    assert not np.isfinite(found["output"][:3, 1]).all()
    assert np.isfinite(found["gradient_x"][3, :2]).all()
    assert np.isfinite(found["gradient_h0"][3]).all() and np.isfinite(found["gradient_c0"][3]).all()
    assert np.isnan(found["gradient_x"][3, 2:]).any()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_compute(kind: str, shape: tuple[int, int], isa: str, dtype: Any) -> None:
    weights, arrays, options = draw_kind(kind, (*shape, 4, 9, 5), dtype, isa)
    found = run_packed(weights, arrays, **options)
    states = [arrays[name] for name in ("h0", "c0", "d_h", "d_c")]
    assert found["output"].shape == arrays["d_output"].shape
    assert_same_bits([found[n] for n in ("h", "c", "gradient_h0", "gradient_c0")], states)
    for name, array in found.items():
        if name.startswith("gradient") and name[9:] not in ("h0", "c0"):
            assert array.shape == arrays[name[9:]].shape and not array.any()
