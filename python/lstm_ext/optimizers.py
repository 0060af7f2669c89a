"""Optimizers, by Keras's names, defaults and update rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _cpu
from ._registry import Configurable, check_unsupported, resolve

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "get"]

Array = NDArray[Any]

# Arguments of Keras's optimizers that are not there yet, with Keras's defaults.
_UNSUPPORTED = {
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}


class Optimizer(Configurable):
    """Changes weights in place by their gradients.

    Parameters
    ----------
    learning_rate : float
    weight_decay : float, optional
        Every step first takes ``learning_rate * weight_decay`` of each weight off it.
    clipnorm, clipvalue, global_clipnorm : float, optional
        At most one: the largest norm of one gradient, the largest element, the largest norm of
        all gradients together.
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
        **unsupported: Any,
    ) -> None:
        check_unsupported(type(self).__name__, unsupported, _UNSUPPORTED)
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = [key for key, value in clips.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]}: got {' and '.join(given)}, expected at most one of them")
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.name = type(self).__name__.lower() if name is None else name
        self.iterations = 0
        self._slots: dict[str, list[Array]] = {}
        self._shapes: list[tuple[int, ...]] | None = None

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
            raise TypeError(f"learning_rate: got {value!r}, expected a number")
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"learning_rate: got {value}, expected a finite number, not negative")
        self._learning_rate = float(value)

    def build(self, weights: Sequence[Array]) -> None:
        """Make the state for these weights; once, unless their shapes change."""
        shapes = [w.shape for w in weights]
        if shapes == self._shapes:
            return
        self._shapes = shapes
        self._slots = {name: [np.zeros_like(w) for w in weights] for name in self._slot_names()}

    def apply(self, grads: Sequence[Array], weights: Sequence[Array]) -> None:
        """Change `weights` in place by one step. `grads` may be overwritten."""
        if self._shapes is None:
            self.build(weights)
        if self.clipnorm or self.clipvalue or self.global_clipnorm:
            grads = self._clip(grads)
        self._step(grads, weights)
        self.iterations += 1

    def state(self) -> dict[str, Array]:
        """Return the state as named arrays: what `set_state` takes."""
        return {f"{name}/{i}": a for name, slot in self._slots.items() for i, a in enumerate(slot)}

    def set_state(self, state: dict[str, Array], iterations: int) -> None:
        """Take over a state, after `build`.

        Raises
        ------
        ValueError
            If names or shapes do not fit; nothing is changed then.
        """
        own = self.state()
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in state.items()}:
            raise ValueError(
                f"state: got {sorted(state)}, expected {sorted(own)} with their shapes"
            )
        for name, array in own.items():
            array[...] = state[name]
        self.iterations = int(iterations)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal optimizer, without its state."""
        return {
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "clipvalue": self.clipvalue,
            "global_clipnorm": self.global_clipnorm,
            "name": self.name,
        }

    def _clip(self, grads: Sequence[Array]) -> Sequence[Array]:
        if self.clipvalue:
            return [np.clip(g, -self.clipvalue, self.clipvalue) for g in grads]
        if self.clipnorm:
            return [g * g.dtype.type(_shrink(_norm([g]), self.clipnorm)) for g in grads]
        assert self.global_clipnorm
        factor = _shrink(_norm(grads), self.global_clipnorm)
        return [g * g.dtype.type(factor) for g in grads]

    def _decay(self, weights: Sequence[Array]) -> None:
        if self.weight_decay:
            for w in weights:
                w -= w * w.dtype.type(self.learning_rate * self.weight_decay)

    def _slot_names(self) -> tuple[str, ...]:
        """Return the names of the arrays that are kept for each weight."""
        raise NotImplementedError

    def _step(self, grads: Sequence[Array], weights: Sequence[Array]) -> None:
        raise NotImplementedError


def _norm(grads: Sequence[Array]) -> float:
    return math.sqrt(sum(float(np.vdot(g, g)) for g in grads))


def _shrink(norm: float, limit: float) -> float:
    """Return the factor that brings a gradient of that norm within the limit."""
    return limit / norm if norm > limit else 1.0


class SGD(Optimizer):
    """Gradient descent, with momentum if asked for (Sutskever et al. 2013 for Nesterov's)."""

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum: got {momentum}, expected 0 to 1")
        self.momentum, self.nesterov = momentum, nesterov

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal optimizer, without its state."""
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}

    def _slot_names(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def _step(self, grads: Sequence[Array], weights: Sequence[Array]) -> None:
        self._decay(weights)
        for i, (w, g) in enumerate(zip(weights, grads, strict=True)):
            rate = w.dtype.type(self.learning_rate)
            if not self.momentum:
                w -= rate * g
                continue
            momentum = w.dtype.type(self.momentum)
            m = self._slots["momentum"][i]
            m *= momentum
            m -= rate * g
            w += m * momentum - rate * g if self.nesterov else m


class RMSprop(Optimizer):
    """Gradients over the root of their running mean square (Tieleman and Hinton 2012)."""

    def __init__(
        self,
        learning_rate: float = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

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

    def _step(self, grads: Sequence[Array], weights: Sequence[Array]) -> None:
        self._decay(weights)
        for i, (w, g) in enumerate(zip(weights, grads, strict=True)):
            scalar = w.dtype.type
            rho, rate = scalar(self.rho), scalar(self.learning_rate)
            v = self._slots["velocity"][i]
            v *= rho
            v += (1 - rho) * g * g
            denominator = v + scalar(self.epsilon)
            if self.centered:
                mean = self._slots["average_gradient"][i]
                mean *= rho
                mean += (1 - rho) * g
                denominator -= mean * mean
            change = rate * g / np.sqrt(denominator)
            if self.momentum:
                m = self._slots["momentum"][i]
                m *= scalar(self.momentum)
                m += change
                change = m
            w -= change


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015), one fused native pass over each array; `amsgrad` as Reddi 2018."""

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        for name, beta in (("beta_1", beta_1), ("beta_2", beta_2)):
            if not 0 <= beta < 1:
                raise ValueError(f"{name}: got {beta}, expected 0 to 1, without 1")
        self.beta_1, self.beta_2, self.epsilon, self.amsgrad = beta_1, beta_2, epsilon, amsgrad

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal optimizer, without its state."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "amsgrad": self.amsgrad,
        }

    def _slot_names(self) -> tuple[str, ...]:
        return ("momentum", "velocity") + (("velocity_hat",) if self.amsgrad else ())

    def _step(self, grads: Sequence[Array], weights: Sequence[Array]) -> None:
        t = self.iterations + 1
        step_size = self._learning_rate * math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        if self.amsgrad:
            self._amsgrad_step(grads, weights, step_size)
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
            decay=self._learning_rate * self.weight_decay if self.weight_decay else 0.0,
        )

    def _amsgrad_step(
        self, grads: Sequence[Array], weights: Sequence[Array], step_size: float
    ) -> None:
        self._decay(weights)
        for i, (w, g) in enumerate(zip(weights, grads, strict=True)):
            scalar = w.dtype.type
            m, v = self._slots["momentum"][i], self._slots["velocity"][i]
            m += (g - m) * scalar(1 - self.beta_1)
            v += (g * g - v) * scalar(1 - self.beta_2)
            v_hat = self._slots["velocity_hat"][i]
            np.maximum(v_hat, v, out=v_hat)
            w -= scalar(step_size) * m / (np.sqrt(v_hat) + scalar(self.epsilon))


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    def __init__(
        self,
        learning_rate: float = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **options
        )


_CLASSES: tuple[type[Optimizer], ...] = (SGD, Adam, AdamW, RMSprop)
_KNOWN = {name: c for c in _CLASSES for name in (c.__name__, c.__name__.lower())}


def get(identifier: Any) -> Optimizer:
    """Return the optimizer for a name, a config or an `Optimizer`."""
    return resolve(identifier, Optimizer, _KNOWN, "optimizer")
