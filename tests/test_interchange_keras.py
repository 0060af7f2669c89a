"""Models of Keras: the numbers that Keras recorded, every way to be wrong, and back."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from interchange_support import GOLDEN, assert_computes, assert_same_model, count_wrong_models
from keras_support import CASES, every_layer, golden
from lstm_ext import (
    LSTM,
    Bidirectional,
    Dense,
    Embedding,
    Input,
    Masking,
    Sequential,
    from_keras,
    to_keras,
)

h5py = pytest.importorskip("h5py", reason="h5py is not installed")


@pytest.mark.parametrize("case", CASES)
def test_computes_what_keras_computed(case: str) -> None:
    assert_computes(*golden(case))


@pytest.mark.parametrize("case", CASES)
def test_nothing_wrong_computes_what_keras_computed(case: str) -> None:
    model, x, output = golden(case)
    count = count_wrong_models(model, x, output)
    assert count["gates"] == 23
    assert count["swapped"] == SWAPPED[case]
    assert count["merged"] == 3 * sum(isinstance(a, Bidirectional) for a in model.layers)


# How often weights of two layers, directions or kernels can be taken for one another.
SWAPPED = {
    "both_ways.keras": 3, "functional.keras": 0, "keras_2.h5": 2, "masked_words.keras": 4,
    "sequential.keras": 1, "two_ways.weights.h5": 6, "two_ways_of_keras_2.h5": 6,
    "weights.weights.h5": 2,
}  # fmt: skip


def test_masks_are_part_of_the_model() -> None:
    """Without the layer that makes the mask, or with another value, outputs are others."""
    model, x, output = golden("both_ways.keras")
    masking = model.layers[0]
    assert isinstance(masking, Masking) and masking.mask_value == -1.5
    masking.mask_value = 0.0
    with pytest.raises(AssertionError):
        assert_computes(model, x, output)
    model, x, output = golden("masked_words.keras")
    assert model.layers[0].mask_zero
    model.layers[0].mask_zero = False
    with pytest.raises(AssertionError):
        assert_computes(model, x, output)


def test_both_ways_keep_their_names_and_options() -> None:
    first, middle, last = golden("both_ways.keras")[0].layers[1:]
    assert (first.name, first.merge_mode, last.merge_mode) == ("sum", "sum", "concat")
    assert first.forward_layer.cell.recurrent_activation == "hard_sigmoid"
    assert first.backward_layer.cell.activation == "softsign"
    assert (middle.dropout, middle.recurrent_dropout) == (0.5, 0.25)
    assert (last.backward_layer.name, last.backward_layer.units) == ("mine", 5)
    assert last.backward_layer.cell.activation == "relu" and not last.backward_layer.use_bias


def test_hard_sigmoid_of_keras_2_is_another(tmp_path: Path) -> None:
    """0.2 z + 0.5 there, z / 6 + 0.5 since Keras 3; the file tells who wrote it."""
    data = (GOLDEN / "keras_two_ways_of_keras_2.h5").read_bytes()
    old = b'"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": true'
    new = b'"activation":"tanh","recurrent_activation":"hard_sigmoid","use_bias":true'
    assert len(old) == len(new) and data.count(old) == 4 and data.count(b"3.15.1") >= 1
    data, path = data.replace(old, new), tmp_path / "m.h5"
    for version, spec in ((b"3.15.1", "hard_sigmoid"), (b"2.15.0", ("hard_sigmoid", 0.2, 0.5))):
        path.write_bytes(data.replace(b"3.15.1", version))
        layer = from_keras(path).layers[0].forward_layer
        assert layer.cell.recurrent_activation == spec


def test_layers_keep_their_names_and_options() -> None:
    model = golden("sequential.keras")[0]
    assert [layer.name for layer in model.layers]== [
        "lstm_3", "dropout", "b", "a", "c", "lstm_1",
    ]  # fmt: skip
    assert [layer.go_backwards for layer in model.layers if isinstance(layer, LSTM)] == [
        False, True, False, False,
    ]  # fmt: skip
    assert model.layers[1].rate == 0.25 and model.layers[1].seed == 3
    assert model.input_shape == (None, None, 4)
    words = golden("functional.keras")[0]
    assert [type(layer) for layer in words.layers] == [Embedding, LSTM, Dense]


def test_weights_alone_need_a_model() -> None:
    path = GOLDEN / "keras_weights.weights.h5"
    with pytest.raises(ValueError, match=r"holds weights alone \(dense, lstm, lstm_1\).*model="):
        from_keras(path)
    with pytest.raises(ValueError, match="expected a built Sequential"):
        from_keras(path, Sequential([LSTM(3)]))
    wrong = Sequential([Input((None, 3)), LSTM(3), Dense(2)])
    before = wrong.get_weights()
    with pytest.raises(ValueError, match="lstm_1 belongs to none of the model's layers"):
        from_keras(path, wrong)
    wrong = Sequential([Input((None, 3)), LSTM(3, return_sequences=True), LSTM(4), Dense(2)])
    before = wrong.get_weights()
    with pytest.raises(ValueError, match=r"got shape \(3, 12\), expected \(3, 16\)"):
        from_keras(path, wrong)
    for now, then in zip(wrong.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_weights_of_keras_2_fit_a_model_as_well() -> None:
    stack = [LSTM(3, return_sequences=True), LSTM(3), Dense(2)]
    model = from_keras(GOLDEN / "keras_keras_2.h5", Sequential([Input((None, 3)), *stack]))
    assert_same_model(model, golden("keras_2.h5")[0])


def test_sources_of_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="source: got int, expected a keras object or a path"):
        from_keras(3)
    with pytest.raises(FileNotFoundError):
        from_keras("/no/such/file.keras")
    path = tmp_path / "file.keras"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"file\.keras: got neither a \.keras nor an HDF5 file"):
        from_keras(path)


def test_a_missing_h5py_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match=r"need h5py.*pip install 'lstm_ext\[keras\]'"):
        from_keras(GOLDEN / "keras_sequential.keras")


def test_keras_2_puts_a_number_behind_names(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes((GOLDEN / "keras_keras_2.h5").read_bytes())
    with h5py.File(path, "r+") as h5:
        group = h5["model_weights/z/sequential/z/lstm_cell"]
        for name in list(group):
            group.move(name, f"{name}:0")
    assert_same_model(from_keras(path), golden("keras_2.h5")[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_there_and_back_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    model = every_layer(dtype)
    to_keras(model, tmp_path / "m.keras")
    again = from_keras(tmp_path / "m.keras")
    assert_same_model(again, model)
    assert again.name == model.name and again.input_shape == model.input_shape
    for a, b in zip(again.layers, model.layers, strict=True):
        assert a.get_config() == b.get_config()
    to_keras(again, tmp_path / "again.keras")
    assert (tmp_path / "m.keras").read_bytes() == (tmp_path / "again.keras").read_bytes()
    to_keras(model, tmp_path / "m.weights.h5")
    assert_same_model(from_keras(tmp_path / "m.weights.h5", every_layer(dtype)), model)


def test_a_layer_becomes_a_model(tmp_path: Path) -> None:
    layer = LSTM(3, return_sequences=True)
    layer(np.zeros((1, 2, 4)))
    to_keras(layer, tmp_path / "m.keras")
    assert_same_model(from_keras(tmp_path / "m.keras").layers[0], layer)


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path: got .*expected it to end in \.keras"):
        to_keras(every_layer(), tmp_path / "m.h5")
    with pytest.raises(ValueError, match="is not built"):
        to_keras(Sequential([LSTM(3)]), tmp_path / "m.keras")
    layer = LSTM(3, return_state=True)
    layer(np.zeros((1, 2, 4)))
    with pytest.raises(ValueError, match="has return_state"):
        to_keras(layer, tmp_path / "m.keras")
    assert not list(tmp_path.iterdir())
