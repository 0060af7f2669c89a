"""What is computed: a shape with data, and the right answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import reference
from . import fit
from .grid import Shape

__all__ = ["Case"]

Array = NDArray[Any]

# Beyond this the reference in float64 would take longer than everything else; the first rows and
# steps are then compared, which is enough: each row stands for itself, and later steps build on
# earlier ones.
_MAX_REFERENCE = 2_000_000_000

# torch adds Adam's epsilon to the corrected root of v, Keras to the root itself: after 400 steps it
# shows in the fifth digit. A wrong gate, rate or order of batches shows in the first or second.
_ADAMS_DIFFER = 1e-4


class Case:
    """Random inputs and weights of one shape, the same for every subject.

    Parameters
    ----------
    shape : Shape
    mode : "forward", "stream", "training" or "fit"
        A stream is a forward pass of one step, by a subject that keeps its state if it can.
        Training is a forward pass and the gradients of x and of the parameters for a given
        gradient of the output sequence. A fit is the training that `fit` describes, with batches of
        B; its output is what the trained model predicts.
    dtype : "float32" or "float64"
    threads : int
        For every subject.
    group : str
        Where the shape is from.
    isa : str, optional
        Forces this package's instruction set.
    """

    def __init__(
        self,
        shape: Shape,
        mode: str,
        dtype: str,
        threads: int,
        group: str = "",
        isa: str | None = None,
    ) -> None:
        self.shape, self.mode, self.dtype, self.threads = shape, mode, dtype, threads
        self.group, self.isa = group, isa
        rng = np.random.default_rng(list(shape))
        batch, steps, features, units = shape
        scale = 1 / np.sqrt(features + units)

        def draw(*size: int, scale: float = 1.0) -> Array:
            return (rng.standard_normal(size) * scale).astype(dtype)

        self.x = draw(batch, steps, features)
        self.kernel = draw(features, 4 * units, scale=scale)
        self.recurrent_kernel = draw(units, 4 * units, scale=scale)
        self.bias = draw(4 * units, scale=0.1)
        self.d_output = draw(batch, steps, units)
        if mode == "fit":
            numbers = np.linspace(0, 1, fit.SAMPLES)
            self.x = np.tile(numbers[:, None, None], (1, steps, features)).astype(dtype)
            self.y = (numbers[:, None] + 0.01).astype(dtype)
            self.dense_kernel, self.dense_bias = draw(units, 1, scale=scale), np.zeros(1, dtype)

    @property
    def weights(self) -> tuple[Array, Array, Array]:
        """kernel, recurrent_kernel, bias."""
        return self.kernel, self.recurrent_kernel, self.bias

    def check(self, output: Array, gradient: Array | None) -> None:
        """Compare a subject's results with the reference in float64.

        Parameters
        ----------
        output : (B, T, H) array, or in a fit (100, 1)
        gradient : (I, 4H) array or None
            Of kernel, in training.

        Raises
        ------
        ValueError
            If a result is missing, or further from the reference than 20 times the error of
            NumPy in the same dtype. (Peers sum in other orders, and approximate more coarsely.)
        """
        if self.mode == "fit":
            exact, own = self._fit("float64"), self._fit(self.dtype)
            _compare("prediction", output, exact, own, _ADAMS_DIFFER)
            return
        batch, steps, _, _ = self.shape
        rows = batch
        if self.mode != "training":
            share = _MAX_REFERENCE / max(self.shape.multiply_adds, 1)
            rows = max(1, min(batch, int(batch * share)))
            steps = max(1, min(steps, int(steps * share * batch / rows)))
        if output.shape != (batch, self.shape.T, self.shape.H):
            raise ValueError(f"output has shape {output.shape}")
        wanted, plain = (self._reference(dtype, rows, steps) for dtype in ("float64", self.dtype))
        _compare("output", output[:rows, :steps], wanted[0], plain[0])
        if self.mode == "training":
            if gradient is None:
                raise ValueError("no gradient of kernel")
            _compare("gradient of kernel", gradient, wanted[1], plain[1])

    def _fit(self, dtype: str) -> Array:
        weights = [w.astype(dtype) for w in (*self.weights, self.dense_kernel, self.dense_bias)]
        x, y = self.x.astype(dtype), self.y.astype(dtype)
        return fit.train_in_numpy(x, y, weights, self.shape.B)

    def _reference(self, dtype: str, rows: int, steps: int) -> tuple[Array, Array]:
        weights = [w.astype(dtype) for w in self.weights]
        x = self.x[:rows, :steps].astype(dtype)
        (output, _, _), backward = reference.lstm_vjp(x, *weights)
        if self.mode != "training":
            return output, output
        return output, backward(self.d_output.astype(dtype)).kernel


def _compare(name: str, got: Array, exact: Array, own: Array, slack: float = 0.0) -> None:
    scale = np.abs(exact).max()
    error = np.abs(got - exact).max() / scale
    own_error = max(np.abs(own - exact).max() / scale, float(np.finfo(own.dtype).eps))
    if not error <= max(20 * own_error, slack):
        raise ValueError(f"{name} is off by {error:.1e}, NumPy by {own_error:.1e}")
