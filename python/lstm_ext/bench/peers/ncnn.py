"""ncnn's LSTM layer."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import Case
from .base import Array, Peer, Unsupported

__all__ = ["Ncnn"]


class Ncnn(Peer):
    """A network of one layer, in float32. It has no batch."""

    name = "ncnn"
    requires = ("ncnn",)

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        if case.shape.B != 1:
            raise Unsupported("one sequence at a time")
        import ncnn

        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = case.threads
        for number in ("fp16", "bf16"):
            for use in ("packed", "storage", "arithmetic"):
                if hasattr(options, f"use_{number}_{use}"):
                    setattr(options, f"use_{number}_{use}", False)
        with tempfile.TemporaryDirectory() as folder:
            parameters, weights = Path(folder) / "lstm.param", Path(folder) / "lstm.bin"
            parameters.write_text(_parameters(case), encoding="ascii")
            weights.write_bytes(_weights(case))
            if self._net.load_param(str(parameters)) or self._net.load_model(str(weights)):
                raise RuntimeError("ncnn does not read its own format")
        self._x = ncnn.Mat(case.x[0])  # a view; the case keeps the array

    def run(self) -> Any:
        """Extract the output."""
        extractor = self._net.create_extractor()
        extractor.input("x", self._x)
        return extractor.extract("y")[1]

    def results(self) -> tuple[Array, None]:
        """Return the output."""
        return np.array(self.run())[None], None


def _parameters(case: Case) -> str:
    """Return the network as text: a magic number, counts of layers and blobs, a layer a line."""
    _, _, features, units = case.shape
    lstm = f"LSTM lstm 1 1 x y 0={units} 1={4 * units * features}"
    return f"7767517\n2 2\nInput input 0 1 x\n{lstm}\n"


def _weights(case: Case) -> bytes:
    """Return each array after a tag that says float32, with gates in the order i, f, o, c."""
    parts = []
    for array in (case.kernel, case.bias, case.recurrent_kernel):
        i, f, c, o = np.split(array.T, 4)
        parts.append(b"\0\0\0\0" + np.concatenate([i, f, o, c]).tobytes())
    return b"".join(parts)
