"""What nvcc makes of csrc/cuda/: it compiles for every architecture, and nothing spills."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import lstm_ext
from build_support import SOURCE, find_tool
from lstm_ext import config

CUDA = SOURCE / "csrc" / "cuda"
ARCHITECTURES = ["80", "86", "89", "90", "100", "120"]
SHIPPED = ["80", "90"]  # what CMakeLists.txt builds unless told otherwise
# All that a file can tell of one architecture stands in these; the others have no kernels.
KERNELS = {"cluster": 8, "grid": 8, "steps": 14, "variants": 12, "projected": 18}  # how many


def nvcc() -> str:
    return find_tool(["nvcc"], "CUDA's compiler")


def supported(compiler: str) -> list[str]:
    listed = subprocess.run(
        [compiler, "--list-gpu-arch"], capture_output=True, text=True, check=True
    ).stdout
    known = re.findall(r"compute_(\d+)\b", listed)
    return [name for name in ARCHITECTURES if name in known]


def compile_cuda(compiler: str, source: Path, options: list[str], made: Path) -> str:
    """Compile a file and return what the compiler reports."""
    command = [
        compiler,
        "-std=c++17",
        "-fmad=false",
        f"-I{SOURCE / 'csrc'}",
        *options,
        "-o",
        str(made),
    ]
    result = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr, result.stderr
    return result.stderr


def resources(report: str) -> dict[str, tuple[int, int, int]]:
    """Return stack bytes, spilled bytes and registers of each kernel in ptxas's report."""
    found = {}
    for kernel, stack, stores, loads, registers in re.findall(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers",
        report,
        re.DOTALL,
    ):
        found[kernel] = int(stack), int(stores) + int(loads), int(registers)
    return found


def test_nothing_spills_on_the_architectures_that_are_shipped(tmp_path: Path) -> None:
    """Weights that a kernel keeps in registers must stay there."""
    compiler = nvcc()

    def report(job: tuple[str, str]) -> dict[str, tuple[int, int, int]]:
        name, arch = job
        code = [f"-gencode=arch=compute_{arch},code=sm_{arch}", "-Xptxas=-v", "-cubin"]
        text = compile_cuda(compiler, CUDA / f"{name}.cu", code, tmp_path / f"{name}{arch}.cubin")
        return resources(text)

    jobs = [(name, arch) for arch in SHIPPED for name in KERNELS]
    with ThreadPoolExecutor(config.get_num_threads()) as pool:
        reports = list(pool.map(report, jobs))
    for job, kernels in zip(jobs, reports, strict=True):
        assert len(kernels) == KERNELS[job[0]], job
        for kernel, (stack, spilled, registers) in kernels.items():
            if "persistent" not in kernel:
                # A few addresses of float64, of 512 threads.
                is_wide = re.search(r"wide.*wardId", kernel) is not None
                assert stack <= (16 if is_wide else 0), (job, kernel, spilled)
                continue
            # Room for 512 threads with 64 words of weights each, which are 256 bytes. What else a
            # step needs may spill, if it is less than half of that.
            assert 64 < registers <= 128 and stack < 128, (job, kernel, stack)


def test_it_compiles_for_every_architecture(tmp_path: Path) -> None:
    """The rest of the list, and PTX for chips to come.

    All kernels take a compiler 15 s for each architecture, most of it to allocate registers. Two
    of them use every instruction that an architecture could lack.
    """
    compiler = nvcc()
    rest = [arch for arch in supported(compiler) if arch not in SHIPPED]
    assert rest, "nvcc supports none of the architectures"
    codes = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in rest]
    codes.append(f"-gencode=arch=compute_{rest[-1]},code=compute_{rest[-1]}")

    def compile_one(job: tuple[int, str]) -> Path:
        number, code = job
        made = tmp_path / f"{number}.fatbin"
        compile_cuda(
            compiler, SOURCE / "tests" / "native" / "cuda_architectures.cu", [code, "-fatbin"], made
        )
        return made

    with ThreadPoolExecutor(config.get_num_threads()) as pool:
        made = list(pool.map(compile_one, enumerate(codes)))
    assert all(path.stat().st_size > 1000 for path in made)


def test_an_installation_where_nvcc_is_has_the_module() -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("needs CUDA's compiler: nvcc")
    installed = Path(lstm_ext.__file__).parent
    if installed == SOURCE / "python" / "lstm_ext":
        pytest.skip("lstm_ext is not installed: it runs from its source tree")
    from lstm_ext.cuda import availability

    if availability.native() is None:
        pytest.skip("it was installed with LSTM_EXT_CUDA=OFF")
    assert availability.parts()["module"] == ""


def test_the_module_carries_its_types() -> None:
    reason = "lstm_ext was built without CUDA"
    module = pytest.importorskip("lstm_ext._cuda", reason=reason)
    stub = Path(lstm_ext.__file__).with_name("_cuda.pyi").read_text(encoding="utf-8")
    declared = {
        node.name
        for node in ast.parse(stub).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    assert declared == {name for name in dir(module) if not name.startswith("_")}
