"""Weights of other frameworks, read and written; no gate order but ours leaves this package."""

from .torch_format import from_torch, to_torch

__all__ = ["from_torch", "to_torch"]
