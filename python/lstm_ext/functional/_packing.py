"""Weights and the kind of cell that they are for, checked and laid out for the kernels."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _cpu
from .._arguments import as_float_array, as_rate, as_weights_dtype, with_unit_columns
from .._cpu import CellOptions, PackedWeights, WeightsSource
from ..variants import ActivationSpec, Cell, LayerNorm

__all__ = [
    "PackedWeights", "as_packed", "cell_arguments", "pack", "repacker", "resolve_activation",
]  # fmt: skip

Array = NDArray[Any]

_PLAIN = Cell()

# Of each name: what the kernels call it, which of alpha and beta it takes and their defaults. An
# exponential linear unit's second number is a factor of all of it (selu: Klambauer et al. 2017).
_ACTIVATIONS: dict[str, tuple[str, tuple[float, ...], tuple[float, float]]] = {
    "linear": ("affine", (), (1.0, 0.0)),
    "relu": ("relu", (), (1.0, 1.0)),
    "leaky_relu": ("leaky_relu", (0.2,), (0.2, 1.0)),
    "tanh": ("scaled_tanh", (), (1.0, 1.0)),
    "sigmoid": ("sigmoid", (), (1.0, 1.0)),
    "hard_sigmoid": ("hard_sigmoid", (1 / 6, 0.5), (1 / 6, 0.5)),
    "softplus": ("softplus", (), (1.0, 1.0)),
    "softsign": ("softsign", (), (1.0, 1.0)),
    "elu": ("scaled_elu", (1.0,), (1.0, 1.0)),
    "selu": ("scaled_elu", (), (1.6732632423543772, 1.0507009873554805)),
    "gelu": ("gelu", (), (1.0, 1.0)),
    "silu": ("silu", (), (1.0, 1.0)),
    "swish": ("silu", (), (1.0, 1.0)),
    "exponential": ("exponential", (), (1.0, 1.0)),
    "affine": ("affine", (1.0, 0.0), (1.0, 0.0)),
    "scaled_tanh": ("scaled_tanh", (1.0, 1.0), (1.0, 1.0)),
    "thresholded_relu": ("thresholded_relu", (1.0,), (1.0, 1.0)),
}


def pack(
    kernel: ArrayLike,
    recurrent_kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    peephole: ArrayLike | None = None,
    projection_kernel: ArrayLike | None = None,
    layer_norm: LayerNorm | None = None,
    cell: Cell | None = None,
    weights_dtype: str | None = None,
    isa: str | None = None,
) -> PackedWeights:
    """Copy weights into the layout of the kernels, once for many calls.

    Parameters
    ----------
    kernel : (I, 4H) array of float32 or float64
    recurrent_kernel : (P, 4H) array of the same dtype
        P is H without a projection.
    bias : (4H,) array of the same dtype, optional
    peephole : (3H,) array of the same dtype, optional
        Weights of the cell in the gates i, f and o (Gers and Schmidhuber 2000).
    projection_kernel : (H, P) array of the same dtype, optional
        h is what the cell makes times this (Sak, Senior and Beaufays 2014).
    layer_norm : LayerNorm, optional
        Gains and offset of the same dtype.
    cell : Cell, optional
        Activations, clips, coupled gates and zoneout; by default the usual LSTM's.
    weights_dtype : "bfloat16" or "int8", optional
        Store kernel and recurrent_kernel smaller; they are then float32. Inputs, state and outputs
        stay float32. By default weights are stored as they are.
    isa : str, optional
        One of `lstm_ext.available_isas()`. The default is the best, or what the environment
        variable LSTM_EXT_ISA names.

    Returns
    -------
    PackedWeights
        Takes the place of `kernel` in `lstm` and `lstm_vjp`. Later changes to the arrays do not
        reach it. It has the attributes `input_size`, `units`, `output_size`, `has_bias`,
        `has_peephole`, `has_projection`, `has_layer_norm`, `dtype`, `weights_dtype` and `isa`.

    Raises
    ------
    TypeError
        If an argument is not an array of float32 or float64, or the dtypes differ.
    ValueError
        If the shapes do not fit, `weights_dtype` is unknown or stands beside float64, an activation
        is unknown, options do not go together, or `isa` is unknown or does not run here.

    Notes
    -----
    bfloat16: weights and, on their way into products, activations are rounded to 8 significant
    bits; sums are float32. int8: weights are whole numbers up to 127 times a scale for each unit
    and gate, and activations one of 256 values from the least of a row in a step to its greatest,
    found as it comes; sums are exact. Small weights have no backward pass.

    Layer normalisation does not go with peepholes, a projection, clips, coupled gates, zoneout or
    small weights.
    """
    try:
        return WeightsSource(
            *_arguments(
                kernel, recurrent_kernel, bias, peephole, projection_kernel, layer_norm, cell,
                weights_dtype, isa,
            )
        ).pack()  # fmt: skip
    except MemoryError as error:
        raise too_large(kernel, recurrent_kernel) from error


def repacker(
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    *,
    peephole: Array | None = None,
    projection_kernel: Array | None = None,
    layer_norm: LayerNorm | None = None,
    cell: Cell | None = None,
    weights_dtype: str | None = None,
) -> Callable[[bool], PackedWeights]:
    """Return a function that packs the arrays as they are when it is called.

    For arrays that change in place, as in training: they are checked only once. Raises what `pack`
    does, and the function a MemoryError for want of memory. Its argument says whether the weights
    will be used for calls of a single step from no state only, which need less to be packed.
    """
    given = (kernel, recurrent_kernel, bias, peephole, projection_kernel)
    arguments = _arguments(*given, layer_norm, cell, weights_dtype, None)
    if layer_norm is None and all(map(operator.is_, arguments, given)):
        return WeightsSource(*arguments).pack
    # Some had to be copied, and a copy does not change.
    return lambda single_step: pack(
        *given[:3], peephole=peephole, projection_kernel=projection_kernel, layer_norm=layer_norm,
        cell=cell, weights_dtype=weights_dtype,
    )  # fmt: skip


def too_large(kernel: ArrayLike, recurrent_kernel: ArrayLike) -> ValueError:
    """Return what is raised in place of a MemoryError while weights are packed."""
    return ValueError(
        f"kernel: got shapes {np.shape(kernel)} and {np.shape(recurrent_kernel)}, of which no copy "
        "can be allocated; expected sizes that fit in memory"
    )


def _arguments(
    kernel: ArrayLike,
    recurrent_kernel: ArrayLike,
    bias: ArrayLike | None,
    peephole: ArrayLike | None,
    projection_kernel: ArrayLike | None,
    layer_norm: LayerNorm | None,
    cell: Cell | None,
    weights_dtype: str | None,
    isa: str | None,
) -> tuple[Any, ...]:
    """Check what `pack` is given, and return it as PackedWeights takes it.

    Arrays that have the form that is wanted are not copied.
    """
    kernel = as_float_array(kernel, "kernel")
    dtype = kernel.dtype
    recurrent_kernel = as_float_array(recurrent_kernel, "recurrent_kernel", like=dtype)
    units = _check_matrices(kernel, recurrent_kernel, projection_kernel is not None)
    size = recurrent_kernel.shape[0]
    if bias is not None:
        bias = _vector(bias, "bias", (4 * units,), dtype)
    if peephole is not None:
        peephole = _vector(peephole, "peephole", (3 * units,), dtype)
    if projection_kernel is not None:
        projection_kernel = _vector(projection_kernel, "projection_kernel", (units, size), dtype)
    if isa is not None and not isinstance(isa, str):
        raise TypeError(f"isa: got {type(isa).__name__}, expected a string")
    if isa == "":
        raise ValueError(f"isa: got '', expected one of {', '.join(_cpu.available_isas())}")
    small = as_weights_dtype(weights_dtype, dtype)
    options = _cell_options(_PLAIN if cell is None else cell)
    norm = None
    if layer_norm is not None:
        beside = {
            "peephole": peephole,
            "projection_kernel": projection_kernel,
            "weights_dtype": small,
        }
        norm = _norm(layer_norm, units, dtype, beside, _PLAIN if cell is None else cell)
    return (
        with_unit_columns(kernel), with_unit_columns(recurrent_kernel), bias, peephole,
        projection_kernel, norm, options, isa or "", small or "",
    )  # fmt: skip


def _check_matrices(kernel: Array, recurrent_kernel: Array, projects: bool) -> int:
    """Return the number of units."""
    shape = recurrent_kernel.shape
    fits = len(shape) == 2 and shape[1] % 4 == 0 and 0 not in shape
    if not fits or (not projects and 4 * shape[0] != shape[1]):
        expected = "(projection_units, 4 * units)" if projects else "(units, 4 * units)"
        raise ValueError(f"recurrent_kernel: got shape {shape}, expected {expected}")
    if kernel.ndim != 2 or kernel.shape[1] != shape[1] or 0 in kernel.shape:
        raise ValueError(
            f"kernel: got shape {kernel.shape}, expected (input_size, {shape[1]}) to go with "
            f"recurrent_kernel {shape}, no axis empty"
        )
    return int(shape[1] // 4)


def _vector(
    value: ArrayLike | None, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array | None:
    if value is None:
        return None
    array = as_float_array(value, name, like=dtype)
    if array.shape != shape:
        raise ValueError(f"{name}: got shape {array.shape}, expected {shape}")
    return np.ascontiguousarray(array)


def _norm(
    norm: LayerNorm, units: int, dtype: np.dtype[Any], beside: dict[str, Any], cell: Cell
) -> tuple[Array, Array, Array, Array]:
    """Return the gains and the offset, or refuse what does not go with them."""
    if not isinstance(norm, LayerNorm):
        raise TypeError(f"layer_norm: got {type(norm).__name__}, expected a LayerNorm")
    beside = beside | {
        f"cell.{name}": getattr(cell, name) or None
        for name in ("clip", "cell_clip", "input_forget", "zoneout", "cell_zoneout")
    }
    for name, value in beside.items():
        if value is not None:
            raise ValueError(f"layer_norm: got it beside {name}, expected one of the two")
    arrays = [
        _vector(value, f"layer_norm.{name}", (size * units,), dtype)
        for name, value, size in zip(LayerNorm._fields, norm, (4, 4, 1, 1), strict=True)
    ]
    if any(array is None for array in arrays):
        raise ValueError("layer_norm: got None, expected four arrays")
    return tuple(arrays)  # type: ignore[return-value]


def _cell_options(cell: Cell) -> CellOptions:
    return _PLAIN_OPTIONS if cell is _PLAIN else CellOptions(*cell_arguments(cell))


def cell_arguments(cell: Cell) -> tuple[Any, ...]:
    """Return a cell as the kernels' options take it; raises what `pack` does."""
    if not isinstance(cell, Cell):
        raise TypeError(f"cell: got {type(cell).__name__}, expected a Cell")
    output = cell.activation if cell.output_activation is None else cell.output_activation
    if not isinstance(cell.input_forget, (bool, np.bool_)):
        raise TypeError(f"cell.input_forget: got {cell.input_forget!r}, expected True or False")
    return (
        resolve_activation(cell.recurrent_activation, "cell.recurrent_activation"),
        resolve_activation(cell.activation, "cell.activation"),
        resolve_activation(output, "cell.output_activation"),
        _bound(cell.clip, "cell.clip"),
        _bound(cell.cell_clip, "cell.cell_clip"),
        bool(cell.input_forget),
        as_rate(cell.zoneout, "cell.zoneout"),
        as_rate(cell.cell_zoneout, "cell.cell_zoneout"),
    )


