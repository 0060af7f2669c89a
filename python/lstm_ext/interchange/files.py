"""Model files of every kind, told apart by their endings."""

from __future__ import annotations

import os

from ..models import Sequential, load_model, safetensors
from .building import input_size
from .keras_format import from_keras, to_keras
from .onnx_format import from_onnx, to_onnx
from .torch_format import from_torch, to_torch

__all__ = ["read_model", "write_model"]

_ENDINGS = ".safetensors, .keras, .h5 or .onnx"


def read_model(path: str, *, prefix: str | None = None, node: str | None = None) -> Sequential:
    """Read a model of ours, torch's, Keras's or ONNX's.

    Parameters
    ----------
    path : str
    prefix : str, optional
        Which LSTM of a torch file, as of `from_torch`.
    node : str, optional
        Which LSTM of an ONNX file, as of `from_onnx`.

    Returns
    -------
    Sequential
        Also of a single LSTM.

    Raises
    ------
    ValueError, NotImplementedError, ModuleNotFoundError, OSError
        As the reader of that kind of file.
    """
    ending = os.path.splitext(path)[1].lower()
    if prefix is not None and ending != ".safetensors":
        raise ValueError(f"--prefix: expected a .safetensors file of torch's, got {path!r}")
    if node is not None and ending != ".onnx":
        raise ValueError(f"--node: expected an .onnx file, got {path!r}")
    if ending in (".keras", ".h5", ".hdf5"):
        found = from_keras(path)
    elif ending == ".onnx":
        found = from_onnx(path, node)
    elif ending == ".safetensors" and _is_ours(path):
        found = load_model(path)
    elif ending in (".safetensors", ".pt", ".pth", ".bin", ".ckpt"):
        found = from_torch(path, prefix=prefix)
    else:
        raise ValueError(f"{path}: got the ending {ending!r}, expected {_ENDINGS}")
    if isinstance(found, Sequential):
        return found
    model = Sequential([found])
    model.build((None, None, input_size(found)))
    return model


def _is_ours(path: str) -> bool:
    return safetensors.read_file(path)[1].get("format", "").startswith("lstm_ext")


def write_model(
    model: Sequential, path: str, *, torch: bool = False, sequence_lens: bool = False
) -> None:
    """Write a model of ours, or torch's, Keras's or ONNX's.

    Parameters
    ----------
    model : Sequential
    path : str
    torch : bool
        Whether a safetensors file is a state dict for torch instead of a model of ours.
    sequence_lens : bool
        Whether an ONNX file has an input with lengths, as of `to_onnx`.

    Raises
    ------
    ValueError, ModuleNotFoundError, OSError
        As the writer of that kind of file.
    """
    ending = os.path.splitext(path)[1].lower()
    if torch and ending != ".safetensors":
        raise ValueError(f"--torch: expected a .safetensors file to write, got {path!r}")
    if sequence_lens and ending != ".onnx":
        raise ValueError(f"--sequence-lens: expected an .onnx file to write, got {path!r}")
    if ending in (".keras", ".h5"):
        to_keras(model, path)
    elif ending == ".onnx":
        to_onnx(model, path, sequence_lens=sequence_lens)
    elif ending != ".safetensors":
        raise ValueError(f"{path}: got the ending {ending!r}, expected {_ENDINGS}")
    elif torch:
        to_torch(model, path)
    else:
        model.save(path)
