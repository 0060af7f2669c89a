"""Threads and processes: the GIL, callers at once, fork, memory, and who decides how many."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ext import config, functional
from support import Array, Problem, assert_same_bits, make_problem, run, run_python

TASKS = Path("/proc/self/task")
needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this platform cannot choose its processors"
)
needs_proc = pytest.mark.skipif(not TASKS.exists(), reason="needs Linux's /proc")

# Work enough for three threads, in float32.
LARGE = (64, 8, 64, 128)

# What the scripts below share; each runs in a fresh interpreter.
PRELUDE = """
import gc, os, sys, time
import numpy as np
from lstm_ext import config, functional

def call(rows, steps, units, num_threads=None):
    rng = np.random.default_rng(0)
    x, kernel, recurrent_kernel = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((rows, steps, 64), (64, 4 * units), (units, 4 * units))
    )
    return functional.lstm(x, kernel, recurrent_kernel, num_threads=num_threads)[0]
"""


def run_script(script: str, **environment: str) -> str:
    return run_python(PRELUDE + script, **environment)


def test_set_num_threads(num_threads: int) -> None:
    expected = run(functional, make_problem(*LARGE))
    for count in (1, 2, 3, 4096):
        config.set_num_threads(count)
        assert config.get_num_threads() == count
    for count in (1, 3):
        config.set_num_threads(np.int64(count))
        assert_same_bits(run(functional, make_problem(*LARGE)), expected)


@pytest.mark.parametrize("count", [0, -1, 4097, 2**31, 2**64])
def test_a_bad_number_of_threads_changes_nothing(count: int, num_threads: int) -> None:
    config.set_num_threads(3)
    with pytest.raises(ValueError, match=f"num_threads: got {count}, expected 1 to 4096"):
        config.set_num_threads(count)
    assert config.get_num_threads() == 3


@pytest.mark.parametrize("count", [1.0, "2", None])
def test_no_integer_is_no_number_of_threads(count: Any, num_threads: int) -> None:
    config.set_num_threads(3)
    with pytest.raises(TypeError, match=f"num_threads: got {count!r}, expected an integer"):
        config.set_num_threads(count)
    assert config.get_num_threads() == 3


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LSTM_EXT_NUM_THREADS": "3"}, "3"),
        ({"OMP_NUM_THREADS": "5"}, "5"),
        ({"OMP_NUM_THREADS": "4,2"}, "4"),
        ({"LSTM_EXT_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, "3"),
        ({"LSTM_EXT_NUM_THREADS": "0", "OMP_NUM_THREADS": "5"}, "5"),
    ],
)
def test_the_environment_sets_the_number_of_threads(
    environment: dict[str, str], expected: str
) -> None:
    assert run_script("print(config.get_num_threads())", **environment).strip() == expected


@pytest.mark.parametrize("value", ["", "0", "-2", "many", "5000"])
def test_what_is_no_number_of_threads_in_the_environment_counts_for_nothing(value: str) -> None:
    script = "from lstm_ext import _cpu; print(_cpu.num_threads_source())"
    for name in ("LSTM_EXT_NUM_THREADS", "OMP_NUM_THREADS"):
        assert run_script(script, **{name: value}).strip() == "affinity"


@needs_affinity
def test_affinity_limits_the_number_of_threads() -> None:
    script = """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import lstm_ext
print(lstm_ext.get_num_threads())
"""
    assert run_python("import os\n" + script).strip() == "1"


@needs_affinity
@needs_proc
def test_a_later_change_of_affinity_counts() -> None:
    """Also for a call, which then starts no worker; and a number that was set stays."""
    script = """
def threads():
    return len(os.listdir("/proc/self/task"))

processors = os.sched_getaffinity(0)
assert config.get_num_threads() == len(processors)
at_first = threads()
os.sched_setaffinity(0, {min(processors)})
call(64, 8, 128)
assert config.get_num_threads() == 1 and threads() == at_first
os.sched_setaffinity(0, processors)
call(64, 8, 128)
assert config.get_num_threads() == len(processors)
assert threads() == at_first + min(len(processors), 12) - 1
config.set_num_threads(2)
os.sched_setaffinity(0, {min(processors)})
assert config.get_num_threads() == 2
"""
    run_script(script)


@needs_proc
def test_callers_at_once_share_the_workers() -> None:
    """Six callers who may use three threads each start two workers together, and no more."""
    script = """
