"""Bad input to the operator: an error names the argument, what came and what was expected."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lstm_ext import functional
from support import Array, assert_same_bits

B, T, I, H = 2, 3, 4, 5  # noqa: E741
ENDLESS = 2**50  # as an axis of 4-byte values: more than any address space holds


def good() -> dict[str, Any]:
    """Return valid arguments of `lstm`, in float32."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    return {
        "x": normal(B, T, I),
        "kernel": normal(I, 4 * H),
        "recurrent_kernel": normal(H, 4 * H),
        "bias": normal(4 * H),
        "initial_state": (normal(B, H), normal(B, H)),
    }


def zeros(*shape: int, dtype: Any = np.float32) -> Array:
    return np.zeros(shape, dtype)


def endless(*shape: int) -> Array:
    """Return zeros of a shape that no memory could hold, on one element."""
    return np.broadcast_to(np.float32(0), shape)


def assert_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert re.match(message, str(caught.value)), str(caught.value)


# What replaces an argument, the error, and how its message begins.
WRONG = [
    ("x", zeros(T, I), ValueError, r"x: got shape \(3, 4\), expected \(batch, time, 4\)"),
    ("x", zeros(1, B, T, I), ValueError, r"x: got shape \(1, 2, 3, 4\), expected \(batch, time, 4"),
    ("x", np.float32(1), ValueError, r"x: got shape \(\), expected \(batch, time, 4\)"),
    ("x", zeros(B, T, I + 1), ValueError, r"x: got shape \(2, 3, 5\), expected \(batch, time, 4\)"),
    ("x", zeros(B, T, 0), ValueError, r"x: got shape \(2, 3, 0\), expected \(batch, time, 4\)"),
    (
        "x",
        [[[1.0, 2.0], [3.0]]],
        ValueError,
        r"x: expected an array of numbers, got .*inhomogeneou",
    ),
    ("x", zeros(B, T, I, dtype=object), TypeError, "x: got an array of object, expected float32"),
    ("x", None, TypeError, "x: got an array of object, expected float32"),
    ("x", np.full((B, T, I), "1"), TypeError, "x: got an array of <U1, expected float32"),
    ("x", "sequence", TypeError, "x: got an array of <U8, expected float32"),
    ("x", zeros(B, T, I, dtype=np.int64), TypeError, "x: got an array of int64, expected float32"),
    ("x", zeros(B, T, I, dtype=bool), TypeError, "x: got an array of bool, expected float32"),
    ("x", zeros(B, T, I, dtype="c8"), TypeError, "x: got an array of complex64, expected float32"),
    ("x", zeros(B, T, I, dtype="f2"), TypeError, "x: got an array of float16, expected float32"),
    ("x", zeros(B, T, I, dtype="f8"), TypeError, "x: got an array of float64, expected float32"),
    ("x", zeros(B, T, I, dtype=">f4"), TypeError, "x: got an array of >f4, expected float32"),
    ("kernel", zeros(I, 4), ValueError, r"kernel: got shape \(4, 4\), expected \(input_size, 20\)"),
    ("kernel", zeros(0, 4 * H), ValueError, r"kernel: got shape \(0, 20\), expected \(input_size"),
    ("kernel", zeros(4 * H), ValueError, r"kernel: got shape \(20,\), expected \(input_size, 20\)"),
    ("kernel", zeros(I, 4 * H, dtype=int), TypeError, "kernel: got an array of int64, expected fl"),
    ("kernel", [[1.0], [1.0, 2.0]], ValueError, "kernel: expected an array of numbers, got"),
    (
        "kernel",
        endless(ENDLESS, 4 * H),
        ValueError,
        rf"kernel: got shapes? \({ENDLESS}, 20\)",
    ),
    (
        "recurrent_kernel",
        zeros(H, H),
        ValueError,
        r"recurrent_kernel: got shape \(5, 5\), expected",
    ),
    (
        "recurrent_kernel",
        zeros(4 * H),
        ValueError,
        r"recurrent_kernel: got shape \(20,\), expected",
    ),
    ("recurrent_kernel", None, ValueError, "recurrent_kernel: got None, expected"),
    (
        "recurrent_kernel",
        zeros(H, 4 * H, dtype="f8"),
        TypeError,
        "recurrent_kernel: got an array of float64, expected float32",
    ),
    ("bias", zeros(H), ValueError, r"bias: got shape \(5,\), expected \(20,\)"),
    ("bias", zeros(1, 4 * H), ValueError, r"bias: got shape \(1, 20\), expected \(20,\)"),
    (
        "bias",
        zeros(4 * H, dtype="f8"),
        TypeError,
        "bias: got an array of float64, expected float32",
    ),
    ("initial_state", zeros(B, H), ValueError, r"initial_state: got ndarray, expected a pair"),
    ("initial_state", (zeros(B, H),), ValueError, r"initial_state: got 1 values, expected a pair"),
    (
        "initial_state",
        (zeros(B + 1, H), zeros(B, H)),
        ValueError,
        r"initial_state\[0\]: got shape \(3, 5\), expected \(2, 5\)",
    ),
    (
        "initial_state",
        (zeros(B, H), zeros(B, H, 1)),
        ValueError,
        r"initial_state\[1\]: got shape \(2, 5, 1\), expected \(2, 5\)",
    ),
    (
        "initial_state",
        (zeros(B, H), zeros(B, H, dtype="f8")),
        TypeError,
        r"initial_state\[1\]: got an array of float64, expected float32",
    ),
    (
        "initial_state",
        (None, zeros(B, H)),
        TypeError,
        r"initial_state\[0\]: got an array of object, expected float32",
    ),
    ("num_threads", 0, ValueError, "num_threads: got 0, expected 1 to"),
    ("num_threads", -3, ValueError, "num_threads: got -3, expected 1 to"),
    ("num_threads", 2**70, ValueError, f"num_threads: got {2**70}, expected 1 to"),
    ("num_threads", 1.5, TypeError, "num_threads: got 1.5, expected an integer"),
    ("num_threads", "2", TypeError, "num_threads: got '2', expected an integer"),
    ("num_threads", True, TypeError, "num_threads: got True, expected an integer"),
    ("isa", "mmx", ValueError, "isa.*mmx.*expected .*baseline"),
    ("isa", 2, TypeError, "isa: got int, expected a string"),
    ("go_backwards", "no", TypeError, "go_backwards: got 'no', expected True or False"),
    ("time_major", "no", TypeError, "time_major: got 'no', expected True or False"),
    ("return_sequences", [0], TypeError, r"return_sequences: got \[0\], expected True or False"),
]


