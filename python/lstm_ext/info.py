"""What this installation is and what it lacks."""

from __future__ import annotations

import importlib.util
import platform
from typing import Any

import numpy as np

from . import _cpu, config
from .cuda import availability

__all__ = ["collect", "describe"]

_OPTIONAL = {
    "cupy": "arrays and matrix products on a GPU",
    "matplotlib": "pictures of the demo and of bench; pip install matplotlib",
    "statsmodels": "the sunspots of the demo; pip install statsmodels",
    "torch": "a peer of bench and demo",
    "onnxruntime": "a peer of bench, with onnx",
    "onnx": "models for the peers onnxruntime and openvino of bench",
    "openvino": "a peer of bench, with onnx",
    "jax": "a peer of bench",
    "keras": "a peer of bench and demo, with tensorflow",
    "tensorflow": "a peer of bench and demo, with keras",
    "ncnn": "a peer of bench",
}


def collect() -> dict[str, Any]:
    """Return everything `lstm-ext info` tells, for JSON."""
    cuda = config.cuda_available()
    return {
        "version": _cpu.__version__,
        "compiler": _cpu.compiler,
        "pybind11": _cpu.pybind11_version,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "isas": {name: name in _cpu.available_isas() for name in _cpu.built_isas()},
        "isa": _cpu.chosen_isa(),
        "threads": _cpu.num_threads(),
        "threads_from": _cpu.num_threads_source(),
        "cuda": bool(cuda),
        "cuda_reason": cuda.reason,
        "cuda_missing": availability.parts(),
        "optional": {name: importlib.util.find_spec(name) is not None for name in _OPTIONAL},
    }


def describe() -> str:
    """Return the same as text."""
    facts = collect()
    isas = ", ".join(f"{n} ({'runs' if runs else 'not here'})" for n, runs in facts["isas"].items())
    lines = [
        f"lstm_ext {facts['version']}, built with {facts['compiler']} and pybind11 "
        f"{facts['pybind11']}",
        f"python {facts['python']}, numpy {facts['numpy']}, {facts['platform']}",
        f"instruction sets: {isas}; chosen: {facts['isa']} (LSTM_EXT_ISA forces one)",
        f"threads: {facts['threads']}, from {facts['threads_from']}",
        f"CUDA: {'available' if facts['cuda'] else 'not available: ' + facts['cuda_reason']}",
        *(f"  {part:12} {missing or 'there'}" for part, missing in facts["cuda_missing"].items()),
        "optional packages:",
    ]
    for name, installed in facts["optional"].items():
        state = "installed" if installed else "missing"
        lines.append(f"  {name:12} {state:10} {_OPTIONAL[name]}")
    return "\n".join(lines)
