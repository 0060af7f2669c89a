"""Writes ONNX models with all that an LSTM can have, onnx_*, and onnx_variants.npz.

ONNX Runtime computes in float32, torch and Keras, whose exporters write some of the models, in
float64. Names in onnx_variants.npz begin with the file's: x, the batch first, and output; of single
nodes x as they take it, what else they are given, and y, h and c.

    python tests/golden_interchange/make_onnx_variants.py

Needs torch, onnxscript, Keras on TensorFlow, tf2onnx and ONNX Runtime, which the tests do not.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

sys.path.insert(0, str(Path(__file__).parents[1]))

from make_onnx import HERE, export, helper, ints, model_of, numpy_helper, onnxruntime, run

RNG = np.random.default_rng(17)
STEPS, BATCH, SIZE, UNITS = 6, 8, 4, 4

NODES = {
    # Forwards: peepholes, clip, lengths, a state, usual activations.
    "node_forward": {"clip": 0.8},
    # Backwards: coupled gates, and activations with numbers of their own.
    "node_reverse": {
        "direction": "reverse",
        "input_forget": 1,
        "activations": ["HardSigmoid", "ScaledTanh", "Elu"],
        "activation_alpha": [0.3, 1.2, 0.7],
        "activation_beta": [0.4, 0.8],
    },
    # Both: six activations, of which some have no numbers and one has ONNX's.
    "node_both": {
        "direction": "bidirectional",
        "clip": 1.1,
        "activations": ["Sigmoid", "Softsign", "Tanh", "HardSigmoid", "LeakyRelu", "Affine"],
        "activation_alpha": [0.2, 0.4, 0.7],
        "activation_beta": [0.5, 0.1],
    },
}


def tensor(name, *shape, scale=1.0):
    """Draw a constant; sums of two are exact."""
    drawn = np.round(scale * RNG.normal(size=shape) * 2**12) / 2**12
    return numpy_helper.from_array(drawn.astype(np.float32), name)


def weights(d):
    """Draw what an LSTM of d directions has."""
    shapes = {
        "W": (4 * UNITS, SIZE), "R": (4 * UNITS, UNITS), "B": (8 * UNITS,), "P": (3 * UNITS,),
    }  # fmt: skip
    return [tensor(name, d, *shape, scale=0.7) for name, shape in shapes.items()]


def nodes(store):
    """Write single nodes, with lengths, a state and peepholes."""
    for name, options in NODES.items():
        d = 2 if options.get("direction") == "bidirectional" else 1
        given = {
            "x": RNG.normal(size=(STEPS, BATCH, SIZE)).astype(np.float32),
            "lens": np.array([6, 4, 2, 1, 5, 3, 6, 4], np.int32),
            "h0": RNG.normal(size=(d, BATCH, UNITS)).astype(np.float32),
            "c0": RNG.normal(size=(d, BATCH, UNITS)).astype(np.float32),
        }
        inputs = ["x", "W", "R", "B", "lens", "h0", "c0", "P"]
        node = helper.make_node(
            "LSTM", inputs, ["y", "h", "c"], name="lstm", hidden_size=UNITS, **options
        )
        infos = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in given.items()
        ]
        outputs = [helper.make_tensor_value_info(n, 1, None) for n in "yhc"]
        graph = helper.make_graph([node], "golden", infos, outputs, weights(d))
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        onnx.save(model, HERE / f"onnx_{name}.onnx")
        results = onnxruntime.InferenceSession(model.SerializeToString()).run(None, given)
        for key, array in {**given, **dict(zip("yhc", results, strict=True))}.items():
            store[f"{name}/{key}"] = array


class BothWays(torch.nn.Module):
    """Two layers that read both ways, and the last state of each direction."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(8, 4, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x):
        """Return (batch, 8)."""
        _, (h, _) = self.lstm(x)
        return torch.cat([h[-2], h[-1]], -1)


def torch_models(store):
    """Export them by both exporters."""
    module = BothWays().eval()
    for weight in module.parameters():
        drawn = 0.7 * RNG.normal(size=tuple(weight.shape))
        weight.data = torch.tensor(np.round(drawn * 2**12) / 2**12, dtype=torch.float32)
    x = torch.tensor(RNG.normal(size=(3, 6, 8)).astype(np.float32))
    for kind in ("old", "new"):
        export(f"torch_{kind}_both", module.float(), x, kind == "new")
        with torch.no_grad():
            output = module.double()(x.double()).numpy()
        store[f"torch_{kind}_both/x"], store[f"torch_{kind}_both/output"] = x.numpy(), output


def keras_models(store):
    """Export a model of Keras's by tf2onnx; expected is what Keras computes in float64."""
    layers = keras.layers

    def make(dtype):
        return keras.Sequential(
            [
                keras.Input((None, 4)),
                layers.LSTM(4, return_sequences=True, go_backwards=True, dtype=dtype),
                layers.Bidirectional(
                    layers.LSTM(4, return_sequences=True, dtype=dtype), "sum", dtype=dtype
                ),
                layers.Bidirectional(layers.LSTM(4, dtype=dtype), "ave", dtype=dtype),
            ]
        )

    model = make("float32")
    drawn = [0.7 * RNG.normal(size=w.shape) for w in model.get_weights()]
    drawn = [weight.astype(np.float32) for weight in drawn]
    model.set_weights(drawn)
    signature = [tf.TensorSpec((None, None, 4), tf.float32, name="x")]
    proto, _ = tf2onnx.convert.from_function(
        tf.function(model.call, input_signature=signature), signature, opset=17
    )
    onnx.save(proto, HERE / "onnx_tf2onnx_both.onnx")
    x = RNG.normal(size=(3, 6, 4)).astype(np.float32)
    exact = make("float64")
    exact.set_weights(drawn)
    store["tf2onnx_both/x"], store["tf2onnx_both/output"] = x, np.asarray(exact(x))


def quantized(store):
    """Let ONNX Runtime make the weights of both directions small."""
    constants = weights(2)[:3]
    lstm = helper.make_node(
        "LSTM", ["x", "W", "R", "B"], ["y"], name="lstm", hidden_size=UNITS,
        direction="bidirectional",
    )  # fmt: skip
    beside = helper.make_node("Transpose", ["y"], ["beside"], perm=[0, 2, 1, 3])
    joined = helper.make_node("Reshape", ["beside", "shape"], ["joined"])
    constants.append(ints("shape", 0, 0, 2 * UNITS))
    model = model_of([lstm, beside, joined], constants, "joined", 3, SIZE)
    large, small = HERE / "onnx_both_ways.onnx", HERE / "onnx_quantized_both_ways.onnx"
    onnx.save(model, large)
    quantize_dynamic(large, small, per_channel=True, weight_type=QuantType.QInt8)
    x = RNG.normal(size=(BATCH, STEPS, SIZE)).astype(np.float32)
    store["both_ways/x"], store["both_ways/output"] = x, run(model, x)
    store["quantized_both_ways/x"] = x
    store["quantized_both_ways/small"] = run(onnx.load(small), x)


def main():
    """Write all."""
    warnings.simplefilter("ignore")
    store = {}
    nodes(store)
    torch_models(store)
    keras_models(store)
    quantized(store)
    np.savez_compressed(HERE / "onnx_variants.npz", **store)


if __name__ == "__main__":
    main()
