"""ONNX: what torch and ONNX Runtime recorded, every way to be wrong, and models that are."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interchange_support import (
    GOLDEN,
    Comparison,
    Model,
    assert_computes,
    assert_same_model,
    broken_files,
    layers_of,
    wrong_models,
)
from lstm_ext import (
    LSTM,
    Dense,
    Dropout,
    Embedding,
    Input,
    Sequential,
    activations,
    from_onnx,
    reference,
    to_onnx,
)
from support import Array, assert_as_accurate, rms_error

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

CASES = [path.stem.removeprefix("onnx_") for path in sorted(GOLDEN.glob("onnx_*.onnx"))]


def golden(case: str) -> tuple[Model, Array, Array]:
    with np.load(GOLDEN / "onnx.npz") as file:
        x, output = file[f"{case}/x"], file[f"{case}/output"]
    return from_onnx(GOLDEN / f"onnx_{case}.onnx"), x, output


def test_golden_files_are_there() -> None:
    assert len(CASES) == 8


@pytest.mark.parametrize("case", CASES)
def test_computes_what_was_computed(case: str) -> None:
    assert_computes(*golden(case))


@pytest.mark.parametrize("case", CASES)
def test_nothing_wrong_computes_what_was_computed(case: str) -> None:
    model, x, output = golden(case)
    count = 0
    for name, wrong in wrong_models(model):
        count += 1
        with pytest.raises(AssertionError):
            assert_computes(wrong, x, output)
            pytest.fail(name)
    assert count >= {"directions": 29, "torch_new_words": 27, "torch_old_words": 27}.get(case, 24)
    for layer in layers_of(model):
        if isinstance(layer, LSTM):
            layer.go_backwards = not layer.go_backwards
            with pytest.raises(AssertionError):
                assert_computes(model, x, output)
            layer.go_backwards = not layer.go_backwards


def test_directions_are_those_of_steps() -> None:
    """A reversed LSTM goes backwards and so does one that reads its steps in the order of time."""
    model = golden("directions")[0]
    assert [layer.go_backwards for layer in layers_of(model)] == [True, True, True]
    assert [layer.return_sequences for layer in layers_of(model)] == [True, True, False]
    assert [layer.name for layer in layers_of(model)] == ["back", "again", "last"]


def test_words_become_an_embedding_and_a_softmax() -> None:
    for kind in ("old", "new"):
        layers = layers_of(golden(f"torch_{kind}_words")[0])
        assert [type(layer) for layer in layers] == [Embedding, LSTM, LSTM, Dense]
        assert [layer.return_sequences for layer in layers[1:3]] == [True, False]
        assert layers[3].activation.name == "softmax"


@pytest.mark.parametrize("case", ["quantized", "quantized_by_channel"])
def test_small_weights_become_floats(case: str) -> None:
    """The runtime also rounds x and h; that is all that its outputs differ by."""
    model, x, _ = golden(case)
    with np.load(GOLDEN / "onnx.npz") as file:
        small = file[f"{case}/small"]
        full = file["forward/output"]
    assert 0 < rms_error([model(x)], [small]) < 0.1 * rms_error([full], [small])
    assert isinstance(model, LSTM) and model.weights_dtype == "float32"


# ---- nodes and graphs ----

SIZE, UNITS = 3, 4


def weights(dtype: Any = np.float32, **replaced: Any) -> dict[str, Array]:
    rng = np.random.default_rng(4)
    shapes = {"W": (1, 4 * UNITS, SIZE), "R": (1, 4 * UNITS, UNITS), "B": (1, 8 * UNITS)}
    arrays = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    return arrays | replaced


def node(inputs: str = "x W R B", outputs: str = "y", kind: str = "LSTM", **options: Any) -> Any:
    """Return a node; "-" leaves an input or an output out."""
    names = [[n if n != "-" else "" for n in text.split()] for text in (inputs, outputs)]
    if kind == "LSTM":
        options = {"hidden_size": UNITS, "name": "lstm", **options}
    return helper.make_node(kind, *names, **options)


def graph(
    *nodes: Any,
    constants: dict[str, Array] | None = None,
    output: str = "y",
    inputs: tuple[str, ...] = (),
    rank: int = 3,
) -> Any:
    """Return the model of nodes that begins with an LSTM's weights and x (T, B, size)."""
    arrays = {
        **weights(), "one": np.array([1]), "zero": np.array([0]), **(constants or {}),
    }  # fmt: skip
    shapes = {"x": ["t", "b", SIZE][:rank], **{name: [1, "b", UNITS] for name in inputs}}
    float32 = onnx.TensorProto.FLOAT
    proto = helper.make_graph(
        nodes or [node()],
        "test",
        [helper.make_tensor_value_info(name, float32, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(name, float32, None) for name in output.split()],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 20)])


