"""Threads that take pieces of a long step as they come give the bits of one thread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lstm_ext
from lstm_ext import functional
from lstm_ext.variants import Cell

Array = NDArray[Any]

# Steps of more than three million multiply-adds each; the last number says how many rows.
SHAPES = {
    "a row": (1, 5, 24, 1024),
    "rows projected in chunks": (5, 6, 40, 440),
    "rows multiplied with x": (13, 4, 70, 264),
    "many rows": (70, 3, 33, 128),
}


def draw(shape: tuple[int, int, int, int], dtype: str) -> tuple[Array, list[Array], list[Array]]:
    batch, steps, features, units = shape
    rng = np.random.default_rng(list(shape))
    sizes = (features, 4 * units), (units, 4 * units), (4 * units,)
    weights = [(rng.standard_normal(size) / np.sqrt(units)).astype(dtype) for size in sizes]
    x = rng.standard_normal((batch, steps, features)).astype(dtype)
    state = [rng.standard_normal((batch, units)).astype(dtype) for _ in range(2)]
    return x, weights, state


@pytest.mark.parametrize("isa", lstm_ext.available_isas())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", SHAPES)
def test_any_number_of_threads_gives_the_same_bits(kind: str, dtype: str, isa: str) -> None:
    x, weights, state = draw(SHAPES[kind], dtype)
    packed = functional.pack(*weights, isa=isa)
    for options in ({}, {"initial_state": state}, {"go_backwards": True}):
        want = functional.lstm(x, packed, num_threads=1, **options)
        for threads in (2, 3, 4):
            got = functional.lstm(x, packed, num_threads=threads, **options)
            for own, expected in zip(got, want, strict=True):
                np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize("weights_dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("kind", SHAPES)
def test_small_weights_too(kind: str, weights_dtype: str) -> None:
    batch, steps, features, units = SHAPES[kind]
    x, weights, _ = draw((4 * batch, steps, features, units), "float32")
    packed = functional.pack(*weights, weights_dtype=weights_dtype)
    want = functional.lstm(x, packed, num_threads=1)
    for threads in (2, 3):
        for own, expected in zip(
            functional.lstm(x, packed, num_threads=threads), want, strict=True
        ):
            np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize("kind", SHAPES)
def test_what_is_kept_for_the_gradients_is_the_same(kind: str) -> None:
    x, weights, state = draw(SHAPES[kind], "float32")
    packed = functional.pack(*weights)
    results = []
    for threads in (1, 2, 3):
        (output, _, _), pull_back = functional.lstm_vjp(
            x, packed, initial_state=state, num_threads=threads
        )
        grads = pull_back(np.cos(output))
        results.append([grads.x, grads.kernel, grads.recurrent_kernel, grads.bias])
    for other in results[1:]:
        for own, expected in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize("kind", SHAPES)
def test_variants_of_the_cell_too(kind: str) -> None:
    x, weights, _ = draw(SHAPES[kind], "float32")
    units = SHAPES[kind][3]
    peephole = np.linspace(-1, 1, 3 * units, dtype=np.float32)
    cell = Cell(clip=2.0, cell_clip=3.0)
    packed = functional.pack(*weights, peephole=peephole, cell=cell)
    want = functional.lstm(x, packed, num_threads=1)
    for own, expected in zip(functional.lstm(x, packed, num_threads=2), want, strict=True):
        np.testing.assert_array_equal(own, expected)
