"""What a caller gave, as arrays that fit together; what does not raises, by name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import activations
from .cell import Equations, Norm, Parameters
from .sequences import Inputs, SequenceNoise

__all__ = ["as_equations", "as_floats", "as_inputs", "as_parameters", "as_steps", "check_together"]

Array = NDArray[Any]


def as_floats(
    value: ArrayLike,
    name: str,
    shape: tuple[int, ...] | None = None,
    dtype: np.dtype[Any] | None = None,
) -> Array:
    """Return `value` as an array of floats, of `shape` and `dtype` if these are given."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise ValueError(f"{name}: expected an array of floats, got {error}") from None
    is_wrong = dtype is not None and array.dtype != dtype
    if is_wrong or not np.issubdtype(array.dtype, np.floating):
        expected = "floats" if dtype is None else f"{dtype} like the other arrays"
        raise TypeError(f"{name}: got an array of {array.dtype}, expected {expected}")
    return _shaped(array, name, shape)


def as_steps(x: ArrayLike, time_major: bool) -> Array:
    """Return x (T, B, I)."""
    x = as_floats(x, "x")
    if x.ndim != 3:
        axes = "time, batch" if time_major else "batch, time"
        raise ValueError(f"x: got shape {x.shape}, expected ({axes}, features)")
    return x if time_major else x.swapaxes(0, 1)


def as_parameters(
    x: Array,
    kernel: ArrayLike,
    recurrent_kernel: ArrayLike,
    bias: ArrayLike | None,
    peephole: ArrayLike | None,
    projection_kernel: ArrayLike | None,
    layer_norm: Any,
) -> Parameters:
    """Return the weights that fit x (T, B, I)."""
    recurrent_kernel = as_floats(recurrent_kernel, "recurrent_kernel")
    outputs = units = recurrent_kernel.shape[0] if recurrent_kernel.ndim else 0
    if projection_kernel is not None:
        projection_kernel = as_floats(projection_kernel, "projection_kernel", None, x.dtype)
        units = projection_kernel.shape[0] if projection_kernel.ndim else 0
        _shaped(projection_kernel, "projection_kernel", (units, outputs))

    def optional(value: ArrayLike | None, name: str, *shape: int) -> Array | None:
        return None if value is None else as_floats(value, name, shape, x.dtype)

    return Parameters(
        as_floats(kernel, "kernel", (x.shape[2], 4 * units), x.dtype),
        as_floats(recurrent_kernel, "recurrent_kernel", (outputs, 4 * units), x.dtype),
        optional(bias, "bias", 4 * units),
        optional(peephole, "peephole", 3 * units),
        projection_kernel,
        None if layer_norm is None else _as_norm(layer_norm, units, x.dtype),
    )


def as_equations(cell: Any) -> Equations:
    """Return what `variants.Cell` says; None is the usual cell."""
    tanh, sigmoid = "tanh", "sigmoid"
    if cell is None:
        found = [activations.get(name, "cell") for name in (tanh, sigmoid, tanh)]
        return Equations(found[0], found[1], found[2], None, None, False, 0.0, 0.0)
    last = _attribute(cell, "cell", "output_activation")
    values = {
        name: _attribute(cell, "cell", name)
        for name in ("activation", "recurrent_activation", "clip", "cell_clip", "input_forget",
                     "zoneout", "cell_zoneout")
    }  # fmt: skip
    for name in ("clip", "cell_clip"):
        bound = values[name]
        if bound is not None and not (_is_number(bound) and bound > 0):
            raise ValueError(f"cell.{name}: got {bound!r}, expected a positive number or None")
    for name in ("zoneout", "cell_zoneout"):
        rate = values[name]
        if not (_is_number(rate) and 0 <= rate <= 1):
            raise ValueError(f"cell.{name}: got {rate!r}, expected a number from 0 to 1")
    return Equations(
        activations.get(values["activation"], "cell.activation"),
        activations.get(values["recurrent_activation"], "cell.recurrent_activation"),
        activations.get(values["activation"] if last is None else last, "cell.output_activation"),
        values["clip"],
        values["cell_clip"],
        bool(values["input_forget"]),
        values["zoneout"],
        values["cell_zoneout"],
    )


