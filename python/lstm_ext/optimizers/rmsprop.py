"""RMSprop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._registry import check_number
from .base import Optimizer
from .schedules import LearningRateSchedule

__all__ = ["RMSprop"]

Array = NDArray[Any]


class RMSprop(Optimizer):
    """Gradients over the root of their running mean square (Tieleman and Hinton 2012).

    With v the mean square, and a the mean if `centered`, else 0 (Graves 2013)::

        v = rho * v + (1 - rho) * g^2
        a = rho * a + (1 - rho) * g
        m = momentum * m + learning_rate * g / sqrt(v - a^2 + epsilon)
        w -= m

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule
    rho, momentum : float
        In [0, 1].
    epsilon : float
        Keeps the root away from zero.
    centered : bool
        Whether to divide by the standard deviation rather than the root mean square.
    **options
        `weight_decay`, `clipnorm`, `clipvalue`, `global_clipnorm` and `name`, as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho = check_number(rho, "rho", 0.0, 1.0)
        self.momentum = check_number(momentum, "momentum", 0.0, 1.0)
        self.epsilon = check_number(epsilon, "epsilon", low=0.0)
        self.centered = bool(centered)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal optimizer, without its state."""
        return {
            **super().get_config(),
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "centered": self.centered,
        }

    def _slot_names(self) -> tuple[str, ...]:
        names = ["velocity"]
        if self.momentum:
            names.append("momentum")
        if self.centered:
            names.append("average_gradient")
        return tuple(names)

    def _step(self, grads: Sequence[Array], weights: Sequence[Array], rate: float) -> None:
        self._decay(weights, rate)
        for i, (g, w, (root, step)) in enumerate(zip(grads, weights, self._scratch, strict=True)):
            velocity = self._slots["velocity"][i]
            np.multiply(g, g, out=step)
            _running_mean(velocity, step, self.rho)
            if self.centered:
                average = self._slots["average_gradient"][i]
                step[...] = g
                _running_mean(average, step, self.rho)
                np.multiply(average, average, out=root)
                np.subtract(velocity, root, out=root)
                root += self.epsilon
            else:
                np.add(velocity, self.epsilon, out=root)
            np.sqrt(root, out=root)
            np.multiply(g, rate, out=step)
            step /= root
            if self.momentum:
                momentum = self._slots["momentum"][i]
                momentum *= self.momentum
                momentum += step
                step = momentum
            w -= step


def _running_mean(mean: Array, new: Array, rho: float) -> None:
    """Set mean to rho * mean + (1 - rho) * new; `new` is overwritten."""
    mean *= rho
    new *= 1 - rho
    mean += new
