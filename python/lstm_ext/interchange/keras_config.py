"""What Keras says about a layer, as a layer of ours, and the other way round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from .._registry import snake_case
from ..layers import LSTM, Bidirectional, Dense, Dropout, Embedding, Input, Layer, Masking
from ..models import Sequential
from ..variants import ActivationSpec
from .building import naming
from .features import activation_among, check_features, single_layers
from .keras_chain import Config, Entry, as_entry

__all__ = ["describe_model", "group_names", "kind_of", "make_layer", "single_kind"]

_LAYERS: dict[str, type[Layer]] = {
    "InputLayer": Input,
    **{kind.__name__: kind for kind in (LSTM, Dense, Dropout, Embedding, Masking)},
}
# Options of Keras 2, and the values under which they change no result.
_WITHOUT_EFFECT = {"time_major": (False,), "implementation": (0, 1, 2), "input_length": None}
# Arguments of our layers that Keras's do not have.
_OURS = {
    "output_activation", "clip", "cell_clip", "input_forget", "peepholes", "proj_size",
    "layer_norm", "zoneout", "cell_zoneout", "num_layers", "weights_dtype",
}  # fmt: skip
_ACTIVATIONS = (
    "tanh", "sigmoid", "linear", "relu", "leaky_relu", "hard_sigmoid", "softplus", "softsign",
    "elu", "selu", "gelu", "silu", "exponential",
)  # fmt: skip
# Keras 3 changed it.
_HARD_SIGMOID_OF_KERAS_2: ActivationSpec = ("hard_sigmoid", 0.2, 0.5)


def make_layer(entry: Entry, version: str | None = None) -> Layer:
    """Return the layer, not built.

    Parameters
    ----------
    entry : Entry
    version : str, optional
        Of the Keras that wrote it, as far as that is known.

    Raises
    ------
    ValueError
        If an option is unknown or has a value that it cannot have.
    NotImplementedError
        If an option is not supported.
    """
    with naming(f"layer {entry.name!r}"):
        if entry.class_name == "Bidirectional":
            return _make_bidirectional(entry.config, version)
        return _LAYERS[entry.class_name](**_options(entry, version))


def _options(entry: Entry, version: str | None) -> Config:
    """Return the arguments of our layer of that class."""
    config = dict(entry.config)
    for option, values in _WITHOUT_EFFECT.items():
        value = config.pop(option, None)
        if values is not None and value is not None and value not in values:
            raise NotImplementedError(f"{option}={value!r} is not supported")
    for option in _OURS & config.keys():
        raise TypeError(f"{entry.class_name}: got an unexpected argument {option!r}")
    if config.get("dtype") is not None:
        config["dtype"] = _dtype(config["dtype"])
    for option in ("activation", "recurrent_activation"):
        # Keras writes its own by their names, and others as objects that may bear the same.
        if not isinstance(config.get(option), (str, type(None))):
            raise NotImplementedError(f"{option}={config[option]!r} is not supported")
        if config.get(option) == "hard_sigmoid" and (version or "3").split(".")[0] in ("1", "2"):
            if entry.class_name != "LSTM":
                raise NotImplementedError(
                    f"{option}='hard_sigmoid' of Keras {version}, 0.2 z + 0.5, is not supported"
                )
            config[option] = _HARD_SIGMOID_OF_KERAS_2
    shape = config.pop("batch_input_shape", None)
    if shape is not None and entry.class_name == "InputLayer":
        config["batch_shape"] = shape
    elif shape is not None:
        config["input_shape"] = shape[1:]
    for option in ("sparse", "ragged"):
        if entry.class_name == "InputLayer" and config.get(option) is False:
            del config[option]
    return config


def _make_bidirectional(config: Config, version: str | None) -> Bidirectional:
    config = dict(config)
    layers: dict[str, Any] = {}
    for option in ("layer", "backward_layer"):
        description = config.pop(option, None)
        if description is None and option == "backward_layer":
            continue
        if not isinstance(description, dict):
            raise ValueError(f"{option}: got {description!r}, expected the description of a layer")
        with naming(option):
            inner = make_layer(as_entry(description, ("LSTM",)), version)
        layers[option] = inner
    shape = config.pop("batch_input_shape", None)
    if shape is not None:
        config["input_shape"] = shape[1:]
    if config.get("dtype") is not None:
        config["dtype"] = _dtype(config["dtype"])
    return Bidirectional(**layers, **config)


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


def kind_of(layer: Layer) -> str:
    """Return the name of Keras's class for a layer, also of a class made from one of ours."""
    for kind in (Input, LSTM, Bidirectional, Dense, Dropout, Embedding, Masking):
        if isinstance(layer, kind):
            return "InputLayer" if kind is Input else kind.__name__
    raise ValueError(f"{layer.name}: got a {type(layer).__name__}, which Keras does not have")


def single_kind(layers: Sequence[Layer]) -> list[Layer]:
    """Return layers as Keras has them: of an LSTM with several layers, each by itself.

    Raises
    ------
    ValueError
        If one is not like Keras's; the message names what it has.
    """
    found: list[Layer] = []
    for layer in layers:
        for inner in (layer, *layer.inner_layers):
            if isinstance(inner, LSTM):
                _check_for_keras(inner)
        found += single_layers(layer) if isinstance(layer, LSTM) else [layer]
    return found


def _check_for_keras(layer: LSTM) -> None:
    check_features(layer, "Keras's LSTM")
    for name in ("activation", "recurrent_activation"):
        if activation_among(getattr(layer.cell, name), _ACTIVATIONS) is None:
            raise ValueError(
                f"{layer.name}: got {name}={getattr(layer.cell, name)!r}, which Keras does not have"
            )
    if layer.num_layers > 1 and layer.go_backwards:
        raise ValueError(
            f"{layer.name}: got go_backwards with num_layers={layer.num_layers}, where Keras does "
            "not turn the mask around; expected one layer"
        )


def _describe_layer(layer: Layer) -> Config:
    config = layer.get_config()
    if isinstance(layer, Input):
        dtype = config["dtype"] or "float32"
        return _described("InputLayer", {**config, "dtype": dtype})
    own = {"input_shape", *_OURS}
    if isinstance(layer, (Dense, Embedding)):
        own.add("seed")
    config = {name: value for name, value in config.items() if name not in own}
    for name, value in config.items():
        if name.endswith("_initializer"):
            config[name] = {"module": "keras.initializers", **value, "registered_name": None}
    if isinstance(layer, LSTM):
        for name in ("activation", "recurrent_activation"):
            config[name] = activation_among(getattr(layer.cell, name), _ACTIVATIONS)
    if isinstance(layer, Bidirectional):
        config["layer"] = _describe_layer(layer.forward_layer)
        config["backward_layer"] = _describe_layer(layer.backward_layer)
    return _described(kind_of(layer), config)


def _described(class_name: str, config: Config) -> Config:
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": config,
        "registered_name": None,
    }


def describe_model(model: Sequential) -> Config:
    """Return the description of a built model, beginning with its input.

    Raises
    ------
    ValueError
        If a layer keeps its state and the model does not tell the size of its batches.
    """
    shape = model.input_shape
    assert shape is not None
    for layer in model.layers:
        if getattr(layer, "stateful", False) and shape[0] is None:
            raise ValueError(
                f"{layer.name}: got stateful in a model for batches of any size, expected "
                "Input(batch_shape=...), as Keras does"
            )
    declared = model.declared_layers
    first = declared[0] if isinstance(declared[0], Input) else Input(batch_shape=shape)
    layers = [first, *single_kind(model.layers)]
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
