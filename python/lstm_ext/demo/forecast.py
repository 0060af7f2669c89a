"""The model, its training, and the forecasts that it is compared with."""

from __future__ import annotations

import sys
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import LSTM, Dense, Input, Sequential
from ..models import Callback, EarlyStopping
from ..optimizers import Adam
from ..random import set_random_seed
from .series import Series

__all__ = ["BATCH_SIZE", "LEARNING_RATE", "UNITS", "Forecast", "Windows", "train"]

Array = NDArray[Any]

UNITS = 32
BATCH_SIZE = 32
LEARNING_RATE = 0.003
_PATIENCE = 60
_BAR_WIDTH = 30


class Windows(NamedTuple):
    """Stretches of a scaled series, and the value that follows each.

    The scale is of the part before the test alone.
    """

    x: Array  # (samples, lookback, 1)
    y: Array  # (samples, 1)
    mean: float
    scale: float
    test: int  # the first sample whose y is in the test

    @classmethod
    def cut(cls, series: Series) -> Windows:
        """Cut a series into windows of its lookback."""
        known = series.values[: series.test_start]
        mean, scale = float(known.mean()), float(known.std()) or 1.0
        values = ((series.values - mean) / scale).astype(np.float32)
        back = series.lookback
        x = np.lib.stride_tricks.sliding_window_view(values[:-1], back)[..., None]
        return cls(
            np.ascontiguousarray(x), values[back:, None], mean, scale, series.test_start - back
        )

    def unscale(self, values: Array) -> Array:
        """Return scaled values as what they were."""
        return values.astype(float) * self.scale + self.mean


class Forecast(NamedTuple):
    """One-step forecasts of the test, and how they came about."""

    predictions: dict[str, Array]  # by method
    epochs: int
    seconds: float

    def errors(self, series: Series) -> dict[str, tuple[float, float]]:
        """Return root mean squared and mean absolute error of each method."""
        truth = series.values[series.test_start :]
        return {
            name: (float(np.sqrt(np.mean((p - truth) ** 2))), float(np.mean(np.abs(p - truth))))
            for name, p in self.predictions.items()
        }


class _EpochBar(Callback):
    """One line for the whole training."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._live = sys.stdout.isatty()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Draw it."""
        if self._live:
            print(f"\r\x1b[K{self._line(epoch + 1, logs or {})}", end="", flush=True)
        self._last = (epoch + 1, dict(logs or {}))

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Draw the last state, for good."""
        print(f"{chr(13) if self._live else ''}{self._line(*self._last)}")

    def _line(self, epoch: int, logs: dict[str, float]) -> str:
        filled = _BAR_WIDTH * epoch // self._epochs
        bar = "━" * filled + "·" * (_BAR_WIDTH - filled)
        values = "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
        return f"epoch {epoch}/{self._epochs} {bar} {values}"


def train(series: Series, windows: Windows, epochs: int, seed: int) -> Forecast:
    """Train on what comes before the test, and forecast each value of the test from those before.

    When to stop is decided on the last fifth of the training part.
    """
    set_random_seed(seed)
    model = Sequential([Input((series.lookback, 1)), LSTM(UNITS), Dense(1)])
    model.compile(optimizer=Adam(LEARNING_RATE), loss="mse")
    stopping = EarlyStopping(patience=_PATIENCE, restore_best_weights=True)
    bar = _EpochBar(epochs)
    start = time.perf_counter()
    history = model.fit(
        windows.x[: windows.test],
        windows.y[: windows.test],
        batch_size=BATCH_SIZE,
        epochs=epochs,
        validation_split=0.2,
        callbacks=[bar, stopping],
        verbose=0,
    )
    seconds = time.perf_counter() - start
    predicted = windows.unscale(model.predict(windows.x[windows.test :], verbose=0)[:, 0])
    at = series.test_start
    predictions = {
        "LSTM": predicted,
        "persistence": series.values[at - 1 : -1],
        "seasonal naive": series.values[at - series.season : -series.season],
    }
    return Forecast(predictions, len(history.epoch), seconds)
