"""Make the golden vectors beside this file: LSTMs with variants, computed by the frameworks.

Run it with nothing to change a result but the frameworks' versions:

    python tests/golden_variants/make_golden.py

Each .npz holds, in our layout (gates i, f, c, o along the last axis), the arguments and upstream
gradients of one problem of variants_support.py, the masks and lengths, what the framework made of
them (output, h, c and, but for ONNX Runtime, which only runs forward, the gradients, named
gradient_<argument>), each under "expected/", and the other options of `reference.lstm` as JSON.
torch and Keras compute in float64, ONNX Runtime in float32. Needs torch, ONNX Runtime and Keras on
TensorFlow, which the tests do not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from lstm_ext.variants import Cell
from variants_frameworks import run_keras, run_onnxruntime, run_torch
from variants_support import Arrays, draw, draw_places

SHAPE = (3, 6, 4, 5)
MASK = draw_places(*SHAPE[:2])
LENGTHS = np.array([6, 4, 2])  # read from the end, what is masked comes first and is zero anyway
THREE = (("elu", 1.3), ("hard_sigmoid", 0.3, 0.4), ("scaled_tanh", 1.2, 0.8))

# What is drawn, the cell, and the other options.
Case = tuple[dict[str, Any], Cell, dict[str, Any]]
TORCH: dict[str, Case] = {
    "projection": ({"outputs": 3}, Cell(), {}),
    "projection_backwards": (
        {"outputs": 2},
        Cell(),
        {"go_backwards": True, "lengths": LENGTHS},
    ),
}
ONNX: dict[str, Case] = {
    "peephole": (
        {"peephole": True},
        Cell(),
        {"lengths": LENGTHS, "zero_output_for_mask": True},
    ),
    "clip": ({"peephole": True}, Cell(clip=0.6), {"go_backwards": True}),
    "input_forget": ({}, Cell(input_forget=True), {}),
    "activations": ({"scale": 0.6}, Cell(*THREE), {}),
    "everything": (
        {"peephole": True, "scale": 0.8},
        Cell(*THREE, clip=0.9, input_forget=True),
        {"go_backwards": True, "lengths": LENGTHS},
    ),
}
KERAS: dict[str, Case] = {
    "mask": ({}, Cell(), {"mask": MASK}),
    "mask_backwards": ({}, Cell(), {"mask": MASK, "go_backwards": True}),
    "zero_output": ({}, Cell(), {"mask": MASK, "zero_output_for_mask": True}),
    "activations": ({}, Cell("softsign", "hard_sigmoid"), {"mask": MASK}),
}


def compute(framework: str, arrays: Arrays, cell: Cell, options: dict[str, Any]) -> Arrays:
    """Run a framework, of which only Keras knows what a masked step puts out."""
    if framework == "keras":
        return run_keras(arrays, cell, **options)
    options = {name: value for name, value in options.items() if name != "zero_output_for_mask"}
    if framework == "torch":
        return run_torch(arrays, **options)
    return run_onnxruntime(arrays, cell, **options)


def main() -> None:
    """Write every case."""
    for framework, cases in (("torch", TORCH), ("onnx", ONNX), ("keras", KERAS)):
        for seed, (name, (extra, cell, options)) in enumerate(cases.items()):
            dtype = np.float32 if framework == "onnx" else np.float64
            arrays = draw(*SHAPE, **extra, dtype=dtype, seed=seed)
            expected = compute(framework, arrays, cell, options)
            masks = {key: options[key] for key in ("mask", "lengths") if key in options}
            flags = {key: value for key, value in options.items() if key not in masks}
            path = Path(__file__).with_name(f"{framework}_{name}.npz")
            np.savez_compressed(
                path,
                **arrays,
                **masks,
                **{f"expected/{key}": array for key, array in expected.items()},
                options=np.array(json.dumps({"cell": cell._asdict(), **flags})),
            )
            print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
