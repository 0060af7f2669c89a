"""The NEON kernels, built by a cross compiler and run by an emulator, held to the bits of AVX2."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from build_support import SOURCE, compiler_for, find_tool, kernel_flags
from lstm_ext import _cpu, config

CPU = SOURCE / "csrc" / "cpu"
NATIVE = SOURCE / "tests" / "native"
# What asks the processor what it is, and the rest.
DETECTION = [CPU / "isa.cpp", CPU / "kernel_sets.cpp", CPU / "probes.cpp"]
DRIVERS = sorted(set(CPU.glob("*.cpp")) - set(DETECTION))
# What CMakeLists.txt gives to all files but -O3, and for ARM, whose compiler is GCC, its warnings.
FLAGS = ["-std=c++17", "-ffp-contract=off", f"-I{SOURCE / 'csrc'}"]
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-maybe-uninitialized", "-Wno-uninitialized"]

pytestmark = pytest.mark.skipif(
    "neon" in _cpu.built_isas(), reason="compares with AVX2, which this processor has not"
)


def build(program: str, isa: str, sources: Sequence[tuple[Path, list[str]]], folder: Path) -> Path:
    """Compile sources, each with its own flags, and link them to one program.

    For the emulator it is a static one, which needs none of ARM's libraries.
    """
    compiler = compiler_for(isa)
    compile_flags, link_flags = (WARNINGS, ["-static"]) if isa == "neon" else ([], [])

    def compile_one(source_and_flags: tuple[Path, list[str]]) -> str:
        source, flags = source_and_flags
        made = str(folder / f"{source.stem}.o")
        command = [compiler, *FLAGS, *compile_flags, *flags, "-c", str(source), "-o", made]
        subprocess.run(command, check=True)
        return made

    folder.mkdir()
    with ThreadPoolExecutor(config.get_num_threads()) as pool:
        objects = list(pool.map(compile_one, sources))
    built = folder / program
    subprocess.run([compiler, *link_flags, "-pthread", *objects, "-o", str(built)], check=True)
    return built


def kernels(isa: str, *flags: str) -> tuple[Path, list[str]]:
    source = CPU / "kernels" / f"kernels_{isa}.cpp"
    return source, [*kernel_flags(isa), "-fno-exceptions", *flags]


def build_kernel_bits(isa: str, folder: Path) -> Path:
    others = [*DRIVERS, NATIVE / "kernel_bits.cpp"]
    sources = [
        kernels(isa, "-O3"),
        *((path, ["-O1", f"-DLSTM_EXT_TESTED={isa}"]) for path in others),
    ]
    return build("kernel_bits", isa, sources, folder)


def run(command: Sequence[str | Path]) -> list[str]:
    environment = {key: value for key, value in os.environ.items() if key != "LSTM_EXT_ISA"}
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120, env=environment
    )
    return result.stdout.splitlines()


def emulator() -> str:
    compiler_for("neon")
    return find_tool(["qemu-aarch64-static", "qemu-aarch64"], "an emulator")


@pytest.mark.skipif("avx2" not in config.available_isas(), reason="needs AVX2 to compare with")
def test_neon_gives_the_bits_of_avx2(tmp_path: Path) -> None:
    emulate = emulator()
    with ThreadPoolExecutor() as pool:
        folders = [tmp_path / "avx2", tmp_path / "neon"]
        avx2, neon = pool.map(build_kernel_bits, ["avx2", "neon"], folders)
    expected, actual = run([avx2]), run([emulate, neon])
    assert len(expected) > 1500
    assert len({line.split()[-1] for line in expected}) > 1500
    different = [(a, b) for a, b in zip(actual, expected, strict=True) if a != b]
    assert different == []


def test_an_arm_build_offers_neon_first(tmp_path: Path) -> None:
    """And everything compiles for ARM without a warning."""
    emulate = emulator()
    called = [CPU / "buffer.cpp", CPU / "scalar_functions.cpp"]  # by kernels and detection
    files = [*DETECTION, *called, NATIVE / "runnable_isas.cpp"]
    sources = [(path, ["-DLSTM_EXT_ARM_KERNELS"]) for path in files]
    sources += [kernels("neon"), kernels("baseline")]
    program = build("runnable_isas", "neon", sources, tmp_path / "arm")
    assert run([emulate, program]) == ["neon", "baseline"]
