"""Learning rates that change with the number of steps taken."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

from .._registry import Configurable, check_number, resolve, serialize

__all__ = [
    "CosineDecay",
    "ExponentialDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "get",
    "serialize",
]


class LearningRateSchedule(Configurable):
    """A function of the number of steps taken: ``schedule(step)`` is the rate of the next one."""

    def __call__(self, step: int) -> float:
        """Return the learning rate after `step` steps."""
        raise NotImplementedError


class ExponentialDecay(LearningRateSchedule):
    """initial_learning_rate * decay_rate ** (step / decay_steps).

    Parameters
    ----------
    initial_learning_rate : float
    decay_steps : int
        Positive.
    decay_rate : float
    staircase : bool
        Whether the exponent is rounded down, so that the rate falls once every `decay_steps`.
    name : str
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        self.initial_learning_rate = _check_rate(initial_learning_rate, "initial_learning_rate")
        self.decay_steps = check_number(decay_steps, "decay_steps", low=0.0, open_low=True)
        self.decay_rate = check_number(decay_rate, "decay_rate", low=0.0)
        self.staircase = bool(staircase)
        self.name = name

    def __call__(self, step: int) -> float:
        """Return the learning rate after `step` steps."""
        exponent = step / self.decay_steps
        if self.staircase:
            exponent = math.floor(exponent)
        return float(self.initial_learning_rate * self.decay_rate**exponent)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal schedule."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] up to and including step boundaries[0], then values[1], and so on.

    Parameters
    ----------
    boundaries : sequence of int
        In increasing order.
    values : sequence of float
        One more.
    name : str
    """

    def __init__(
        self,
        boundaries: Sequence[float],
        values: Sequence[float],
        name: str = "PiecewiseConstant",
    ) -> None:
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                f"values: got {len(values)} for {len(boundaries)} boundaries, expected one more"
            )
        self.boundaries = [check_number(b, "boundaries") for b in boundaries]
        if any(a >= b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(f"boundaries: got {list(boundaries)}, expected an increasing order")
        self.values = [_check_rate(value, "values") for value in values]
        self.name = name

    def __call__(self, step: int) -> float:
        """Return the learning rate after `step` steps."""
        return self.values[bisect.bisect_left(self.boundaries, step)]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal schedule."""
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}


class CosineDecay(LearningRateSchedule):
    """Half a cosine from the initial rate down to `alpha` of it (Loshchilov and Hutter 2017).

    Parameters
    ----------
    initial_learning_rate : float
    decay_steps : int
        How many steps the fall takes; positive.
    alpha : float
        The last rate as a share of the first.
    name : str
    warmup_target : float, optional
        The rate to rise to, in a straight line from the initial one, before the fall begins; the
        fall then starts there.
    warmup_steps : int
        How many steps the rise takes.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self.initial_learning_rate = _check_rate(initial_learning_rate, "initial_learning_rate")
        self.decay_steps = check_number(decay_steps, "decay_steps", low=0.0, open_low=True)
        self.alpha = check_number(alpha, "alpha", low=0.0)
        self.name = name
        self.warmup_target = (
            None if warmup_target is None else _check_rate(warmup_target, "warmup_target")
        )
        self.warmup_steps = check_number(warmup_steps, "warmup_steps", low=0.0)

    def __call__(self, step: int) -> float:
        """Return the learning rate after `step` steps."""
        start, target = self.initial_learning_rate, self.warmup_target
        if target is None:
            return self._fall(start, step)
        if step < self.warmup_steps:
            return start + (target - start) * step / self.warmup_steps
        return self._fall(target, step - self.warmup_steps)

    def _fall(self, start: float, step: float) -> float:
        share = min(step / self.decay_steps, 1.0)
        cosine = 0.5 * (1 + math.cos(math.pi * share))
        return start * ((1 - self.alpha) * cosine + self.alpha)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal schedule."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "alpha": self.alpha,
            "name": self.name,
            "warmup_target": self.warmup_target,
            "warmup_steps": self.warmup_steps,
        }


def _check_rate(value: Any, name: str) -> float:
    return check_number(value, name, low=0.0)


_KNOWN: dict[str, type[LearningRateSchedule]] = {
    c.__name__: c for c in (CosineDecay, ExponentialDecay, PiecewiseConstantDecay)
}


def get(identifier: Any) -> LearningRateSchedule:
    """Return the schedule for a config or a `LearningRateSchedule`.

    Raises
    ------
    ValueError, TypeError
        If there is no such schedule.
    """
    return resolve(identifier, LearningRateSchedule, _KNOWN, "learning_rate")
