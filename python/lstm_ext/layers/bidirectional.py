"""Two LSTM layers that read the same sequences in the two directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays import require_cpu
from .._registry import check_unsupported, serialize
from .base import Layer, LayerBackward, Shape
from .bidirectional_device import PairOnDevice
from .bidirectional_run import run_both, run_both_plainly, run_both_vjp, run_both_vjp_plainly
from .lstm import LSTM
from .lstm_run import Call, check_call
from .lstm_state import State
from .lstm_weights import Packed
from .pairing import MERGE_MODES, as_pairs, check_pair, merge, merge_back

__all__ = ["Bidirectional"]

Array = NDArray[Any]
T = TypeVar("T")

# Arguments of Keras's Bidirectional that are not there yet, with Keras's defaults.
_UNSUPPORTED = {"weights": None}


class Bidirectional(PairOnDevice):
    """An LSTM layer beside one that reads backwards, as Keras's layer of that name.

    Parameters
    ----------
    layer : LSTM
        Its arguments are taken over, not its weights. For several layers on top of each other, put
        several `Bidirectional` on top of each other.
    merge_mode : "concat", "sum", "mul", "ave" or None
        How the two outputs become one; None keeps both.
    backward_layer : LSTM, optional
        The layer for the other direction, itself; by default one like `layer`.
    **options
        `name`, `trainable`, `input_shape` and `device`, as of every layer.

    Raises
    ------
    ValueError, TypeError
        If an argument is not what it should be, or the two layers do not go together.
    NotImplementedError
        If a layer is on a device, or has something that is not there.

    Notes
    -----
    The output of the backward layer is turned around, so that both stand in the order of time.
    With `return_sequences` they are zeros at masked steps, whatever `zero_output_for_mask` is.
    """

    supports_masking = True

    def __init__(
        self,
        layer: LSTM,
        merge_mode: str | None = "concat",
        *,
        backward_layer: LSTM | None = None,
        dtype: str | None = None,
        **options: Any,
    ) -> None:
        unsupported = {key: options.pop(key) for key in _UNSUPPORTED if key in options}
        check_unsupported("Bidirectional", unsupported, _UNSUPPORTED)
        if not isinstance(layer, LSTM):
            raise TypeError(f"layer: got {layer!r}, expected an LSTM")
        if not (backward_layer is None or isinstance(backward_layer, LSTM)):
            raise TypeError(f"backward_layer: got {backward_layer!r}, expected an LSTM")
        if merge_mode not in MERGE_MODES:
            expected = ", ".join(map(repr, MERGE_MODES))
            raise ValueError(f"merge_mode: got {merge_mode!r}, expected one of {expected}")
        require_cpu([layer, backward_layer or layer], "Bidirectional")
        if dtype not in (None, layer.dtype):
            raise ValueError(f"dtype: got {dtype!r}, expected {layer.dtype!r} as of the layer")
        if layer.input_shape is not None:
            options = {"input_shape": layer.input_shape[1:], **options}
        super().__init__(dtype=layer.dtype, **options)
        self.forward_layer = _like(layer, "forward_", go_backwards=layer.go_backwards)
        self.backward_layer = backward_layer or _like(layer, "backward_", go_backwards=True)
        if self._device != "cpu":
            self.check_on(self._device)
            self._move(self._device)
        self.merge_mode = merge_mode
        check_pair(self.forward_layer, self.backward_layer, merge_mode)
        self.stateful = layer.stateful
        self.return_sequences, self.return_state = layer.return_sequences, layer.return_state
        for inner in self._layers:
            inner.zero_output_for_mask = self.return_sequences

    @property
    def inner_layers(self) -> list[Layer]:
        """The layer itself and the one for the other direction."""
        return list(self._layers)

    # ---- weights and states ----

    def build(self, input_shape: Shape) -> None:
        """Build both layers for inputs (B, T, I)."""
        self.compute_output_shape(input_shape)
        for layer in self._layers:
            layer.build_once(input_shape)
        self._collect_weights()
        self.built = True

    @property
    def trainable_weights(self) -> list[Array]:
        """The weights that training changes, writable: for optimizers."""
        layers = self._layers if self.trainable else ()
        return [weight for layer in layers for weight in layer.trainable_weights]

    def weights_changed(self) -> None:
        """Drop what the layers derived from their weights."""
        for layer in self._layers:
            layer.weights_changed()

    @property
    def state(self) -> tuple[Array, Array, Array, Array] | None:
        """The kept (h, c, h, c) of stateful layers, or None before the first call."""
        forward, backward = (layer._state for layer in self._layers)
        if forward is None or backward is None:
            return None
        (h, c), (h_back, c_back) = forward[0], backward[0]
        return h.copy(), c.copy(), h_back.copy(), c_back.copy()

    def reset_state(self) -> None:
        """Forget the kept states: the next call starts from zeros."""
        for layer in self._layers:
            layer.reset_state()

    reset_states = reset_state

    # ---- shapes and masks ----

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the shape of the output, or with a `merge_mode` of None those of both."""
        first, second = (layer.compute_output_shape(input_shape) for layer in self._layers)
        if self.merge_mode is None:
            return first, second
        sizes = [layer.output_size for layer in self._layers]
        return (*first[:-1], sum(sizes) if self.merge_mode == "concat" else sizes[0])

    def compute_mask(self, inputs: ArrayLike, mask: Array | None = None) -> Array | None:
        """Return the mask of the input if the output has its steps, as a last output does not."""
        return mask if self.return_sequences else None

    # ---- calls ----

    def __call__(
        self,
        x: ArrayLike,
        initial_state: Sequence[ArrayLike] | None = None,
        mask: ArrayLike | None = None,
        training: bool = False,
        lengths: ArrayLike | None = None,
        reset: ArrayLike | None = None,
    ) -> Any:
        """Run both layers over sequences.

        Parameters
        ----------
        x, mask, training, lengths, reset
            As of an `LSTM`. Each layer is reset before it reads the step.
        initial_state : (h, c, h, c), optional
            The states of the two layers before their first steps.

        Returns
        -------
        output : (B, T, ...) array with `return_sequences`, else (B, ...)
            With a `merge_mode` of None two arrays.
        h, c, h, c : arrays, with `return_state`
            The states of the two layers.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit; nothing is changed then.
        """
        x = self.prepare(x)
        if self._device != "cpu":
            calls = self._calls_on_device(
                x, as_pairs(initial_state, self._dtype, self._device), mask, lengths, reset
            )
            merged, own_states = self._run_on_device(calls, training)
            for layer, state in zip(self._layers, own_states, strict=True):
                layer._keep([state])
            return self._returned(merged, own_states)
        layers = self._layers
        packed = [layer._full() if training else layer._packed or layer._pack() for layer in layers]
        calls = self._calls(x, initial_state, mask, lengths, reset)
        weights = self._by_reading([own[0] for own in packed])
        results = None if training else run_both_plainly(weights, self._by_reading(calls))
        output, states = results or run_both(weights, self._checked(calls, packed, training))
        self._keep(states)
        return self._returned(self._merge(output), self._by_reading(states))

    def _returned(self, merged: Any, states: Sequence[State]) -> Any:
        returned = list(merged) if isinstance(merged, tuple) else [merged]
        if self.return_state:
            returned += [array for state in states for array in state]
        return returned[0] if len(returned) == 1 else tuple(returned)

    def vjp(
        self,
        x: Array,
        training: bool = True,
        mask: ArrayLike | None = None,
        *,
        initial_state: Sequence[ArrayLike] | None = None,
        lengths: ArrayLike | None = None,
        reset: ArrayLike | None = None,
    ) -> tuple[Array, LayerBackward]:
        """Return the output, and what carries its gradient back. The state is kept as in a call."""
        if self.merge_mode is None:
            raise ValueError("merge_mode: got None, expected one that gives a single output")
        if self._device != "cpu":
            calls = self._calls_on_device(
                x, as_pairs(initial_state, self._dtype, self._device), mask, lengths, reset
            )
            merged, own_states, back = self._vjp_on_device(calls, training)
            for layer, state in zip(self._layers, own_states, strict=True):
                layer._keep([state])
            return merged, back
        packed = [layer._full() for layer in self._layers]
        calls = self._calls(x, initial_state, mask, lengths, reset)
        weights = self._by_reading([own[0] for own in packed])
        is_noisy = training and any(layer._is_noisy for layer in self._layers)
        results = None if is_noisy else run_both_vjp_plainly(weights, self._by_reading(calls))
        output, states, pull_back = results or run_both_vjp(
            weights, self._checked(calls, packed, training)
        )
        self._keep(states)

        def backward(dy: Array, need_x: bool) -> tuple[Array | None, list[Array]]:
            d_x, gradients = pull_back(self._merge_back(dy, output), need_x)
            parameters = []
            for layer, own in zip(self._layers, self._by_reading(gradients), strict=True):
                if self.trainable and layer.trainable:
                    parameters += own
            return d_x, parameters

        return self._merge(output), backward

    def _calls(
        self,
        x: Array,
        initial_state: Sequence[ArrayLike] | None,
        mask: ArrayLike | None,
        lengths: ArrayLike | None,
        reset: ArrayLike | None,
    ) -> list[Call]:
        """Return the calls of the layers."""
        given = as_pairs(initial_state, self._dtype, self._device)
        calls = []
        for index, layer in enumerate(self._layers):
            states = layer._kept_states(x) if given is None else [given[index]]
            calls.append(layer._call(x, states, mask, lengths, reset))
        return calls

    def _checked(
        self, calls: Sequence[Call], packed: Sequence[Packed], training: bool
    ) -> tuple[Call, Call]:
        """Check everything, then draw the noise; return the calls in the order of reading."""
        for index, (call, weights) in enumerate(zip(calls, packed, strict=True)):
            check_call(call, weights, first_state=2 * index)
        if training:
            calls = [
                layer._with_noise(call, weights)
                for layer, call, weights in zip(self._layers, calls, packed, strict=True)
            ]
        return self._by_reading(calls)

    def _keep(self, states: Sequence[State]) -> None:
        for layer, state in zip(self._layers, self._by_reading(states), strict=True):
            layer._keep([state])

    def _by_reading(self, pair: Sequence[T]) -> tuple[T, T]:
        """Return what belongs to the two layers, that of the one that reads forwards first.

        Or the other way round: what the operator gives, in the order of the layers.
        """
        first, second = pair
        return (second, first) if self.forward_layer.go_backwards else (first, second)

    # ---- merging ----

    def _outputs(self, output: Array) -> tuple[Array, Array]:
        """Return the outputs of the two layers, as views."""
        size = self._by_reading(self._layers)[0].output_size
        first, second = self._by_reading((output[..., :size], output[..., size:]))
        # The operator's are in the order of time: as the forward layer reads, unless it reads back.
        if self.forward_layer.go_backwards and self.return_sequences:
            return first[:, ::-1], second[:, ::-1]
        return first, second

    def _merge(self, output: Array) -> Any:
        if self._is_merged:
            return output
        return merge(self.merge_mode, *self._outputs(output))

    def _merge_back(self, dy: Array, output: Array) -> Array:
        """Return the gradient of the operator's output for that of the merged one."""
        if self._is_merged:
            return dy
        d_output = np.empty_like(output)
        gradients = merge_back(self.merge_mode, dy, *self._outputs(output))
        for part, gradient in zip(self._outputs(d_output), gradients, strict=True):
            part[...] = gradient
        return d_output

    @property
    def _is_merged(self) -> bool:
        """Whether the operator's output is the layer's."""
        return self.merge_mode == "concat" and not self.forward_layer.go_backwards

    # ---- configuration ----

    def quantize(self, mode: str) -> None:
        """Compute with small weights from now on, as `LSTM.quantize`.

        Raises
        ------
        ValueError, TypeError
            If one of the layers cannot; both are left as they were then.
        """
        before = self.forward_layer.weights_dtype
        self.forward_layer.quantize(mode)
        try:
            self.backward_layer.quantize(mode)
        except (TypeError, ValueError):
            self.forward_layer.weights_dtype = before
            raise

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one, without its weights."""
        return {
            **super().get_config(),
            "merge_mode": self.merge_mode,
            "layer": serialize(self.forward_layer),
            "backward_layer": serialize(self.backward_layer),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Bidirectional:
        """Make a layer from what `get_config` returned.

        Raises
        ------
        ValueError
            If a description in it is of no LSTM.
        """
        config = dict(config)
        for name in ("layer", "backward_layer"):
            if isinstance(config.get(name), Mapping):
                config[name] = _lstm(config[name], name)
        return cls(**config)


def _like(layer: LSTM, prefix: str, go_backwards: bool) -> LSTM:
    name = prefix + layer.name.removeprefix(prefix)
    copied = type(layer).from_config(
        {**layer.get_config(), "name": name, "go_backwards": go_backwards}
    )
    assert isinstance(copied, LSTM)
    return copied


def _lstm(description: Mapping[str, Any], name: str) -> LSTM:
    kind = Layer.classes.get(str(description.get("class_name")))
    if kind is None or not issubclass(kind, LSTM):
        raise ValueError(f"{name}: got {description.get('class_name')!r}, expected an LSTM")
    layer = kind.from_config(description["config"])
    assert isinstance(layer, LSTM)
    return layer
