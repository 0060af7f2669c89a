"""A call of an LSTM layer: one LSTM, or several on top of each other, through the operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _cpu, functional, random
from .._arguments import as_gradient, too_large
from .._arrays import as_device_numbers, as_mask, is_on_device, namespace
from ..variants import Cell, Gates, Noise
from .lstm_noise import Rates, Sizes, draw_noise
from .lstm_weights import gradients_in_order

__all__ = [
    "Call",
    "Called",
    "Results",
    "check_call",
    "for_layer",
    "pull_back_plainly",
    "run",
    "run_alone",
    "run_alone_vjp",
    "run_vjp",
]

Array = NDArray[Any]
State = tuple[Array, Array]
Packed = Sequence[functional.PackedWeights]
Backward = Callable[[Array, bool], tuple[Array | None, list[Array]]]


class Call(NamedTuple):
    """What a layer is called with, and its arguments that matter to the call.

    Attributes
    ----------
    x : (B, T, I) array
    states : list of (h, c), optional
        A pair for each layer.
    mask, reset : (B, T) array of bool, optional
    lengths : (B,) array of int, optional
    noise : list of Noise, optional
        One for each layer.
    go_backwards, return_sequences, zero_output_for_mask : bool
    """

    x: Array
    states: Sequence[State] | None = None
    mask: Array | None = None
    lengths: ArrayLike | None = None
    reset: Array | None = None
    noise: Sequence[Noise] | None = None
    go_backwards: bool = False
    return_sequences: bool = True
    zero_output_for_mask: bool = False

    def options(self, index: int, count: int) -> dict[str, Any]:
        """Return the arguments of the operator for one of `count` layers."""
        last = index == count - 1
        return {
            "initial_state": None if self.states is None else self.states[index],
            "mask": self.mask,
            "lengths": self.lengths,
            "reset": self.reset,
            "noise": None if self.noise is None else self.noise[index],
            "go_backwards": self.go_backwards,
            "return_sequences": self.return_sequences or not last,
            # Layers above skip the steps that they would read zeros from.
            "zero_output_for_mask": self.zero_output_for_mask and last,
        }

    def read_forwards(self) -> Call:
        """Return the call with everything in the order in which it is read.

        Only the lowest of several layers reads its input from the end: the others read what that
        one wrote.
        """
        if not self.go_backwards:
            return self
        mask = self.mask
        if self.lengths is not None:
            ends: Any = self.lengths if is_on_device(self.lengths) else np.asarray(self.lengths)
            mask = namespace(ends).arange(self.x.shape[1])[None, :] < ends[:, None]
        return self._replace(
            x=self.x[:, ::-1],
            mask=None if mask is None else mask[:, ::-1],
            lengths=None,
            reset=None if self.reset is None else self.reset[:, ::-1],
            go_backwards=False,
        )


class Results(NamedTuple):
    """What a call gives: the output of the last layer, and the states and gates of each."""

    output: Array
    states: list[State]
    gates: list[Gates]


def run(packed: Packed, call: Call, return_gates: bool = False) -> Results:
    """Run the layers: together, unless each has noise of its own or is asked for its gates."""
    count = len(packed)
    if not return_gates and call.noise is None:
        plain = _run_plainly(packed, call)
        if plain is not None:
            return plain
    if count > 1:
        check_call(call, packed)
        call = call.read_forwards()
        if not return_gates and call.noise is None:
            return _run_together(packed, call)
    x, states, gates = call.x, [], []
    for index, weights in enumerate(packed):
        options = call.options(index, count)
        if return_gates:
            x, h, c, values = functional.lstm(x, weights, return_gates=True, **options)
            gates.append(values)
        else:
            x, h, c = functional.lstm(x, weights, **options)
        states.append((h, c))
    return Results(x, states, gates)


def _run_plainly(packed: Packed, call: Call) -> Results | None:
    """Run the layers by one native call, or return None where something does not fit it."""
    results = _cpu.lstm_plain_layers(
        packed, call.x, call.states, call.go_backwards, call.return_sequences, call.lengths,
        call.mask, call.reset, call.zero_output_for_mask,
    )  # fmt: skip
    return None if results is None else Results(*results, [])


def _run_together(packed: Packed, call: Call) -> Results:
    output, states = functional.stack(
        call.x,
        packed,
        initial_state=call.states,
        mask=call.mask,
        lengths=call.lengths,
        reset=call.reset,
        return_sequences=call.return_sequences,
        zero_output_for_mask=call.zero_output_for_mask,
    )
    return Results(output, states, [])


def run_vjp(packed: Packed, call: Call) -> tuple[Results, Backward]:
    """Run the layers, and return what carries the output's gradient back.

    Returns
    -------
    Results
        Without gates.
    backward : callable
        ``backward(d_output, need_x) -> (d_x or None, gradients of the weights in their order)``;
        for one call.
    """
    count, turned = len(packed), len(packed) > 1 and call.go_backwards
    if count > 1:
        check_call(call, packed)
        call = call.read_forwards()
    x, states, pull_backs = call.x, [], []
    for index, weights in enumerate(packed):
        x, state, pull_back = run_alone_vjp(weights, x, **call.options(index, count))
        states.append(state)
        pull_backs.append(pull_back)

    def backward(dy: Array, need_x: bool) -> tuple[Array | None, list[Array]]:
        parameters: list[Array] = []
        d_x: Array | None = dy
        for index in reversed(range(count)):
            assert d_x is not None
            d_x, own = pull_backs[index](d_x, need_x or index > 0)
            parameters[:0] = own
        return d_x[:, ::-1] if turned and d_x is not None else d_x, parameters

    return Results(x, states, []), backward


def run_alone(
    weights: functional.PackedWeights,
    x: Array,
    state: State | None,
    go_backwards: bool,
    return_sequences: bool,
) -> tuple[Array, Array, Array]:
    """Run one layer that is given nothing but x and perhaps a state; return output, h and c."""
    h0, c0 = (None, None) if state is None else state
    return _cpu.lstm_plain(weights, x, h0, c0, go_backwards, return_sequences) or functional.lstm(
        x,
        weights,
        initial_state=state,
        go_backwards=go_backwards,
        return_sequences=return_sequences,
    )


def run_alone_vjp(
    weights: functional.PackedWeights,
    x: Array,
    go_backwards: bool,
    return_sequences: bool,
    **options: Any,
) -> tuple[Array, State, Backward]:
    """Run one layer; the options are the operator's, as `Call.options` has them, or none.

    Returns
    -------
    output, (h, c)
    backward
        As of `run_vjp`.
    """
    # One native call each way: a small training step is mostly what stands around its arithmetic.
    results = None
    if type(x) is np.ndarray and options.get("noise") is None:
        results = _cpu.lstm_vjp_plain(
            weights, x, go_backwards, return_sequences, *_native(options) if options else ()
        )
    if results is None:
        (output, h, c), pull_one_back = functional.lstm_vjp(
            x, weights, go_backwards=go_backwards, return_sequences=return_sequences, **options
        )
        return output, (h, c), for_layer(pull_one_back)
    output, h, c, plain = results

    def backward(dy: Array, need_x: bool) -> tuple[Array | None, list[Array]]:
        found = pull_back_plainly(plain, dy, need_x, output, x, weights)
        return found[0], found[1][0]

    return output, (h, c), backward


def pull_back_plainly(
    plain: _cpu.PlainPass,
    dy: ArrayLike,
    need_x: bool,
    output: Array,
    x: Array,
    weights: functional.PackedWeights,
) -> tuple[Array | None, list[list[Array]]]:
    """Carry the gradient of an output back through a native pass over x."""
    try:
        results = plain.pull_back(dy, need_x)
        if results is None:
            given = as_gradient(dy, "d_output", output.shape, output.dtype)
            results = plain.pull_back(np.require(given, requirements=["C", "A"]), need_x)
    except MemoryError as error:
        raise too_large(x, weights) from error
    assert results is not None
    return results


def _native(options: dict[str, Any]) -> tuple[Any, ...]:
    """Return the options of a layer that is run alone in the order of the native call."""
    state = options["initial_state"]
    return (
        *((None, None) if state is None else state),
        *(options[name] for name in ("lengths", "mask", "reset", "zero_output_for_mask")),
    )


def for_layer(pull_back: Callable[..., functional.Gradients]) -> Backward:
    """Return what `functional.lstm_vjp` returned in the form that a layer's vjp returns."""

    def backward(dy: Array, need_x: bool) -> tuple[Array | None, list[Array]]:
        grads = pull_back(dy, need_x=need_x, need_state=False, consume=True)
        return grads.x if need_x else None, gradients_in_order(grads)

    return backward


