"""The reference's variants: gradients, torch's automatic ones, resulting types, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lstm_ext import reference
from lstm_ext.reference import activations
from lstm_ext.variants import Cell, LayerNorm, Noise
from support import (
    Array,
    assert_gradients_match_central_differences,
    assert_no_slip,
    assert_same_bits,
)
from variants_support import (
    ACTIVATIONS,
    NORM,
    VARIANTS,
    Arrays,
    arguments,
    draw,
    draw_noise,
    draw_places,
    noise_astype,
    run_variant,
)

DTYPES = [np.float16, np.float32, np.float64, np.longdouble]
SIZE = (2, 3, 2, 3)


def assert_gradients(arrays: Arrays, **options: Any) -> None:
    """Assert that all gradients are central differences.

    All arguments are views of one array, so that the largest of their tolerances holds for each: a
    result is linear in some, and of these central differences show roundings alone.
    """
    names = [name for name in arrays if not name.startswith("d_")]
    everything = np.concatenate([arrays[name].ravel() for name in names])
    ends = np.cumsum([arrays[name].size for name in names])[:-1]
    views = zip(names, np.split(everything, ends), strict=True)
    arrays = arrays | {name: view.reshape(arrays[name].shape) for name, view in views}
    positional, named = arguments(arrays)

    def loss() -> Any:
        results = zip(
            ("output", "h", "c"), reference.lstm(*positional, **named, **options), strict=True
        )
        return sum((arrays[f"d_{name}"] * result).sum() for name, result in results)

    found = run_variant(reference, arrays, **options)
    assert len(found) == 3 + len(names)
    gradients = np.concatenate([found[f"gradient_{name}"].ravel() for name in names])
    assert_gradients_match_central_differences(loss, [everything], [gradients])


@pytest.mark.parametrize("around", ["", "noisy", "noisy, masked"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_of_every_variant(variant: str, around: str) -> None:
    extra, cell = VARIANTS[variant]
    arrays = draw(*SIZE, **extra, dtype=np.longdouble, seed=1)
    options: dict[str, Any] = {"cell": cell}
    if "noisy" in around:
        options["noise"] = draw_noise(arrays, zoneout="layer_norm" not in extra)
    if "masked" in around:
        options["mask"] = draw_places(*SIZE[:2])
        options["reset"] = draw_places(*SIZE[:2], share=0.3, seed=1)
        options["go_backwards"] = "clip" in variant
        options["zero_output_for_mask"] = "peephole" in variant
    assert_gradients(arrays, **options)


@pytest.mark.parametrize("place", ["activation", "recurrent_activation", "output_activation"])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_gradients_of_every_activation(activation: Any, place: str) -> None:
    cell = Cell()._replace(**{"output_activation": "tanh", place: activation})
    assert_gradients(draw(1, 2, 2, 2, dtype=np.longdouble, scale=0.6), cell=cell)


@pytest.mark.parametrize("seed", range(12))
def test_gradients_of_random_combinations(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def maybe(value: Any, otherwise: Any = None) -> Any:
        return value if rng.integers(2) else otherwise

    cell = Cell(
        *(ACTIVATIONS[rng.integers(13)] for _ in range(3)),
        clip=maybe(0.9),
        cell_clip=maybe(0.7),
        input_forget=maybe(True, False),
        zoneout=maybe(0.3, 0.0),
        cell_zoneout=maybe(0.2, 0.0),
    )
    arrays = draw(
        *SIZE, outputs=maybe(2), peephole=maybe(True, False), seed=seed, scale=0.5,
        dtype=np.longdouble,
    )  # fmt: skip
    noise = draw_noise(arrays, seed=seed)
    options = {
        "noise": maybe(noise._replace(zoneout=maybe(noise.zoneout), h=maybe(noise.h))),
        "mask": maybe(draw_places(*SIZE[:2], seed=seed)),
        "reset": maybe(draw_places(*SIZE[:2], share=0.3, seed=seed + 1)),
        "zero_output_for_mask": maybe(True, False),
        "go_backwards": maybe(True, False),
    }
    assert_gradients(arrays, cell=cell, **options)


def test_a_clip_has_no_gradient_at_its_bounds() -> None:
    """Every z and c lies exactly at a bound, and the activations are lines."""
    arrays = draw(1, 1, 1, 1)
    for name in ("x", "h0"):
        arrays[name][:] = 0
    arrays["bias"][:] = [1, -1, 1, -1]
    found = run_variant(reference, arrays, cell=Cell("linear", "linear", clip=1))
    assert_same_bits([np.abs(found["gradient_bias"])], [np.zeros(4)])
    arrays["bias"][:] = [1, 0, 1, 1]
    found = run_variant(reference, arrays, cell=Cell("linear", "linear", cell_clip=1))
    assert found["c"] == 1
    assert_same_bits([np.abs(found["gradient_bias"][:3])], [np.zeros(3)])
    assert found["gradient_bias"][3] != 0


# What follows is the same in torch, with the equations written once more and its own gradients.


def in_torch(arrays: Arrays, step: Any) -> Arrays:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensors = {name: torch.from_numpy(array).requires_grad_() for name, array in arrays.items()}
    h, c, steps = tensors["h0"], tensors["c0"], []
    for t in range(arrays["x"].shape[1]):
        h, c = step(torch, tensors, t, tensors["x"][:, t], h, c)
        steps.append(h)
    results = {"output": torch.stack(steps, dim=1), "h": h, "c": c}
    sum((tensors[f"d_{name}"] * result).sum() for name, result in results.items()).backward()
    gradients = {
        f"gradient_{name}": tensor.grad.numpy()
        for name, tensor in tensors.items()
        if not name.startswith("d_")
    }
    return {name: result.detach().numpy() for name, result in results.items()} | gradients


def assert_alike(actual: Arrays, expected: Arrays) -> None:
    assert actual.keys() == expected.keys()
    for name, array in actual.items():
        assert_no_slip(array, expected[name], name)


@pytest.mark.live
@pytest.mark.parametrize("noisy", [False, True])
def test_layer_norm_is_that_of_torch(noisy: bool) -> None:
    arrays = draw(3, 4, 5, 6, layer_norm=True)
    noise = draw_noise(arrays, zoneout=False)

    def step(torch: Any, w: Any, t: int, x: Any, h: Any, c: Any) -> Any:
        def norm(a: Any, gain: Any, offset: Any = None) -> Any:
            return torch.nn.functional.layer_norm(a, a.shape[-1:], gain, offset, 1e-5)

        if noisy:
            x, h = x * torch.from_numpy(noise.x), h * torch.from_numpy(noise.h)
        z = norm(x @ w["kernel"], w["kernel_gain"])
        z = z + norm(h @ w["recurrent_kernel"], w["recurrent_gain"]) + w["bias"]
        i, f, g, o = z.chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * norm(c, w["cell_gain"], w["cell_offset"]).tanh(), c

    actual = run_variant(reference, arrays, noise=noise if noisy else None)
    assert_alike(actual, in_torch(arrays, step))


@pytest.mark.live
@pytest.mark.parametrize("noisy", [False, True])
def test_zoneout_and_peepholes_are_those_of_torch(noisy: bool) -> None:
    arrays = draw(3, 4, 5, 6, outputs=4, peephole=True)
    noise = draw_noise(arrays)
    cell = Cell(zoneout=0.3, cell_zoneout=0.2, cell_clip=0.9)

    def step(torch: Any, w: Any, t: int, x: Any, h: Any, c: Any) -> Any:
        def keep(name: str, rate: float, old: Any, new: Any) -> Any:
            if not noisy:
                return old.lerp(new, 1 - rate)
            places = torch.from_numpy(getattr(noise, name)[:, t])
            return torch.where(places, old, new)

        x_in, h_in = x, h
        if noisy:
            x_in, h_in = x * torch.from_numpy(noise.x), h * torch.from_numpy(noise.h)
        z = x_in @ w["kernel"] + h_in @ w["recurrent_kernel"] + w["bias"]
        i, f, g, o = z.chunk(4, dim=-1)
        to_i, to_f, to_o = w["peephole"].chunk(3)
        new = (f + to_f * c).sigmoid() * c + (i + to_i * c).sigmoid() * g.tanh()
        c = keep("cell_zoneout", 0.2, c, new.clamp(-0.9, 0.9))
        m = (o + to_o * c).sigmoid() * c.tanh()
        return keep("zoneout", 0.3, h, m @ w["projection_kernel"]), c

    actual = run_variant(reference, arrays, cell=cell, noise=noise if noisy else None)
    assert_alike(actual, in_torch(arrays, step))


def test_noise_of_one_or_of_nothing_is_none() -> None:
    arrays = draw(3, 4, 2, 5, outputs=4)
    nothing = Noise(
        np.ones((3, 2)), np.ones((3, 4)), np.zeros((3, 4, 4), bool), np.zeros((3, 4, 5), bool)
    )
    plain = run_variant(reference, arrays)
    for noise in (Noise(), nothing):
        assert_same_bits(run_variant(reference, arrays, noise=noise).values(), plain.values())
    assert_same_bits(run_variant(reference, arrays, cell=Cell()).values(), plain.values())


def test_zoneout_everywhere_keeps_the_state() -> None:
    arrays = draw(3, 4, 2, 5)
    noise = Noise(None, None, np.ones((3, 4, 5), bool), np.ones((3, 4, 5), bool))
    found = run_variant(reference, arrays, noise=noise)
    assert_same_bits([found["h"], found["c"]], [arrays["h0"], arrays["c0"]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_float_type_computes_in_itself(variant: str, dtype: Any) -> None:
    extra, cell = VARIANTS[variant]
    arrays = draw(3, 4, 2, 5, **extra, dtype=dtype)
    noise = noise_astype(draw_noise(arrays, zoneout="layer_norm" not in extra), dtype)
    options = {"cell": cell, "noise": noise, "mask": draw_places(3, 4)}
    found = run_variant(reference, arrays, **options)
    assert {array.dtype for array in found.values()} == {np.dtype(dtype)}
    positional, named = arguments(arrays)
    *_, gates = reference.lstm(*positional, **named, **options, return_gates=True)
    assert {array.dtype for array in gates} == {np.dtype(dtype)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_float_type_of_every_activation(activation: Any, dtype: Any) -> None:
    found = activations.get(activation, "activation")
    z = np.linspace(-3, 3, 33, dtype=dtype)
    y = found(z)
    assert y.dtype == found.back(z, z, y).dtype == dtype


@pytest.mark.parametrize(
    ("activation", "z", "y"),
    [
        ("leaky_relu", -2.0, -0.4), (("leaky_relu", 0.4), -2.0, -0.8),
        ("elu", -2.0, math.expm1(-2)), (("elu", 1.3), -2.0, 1.3 * math.expm1(-2)),
        ("hard_sigmoid", 1.5, 0.75),
        (("hard_sigmoid", 0.2), 1.5, 0.8), (("hard_sigmoid", 0.2, 0.4), 1.5, 0.7),
        ("affine", -2.0, -2.0), (("affine", 3.0), -2.0, -6.0), (("affine", 3.0, 0.5), -2.0, -5.5),
        ("scaled_tanh", 0.5, math.tanh(0.5)), (("scaled_tanh", 2.0), 0.5, 2 * math.tanh(0.5)),
        (("scaled_tanh", 2.0, 3.0), 0.5, 2 * math.tanh(1.5)), ("thresholded_relu", 1.0, 0.0),
        ("thresholded_relu", 1.5, 1.5), (("thresholded_relu", 2.0), 1.5, 0.0),
    ],
)  # fmt: skip
def test_alpha_and_beta_and_their_defaults(activation: Any, z: float, y: float) -> None:
    found = activations.get(activation, "activation")(np.array([z]))
    assert_no_slip(found, np.array([y]), str(activation))


def test_the_normal_distribution_has_all_digits() -> None:
    """gelu's: values to 30 digits, and every float64 by the library's erfc."""
    gelu = activations.get("gelu", "activation")
    known = {
        "1": "0.841344746068542948585232545632",
        "-3": "0.00134989803163009452665181476759",
    }
    for text, value in known.items():
        z = np.array([np.longdouble(text)])
        assert abs(gelu(z) / z / np.longdouble(value) - 1) <= 8 * np.finfo(np.longdouble).eps
    z = np.linspace(-12, 12, 4001)
    exact = np.array([0.5 * v * math.erfc(-v / math.sqrt(2)) for v in z])
    # Far out, the exponential magnifies the rounding of z * z; near zero, 1/2 is added.
    allowed = np.where(np.abs(z) < 2, 4 * np.abs(z), (8 + z * z) * np.abs(exact))
    assert np.all(np.abs(gelu(z) - exact) <= allowed * np.finfo(np.float64).eps)


GOOD: dict[str, Any] = {
    "x": np.zeros((2, 3, 4)), "kernel": np.zeros((4, 8)), "recurrent_kernel": np.zeros((2, 8)),
}  # fmt: skip
LAYER_NORM = LayerNorm(np.ones(8), np.ones(8), np.ones(2), np.ones(2))
PROJECTED = {"projection_kernel": np.zeros((2, 5)), "recurrent_kernel": np.zeros((5, 8))}


@pytest.mark.parametrize(
    ("change", "expected", "message"),
    [
        ({"peephole": np.zeros(8)}, ValueError, r"peephole: got shape \(8,\), expected \(6,\)"),
        ({"peephole": np.zeros(6, "f4")}, TypeError, "peephole: got .*float32, expected float64"),
        ({"projection_kernel": np.zeros((2, 5))}, ValueError, r"projection_kernel: got .*\(2, 2"),
        (PROJECTED | {"recurrent_kernel": np.zeros((5, 9))}, ValueError, "recurrent_kernel: got"),
        (PROJECTED | {"initial_state": (np.zeros((2, 2)), np.zeros((2, 2)))}, ValueError, r"\[0\]"),
        ({"layer_norm": (1, 2)}, TypeError, "layer_norm: got tuple, expected a LayerNorm"),
        ({"layer_norm": LAYER_NORM._replace(cell_gain=np.ones(3))}, ValueError, "norm.cell_gain:"),
        ({"cell": "tanh"}, TypeError, "cell: got str, expected a Cell"),
        ({"cell": Cell("softmax")}, ValueError, "cell.activation: got 'softmax', expected one of"),
        ({"cell": Cell(3)}, TypeError, "cell.activation: got 3, expected a name"),
        ({"cell": Cell(("tanh", 2.0))}, ValueError, "cell.activation: got .* at most 0"),
        ({"cell": Cell("tanh", ("elu", 1.0, 2.0))}, ValueError, "recurrent_activation: .* most 1"),
        ({"cell": Cell(output_activation=("elu", "1"))}, TypeError, "output_activation: got"),
        ({"cell": Cell(clip=-1)}, ValueError, "cell.clip: got -1, expected a positive number"),
        ({"cell": Cell(cell_clip=math.nan)}, ValueError, "cell.cell_clip: got nan"),
        ({"cell": Cell(zoneout=1.5)}, ValueError, "cell.zoneout: got 1.5, expected a number from"),
        ({"noise": 3}, TypeError, "noise: got int, expected a Noise"),
        ({"noise": Noise(np.zeros((3, 4)))}, ValueError, r"noise.x: got shape \(3, 4\), expected"),
        ({"noise": Noise(h=np.zeros((2, 2), "f4"))}, TypeError, "noise.h: got an array of float32"),
        ({"noise": Noise(zoneout=np.zeros((2, 3, 2)))}, TypeError, "noise.zoneout: .* bool"),
        ({"mask": np.ones((3, 2), bool)}, ValueError, r"mask: got shape \(3, 2\), expected \(2, 3"),
        ({"mask": np.ones((2, 3))}, TypeError, "mask: got an array of float64, expected bool"),
        ({"reset": np.ones(3, bool)}, ValueError, "reset: got shape"),
        ({"lengths": [1, 4]}, ValueError, "lengths: got 4, expected 0 to 3"),
        ({"lengths": [-1, 3]}, ValueError, "lengths: got -1"),
        ({"lengths": [1.0, 2.0]}, TypeError, "lengths: got an array of float64"),
        ({"lengths": [1]}, ValueError, r"lengths: got shape \(1,\), expected \(2,\)"),
        ({"lengths": [1, 2], "mask": np.ones((2, 3), bool)}, ValueError, "lengths: got .* a mask"),
    ],
)
def test_bad_input(change: dict[str, Any], expected: type[Exception], message: str) -> None:
    reference.lstm(**GOOD)
    for function in (reference.lstm, reference.lstm_vjp):
        with pytest.raises(expected, match=message):
            function(**(GOOD | change))


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("peephole", {"peephole": np.zeros(6)}),
        ("projection_kernel", {"projection_kernel": np.zeros((2, 2))}),
        ("cell.clip", {"cell": Cell(clip=1.0)}),
        ("cell.cell_clip", {"cell": Cell(cell_clip=1.0)}),
        ("cell.input_forget", {"cell": Cell(input_forget=True)}),
        ("cell.zoneout", {"cell": Cell(zoneout=0.1)}),
        ("cell.cell_zoneout", {"cell": Cell(cell_zoneout=0.1)}),
        ("noise.zoneout", {"noise": Noise(zoneout=np.zeros((2, 3, 2), bool))}),
        ("noise.cell_zoneout", {"noise": Noise(cell_zoneout=np.zeros((2, 3, 2), bool))}),
    ],
)
def test_layer_norm_goes_alone(name: str, other: dict[str, Any]) -> None:
    reference.lstm(**GOOD, layer_norm=LAYER_NORM)
    with pytest.raises(ValueError, match=f"layer_norm: got it with {name}, expected one of them"):
        reference.lstm(**GOOD, layer_norm=LAYER_NORM, **other)


def test_layer_norm_has_gradients_of_its_own_kind() -> None:
    arrays: dict[str, Array] = draw(2, 3, 2, 4, layer_norm=True)
    positional, named = arguments(arrays)
    _, backward = reference.lstm_vjp(*positional, **named)
    gradients = backward(arrays["d_output"])
    assert isinstance(gradients.layer_norm, LayerNorm)
    assert [a.shape for a in gradients.layer_norm] == [arrays[name].shape for name in NORM]
    assert gradients.peephole is None and gradients.projection_kernel is None
