"""Results: their form and the tables."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import textwrap
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from .. import _cpu
from .timing import median_ratio

__all__ = [
    "OURS", "Report", "Row", "environment", "is_own", "markdown", "sections", "table",
]  # fmt: skip

OURS = "lstm_ext"

_PACKAGES = (
    "numpy", "torch", "onnxruntime", "openvino", "jax", "keras", "tensorflow", "tensorflow-cpu",
    "ncnn",
)  # fmt: skip
_WIDTH = 120  # of a terminal


def is_own(name: str) -> bool:
    """Return whether a subject is this package, in any way, and so no peer."""
    return name == OURS or name.startswith(f"{OURS}-")


class Row(NamedTuple):
    """One case, measured."""

    group: str
    shape: str
    mode: str
    dtype: str
    threads: int
    isa: str
    floor: float  # seconds
    times: dict[str, list[float]]  # seconds a call, by subject, one a round
    refused: dict[str, str]  # why a peer was not timed
    weights_dtype: str
    errors: dict[str, float]  # root mean square, relative to float64 with full weights, by subject
    variant: str = ""  # the kind of LSTM; empty for a plain one
    steps: float = 1.0  # the share of the slots (B, T) that are steps

    @property
    def seconds(self) -> dict[str, float]:
        """The median of each subject."""
        return {name: median(times) for name, times in self.times.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """How many times longer than this package each other subject takes."""
        own = self.times[OURS]
        return {n: median_ratio(t, own) for n, t in self.times.items() if n != OURS}

    @property
    def fastest(self) -> str | None:
        """The fastest peer."""
        peers = {n: s for n, s in self.seconds.items() if not is_own(n)}
        return min(peers, key=peers.__getitem__) if peers else None

    @property
    def floor_share(self) -> float:
        """The floor over the time that this package takes."""
        return self.floor / self.seconds[OURS]


class Report(NamedTuple):
    """All rows, and where they were measured."""

    environment: dict[str, Any]
    rows: list[Row]

    def save(self, path: str) -> None:
        """Write as JSON."""
        rows = [
            {**row._asdict(), "seconds": row.seconds, "ratios": row.ratios} for row in self.rows
        ]
        text = json.dumps({"environment": self.environment, "rows": rows}, indent=1)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str) -> Report:
        """Read what `save` wrote; `earlier.load` reads what an earlier version wrote as well.

        Raises
        ------
        ValueError
            If the file is of another kind.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            rows = [Row(**{key: row[key] for key in Row._fields}) for row in content["rows"]]
            return cls(content["environment"], rows)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: no report of lstm-ext bench: {error!r}") from error


def environment(ceilings: dict[str, Any]) -> dict[str, Any]:
    """Return what the figures depend on: machine, versions, command, ceilings."""
    versions = {"python": platform.python_version(), "lstm_ext": _cpu.__version__}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "machine": _processor(),
        "compiler": _cpu.compiler,
        "versions": versions,
        "command": " ".join(["lstm-ext", *sys.argv[1:]]),
        "ceilings": ceilings,
    }


def _processor() -> str:
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} processors, {platform.system()} {platform.machine()}"


class _Columns(NamedTuple):
    """The columns of a section."""

    peers: list[str]
    has_steps: bool

    @classmethod
    def of(cls, rows: list[Row]) -> _Columns:
        peers = list(dict.fromkeys(name for row in rows for name in row.times if name != OURS))
        return cls(peers, any(row.steps < 1 for row in rows))

    @property
    def header(self) -> list[str]:
        steps = ["steps"] if self.has_steps else []
        return ["shape", *steps, OURS, *self.peers, "x fastest", "of floor"]

    def cells(self, row: Row) -> list[str]:
        steps = [f"{row.steps:.0%}"] if self.has_steps else []
        times = [_time_and_error(row, name) for name in (OURS, *self.peers)]
        ratio = f"{row.ratios[row.fastest]:.2f} {row.fastest}" if row.fastest else "-"
        return [row.shape, *steps, *times, ratio, f"{row.floor_share:.0%}"]


def _time_and_error(row: Row, name: str) -> str:
    if name not in row.times:
        return "-"
    time = _microseconds(row.seconds[name])
    small = row.weights_dtype != row.dtype
    return f"{time} ({row.errors[name]:.1e})" if small else time


def _microseconds(seconds: float) -> str:
    value = seconds * 1e6
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def sections(rows: list[Row]) -> dict[str, list[Row]]:
    """Return the rows of each table, by its title."""
    sections: dict[str, list[Row]] = {}
    for row in rows:
        threads = "1 thread" if row.threads == 1 else f"{row.threads} threads"
        kind = [row.group or "shapes", row.mode, row.weights_dtype, row.isa, threads]
        sections.setdefault(", ".join(kind), []).append(row)
    return sections


def _unit(rows: list[Row]) -> str:
    """Return what the cells hold."""
    unit = "microseconds a call"
    if any(row.steps < 1 for row in rows):
        unit += "; steps: the share of the slots that are not padding"
    if rows[0].weights_dtype != rows[0].dtype:
        unit += "; in brackets the error relative to float64"
    return unit


def _means(rows: list[Row], peers: list[str]) -> str:
    """Return the geometric means of the ratios to the fastest peer and to each."""
    parts = []
    fastest = [row.ratios[row.fastest] for row in rows if row.fastest]
    if fastest:
        parts.append(f"{_geometric_mean(fastest):.2f} over the fastest peer")
    for name in peers:
        ratios = [row.ratios[name] for row in rows if name in row.times]
        if ratios:
            parts.append(f"{_geometric_mean(ratios):.2f} over {name} (least {min(ratios):.2f})")
    return "; ".join(parts)


def _geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def _refusals(rows: list[Row]) -> list[str]:
    """Return a line for each reason: which peers it kept from which shapes."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for name, why in row.refused.items():
            reasons.setdefault(why, {}).setdefault(name, []).append(row.shape)
    lines = []
    for why, names in reasons.items():
        parts = [
            name if len(shapes) == len(rows) else f"{name} at {' '.join(shapes)}"
            for name, shapes in names.items()
        ]
        lines.append(f"not timed: {', '.join(parts)}: {why}")
    return lines


def _wrap(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="    ")


def table(rows: list[Row]) -> str:
    """Return the rows for a terminal: microseconds a call, ratios, share of the floor."""
    lines = []
    for title, section in sections(rows).items():
        columns = _Columns.of(section)
        cells = [columns.header, *map(columns.cells, section)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines.append(f"{title} ({_unit(section)})")
        for line in cells:
            texts = (text.rjust(width) for text, width in zip(line, widths, strict=True))
            lines.append("  " + "  ".join(texts))
        if means := _means(section, columns.peers):
            lines.append(_wrap(f"geometric mean: {means}"))
        lines += [*map(_wrap, _refusals(section)), ""]
    return "\n".join(lines)


def markdown(report: Report) -> str:
    """Return the report for a Markdown page, with machine, versions and command."""
    env = report.environment
    versions = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
    lines = [f"Machine: {env['machine']}. Versions: {versions}. Compiler: {env['compiler']}.", ""]
    lines += [f"Command: `{env['command']}`", ""]
    for title, section in sections(report.rows).items():
        columns = _Columns.of(section)
        lines += [f"**{title}** ({_unit(section)})", ""]
        lines += ["| " + " | ".join(columns.header) + " |", "|---" * len(columns.header) + "|"]
        lines += ["| " + " | ".join(columns.cells(row)) + " |" for row in section]
        lines += ["", f"Geometric mean: {_means(section, columns.peers)}.", ""]
    return "\n".join(lines)
