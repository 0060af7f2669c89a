"""LSTMs of torch: state dicts, live or in a safetensors file. torch itself is not imported.

A layer k of ``torch.nn.LSTM`` has, with gates i, f, g, o (ours by other names)::

    weight_ih_l{k} (4H, I)    weight_hh_l{k} (4H, H)    bias_ih_l{k}, bias_hh_l{k} (4H)

and an ``nn.LSTMCell`` the same without ``_l{k}``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..layers import LSTM, Dropout, Layer
from ..models import Sequential, safetensors
from .building import add_biases, as_layers, check_matrix, lstm_from_arrays, naming

__all__ = ["from_torch", "to_torch"]

Array = NDArray[Any]

_WEIGHT = re.compile(r"(?:(?P<prefix>.+)\.)?weight_hh(?:_l\d+)?(?:_reverse)?")
_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class _Group(NamedTuple):
    """The weights of one LSTM: their names without the prefix, and the dropout between layers."""

    prefix: str
    arrays: Mapping[str, Any]
    dropout: float


def from_torch(source: Any, *, prefix: str | None = None) -> LSTM | Sequential:
    """Return a torch LSTM as a layer of ours, or several stacked ones as a model.

    Called with (batch, time, features), it returns what torch's returns as ``output`` with
    ``batch_first=True``, whatever its own ``batch_first`` is.

    Parameters
    ----------
    source : torch.nn.Module, mapping of names to tensors or arrays, or path
        A module that is or holds an ``nn.LSTM`` or ``nn.LSTMCell``, its state dict, or the path of
        a safetensors file with the latter.
    prefix : str, optional
        Which LSTM is meant if there are several: what stands before ``.weight_ih_l0``, such as
        "encoder.lstm".

    Returns
    -------
    LSTM or Sequential
        float64 if the weights are, else float32. A module's dropout between layers comes along; a
        state dict does not tell it.

    Raises
    ------
    ValueError
        If there is no LSTM or several, or a weight is missing, left over or of a wrong shape.
    NotImplementedError
        If the LSTM is bidirectional or has a projection.
    OSError
        If the file cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        group = _find(_read(os.fspath(source)), prefix, str(source))
    elif isinstance(source, Mapping):
        group = _find(source, prefix, "source")
    elif callable(getattr(source, "state_dict", None)):
        group = _find(source.state_dict(), prefix, type(source).__name__)
        group = group._replace(dropout=_dropout(source, group.prefix))
    else:
        raise TypeError(
            f"source: got {type(source).__name__}, expected a torch module, a state dict or a path"
        )
    with naming(group.prefix or "source"):
        return _from_group(group)


def _read(path: str) -> dict[str, Array]:
    with open(path, "rb") as file:
        start = file.read(2)
    pickled = path.endswith((".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"))
    if pickled or start in (b"PK", b"\x80\x02"):
        safe = os.path.splitext(path)[0] + ".safetensors"
        raise ValueError(
            f"{path}: got a file of torch.save, which may run code when it is read; expected a "
            "safetensors file. Where torch is installed, and if you trust the file, this makes "
            f"one:\nimport torch; from safetensors.torch import save_file; save_file("
            f"torch.load({path!r}, weights_only=True), {safe!r})"
        )
    arrays, metadata = safetensors.read_file(path)
    if metadata.get("format", "").startswith("lstm_ext"):
        raise ValueError(f"{path}: got a model of lstm_ext; load_model reads it")
    return arrays


def _find(weights: Mapping[str, Any], prefix: str | None, where: str) -> _Group:
    """Return the LSTM of that prefix, or the only one."""
    weights = {str(name): value for name, value in weights.items()}
    matches = [_WEIGHT.fullmatch(name) for name in weights]
    prefixes = sorted({match["prefix"] or "" for match in matches if match})
    if prefix is not None:
        prefix = prefix.rstrip(".")
        if prefix not in prefixes:
            found = ", ".join(map(repr, prefixes)) or "none"
            raise ValueError(f"prefix: got {prefix!r}, expected one of those in {where}: {found}")
    elif len(prefixes) == 1:
        prefix = prefixes[0]
    elif not prefixes:
        raise ValueError(f"{where}: got no LSTM, expected names such as 'weight_hh_l0'")
    else:
        found = ", ".join(map(repr, prefixes))
        raise ValueError(f"{where}: got several LSTMs; expected prefix= as one of {found}")
    start = f"{prefix}." if prefix else ""
    own = {name[len(start) :]: value for name, value in weights.items() if name.startswith(start)}
    return _Group(prefix, {name: value for name, value in own.items() if "." not in name}, 0.0)


def _dropout(module: Any, prefix: str) -> float:
    """Return the dropout of the LSTM inside a module; 0 of one that has none."""
    for name in filter(None, prefix.split(".")):
        module = getattr(module, name, None)
    return float(getattr(module, "dropout", 0.0))


def _from_group(group: _Group) -> LSTM | Sequential:
    suffixes = _suffixes(group.arrays)
    layers: list[Layer] = []
    size: int | None = None
    for index, suffix in enumerate(suffixes):
        layer = _layer(group.arrays, suffix, size)
        if index and group.dropout:
            layers.append(Dropout(group.dropout, dtype=layer.dtype))
        size = layer.units
        layers.append(layer)
    first = layers[0]
    assert isinstance(first, LSTM)
    if len(layers) == 1:
        return first
    model = Sequential(layers)
    model.build((None, None, first.kernel.shape[0]))
    return model


