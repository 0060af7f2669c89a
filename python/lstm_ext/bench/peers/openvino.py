"""OpenVINO on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cases import Case
from ..variants import BACKWARD, LAYERS, LENGTHS
from . import onnx_model
from .base import Array, Peer

__all__ = ["OpenVino"]


class OpenVino(Peer):
    """A compiled model of a node for each layer, in float32, tuned for latency."""

    name = "openvino"
    requires = ("openvino", "onnx")
    features = (LENGTHS, BACKWARD, LAYERS)

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        import openvino

        core = openvino.Core()
        settings = {
            "INFERENCE_NUM_THREADS": case.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        model = core.read_model(onnx_model.build(case))
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        self._x = np.ascontiguousarray(case.x.swapaxes(0, 1))

    def run(self) -> Any:
        """Run the request."""
        return self._request.infer([self._x], share_inputs=True, share_outputs=True)

    def results(self) -> tuple[Array, Array | None]:
        """Return the output."""
        return onnx_model.in_rows(np.array(self.run()[0])), None
