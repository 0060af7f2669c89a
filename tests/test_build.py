"""What was built and installed: symbols, the version, stubs, a light import, the README's code."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_ext
from build_support import COMPILED_ISAS, SOURCE, compiler_for, kernel_flags, nm_for
from lstm_ext import _cpu, config

PACKAGE = Path(lstm_ext.__file__).parent


def external_symbols(object_file: Path, nm: str) -> list[tuple[str, str]]:
    """Return (type, name) of what an object defines for others; types V, W and u are weak."""
    lines = subprocess.run(
        [nm, "-P", str(object_file)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    symbols = [(kind, name) for name, kind, *_ in map(str.split, lines)]
    return [(kind, name) for kind, name in symbols if kind in "uvw" or kind.isupper()]


@pytest.mark.parametrize("isa", COMPILED_ISAS)
def test_a_kernel_file_defines_its_table_and_nothing_else(isa: str, tmp_path: Path) -> None:
    """Anything more would be weak, and might be linked for processors that cannot run it.

    Compiled without optimisation, so that no function disappears by being inlined.
    """
    object_file = tmp_path / f"{isa}.o"
    source = SOURCE / "csrc" / "cpu" / "kernels" / f"kernels_{isa}.cpp"
    command = [
        compiler_for(isa),
        "-std=c++17",
        "-O0",
        "-fPIC",
        "-fno-exceptions",
        f"-I{SOURCE / 'csrc'}",
    ]
    command += [*kernel_flags(isa), "-c", str(source), "-o", str(object_file)]
    subprocess.run(command, check=True)
    defined = [
        (kind, name) for kind, name in external_symbols(object_file, nm_for(isa)) if kind != "U"
    ]
    assert len(defined) == 1, defined
    kind, name = defined[0]
    assert kind in "DRS" and f"3cpu{len(isa)}{isa}7kernels" in name, defined


def test_the_version_stands_in_one_place() -> None:
    text = (SOURCE / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.*)"$', text, re.MULTILINE)
    assert version is not None
    assert lstm_ext.__version__ == _cpu.__version__ == version[1]
    sources = [*SOURCE.glob("csrc/**/*.*pp"), *SOURCE.glob("python/**/*.py")]
    assert sources
    other_places = [path for path in sources if f'"{version[1]}"' in path.read_text("utf-8")]
    assert other_places == []


def test_the_code_of_the_readme_runs() -> None:
    text = (SOURCE / "README.md").read_text(encoding="utf-8")
    keras, stream, small, operator, variants = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(keras, names)
    assert np.array_equal(names["outputs"][:, -1], names["h"])
    assert names["model"].evaluate(names["X"], names["y"], verbose=0) < 0.1
    exec(stream, names)
    assert np.array_equal(names["h_t"], names["h"])
    exec(small, names)
    assert names["model"].layers[0].weights_dtype == "int8"
    names |= {"kernel": np.ones((10, 80)), "recurrent_kernel": np.ones((20, 80))}
    names |= {"bias": np.ones(80), "d_output": np.ones((1, 5, 20))}
    exec(operator, names)
    assert names["gradients"].bias.shape == (80,)
    exec(variants, names)
    assert names["output"].shape == (1, 8) and names["gates"].cell.shape == (1, 5, 8)


def test_the_installed_version() -> None:
    try:
        installed = importlib.metadata.version("lstm_ext")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("lstm_ext is not installed: it runs from its source tree")
    assert installed == lstm_ext.__version__


def test_the_package_carries_its_types() -> None:
    assert (PACKAGE / "py.typed").exists()
    stub = ast.parse((PACKAGE / "_cpu.pyi").read_text(encoding="utf-8"))
    declared = set()
    for node in stub.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            declared.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            declared.add(node.target.id)
    public = {name for name in dir(_cpu) if not name.startswith("_")} | {"__version__"}
    assert declared == public


def test_the_package_is_small() -> None:
    sizes = {path: path.stat().st_size for path in PACKAGE.rglob("*") if path.is_file()}
    cuda = sum(size for path, size in sizes.items() if path.name.startswith("_cuda."))
    assert sum(sizes.values()) - cuda < 6e6
    assert cuda < 4e6  # where nvcc was found


def test_importing_loads_nothing_heavy() -> None:
    heavy = {
        "cupy", "h5py", "hypothesis", "jax", "keras", "matplotlib", "onnx", "onnxruntime",
        "openvino", "pandas", "scipy", "statsmodels", "tensorflow", "torch", "tqdm",
        "argparse", "asyncio", "multiprocessing", "subprocess", "unittest", "zipfile",
    }  # fmt: skip
    script = """
import sys, numpy
before = set(sys.modules)
import lstm_ext
print(*sorted(set(sys.modules) - before))
"""
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "lstm_ext" in loaded
    assert heavy.isdisjoint(loaded)


def test_instruction_sets_come_best_first() -> None:
    built, available = _cpu.built_isas(), config.available_isas()
    assert built[-1] == available[-1] == "baseline"
    assert available == [isa for isa in built if isa in available]


def test_show_config_tells_what_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    config.show_config()
    shown = capsys.readouterr().out
    for fact in (
        lstm_ext.__version__,
        _cpu.compiler,
        f"chosen: {_cpu.chosen_isa()}",
        f"threads: {config.get_num_threads()} ",
        f"workers spin after a call: {config.get_spin_time()} us",
        f"CUDA: {config.cuda_available()!r}",
    ):
        assert fact in shown


def test_missing_cuda_is_false_and_has_a_reason() -> None:
    cuda = config.cuda_available()
    assert bool(cuda) == (not cuda.reason)
    assert repr(cuda) == ("available" if cuda else f"not available: {cuda.reason}")
