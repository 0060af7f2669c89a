"""One step at a time: layers and models that keep their state between steps of a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _cpu, functional
from .cuda.stream import DeviceStream
from .variants import Cell, LayerNorm

__all__ = ["ModelStream", "Stream", "row_numbers"]

Array = NDArray[Any]
State = tuple[Array, Array]


class Stream:
    """An LSTM that takes one step of each sequence of a batch at a time.

    It gives the bits that a call over the whole sequences gives. The weights are those at the time
    it was made. One stream is not for use by several threads at once; any number of streams are.
    It can be copied and pickled.

    Parameters
    ----------
    weights : sequence of arrays
        kernel (I, 4H), recurrent_kernel (P, 4H) and perhaps bias (4H), all float32 or all float64.
        P is H, unless there is a projection.
    batch_size : int
        How many sequences, B.
    peephole, projection_kernel, layer_norm, cell, weights_dtype
        As in `functional.pack`.

    Attributes
    ----------
    step : callable
        ``step(x, out=None) -> output``: x (B, I) and output (B, P), of the dtype of the weights.
        Given `out`, a contiguous array, nothing is allocated. A TypeError or ValueError names what
        does not fit; the state is as before then.
    """

    __slots__ = ("_native", "_options", "_weights", "batch_size", "step")

    step: Callable[..., Array]

    def __init__(
        self,
        weights: Sequence[Array],
        batch_size: int = 1,
        *,
        peephole: Array | None = None,
        projection_kernel: Array | None = None,
        layer_norm: LayerNorm | None = None,
        cell: Cell | None = None,
        weights_dtype: str | None = None,
    ) -> None:
        self._weights = tuple(np.array(w) for w in weights)
        self._options: dict[str, Any] = {
            "peephole": None if peephole is None else np.array(peephole),
            "projection_kernel": None if projection_kernel is None else np.array(projection_kernel),
            "layer_norm": None if layer_norm is None else LayerNorm(*map(np.array, layer_norm)),
            "cell": cell,
            "weights_dtype": weights_dtype,
        }
        self.batch_size = batch_size
        packed = functional.pack(*self._weights, **self._options)
        self._native = _cpu.Stream(packed, batch_size)
        # The native method itself: a Python function between would cost as much as a small step.
        self.step = self._native.step

    @property
    def weights_dtype(self) -> str | None:
        """How the weights are stored, None for their own dtype."""
        dtype: str | None = self._options["weights_dtype"]
        return dtype

    @property
    def state(self) -> State:
        """H and c, (B, P) and (B, H): copies. Setting them takes such a pair."""
        return self._native.state()

    @state.setter
    def state(self, value: tuple[ArrayLike, ArrayLike]) -> None:
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise ValueError(f"state: got {value!r}, expected a pair (h, c)")
        outputs, columns = self._weights[1].shape
        parts = []
        for name, given, size in zip(("h", "c"), value, (outputs, columns // 4), strict=True):
            shape = (self.batch_size, size)
            array = np.asarray(given)
            if array.dtype.kind not in "fiu" or array.shape != shape:
                got = f"an array of {array.dtype} of shape {array.shape}"
                raise ValueError(f"state: got {got} for {name}, expected numbers of shape {shape}")
            parts.append(np.ascontiguousarray(array, self._weights[0].dtype))
        self._native.set_state(*parts)

    def reset(self, rows: Sequence[int] | Array | None = None) -> None:
        """Start some rows of the batch, or all, anew from a zero state.

        Parameters
        ----------
        rows : sequence of int, or array of B bools, optional
            The numbers of the rows, or which of them. All by default.
        """
        self._native.reset(None if rows is None else row_numbers(rows, self.batch_size))

    def __copy__(self) -> Stream:
        return self._with_state(self.state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Stream:
        return self._with_state(self.state)

    def _with_state(self, state: State) -> Stream:
        stream = Stream(self._weights, self.batch_size, **self._options)
        stream._native.set_state(*state)
        return stream

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._weights, self.batch_size, self._options, self.state)


def _restore(
    weights: Sequence[Array], batch_size: int, options: dict[str, Any], state: State
) -> Stream:
    stream = Stream(weights, batch_size, **options)
    stream.state = state
    return stream


def row_numbers(rows: Sequence[int] | Array, batch_size: int) -> NDArray[np.int64]:
    """Return the numbers of rows that are given so, or as B bools.

    Raises
    ------
    TypeError, ValueError
        If they are neither, or no rows of the batch.
    """
    numbers = np.atleast_1d(np.asarray(rows))
    if numbers.dtype == np.bool_:
        if numbers.shape != (batch_size,):
            raise ValueError(f"rows: got {numbers.shape} bools, expected ({batch_size},)")
        return np.flatnonzero(numbers)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise TypeError(f"rows: got {rows!r}, expected row numbers or bools")
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < batch_size):
        raise ValueError(f"rows: got {rows!r}, expected numbers from 0 to {batch_size - 1}")
    return np.ascontiguousarray(numbers, np.int64)


AnyStream = Stream | DeviceStream


class ModelStream:
    """A whole model that takes one step of each sequence of a batch at a time.

    Each LSTM keeps its state in a `Stream`; the other layers, which know no time, are applied to
    each step. The output of a step is that of the model for the sequence up to it.

    Parameters
    ----------
    stages : sequence
        `Stream` objects or those of a device, and functions of a (B, features) array.
    batch_size : int
    """

    def __init__(
        self, stages: Sequence[AnyStream | Callable[[Array], Array]], batch_size: int
    ) -> None:
        self._stages = list(stages)
        self.batch_size = batch_size

    @property
    def streams(self) -> list[AnyStream]:
        """The streams of the LSTM layers, in order."""
        return [stage for stage in self._stages if isinstance(stage, (Stream, DeviceStream))]

    def step(self, x: Array, out: Array | None = None) -> Array:
        """Advance by one step.

        Parameters
        ----------
        x : (B, I) array of the model's dtype
        out : (B, features) array, optional
            Takes the output.

        Returns
        -------
        (B, features) array
        """
        for stage in self._stages:
            x = stage.step(x) if isinstance(stage, (Stream, DeviceStream)) else stage(x)
        if out is None:
            return x
        if out.shape != x.shape or out.dtype != x.dtype:
            raise ValueError(
                f"out: got an array of {out.dtype} of shape {out.shape}, expected {x.dtype} and "
                f"{x.shape}"
            )
        out[...] = x
        return out

    @property
    def state(self) -> list[State]:
        """A pair (h, c) for each LSTM, in order. Setting it takes such a list."""
        return [stream.state for stream in self.streams]

    @state.setter
    def state(self, value: Sequence[State]) -> None:
        if len(value) != len(self.streams):
            raise ValueError(f"state: got {len(value)} pairs, expected {len(self.streams)}")
        before = self.state
        try:
            for stream, pair in zip(self.streams, value, strict=True):
                stream.state = pair
        except (TypeError, ValueError):
            for stream, pair in zip(self.streams, before, strict=True):
                stream.state = pair
            raise

    def reset(self, rows: Sequence[int] | Array | None = None) -> None:
        """Start some rows of the batch, or all, anew from a zero state; as `Stream.reset`."""
        for stream in self.streams:
            stream.reset(rows)
