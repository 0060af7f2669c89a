"""The reference's variants beside the frameworks that have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_ext.variants import Cell, Noise
from variants_frameworks import ONNX_NAMES, run_keras, run_onnxruntime, run_torch
from variants_support import Comparison, draw, draw_noise, draw_places

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore")]

SIZES = [(4, 6, 3, 5), (1, 4, 2, 3), (3, 1, 5, 4), (5, 7, 1, 2)]
# alpha and beta as ONNX needs them, none a default of ours.
SHAPES = {
    "affine": (0.7, 0.2), "elu": (1.3,), "hard_sigmoid": (0.3, 0.4), "leaky_relu": (0.15,),
    "scaled_tanh": (1.2, 0.8), "thresholded_relu": (0.3,),
}  # fmt: skip
KERAS_NAMES = [
    "linear", "relu", "leaky_relu", "tanh", "sigmoid", "hard_sigmoid", "softplus", "softsign",
    "elu", "selu", "gelu", "silu", "swish", "exponential",
]  # fmt: skip
# Keras on TensorFlow rounds the constants of these to float32 also in float64.
ROUNDED_CONSTANTS = ["gelu", "leaky_relu"]


def lengths_for(size: tuple[int, ...], least: int) -> Any:
    """Draw lengths, the first of all steps."""
    lengths = np.random.default_rng(size).integers(least, size[1] + 1, size[0])
    lengths[0] = size[1]
    return lengths


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("outputs", [1, 2, None])
def test_projections_and_lengths_of_torch(outputs: int | None, go_backwards: bool) -> None:
    comparison = Comparison()
    for size in SIZES:
        if outputs is None or outputs < size[3]:  # torch's condition
            arrays = draw(*size, outputs=outputs)
            for options in ({}, {"lengths": lengths_for(size, 1)}):
                options = {"go_backwards": go_backwards, **options}
                expected = run_torch(arrays, **options)
                comparison.add(arrays, expected, zero_output_for_mask=True, **options)
    comparison.finish()


@pytest.mark.parametrize("input_forget", [False, True], ids=["", "input_forget"])
@pytest.mark.parametrize("clip", [None, 0.7])
@pytest.mark.parametrize("peephole", [False, True], ids=["", "peephole"])
def test_cells_of_onnxruntime(peephole: bool, clip: float | None, input_forget: bool) -> None:
    comparison = Comparison()
    for seed, size in enumerate(SIZES * 4):
        cell = Cell(clip=clip, input_forget=input_forget)
        arrays = draw(*size, peephole=peephole, dtype=np.float32, seed=seed)
        options: dict[str, Any] = {"go_backwards": seed % 2 == 1}
        if seed > 8:
            options["lengths"] = lengths_for(size, 1)
        expected = run_onnxruntime(arrays, cell, **options)
        comparison.add(arrays, expected, cell=cell, zero_output_for_mask=True, **options)
    comparison.finish()


@pytest.mark.parametrize("place", ["activation", "recurrent_activation", "output_activation"])
@pytest.mark.parametrize("name", ONNX_NAMES)
def test_activations_of_onnxruntime(name: str, place: str) -> None:
    activation = (name, *SHAPES[name]) if name in SHAPES else name
    comparison = Comparison()
    for seed, size in enumerate(SIZES):
        usual = Cell(output_activation="tanh", clip=0.9 if seed % 2 else None)
        cell = usual._replace(**{place: activation})
        arrays = draw(*size, peephole=seed > 1, dtype=np.float32, scale=0.4, seed=seed)
        comparison.add(arrays, run_onnxruntime(arrays, cell), cell=cell)
    comparison.finish()


def test_random_cells_of_onnxruntime() -> None:
    """Everything together, with three different activations."""
    comparison = Comparison()
    names = list(ONNX_NAMES)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        size = SIZES[seed % len(SIZES)]
        chosen = [names[n] for n in rng.choice(len(names), 3, replace=False)]
        cell = Cell(
            *((name, *SHAPES[name]) if name in SHAPES else name for name in chosen),
            clip=(None, 0.9)[rng.integers(2)],
            input_forget=bool(rng.integers(2)),
        )
        arrays = draw(*size, peephole=bool(rng.integers(2)), dtype=np.float32, scale=0.3, seed=seed)
        options = {"go_backwards": bool(rng.integers(2)), "lengths": lengths_for(size, 1)}
        expected = run_onnxruntime(arrays, cell, **options)
        comparison.add(arrays, expected, cell=cell, zero_output_for_mask=True, **options)
    comparison.finish()


@pytest.mark.parametrize("go_backwards", [False, True], ids=["", "go_backwards"])
@pytest.mark.parametrize("zero_output", [False, True], ids=["", "zero_output"])
def test_masks_of_keras(zero_output: bool, go_backwards: bool) -> None:
    comparison = Comparison()
    for seed, size in enumerate(SIZES):
        arrays, mask = draw(*size), draw_places(*size[:2], seed=seed)
        mask[-1] = False
        options = {"go_backwards": go_backwards, "zero_output_for_mask": zero_output, "mask": mask}
        comparison.add(arrays, run_keras(arrays, **options), **options)
    comparison.finish()


@pytest.mark.parametrize("place", ["activation", "recurrent_activation"])
@pytest.mark.parametrize("name", KERAS_NAMES)
def test_activations_of_keras(name: str, place: str) -> None:
    comparison = Comparison()
    dtype = np.float32 if name in ROUNDED_CONSTANTS else np.float64
    cell = Cell()._replace(**{place: name})
    # An exponential of an exponential overflows in the third step.
    sizes = [(4, 2, 3, 5), (3, 1, 5, 4)] if name == "exponential" else SIZES
    for seed, size in enumerate(sizes):
        arrays = draw(*size, scale=0.4, seed=seed, dtype=dtype)
        options = {"mask": draw_places(*size[:2], seed=seed)} if seed % 2 else {}
        comparison.add(arrays, run_keras(arrays, cell, **options), cell=cell, **options)
    comparison.finish()


@pytest.mark.parametrize("kind", ["x", "h", "both"])
def test_dropout_of_keras(kind: str) -> None:
    comparison = Comparison()
    for seed, size in enumerate(SIZES):
        arrays = draw(*size)
        drawn = draw_noise(arrays, seed=seed)
        noise = Noise(x=None if kind == "h" else drawn.x, h=None if kind == "x" else drawn.h)
        options = {"noise": noise, "mask": draw_places(*size[:2], seed=seed)}
        comparison.add(arrays, run_keras(arrays, **options), **options)
    comparison.finish()
