"""What small weights cost: the deviation of a layer's or model's outputs from its own in full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._arrays import require_cpu
from .layers import LSTM, Bidirectional
from .models import Sequential
from .models.sequential import lstm_layers

__all__ = ["QuantizationError", "quantization_error"]

Array = NDArray[Any]
Model = LSTM | Bidirectional | Sequential


class QuantizationError(NamedTuple):
    """How far outputs with small weights are from those with full weights.

    Attributes
    ----------
    weights_dtype : str
    largest : float
        The largest deviation, absolute.
    rms : float
        The root mean square of the deviations.
    relative : float
        `rms` over the root mean square of the full outputs.
    """

    weights_dtype: str
    largest: float
    rms: float
    relative: float


def quantization_error(
    model: Model, x: ArrayLike, weights_dtype: str | None = None
) -> QuantizationError:
    """Run inputs with full and with small weights, and compare the outputs.

    Parameters
    ----------
    model : LSTM, Bidirectional or Sequential
        Built. It is left as it was, and a kept state is not touched.
    x : array
        Inputs such as it will meet.
    weights_dtype : "bfloat16" or "int8", optional
        By default, what the LSTM layers are set to.

    Returns
    -------
    QuantizationError

    Raises
    ------
    TypeError, ValueError
        If the model is neither, has no LSTM, or nothing says which small weights are meant.
    """
    if not isinstance(model, (LSTM, Bidirectional, Sequential)):
        raise TypeError(f"model: got {model!r}, expected an LSTM, Bidirectional or Sequential")
    if not model.built:
        raise ValueError(f"model: {model.name} is not built; build or call it first")
    layers = lstm_layers(model.layers if isinstance(model, Sequential) else [model])
    if not layers:
        raise ValueError(f"model: {model.name} has no LSTM, expected at least one")
    require_cpu(layers, "quantization_error")
    if weights_dtype is None:
        small = {layer.weights_dtype for layer in layers} - {"float32", "float64"}
        if len(small) != 1:
            raise ValueError(
                "weights_dtype: got None for layers with weights of "
                f"{', '.join(sorted({layer.weights_dtype for layer in layers}))}, expected "
                "bfloat16 or int8"
            )
        weights_dtype = small.pop()
    with _weights_of(layers, weights_dtype):
        actual = _outputs(model, x)
    with _weights_of(layers, None):
        full = _outputs(model, x)
    if not full.size:
        raise ValueError(f"x: got an array of shape {np.shape(x)}, expected at least one value")
    deviation = actual - full
    rms = float(np.sqrt(np.mean(deviation**2)))
    scale = float(np.sqrt(np.mean(full**2)))
    return QuantizationError(
        weights_dtype,
        float(np.max(np.abs(deviation), initial=0.0)),
        rms,
        rms / scale if scale else 0.0,
    )


@contextmanager
def _weights_of(layers: list[LSTM], weights_dtype: str | None) -> Iterator[None]:
    before = [(layer, layer.weights_dtype, layer._state) for layer in layers]
    try:
        for layer in layers:
            layer.weights_dtype = weights_dtype
            layer.reset_state()
        yield
    finally:
        for layer, dtype, state in before:
            layer.weights_dtype = dtype
            layer._state = state


def _outputs(model: Model, x: ArrayLike) -> Array:
    result = model(x)
    if isinstance(model, Bidirectional) and model.merge_mode is None:
        return np.concatenate([np.ravel(output) for output in result[:2]], dtype=np.float64)
    return np.asarray(result[0] if isinstance(result, tuple) else result, np.float64)
