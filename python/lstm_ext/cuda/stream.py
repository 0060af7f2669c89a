"""One step at a time on a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays import as_numbers, put, to_host
from ..variants import Cell
from .operator import lstm

__all__ = ["DeviceStream"]

Array = Any  # of CuPy
State = tuple[Array, Array]


class DeviceStream:
    """An LSTM on a device that takes one step of each sequence of a batch at a time.

    A step is a call of `lstm` for one step: its results are those of a call over the whole
    sequences but for rounding in the input's product. Nothing waits for the device. It can be
    copied and pickled.

    Parameters
    ----------
    weights : sequence of CuPy arrays
        kernel (I, 4H), recurrent_kernel (P, 4H) and perhaps bias (4H), all float32 or all float64;
        they are copied.
    batch_size : int
        How many sequences, B.
    cell, peephole, projection_kernel
        As of `lstm`; arrays are copied. P is H, unless there is a projection.
    """

    weights_dtype = None

    def __init__(
        self,
        weights: Sequence[Array],
        batch_size: int = 1,
        *,
        cell: Cell | None = None,
        **named: Array,
    ) -> None:
        self._weights = tuple(w.copy() for w in weights)
        self._named = {name: array.copy() for name, array in named.items()}
        self.batch_size, self._cell = batch_size, cell
        (outputs, columns), dtype = self._weights[1].shape, self._weights[0].dtype
        self._h, self._c = (
            put(np.zeros((batch_size, int(size)), dtype.name), "cuda")
            for size in (outputs, columns // 4)
        )

    def step(self, x: Array, out: Array | None = None) -> Array:
        """Advance by one step.

        Parameters
        ----------
        x : (B, I) CuPy array of the dtype of the weights
        out : (B, P) array, optional
            Takes the output.

        Returns
        -------
        (B, P) array

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; the state is as before then.
        """
        shape = (self.batch_size, int(self._weights[0].shape[0]))
        if tuple(getattr(x, "shape", ())) != shape:
            raise ValueError(f"x: got {_described(x)}, expected an array of shape {shape}")
        h = self._h
        if out is not None and (tuple(out.shape) != h.shape or out.dtype != h.dtype):
            raise ValueError(f"out: got {_described(out)}, expected {h.dtype} of shape {h.shape}")
        output, self._h, self._c = lstm(
            x[:, None], *self._weights, initial_state=(h, self._c), cell=self._cell, **self._named
        )
        if out is None:
            return output[:, 0]
        out[...] = output[:, 0]
        return out

    @property
    def state(self) -> State:
        """H, (B, P), and c, (B, H): copies. Setting them takes such a pair of CuPy arrays."""
        return self._h.copy(), self._c.copy()

    @state.setter
    def state(self, value: State) -> None:
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise ValueError(f"state: got {value!r}, expected a pair (h, c)")
        parts = []
        for name, given, own in zip(("h", "c"), value, (self._h, self._c), strict=True):
            array = as_numbers(given, f"state, {name}", own.dtype, "cuda")
            if array.shape != own.shape:
                raise ValueError(
                    f"state: got {_described(array)} for {name}, expected shape {own.shape}"
                )
            parts.append(array.copy())
        self._h, self._c = parts

    def reset(self, rows: Sequence[int] | NDArray[Any] | None = None) -> None:
        """Start some rows of the batch, or all, anew from a zero state; as `Stream.reset`."""
        from ..streaming import row_numbers

        every: Any = slice(None)
        if rows is not None:
            every = put(row_numbers(rows, self.batch_size), "cuda")
        self._h[every] = 0
        self._c[every] = 0

    def __copy__(self) -> DeviceStream:
        return self._with_state(self.state)

    def __deepcopy__(self, memo: dict[int, Any]) -> DeviceStream:
        return self._with_state(self.state)

    def _with_state(self, state: State) -> DeviceStream:
        stream = DeviceStream(self._weights, self.batch_size, cell=self._cell, **self._named)
        stream._h, stream._c = state
        return stream

    def __reduce__(self) -> tuple[Any, ...]:
        weights = [to_host(w) for w in self._weights]
        named = {name: to_host(array) for name, array in self._named.items()}
        state = tuple(map(to_host, self.state))
        return _restore, (weights, named, self.batch_size, self._cell, state)


def _restore(
    weights: Sequence[NDArray[Any]],
    named: dict[str, NDArray[Any]],
    batch_size: int,
    cell: Cell | None,
    state: State,
) -> DeviceStream:
    there = {name: put(array, "cuda") for name, array in named.items()}
    stream = DeviceStream([put(w, "cuda") for w in weights], batch_size, cell=cell, **there)
    stream.state = (put(state[0], "cuda"), put(state[1], "cuda"))
    return stream


def _described(value: Any) -> str:
    if not hasattr(value, "shape"):
        return type(value).__name__
    return f"an array of {value.dtype} of shape {tuple(value.shape)}"
