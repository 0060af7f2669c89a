"""Random nodes and models beside ONNX Runtime, and what torch's exporters write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interchange_support import Comparison, layers_of
from lstm_ext import LSTM, Dense, Dropout, Embedding, Sequential, from_onnx, reference, to_onnx
from onnx_support import ACTIVATIONS, graph, node
from support import Array, assert_as_accurate

onnx = pytest.importorskip("onnx", reason="onnx is not installed")


def session(model: Any) -> Any:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(model.SerializeToString(), options)


@pytest.mark.live
def test_random_nodes_of_onnx() -> None:
    """Directions, biases and initial states of single LSTMs."""
    comparison = Comparison()
    for seed in range(200):
        rng = np.random.default_rng([10, seed])
        steps, batch, size, units = (int(n) for n in rng.integers(1, [9, 5, 17, 17]))
        shapes = {"W": (1, 4 * units, size), "R": (1, 4 * units, units), "B": (1, 8 * units)}
        arrays = {n: rng.normal(0, 0.7, s).astype(np.float32) for n, s in shapes.items()}
        reverse, last = bool(rng.integers(2)), bool(rng.integers(2))
        flip = [node("s last begin zero last", "z", "Slice")] if reverse else []
        bias = "B" if rng.integers(2) else "-"
        sequence = [node("y one", "s" if reverse else "z", "Squeeze"), *flip]
        lstm = node(
            f"x W R {bias}", "y h", direction="reverse" if reverse else "forward", hidden_size=units
        )
        nodes = [lstm, *([node("h zero", "z", "Squeeze")] if last else sequence)]
        constants = {**arrays, "last": np.array([-1]), "begin": np.array([-(2**40)])}
        model = graph(*nodes, constants=constants, output="z")
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = size
        x = rng.normal(size=(batch, steps, size)).astype(np.float32)
        output = session(model).run(None, {"x": x.swapaxes(0, 1)})[0]
        comparison.add(from_onnx(model), x, output if last else output.swapaxes(0, 1))
    comparison.finish()


def random_model(rng: np.random.Generator) -> Sequential:
    layers: list[Any] = []
    words = bool(rng.integers(4) == 0)
    if words:
        layers.append(Embedding(9, 4))
    count = int(rng.integers(1, 4))
    for index in range(count):
        layers.append(
            LSTM(
                int(rng.integers(1, 12)),
                return_sequences=index < count - 1 or bool(rng.integers(2)),
                go_backwards=bool(rng.integers(2)),
                use_bias=bool(rng.integers(2)),
                bias_initializer="normal",
            )
        )
        if rng.integers(3) == 0:
            layers.append(Dropout(0.5))
        if rng.integers(2):
            name = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
            layers.append(Dense(int(rng.integers(1, 9)), name, bias_initializer="normal"))
    model = Sequential(layers)
    model.build((None, None) if words else (None, None, int(rng.integers(1, 9))))
    return model


@pytest.mark.live
def test_the_runtime_computes_what_was_written() -> None:
    """Random models, of random batches and lengths, there and back."""
    comparison = Comparison()
    for seed in range(200):
        rng = np.random.default_rng([11, seed])
        model = random_model(rng)
        proto = to_onnx(model)
        onnx.checker.check_model(proto, full_check=True)
        again = from_onnx(proto)
        assert layers_of(again)[0].name == model.layers[0].name
        run = session(proto)
        for _ in range(2):
            shape = tuple(int(n) for n in rng.integers(1, 6, 2))
            assert model.input_shape is not None
            if len(model.input_shape) == 2:
                x = rng.integers(0, 9, shape)
            else:
                x = rng.normal(size=(*shape, model.input_shape[2])).astype(np.float32)
            comparison.add(again, x, run.run(["output"], {"x": x})[0])
    comparison.finish()


@pytest.mark.live
def test_the_runtime_goes_on_from_a_state() -> None:
    layer = LSTM(5, return_sequences=True)
    layer.build((None, None, 3))
    run = session(to_onnx(layer))
    x = np.random.default_rng(0).normal(size=(40, 7, 3)).astype(np.float32)
    names = ["output", "final_h", "final_c"]
    _, h, c = run.run(names, {"x": x[:, :3]})
    y, *state = run.run(names, {"x": x[:, 3:], "initial_h": h, "initial_c": c})
    whole = run.run(["output"], {"x": x})[0]
    plain = reference.lstm(x, *layer.weights)
    exact = reference.lstm(*(a.astype(np.float64) for a in (x, *layer.weights)))
    tail = [exact[0][:, 3:], *exact[1:]]
    actual = [y, *(s[0] for s in state)]
    assert_as_accurate(actual, [plain[0][:, 3:], *plain[1:]], tail, "in two calls", factor=4)
    assert_as_accurate([whole], plain[:1], exact[:1], "in one call", factor=4)


def exported(torch: Any, rng: np.random.Generator, path: Path, dynamo: bool) -> tuple[Array, Array]:
    """Let torch export a random model; return x, the batch first, and the output in float64."""
    size, units, outputs = (int(n) for n in rng.integers(1, 9, 3))
    words, batch_first, end = bool(rng.integers(2)), bool(rng.integers(2)), int(rng.integers(3))
    table = torch.nn.Embedding(9, size)
    lstm = torch.nn.LSTM(size, units, int(rng.integers(1, 4)), batch_first=batch_first)
    head = torch.nn.Linear(units, outputs)

    class Random(torch.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.table, self.lstm, self.head = table, lstm, head

        def forward(self, x: Any) -> Any:
            y, (h, _) = lstm(table(x) if words else x)
            y = (y, y[:, -1] if batch_first else y[-1], h[-1])[end]
            return torch.relu(head(y))

    module = Random().eval()
    for weight in module.parameters():  # so that sums of biases are exact
        weight.data = torch.round(weight.data * 2**12) / 2**12
    drawn = rng.integers(0, 9, (5, 3)) if words else rng.normal(size=(5, 3, size))
    x = torch.tensor(drawn if words else drawn.astype(np.float32))
    if dynamo:
        sizes = ({0: torch.export.Dim("b"), 1: torch.export.Dim("t")},)
        torch.onnx.export(
            module,
            (x,),
            path,
            dynamo=True,
            dynamic_shapes=sizes,
            external_data=False,
            verbose=False,
        )
    else:
        axes = {"x": {0: "b", 1: "t"}}
        torch.onnx.export(
            module, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes, opset_version=17
        )
    with torch.no_grad():
        output = module.double()(x if words else x.double()).numpy()
    swap = not batch_first
    return x.numpy().swapaxes(0, 1) if swap else x.numpy(), (
        output.swapaxes(0, 1) if swap and end == 0 else output
    )


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True])
def test_what_torch_exports(dynamo: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    comparison = Comparison()
    for seed in range(5 if dynamo else 20):  # the newer exporter takes seconds
        torch.manual_seed(seed)
        rng = np.random.default_rng([12, seed])
        x, output = exported(torch, rng, tmp_path / "model.onnx", dynamo)
        comparison.add(from_onnx(tmp_path / "model.onnx"), x, output)
    comparison.finish()