def resolve_activation(spec: ActivationSpec, argument: str) -> tuple[str, float, float]:
    """Return the kernels' name of an activation, with its alpha and beta.

    Raises
    ------
    ValueError
        If it has no name here, or takes fewer numbers.
    TypeError
        If `spec` is neither a name nor a tuple of a name and one or two numbers.
    """
    name, *numbers = (spec,) if isinstance(spec, str) else spec if _is_tuple(spec) else (None,)
    if not isinstance(name, str):
        raise TypeError(
            f"{argument}: got {spec!r}, expected a name, (name, alpha) or (name, alpha, beta)"
        )
    if name not in _ACTIVATIONS:
        known = ", ".join(sorted(_ACTIVATIONS))
        raise ValueError(f"{argument}: got {name!r}, expected one of {known}")
    kernel_name, defaults, (alpha, beta) = _ACTIVATIONS[name]
    if len(numbers) > len(defaults):
        raise ValueError(
            f"{argument}: got {spec!r}, expected at most {len(defaults)} numbers for {name}"
        )
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float, np.number)):
            raise TypeError(f"{argument}: got {spec!r}, expected numbers after the name")
        if not math.isfinite(number):
            raise ValueError(f"{argument}: got {spec!r}, expected finite numbers")
    if numbers:
        alpha = float(numbers[0])
    if len(numbers) > 1:
        beta = float(numbers[1])
    return kernel_name, alpha, beta


