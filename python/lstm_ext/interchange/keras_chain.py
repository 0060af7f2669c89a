"""The layers of Keras's models in their order, found in descriptions.

A description is the dict that Keras calls a config: of a ``Sequential``, or of a ``Functional``
model whose layers follow one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["SUPPORTED", "Config", "Entry", "as_entry", "entries"]

Config = dict[str, Any]

SUPPORTED = ("InputLayer", "LSTM", "Bidirectional", "Dense", "Dropout", "Embedding", "Masking")
_KERAS = ("keras", "tf_keras", "tensorflow")
# Operations in which Keras 3 writes down how a mask is computed.
_OF_MASKS = ("NotEqual", "Any")


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
    return [as_entry(layer) for layer in layers]


def as_entry(layer: Any, supported: Sequence[str] = SUPPORTED) -> Entry:
    """Return a layer's description, of one of the supported classes of Keras itself."""
    kind, config = (layer.get(key) for key in ("class_name", "config"))
    if not isinstance(kind, str) or not isinstance(config, dict):
        raise ValueError("the description of a layer lacks its class or its config")
    name = str(config.get("name", kind))
    registered = str(layer.get("registered_name") or kind)
    module = str(layer.get("module") or "keras").split(".")[0]
    if kind not in supported or ">" in registered or module not in _KERAS:
        raise NotImplementedError(
            f"layer {name!r} of the class {registered!r} is not supported; supported are "
            f"{', '.join(supported)}"
        )
    return Entry(kind, name, config)


def _chain(layers: Sequence[Config], output: Any) -> list[Config]:
    """Return the layers of a functional model in their order, each fed by the one before alone."""
    by_name = {str(layer.get("name")): layer for layer in layers}
    rest = dict(by_name)
    if isinstance(output, list) and len(output) == 1 and isinstance(output[0], list):
        output = output[0]
    chain: list[Config] = []
    while output is not None:
        name = _first_output(output)
        layer = rest.pop(name, None)
        if layer is None:
            raise ValueError(f"layer {name!r} is missing, or feeds itself")
        chain.insert(0, layer)
        output = _input_of(layer)
    for name in _check_masks(chain, by_name):
        rest.pop(name, None)
    if rest:
        others = ", ".join(map(repr, rest))
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
    node = _call(layer)
    if node is None:
        return None
    if isinstance(node, list):
        return node
    arguments = node.get("args")
    history = None
    if isinstance(arguments, (list, tuple)) and len(arguments) == 1:
        history = _history(arguments[0])
    if history is None:
        name = layer.get("name")
        raise NotImplementedError(f"layer {name!r} has several inputs, which is not supported")
    return history


def _call(layer: Config) -> Any:
    """Return a layer's call: of Keras 2 [name, node, output, arguments], of an Input None."""
    nodes = layer.get("inbound_nodes")
    if not nodes:
        return None
    name = layer.get("name")
    if not isinstance(nodes, list) or len(nodes) != 1:
        raise NotImplementedError(f"layer {name!r} is used several times, which is not supported")
    node = nodes[0]
    if isinstance(node, list) and len(node) == 1 and isinstance(node[0], list):
        return node[0]
    if not isinstance(node, dict):
        raise NotImplementedError(f"layer {name!r} has several inputs, which is not supported")
    return node


def _history(tensor: Any) -> Any:
    """Return [layer, node, output] of what makes a tensor; None of what is none."""
    config = tensor.get("config") if isinstance(tensor, dict) else None
    return (config.get("keras_history") or []) if isinstance(config, dict) else None


# ---- masks ----


def _check_masks(chain: Sequence[Config], by_name: Mapping[str, Config]) -> set[str]:
    """Refuse arguments of calls, but for the mask that comes down the chain by itself.

    Returns
    -------
    set of str
        The names of the operations that compute masks.
    """
    found: set[str] = set()
    origin: Config | None = None  # the layer whose mask comes down
    for layer in chain:
        node = _call(layer)
        arguments: Any = {}
        if isinstance(node, list):
            arguments = node[3] if len(node) > 3 else {}
        elif node is not None:
            arguments = node.get("kwargs")
        name = layer.get("name")
        for argument, value in (arguments or {}).items():
            if value is None or value is False:
                continue
            operations = _mask_of(value, origin, by_name) if argument == "mask" else None
            if operations is None:
                raise NotImplementedError(
                    f"layer {name!r} is called with {argument}: not supported"
                )
            found |= operations
        origin = _mask_after(layer, origin)
    return found


def _mask_after(layer: Config, origin: Config | None) -> Config | None:
    """Return the layer whose mask the output of a layer has."""
    kind, config = layer.get("class_name"), layer.get("config")
    options = config if isinstance(config, dict) else {}
    if kind == "Masking":
        return layer
    if kind == "Embedding":
        return layer if options.get("mask_zero") else None
    if kind == "Bidirectional":
        inner = options.get("layer")
        inner = inner.get("config") if isinstance(inner, dict) else None
        return origin if isinstance(inner, dict) and inner.get("return_sequences") else None
    if kind == "LSTM":
        return origin if options.get("return_sequences") else None
    return origin


def _mask_of(tensor: Any, origin: Config | None, by_name: Mapping[str, Config]) -> set[str] | None:
    """Return the operations that compute a layer's mask; None if a tensor is something else.

    That is NotEqual(numbers, 0) of an Embedding, and Any(NotEqual(values, mask_value)) of a
    Masking, of what that layer itself takes.
    """
    history = _history(tensor)
    if origin is None or not history:
        return None
    operation = by_name.get(_first_output(history), {})
    names = {str(operation.get("name"))}
    value: Any = 0
    if origin.get("class_name") == "Masking":
        config = operation.get("config")
        options = config if isinstance(config, dict) else {}
        along = options.get("axis"), options.get("keepdims", False)
        if operation.get("class_name") != "Any" or along not in ((-1, False), ([-1], False)):
            return None
        history = _input_of(operation)
        operation = by_name.get(_first_output(history), {})
        names.add(str(operation.get("name")))
        value = (origin.get("config") or {}).get("mask_value", 0.0)
    if operation.get("class_name") != "NotEqual":
        return None
    node = _call(operation)
    arguments = node.get("args") if isinstance(node, dict) else None
    if not isinstance(arguments, (list, tuple)) or len(arguments) != 2:
        return None
    same_input = list(_history(arguments[0]) or ()) == list(_input_of(origin) or ())
    return names if same_input and arguments[1] == value else None
