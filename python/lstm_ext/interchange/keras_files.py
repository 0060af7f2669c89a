"""The files in which Keras keeps models: what is in them is bounded before it is read.

- ``.keras``: a zip of ``config.json`` and ``model.weights.h5``. Nothing is unpacked to disk.
- ``.weights.h5``: the latter by itself. A layer's arrays are ``layers/lstm_1/cell/vars/0``, where
  groups count the layers of a class, whatever their names are; those of a Bidirectional are
  ``layers/bidirectional/forward_layer/cell/vars/0`` and ``.../backward_layer/...``.
- ``.h5``: Keras 2's file, with the description as an attribute, and the arrays of a layer somewhere
  below ``model_weights/<name>``.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._registry import snake_case
from .keras_chain import Config, Entry, entries
from .keras_config import group_names

__all__ = ["KerasFile", "import_h5py", "open_keras"]

Array = NDArray[Any]
Path = str | os.PathLike[str]

_DEEPEST = 32  # below a layer's group
_ARRAYS = ("embeddings", "kernel", "recurrent_kernel", "bias")
_WITHOUT_WEIGHTS = ("InputLayer", "Dropout", "Masking")
# Where the variables of a layer are, below its group.
_VARIABLES = {
    "LSTM": ("cell/vars",),
    "Bidirectional": ("forward_layer/cell/vars", "backward_layer/cell/vars"),
}
_VERSION = re.compile(rb"\d+\.\d+\.\d+[\w.+-]*")
_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"


class KerasFile:
    """An open file.

    Attributes
    ----------
    description : dict or None
        What Keras says about the model; None in a file of weights alone.
    version : str or None
        Of the Keras that wrote it, if it says so.
    """

    def __init__(
        self, h5: Any, description: Config | None, version: str | None, budget: _Budget
    ) -> None:
        self._h5 = h5
        self.description = description
        self.version = version
        self._budget = budget
        self._is_keras_2 = "model_weights" in h5

    @property
    def groups(self) -> list[str]:
        """The groups of layers, as the file has them."""
        return [str(name) for name in self._h5["layers"]] if "layers" in self._h5 else []

    def weights(self, layers: Sequence[Entry]) -> list[list[Array]]:
        """Return the arrays of each layer.

        Raises
        ------
        ValueError
            If the file does not hold them, or holds them otherwise than Keras writes them, or
            holds those of further layers.
        """
        if self._is_keras_2:
            paths = self._paths_of_keras_2()
        else:
            paths = self._paths([layer.class_name for layer in layers])
        with_weights = [layer for layer in layers if layer.class_name not in _WITHOUT_WEIGHTS]
        if len(paths) != len(with_weights):
            raise ValueError(f"holds {len(paths)} layers with weights, not {len(with_weights)}")
        rest = iter(paths)
        return [
            [] if layer.class_name in _WITHOUT_WEIGHTS else [self._array(p) for p in next(rest)]
            for layer in layers
        ]

    def _paths(self, kinds: Sequence[str]) -> list[list[str]]:
        """Return the paths of arrays by layers, in the order of the layers of these classes."""
        names = {
            group: kind
            for group, kind in zip(group_names(kinds), kinds, strict=True)
            if kind not in _WITHOUT_WEIGHTS
        }
        ignored = tuple(snake_case(kind) for kind in _WITHOUT_WEIGHTS)
        for group in self.groups:
            if group not in names and not group.startswith(ignored):
                raise ValueError(f"layers/{group} belongs to none of the model's layers")
        paths = []
        for group, kind in names.items():
            found = []
            for end in _VARIABLES.get(kind, ("vars",)):
                path = f"layers/{group}/{end}"
                found += [f"{path}/{index}" for index in range(len(self._at(path)))]
            paths.append(found)
        return paths

    def _paths_of_keras_2(self) -> list[list[str]]:
        """Return the paths of arrays by the names of the layers that the file describes."""
        assert self.description is not None
        layers = [e for e in entries(self.description) if e.class_name not in _WITHOUT_WEIGHTS]
        paths = []
        for layer in layers:
            path = self._inmost(f"model_weights/{layer.name}")
            if layer.class_name == "Bidirectional":
                paths.append(
                    [p for way in self._ways(path, layer) for p in self._arrays_below(way)]
                )
            else:
                paths.append(self._arrays_below(path))
        return paths

    def _ways(self, path: str, layer: Entry) -> list[str]:
        """Return the groups of a Bidirectional's two layers, forwards first.

        They have the names of the layers, with forward_ and backward_ before them for the most.
        """
        names = list(self._at(path))
        found = []
        for option, way in (("layer", "forward_"), ("backward_layer", "backward_")):
            description = layer.config.get(option) or layer.config.get("layer")
            config = description.get("config") if isinstance(description, dict) else None
            name = str(config.get("name") if isinstance(config, dict) else None)
            known = {name, f"{way}{name.removeprefix('forward_')}"}
            found.append(next((group for group in names if group in known), None))
        if None in found or len(names) != 2 or found[0] == found[1]:
            raise ValueError(f"{path} has {', '.join(names)}, not a layer for each direction")
        return [f"{path}/{name}" for name in found]

    def _inmost(self, path: str) -> str:
        """Return the path of the first group down there that has more than one group in it."""
        h5py = import_h5py()
        for _ in range(_DEEPEST):
            names = list(self._at(path))
            if len(names) != 1 or not isinstance(self._at(f"{path}/{names[0]}"), h5py.Group):
                return path
            path = f"{path}/{names[0]}"
        raise ValueError(f"{path} lies deeper than {_DEEPEST} groups, or leads in a ring")

    def _arrays_below(self, path: str) -> list[str]:
        """Return the paths of a layer's arrays, which lie some groups deeper, in Keras's order."""
        path = self._inmost(path)
        names = list(self._at(path))
        order = {name: index for index, name in enumerate(_ARRAYS)}
        for name in names:
            if name.removesuffix(":0") not in order:
                raise ValueError(f"{path}/{name} is none of {', '.join(_ARRAYS)}")
        names.sort(key=lambda name: order[name.removesuffix(":0")])
        return [f"{path}/{name}" for name in names]

    def _at(self, path: str) -> Any:
        """Return what stands at a path; no link may leave the file or lead in a ring."""
        h5py = import_h5py()
        found = self._h5
        for name in path.split("/"):
            link = found.get(name, getlink=True) if isinstance(found, h5py.Group) else None
            if link is None:
                raise ValueError(f"{path} is missing")
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"{path} is a link to somewhere else")
            found = found[name]
        return found

    def _array(self, path: str) -> Array:
        h5py = import_h5py()
        dataset = self._at(path)
        if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != "f":
            raise ValueError(f"{path} is no array of floats")
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"{path} has its data in another file")
        for shape in (dataset.shape, dataset.chunks or ()):
            self._budget.take(math.prod(map(int, shape)) * dataset.dtype.itemsize, path)
        array: Array = dataset[()]
        return np.asarray(array, array.dtype.newbyteorder("="))


class _Budget:
    """How many bytes may come out of a file: far more than Keras's own files ever need."""

    def __init__(self, stored: int) -> None:
        self._left = 16 * stored + 2**26

    def take(self, size: int, what: str) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(f"{what} would take {size} bytes, far more than the file has")


