"""ONNX Runtime's LSTM operator."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..cases import Case
from ..variants import BACKWARD, LAYERS, LENGTHS, PEEPHOLES
from . import onnx_model
from .base import Array, Peer

__all__ = ["OnnxRuntime", "OnnxRuntimeInt8"]


class OnnxRuntime(Peer):
    """A session on a model of a node for each layer; its input is time-major beforehand.

    A stream's step reads and writes arrays that were bound before, so it allocates no output.
    """

    name = "onnxruntime"
    requires = ("onnxruntime", "onnx")
    features: ClassVar[tuple[str, ...]] = (PEEPHOLES, LENGTHS, BACKWARD, LAYERS)
    _build = staticmethod(onnx_model.build)

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = case.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            self._build(case), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {"X": np.ascontiguousarray(case.x.swapaxes(0, 1))}
        if case.mode == "stream":
            as_value = onnxruntime.OrtValue.ortvalue_from_numpy
            output = np.empty((1, 1, case.shape.B, case.shape.H), np.float32)
            self._output = as_value(output)
            self._binding = self._session.io_binding()
            self._binding.bind_ortvalue_input("X", as_value(self._inputs["X"]))
            self._binding.bind_ortvalue_output(self._session.get_outputs()[0].name, self._output)

    def run(self) -> Any:
        """Run the session."""
        if self.case.mode == "stream":
            self._session.run_with_iobinding(self._binding)
            return self._output
        return self._session.run(None, self._inputs)[0]

    def results(self) -> tuple[Array, Array | None]:
        """Return the output."""
        output = self.run()
        if self.case.mode == "stream":
            output = output.numpy()
        return onnx_model.in_rows(output), None


class OnnxRuntimeInt8(OnnxRuntime):
    """DynamicQuantizeLSTM: int8 weights, activations quantised in each step."""

    name = "onnxruntime-int8"
    weights_dtypes = ("int8",)
    features = ()
    _build = staticmethod(onnx_model.build_int8)
