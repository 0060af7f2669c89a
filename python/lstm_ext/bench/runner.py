"""The run: every case of every thread count, checked, measured, shown."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .. import _cpu
from . import floor, peers, report, timing
from .cases import Case
from .grid import GROUPS, Shape
from .peers.base import Unsupported

__all__ = ["Settings", "run"]


_OWN_MODES = {"streaming": ("forward", "stream"), "training": ("training",), "fit": ("fit",)}


class Settings(NamedTuple):
    """What to measure."""

    shapes: list[tuple[str, Shape]]  # with their groups
    modes: tuple[str, ...]
    dtype: str
    threads: tuple[int, ...]
    isa: str | None
    peers: tuple[str, ...]
    rounds: int
    seconds: float  # for all rounds of a case

    @classmethod
    def choose(
        cls, suites: Sequence[str], shapes: Sequence[Shape], modes: Sequence[str] | None
    ) -> tuple[list[tuple[str, Shape]], tuple[str, ...]]:
        """Return the shapes that suites and single shapes name, and the modes to run them in."""
        names = list(GROUPS) if "grid" in suites else list(suites)
        chosen = [(group, shape) for group in names for shape in GROUPS[group]]
        chosen += [("", shape) for shape in shapes]
        return chosen, tuple(modes or ())

    def cases(self, threads: int) -> Iterable[Case]:
        """Yield the cases: each group in its own mode, unless modes are given."""
        for group, shape in self.shapes:
            modes = self.modes or _OWN_MODES.get(group, ("forward",))
            for mode in modes:
                yield Case(shape, mode, self.dtype, threads, group, self.isa)


def run(settings: Settings) -> report.Report:
    """Measure everything.

    The frameworks take their number of threads once, when they start; so with several thread
    counts each is measured in a process of its own.
    """
    if len(settings.threads) > 1:
        parts = [_run_in_child(settings._replace(threads=(n,))) for n in settings.threads]
        return report.Report(parts[0].environment, [row for part in parts for row in part.rows])
    ceilings = floor.measure_ceilings()
    cases = list(settings.cases(settings.threads[0]))
    rows = []
    for number, case in enumerate(cases, 1):
        _progress(f"[{number}/{len(cases)}] {case.group} {case.mode} {case.shape}")
        rows.append(measure(case, settings, ceilings))
    _progress("")
    return report.Report(report.environment(ceilings.as_dict()), rows)


def measure(case: Case, settings: Settings, ceilings: floor.Ceilings) -> report.Row:
    """Check every subject, then time those that agree with the reference."""
    own = peers.OURS[0](case)
    case.check(*own.results())
    subjects = {own.name: own.run}
    refused = {}
    for peer in peers.PEERS:
        if peer.name not in settings.peers:
            continue
        if absent := peers.missing(peer):
            refused[peer.name] = f"not installed: {', '.join(absent)}"
            continue
        try:
            ready = peer(case)
            case.check(*ready.results())
            subjects[peer.name] = ready.run
        except Unsupported as reason:
            refused[peer.name] = str(reason)
        except Exception as error:  # a peer's failure must not end the run
            refused[peer.name] = f"{type(error).__name__}: {error}".splitlines()[0]
    times = timing.interleave(subjects, settings.rounds, settings.seconds)
    least = floor.floor_seconds(case.shape, case.mode, case.dtype, case.threads, ceilings)
    isa = case.isa or _cpu.chosen_isa()
    return report.Row(
        case.group, str(case.shape), case.mode, case.dtype, case.threads, isa, least, times, refused
    )


def _run_in_child(settings: Settings) -> report.Report:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "report.json"
        request = json.dumps(settings)
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