def test_one_lstm_is_a_layer() -> None:
    layer = from_onnx(graph())
    assert isinstance(layer, LSTM) and layer.name == "lstm" and layer.return_sequences
    w, r, b = weights().values()
    i, o, f, c = range(4)
    for ours, theirs in ((layer.kernel, w[0]), (layer.recurrent_kernel, r[0])):
        gates = np.split(theirs, 4)
        np.testing.assert_array_equal(ours, np.concatenate([gates[k] for k in (i, f, c, o)]).T)
    gates = np.split(b[0, : 4 * UNITS] + b[0, 4 * UNITS :], 4)
    np.testing.assert_array_equal(layer.bias, np.concatenate([gates[k] for k in (i, f, c, o)]))


@pytest.mark.parametrize("source", [bytes, onnx.ModelProto, str, Path])
def test_sources(source: Any, tmp_path: Path) -> None:
    model, path = graph(), tmp_path / "model.onnx"
    onnx.save(model, path)
    given = {bytes: path.read_bytes(), onnx.ModelProto: model}.get(source) or source(path)
    assert_same_model(from_onnx(given), from_onnx(model))


def test_a_node_by_its_name_whatever_stands_around_it() -> None:
    nodes = [
        node("x", "e", "Erf"), node("e W R B", "y h c", direction="reverse"),
        node("y", "z", "Erf"),
    ]  # fmt: skip
    model = graph(*nodes, output="z")
    for name in ("lstm", "h"):
        layer = from_onnx(model, node=name)
        assert isinstance(layer, LSTM) and layer.go_backwards and layer.return_sequences
    with pytest.raises(ValueError, match="node: got 'Erf', expected one of its LSTMs: 'lstm'"):
        from_onnx(model, node="Erf")
    with pytest.raises(NotImplementedError, match=r"'e' \(Erf\): the operator is not supported"):
        from_onnx(model)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("x W R - - h0 c0")],
        [node("x W R B - zeros zeros zeros3")],
        [node("shape", "s", "ConstantOfShape"), node("x W R B - s s")],
        [node("x", "x1", "Identity"), node("x1 W R B", "y", activations=["Sigmoid", "Tanh", "tanh"])],  # noqa: E501
        [node("x", "x1", "Transpose", perm=[1, 0, 2]), node("x1 W R B", "y", layout=1)],
        [node("x", "x1", "Cast", to=1), node("x1 W R B")],
    ],
)  # fmt: skip
def test_what_changes_nothing(nodes: list[Any]) -> None:
    constants = {
        "zeros": np.zeros((1, 1, UNITS), np.float32), "shape": np.array([1, 1, UNITS]),
        "zeros3": np.zeros((1, 3 * UNITS), np.float32),
    }  # fmt: skip
    layer = from_onnx(graph(*nodes, constants=constants, inputs=("h0", "c0")))
    expected = from_onnx(graph(node("x W R B" if "B" in nodes[-1].input else "x W R")))
    assert_same_model(layer, expected)


