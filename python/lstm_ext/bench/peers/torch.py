"""PyTorch's nn.LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cases import Case
from .base import Array, Peer

__all__ = ["Torch"]


class Torch(Peer):
    """nn.LSTM with batch_first, in inference mode or with autograd."""

    name = "torch"
    requires = ("torch",)
    modes = ("forward", "stream", "training")
    dtypes = ("float32", "float64")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        import torch

        torch.set_num_threads(case.threads)
        self._torch = torch
        shape = case.shape
        dtype = getattr(torch, case.dtype)
        self._lstm = torch.nn.LSTM(shape.I, shape.H, batch_first=True, dtype=dtype)
        with torch.no_grad():
            self._lstm.weight_ih_l0.copy_(torch.from_numpy(case.kernel.T.copy()))
            self._lstm.weight_hh_l0.copy_(torch.from_numpy(case.recurrent_kernel.T.copy()))
            self._lstm.bias_ih_l0.copy_(torch.from_numpy(case.bias))
            self._lstm.bias_hh_l0.zero_()
        self._x = torch.from_numpy(case.x)
        self._d_output = torch.from_numpy(case.d_output)

    def run(self) -> Any:
        """Run the module."""
        if self.case.mode != "training":
            with self._torch.inference_mode():
                return self._lstm(self._x)[0]
        self._lstm.zero_grad(set_to_none=True)
        x = self._x.detach().requires_grad_(True)
        output, _ = self._lstm(x)
        output.backward(self._d_output)
        return output

    def results(self) -> tuple[Array, Array | None]:
        """Return the output and the gradient."""
        output = self.run().detach().numpy()
        if self.case.mode != "training":
            return output, None
        return output, np.ascontiguousarray(self._lstm.weight_ih_l0.grad.numpy().T)
