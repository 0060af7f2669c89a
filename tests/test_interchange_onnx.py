"""ONNX: what torch and ONNX Runtime recorded, every way to be wrong, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interchange_support import (
    GOLDEN,
    Model,
    assert_computes,
    assert_same_model,
    count_wrong_models,
    layers_of,
)
from lstm_ext import (
    LSTM,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Input,
    Sequential,
    activations,
    from_onnx,
    to_onnx,
)
from onnx_support import ACTIVATIONS, UNITS, after, constant, graph, node, weights
from support import Array, rms_error

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

FILES = [path.stem.removeprefix("onnx_") for path in sorted(GOLDEN.glob("onnx_*.onnx"))]
# Nodes that are given more than x are in test_interchange_onnx_variants.py.
CASES = [name for name in FILES if not name.startswith(("node_", "quantized_both"))]


def golden(case: str) -> tuple[Model, Array, Array]:
    for store in ("onnx.npz", "onnx_variants.npz"):
        with np.load(GOLDEN / store) as file:
            if f"{case}/output" in file:
                x, output = file[f"{case}/x"], file[f"{case}/output"]
    return from_onnx(GOLDEN / f"onnx_{case}.onnx"), x, output


def test_golden_files_are_there() -> None:
    assert (len(FILES), len(CASES)) == (16, 12)


@pytest.mark.parametrize("case", CASES)
def test_computes_what_was_computed(case: str) -> None:
    assert_computes(*golden(case))


# How often weights of two layers, directions or kernels can be taken for one another.
SWAPPED = {
    "both_ways": 2, "directions": 4, "forward": 1, "quantized": 1, "quantized_by_channel": 1,
    "tf2onnx_both": 11, "torch_new_both": 6, "torch_new_words": 2, "torch_old_both": 6,
    "torch_old_words": 2,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_nothing_wrong_computes_what_was_computed(case: str) -> None:
    model, x, output = golden(case)
    count = count_wrong_models(model, x, output)
    assert count["gates"] == 23
    assert count["swapped"] == SWAPPED.get(case, 0)
    assert count["merged"] == 3 * sum(isinstance(a, Bidirectional) for a in layers_of(model))
    for layer in layers_of(model):
        if isinstance(layer, LSTM):
            layer.go_backwards = not layer.go_backwards
            with pytest.raises(AssertionError):
                assert_computes(model, x, output)
            layer.go_backwards = not layer.go_backwards


def test_directions_come_together_as_layers() -> None:
    layers = layers_of(golden("tf2onnx_both")[0])
    assert [type(layer) for layer in layers] == [LSTM, Bidirectional, Bidirectional]
    assert layers[0].go_backwards
    assert [layer.merge_mode for layer in layers[1:]] == ["sum", "ave"]
    assert [layer.return_sequences for layer in layers] == [True, True, False]
    for kind in ("old", "new"):
        layers = layers_of(golden(f"torch_{kind}_both")[0])
        assert [type(layer) for layer in layers] == [Bidirectional, Bidirectional]
        assert [layer.return_sequences for layer in layers] == [True, False]


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
        [node("x W R B - zeros zeros")],
        [node("zeros zeros", "z", "Concat", axis=1), node("x W R B - z z")],
        [node("shape", "s", "ConstantOfShape"), node("x W R B - s s")],
        [node("x", "x1", "Identity"), node("x1 W R B", "y", activations=["Sigmoid", "Tanh", "tanh"], input_forget=0)],  # noqa: E501
        [node("x", "x1", "Transpose", perm=[1, 0, 2]), node("x1 W R B", "y", layout=1)],
        [node("x", "x1", "Cast", to=1), node("x1 W R B")],
    ],
)  # fmt: skip
def test_what_changes_nothing(nodes: list[Any]) -> None:
    constants = {
        "zeros": np.zeros((1, 1, UNITS), np.float32), "shape": np.array([1, 1, UNITS]),
    }  # fmt: skip
    layer = from_onnx(graph(*nodes, constants=constants, inputs=("h0", "c0")))
    expected = from_onnx(graph(node("x W R B" if "B" in nodes[-1].input else "x W R")))
    assert_same_model(layer, expected)


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
