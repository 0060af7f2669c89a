"""Writes ONNX models, onnx_*, and onnx.npz: what torch and ONNX Runtime compute with them.

x and the output of models that torch exported are what torch computes in float64; ONNX Runtime's
are in float32, as it has no other LSTM. Names in onnx.npz begin with the file's.

    python tests/golden_interchange/make_onnx.py

Needs torch, onnxscript and ONNX Runtime, which the tests do not.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

HERE = Path(__file__).parent
RNG = np.random.default_rng(13)


class Words(torch.nn.Module):
    """Numbered words to classes, by two LSTMs that could be one another's."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(9, 4)
        self.lstm = torch.nn.LSTM(4, 4, num_layers=2, batch_first=True)
        self.head = torch.nn.Linear(4, 3)

    def forward(self, words):
        """Return the probabilities after the last word."""
        output, _ = self.lstm(self.table(words))
        return torch.softmax(self.head(output[:, -1]), -1)


def export(name: str, module: torch.nn.Module, x: torch.Tensor, dynamo: bool) -> None:
    """Write a module as torch's newer or older exporter does."""
    path = HERE / f"onnx_{name}.onnx"
    if dynamo:
        sizes = ({0: torch.export.Dim("b"), 1: torch.export.Dim("t")},)
        torch.onnx.export(
            module, (x,), path, dynamo=True, dynamic_shapes=sizes, external_data=False
        )
        model = onnx.load(path)
        for part in (
            model,
            model.graph,
            *model.graph.node,
            *model.graph.input,
            *model.graph.output,
        ):
            del part.metadata_props[:]  # names of places on the machine that exported it
        del model.graph.value_info[:]
        onnx.save(model, path)
    else:
        axes = {"x": {0: "b", 1: "t"}}
        torch.onnx.export(
            module, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes, opset_version=17
        )


def torch_models(store: dict[str, np.ndarray]) -> None:
    """Export an LSTM by itself, which has time first, and a model, by both exporters."""
    for name, module in (("lstm", torch.nn.LSTM(3, 4)), ("words", Words())):
        for weight in module.parameters():
            drawn = RNG.normal(size=tuple(weight.shape))
            weight.data = torch.tensor(np.round(drawn * 2**12) / 2**12, dtype=torch.float32)
        x = RNG.integers(0, 9, (3, 6)) if name == "words" else RNG.normal(size=(6, 3, 3))
        given = torch.tensor(x)
        module.eval()
        for kind in ("old", "new"):
            traced = given if name == "words" else given.float()
            export(f"torch_{kind}_{name}", module.float(), traced, kind == "new")
            with torch.no_grad():
                result = module.double()(given)
            output = result.numpy() if name == "words" else result[0].numpy().swapaxes(0, 1)
            store[f"torch_{kind}_{name}/x"] = x if name == "words" else x.swapaxes(0, 1)
            store[f"torch_{kind}_{name}/output"] = output


def tensor(name: str, *shape: int) -> onnx.TensorProto:
    """Draw a constant; sums of two are exact."""
    drawn = np.round(RNG.normal(size=shape) * 2**12) / 2**12
    return numpy_helper.from_array(drawn.astype(np.float32), name)


def lstm(name: str, x: str, y: list[str], size: int, units: int, **options):
    """Return an LSTM node and its weights."""
    shapes = {"W": (1, 4 * units, size), "R": (1, 4 * units, units), "B": (1, 8 * units)}
    weights = [tensor(f"{name}_{key}", *shape) for key, shape in shapes.items()]
    inputs = [x, *(weight.name for weight in weights)]
    return helper.make_node("LSTM", inputs, y, name=name, hidden_size=units, **options), weights


