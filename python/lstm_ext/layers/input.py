"""The declaration of a model's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .base import Layer, Shape

__all__ = ["Input"]


class Input(Layer):
    """Says what shape a model's samples have; computes nothing.

    Parameters
    ----------
    shape : sequence of int or None
        Of one sample, without the batch; None where it varies.
    batch_size : int, optional
        Accepted as in Keras, without effect.
    **options
        `name` and `dtype`, as of every layer.
    """

    def __init__(
        self, shape: Sequence[int | None], batch_size: int | None = None, **options: Any
    ) -> None:
        super().__init__(**options, input_shape=shape)
        self.batch_size = batch_size
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a declaration like this one."""
        config = super().get_config()
        config["shape"] = config.pop("input_shape")
        del config["trainable"]
        return config
