"""The harness: subjects take turns, and none disturbs the next."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from lstm_ext.bench import timing


class Clock:
    """A clock that subjects set forward."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def subject(self, name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.now += seconds
            self.calls.append(name)

        return run


def test_subjects_take_turns_in_changing_order() -> None:
    clock = Clock()
    subjects = {name: clock.subject(name, s) for name, s in (("a", 2.0), ("b", 3.0), ("c", 4.0))}
    times = timing.interleave(subjects, 30, 190.0, clock)
    assert times == {"a": [2.0] * 30, "b": [3.0] * 30, "c": [4.0] * 30}
    calls = "".join(clock.calls[12:])  # after those to warm up, and the first round with its own
    rounds = [calls[i : i + 3] for i in range(0, len(calls), 3)]
    assert len(rounds) == 29
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert {names[i : i + 2] for names in rounds for i in range(2)} == {
        "ab", "ac", "ba", "bc", "ca", "cb"
    }  # fmt: skip


class Machine:
    """What the module `time` tells where the first subject leaves a thread spinning for 20 ms."""

    def __init__(self) -> None:
        self.now = self.used = self.spins_until = 0.0
        self.disturbed: list[bool] = []

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.used

    def sleep(self, seconds: float) -> None:
        self.used += max(0.0, min(seconds, self.spins_until - self.now))
        self.now += seconds

    def first(self) -> None:
        self.now += 0.001
        self.spins_until = self.now + 0.02

    def second(self) -> None:
        self.disturbed.append(self.now < self.spins_until)
        self.now += 0.001


def test_a_turn_waits_for_threads_that_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    monkeypatch.setattr(timing, "time", machine)
    subjects = {"first": machine.first, "second": machine.second}
    timing.interleave(subjects, 5, 0.02, machine.perf_counter)
    assert len(machine.disturbed) > 10 and not any(machine.disturbed)


def test_a_turn_begins_with_a_call_that_is_not_timed() -> None:
    clock = Clock()
    seconds = itertools.cycle([0.04, 0.03])  # waking, and awake
    subject = clock.subject("a", 0.0)

    def run() -> None:
        subject()
        clock.now += next(seconds)

    assert timing.interleave({"a": run}, 5, 0.22, clock) == {"a": [pytest.approx(0.03)] * 5}


def test_short_calls_are_repeated_and_long_runs_end() -> None:
    clock = Clock()
    timing.interleave({"a": clock.subject("a", 0.001)}, 5, 1.0, clock)
    assert len(clock.calls) > 900
    clock = Clock()
    times = timing.interleave({"a": clock.subject("a", 10.0)}, 50, 1.0, clock)
    assert len(times["a"]) == 3


def test_ratios_are_medians_within_rounds() -> None:
    assert timing.median_ratio([2.0, 40.0, 6.0], [1.0, 10.0, 2.0]) == 3.0
