"""Workers that stay awake after a call, for whoever asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lstm_ext
from lstm_ext import config, functional
from support import assert_same_bits, make_problem, run, run_python

# Work enough for three threads, in float32.
LARGE = (64, 8, 64, 128)

PRELUDE = """
import os, time
import numpy as np
from lstm_ext import config, functional

def call(num_threads):
    x = np.ones((64, 8, 64), "float32")
    weights = np.ones((64, 512), "float32"), np.ones((128, 512), "float32")
    return functional.lstm(x, *weights, num_threads=num_threads)[0]

def seconds_after(num_threads):
    call(num_threads)
    before = time.process_time()
    time.sleep(0.5)
    return time.process_time() - before
"""


@pytest.fixture(autouse=True)
def spin_time() -> Iterator[None]:
    yield
    config.set_spin_time(0)


def test_workers_spin_for_as_long_as_was_said_and_no_longer() -> None:
    """Each of them; none of a call that wakes none; and none any more after zero, at once."""
    script = """
assert config.get_spin_time() == 0
config.set_spin_time(100_000)
print(seconds_after(1), seconds_after(2))
config.set_spin_time(10_000_000)
call(2)
config.set_spin_time(0)
time.sleep(0.1)
before = time.process_time()
time.sleep(0.3)
print(time.process_time() - before, seconds_after(2))
"""
    alone, with_one, stopped, at_last = map(float, run_python(PRELUDE + script).split())
    assert alone < 0.01
    assert 0.01 < with_one < 0.3
    assert stopped < 0.01
    assert at_last < 0.01


def test_results_do_not_change() -> None:
    """Of teams that grow and shrink while their workers are awake."""
    problem = make_problem(*LARGE)
    expected = run(functional, problem)
    config.set_spin_time(20_000)
    for num_threads in (2, 3, 2, 1, 3, 3, 4, 2):
        assert_same_bits(run(functional, problem, num_threads=num_threads), expected)


def test_streams_agree() -> None:
    x = np.random.default_rng(0).standard_normal((8, 30, 64)).astype(np.float32)
    layer = lstm_ext.LSTM(256, return_sequences=True)
    expected = layer(x)
    config.set_spin_time(1000)
    stream = layer.stream(batch_size=8)
    for _ in range(10):  # so that a team is tried
        stream.reset()
        for step in range(x.shape[1]):
            np.testing.assert_array_equal(stream.step(x[:, step]), expected[:, step])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_fork_while_workers_are_awake_is_safe() -> None:
    script = """
config.set_spin_time(200_000)
expected = call(3)
child = os.fork()
if child == 0:
    os._exit(0 if all(np.array_equal(call(3), expected) for _ in range(3)) else 1)
assert os.waitpid(child, 0)[1] == 0 and np.array_equal(call(3), expected)
"""
    run_python(PRELUDE + script)


def test_the_environment_sets_it() -> None:
    script = "print(config.get_spin_time()); config.set_spin_time(7); print(config.get_spin_time())"
    assert run_python(PRELUDE + script, LSTM_EXT_SPIN_TIME="250").split() == ["250", "7"]


@pytest.mark.parametrize("value", ["", "0", "-2", "long", "10000001"])
def test_what_is_no_time_in_the_environment_counts_for_nothing(value: str) -> None:
    script = "print(config.get_spin_time())"
    assert run_python(PRELUDE + script, LSTM_EXT_SPIN_TIME=value).strip() == "0"


@pytest.mark.parametrize("value", [-1, 10_000_001, 2**40])
def test_a_time_out_of_bounds_changes_nothing(value: int) -> None:
    config.set_spin_time(5)
    with pytest.raises(ValueError, match=f"microseconds: got {value}, expected 0 to 10000000"):
        config.set_spin_time(value)
    assert config.get_spin_time() == 5


@pytest.mark.parametrize("value", [1.0, "2", None])
def test_no_integer_is_no_time(value: Any) -> None:
    config.set_spin_time(5)
    with pytest.raises(TypeError, match=f"microseconds: got {value!r}, expected an integer"):
        config.set_spin_time(value)
    assert config.get_spin_time() == 5
