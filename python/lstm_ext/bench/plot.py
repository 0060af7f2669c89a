"""Results as pictures."""

from __future__ import annotations

from typing import Any

from .grid import parse_shape
from .report import OURS, Report, Row

__all__ = ["plot_ratios", "plot_roofline"]


def plot_ratios(report: Report, path: str) -> None:
    """Write a PNG of how many times longer each peer takes, shape by shape."""
    from matplotlib.figure import Figure

    rows = [row for row in report.rows if row.fastest]
    peers = list(dict.fromkeys(name for row in rows for name in row.ratios))
    figure = Figure(figsize=(10, 1.6 + 0.38 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for peer in peers:
        points = [(row.ratios[peer], i) for i, row in enumerate(rows) if peer in row.ratios]
        axes.plot(*zip(*points, strict=True), "o", label=peer, alpha=0.85)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.invert_yaxis()
    axes.grid(axis="both", alpha=0.3)
    axes.set_xlabel("times longer than lstm_ext (right of the line: lstm_ext is faster)")
    axes.set_title(report.environment["machine"], fontsize=10)
    axes.legend(loc="best")
    figure.savefig(path, dpi=120)


def plot_roofline(report: Report, path: str) -> None:
    """Write a PNG of the reached rates under the ceilings, by operations per byte of weights."""
    from matplotlib.figure import Figure

    ceilings: dict[str, Any] = report.environment["ceilings"]
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    intensities = [2.0**i for i in range(-2, 9)]
    for size, bandwidth in ceilings["read_gb_per_s"].items():
        roof = [min(ceilings["gflops"], i * bandwidth) for i in intensities]
        axes.plot(intensities, roof, color="gray", linewidth=1)
        label = f"{int(size) >> 10} KiB"
        axes.annotate(label, (intensities[0], roof[0]), fontsize=8, va="bottom")
    for threads in sorted({row.threads for row in report.rows}):
        points = [
            (row.shape.split(",")[0], row)
            for row in report.rows
            if row.threads == threads and row.mode == "forward"
        ]
        x = [int(batch) / 2 for batch, _ in points]  # float32: 2 operations a row, 4 bytes a weight
        y = [_gflops(row) / threads for _, row in points]
        axes.plot(x, y, "o", label=f"{threads} threads, each", alpha=0.8)
        for i, (_, row) in enumerate(points):
            axes.annotate(
                row.shape, (x[i], y[i]), fontsize=7, xytext=(4, 2), textcoords="offset points"
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlabel("operations per byte of recurrent weights read once a step")
    axes.set_ylabel("GFLOP/s a core")
    axes.set_title(
        f"Forward passes under the ceilings of {report.environment['machine']}", fontsize=10
    )
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def _label(row: Row) -> str:
    return f"{row.mode} ({row.shape}) {row.threads}t"


def _gflops(row: Row) -> float:
    return 2 * parse_shape(row.shape).multiply_adds / row.seconds[OURS] / 1e9
