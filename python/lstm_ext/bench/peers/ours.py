"""The package itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import LSTM, Dense, Input, Sequential, functional, set_num_threads
from ..cases import Case
from ..fit import EPOCHS
from .base import Array, Peer, Unsupported

__all__ = ["Ours"]


class Ours(Peer):
    """``layer(x)`` forward, ``stream.step(x, out)``, or the operator with its gradients."""

    name = "lstm_ext"
    modes = ("forward", "stream", "training", "fit")
    dtypes = ("float32", "float64")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        set_num_threads(case.threads)
        self._layer = LSTM(case.shape.H, return_sequences=True, dtype=case.dtype)
        self._layer.build(case.x.shape)
        self._layer.set_weights(list(case.weights))
        # Forced for the life of the layer, whose weights are not changed again.
        self._layer._packed = functional.pack(*case.weights, isa=case.isa)
        runs = {
            "forward": self._forward,
            "stream": self._step,
            "training": self._train,
            "fit": self._fit,
        }
        self.run = runs[case.mode]  # type: ignore[method-assign]
        if case.mode == "stream":
            if case.shape.T != 1:
                raise Unsupported("a stream takes one step at a time")
            self._stream = self._layer.stream(case.shape.B)
            self._x, self._out = case.x[:, 0], np.empty((case.shape.B, case.shape.H), case.dtype)

    def _forward(self) -> Any:
        return self._layer(self.case.x)

    def _step(self) -> Any:
        return self._stream.step(self._x, self._out)

    def _train(self) -> Any:
        # A training step meets new weights every time: packing them is part of it.
        weights = functional.pack(*self.case.weights, isa=self.case.isa)
        outputs, backward = functional.lstm_vjp(self.case.x, weights)
        return outputs[0], backward(self.case.d_output, need_state=False, consume=True)

    def _fit(self) -> Sequential:
        case = self.case
        model = Sequential([Input(case.x.shape[1:]), LSTM(case.shape.H), Dense(1)])
        model.compile(optimizer="adam", loss="mse")
        model.set_weights([*case.weights, case.dense_kernel, case.dense_bias])
        model.fit(case.x, case.y, batch_size=case.shape.B, epochs=EPOCHS, shuffle=False, verbose=0)
        return model

    def results(self) -> tuple[Array, Array | None]:
        """Return the output and the gradient."""
        if self.case.mode == "forward":
            return np.asarray(self._forward()), None
        if self.case.mode == "stream":
            self._stream.reset()
            return self._step()[:, None].copy(), None
        if self.case.mode == "fit":
            return self._fit().predict(self.case.x, verbose=0), None
        output, gradients = self._train()
        return output, gradients.kernel
