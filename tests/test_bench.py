"""The harness: what it refuses to time, how it times, what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ext.bench import floor, peers, plot, report, runner, timing
from lstm_ext.bench.cases import Case
from lstm_ext.bench.grid import GROUPS, Shape, parse_shape
from lstm_ext.bench.peers.base import Peer, Unsupported

CEILINGS = floor.Ceilings(1e11, {16 << 10: 2e11, 1 << 20: 1e11, 128 << 20: 2e10})
SHAPE = Shape(2, 3, 4, 5)


class Right(peers.numpy_reference.Numpy):
    """A peer that agrees."""

    name = "right"


class Wrong(Right):
    """A peer that has the gates in another order."""

    name = "wrong"

    def results(self) -> Any:
        output, gradient = super().results()
        return output[..., ::-1], gradient


class Broken(Right):
    """A peer that fails."""

    name = "broken"

    def __init__(self, case: Case) -> None:
        raise RuntimeError("no such symbol\nsecond line")


class Absent(Right):
    """A peer whose package is not there."""

    name = "absent"
    requires = ("a_package_that_is_not_there",)


class Unable(Right):
    """A peer that cannot do the case."""

    name = "unable"

    def __init__(self, case: Case) -> None:
        raise Unsupported("not today")


def settings(names: tuple[str, ...], **changes: Any) -> runner.Settings:
    chosen = runner.Settings([("", SHAPE)], (), "float32", (1,), None, names, 3, 0.01)
    return chosen._replace(**changes)


@pytest.mark.parametrize("mode", ["forward", "training"])
def test_only_what_agrees_is_timed(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(peers, "PEERS", [Right, Wrong, Broken, Absent, Unable, peers.torch.Torch])
    names = ("right", "wrong", "broken", "absent", "unable")
    row = runner.measure(Case(SHAPE, mode, "float32", 1), settings(names), CEILINGS)
    assert set(row.times) == {"lstm_ext", "right"}
    assert "output is off by" in row.refused["wrong"]
    assert row.refused["broken"] == "RuntimeError: no such symbol"
    assert row.refused["absent"] == "not installed: a_package_that_is_not_there"
    assert row.refused["unable"] == "not today"
    assert "torch" not in row.refused


def test_this_package_has_to_agree_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "OURS", [Wrong])
    with pytest.raises(ValueError, match="output is off by"):
        runner.measure(Case(SHAPE, "forward", "float32", 1), settings(()), CEILINGS)


@pytest.mark.parametrize("peer", [*peers.OURS, *peers.PEERS], ids=lambda p: str(p.name))
@pytest.mark.parametrize("mode", ["forward", "training", "fit"])
def test_every_installed_peer_agrees(peer: type[Peer], mode: str) -> None:
    if peers.missing(peer):
        pytest.skip(f"not installed: {peers.missing(peer)}")
    if mode not in peer.modes:
        pytest.skip(f"{peer.name} has no {mode}")
    case = Case(SHAPE, mode, "float32", 1)
    case.check(*peer(case).results())


def test_a_stream_is_timed_where_there_is_one_step() -> None:
    case = Case(Shape(2, 1, 4, 5), "stream", "float32", 1)
    ours = peers.OURS[0](case)
    ours.run()  # a state that is not zero must not show in the check
    case.check(*ours.results())
    with pytest.raises(Unsupported, match="one step at a time"):
        peers.OURS[0](Case(SHAPE, "stream", "float32", 1))
    shapes, modes = runner.Settings.choose(["streaming"], [], None)
    cases = list(settings((), shapes=shapes, modes=modes).cases(1))
    assert [case.mode for case in cases] == ["forward", "stream"] * 5


def test_a_case_has_no_zeros_and_is_the_same_for_all() -> None:
    one, other = (Case(SHAPE, "forward", "float64", 1) for _ in range(2))
    for name in ("x", "kernel", "recurrent_kernel", "bias", "d_output"):
        assert (getattr(one, name) != 0).all()
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_result_of_another_shape_is_refused() -> None:
    case = Case(SHAPE, "training", "float32", 1)
    output, gradient = Right(case).results()
    with pytest.raises(ValueError, match="output has shape"):
        case.check(output[:, :2], gradient)
    with pytest.raises(ValueError, match="no gradient"):
        case.check(output, None)
    with pytest.raises(ValueError, match="gradient of kernel is off"):
        case.check(output, -gradient)


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
    subjects = {name: clock.subject(name, s) for name, s in (("a", 1.0), ("b", 2.0), ("c", 4.0))}
    times = timing.interleave(subjects, 4, 14.5, clock)
    assert times == {"a": [1.0] * 4, "b": [2.0] * 4, "c": [4.0] * 4}
    rounds = "".join(clock.calls[3:])  # after one call each to warm up
    assert rounds == "abc" + "bca" + "cab" + "abc"


def test_short_calls_are_repeated_and_long_runs_end() -> None:
    clock = Clock()
    timing.interleave({"a": clock.subject("a", 0.001)}, 5, 1.0, clock)
    assert len(clock.calls) > 900
    clock = Clock()
    times = timing.interleave({"a": clock.subject("a", 10.0)}, 50, 1.0, clock)
    assert len(times["a"]) == 3


def test_ratios_are_medians_within_rounds() -> None:
    assert timing.median_ratio([2.0, 40.0, 6.0], [1.0, 10.0, 2.0]) == 3.0


def test_the_floor_is_the_larger_of_work_and_bytes() -> None:
    # One row: 4 * 512 * 512 weights of 4 bytes are 4 MiB, at the memory's 20 GB/s.
    step = floor.floor_seconds(Shape(1, 1, 512, 512), "forward", "float32", 1, CEILINGS)
    assert step == pytest.approx(2 * 4 * 512 * 512 * 4 / 2e10)
    # Many rows: arithmetic, 2 operations a weight and row at 100 GFLOP/s.
    shape = Shape(1000, 10, 64, 64)
    work = 2 * shape.multiply_adds / 1e11
    assert floor.floor_seconds(shape, "forward", "float32", 1, CEILINGS) == pytest.approx(work)
    two = floor.floor_seconds(shape, "forward", "float32", 2, CEILINGS)
    assert two == pytest.approx(work / 2)
    training = floor.floor_seconds(shape, "training", "float32", 1, CEILINGS)
    assert training == pytest.approx(3 * work)
    double = floor.floor_seconds(shape, "forward", "float64", 1, CEILINGS)
    assert double == pytest.approx(2 * work)


def test_ceilings_are_measured() -> None:
    ceilings = floor.measure_ceilings(0.01)
    assert ceilings.flops > 1e8
    assert all(rate > 1e8 for rate in ceilings.bandwidth.values())


def make_report() -> report.Report:
    rows = [
        report.Row("batch", "8,100,64,128", "forward", "float32", 2, "avx2", 1e-4,
                   {"lstm_ext": [2e-4, 2e-4, 3e-4], "torch": [4e-4, 5e-4, 6e-4], "jax": [1e-3] * 3},
                   {"keras": "not installed: keras"}),
        report.Row("batch", "16,50,128,128", "forward", "float32", 2, "avx2", 2e-4,
                   {"lstm_ext": [3e-4] * 3, "torch": [3e-4] * 3}, {}),
        report.Row("training", "1,1,2,3", "training", "float32", 2, "avx2", 1e-6,
                   {"lstm_ext": [1e-5] * 3}, {}),
    ]  # fmt: skip
    return report.Report(report.environment(CEILINGS.as_dict()), rows)


def test_the_table_shows_times_ratios_and_means() -> None:
    text = report.table(make_report().rows)
    assert "batch, forward, float32, avx2" in text and "training, training" in text
    line = next(line for line in text.splitlines() if "8,100,64,128" in line)
    assert line.split() == ["8,100,64,128", "2", "200", "500", "1,000", "2.00", "torch", "50%"]
    assert "1.41 over the fastest peer" in text
    assert "1.41 over torch (least 1.00)" in text
    assert "8,100,64,128 keras: not timed: not installed: keras" in text


def test_a_report_comes_back_from_its_file(tmp_path: Path) -> None:
    path = str(tmp_path / "report.json")
    original = make_report()
    original.save(path)
    assert report.Report.load(path) == original
    content = json.loads(Path(path).read_text())
    assert content["rows"][0]["ratios"] == {"torch": 2.0, "jax": 5.0}
    assert {"machine", "compiler", "versions", "command", "ceilings"} <= set(content["environment"])
    for text in ("{}", "no json", '{"rows": [1], "environment": 2}'):
        Path(path).write_text(text)
        with pytest.raises(ValueError, match="no report of lstm-ext bench"):
            report.Report.load(path)


def test_markdown_tells_where_figures_are_from() -> None:
    text = report.markdown(make_report())
    for part in (
        "Machine: ",
        "Versions: python ",
        "Command: `lstm-ext",
        "| 8,100,64,128 | 2 | 200 |",
    ):
        assert part in text


def test_comparison_with_an_earlier_report() -> None:
    old = make_report()
    slower = [row._replace(times={"lstm_ext": [4e-4] * 3}) for row in old.rows[:1]]
    assert "forward 8,100,64,128 2 threads: 2.00" in report.compare(slower, old)


@pytest.mark.parametrize("draw", [plot.plot_ratios, plot.plot_roofline])
def test_pictures_are_pngs(tmp_path: Path, draw: Callable[[report.Report, str], None]) -> None:
    path = tmp_path / "picture.png"
    draw(make_report(), str(path))
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n") and len(content) > 5000


def test_shapes_are_read_and_named() -> None:
    assert parse_shape("1,2,3,4") == Shape(1, 2, 3, 4) and str(Shape(1, 2, 3, 4)) == "1,2,3,4"
    for text in ("1,2,3", "1,2,3,0", "1,2,3,x", "", "1,2,3,-4"):
        with pytest.raises(ValueError, match="shape: got"):
            parse_shape(text)
    assert {name: len(shapes) for name, shapes in GROUPS.items()} == {
        "streaming": 5, "sequence": 7, "batch": 3, "large": 3, "training": 7, "fit": 1
    }  # fmt: skip


def test_suites_choose_shapes_and_modes() -> None:
    shapes, modes = runner.Settings.choose(["training", "batch"], [SHAPE], None)
    chosen = settings((), shapes=shapes, modes=modes)
    cases = [(case.group, case.mode) for case in chosen.cases(2)]
    assert cases == [("training", "training")] * 7 + [("batch", "forward")] * 3 + [("", "forward")]
    assert len(runner.Settings.choose(["grid"], [], None)[0]) == 26


def test_several_thread_counts_are_measured_one_after_the_other() -> None:
    result = runner.run(settings(("numpy",), threads=(1, 2)))
    assert [row.threads for row in result.rows] == [1, 2]
    assert all(set(row.times) == {"lstm_ext", "numpy"} for row in result.rows)
