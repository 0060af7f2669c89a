"""Models of Keras: live, or in any file that Keras writes. Keras itself is not imported."""

from __future__ import annotations

import copy
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

from ..layers import LSTM, Bidirectional, Embedding, Input, Layer
from ..models import Sequential
from ..models.safetensors import replace_file
from .building import as_layers, built, naming
from .keras_chain import Entry, entries
from .keras_config import describe_model, group_names, kind_of, make_layer, single_kind
from .keras_files import import_h5py, open_keras

__all__ = ["from_keras", "to_keras"]

Array = NDArray[Any]


def from_keras(source: Any, model: Sequential | None = None) -> Layer | Sequential:
    """Return a layer or a model of Keras's as one of ours.

    Parameters
    ----------
    source : keras layer, keras model, or path
        Sequential, or functional with layers in a row; of ``InputLayer``, ``LSTM``,
        ``Bidirectional`` of an LSTM, ``Masking``, ``Embedding``, ``Dense`` and ``Dropout``. A path
        is that of a ``.keras`` file, a ``.weights.h5`` file or a ``.h5`` file of Keras 2.
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
            weights = [arrays.get(entry.name, []) for entry in described]
            return _model(described, weights, source.name, _version_of(source))
        module = type(source).__module__
        sequential = {"layers": [{"class_name": kind, "config": config, "module": module}]}
        entry = entries({"class_name": "Sequential", "config": sequential})[0]
        return built(make_layer(entry, _version_of(source)), source.get_weights())


def _version_of(source: Any) -> str | None:
    """Return the version of the Keras that a live object belongs to."""
    version = None
    for name in type(source).__module__.split(".")[:2]:  # keras, tf_keras or tensorflow.keras
        module = sys.modules.get(name)
        version = getattr(getattr(module, "keras", module), "__version__", version)
        if name != "tensorflow":
            break
    return None if version is None else str(version)


def _from_file(path: str | os.PathLike[str], model: Sequential | None) -> Sequential:
    with open_keras(path) as file:
        if model is not None:
            described = [Entry(kind_of(layer), layer.name, {}) for layer in model.layers]
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
        return _model(described, file.weights(described), name, file.version)


def _model(
    described: Sequence[Entry], weights: Iterable[list[Array]], name: Any, version: str | None
) -> Sequential:
    layers = [make_layer(entry, version) for entry in described]
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
    return (None, None, size) if isinstance(first, (LSTM, Bidirectional)) else (None, size)


def to_keras(model: Layer | Sequential, path: str | os.PathLike[str]) -> None:
    """Write a file that ``keras.models.load_model`` reads. Keras is not needed for it.

    Parameters
    ----------
    model : layer or Sequential
        Built. The full weights are written, also where a layer computes with small ones. An LSTM
        with `num_layers` becomes as many layers.
    path : str or path
        Ending in ``.keras`` for the whole model, or in ``.weights.h5`` for the weights alone.

    Raises
    ------
    ValueError
        If the model is not built, the path ends otherwise, or there is no such Keras model: its
        LSTM has neither peepholes, a projection, clips, coupled gates, an output activation of its
        own, layer normalisation, zoneout nor activations with parameters.
    TypeError
        If it is no layer or model of ours.
    ModuleNotFoundError
        If h5py is not installed.
    OSError
        If the file cannot be written.
    """
    layers = single_kind(as_layers(model, "to_keras"))
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
        groups = group_names([kind_of(layer) for layer in layers])
        for group, layer in zip(groups, layers, strict=True):
            _write_layer(h5, f"layers/{group}", layer)
    return buffer.getvalue()


def _write_layer(h5: Any, path: str, layer: Layer) -> None:
    variables = h5.create_group(f"{path}/vars")
    variables.attrs["name"] = layer.name
    if isinstance(layer, Bidirectional):
        _write_layer(h5, f"{path}/forward_layer", layer.forward_layer)
        _write_layer(h5, f"{path}/backward_layer", layer.backward_layer)
        return
    if isinstance(layer, LSTM):
        variables = h5.create_group(f"{path}/cell/vars")
    for index, weight in enumerate(layer.weights):
        variables[str(index)] = weight


def _zip(description: str, metadata: str, weights: bytes) -> bytes:
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        # Given as ZipInfo, entries have one fixed date: the same model makes the same file.
        archive.writestr(zipfile.ZipInfo("metadata.json"), metadata)
        archive.writestr(zipfile.ZipInfo("config.json"), description)
        archive.writestr(zipfile.ZipInfo("model.weights.h5"), weights)
    return buffer.getvalue()
