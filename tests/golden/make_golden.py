"""Make the golden vectors beside this file: one small LSTM a file, computed by torch or Keras.

    python tests/golden/make_golden.py

Each .npz holds, in float64 and in our layout (gates i, f, c, o along the last axis), the arrays x,
kernel, recurrent_kernel, bias, h0, c0, the flag go_backwards, the upstream gradients d_output, d_h
and d_c, the results output, h and c, and the gradients, named gradient_<argument>. An array that a
case goes without is absent. Needs torch and Keras on TensorFlow, which the tests do not.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

Arrays = dict[str, Any]


class Case(NamedTuple):
    """One LSTM and its data; input_size and units differ, so that no transpose goes unnoticed."""

    batch_size: int
    seq_len: int
    input_size: int
    units: int
    bias: bool = True
    initial_state: bool = True
    go_backwards: bool = False


TORCH = {
    "one_unit": Case(1, 1, 1, 1),
    "state": Case(3, 7, 5, 4),
    "no_bias": Case(2, 6, 3, 5, bias=False, initial_state=False),
    "go_backwards": Case(4, 5, 6, 3, go_backwards=True),
    "long": Case(1, 40, 2, 3, initial_state=False),
}
KERAS = {
    "notebook": Case(1, 5, 10, 4, initial_state=False),
    "state": Case(3, 6, 4, 5),
    "no_bias": Case(4, 3, 5, 3, bias=False),
    "go_backwards": Case(2, 7, 3, 4, go_backwards=True),
}


def draw(case: Case, rng: np.random.Generator) -> Arrays:
    """Draw a case's data, the gates on different scales so that a swap of two shows."""
    batch_size, seq_len, input_size, units = case[:4]
    gate_scale = np.repeat([0.5, 0.8, 1.1, 1.4], units)
    arrays: Arrays = {
        "x": rng.normal(size=(batch_size, seq_len, input_size)),
        "kernel": rng.normal(size=(input_size, 4 * units)) * gate_scale,
        "recurrent_kernel": rng.normal(size=(units, 4 * units)) * gate_scale,
        "d_output": rng.normal(size=(batch_size, seq_len, units)),
        "d_h": rng.normal(size=(batch_size, units)),
        "d_c": rng.normal(size=(batch_size, units)),
        "go_backwards": np.array(case.go_backwards),
    }
    if case.bias:
        arrays["bias"] = rng.normal(size=4 * units) * gate_scale
    if case.initial_state:
        arrays["h0"] = rng.normal(size=(batch_size, units))
        arrays["c0"] = rng.normal(size=(batch_size, units))
    return arrays


def run_torch(case: Case, arrays: Arrays) -> Arrays:
    """Run nn.LSTM; going backwards is the second direction of a bidirectional one."""
    import torch

    suffix = "l0_reverse" if case.go_backwards else "l0"
    lstm = torch.nn.LSTM(
        case.input_size,
        case.units,
        bias=case.bias,
        batch_first=True,
        bidirectional=case.go_backwards,
        dtype=torch.float64,
    )
    parameters = dict(lstm.named_parameters())
    named = {
        "kernel": parameters[f"weight_ih_{suffix}"],
        "recurrent_kernel": parameters[f"weight_hh_{suffix}"],
    }
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(torch.from_numpy(arrays[name].T))
        if case.bias:
            # torch has two biases that are added; the first gets all of ours.
            named["bias"] = parameters[f"bias_ih_{suffix}"]
            named["bias"].copy_(torch.from_numpy(arrays["bias"]))
            parameters[f"bias_hh_{suffix}"].zero_()
    named["x"] = torch.from_numpy(arrays["x"]).requires_grad_()
    state = None
    if case.initial_state:
        named["h0"] = torch.from_numpy(arrays["h0"]).requires_grad_()
        named["c0"] = torch.from_numpy(arrays["c0"]).requires_grad_()
        directions = 1 + case.go_backwards
        state = tuple(torch.stack([named[name]] * directions) for name in ("h0", "c0"))
    output, (h, c) = lstm(named["x"], state)
    # The last direction alone reaches the loss, and its steps are put in their own order.
    output = output[..., -case.units :]
    output = output.flip(1) if case.go_backwards else output
    results = {"output": output, "h": h[-1], "c": c[-1]}
    sum(
        (torch.from_numpy(arrays[f"d_{name}"]) * result).sum() for name, result in results.items()
    ).backward()
    transposed = {"kernel", "recurrent_kernel"}
    gradients = {
        f"gradient_{name}": (tensor.grad.T if name in transposed else tensor.grad).numpy()
        for name, tensor in named.items()
    }
    return {name: result.detach().numpy() for name, result in results.items()} | gradients


def run_keras(case: Case, arrays: Arrays) -> Arrays:
    """Run keras.layers.LSTM on TensorFlow."""
    import keras
    import tensorflow as tf

    layer = keras.layers.LSTM(
        case.units,
        use_bias=case.bias,
        return_sequences=True,
        return_state=True,
        go_backwards=case.go_backwards,
        dtype="float64",
    )
    layer.build(arrays["x"].shape)
    names = ["kernel", "recurrent_kernel", *(["bias"] if case.bias else [])]
    layer.set_weights([arrays[name] for name in names])
    named = dict(zip(names, (v.value for v in layer.trainable_variables), strict=True))
    named["x"] = tf.constant(arrays["x"])
    state = None
    if case.initial_state:
        named["h0"] = tf.constant(arrays["h0"])
        named["c0"] = tf.constant(arrays["c0"])
        state = [named["h0"], named["c0"]]
    with tf.GradientTape() as tape:
        tape.watch([value for name, value in named.items() if name not in names])
        results = dict(
            zip(("output", "h", "c"), layer(named["x"], initial_state=state), strict=True)
        )
        loss = sum(tf.reduce_sum(arrays[f"d_{name}"] * result) for name, result in results.items())
    gradients = tape.gradient(loss, named)
    return {name: result.numpy() for name, result in results.items()} | {
        f"gradient_{name}": gradient.numpy() for name, gradient in gradients.items()
    }


def main() -> None:
    """Write every case."""
    rng = np.random.default_rng(20)
    for framework, run, cases in (("torch", run_torch, TORCH), ("keras", run_keras, KERAS)):
        for name, case in cases.items():
            arrays = draw(case, rng)
            path = Path(__file__).with_name(f"{framework}_{name}.npz")
            np.savez_compressed(path, **arrays, **run(case, arrays))
            print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