# ---- what a call is given ----


def check_call(call: Call, packed: Packed, first_state: int = 0) -> None:
    """Check what the operator checks too, before noise is drawn or a first layer runs.

    Parameters
    ----------
    call : Call
    packed : weights of its layers
    first_state : int
        What number the message gives to h among the initial states of a single layer.

    Raises
    ------
    ValueError, TypeError
        If the input does not fit the weights, or something else not the input.
    """
    x, first = call.x, packed[0]
    if x.ndim != 3 or x.shape[2] != first.input_size:
        raise ValueError(f"x: got shape {x.shape}, expected (batch, time, {first.input_size})")
    batch, steps, _ = x.shape
    if call.mask is not None and call.lengths is not None:
        raise ValueError("lengths: got them beside mask, expected one of the two")
    for name, flags in (("mask", call.mask), ("reset", call.reset)):
        if flags is None:
            continue
        array = np.asarray(flags)
        if array.dtype != np.bool_:
            raise TypeError(f"{name}: got an array of {array.dtype}, expected bool")
        if array.shape != (batch, steps):
            raise ValueError(f"{name}: got shape {array.shape}, expected {(batch, steps)}")
    if call.lengths is not None:
        _check_lengths(np.asarray(call.lengths), batch, steps)
    for index, (state, weights) in enumerate(zip(call.states or (), packed, strict=False)):
        sizes = (weights.output_size, weights.units)
        for part, (values, size) in enumerate(zip(state, sizes, strict=True)):
            if values.shape != (batch, size):
                at = f"{index}][{part}" if len(packed) > 1 else first_state + part
                raise ValueError(
                    f"initial_state[{at}]: got shape {values.shape}, expected {(batch, size)}"
                )


