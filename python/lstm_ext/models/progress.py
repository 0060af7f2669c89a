"""What `fit`, `evaluate` and `predict` print, and a model's summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sequential import Sequential

__all__ = ["ProgressLine", "print_summary"]

_BAR_WIDTH = 20
_COLUMN_WIDTHS = (33, 24, 15)  # of a summary, at least
_SECONDS_BETWEEN_UPDATES = 0.05


class ProgressLine:
    """A line that grows with the steps of an epoch; on a terminal it is drawn over itself.

    Parameters
    ----------
    steps : int
        How many there will be.
    verbose : int
        0 prints nothing, 1 a bar, 2 one line at the end.
    """

    def __init__(self, steps: int, verbose: int) -> None:
        self._steps = steps
        self._verbose = verbose
        self._live = verbose == 1 and sys.stdout.isatty()
        self._start = self._drawn = time.perf_counter()

    @property
    def live(self) -> bool:
        """Whether calls of `update` show."""
        return self._live

    def update(self, step: int, logs: dict[str, float]) -> None:
        """Draw the state after `step` steps, if the last drawing was long enough ago."""
        now = time.perf_counter()
        if self._live and now - self._drawn > _SECONDS_BETWEEN_UPDATES:
            self._drawn = now
            sys.stdout.write("\r\x1b[K" + self._line(step, logs))
            sys.stdout.flush()

    def finish(self, logs: dict[str, float]) -> None:
        """Draw the final line."""
        if not self._verbose:
            return
        sys.stdout.write(("\r\x1b[K" if self._live else "") + self._line(self._steps, logs) + "\n")
        sys.stdout.flush()

    def _line(self, step: int, logs: dict[str, float]) -> str:
        elapsed = time.perf_counter() - self._start
        per_step = elapsed / max(step, 1)
        took = (
            f"{per_step * 1e3:.0f}ms/step" if per_step >= 1e-3 else f"{per_step * 1e6:.0f}us/step"
        )
        values = "".join(f" - {name}: {_format(value)}" for name, value in logs.items())
        if self._verbose == 2:
            return f"{step}/{self._steps} - {elapsed:.0f}s - {took}{values}"
        filled = _BAR_WIDTH * step // max(self._steps, 1)
        bar = "━" * filled + " " * (_BAR_WIDTH - filled)
        return f"{step}/{self._steps} {bar} {elapsed:.0f}s {took}{values}"


def _format(value: float) -> str:
    return f"{value:.4f}" if abs(value) > 1e-3 or value == 0 else f"{value:.4e}"


def print_summary(model: Sequential, print_fn: Callable[[str], Any] | None = None) -> None:
    """Print a table of the layers, their output shapes and their numbers of weights."""
    rows = [("Layer (type)", "Output Shape", "Param #")]
    shape = model.input_shape
    for layer in model.layers:
        output = "?"
        if shape is not None:
            shape = layer.compute_output_shape(shape)
            output = str(shape)
        count = f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"
        rows.append((f"{layer.name} ({type(layer).__name__})", output, count))
    widths = [
        max(least, *(len(row[column]) + 2 for row in rows))
        for column, least in enumerate(_COLUMN_WIDTHS)
    ]
    weights, trained = model.weights, model.trainable_weights
    lines = [
        f'Model: "{model.name}"',
        _rule("┏", "┳", "┓", "━", widths),
        _row(rows[0], widths, "┃"),
    ]
    lines.append(_rule("┡", "╇", "┩", "━", widths))
    for index, row in enumerate(rows[1:]):
        if index:
            lines.append(_rule("├", "┼", "┤", "─", widths))
        lines.append(_row(row, widths, "│"))
    lines.append(_rule("└", "┴", "┘", "─", widths))
    sizes = [
        (sum(w.size for w in arrays), sum(w.nbytes for w in arrays))
        for arrays in (weights, trained)
    ]
    (total, total_bytes), (learned, learned_bytes) = sizes
    lines.append(f" Total params: {_count(total, total_bytes)}")
    lines.append(f" Trainable params: {_count(learned, learned_bytes)}")
    rest = _count(total - learned, total_bytes - learned_bytes)
    lines.append(f" Non-trainable params: {rest}")
    (print_fn or print)("\n".join(lines))


def _rule(left: str, middle: str, right: str, line: str, widths: Sequence[int]) -> str:
    return left + middle.join(line * width for width in widths) + right


def _row(cells: Sequence[str], widths: Sequence[int], edge: str) -> str:
    left = [f" {cell}".ljust(width) for cell, width in zip(cells[:2], widths, strict=False)]
    return edge + edge.join([*left, f"{cells[2]} ".rjust(widths[2])]) + edge


def _count(size: int, nbytes: int) -> str:
    return f"{size:,} ({_bytes(nbytes)})"


def _bytes(size: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} GB"
