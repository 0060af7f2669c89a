"""Layers: weights, shapes and gradients behind Keras's names."""

from .base import Layer
from .bidirectional import Bidirectional
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding
from .input import Input
from .lstm import LSTM
from .masking import Masking

__all__ = ["LSTM", "Bidirectional", "Dense", "Dropout", "Embedding", "Input", "Layer", "Masking"]
