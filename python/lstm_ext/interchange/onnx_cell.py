"""The attributes of ONNX's LSTM that say which equations it has.

ONNX lists the activations of the gates, of the candidate and of the cell on its way out, for each
direction, and beside them the alphas of those that have one, and the betas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..functional._packing import resolve_activation
from ..layers import LSTM
from ..variants import ActivationSpec
from .features import activations_of, is_usual, same_activation

__all__ = ["cell_attributes", "read_cells"]

# Of each activation our name, and how many of alpha and beta it has, with ONNX's defaults: those of
# the operators of that name. Affine and ScaledTanh are none; and for ThresholdedRelu, ONNX Runtime
# has another default.
_ACTIVATIONS: dict[str, tuple[str, tuple[float | None, ...]]] = {
    "Affine": ("affine", (None, None)),
    "Elu": ("elu", (1.0,)),
    "HardSigmoid": ("hard_sigmoid", (0.2, 0.5)),
    "LeakyRelu": ("leaky_relu", (0.01,)),
    "Relu": ("relu", ()),
    "ScaledTanh": ("scaled_tanh", (None, None)),
    "Sigmoid": ("sigmoid", ()),
    "Softplus": ("softplus", ()),
    "Softsign": ("softsign", ()),
    "Tanh": ("tanh", ()),
    "ThresholdedRelu": ("thresholded_relu", (None,)),
}
_BY_LOWER_CASE = {name.lower(): name for name in _ACTIVATIONS}  # ONNX Runtime ignores the case
_PLAIN_NAMES = (
    "tanh", "sigmoid", "linear", "relu", "leaky_relu", "hard_sigmoid", "elu", "softplus",
    "softsign", "thresholded_relu",
)  # fmt: skip
_USUAL = ["Sigmoid", "Tanh", "Tanh"]


def read_cells(options: dict[str, Any], directions: int) -> list[dict[str, Any]]:
    """Return the arguments of `LSTM` that a node's attributes are, for each direction.

    Raises
    ------
    ValueError
        If they are not what ONNX says.
    NotImplementedError
        If an activation is none of ours.
    """
    common: dict[str, Any] = {}
    if "clip" in options:
        if not options["clip"] > 0:
            raise ValueError(f"clip: got {options['clip']}, expected a positive number")
        common["clip"] = _decimal(options["clip"])
    coupled = options.get("input_forget", 0)
    if coupled not in (0, 1):
        raise ValueError(f"input_forget: got {coupled}, expected 0 or 1")
    if coupled:
        common["input_forget"] = True
    names = options.get("activations") or _USUAL * directions
    if len(names) != 3 * directions:
        raise ValueError(f"activations: got {len(names)}, expected {3 * directions}")
    numbers = [iter(options.get(f"activation_{key}") or ()) for key in ("alpha", "beta")]
    specs = [_spec(str(name), numbers) for name in names]
    for key, rest in zip(("alpha", "beta"), numbers, strict=True):
        if left := list(rest):
            raise ValueError(f"activation_{key}: got {left} more than the activations take")
    return [
        {**common, **_arguments(*specs[3 * index : 3 * index + 3])} for index in range(directions)
    ]


def _spec(name: str, numbers: Sequence[Iterator[Any]]) -> ActivationSpec:
    """Return an activation by our name; take its numbers, if there are any left."""
    known = _BY_LOWER_CASE.get(name.lower())
    if known is None:
        raise NotImplementedError(f"activations: {name} is not supported")
    ours, defaults = _ACTIVATIONS[known]
    values = []
    for key, default, rest in zip(("alpha", "beta"), defaults, numbers, strict=False):
        value = next(rest, default)
        if value is None:
            raise ValueError(
                f"activation_{key}: got none for {known}, whose default is not one everywhere"
            )
        values.append(_decimal(value))
    spec: ActivationSpec = (ours, *values) if values else ours  # type: ignore[assignment]
    for plain in _PLAIN_NAMES:
        if _as_single(plain) == _as_single(spec):
            return plain
    return spec


def _as_single(spec: ActivationSpec) -> tuple[Any, ...]:
    """Return what function an activation is, its numbers as ONNX keeps them."""
    name, *numbers = resolve_activation(spec, "activations")
    return (name, *map(np.float32, numbers))


def _decimal(value: Any) -> float:
    """Return the shortest decimal number for a float32: 0.2 as ONNX keeps it is 0.2 again.

    So is the sixth, of which Keras makes its hard_sigmoid.
    """
    single = np.float32(value)
    return 1 / 6 if single == np.float32(1 / 6) else float(str(single))


def _arguments(
    gates: ActivationSpec, candidate: ActivationSpec, output: ActivationSpec
) -> dict[str, Any]:
    arguments = {"activation": candidate, "recurrent_activation": gates}
    return arguments if output == candidate else {**arguments, "output_activation": output}


def cell_attributes(layers: Sequence[LSTM]) -> dict[str, Any]:
    """Return the attributes of a node whose directions are these layers.

    They have to agree in clip and input_forget.

    Raises
    ------
    ValueError
        If ONNX has no such activation, or keeps a number less precisely than float64 does.
    """
    first = layers[0].cell
    attributes: dict[str, Any] = {}
    if first.clip is not None:
        attributes["clip"] = _single(layers[0], "clip", first.clip)
    if first.input_forget:
        attributes["input_forget"] = 1
    if all(is_usual(layer.cell) for layer in layers):
        return attributes
    names, alphas, betas = [], [], []
    for layer in layers:
        for spec in activations_of(layer.cell):
            name, numbers = _of_onnx(layer, spec)
            names.append(name)
            alphas += numbers[:1]
            betas += numbers[1:]
    found = {"activations": names, "activation_alpha": alphas, "activation_beta": betas}
    return attributes | {key: values for key, values in found.items() if values}


def _of_onnx(layer: LSTM, spec: ActivationSpec) -> tuple[str, list[float]]:
    """Return ONNX's name of an activation, and its numbers."""
    kind, *numbers = resolve_activation(spec, "activation")
    for name in (*_USUAL[:2], *_ACTIVATIONS):
        ours, defaults = _ACTIVATIONS[name]
        values = numbers[: len(defaults)]
        candidate: ActivationSpec = (ours, *values) if values else ours  # type: ignore[assignment]
        if resolve_activation(candidate, "activation")[0] == kind and same_activation(
            candidate, spec
        ):
            return name, [_single(layer, f"the numbers of {spec!r}", value) for value in values]
    raise ValueError(f"{layer.name}: got the activation {spec!r}, which ONNX's LSTM does not have")


def _single(layer: LSTM, what: str, value: float) -> float:
    """Return a number that ONNX keeps as float32, if that changes nothing."""
    # What a reader makes of it has to be the same number, for those who compute in float64.
    if layer.dtype == "float64" and value != _decimal(value):
        raise ValueError(
            f"{layer.name}: got {value!r} for {what}, of which ONNX keeps but float32's digits; "
            f"expected {_decimal(value)!r}"
        )
    return float(np.float32(value))
