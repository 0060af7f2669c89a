"""Pictures of what goes on in an LSTM; they need matplotlib."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .variants import Gates

__all__ = ["gates"]

Array = NDArray[Any]

_MOST_LINES = 4  # of more units, lines would hide one another
_COLOR_OF_NAN = "0.6"


class _Panel(NamedTuple):
    """One of the pictures above one another: a gate, or the cell, of the units to be drawn."""

    title: str
    values: Array  # (T, units); what is not finite is masked
    low: float
    high: float
    signed: bool  # whether the range has zero in its middle


def gates(
    gates: Gates,
    *,
    units: Sequence[int] | None = None,
    row: int = 0,
    path: str | os.PathLike[str] | None = None,
    title: str | None = None,
    figure: Any = None,
) -> Any:
    """Draw the gates and the cell of one sequence over time.

    Five pictures stand above one another: input gate, forget gate, candidate, output gate and
    cell. More than four units are drawn as heatmaps, a line of the picture for each; fewer as
    curves.

    Parameters
    ----------
    gates : Gates
        What ``functional.lstm(..., return_gates=True)`` returns last, or anything with its
        attributes `input`, `forget`, `candidate`, `output` and `cell`: (B, T, H) arrays of real
        numbers.
    units : sequence of int, optional
        The units to draw, in that order from above; all of them by default.
    row : int
        Which sequence of the batch.
    path : path, optional
        Write the picture there, as a PNG unless the name ends otherwise.
    title : str, optional
        Stands above the picture.
    figure : matplotlib Figure or SubFigure, optional
        Draw in it, and not with `path`: saving it is for its owner. By default a new one.

    Returns
    -------
    matplotlib Figure or SubFigure
        Its first five axes are the five pictures, from above, with steps as x: mark in them what
        happened when.

    Raises
    ------
    ValueError, TypeError
        If an argument is not what it should be; the message names it.
    ModuleNotFoundError
        If matplotlib is not installed.

    Notes
    -----
    Gates are drawn from 0 to 1, the candidate from -1 to 1, and the cell from minus to plus its
    largest absolute value. Values outside, which other activations have, widen the range. NaN and
    infinity are gray, or a gap in a curve.
    """
    arrays = _as_arrays(gates)
    batch_size, _, hidden_size = arrays["input"].shape
    row = _as_index(row, "row", batch_size)
    drawn = _as_units(units, hidden_size)
    if path is not None and figure is not None:
        raise ValueError(
            f"path: got {path!r}, expected None beside a figure, which its owner saves"
        )
    if figure is None:
        figure = _new_figure(len(drawn))
    elif not hasattr(figure, "subplots"):
        raise TypeError(f"figure: got {figure!r}, expected a Figure or SubFigure")
    panels = _panels({name: array[row][:, drawn].astype(float) for name, array in arrays.items()})
    all_axes = figure.subplots(len(panels), 1, sharex=True)
    for axes, panel in zip(all_axes, panels, strict=True):
        if len(drawn) > _MOST_LINES:
            _draw_heatmap(axes, panel, None if units is None else drawn)
        else:
            _draw_curves(axes, panel, drawn)
        axes.set_title(panel.title, loc="left", fontsize=10)
    all_axes[-1].set_xlabel("step")
    figure.align_ylabels(all_axes)
    if 1 < len(drawn) <= _MOST_LINES:
        all_axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(drawn), fontsize=9)
    if title is not None:
        figure.suptitle(title, fontsize=11)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def _as_arrays(gates: Gates) -> dict[str, Array]:
    """Return the five arrays by name, all of one shape (B, T, H) with no axis empty."""
    arrays = {}
    for name in ("input", "forget", "candidate", "output", "cell"):
        if not hasattr(gates, name):
            raise TypeError(
                f"gates: got {type(gates).__name__}, expected the Gates that "
                "functional.lstm(..., return_gates=True) returns last"
            )
        array = np.asarray(getattr(gates, name))
        if array.dtype.kind not in "fiu":
            raise TypeError(f"gates.{name}: got {array.dtype}, expected real numbers")
        if array.ndim != 3 or 0 in array.shape:
            raise ValueError(
                f"gates.{name}: got shape {array.shape}, expected (batch, time, units), no axis "
                "empty"
            )
        arrays[name] = array
    shape = arrays["input"].shape
    for name, array in arrays.items():
        if array.shape != shape:
            raise ValueError(f"gates.{name}: got shape {array.shape}, expected {shape} as of input")
    return arrays


def _as_units(units: Sequence[int] | None, hidden_size: int) -> list[int]:
    if units is None:
        return list(range(hidden_size))
    if isinstance(units, (str, bytes)) or not hasattr(units, "__iter__"):
        raise TypeError(f"units: got {units!r}, expected a sequence of integers")
    drawn = [_as_index(unit, "units", hidden_size) for unit in units]
    if not drawn or len(set(drawn)) != len(drawn):
        raise ValueError(f"units: got {drawn}, expected at least one, and none twice")
    return drawn


def _as_index(value: Any, name: str, size: int) -> int:
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: got {value!r}, expected an integer")
    index = operator.index(value)
    if not 0 <= index < size:
        raise ValueError(f"{name}: got {index}, expected 0 to {size - 1}")
    return index


def _panels(values: dict[str, Array]) -> list[_Panel]:
    finite = {name: np.ma.masked_invalid(array) for name, array in values.items()}
    titles = {
        "input": "input gate: how much of the candidate is written",
        "forget": "forget gate: how much of the cell is kept",
        "candidate": "candidate: what could be written",
        "output": "output gate: how much of the cell is shown",
        "cell": "cell: what is remembered",
    }
    panels = []
    for name, title in titles.items():
        seen = finite[name].compressed()
        if name in ("candidate", "cell"):
            high = float(np.abs(seen).max(initial=name == "candidate")) or 1.0
            low = -high
        else:
            low, high = float(seen.min(initial=0)), float(seen.max(initial=1))
        panels.append(_Panel(title, finite[name], low, high, signed=low == -high))
    return panels


def _new_figure(count: int) -> Any:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ModuleNotFoundError("the picture needs matplotlib: pip install matplotlib") from None
    height = 1.5 if count <= _MOST_LINES else min(max(0.06 * count, 1.2), 3.0)
    return Figure(figsize=(11, 1 + 5 * height), layout="constrained")


def _draw_heatmap(axes: Any, panel: _Panel, labels: list[int] | None) -> None:
    from matplotlib import colormaps

    name = "RdBu_r" if panel.signed else "viridis"
    image = axes.imshow(
        panel.values.T,
        cmap=colormaps[name].with_extremes(bad=_COLOR_OF_NAN),
        vmin=panel.low,
        vmax=panel.high,
        aspect="auto",
        interpolation="nearest",
    )
    axes.set_ylabel("unit")
    if labels is not None:
        every = -(-len(labels) // 8)  # as many as there is room for
        axes.set_yticks(range(0, len(labels), every), labels[::every], fontsize=7)
    else:
        axes.yaxis.get_major_locator().set_params(integer=True)
    axes.figure.colorbar(image, ax=axes, pad=0.01, aspect=8)


def _draw_curves(axes: Any, panel: _Panel, units: list[int]) -> None:
    for unit, values in zip(units, panel.values.T, strict=True):
        axes.plot(values, linewidth=1.5, label=f"unit {unit}")
    margin = 0.04 * (panel.high - panel.low)
    axes.set_ylim(panel.low - margin, panel.high + margin)
    axes.margins(x=0.01)
    if len(units) == 1:
        axes.set_ylabel(f"unit {units[0]}")
    axes.grid(alpha=0.3)