@pytest.mark.parametrize("function", [functional.lstm, functional.lstm_vjp])
@pytest.mark.parametrize(
    ("name", "value", "error", "message"), WRONG, ids=[f"{w[0]}-{i}" for i, w in enumerate(WRONG)]
)
def test_a_wrong_argument(
    name: str, value: Any, error: type[Exception], message: str, function: Callable[..., Any]
) -> None:
    arguments, untouched = good(), good()
    assert_refused(lambda: function(**(arguments | {name: value})), error, message)
    for key, expected in untouched.items():
        is_pair = isinstance(expected, tuple)
        assert_same_bits(
            arguments[key] if is_pair else [arguments[key]], expected if is_pair else [expected]
        )


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        w
        for w in WRONG
        if w[0] in {"kernel", "recurrent_kernel", "bias", "isa"} and w[1] is not None
    ],
)
def test_pack(name: str, value: Any, error: type[Exception], message: str) -> None:
    weights = {key: good()[key] for key in ("kernel", "recurrent_kernel", "bias")}
    assert_refused(lambda: functional.pack(**(weights | {name: value})), error, message)


@pytest.mark.parametrize("function", [functional.lstm, functional.lstm_vjp])
@pytest.mark.parametrize(
    ("batch_size", "seq_len", "return_sequences"),
    [
        (ENDLESS, 1, False),
        (ENDLESS, 1, True),
        (1, ENDLESS, True),
        (2**29, 2**29, True),  # the bytes of the result no longer fit in 64 bits
        (2**60, 1, False),
    ],
)
def test_results_that_no_memory_holds(
    batch_size: int, seq_len: int, return_sequences: bool, function: Callable[..., Any]
) -> None:
    arguments = good() | {
        "x": endless(batch_size, seq_len, 1),
        "kernel": zeros(1, 4 * H),
        "initial_state": None,
        "return_sequences": return_sequences,
    }
    message = rf"x: got batch {batch_size} and time {seq_len}, .*expected a size"
    assert_refused(lambda: function(**arguments), ValueError, message)


def test_time_major_is_named_in_the_shape() -> None:
    arguments = good() | {"x": zeros(T, I), "time_major": True}
    message = r"x: got shape \(3, 4\), expected \(time, batch, 4\)"
    assert_refused(lambda: functional.lstm(**arguments), ValueError, message)


@pytest.mark.parametrize("name", ["recurrent_kernel", "bias", "isa"])
def test_packed_weights_come_alone(name: str) -> None:
    arguments = good() | {"isa": "baseline"}
    packed = functional.pack(*(arguments[key] for key in ("kernel", "recurrent_kernel", "bias")))
    call = {"x": arguments["x"], "kernel": packed, name: arguments[name]}
    assert_refused(lambda: functional.lstm(**call), ValueError, f"{name}: .*expected None")


