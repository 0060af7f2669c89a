"""What the tests share that compile parts of the package themselves."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from lstm_ext import _cpu

SOURCE = Path(__file__).parents[1]
ARM = "aarch64-linux-gnu-"  # what the names of a cross compiler and its tools begin with

# Every instruction set with a kernel file that this machine can compile for, if it has the tools.
COMPILED_ISAS = _cpu.built_isas() + [isa for isa in ["neon"] if isa not in _cpu.built_isas()]


def compiler_for(isa: str) -> str:
    """Return a compiler for the processors that have an instruction set, or skip the test."""
    names = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    return find_tool(names if isa in _cpu.built_isas() else [f"{ARM}g++"], "a compiler")


def nm_for(isa: str) -> str:
    """Return the tool that lists the symbols of such an object, or skip the test."""
    return find_tool(["nm" if isa in _cpu.built_isas() else f"{ARM}nm"], "nm")


def find_tool(names: list[str | None], what: str) -> str:
    """Return the first tool of these names that is installed, or skip the test."""
    known = [name for name in names if name]
    found = next((path for path in map(shutil.which, known) if path), None)
    if found is None:
        pytest.skip(f"needs {what}: {' or '.join(known)}")
    return found


def kernel_flags(isa: str) -> list[str]:
    """Return the flags that CMakeLists.txt gives to the file of an instruction set."""
    text = (SOURCE / "CMakeLists.txt").read_text(encoding="utf-8")
    option = (
        rf"kernels_{isa}\.cpp PROPERTIES COMPILE_OPTIONS\s+"
        r'"(?:\$<IF:[^,]*,[^,]*,)?(-[^>"]*)>?"'
    )
    found = re.search(option, text)
    if isa in ("baseline", "neon"):
        assert found is None
        return []
    assert found is not None, f"no flags for kernels_{isa}.cpp in CMakeLists.txt"
    return found[1].split(";")
