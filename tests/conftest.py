"""Fixtures: what to run a test with once each, a pretended device, and the threads put back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lstm_ext import config
from support import ISAS


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let lstm_ext find a CUDA device, which is pretended."""
    from device_support import pretended_device  # which compiles the emulator

    with pretended_device(monkeypatch):
        yield


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    """Name each instruction set that this machine runs."""
    return str(request.param)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Any:
    """Name each element type of the operator."""
    return request.param


@pytest.fixture
def checked_dtype(dtype: Any) -> Any:
    """Name each element type for which NumPy has a wider one to hold results to."""
    if dtype == np.float64 and np.finfo(np.longdouble).eps == np.finfo(np.float64).eps:
        pytest.skip("longdouble is no wider than float64 on this platform")
    return dtype


@pytest.fixture
def num_threads() -> Iterator[int]:
    """Return the number of threads, and set it again after the test."""
    before = config.get_num_threads()
    yield before
    config.set_num_threads(before)
