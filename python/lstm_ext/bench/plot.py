"""Results as pictures."""

from __future__ import annotations

from typing import Any

from .floor import WEIGHT_BYTES, rate_over_fma
from .grid import parse_shape
from .report import OURS, Report, Row, is_own, sections

__all__ = ["arrange", "plot_ratios", "plot_roofline"]

_TALL = 9  # inches; what is taller stands in two columns


def plot_ratios(report: Report, path: str) -> None:
    """Write a PNG of how many times longer each peer takes: a panel a section, a line a shape."""
    from matplotlib.figure import Figure

    panels = sections([row for row in report.rows if row.fastest])
    peers = list(dict.fromkeys(name for rows in panels.values() for r in rows for name in r.ratios))
    columns = arrange(panels)
    height = max(sum(map(_height, column)) for column in columns)
    figure = Figure(figsize=(2 + 6 * len(columns), 1.2 + height), layout="constrained")
    figure.suptitle(report.environment["machine"], fontsize=10)
    figure.supxlabel(f"times longer than {OURS} (right of the line: {OURS} is faster)", fontsize=10)
    grid = figure.add_gridspec(1, len(columns))
    first = None
    for number, column in enumerate(columns if panels else ()):
        heights = [_height(panel) for panel in column]
        lines = grid[number].subgridspec(len(column), 1, height_ratios=heights)
        for line, (title, rows) in enumerate(column):
            axes = figure.add_subplot(lines[line], sharex=first)
            first = first or axes
            _draw_ratios(axes, rows, peers)
            axes.set_title(title, fontsize=9, loc="left")
            axes.tick_params(labelbottom=line + 1 == len(column))
    if first is not None:
        figure.legend(*first.get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(path, dpi=120)


_Panel = tuple[str, list[Row]]


def arrange(panels: dict[str, list[Row]]) -> list[list[_Panel]]:
    """Return the panels in one column or, if there are many, in two about equally high ones."""
    total = sum(map(_height, panels.items()))
    columns: list[list[_Panel]] = [[]]
    for panel in panels.items():
        used = sum(map(_height, columns[0]))
        if total > _TALL and len(columns) == 1 and used + _height(panel) / 2 > total / 2:
            columns.append([])
        columns[-1].append(panel)
    return columns


def _height(panel: _Panel) -> float:
    """Return the inches that a panel needs, with its title."""
    return 0.5 + 0.26 * len(panel[1])


def _draw_ratios(axes: Any, rows: list[Row], peers: list[str]) -> None:
    """Draw the ratios of rows, each peer with the same mark in all panels."""
    from matplotlib.ticker import LogLocator

    for number, peer in enumerate(peers):
        points = [(row.ratios[peer], i) for i, row in enumerate(rows) if peer in row.ratios]
        x, y = zip(*points, strict=True) if points else ((), ())
        mark = {"marker": "d", "color": "black"} if is_own(peer) else {"color": f"C{number % 10}"}
        axes.plot(x, y, **{"marker": "o", "linestyle": "", "alpha": 0.85, "label": peer, **mark})
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_yticks(range(len(rows)), [row.shape for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="both", alpha=0.3)


def plot_roofline(report: Report, path: str) -> None:
    """Write a PNG of the rates that plain passes reach under the ceilings.

    They stand by their operations for a byte of weights.
    """
    from matplotlib.figure import Figure

    ceilings: dict[str, Any] = report.environment["ceilings"]
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    rows = [row for row in report.rows if row.mode == "forward" and not row.variant]
    intensities = [2.0**i for i in range(-4, 10)]
    kinds = dict.fromkeys((row.weights_dtype, row.isa) for row in rows)
    roofs = {kind: ceilings["gflops"] * rate_over_fma(*kind) for kind in kinds}
    top = max(roofs.values(), default=ceilings["gflops"])
    for number, (size, bandwidth) in enumerate(_apart(ceilings["read_gb_per_s"])):
        slope = [i * bandwidth for i in intensities if i * bandwidth < top]
        ends = [*intensities[: len(slope)], top / bandwidth]
        axes.plot(ends, [*slope, top], color="gray", linewidth=1)
        where = intensities[number % 2]  # lines of nearly the same bandwidth lie together
        axes.annotate(_size(int(size)), (where, where * bandwidth), fontsize=8, va="bottom")
    for (weights_dtype, isa), roof in roofs.items():
        axes.axhline(roof, color="gray", linewidth=1, linestyle="dashed")
        name, edge = f"{weights_dtype}, {isa}", axes.get_yaxis_transform()
        axes.text(0.99, roof, name, transform=edge, fontsize=8, va="bottom", ha="right")
    for threads, weights_dtype in dict.fromkeys((row.threads, row.weights_dtype) for row in rows):
        points = [r for r in rows if (r.threads, r.weights_dtype) == (threads, weights_dtype)]
        x = [_intensity(row) for row in points]
        y = [_gflops(row) / threads for row in points]
        each = ", each" if threads > 1 else ""
        label = f"{weights_dtype}, {threads} thread{'s' * (threads > 1)}{each}"
        axes.plot(x, y, "o", label=label, alpha=0.8)
        for row, point in zip(points, zip(x, y, strict=True), strict=True):
            axes.annotate(row.shape, point, fontsize=7, xytext=(4, 2), textcoords="offset points")
    axes.set_xscale("log", base=2)
    axes.set_xlim(intensities[0] / 1.2, max([512, *(4 * _intensity(row) for row in rows)]))
    axes.set_yscale("log", base=2)
    axes.set_xlabel("operations per byte of recurrent weights read once a step")
    axes.set_ylabel("GFLOP/s a core")
    axes.set_title(
        f"Forward passes under the ceilings of {report.environment['machine']}", fontsize=10
    )
    if rows:
        axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def _apart(bandwidths: dict[str, float]) -> list[tuple[str, float]]:
    """Return the largest size at about each bandwidth."""
    kept: list[tuple[str, float]] = []
    for size, bandwidth in sorted(bandwidths.items(), key=lambda item: -int(item[0])):
        if not kept or bandwidth > 1.3 * kept[-1][1]:
            kept.append((size, bandwidth))
    return kept[::-1]


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


def _intensity(row: Row) -> float:
    """Return the operations, two a row of the batch, for a byte of weights."""
    return 2 * parse_shape(row.shape).B / WEIGHT_BYTES[row.weights_dtype]


def _gflops(row: Row) -> float:
    return 2 * parse_shape(row.shape).multiply_adds / row.seconds[OURS] / 1e9