def _check_lengths(lengths: Array, batch: int, steps: int) -> None:
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"lengths: got an array of {lengths.dtype}, expected integers")
    if lengths.shape != (batch,):
        raise ValueError(f"lengths: got shape {lengths.shape}, expected {(batch,)}")
    if lengths.size and not (lengths.min() >= 0 and lengths.max() <= steps):
        raise ValueError(
            f"lengths: got numbers from {lengths.min()} to {lengths.max()}, expected 0 to {steps}"
        )


class Called:
    """The part of an LSTM layer that puts a call together."""

    cell: Cell
    dropout: float
    recurrent_dropout: float
    go_backwards: bool
    return_sequences: bool
    zero_output_for_mask: bool
    _generator: np.random.Generator | None
    _device: str

    def _call(
        self,
        x: Array,
        states: Sequence[State] | None,
        mask: ArrayLike | None,
        lengths: ArrayLike | None,
        reset: ArrayLike | None,
    ) -> Call:
        return Call(
            x, states, as_mask(mask, "mask", self._device),
            lengths if lengths is None or self._device == "cpu" else
            as_device_numbers(lengths, "lengths"),
            as_mask(reset, "reset", self._device), None, self.go_backwards, self.return_sequences,
            self.zero_output_for_mask,
        )  # fmt: skip

    @property
    def _is_noisy(self) -> bool:
        cell = self.cell
        rates = self.dropout or self.recurrent_dropout or cell.zoneout or cell.cell_zoneout
        return bool(rates)

    def _with_noise(self, call: Call, packed: Packed) -> Call:
        if not self._is_noisy:
            return call
        check_call(call, packed)
        return call._replace(noise=self._draw_noise(call.x, packed))

    def _draw_noise(self, x: Array, packed: Packed | Sequence[Sizes]) -> list[Noise]:
        cell = self.cell
        rates = Rates(self.dropout, self.recurrent_dropout, cell.zoneout, cell.cell_zoneout)
        return draw_noise(rates, self._generator or random.generator(), x, packed)
