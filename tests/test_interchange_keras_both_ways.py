"""Models of Keras that read both ways or mask steps, in descriptions and files that do not fit."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interchange_support import GOLDEN, assert_same_model
from keras_support import config_of, golden, write
from lstm_ext import LSTM, Bidirectional, Input, Sequential, from_keras, to_keras

h5py = pytest.importorskip("h5py", reason="h5py is not installed")


def both(**options: Any) -> dict[str, Any]:
    """Return the description of the model with both directions, its first Bidirectional changed."""
    config = config_of("both_ways.keras")
    config["config"]["layers"][2]["config"].update(options)
    return config


def inner(**options: Any) -> dict[str, Any]:
    """Return the description of one of its layers, changed."""
    layer = config_of("both_ways.keras")["config"]["layers"][2]["config"]["layer"]
    return {**layer, **options, "config": {**layer["config"], **options.get("config", {})}}


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (both(layer=3), ValueError, "layer 'sum': layer: got 3"),
        (both(layer=None), ValueError, "layer 'sum': layer: got None"),
        (both(backward_layer=[]), ValueError, r"layer 'sum': backward_layer: got \[\]"),
        (both(layer=inner(class_name="GRU")), NotImplementedError, "of the class 'GRU'"),
        (both(layer=inner(class_name="GRU", registered_name="LSTM")), NotImplementedError, "LSTM"),
        (both(layer=inner(registered_name="My>LSTM")), NotImplementedError, "'My>LSTM' is not"),
        (both(layer=inner(class_name="Bidirectional")), NotImplementedError, "'LSTM' is not|Bidi"),
        (
            both(layer=inner(config={"units": 2**30})),
            ValueError,
            "sum: got weights of shapes|sizes",
        ),
        (both(layer=inner(config={"units": 5})), ValueError, "weights of shapes|sizes 5 and 4"),
        (both(layer=inner(config={"num_layers": 2})), ValueError, "unexpected argument 'num_lay"),
        (both(layer=inner(config={"kernel_regularizer": {}})), NotImplementedError, "regularizer"),
        (both(layer=inner(config={"dtype": "float64"})), ValueError, "dtype: got"),
        (both(layer=inner(config={"go_backwards": True})), ValueError, "go_backwards: got True"),
        (both(merge_mode="max"), ValueError, "merge_mode: got 'max'"),
        (both(merge_mode=None), ValueError, "has a merge_mode of None"),
        (both(weights=[1]), NotImplementedError, "weights"),
        (both(mine=1), ValueError, "unexpected argument 'mine'"),
    ],
)
def test_both_ways_that_do_not_fit(
    tmp_path: Path, config: Any, error: type[Exception], message: str
) -> None:
    with zipfile.ZipFile(GOLDEN / "keras_both_ways.keras") as archive:
        weights = archive.read("model.weights.h5")
    with pytest.raises(error, match=rf"m\.keras: .*({message})"):
        from_keras(write(tmp_path / "m.keras", config, weights))


def masked(change: Callable[[list[Any]], Any]) -> dict[str, Any]:
    """Return the description of the model of masked words, its layers changed."""
    config = config_of("masked_words.keras")
    change(config["config"]["layers"])
    return config


def named(layers: list[Any], name: str) -> Any:
    return next(layer for layer in layers if layer["class_name"] == name)


@pytest.mark.parametrize(
    "change",
    [
        lambda layers: named(layers, "NotEqual").update(class_name="Equal"),
        lambda layers: named(layers, "NotEqual")["inbound_nodes"][0]["args"].__setitem__(1, 1),
        lambda layers: named(layers, "NotEqual")["inbound_nodes"][0]["args"].pop(),
        lambda layers: named(layers, "NotEqual")["inbound_nodes"][0]["args"][0]["config"].update(
            keras_history=["embedding", 0, 0]
        ),
        lambda layers: named(layers, "Embedding")["config"].update(mask_zero=False),
        lambda layers: named(layers, "Bidirectional")["inbound_nodes"][0]["kwargs"].update(mask=1),
    ],
)
def test_masks_of_another_kind_are_refused(tmp_path: Path, change: Any) -> None:
    """Only what our model passes on by itself may be written down as a layer's mask."""
    with zipfile.ZipFile(GOLDEN / "keras_masked_words.keras") as archive:
        weights = archive.read("model.weights.h5")
    good = write(tmp_path / "m.keras", masked(lambda layers: None), weights)
    assert from_keras(good).layers[0].mask_zero
    path = write(tmp_path / "m.keras", masked(change), weights)
    with pytest.raises(NotImplementedError, match="called with mask: not supported"):
        from_keras(path)


