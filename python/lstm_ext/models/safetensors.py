"""Reading and writing safetensors files: a header in JSON and raw arrays, nothing executed.

The format is 8 bytes with the header's length (little-endian), the header, and the data. The header
maps names to ``{"dtype", "shape", "data_offsets"}`` and "__metadata__" to strings.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_file", "replace_file", "write_file"]

Array = NDArray[Any]

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_DTYPES["BF16"] = "<u2"  # the upper half of a float32, as which it is read: NumPy has none

# As in the format's own reader; a header beyond it is not one.
_MAX_HEADER = 100_000_000

_O_BINARY = getattr(os, "O_BINARY", 0)  # Windows would change bytes that look like line ends


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

    replace_file(path, _contents(text, arrays))


def _contents(header: bytes, arrays: Mapping[str, Array]) -> Iterator[bytes]:
    yield len(header).to_bytes(8, "little")
    yield header
    for array in arrays.values():
        yield np.ascontiguousarray(array).tobytes()


def replace_file(path: str | os.PathLike[str], contents: Iterable[bytes]) -> None:
    """Write a file so that a crash leaves either the old one whole or the new one.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    target = os.path.realpath(path)
    temporary = f"{target}.{os.urandom(6).hex()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _O_BINARY, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in contents:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(target):
            os.chmod(temporary, os.stat(target).st_mode & 0o777)
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Read arrays and metadata.

    Raises
    ------
    ValueError
        If the file is cut off or not of this format; the message names the file. The arrays never
        take more memory than the file is long, or twice as much where bfloat16 becomes float32.
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(_MAX_HEADER, size - 8):
            raise ValueError(f"{path}: cut off, or not a safetensors file")
        header = _parse_header(file.read(length), path)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise ValueError(f"{path}: its metadata are no JSON object")
        entries = _check_entries(header, size - 8 - length, path)
        arrays = {name: _read_array(file, entry, path) for name, entry in entries}
    return arrays, {str(key): str(value) for key, value in metadata.items()}


def _parse_header(text: bytes, path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: its header is no JSON object; not a safetensors file")
    return header


def _check_entries(
    header: Mapping[str, Any], size: int, path: str | os.PathLike[str]
) -> list[tuple[str, dict[str, Any]]]:
    """Return the entries in the order of their data, which has to fill `size` bytes."""
    entries = sorted(header.items(), key=lambda item: _offsets(item[1], path))
    expected = 0
    for name, entry in entries:
        begin, end = _offsets(entry, path)
        code, shape = _DTYPES.get(str(entry.get("dtype"))), entry.get("shape")
        if begin != expected:
            raise ValueError(f"{path}: the data of {name!r} overlap others or leave a gap")
        if code is None:
            raise ValueError(f"{path}: {name!r} has dtype {entry.get('dtype')!r}, which is unknown")
        if not isinstance(shape, list) or not _are_sizes(shape):
            raise ValueError(f"{path}: {name!r} has shape {shape!r}, expected whole numbers")
        if math.prod(shape) * np.dtype(code).itemsize != end - begin:
            raise ValueError(f"{path}: {name!r} of shape {shape} has {end - begin} bytes of data")
        expected = end
    if expected != size:
        raise ValueError(f"{path}: holds {size} bytes of data, its header tells of {expected}")
    return entries


def _offsets(entry: Any, path: str | os.PathLike[str]) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if isinstance(offsets, list) and len(offsets) == 2 and _are_sizes(offsets):
        begin, end = offsets
        if begin <= end:
            return begin, end
    raise ValueError(f"{path}: its header has an entry without valid data_offsets")


def _are_sizes(values: list[Any]) -> bool:
    return all(type(n) is int and 0 <= n < 2**63 for n in values)


def _read_array(file: BinaryIO, entry: dict[str, Any], path: str | os.PathLike[str]) -> Array:
    begin, end = entry["data_offsets"]
    data = np.frombuffer(bytearray(file.read(end - begin)), np.uint8)
    if data.size != end - begin:
        raise ValueError(f"{path}: cut off while it was read")
    try:
        array = data.view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    except ValueError as error:  # more axes, or larger empty ones, than NumPy holds
        raise ValueError(f"{path}: shape {entry['shape']}: {error}") from None
    if entry["dtype"] == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
