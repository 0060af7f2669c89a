"""The same training in other frameworks, timed."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from .forecast import BATCH_SIZE, LEARNING_RATE, UNITS, Windows

__all__ = ["Cost", "measure"]

_SECONDS = 8.0  # after which a peer is not asked for further epochs


class Cost(NamedTuple):
    """What training took in a framework."""

    name: str
    seconds: float  # for all epochs, extrapolated if fewer were run
    epochs_run: int


def measure(windows: Windows, epochs: int) -> list[Cost]:
    """Time the same epochs on each framework that is installed, after one to warm up."""
    makers: dict[str, tuple[tuple[str, ...], Callable[[Any, Any], Callable[[], None]]]] = {
        "torch": (("torch",), _torch),
        "Keras": (("keras", "tensorflow"), _keras),
    }
    # The share that training used; the rest was kept for validation.
    count = int(windows.test * 0.8)
    x, y = windows.x[:count], windows.y[:count]
    costs = []
    for name, (packages, make) in makers.items():
        if all(importlib.util.find_spec(package) for package in packages):
            costs.append(_time(name, make(x, y), epochs))
    return costs


def _time(name: str, epoch: Callable[[], None], epochs: int) -> Cost:
    epoch()
    start = time.perf_counter()
    run = 0
    while run < epochs and time.perf_counter() - start < _SECONDS:
        epoch()
        run += 1
    return Cost(name, (time.perf_counter() - start) * epochs / run, run)


def _torch(x: Any, y: Any) -> Callable[[], None]:
    import torch

    lstm, dense = torch.nn.LSTM(1, UNITS, batch_first=True), torch.nn.Linear(UNITS, 1)
    optimizer = torch.optim.Adam([*lstm.parameters(), *dense.parameters()], LEARNING_RATE)
    samples, targets = torch.from_numpy(x), torch.from_numpy(y)

    def epoch() -> None:
        for rows in torch.randperm(len(samples)).split(BATCH_SIZE):
            optimizer.zero_grad()
            output, _ = lstm(samples[rows])
            loss = torch.nn.functional.mse_loss(dense(output[:, -1]), targets[rows])
            loss.backward()
            optimizer.step()

    return epoch


def _keras(x: Any, y: Any) -> Callable[[], None]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    import keras

    layers = keras.layers
    model = keras.Sequential([keras.Input(x.shape[1:]), layers.LSTM(UNITS), layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), loss="mse")

    def epoch() -> None:
        model.fit(x, y, batch_size=BATCH_SIZE, epochs=1, verbose=0)

    return epoch
