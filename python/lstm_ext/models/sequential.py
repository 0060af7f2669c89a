"""Layers in a row."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from .._arrays import as_mask, check_device
from ..layers import LSTM, Bidirectional, Embedding, Input, Layer, Masking
from ..layers.base import Shape, check_shape, unique_name
from ..streaming import AnyStream, ModelStream
from . import saving
from .progress import print_summary
from .training import Trainable

__all__ = ["Sequential"]

Array = NDArray[Any]


class Sequential(Trainable):
    """A model whose layers follow one another, as Keras's class of that name.

    Parameters
    ----------
    layers : sequence of Layer, optional
    name : str, optional
        By default "sequential", numbered from the second on.
    """

    def __init__(self, layers: Sequence[Layer] | None = None, *, name: str | None = None) -> None:
        super().__init__()
        self.name = unique_name("sequential") if name is None else name
        #: The layers, with the `Input`.
        self.declared_layers: list[Layer] = []
        self.input_shape: Shape | None = None
        for layer in layers or ():
            self.add(layer)

    @property
    def layers(self) -> list[Layer]:  # type: ignore[override]
        """The layers, without the `Input`."""
        declared = bool(self.declared_layers) and isinstance(self.declared_layers[0], Input)
        return self.declared_layers[1 if declared else 0 :]

    @property
    def built(self) -> bool:
        """Whether every layer has its weights."""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    def add(self, layer: Layer) -> None:
        """Put a layer at the end.

        Raises
        ------
        TypeError
            If it is no layer.
        ValueError
            If it is an `Input` and not the first, returns more than one array, or its input does
            not fit.
        """
        if not isinstance(layer, Layer):
            raise TypeError(f"layer: got {layer!r}, expected a layer")
        if isinstance(layer, Input) and self.declared_layers:
            raise ValueError("layer: got an Input, expected it before all others")
        if getattr(layer, "return_state", False):
            raise ValueError(f"layer: {layer.name} has return_state, expected one output alone")
        if isinstance(layer, Bidirectional) and layer.merge_mode is None:
            raise ValueError(
                f"layer: {layer.name} has a merge_mode of None, expected one output alone"
            )
        if any(layer is other for other in self.declared_layers):
            raise ValueError(f"layer: {layer.name} is in the model already")
        self.declared_layers.append(layer)
        try:
            if self.input_shape is not None:
                self._build_from(self.input_shape)
            elif layer.input_shape is not None and len(self.declared_layers) == 1:
                self.build(layer.input_shape)
        except Exception:
            self.declared_layers.pop()
            raise

    def pop(self) -> Layer:
        """Take the last layer off and return it."""
        if not self.declared_layers:
            raise ValueError("pop: the model has no layers")
        layer = self.declared_layers.pop()
        if not self.declared_layers:
            self.input_shape = None
        return layer

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the weights of all layers for inputs of that shape, whose first axis is the batch.

        Raises
        ------
        ValueError
            If a layer cannot take what comes to it; none is built then.
        """
        shape = check_shape(input_shape)
        self._build_from(shape)
        self.input_shape = shape

    def _build_from(self, shape: Shape) -> None:
        shapes = [shape]
        for layer in self.layers:
            shapes.append(layer.compute_output_shape(shapes[-1]))
        for layer, input_shape in zip(self.layers, shapes, strict=False):
            layer.build_once(input_shape)

    def quantize(self, mode: str) -> None:
        """Let every LSTM compute with small weights from now on, as `LSTM.quantize`.

        Parameters
        ----------
        mode : "bfloat16" or "int8"

        Raises
        ------
        ValueError
            If the model has no LSTM, or one cannot; all are left as they were then.
        """
        layers = lstm_layers(self.layers)
        if not layers:
            raise ValueError(f"quantize: {self.name} has no LSTM, expected at least one")
        before = [layer.weights_dtype for layer in layers]
        try:
            for layer in layers:
                layer.quantize(mode)
        except (TypeError, ValueError):
            for layer, dtype in zip(layers, before, strict=True):
                layer.weights_dtype = dtype
            raise

    @property
    def device(self) -> str:
        """Where the layers are, "cpu" or "cuda".

        Raises
        ------
        ValueError
            If they are not all in one place.
        """
        devices = {layer.device for layer in self.layers} or {"cpu"}
        if len(devices) > 1:
            raise ValueError(
                f"{self.name}: got layers on the CPU and on a device, expected all in one place; "
                "to_device of the model moves them"
            )
        return devices.pop()

    def to_device(self, device: str) -> Sequential:
        """Move all layers, and the optimizer's state, to "cpu" or "cuda"; return the model.

        Raises
        ------
        RuntimeError, NotImplementedError, ValueError
            As `Layer.to_device`; nothing is moved then.
        """
        target = check_device(device)
        for layer in self.declared_layers:
            layer.check_on(target)
        for layer in self.declared_layers:
            layer.to_device(target)
        if self.optimizer is not None:
            self.optimizer.to_device(target)
        return self

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
        """Return the shape of the output for an input of that shape."""
        shape: Shape = tuple(input_shape)
        for layer in self.layers:
            shape = layer.compute_output_shape(shape)
        return shape

    @property
    def output_shape(self) -> Shape:
        """The shape of the output, None where it varies."""
        if self.input_shape is None:
            raise AttributeError(f"{self.name} has no output_shape before it is built")
        return self.compute_output_shape(self.input_shape)

    def __call__(
        self, x: ArrayLike, *, mask: ArrayLike | None = None, training: bool = False
    ) -> Array:
        """Return the output for a batch.

        A mask, (B, T) bools that say which steps count, goes from layer to layer, as does what
        `Masking` and `Embedding` make of the batch. An LSTM without `return_sequences` keeps it.
        """
        return self._outputs(self._prepare(x), as_mask(mask), training)[0]

    def stream(self, batch_size: int = 1) -> ModelStream:
        """Return a `lstm_ext.streaming.ModelStream` with the model's weights as they are now.

        Raises
        ------
        ValueError
            If the model is not built, an LSTM reads backwards or ends sequences for another, or
            steps may be masked, which a stream does not skip.
        """
        if not self.built:
            raise ValueError(
                f"{self.name}: stream before the model is built; build or call it first"
            )
        for layer in self.layers:
            if isinstance(layer, Bidirectional):
                raise ValueError(
                    f"{layer.name}: got a layer that reads backwards too, not one step"
                )
            if isinstance(layer, Masking) or (isinstance(layer, Embedding) and layer.mask_zero):
                raise ValueError(
                    f"{layer.name}: got a layer that masks steps, which a stream does not skip; "
                    "expected none"
                )
        lstms = [layer for layer in self.layers if isinstance(layer, LSTM)]
        for layer in lstms[:-1]:
            if not layer.return_sequences:
                raise ValueError(f"{layer.name}: expected return_sequences, as an LSTM follows it")
        stages: list[AnyStream | Callable[[Array], Array]] = []
        for layer in self.layers:
            if isinstance(layer, LSTM):
                stream = layer.stream(batch_size)
                stages += stream.streams if isinstance(stream, ModelStream) else [stream]
            else:
                stages.append(layer)
        return ModelStream(stages, batch_size)

    def summary(self, print_fn: Callable[[str], Any] | None = None) -> None:
        """Print a table of the layers; `print_fn` takes the text in place of `print`."""
        print_summary(self, print_fn)

    # ---- weights and files ----

    @property
    def weights(self) -> list[Array]:
        """The weights of all layers, in order, read-only."""
        return [w for layer in self.layers for w in layer.weights]

    @property
    def trainable_weights(self) -> list[Array]:
        """The weights that training changes, in order, writable: for optimizers."""
        return [w for layer in self.layers for w in layer.trainable_weights]

    def count_params(self) -> int:
        """Return the number of weights."""
        return sum(layer.count_params() for layer in self.layers)

    def get_weights(self) -> list[Array]:
        """Return copies of the weights of all layers, in order."""
        return [w for layer in self.layers for w in layer.get_weights()]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Copy `weights` in, in order.

        Raises
        ------
        ValueError
            If their number or shapes do not fit; no layer is changed then.
        """
        expected = sum(len(layer.weight_names) for layer in self.layers)
        if len(weights) != expected:
            raise ValueError(f"weights: got {len(weights)} arrays, expected {expected}")
        rest = list(weights)
        checked = []
        for layer in self.layers:
            count = len(layer.weight_names)
            checked.append(layer.check_weights(rest[:count]))
            del rest[:count]
        for layer, values in zip(self.layers, checked, strict=True):
            layer.set_weights(values)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write layers, weights, and optimizer with its state, to one safetensors file.

        The file is replaced at once: a crash leaves the old one whole.
        """
        saving.save_model(self, path)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the weights alone to a safetensors file."""
        saving.save_weights(self, path)

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Read weights that `save_weights` or `save` wrote, for the same layers."""
        saving.load_weights(self, path)

    def reset_states(self) -> None:
        """Forget the kept states of stateful layers."""
        for layer in self.layers:
            if hasattr(layer, "reset_state"):
                layer.reset_state()

    # ---- for training ----

    def _prepare(self, x: ArrayLike) -> Array:
        """Convert an input for the first layer, and build the model for it if need be."""
        if not self.layers:
            raise ValueError(f"{self.name}: the model has no layers; add one first")
        first = self.layers[0]
        if isinstance(self.declared_layers[0], Input):
            x = self.declared_layers[0].convert_for(x, first.device)
        values = first.convert(x)
        if values.ndim == 0:
            raise ValueError("x: got a single number, expected an axis of samples")
        if self.input_shape is None:
            self.build((None, *values.shape[1:]))
        expected = self.input_shape
        assert expected is not None
        if values.shape[1:] == expected[1:]:
            return values
        values = _with_rank(values, expected)
        # The layers judge the other axes: sequences of any length are welcome, as in Keras.
        try:
            self.compute_output_shape(values.shape)
        except ValueError as error:
            raise ValueError(f"x: got shape {values.shape}, expected {expected}: {error}") from None
        return values


def lstm_layers(layers: Sequence[Layer]) -> list[LSTM]:
    """Return the LSTM layers among some, and those inside of others."""
    every = [inner for layer in layers for inner in (layer, *layer.inner_layers)]
    return [layer for layer in every if isinstance(layer, LSTM)]


def _with_rank(x: Array, expected: Shape) -> Array:
    """Return x with a last axis of size 1 put on or taken off if that is what it lacks."""
    if x.ndim == len(expected) - 1 and expected[-1] == 1:
        return x[..., None]
    if x.ndim == len(expected) + 1 and x.shape[-1] == 1:
        return x[..., 0]
    if x.ndim != len(expected):
        raise ValueError(f"x: got shape {x.shape}, expected {expected}")
    return x