def _suffixes(arrays: Mapping[str, Any]) -> list[str]:
    """Return what ends the names of each layer, and refuse names that are none of an LSTM's."""
    cell = "weight_hh" in arrays
    count = 1 if cell else sum(name.startswith("weight_hh_l") for name in arrays)
    suffixes = [""] if cell else [f"_l{index}" for index in range(count)]
    for name in arrays:
        if name.startswith("weight_hr"):
            raise NotImplementedError(f"{name}: a projection (proj_size) is not supported yet")
        if name.endswith("_reverse"):
            raise NotImplementedError(f"{name}: a bidirectional LSTM is not supported yet")
    known = {kind + suffix for kind in _KINDS for suffix in suffixes}
    for name in arrays:
        if name not in known:
            raise ValueError(f"{name}: got a weight that torch's LSTM does not have")
    return suffixes


def _layer(arrays: Mapping[str, Any], suffix: str, size: int | None) -> LSTM:
    """Return the layer of that suffix, whose inputs are of that size if it is known."""
    has_bias = any(f"bias_{kind}{suffix}" in arrays for kind in ("ih", "hh"))
    names = [kind + suffix for kind in _KINDS[: 4 if has_bias else 2]]
    for name in names:
        if name not in arrays:
            raise ValueError(f"{name}: expected it beside the others")
    w_ih, w_hh, *biases = (_as_array(arrays[name], name) for name in names)
    units = w_hh.shape[-1] if w_hh.ndim else 0
    check_matrix(w_hh, f"{names[1]} (of an LSTM: 4 rows a unit)", (4 * units, units))
    check_matrix(w_ih, names[0], (4 * units, size))
    for name, bias in zip(names[2:], biases, strict=True):
        check_matrix(bias, name, (4 * units,))
    total = add_biases(biases[0], biases[1]) if biases else None
    return lstm_from_arrays(w_ih.T, w_hh.T, total, return_sequences=True)


def _as_array(value: Any, name: str) -> Array:
    """Return a tensor or an array as an array of float32 or float64."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # NumPy has none
            value = value.float()
        value = value.numpy()
    array = np.asarray(value)
    if array.dtype.kind != "f":
        raise ValueError(f"{name}: got an array of {array.dtype}, expected floats")
    return array if array.dtype == np.float64 else array.astype(np.float32, copy=False)


def to_torch(
    model: LSTM | Sequential, path: str | os.PathLike[str] | None = None
) -> dict[str, Array]:
    """Return the state dict of a ``torch.nn.LSTM`` that computes what a layer or model does.

    Parameters
    ----------
    model : LSTM or Sequential
        One LSTM, or several of one size; `Dropout` between them is left to torch's argument.
    path : str or path, optional
        Also write it there, as a safetensors file.

    Returns
    -------
    dict of arrays
        For ``load_state_dict``, after ``torch.as_tensor`` on each.

    Raises
    ------
    ValueError
        If torch's LSTM cannot be such a model.
    TypeError
        If it is no layer or model of ours.
    """
    state: dict[str, Array] = {}
    previous: LSTM | None = None
    layers = [layer for layer in as_layers(model, "to_torch") if not isinstance(layer, Dropout)]
    for index, layer in enumerate(layers):
        if not isinstance(layer, LSTM):
            raise ValueError(f"{layer.name}: got a {type(layer).__name__}, expected LSTMs alone")
        _check_for_torch(layer, previous)
        state |= _state_of(layer, f"_l{index}")
        previous = layer
    if not state:
        raise ValueError(f"to_torch: {model.name} has no LSTM, expected at least one")
    if path is not None:
        safetensors.write_file(path, state, {"format": "pt"})
    return state


def _check_for_torch(layer: LSTM, previous: LSTM | None) -> None:
    """Refuse a layer that cannot be the one after `previous` in torch's LSTM."""
    if layer.go_backwards:
        raise ValueError(f"{layer.name}: got go_backwards, which torch's LSTM does not have")
    if previous is None:
        return
    if not previous.return_sequences:
        raise ValueError(f"{previous.name}: expected return_sequences, as an LSTM follows it")
    if (layer.units, layer.use_bias) != (previous.units, previous.use_bias):
        raise ValueError(
            f"{layer.name}: got units={layer.units} and use_bias={layer.use_bias}, expected those "
            f"of {previous.name}, as torch's layers share both"
        )


def _state_of(layer: LSTM, suffix: str) -> dict[str, Array]:
    state = {
        f"weight_ih{suffix}": layer.kernel.T.copy(),
        f"weight_hh{suffix}": layer.recurrent_kernel.T.copy(),
    }
    if layer.use_bias:
        state[f"bias_ih{suffix}"] = layer.bias.copy()
        # Not 0: of all numbers, only -0 leaves every other as it is, -0 included.
        state[f"bias_hh{suffix}"] = np.full_like(layer.bias, -0.0)
    return state
