"""Results as pictures."""

from __future__ import annotations

from typing import Any

from .floor import WEIGHT_BYTES, rate_over_fma
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
    figure.legend(loc="outside right upper")
    figure.savefig(path, dpi=120)


def plot_roofline(report: Report, path: str) -> None:
    """Write a PNG of the reached rates under the ceilings, by operations per byte of weights."""
    from matplotlib.figure import Figure

    ceilings: dict[str, Any] = report.environment["ceilings"]
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    rows = [row for row in report.rows if row.mode == "forward"]
    intensities = [2.0**i for i in range(-4, 10)]
    kinds = dict.fromkeys((row.weights_dtype, row.isa) for row in rows)
    roofs = {kind: ceilings["gflops"] * rate_over_fma(*kind) for kind in kinds}
    top = max(roofs.values(), default=ceilings["gflops"])
    for number, (size, bandwidth) in enumerate(ceilings["read_gb_per_s"].items()):
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
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def _label(row: Row) -> str:
    small = f" {row.weights_dtype}" if row.weights_dtype != row.dtype else ""
    return f"{row.mode}{small} ({row.shape}) {row.threads}t"


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


def _intensity(row: Row) -> float:
    """Return the operations, two a row of the batch, for a byte of weights."""
    return 2 * parse_shape(row.shape).B / WEIGHT_BYTES[row.weights_dtype]


def _gflops(row: Row) -> float:
    return 2 * parse_shape(row.shape).multiply_adds / row.seconds[OURS] / 1e9
