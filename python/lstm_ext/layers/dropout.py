"""Dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import random
from .._arrays import put
from .base import Layer, LayerBackward, Shape, check_rate

__all__ = ["Dropout", "dropout_factors"]

Array = NDArray[Any]


class Dropout(Layer):
    """In training, sets a share of the elements to zero and scales up the rest.

    Srivastava et al. 2014, in the form that leaves prediction as it is.

    Parameters
    ----------
    rate : float
        The share, in [0, 1].
    noise_shape : sequence of int or None, optional
        The shape of the mask; axes of size 1 are dropped together, None takes the input's size.
    seed : int, optional
        Makes the sequence of masks repeatable.
    **options
        `name`, `dtype`, `trainable` and `input_shape`, as of every layer.
    """

    supports_masking = True
    supports_cuda = True

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.rate = check_rate(rate, "rate")
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        self.seed = seed
        self._generator = None if seed is None else random.generator(seed)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape."""
        return input_shape

    def _forward(self, x: Array, training: bool) -> Array:
        return x * self._factors(x) if training and self.rate else x

    def vjp(
        self, x: Array, training: bool = True, mask: Array | None = None
    ) -> tuple[Array, LayerBackward]:
        """Return the output, and what carries its gradient back through the same mask."""
        if not (training and self.rate):
            return x, lambda dy, need_x: (dy, [])
        factors = self._factors(x)
        return x * factors, lambda dy, need_x: (dy * factors, [])

    def _factors(self, x: Array) -> Array:
        shape: Sequence[int | None] = self.noise_shape or x.shape
        if len(shape) != x.ndim:
            raise ValueError(f"noise_shape: got {shape}, expected {x.ndim} axes for x {x.shape}")
        sizes = [x.shape[i] if size is None else size for i, size in enumerate(shape)]
        generator = self._generator or random.generator()
        # Drawn on the CPU for any device, so that a seed gives the same mask.
        return put(dropout_factors(generator, sizes, self.rate, x.dtype), self._device)  # type: ignore[no-any-return]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        noise_shape = None if self.noise_shape is None else list(self.noise_shape)
        return {
            **super().get_config(),
            "rate": self.rate,
            "noise_shape": noise_shape,
            "seed": self.seed,
        }


def dropout_factors(
    generator: np.random.Generator, shape: Sequence[int], rate: float, dtype: np.dtype[Any]
) -> Array:
    """Return zeros at the rate, and 1 / (1 - rate) elsewhere."""
    kept = generator.random(shape) >= rate
    return np.asarray(kept * dtype.type(1 / (1 - rate) if rate < 1 else 0))
