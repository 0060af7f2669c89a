"""Two LSTM layers as one: whether they go together, and how their outputs become one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays import as_numbers
from .lstm import LSTM
from .lstm_state import State, describe

__all__ = ["MERGE_MODES", "as_pairs", "check_pair", "merge", "merge_back"]

Array = NDArray[Any]

MERGE_MODES = ("concat", "sum", "mul", "ave", None)


def check_pair(forward: LSTM, backward: LSTM, merge_mode: str | None) -> None:
    """Raise a ValueError if two layers cannot be one."""
    if forward.go_backwards == backward.go_backwards:
        raise ValueError(
            f"go_backwards: got {forward.go_backwards} of both layers, expected one to read "
            "forwards and one backwards; give a backward_layer to a layer that reads backwards"
        )
    for name in ("stateful", "return_sequences", "return_state", "dtype", "weights_dtype"):
        wanted, got = getattr(forward, name), getattr(backward, name)
        if wanted != got:
            raise ValueError(
                f"backward_layer: got {name}={got!r}, expected {wanted!r} as of the layer"
            )
    for layer in (forward, backward):
        if layer.num_layers > 1:
            raise ValueError(
                f"num_layers: got {layer.num_layers} in {layer.name}, expected 1; put several "
                "Bidirectional on top of each other, each of one layer"
            )
    sizes = forward.output_size, backward.output_size
    if merge_mode in ("sum", "mul", "ave") and sizes[0] != sizes[1]:
        raise ValueError(
            f"merge_mode: got {merge_mode!r} for outputs of sizes {sizes[0]} and "
            f"{sizes[1]}, expected equal sizes, or 'concat' or None"
        )


def as_pairs(
    given: Sequence[ArrayLike] | None, dtype: np.dtype[Any], device: str
) -> list[State] | None:
    """Return an initial state (h, c, h, c) as pairs of arrays of the dtype, on the device."""
    if given is None:
        return None
    if not isinstance(given, (tuple, list)) or len(given) != 4:
        raise ValueError(f"initial_state: got {describe(given)}, expected (h, c, h, c)")
    h, c, h_back, c_back = (
        as_numbers(array, f"initial_state[{index}]", dtype, device)
        for index, array in enumerate(given)
    )
    return [(h, c), (h_back, c_back)]


def merge(mode: str | None, first: Array, second: Array) -> Any:
    """Return a new array, or with a mode of None copies of both."""
    if mode is None:
        return first.copy(), second.copy()
    if mode == "concat":
        return np.concatenate([first, second], axis=-1)
    if mode == "mul":
        return first * second
    total = first + second
    return total / 2 if mode == "ave" else total


def merge_back(mode: str | None, dy: Array, first: Array, second: Array) -> tuple[Array, Array]:
    """Return the gradients of the two outputs for that of the merged one."""
    if mode == "concat":
        size = first.shape[-1]
        return dy[..., :size], dy[..., size:]
    if mode == "mul":
        return dy * second, dy * first
    half = dy / 2 if mode == "ave" else dy
    return half, half
