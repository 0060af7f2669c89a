"""The state that a stateful LSTM layer keeps between calls, and the ones that a call is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays import as_numbers

__all__ = ["State", "Stateful", "describe"]

Array = NDArray[Any]
State = tuple[Array, Array]


class Stateful:
    """The part of an LSTM layer that knows its states: a pair (h, c) for each of `num_layers`."""

    name: str
    num_layers: int
    stateful: bool
    _dtype: np.dtype[Any]
    _device: str
    _state: list[State] | None = None

    @property
    def state(self) -> State | list[State] | None:
        """The kept (h, c) of a stateful layer, or None before its first call.

        Of several layers, a list of such pairs.
        """
        if self._state is None:
            return None
        copies = _copies(self._state)
        return copies[0] if self.num_layers == 1 else copies

    def reset_state(self) -> None:
        """Forget the kept state: the next call starts from zeros."""
        self._state = None

    reset_states = reset_state

    def _states(self, x: Array, given: Sequence[Any] | None) -> list[State] | None:
        """Return the states that a call starts with, None for zeros."""
        return self._kept_states(x) if given is None else self._as_states(given)

    def _kept_states(self, x: Array) -> list[State] | None:
        """Return the states that the last call ended with, or raise if x is another batch."""
        states = self._state
        if states is not None and x.ndim == 3 and len(x) != len(states[0][0]):
            raise ValueError(
                f"x: got {len(x)} sequences, expected {len(states[0][0])}, of which the stateful "
                f"layer {self.name} keeps the state; reset_state() forgets it"
            )
        return states

    def _keep(self, states: Sequence[State]) -> None:
        if self.stateful:
            self._state = _copies(states)

    def _as_states(self, given: Sequence[Any]) -> list[State]:
        if self.num_layers == 1:
            return [_as_state(given, "initial_state", self._dtype, self._device)]
        if not isinstance(given, (tuple, list)) or len(given) != self.num_layers:
            raise ValueError(
                f"initial_state: got {describe(given)}, expected a list of {self.num_layers} "
                "pairs (h, c)"
            )
        return [
            _as_state(pair, f"initial_state[{index}]", self._dtype, self._device)
            for index, pair in enumerate(given)
        ]


def _as_state(given: Any, name: str, dtype: np.dtype[Any], device: str) -> State:
    """Return a pair (h, c) of arrays of the dtype, or raise a ValueError that names it."""
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise ValueError(f"{name}: got {describe(given)}, expected a pair (h, c)")
    h, c = (as_numbers(given[i], f"{name}[{i}]", dtype, device) for i in (0, 1))
    return h, c


def _copies(states: Sequence[State]) -> list[State]:
    return [(h.copy(), c.copy()) for h, c in states]


def describe(given: Any) -> str:
    """Return what an error message calls something that is no sequence of states."""
    if isinstance(given, (tuple, list)):
        return f"{len(given)} values"
    return f"an array of shape {given.shape}" if isinstance(given, np.ndarray) else repr(given)
