"""The part of an LSTM layer that runs it on a CUDA device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from .. import cuda
from .._arrays import namespace, put
from ..variants import Gates, Noise
from .base import Layer
from .lstm_noise import Sizes
from .lstm_run import Backward, Call, Called, Results
from .lstm_state import State
from .lstm_weights import operands

__all__ = ["OnDevice"]

Array = NDArray[Any]  # here of CuPy


class OnDevice(Called, Layer):
    """Calls of an LSTM layer through `lstm_ext.cuda`, whose operator has not all variants yet."""

    layer_norm: bool
    num_layers: int
    _weights_dtype: str | None
    _repackers: Any
    _state: list[State] | None

    supports_cuda = True

    def check_on(self, device: str) -> None:
        """Raise a NotImplementedError that names what the layer has and the device has not."""
        super().check_on(device)
        if device == "cpu":
            return
        missing = {
            "layer_norm": self.layer_norm,
            "weights_dtype": self._weights_dtype,
        }
        for name, value in missing.items():
            if value:
                raise NotImplementedError(
                    f"{name}: got {value!r} in {self.name}, which the device {device!r} does not "
                    "have yet"
                )

    def _move(self, device: str) -> None:
        super()._move(device)
        self._repackers = None  # made of the arrays that were moved
        if self._state is not None:
            self._state = [(put(h, device), put(c, device)) for h, c in self._state]

    def _run_on_device(
        self, call: Call, training: bool, *, return_gates: bool = False, keep: bool = False
    ) -> tuple[Results, Backward | None]:
        """Run the layers, one after the other; with `keep` for a backward pass."""
        self._check_call(call)
        call = self._with_drawn(call) if training and self._is_noisy else call
        count = self.num_layers
        turned = count > 1 and call.go_backwards
        call = call.read_forwards() if count > 1 else call
        states: list[State] = []
        gates: list[Gates] = []
        pull_backs: list[Any] = []
        output = call.x
        for index in range(count):
            plain, named = operands(self._weights, index)
            options = call.options(index, count) | {"cell": self.cell, **named}
            if options["initial_state"] is not None:
                xp = namespace(output)
                options["initial_state"] = tuple(
                    map(xp.ascontiguousarray, options["initial_state"])
                )
            if keep:
                (output, h, c), pull_back = cuda.lstm_vjp(output, *plain, **options)
                pull_backs.append(pull_back)
            elif return_gates:
                output, h, c, own = cuda.lstm(output, *plain, return_gates=True, **options)
                gates.append(own)
            else:
                output, h, c = cuda.lstm(output, *plain, **options)
            states.append((h, c))
        return Results(output, states, gates), _backward(pull_backs, turned) if keep else None

    def _with_drawn(self, call: Call) -> Call:
        """Draw on the CPU, so that a seed gives the same noise on any device."""
        sizes = []
        for index in range(self.num_layers):
            kernel, recurrent_kernel = operands(self._weights, index)[0][:2]
            outputs, columns = map(int, recurrent_kernel.shape)
            sizes.append(Sizes(int(kernel.shape[0]), outputs, columns // 4))
        drawn = self._draw_noise(call.x, sizes)
        moved = [
            Noise(*(None if a is None else put(a, self._device) for a in noise)) for noise in drawn
        ]
        return call._replace(noise=moved)

    def _check_call(self, call: Call) -> None:
        """Check shapes, before noise is drawn or a first layer runs."""
        x, input_size = call.x, self._weights["kernel"].shape[0]
        if x.ndim != 3 or x.shape[2] != input_size:
            raise ValueError(f"x: got shape {x.shape}, expected (batch, time, {input_size})")
        if call.mask is not None and call.lengths is not None:
            raise ValueError("lengths: got them beside mask, expected one of the two")
        batch, steps, _ = x.shape
        for name, shape in (
            ("mask", (batch, steps)),
            ("reset", (batch, steps)),
            ("lengths", (batch,)),
        ):
            given = getattr(call, name)
            if given is not None and given.shape != shape:
                raise ValueError(f"{name}: got shape {given.shape}, expected {shape}")


def _backward(pull_backs: Sequence[Any], turned: bool) -> Backward:
    def backward(dy: Array, need_x: bool) -> tuple[Array | None, list[Array]]:
        parameters: list[Array] = []
        d_x: Any = namespace(dy).ascontiguousarray(dy)
        for index in reversed(range(len(pull_backs))):
            grads = pull_backs[index](
                d_x, need_x=need_x or index > 0, need_state=False, consume=True
            )
            d_x = grads.x
            own = (
                grads.kernel, grads.recurrent_kernel, grads.bias, grads.peephole,
                grads.projection_kernel,
            )  # fmt: skip
            parameters[:0] = [gradient for gradient in own if gradient is not None]
        return d_x[:, ::-1] if turned and d_x is not None else d_x, parameters

    return backward
