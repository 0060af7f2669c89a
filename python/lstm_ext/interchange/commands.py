"""The commands ``lstm-ext convert`` and ``lstm-ext predict``."""

from __future__ import annotations

import argparse
import io
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layers import Embedding
from ..models import Sequential
from ..models.safetensors import replace_file

__all__ = ["add_convert", "add_predict"]

Array = NDArray[Any]


def add_convert(parser: argparse.ArgumentParser) -> None:
    """Describe the command ``convert``."""
    parser.description = (
        "Read a model and write it in another form, each told by the ending of its file: "
        ".safetensors (ours, or torch's state dict), .keras, .h5 or .onnx."
    )
    parser.add_argument("input", metavar="IN")
    parser.add_argument("output", metavar="OUT")
    _add_choices(parser)
    parser.add_argument(
        "--torch", action="store_true", help="write a .safetensors for torch, not one of ours"
    )
    parser.add_argument(
        "--sequence-lens", action="store_true", help="give an .onnx an input with lengths"
    )
    parser.set_defaults(run=_convert)


def add_predict(parser: argparse.ArgumentParser) -> None:
    """Describe the command ``predict``."""
    parser.description = (
        "Run a model over data: an array (batch, time, features), or a table with a step in a row "
        "and a feature in a column; for a model of numbered words, a sequence in a row."
    )
    parser.add_argument("model", metavar="MODEL", help="any file that convert reads")
    parser.add_argument("data", metavar="DATA", help=".npy or .csv")
    _add_choices(parser)
    parser.add_argument("--output", metavar="FILE", help=".npy or .csv; by default, print a table")
    parser.add_argument(
        "--lengths", metavar="FILE", help=".npy: how many steps of each sequence count"
    )
    parser.set_defaults(run=_predict)


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prefix", help="which LSTM of a torch file, as 'encoder.lstm'")
    parser.add_argument("--node", help="which LSTM of an ONNX file, by its name")
    parser.add_argument(
        "--weights-dtype", choices=["bfloat16", "int8"], help="compute with small weights"
    )


def _convert(options: argparse.Namespace) -> int:
    from .files import write_model

    model = _read(options.input, options)
    write_model(model, options.output, torch=options.torch, sequence_lens=options.sequence_lens)
    layers = ", ".join(type(layer).__name__ for layer in model.layers)
    print(f"{options.output}: {layers}; {model.count_params()} parameters")
    return 0


def _predict(options: argparse.Namespace) -> int:
    output = options.output
    if output is not None and not output.endswith((".npy", ".csv")):
        raise ValueError(f"--output: got {output!r}, expected a file .npy or .csv")
    model = _read(options.model, options)
    data = _as_batch(_read_data(options.data), model)
    if options.lengths is None:
        result = model.predict(data, verbose=0)
    else:
        result = model(data, mask=_mask_of(_read_data(options.lengths), data))
    if output is None:
        sys.stdout.write(_table(result))
    elif output.endswith(".csv"):
        replace_file(output, [_table(result).encode()])
    else:
        buffer = io.BytesIO()
        np.save(buffer, result, allow_pickle=False)
        replace_file(output, [buffer.getvalue()])
    return 0


def _read(path: str, options: argparse.Namespace) -> Sequential:
    from .files import read_model

    model = read_model(path, prefix=options.prefix, node=options.node)
    if options.weights_dtype is not None:
        model.quantize(options.weights_dtype)
    return model


def _mask_of(lengths: Array, data: Array) -> Array:
    """Return which steps of a batch count."""
    if lengths.dtype.kind not in "iu" or lengths.shape != data.shape[:1]:
        raise ValueError(
            f"lengths: got {lengths.dtype} of shape {lengths.shape}, expected a whole number for "
            f"each of {data.shape[0]} sequences"
        )
    steps = data.shape[1]
    if lengths.size and not (lengths.min() >= 0 and lengths.max() <= steps):
        raise ValueError(
            f"lengths: got {lengths.min()} to {lengths.max()}, expected 0 to {steps}, as many as "
            "steps"
        )
    mask: Array = np.arange(steps) < lengths[:, None]
    return mask


def _read_data(path: str) -> Array:
    """Return the numbers of an .npy or a .csv file."""
    if path.endswith(".npy"):
        try:
            # Mapped: a header that declares more than the file holds is refused.
            array = np.array(np.lib.format.open_memmap(path, mode="r"))
            if array.dtype.kind not in "fiub":
                raise ValueError(f"it holds {array.dtype}")
            return array
        except (ValueError, EOFError, SyntaxError, TypeError) as error:
            raise ValueError(f"{path}: cut off, or no array of numbers: {error}") from None
    if not path.endswith(".csv"):
        raise ValueError(f"{path}: expected a file .npy or .csv")
    rows: list[list[float]] = []
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                rows.append([float(cell) for cell in line.split(",")])
            except ValueError as error:
                if rows or number > 1:  # the first line may be a heading
                    raise ValueError(f"{path}: line {number}: {error}") from None
            if rows and len(rows[-1]) != len(rows[0]):
                raise ValueError(
                    f"{path}: line {number} has {len(rows[-1])} columns, expected {len(rows[0])}"
                )
    if not rows:
        raise ValueError(f"{path}: has no row of numbers")
    return np.array(rows)


def _as_batch(data: Array, model: Sequential) -> Array:
    """Return a table as a batch of one sequence, unless its rows are sequences of words."""
    if data.ndim == 2 and not isinstance(model.layers[0], Embedding):
        return data[None]
    return data


def _table(result: Array) -> str:
    """Return an output as text: a sample or a step in a line, an empty line between sequences."""
    blocks = [result] if result.ndim == 2 else list(result)
    return "\n".join(
        "".join(",".join(str(value) for value in row.tolist()) + "\n" for row in block)
        for block in blocks
    )
