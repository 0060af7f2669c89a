"""Layers as they come together from the nodes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ..layers import LSTM, Bidirectional, Dense, Dropout, Embedding, Layer
from .building import Direction, bidirectional_from, built, lstm_from

__all__ = ["ACTIVATIONS", "BY_OPERATOR", "DensePart", "DropoutPart", "EmbeddingPart", "LSTMPart"]

Array = NDArray[Any]

_SELU = {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}
# Operators by our names, with attributes and ONNX's defaults for them.
ACTIVATIONS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "elu": ("Elu", {"alpha": 1.0}, {"alpha": 1.0}),
    "exponential": ("Exp", {}, {}),
    "gelu": ("Gelu", {}, {"approximate": "none"}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, {"alpha": 0.2, "beta": 0.5}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}, {"alpha": 0.01}),
    "relu": ("Relu", {}, {}),
    "selu": ("Selu", _SELU, _SELU),
    "sigmoid": ("Sigmoid", {}, {}),
    "softmax": ("Softmax", {"axis": -1}, {"axis": -1}),
    "softplus": ("Softplus", {}, {}),
    "softsign": ("Softsign", {}, {}),
    "tanh": ("Tanh", {}, {}),
}
BY_OPERATOR = {kind: name for name, (kind, _, _) in ACTIVATIONS.items()}


class DensePart:
    """A Dense that grows node by node: a product, perhaps a sum, perhaps an activation."""

    def __init__(self, kernel: Array, name: str) -> None:
        self.kernel = kernel
        self.bias: Array | None = None
        self.activation: str | None = None
        self._name = name

    def arrays(self) -> list[Array]:
        """Return the arrays that tell its dtype."""
        return [self.kernel] if self.bias is None else [self.kernel, self.bias]

    def layer(self, dtype: str) -> Layer:
        """Return it as a layer."""
        layer = Dense(
            self.kernel.shape[1],
            self.activation,
            use_bias=self.bias is not None,
            dtype=dtype,
            name=self._name or None,
        )
        return built(layer, self.arrays())


class LSTMPart:
    """An LSTM, or both directions of one, and what the nodes after it show about it.

    Parameters
    ----------
    directions : sequence of Direction
        One, or that which reads forwards and that which reads backwards.
    name : str
    go_backwards : bool
        Of the only one.
    lengths : bool
        Whether it is told where sequences end.
    weights_dtype : str, optional
    """

    def __init__(
        self,
        directions: Sequence[Direction],
        name: str,
        *,
        go_backwards: bool = False,
        lengths: bool = False,
        weights_dtype: str | None = None,
    ) -> None:
        self.directions = tuple(directions)
        self.merge_mode = "concat"
        self.return_sequences = True
        self.go_backwards = go_backwards
        self._name = name
        self._lengths = lengths
        self._weights_dtype = weights_dtype

    def arrays(self) -> list[Array]:
        """Return the arrays that tell its dtype."""
        return [array for direction in self.directions for array in direction.arrays]

    def layer(self, dtype: str) -> LSTM | Bidirectional:
        """Return it as a layer."""
        options: dict[str, Any] = {
            "return_sequences": self.return_sequences,
            "weights_dtype": self._weights_dtype,
        }
        if len(self.directions) == 2:
            name, mode = self._name or None, self.merge_mode
            return bidirectional_from(
                *self.directions, dtype, name=name, merge_mode=mode, **options
            )
        if self._name:
            options["name"] = self._name
        return lstm_from(
            self.directions[0],
            dtype,
            go_backwards=self.go_backwards,
            # As ONNX has it where a sequence has ended.
            zero_output_for_mask=self._lengths and self.return_sequences,
            **options,
        )


class EmbeddingPart(NamedTuple):
    """A table."""

    table: Array
    name: str

    def arrays(self) -> list[Array]:
        """Return the arrays that tell its dtype."""
        return [self.table]

    def layer(self, dtype: str) -> Layer:
        """Return it as a layer."""
        layer = Embedding(*self.table.shape, dtype=dtype, name=self.name or None)
        return built(layer, [self.table])


class DropoutPart(NamedTuple):
    """A Dropout, which has no dtype of its own."""

    rate: float
    name: str

    def arrays(self) -> list[Array]:
        """Return the arrays that tell its dtype."""
        return []

    def layer(self, dtype: str) -> Layer:
        """Return it as a layer."""
        return Dropout(self.rate, dtype=dtype, name=self.name or None)
