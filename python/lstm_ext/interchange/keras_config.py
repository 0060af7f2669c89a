"""What Keras says about a model's layers, as layers of ours.

A description is the dict that Keras calls a config: of a ``Sequential``, or of a ``Functional``
model whose layers follow one another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._registry import snake_case
from ..layers import LSTM, Dense, Dropout, Embedding, Input, Layer
from ..models import Sequential
from .building import naming

__all__ = ["Entry", "describe_model", "entries", "group_names", "make_layer"]

Config = dict[str, Any]

_LAYERS: dict[str, type[Layer]] = {
    "InputLayer": Input,
    **{kind.__name__: kind for kind in (LSTM, Dense, Dropout, Embedding)},
}
# Options of Keras 2, and the values under which they change no result.
_WITHOUT_EFFECT = {"time_major": (False,), "implementation": (0, 1, 2), "input_length": None}
_KERAS = ("keras", "tf_keras", "tensorflow")


class Entry(NamedTuple):
    """A layer as Keras describes it."""

    class_name: str
    name: str
    config: Config


def entries(description: Config) -> list[Entry]:
    """Return the layers of a model, from the input to the output.

    Raises
    ------
    ValueError
        If the description is none of a model.
    NotImplementedError
        If its layers do not follow one another.
    """
    kind, config = description.get("class_name"), description.get("config")
    if kind not in ("Sequential", "Functional", "Model"):
        raise NotImplementedError(f"a model of the class {kind!r} is not supported")
    layers = config.get("layers") if isinstance(config, dict) else None
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ValueError("the description of the model has no list of layers")
    if kind != "Sequential":
        assert isinstance(config, dict)
        layers = _chain(layers, config.get("output_layers"))
    return [_entry(layer) for layer in layers]


def _entry(layer: Config) -> Entry:
    kind, config = layer.get("class_name"), layer.get("config")
    if not isinstance(kind, str) or not isinstance(config, dict):
        raise ValueError("the description of a layer lacks its class or its config")
    name = str(config.get("name", kind))
    registered = str(layer.get("registered_name") or kind)
    module = str(layer.get("module") or "keras").split(".")[0]
    if kind not in _LAYERS or ">" in registered or module not in _KERAS:
        known = ", ".join(_LAYERS)
        raise NotImplementedError(
            f"layer {name!r} of the class {registered!r} is not supported; supported are {known}"
        )
    return Entry(kind, name, config)


def _chain(layers: Sequence[Config], output: Any) -> list[Config]:
    """Return the layers of a functional model in their order, each fed by the one before alone."""
    by_name = {str(layer.get("name")): layer for layer in layers}
    if isinstance(output, list) and len(output) == 1 and isinstance(output[0], list):
        output = output[0]
    chain: list[Config] = []
    while output is not None:
        name = _first_output(output)
        layer = by_name.pop(name, None)
        if layer is None:
            raise ValueError(f"layer {name!r} is missing, or feeds itself")
        chain.insert(0, layer)
        output = _input_of(layer)
    if by_name:
        others = ", ".join(map(repr, by_name))
        raise NotImplementedError(f"layers beside the chain are not supported: {others}")
    return chain


def _first_output(history: Any) -> str:
    if not isinstance(history, (list, tuple)) or len(history) < 3:
        raise NotImplementedError("a model with several inputs or outputs is not supported")
    name, _, index = history[:3]
    if index != 0:
        raise NotImplementedError(f"output {index} of layer {name!r} is not supported, only 0")
    return str(name)


def _input_of(layer: Config) -> Any:
    """Return [layer, node, output] of what feeds a layer; None of an input."""
    nodes = layer.get("inbound_nodes")
    if not nodes:
        return None
    name = layer.get("name")
    if not isinstance(nodes, list) or len(nodes) != 1:
        raise NotImplementedError(f"layer {name!r} is used several times, which is not supported")
    node = nodes[0]
    if isinstance(node, list):  # Keras 2: [[name, node, output, arguments]]
        if len(node) != 1 or not isinstance(node[0], list):
            raise NotImplementedError(f"layer {name!r} has several inputs, which is not supported")
        _check_arguments(name, node[0][3] if len(node[0]) > 3 else {})
        return node[0]
    arguments = node.get("args") if isinstance(node, dict) else None
    if not isinstance(arguments, (list, tuple)) or len(arguments) != 1:
        raise NotImplementedError(f"layer {name!r} has several inputs, which is not supported")
    _check_arguments(name, node.get("kwargs"))
    tensor = arguments[0]
    history = tensor.get("config") if isinstance(tensor, dict) else None
    if not isinstance(history, dict):
        raise NotImplementedError(f"layer {name!r} has several inputs, which is not supported")
    return history.get("keras_history") or []


def _check_arguments(name: Any, arguments: Any) -> None:
    for argument, value in (arguments or {}).items():
        if value is not None and value is not False:
            raise NotImplementedError(f"layer {name!r} is called with {argument}: not supported")


def make_layer(entry: Entry) -> Layer:
    """Return the layer, not built.

    Raises
    ------
    ValueError
        If an option is unknown or has a value that it cannot have.
    NotImplementedError
        If an option is not supported.
    """
    config = dict(entry.config)
    with naming(f"layer {entry.name!r}"):
        for option, values in _WITHOUT_EFFECT.items():
            value = config.pop(option, None)
            if values is not None and value is not None and value not in values:
                raise NotImplementedError(f"{option}={value!r} is not supported")
        if config.get("dtype") is not None:
            config["dtype"] = _dtype(config["dtype"])
        for option in ("activation", "recurrent_activation"):
            # Keras writes its own by their names, and others as objects that may bear the same.
            if not isinstance(config.get(option), (str, type(None))):
                raise NotImplementedError(f"{option}={config[option]!r} is not supported")
        shape = config.pop("batch_input_shape", None)
        if shape is not None and entry.class_name == "InputLayer":
            config["batch_shape"] = shape
        elif shape is not None:
            config["input_shape"] = shape[1:]
        for option in ("sparse", "ragged"):
            if entry.class_name == "InputLayer" and config.get(option) is False:
                del config[option]
        return _LAYERS[entry.class_name](**config)


def _dtype(policy: Any) -> str:
    """Return the dtype of a dtype policy of Keras's."""
    name = policy
    if isinstance(policy, dict):
        config = policy.get("config")
        name = config.get("name") if isinstance(config, dict) else None
    if not isinstance(name, str):
        raise ValueError(f"dtype: got {policy!r}, expected a name")
    if "mixed" in name or "16" in name or "_from_" in name:
        raise NotImplementedError(f"dtype={name!r} is not supported")
    return name


