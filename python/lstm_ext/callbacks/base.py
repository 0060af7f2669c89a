"""The hooks, the list that calls them, and the record of what was logged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..models import Sequential

__all__ = ["Callback", "CallbackList", "History"]

# Under these older names some callbacks listen for the same.
_OLDER_NAMES = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}

# Numbers by name; of a predicted batch, its outputs.
Logs = dict[str, Any]


class Callback:
    """Does nothing at each hook; override those that are of interest.

    `model` is the model at work and `params` the settings of the run: "epochs", "steps" and
    "verbose". `logs` holds the running means of the epoch so far. What a callback writes into the
    logs of `on_epoch_end` is seen by the callbacks after it and gets into the `History`.
    """

    model: Sequential
    params: dict[str, Any]

    def set_model(self, model: Sequential) -> None:
        """Take the model, before the run begins."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Take the settings of the run, before it begins."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Run before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Run after the last epoch, with what it logged."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Run before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Run after an epoch and its validation."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before a batch of training: the older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after a batch of training: the older name of `on_train_batch_end`."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before a batch of training."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after a batch of training."""
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Run before an evaluation, that of a validation too."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Run after an evaluation, with its results."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before a batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after a batch of an evaluation."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Run before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Run after a prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before a batch of a prediction."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after a batch of a prediction; its "outputs" are in the logs."""


class History(Callback):
    """Keeps what each epoch logged: `epoch` holds their numbers, `history` lists by name."""

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget the numbers of earlier epochs; their values stay, as in Keras."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Append the logs."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class CallbackList:
    """Calls a hook on every callback, and knows whether any listens.

    Parameters
    ----------
    callbacks : Callback, sequence of Callback, or None
    model : Sequential
    params : dict
        The settings of the run.

    Raises
    ------
    TypeError
        If one of them is no callback.
    """

    def __init__(self, callbacks: Any, model: Sequential, params: dict[str, Any]) -> None:
        self.callbacks = as_callbacks(callbacks)
        for callback in self.callbacks:
            callback.set_params(params)
            callback.set_model(model)

    def __call__(self, hook: str, *arguments: Any) -> None:
        """Call ``callback.hook(*arguments)`` on each."""
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)

    def hears(self, hook: str) -> bool:
        """Whether any callback has that hook: if none has, nothing is gathered for it."""
        return any(
            getattr(getattr(callback, name), "__func__", None) is not getattr(Callback, name)
            for callback in self.callbacks
            for name in (hook, _OLDER_NAMES.get(hook, hook))
        )


def as_callbacks(callbacks: Any) -> list[Callback]:
    """Return a list of callbacks, or raise a TypeError that names what is none."""
    if callbacks is None:
        return []
    if not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks: got {callback!r}, expected a Callback or a list of them")
    return list(callbacks)