def test_packed_weights_outlive_a_bad_call() -> None:
    arguments = good()
    packed = functional.pack(*(arguments[key] for key in ("kernel", "recurrent_kernel", "bias")))
    expected = functional.lstm(arguments["x"], packed)
    for bad in (arguments["x"][0], arguments["x"].astype(np.float64), endless(1, ENDLESS, I)):
        with pytest.raises((TypeError, ValueError)):
            functional.lstm(bad, packed)
    assert_same_bits(functional.lstm(arguments["x"], packed), expected)


@pytest.mark.parametrize(
    ("upstream", "error", "message"),
    [
        (
            {"d_output": zeros(B, T + 1, H)},
            ValueError,
            r"d_output: got shape \(2, 4, 5\), expected",
        ),
        (
            {"d_output": zeros(B, H)},
            ValueError,
            r"d_output: got shape \(2, 5\), expected \(2, 3, 5",
        ),
        ({"d_output": 1.0}, TypeError, "d_output: got an array of float64, expected float32"),
        ({"d_output": [[1.0], []]}, ValueError, "d_output: expected an array of numbers, got"),
        ({"d_h": zeros(H)}, ValueError, r"d_h: got shape \(5,\), expected \(2, 5\)"),
        (
            {"d_h": zeros(B, H, dtype=object)},
            TypeError,
            "d_h: got an array of object, expected flo",
        ),
        ({"d_c": zeros(B + 1, H)}, ValueError, r"d_c: got shape \(3, 5\), expected \(2, 5\)"),
        ({"d_c": zeros(B, H, dtype="f8")}, TypeError, "d_c: got an array of float64, expected flo"),
    ],
)
def test_backward(upstream: dict[str, Any], error: type[Exception], message: str) -> None:
    results, backward = functional.lstm_vjp(**good())
    expected = backward(*results)
    assert_refused(lambda: backward(**upstream), error, message)
    assert_same_bits(backward(*results), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((zeros(2), zeros(2, 3)), ValueError, r"a: got shape \(2,\), expected \(M, K\)"),
        ((zeros(2, 3), zeros(4, 3)), ValueError, r"b: got shape \(4, 3\), expected \(3, N\)"),
        ((zeros(2, 3), zeros(3)), ValueError, r"b: got shape \(3,\), expected \(3, N\)"),
        ((zeros(2, 3), zeros(3, 4, dtype="f8")), TypeError, "b: got an array of float64, expected"),
        ((zeros(2, 3, dtype=int), zeros(3, 4)), TypeError, "a: got an array of int64, expected"),
        (
            (zeros(2, 3), zeros(3, 4), zeros(3)),
            ValueError,
            r"bias: got shape \(3,\), expected \(4,",
        ),
        (
            (endless(ENDLESS, 1), zeros(1, 4)),
            ValueError,
            rf"a: got shape \({ENDLESS}, 1\), .*expec",
        ),
        (
            (zeros(1, 1), endless(1, ENDLESS)),
            ValueError,
            rf"b: got shape \(1, {ENDLESS}\), .*expec",
        ),
    ],
)
def test_matmul(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    assert_refused(lambda: functional.matmul(*arguments), error, message)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_running_out_of_memory_midway() -> None:
    """In a process that may take 40 MB more, each call needs more; small ones still work."""
    script = """
import resource
import numpy as np
from lstm_ext import functional

x = np.ones((2**18, 1, 1), np.float32)
kernel, recurrent_kernel = np.ones((1, 64), np.float32), np.ones((16, 64), np.float32)
weights = functional.pack(kernel, recurrent_kernel)
expected = functional.lstm(x[:5], weights, num_threads=1)[0]
(output, _, _), backward = functional.lstm_vjp(x[:5], weights, num_threads=1)
d_kernel = backward(output).kernel
(output, _, _), large_backward = functional.lstm_vjp(x, weights, num_threads=1)

for call in (
    lambda: functional.lstm(x, weights, num_threads=1),
    lambda: functional.lstm(x, weights, return_sequences=False, num_threads=1),
    lambda: functional.lstm_vjp(x, weights, num_threads=1),
    lambda: large_backward(output),
):
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (40 << 20), resource.RLIM_INFINITY))
    try:
        call()
    except ValueError as error:
        print(error)
    else:
        print("enough memory")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (output_again, _, _), backward = functional.lstm_vjp(x[:5], weights, num_threads=1)
    assert (output_again == expected).all()
    assert (backward(output_again).kernel == d_kernel).all()
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    messages = result.stdout.splitlines()
    assert len(messages) == 4
    for message in messages:
        assert re.match(rf"x: got batch {2**18} and time 1, .*expected a size", message), messages
