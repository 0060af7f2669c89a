"""What torch's and Keras's exporters write in ONNX, beside torch and Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interchange_support import Comparison
from lstm_ext import from_onnx
from support import Array

pytest.importorskip("onnx", reason="onnx is not installed")

# What a module takes of an LSTM's sequence y and last states h, the batch first.
ENDS = {
    "sequence": lambda torch, y, h: y,
    "last step": lambda torch, y, h: y[:, -1],
    "last state": lambda torch, y, h: h[-1],
    "both states": lambda torch, y, h: torch.cat([h[-2], h[-1]], -1),
    "states side by side": lambda torch, y, h: h[-2:].transpose(0, 1).reshape(h.shape[1], -1),
}


def exported(torch: Any, rng: np.random.Generator, path: Path, dynamo: bool) -> tuple[Array, Array]:
    """Let torch export a random model; return x, the batch first, and the output in float64."""
    size, units, outputs = (int(n) for n in rng.integers(1, 9, 3))
    words, batch_first, both_ways = (bool(n) for n in rng.integers(2, size=3))
    choices = ["sequence", "last state", *(list(ENDS)[3:] if both_ways else ["last step"])]
    end = choices[rng.integers(len(choices))]
    table = torch.nn.Embedding(9, size)
    lstm = torch.nn.LSTM(
        size,
        units,
        int(rng.integers(1, 4)),
        batch_first=batch_first,
        bidirectional=both_ways,
    )
    width = units * (1 + (both_ways and end != "last state"))
    head = torch.nn.Linear(width, outputs)

    class Random(torch.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.table, self.lstm, self.head = table, lstm, head

        def forward(self, x: Any) -> Any:
            y, (h, _) = lstm(table(x) if words else x)
            y = y if batch_first or end == "sequence" else y.transpose(0, 1)
            return torch.relu(head(ENDS[end](torch, y, h)))

    module = Random().eval()
    for weight in module.parameters():  # so that sums of biases are exact
        weight.data = torch.round(weight.data * 2**12) / 2**12
    drawn = rng.integers(0, 9, (5, 3)) if words else rng.normal(size=(5, 3, size))
    x = torch.tensor(drawn if words else drawn.astype(np.float32))
    export(torch, module, (x,), path, dynamo)
    with torch.no_grad():
        output = module.double()(x if words else x.double()).numpy()
    if batch_first:
        return x.numpy(), output
    return x.numpy().swapaxes(0, 1), output.swapaxes(0, 1) if end == "sequence" else output


def export(torch: Any, module: Any, inputs: tuple[Any, ...], path: Path, dynamo: bool) -> None:
    if dynamo:
        sizes = ({0: torch.export.Dim("b"), 1: torch.export.Dim("t")},)
        options = {"dynamic_shapes": sizes, "external_data": False, "verbose": False}
    else:
        axes = {"x": {0: "b", 1: "t"}, "lengths": {0: "b"}}
        options = {"input_names": list(axes)[: len(inputs)], "dynamic_axes": axes}
        options["opset_version"] = 17
    torch.onnx.export(module, inputs, path, dynamo=dynamo, **options)


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True])
def test_what_torch_exports(dynamo: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    comparison = Comparison()
    # The newer exporter takes seconds: two layers that read both ways, with two kinds of ends.
    for seed in (16, 18) if dynamo else range(40):
        torch.manual_seed(seed)
        rng = np.random.default_rng([12, seed])
        x, output = exported(torch, rng, tmp_path / "model.onnx", dynamo)
        comparison.add(from_onnx(tmp_path / "model.onnx"), x, output)
    comparison.finish()


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("both_ways", [False, True])
def test_packed_sequences_that_torch_exports(both_ways: bool, tmp_path: Path) -> None:
    """Lengths are an input there, and what comes after the end is zero."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rnn = torch.nn.utils.rnn
    lstm = torch.nn.LSTM(3, 4, 2, batch_first=True, bidirectional=both_ways)

    class Packed(torch.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = lstm

        def forward(self, x: Any, lengths: Any) -> Any:
            packed = rnn.pack_padded_sequence(x, lengths, batch_first=True)
            return rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)[0]

    for weight in lstm.parameters():
        weight.data = torch.round(weight.data * 2**12) / 2**12
    x, lengths = torch.randn(4, 7, 3), torch.tensor([7, 5, 5, 1])
    export(torch, Packed().eval(), (x, lengths), tmp_path / "model.onnx", False)
    with torch.no_grad():
        output = Packed().double()(x.double(), lengths).numpy()
    comparison = Comparison()
    model = from_onnx(tmp_path / "model.onnx")
    comparison.add(model, x.numpy(), output, np.arange(7) < lengths.numpy()[:, None])
    comparison.finish()


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
def test_what_tf2onnx_writes(tmp_path: Path) -> None:
    """A fixed file of it is among the golden ones."""
    tf2onnx = pytest.importorskip("tf2onnx", reason="tf2onnx is not installed")
    keras = pytest.importorskip("keras", reason="keras is not installed")
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    layers = keras.layers
    for mode in ("concat", "sum", "mul", "ave"):
        for sequences in (False, True):
            both = layers.Bidirectional(layers.LSTM(3, return_sequences=sequences), merge_mode=mode)
            last = layers.LSTM(2, go_backwards=True, return_sequences=True)
            model = keras.Sequential(
                [keras.Input((None, 4)), *([both, last] if sequences else [both])]
            )
            signature = [tf.TensorSpec((None, None, 4), tf.float32)]
            path = tmp_path / "model.onnx"
            tf2onnx.convert.from_function(
                tf.function(lambda x, model=model: model(x), input_signature=signature),
                input_signature=signature,
                opset=17,
                output_path=str(path),
            )
            x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
            comparison = Comparison()
            comparison.add(from_onnx(path), x, np.asarray(model(x)))
            comparison.finish()
