"""What the tests of the training functions share: Keras's values and a measure of error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Case = dict[str, Any]


def load_golden(name: str) -> dict[str, Case]:
    """Return the arrays of a golden file by case; those of no case under ""."""
    cases: dict[str, Case] = {}
    with np.load(Path(__file__).parent / "golden_keras_training" / f"{name}.npz") as file:
        for key in file:
            case, _, array = key.rpartition("/")
            text = array in ("config", "name")
            value = str(file[key]) if text else file[key]
            cases.setdefault(case, {})[array] = json.loads(value) if array == "config" else value
    return cases


def ulps(actual: Any, exact: Any, dtype: Any) -> float:
    """Return the largest error in units in the last place of `dtype`.

    That unit is one of the exact value, but at least one of 1 or, if all are smaller, of the
    largest: what is computed through numbers of that size cannot be better.
    """
    magnitude = np.abs(np.asarray(exact, np.float64))
    unit = min(1.0, float(magnitude.max(initial=0))) or 1.0
    errors = np.abs(np.asarray(actual, np.float64) - exact) / np.maximum(magnitude, unit)
    return float(errors.max(initial=0)) / float(np.finfo(dtype).eps)


def assert_as_keras(
    ours: dict[str, Any], keras_32: Array, keras_64: Array, name: str, float64_ulps: float = 8
) -> None:
    """Assert that ours in float32 errs at most twice as much as Keras's, beside its float64.

    An error of Keras's counts as at least one unit in the last place: less is luck. In float64,
    where nothing better is at hand, ours has to agree to a few of them.
    """
    assert np.shape(ours["32"]) == np.shape(ours["64"]) == keras_64.shape, name
    found = ulps(ours["32"], keras_64, np.float32)
    allowed = 2 * max(1.0, ulps(keras_32, keras_64, np.float32))
    assert found <= allowed, f"{name}: {found:.3g} units of float32, allowed {allowed:.3g}"
    found = ulps(ours["64"], keras_64, np.float64)
    assert found <= float64_ulps, f"{name}: {found:.3g} units of float64, allowed {float64_ulps}"
