"""The part of an LSTM layer that runs it on a CUDA device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from .. import cuda
from .._arrays import namespace, put
from ..variants import Cell
from .base import Layer
from .lstm_run import Backward, Results
from .lstm_state import State
from .lstm_weights import operands

__all__ = ["OnDevice"]

Array = NDArray[Any]  # here of CuPy

_PLAIN = Cell()


class OnDevice(Layer):
    """Calls of an LSTM layer through `lstm_ext.cuda`, whose operator has no variants yet."""

    cell: Cell
    dropout: float
    recurrent_dropout: float
    peepholes: bool
    proj_size: int | None
    layer_norm: bool
    num_layers: int
    go_backwards: bool
    return_sequences: bool
    _weights_dtype: str | None
    _repackers: Any
    _state: list[State] | None

    supports_cuda = True

    def check_on(self, device: str) -> None:
        """Raise a NotImplementedError that names what the layer has and the device has not."""
        super().check_on(device)
        if device == "cpu":
            return
        own = {
            **{name: getattr(self.cell, name) for name in Cell._fields},
            "peepholes": self.peepholes,
            "proj_size": self.proj_size,
            "layer_norm": self.layer_norm,
            "weights_dtype": self._weights_dtype,
        }
        if own["output_activation"] == own["activation"]:
            own["output_activation"] = None
        for name, value in own.items():
            plain = getattr(_PLAIN, name, None)
            if value != plain and value:
                raise NotImplementedError(
                    f"{name}: got {value!r} in {self.name}, expected {plain!r} on the device "
                    f"{device!r}, which does not have it yet"
                )

    def _move(self, device: str) -> None:
        super()._move(device)
        self._repackers = None  # made of the arrays that were moved
        if self._state is not None:
            self._state = [(put(h, device), put(c, device)) for h, c in self._state]

    def _run_on_device(
        self,
        x: Array,
        states: Sequence[State] | None,
        training: bool,
        others: Mapping[str, Any],
        *,
        keep: bool = False,
    ) -> tuple[Results, Backward | None]:
        """Run the layers, one after the other; with `keep` for a backward pass.

        `others` are the arguments of a call that are not there on a device.
        """
        self._check_call(x, training, others)
        xp, count = namespace(x), self.num_layers
        ended: list[State] = []
        pull_backs: list[Any] = []
        output = x
        for index in range(count):
            plain, _ = operands(self._weights, index)
            options: dict[str, Any] = {
                # What the first layer wrote is in the order in which the others read it.
                "go_backwards": self.go_backwards and index == 0,
                "return_sequences": self.return_sequences or index + 1 < count,
            }
            if states is not None:
                h, c = states[index]
                options["initial_state"] = xp.ascontiguousarray(h), xp.ascontiguousarray(c)
            if keep:
                (output, h, c), pull_back = cuda.lstm_vjp(output, *plain, **options)
                pull_backs.append(pull_back)
            else:
                output, h, c = cuda.lstm(output, *plain, **options)
            ended.append((h, c))
        return Results(output, ended, []), _backward(pull_backs) if keep else None

    def _check_call(self, x: Array, training: bool, others: Mapping[str, Any]) -> None:
        given = [name for name, value in others.items() if value is not None and value is not False]
        if training:
            given += [name for name in ("dropout", "recurrent_dropout") if getattr(self, name)]
        if given:
            raise NotImplementedError(
                f"{given[0]}: got it for {self.name} on the device {self.device!r}, which does not "
                'have it yet; to_device("cpu") moves the layer to where it is'
            )
        input_size = self._weights["kernel"].shape[0]
        if x.ndim != 3 or x.shape[2] != input_size:
            raise ValueError(f"x: got shape {x.shape}, expected (batch, time, {input_size})")


def _backward(pull_backs: Sequence[Any]) -> Backward:
    def backward(dy: Array, need_x: bool) -> tuple[Array | None, list[Array]]:
        parameters: list[Array] = []
        d_x: Any = namespace(dy).ascontiguousarray(dy)
        for index in reversed(range(len(pull_backs))):
            grads = pull_backs[index](
                d_x, need_x=need_x or index > 0, need_state=False, consume=True
            )
            d_x = grads.x
            own = (grads.kernel, grads.recurrent_kernel, grads.bias)
            parameters[:0] = [gradient for gradient in own if gradient is not None]
        return d_x, parameters

    return backward
