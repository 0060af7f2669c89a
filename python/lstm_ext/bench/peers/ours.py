"""The package itself."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ... import LSTM, Dense, Input, Sequential, _cpu, functional, set_num_threads
from ..cases import Case
from ..fit import EPOCHS
from ..variants import BACKWARD, LAYERS, LENGTHS, PEEPHOLES, PROJECTION
from .base import Array, Peer, Unsupported
from .ours_composed import Composed

__all__ = ["Ours", "OursInFull", "OursPadded"]


class Ours(Peer):
    """``layer(x)`` forward, ``stream.step(x, out)``, or the operator with its gradients."""

    name = "lstm_ext"
    modes: ClassVar[tuple[str, ...]] = ("forward", "stream", "training", "fit")
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    weights_dtypes: ClassVar[tuple[str | None, ...]] = (None, "bfloat16", "int8")
    features: ClassVar[tuple[str, ...]] = (PEEPHOLES, PROJECTION, LENGTHS, BACKWARD, LAYERS)

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        set_num_threads(case.threads)
        if case.variant.needs:
            composed = Composed(case, self._lengths)
            is_trained = case.mode == "training"
            self.run = composed.train if is_trained else composed.forward  # type: ignore[method-assign]
            return
        self._layer = LSTM(case.shape.H, return_sequences=True, dtype=case.dtype)
        self._layer.build(case.x.shape)
        self._layer.set_weights(list(case.weights))
        # Forced for the life of the layer, whose weights are not changed again.
        packed = functional.pack(*case.weights, weights_dtype=self._weights_dtype, isa=case.isa)
        self._layer._packed = (packed,)
        runs = {
            "forward": self._forward,
            "stream": self._step,
            "training": self._train,
            "fit": self._fit,
        }
        self.run = runs[case.mode]  # type: ignore[method-assign]
        if case.mode == "stream":
            # `layer.stream().step` is the step of such an object, of the chosen packing here.
            self._stream = _cpu.Stream(packed, case.shape.B)
            self._x, self._out = case.x[:, 0], np.empty((case.shape.B, case.shape.H), case.dtype)

    @property
    def _weights_dtype(self) -> str | None:
        return self.case.weights_dtype

    @property
    def _lengths(self) -> Array | None:
        return self.case.lengths

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
        if self.case.variant.needs:
            results = self.run()
            return results if self.case.mode == "training" else (results, None)
        if self.case.mode == "forward":
            return np.asarray(self._forward()), None
        if self.case.mode == "stream":
            self._stream.reset()
            return self._step()[:, None].copy(), None
        if self.case.mode == "fit":
            return self._fit().predict(self.case.x, verbose=0), None
        output, gradients = self._train()
        return output, gradients.kernel


class OursInFull(Ours):
    """The same with full weights, beside small ones."""

    name = "lstm_ext-float32"
    modes = ("forward", "stream")
    dtypes = ("float32",)
    weights_dtypes = ("bfloat16", "int8")

    @property
    def _weights_dtype(self) -> None:
        return None


class OursPadded(Ours):
    """The same without the lengths of sequences: it computes what follows them as well."""

    name = "lstm_ext-padded"
    modes = ("forward", "training")
    weights_dtypes = (None,)
    features = (LENGTHS,)

    def __init__(self, case: Case) -> None:
        if case.lengths is None:
            raise Unsupported("no sequence is padded")
        super().__init__(case)

    @property
    def _lengths(self) -> None:
        return None

    @classmethod
    def suits(cls, case: Case) -> bool:
        """Return whether there is anything to leave out."""
        return super().suits(case) and case.lengths is not None

    def results(self) -> tuple[Array, Array | None]:
        """Return the output, with zeros where there is no step, and the gradient."""
        output, gradient = super().results()
        return np.where(self.case.mask[:, :, None], output, 0), gradient
