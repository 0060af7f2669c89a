"""PyTorch's nn.LSTM."""

from __future__ import annotations

import copy
import warnings
from typing import Any, ClassVar

import numpy as np

from ..cases import Case
from ..fit import EPOCHS
from ..variants import BACKWARD, LAYERS, LENGTHS, PROJECTION
from .base import Array, Peer

__all__ = ["Torch", "TorchBfloat16", "TorchInt8"]


class Torch(Peer):
    """nn.LSTM with batch_first, in inference mode or with autograd."""

    name = "torch"
    requires = ("torch",)
    modes: ClassVar[tuple[str, ...]] = ("forward", "stream", "training", "fit")
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    features = (PROJECTION, LENGTHS, BACKWARD, LAYERS)

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        import torch

        torch.set_num_threads(case.threads)
        self._torch = torch
        self._lstm = _module(torch, case)
        self._lengths = None if case.lengths is None else torch.from_numpy(case.lengths)
        if case.layers[0][0].projection_kernel is not None:
            with warnings.catch_warnings():  # torch tells once that oneDNN has no projections
                warnings.simplefilter("ignore")
                self._lstm(torch.zeros(1, 1, case.shape.I, dtype=getattr(torch, case.dtype)))
        self._x = torch.from_numpy(case.x)
        self._d_output = torch.from_numpy(case.d_output)

    def run(self) -> Any:
        """Run the module."""
        if self.case.mode == "fit":
            return self._fit()
        if self.case.mode != "training":
            with self._torch.inference_mode():
                return self._forward(self._x)
        self._lstm.zero_grad(set_to_none=True)
        x = self._x.detach().requires_grad_(True)
        output = self._forward(x)
        output.backward(self._d_output)
        return output

    def _forward(self, x: Any) -> Any:
        if self._lengths is None:
            return self._lstm(x)[0]
        rnn = self._torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(x, self._lengths, batch_first=True, enforce_sorted=False)
        steps = self.case.shape.T
        return rnn.pad_packed_sequence(self._lstm(packed)[0], batch_first=True, total_length=steps)[
            0
        ]

    def _fit(self) -> Any:
        """Train as a plain loop does, from the case's weights; return the prediction."""
        torch, case = self._torch, self.case
        lstm = copy.deepcopy(self._lstm)
        dense = torch.nn.Linear(case.shape.H, 1)
        with torch.no_grad():
            dense.weight.copy_(torch.from_numpy(case.dense_kernel.T.copy()))
            dense.bias.zero_()
        # Keras has one bias, torch two that add up: only one is trained.
        lstm.bias_hh_l0.requires_grad_(False)
        parameters = [p for p in (*lstm.parameters(), *dense.parameters()) if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, 0.001, eps=1e-7)
        targets = torch.from_numpy(case.y)
        for _ in range(EPOCHS):
            for x, y in zip(self._x.split(case.shape.B), targets.split(case.shape.B), strict=True):
                optimizer.zero_grad()
                output, _ = lstm(x)
                loss = torch.nn.functional.mse_loss(dense(output[:, -1]), y)
                loss.backward()
                optimizer.step()
        with torch.inference_mode():
            return dense(lstm(self._x)[0][:, -1])

    def results(self) -> tuple[Array, Array | None]:
        """Return the output and the gradient."""
        output = self.run().detach().numpy()
        if self.case.mode != "training":
            return output, None
        names = ("weight_ih_l0", "weight_ih_l0_reverse")[: self.case.variant.directions]
        gradients = [getattr(self._lstm, name).grad.numpy().T for name in names]
        return output, np.concatenate(gradients, axis=1)


def _module(torch: Any, case: Case) -> Any:
    """Return an nn.LSTM with the weights of a case; of its two biases the second is zero."""
    first = case.layers[0][0]
    lstm = torch.nn.LSTM(
        case.shape.I,
        case.shape.H,
        len(case.layers),
        batch_first=True,
        bidirectional=case.variant.directions == 2,
        proj_size=0 if first.projection_kernel is None else first.output_size,
        dtype=getattr(torch, case.dtype),
    )
    with torch.no_grad():
        for number, directions in enumerate(case.layers):
            for weights, suffix in zip(directions, ("", "_reverse"), strict=False):
                arrays = {
                    "weight_ih": weights.kernel,
                    "weight_hh": weights.recurrent_kernel,
                    "bias_ih": weights.bias,
                    "bias_hh": np.zeros_like(weights.bias),
                    "weight_hr": weights.projection_kernel,
                }
                for name, array in arrays.items():
                    if array is not None:
                        parameter = getattr(lstm, f"{name}_l{number}{suffix}")
                        parameter.copy_(torch.from_numpy(array.T.copy()))
    return lstm


class TorchBfloat16(Torch):
    """nn.LSTM with everything in bfloat16: weights, input, state and output."""

    name = "torch-bfloat16"
    modes = ("forward", "stream")
    dtypes = ("float32",)
    weights_dtypes = ("bfloat16",)

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self._lstm = self._lstm.to(self._torch.bfloat16)
        self._x = self._x.to(self._torch.bfloat16)

    def results(self) -> tuple[Array, None]:
        """Return the output."""
        return self.run().float().numpy(), None


class TorchInt8(Torch):
    """What quantize_dynamic makes of nn.LSTM: int8 weights, activations quantised in each step."""

    name = "torch-int8"
    modes = ("forward", "stream")
    dtypes = ("float32",)
    weights_dtypes = ("int8",)

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        module = self._torch.nn.Sequential(self._lstm)
        with warnings.catch_warnings():  # torch announces that this will move to another package
            warnings.simplefilter("ignore")
            from torch.ao.quantization import quantize_dynamic

            kinds = {self._torch.nn.LSTM}
            self._lstm = quantize_dynamic(module, kinds, dtype=self._torch.qint8)[0]
