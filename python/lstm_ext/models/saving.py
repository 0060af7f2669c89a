"""A model as one safetensors file: weights as arrays, everything else as JSON in the metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .. import losses, metrics, optimizers
from .._arrays import to_host
from .._registry import serialize
from ..initializers import Initializer
from ..layers import Layer
from . import safetensors

if TYPE_CHECKING:
    from .sequential import Sequential

__all__ = ["load_model", "load_weights", "nothing_drawn", "save_model", "save_weights"]

_FORMAT = "lstm_ext model"


def save_model(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Write the layers, their weights, and the optimizer with its state."""
    description: dict[str, Any] = {
        "name": model.name,
        "layers": [serialize(layer) for layer in model.declared_layers],
        "input_shape": None if model.input_shape is None else list(model.input_shape),
    }
    arrays = _weights(model)
    if model.optimizer is not None and model.loss is not None:
        description["training"] = {
            "optimizer": serialize(model.optimizer),
            "loss": serialize(model.loss),
            "metrics": [serialize(metric) for metric in model.metrics],
            "iterations": model.optimizer.iterations,
        }
        for name, array in model.optimizer.state().items():
            arrays[f"optimizer/{name}"] = to_host(array)
    metadata = {"format": _FORMAT, "model": json.dumps(description)}
    safetensors.write_file(path, arrays, metadata)


def load_model(path: str | os.PathLike[str]) -> Sequential:
    """Read a model that `Sequential.save` wrote.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    Sequential
        With the same weights, and if it was compiled, ready to train on from where it was.

    Raises
    ------
    ValueError
        If the file is cut off, of another kind, or does not fit together. No code in it is run.
    OSError
        If it cannot be read.
    """
    from .sequential import Sequential

    arrays, metadata = safetensors.read_file(path)
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path}: no model of lstm_ext; its format is {metadata.get('format')!r}")
    try:
        description = json.loads(metadata["model"])
        layers = [_layer(entry) for entry in description["layers"]]
        with nothing_drawn(layers):
            model = Sequential(layers, name=description["name"])
            if description["input_shape"] is not None:
                model.build(description["input_shape"])
        _set_weights(model, arrays)
        if training := description.get("training"):
            model.compile(
                optimizer=optimizers.get(training["optimizer"]),
                loss=losses.get(training["loss"]),
                metrics=[metrics.get(metric) for metric in training["metrics"]],
            )
            _set_optimizer_state(model, arrays, training["iterations"])
    except Exception as error:  # there is no telling what a description from outside can provoke
        raise ValueError(f"{path}: does not fit together: {error}") from error
    return model


def save_weights(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Write the weights alone."""
    safetensors.write_file(path, _weights(model), {"format": "lstm_ext weights"})


def load_weights(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Read weights into a built model of the same layers; it is unchanged if they do not fit."""
    arrays, _ = safetensors.read_file(path)
    try:
        _set_weights(model, arrays)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _weights(model: Sequential) -> dict[str, Any]:
    return {
        f"layers/{index}/{name}": to_host(weight)
        for index, layer in enumerate(model.layers)
        for name, weight in zip(layer.weight_names, layer.weights, strict=True)
    }


def _set_weights(model: Sequential, arrays: dict[str, Any]) -> None:
    found = {name for name in arrays if name.startswith("layers/")}
    expected = set(_weights(model))
    if found != expected:
        raise ValueError(f"weights: got {sorted(found)}, expected {sorted(expected)}")
    model.set_weights([arrays[name] for name in _weights(model)])


def _set_optimizer_state(model: Sequential, arrays: dict[str, Any], iterations: int) -> None:
    assert model.optimizer is not None
    prefix = "optimizer/"
    state = {n[len(prefix) :]: a for n, a in arrays.items() if n.startswith(prefix)}
    if state or iterations:
        model.optimizer.build(model.trainable_weights)
        model.optimizer.set_state(state, iterations)


def _layer(entry: dict[str, Any]) -> Layer:
    kind = Layer.classes.get(entry["class_name"])
    if kind is None:
        known = ", ".join(sorted(Layer.classes))
        raise ValueError(f"layer {entry['class_name']!r} is unknown; known are {known}")
    return kind.from_config(entry["config"])


class _Unwritten(Initializer):
    """Gives memory that is not touched until the weights of the file come into it."""

    def __call__(self, shape: Iterable[int], dtype: DTypeLike = "float32") -> NDArray[Any]:
        return np.zeros(tuple(shape), dtype)

    def get_config(self) -> dict[str, Any]:
        return {}


@contextmanager
def nothing_drawn(layers: Sequence[Layer]) -> Iterator[None]:
    """Have the layers built without initial weights, which take time and random numbers."""
    replaced = [
        (layer, name, value)
        for outer in layers
        for layer in (outer, *outer.inner_layers)
        for name, value in vars(layer).items()
        if isinstance(value, Initializer)
    ]
    for layer, name, _ in replaced:
        setattr(layer, name, _Unwritten())
    try:
        yield
    finally:
        for layer, name, value in replaced:
            setattr(layer, name, value)
