"""Bad input to the operator's variants, masks, noise, directions and stacks of layers.

An error names the argument, what came and what was expected; nothing was computed or changed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lstm_ext import functional
from lstm_ext.variants import Cell, Noise
from support import Array, assert_same_bits
from test_bad_input import B, H, I, T, assert_refused, zeros
from variants_support import draw, draw_noise, draw_places

P = 3


def good() -> dict[str, Any]:
    """Return valid arguments of `lstm` with everything, in float32."""
    arrays = draw(B, T, I, H, outputs=P, peephole=True, dtype=np.float32)
    names = ("x", "kernel", "recurrent_kernel", "bias", "peephole", "projection_kernel")
    return {name: arrays[name] for name in names} | {
        "initial_state": (arrays["h0"], arrays["c0"]), "mask": draw_places(B, T),
        "reset": draw_places(B, T, share=0.3, seed=1), "noise": draw_noise(arrays),
        "cell": Cell(clip=0.9, zoneout=0.1),
    }  # fmt: skip


def bools(*shape: int) -> Array:
    return np.zeros(shape, bool)


RAGGED = [[1.0], [1.0, 2.0]]

# What replaces an argument, the error, and how its message begins.
WRONG: list[tuple[str, Any, type[Exception], str]] = [
    ("mask", zeros(B, T), TypeError, "mask: got an array of float32, expected bools"),
    ("mask", zeros(B, T, dtype=int), TypeError, "mask: got an array of int64, expected bools"),
    ("mask", bools(T, B), ValueError, r"mask: got shape \(3, 2\), expected \(2, 3\)"),
    ("mask", bools(B, T, 1), ValueError, r"mask: got shape \(2, 3, 1\), expected \(2, 3\)"),
    ("mask", RAGGED, ValueError, "mask: expected an array of bools, got .*inhomogeneous"),
    ("mask", "yes", TypeError, "mask: got an array of <U3, expected bools"),
    ("reset", zeros(B, T), TypeError, "reset: got an array of float32, expected bools"),
    ("reset", bools(B), ValueError, r"reset: got shape \(2,\), expected \(2, 3\)"),
    ("lengths", [1, 2], ValueError, "lengths: got it beside mask, expected one of the two"),
    ("zero_output_for_mask", "no", TypeError, "zero_output_for_mask: got 'no', expected True or"),
    ("zero_output_for_mask", 1, TypeError, "zero_output_for_mask: got 1, expected True or False"),
    ("peephole", zeros(4 * H), ValueError, r"peephole: got shape \(20,\), expected \(15,\)"),
    ("peephole", zeros(3, H), ValueError, r"peephole: got shape \(3, 5\), expected \(15,\)"),
    ("peephole", zeros(3 * H, dtype="f8"), TypeError, "peephole: got an array of float64, expect"),
    ("peephole", RAGGED, ValueError, "peephole: expected an array of numbers, got"),
    ("projection_kernel", zeros(P, H), ValueError, r"projection_kernel: got shape \(3, 5\), expec"),
    ("projection_kernel", zeros(H, P + 1), ValueError, r"projection_kernel: got .*\(5, 3\)"),
    ("projection_kernel", zeros(H, P, dtype="f8"), TypeError, "projection_kernel: got .*float64"),
    ("projection_kernel", None, ValueError, r"recurrent_kernel: got shape \(3, 20\), expected \(u"),
    ("recurrent_kernel", zeros(P, 4 * H + 1), ValueError, "recurrent_kernel: got .*projection_uni"),
    ("recurrent_kernel", zeros(0, 4 * H), ValueError, r"recurrent_kernel: got shape \(0, 20\), ex"),
    ("initial_state", (zeros(B, H), zeros(B, H)), ValueError, r"initial_state\[0\]: got .*2, 3"),
    ("initial_state", (zeros(B, P), zeros(B, P)), ValueError, r"initial_state\[1\]: got .*2, 5"),
    ("cell", "tanh", TypeError, "cell: got str, expected a Cell"),
    ("cell", ("tanh", "sigmoid"), TypeError, "cell: got tuple, expected a Cell"),
    ("noise", 3, TypeError, "noise: got int, expected a Noise"),
    ("noise", (None,) * 4, TypeError, "noise: got tuple, expected a Noise"),
    ("noise", Noise(x=zeros(B, I + 1)), ValueError, r"noise.x: got shape \(2, 5\), expected"),
    ("noise", Noise(x=zeros(B, T, I)), ValueError, r"noise.x: got shape \(2, 3, 4\), expected"),
    ("noise", Noise(x=bools(B, I)), TypeError, "noise.x: got an array of bool, expected float32"),
    ("noise", Noise(x=RAGGED), ValueError, "noise.x: expected an array of numbers, got"),
    ("noise", Noise(h=zeros(B, H)), ValueError, r"noise.h: got shape \(2, 5\), expected \(2, 3\)"),
    ("noise", Noise(h=zeros(B, P, dtype="f8")), TypeError, "noise.h: got an array of float64, exp"),
    ("noise", Noise(zoneout=bools(B, T, H)), ValueError, r"noise.zoneout: got .*, 3, 3\)"),
    ("noise", Noise(zoneout=zeros(B, T, P)), TypeError, "noise.zoneout: got an array of float32"),
    ("noise", Noise(cell_zoneout=bools(B, T, P)), ValueError, "noise.cell_zoneout: got shape"),
    ("noise", Noise(cell_zoneout=zeros(B, T, H)), TypeError, "noise.cell_zoneout: got .*bools"),
]  # fmt: skip
WRONG_LENGTHS: list[tuple[Any, type[Exception], str]] = [
    ([1, T + 1], ValueError, "lengths: got 4, expected 0 to 3"),
    ([-1, 1], ValueError, "lengths: got -1, expected 0 to 3"),
    (np.array([1, 2**64 - 1], np.uint64), ValueError, f"lengths: got {2**64 - 1}, expected 0 to 3"),
    ([1], ValueError, r"lengths: got shape \(1,\), expected \(2,\)"),
    (3, ValueError, r"lengths: got shape \(\), expected \(2,\)"),
    ([[1, 2]], ValueError, r"lengths: got shape \(1, 2\), expected \(2,\)"),
    ([1.0, 2.0], TypeError, "lengths: got an array of float64, expected integers"),
    ([True, False], TypeError, "lengths: got an array of bool, expected integers"),
    (RAGGED, ValueError, "lengths: expected an array of integers, got .*inhomogeneous"),
]
WRONG_CELLS: list[tuple[str, Any, type[Exception], str]] = [
    ("activation", "softmax", ValueError, "got 'softmax', expected one of affine, elu, "),
    ("activation", 3, TypeError, r"got 3, expected a name, \(name, alpha\) or"),
    ("activation", (), TypeError, r"got \(\), expected a name"),
    ("activation", ("affine", 1.0, 2.0, 3.0), TypeError, "got .* expected a name"),
    ("activation", ("tanh", 2.0), ValueError, r"got \('tanh', 2.0\), expected at most 0 numbers"),
    ("activation", ("elu", 1.0, 2.0), ValueError, "got .*, expected at most 1 numbers for elu"),
    ("recurrent_activation", ("elu", math.nan), ValueError, "got .* expected finite numbers"),
    ("recurrent_activation", ("elu", "1"), TypeError, "got .* expected numbers after the name"),
    ("output_activation", ("elu", True), TypeError, "got .* expected numbers after the name"),
    ("output_activation", "", ValueError, "got '', expected one of"),
    ("clip", 0, ValueError, "got 0, expected a positive finite number or None"),
    ("clip", -1.5, ValueError, "got -1.5, expected a positive finite number or None"),
    ("clip", math.nan, ValueError, "got nan, expected a positive finite number or None"),
    ("clip", True, TypeError, "got True, expected a positive number or None"),
    ("cell_clip", math.inf, ValueError, "got inf, expected a positive finite number or None"),
    ("cell_clip", "1", TypeError, "got '1', expected a positive number or None"),
    ("input_forget", 1, TypeError, "got 1, expected True or False"),
    ("zoneout", -0.1, ValueError, "got -0.1, expected 0 to 1"),
    ("zoneout", math.nan, ValueError, "got nan, expected 0 to 1"),
    ("zoneout", None, TypeError, "got None, expected a number"),
    ("cell_zoneout", 1.1, ValueError, "got 1.1, expected 0 to 1"),
    ("cell_zoneout", True, TypeError, "got True, expected a number"),
]
FUNCTIONS = [functional.lstm, functional.lstm_vjp]


def flat(arguments: dict[str, Any]) -> list[Any]:
    """Return all arrays of arguments."""
    values = [v for a in arguments.values() for v in (a if isinstance(a, tuple) else (a,))]
    return [value for value in values if isinstance(value, np.ndarray)]


def assert_refused_unchanged(
    function: Callable[..., Any], arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    untouched = copy.deepcopy(arguments)
    assert_refused(lambda: function(**arguments), error, message)
    assert_same_bits(flat(arguments), flat(untouched))


def test_what_is_good() -> None:
    for function in FUNCTIONS:
        function(**good())
    assert len(flat(good())) == 14


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("name", "value", "error", "message"), WRONG, ids=[f"{w[0]}-{i}" for i, w in enumerate(WRONG)]
)
def test_a_wrong_argument(
    name: str, value: Any, error: type[Exception], message: str, function: Callable[..., Any]
) -> None:
    assert_refused_unchanged(function, good() | {name: value}, error, message)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("value", "error", "message"), WRONG_LENGTHS)
def test_wrong_lengths(
    value: Any, error: type[Exception], message: str, function: Callable[..., Any]
) -> None:
    assert_refused_unchanged(function, good() | {"mask": None, "lengths": value}, error, message)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("field", "value", "error", "message"), WRONG_CELLS)
def test_a_wrong_cell(
    field: str, value: Any, error: type[Exception], message: str, function: Callable[..., Any]
) -> None:
    cell = Cell(**{field: value})
    assert_refused_unchanged(function, good() | {"cell": cell}, error, f"cell.{field}: {message}")


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_return_gates(value: Any) -> None:
    message = f"return_gates: got {value!r}, expected True or False"
    assert_refused_unchanged(functional.lstm, good() | {"return_gates": value}, TypeError, message)


WEIGHTS = ("kernel", "recurrent_kernel", "bias", "peephole", "projection_kernel", "cell")
OF_WEIGHTS = [
    *(wrong for wrong in WRONG if wrong[0] in WEIGHTS),
    *(("cell", Cell(**{f: v}), error, f"cell.{f}: {text}") for f, v, error, text in WRONG_CELLS),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), OF_WEIGHTS)
def test_pack(name: str, value: Any, error: type[Exception], message: str) -> None:
    weights = {key: good()[key] for key in WEIGHTS}
    assert_refused_unchanged(functional.pack, weights | {name: value}, error, message)


def packed(**more: Any) -> functional.PackedWeights:
    return functional.pack(**{key: good()[key] for key in WEIGHTS} | more)


@pytest.mark.parametrize("name", ["peephole", "projection_kernel", "cell"])
def test_packed_weights_come_alone(name: str) -> None:
    call = {"x": good()["x"], "kernel": packed(), name: good()[name]}
    assert_refused(lambda: functional.lstm(**call), ValueError, f"{name}: got .*expected None")


def test_packed_weights_outlive_a_bad_call() -> None:
    weights = packed()
    call = {name: good()[name] for name in ("x", "initial_state", "mask", "reset", "noise")}
    expected = functional.lstm(kernel=weights, **call)
    for name, value, error, message in WRONG:
        if name in call:
            wrong = call | {"kernel": weights, name: value}
            assert_refused(lambda: functional.lstm(**wrong), error, message)  # noqa: B023
    assert_same_bits(functional.lstm(kernel=weights, **call), expected)


@pytest.mark.parametrize(
    ("upstream", "message"),
    [
        ({"d_output": zeros(B, T, H)}, r"d_output: got shape \(2, 3, 5\), expected \(2, 3, 3\)"),
        ({"d_h": zeros(B, H)}, r"d_h: got shape \(2, 5\), expected \(2, 3\)"),
        ({"d_c": zeros(B, P)}, r"d_c: got shape \(2, 3\), expected \(2, 5\)"),
    ],
)
def test_backward(upstream: dict[str, Any], message: str) -> None:
    results, backward = functional.lstm_vjp(**good())
    expected = backward(*results)
    assert_refused(lambda: backward(**upstream), ValueError, message)
    assert_same_bits(backward(*results)[:8], expected[:8])


# ---- several ----


def directions() -> dict[str, Any]:
    """Return valid arguments of `bidirectional`: one with a projection, one without."""
    plain = functional.pack(zeros(I, 4 * H), zeros(H, 4 * H))
    arguments = {name: good()[name] for name in ("x", "mask", "reset")}
    return arguments | {"forward": packed(), "backward": plain}


def other(inputs: int = I, **more: Any) -> functional.PackedWeights:
    dtype = more.pop("dtype", np.float32)
    return functional.pack(zeros(inputs, 4 * H, dtype=dtype), zeros(H, 4 * H, dtype=dtype), **more)


STATE = zeros(B, P), zeros(B, H)
WRONG_DIRECTIONS: list[tuple[str, Any, type[Exception], str]] = [
    ("forward", zeros(I, 4 * H), TypeError, "forward: got ndarray, expected a PackedWeights"),
    ("backward", None, TypeError, "backward: got NoneType, expected a PackedWeights"),
    ("backward", other(I + 1), ValueError, "backward: got weights for inputs of 5, expected 4"),
    ("backward", other(dtype="f8"), ValueError, "backward: got .* float64, expected float32"),
    ("backward", other(weights_dtype="int8"), ValueError, "backward: got .* int8, expected float"),
    ("x", zeros(B, T, I + 1), ValueError, r"x: got shape \(2, 3, 5\), expected \(batch, time, 4"),
    ("x", zeros(B, T, I, dtype="f8"), TypeError, "x: got an array of float64, expected float32"),
    ("initial_state", STATE, ValueError, r"initial_state\[0\]: got ndarray, expected a pair \(h"),
    ("initial_state", (STATE,), ValueError, "initial_state: got 1 values, expected a pair of pair"),
    ("initial_state", 3, ValueError, "initial_state: got int, expected a pair of pairs"),
    ("initial_state", (None, STATE), ValueError, r"initial_state\[1\]\[0\]: got .*\(2, 3\)"),
    ("noise", None, ValueError, "noise: got NoneType, expected a pair of Noise or None"),
    ("noise", Noise(), ValueError, "noise: got 4 values, expected a pair of Noise or None"),
    ("noise", (None, 3), TypeError, "noise: got int, expected a Noise"),
    ("noise", (None, Noise(h=zeros(B, P))), ValueError, r"noise.h: got .*expected \(2, 5\)"),
    ("mask", zeros(B, T), TypeError, "mask: got an array of float32, expected bools"),
    ("lengths", [1, 2], ValueError, "lengths: got it beside mask"),
    ("zero_output_for_mask", "no", TypeError, "zero_output_for_mask: got 'no', expected True or"),
    ("time_major", 1, TypeError, "time_major: got 1, expected True or False"),
    ("return_sequences", None, TypeError, "return_sequences: got None, expected True or False"),
    ("num_threads", 0, ValueError, "num_threads: got 0, expected 1 to"),
]


@pytest.mark.parametrize("function", [functional.bidirectional, functional.bidirectional_vjp])
@pytest.mark.parametrize(("name", "value", "error", "message"), WRONG_DIRECTIONS)
def test_directions(
    name: str, value: Any, error: type[Exception], message: str, function: Callable[..., Any]
) -> None:
    function(**directions())
    assert_refused(lambda: function(**directions() | {name: value}), error, message)


def test_small_weights_of_two_directions_have_no_backward_pass() -> None:
    small = other(weights_dtype="int8")
    message = "forward: got weights packed as int8, expected float32 or float64"
    for call in ((small, small), (small, other())):
        with pytest.raises(ValueError, match=f"^({message}|backward: got)"):
            functional.bidirectional_vjp(zeros(B, T, I), *call)


@pytest.mark.parametrize(
    ("upstream", "error", "message"),
    [
        ({"d_output": zeros(B, T, P)}, ValueError, r"d_output: got .*, expected \(2, 3, 8\)"),
        ({"d_output": zeros(B, T, P + H, dtype="f8")}, TypeError, "d_output: got .*float64"),
        ({"d_forward": (zeros(B, H), None)}, ValueError, r"d_forward d_h: got shape \(2, 5\), exp"),
        ({"d_backward": (None, zeros(B, P))}, ValueError, r"d_backward d_c: got shape \(2, 3\)"),
        ({"d_forward": None}, ValueError, r"d_forward: got NoneType, expected a pair \(d_h, d_c"),
        ({"d_forward": (None,)}, ValueError, r"d_forward: got 1 values, expected a pair \(d_h,"),
        ({"d_backward": zeros(B, H)}, ValueError, r"d_backward: got ndarray, expected a pair"),
    ],
)
def test_backward_of_directions(
    upstream: dict[str, Any], error: type[Exception], message: str
) -> None:
    (output, *states), back = functional.bidirectional_vjp(**directions())
    expected = back(output, *states)
    assert_refused(lambda: back(**upstream), error, message)
    for found, wanted in zip(back(output, *states), expected, strict=True):
        assert_same_bits(found, wanted)


WRONG_LAYERS: list[tuple[str, Any, type[Exception], str]] = [
    ("layers", [], ValueError, "layers: got none, expected at least one"),
    ("layers", None, TypeError, "layers: got NoneType, expected a list"),
    ("layers", other(), TypeError, "layers: got PackedWeights, expected a list"),
    ("layers", [other(), 3], TypeError, r"layers\[1\]: got int, expected a PackedWeights"),
    ("layers", [other(), other()], ValueError, r"layers\[1\]: got .* inputs of 4, expected 5"),
    ("layers", [other(), other(H, dtype="f8")], ValueError, r"layers\[1\]: got .*float64, expect"),
    ("x", zeros(B, T, H), ValueError, r"x: got shape \(2, 3, 5\), expected \(batch, time, 4\)"),
    ("initial_state", 3, TypeError, "initial_state: got int, expected a list"),
    ("initial_state", [STATE], ValueError, "initial_state: got 1 pairs, expected 2"),
    ("initial_state", [STATE, None], ValueError, r"initial_state\[0\]\[0\]: got .*\(2, 3\)"),
    ("initial_state", [None, 3], ValueError, r"initial_state\[1\]: got int, expected a pair"),
    ("mask", zeros(B, T), TypeError, "mask: got an array of float32, expected bools"),
    ("lengths", [1], ValueError, r"lengths: got shape \(1,\), expected \(2,\)"),
    ("reset", bools(T, B), ValueError, r"reset: got shape \(3, 2\), expected \(2, 3\)"),
    ("time_major", "no", TypeError, "time_major: got 'no', expected True or False"),
    ("num_threads", -1, ValueError, "num_threads: got -1, expected 1 to"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), WRONG_LAYERS)
def test_layers(name: str, value: Any, error: type[Exception], message: str) -> None:
    call: dict[str, Any] = {"x": zeros(B, T, I), "layers": [other(), other(H)]}
    functional.stack(**call)
    assert_refused(lambda: functional.stack(**call | {name: value}), error, message)
