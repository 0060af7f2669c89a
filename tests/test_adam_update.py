"""The native pass of Adam: the formula, also where it leaves out what has had no gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lstm_ext import _cpu

Array = NDArray[Any]

SIZE = 1000
SETTINGS = {"step_size": 0.01, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}


def update(arrays: list[Array], **changed: float) -> list[Array]:
    """Return parameter, m and v after a step of the native pass."""
    param, grad, m, v = (array.copy() for array in arrays)
    _cpu.adam_update([param], [grad], [m], [v], **{**SETTINGS, **changed})
    return [param, m, v]


def alone(arrays: list[Array], **changed: float) -> list[Array]:
    """Return the same, element by element: too few for anything to be left out."""
    steps = [update([a[i : i + 1] for a in arrays], **changed) for i in range(len(arrays[0]))]
    return [np.concatenate(parts) for parts in zip(*steps, strict=True)]


def draw(dtype: str) -> list[Array]:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(SIZE).astype(dtype) for _ in range(4)]
    arrays[3] **= 2
    return arrays


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("place", [0, 100, 255, 256, 600])
@pytest.mark.parametrize("which", ["nothing", "grad", "m", "v", "NaN", "infinity"])
def test_each_element_is_updated_as_if_alone(dtype: str, place: int, which: str) -> None:
    arrays = draw(dtype)
    for array in arrays[1:]:
        array[:900] = 0
    arrays[1][:900:7] = -0.0
    index = {"grad": 1, "m": 2, "v": 3, "NaN": 1, "infinity": 3}.get(which)
    if index is not None:
        arrays[index][place] = {"NaN": np.nan, "infinity": np.inf}.get(which, 1e-3)
    with np.errstate(all="ignore"):
        for actual, expected in zip(update(arrays), alone(arrays), strict=True):
            assert actual.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_decay_acts_without_a_gradient(dtype: str) -> None:
    arrays = draw(dtype)
    for array in arrays[1:]:
        array[:] = 0
    param, m, v = update(arrays, decay=0.5)
    np.testing.assert_array_equal(param, arrays[0] / 2)
    assert not m.any() and not v.any()


def test_nothing_over_nothing_is_not_a_number() -> None:
    arrays = draw("float32")
    for array in arrays[1:]:
        array[:] = 0
    assert np.isnan(update(arrays, epsilon=0.0)[0]).all()
