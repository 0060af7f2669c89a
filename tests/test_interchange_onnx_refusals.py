"""ONNX models with what is not there yet, and files that are broken or hostile."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interchange_support import GOLDEN, assert_same_model, broken_files
from lstm_ext import LSTM, from_onnx
from onnx_support import UNITS, after, graph, node
from support import Array

onnx = pytest.importorskip("onnx", reason="onnx is not installed")


@pytest.mark.parametrize(
    ("lstm", "message"),
    [
        (node(activations=["Sigmoid", "Erf", "Tanh"]), "activations: Erf"),
        (node(output_sequence=1), "attribute output_sequence"),
        (node("x W R B one"), "sequence_lens is neither an input nor the number of all steps"),
        (node("x W R B x"), "sequence_lens is neither"),
        (node("x W R B - R"), "initial_h is neither zeros nor an input"),
        (node("x W R B - - R"), "initial_c is neither zeros nor an input"),
        (node("x W R B - x"), "initial_h is neither zeros nor an input"),
        (node("x W R B - - - h0"), "P is computed in the graph"),
        (node("x W h0 B"), "R is computed in the graph"),
        (node("x h0 R B"), "W is computed in the graph"),
    ],
)
def test_features_that_are_not_supported_are_named(lstm: Any, message: str) -> None:
    with pytest.raises(NotImplementedError, match=rf"node 'lstm'.*: {message}"):
        from_onnx(graph(lstm, inputs=("h0",)))


def test_a_default_of_a_state_that_is_not_zero_is_refused() -> None:
    state = np.ones((1, 1, UNITS), np.float32)
    model = graph(node("x W R B - h0"), inputs=("h0",), constants={"h0": state})
    with pytest.raises(NotImplementedError, match="initial_h is neither zeros nor an input"):
        from_onnx(model)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"W": np.ones((1, 16, 5), np.float32)}, "got weights for 5 features, expected 3"),
        ({"W": np.ones((1, 15, 3), np.float32)}, r"W: got shape \(1, 15, 3\)"),
        ({"W": np.ones((2, 16, 3), np.float32)}, r"W: got shape \(2, 16, 3\)"),
        ({"W": np.ones((1, 16, 0), np.float32)}, r"W: got shape \(1, 16, 0\)"),
        ({"W": np.ones((1, 16, 3), np.int64)}, "W: got an array of int64"),
        ({"R": np.ones((1, 16, 3), np.float32)}, r"R: got shape \(1, 16, 3\)"),
        ({"R": np.ones((2, 16, 4), np.float32)}, r"R: got shape \(2, 16, 4\)"),
        ({"R": np.ones(16, np.float32)}, r"R: got shape \(16,\)"),
        ({"B": np.ones((1, 16), np.float32)}, r"B: got shape \(1, 16\)"),
    ],
)
def test_weights_that_do_not_fit_are_named(replaced: dict[str, Array], message: str) -> None:
    with pytest.raises(ValueError, match=f"node 'lstm'.*: {message}"):
        from_onnx(graph(constants=replaced))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 5}, "hidden_size: got 5 beside R of 4"),
        ({"direction": "bidirectional"}, r"R: got shape \(1, 16, 4\), expected \(2, any, any\)"),
        ({"clip": 0.0}, "clip: got 0.0, expected a positive number"),
        ({"clip": -1.0}, "clip: got -1.0, expected a positive number"),
        ({"clip": float("nan")}, "clip: got nan, expected a positive number"),
        ({"input_forget": 2}, "input_forget: got 2, expected 0 or 1"),
        ({"activations": ["Tanh"]}, "activations: got 1, expected 3"),
        ({"activations": ["Tanh"] * 6}, "activations: got 6, expected 3"),
        ({"activation_alpha": [0.5]}, r"activation_alpha: got \[0.5\] more than"),
        ({"activation_beta": [0.5]}, r"activation_beta: got \[0.5\] more than"),
        (
            {"activations": ["Sigmoid", "Affine", "Tanh"]},
            "activation_alpha: got none for Affine",
        ),
        (
            {"activations": ["Sigmoid", "ScaledTanh", "Tanh"], "activation_alpha": [1.0]},
            "activation_beta: got none for ScaledTanh",
        ),
        (
            {"activations": ["Sigmoid", "ThresholdedRelu", "Tanh"]},
            "activation_alpha: got none for ThresholdedRelu, whose default is not one everywhere",
        ),
        (
            {"activations": ["Sigmoid", "Elu", "Tanh"], "activation_alpha": [float("inf")]},
            r"activations: got \('elu', inf\), expected finite numbers",
        ),
        ({"direction": "up"}, "direction: got 'up'"),
        ({"layout": 2}, "layout: got 2"),
    ],
)
def test_attributes_that_do_not_fit_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"node 'lstm'.*: {message}"):
        from_onnx(graph(node(**options)))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("s", "z", "Relu")], "does not follow a Gemm"),
        ([node("s b", "z", "Add")], "does not follow a Gemm"),
        ([node("s s", "z", "Add")], "two values that are not an LSTM that reads forwards and"),
        ([node("s s", "z", "Mul")], "two values that are not an LSTM that reads forwards and"),
        ([node("s k", "p", "MatMul"), node("p p", "z", "Add")], "Add of two computed values"),
        ([node("s s", "z", "Concat", axis=2)], "Concat"),
        ([node("s", "z", "Split", axis=0)], "Split of anything but the two directions"),
        ([node("s", "z", "Flatten", axis=2)], "Flatten into another axis"),
        ([node("s one", "z", "ReverseSequence")], "ReverseSequence of some steps only"),
        ([node("s k", "p", "MatMul"), node("p rate", "z", "Mul")], "nor a mean"),
        ([node("s k", "p", "MatMul"), node("p rate", "z", "Div")], "nor a mean"),
        ([node("s wide", "z", "Mul")], r"a product that is not x \* Sigmoid"),
        ([node("k s", "z", "MatMul")], "the constant on the left"),
        ([node("s k_t", "z", "MatMul")], "got weights for 2 features, expected 4"),
        ([node("s k", "p", "MatMul"), node("p wide", "z", "Add")], "a summand of shape"),
        ([node("s k", "p", "MatMul"), node("p b", "q", "Add"), node("q b", "z", "Add")], "summand"),
        ([node("s k", "p", "MatMul"), node("p", "q", "Relu"), node("q", "z", "Tanh")], "follow a"),
        ([node("s k", "p", "MatMul"), node("p", "q", "Relu"), node("q b", "z", "Add")], "follow a"),
        ([node("h one", "z", "Gather")], "index 1 of an axis of size one"),
        ([node("s k b", "z", "Gemm", alpha=2.0)], "alpha, beta or transA"),
        ([node("s k", "p", "MatMul"), node("p", "z", "Elu", alpha=2.0)], "alpha=2.0"),
        ([node("s k", "p", "MatMul"), node("p", "z", "HardSigmoid")], "alpha=0.2"),
        ([node("s k", "p", "MatMul"), node("p", "z", "Softmax", axis=1)], "axis=-2|axis=1"),
        ([node("s k", "p", "MatMul"), node("p", "z", "Gelu", approximate="tanh")], "approximate="),
        ([node("s", "z", "Erf")], "the operator is not supported"),
        ([node("s", "z", "Relu", domain="mine")], "the operator is not supported"),
        ([node("s rate yes", "z", "Dropout")], "training_mode"),
        ([node("s", "z", "Cast", to=10)], "to=10"),
        ([node("table s", "z", "Gather")], "a table that is not for the graph's input"),
        ([node("s two", "z", "Gather")], "Gather of anything but one step"),
        ([node("h h", "hh", "Concat", axis=1), node("hh zero", "z", "Gather")], "Concat"),
        ([node("s zero", "z", "Gather")], "not an LSTM's last"),
        ([node("s scalar", "z", "Gather", axis=1)], "not an LSTM's last"),
        ([node("s zero one zero", "z", "Slice")], "not an LSTM's last"),
        ([node("s one end zero", "z", "Slice")], "Slice of anything but"),
        ([node("s", "z", "Squeeze")], "Squeeze of whatever"),
        ([node("s zero", "z", "Squeeze")], "Squeeze of another axis"),
        ([node("s", "z", "Transpose")], "features last"),
        ([node("s last", "z", "Reshape")], "Reshape that does more"),
        ([node("s flat", "z", "Reshape")], "Reshape that does more"),
        ([node("s mixed", "z", "Reshape")], "Reshape that does more"),
        ([node("s more", "z", "Reshape")], "Reshape that does more"),
        ([node("c zero", "z", "Squeeze")], "the cell state as the output"),
    ],
)
def test_operators_that_are_not_there_yet_are_named(nodes: list[Any], message: str) -> None:
    with pytest.raises((NotImplementedError, ValueError), match=f"model: .*({message})"):
        from_onnx(after(*nodes))


def test_a_reversed_sequence_as_output_is_not_passed_off_as_ours() -> None:
    with pytest.raises(NotImplementedError, match="a reversed LSTM's sequence as output"):
        from_onnx(after(output="s", direction="reverse"))
    flip = node("s last begin zero last", "z", "Slice")
    assert isinstance(from_onnx(after(flip, direction="reverse")), LSTM)


def test_other_outputs_may_be_states_alone() -> None:
    nodes = [node("h c", "hc", "Concat", axis=0), node("s", "r", "Relu")]
    assert isinstance(from_onnx(after(*nodes, output="s hc c")), LSTM)
    with pytest.raises(NotImplementedError, match="output 'r' beside the first"):
        from_onnx(after(*nodes, output="s r"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (graph(output="nothing"), "'nothing' is made by no node"),
        (graph(node(), node()), "two nodes make 'y'"),
        (graph(node("a", "b", "Identity"), node("b", "a", "Identity"), output="a"), "from itself"),
        (graph(node("x", "y", "Identity")), "no LSTM on the way"),
        (graph(rank=2), "other axes than layout=0 takes"),
        (onnx.ModelProto(), "no graph"),
        (b"", "no graph"),
        (b"something else", "cut off, or not an ONNX model|rror parsing"),
    ],
)
def test_graphs_that_do_not_fit(model: Any, message: str) -> None:
    with pytest.raises((ValueError, NotImplementedError), match=f"model: .*({message})"):
        from_onnx(model)


def test_a_source_of_another_type() -> None:
    with pytest.raises(TypeError, match=r"source: got int, expected a path, bytes or an onnx\.Mo"):
        from_onnx(3)
    with pytest.raises(FileNotFoundError):
        from_onnx("/no/such/file.onnx")


def test_a_missing_onnx_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r"need onnx.*pip install 'lstm_ext\[onnx\]'"):
        from_onnx(GOLDEN / "onnx_forward.onnx")


@pytest.mark.parametrize(
    "case", ["torch_new_words", "directions", "quantized", "node_both", "tf2onnx_both"]
)
def test_broken_files_raise_value_errors(tmp_path: Path, case: str) -> None:
    for path in broken_files(GOLDEN / f"onnx_{case}.onnx", tmp_path, flips=400):
        try:
            from_onnx(path)
        except (ValueError, NotImplementedError):
            continue


def tampered(change: Callable[[Any], Any]) -> Any:
    model = graph()
    change(next(tensor for tensor in model.graph.initializer if tensor.name == "W"))
    return model


def external(tensor: Any, **entries: Any) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tampered(lambda t: t.dims.__setitem__(1, 2**60)), "has 192 bytes|W of shape"),
        (tampered(lambda t: t.dims.__setitem__(1, -16)), r"W has shape \(1, -16, 3\)"),
        (tampered(lambda t: t.dims.extend([2] * 70)), "W of shape"),
        (tampered(lambda t: setattr(t, "raw_data", b"1234")), "W of shape .* has 4 bytes"),
        (tampered(lambda t: setattr(t, "data_type", 8)), "W has elements of type 8"),
        (tampered(lambda t: t.ClearField("raw_data")), "reshape|W"),
    ],
)
def test_tensors_that_are_not_what_they_declare(model: Any, message: str) -> None:
    tracemalloc.start()
    with pytest.raises((ValueError, NotImplementedError), match=f"model: .*({message})"):
        from_onnx(model)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_shapes_that_grow_without_end() -> None:
    """Each Concat doubles what the one before has; only a few numbers are ever looked at."""
    nodes = [node("x", "n0", "Shape")]
    nodes += [node(f"n{i} n{i}", f"n{i + 1}", "Concat", axis=0) for i in range(60)]
    with pytest.raises(NotImplementedError, match="computed at length"):
        from_onnx(graph(*nodes, node(), node("y n60", "z", "Reshape"), output="z"))


def test_data_in_files_beside_the_model(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save(graph(), path, save_as_external_data=True, location="data", size_threshold=0)
    assert (folder / "data").stat().st_size > 400
    assert_same_model(from_onnx(path), from_onnx(graph()))
    with pytest.raises(
        ValueError, match=r"[WR] has its data in 'data'; expected the model by its path"
    ):
        from_onnx(path.read_bytes())


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "../secret"}, "outside the model's folder"),
        ({"location": "/etc/passwd"}, "outside the model's folder"),
        ({"location": "link"}, "outside the model's folder"),
        ({"location": ""}, "outside the model's folder|which is no file"),
        ({"location": "missing"}, "which is no file"),
        ({"location": "short"}, "takes 192 bytes, which 'short' does not have there"),
        ({"location": "data", "offset": 100}, "does not have there"),
        ({"location": "data", "offset": -1}, "does not have there"),
        ({"location": "data", "length": 2**60}, "does not have there"),
        ({"location": "data", "offset": "x"}, "invalid literal"),
    ],
)
def test_data_elsewhere_are_refused(tmp_path: Path, entries: dict[str, Any], message: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for path, size in ((tmp_path / "secret", 400), (folder / "data", 200), (folder / "short", 9)):
        path.write_bytes(bytes(size))
    (folder / "link").symlink_to(tmp_path / "secret")
    path = folder / "model.onnx"
    path.write_bytes(tampered(lambda t: external(t, **entries)).SerializeToString())
    with pytest.raises(ValueError, match=message):
        from_onnx(path)
