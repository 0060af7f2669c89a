"""The operator's variants against the NumPy reference, forward and back, on every instruction set.

An accuracy is judged over all sizes of a case together (`operator_support.Accuracy`).
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lstm_ext import functional, reference
from lstm_ext.variants import Cell, Gates, Noise
from operator_support import (
    NAMES,
    NOISE,
    Accuracy,
    Case,
    assert_as_accurate_as_numpy,
    options_astype,
    pack,
)
from support import assert_same_bits, wider
from test_small_weights import FORMATS, rounded
from test_small_weights import ISAS as ALL_ISAS
from variants_support import ACTIVATIONS, VARIANTS, Arrays, arguments, astype, run_variant

# B, T, I, H and P of a projection: on both sides of vectors' lengths, of blocks of k, and of the
# batch above which x and h are multiplied together; P of one, below, of and above H.
SIZES = [
    (2, 3, 4, 1, 1), (3, 2, 1, 2, 4), (1, 5, 10, 20, 7), (4, 3, 5, 8, 9), (5, 4, 6, 17, 11),
    (14, 3, 5, 9, 16), (40, 4, 2, 5, 3), (6, 2, 16, 16, 16), (13, 2, 65, 33, 31), (1, 2, 1, 63, 65),
    (3, 2, 130, 31, 129), (2, 3, 3, 129, 64),
]  # fmt: skip
FEW = [(5, 4, 6, 17, 11), (14, 3, 5, 9, 16)]
SEEDS = range(2)


@pytest.mark.parametrize("variant", NAMES)
def test_every_variant(variant: str, isa: str, checked_dtype: Any) -> None:
    assert_as_accurate_as_numpy(
        (Case.of(variant, size, checked_dtype, seed=s) for size in SIZES for s in SEEDS), isa
    )


@pytest.mark.parametrize("kinds", [*itertools.combinations(NOISE, 1), NOISE], ids=" ".join)
@pytest.mark.parametrize(
    "variant", ["input_forget", "zoneout", "everything", "wide projection, clips"]
)
def test_every_kind_of_noise(
    variant: str, kinds: tuple[str, ...], isa: str, checked_dtype: Any
) -> None:
    sizes = SIZES if kinds == NOISE and variant == "everything" else FEW
    assert_as_accurate_as_numpy(
        (
            Case.of(variant, size, checked_dtype, noise=kinds, seed=s)
            for size in sizes
            for s in range(4)
        ),
        isa,
    )


@pytest.mark.parametrize("place", ["activation", "recurrent_activation", "output_activation"])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_activation(activation: Any, place: str, isa: str, checked_dtype: Any) -> None:
    cell = Cell()._replace(**{"output_activation": "tanh", place: activation})
    sizes = [(23, 2, 4, 9, 0), (6, 3, 5, 17, 0)]
    assert_as_accurate_as_numpy(
        (Case(size, checked_dtype, cell, scale=0.7, seed=s) for size in sizes for s in range(4)),
        isa,
    )


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_activation_far_out(activation: Any, isa: str, dtype: Any) -> None:
    """c is half the activation of x, which has every magnitude and what is not finite."""
    sizes = [0, 1e-30, 1e-9, 0.05, 0.3, 1.4, 2.9, 9, 30, 80, 1e3, 1e30, np.inf, np.nan]
    x = np.array([*sizes, *np.negative(sizes)], dtype)[:, None, None]
    kernel = np.array([[0, 0, 1, 0]], dtype)
    weights = kernel, np.zeros_like(kernel), None
    found = []
    with np.errstate(all="ignore"):
        for module, options in ((functional, {"isa": isa}), (reference, {})):
            (_, _, c), backward = module.lstm_vjp(x, *weights, cell=Cell(activation), **options)
            found.append((c, backward(d_c=np.ones_like(c)).x))
    eps = float(np.finfo(dtype).eps)
    for actual, expected in zip(*found, strict=True):
        # To half the digits of each value, or of the smallest x between which functions bend.
        np.testing.assert_allclose(actual, expected, rtol=eps**0.5, atol=eps)


@pytest.mark.parametrize("given", list(itertools.product([False, True], repeat=4)), ids=str)
def test_options(given: tuple[bool, ...], isa: str, dtype: Any) -> None:
    """Each option is held to the plain call that it stands for, which others here check."""
    bias, state, go_backwards, time_major = given
    arrays, options = Case.of("everything", (14, 6, 5, 19, 7), dtype, noise=NOISE).draw()
    if not bias:
        arrays["bias"] = np.zeros_like(arrays["bias"])
    if not state:
        arrays |= {name: np.zeros_like(arrays[name]) for name in ("h0", "c0")}
    expected = run_variant(functional, arrays, isa=isa, **options)
    expected_output = expected["output"]
    in_time = {name: arrays[name] for name in ("x", "d_output")}
    if go_backwards:
        in_time["x"] = in_time["x"][:, ::-1]
        expected["gradient_x"] = expected["gradient_x"][:, ::-1]
    if time_major:
        in_time = {name: array.swapaxes(0, 1) for name, array in in_time.items()}
        for name in ("output", "gradient_x"):
            expected[name] = expected[name].swapaxes(0, 1)
    arrays |= in_time
    if not bias:
        del arrays["bias"], expected["gradient_bias"]
    if not state:
        del arrays["h0"], arrays["c0"]
    flags = {"go_backwards": go_backwards, "time_major": time_major}
    actual = run_variant(functional, arrays, isa=isa, **flags, **options)
    assert actual.keys() == expected.keys()
    assert_same_bits(actual.values(), expected.values())
    positional, named = arguments(arrays)
    results = functional.lstm(*positional, **named, isa=isa, **flags, **options)
    assert_same_bits(results, list(expected.values())[:3])
    assert expected_output.shape == (14, 6, 7)


def gates_of(module: Any, arrays: Arrays, **options: Any) -> tuple[list[Any], Gates]:
    positional, named = arguments(arrays)
    *results, gates = module.lstm(*positional, **named, return_gates=True, **options)
    assert type(gates) is Gates
    return results, gates


@pytest.mark.parametrize("slots", [(), ("mask", "reset", "go_backwards")], ids=["", "masked"])
@pytest.mark.parametrize("variant", ["plain", *NAMES])
def test_gates(variant: str, slots: tuple[str, ...], isa: str, checked_dtype: Any) -> None:
    accuracy = Accuracy()
    for size in [*FEW, (2, 3, 3, 129, 64), (3, 2, 1, 2, 4)]:
        noise = NOISE if slots else ()
        arrays, options = Case.of(variant, size, checked_dtype, slots=slots, noise=noise).draw()
        results, gates = gates_of(functional, arrays, isa=isa, **options)
        positional, named = arguments(arrays)
        assert_same_bits(results, functional.lstm(*positional, **named, isa=isa, **options))
        plain, exact = (
            gates_of(reference, astype(arrays, kind), **options_astype(options, kind))[1]
            for kind in (checked_dtype, wider(checked_dtype))
        )
        accuracy.add(gates._asdict(), plain._asdict(), exact._asdict(), str(size))
        if slots:
            masked = ~options["mask"][:, ::-1]
            assert not any(gate[masked].any() for gate in gates)
    accuracy.finish()


# ---- small weights ----


def exact_step(arrays: Arrays, state: Any, cell: Cell, noise: Noise, weights_dtype: str) -> Any:
    """Take a step in float64, with weights and activations rounded on their way into products.

    What is kept of h by zoneout, and what is projected, is not.
    """
    exact = astype(arrays, np.float64)
    h, c = state
    for name in ("kernel", "recurrent_kernel"):
        exact[name] = rounded(arrays[name], weights_dtype, 0)
    exact["x"] = rounded(arrays["x"][:, 0] * noise.x, weights_dtype, 1)[:, None]
    exact["h0"] = rounded(h * noise.h, weights_dtype, 1)
    exact["c0"] = c.astype(np.float64)
    positional, named = arguments(exact)
    _, made, c = reference.lstm(
        *positional, **named, cell=cell._replace(zoneout=0.0),
        noise=Noise(cell_zoneout=noise.cell_zoneout),
    )  # fmt: skip
    if noise.zoneout is not None:
        return np.where(noise.zoneout[:, 0], h, made), c
    return cell.zoneout * h + (1 - cell.zoneout) * made, c


@pytest.mark.parametrize("weights_dtype", FORMATS)
@pytest.mark.parametrize("isa", ALL_ISAS)
@pytest.mark.parametrize("variant", NAMES)
def test_small_weights(variant: str, isa: str, weights_dtype: str) -> None:
    """Step by step from the very state that came out: else roundings that fall differently add up.

    Sums of K products err by some sqrt(K) roundings of a float32 in a value of size one.
    """
    for size, kinds in zip([*SIZES[:6], (2, 3, 130, 33, 40)], itertools.cycle([NOISE[:2], NOISE])):
        arrays, options = Case.of(variant, size, np.float32, noise=kinds).draw()
        weights = pack(arrays, options["cell"], weights_dtype=weights_dtype, isa=isa)
        _, steps, features, units, outputs = size
        state = arrays["h0"], arrays["c0"]
        tolerance = 4 * (features + units + outputs) ** 0.5 * np.finfo(np.float32).eps
        for t in range(steps):
            now = slice(t, t + 1)
            x, h, *places = options["noise"]
            noise = Noise(x, h, *(None if a is None else a[:, now] for a in places))
            here = arrays | {"x": arrays["x"][:, now]}
            output, *found = functional.lstm(here["x"], weights, initial_state=state, noise=noise)
            expected = exact_step(here, state, options["cell"], noise, weights_dtype)
            for a, e in zip(found, expected, strict=True):
                np.testing.assert_allclose(a, e, rtol=0, atol=tolerance, err_msg=str(size))
            assert_same_bits([output[:, -1]], [found[0]])
            state = tuple(found)


@pytest.mark.parametrize("weights_dtype", FORMATS)
@pytest.mark.parametrize("variant", ["peephole, clip", "everything"])
def test_gates_of_small_weights(variant: str, weights_dtype: str) -> None:
    """They are those that make the cells, and the cells are those that come out."""
    arrays, options = Case.of(variant, (5, 4, 6, 17, 11), np.float32, slots=("mask",)).draw()
    weights = pack(arrays, options["cell"], weights_dtype=weights_dtype)
    state = arrays["h0"], arrays["c0"]
    call = {"initial_state": state, "mask": options["mask"]}
    *results, gates = functional.lstm(arrays["x"], weights, return_gates=True, **call)
    assert_same_bits(results, functional.lstm(arrays["x"], weights, **call))
    cell = VARIANTS[variant][1]
    c = arrays["c0"]
    for t in range(4):
        here = options["mask"][:, t, None]
        i, f, g, _, found = (gate[:, t] for gate in gates)
        made = np.clip(
            f * c + i * g, *((-b, b) if (b := options["cell"].cell_clip) else (None, None))
        )
        made = cell.cell_zoneout * c + (1 - cell.cell_zoneout) * made
        np.testing.assert_allclose(found[here[:, 0]], made[here[:, 0]], rtol=0, atol=1e-6)
        c = np.where(here, found, c)
    assert_same_bits([c], [results[2]])
