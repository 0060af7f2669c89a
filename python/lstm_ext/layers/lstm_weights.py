"""The weights of an LSTM layer: names, shapes and order, and the way to the operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import functional, initializers
from .._arguments import as_weights_dtype
from .._arrays import require_cpu
from ..functional._packing import repacker, too_large
from ..variants import Cell, LayerNorm
from .base import changing, check_size

__all__ = [
    "Packed",
    "Weighted",
    "check_num_layers",
    "gradients_in_order",
    "operands",
    "weight_shapes",
]

Array = NDArray[Any]
Packed = tuple[functional.PackedWeights, ...]

_NORMS = LayerNorm._fields
_PLAIN = Cell()


# No more can be meant; and a file must not ask for a list of billions.
_MOST_LAYERS = 4096


def check_num_layers(value: int) -> int:
    """Return `value` as an int that can be a number of layers, or raise naming it."""
    number = check_size(value, "num_layers")
    if number > _MOST_LAYERS:
        raise ValueError(f"num_layers: got {value}, expected at most {_MOST_LAYERS}")
    return number


def weight_shapes(
    input_size: int,
    units: int,
    *,
    use_bias: bool = True,
    peepholes: bool = False,
    proj_size: int | None = None,
    layer_norm: bool = False,
    num_layers: int = 1,
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all weights, in their order.

    Those of the first layer are called kernel and so on, those of the second kernel_l1, as torch
    numbers them.
    """
    outputs = proj_size or units
    shapes: dict[str, tuple[int, ...]] = {}
    for index in range(num_layers):
        own: dict[str, tuple[int, ...]] = {
            "kernel": (input_size if index == 0 else outputs, 4 * units),
            "recurrent_kernel": (outputs, 4 * units),
        }
        if use_bias:
            own["bias"] = (4 * units,)
        if peepholes:
            own["peephole"] = (3 * units,)
        if proj_size:
            own["projection_kernel"] = (units, proj_size)
        if layer_norm:
            sizes = (4 * units, 4 * units, units, units)
            own.update((name, (size,)) for name, size in zip(_NORMS, sizes, strict=True))
        shapes.update((_name(part, index), shape) for part, shape in own.items())
    return shapes


def operands(weights: Mapping[str, Array], index: int) -> tuple[list[Array], dict[str, Any]]:
    """Return what `functional.pack` takes for one of the layers, by position and by name."""

    def own(parts: Sequence[str]) -> dict[str, Array]:
        return {part: weights[name] for part in parts if (name := _name(part, index)) in weights}

    named: dict[str, Any] = own(("peephole", "projection_kernel"))
    if norms := own(_NORMS):
        named["layer_norm"] = LayerNorm(**norms)
    return list(own(("kernel", "recurrent_kernel", "bias")).values()), named


def gradients_in_order(grads: functional.Gradients) -> list[Array]:
    """Return the gradients of one layer's weights in the order of the weights."""
    parts = [grads.kernel, grads.recurrent_kernel]
    rest: Any = (grads.bias, grads.peephole, grads.projection_kernel, *(grads.layer_norm or ()))
    for part in rest:
        if part is not None:
            parts.append(part)
    return parts


def _name(part: str, index: int) -> str:
    return f"{part}_l{index}" if index else part


