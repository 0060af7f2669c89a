"""Layers: weights, shapes and gradients behind Keras's names."""

from .base import Layer
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding
from .input import Input
from .lstm import LSTM

__all__ = ["LSTM", "Dense", "Dropout", "Embedding", "Input", "Layer"]
