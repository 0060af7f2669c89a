"""Problems with an LSTM's variants: drawn, run, and named by what they have."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_ext import reference
from lstm_ext.variants import Cell, LayerNorm, Noise
from support import Array, assert_no_slip, rms_error

Arrays = dict[str, Array]

NORM = LayerNorm._fields
# An activation of every name, where it has an alpha and a beta with others than the defaults too.
ACTIVATIONS: list[Any] = [
    "linear", "relu", "leaky_relu", "tanh", "sigmoid", "hard_sigmoid", "softplus", "softsign",
    "elu", "selu", "gelu", "silu", "swish", "exponential", "affine", "scaled_tanh",
    "thresholded_relu", ("leaky_relu", 0.4), ("hard_sigmoid", 0.3), ("hard_sigmoid", 0.3, 0.4),
    ("elu", 1.3), ("affine", 0.7), ("affine", 0.7, 0.2), ("scaled_tanh", 1.2),
    ("scaled_tanh", 1.2, 0.8), ("thresholded_relu", 0.1),
]  # fmt: skip


def draw(
    batch_size: int,
    seq_len: int,
    input_size: int,
    units: int,
    *,
    outputs: int | None = None,
    peephole: bool = False,
    layer_norm: bool = False,
    scale: float = 1.0,
    seed: int = 0,
    dtype: Any = np.float64,
) -> Arrays:
    """Draw x, weights, a state and upstream gradients, the gates on different scales.

    With `outputs` there is a projection to as many.
    """
    rng = np.random.default_rng([seed, batch_size, seq_len, input_size, units])
    size = units if outputs is None else outputs
    gates = scale * np.repeat([0.6, 0.8, 1.0, 1.2], units)
    shapes: dict[str, tuple[int, ...]] = {
        "x": (batch_size, seq_len, input_size), "kernel": (input_size, 4 * units),
        "recurrent_kernel": (size, 4 * units), "bias": (4 * units,), "h0": (batch_size, size),
        "c0": (batch_size, units), "d_output": (batch_size, seq_len, size),
        "d_h": (batch_size, size), "d_c": (batch_size, units),
    }  # fmt: skip
    if peephole:
        shapes["peephole"] = (3 * units,)
    if outputs is not None:
        shapes["projection_kernel"] = (units, size)
    if layer_norm:
        shapes |= {name: (4 * units if name in NORM[:2] else units,) for name in NORM}
    arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    for name in ("kernel", "recurrent_kernel", "bias"):
        arrays[name] *= gates
    if peephole:
        arrays["peephole"] *= scale * np.repeat([0.6, 0.8, 1.2], units)
    return {name: array.astype(dtype) for name, array in arrays.items()}


def draw_places(
    batch_size: int, seq_len: int, *size: int, share: float = 0.6, seed: int = 0
) -> Array:
    """Draw bools (B, T, ...), of which some share is true."""
    rng = np.random.default_rng([seed, batch_size, seq_len, *size])
    return rng.random((batch_size, seq_len, *size)) < share


def draw_noise(arrays: Arrays, *, seed: int = 0, zoneout: bool = True) -> Noise:
    """Draw noise of every kind for a problem."""
    batch_size, seq_len, input_size = arrays["x"].shape
    outputs, units = arrays["h0"].shape[1], arrays["c0"].shape[1]
    rng = np.random.default_rng([seed, 7])
    factors = [
        (rng.integers(2, size=(batch_size, n)) * 1.5).astype(arrays["x"].dtype)
        for n in (input_size, outputs)
    ]
    places = [draw_places(batch_size, seq_len, n, share=0.4, seed=seed) for n in (outputs, units)]
    return Noise(*factors, *(places if zoneout else (None, None)))


def arguments(arrays: Arrays) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of `reference.lstm` by position and by name."""
    named: dict[str, Any] = {
        name: arrays[name] for name in ("peephole", "projection_kernel") if name in arrays
    }
    if NORM[0] in arrays:
        named["layer_norm"] = LayerNorm(*(arrays[name] for name in NORM))
    if "h0" in arrays:
        named["initial_state"] = arrays["h0"], arrays["c0"]
    return [arrays["x"], arrays["kernel"], arrays["recurrent_kernel"], arrays.get("bias")], named


