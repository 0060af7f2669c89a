"""The part of a Bidirectional layer that runs it on a CUDA device, one layer after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from .base import Layer, LayerBackward
from .lstm import LSTM
from .lstm_run import Call
from .lstm_state import State
from .pairing import merge, merge_back

__all__ = ["PairOnDevice"]

Array = NDArray[Any]  # here of CuPy


class PairOnDevice(Layer):
    """Calls of two LSTM layers that read a sequence from either end."""

    merge_mode: str | None
    return_sequences: bool
    forward_layer: LSTM
    backward_layer: LSTM

    supports_cuda = True

    @property
    def _layers(self) -> tuple[LSTM, LSTM]:
        return self.forward_layer, self.backward_layer

    def check_on(self, device: str) -> None:
        """Raise a NotImplementedError that names what one of the layers has and the device not."""
        for layer in self._layers:
            layer.check_on(device)

    def _move(self, device: str) -> None:
        for layer in self._layers:
            layer._move(device)
        self._device = device
        self._collect_weights()

    def _collect_weights(self) -> None:
        # The arrays themselves: the two layers change them in place.
        self._weights = {
            f"{side}/{name}": weight
            for side, layer in zip(("forward", "backward"), self._layers, strict=True)
            for name, weight in layer._weights.items()
        }

    def _calls_on_device(
        self,
        x: Array,
        given: list[State] | None,
        mask: ArrayLike | None,
        lengths: ArrayLike | None,
        reset: ArrayLike | None,
    ) -> list[Call]:
        """Return the calls of both layers, checked."""
        calls = []
        for index, layer in enumerate(self._layers):
            states = layer._kept_states(x) if given is None else [given[index]]
            calls.append(layer._call(x, states, mask, lengths, reset))
            layer._check_call(calls[-1])
        return calls

    def _run_on_device(self, calls: Sequence[Call], training: bool) -> tuple[Any, list[State]]:
        """Return the merged output, and the state of each layer."""
        results = [
            layer._run_on_device(call, training)[0]
            for layer, call in zip(self._layers, calls, strict=True)
        ]
        states = [result.states[0] for result in results]
        return merge(self.merge_mode, *self._aligned([r.output for r in results])), states

    def _vjp_on_device(
        self, calls: Sequence[Call], training: bool
    ) -> tuple[Array, list[State], LayerBackward]:
        outputs, states, pull_backs = [], [], []
        for layer, call in zip(self._layers, calls, strict=True):
            results, pull_back = layer._run_on_device(call, training, keep=True)
            assert pull_back is not None
            outputs.append(results.output)
            states.append(results.states[0])
            pull_backs.append(pull_back)
        aligned = self._aligned(outputs)

        def backward(dy: Array, need_x: bool) -> tuple[Array | None, list[Array]]:
            gradients = self._aligned(merge_back(self.merge_mode, dy, *aligned))
            d_x: Any = None
            parameters: list[Array] = []
            for layer, pull_back, gradient in zip(self._layers, pull_backs, gradients, strict=True):
                d_own, own = pull_back(gradient, need_x)
                d_x = d_own if d_x is None else d_x + d_own
                parameters += own if self.trainable and layer.trainable else []
            return d_x if need_x else None, parameters

        return merge(self.merge_mode, *aligned), states, backward

    def _aligned(self, pair: Sequence[Array]) -> tuple[Array, Array]:
        """Return what belongs to the steps of both layers in the order of the first, or back."""
        first, second = pair
        return first, second[:, ::-1] if self.return_sequences else second
