"""Adam, and Adam with decoupled weight decay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _cpu
from .._registry import check_number
from .base import Optimizer
from .schedules import LearningRateSchedule

__all__ = ["Adam", "AdamW"]

Array = NDArray[Any]


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015), on the CPU in one fused native pass over each weight.

    At step t, with m and v the running means of the gradient and of its square::

        m += (1 - beta_1) * (g - m)
        v += (1 - beta_2) * (g^2 - v)
        w -= learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)

    which is the form at the end of the paper's section 2: `epsilon` is its "epsilon hat".

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule
    beta_1, beta_2 : float
        In [0, 1).
    epsilon : float
    amsgrad : bool
        Whether to divide by the largest v so far in place of v (Reddi, Kale and Kumar 2018).
    **options
        `weight_decay`, `clipnorm`, `clipvalue`, `global_clipnorm` and `name`, as of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1 = _check_beta(beta_1, "beta_1")
        self.beta_2 = _check_beta(beta_2, "beta_2")
        self.epsilon = check_number(epsilon, "epsilon", low=0.0)
        self.amsgrad = bool(amsgrad)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal optimizer, without its state."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "amsgrad": self.amsgrad,
        }

    def apply(self, grads: Sequence[Array], weights: Sequence[Array]) -> None:
        """Change `weights` in place by one step, as `Optimizer.apply`."""
        if not (self._kinds is None or self._clipped or self.amsgrad or self._there):
            # The native pass looks at every array before it changes one. What does not fit goes on
            # to the checks that find words for it.
            try:
                self._step(grads, weights, self.learning_rate)
            except ValueError:
                pass
            else:
                self.iterations += 1
                return
        super().apply(grads, weights)

    def _slot_names(self) -> tuple[str, ...]:
        return ("momentum", "velocity") + (("velocity_hat",) if self.amsgrad else ())

    def _step(self, grads: Sequence[Array], weights: Sequence[Array], rate: float) -> None:
        t = self.iterations + 1
        step_size = rate * math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        if self.amsgrad or self._there:
            self._decay(weights, rate)
            self._array_step(grads, weights, step_size)
            return
        _cpu.adam_update(
            list(weights),
            list(grads),
            self._slots["momentum"],
            self._slots["velocity"],
            step_size=step_size,
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
            decay=rate * self.weight_decay if self.weight_decay else 0.0,
        )

    def _array_step(
        self, grads: Sequence[Array], weights: Sequence[Array], step_size: float
    ) -> None:
        """Take the step array by array: what the native pass does not do."""
        slots = zip(*(self._slots[name] for name in self._slot_names()), strict=True)
        scratches = self._scratch
        for g, w, (m, v, *largest), (a, b) in zip(grads, weights, slots, scratches, strict=True):
            np.subtract(g, m, out=a)
            a *= 1 - self.beta_1
            m += a
            np.multiply(g, g, out=a)
            a -= v
            a *= 1 - self.beta_2
            v += a
            for v_hat in largest:
                np.maximum(v_hat, v, out=v_hat)
            np.multiply(m, step_size, out=a)
            np.sqrt(largest[0] if largest else v, out=b)
            b += self.epsilon
            a /= b
            w -= a


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    The parameters are those of `Adam`; `weight_decay` has a default and is not None. Every step
    first takes ``learning_rate * weight_decay`` of each weight off it.
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        if weight_decay is None:
            raise ValueError("weight_decay: got None, expected a number; Adam goes without")
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **options
        )


def _check_beta(value: float, name: str) -> float:
    beta = check_number(value, name, 0.0, 1.0)
    if beta == 1:
        raise ValueError(f"{name}: got 1, expected a number below 1: nothing would be learned")
    return beta
