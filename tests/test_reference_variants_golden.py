"""The reference's variants against vectors that torch, ONNX Runtime and Keras made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from lstm_ext.variants import Cell
from variants_support import Arrays, Comparison

FILES = sorted((Path(__file__).parent / "golden_variants").glob("*.npz"))


class Golden(NamedTuple):
    """A problem, the options it was run with, and what came of it."""

    arrays: Arrays
    options: dict[str, Any]
    expected: Arrays

    def check(self) -> None:
        comparison = Comparison()
        comparison.add(self.arrays, self.expected, **self.options)
        comparison.finish()


def load(path: Path) -> Golden:
    with np.load(path) as file:
        arrays = dict(file)
    options = json.loads(str(arrays.pop("options")))
    cell = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options["cell"].items()
    }
    options["cell"] = Cell(**cell)
    options |= {name: arrays.pop(name) for name in ("mask", "lengths") if name in arrays}
    prefix = "expected/"
    expected = {name: arrays.pop(name) for name in list(arrays) if name.startswith(prefix)}
    return Golden(
        arrays, options, {name.removeprefix(prefix): array for name, array in expected.items()}
    )


def features(golden: Golden) -> list[str]:
    """Name what a problem has that a reader of it could leave out."""
    cell, usual = golden.options["cell"], Cell()
    changed = [n for n in Cell._fields if getattr(cell, n) != getattr(usual, n)]
    arrays = [n for n in ("h0", "c0", "peephole", "projection_kernel") if n in golden.arrays]
    options = [name for name in golden.options if name != "cell"]
    return [*changed, *arrays, *options]


def without(golden: Golden, feature: str) -> Golden:
    arrays, options = dict(golden.arrays), dict(golden.options)
    if feature in Cell._fields:
        options["cell"] = options["cell"]._replace(**{feature: getattr(Cell(), feature)})
    elif feature == "projection_kernel":  # the first units, as they are
        arrays[feature] = np.eye(*arrays[feature].shape, dtype=arrays[feature].dtype)
    elif feature in arrays:
        arrays[feature] = np.zeros_like(arrays[feature])
    elif isinstance(options[feature], bool):
        options[feature] = not options[feature]
    else:
        del options[feature]
    return golden._replace(arrays=arrays, options=options)


FEATURES = [(path, feature) for path in FILES for feature in features(load(path))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_agrees_with_golden_vectors(path: Path) -> None:
    load(path).check()


@pytest.mark.parametrize(("path", "feature"), FEATURES, ids=lambda v: getattr(v, "stem", v))
def test_nothing_can_be_left_out(path: Path, feature: str) -> None:
    with pytest.raises(AssertionError):
        without(load(path), feature).check()


@pytest.mark.parametrize(
    "path", [path for path, feature in FEATURES if feature == "peephole"], ids=lambda p: p.stem
)
def test_peepholes_have_one_order(path: Path) -> None:
    golden = load(path)
    for order in ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        parts = np.split(golden.arrays["peephole"], 3)
        peephole = np.concatenate([parts[n] for n in order])
        with pytest.raises(AssertionError):
            golden._replace(arrays=golden.arrays | {"peephole": peephole}).check()


def test_golden_files_are_there() -> None:
    assert [path.stem.split("_")[0] for path in FILES] == ["keras"] * 4 + ["onnx"] * 5 + [
        "torch"
    ] * 2
    assert {feature for _, feature in FEATURES} == {
        "activation", "recurrent_activation", "output_activation", "clip", "input_forget", "h0",
        "c0", "peephole", "projection_kernel", "mask", "lengths", "go_backwards",
        "zero_output_for_mask",
    }  # fmt: skip
