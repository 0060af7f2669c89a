"""LSTMs of torch: state dicts, live or in a safetensors file. torch itself is not imported.

A layer k of ``torch.nn.LSTM`` has, with gates i, f, g, o (ours by other names), and with P = H but
for a projection::

    weight_ih_l{k} (4H, I)    weight_hh_l{k} (4H, P)    bias_ih_l{k}, bias_hh_l{k} (4H)
    weight_hr_l{k} (P, H), with a projection

of one that reads both ways the same for the other direction, with names that end in ``_reverse``;
and an ``nn.LSTMCell`` the first four without ``_l{k}``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..layers import LSTM, Bidirectional, Dropout, Layer
from ..models import Sequential, safetensors
from .building import (
    Direction,
    add_biases,
    as_layers,
    bidirectional_from,
    check_matrix,
    input_size,
    lstm_from,
    naming,
)
from .features import check_features, is_usual, single_layers, warn_of_training

__all__ = ["from_torch", "to_torch"]

Array = NDArray[Any]

_WEIGHT = re.compile(r"(?:(?P<prefix>.+)\.)?weight_hh(?:_l\d+)?(?:_reverse)?")
_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_PROJECTION = "weight_hr"
_OTHER_WAY = "_reverse"


class _Group(NamedTuple):
    """The weights of one LSTM: their names without the prefix, and the dropout between layers."""

    prefix: str
    arrays: Mapping[str, Any]
    dropout: float


def from_torch(source: Any, *, prefix: str | None = None) -> LSTM | Bidirectional | Sequential:
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
    LSTM, Bidirectional or Sequential
        float64 if the weights are, else float32. With a projection, `proj_size` is its size. A
        module's dropout between layers comes along; a state dict does not tell it.

    Raises
    ------
    ValueError
        If there is no LSTM or several, or a weight is missing, left over or of a wrong shape.
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


def _from_group(group: _Group) -> LSTM | Bidirectional | Sequential:
    layers: list[Layer] = []
    size: int | None = None
    for index, suffixes in enumerate(_suffixes(group.arrays)):
        directions = [_direction(group.arrays, suffix, size) for suffix in suffixes]
        if index and group.dropout:
            layers.append(Dropout(group.dropout, dtype=layers[0].dtype))
        if len(directions) == 1:
            layers.append(lstm_from(directions[0], return_sequences=True))
        else:
            forward, backward = directions
            layers.append(bidirectional_from(forward, backward, return_sequences=True))
        size = sum(direction.output_size for direction in directions)
    first = layers[0]
    if len(layers) == 1 and isinstance(first, (LSTM, Bidirectional)):
        return first
    model = Sequential(layers)
    model.build((None, None, input_size(first)))
    return model


def _suffixes(arrays: Mapping[str, Any]) -> list[list[str]]:
    """Return what ends the names of each layer's directions; refuse names that no LSTM has."""
    if "weight_hh" in arrays:
        layers = [[""]]
        kinds: Sequence[str] = _KINDS
    else:
        names = [name for name in arrays if name.startswith("weight_hh_l")]
        both_ways = any(name.endswith(_OTHER_WAY) for name in names)
        count = sum(not name.endswith(_OTHER_WAY) for name in names)
        ends = ("", _OTHER_WAY) if both_ways else ("",)
        # At least one, so that what is missing is named.
        layers = [[f"_l{index}{end}" for end in ends] for index in range(max(count, 1))]
        kinds = (*_KINDS, _PROJECTION)
    known = {kind + suffix for kind in kinds for suffixes in layers for suffix in suffixes}
    for name in arrays:
        if name not in known:
            raise ValueError(f"{name}: got a weight that torch's LSTM does not have")
    for kind in (*_KINDS[2:], _PROJECTION):
        missing = [kind + suffix for suffixes in layers for suffix in suffixes]
        given = [name for name in missing if name in arrays]
        if given and len(given) < len(missing):
            name = next(name for name in missing if name not in arrays)
            raise ValueError(f"{name}: expected it beside the others")
    return layers


