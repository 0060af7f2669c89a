"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._registry import check_number
from .base import Optimizer
from .schedules import LearningRateSchedule

__all__ = ["SGD"]

Array = NDArray[Any]


class SGD(Optimizer):
    """Gradient descent, with momentum if asked for.

    Without momentum ``w -= learning_rate * g``. With it, v being the velocity::

        v = momentum * v - learning_rate * g
        w += v                                    or, with nesterov,
        w += momentum * v - learning_rate * g     (Sutskever et al. 2013)

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule
    momentum : float
        In [0, 1].
    nesterov : bool
    **options
        `weight_decay`, `clipnorm`, `clipvalue`, `global_clipnorm` and `name`, as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.momentum = check_number(momentum, "momentum", 0.0, 1.0)
        self.nesterov = bool(nesterov)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal optimizer, without its state."""
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}

    def _slot_names(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def _step(self, grads: Sequence[Array], weights: Sequence[Array], rate: float) -> None:
        self._decay(weights, rate)
        for i, (g, w, (step, ahead)) in enumerate(zip(grads, weights, self._scratch, strict=True)):
            np.multiply(g, rate, out=step)
            if not self.momentum:
                w -= step
                continue
            velocity = self._slots["momentum"][i]
            velocity *= self.momentum
            velocity -= step
            if self.nesterov:
                np.multiply(velocity, self.momentum, out=ahead)
                ahead -= step
                w += ahead
            else:
                w += velocity
