"""Results: their form, the table, and the comparison with an earlier file."""

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

__all__ = ["Report", "Row", "compare", "environment", "markdown", "table"]

OURS = "lstm_ext"
IN_FULL = "lstm_ext-float32"  # beside small weights: no peer

_PACKAGES = (
    "numpy", "torch", "onnxruntime", "openvino", "jax", "keras", "tensorflow", "tensorflow-cpu",
    "ncnn",
)  # fmt: skip
_WIDTH = 120  # of a terminal


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
        peers = {n: seconds for n, seconds in self.seconds.items() if n not in (OURS, IN_FULL)}
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
        """Read what `save` wrote.

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


def _header(rows: list[Row]) -> tuple[list[str], list[str]]:
    peers = list(dict.fromkeys(name for row in rows for name in row.times if name != OURS))
    return peers, ["shape", OURS, *peers, "x fastest", "of floor"]


def _cells(row: Row, peers: list[str]) -> list[str]:
    times = [_time_and_error(row, name) for name in (OURS, *peers)]
    ratio = f"{row.ratios[row.fastest]:.2f} {row.fastest}" if row.fastest else "-"
    return [row.shape, *times, ratio, f"{row.floor_share:.0%}"]


def _time_and_error(row: Row, name: str) -> str:
    if name not in row.times:
        return "-"
    time = _microseconds(row.seconds[name])
    small = row.weights_dtype != row.dtype
    return f"{time} ({row.errors[name]:.1e})" if small else time


def _microseconds(seconds: float) -> str:
    value = seconds * 1e6
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _sections(rows: list[Row]) -> dict[str, list[Row]]:
    sections: dict[str, list[Row]] = {}
    for row in rows:
        threads = "1 thread" if row.threads == 1 else f"{row.threads} threads"
        kind = [row.group or "shapes", row.mode, row.weights_dtype, row.isa, threads]
        sections.setdefault(", ".join(kind), []).append(row)
    return sections


def _unit(rows: list[Row]) -> str:
    """Return what the cells hold."""
    if rows[0].weights_dtype == rows[0].dtype:
        return "microseconds a call"
    return "microseconds a call; in brackets the error relative to float64"


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
    for title, section in _sections(rows).items():
        peers, header = _header(section)
        cells = [header, *(_cells(row, peers) for row in section)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
        lines.append(f"{title} ({_unit(section)})")
        for line in cells:
            texts = (text.rjust(width) for text, width in zip(line, widths, strict=True))
            lines.append("  " + "  ".join(texts))
        if means := _means(section, peers):
            lines.append(_wrap(f"geometric mean: {means}"))
        lines += [*map(_wrap, _refusals(section)), ""]
    return "\n".join(lines)


def markdown(report: Report) -> str:
    """Return the report for a Markdown page, with machine, versions and command."""
    env = report.environment
    versions = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
    lines = [f"Machine: {env['machine']}. Versions: {versions}. Compiler: {env['compiler']}.", ""]
    lines += [f"Command: `{env['command']}`", ""]
    for title, section in _sections(report.rows).items():
        peers, header = _header(section)
        lines += [f"**{title}** ({_unit(section)})", "", "| " + " | ".join(header) + " |"]
        lines.append("|---" * len(header) + "|")
        lines += ["| " + " | ".join(_cells(row, peers)) + " |" for row in section]
        lines += ["", f"Geometric mean: {_means(section, peers)}.", ""]
    return "\n".join(lines)


def compare(rows: list[Row], old: Report) -> str:
    """Return how long each case takes now over what it took in an earlier report."""
    before = {_key(row): row for row in old.rows}
    lines = ["now over before (this package):"]
    for row in rows:
        earlier = before.get(_key(row))
        if earlier is not None:
            ratio = row.seconds[OURS] / earlier.seconds[OURS]
            case = f"{row.mode} {row.weights_dtype} {row.shape} {row.threads} threads"
            lines.append(f"  {case}: {ratio:.2f}")
    return "\n".join(lines if len(lines) > 1 else [*lines, "  no case in common"])


def _key(row: Row) -> tuple[str, str, str, str, int, str]:
    return (row.shape, row.mode, row.dtype, row.weights_dtype, row.threads, row.isa)
