"""The LSTM, fast: fused native kernels behind a layer with Keras's shape."""

from . import (
    _threadpoolctl,
    activations,
    callbacks,
    functional,
    initializers,
    losses,
    metrics,
    models,
    optimizers,
    plot,
    random,
    reference,
)
from ._cpu import __version__
from .config import (
    available_isas,
    cuda_available,
    get_num_threads,
    get_spin_time,
    set_num_threads,
    set_spin_time,
    show_config,
)
from .interchange import from_keras, from_onnx, from_torch, to_keras, to_onnx, to_torch
from .layers import LSTM, Bidirectional, Dense, Dropout, Embedding, Input, Layer, Masking
from .models import Sequential, load_model
from .quantization import QuantizationError, quantization_error
from .random import set_random_seed

_threadpoolctl.register_when_imported()

__all__ = [
    "LSTM",
    "Bidirectional",
    "Dense",
    "Dropout",
    "Embedding",
    "Input",
    "Layer",
    "Masking",
    "QuantizationError",
    "Sequential",
    "__version__",
    "activations",
    "available_isas",
    "callbacks",
    "cuda_available",
    "from_keras",
    "from_onnx",
    "from_torch",
    "functional",
    "get_num_threads",
    "get_spin_time",
    "initializers",
    "load_model",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "plot",
    "quantization_error",
    "random",
    "reference",
    "set_num_threads",
    "set_random_seed",
    "set_spin_time",
    "show_config",
    "to_keras",
    "to_onnx",
    "to_torch",
]