@pytest.mark.parametrize(
    ("lstm", "message"),
    [
        (node(direction="bidirectional"), "direction='bidirectional'"),
        (node(activations=["Sigmoid", "Relu", "Tanh"]), "activations="),
        (node(activations=["Tanh"]), "activations="),
        (node(clip=3.0), "clip=3.0"),
        (node(clip=0.0), "clip=0.0"),
        (node(activation_alpha=[0.5]), "activation_alpha="),
        (node(activation_beta=[0.5]), "activation_beta="),
        (node(input_forget=1), "input_forget=1"),
        (node(output_sequence=1), "attribute output_sequence"),
        (node("x W R B one"), "sequence_lens"),
        (node("x W R B - R"), "initial_h is neither zeros nor an input"),
        (node("x W R B - - R"), "initial_c is neither zeros nor an input"),
        (node("x W R B - x"), "initial_h is neither zeros nor an input"),
        (node("x W R B - - - R"), "P, peepholes"),
        (node("x W h0 B"), "R is computed in the graph"),
        (node("x h0 R B"), "W is computed in the graph"),
    ],
)
def test_features_that_are_not_there_yet_are_named(lstm: Any, message: str) -> None:
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
        ({"R": np.ones((1, 16, 3), np.float32)}, r"R: got shape \(16, 3\)"),
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
        ({"direction": "up"}, "direction: got 'up'"),
        ({"layout": 2}, "layout: got 2"),
    ],
)
def test_attributes_that_do_not_fit_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"node 'lstm'.*: {message}"):
        from_onnx(graph(node(**options)))


def after(*nodes: Any, output: str = "z", **options: Any) -> Any:
    """Return the model of an LSTM's sequence "s" (T, B, H) and nodes that take it."""
    squeeze = node("y one", "s", "Squeeze")
    rng = np.random.default_rng(6)
    constants = {
        "k": rng.normal(size=(UNITS, 2)), "k_t": rng.normal(size=(2, UNITS)), "b": np.ones(2),
        "wide": np.ones(UNITS), "last": np.array([-1]), "scalar": np.array(-1),
        "end": np.array([2**40]), "begin": np.array([-(2**40)]), "rate": np.array(0.25),
        "yes": np.array(True), "table": np.ones((9, 2)), "two": np.array([0, 1]),
        "flat": np.array([-1, 4]), "mixed": np.array([0, -1, 2]), "more": np.array([0, 0, 0, 2]),
    }  # fmt: skip
    constants = {
        name: array.astype(np.float32) if array.dtype == np.float64 else array
        for name, array in constants.items()
    }
    lstm = node("x W R B", "y h c", **options)
    return graph(lstm, squeeze, *nodes, constants=constants, output=output)


def test_products_sums_and_activations_become_one_dense() -> None:
    nodes = [
        node("s k", "p", "MatMul"), node("b p", "q", "Add"), node("q", "g", "Sigmoid"),
        node("q g", "z", "Mul"),
    ]  # fmt: skip
    model = from_onnx(after(*nodes))
    dense = layers_of(model)[1]
    assert dense.kernel.shape == (UNITS, 2) and dense.use_bias and dense.activation.name == "silu"
    take = [node("s last zero", "t", "Gather", axis=0), node("t zero", "u", "Squeeze")]
    gemm = node("u k_t b", "p", "Gemm", transB=1)
    model = after(*take, gemm, node("p rate", "q", "Dropout"), output="q")
    lstm, dense, dropout = layers_of(from_onnx(model))
    assert not lstm.return_sequences and isinstance(dropout, Dropout) and dropout.rate == 0.25
    np.testing.assert_array_equal(dense.kernel, constant(model, "k_t").T)
    model = after(*take, node("u k", "p", "Gemm"), output="p")
    dense = layers_of(from_onnx(model))[1]
    assert not dense.use_bias
    np.testing.assert_array_equal(dense.kernel, constant(model, "k"))


def constant(model: Any, name: str) -> Array:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    return numpy_helper.to_array(tensors[name])


