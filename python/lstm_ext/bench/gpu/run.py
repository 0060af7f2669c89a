"""The run: every case checked, measured and shown, the table last."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ...cuda import availability
from ..grid import Shape, parse_shape
from .cases import GpuCase, shapes_of
from .clock import Ceilings, interleave, measure_ceilings
from .subjects import Ours, Torch, missing_torch

__all__ = ["Row", "main", "table"]

_ALGORITHMS = ("cluster", "grid", "steps")

# Forced through every algorithm, to see what the chooser should know: one row or some, one block,
# clusters, grids.
_FORCED = (
    "1,200,64,64", "1,200,256,256", "32,100,256,256", "1,200,512,512", "1,100,1024,1024",
    "32,50,1024,1024",
)  # fmt: skip


class Row(NamedTuple):
    """One case: microseconds by subject, or why there are none."""

    mode: str
    dtype: str
    shape: Shape
    algorithm: str
    floor: float
    times: dict[str, float]
    refused: dict[str, str]


def main(options: argparse.Namespace) -> int:
    """Run what the command line asks for.

    Raises
    ------
    ValueError
        If CUDA is not available, or the options do not fit.
    """
    state = availability.available()
    if not state:
        raise ValueError(f"--device: got cuda, but {state.reason}")
    pairs = shapes_of(options.suite, [parse_shape(text) for text in options.shape or ()])
    if options.mode:
        pairs = [(mode, shape) for mode, shape in pairs if mode in options.mode]
    native, cupy = availability.require()
    chip = native.chip(int(cupy.cuda.Device().id))
    cache = int(cupy.cuda.Device().attributes["L2CacheSize"])
    ceilings = measure_ceilings(cupy)
    note = missing_torch()
    dtypes = ("float32",) if note else ("float32", "bfloat16")
    rows = []
    for mode, shape in pairs:
        for dtype in dtypes:
            _progress(f"{mode} {dtype} {shape}")
            case = GpuCase(shape, mode, dtype, cache)
            rows.append(measure(case, _subjects(case, cupy, note), native, cupy, ceilings, options))
    forced = [] if options.suite or options.shape else _measure_forced(
        native, cupy, cache, ceilings, dtypes, options
    )  # fmt: skip
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([row._asdict() for row in rows + forced], file, indent=1)
    head = (
        f"{chip['name']}, float32 {ceilings.float32 / 1e12:.0f} and bfloat16 "
        f"{ceilings.bfloat16 / 1e12:.0f} TFLOP/s, {ceilings.bandwidth / 1e12:.1f} TB/s"
    )
    print(head if not note else f"{head}; {note}")
    if forced:
        print(table(forced, _ALGORITHMS))
    print(table(rows, ("ours", "torch", "torch TF32")))
    return 0 if all("ours" not in row.refused for row in rows) else 1


Maker = Callable[[], Any]


def _subjects(case: GpuCase, cupy: Any, note: str) -> dict[str, tuple[Maker, str]]:
    """Return by name what makes a subject, and the precision of its results."""
    subjects: dict[str, tuple[Maker, str]] = {"ours": (lambda: Ours(case, cupy), case.dtype)}
    if not note:
        subjects["torch"] = lambda: Torch(case, False), case.dtype
        if case.dtype == "float32":
            subjects["torch TF32"] = lambda: Torch(case, True), "tf32"
    return subjects


def measure(
    case: GpuCase,
    subjects: dict[str, tuple[Maker, str]],
    native: Any,
    cupy: Any,
    ceilings: Ceilings,
    options: argparse.Namespace,
) -> Row:
    """Check every subject, then time those whose results are right."""
    ready: dict[str, Any] = {}
    refused = {}
    for name, (make, precision) in subjects.items():
        try:
            subject = make()
            output, d_x = subject.results()
            case.check(output, d_x, precision)
            ready[name] = subject.run
        except (ValueError, RuntimeError) as error:
            refused[name] = str(error).splitlines()[0]
            print(f"{case.mode} {case.dtype} {case.shape}, {name}: {error}", file=sys.stderr)
    times = interleave(cupy, ready, len(case.inputs), options.rounds, options.seconds / 4)
    plan = native.plan(case.dtype, "forward", case.shape.B, case.shape.H)
    floor = ceilings.floor_seconds(case.shape, case.mode, case.dtype)
    times = {name: 1e6 * seconds for name, seconds in times.items()}
    return Row(case.mode, case.dtype, case.shape, plan.algorithm, 1e6 * floor, times, refused)


def _measure_forced(
    native: Any,
    cupy: Any,
    cache: int,
    ceilings: Ceilings,
    dtypes: Sequence[str],
    options: argparse.Namespace,
) -> list[Row]:
    rows = []
    for shape in map(parse_shape, _FORCED):
        for dtype in dtypes:
            case = GpuCase(shape, "forward", dtype, cache)
            subjects: dict[str, tuple[Maker, str]] = {
                name: (functools.partial(Ours, case, cupy, name), dtype) for name in _ALGORITHMS
            }
            rows.append(measure(case, subjects, native, cupy, ceilings, options))
    return rows


def table(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return rows as text: microseconds of each subject, of a step of the first, and the floor.

    Where torch is among the subjects the last column is its time, without TF32, over ours.
    """
    compares = "torch" in names
    titles = ["mode", "dtype", "B,T,I,H", "chosen", *(f"{n} us" for n in names), "us/step", "floor"]
    lines = [[*titles, "torch/ours"] if compares else titles]
    for row in rows:
        cells = [row.mode, row.dtype, str(row.shape), row.algorithm]
        cells += [f"{row.times[name]:.1f}" if name in row.times else "-" for name in names]
        fastest = min((row.times[name] for name in names[: 1 if compares else None]
                       if name in row.times), default=None)  # fmt: skip
        cells.append("-" if fastest is None else f"{fastest / row.shape.T:.2f}")
        cells.append(f"{row.floor:.1f}")
        if compares:
            both = "ours" in row.times and "torch" in row.times
            cells.append(f"{row.times['torch'] / row.times['ours']:.2f}" if both else "-")
        lines.append(cells)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
