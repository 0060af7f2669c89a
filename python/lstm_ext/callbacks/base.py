"""What happens around epochs and batches of `fit`, by Keras's names and hooks."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .sequential import Sequential

__all__ = ["Callback", "EarlyStopping", "History", "ModelCheckpoint"]

Logs = dict[str, float]


class Callback:
    """Does nothing at each hook; override those that are of interest.

    `model` is the model in training and `params` the settings of the run: "epochs", "steps" and
    "verbose".
    """

    model: Sequential
    params: dict[str, Any]

    def set_model(self, model: Sequential) -> None:
        """Take the model, before training begins."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Take the settings of the run, before training begins."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Run before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Run after the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Run before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Run after an epoch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before a batch."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after a batch, with the running means of the epoch."""


class History(Callback):
    """Keeps what each epoch logged: `epoch` holds their numbers, `history` lists by name."""

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Append the logs."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class CallbackList:
    """Calls a hook on every callback, and knows whether any wants to hear of batches."""

    def __init__(
        self, callbacks: Sequence[Callback], model: Sequential, params: dict[str, Any]
    ) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks: got {callback!r}, expected a Callback")
        self._callbacks = list(callbacks)
        for callback in self._callbacks:
            callback.set_params(params)
            callback.set_model(model)
        self.hears_batches = any(
            getattr(type(callback), hook) is not getattr(Callback, hook)
            for callback in self._callbacks
            for hook in ("on_train_batch_begin", "on_train_batch_end")
        )

    def __call__(self, hook: str, *arguments: Any) -> None:
        """Call ``callback.hook(*arguments)`` on each."""
        for callback in self._callbacks:
            getattr(callback, hook)(*arguments)


def _comparison(monitor: str, mode: str) -> Callable[[float, float], bool]:
    """Return what says that a value of `monitor` is better than another."""
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"mode: got {mode!r}, expected 'auto', 'min' or 'max'")
    larger = mode == "max" or (mode == "auto" and ("acc" in monitor or monitor.endswith("auc")))
    return (lambda a, b: a > b) if larger else (lambda a, b: a < b)


def _monitored(logs: Logs | None, monitor: str) -> float:
    if logs is None or monitor not in logs:
        raise ValueError(f"monitor: got {monitor!r}, expected one of {sorted(logs or {})}")
    return logs[monitor]


class EarlyStopping(Callback):
    """Ends training when a logged value has stopped getting better.

    Parameters
    ----------
    monitor : str
        The name in the logs.
    min_delta : float
        Changes smaller than that do not count.
    patience : int
        How many epochs without one that counts are borne.
    verbose : int
        1 prints when it ends training.
    mode : "auto", "min" or "max"
        Which way is better; "auto" goes by the name.
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
        self.monitor, self.min_delta, self.patience = monitor, abs(min_delta), patience
        self.verbose, self.baseline = verbose, baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._better = _comparison(monitor, mode)
        self.stopped_epoch = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget earlier runs."""
        self.best: float | None = None
        self.best_epoch = 0
        self.stopped_epoch = 0
        self._wait = 0
        self._best_weights: list[NDArray[Any]] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Look at the value, and end training if it is time."""
        if epoch < self.start_from_epoch:
            return
        current = _monitored(logs, self.monitor)
        if self.restore_best_weights and self._best_weights is None:
            self._best_weights, self.best_epoch = self.model.get_weights(), epoch
        self._wait += 1
        if self.best is None or self._counts(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.restore_best_weights:
                self._best_weights = self.model.get_weights()
            if self.baseline is None or self._counts(current, self.baseline):
                self._wait = 0
            return
        if self._wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Say so, and bring back the best weights."""
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self._best_weights is not None:
            self.model.set_weights(self._best_weights)

    def _counts(self, value: float, reference: float) -> bool:
        margin = self.min_delta if self._better(1, 0) else -self.min_delta
        return self._better(value - margin, reference)


class ModelCheckpoint(Callback):
    """Saves the model after epochs.

    Parameters
    ----------
    filepath : str or path
        May hold ``{epoch}``, which counts from one, and names of logs, as in
        ``"model-{epoch:02d}-{val_loss:.3f}.safetensors"``.
    monitor : str
        The name in the logs that `save_best_only` goes by.
    verbose : int
        1 prints when it saves.
    save_best_only : bool
        Whether to save only what is better than all before.
    save_weights_only : bool
        Whether to save weights without the model.
    mode : "auto", "min" or "max"
        Which way is better; "auto" goes by the name.
    save_freq : "epoch"
        The only one so far.
    initial_value_threshold : float, optional
        What has to be bettered at first.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        if save_freq != "epoch":
            raise NotImplementedError(
                f"ModelCheckpoint: save_freq={save_freq!r} is not supported yet; expected 'epoch'"
            )
        self.filepath, self.monitor, self.verbose = os.fspath(filepath), monitor, verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self._better = _comparison(monitor, mode)
        worst = -math.inf if self._better(1, 0) else math.inf
        self.best = worst if initial_value_threshold is None else initial_value_threshold

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save, if this epoch is to be saved."""
        if self.save_best_only:
            current = _monitored(logs, self.monitor)
            if not self._better(current, self.best) or np.isnan(current):
                return
            self.best = current
        try:
            path = self.filepath.format(epoch=epoch + 1, **(logs or {}))
        except KeyError as error:
            raise ValueError(
                f"filepath: got {self.filepath!r}, expected names among {sorted(logs or {})}"
            ) from error
        if self.verbose:
            print(f"Epoch {epoch + 1}: saving model to {path}")
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)