def as_inputs(
    x: Array,
    parameters: Parameters,
    *,
    initial_state: tuple[ArrayLike, ArrayLike] | None,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    reset: ArrayLike | None,
    go_backwards: bool,
    zero_output_for_mask: bool,
    noise: Any,
) -> Inputs:
    """Return what goes with x (T, B, I), and x itself, in the order of the steps."""
    outputs, units = parameters.recurrent_kernel.shape[0], parameters.kernel.shape[1] // 4
    steps, batch_size, _ = x.shape
    h0, c0 = (np.zeros((batch_size, size), x.dtype) for size in (outputs, units))
    if initial_state is not None:
        if not isinstance(initial_state, (tuple, list)) or len(initial_state) != 2:
            raise ValueError(f"initial_state: got {type(initial_state).__name__}, expected (h, c)")
        h0 = as_floats(initial_state[0], "initial_state[0]", h0.shape, x.dtype)
        c0 = as_floats(initial_state[1], "initial_state[1]", c0.shape, x.dtype)
    if lengths is not None and mask is not None:
        raise ValueError("lengths: got lengths and a mask, expected one of them")
    if lengths is not None:
        mask = np.arange(steps) < _as_lengths(lengths, steps, batch_size)[:, None]

    def per_step(value: ArrayLike | None, name: str) -> Array | None:
        if value is None:
            return None
        array = _as_bools(value, name, (batch_size, steps)).T
        return array[::-1] if go_backwards else array

    return Inputs(
        x[::-1] if go_backwards else x,
        h0,
        c0,
        per_step(mask, "mask"),
        per_step(reset, "reset"),
        zero_output_for_mask,
        _as_noise(noise, x, outputs, units),
    )


def check_together(parameters: Parameters, equations: Equations, noise: SequenceNoise) -> None:
    """Raise if layer_norm comes with what it is not defined for."""
    others = {
        "peephole": parameters.peephole is not None,
        "projection_kernel": parameters.projection_kernel is not None,
        "cell.clip": equations.clip is not None,
        "cell.cell_clip": equations.cell_clip is not None,
        "cell.input_forget": equations.input_forget,
        "cell.zoneout": equations.zoneout != 0,
        "cell.cell_zoneout": equations.cell_zoneout != 0,
        "noise.zoneout": noise.zoneout is not None,
        "noise.cell_zoneout": noise.cell_zoneout is not None,
    }
    given = [name for name, is_given in others.items() if is_given]
    if parameters.layer_norm is not None and given:
        raise ValueError(f"layer_norm: got it with {given[0]}, expected one of them")


def _as_norm(layer_norm: Any, units: int, dtype: np.dtype[Any]) -> Norm:
    shapes = {
        "kernel_gain": (4 * units,), "recurrent_gain": (4 * units,), "cell_gain": (units,),
        "cell_offset": (units,),
    }  # fmt: skip
    return Norm(
        *(
            as_floats(
                _attribute(layer_norm, "layer_norm", name), f"layer_norm.{name}", shape, dtype
            )
            for name, shape in shapes.items()
        )
    )


def _as_noise(noise: Any, x: Array, outputs: int, units: int) -> SequenceNoise:
    if noise is None:
        return SequenceNoise(None, None, None, None)
    steps, batch_size, input_size = x.shape

    def factors(name: str, size: int) -> Array | None:
        value = _attribute(noise, "noise", name)
        shape = (batch_size, size)
        return None if value is None else as_floats(value, f"noise.{name}", shape, x.dtype)

    def places(name: str, size: int) -> Array | None:
        value = _attribute(noise, "noise", name)
        shape = (batch_size, steps, size)
        return None if value is None else _as_bools(value, f"noise.{name}", shape).swapaxes(0, 1)

    return SequenceNoise(
        factors("x", input_size),
        factors("h", outputs),
        places("zoneout", outputs),
        places("cell_zoneout", units),
    )


def _as_lengths(lengths: ArrayLike, steps: int, batch_size: int) -> Array:
    array = np.asarray(lengths)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"lengths: got an array of {array.dtype}, expected integers")
    _shaped(array, "lengths", (batch_size,))
    wrong = array[(array < 0) | (array > steps)]
    if wrong.size:
        raise ValueError(f"lengths: got {wrong[0]}, expected 0 to {steps}, the steps of x")
    return array


def _as_bools(value: ArrayLike, name: str, shape: tuple[int, ...]) -> Array:
    array = np.asarray(value)
    if array.dtype != np.bool_:
        raise TypeError(f"{name}: got an array of {array.dtype}, expected bool")
    return _shaped(array, name, shape)


def _shaped(array: Array, name: str, shape: tuple[int, ...] | None) -> Array:
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name}: got shape {array.shape}, expected {shape}")
    return array


def _attribute(value: Any, name: str, attribute: str) -> Any:
    try:
        return getattr(value, attribute)
    except AttributeError:
        raise TypeError(
            f"{name}: got {type(value).__name__}, expected a {name.title().replace('_', '')}"
        ) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.floating)) and not math.isnan(value)
