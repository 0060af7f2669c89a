"""The harness: what it measures, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_ext import available_isas, functional, reference
from lstm_ext.bench import floor, peers, runner, small
from lstm_ext.bench.cases import Case
from lstm_ext.bench.grid import GROUPS, SUITES, Shape, parse_shape
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
        for peer in (*peers.OURS[:2], *peers.PEERS)
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
    (output, gradient), (full, _) = (subject(case).results() for subject in peers.OURS[:2])
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
    for array, same in zip(
        (one.x, *one.weights, one.d_output), (other.x, *other.weights, other.d_output), strict=True
    ):
        assert (array != 0).all()
        np.testing.assert_array_equal(array, same)


def test_a_result_of_another_shape_is_refused() -> None:
    case = Case(SHAPE, "training", "float32", 1)
    output, gradient = Right(case).results()
    with pytest.raises(ValueError, match="output has shape"):
        case.check(output[:, :2], gradient)
    with pytest.raises(ValueError, match="no gradient"):
        case.check(output, None)
    with pytest.raises(ValueError, match="gradient of kernel is off"):
        case.check(output, -gradient)


def test_shapes_are_read_and_named() -> None:
    assert parse_shape("1,2,3,4") == Shape(1, 2, 3, 4) and str(Shape(1, 2, 3, 4)) == "1,2,3,4"
    for text in ("1,2,3", "1,2,3,0", "1,2,3,x", "", "1,2,3,-4"):
        with pytest.raises(ValueError, match="shape: got"):
            parse_shape(text)
    assert {name: len(shapes) for name, shapes in GROUPS.items()} == {
        "streaming": 5, "sequence": 7, "batch": 3, "large": 3, "training": 7, "fit": 1,
        "small": 7, "peephole": 5, "projection": 5, "masked": 5, "bidirectional": 5, "layers": 5,
        "bidirectional-layers": 5,
    }  # fmt: skip
    assert sorted(name for names in SUITES.values() for name in names) == sorted(
        name for name in GROUPS if name != "small"
    )


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
    shapes, modes = runner.Settings.choose(["variants"], [], None)
    plan = settings((), shapes=shapes, modes=modes).plan()
    assert [(group, mode) for group, _, mode, _ in plan[:5]] == [("peephole", "forward")] * 5
    assert [mode for _, _, mode, _ in plan[5:]] == ["forward", "training"] * 25


def test_several_thread_counts_are_measured_one_after_the_other() -> None:
    result = runner.run(settings(("numpy",), threads=(1, 2)))
    assert [row.threads for row in result.rows] == [1, 2]
    assert all(set(row.times) == {"lstm_ext", "numpy"} for row in result.rows)
