"""Whether CUDA can be used here, and what is missing."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import Any

from ..config import Availability

__all__ = ["available", "native", "parts", "require"]

_NO_CUPY = "CuPy is not installed (pip install cupy-cuda12x, or cupy-cuda13x beside CUDA 13)"

# The module of kernels and CuPy, once all parts were there: to ask again takes a while.
_proven: tuple[Any, Any] = None, None


@functools.cache
def native() -> Any:
    """Return the module of kernels, or None if it was not built."""
    try:
        return importlib.import_module("lstm_ext._cuda")
    except ModuleNotFoundError as error:
        if error.name != "lstm_ext._cuda":
            raise
        return None


def parts() -> dict[str, str]:
    """Return, for each part that CUDA needs, why it is missing, or an empty string.

    The parts are ``module``, ``driver``, ``device`` and ``cupy``. What cannot be known without an
    earlier one says so.
    """
    reasons = {"module": "", "driver": "", "device": "", "cupy": ""}
    if native() is None:
        reasons["module"] = "lstm_ext was built without CUDA: nvcc was not found, or not wanted"
        reasons["driver"] = reasons["device"] = "not asked: there is no module"
    else:
        count, reason = native().device_count()
        no_driver = count == 0 and reason == "no CUDA driver is installed"
        reasons["driver"] = reason if no_driver else ""
        reasons["device"] = "not asked: there is no driver" if no_driver else reason
    if importlib.util.find_spec("cupy") is None:
        reasons["cupy"] = _NO_CUPY
    return reasons


def available() -> Availability:
    """Return whether `lstm_ext.cuda` can be used; false values carry the `reason`."""
    return Availability(next((reason for reason in parts().values() if reason), ""))


def require() -> tuple[Any, Any]:
    """Return the module of kernels and CuPy.

    Raises
    ------
    RuntimeError
        If a part is missing, with the reason.
    """
    global _proven
    module = native()
    if module is None or _proven[0] is not module:
        state = available()
        if not state:
            raise RuntimeError(f"CUDA is not available: {state.reason}")
        _proven = module, importlib.import_module("cupy")
    return _proven
