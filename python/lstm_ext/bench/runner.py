"""The run: every case of every thread count, checked, measured, shown."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .. import _cpu
from . import floor, peers, report, timing
from .cases import Case, check_case
from .grid import GROUPS, SUITES, Shape
from .peers.base import Unsupported
from .variants import PEEPHOLES, PLAIN, VARIANTS

__all__ = ["Settings", "run"]


class Settings(NamedTuple):
    """What to measure."""

    shapes: list[tuple[str, Shape]]  # with their groups
    modes: Sequence[str]  # none: each group's own
    dtype: str
    threads: Sequence[int]
    isa: str | None
    peers: Sequence[str] | None  # None: all that take the weights of a case
    rounds: int
    seconds: float  # for all rounds of a case
    weights_dtypes: Sequence[str] = ()  # none: each group's own

    @classmethod
    def choose(
        cls, suites: Sequence[str], shapes: Sequence[Shape], modes: Sequence[str] | None
    ) -> tuple[list[tuple[str, Shape]], tuple[str, ...]]:
        """Return the shapes that suites and single shapes name, and the modes to run them in."""
        names = [name for suite in suites for name in SUITES.get(suite, (suite,))]
        chosen = [(group, shape) for group in names for shape in GROUPS[group]]
        chosen += [("", shape) for shape in shapes]
        return chosen, tuple(modes or ())

    def plan(self) -> list[tuple[str, Shape, str, str | None]]:
        """Return group, shape, mode and weights_dtype of each case.

        Each group has its own modes and weights, unless others are given. The groups of variants
        have their names.

        Raises
        ------
        ValueError
            If a case is impossible.
        """
        plan = []
        for group, shape in self.shapes:
            for weights_dtype in self.weights_dtypes or _own_weights(group):
                for mode in self.modes or _own_modes(group, shape):
                    variant = VARIANTS.get(group, PLAIN)
                    check_case(shape, mode, self.dtype, weights_dtype, variant)
                    plan.append((group, shape, mode, weights_dtype))
        return plan

    def cases(self, threads: int) -> Iterator[Case]:
        """Yield the cases of the plan, each with its data."""
        for group, shape, mode, weights_dtype in self.plan():
            yield Case(
                shape, mode, self.dtype, threads, group, self.isa, weights_dtype,
                VARIANTS.get(group, PLAIN),
            )  # fmt: skip


def _own_weights(group: str) -> tuple[str | None, ...]:
    return ("bfloat16", "int8") if group == "small" else (None,)


def _own_modes(group: str, shape: Shape) -> tuple[str, ...]:
    if group in ("training", "fit"):
        return (group,)
    if group in VARIANTS:
        # No peer has gradients for peepholes.
        is_trained = PEEPHOLES not in VARIANTS[group].needs
        return ("forward", "training") if is_trained else ("forward",)
    streamed = group == "streaming" or (group == "small" and shape.T == 1)
    return ("forward", "stream") if streamed else ("forward",)


def run(settings: Settings) -> report.Report:
    """Measure everything.

    The frameworks take their number of threads once, when they start; so with several thread
    counts each is measured in a process of its own.
    """
    count = len(settings.plan())
    if len(settings.threads) > 1:
        parts = [_run_in_child(settings._replace(threads=(n,))) for n in settings.threads]
        return report.Report(parts[0].environment, [row for part in parts for row in part.rows])
    ceilings = floor.measure_ceilings()
    rows = []
    for number, case in enumerate(settings.cases(settings.threads[0]), 1):
        weights = f", weights of {case.weights_dtype}" if case.weights_dtype else ""
        _progress(
            f"[{number}/{count}] {case.group} {case.mode} {case.shape}{weights}, "
            f"threads: {case.threads}"
        )
        rows.append(measure(case, settings, ceilings))
    _progress("")
    return report.Report(report.environment(ceilings.as_dict()), rows)


def measure(case: Case, settings: Settings, ceilings: floor.Ceilings) -> report.Row:
    """Check every subject, then time those that agree with the reference."""
    own = peers.OURS[0](case)
    errors = {own.name: case.check(*own.results())}
    subjects = {own.name: own.run}
    refused = {}
    for peer in peers.chosen(case, settings.peers):
        if absent := peers.missing(peer):
            refused[peer.name] = f"not installed: {', '.join(absent)}"
            continue
        try:
            ready = peer(case)
            errors[peer.name] = case.check(*ready.results())
            subjects[peer.name] = ready.run
        except Unsupported as reason:
            refused[peer.name] = str(reason)
        except Exception as error:  # a peer's failure must not end the run
            refused[peer.name] = f"{type(error).__name__}: {error}".splitlines()[0]
    times = timing.interleave(subjects, settings.rounds, settings.seconds)
    isa = case.isa or _cpu.chosen_isa()
    return report.Row(
        case.group,
        str(case.shape),
        case.mode,
        case.dtype,
        case.threads,
        isa,
        floor.floor_seconds(case, isa, ceilings),
        times,
        refused,
        case.weights_dtype or case.dtype,
        errors,
        case.variant.name,
        float(case.mask.mean()),
    )


def _run_in_child(settings: Settings) -> report.Report:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "report.json"
        request = json.dumps(settings._asdict())
        subprocess.run(
            [sys.executable, "-m", "lstm_ext.bench.child", request, str(result), *sys.argv[1:]],
            check=True,
        )
        return report.Report.load(str(result))


def _progress(text: str) -> None:
    """Show where the run is, over itself on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
    elif text:
        sys.stderr.write(text + "\n")
    sys.stderr.flush()
