"""The arguments that say which equations an LSTM layer has: checked, and as a config keeps them."""

from __future__ import annotations

from typing import Any

from .. import activations
from .._registry import check_number
from ..functional._packing import resolve_activation
from ..variants import ActivationSpec, Cell
from .base import check_rate

__all__ = ["as_activation", "as_cell", "check_layer_norm", "serialize_activation"]


def as_activation(value: Any, name: str) -> ActivationSpec:
    """Return the name of an activation, or a tuple of it with alpha, or with alpha and beta.

    Parameters
    ----------
    value : str, Activation, sequence, dict or None
        A sequence holds a name and its parameters; a dict is Keras's; None is linear, as in Keras.
    name : str
        What the error message calls it.

    Raises
    ------
    ValueError
        If there is no such activation, or it takes fewer parameters.
    TypeError
        If `value` is none of these, or a parameter no number.
    """
    spec: ActivationSpec
    if isinstance(value, (tuple, list)) and value and isinstance(value[0], str):
        spec = tuple(value) if len(value) > 1 else value[0]
    else:
        spec = _name_of(value, name)
    resolve_activation(spec, name)
    return spec


def _name_of(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, (activations.Activation, dict)):
        activation = activations.get(value, name)
        if activations.get(activation.name, name) is activation:
            return activation.name
    raise TypeError(
        f"{name}: got {value!r}, expected a name of lstm_ext.activations, or a tuple of it with "
        "its parameters"
    )


def serialize_activation(value: ActivationSpec | None) -> str | list[Any] | None:
    """Return what JSON can keep and `as_activation` takes."""
    return list(value) if isinstance(value, tuple) else value


def as_cell(
    activation: Any,
    recurrent_activation: Any,
    output_activation: Any,
    clip: float | None,
    cell_clip: float | None,
    input_forget: bool,
    zoneout: float,
    cell_zoneout: float,
) -> Cell:
    """Return the equations for a layer's arguments.

    Raises
    ------
    ValueError, TypeError
        If an argument is not what it should be.
    """
    return Cell(
        as_activation(activation, "activation"),
        as_activation(recurrent_activation, "recurrent_activation"),
        None
        if output_activation is None
        else as_activation(output_activation, "output_activation"),
        _as_bound(clip, "clip"),
        _as_bound(cell_clip, "cell_clip"),
        bool(input_forget),
        check_rate(zoneout, "zoneout"),
        check_rate(cell_zoneout, "cell_zoneout"),
    )


def _as_bound(value: float | None, name: str) -> float | None:
    return None if value is None else check_number(value, name, low=0.0, open_low=True)


def check_layer_norm(cell: Cell, **others: Any) -> None:
    """Refuse what layer normalisation does not go with.

    Parameters
    ----------
    cell : Cell
    **others
        Further arguments by name; those that are set are refused.

    Raises
    ------
    ValueError
        If there is one; the message names it and layer_norm.
    """
    plain = Cell()
    for name in ("clip", "cell_clip", "input_forget", "zoneout", "cell_zoneout"):
        if getattr(cell, name) != getattr(plain, name):
            others[name] = getattr(cell, name)
    for name, value in others.items():
        if value:
            raise ValueError(f"{name}: got {value!r} beside layer_norm, expected one of the two")
