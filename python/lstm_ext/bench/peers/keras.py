"""Keras's layer on TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..cases import Case
from ..fit import EPOCHS
from ..variants import BACKWARD, LAYERS, LENGTHS, Weights
from .base import Array, Peer

__all__ = ["Keras"]


class Keras(Peer):
    """keras.layers.LSTM, compiled by XLA; in a fit, as a model compiles itself.

    TensorFlow's threads are set before its first use.
    """

    name = "keras"
    requires = ("keras", "tensorflow")
    modes = ("forward", "stream", "training", "fit")
    features = (LENGTHS, BACKWARD, LAYERS)

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(case.threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:  # in use already, with the threads of an earlier case
            pass
        import keras

        if case.mode == "fit":
            self._keras = keras
            return
        layers = [_layer(keras, weights, case.lengths is not None) for weights in case.layers]
        d_output = tf.constant(case.d_output)
        self._x = tf.constant(case.x)
        mask = None if case.lengths is None else tf.constant(case.mask)

        def forward(x: Any) -> Any:
            for layer in layers:
                x = layer(x, mask=mask)
            return x

        def train(x: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                output = forward(x)
            variables = [v.value for layer in layers for v in layer.trainable_variables]
            return output, tape.gradient(output, [x, *variables], output_gradients=d_output)

        self._function = tf.function(
            train if case.mode == "training" else forward, jit_compile=True
        )

    def run(self) -> Any:
        """Run the traced function."""
        if self.case.mode == "fit":
            return self._fit()
        return self._function(self._x)

    def _fit(self) -> Any:
        """Train a model, from the case's weights, as a user does; return it."""
        case, layers = self.case, self._keras.layers
        stack = [self._keras.Input(case.x.shape[1:]), layers.LSTM(case.shape.H), layers.Dense(1)]
        model = self._keras.Sequential(stack)
        model.compile(optimizer="adam", loss="mse")
        model.set_weights([*case.weights, case.dense_kernel, case.dense_bias])
        model.fit(case.x, case.y, batch_size=case.shape.B, epochs=EPOCHS, shuffle=False, verbose=0)
        return model

    def results(self) -> tuple[Array, Array | None]:
        """Return the output and the gradient."""
        if self.case.mode == "fit":
            return self._fit().predict(self.case.x, verbose=0), None
        if self.case.mode != "training":
            return np.asarray(self.run()), None
        output, gradients = self.run()
        kernels = gradients[1::3][: self.case.variant.directions]
        return np.asarray(output), np.concatenate(kernels, axis=1)


def _layer(keras: Any, directions: Sequence[Weights], is_masked: bool) -> Any:
    """Return a built layer of one or two directions with their weights."""
    first = directions[0]
    layer = keras.layers.LSTM(first.units, return_sequences=True, zero_output_for_mask=is_masked)
    if len(directions) == 2:
        layer = keras.layers.Bidirectional(layer)
    layer.build((None, None, len(first.kernel)))
    layer.set_weights([array for weights in directions for array in weights.arguments])
    return layer
