"""What a case may be beside one plain LSTM: what it needs, its weights, and the right answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import reference

__all__ = [
    "BACKWARD", "LAYERS", "LENGTHS", "PEEPHOLES", "PLAIN", "PROJECTION", "VARIANTS", "Layers",
    "Variant", "Weights", "draw_layers", "run",
]  # fmt: skip

Array = NDArray[Any]

# What a peer has or lacks, in the words that tell why it was not timed.
PEEPHOLES = "peepholes"
PROJECTION = "projection"
LENGTHS = "lengths of sequences"
BACKWARD = "backward direction"
LAYERS = "second layer"


class Variant(NamedTuple):
    """A kind of LSTM.

    Attributes
    ----------
    name : str
        Also of its suite; empty for a plain one.
    needs : tuple of str
        What a subject must have to run it.
    """

    name: str
    needs: tuple[str, ...]

    @property
    def directions(self) -> int:
        """How many LSTMs read the same sequences."""
        return 2 if BACKWARD in self.needs else 1

    @property
    def layers(self) -> int:
        """How many stand on top of each other."""
        return 2 if LAYERS in self.needs else 1


PLAIN = Variant("", ())

VARIANTS = {
    name: Variant(name, needs)
    for name, needs in {
        "peephole": (PEEPHOLES,),
        "projection": (PROJECTION,),
        "masked": (LENGTHS,),
        "bidirectional": (BACKWARD,),
        "layers": (LAYERS,),
        "bidirectional-layers": (BACKWARD, LAYERS),
    }.items()
}


class Weights(NamedTuple):
    """Those of one LSTM, as `functional.pack` takes them; P is H without a projection."""

    kernel: Array  # (I, 4H)
    recurrent_kernel: Array  # (P, 4H)
    bias: Array  # (4H)
    peephole: Array | None  # (3H)
    projection_kernel: Array | None  # (H, P)

    @property
    def arguments(self) -> tuple[Array, Array, Array]:
        """What every LSTM has."""
        return self.kernel, self.recurrent_kernel, self.bias

    @property
    def options(self) -> dict[str, Any]:
        """What only some have, by name."""
        return {"peephole": self.peephole, "projection_kernel": self.projection_kernel}

    @property
    def units(self) -> int:
        """H."""
        return len(self.bias) // 4

    @property
    def output_size(self) -> int:
        """P."""
        return len(self.recurrent_kernel)

    def astype(self, dtype: str) -> Weights:
        """Return them in another dtype."""
        arrays: list[Any] = [None if w is None else w.astype(dtype) for w in self]
        return Weights(*arrays)


#: The weights of each direction, forward first, of each layer, the one that reads x first.
Layers = Sequence[Sequence[Weights]]


def draw_layers(
    variant: Variant, features: int, units: int, draw: Callable[..., Array]
) -> list[list[Weights]]:
    """Return random weights; ``draw(*size, scale)`` makes an array.

    A projection is to half of the units.
    """
    size = max(1, units // 2) if PROJECTION in variant.needs else units

    def weights(inputs: int) -> Weights:
        scale = float(1 / np.sqrt(inputs + units))
        return Weights(
            draw(inputs, 4 * units, scale=scale),
            draw(size, 4 * units, scale=scale),
            draw(4 * units, scale=0.1),
            draw(3 * units, scale=0.5) if PEEPHOLES in variant.needs else None,
            draw(units, size, scale=units**-0.5) if PROJECTION in variant.needs else None,
        )

    count = variant.directions
    inputs = [features] + [count * size] * (variant.layers - 1)
    return [[weights(number) for _ in range(count)] for number in inputs]


def run(
    x: Array, layers: Layers, lengths: Array | None = None
) -> tuple[Array, Callable[[Array], Array]]:
    """Run layers in plain NumPy, in the dtype of x and the weights.

    Parameters
    ----------
    x : (B, T, I) array
    layers : sequence of sequences of Weights
    lengths : (B,) array of int, optional
        What follows is zero in the output.

    Returns
    -------
    output : (B, T, P) array, or with two directions (B, T, 2P)
        In the order of time, the forward direction first.
    backward : callable
        From the output's gradient that of the first layer's kernel (I, 4H), with two directions
        (I, 8H).
    """
    calls = []
    for directions in layers:
        results = [
            reference.lstm_vjp(
                x, *weights.arguments, **weights.options, go_backwards=bool(number),
                lengths=lengths, zero_output_for_mask=True,
            )
            for number, weights in enumerate(directions)
        ]  # fmt: skip
        x = np.concatenate([_in_time(r[0][0], i) for i, r in enumerate(results)], axis=2)
        calls.append([result[1] for result in results])

    def backward(d_output: Array) -> Array:
        for directions in reversed(calls):
            halves = np.split(d_output, len(directions), axis=2)
            gradients = [
                call(_in_time(half, number))
                for number, (call, half) in enumerate(zip(directions, halves, strict=True))
            ]
            d_output = sum((g.x for g in gradients[1:]), gradients[0].x)
        return np.concatenate([gradient.kernel for gradient in gradients], axis=1)

    return x, backward


def _in_time(output: Array, direction: int) -> Array:
    """Turn the backward direction's (B, T, P) from the order of steps to that of time, or back."""
    return np.ascontiguousarray(output[:, ::-1]) if direction else output
