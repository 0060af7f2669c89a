"""Models of Keras: live, or in any file that Keras writes. Keras itself is not imported."""

from __future__ import annotations

import copy
import io
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

from ..layers import LSTM, Embedding, Input, Layer
from ..models import Sequential
from ..models.safetensors import replace_file
from .building import as_layers, built, naming
from .keras_config import Entry, describe_model, entries, group_names, make_layer
from .keras_files import import_h5py, open_keras

__all__ = ["from_keras", "to_keras"]

Array = NDArray[Any]


def from_keras(source: Any, model: Sequential | None = None) -> Layer | Sequential:
    """Return a layer or a model of Keras's as one of ours.

    Parameters
    ----------
    source : keras layer, keras model, or path
        Sequential, or functional with layers in a row; of ``InputLayer``, ``LSTM``, ``Dense``,
        ``Embedding`` and ``Dropout``. A path is that of a ``.keras`` file, a ``.weights.h5`` file
        or a ``.h5`` file of Keras 2.
    model : Sequential, optional
        The same layers, declared with this package and built: for a file of weights alone, which
        tells neither activations nor the order of layers. It gets the weights and is returned.

    Returns
    -------
    Layer or Sequential
        Of a model, its layers and weights, not what it was compiled with.

    Raises
    ------
    ValueError
        If the file is cut off or of another kind, or does not fit together.
    NotImplementedError
        If a layer or an option is not supported; the message names it.
    ModuleNotFoundError
        If it is a file and h5py is not installed.
    OSError
        If the file cannot be read.
    """
    if model is not None and not (isinstance(model, Sequential) and model.built):
        raise ValueError(f"model: got {model!r}, expected a built Sequential")
    if isinstance(source, (str, os.PathLike)):
        return _from_file(source, model)
    if model is not None:
        raise ValueError("model: got one beside a live source, expected it for a file of weights")
    if not callable(getattr(source, "get_config", None)):
        raise TypeError(f"source: got {type(source).__name__}, expected a keras object or a path")
    kind, config = type(source).__name__, source.get_config()
    with naming(f"{kind} {source.name!r}"):
        if hasattr(source, "layers"):
            described = entries({"class_name": kind, "config": config})
            arrays = {layer.name: layer.get_weights() for layer in source.layers}
            return _model(described, [arrays.get(e.name, []) for e in described], source.name)
        module = type(source).__module__
        sequential = {"layers": [{"class_name": kind, "config": config, "module": module}]}
        entry = entries({"class_name": "Sequential", "config": sequential})[0]
        return built(make_layer(entry), source.get_weights())


def _from_file(path: str | os.PathLike[str], model: Sequential | None) -> Sequential:
    with open_keras(path) as file:
        if model is not None:
            described = [Entry(type(layer).__name__, layer.name, {}) for layer in model.layers]
            model.set_weights([w for arrays in file.weights(described) for w in arrays])
            return model
        if file.description is None:
            groups = ", ".join(file.groups) or "no layers"
            raise ValueError(
                f"holds weights alone ({groups}), which tell neither the order of layers nor their "
                "activations; expected model=, a built Sequential with the same layers"
            )
        described = entries(file.description)
        name = file.description["config"].get("name")
        return _model(described, file.weights(described), name)


def _model(described: Sequence[Entry], weights: Iterable[list[Array]], name: Any) -> Sequential:
    layers = [make_layer(entry) for entry in described]
    for layer, arrays in zip(layers, weights, strict=True):
        if not isinstance(layer, Input):
            built(layer, arrays)
    model = Sequential(layers, name=None if name is None else str(name))
    if model.input_shape is None and model.layers:
        model.build(_input_shape(model.layers))
    return model


def _input_shape(layers: Sequence[Layer]) -> tuple[int | None, ...]:
    """Return the shape of inputs to a model that declares none."""
    first = next((layer for layer in layers if layer.weights), layers[0])
    if isinstance(first, Embedding):
        return (None, None)
    size = first.weights[0].shape[0] if first.weights else None
    return (None, None, size) if isinstance(first, LSTM) else (None, size)


def to_keras(model: LSTM | Sequential, path: str | os.PathLike[str]) -> None:
    """Write a file that ``keras.models.load_model`` reads. Keras is not needed for it.

    Parameters
    ----------
    model : LSTM or Sequential
        Built. The full weights are written, also where a layer computes with small ones.
    path : str or path
        Ending in ``.keras`` for the whole model, or in ``.weights.h5`` for the weights alone.

    Raises
    ------
    ValueError
        If the model is not built, the path ends otherwise, or there is no such Keras model.
    TypeError
        If it is no layer or model of ours.
    ModuleNotFoundError
        If h5py is not installed.
    OSError
        If the file cannot be written.
    """
    layers = as_layers(model, "to_keras")
    target = os.fspath(path)
    if target.endswith(".weights.h5"):
        replace_file(path, [_weights_file(layers)])
        return
    if not target.endswith(".keras"):
        raise ValueError(f"path: got {target!r}, expected it to end in .keras or .weights.h5")
    if isinstance(model, Layer):
        layer = copy.copy(model)  # a model takes a layer for itself
        model = Sequential([layer])
        model.build(_input_shape([layer]))
    description = json.dumps(describe_model(model))
    metadata = json.dumps({"keras_version": "3.0.0"})
    replace_file(path, [_zip(description, metadata, _weights_file(layers))])


def _weights_file(layers: Sequence[Layer]) -> bytes:
    buffer = io.BytesIO()
    with import_h5py().File(buffer, "w") as h5:
        h5.create_group("vars")
        groups = group_names([type(layer).__name__ for layer in layers])
        for group, layer in zip(groups, layers, strict=True):
            outer = h5.create_group(f"layers/{group}/vars")
            outer.attrs["name"] = layer.name
            inner = isinstance(layer, LSTM)
            variables = h5.create_group(f"layers/{group}/cell/vars") if inner else outer
            for index, weight in enumerate(layer.weights):
                variables[str(index)] = weight
    return buffer.getvalue()


def _zip(description: str, metadata: str, weights: bytes) -> bytes:
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        # Given as ZipInfo, entries have one fixed date: the same model makes the same file.
        archive.writestr(zipfile.ZipInfo("metadata.json"), metadata)
        archive.writestr(zipfile.ZipInfo("config.json"), description)
        archive.writestr(zipfile.ZipInfo("model.weights.h5"), weights)
    return buffer.getvalue()
