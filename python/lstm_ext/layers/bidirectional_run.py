"""A call of two LSTMs that read the same sequences in either direction, through the operator.

Weights, calls, states and gradients are pairs: first those of the direction that reads forwards.
The output has both side by side, in the order of time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from .. import _cpu, functional
from .lstm_run import Call, pull_back_plainly
from .lstm_state import State
from .lstm_weights import gradients_in_order

__all__ = ["run_both", "run_both_plainly", "run_both_vjp", "run_both_vjp_plainly"]

Array = NDArray[Any]
Pair = tuple[functional.PackedWeights, functional.PackedWeights]
Results = tuple[Array, list[State]]
# (d_output, need_x) -> (d_x or None, the gradients of the weights of each); for one call
Backward = Callable[[Array, bool], tuple[Array | None, Sequence[list[Array]]]]


def run_both_plainly(weights: Pair, calls: tuple[Call, Call]) -> Results | None:
    """Run both without noise by one native call; None where something does not fit it."""
    call = calls[0]
    return _cpu.lstm_plain_directions(
        weights, call.x, _states(calls), call.return_sequences, call.lengths, call.mask,
        call.reset, call.zero_output_for_mask,
    )  # fmt: skip


def run_both(weights: Pair, calls: tuple[Call, Call]) -> Results:
    """Run both with all options, which are checked."""
    output, *states = functional.bidirectional(calls[0].x, *weights, **_options(calls))
    return output, states


def run_both_vjp_plainly(
    weights: Pair, calls: tuple[Call, Call]
) -> tuple[Array, list[State], Backward] | None:
    """Run both as `run_both_plainly`, and return what carries the output's gradient back too."""
    call = calls[0]
    results = _cpu.lstm_vjp_plain_directions(
        *weights, call.x, [state or (None, None) for state in _states(calls)],
        call.return_sequences, call.lengths, call.mask, call.reset, call.zero_output_for_mask,
    )  # fmt: skip
    if results is None:
        return None
    output, states, plain = results

    def backward(dy: Array, need_x: bool) -> tuple[Array | None, Sequence[list[Array]]]:
        return pull_back_plainly(plain, dy, need_x, output, call.x, weights[0])

    return output, states, backward


def run_both_vjp(weights: Pair, calls: tuple[Call, Call]) -> tuple[Array, list[State], Backward]:
    """Run both as `run_both`, and return what carries the output's gradient back too."""
    (output, *states), pull_back = functional.bidirectional_vjp(
        calls[0].x, *weights, **_options(calls)
    )

    def backward(dy: Array, need_x: bool) -> tuple[Array | None, Sequence[list[Array]]]:
        grads = pull_back(dy, need_x=need_x, need_state=False, consume=True)
        return grads[0].x if need_x else None, [gradients_in_order(own) for own in grads]

    return output, states, backward


def _states(calls: tuple[Call, Call]) -> tuple[State | None, State | None]:
    first, second = (call.states and call.states[0] for call in calls)
    return first or None, second or None


def _options(calls: tuple[Call, Call]) -> dict[str, Any]:
    call = calls[0]
    noise = tuple(own.noise[0] if own.noise else None for own in calls)
    return {
        "initial_state": _states(calls),
        "mask": call.mask,
        "lengths": call.lengths,
        "reset": call.reset,
        "return_sequences": call.return_sequences,
        "zero_output_for_mask": call.zero_output_for_mask,
        "noise": noise,
    }