def run_variant(module: Any, arrays: Arrays, **options: Any) -> Arrays:
    """Run a module's lstm_vjp and its backward with all upstream gradients.

    Results are named output, h, c and gradient_<argument>.
    """
    positional, named = arguments(arrays)
    results, backward = module.lstm_vjp(*positional, **named, **options)
    found = dict(zip(("output", "h", "c"), results, strict=True))
    return found | named_gradients(backward(arrays["d_output"], arrays["d_h"], arrays["d_c"]))


def named_gradients(gradients: Any) -> Arrays:
    found = {name: array for name, array in gradients._asdict().items() if array is not None}
    norm = found.pop("layer_norm", None)
    found |= {} if norm is None else norm._asdict()
    return {f"gradient_{name}": array for name, array in found.items()}


def astype(arrays: Arrays, dtype: Any) -> Arrays:
    return {name: array.astype(dtype) for name, array in arrays.items()}


def noise_astype(noise: Noise, dtype: Any) -> Noise:
    return Noise(*(None if a is None else a.astype(dtype) for a in noise[:2]), *noise[2:])


# What an LSTM can have, by name: what is drawn with it, and the cell. Together with the usual cell.
VARIANTS: dict[str, tuple[dict[str, Any], Cell]] = {
    "peephole": ({"peephole": True}, Cell()),
    "projection": ({"outputs": 2}, Cell()),
    "clip": ({}, Cell(clip=0.8)),
    "cell_clip": ({}, Cell(cell_clip=0.5)),
    "input_forget": ({}, Cell(input_forget=True)),
    "zoneout": ({}, Cell(zoneout=0.3, cell_zoneout=0.2)),
    "activations": ({}, Cell(("elu", 0.7), ("scaled_tanh", 1.1, 0.6), "softsign")),
    "peephole, clip": ({"peephole": True}, Cell(clip=0.8)),
    "peephole, clip, input_forget": ({"peephole": True}, Cell(clip=0.8, input_forget=True)),
    "peephole, zoneout": ({"peephole": True}, Cell(zoneout=0.3, cell_zoneout=0.2)),
    "projection, zoneout": ({"outputs": 2}, Cell(zoneout=0.3)),
    "wide projection, clips": ({"outputs": 4}, Cell(clip=0.9, cell_clip=0.6)),
    "everything": (
        {"peephole": True, "outputs": 2},
        Cell("softsign", "gelu", "tanh", 1.1, 0.7, False, 0.3, 0.2),
    ),
    "everything, coupled": (
        {"peephole": True, "outputs": 2},
        Cell("tanh", "sigmoid", ("elu", 0.7), 1.1, 0.7, True, 0.3, 0.2),
    ),
    "layer_norm": ({"layer_norm": True}, Cell()),
    "layer_norm, activations": ({"layer_norm": True}, Cell("softsign", "hard_sigmoid", "selu")),
}


class Comparison:
    """The reference's results beside those that a framework computed in float64, or in float32.

    What roundings do to these problems is seen in float32. Float64 rounds 2**29 times more finely;
    both results may err, each by twice as much as usual: four times in all. An error is the root
    mean square over all problems, relative to the largest value of its array, so that the luck of
    single roundings averages out; each by itself has to be free of slips.
    """

    def __init__(self) -> None:
        self._found: list[float] = []
        self._rounding: list[float] = []

    def add(self, arrays: Arrays, expected: Arrays, **options: Any) -> None:
        noise = options.pop("noise", Noise())
        exact, plain = (
            run_variant(
                reference, astype(arrays, dtype), noise=noise_astype(noise, dtype), **options
            )
            for dtype in (np.float64, np.float32)
        )
        assert {"output", "h", "c"} <= expected.keys() <= exact.keys()
        for name, array in expected.items():
            assert_no_slip(array, exact[name], name)
            scale = np.max(np.abs(exact[name])) or 1.0
            is_single = array.dtype == np.float32
            self._found.append(rms_error([array], [exact[name]]) / scale)
            self._rounding.append(
                rms_error([plain[name]], [exact[name]]) / scale * (1 if is_single else 2.0**-29)
            )

    def finish(self) -> None:
        found, rounding = (
            float(np.hypot.reduce(errors)) for errors in (self._found, self._rounding)
        )
        assert found <= 4 * rounding, f"error {found:.3g}, allowed {4 * rounding:.3g}"
