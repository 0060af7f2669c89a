"""Models: layers in a row, their training and their files."""

from .. import callbacks
from ..callbacks import Callback, EarlyStopping, History, ModelCheckpoint
from .saving import load_model
from .sequential import Sequential

__all__ = [
    "Callback",
    "EarlyStopping",
    "History",
    "ModelCheckpoint",
    "Sequential",
    "callbacks",
    "load_model",
]
