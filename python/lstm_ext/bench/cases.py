"""What is computed: a shape with data, and the right answer."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import reference
from .._arguments import as_weights_dtype
from . import fit, small
from .grid import Shape

__all__ = ["Case", "check_case"]

Array = NDArray[Any]

# Beyond this the reference in float64 would take longer than everything else; the first rows and
# steps are then compared, which is enough: each row stands for itself, and later steps build on
# earlier ones.
_MAX_REFERENCE = 2_000_000_000

# torch adds Adam's epsilon to the corrected root of v, Keras to the root itself: after 400 steps it
# shows in the fifth digit. A wrong gate, rate or order of batches shows in the first or second.
_ADAMS_DIFFER = 1e-4

# torch's int8 has one scale for a matrix, which doubles the step of many columns, and leaves a bit
# of its activations unused. A wrong gate or scale is off by as much as the values themselves.
_FORMATS_DIFFER = 4


def check_case(shape: Shape, mode: str, dtype: str, weights_dtype: str | None) -> None:
    """Raise a ValueError if the mode cannot take the shape, or the mode or dtype small weights."""
    if mode == "stream" and shape.T != 1:
        raise ValueError(f"mode: got stream at {shape}, expected a shape of one step")
    if weights_dtype is None:
        return
    if mode not in ("forward", "stream"):
        raise ValueError(
            f"mode: got {mode} with weights of {weights_dtype}, which have no gradients; expected "
            "forward or stream"
        )
    as_weights_dtype(weights_dtype, np.dtype(dtype))


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
    weights_dtype : "bfloat16" or "int8", optional
        How the weights are stored; by default as they are, in `dtype`.

    Raises
    ------
    ValueError
        As `check_case`.
    """

    def __init__(
        self,
        shape: Shape,
        mode: str,
        dtype: str,
        threads: int,
        group: str = "",
        isa: str | None = None,
        weights_dtype: str | None = None,
    ) -> None:
        check_case(shape, mode, dtype, weights_dtype)
        self.shape, self.mode, self.dtype, self.threads = shape, mode, dtype, threads
        self.group, self.isa = group, isa
        self.weights_dtype = weights_dtype
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

    def check(self, output: Array, gradient: Array | None) -> float:
        """Compare a subject's results with the reference in float64, with full weights.

        Parameters
        ----------
        output : (B, T, H) array, or in a fit (100, 1)
        gradient : (I, 4H) array or None
            Of kernel, in training.

        Returns
        -------
        float
            The error of the output: the root mean square of its deviations over that of the
            reference's values.

        Raises
        ------
        ValueError
            If a result is missing, or further from the reference than 20 times the error of
            NumPy in the same dtype (peers sum in other orders, and approximate more coarsely); with
            small weights, than 4 times the error of the same format in NumPy.
        """
        exact = self._exact[0]
        wanted = (*self.x.shape[:2], self.shape.H) if self.mode != "fit" else exact.shape
        if output.shape != wanted:
            raise ValueError(f"output has shape {output.shape}, expected {wanted}")
        part = output[tuple(map(slice, exact.shape))]
        error = _rms_error(part, exact)
        if self.weights_dtype:
            allowed = _FORMATS_DIFFER * max(self._format_error, small.ROUNDING[self.weights_dtype])
            if not error <= allowed:
                raise ValueError(f"output is off by {error:.1e}, expected at most {allowed:.1e}")
            return error
        slack = _ADAMS_DIFFER if self.mode == "fit" else 0.0
        _compare("output", part, exact, self._plain[0], slack)
        if self.mode == "training":
            if gradient is None:
                raise ValueError("no gradient of kernel")
            _compare("gradient of kernel", gradient, self._exact[1], self._plain[1])
        return error

    @functools.cached_property
    def _exact(self) -> tuple[Array, Array]:
        return self._reference("float64")

    @functools.cached_property
    def _plain(self) -> tuple[Array, Array]:
        return self._reference(self.dtype)

    @functools.cached_property
    def _format_error(self) -> float:
        assert self.weights_dtype is not None
        rows, steps = self._checked
        emulated = small.run(self.x[:rows, :steps], self.weights, self.weights_dtype)
        return _rms_error(emulated, self._exact[0])

    @property
    def _checked(self) -> tuple[int, int]:
        """How many rows and steps are compared."""
        batch, steps, _, _ = self.shape
        share = _MAX_REFERENCE / max(self.shape.multiply_adds, 1)
        if self.mode == "training" or share >= 1:
            return batch, steps
        rows = max(1, int(batch * share))
        return rows, max(1, min(steps, int(steps * share * batch / rows)))

    def _reference(self, dtype: str) -> tuple[Array, Array]:
        """Return the output of what is compared, in training with the gradient of kernel."""
        weights = [w.astype(dtype) for w in self.weights]
        if self.mode == "fit":
            weights += [w.astype(dtype) for w in (self.dense_kernel, self.dense_bias)]
            x, y = self.x.astype(dtype), self.y.astype(dtype)
            prediction = fit.train_in_numpy(x, y, weights, self.shape.B)
            return prediction, prediction
        rows, steps = self._checked
        x = self.x[:rows, :steps].astype(dtype)
        if self.mode != "training":
            output = reference.lstm(x, *weights)[0]
            return output, output
        (output, _, _), backward = reference.lstm_vjp(x, *weights)
        return output, backward(self.d_output.astype(dtype)).kernel


def _rms_error(got: Array, exact: Array) -> float:
    deviation = np.asarray(got, np.float64) - exact
    return float(np.sqrt(np.mean(deviation**2) / np.mean(exact**2)))


def _compare(name: str, got: Array, exact: Array, own: Array, slack: float = 0.0) -> None:
    scale = np.abs(exact).max()
    error = np.abs(got - exact).max() / scale
    own_error = max(np.abs(own - exact).max() / scale, float(np.finfo(own.dtype).eps))
    if not error <= max(20 * own_error, slack):
        raise ValueError(f"{name} is off by {error:.1e}, NumPy by {own_error:.1e}")
