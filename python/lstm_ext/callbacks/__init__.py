"""What happens around the epochs and batches of a model, by Keras's names and hooks."""

from .base import Callback, CallbackList, History
from .checkpoint import ModelCheckpoint
from .stopping import EarlyStopping

__all__ = ["Callback", "CallbackList", "EarlyStopping", "History", "ModelCheckpoint"]
