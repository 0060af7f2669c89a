"""The end of training when it no longer helps."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from .base import Logs
from .monitor import Monitor

__all__ = ["EarlyStopping"]


class EarlyStopping(Monitor):
    """Ends training when a logged value has stopped getting better.

    Parameters
    ----------
    monitor : str
        The name in the logs. If it is not among them, there is a warning and nothing happens.
    min_delta : float
        Changes smaller than that do not count.
    patience : int
        How many epochs without one that counts are borne.
    verbose : int
        1 prints when it ends training.
    mode : "auto", "min" or "max"
        Which way is better. "auto" asks the model's metric of that name; a loss is better smaller.
    baseline : float, optional
        What has to be bettered at first.
    restore_best_weights : bool
        Whether the model ends with the weights of its best epoch.
    start_from_epoch : int
        Epochs before it are not watched.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._forget()

    def _forget(self) -> None:
        self.best = None
        self.wait = self.best_epoch = self.stopped_epoch = 0
        self.best_weights: list[NDArray[Any]] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget earlier runs."""
        self._forget()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Look at the value, and end training if it is time."""
        current = self.monitored(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self.improves(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.improves(current, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Say so, and bring back the best weights."""
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose:
                print(f"Restoring the weights of the best epoch: {self.best_epoch + 1}")
            self.model.set_weights(self.best_weights)
