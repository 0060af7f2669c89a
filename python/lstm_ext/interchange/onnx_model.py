"""An ONNX model as it lies in a file: nodes, attributes, and tensors whose sizes are checked."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Graph", "import_onnx", "opened"]

Array = NDArray[Any]

_DOMAINS = ("", "ai.onnx")
_MICROSOFT = "com.microsoft"
# Operators that move numbers without changing them.
MOVES = ("Expand", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")


def import_onnx() -> Any:
    """Return the module onnx."""
    try:
        import onnx
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "ONNX models need onnx, which is not installed: pip install 'lstm_ext[onnx]'"
        ) from None
    return onnx


@contextmanager
def opened(source: Any) -> Iterator[Graph]:
    """Give the graph of a path, of bytes or of a ModelProto.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If it is no ONNX model, or one that does not fit together. The message names the file.
    OSError
        If the file cannot be read.
    ModuleNotFoundError
        If onnx is not installed.
    """
    onnx = import_onnx()
    folder, name = None, "model"
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        folder = os.path.dirname(os.path.abspath(name))
        with open(source, "rb") as file:
            source = file.read()
    if not isinstance(source, (bytes, onnx.ModelProto)):
        got = type(source).__name__
        raise TypeError(f"source: got {got}, expected a path, bytes or an onnx.ModelProto")
    try:
        model = onnx.ModelProto.FromString(source) if isinstance(source, bytes) else source
        yield Graph(model.graph, folder)
    except NotImplementedError as error:
        raise NotImplementedError(f"{name}: {error}") from error
    except Exception as error:  # there is no telling what a graph from outside can provoke
        raise ValueError(f"{name}: {error or 'cut off, or not an ONNX model'}") from error


class Graph:
    """The nodes of a model by their outputs, and its constants by name.

    Parameters
    ----------
    proto : onnx.GraphProto
    folder : str or None
        Where external data are; None forbids them.
    """

    def __init__(self, proto: Any, folder: str | None) -> None:
        if not proto.node:
            raise ValueError("cut off, or not an ONNX model: it has no graph")
        if proto.sparse_initializer:
            raise NotImplementedError("sparse initializers are not supported")
        self.nodes = list(proto.node)
        self.outputs = [str(output.name) for output in proto.output]
        self._folder = folder
        self._initializers = {tensor.name: tensor for tensor in proto.initializer}
        self._inputs = {value.name: value for value in proto.input}
        self._producers: dict[str, Any] = {}
        for node in self.nodes:
            for output in filter(None, node.output):
                if output in self._producers:
                    raise ValueError(f"two nodes make {output!r}")
                self._producers[output] = node

    def producer(self, name: str) -> Any:
        """Return the node that makes a value, or None."""
        return self._producers.get(name)

    def input_shape(self, name: str) -> list[int | None] | None:
        """Return the shape of a graph input that a caller has to give; None of other values."""
        if name not in self._inputs or name in self._initializers:
            return None
        dims = self._inputs[name].type.tensor_type.shape.dim
        return [dim.dim_value or None for dim in dims]

    def is_constant(self, name: str) -> bool:
        """Return whether a value is the same in every run."""
        return self._constant_source(name) is not None

    def constant(self, name: str, what: str) -> Array:
        """Return a value that is the same in every run.

        Raises
        ------
        NotImplementedError
            If it is computed.
        """
        source = self._constant_source(name)
        if source is None:
            raise NotImplementedError(f"{what} is computed in the graph; expected a constant")
        if not isinstance(source, Mapping):
            return self._array(source, what)
        for kind in ("value_int", "value_ints", "value_float", "value_floats"):
            if kind in source:
                return np.asarray(source[kind])
        if "value" not in source:
            raise NotImplementedError(f"{what} is a constant with {', '.join(source) or 'nothing'}")
        return self._array(source["value"], what)

    def _constant_source(self, name: str) -> Any:
        """Return the tensor of an initializer or the attributes of a Constant node, or None."""
        for _ in range(len(self.nodes) + 1):
            if name in self._initializers:
                return self._initializers[name]
            node = self.producer(name)
            if node is None or node.domain not in _DOMAINS:
                return None
            if node.op_type == "Constant":
                return attributes(node)
            if node.op_type != "Identity":
                return None
            name = node.input[0]
        return None

    def is_zero(self, name: str) -> bool:
        """Return whether a value is zeros, whatever its shape."""
        names, seen = [name], {name}
        while names:
            name = names.pop()
            node = self.producer(name)
            if self.is_constant(name):
                if np.any(self.constant(name, name)):
                    return False
                continue
            if node is None or node.domain not in _DOMAINS:
                return False
            if node.op_type == "ConstantOfShape":
                value = attributes(node).get("value")
                if value is not None and np.any(self._array(value, name)):
                    return False
            elif node.op_type in MOVES or node.op_type == "Concat":
                parts = node.input if node.op_type == "Concat" else node.input[:1]
                names += [part for part in parts if part not in seen]
                seen.update(parts)
            else:
                return False
        return True

    def given_by(self, name: str, kinds: Sequence[str] = MOVES) -> str | None:
        """Return the graph input that a value is, perhaps moved about; None of other values."""
        for _ in range(len(self.nodes) + 1):
            if self.input_shape(name) is not None:
                return name
            node = self.producer(name)
            if node is None or node.domain not in _DOMAINS or node.op_type not in kinds:
                return None
            name = node.input[0]
        return None

    def _array(self, tensor: Any, what: str) -> Array:
        """Return a tensor's values, once it is known that it has as many as it declares."""
        onnx = import_onnx()
        types = onnx.TensorProto
        if tensor.data_type == types.BFLOAT16:
            dtype = np.dtype("<u2")
        else:
            known = (
                types.FLOAT, types.DOUBLE, types.FLOAT16, types.INT8, types.UINT8, types.INT32,
                types.INT64, types.BOOL,
            )  # fmt: skip
            if tensor.data_type not in known:
                raise NotImplementedError(f"{what} has elements of type {tensor.data_type}")
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        shape = tuple(map(int, tensor.dims))
        if min(shape, default=0) < 0:
            raise ValueError(f"{what} has shape {shape}")
        size = math.prod(shape) * dtype.itemsize
        if tensor.data_location == types.EXTERNAL:
            data = self._external(tensor, size, what)
        elif tensor.HasField("raw_data"):
            data = tensor.raw_data
        elif tensor.data_type == types.BFLOAT16:
            raise NotImplementedError(f"{what} holds bfloat16 numbers otherwise than raw")
        else:
            array: Array = onnx.numpy_helper.to_array(tensor)
            return array
        if len(data) != size:
            raise ValueError(f"{what} of shape {shape} has {len(data)} bytes, expected {size}")
        array = np.frombuffer(data, dtype.newbyteorder("<")).reshape(shape)
        if tensor.data_type == types.BFLOAT16:  # the upper half of a float32
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(dtype, copy=False)

    def _external(self, tensor: Any, size: int, what: str) -> bytes:
        """Read the data of a tensor from a file beside the model."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if self._folder is None:
            raise ValueError(f"{what} has its data in {location!r}; expected the model by its path")
        folder = os.path.realpath(self._folder)
        path = os.path.realpath(os.path.join(folder, location))
        if os.path.isabs(location) or not path.startswith(os.path.join(folder, "")):
            raise ValueError(f"{what} has its data in {location!r}, outside the model's folder")
        if not os.path.isfile(path):
            raise ValueError(f"{what} has its data in {location!r}, which is no file")
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", size))
        if offset < 0 or length != size or offset + length > os.path.getsize(path):
            raise ValueError(f"{what} takes {size} bytes, which {location!r} does not have there")
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)


def attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of a node, texts as str."""
    get = import_onnx().helper.get_attribute_value
    found = {attribute.name: get(attribute) for attribute in node.attribute}
    return {name: _decoded(value) for name, value in found.items()}


def _decoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_decoded(item) for item in value]
    return value


def operator(node: Any) -> str:
    """Return the name of a node's operator, with its domain where that is not ONNX's own."""
    known = node.domain in _DOMAINS
    if node.domain == _MICROSOFT and node.op_type == "DynamicQuantizeLSTM":
        known = True
    return str(node.op_type) if known else f"{node.domain}.{node.op_type}"


def label(node: Any) -> str:
    """Return what to call a node: its name, or that of its first output."""
    return str(node.name or next(iter(node.output), "?"))


def optional_input(node: Any, index: int) -> str:
    """Return the name of an input, empty if it is left out."""
    return str(node.input[index]) if index < len(node.input) else ""
