"""The operator's variants and masks: cases by name, drawn once for all instruction sets."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from lstm_ext import functional, reference
from lstm_ext.variants import Cell, Noise
from support import Array, assert_as_accurate, assert_no_slip, wider
from variants_support import (
    VARIANTS,
    Arrays,
    arguments,
    astype,
    draw,
    draw_noise,
    draw_places,
    named_gradients,
    noise_astype,
    run_variant,
)

# The operator has no layer normalisation so far.
NAMES = [name for name in VARIANTS if not name.startswith("layer_norm")]
NOISE = Noise._fields
OF_ROWS = ("x", "h0", "c0", "d_output", "d_h", "d_c")

Size = tuple[int, int, int, int, int]
Options = dict[str, Any]


class Case(NamedTuple):
    """What to draw: hashable, so that the reference computes it once."""

    size: Size  # B, T, I, H, and P of a projection if there is one
    dtype: Any
    cell: Cell = Cell()
    peephole: bool = False
    projects: bool = False
    layer_norm: bool = False
    noise: tuple[str, ...] = ()  # which kinds
    slots: tuple[str, ...] = ()  # of mask, lengths, reset, zero_output_for_mask, go_backwards
    scale: float = 1.0  # of z
    seed: int = 0

    @classmethod
    def of(cls, variant: str, size: Size, dtype: Any, **more: Any) -> Case:
        """Return a case of a variant of that name, or of the plain LSTM."""
        extra, cell = ({}, Cell()) if variant == "plain" else VARIANTS[variant]
        has = {name: bool(extra.get(name)) for name in ("peephole", "layer_norm")}
        return cls(size, dtype, cell, projects="outputs" in extra, **has, **more)

    def draw(self) -> tuple[Arrays, Options]:
        """Return the arrays of a problem and the options that go with them."""
        batch, steps, features, units, outputs = self.size
        arrays = draw(
            batch, steps, features, units, outputs=outputs if self.projects else None,
            peephole=self.peephole, layer_norm=self.layer_norm, seed=self.seed, dtype=self.dtype,
            scale=self.scale * (features + units) ** -0.5,
        )  # fmt: skip
        options: Options = {"cell": _varied(self.cell, self.seed)}
        if self.noise:
            noise = draw_noise(arrays, seed=self.seed)
            options["noise"] = Noise(**{kind: getattr(noise, kind) for kind in self.noise})
        return arrays, options | slot_options(self.slots, batch, steps, seed=self.seed)


def _varied(cell: Cell, seed: int) -> Cell:
    """Return a cell with bounds of its own: all that is clipped to one shares its rounding."""
    factor = 0.8 + 0.4 * float(np.random.default_rng(seed).random())
    bounds = {name: getattr(cell, name) for name in ("clip", "cell_clip")}
    return cell._replace(**{name: bound and bound * factor for name, bound in bounds.items()})


def slot_options(kinds: Iterable[str], batch: int, steps: int, *, seed: int = 0) -> Options:
    """Return masks and resets of any pattern, some rows without a step and some with all."""
    options: Options = {}
    for kind in kinds:
        if kind == "mask":
            options["mask"] = draw_places(batch, steps, share=0.6, seed=seed)
            options["mask"][1::5] = False
            options["mask"][4::5] = True
        elif kind == "lengths":
            rng = np.random.default_rng(seed)
            options["lengths"] = rng.permutation(np.arange(batch) % (steps + 1))
        elif kind == "reset":
            options["reset"] = draw_places(batch, steps, share=0.25, seed=seed + 1)
        else:
            options[kind] = True
    return options


class Drawn(NamedTuple):
    """A problem with the reference's results in its dtype and in a wider one."""

    arrays: Arrays
    options: Options
    plain: Arrays
    exact: Arrays


@functools.cache
def drawn(case: Case) -> Drawn:
    arrays, options = case.draw()
    plain, exact = (
        run_variant(reference, astype(arrays, dtype), **options_astype(options, dtype))
        for dtype in (case.dtype, wider(case.dtype))
    )
    return Drawn(arrays, options, plain, exact)


def options_astype(options: Options, dtype: Any) -> Options:
    noise = options.get("noise")
    return options if noise is None else options | {"noise": noise_astype(noise, dtype)}


class Accuracy:
    """The errors of results over many problems, beside those of plain NumPy.

    Each array by itself has to be free of slips. The roundings of one small problem are a matter of
    luck: judged is the root mean square over all, where an array's errors count in units of its
    largest value if that is above one.
    """

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[Array, Array, Array]]] = defaultdict(list)

    def add(self, actual: Arrays, plain: Arrays, exact: Arrays, where: str = "") -> None:
        assert actual.keys() == plain.keys()
        for name, array in actual.items():
            assert_no_slip(array, exact[name], f"{name} {where}")
            largest = max(1.0, float(np.max(np.abs(exact[name]), initial=0)))
            _, exponent = np.frexp(largest)
            scaled = (np.ldexp(a, -exponent) for a in (array, plain[name], exact[name]))
            self._found[name].append(tuple(scaled))  # type: ignore[arg-type]

    def finish(self, factor: float = 2) -> None:
        for name, found in self._found.items():
            assert_as_accurate(*zip(*found, strict=True), name, factor)


def assert_as_accurate_as_numpy(cases: Iterable[Case], isa: str) -> None:
    """Assert that the operator's results and gradients err at most twice as much as NumPy's."""
    accuracy = Accuracy()
    for case in cases:
        problem = drawn(case)
        actual = run_variant(functional, problem.arrays, isa=isa, **problem.options)
        accuracy.add(actual, problem.plain, problem.exact, str(case.size))
    accuracy.finish()


def pack(arrays: Arrays, cell: Cell | None = None, **options: Any) -> functional.PackedWeights:
    """Return the weights of a problem packed."""
    (_, *weights), named = arguments(arrays)
    named.pop("initial_state", None)
    return functional.pack(*weights, cell=cell, **named, **options)


def of_rows(arrays: Arrays, options: Options, rows: Any) -> tuple[Arrays, Options]:
    """Return the problem of some rows of the batch."""
    arrays = arrays | {name: arrays[name][rows] for name in OF_ROWS}
    options = options | {
        name: options[name][rows] for name in ("mask", "lengths", "reset") if name in options
    }
    if "noise" in options:
        options["noise"] = Noise(*(None if a is None else a[rows] for a in options["noise"]))
    return arrays, options


def of_steps(arrays: Arrays, options: Options, steps: Any) -> tuple[Arrays, Options]:
    """Return the problem of some steps, read forwards."""
    arrays = arrays | {name: arrays[name][:, steps] for name in ("x", "d_output")}
    options = options | {
        name: options[name][:, steps] for name in ("mask", "reset") if name in options
    }
    if "noise" in options:
        x, h, *places = options["noise"]
        options["noise"] = Noise(x, h, *(None if a is None else a[:, steps] for a in places))
    return arrays, options


def run_packed(weights: functional.PackedWeights, arrays: Arrays, **options: Any) -> Arrays:
    """Run a problem as `run_variant` does, with weights that are packed; options without a cell."""
    options.pop("cell", None)
    state = (arrays["h0"], arrays["c0"]) if "h0" in arrays else None
    results, backward = functional.lstm_vjp(arrays["x"], weights, initial_state=state, **options)
    found = dict(zip(("output", "h", "c"), results, strict=True))
    return found | named_gradients(backward(*(arrays[f"d_{name}"] for name in found)))
