"""A logged value that is watched: where it stands, and which way is better."""

from __future__ import annotations

import warnings
from typing import Any

from .base import Callback, Logs

__all__ = ["Monitor"]


class Monitor(Callback):
    """What callbacks have in common that wait for a logged value to get better.

    Parameters
    ----------
    monitor : str
        The name in the logs.
    mode : "auto", "min" or "max"
        Which way is better. "auto" asks the model's metric of that name; a loss is better smaller.
    min_delta : float
        Smaller changes do not count.

    Raises
    ------
    ValueError
        If `mode` is none of these; in training, if it is "auto" and the model has no such metric.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode: got {mode!r}, expected 'auto', 'min' or 'max'")
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        self.best: float | None = None

    def monitored(self, logs: Logs | None) -> Any:
        """Return the value in the logs; warn and return None if it is not there, as Keras does."""
        if logs is None or self.monitor not in logs:
            warnings.warn(
                f"{type(self).__name__}: monitor {self.monitor!r} is not among the logs, "
                f"{', '.join(sorted(logs or {}))}",
                stacklevel=2,
            )
            return None
        return logs[self.monitor]

    def improves(self, value: float, reference: float | None) -> bool:
        """Whether `value` is better than `reference` by more than `min_delta`.

        Every number is better than None, NaN is never better.
        """
        larger_is_better = self._larger_is_better()
        if value != value or reference is None:
            return value == value
        if larger_is_better:
            return value - self.min_delta > reference
        return value + self.min_delta < reference

    def _larger_is_better(self) -> bool:
        if self.mode != "auto":
            return self.mode == "max"
        name = self.monitor.removeprefix("val_")
        if name == "loss":
            return False
        for metric in self.model.metrics:
            if metric.name == name:
                return metric.larger_is_better
        raise ValueError(
            f"mode: got 'auto' for {self.monitor!r}, which is no metric of the model; expected "
            "'min' or 'max'"
        )