def _direction(arrays: Mapping[str, Any], suffix: str, size: int | None) -> Direction:
    """Return the LSTM of that suffix, whose inputs are of that size if it is known."""
    has_bias = any(f"bias_{kind}{suffix}" in arrays for kind in ("ih", "hh"))
    projection = _PROJECTION + suffix
    names = [kind + suffix for kind in _KINDS[: 4 if has_bias else 2]]
    names += [projection] * (projection in arrays)
    found = {}
    for name in names:
        if name not in arrays:
            raise ValueError(f"{name}: expected it beside the others")
        found[name] = _as_array(arrays[name], name)
    w_ih, w_hh = (found[name] for name in names[:2])
    outputs = w_hh.shape[-1] if w_hh.ndim else 0
    units = outputs
    weights = {"kernel": w_ih.T, "recurrent_kernel": w_hh.T}
    if projection in found:
        check_matrix(found[projection], projection, (outputs, None))
        units = found[projection].shape[1]
        weights["projection_kernel"] = found[projection].T
    check_matrix(w_hh, f"{names[1]} (of an LSTM: 4 rows a unit)", (4 * units, outputs))
    check_matrix(w_ih, names[0], (4 * units, size))
    if has_bias:
        biases = [check_matrix(found[name], name, (4 * units,)) for name in names[2:4]]
        weights["bias"] = add_biases(*biases)
    return Direction(weights, {})


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
    model: LSTM | Bidirectional | Sequential, path: str | os.PathLike[str] | None = None
) -> dict[str, Array]:
    """Return the state dict of a ``torch.nn.LSTM`` that computes what a layer or model does.

    Parameters
    ----------
    model : LSTM, Bidirectional or Sequential
        One layer, or several that are all `LSTM` or all `Bidirectional` and of one size; an LSTM
        with `num_layers` counts as that many. `Dropout` between them is left to torch's argument.
    path : str or path, optional
        Also write it there, as a safetensors file.

    Returns
    -------
    dict of arrays
        For ``load_state_dict``, after ``torch.as_tensor`` on each. ``nn.LSTM`` needs the arguments
        ``num_layers``, ``bias``, ``bidirectional`` and ``proj_size`` that go with them.

    Raises
    ------
    ValueError
        If torch's LSTM cannot be such a model: it knows neither other activations than the usual,
        nor peepholes, clips, coupled gates, layer normalisation, zoneout or `go_backwards`.
    TypeError
        If it is no layer or model of ours.

    Warns
    -----
    UserWarning
        If a layer has dropout or recurrent_dropout of its own, which act in training alone.
    """
    layers = [layer for layer in as_layers(model, "to_torch") if not isinstance(layer, Dropout)]
    stack: list[LSTM | Bidirectional] = []
    for layer in layers:
        if isinstance(layer, LSTM):
            stack += single_layers(layer)
        elif isinstance(layer, Bidirectional):
            stack.append(layer)
        else:
            raise ValueError(f"{layer.name}: got a {type(layer).__name__}, expected LSTMs alone")
    if not stack:
        raise ValueError(f"to_torch: {model.name} has no LSTM, expected at least one")
    state: dict[str, Array] = {}
    for index, own in enumerate(stack):
        _check_for_torch(own, stack[0], last=index == len(stack) - 1)
        for inner, end in zip(_directions(own), ("", _OTHER_WAY), strict=False):
            state |= _state_of(inner, f"_l{index}{end}")
    for own in stack:
        for inner in _directions(own):
            warn_of_training(inner, "torch's state dict")
    if path is not None:
        safetensors.write_file(path, state, {"format": "pt"})
    return state


def _directions(layer: LSTM | Bidirectional) -> list[LSTM]:
    if isinstance(layer, LSTM):
        return [layer]
    return [layer.forward_layer, layer.backward_layer]


def _check_for_torch(
    layer: LSTM | Bidirectional, first: LSTM | Bidirectional, *, last: bool
) -> None:
    """Refuse a layer that cannot be one of torch's LSTM, of which another is the first."""
    if _directions(layer)[0].go_backwards:
        raise ValueError(f"{layer.name}: got go_backwards, which torch's LSTM does not have")
    if isinstance(layer, Bidirectional) and layer.merge_mode != "concat":
        raise ValueError(
            f"{layer.name}: got merge_mode={layer.merge_mode!r}, expected 'concat', as torch's"
        )
    if not (last or layer.return_sequences):
        raise ValueError(f"{layer.name}: expected return_sequences, as an LSTM follows it")
    if isinstance(layer, LSTM) != isinstance(first, LSTM):
        raise ValueError(
            f"{layer.name}: got a {type(layer).__name__} after a {type(first).__name__}, expected "
            "one kind, as torch's layers share it"
        )
    for inner in _directions(layer):
        check_features(inner, "torch's LSTM", ("proj_size",))
        if not is_usual(inner.cell):
            raise ValueError(
                f"{inner.name}: got activations {inner.cell.activation!r} and "
                f"{inner.cell.recurrent_activation!r}, expected tanh and sigmoid, as torch's"
            )
        if inner.proj_size and inner.proj_size >= inner.units:
            raise ValueError(
                f"{inner.name}: got proj_size={inner.proj_size} for {inner.units} units, expected "
                "fewer, as torch does"
            )
        like = _directions(first)[0]
        for name in ("units", "use_bias", "proj_size"):
            wanted, got = getattr(like, name), getattr(inner, name)
            if wanted != got:
                raise ValueError(
                    f"{inner.name}: got {name}={got}, expected {wanted} as of {like.name}, since "
                    "torch's layers share it"
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
    if layer.proj_size:
        state[f"{_PROJECTION}{suffix}"] = layer.projection_kernel.T.copy()
    return state
