"""The declaration of a model's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays import as_numbers
from .._registry import check_unsupported
from .base import Layer, Shape, check_shape, check_size

__all__ = ["Input"]

# Arguments of Keras's Input that are not there yet, with Keras's defaults.
_UNSUPPORTED = {"sparse": None, "ragged": None, "tensor": None, "optional": False}


class Input(Layer):
    """Says what shape a model's samples have; computes nothing.

    Parameters
    ----------
    shape : sequence of int or None
        Of one sample, without the batch; None where it varies.
    batch_size : int, optional
        The first axis of the shapes that the model shows. Other batches are taken too, as in Keras.
    dtype : str, optional
        What samples are converted to before the first layer converts them to what it takes, such
        as "int32"; by default nothing.
    batch_shape : sequence of int or None, optional
        With the batch; in place of `shape` and `batch_size`.
    name : str, optional
    """

    supports_cuda = True

    def __init__(
        self,
        shape: Sequence[int | None] | None = None,
        batch_size: int | None = None,
        dtype: str | None = None,
        *,
        batch_shape: Sequence[int | None] | None = None,
        name: str | None = None,
        **unsupported: Any,
    ) -> None:
        check_unsupported("Input", unsupported, _UNSUPPORTED)
        super().__init__(name=name)
        if (shape is None) == (batch_shape is None):
            raise ValueError(
                f"shape: got {shape} and batch_shape {batch_shape}, expected one of them"
            )
        if batch_shape is not None:
            if batch_size is not None:
                raise ValueError(f"batch_size: got {batch_size} beside batch_shape, expected one")
            batch_size, *shape = check_shape(batch_shape, "batch_shape")
        assert shape is not None
        first = None if batch_size is None else check_size(batch_size, "batch_size")
        self.input_shape = (first, *check_shape(shape, "shape"))
        self._input_dtype = None if dtype is None else _input_dtype(dtype)
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape."""
        return input_shape

    def convert(self, x: ArrayLike) -> NDArray[Any]:
        """Return samples as an array, of the dtype if there is one."""
        return self.convert_for(x, self._device)

    def convert_for(self, x: ArrayLike, device: str) -> NDArray[Any]:
        """Return samples as `convert` does, for a layer on that device."""
        return as_numbers(x, "x", self._input_dtype, device)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a declaration like this one."""
        assert self.input_shape is not None
        dtype = None if self._input_dtype is None else self._input_dtype.name
        return {"name": self.name, "dtype": dtype, "batch_shape": list(self.input_shape)}


def _input_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        result: np.dtype[Any] = np.dtype(dtype)
        if result.kind in "fiub":
            return result
    except (TypeError, ValueError, SyntaxError):  # NumPy evaluates some strings
        pass
    raise ValueError(f"dtype: got {dtype!r}, expected that of numbers, such as 'int32'")
