"""The fully connected layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import activations, initializers
from .._registry import check_unsupported, serialize
from ..functional._products import product, product_vjp
from .base import Layer, LayerBackward, Shape, Weight, check_size, last_axis

__all__ = ["Dense"]

Array = NDArray[Any]

# Arguments of Keras's Dense that are not there yet, with Keras's defaults.
_UNSUPPORTED = {
    "kernel_regularizer": None,
    "bias_regularizer": None,
    "kernel_constraint": None,
    "bias_constraint": None,
    "lora_rank": None,
    "lora_alpha": None,
    "quantization_config": None,
}


class Dense(Layer):
    """activation(x @ kernel + bias) over the last axis.

    A row's result is the same to the last bit for any batch around it, on the CPU.

    Parameters
    ----------
    units : int
        The size of the output's last axis.
    activation : str, optional
        A name of `lstm_ext.activations`; None is linear.
    use_bias : bool
    kernel_initializer, bias_initializer
        Names, configs or objects of `lstm_ext.initializers`.
    seed : int, optional
        Seeds the initializers that have no seed of their own.
    **options
        `name`, `dtype`, `trainable` and `input_shape`, as of every layer.
    """

    supports_masking = True
    supports_cuda = True

    kernel = Weight("The weights, (I, units); read-only.")
    bias = Weight("The bias, (units,), read-only; None without `use_bias`.")

    def __init__(
        self,
        units: int,
        activation: str | activations.Activation | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        *,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        unsupported = {key: options.pop(key) for key in _UNSUPPORTED if key in options}
        check_unsupported("Dense", unsupported, _UNSUPPORTED)
        super().__init__(**options)
        self.units = check_size(units, "units")
        self.activation = activations.get(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer, "kernel_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "bias_initializer")
        self.seed = seed

    def build(self, input_shape: Shape) -> None:
        """Make kernel (I, units) and bias (units) for inputs (..., I)."""
        input_size = last_axis(input_shape, None, self.name)
        make = initializers.Seeded(self.seed)
        kernel = make(self.kernel_initializer, (input_size, self.units), self._dtype)
        self._add_weight("kernel", kernel)
        if self.use_bias:
            self._add_weight("bias", make(self.bias_initializer, (self.units,), self._dtype))
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (..., units)."""
        kernel = self._weights.get("kernel")
        last_axis(input_shape, None, self.name, None if kernel is None else kernel.shape[0])
        return (*input_shape[:-1], self.units)

    def _forward(self, x: Array, training: bool) -> Array:
        z = product(self._rows(x), self._weights["kernel"], self._weights.get("bias"))
        return self.activation(z).reshape(*x.shape[:-1], self.units)

    def vjp(
        self, x: Array, training: bool = True, mask: Array | None = None
    ) -> tuple[Array, LayerBackward]:
        """Return the output, and what carries its gradient back."""
        rows = self._rows(x)
        z = product(rows, self._weights["kernel"], self._weights.get("bias"))
        y = self.activation(z)

        def backward(dy: Array, need_x: bool) -> tuple[Array | None, list[Array]]:
            dz = self.activation.grad(z, y, dy.reshape(y.shape))
            kernel = self._weights["kernel"]
            if not self.trainable:
                return (product(dz, kernel.T).reshape(x.shape) if need_x else None), []
            d_rows, d_kernel, d_bias = product_vjp(rows, kernel, dz, need_x, self.use_bias)
            grads = [d_kernel] if d_bias is None else [d_kernel, d_bias]
            return (None if d_rows is None else d_rows.reshape(x.shape)), grads

        return y.reshape(*x.shape[:-1], self.units), backward

    def _rows(self, x: Array) -> Array:
        input_size = self._weights["kernel"].shape[0]
        if x.ndim < 2 or x.shape[-1] != input_size:
            raise ValueError(f"x: got shape {x.shape}, expected (batch, ..., {input_size})")
        rows = x if x.ndim == 2 else x.reshape(-1, input_size)
        return rows if type(rows) is not np.ndarray or rows.flags.aligned else rows.copy()

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one, without its weights."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": serialize(self.kernel_initializer),
            "bias_initializer": serialize(self.bias_initializer),
            "seed": self.seed,
        }
