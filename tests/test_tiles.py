"""AMX's tiles: asked of the operating system by whom needs them, and done without where denied.

Linux grants them to a process for good, so each test has a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

import lstm_ext

pytestmark = pytest.mark.skipif(
    "avx512_amx" not in lstm_ext.available_isas(), reason="needs a processor with AMX, on Linux"
)

HEAD = """
import ctypes
import numpy as np
from lstm_ext import LSTM, functional

libc = ctypes.CDLL(None, use_errno=True)
x, kernel = np.ones((3, 2, 70), "f"), np.ones((70, 40), "f")
recurrent_kernel = np.ones((10, 40), "f")

def has_tiles():
    granted = ctypes.c_uint64()
    ARCH_PRCTL, GET_PERMISSION = 158, 0x1022
    assert libc.syscall(ARCH_PRCTL, GET_PERMISSION, ctypes.byref(granted)) == 0
    return bool(granted.value >> 18 & 1)

def pack(weights_dtype, isa=None):
    return functional.pack(kernel, recurrent_kernel, weights_dtype=weights_dtype, isa=isa)
"""


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", HEAD + textwrap.dedent(code)], check=True, timeout=120)


def test_full_weights_ask_for_no_tiles() -> None:
    run("""
        assert not has_tiles()
        LSTM(10)(x)
        assert pack(None).isa == "avx512_amx" and not has_tiles()
        functional.lstm(x, pack("bfloat16"))
        assert has_tiles()
    """)


def test_where_tiles_are_denied_small_weights_do_without() -> None:
    # A thread with a stack for signals that their state would not fit on.
    run("""
        class Stack(ctypes.Structure):
            _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

        memory = ctypes.create_string_buffer(8192)
        assert libc.sigaltstack(ctypes.byref(Stack(ctypes.addressof(memory), 0, 8192)), None) == 0
        for weights_dtype in ("bfloat16", "int8"):
            weights = pack(weights_dtype)
            assert weights.isa == lstm_ext.available_isas()[1] and not has_tiles()
            exact = functional.lstm(x, pack(weights_dtype, "avx2"))[0]
            assert np.array_equal(functional.lstm(x, weights)[0], exact)
        try:
            pack("int8", "avx512_amx")
        except ValueError as error:
            assert "isa='avx512_amx': the operating system denies" in str(error), error
        else:
            raise AssertionError("tiles were not denied")
    """)