@contextmanager
def open_keras(path: Path) -> Iterator[KerasFile]:
    """Open a file of Keras's, whichever kind it is.

    Raises
    ------
    ValueError
        If it is none, or cut off, or unlike what Keras writes. The message names it.
    OSError
        If it cannot be read.
    ModuleNotFoundError
        If h5py is not installed.
    """
    with open(path, "rb") as file:
        start = file.read(8)
    budget = _Budget(os.path.getsize(path))
    if start != _HDF5 and start[:4] != _ZIP:
        raise ValueError(f"{path}: got neither a .keras nor an HDF5 file")
    import_h5py()
    try:
        if start == _HDF5:
            with _open_h5(path) as h5:
                found, version = None, None
                if "model_weights" in h5:
                    found, version = _description_of_keras_2(path)
                yield KerasFile(h5, found, version, budget)
        else:
            config, weights, metadata = _unzip(path, budget)
            version = _as_description(metadata).get("keras_version")
            with _open_h5(io.BytesIO(weights)) as h5:
                yield KerasFile(h5, _as_description(config), version and str(version), budget)
    except NotImplementedError as error:
        raise NotImplementedError(f"{path}: {error}") from error
    except Exception as error:  # there is no telling what h5py and zipfile raise
        raise ValueError(f"{path}: {error}") from error


def import_h5py() -> Any:
    """Return the module h5py."""
    try:
        import h5py
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "files of Keras's need h5py, which is not installed: pip install 'lstm_ext[keras]'"
        ) from None
    return h5py


def _open_h5(source: Any) -> Any:
    try:
        return import_h5py().File(source, "r")
    except (OSError, RuntimeError) as error:
        raise ValueError(f"cut off, or not an HDF5 file ({error})") from error


def _unzip(path: Path, budget: _Budget) -> tuple[bytes, bytes, bytes]:
    """Return config.json, model.weights.h5, and metadata.json if there is one."""
    import zipfile

    with zipfile.ZipFile(path) as archive:

        def read(name: str) -> bytes:
            try:
                info = archive.getinfo(name)
            except KeyError:
                raise ValueError(f"{name} is missing") from None
            plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if not plain or info.flag_bits & 1:
                raise ValueError(f"{name} is encrypted, or packed in another way than Keras does")
            budget.take(info.file_size, name)
            return archive.read(info)

        has_metadata = "metadata.json" in archive.namelist()
        metadata = read("metadata.json") if has_metadata else b"{}"
        return read("config.json"), read("model.weights.h5"), metadata


def _description_of_keras_2(path: Path) -> tuple[Config, str | None]:
    """Return what the attributes model_config and keras_version say.

    HDF5 keeps a text of any length in a heap, and believes the length that the attribute declares.
    Here the heaps are read by themselves, where no text is longer than the file.
    """
    with open(path, "rb") as file:
        data = file.read()
    found: Config | None = None
    version: str | None = None
    for text in _heap_objects(data):
        text = text.rstrip(b"\0")
        if text.startswith(b"{") and found is None:
            description = _as_description(text)
            if "class_name" in description and "config" in description:
                found = description
        elif _VERSION.fullmatch(text):
            version = text.decode()
    if found is None:
        raise ValueError("it has no description of the model")
    return found, version


def _heap_objects(data: bytes) -> Iterator[bytes]:
    """Yield the objects in the global heaps of an HDF5 file (its specification, III.E)."""
    start = data.find(b"GCOL")
    while start >= 0:
        stop = min(start + max(_int(data, start + 8), 16), len(data))
        at = start + 16
        while at + 16 <= stop and data[at : at + 2] != b"\0\0":  # 0 is the free space at the end
            length = _int(data, at + 8)
            if length > stop - at - 16:
                break
            yield data[at + 16 : at + 16 + length]
            at += 16 + -(-length // 8) * 8
        start = data.find(b"GCOL", stop)


def _int(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _as_description(text: str | bytes) -> Config:
    loads: Callable[[str | bytes], Any] = json.loads
    try:
        description = loads(text)
    except (ValueError, RecursionError):
        description = None
    if not isinstance(description, dict):
        raise ValueError("the description of the model is no JSON object")
    return description
