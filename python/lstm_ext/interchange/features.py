"""What an LSTM of ours has beyond the usual: what writers check, name, or take apart."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from typing import Any

from ..functional._packing import resolve_activation
from ..layers import LSTM
from ..variants import ActivationSpec, Cell
from .building import built

__all__ = [
    "activation_among",
    "activations_of",
    "check_features",
    "is_usual",
    "same_activation",
    "single_layers",
    "warn_of_training",
]

_PLAIN = Cell()


def single_layers(layer: LSTM) -> list[LSTM]:
    """Return layers, each of one layer, that on top of each other compute what a layer does."""
    count = layer.num_layers
    if count == 1:
        return [layer]
    weights = layer.weights
    each = len(weights) // count
    layers = []
    for index in range(count):
        last = index == count - 1
        changes: dict[str, Any] = {
            "name": f"{layer.name}_l{index}" if index else layer.name,
            "num_layers": 1,
            "go_backwards": layer.go_backwards and index == 0,
            "return_sequences": layer.return_sequences or not last,
            "return_state": False,
            "zero_output_for_mask": layer.zero_output_for_mask and last,
        }
        single = LSTM(**{**layer.get_config(), **changes})
        layers.append(built(single, weights[index * each : (index + 1) * each]))
    return layers


def check_features(layer: LSTM, owner: str, known: Collection[str] = ()) -> None:
    """Refuse a layer with something that another framework's LSTM does not have.

    Parameters
    ----------
    layer : LSTM
    owner : str
        Whose LSTM it is, for the message.
    known : collection of str
        Which of our arguments that LSTM has too. Activations are not looked at, but for an
        output_activation of its own.

    Raises
    ------
    ValueError
        The message names what it is.
    """
    cell = layer.cell
    found: dict[str, Any] = {
        "peepholes": layer.peepholes or None,
        "proj_size": layer.proj_size,
        "layer_norm": layer.layer_norm or None,
        "clip": cell.clip,
        "cell_clip": cell.cell_clip,
        "input_forget": cell.input_forget or None,
        "zoneout": cell.zoneout or None,
        "cell_zoneout": cell.cell_zoneout or None,
    }
    _, activation, output = activations_of(cell)
    if not same_activation(activation, output):
        found["output_activation"] = output
    for name, value in found.items():
        if value is not None and name not in known:
            raise ValueError(f"{layer.name}: got {name}={value!r}, which {owner} does not have")


def warn_of_training(layer: LSTM, owner: str) -> None:
    """Warn of what acts in training alone and another framework does not keep with the weights."""
    for name in ("dropout", "recurrent_dropout"):
        if rate := getattr(layer, name):
            warnings.warn(
                f"{layer.name}: {name}={rate} acts in training alone; {owner} does not keep it",
                stacklevel=4,
            )


def activations_of(cell: Cell) -> tuple[ActivationSpec, ActivationSpec, ActivationSpec]:
    """Return the activations of the gates, of the candidate and of the cell on its way out."""
    output = cell.activation if cell.output_activation is None else cell.output_activation
    return cell.recurrent_activation, cell.activation, output


def same_activation(first: ActivationSpec, second: ActivationSpec) -> bool:
    """Return whether two activations are one function, whatever they are called."""
    return resolve_activation(first, "activation") == resolve_activation(second, "activation")


def activation_among(spec: ActivationSpec, names: Iterable[str]) -> str | None:
    """Return under which of some names an activation goes, or None."""
    return next((name for name in names if same_activation(name, spec)), None)


def is_usual(cell: Cell) -> bool:
    """Return whether the activations are sigmoid and tanh."""
    return all(map(same_activation, activations_of(cell), activations_of(_PLAIN)))
