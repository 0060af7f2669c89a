"""Several LSTMs in one call: two directions side by side, layers on top of each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _cpu
from .._arguments import (
    as_gradient,
    as_input,
    as_list,
    as_state,
    as_thread_limit,
    check_differentiable,
    check_flags,
    check_pair,
    new_sequence,
    too_large,
)
from .._cpu import BackwardArrays, ForwardArrays, PackedWeights
from ..variants import Noise
from ._backward import Downstream, Kept, Upstream, check_not_consumed
from ._steps import Extras, Gradients, as_extras, call_options, last_output

__all__ = ["bidirectional", "bidirectional_vjp", "stack"]

Array = NDArray[Any]
State = tuple[Array, Array]
_Noises = tuple[Noise | None, Noise | None]
_Pair = tuple[ArrayLike | None, ArrayLike | None]

_NO_NOISE: _Noises = (None, None)


def bidirectional(
    x: ArrayLike,
    forward: PackedWeights,
    backward: PackedWeights,
    *,
    initial_state: tuple[Any, Any] | None = None,
    time_major: bool = False,
    return_sequences: bool = True,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reset: ArrayLike | None = None,
    zero_output_for_mask: bool = False,
    noise: _Noises = _NO_NOISE,
    num_threads: int | None = None,
) -> tuple[Array, State, State]:
    """Run two LSTMs over the same sequences, one of them from their end, side by side on threads.

    Parameters
    ----------
    x : (B, T, I) array
    forward, backward : PackedWeights
        Of one dtype and one way to store weights.
    initial_state : pair of pairs (h, c), optional
        Of each direction; either may be None.
    noise : pair of Noise or None
        Of each direction.
    time_major, return_sequences, lengths, mask, reset, zero_output_for_mask, num_threads
        As in `lstm`. A reset in time is, for the backward direction, a reset before it reads that
        time.

    Returns
    -------
    output : (B, T, P + P') array
        The outputs of both, each in the order of time; without `return_sequences`, the last output
        of each: (B, P + P').
    (h, c), (h, c)
        The state of each after its last step.

    Raises
    ------
    TypeError, ValueError
        As `lstm`.
    """
    check_flags(False, time_major, return_sequences)
    _check_pair(forward, backward)
    x = as_input(x, forward, time_major)
    both = _both_sides(
        x, (forward, backward), initial_state, (lengths, mask, reset, zero_output_for_mask), noise
    )
    threads = as_thread_limit(num_threads)
    batch, steps, _ = x.shape
    dtype, sizes = x.dtype, (forward.output_size, backward.output_size)
    states: list[State] = []
    calls = []
    try:
        output = (
            new_sequence(batch, steps, sum(sizes), dtype, time_major) if return_sequences else None
        )
        halves = (None, None) if output is None else _halves(output, sizes[0])
        for index, (weights, side) in enumerate(zip((forward, backward), both, strict=True)):
            h = np.empty((batch, weights.output_size), dtype)
            c = np.empty((batch, weights.units), dtype)
            states.append((h, c))
            arrays = ForwardArrays(
                side.x, side.h0, side.c0, index == 1, halves[index], h, c, None, None,
                call_options(side.extras),
            )  # fmt: skip
            calls.append((weights, arrays))
        _cpu.lstm_forward_all(calls, False, threads)
    except (MemoryError, ValueError) as error:
        raise too_large(x, forward) from error
    if output is None:
        lasts = [last_output(h, steps, both[i].extras, i == 1) for i, (h, _) in enumerate(states)]
        output = np.concatenate(lasts, axis=1)
    elif time_major:
        output = output.swapaxes(0, 1)
    return output, states[0], states[1]


def bidirectional_vjp(
    x: ArrayLike,
    forward: PackedWeights,
    backward: PackedWeights,
    *,
    initial_state: tuple[Any, Any] | None = None,
    time_major: bool = False,
    return_sequences: bool = True,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reset: ArrayLike | None = None,
    zero_output_for_mask: bool = False,
    noise: _Noises = _NO_NOISE,
    num_threads: int | None = None,
) -> tuple[tuple[Array, State, State], BidirectionalBackward]:
    """Run two LSTMs as `bidirectional` and return its results with what carries gradients back.

    Returns
    -------
    (output, (h, c), (h, c))
        As of `bidirectional`, with the same bits.
    back : callable
        ``back(d_output=None, d_forward=(None, None), d_backward=(None, None))`` returns the
        `Gradients` of both. Those of x are summed in the first; the second's are empty. Options as
        of `lstm_vjp`.
    """
    check_flags(False, time_major, return_sequences)
    _check_pair(forward, backward)
    check_differentiable(forward, "forward")
    x = as_input(x, forward, time_major)
    both = _both_sides(
        x, (forward, backward), initial_state, (lengths, mask, reset, zero_output_for_mask), noise
    )
    threads = as_thread_limit(num_threads)
    batch, steps, _ = x.shape
    try:
        output = new_sequence(
            batch, steps, forward.output_size + backward.output_size, x.dtype, time_major
        )
        halves = _halves(output, forward.output_size)
        kept = (
            Kept(x, both[0].h0, both[0].c0, both[0].extras, forward, False, halves[0]),
            Kept(x, both[1].h0, both[1].c0, both[1].extras, backward, True, halves[1]),
        )
        calls = [(k.weights, ForwardArrays(*k.forward_arguments())) for k in kept]
        _cpu.lstm_forward_all(calls, False, threads)
    except (MemoryError, ValueError) as error:
        raise too_large(x, forward) from error
    back = BidirectionalBackward(kept, return_sequences, time_major, threads)
    states = [(k.h, k.c) for k in kept]
    if not return_sequences:
        output = np.concatenate(
            [last_output(k.h, steps, k.extras, k.go_backwards) for k in kept], axis=1
        )
    elif time_major:
        output = output.swapaxes(0, 1)
    return (output, states[0], states[1]), back


class BidirectionalBackward:
    """The function that `bidirectional_vjp` returns: it carries gradients back."""

    def __init__(
        self, kept: tuple[Kept, Kept], return_sequences: bool, time_major: bool, threads: int
    ) -> None:
        self._kept, self._threads = kept, threads
        self._return_sequences, self._time_major = return_sequences, time_major

    def __call__(
        self,
        d_output: ArrayLike | None = None,
        d_forward: _Pair = (None, None),
        d_backward: _Pair = (None, None),
        *,
        need_x: bool = True,
        need_state: bool = True,
        consume: bool = False,
    ) -> tuple[Gradients, Gradients]:
        """Return the gradients of the arguments of both from those of the results."""
        first, second = self._kept
        check_not_consumed(first)
        upstream = self._upstream(d_output, d_forward, d_backward)
        try:
            # Both add to one gradient of x, unless each is multiplied by factors of its own.
            apart = any(k.extras is not None and k.extras.x_factors is not None for k in self._kept)
            rooms = (
                Downstream(first, need_x, need_state),
                Downstream(second, need_x and apart, need_state),
            )
            if not apart:
                rooms[1].x = rooms[0].x
            calls = [
                (room.kept.weights, BackwardArrays(*room.backward_arguments(up, consume, adds)))
                for room, up, adds in zip(rooms, upstream, (False, not apart), strict=True)
            ]
            _cpu.lstm_backward_all(calls, self._threads)
        except MemoryError as error:
            raise too_large(first.x, first.weights) from error
        if consume:
            first.gates = second.gates = None
        if not apart:
            rooms[1].x = None
        grads = [room.gradients(self._time_major) for room in rooms]
        if need_x and apart:
            grads[0] = grads[0]._replace(x=grads[0].x + grads[1].x)
            grads[1] = grads[1]._replace(x=np.empty(0, grads[0].x.dtype))
        return grads[0], grads[1]

    def _upstream(
        self, d_output: ArrayLike | None, d_forward: _Pair, d_backward: _Pair
    ) -> list[Upstream]:
        """Return the gradients of each direction's results, in the order of its steps."""
        upstream = []
        for kept, pair, name in zip(
            self._kept, (d_forward, d_backward), ("d_forward", "d_backward"), strict=True
        ):
            check_pair(pair, name, "(d_h, d_c)")
            upstream.append(Upstream(kept, None, *pair, True, False, f"{name} "))
        if d_output is None:
            return upstream
        batch, steps, size = self._kept[0].output.shape
        total = size + self._kept[1].output.shape[2]
        if not self._return_sequences:
            given = as_gradient(d_output, "d_output", (batch, total), self._kept[0].h.dtype)
            upstream[0].add_last(np.ascontiguousarray(given[:, :size]), self._kept[0])
            upstream[1].add_last(np.ascontiguousarray(given[:, size:]), self._kept[1])
            return upstream
        shape = (steps, batch, total) if self._time_major else (batch, steps, total)
        given = as_gradient(d_output, "d_output", shape, self._kept[0].h.dtype)
        given = given.swapaxes(0, 1) if self._time_major else given
        upstream[0].output, upstream[1].output = _halves(given, size)
        return upstream


def stack(
    x: ArrayLike,
    layers: Sequence[PackedWeights],
    *,
    initial_state: Sequence[Any] | None = None,
    time_major: bool = False,
    return_sequences: bool = True,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reset: ArrayLike | None = None,
    zero_output_for_mask: bool = False,
    num_threads: int | None = None,
) -> tuple[Array, list[State]]:
    """Run LSTMs on top of each other: each one's output is the next one's x.

    With few sequences the layers keep step on threads of their own, a part of the sequence apart.

    Parameters
    ----------
    x : (B, T, I) array
    layers : sequence of PackedWeights
        Of one dtype and one way to store weights, each made for inputs of the size before it.
    initial_state : sequence of pairs (h, c), optional
        Of each layer.
    time_major, return_sequences, lengths, mask, reset, zero_output_for_mask, num_threads
        As in `lstm`; masks and resets are those of all layers.

    Returns
    -------
    output : (B, T, P) array, or (B, P) without `return_sequences`
        Of the last layer.
    states : list of pairs (h, c)
        Of each layer.

    Raises
    ------
    TypeError, ValueError
        As `lstm`.
    """
    check_flags(False, time_major, return_sequences)
    layers = _as_layers(layers)
    given = as_list(
        [None] * len(layers) if initial_state is None else initial_state, "initial_state"
    )
    if len(given) != len(layers):
        raise ValueError(f"initial_state: got {len(given)} pairs, expected {len(layers)}")
    x = as_input(x, layers[0], time_major)
    extras = as_extras(x, layers[0], lengths, mask, reset, zero_output_for_mask, None)
    states = [
        as_state(given[i], f"initial_state[{i}]", x, weights) for i, weights in enumerate(layers)
    ]
    threads = as_thread_limit(num_threads)
    batch, time, _ = x.shape
    inputs: Array = x
    results: list[State] = []
    calls = []
    try:
        for index, weights in enumerate(layers):
            size, is_last = weights.output_size, index + 1 == len(layers)
            output = None
            if return_sequences or not is_last:
                output = new_sequence(batch, time, size, x.dtype, time_major and is_last)
            results.append(
                (np.empty((batch, size), x.dtype), np.empty((batch, weights.units), x.dtype))
            )
            arrays = ForwardArrays(
                inputs, *states[index], False, output, *results[-1], None, None,
                call_options(extras),
            )  # fmt: skip
            calls.append((weights, arrays))
            inputs = x if output is None else output
        _cpu.lstm_forward_all(calls, True, threads)
    except (MemoryError, ValueError) as error:
        raise too_large(x, layers[0]) from error
    if output is None:
        output = last_output(results[-1][0], time, extras, False)
    elif time_major:
        output = output.swapaxes(0, 1)
    return output, results


def _as_layers(layers: Sequence[PackedWeights]) -> list[PackedWeights]:
    layers = as_list(layers, "layers")
    if not layers:
        raise ValueError("layers: got none, expected at least one")
    for index, layer in enumerate(layers):
        name = f"layers[{index}]"
        _check_packed(layer, name, layers[0])
        if index and layer.input_size != layers[index - 1].output_size:
            raise ValueError(
                f"{name}: got weights for inputs of {layer.input_size}, expected "
                f"{layers[index - 1].output_size}, the size of the outputs before"
            )
    return layers


def _check_pair(forward: PackedWeights, backward: PackedWeights) -> None:
    _check_packed(forward, "forward", forward)
    _check_packed(backward, "backward", forward)
    if backward.input_size != forward.input_size:
        raise ValueError(
            f"backward: got weights for inputs of {backward.input_size}, expected "
            f"{forward.input_size} as forward's"
        )


def _check_packed(weights: Any, name: str, like: PackedWeights) -> None:
    if not isinstance(weights, PackedWeights):
        raise TypeError(f"{name}: got {type(weights).__name__}, expected a PackedWeights")
    if weights.weights_dtype != like.weights_dtype:
        raise ValueError(
            f"{name}: got weights packed as {weights.weights_dtype}, expected "
            f"{like.weights_dtype} like the others"
        )


class _Side(NamedTuple):
    """What one direction reads."""

    x: Array
    h0: Array | None
    c0: Array | None
    extras: Extras | None


def _both_sides(
    x: Array,
    weights: tuple[PackedWeights, PackedWeights],
    initial_state: tuple[Any, Any] | None,
    slots: tuple[ArrayLike | None, ArrayLike | None, ArrayLike | None, bool],
    noise: _Noises,
) -> tuple[_Side, _Side]:
    states = (None, None) if initial_state is None else initial_state
    check_pair(states, "initial_state", "of pairs, ((h, c), (h, c))")
    check_pair(noise, "noise", "of Noise or None, one for each direction")

    def side(index: int) -> _Side:
        state = as_state(states[index], f"initial_state[{index}]", x, weights[index])
        extras = as_extras(x, weights[index], *slots, noise[index])
        return _Side(x if extras is None else extras.multiplied(x), *state, extras)

    return side(0), side(1)


def _halves(output: Array, size: int) -> tuple[Array, Array]:
    """Return the parts of (B, T, P + P') of both directions, in the order of their steps."""
    return output[..., :size], output[:, ::-1, size:]