import threading

def threads():
    return len(os.listdir("/proc/self/task"))

at_first = threads()
barrier = threading.Barrier(6)

def work():
    barrier.wait()
    for _ in range(20):
        call(64, 8, 128, num_threads=3)

callers = [threading.Thread(target=work) for _ in range(6)]
for caller in callers:
    caller.start()
for caller in callers:
    caller.join()
deadline = time.monotonic() + 10
while threads() - at_first > 2 and time.monotonic() < deadline:  # callers that are about to end
    time.sleep(0.01)
print(threads() - at_first)
"""
    assert run_script(script).strip() == "2"


@needs_proc
def test_small_calls_use_one_thread_and_large_ones_what_they_may() -> None:
    script = """
def threads():
    return len(os.listdir("/proc/self/task"))

at_first = threads()
call(1, 2, 8, num_threads=3)
call(64, 8, 128, num_threads=1)
print(threads() - at_first, end=" ")
for num_threads in (2, 3, 2, 3, None):
    call(64, 8, 128, num_threads=num_threads)
    print(threads() - at_first, end=" ")
"""
    assert run_script(script, LSTM_EXT_NUM_THREADS="3").split() == ["0", "1", "2", "2", "2", "2"]


def test_no_thread_spins_after_a_call() -> None:
    """Neither after calls of one thread or all, nor after several at once."""
    script = """
from concurrent.futures import ThreadPoolExecutor

for num_threads in (1, 2, 3):
    call(64, 8, 128, num_threads=num_threads)
with ThreadPoolExecutor(4) as executor:
    list(executor.map(lambda _: call(64, 8, 128, num_threads=3), range(8)))
before = time.process_time()
time.sleep(0.3)
print(time.process_time() - before)
"""
    assert float(run_script(script)) < 0.03


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="reads affinities, as on Linux")
def test_workers_may_run_where_their_caller_does_not() -> None:
    """And nowhere else than the process: wherever it is called from, and whoever says so."""
    script = """
from pathlib import Path

allowed = os.sched_getaffinity(0)
before = {t.name for t in Path("/proc/self/task").iterdir()}
call(64, 8, 256, num_threads=len(allowed) + 2)
workers = [int(t.name) for t in Path("/proc/self/task").iterdir() if t.name not in before]
assert len(workers) == len(allowed) + 1
for processor in allowed:
    os.sched_setaffinity(0, {processor})
    call(64, 8, 256, num_threads=len(allowed) + 2)
    others = allowed - {processor} or allowed
    assert all(os.sched_getaffinity(worker) == others for worker in workers)
# What somebody else sets is what a worker may use from then on.
for worker in workers:
    os.sched_setaffinity(worker, {processor})
for caller in allowed:
    os.sched_setaffinity(0, {caller})
    call(64, 8, 256, num_threads=len(allowed) + 2)
    assert all(os.sched_getaffinity(worker) == {processor} for worker in workers)
