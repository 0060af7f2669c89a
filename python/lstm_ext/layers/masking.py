"""The layer that finds the steps to skip."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays import is_on_device
from .base import Layer, LayerBackward, Shape

__all__ = ["Masking"]

Array = NDArray[Any]


class Masking(Layer):
    """Tells the layers that follow to skip the steps whose features all have one value.

    Its output is the input with zeros in these steps.

    Parameters
    ----------
    mask_value : float
        The value.
    **options
        `name`, `dtype`, `trainable` and `input_shape`, as of every layer.
    """

    supports_cuda = True
    supports_masking = True

    def __init__(self, mask_value: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        if isinstance(mask_value, bool) or not isinstance(mask_value, (int, float, np.number)):
            raise TypeError(f"mask_value: got {mask_value!r}, expected a number")
        if math.isnan(mask_value):
            raise ValueError("mask_value: got NaN, which equals no feature; expected a number")
        self.mask_value = float(mask_value)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape."""
        return input_shape

    def compute_mask(self, inputs: ArrayLike, mask: Array | None = None) -> Array:
        """Return where a step has another feature than the value: (B, T) for inputs (B, T, I).

        A mask of the input is replaced, as in Keras.
        """
        counts: Any = np.any(self.convert(inputs) != self.mask_value, axis=-1)
        return counts if is_on_device(counts) else np.asarray(counts)

    def _forward(self, x: Array, training: bool) -> Array:
        return self._zeroed(x, self.compute_mask(x))

    def vjp(
        self, x: Array, training: bool = True, mask: Array | None = None
    ) -> tuple[Array, LayerBackward]:
        """Return the output, and what carries its gradient back to the steps that count."""
        counts = self.compute_mask(x)
        return self._zeroed(x, counts), lambda dy, need_x: (self._zeroed(dy, counts), [])

    def _zeroed(self, x: Array, counts: Array) -> Array:
        if x.ndim < 2:
            raise ValueError(f"x: got shape {x.shape}, expected (batch, ..., features)")
        return np.where(counts[..., None], x, x.dtype.type(0))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        return {**super().get_config(), "mask_value": self.mask_value}
