"""ncnn's LSTM layer."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import Case
from ..variants import BACKWARD, LAYERS, PROJECTION
from .base import Array, Peer, Unsupported

__all__ = ["Ncnn"]

_TAG = b"\0\0\0\0"


class Ncnn(Peer):
    """A network of LSTM layers, in float32. It has no batch."""

    name = "ncnn"
    requires = ("ncnn",)
    features = (PROJECTION, BACKWARD, LAYERS)

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
        extractor.input("x0", self._x)
        return extractor.extract(f"x{len(self.case.layers)}")[1]

    def results(self) -> tuple[Array, None]:
        """Return the output."""
        return np.array(self.run())[None], None


def _parameters(case: Case) -> str:
    """Return the network as text: a magic number, counts of layers and blobs, a layer a line."""
    lines = ["Input input 0 1 x0"]
    for number, directions in enumerate(case.layers):
        first, count = directions[0], len(directions)
        options = {
            0: first.output_size, 1: count * first.kernel.size, 2: 2 if count == 2 else 0,
            3: first.units,
        }  # fmt: skip
        values = " ".join(f"{key}={value}" for key, value in options.items())
        lines.append(f"LSTM lstm{number} 1 1 x{number} x{number + 1} {values}")
    return "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines, ""])


def _weights(case: Case) -> bytes:
    """Return each array after a tag that says float32, directions one after the other."""
    parts = []
    for directions in case.layers:
        for name in ("kernel", "bias", "recurrent_kernel"):
            arrays = [_ifoc(getattr(weights, name)) for weights in directions]
            parts.append(_TAG + np.stack(arrays).tobytes())
        projections = [w.projection_kernel.T for w in directions if w.projection_kernel is not None]
        if projections:
            parts.append(_TAG + np.stack(projections).tobytes())
    return b"".join(parts)


def _ifoc(weights: Array) -> Array:
    """(..., 4H) in the order i, f, c, o, as (4H, ...) in ncnn's."""
    i, f, c, o = np.split(weights.T, 4)
    return np.concatenate([i, f, o, c])
