"""The embedding of numbered things."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import initializers
from .._arrays import as_numbers, is_on_device
from .._registry import check_unsupported, serialize
from ..cuda.rows import add_rows
from .base import Layer, LayerBackward, Shape, Weight, check_size

__all__ = ["Embedding"]

Array = NDArray[Any]

# Arguments of Keras's Embedding that are not there yet, with Keras's defaults.
_UNSUPPORTED = {
    "embeddings_regularizer": None,
    "embeddings_constraint": None,
    "weights": None,
    "lora_rank": None,
    "lora_alpha": None,
    "quantization_config": None,
}


class Embedding(Layer):
    """A row of a table for each number.

    Parameters
    ----------
    input_dim : int
        How many rows the table has; inputs are 0 to input_dim - 1.
    output_dim : int
        The size of a row.
    embeddings_initializer
        A name, config or object of `lstm_ext.initializers`.
    mask_zero : bool
        Whether 0 stands for no thing: the layers that follow are told to skip it.
    seed : int, optional
        Seeds the initializer if it has no seed of its own.
    **options
        `name`, `dtype`, `trainable` and `input_shape`, as of every layer.
    """

    supports_cuda = True

    embeddings = Weight("The table, (input_dim, output_dim); read-only.")

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        *,
        mask_zero: bool = False,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        if options.pop("input_length", None) is not None:
            warnings.warn("input_length has no effect, as in Keras; leave it out", stacklevel=2)
        unsupported = {key: options.pop(key) for key in _UNSUPPORTED if key in options}
        check_unsupported("Embedding", unsupported, _UNSUPPORTED)
        super().__init__(**options)
        self.input_dim = check_size(input_dim, "input_dim")
        self.output_dim = check_size(output_dim, "output_dim")
        self.embeddings_initializer = initializers.get(
            embeddings_initializer, "embeddings_initializer"
        )
        self.mask_zero = bool(mask_zero)
        self.seed = seed

    def build(self, input_shape: Shape) -> None:
        """Make the table (input_dim, output_dim)."""
        make = initializers.Seeded(self.seed)
        shape = (self.input_dim, self.output_dim)
        self._add_weight("embeddings", make(self.embeddings_initializer, shape, self._dtype))
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (..., output_dim)."""
        return (*input_shape, self.output_dim)

    def convert(self, x: ArrayLike) -> Array:
        """Convert to whole numbers, as Keras does, and check that each has a row.

        On a device, where nothing waits for a check, a number without one gives NaN.
        """
        if self._device != "cpu":
            there = as_numbers(x, "x", None, self._device)
            return there if there.dtype.kind in "iu" else there.astype(np.int64)
        if not (isinstance(x, np.ndarray) and x.dtype.kind in "iu"):
            x = as_numbers(x, "x", np.dtype(np.float64)).astype(np.int64)
        if x.size and not (x.min() >= 0 and x.max() < self.input_dim):
            raise ValueError(
                f"x: got numbers from {x.min()} to {x.max()}, expected 0 to {self.input_dim - 1}"
            )
        return x

    def _forward(self, x: Array, training: bool) -> Array:
        table = self._weights["embeddings"]
        if self._device == "cpu":
            return table[x]
        has_row = (x >= 0) & (x < self.input_dim)
        rows = table[np.where(has_row, x, 0)]
        return np.where(has_row[..., None], rows, rows.dtype.type(np.nan))

    def compute_mask(self, inputs: ArrayLike, mask: Array | None = None) -> Array | None:
        """Return where the numbers are not 0, with `mask_zero`."""
        if not self.mask_zero:
            return super().compute_mask(inputs, mask)
        numbers: Any = inputs if is_on_device(inputs) else np.asarray(inputs)
        return numbers != 0  # type: ignore[no-any-return]

    def vjp(
        self, x: Array, training: bool = True, mask: Array | None = None
    ) -> tuple[Array, LayerBackward]:
        """Return the rows, and what adds their gradients up. There is none for the numbers."""

        def backward(dy: Array, need_x: bool) -> tuple[Array | None, list[Array]]:
            if need_x:
                raise ValueError(f"{self.name}: expected to be the first layer of its model")
            if not self.trainable:
                return None, []
            if self._device != "cpu":
                return None, [add_rows(x.ravel(), dy.reshape(-1, self.output_dim), self.input_dim)]
            gradient = np.zeros_like(self._weights["embeddings"])
            np.add.at(gradient, x, dy)
            return None, [gradient]

        return self._forward(x, training), backward

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one, without its weights."""
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_initializer": serialize(self.embeddings_initializer),
            "mask_zero": self.mask_zero,
            "seed": self.seed,
        }
