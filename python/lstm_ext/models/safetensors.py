"""Reading and writing safetensors files: a header in JSON and raw arrays, nothing executed.

The format is 8 bytes with the header's length (little-endian), the header, and the data. The header
maps names to ``{"dtype", "shape", "data_offsets"}`` and "__metadata__" to strings.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_file", "write_file"]

Array = NDArray[Any]

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}

# As in the format's own reader; a header beyond it is not one.
_MAX_HEADER = 100_000_000


def write_file(
    path: str | os.PathLike[str], arrays: Mapping[str, Array], metadata: Mapping[str, str]
) -> None:
    """Write arrays and metadata so that a crash leaves either the old file whole or the new one.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, array in arrays.items():
        end = offset + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # aligns the data

    target = Path(path)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(len(text).to_bytes(8, "little"))
            file.write(text)
            for array in arrays.values():
                file.write(np.ascontiguousarray(array).tobytes())
            file.flush()
            os.fsync(file.fileno())
        if not target.exists():
            Path(temporary).chmod(0o666 & ~_umask())
        else:
            Path(temporary).chmod(target.stat().st_mode & 0o777)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Read arrays and metadata.

    Raises
    ------
    ValueError
        If the file is cut off or not of this format; the message names the file. Never more memory
        is used than the file is long.
    OSError
        If it cannot be read.
    """
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(_MAX_HEADER, size - 8):
            raise ValueError(f"{path}: cut off, or not a safetensors file")
        header = _parse_header(file.read(length), path)
        data = file.read()
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise ValueError(f"{path}: its metadata are no JSON object")
    arrays = {}
    expected = 0
    for name, entry in sorted(header.items(), key=lambda item: _offsets(item[1], path)):
        begin, end = _offsets(entry, path)
        if begin != expected:
            raise ValueError(f"{path}: the data of {name!r} overlap others or leave a gap")
        arrays[name] = _array(name, entry, data[begin:end], path)
        expected = end
    if expected != len(data):
        raise ValueError(f"{path}: holds {len(data)} bytes of data, its header tells of {expected}")
    return arrays, {str(key): str(value) for key, value in metadata.items()}


def _parse_header(text: bytes, path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: its header is no JSON object; not a safetensors file")
    return header


def _offsets(entry: Any, path: str | os.PathLike[str]) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not (
        isinstance(offsets, list)
        and len(offsets) == 2
        and all(isinstance(o, int) for o in offsets)
        and 0 <= offsets[0] <= offsets[1]
    ):
        raise ValueError(f"{path}: its header has an entry without valid data_offsets")
    return offsets[0], offsets[1]


def _array(name: str, entry: dict[str, Any], data: bytes, path: str | os.PathLike[str]) -> Array:
    code, shape = _DTYPES.get(str(entry.get("dtype"))), entry.get("shape")
    if code is None:
        raise ValueError(f"{path}: {name!r} has dtype {entry.get('dtype')!r}, which is unknown")
    if not isinstance(shape, list) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError(f"{path}: {name!r} has shape {shape!r}, expected whole numbers")
    count = 1
    for n in shape:
        count *= n
    if count * np.dtype(code).itemsize != len(data):
        raise ValueError(f"{path}: {name!r} of shape {shape} has {len(data)} bytes of data")
    return np.frombuffer(data, code).reshape(shape).copy()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
