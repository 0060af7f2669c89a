"""The harness: variants of the LSTM, what they hold peers to, and what peers may lack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lstm_ext import available_isas, functional, reference
from lstm_ext.bench import floor, peers, runner
from lstm_ext.bench.cases import Case
from lstm_ext.bench.grid import Shape
from lstm_ext.bench.peers.base import Peer, Unsupported
from lstm_ext.bench.variants import LAYERS, PLAIN, VARIANTS, Variant, Weights, run

CEILINGS = floor.Ceilings(1e11, {16 << 10: 2e11, 128 << 20: 2e10})
SHAPE = Shape(3, 7, 5, 6)
MODES = ("forward", "training")

Layers = list[list[Weights]]


def case_of(variant: str, mode: str = "forward", dtype: str = "float32", isa: Any = None) -> Case:
    return Case(SHAPE, mode, dtype, 1, isa=isa, variant=VARIANTS[variant])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("peer", [*peers.OURS, *peers.PEERS], ids=lambda peer: peer.name)
def test_every_installed_peer_agrees_or_says_what_it_lacks(
    peer: type[Peer], variant: str, mode: str
) -> None:
    if peers.missing(peer):
        pytest.skip(f"not installed: {peers.missing(peer)}")
    shape = Shape(1, 9, 13, 10) if peer.name == "ncnn" else SHAPE
    case = Case(shape, mode, "float32", 1, variant=VARIANTS[variant])
    is_able = set(case.variant.needs) <= set(peer.features) and mode in peer.modes
    if is_able and None in peer.weights_dtypes:
        ready = peer(case)
        ready.run()
        case.check(*ready.results())
    else:
        with pytest.raises(Unsupported):
            peer(case)


def test_what_a_peer_lacks_is_told() -> None:
    expected = {
        "peephole": "no peepholes",
        "projection": "no projection",
        "masked": "no lengths of sequences",
        "bidirectional": "no backward direction",
        "layers": "no second layer",
        "bidirectional-layers": "no backward direction, no second layer",
    }
    for variant, reason in expected.items():
        with pytest.raises(Unsupported, match=f"^{reason}$"):
            peers.jax.Jax(case_of(variant))


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("variant", VARIANTS)
def test_this_package_runs_them_as_asked(variant: str, isa: str) -> None:
    for mode in MODES:
        for dtype in ("float32", "float64"):
            case = case_of(variant, mode, dtype, isa)
            assert case.check(*peers.OURS[0](case).results()) < 1e-6


def test_an_instruction_set_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    forced = []
    pack = functional.pack

    def spy(*arguments: Any, **options: Any) -> Any:
        weights = pack(*arguments, **options)
        forced.append(weights.isa)
        return weights

    monkeypatch.setattr(functional, "pack", spy)
    for mode in MODES:
        peers.OURS[0](case_of("bidirectional-layers", mode, isa="baseline")).run()
    assert len(forced) == 4 + 4 and set(forced) == {"baseline"}


def _without(name: str) -> Callable[[Case], Any]:
    """Return a run whose weights of that name have another order."""

    def wrong(case: Case) -> Any:
        layers = [
            [w._replace(**{name: getattr(w, name)[::-1]}) for w in layer] for layer in case.layers
        ]
        return run(case.x, layers, case.lengths)

    return wrong


def _to_the_end(case: Case) -> Any:
    """Go on behind the sequences."""
    return run(case.x, case.layers)


def _off_by_one(case: Case) -> Any:
    assert case.lengths is not None
    return run(case.x, case.layers, np.maximum(case.lengths - 1, 1))


def _both_forward(case: Case) -> Any:
    """Read the sequence from its beginning in both directions."""
    sides = [run(case.x, [[weights]]) for weights in case.layers[0]]
    output = np.concatenate([side[0] for side in sides], axis=2)
    return output, lambda d: np.concatenate(
        [side[1](half) for side, half in zip(sides, np.split(d, 2, axis=2), strict=True)], axis=1
    )


def _in_the_order_of_steps(case: Case) -> Any:
    output, backward = run(case.x, case.layers)
    first, second = np.split(output, 2, axis=2)
    return np.concatenate([first, second[:, ::-1]], axis=2), backward


def _swapped(case: Case) -> Any:
    """Exchange the directions."""
    layers = [layer[::-1] for layer in case.layers]
    return run(case.x, layers)


def _one_layer_twice(case: Case) -> Any:
    return run(case.x, [case.layers[0], case.layers[0]])


def _second_layer_twice(case: Case) -> Any:
    return run(case.x, [*case.layers, case.layers[1]])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("variant", "wrong"),
    [
        ("peephole", _without("peephole")),
        ("projection", _without("projection_kernel")),
        ("masked", _to_the_end),
        ("masked", _off_by_one),
        ("bidirectional", _both_forward),
        ("bidirectional", _in_the_order_of_steps),
        ("bidirectional", _swapped),
        ("layers", _one_layer_twice),
        ("layers", _second_layer_twice),
        ("bidirectional-layers", _swapped),
        ("bidirectional-layers", _second_layer_twice),
    ],
)
def test_a_peer_that_computes_another_variant_is_refused(
    monkeypatch: pytest.MonkeyPatch, variant: str, wrong: Callable[[Case], Any], mode: str
) -> None:
    class Right(peers.numpy_reference.Numpy):
        name = "right"

    class Wrong(Right):
        name = "wrong"

        def run(self) -> Any:
            output, backward = wrong(self.case)
            return output, backward(self.case.d_output) if mode == "training" else None

    monkeypatch.setattr(peers, "PEERS", [Right, Wrong])
    # As many inputs as units, so that a layer can stand for the other.
    case = Case(Shape(3, 7, 6, 6), mode, "float32", 1, variant=VARIANTS[variant])
    chosen = runner.Settings([], (), "float32", (1,), None, None, 3, 0.01)
    row = runner.measure(case, chosen, CEILINGS)
    beside = {"lstm_ext-padded"} if variant == "masked" else set()
    assert set(row.times) == {"lstm_ext", "right"} | beside
    assert "output is off by" in row.refused["wrong"]
    assert row.variant == variant and (row.steps < 1) == (variant == "masked")


@pytest.mark.parametrize("direction", [0, 1])
def test_the_gradients_of_both_directions_are_checked(direction: int) -> None:
    case = case_of("bidirectional", "training")
    output, gradient = peers.OURS[0](case).results()
    assert gradient is not None and gradient.shape == (SHAPE.I, 8 * SHAPE.H)
    case.check(output, gradient)
    halves = np.split(gradient, 2, axis=1)
    halves[direction] = 1.01 * halves[direction]
    with pytest.raises(ValueError, match="gradient of kernel is off by"):
        case.check(output, np.concatenate(halves, axis=1))


def test_the_answer_is_that_of_the_reference_layer_by_layer() -> None:
    case = case_of("bidirectional-layers", dtype="float64")
    x = case.x
    for forward, backward in case.layers:
        one = reference.lstm(x, *forward.arguments)[0]
        other = reference.lstm(x[:, ::-1], *backward.arguments)[0][:, ::-1]
        x = np.concatenate([one, other], axis=2)
    np.testing.assert_array_equal(run(case.x, case.layers)[0], x)


def test_gradients_of_the_answer_are_those_of_the_loss() -> None:
    needs = tuple(dict.fromkeys(need for v in VARIANTS.values() for need in v.needs))
    case = Case(Shape(2, 4, 3, 4), "training", "float64", 1, variant=Variant("all", needs))
    _, backward = run(case.x, case.layers, case.lengths)
    gradient = np.split(backward(case.d_output), 2, axis=1)
    for direction in (0, 1):
        layers: Layers = [list(layer) for layer in case.layers]
        kernel = layers[0][direction].kernel
        losses = []
        for sign in (1, -1):
            moved = kernel + sign * 1e-6 * np.eye(*kernel.shape)
            layers[0][direction] = layers[0][direction]._replace(kernel=moved)
            losses.append(float(np.sum(run(case.x, layers, case.lengths)[0] * case.d_output)))
        slope = (losses[0] - losses[1]) / 2e-6
        assert slope == pytest.approx(np.trace(gradient[direction]), rel=1e-6)


def test_lengths_are_the_same_for_all_and_what_follows_is_zero() -> None:
    one, other = (Case(Shape(200, 10, 2, 3), "training", "float32", 1, variant=VARIANTS["masked"])
                  for _ in range(2))  # fmt: skip
    assert one.lengths is not None and other.lengths is not None
    np.testing.assert_array_equal(one.lengths, other.lengths)
    assert set(one.lengths) == set(range(1, 11))
    np.testing.assert_array_equal(one.mask.sum(axis=1), one.lengths)
    assert (one.d_output[~one.mask] == 0).all() and (one.d_output[one.mask] != 0).all()
    assert one.multiply_adds == one.lengths.sum() * (2 + 3) * 12
    plain = Case(Shape(200, 10, 2, 3), "training", "float32", 1)
    np.testing.assert_array_equal(plain.x, one.x)
    assert plain.lengths is None and plain.mask.all()


def test_padding_is_measured_beside_masks_alone() -> None:
    padded = peers.OURS[2]
    assert padded in peers.chosen(case_of("masked"), ())
    for case in (case_of("layers"), Case(SHAPE, "forward", "float32", 1)):
        assert padded not in peers.chosen(case, None)
        with pytest.raises(Unsupported):
            padded(case)


def test_variants_are_run_whole_forward_or_in_training() -> None:
    for mode in ("stream", "fit"):
        with pytest.raises(ValueError, match=f"mode: got {mode} of masked"):
            Case(Shape(1, 1, 2, 3), mode, "float32", 1, variant=VARIANTS["masked"])
    with pytest.raises(ValueError, match="weights_dtype: got int8 of layers"):
        Case(
            SHAPE, "forward", "float32", 1, weights_dtype="int8", variant=VARIANTS["layers"]
        )  # fmt: skip
    shapes, modes = runner.Settings.choose(["layers"], [SHAPE], ["forward"])
    chosen = runner.Settings(shapes, modes, "float32", (1,), None, (), 3, 0.01)
    kinds = [case.variant for case in chosen.cases(1)]
    assert kinds == [VARIANTS["layers"]] * 5 + [PLAIN] and LAYERS in kinds[0].needs


def test_a_long_backward_direction_is_checked_to_its_beginning() -> None:
    shape = Shape(1, 30_000, 64, 128)
    plain = Case(shape, "forward", "float32", 1)
    case = Case(shape, "forward", "float32", 1, variant=VARIANTS["bidirectional"])
    assert plain.multiply_adds > 2e9 and case.multiply_adds == 2 * plain.multiply_adds
    assert plain._checked[1] < 30_000
    assert case._checked == (1, 30_000)