class Weighted:
    """The part of an LSTM layer that makes its weights and lays them out for the kernels."""

    units: int
    use_bias: bool
    unit_forget_bias: bool
    peepholes: bool
    proj_size: int | None
    layer_norm: bool
    num_layers: int
    cell: Cell
    kernel_initializer: initializers.Initializer
    recurrent_initializer: initializers.Initializer
    bias_initializer: initializers.Initializer
    _ones: initializers.Initializer
    _zeros: initializers.Initializer
    seed: int | None
    _dtype: np.dtype[Any]
    _weights: dict[str, Array]
    _weights_dtype: str | None
    _packed: Packed | None = None  # always None on a device
    # What packs them as they are, and with what weights_dtype.
    _repackers: tuple[str | None, list[Callable[[bool], functional.PackedWeights]]] | None = None

    def weight_shapes(self, input_size: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights for inputs (B, T, I), by name and in their order."""
        return weight_shapes(
            input_size,
            self.units,
            use_bias=self.use_bias,
            peepholes=self.peepholes,
            proj_size=self.proj_size,
            layer_norm=self.layer_norm,
            num_layers=self.num_layers,
        )

    def _initial_weights(self, input_size: int) -> dict[str, Array]:
        make = initializers.Seeded(self.seed)
        chosen = {
            "kernel": self.kernel_initializer,
            "recurrent_kernel": self.recurrent_initializer,
            "bias": self.bias_initializer,
            "projection_kernel": self.kernel_initializer,
            "peephole": self._zeros,
            "cell_offset": self._zeros,
        }
        weights: dict[str, Array] = {}
        for name, shape in self.weight_shapes(input_size).items():
            part = _part(name)
            try:
                weights[name] = make(chosen.get(part, self._ones), shape, self._dtype)
            except MemoryError as error:
                raise ValueError(
                    f"units: got {self.units}, whose {name} {shape} cannot be allocated; expected "
                    "fewer"
                ) from error
            if part == "bias" and self.unit_forget_bias:
                weights[name][self.units : 2 * self.units] = 1
        return weights

    @property
    def weights_dtype(self) -> str:
        """How calls and streams store the weights: "bfloat16", "int8", or the layer's dtype.

        May be set; streams that exist keep theirs.
        """
        return self._weights_dtype or self._dtype.name

    @weights_dtype.setter
    def weights_dtype(self, value: str | None) -> None:
        chosen = self._as_weights_dtype(value)
        if chosen:
            require_cpu([self], "weights_dtype")
        with changing:
            self._weights_dtype = chosen
            self._packed = None

    def quantize(self, mode: str) -> None:
        """Compute with small weights from now on; the weights themselves stay as they are.

        What it costs, `lstm_ext.quantization_error` tells.

        Parameters
        ----------
        mode : "bfloat16" or "int8"
        """
        self.weights_dtype = self._as_weights_dtype(mode, "mode")

    def _as_weights_dtype(self, value: str | None, name: str = "weights_dtype") -> str | None:
        small = as_weights_dtype(value, self._dtype, name)
        if small and self.layer_norm:
            raise ValueError(f"{name}: got {small!r} beside layer_norm, expected one of the two")
        return small

    def _pack(self) -> Packed:
        """Lay the weights out for the kernels, and keep that until they change."""
        with changing:
            packed = self._laid_out(self._weights_dtype)
            self._packed = packed
        return packed

    def _full(self, single_step: bool = False) -> Packed:
        """Return the full weights, laid out: small ones are not for training.

        `single_step` says that they are for calls of one step from no state, and no others.
        """
        if self._weights_dtype is None and (self._packed or not single_step):
            return self._packed or self._pack()
        # Not kept: in training it lasts for one step anyhow.
        return self._laid_out(None, single_step)

    def _laid_out(self, weights_dtype: str | None, single_step: bool = False) -> Packed:
        kept = self._repackers
        if kept is None or kept[0] != weights_dtype:
            cell = None if self.cell == _PLAIN else self.cell
            found = [operands(self._weights, index) for index in range(self.num_layers)]
            packs = [
                repacker(*plain, weights_dtype=weights_dtype, cell=cell, **named)
                for plain, named in found
            ]
            # The arrays stay the same: training lays them out after every step.
            self._repackers = kept = (weights_dtype, packs)
        try:
            return tuple([pack(single_step) for pack in kept[1]])
        except MemoryError as error:
            raise too_large(*list(self._weights.values())[:2]) from error

    def weights_changed(self) -> None:
        """Drop the packed weights: they were made from others."""
        with changing:  # else a thread that packs now could put back what it began before
            self._packed = None

    def __getstate__(self) -> dict[str, Any]:
        # For copies: packed weights belong to this process and are soon made anew.
        return {**self.__dict__, "_packed": None, "_repackers": None}


def _part(name: str) -> str:
    """Return the name of a weight without the number of its layer."""
    part, _, number = name.rpartition("_l")
    return part if number.isdigit() else name
