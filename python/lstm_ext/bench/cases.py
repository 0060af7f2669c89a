"""What is computed: a shape with data, and the right answer."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arguments import as_weights_dtype
from . import fit, small
from .grid import Shape
from .variants import BACKWARD, LENGTHS, PLAIN, Variant, draw_layers, run

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


def check_case(
    shape: Shape, mode: str, dtype: str, weights_dtype: str | None, variant: Variant = PLAIN
) -> None:
    """Raise a ValueError if the mode cannot take the shape, or they cannot take the weights."""
    if mode == "stream" and shape.T != 1:
        raise ValueError(f"mode: got stream at {shape}, expected a shape of one step")
    if variant.needs and mode not in ("forward", "training"):
        raise ValueError(f"mode: got {mode} of {variant.name}, expected forward or training")
    if variant.needs and weights_dtype:
        raise ValueError(
            f"weights_dtype: got {weights_dtype} of {variant.name}, expected full weights"
        )
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
    variant : Variant
        The kind of LSTM. Where sequences have lengths, these are drawn evenly from 1 to T, the
        output is zero behind them, and so is the gradient of the output.

    Attributes
    ----------
    layers : list of lists of Weights
        Of each layer, of each direction.
    lengths : (B,) array of int32 or None
        None: all sequences have T steps.

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
        variant: Variant = PLAIN,
    ) -> None:
        check_case(shape, mode, dtype, weights_dtype, variant)
        self.shape, self.mode, self.dtype, self.threads = shape, mode, dtype, threads
        self.group, self.isa = group, isa
        self.weights_dtype, self.variant = weights_dtype, variant
        rng = np.random.default_rng(list(shape))
        batch, steps, features, units = shape

        def draw(*size: int, scale: float = 1.0) -> Array:
            return (rng.standard_normal(size) * scale).astype(dtype)

        self.x = draw(batch, steps, features)
        self.layers = draw_layers(variant, features, units, draw)
        self.d_output = draw(batch, steps, self.output_size)
        self.lengths: Array | None = None
        if LENGTHS in variant.needs:
            self.lengths = rng.integers(1, steps + 1, batch, dtype=np.int32)
            self.d_output[~self.mask] = 0
        if mode == "fit":
            numbers = np.linspace(0, 1, fit.SAMPLES)
            self.x = np.tile(numbers[:, None, None], (1, steps, features)).astype(dtype)
            self.y = (numbers[:, None] + 0.01).astype(dtype)
            self.dense_kernel = draw(units, 1, scale=float(1 / np.sqrt(features + units)))
            self.dense_bias = np.zeros(1, dtype)

    @property
    def weights(self) -> tuple[Array, Array, Array]:
        """kernel, recurrent_kernel and bias of a plain LSTM."""
        return self.layers[0][0].arguments

    @property
    def output_size(self) -> int:
        """Of one step."""
        return sum(weights.output_size for weights in self.layers[-1])

    @property
    def mask(self) -> Array:
        """Where there is a step: (B, T) of bool."""
        batch, steps, _, _ = self.shape
        lengths = np.full(batch, steps) if self.lengths is None else self.lengths
        mask: Array = np.arange(steps) < lengths[:, None]
        return mask

    @property
    def multiply_adds(self) -> int:
        """Of a forward pass."""
        arrays = [a for directions in self.layers for weights in directions for a in weights]
        matrices = [a for a in arrays if a is not None and a.ndim == 2]
        return int(self.mask.sum()) * sum(a.size for a in matrices)

    def check(self, output: Array, gradient: Array | None) -> float:
        """Compare a subject's results with the reference in float64, with full weights.

        Parameters
        ----------
        output : (B, T, P) array, or in a fit (100, 1)
            P is `output_size`.
        gradient : (I, 4H) array or None
            Of kernel, in training; with two directions (I, 8H), and of the first layer's.

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
        wanted = (*self.x.shape[:2], self.output_size) if self.mode != "fit" else exact.shape
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
        share = _MAX_REFERENCE / max(self.multiply_adds, 1)
        if self.mode == "training" or share >= 1:
            return batch, steps
        rows = max(1, int(batch * share))
        if BACKWARD in self.variant.needs:  # whose first steps build on the last
            return rows, steps
        return rows, max(1, min(steps, int(steps * share * batch / rows)))

    def _reference(self, dtype: str) -> tuple[Array, Array]:
        """Return the output of what is compared, in training with the gradient of kernel."""
        if self.mode == "fit":
            weights = [*self.weights, self.dense_kernel, self.dense_bias]
            weights = [w.astype(dtype) for w in weights]
            x, y = self.x.astype(dtype), self.y.astype(dtype)
            prediction = fit.train_in_numpy(x, y, weights, self.shape.B)
            return prediction, prediction
        rows, steps = self._checked
        layers = [[weights.astype(dtype) for weights in layer] for layer in self.layers]
        lengths = None if self.lengths is None else np.minimum(self.lengths[:rows], steps)
        output, backward = run(self.x[:rows, :steps].astype(dtype), layers, lengths)
        if self.mode != "training":
            return output, output
        return output, backward(self.d_output.astype(dtype))


def _rms_error(got: Array, exact: Array) -> float:
    deviation = np.asarray(got, np.float64) - exact
    return float(np.sqrt(np.mean(deviation**2) / np.mean(exact**2)))


def _compare(name: str, got: Array, exact: Array, own: Array, slack: float = 0.0) -> None:
    scale = np.abs(exact).max()
    error = np.abs(got - exact).max() / scale
    own_error = max(np.abs(own - exact).max() / scale, float(np.finfo(own.dtype).eps))
    if not error <= max(20 * own_error, slack):
        raise ValueError(f"{name} is off by {error:.1e}, NumPy by {own_error:.1e}")