def _is_tuple(spec: Any) -> bool:
    return isinstance(spec, (tuple, list)) and 1 <= len(spec) <= 3


def _bound(value: float | None, name: str) -> float:
    """Return a clip's bound, 0 for none."""
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name}: got {value!r}, expected a positive number or None")
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: got {value}, expected a positive finite number or None")
    return float(value)


_PLAIN_OPTIONS = CellOptions(*cell_arguments(_PLAIN))


def as_packed(
    kernel: ArrayLike | PackedWeights,
    recurrent_kernel: ArrayLike | None,
    bias: ArrayLike | None,
    peephole: ArrayLike | None,
    projection_kernel: ArrayLike | None,
    layer_norm: LayerNorm | None,
    cell: Cell | None,
    isa: str | None,
) -> PackedWeights:
    """Return the weights of a call packed, if they are not.

    Raises
    ------
    ValueError, TypeError
        As `pack`, and if something stands beside a `PackedWeights`, which has everything.
    """
    if isinstance(kernel, PackedWeights):
        if (
            recurrent_kernel is None
            and bias is None
            and peephole is None
            and projection_kernel is None
            and layer_norm is None
            and cell is None
            and isa is None
        ):
            return kernel
        given = {
            "recurrent_kernel": recurrent_kernel,
            "bias": bias,
            "peephole": peephole,
            "projection_kernel": projection_kernel,
            "layer_norm": layer_norm,
            "cell": cell,
            "isa": isa,
        }
        name, value = next((name, value) for name, value in given.items() if value is not None)
        raise ValueError(
            f"{name}: got {type(value).__name__}, expected None beside a PackedWeights, which has "
            "its own"
        )
    if kernel is None:
        raise ValueError("kernel: got None, expected an (input_size, 4 * units) array")
    if recurrent_kernel is None:
        raise ValueError("recurrent_kernel: got None, expected a (units, 4 * units) array")
    return pack(
        kernel, recurrent_kernel, bias, peephole=peephole, projection_kernel=projection_kernel,
        layer_norm=layer_norm, cell=cell, isa=isa,
    )  # fmt: skip
