"""Measuring: rounds in which every subject has its turn."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

__all__ = ["interleave", "median_ratio"]

_MIN_ROUNDS = 3
_TICKS = 0.0125  # seconds, longer than from one tick of the system to the next
_LONG = 0.05  # seconds of a call beside which waking threads does not show


def interleave(
    subjects: Mapping[str, Callable[[], Any]],
    rounds: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time subjects side by side.

    Parameters
    ----------
    subjects : mapping of str to callable
        What to call, by name.
    rounds : int
        In each, every subject is called often enough to fill its share of the time.
    seconds : float
        About how long all rounds may take together; at least three rounds are made.

    Returns
    -------
    dict of str to list of float
        Seconds a call, one value a round. The order of the subjects is drawn anew for each round,
        so that none always follows the same one. A turn begins when the threads that the last one
        left spinning have gone to sleep, and with a call that wakes its own and is not timed.
    """
    share = seconds / max(1, rounds * len(subjects))
    calls = {name: _calls_for(subject, share, clock) for name, subject in subjects.items()}
    times: dict[str, list[float]] = {name: [] for name in subjects}
    order, generator = list(subjects), random.Random(0)
    start = clock()
    for turn in range(rounds):
        generator.shuffle(order)
        for name in order:
            _settle()
            last = times[name][-1] if times[name] else 0.0
            if last < _LONG:
                subjects[name]()
            times[name].append(_time(subjects[name], calls[name], clock))
        if turn + 1 >= _MIN_ROUNDS and clock() - start > 1.5 * seconds:
            break
    return times


def _calls_for(subject: Callable[[], Any], share: float, clock: Callable[[], float]) -> int:
    """Return how many calls fill `share` seconds, by trying; this also warms up."""
    _settle()
    subject()
    calls = 1
    while True:
        took = _time(subject, calls, clock) * calls
        if took > share / 4 or calls >= 1 << 20:
            return max(1, round(calls * share / max(took, 1e-9)))
        calls *= 4


def _settle() -> None:
    """Wait until no other thread of this process runs, or for half a second.

    Libraries leave theirs spinning for up to a tenth of a second. The system counts what a thread
    on another processor uses from tick to tick only, up to 10 ms apart; so this looks further.
    """
    for _ in range(40):
        before = time.process_time()
        time.sleep(_TICKS)
        if time.process_time() - before < _TICKS / 4:
            return


def _time(subject: Callable[[], Any], calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        subject()
    return (clock() - start) / calls


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """Return the median over rounds of the ratio within a round."""
    return median(a / b for a, b in zip(numerator, denominator, strict=True))
