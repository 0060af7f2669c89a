"""ONNX Runtime's LSTM operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cases import Case
from . import onnx_model
from .base import Array, Peer

__all__ = ["OnnxRuntime", "OnnxRuntimeInt8"]


class OnnxRuntime(Peer):
    """A session on a model of one node; its input is time-major beforehand."""

    name = "onnxruntime"
    requires = ("onnxruntime", "onnx")
    _build = staticmethod(onnx_model.build)

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = case.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Its threads spin during a run, as they do by default, but not through others' turns.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(
            self._build(case), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {"X": np.ascontiguousarray(case.x.swapaxes(0, 1))}

    def run(self) -> Any:
        """Run the session."""
        return self._session.run(None, self._inputs)

    def results(self) -> tuple[Array, Array | None]:
        """Return the output."""
        return self.run()[0][:, 0].swapaxes(0, 1), None


class OnnxRuntimeInt8(OnnxRuntime):
    """DynamicQuantizeLSTM: int8 weights, activations quantised in each step."""

    name = "onnxruntime-int8"
    weights_dtypes = ("int8",)
    _build = staticmethod(onnx_model.build_int8)
