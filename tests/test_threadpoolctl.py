"""threadpoolctl sees our threads and limits them, whichever of the two is imported first.

Each script runs in a fresh interpreter.
"""

from __future__ import annotations

import json
import os

import pytest

import lstm_ext
from support import run_python
from test_threads import needs_affinity, needs_proc

ORDERS = {
    "before": "import threadpoolctl, lstm_ext\n",
    "after": "import lstm_ext, threadpoolctl\n",
    "after, in part": "import lstm_ext\nfrom threadpoolctl import threadpool_info\n"
    "import threadpoolctl\n",
}
PRELUDE = """
import sys
from lstm_ext import _cpu
from threadpoolctl import threadpool_info, threadpool_limits

def ours():
    return [info for info in threadpool_info() if info["user_api"] == "lstm_ext"]

def state():
    [info] = ours()
    assert info["num_threads"] == lstm_ext.get_num_threads()
    return info["num_threads"], _cpu.num_threads_source()
"""
AFTER = ORDERS["after"] + PRELUDE


@pytest.mark.parametrize("order", ORDERS)
def test_our_threads_are_listed(order: str) -> None:
    script = ORDERS[order] + PRELUDE + "import json; print(json.dumps([ours(), _cpu.__file__]))"
    [info], file = json.loads(run_python(script, LSTM_EXT_NUM_THREADS="3", LSTM_EXT_ISA="baseline"))
    assert info.pop("filepath") == os.path.realpath(file)
    assert info == {
        "user_api": "lstm_ext",
        "internal_api": "lstm_ext",
        "prefix": "_cpu",
        "num_threads": 3,
        "version": lstm_ext.__version__,
        "architecture": "baseline",
    }


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("user_api", [None, "lstm_ext"])
def test_limits_hold_for_a_while(order: str, user_api: str | None) -> None:
    script = f"""
with threadpool_limits(limits=1, user_api={user_api!r}):
    assert state() == (1, "limit")
    with threadpool_limits(limits=2, user_api={user_api!r}):
        assert state() == (2, "limit")
    assert state() == (1, "limit")
assert state() == (3, "LSTM_EXT_NUM_THREADS")
with threadpool_limits(limits=1, user_api="blas"):
    assert state()[0] == 3
lstm_ext.set_num_threads(5)
with threadpool_limits(limits=1, user_api={user_api!r}):
    assert state() == (1, "limit")
assert state() == (5, "set_num_threads")
"""
    run_python(ORDERS[order] + PRELUDE + script, LSTM_EXT_NUM_THREADS="3")


def test_a_number_that_is_set_ends_a_limit() -> None:
    script = """
threadpool_limits(limits=1)
assert state() == (1, "limit")
lstm_ext.set_num_threads(4)
assert state() == (4, "set_num_threads")
"""
    run_python(AFTER + script)


@pytest.mark.parametrize(("limit", "expected"), [(0, 1), (-3, 1), (10**6, 4096)])
def test_a_limit_out_of_range_is_the_nearest_that_is_not(limit: int, expected: int) -> None:
    run_python(AFTER + f"threadpool_limits(limits={limit})\nassert state()[0] == {expected}")


@needs_affinity
def test_after_a_limit_the_affinity_decides_again() -> None:
    script = """
import os
processors = os.sched_getaffinity(0)
with threadpool_limits(limits=7):
    assert state() == (7, "limit")
assert state() == (len(processors), "affinity")
os.sched_setaffinity(0, {min(processors)})
assert state() == (1, "affinity")
"""
    run_python(AFTER + script)


@needs_proc
def test_calls_keep_to_the_limit() -> None:
    script = """
import os
import numpy as np

def threads():
    return len(os.listdir("/proc/self/task"))

layer = lstm_ext.LSTM(128)
x = np.ones((64, 8, 64), np.float32)
at_first = threads()
with threadpool_limits(limits=1):
    layer(x)
    assert threads() == at_first
with threadpool_limits(limits=2):
    layer(x)
    assert threads() == at_first + 1
layer(x)
assert threads() == at_first + 2
"""
    run_python(AFTER + script, LSTM_EXT_NUM_THREADS="3")


@needs_proc
def test_a_foreign_library_of_that_name_is_not_ours() -> None:
    script = """
import ctypes, shutil, tempfile
from pathlib import Path
from numpy.random import _mt19937

with tempfile.TemporaryDirectory() as folder:
    foreign = shutil.copy(_mt19937.__file__, Path(folder) / "_cpu.so")
    ctypes.CDLL(str(foreign))
    assert str(Path(foreign).resolve()) in Path("/proc/self/maps").read_text()
    assert [info["filepath"] for info in ours()] == [str(Path(_cpu.__file__).resolve())]
"""
    run_python(AFTER + script)


def test_importing_us_does_not_import_threadpoolctl() -> None:
    run_python("import lstm_ext, sys\nassert 'threadpoolctl' not in sys.modules")


def test_without_threadpoolctl_its_import_fails_as_ever() -> None:
    """And succeeds once it is there."""
    script = """
import sys
import lstm_ext

path, sys.path = sys.path, []
for _ in range(2):
    try:
        import threadpoolctl
    except ModuleNotFoundError as error:
        assert error.name == "threadpoolctl"
    else:
        raise AssertionError("threadpoolctl was imported from nowhere")
sys.path = path
import threadpoolctl
"""
    run_python(script + PRELUDE + "assert len(ours()) == 1")


def test_an_instruction_set_that_does_not_run_hides_nothing() -> None:
    run_python(AFTER + "assert ours()[0]['architecture'] is None", LSTM_EXT_ISA="mmx")
