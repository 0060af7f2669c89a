"""Files of the model as it was after epochs."""

from __future__ import annotations

import os

from .base import Logs
from .monitor import Monitor

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(Monitor):
    """Saves the model after epochs.

    Parameters
    ----------
    filepath : str or path
        May hold ``{epoch}``, which counts from one, and names of logs, as in
        ``"model-{epoch:02d}-{val_loss:.3f}.safetensors"``. Folders are made.
    monitor : str
        The name in the logs that `save_best_only` goes by. If it is not among them, there is a
        warning and every epoch is saved.
    verbose : int
        1 prints when it saves.
    save_best_only : bool
        Whether to save only what is better than all before.
    save_weights_only : bool
        Whether to save weights without the model.
    mode : "auto", "min" or "max"
        Which way is better. "auto" asks the model's metric of that name; a loss is better smaller.
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
        super().__init__(monitor, mode)
        self.filepath, self.verbose = os.fspath(filepath), verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.best = initial_value_threshold

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save, if this epoch is to be saved."""
        best = self.best
        if self.save_best_only:
            current = self.monitored(logs)
            if current is not None:
                if not self.improves(current, best):
                    return
                best = current
        path = self._path(epoch, logs or {})
        if self.verbose:
            print(f"Epoch {epoch + 1}: saving model to {path}")
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)
        # Only now: what could not be written is not what later epochs have to better.
        self.best = best

    def _path(self, epoch: int, logs: Logs) -> str:
        try:
            return self.filepath.format(epoch=epoch + 1, **logs)
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"filepath: got {self.filepath!r}, expected names among {sorted(logs)}"
            ) from error
