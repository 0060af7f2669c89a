"""LSTMs of torch: the numbers that torch recorded, every way to be wrong, and files that are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interchange_support import (
    GOLDEN,
    assert_computes,
    assert_same_model,
    broken_files,
    count_wrong_models,
    layers_of,
    lstms_of,
)
from lstm_ext import LSTM, Bidirectional, Dense, Dropout, Sequential, from_torch, to_torch
from lstm_ext.models import safetensors
from support import Array

CASES = [path.stem.removeprefix("torch_") for path in sorted(GOLDEN.glob("torch_*.safetensors"))]


def golden(case: str) -> tuple[Any, Array, Array]:
    with np.load(GOLDEN / "torch.npz") as file:
        x, output = file[f"{case}/x"], file[f"{case}/output"]
    return from_torch(GOLDEN / f"torch_{case}.safetensors"), x, output


def state_dict(layers: int = 2, units: int = 4, dtype: Any = np.float32) -> dict[str, Array]:
    rng = np.random.default_rng(3)
    state = {}
    for k in range(layers):
        for name, size in (("ih", 3 if k == 0 else units), ("hh", units)):
            state[f"weight_{name}_l{k}"] = rng.normal(size=(4 * units, size)).astype(dtype)
            state[f"bias_{name}_l{k}"] = rng.normal(size=4 * units).astype(dtype)
    return state


def test_golden_files_are_there() -> None:
    assert len(CASES) == 8


@pytest.mark.parametrize("case", CASES)
def test_computes_what_torch_computed(case: str) -> None:
    assert_computes(*golden(case))


@pytest.mark.parametrize("case", CASES)
def test_nothing_wrong_computes_what_torch_computed(case: str) -> None:
    model, x, output = golden(case)
    count = count_wrong_models(model, x, output)
    assert count["gates"] == 23
    assert count["swapped"] == SWAPPED.get(case, 0)
    assert count["merged"] == {"both_ways": 6, "both_ways_projection": 3}.get(case, 0)


# How often weights of two layers, directions or kernels can be taken for one another.
SWAPPED = {
    "both_ways": 6,
    "both_ways_projection": 1,
    "projection": 2,
    "square": 1,
    "three_layers": 4,
}


def test_directions_become_layers_that_read_both_ways() -> None:
    layers = layers_of(golden("both_ways")[0])
    assert [type(layer) for layer in layers] == [Bidirectional, Bidirectional]
    assert all(layer.return_sequences and layer.merge_mode == "concat" for layer in layers)
    layer = golden("both_ways_projection")[0]
    assert isinstance(layer, Bidirectional)
    assert [a.proj_size for a in lstms_of(layer)] == [2, 2]
    assert [a.go_backwards for a in lstms_of(layer)] == [False, True]


def test_one_layer_is_a_layer_and_several_are_a_model() -> None:
    layer = from_torch(state_dict(1))
    assert isinstance(layer, LSTM) and layer.return_sequences and not layer.return_state
    model = from_torch(state_dict(3))
    assert isinstance(model, Sequential) and len(model.layers) == 3
    assert model(np.zeros((2, 5, 3))).shape == (2, 5, 4)


def test_names_end_in_nothing_for_a_cell() -> None:
    state = state_dict(1)
    cell = {name.removesuffix("_l0"): array for name, array in state.items()}
    assert_same_model(from_torch(cell), from_torch(state))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_half_precision_becomes_single_and_biases_are_added_after(dtype: Any) -> None:
    state = state_dict(1, dtype=dtype)
    layer = from_torch(state)
    assert isinstance(layer, LSTM)
    wide = np.float64 if dtype == np.float64 else np.float32
    assert layer.dtype == np.dtype(wide).name
    total = state["bias_ih_l0"].astype(wide) + state["bias_hh_l0"].astype(wide)
    np.testing.assert_array_equal(layer.bias, total)


def test_bfloat16_in_a_file_becomes_float32(tmp_path: Path) -> None:
    state = {name: array.view("<u4") >> 16 for name, array in state_dict(1).items()}
    arrays = {name: bits.astype(np.uint16).view(np.int16) for name, bits in state.items()}
    path = tmp_path / "half.safetensors"
    safetensors.write_file(path, arrays, {})

    def rename(header: dict[str, Any]) -> None:
        for name in arrays:
            header[name]["dtype"] = "BF16"

    rewrite_header(path, rename)
    layer = from_torch(path)
    expected = {name: (bits << 16).view(np.float32) for name, bits in state.items()}
    assert_same_model(layer, from_torch(expected))


def rewrite_header(path: Path, change: Any) -> None:
    """Change the header of a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def prefixed(prefix: str, state: dict[str, Array]) -> dict[str, Array]:
    return {f"{prefix}.{name}": array for name, array in state.items()}


def test_an_lstm_is_found_wherever_it_is() -> None:
    state = state_dict()
    inside = {**prefixed("module.encoder.lstm", state), "module.head.weight": np.ones((2, 2))}
    assert_same_model(from_torch(inside), from_torch(state))