def group_names(kinds: Sequence[str]) -> list[str]:
    """Return the groups that hold the layers in a weights file: counters of the class's name."""
    seen: Counter[str] = Counter()
    names = []
    for kind in kinds:
        base = snake_case(kind)
        names.append(f"{base}_{seen[base]}" if seen[base] else base)
        seen[base] += 1
    return names


def _describe_layer(layer: Layer) -> Config:
    config = layer.get_config()
    if isinstance(layer, Input):
        dtype = config["dtype"] or "float32"
        return _described("InputLayer", {**config, "dtype": dtype})
    own = {"weights_dtype", "input_shape"}
    if isinstance(layer, (Dense, Embedding)):
        own.add("seed")
    config = {name: value for name, value in config.items() if name not in own}
    for name, value in config.items():
        if name.endswith("_initializer"):
            config[name] = {"module": "keras.initializers", **value, "registered_name": None}
    return _described(type(layer).__name__, config)


def _described(class_name: str, config: Config) -> Config:
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": config,
        "registered_name": None,
    }


def describe_model(model: Sequential) -> Config:
    """Return the description of a built model, beginning with its input."""
    shape = model.input_shape
    assert shape is not None
    declared = model.declared_layers
    layers = declared if isinstance(declared[0], Input) else [Input(batch_shape=shape), *declared]
    config = {
        "name": model.name,
        "trainable": True,
        "layers": [_describe_layer(layer) for layer in layers],
        "build_input_shape": list(shape),
    }
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": config,
        "registered_name": None,
        "build_config": {"input_shape": list(shape)},
    }
