"""What exporters make of both directions of an LSTM and of lengths, and what is not ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_ext import LSTM, Bidirectional, from_onnx
from onnx_support import UNITS, graph, node

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

# ---- both directions ----


def two_ways(*nodes: Any, lstm: dict[str, Any] | None = None, output: str = "z") -> Any:
    """Return the model of an LSTM that reads both ways, with nodes that take y and h."""
    rng = np.random.default_rng(7)
    constants = {
        "W": rng.normal(size=(2, 4 * UNITS, 3)), "R": rng.normal(size=(2, 4 * UNITS, UNITS)),
        "B": rng.normal(size=(2, 8 * UNITS)), "half": np.array(0.5), "two": np.array(2.0),
        "k": np.ones((UNITS, 2)),
    }  # fmt: skip
    constants = {name: array.astype(np.float32) for name, array in constants.items()}
    constants |= {
        "beside": np.array([0, 0, -1]), "flat": np.array([0, -1]), "first": np.array(0),
        "second": np.array(1), "end": np.array([2**40]), "minus": np.array([-1]),
        "begin": np.array([-(2**40)]), "ones": np.array([1, 1]), "unequal": np.array([2, 0]),
    }  # fmt: skip
    options = {"direction": "bidirectional", **(lstm or {})}
    return graph(node("x W R B", "y h", **options), *nodes, constants=constants, output=output)


TAKE = [node("y first", "f", "Gather", axis=1), node("y second", "b", "Gather", axis=1)]
TAKE_LAST = [node("h first", "f", "Gather"), node("h second", "b", "Gather")]
SPLIT = [node("y", "f1 b1", "Split", axis=1), node("f1 one", "f", "Squeeze")]
SPLIT += [node("b1 one", "b", "Squeeze")]


@pytest.mark.parametrize(
    ("nodes", "mode", "sequences"),
    [
        ([node("y", "t", "Transpose", perm=[0, 2, 1, 3]), node("t beside", "z", "Reshape")],
         "concat", True),
        ([node("h", "t", "Transpose", perm=[1, 0, 2]), node("t flat", "z", "Reshape")],
         "concat", False),
        ([node("h", "t", "Transpose", perm=[1, 0, 2]), node("t", "z", "Flatten")],
         "concat", False),
        ([*TAKE, node("f b", "z", "Concat", axis=-1)], "concat", True),
        ([*TAKE, node("f b", "z", "Concat", axis=2)], "concat", True),
        ([*SPLIT, node("f b", "z", "Concat", axis=2)], "concat", True),
        ([*TAKE, node("f b", "z", "Add")], "sum", True),
        ([*TAKE, node("f b", "z", "Sum")], "sum", True),
        ([*TAKE, node("f b", "z", "Mul")], "mul", True),
        ([*TAKE, node("f b", "z", "Mean")], "ave", True),
        ([*TAKE, node("f b", "s", "Add"), node("s half", "z", "Mul")], "ave", True),
        ([*TAKE, node("f b", "s", "Add"), node("s two", "z", "Div")], "ave", True),
        ([*TAKE_LAST, node("f b", "z", "Concat", axis=1)], "concat", False),
        ([*TAKE, node("f minus", "f2", "Gather"), node("b zero", "b2", "Gather"),
          node("f2 b2", "z", "Concat", axis=2)], "concat", False),
        ([node("y", "z", "Identity")], "concat", True),
        ([node("h", "z", "Identity")], "concat", False),
    ],
)  # fmt: skip
def test_forms_of_both_directions(nodes: list[Any], mode: str, sequences: bool) -> None:
    layer = from_onnx(two_ways(*nodes))
    assert isinstance(layer, Bidirectional)
    assert (layer.merge_mode, layer.return_sequences) == (mode, sequences)


@pytest.mark.parametrize(
    ("nodes", "backwards", "sequences"),
    [
        ([node("y first", "z", "Gather", axis=1)], False, True),
        ([node("h second", "z", "Gather")], True, False),
        ([node("h minus", "z", "Gather")], True, False),
        ([node("y second", "b", "Gather", axis=1), node("b zero", "z", "Gather")], True, False),
        ([node("h h", "hh", "Concat", axis=0), node("hh minus", "z", "Gather")], True, False),
        ([node("y minus begin zero minus", "r", "Slice"), node("r second", "z", "Gather", axis=1)],
         True, True),
    ],
)  # fmt: skip
def test_one_direction_alone(nodes: list[Any], backwards: bool, sequences: bool) -> None:
    layer = from_onnx(two_ways(*nodes))
    assert isinstance(layer, LSTM)
    assert (layer.go_backwards, layer.return_sequences) == (backwards, sequences)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("y beside", "z", "Reshape")], "Reshape that does more|features last"),
        ([node("y", "t", "Transpose", perm=[1, 2, 0, 3]), node("t beside", "z", "Reshape")],
         "Reshape that does more"),
        ([node("h flat", "z", "Reshape")], "Reshape that does more|features last"),
        ([*TAKE, node("b f", "z", "Concat", axis=2)], "reads backwards, in this order"),
        ([*TAKE, node("f b", "z", "Concat", axis=0)], "Concat along another axis"),
        ([*TAKE, node("f", "f2", "Transpose", perm=[1, 0, 2]), node("f2 b", "z", "Add")],
         "each has other steps"),
        ([TAKE[0], TAKE_LAST[1], node("f b", "z", "Add")], "each has other steps"),
        ([*TAKE, node("f minus begin zero minus", "r", "Slice"), node("r b", "z", "Add")],
         "not both in the order of time"),
        ([*TAKE, node("f minus", "f2", "Gather"), node("b minus", "b2", "Gather"),
          node("f2 b2", "z", "Concat", axis=2)], "not an LSTM's last"),
        ([node("y minus", "z", "Gather")], "a step of both directions is taken"),
        ([node("y second", "z", "Gather", axis=1)], "a reversed LSTM's sequence as output"),
        ([node("y", "f1 b1", "Split", axis=0), node("f1", "z", "Identity")], "Split of anything"),
        ([node("y unequal", "f1 b1", "Split", axis=1), node("f1", "z", "Identity")], "split: got"),
        ([node("y", "t", "Transpose", perm=[0, 2, 1, 3]), node("t k", "z", "MatMul")],
         "both directions apart"),
        ([*TAKE, node("f b", "s", "Add"), node("s two", "z", "Mul")], "nor a mean"),
        ([*TAKE, node("f b", "s", "Mul"), node("s half", "z", "Mul")], "nor a mean"),
        ([*TAKE, node("f b", "s", "Add"), node("half s", "z", "Div")], "nor a mean"),
    ],
)  # fmt: skip
def test_forms_that_are_not_those_of_ours_are_refused(nodes: list[Any], message: str) -> None:
    with pytest.raises((NotImplementedError, ValueError), match=f"model: .*({message})"):
        from_onnx(two_ways(*nodes))


# ---- lengths ----


def of_lengths(*nodes: Any, output: str = "y", **declared: Any) -> Any:
    """Return a model with an input "lens"; its x has 5 steps."""
    lens = onnx.helper.make_tensor_value_info("lens", onnx.TensorProto.INT32, ["b"])
    constants = {"all": np.array([5, 5], np.int32), "some": np.array([5, 4], np.int32)}
    constants |= {"last": np.array([-1]), "first": np.array(0), "begin": np.array([-(2**40)])}
    model = graph(*nodes, constants={**constants, **declared}, output=output)
    model.graph.input.append(lens)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 5
    return model


def test_lengths_that_are_an_input() -> None:
    layer = from_onnx(of_lengths(node("x W R B lens", "y h")))
    assert isinstance(layer, LSTM) and layer.zero_output_for_mask
    layer = from_onnx(of_lengths(node("x W R B lens", "y h"), output="h"))
    assert isinstance(layer, LSTM) and not layer.zero_output_for_mask
    cast = [node("lens", "l", "Cast", to=6), node("x W R B l", "y h")]
    assert from_onnx(of_lengths(*cast)).zero_output_for_mask
    for name in ("all", "shape"):
        full = [node("x", "sizes", "Shape"), node("sizes zero", "steps", "Gather")]
        full += [node("sizes one", "batch", "Gather"), node("steps batch", "shape", "Expand")]
        layer = from_onnx(of_lengths(*full, node(f"x W R B {name}", "y h")))
        assert isinstance(layer, LSTM) and not layer.zero_output_for_mask


LENS = node("x W R B lens", "y h")
AGAIN = node("s W2 R B lens", "y2 h2", name="again")
FLAT = node("y one", "s", "Squeeze")


@pytest.mark.parametrize(
    ("nodes", "output", "message"),
    [
        ([node("x W R B some")], "y", "sequence_lens is neither an input nor"),
        ([LENS, FLAT, node("s last zero", "z", "Gather", axis=0)], "z", "before which sequences"),
        (
            [LENS, FLAT, node("s W2 R B", "y2", name="again")],
            "y2",
            "another than that of the LSTMs",
        ),
        ([node("x W R B", "y h"), FLAT, AGAIN], "y2", "another than that of the LSTMs"),
        (
            [node("x W R B lens", "y h", direction="reverse"), FLAT, AGAIN],
            "y2",
            "sequence_lens beside a sequence in reverse",
        ),
    ],
)
def test_lengths_that_are_not_those_of_ours_are_refused(
    nodes: list[Any], output: str, message: str
) -> None:
    again = np.ones((1, 4 * UNITS, UNITS), np.float32)
    with pytest.raises(NotImplementedError, match=message):
        from_onnx(of_lengths(*nodes, output=output, W2=again))
    fine = of_lengths(LENS, FLAT, AGAIN, output="y2", W2=again)
    assert len(from_onnx(fine).layers) == 2


def test_the_first_step_is_the_last_of_a_reversed_lstm_whatever_the_lengths() -> None:
    lstm = node("x W R B lens", "y h", direction="reverse")
    layer = from_onnx(of_lengths(lstm, FLAT, node("s first", "z", "Gather", axis=0), output="z"))
    assert isinstance(layer, LSTM) and layer.go_backwards and not layer.return_sequences
