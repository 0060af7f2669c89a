"""Who runs the cases on the GPU: this package, and torch's nn.LSTM, which is cuDNN's."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import cuda
from .cases import GpuCase

__all__ = ["Ours", "Torch", "missing_torch"]

Array = NDArray[Any]


def missing_torch() -> str:
    """Return why torch cannot be measured, or an empty string."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    if not importlib.import_module("torch").cuda.is_available():
        return "torch was built without CUDA"
    return ""


def _tensor(array: Array, dtype: str) -> Any:
    torch = importlib.import_module("torch")
    return torch.from_numpy(array).cuda().to(getattr(torch, dtype))


class Ours:
    """Our own operator, on arrays of CuPy, or of torch in bfloat16.

    Raises
    ------
    ValueError
        If `algorithm` cannot do the case.
    """

    def __init__(self, case: GpuCase, cupy: Any, algorithm: str | None = None) -> None:
        self.case, self.algorithm = case, algorithm

        def put(array: Array) -> Any:
            return cupy.asarray(array) if case.dtype == "float32" else _tensor(array, case.dtype)

        self.inputs = [put(x) for x in case.inputs]
        self.weights = [put(w) for w in case.weights]
        self.d_output = put(case.d_output)
        self.run(0)  # an algorithm that cannot says so here

    def run(self, number: int) -> Any:
        """Enqueue one call."""
        x, algorithm = self.inputs[number], self.algorithm
        if self.case.mode == "forward":
            return cuda.lstm(x, *self.weights, algorithm=algorithm)[0], None
        (output, _, _), backward = cuda.lstm_vjp(x, *self.weights, algorithm=algorithm)
        return output, backward(self.d_output, need_state=False, consume=True)

    def results(self) -> tuple[Array, Array | None]:
        """Return the output and in training the gradient of x, for the first set."""
        output, gradients = self.run(0)
        cuda.synchronize()
        return _host(output), None if gradients is None else _host(gradients.x)


class Torch:
    """torch.nn.LSTM with the same weights."""

    def __init__(self, case: GpuCase, tf32: bool) -> None:
        self.torch = torch = importlib.import_module("torch")
        self.case, self.tf32 = case, tf32
        _, _, features, units = case.shape
        self.layer = torch.nn.LSTM(features, units, batch_first=True)
        with torch.no_grad():
            for name, value in (
                ("weight_ih_l0", case.kernel.T),
                ("weight_hh_l0", case.recurrent_kernel.T),
                ("bias_ih_l0", case.bias),
                ("bias_hh_l0", np.zeros_like(case.bias)),
            ):
                getattr(self.layer, name).copy_(torch.from_numpy(np.ascontiguousarray(value)))
        self.layer.cuda().to(getattr(torch, case.dtype)).flatten_parameters()
        self.inputs = [_tensor(x, case.dtype) for x in case.inputs]
        self.d_output = _tensor(case.d_output, case.dtype)
        if case.mode == "training":
            for x in self.inputs:
                x.requires_grad_()

    def run(self, number: int) -> Any:
        """Enqueue one call."""
        self.torch.backends.cudnn.allow_tf32 = self.tf32
        x = self.inputs[number]
        if self.case.mode == "forward":
            with self.torch.no_grad():
                return self.layer(x)[0]
        self.layer.zero_grad(set_to_none=True)
        x.grad = None
        output = self.layer(x)[0]
        output.backward(self.d_output)
        return output

    def results(self) -> tuple[Array, Array | None]:
        """Return the output and in training the gradient of x, for the first set."""
        output = self.run(0)
        self.torch.cuda.synchronize()
        return _host(output), None if self.case.mode == "forward" else _host(self.inputs[0].grad)


def _host(array: Any) -> Array:
    if hasattr(array, "detach"):
        return np.asarray(array.detach().float().cpu())
    return np.asarray(array.get())