def test_of_several_the_prefix_chooses() -> None:
    first, second = state_dict(1, units=4), state_dict(2, units=5)
    both = {**prefixed("encoder", first), **prefixed("decoder.rnn", second)}
    assert_same_model(from_torch(both, prefix="decoder.rnn"), from_torch(second))
    assert_same_model(from_torch(both, prefix="encoder."), from_torch(first))
    with pytest.raises(ValueError, match=r"several LSTMs; expected prefix= .*'decoder.rnn', 'enc"):
        from_torch(both)
    with pytest.raises(ValueError, match=r"prefix: got 'rnn', expected one of .*'decoder.rnn'"):
        from_torch(both, prefix="rnn")


def both_ways() -> dict[str, Array]:
    """Return the state dict of two layers of 4 units that read both ways."""
    state = state_dict(2)
    state["weight_ih_l1"] = np.ones((16, 8), np.float32)
    return state | {f"{name}_reverse": array for name, array in state.items()}


def without_one(state: dict[str, Array], name: str) -> dict[str, Array]:
    return {key: array for key, array in state.items() if key != name}


def without(*names: str) -> dict[str, Array]:
    return {name: array for name, array in state_dict().items() if name not in names}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "got no LSTM"),
        ({"head.weight": np.ones((2, 2))}, "got no LSTM"),
        (without("weight_ih_l1"), "weight_ih_l1: expected it beside the others"),
        (without("bias_hh_l0"), "bias_hh_l0: expected it beside the others"),
        (without("weight_hh_l0"), "weight_ih_l1: got a weight that torch's LSTM does not have"),
        (
            state_dict() | {"weight_hh_l0": np.ones((12, 4))},
            r"weight_hh_l0 .*4 rows a unit.*\(12, 4\), expected \(16, 4\)",
        ),
        (state_dict() | {"weight_ih_l1": np.ones((16, 5))}, r"weight_ih_l1: got .*\(16, 5\)"),
        (state_dict() | {"weight_ih_l0": np.ones((16, 0))}, r"weight_ih_l0: got .*\(16, 0\)"),
        (state_dict() | {"bias_ih_l1": np.ones((16, 1))}, r"bias_ih_l1: got .*\(16, 1\)"),
        (state_dict() | {"weight_hh_l0": np.float32(1)}, r"weight_hh_l0 .*got shape \(\)"),
        (state_dict() | {"weight_ih_l0": np.ones((16, 3), int)}, "weight_ih_l0: got .*int64"),
        (state_dict() | {"peephole_l0": np.ones(4)}, "peephole_l0: got a weight that torch's"),
        (state_dict() | {"weight_hh_l0_g": np.ones(4)}, "weight_hh_l0_g: got a weight"),
        (prefixed("a", without("bias_hh_l0")), "a: bias_hh_l0: expected"),
        (state_dict() | {"weight_hh_l0_reverse": np.ones((16, 4))}, "l0_reverse: expected it"),
        (state_dict() | {"bias_ih_l0_reverse": np.ones(16)}, "bias_ih_l0_reverse: got a weight"),
        (state_dict() | {"weight_hr_l0": np.ones((4, 6))}, "weight_hr_l1: expected it beside"),
        (
            state_dict(1) | {"weight_hr_l0": np.ones((4, 6))},
            r"weight_hh_l0 .*got shape \(16, 4\), expected \(24, 4\)",
        ),
        (state_dict(1) | {"weight_hr_l0": np.ones((3, 4))}, r"weight_hr_l0: got shape \(3, 4\)"),
        (state_dict(1) | {"weight_hr_l0": np.ones(4)}, r"weight_hr_l0: got shape \(4,\)"),
        (
            both_ways() | {"weight_ih_l1": np.ones((16, 4))},
            r"weight_ih_l1: got .*expected \(16, 8\)",
        ),
        (without_one(both_ways(), "bias_ih_l1_reverse"), "bias_ih_l1_reverse: expected it"),
        (without_one(both_ways(), "weight_ih_l0_reverse"), "weight_ih_l0_reverse: expected it"),
    ],
)
def test_what_does_not_fit_is_named(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_torch(source)


def test_a_source_of_another_type() -> None:
    with pytest.raises(TypeError, match="source: got int, expected a torch module"):
        from_torch(3)
    with pytest.raises(FileNotFoundError):
        from_torch("/no/such/file.safetensors")


@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "weights.safetensors", "weights"])
def test_a_pickle_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"PK\x03\x04 whatever")
    with pytest.raises(ValueError, match=r"may run code[\s\S]*\nimport torch; .*save_file"):
        from_torch(path)