def model_of(nodes, weights, output, rank: int, size: int) -> onnx.ModelProto:
    """Return the model of x (T, B, size) to one output."""
    axes = ["b", "t"] if rank == 3 else ["b"]
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "golden",
        [helper.make_tensor_value_info("x", float32, ["t", "b", size])],
        [helper.make_tensor_value_info(output, float32, [*axes[::-1], None])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ints(name: str, *values: int) -> onnx.TensorProto:
    """Return a constant of whole numbers."""
    return numpy_helper.from_array(np.array(values, np.int64), name)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """Compute with ONNX Runtime; x has the batch first, as has what is returned."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    output = session.run(None, {"x": x.swapaxes(0, 1)})[0]
    return output.swapaxes(0, 1) if output.ndim == 3 else output


def runtime_models(store: dict[str, np.ndarray]) -> None:
    """Build models of every direction, and one with small weights."""
    one, zero = ints("one", 1), ints("zero", 0)
    first, first_weights = lstm("first", "x", ["first_y"], 4, 4)
    squeeze = helper.make_node("Squeeze", ["first_y", "one"], ["first_s"])
    forward = model_of([first, squeeze], [*first_weights, one], "first_s", 3, 4)

    back, back_weights = lstm("back", "x", ["back_y"], 4, 4, direction="reverse")
    flat = helper.make_node("Squeeze", ["back_y", "one"], ["back_s"])
    again, again_weights = lstm("again", "back_s", ["again_y"], 4, 4)
    flat_again = helper.make_node("Squeeze", ["again_y", "one"], ["again_s"])
    last, last_weights = lstm("last", "again_s", ["", "last_h"], 4, 4, direction="reverse")
    state = helper.make_node("Squeeze", ["last_h", "zero"], ["state"])
    weights = [*back_weights, *again_weights, *last_weights, one, zero]
    directions = model_of([back, flat, again, flat_again, last, state], weights, "state", 2, 4)

    for name, model in (("forward", forward), ("directions", directions)):
        x = RNG.normal(size=(3, 6, 4)).astype(np.float32)
        onnx.save(model, HERE / f"onnx_{name}.onnx")
        store[f"{name}/x"], store[f"{name}/output"] = x, run(model, x)
    for per_channel in (False, True):
        quantized(store, forward, per_channel)


def quantized(store: dict[str, np.ndarray], model: onnx.ModelProto, per_channel: bool) -> None:
    """Let ONNX Runtime make weights small, and compute with what it makes of them again."""
    name = "quantized_by_channel" if per_channel else "quantized"
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / part) for part in ("float.onnx", "small.onnx")]
        onnx.save(model, paths[0])
        quantize_dynamic(*paths, per_channel=per_channel, weight_type=QuantType.QInt8)
        small = onnx.load(paths[1])
    if not per_channel:  # the same numbers with a zero point, which the runtime takes as well
        for weight in small.graph.initializer:
            if weight.name.endswith(("_quantized", "_zero_point")):
                shifted = numpy_helper.to_array(weight).astype(np.int32) + 128
                weight.CopyFrom(numpy_helper.from_array(shifted.astype(np.uint8), weight.name))
    onnx.save(small, HERE / f"onnx_{name}.onnx")
    tensors = {t.name: t for t in small.graph.initializer}
    large = onnx.ModelProto()
    large.CopyFrom(model)
    for weight in large.graph.initializer:
        if weight.name.endswith(("_W", "_R")):
            parts = []
            for end in ("quantized", "scale", "zero_point"):
                parts.append(onnx.TensorProto())
                parts[-1].CopyFrom(tensors[f"{weight.name}_{end}"])
            for part in parts[1:]:  # DequantizeLinear takes () or (4H)
                del part.dims[: 1 if per_channel else None]
            node = helper.make_node("DequantizeLinear", [p.name for p in parts], ["w"], axis=2)
            out = helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, None)
            graph = helper.make_graph([node], "dequantize", [], [out], parts)
            opset = [helper.make_opsetid("", 17)]
            whole = helper.make_model(graph, opset_imports=opset, ir_version=8)
            session = onnxruntime.InferenceSession(whole.SerializeToString())
            values = session.run(None, {})[0].swapaxes(1, 2)
            weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), weight.name))
    x = RNG.normal(size=(3, 6, 4)).astype(np.float32)
    store[f"{name}/x"], store[f"{name}/output"] = x, run(large, x)
    session = onnxruntime.InferenceSession(small.SerializeToString())
    store[f"{name}/small"] = session.run(None, {"x": x.swapaxes(0, 1)})[0].swapaxes(0, 1)


def main() -> None:
    """Write all."""
    warnings.simplefilter("ignore")
    store: dict[str, np.ndarray] = {}
    torch_models(store)
    runtime_models(store)
    np.savez_compressed(HERE / "onnx.npz", **store)


if __name__ == "__main__":
    main()