@pytest.mark.parametrize(
    ("direction", "nodes"),
    [
        ("forward", [node("s scalar", "z", "Gather", axis=0)]),
        ("forward", [node("s last end zero", "z", "Slice")]),
        ("forward", [node("h zero", "z", "Squeeze")]),
        ("forward", [node("h scalar", "z", "Gather", axis=0)]),
        ("forward", [node("h h", "hh", "Concat", axis=0), node("hh scalar", "z", "Gather")]),
        ("reverse", [node("s zero", "z", "Gather", axis=0)]),
        ("reverse", [node("s zero one zero", "z", "Slice")]),
        ("reverse", [node("h zero", "z", "Squeeze")]),
        ("reverse", [node("s last begin zero last", "r", "Slice"), node("r last", "z", "Gather")]),
    ],
)
def test_the_last_step_alone(direction: str, nodes: list[Any]) -> None:
    model = from_onnx(after(*nodes, direction=direction))
    assert isinstance(model, LSTM) and not model.return_sequences
    assert model.go_backwards == (direction == "reverse")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("s", "z", "Relu")], "does not follow a Gemm"),
        ([node("s b", "z", "Add")], "does not follow a Gemm"),
        ([node("s s", "z", "Add")], "Add of two computed values"),
        ([node("s s", "z", "Mul")], "Mul of two computed values"),
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


# ---- hostile models ----


@pytest.mark.parametrize("case", ["torch_new_words", "directions", "quantized"])
def test_broken_files_raise_value_errors(tmp_path: Path, case: str) -> None:
    for path in broken_files(GOLDEN / f"onnx_{case}.onnx", tmp_path, flips=1000):
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


# ---- written models ----

ACTIVATIONS = [
    "elu", "exponential", "gelu", "hard_sigmoid", "leaky_relu", "relu", "selu", "sigmoid", "silu",
    "softmax", "softplus", "softsign", "tanh", None,
]  # fmt: skip


def every_layer(dtype: str = "float32") -> Sequential:
    denses = [
        Dense(4, name, use_bias=name != "relu", dtype=dtype, bias_initializer="normal")
        for name in ACTIVATIONS
    ]
    return Sequential(
        [
            Input((None,), dtype="int32"),
            Embedding(9, 4, dtype=dtype),
            LSTM(5, return_sequences=True, go_backwards=True, dtype=dtype),
            Dropout(0.25, dtype=dtype),
            *denses,
            LSTM(4, return_sequences=True, use_bias=False, dtype=dtype),
            LSTM(3, go_backwards=True, dtype=dtype, name="last"),
            Dense(2, dtype=dtype),
        ]
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_there_and_back_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    model = every_layer(dtype)
    bias = model.layers[1].bias.copy()
    bias[:2] = [-0.0, 0.0]
    model.layers[1].bias = bias
    proto = to_onnx(model, tmp_path / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    for source in (proto, tmp_path / "model.onnx"):
        again = from_onnx(source)
        assert_same_model(again, model)
        assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    x = np.arange(12).reshape(3, 4) % 9
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_a_layer_there_and_back(return_sequences: bool, go_backwards: bool) -> None:
    layer = LSTM(4, return_sequences=return_sequences, go_backwards=go_backwards)
    layer.build((None, None, 3))
    proto = to_onnx(layer)
    onnx.checker.check_model(proto, full_check=True)
    assert_same_model(from_onnx(proto), layer)


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match="is not built"):
        to_onnx(LSTM(3), path)
    with pytest.raises(ValueError, match="has no LSTM"):
        to_onnx(Sequential([Dense(2, input_shape=(3,))]), path)
    with pytest.raises(ValueError, match="got layers of float32 and float64, expected one dtype"):
        to_onnx(Sequential([LSTM(3, input_shape=(2, 2)), Dense(2, dtype="float64")]), path)
    own = activations.Activation("relu", np.abs, lambda z, y, dy: dy * np.sign(z))
    with pytest.raises(ValueError, match="has no name here"):
        to_onnx(Sequential([LSTM(3, input_shape=(2, 2)), Dense(2, own)]), path)
    with pytest.raises(TypeError, match="to_onnx: got int"):
        to_onnx(3, path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


# ---- with ONNX Runtime itself ----


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
