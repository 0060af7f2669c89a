"""Weights of other frameworks, read and written; no gate order but ours leaves this package."""

from .keras_format import from_keras, to_keras
from .onnx_format import from_onnx, to_onnx
from .torch_format import from_torch, to_torch

__all__ = ["from_keras", "from_onnx", "from_torch", "to_keras", "to_onnx", "to_torch"]
