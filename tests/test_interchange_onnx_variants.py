"""All that ONNX's LSTM can have: recorded nodes, every way to lose a part, and back."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from interchange_support import (
    GOLDEN,
    Comparison,
    assert_same_model,
    layers_of,
    lstms_of,
    run_bidirectional,
    run_lstm,
    wrong_models,
)
from lstm_ext import (
    LSTM,
    Bidirectional,
    Embedding,
    Input,
    Masking,
    Sequential,
    from_onnx,
    reference,
)
from lstm_ext import to_onnx as written
from onnx_support import node_inputs_as_constants
from support import Array, rms_error

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

NODES = ["node_both", "node_forward", "node_reverse"]


def golden_node(case: str) -> tuple[Any, dict[str, Any], list[Array]]:
    """Return a layer, what to call it with, and what ONNX Runtime computed as ours has it."""
    layer: Any = from_onnx(GOLDEN / f"onnx_{case}.onnx", node="lstm")
    with np.load(GOLDEN / "onnx_variants.npz") as file:
        given = {n: file[f"{case}/{n}"] for n in ("x", "lens", "h0", "c0", "y", "h", "c")}
    call = {
        "x": given["x"].swapaxes(0, 1),
        "lengths": given["lens"],
        "initial_state": pairs(given["h0"], given["c0"]),
    }
    y = np.concatenate(list(given["y"].transpose(1, 2, 0, 3)), axis=-1)
    reverse = isinstance(layer, LSTM) and layer.go_backwards
    return layer, call, [y[:, ::-1] if reverse else y, *pairs(given["h"], given["c"])]


def pairs(h: Array, c: Array) -> list[Array]:
    return [state for pair in zip(h, c, strict=True) for state in pair]


def compare(layer: Any, call: dict[str, Any], expected: list[Array]) -> None:
    """Assert that a node computes what is expected: sequences and last states."""
    for inner in (layer, *layer.inner_layers):
        inner.return_state = True
    options = {name: value for name, value in call.items() if name != "x"}
    actual = layer(call["x"], **options)
    run = run_bidirectional if isinstance(layer, Bidirectional) else run_lstm
    plain, exact = (
        run(layer, call["x"], dtype, reference.lstm, **options)
        for dtype in (np.float32, np.float64)
    )
    comparison = Comparison()
    for results in zip(actual, plain, exact, expected, strict=True):
        comparison.add_single(*results)
    comparison.finish()


@pytest.mark.parametrize("case", NODES)
def test_computes_what_the_runtime_computed(case: str) -> None:
    compare(*golden_node(case))


@pytest.mark.parametrize("case", NODES)
def test_nothing_wrong_computes_it(case: str) -> None:
    """Gates, peepholes, directions, cells, and what a call is given."""
    layer, call, expected = golden_node(case)
    names = []
    for name, wrong in wrong_models(layer):
        names.append(name)
        with pytest.raises(AssertionError):
            compare(wrong, call, expected)
            pytest.fail(name)
    parts = {
        "node_both": {"activation", "recurrent_activation", "output_activation", "clip"},
        "node_forward": {"clip"},
        "node_reverse": {
            "activation", "recurrent_activation", "output_activation", "input_forget",
        },
    }[case]  # fmt: skip
    found = {name.split()[1] for name in names if name.startswith("without")}
    assert parts | {"peephole", "bias"} <= found
    assert sum(name.startswith("peepholes") for name in names) == 5
    for changed in (
        {"lengths": None},
        {"lengths": call["lengths"][::-1]},
        {"initial_state": None},
        {"initial_state": [s if i % 2 else 0 * s for i, s in enumerate(call["initial_state"])]},
        {"initial_state": [0 * s if i % 2 else s for i, s in enumerate(call["initial_state"])]},
        {"initial_state": [s[::-1] for s in call["initial_state"]]},
    ):
        with pytest.raises(AssertionError):
            compare(layer, {**call, **changed}, expected)
            pytest.fail(str(changed))


def test_a_sequence_without_a_step_ends_with_zeros_in_the_runtime() -> None:
    """Ours keeps the state that it is given; a reset there is what the runtime does."""
    layer, call, _ = golden_node("node_forward")
    layer.return_state = True
    lengths = call["lengths"].copy()
    lengths[2] = 0
    options = {"initial_state": call["initial_state"], "lengths": lengths}
    _, h, c = layer(call["x"], **options)
    np.testing.assert_array_equal(h[2], call["initial_state"][0][2])
    reset = np.repeat(lengths[:, None] == 0, call["x"].shape[1], axis=1)
    output, h_reset, c_reset = layer(call["x"], **options, reset=reset)
    assert not (output[2].any() or h_reset[2].any() or c_reset[2].any())
    others = lengths > 0
    np.testing.assert_array_equal(h_reset[others], h[others])
    np.testing.assert_array_equal(c_reset[others], c[others])


# ---- ONNX's own tests ----


def cases_of_onnx() -> dict[str, Any]:
    """Return the cases of LSTM that onnx makes for backends."""
    node = pytest.importorskip("onnx.backend.test.case.node", reason="onnx has no tests")
    importlib.import_module("onnx.backend.test.case.node.lstm")  # makes them
    found = {case.name: case for case in node._NodeTestCases}
    return {name: case for name, case in found.items() if name.startswith("test_lstm_")}


CASES_OF_ONNX = cases_of_onnx()


def test_cases_of_onnx_are_there() -> None:
    names = {"defaults", "with_initial_bias", "with_peepholes", "batchwise"}
    assert {f"test_lstm_{name}" for name in names} <= CASES_OF_ONNX.keys()


@pytest.mark.parametrize("name", CASES_OF_ONNX)
@pytest.mark.filterwarnings("ignore")
def test_cases_of_onnx(name: str) -> None:
    """The graph as it is gives its first output, and the node by itself all of them."""
    case = CASES_OF_ONNX[name]
    inputs, outputs = case.data_sets[0]
    node = case.model.graph.node[0]
    model = node_inputs_as_constants(case.model, inputs)
    whole, layer = from_onnx(model), from_onnx(model, node=node.output[1])
    batch_first = name == "test_lstm_batchwise"
    x = inputs[0] if batch_first else inputs[0].swapaxes(0, 1)
    assert isinstance(layer, Bidirectional) == (name == "test_lstm_bidirectional")
    assert lstms_of(layer)[0].peepholes == (name == "test_lstm_with_peepholes")
    assert lstms_of(layer)[0].go_backwards == (name == "test_lstm_reverse")
    expected: dict[str, Array] = {}
    for output, array in zip(filter(None, node.output), outputs, strict=True):
        expected[output] = array.astype(np.float32)
        if batch_first:  # as without layout=1
            expected[output] = np.moveaxis(array, 0, -2)
    h, c = expected["Y_h"], expected.get("Y_c")
    run = run_bidirectional if isinstance(layer, Bidirectional) else run_lstm
    for inner in (layer, *layer.inner_layers):
        inner.return_state = True
    results = [layer(x), *(run(layer, x, d, reference.lstm) for d in (np.float32, np.float64))]
    comparison = Comparison()
    for index in range(len(h)):
        comparison.add_single(*(r[1 + 2 * index] for r in results), h[index])
        if c is not None:
            comparison.add_single(*(r[2 + 2 * index] for r in results), c[index])
    output = np.concatenate(list(h), axis=-1)
    if "Y" in expected:
        output = expected["Y"][:, 0].swapaxes(0, 1)
        comparison.add_single(*(r[0] for r in results), output)
    comparison.add(whole, x, output)
    comparison.finish()


# ---- small weights ----


def test_small_weights_of_both_directions() -> None:
    path = GOLDEN / "onnx_quantized_both_ways.onnx"
    with np.load(GOLDEN / "onnx_variants.npz") as file:
        x, small = file["quantized_both_ways/x"], file["quantized_both_ways/small"]
        full = file["both_ways/output"]
    layer = from_onnx(path)
    assert isinstance(layer, Bidirectional) and layer.forward_layer.weights_dtype == "float32"
    stored = from_onnx(path, weights_dtype="int8")
    assert [inner.weights_dtype for inner in lstms_of(stored)] == ["int8", "int8"]
    # Like the runtime, int8 also rounds x and h: all that its outputs differ by.
    assert 0 < rms_error([layer(x)], [small]) < 0.2 * rms_error([full], [0 * full])
    assert 0 < rms_error([stored(x)], [small]) < 0.2 * rms_error([full], [0 * full])
    assert not np.array_equal(stored(x), layer(x))
    assert from_onnx(path, "lstm_quant", weights_dtype="bfloat16").forward_layer.weights_dtype == (
        "bfloat16"
    )
    with pytest.raises(ValueError, match="weights_dtype: got 'int4'"):
        from_onnx(path, weights_dtype="int4")


# ---- there and back ----


LAYERS: dict[str, Any] = {
    "peepholes": lambda dtype: LSTM(4, peepholes=True, dtype=dtype, return_sequences=True),
    "clip": lambda dtype: LSTM(4, clip=1.25, input_forget=True, dtype=dtype),
    "activations": lambda dtype: LSTM(
        4, ("elu", 0.7), ("hard_sigmoid", 0.3, 0.4), output_activation="linear", dtype=dtype
    ),
    "names": lambda dtype: LSTM(4, "leaky_relu", "hard_sigmoid", dtype=dtype),
    "both ways": lambda dtype: Bidirectional(
        LSTM(4, peepholes=True, clip=0.5, return_sequences=True, dtype=dtype), name="both"
    ),
    "last states": lambda dtype: Bidirectional(LSTM(4, use_bias=False, dtype=dtype), "mul"),
    "six activations": lambda dtype: Bidirectional(
        LSTM(4, "softsign", ("scaled_tanh", 1.5, 0.5), dtype=dtype),
        "ave",
        backward_layer=LSTM(4, "softplus", go_backwards=True, dtype=dtype),
    ),
    "two kinds": lambda dtype: Bidirectional(
        LSTM(4, clip=2.0, return_sequences=True, dtype=dtype),
        backward_layer=LSTM(
            3, peepholes=True, go_backwards=True, return_sequences=True, dtype=dtype
        ),
        name="two",
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_there_and_back_bit_for_bit(name: str, dtype: str) -> None:
    layer = LAYERS[name](dtype)
    layer.build((None, None, 3))
    rng = np.random.default_rng(8)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
    proto = written(layer)
    onnx.checker.check_model(proto, full_check=True)
    again = from_onnx(proto)
    assert_same_model(again, layer)
    assert again.name == layer.name
    x = rng.normal(size=(2, 5, 3))
    np.testing.assert_array_equal(again(x), layer(x))


def test_zero_peepholes_stay() -> None:
    layer = LSTM(3, peepholes=True)
    layer.build((None, None, 2))
    again = from_onnx(written(layer))
    assert isinstance(again, LSTM) and again.peepholes


@pytest.mark.parametrize("sequences", [False, True])
def test_several_layers_become_several_nodes(sequences: bool) -> None:
    layer = LSTM(4, num_layers=3, go_backwards=True, peepholes=True, return_sequences=sequences)
    layer.build((None, None, 3))
    again = from_onnx(written(layer))
    assert isinstance(again, Sequential) and [a.go_backwards for a in layers_of(again)] == [
        True, False, False,
    ]  # fmt: skip
    x = np.random.default_rng(0).normal(size=(2, 5, 3))
    np.testing.assert_array_equal(again(x), layer(x))


def test_lengths_are_an_input_when_asked_for() -> None:
    layer = LSTM(4, return_sequences=True, zero_output_for_mask=True)
    layer.build((None, None, 3))
    proto = written(layer, sequence_lens=True)
    onnx.checker.check_model(proto, full_check=True)
    assert "sequence_lens" in [value.name for value in proto.graph.input]
    again = from_onnx(proto)
    assert_same_model(again, layer)
    x, lengths = np.random.default_rng(0).normal(size=(3, 5, 3)), np.array([5, 0, 2])
    output = again(x, lengths=lengths)
    np.testing.assert_array_equal(output, layer(x, lengths=lengths))
    assert not output[2, 2:].any() and not output[1].any()


def built(layer: Any) -> Any:
    layer.build((None, None, 3))
    return layer


BOTH = Bidirectional(LSTM(3, return_sequences=True), None)
TURNED = Bidirectional(LSTM(3, go_backwards=True), backward_layer=LSTM(3))
WORDS = Sequential([Input((None,)), Embedding(5, 3, mask_zero=True), LSTM(3)])


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (LSTM(3, proj_size=2), {}, "proj_size=2, which ONNX's LSTM does not have"),
        (LSTM(3, cell_clip=2.0), {}, "cell_clip=2.0, which ONNX's LSTM does not have"),
        (LSTM(3, layer_norm=True), {}, "layer_norm=True, which ONNX's LSTM does not have"),
        (LSTM(3, zoneout=0.1), {}, "zoneout=0.1, which ONNX's LSTM does not have"),
        (LSTM(3, cell_zoneout=0.1), {}, "cell_zoneout=0.1, which ONNX's LSTM does not have"),
        (LSTM(3, "selu"), {}, "got the activation 'selu', which ONNX's LSTM does not have"),
        (LSTM(3, "gelu"), {}, "got the activation 'gelu', which ONNX's LSTM does not have"),
        (LSTM(3, output_activation="silu"), {}, "got the activation 'silu'"),
        (Bidirectional(LSTM(3, proj_size=2)), {}, "proj_size=2, which ONNX's"),
        (BOTH, {}, "merge_mode=None, expected one output alone"),
        (TURNED, {}, "a first layer with go_backwards"),
        (LSTM(3, clip=1 / 3, dtype="float64"), {}, "for clip, of which ONNX keeps but float32's"),
        (
            LSTM(3, ("elu", 1 / 3), dtype="float64"),
            {},
            "for the numbers of .*, of which ONNX keeps but float32's",
        ),
        (
            LSTM(3, return_sequences=True),
            {"sequence_lens": True},
            "zero_output_for_mask=False beside sequence_lens, expected True",
        ),
        (
            LSTM(3, zero_output_for_mask=True),
            {"sequence_lens": True},
            "zero_output_for_mask=True beside sequence_lens, expected False",
        ),
        (
            LSTM(3, num_layers=2, go_backwards=True),
            {"sequence_lens": True},
            "go_backwards with num_layers=2 beside sequence_lens",
        ),
        (Sequential([Masking(), LSTM(3)]), {}, "a layer that masks steps, which ONNX does not"),
        (WORDS, {}, "a layer that masks steps, which ONNX does not"),
    ],
)
def test_what_onnx_does_not_have_is_named(
    model: Any, options: dict[str, Any], message: str, tmp_path: Any
) -> None:
    if not model.built:
        built(model)
    with pytest.raises(ValueError, match=message):
        written(model, tmp_path / "model.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_a_half_of_float32_is_exact_enough_for_float32() -> None:
    layer = built(LSTM(3, ("elu", 1 / 3), clip=1 / 3))
    again = from_onnx(written(layer))
    x = np.random.default_rng(0).normal(size=(2, 5, 3))
    np.testing.assert_array_equal(again(x), layer(x))


def test_what_acts_in_training_alone_is_left_with_a_warning() -> None:
    layer = built(LSTM(3, dropout=0.5))
    with pytest.warns(UserWarning, match=r"dropout=0.5 acts in training alone; ONNX does not keep"):
        written(layer)
    with pytest.warns(UserWarning, match=r"recurrent_dropout=0.5 acts in training alone"):
        written(built(Bidirectional(LSTM(3, recurrent_dropout=0.5))))
