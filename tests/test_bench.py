"""The harness: what it refuses to time, how it times, what it writes."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ext import available_isas, functional, reference
from lstm_ext.bench import floor, peers, plot, report, runner, small, timing
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


@pytest.mark.parametrize(
    ("peer", "mode", "weights_dtype"),
    [
        (peer, mode, weights_dtype)
        for peer in (*peers.OURS, *peers.PEERS)
        for weights_dtype in peer.weights_dtypes
        for mode in peer.modes
        if weights_dtype is None or mode in ("forward", "stream")
    ],
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_every_installed_peer_agrees(
    peer: type[Peer], mode: str, weights_dtype: str | None
) -> None:
    if peers.missing(peer):
        pytest.skip(f"not installed: {peers.missing(peer)}")
    shapes = {
        "stream": (Shape(2, 1, 4, 5), Shape(1, 1, 13, 10)),
        "fit": (Shape(30, 3, 4, 5),),
    }
    for shape in shapes.get(mode, (SHAPE, Shape(1, 7, 13, 10))):
        case = Case(shape, mode, "float32", 1, weights_dtype=weights_dtype)
        try:
            ready = peer(case)
        except Unsupported:
            assert shape.B > 1
            continue
        ready.run()  # a state that is kept must not show in the check
        case.check(*ready.results())


@pytest.mark.parametrize("isa", available_isas())
def test_an_instruction_set_is_forced_in_every_mode(
    monkeypatch: pytest.MonkeyPatch, isa: str
) -> None:
    packed = []
    pack = functional.pack

    def spy(*arguments: Any, **options: Any) -> Any:
        packed.append(pack(*arguments, **options))
        return packed[-1]

    monkeypatch.setattr(functional, "pack", spy)
    for mode in ("forward", "stream", "training"):
        ours = peers.OURS[0](Case(Shape(1, 1, 2, 3), mode, "float32", 1, isa=isa))
        ours.run()
    assert len(packed) >= 3 and {weights.isa for weights in packed} == {isa}


def test_streams_are_measured_where_there_is_one_step() -> None:
    with pytest.raises(ValueError, match="mode: got stream at 2,3,4,5"):
        Case(SHAPE, "stream", "float32", 1)
    with pytest.raises(ValueError, match="mode: got stream at 2,3,4,5"):
        runner.run(settings((), modes=("stream",), threads=(1, 2)))


@pytest.mark.parametrize("weights_dtype", ["bfloat16", "int8"])
def test_small_weights_are_held_to_their_format(weights_dtype: str) -> None:
    """What differs by more than another way of rounding is refused; full weights agree."""
    shape = Shape(3, 20, 30, 40)
    case = Case(shape, "forward", "float32", 1, weights_dtype=weights_dtype)
    (output, gradient), (full, _) = (subject(case).results() for subject in peers.OURS)
    error = case.check(output, gradient)
    exact = reference.lstm(*(a.astype(np.float64) for a in (case.x, *case.weights)))[0]
    deviation = np.sqrt(np.mean((output - exact) ** 2) / np.mean(exact**2))
    assert error == pytest.approx(deviation, rel=1e-12)
    emulated = small.run(case.x, case.weights, weights_dtype)
    format_error = np.sqrt(np.mean((emulated - exact) ** 2) / np.mean(exact**2))
    assert error == pytest.approx(format_error, rel=0.1)
    assert case.check(full, None) < 1e-6
    with pytest.raises(ValueError, match="output is off by"):
        case.check(output + 5 * (output - exact), None)
    with pytest.raises(ValueError, match="output is off by"):
        case.check(output * np.nan, None)


def test_small_weights_are_measured_beside_full_ones() -> None:
    case = Case(SHAPE, "forward", "float32", 1, weights_dtype="int8")
    row = runner.measure(case, settings(("numpy",)), CEILINGS)
    assert set(row.times) == set(row.errors) == {"lstm_ext", "lstm_ext-float32"}
    assert row.errors["lstm_ext"] > 1000 * row.errors["lstm_ext-float32"]
    assert row.refused == {"numpy": "no weights of int8"}
    assert row.weights_dtype == "int8"
    assert peers.chosen(case, None)[0] is peers.OURS[1]
    assert all("int8" in peer.weights_dtypes for peer in peers.chosen(case, None))
    full = peers.chosen(Case(SHAPE, "forward", "float32", 1), None)
    assert peers.numpy_reference.Numpy in full and peers.OURS[1] not in full


@pytest.mark.parametrize("mode", ["training", "fit"])
def test_small_weights_are_not_trained(mode: str) -> None:
    with pytest.raises(ValueError, match=f"mode: got {mode} with weights of int8"):
        runner.run(settings((), modes=(mode,), weights_dtypes=("int8",)))
    with pytest.raises(ValueError, match="weights_dtype: got 'int8' beside weights of float64"):
        runner.run(settings((), dtype="float64", weights_dtypes=("int8",)))


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


def test_a_turn_waits_for_threads_that_spin() -> None:
    """A thread that the first subject leaves busy is not in the way of the second."""

    def spin() -> None:
        end = time.perf_counter() + 0.02
        while time.perf_counter() < end:
            pass

    threads: list[threading.Thread] = []
    disturbed = []

    def leave_a_thread() -> None:
        threads.append(threading.Thread(target=spin))
        threads[-1].start()

    def look() -> None:
        disturbed.append(any(thread.is_alive() for thread in threads))

    timing.interleave({"first": leave_a_thread, "second": look}, 3, 0.001)
    assert disturbed and not any(disturbed)


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


def floor_of(
    shape: Shape,
    mode: str = "forward",
    dtype: str = "float32",
    threads: int = 1,
    isa: str = "avx2",
    weights_dtype: str | None = None,
) -> float:
    case = Case(shape, mode, dtype, threads, weights_dtype=weights_dtype)
    return floor.floor_seconds(case, isa, CEILINGS)


def test_the_floor_is_the_larger_of_work_and_bytes() -> None:
    # One row: 4 * 512 * 512 weights of 4 bytes are 4 MiB, at the memory's 20 GB/s.
    step = floor_of(Shape(1, 1, 512, 512))
    assert step == pytest.approx(2 * 4 * 512 * 512 * 4 / 2e10)
    # Many rows: arithmetic, 2 operations a weight and row at 100 GFLOP/s.
    shape = Shape(1000, 10, 64, 64)
    work = 2 * shape.multiply_adds / 1e11
    assert floor_of(shape) == pytest.approx(work)
    assert floor_of(shape, threads=2) == pytest.approx(work / 2)
    assert floor_of(shape, mode="training") == pytest.approx(3 * work)
    assert floor_of(shape, dtype="float64") == pytest.approx(2 * work)


def test_small_weights_have_a_floor_of_their_own() -> None:
    shape = Shape(1, 1, 512, 512)  # 4 MiB in float32, from memory; a quarter from a cache
    bytes_in_full = 2 * 4 * 512 * 512 * 4
    assert floor_of(shape, weights_dtype="bfloat16") == pytest.approx(bytes_in_full / 2 / 2e10)
    assert floor_of(shape, weights_dtype="int8") == pytest.approx(bytes_in_full / 4 / 1e11)
    shape = Shape(1000, 10, 64, 64)
    work = 2 * shape.multiply_adds / 1e11
    for weights_dtype, isa, factor in (
        ("bfloat16", "avx2", 1),
        ("bfloat16", "avx512_vnni", 1),
        ("bfloat16", "avx512_bf16", 2),
        ("int8", "neon", 1),
        ("int8", "avx2", 2),
        ("int8", "avx512_vnni", 4),
        ("int8", "avx512_bf16", 4),
    ):
        least = floor_of(shape, weights_dtype=weights_dtype, isa=isa)
        assert least == pytest.approx(work / factor), (weights_dtype, isa)


def test_ceilings_are_measured() -> None:
    ceilings = floor.measure_ceilings(0.01)
    assert ceilings.flops > 1e8
    assert all(rate > 1e8 for rate in ceilings.bandwidth.values())


def make_report() -> report.Report:
    rows = [
        report.Row("batch", "8,100,64,128", "forward", "float32", 2, "avx2", 1e-4,
                   {"lstm_ext": [2e-4, 2e-4, 3e-4], "torch": [4e-4, 5e-4, 6e-4], "jax": [1e-3] * 3},
                   {"keras": "not installed: keras"}, "float32", {}),
        report.Row("batch", "16,50,128,128", "forward", "float32", 2, "avx2", 2e-4,
                   {"lstm_ext": [3e-4] * 3, "torch": [3e-4] * 3}, {}, "float32", {}),
        report.Row("training", "1,1,2,3", "training", "float32", 2, "avx2", 1e-6,
                   {"lstm_ext": [1e-5] * 3}, {}, "float32", {}),
        report.Row("small", "1,1,128,128", "forward", "float32", 1, "avx2", 1e-6,
                   {"lstm_ext": [1e-5] * 3, "lstm_ext-float32": [2e-5] * 3, "torch": [4e-5] * 3},
                   {}, "int8", {"lstm_ext": 0.01, "lstm_ext-float32": 1.2e-7, "torch": 0.025}),
    ]  # fmt: skip
    return report.Report(report.environment(CEILINGS.as_dict()), rows)


def test_the_table_shows_times_ratios_and_means() -> None:
    text = report.table(make_report().rows)
    assert "batch, forward, float32, avx2, 2 threads" in text and "training, training" in text
    line = next(line for line in text.splitlines() if "8,100,64,128" in line)
    assert line.split() == ["8,100,64,128", "200", "500", "1,000", "2.00", "torch", "50%"]
    assert "1.41 over the fastest peer" in text
    assert "1.41 over torch (least 1.00)" in text
    assert "not timed: keras at 8,100,64,128: not installed: keras" in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_table_shows_errors_beside_small_weights() -> None:
    lines = report.table(make_report().rows).splitlines()
    assert any("small, forward, int8, avx2, 1 thread (" in line for line in lines)
    line = next(line for line in lines if "1,1,128,128" in line)
    assert " ".join(line.split()[1:]) == (
        "10.0 (1.0e-02) 20.0 (1.2e-07) 40.0 (2.5e-02) 4.00 torch 10%"
    )
    mean = next(line for line in lines if "over lstm_ext-float32" in line)
    assert "4.00 over the fastest peer; 2.00 over lstm_ext-float32 (least 2.00)" in mean


def test_a_reason_that_holds_for_a_whole_section_is_told_once() -> None:
    rows = make_report().rows[:2]
    rows = [
        row._replace(refused={"jax": "no", "keras": "no", "torch": str(row.shape)}) for row in rows
    ]
    text = report.table(rows)
    assert "not timed: jax, keras: no\n" in text
    assert "not timed: torch at 8,100,64,128: 8,100,64,128\n" in text


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
        "| 8,100,64,128 | 200 |",
    ):
        assert part in text


def test_comparison_with_an_earlier_report() -> None:
    old = make_report()
    slower = [row._replace(times={"lstm_ext": [4e-4] * 3}) for row in old.rows[:1]]
    assert "forward float32 8,100,64,128 2 threads: 2.00" in report.compare(slower, old)
    other = [row._replace(isa="avx512") for row in slower]
    assert "no case in common" in report.compare(other, old)


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
        "streaming": 5, "sequence": 7, "batch": 3, "large": 3, "training": 7, "fit": 1,
        "small": 7,
    }  # fmt: skip


def test_suites_choose_shapes_and_modes() -> None:
    shapes, modes = runner.Settings.choose(["training", "batch"], [SHAPE], None)
    chosen = settings((), shapes=shapes, modes=modes)
    cases = [(case.group, case.mode) for case in chosen.cases(2)]
    assert cases == [("training", "training")] * 7 + [("batch", "forward")] * 3 + [("", "forward")]
    assert len(runner.Settings.choose(["grid"], [], None)[0]) == 26
    shapes, modes = runner.Settings.choose(["streaming"], [], None)
    cases = [case.mode for case in settings((), shapes=shapes, modes=modes).cases(1)]
    assert cases == ["forward", "stream"] * 5
    shapes, modes = runner.Settings.choose(["small", "batch"], [], None)
    chosen = settings((), shapes=shapes, modes=modes)
    kinds = [(mode, weights_dtype) for _, _, mode, weights_dtype in chosen.plan()]
    both = [(mode, dtype) for dtype in ("bfloat16", "int8") for mode in ("forward", "stream")]
    assert kinds[:8] == both * 2 and kinds[8:10] == both[::2]
    assert kinds[-3:] == [("forward", None)] * 3 and len(kinds) == 21


def test_several_thread_counts_are_measured_one_after_the_other() -> None:
    result = runner.run(settings(("numpy",), threads=(1, 2)))
    assert [row.threads for row in result.rows] == [1, 2]
    assert all(set(row.times) == {"lstm_ext", "numpy"} for row in result.rows)
