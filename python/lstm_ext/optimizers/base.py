"""What every optimizer is: a learning rate, clipping, weight decay, and state for each weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays import is_on_device, namespace, put
from .._registry import Configurable, check_number, check_unsupported
from . import schedules
from .schedules import LearningRateSchedule

__all__ = ["Optimizer"]

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

    A subclass names the arrays it keeps for each weight in `_slot_names`, and takes a step in
    `_step`.

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule
    weight_decay : float, optional
        Every step first takes ``learning_rate * weight_decay`` of each weight off it.
    clipnorm : float, optional
        The largest Euclidean norm of the gradient of one weight; a longer one is scaled down.
    clipvalue : float, optional
        The largest absolute value of an element of a gradient.
    global_clipnorm : float, optional
        The largest norm of all gradients taken together. At most one of the three may be given.
    name : str, optional

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of a wrong type.
    NotImplementedError
        If an argument of Keras's that is not there yet differs from Keras's default.
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule,
        *,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
        **unsupported: Any,
    ) -> None:
        check_unsupported(type(self).__name__, unsupported, _UNSUPPORTED)
        self.learning_rate = learning_rate
        self.weight_decay = _optional(weight_decay, "weight_decay")
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = [key for key, value in clips.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]}: got {' and '.join(given)}, expected at most one of them")
        self.clipnorm = _optional(clipnorm, "clipnorm", open_low=True)
        self.clipvalue = _optional(clipvalue, "clipvalue", open_low=True)
        self.global_clipnorm = _optional(global_clipnorm, "global_clipnorm", open_low=True)
        self.name = type(self).__name__.lower() if name is None else name
        #: The number of steps taken.
        self.iterations = 0
        self._slots: dict[str, list[Array]] = {}
        self._kinds: list[tuple[tuple[int, ...], np.dtype[Any]]] | None = None
        self._there = False  # whether weights and state are on a device
        self._clipped: list[Array] = []
        self._scratch: list[tuple[Array, ...]] = []

    # Typed as Any since it takes a schedule and gives the number of the moment, as in Keras.
    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next step, a float; may be set, to a schedule too."""
        if self._schedule is None:
            return self._rate
        return float(self._schedule(self.iterations))

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(value, dict):
            value = schedules.get(value)
        if isinstance(value, LearningRateSchedule):
            self._schedule: LearningRateSchedule | None = value
            return
        if callable(value):
            raise TypeError(
                f"learning_rate: got {value!r}, expected a number or a LearningRateSchedule"
            )
        self._rate = check_number(value, "learning_rate", low=0.0)
        self._schedule = None

    # ---- steps ----

    @property
    def built(self) -> bool:
        """Whether the state has been made."""
        return self._kinds is not None

    def build(self, weights: Sequence[Array]) -> None:
        """Make the state for these weights, once.

        Parameters
        ----------
        weights : sequence of contiguous, writable arrays of float32 or float64

        Raises
        ------
        ValueError
            If they are none such, or the optimizer was built for weights of other shapes.
        """
        kinds = [(w.shape, w.dtype) for w in weights]
        if self._kinds is not None:
            if kinds != self._kinds:
                raise ValueError(
                    f"weights: got {_describe(kinds)}, expected those that this optimizer was "
                    f"built for, {_describe(self._kinds)}; another model needs another optimizer"
                )
            return
        for w in weights:
            if w.dtype not in (np.float32, np.float64) or not _is_contiguous(w):
                raise ValueError(
                    f"weights: got an array of {w.dtype} with strides {w.strides}, expected "
                    "contiguous, writable arrays of float32 or float64"
                )
        self._slots = {name: [np.zeros_like(w) for w in weights] for name in self._slot_names()}
        if self.clipnorm or self.clipvalue or self.global_clipnorm:
            self._clipped = [np.empty_like(w) for w in weights]
        self._make_scratch(weights)
        self._there = any(map(is_on_device, weights))
        self._kinds = kinds

    def apply(self, grads: Sequence[Array], weights: Sequence[Array]) -> None:
        """Change `weights` in place by one step.

        Parameters
        ----------
        grads, weights : sequences of arrays
            A gradient for each weight, of its shape and dtype. The gradients are left as they are.

        Raises
        ------
        ValueError
            If they do not fit each other, or not what the optimizer was built for; nothing is
            changed then.
        """
        if self._kinds is None:
            self.build(weights)
        grads = self._check(grads, weights)
        if self._clipped:
            self._clip(grads)
            grads = self._clipped
        self._step(grads, weights, self.learning_rate)
        self.iterations += 1

    def _slot_names(self) -> tuple[str, ...]:
        """Return the names of the arrays that are kept for each weight."""
        raise NotImplementedError

    def _step(self, grads: Sequence[Array], weights: Sequence[Array], rate: float) -> None:
        raise NotImplementedError

    def _check(self, grads: Sequence[Array], weights: Sequence[Array]) -> Sequence[Array]:
        """Return the gradients, contiguous, or raise if they or the weights do not fit."""
        kinds = self._kinds
        assert kinds is not None
        if len(grads) != len(kinds) or len(weights) != len(kinds):
            raise ValueError(
                f"grads: got {len(grads)} for {len(weights)} weights, expected {len(kinds)}"
            )
        there = self._there
        if weights and (type(weights[0]) is not np.ndarray) != there:
            where = ("the CPU", "a device")
            raise ValueError(
                f"weights: got arrays on {where[not there]}, expected {where[there]}, where the "
                "state of the optimizer is; to_device moves that"
            )
        alike = (
            [(g.shape, g.dtype) for g in grads] == kinds == [(w.shape, w.dtype) for w in weights]
        )
        if not alike:
            for g, w, (shape, dtype) in zip(grads, weights, kinds, strict=True):
                if (g.shape, g.dtype) != (shape, dtype) or (w.shape, w.dtype) != (shape, dtype):
                    raise ValueError(
                        f"grads: got {g.dtype} {g.shape} for a weight of {w.dtype} {w.shape}, "
                        f"expected {dtype} {shape}"
                    )
        if there:
            return [namespace(g).ascontiguousarray(g) for g in grads]
        if all([g.flags.carray for g in grads]):
            return grads
        return [np.require(g, requirements=["C", "A"]) for g in grads]

    def _clip(self, grads: Sequence[Array]) -> None:
        """Write the clipped gradients to `_clipped`."""
        if self.clipvalue:
            for g, out in zip(grads, self._clipped, strict=True):
                np.clip(g, -self.clipvalue, self.clipvalue, out=out)
            return
        if self._there:
            self._clip_norms_on_device(grads)
            return
        squares = [float(np.vdot(g, g)) for g in grads]
        if self.clipnorm:
            factors = [_shrink(math.sqrt(s), self.clipnorm) for s in squares]
        else:
            assert self.global_clipnorm
            norm = math.sqrt(sum(squares))
            # norm - norm is 0, or NaN if the norm is not finite: then no gradient means anything.
            factors = [_shrink(norm, self.global_clipnorm) + (norm - norm)] * len(grads)
        with np.errstate(invalid="ignore"):
            for g, factor, out in zip(grads, factors, self._clipped, strict=True):
                np.multiply(g, factor, out=out)

    def _clip_norms_on_device(self, grads: Sequence[Array]) -> None:
        """Do the same with norms that stay on the device, where nothing waits for them."""
        squares: list[Any] = [np.square(g).sum(dtype=np.float64) for g in grads]
        if self.global_clipnorm:
            squares = [sum(squares[1:], squares[0])] * len(grads)
        limit = self.clipnorm or self.global_clipnorm
        for g, square, out in zip(grads, squares, self._clipped, strict=True):
            norm = np.sqrt(square)
            factor = np.where(norm <= limit, 1, limit / norm)
            if self.global_clipnorm:
                factor = factor + (norm - norm)
            np.multiply(g, factor.astype(g.dtype), out=out)

    # ---- devices ----

    def to_device(self, device: str) -> None:
        """Move the state to "cpu" or "cuda", its bits unchanged; a model does so with its own."""
        if self._kinds is None or (device != "cpu") == self._there:
            return
        self._there = device != "cpu"
        for slot in self._slots.values():
            slot[:] = [put(array, device) for array in slot]
        self._clipped = [put(array, device) for array in self._clipped]
        self._scratch = [tuple(put(part, device) for part in pair) for pair in self._scratch]

    # ---- scratch ----

    def _make_scratch(self, weights: Sequence[Array]) -> None:
        """Make two scratch arrays for each weight; they share memory across the weights."""
        largest = max((w.size for w in weights), default=0)
        memory = {w.dtype: namespace(w).empty((2, largest), w.dtype) for w in weights}
        self._scratch = [
            tuple(row[: w.size].reshape(w.shape) for row in memory[w.dtype]) for w in weights
        ]

    def _decay(self, weights: Sequence[Array], rate: float) -> None:
        if self.weight_decay:
            for w, (scratch, _) in zip(weights, self._scratch, strict=True):
                np.multiply(w, rate * self.weight_decay, out=scratch)
                w -= scratch

    # ---- state and configuration ----

    def state(self) -> dict[str, Array]:
        """Return the state as named arrays, not copies: what `set_state` takes."""
        return {f"{name}/{i}": a for name, slot in self._slots.items() for i, a in enumerate(slot)}

    def set_state(self, state: Mapping[str, Array], iterations: int) -> None:
        """Take over a state, after `build`.

        Parameters
        ----------
        state : mapping of str to array
            As `state` returned it.
        iterations : int
            The number of steps that led to it.

        Raises
        ------
        ValueError
            If names, shapes or types do not fit, or `iterations` is negative; nothing is changed
            then.
        """
        own = self.state()
        kinds = {name: (a.shape, a.dtype) for name, a in own.items()}
        given = {name: (a.shape, a.dtype) for name, a in state.items()}
        if kinds != given:
            raise ValueError(f"state: got {_describe(given)}, expected {_describe(kinds)}")
        if iterations != int(iterations) or iterations < 0:
            raise ValueError(f"iterations: got {iterations}, expected an integer, not negative")
        for name, array in own.items():
            array[...] = put(state[name], "cuda" if self._there else "cpu")
        self.iterations = int(iterations)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal optimizer, without its state."""
        rate = self._rate if self._schedule is None else schedules.serialize(self._schedule)
        return {
            "learning_rate": rate,
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "clipvalue": self.clipvalue,
            "global_clipnorm": self.global_clipnorm,
            "name": self.name,
        }

    def __repr__(self) -> str:
        return f"<optimizer {self.name}, {self.iterations} steps taken>"


def _is_contiguous(array: Array) -> bool:
    flags: Any = array.flags  # NumPy's; CuPy's arrays are always aligned and writable
    return bool(flags.c_contiguous if is_on_device(array) else flags.carray)


def _optional(value: float | None, name: str, *, open_low: bool = False) -> float | None:
    return None if value is None else check_number(value, name, low=0.0, open_low=open_low)


def _shrink(norm: float, limit: float) -> float:
    """Return the factor that brings a gradient of that norm within the limit; NaN stays NaN."""
    return 1.0 if norm <= limit else limit / norm


def _describe(kinds: Any) -> str:
    named = kinds.items() if isinstance(kinds, dict) else enumerate(kinds)
    return ", ".join(f"{key}: {dtype} {shape}" for key, (shape, dtype) in named) or "nothing"