"""
    run_script(script)


def test_the_gil_is_released(num_threads: int) -> None:
    """Another thread counts during a call, though no thread is ever made to yield.

    With its workers a call has all processors, so it must last until the system lets others run.
    """
    count, stop = [0], threading.Event()

    def keep_counting() -> None:
        while not stop.is_set():
            count[0] += 1
            time.sleep(0)

    problem = make_problem(64, 400, 64, 128)
    packed = functional.pack(*problem.weights)
    _, backward = functional.lstm_vjp(problem.x, packed)
    a = np.ones((800, 8000))
    counter = threading.Thread(target=keep_counting)
    interval = sys.getswitchinterval()
    counter.start()
    try:
        sys.setswitchinterval(1000)
        for call in (
            lambda: functional.lstm(problem.x, packed),
            lambda: backward(problem.d_output),
            lambda: functional.matmul(a, a.T),
        ):
            before = count[0]
            call()
            assert count[0] > before
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        counter.join()


@pytest.mark.parametrize("size", [(2, 3, 4, 5), LARGE], ids=str)
def test_many_callers_at_once(size: tuple[int, int, int, int]) -> None:
    problems = [make_problem(*size, seed=seed) for seed in range(6)]
    weights = problems[0].weights

    def compute(packed: functional.PackedWeights, problem: Problem) -> list[Array]:
        results, backward = functional.lstm_vjp(
            problem.x, packed, initial_state=problem.initial_state, num_threads=2
        )
        return [*results, *backward(*problem.upstream)]

    expected = [compute(functional.pack(*weights), problem) for problem in problems]
    fresh = functional.pack(*weights)  # what a first call prepares must survive several at once
    barrier = threading.Barrier(len(problems))

    def work(index: int) -> None:
        barrier.wait(timeout=60)
        for _ in range(20):
            assert_same_bits(compute(fresh, problems[index]), expected[index])

    with ThreadPoolExecutor(len(problems)) as pool:
        list(pool.map(work, range(len(problems))))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_after_a_call() -> None:
    script = """
expected = call(64, 8, 128, num_threads=3).tobytes()

def check():
    for num_threads in (1, 2, 3):
        assert call(64, 8, 128, num_threads=num_threads).tobytes() == expected

child = os.fork()
check()
if child:
    _, status = os.waitpid(child, 0)
    assert status == 0
    check()
    print("all right")
"""
    assert run_script(script).strip() == "all right"


@needs_proc
def test_memory_stays_flat() -> None:
    """Every kind of call, 20000 times: a leak of 26 bytes in one of them would show."""
    script = """
def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

x = np.ones((2, 3, 4), np.float32)
kernel, recurrent_kernel = np.ones((4, 20), np.float32), np.ones((5, 20), np.float32)
bias = np.ones(20, np.float32)
state = np.ones((2, 5), np.float32), np.ones((2, 5), np.float32)

def calls():
    packed = functional.pack(kernel, recurrent_kernel, bias)
    (output, h, c), backward = functional.lstm_vjp(x, packed, initial_state=state)
    backward(output, h, c)
    functional.lstm(x[:, ::-1], packed, time_major=True, initial_state=None)
    functional.matmul(x[0], kernel, bias)
    for bad in (x[0], "x", x.astype(int)):
        try:
            functional.lstm(bad, packed)
        except (TypeError, ValueError):
            pass

for _ in range(3000):
    calls()
before = resident()
for _ in range(20000):
    calls()
print(resident() - before)
"""
    assert int(run_script(script)) < 2**19


@needs_proc
def test_memory_kept_of_large_weights_is_bounded_and_usable() -> None:
    """Of 450 MiB in blocks of many sizes 64 MiB may stay; weights in used memory are as good."""
    script = """
def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

call(1, 1, 8)
before = resident()
for units in range(560, 1200, 20):
    kernel = np.ones((1, 4 * units), np.float32)
    functional.pack(kernel, np.ones((units, 4 * units), np.float32))
print(resident() - before, end=" ")

def fresh_and_used(units):
    for value in (0.001, 0.002):
        kernel = np.full((1, 4 * units), value, np.float32)
        recurrent = np.full((units, 4 * units), value, np.float32)
        x = np.ones((1, 3, 1), np.float32)
        last = functional.lstm(x, functional.pack(kernel, recurrent))[1]
    return last

print(np.array_equal(fresh_and_used(700), fresh_and_used(700)))
"""
    grown, same = run_script(script).split()
    assert int(grown) < 80 * 2**20
    assert same == "True"


def test_an_instruction_set_can_be_forced(isa: str) -> None:
    script = "print(functional.pack(np.ones((1, 4)), np.ones((1, 4))).isa)"
    assert run_script(script, LSTM_EXT_ISA=isa).strip() == isa


def test_forcing_an_unknown_instruction_set_fails() -> None:
    script = """
try:
    functional.pack(np.ones((1, 4)), np.ones((1, 4)))
except ValueError as error:
    print(error)
"""
    message = run_script(script, LSTM_EXT_ISA="mmx")
    assert "LSTM_EXT_ISA" in message and "mmx" in message and "baseline" in message