def ring(group: Any) -> None:
    """Have a group hold nothing but itself."""
    for name in list(group):
        del group[name]
    group["again"] = group


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda group: group.move("backward_lstm", "other"), "not a layer for each direction"),
        (lambda group: group.pop("forward_lstm"), "is none of|not a layer for each direction"),
        (lambda group: group.create_group("third"), "not a layer for each direction"),
        (ring, "lies deeper than 32 groups, or leads in a ring"),
    ],
)
def test_both_ways_that_keras_2_does_not_write(
    tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes((GOLDEN / "keras_two_ways_of_keras_2.h5").read_bytes())
    with h5py.File(path, "r+") as h5:
        groups: list[str] = []
        h5["model_weights/z"].visit(groups.append)
        inner = next(name for name in groups if name.endswith("forward_lstm"))
        change(h5[f"model_weights/z/{inner}"].parent)
    with pytest.raises(ValueError, match=rf"m\.h5: .*({message})"):
        from_keras(path)


# ---- writing ----


@pytest.mark.parametrize(
    "case", ["both_ways.keras", "masked_words.keras", "two_ways_of_keras_2.h5"]
)
def test_there_and_back_bit_for_bit(case: str, tmp_path: Path) -> None:
    model = golden(case)[0]
    to_keras(model, tmp_path / "m.keras")
    assert_same_model(from_keras(tmp_path / "m.keras"), model)
    to_keras(model, tmp_path / "m.weights.h5")
    other = from_keras(tmp_path / "m.keras")
    other.set_weights([0 * weight for weight in other.weights])
    assert_same_model(from_keras(tmp_path / "m.weights.h5", other), model)


def test_a_layer_that_reads_both_ways_becomes_a_model(tmp_path: Path) -> None:
    layer = Bidirectional(LSTM(3), "ave", name="mine")
    layer(np.zeros((1, 2, 4)))
    to_keras(layer, tmp_path / "m.keras")
    again = from_keras(tmp_path / "m.keras").layers[0]
    assert_same_model(again, layer)
    assert again.name == "mine"


@pytest.mark.parametrize("sequences", [False, True])
def test_several_layers_become_as_many(sequences: bool, tmp_path: Path) -> None:
    layer = LSTM(3, num_layers=3, return_sequences=sequences, name="deep")
    x = np.random.default_rng(0).normal(size=(2, 5, 4))
    output = layer(x)
    for name in ("m.keras", "m.weights.h5"):
        to_keras(layer, tmp_path / name)
    again = from_keras(tmp_path / "m.keras")
    assert [a.name for a in again.layers] == ["deep", "deep_l1", "deep_l2"]
    np.testing.assert_array_equal(again(x), output)
    again.set_weights([0 * weight for weight in again.weights])
    np.testing.assert_array_equal(from_keras(tmp_path / "m.weights.h5", again)(x), output)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (LSTM(3, peepholes=True), "peepholes=True, which Keras's LSTM does not have"),
        (LSTM(3, proj_size=2), "proj_size=2, which Keras's LSTM does not have"),
        (LSTM(3, clip=1.0), "clip=1.0, which Keras's LSTM does not have"),
        (LSTM(3, cell_clip=1.0), "cell_clip=1.0, which Keras's LSTM does not have"),
        (LSTM(3, input_forget=True), "input_forget=True, which Keras's LSTM does not have"),
        (LSTM(3, layer_norm=True), "layer_norm=True, which Keras's LSTM does not have"),
        (LSTM(3, zoneout=0.5), "zoneout=0.5, which Keras's LSTM does not have"),
        (LSTM(3, cell_zoneout=0.5), "cell_zoneout=0.5, which Keras's LSTM does not have"),
        (LSTM(3, output_activation="relu"), "output_activation='relu', which Keras's LSTM"),
        (LSTM(3, ("elu", 0.5)), r"activation=\('elu', 0.5\), which Keras does not have"),
        (LSTM(3, "tanh", "thresholded_relu"), "recurrent_activation='thresholded_relu', which"),
        (LSTM(3, num_layers=2, go_backwards=True), "got go_backwards with num_layers=2"),
        (Bidirectional(LSTM(3, clip=1.0)), "forward_lstm.*: got clip=1.0, which Keras's"),
        (Bidirectional(LSTM(3), None), "has a merge_mode of None"),
    ],
)
def test_what_keras_does_not_have_is_named(layer: Any, message: str, tmp_path: Path) -> None:
    layer.build((None, None, 2))
    with pytest.raises(ValueError, match=message):
        to_keras(layer, tmp_path / "m.keras")
    assert not list(tmp_path.iterdir())


def test_a_kept_state_needs_the_size_of_batches(tmp_path: Path) -> None:
    model = Sequential([Input((None, 3)), Bidirectional(LSTM(2, stateful=True))])
    with pytest.raises(ValueError, match="got stateful in a model for batches of any size"):
        to_keras(model, tmp_path / "m.keras")
    model = Sequential([Input(batch_shape=(4, None, 3)), LSTM(2, stateful=True)])
    to_keras(model, tmp_path / "m.keras")
    again = from_keras(tmp_path / "m.keras")
    assert_same_model(again, model)
    assert again.input_shape == (4, None, 3)


def test_activations_go_by_keras_names(tmp_path: Path) -> None:
    layer = LSTM(3, ("elu", 1.0), ("hard_sigmoid", 1 / 6, 0.5), output_activation="elu")
    layer.build((None, None, 2))
    to_keras(layer, tmp_path / "m.keras")
    cell = from_keras(tmp_path / "m.keras").layers[0].cell
    assert (cell.activation, cell.recurrent_activation) == ("elu", "hard_sigmoid")
    assert isinstance(from_keras(tmp_path / "m.keras"), Sequential)
