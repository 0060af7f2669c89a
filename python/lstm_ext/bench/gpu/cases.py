"""What is computed on a GPU: shapes, data that no cache keeps, and the right answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import reference
from ..grid import GROUPS, Shape, parse_shape

__all__ = ["GpuCase", "shapes_of"]

Array = NDArray[Any]

# Beyond these multiply-adds NumPy would take longer than everything else.
_MAX_REFERENCE = 4_000_000_000
_CHECKED_ROWS = 2

# Relative, root mean square. Plain float32 errs a hundred times less, TF32 and bfloat16 have 11 and
# 8 bits. A wrong gate or weight is off by as much as the values themselves.
_ALLOWED = {"float32": 1e-4, "tf32": 2e-2, "bfloat16": 5e-2}

_GPU_ONLY = ("16,1024,768,768", "1,512,256,256", "8,256,512,512", "64,512,1024,1024")


def shapes_of(suites: tuple[str, ...] | None, shapes: list[Shape]) -> list[tuple[str, Shape]]:
    """Return pairs of mode and shape: those of suites, by default all for a GPU, and of `shapes`.

    The suite "training" is trained, and the others are run forward.
    """
    if suites is None:
        suites = () if shapes else ("sequence", "batch", "large", "gpu", "training")
    pairs = []
    for suite in suites:
        listed = [parse_shape(text) for text in _GPU_ONLY] if suite == "gpu" else GROUPS.get(suite)
        if listed is None or suite in ("small", "fit", "grid"):
            raise ValueError(f"--suite: got {suite}, which is not for --device cuda")
        pairs += [("training" if suite == "training" else "forward", shape) for shape in listed]
    return pairs + [(mode, shape) for shape in shapes for mode in ("forward", "training")]


class GpuCase:
    """Random weights and sets of inputs of one shape, as NumPy arrays of float32.

    Parameters
    ----------
    shape : Shape
    mode : "forward" or "training"
    dtype : "float32" or "bfloat16"
    cache_bytes : int
        Of the chip's L2 cache: the sets are so many that their inputs and outputs are twice that.
    """

    def __init__(self, shape: Shape, mode: str, dtype: str, cache_bytes: int) -> None:
        self.shape, self.mode, self.dtype = shape, mode, dtype
        rng = np.random.default_rng(list(shape))
        batch, steps, features, units = shape
        scale = 1 / np.sqrt(features + units)

        def draw(*size: int, scale: float = 1.0) -> Array:
            return (rng.standard_normal(size) * scale).astype(np.float32)

        self.kernel = draw(features, 4 * units, scale=scale)
        self.recurrent_kernel = draw(units, 4 * units, scale=scale)
        self.bias = draw(4 * units, scale=0.1)
        moved = batch * steps * (features + units) * (2 if dtype == "bfloat16" else 4)
        count = int(np.clip(-(-2 * cache_bytes // max(moved, 1)), 2, 8))
        self.inputs = [draw(batch, steps, features) for _ in range(count)]
        self.d_output = draw(batch, steps, units)

    @property
    def weights(self) -> tuple[Array, Array, Array]:
        """kernel, recurrent_kernel, bias."""
        return self.kernel, self.recurrent_kernel, self.bias

    def check(self, output: Array, d_x: Array | None, precision: str) -> float:
        """Compare the first rows of a subject's results for the first set with NumPy in float64.

        Returns
        -------
        float
            The relative error of the output, or of the gradient of x if that is greater.

        Raises
        ------
        ValueError
            If it is more than the precision explains.
        """
        batch, steps, features, units = self.shape
        rows = min(batch, _CHECKED_ROWS)
        work = rows * steps * (features + units) * 4 * units * (3 if d_x is not None else 1)
        if d_x is not None and work > _MAX_REFERENCE:
            d_x = None  # its last steps would be needed
        kept = max(1, min(steps, int(steps * _MAX_REFERENCE / work)))
        x = self.inputs[0][:rows, :kept].astype(np.float64)
        weights = [w.astype(np.float64) for w in self.weights]
        (exact, _, _), backward = reference.lstm_vjp(x, *weights)
        error = _error(output[:rows, :kept], exact)
        if d_x is not None:
            gradients = backward(self.d_output[:rows].astype(np.float64))
            error = max(error, _error(d_x[:rows], gradients.x))
        if not error <= _ALLOWED[precision]:
            raise ValueError(f"results are off by {error:.1e}, in {precision}")
        return error


def _error(found: Array, exact: Array) -> float:
    deviation = np.asarray(found, np.float64) - exact
    return float(np.sqrt(np.mean(deviation**2) / np.mean(exact**2)))