def test_a_model_of_ours_is_sent_to_its_own_reader(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = Sequential([LSTM(3, input_shape=(2, 2))])
    model.save(path)
    with pytest.raises(ValueError, match="a model of lstm_ext; load_model reads it"):
        from_torch(path)


def test_broken_files_raise_value_errors(tmp_path: Path) -> None:
    for name in ("inside", "both_ways_projection"):
        for path in broken_files(GOLDEN / f"torch_{name}.safetensors", tmp_path):
            try:
                model = from_torch(path)
            except (ValueError, NotImplementedError):
                continue
            assert isinstance(model, (LSTM, Bidirectional, Sequential))


def test_a_declared_size_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    safetensors.write_file(path, state_dict(1), {})

    def enlarge(header: dict[str, Any]) -> None:
        header["weight_hh_l0"]["shape"] = [2**40, 2**20]

    rewrite_header(path, enlarge)
    with pytest.raises(ValueError, match=r"huge\.safetensors: 'weight_hh_l0' of shape"):
        from_torch(path)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_there_and_back_bit_for_bit(tmp_path: Path, layers: int, dtype: Any) -> None:
    model = from_torch(state_dict(layers, dtype=np.dtype(dtype)))
    bias = layers_of(model)[0].bias.copy()
    bias[:2] = [-0.0, 0.0]
    layers_of(model)[0].bias = bias
    path = tmp_path / "weights.safetensors"
    state = to_torch(model, path)
    assert_same_model(from_torch(state), model)
    assert_same_model(from_torch(path), model)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([LSTM(3), Dense(2)], "got a Dense, expected LSTMs alone"),
        ([LSTM(3, go_backwards=True)], "got go_backwards, which torch's LSTM does not have"),
        (
            [LSTM(3, return_sequences=True), LSTM(4)],
            "got units=4, expected 3 as of lstm.*, since torch's layers share it",
        ),
        (
            [LSTM(3, return_sequences=True), LSTM(3, use_bias=False)],
            "got use_bias=False, expected True as of lstm.*, since torch's layers share it",
        ),
        (
            [LSTM(3, return_sequences=True, proj_size=2), LSTM(3)],
            "got proj_size=None, expected 2 as of lstm",
        ),
        ([LSTM(3, proj_size=3)], "got proj_size=3 for 3 units, expected fewer"),
        (
            [Bidirectional(LSTM(2, return_sequences=True)), LSTM(2)],
            "got a LSTM after a Bidirectional, expected one kind",
        ),
        ([Bidirectional(LSTM(2), "sum")], "got merge_mode='sum', expected 'concat'"),
        (
            [Bidirectional(LSTM(2, go_backwards=True), backward_layer=LSTM(2))],
            "got go_backwards, which torch's LSTM does not have",
        ),
        ([LSTM(3, peepholes=True)], "peepholes=True, which torch's LSTM does not have"),
        ([LSTM(3, clip=1.0)], "clip=1.0, which torch's LSTM does not have"),
        ([LSTM(3, cell_clip=1.0)], "cell_clip=1.0, which torch's LSTM does not have"),
        ([LSTM(3, input_forget=True)], "input_forget=True, which torch's LSTM does not have"),
        ([LSTM(3, layer_norm=True)], "layer_norm=True, which torch's LSTM does not have"),
        ([LSTM(3, zoneout=0.5)], "zoneout=0.5, which torch's LSTM does not have"),
        ([LSTM(3, cell_zoneout=0.5)], "cell_zoneout=0.5, which torch's LSTM does not have"),
        ([LSTM(3, output_activation="relu")], "output_activation='relu', which torch's"),
        ([LSTM(3, "relu")], "got activations 'relu' and 'sigmoid', expected tanh and sigmoid"),
        ([LSTM(3, recurrent_activation="hard_sigmoid")], "got activations 'tanh' and 'hard_sigm"),
        ([Bidirectional(LSTM(3, clip=1.0))], "forward_lstm.*: got clip=1.0, which torch's"),
        ([Dropout(0.5)], "has no LSTM"),
    ],
)
def test_what_torch_cannot_be_is_named(layers: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        model = Sequential(layers)
        model.build((None, 5, 3))
        to_torch(model, tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_both_ways_there_and_back_bit_for_bit(tmp_path: Path) -> None:
    for case in ("both_ways", "projection", "both_ways_projection"):
        model = golden(case)[0]
        path = tmp_path / "weights.safetensors"
        state = to_torch(model, path)
        assert_same_model(from_torch(state), model)
        assert_same_model(from_torch(path), model)
        theirs = safetensors.read_file(GOLDEN / f"torch_{case}.safetensors")[0]
        assert state.keys() == theirs.keys()
        for name, array in theirs.items():
            if name.startswith("weight"):
                np.testing.assert_array_equal(state[name], array)


def test_activations_of_other_names_are_the_usual_ones() -> None:
    layer = LSTM(3, ("scaled_tanh", 1.0, 1.0), output_activation="tanh")
    layer.build((None, None, 2))
    assert to_torch(layer).keys() >= {"weight_ih_l0", "weight_hh_l0"}


def test_dropout_of_a_layer_is_left_with_a_warning() -> None:
    for name in ("dropout", "recurrent_dropout"):
        layer = LSTM(3, **{name: 0.5})
        layer.build((None, None, 2))
        with pytest.warns(UserWarning, match=rf" {name}=0.5 acts in training alone; torch's state"):
            to_torch(layer)


def test_only_built_models_are_written() -> None:
    with pytest.raises(ValueError, match=r"to_torch: lstm.* is not built"):
        to_torch(LSTM(3))
    with pytest.raises(TypeError, match="to_torch: got int, expected a layer or a Sequential"):
        to_torch(3)  # type: ignore[arg-type]
