"""Models: how they are put together, shown, and written to files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ext import LSTM, Dense, Dropout, Embedding, Input, Sequential, load_model
from lstm_ext.models import safetensors
from lstm_ext.optimizers import SGD, Adam, AdamW, RMSprop

RNG = np.random.default_rng(9)


def test_a_model_is_built_by_its_first_input() -> None:
    by_data = Sequential([LSTM(4), Dense(2)])
    assert not by_data.built
    by_data(np.zeros((3, 5, 2)))
    assert by_data.built and by_data.output_shape == (None, 2)
    for model in (
        Sequential([Input((5, 2)), LSTM(4), Dense(2)]),
        Sequential([LSTM(4, input_shape=(5, 2)), Dense(2)]),
    ):
        assert model.built and model.count_params() == by_data.count_params() == 122
    late = Sequential([LSTM(4), Dense(2)])
    late.build((None, 5, 2))
    assert [w.shape for w in late.weights] == [w.shape for w in by_data.weights]


def test_summary_shows_layers_shapes_and_weights() -> None:
    model = Sequential(name="a_model")
    model.add(LSTM(64, input_shape=(1, 1), name="memory"))
    model.add(Dense(1, trainable=False))
    shown: list[str] = []
    model.summary(print_fn=shown.append)
    text = "\n".join(shown)
    for part in ('"a_model"', "memory (LSTM)", "(None, 64)", "16,896", "65", "16,961"):
        assert part in text
    assert "Trainable params: 16,896" in text and "Non-trainable params: 65" in text
    shown.clear()
    Sequential([Dense(3)]).summary(print_fn=shown.append)
    assert "0 (unbuilt)" in shown[0]


def test_add_refuses_what_does_not_fit_and_stays_as_it_was() -> None:
    model = Sequential([Input((5, 2)), LSTM(4)])
    layer = model.layers[0]
    for bad, error, message in (
        (3, TypeError, "layer: got 3"),
        (Input((3,)), ValueError, "Input"),
        (LSTM(3, return_state=True), ValueError, "return_state"),
        (layer, ValueError, "already"),
        (LSTM(3), ValueError, r"\(None, 4\), expected 3 axes"),
    ):
        with pytest.raises(error, match=message):
            model.add(bad)  # type: ignore[arg-type]
        assert model.layers == [layer]
    assert model.pop() is layer and model.layers == []


def test_set_weights_of_a_model_takes_all_or_nothing() -> None:
    model = Sequential([Input((5, 2)), LSTM(4), Dense(2)])
    before = model.get_weights()
    wrong = [np.ones_like(w) for w in before]
    wrong[-1] = np.ones(7)
    for weights in (wrong, before[:-1], [*before, before[0]]):
        with pytest.raises(ValueError, match=r"bias: got shape \(7,\)|got [46] arrays"):
            model.set_weights(weights)
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_input_of_the_wrong_shape_is_refused() -> None:
    model = Sequential([Input((5, 2)), LSTM(4)])
    for shape in ((3, 5, 3), (3, 5), (5,)):
        with pytest.raises(ValueError, match=r"x: got shape .*expected \(None, (5|None), 2\)"):
            model(np.zeros(shape))
    with pytest.raises(ValueError, match="no layers"):
        Sequential()(np.zeros((1, 2)))


# ---- files ----


def model_with_everything(optimizer: Any = "adam") -> Sequential:
    layers = [
        Input((6,)),
        Embedding(9, 4),
        LSTM(5, return_sequences=True, dtype="float32"),
        Dropout(0.2, seed=3),
        LSTM(4, go_backwards=True, use_bias=False),
        Dense(3, activation="softmax"),
    ]
    model = Sequential(layers)
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    return model


X, Y = RNG.integers(0, 9, (24, 6)), RNG.integers(0, 3, 24)


@pytest.mark.parametrize(
    "optimizer",
    [SGD(0.1, momentum=0.5), Adam(0.01), AdamW(0.01), RMSprop(0.01, centered=True)],
    ids=lambda o: type(o).__name__,
)
def test_training_goes_on_from_a_file_as_if_never_interrupted(
    tmp_path: Path, optimizer: Any
) -> None:
    path = tmp_path / "model.safetensors"
    model = model_with_everything(optimizer)
    model.layers[2].rate = 0.0  # type: ignore[attr-defined] # the generator's place is not saved
    model.fit(X, Y, epochs=2, shuffle=False, verbose=0)
    model.save(path)
    again = load_model(path)
    assert [type(a) for a in again.layers] == [type(a) for a in model.layers]
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    a = model.fit(X, Y, epochs=2, shuffle=False, verbose=0).history
    b = again.fit(X, Y, epochs=2, shuffle=False, verbose=0).history
    assert a == b
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_alone(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    model, other = model_with_everything(), model_with_everything()
    model.save_weights(path)
    other.load_weights(path)
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
    small = Sequential([Input((2,)), Dense(1)])
    before = small.get_weights()
    with pytest.raises(ValueError, match=r"weights\.safetensors: weights: got .*expected"):
        small.load_weights(path)
    np.testing.assert_array_equal(small.get_weights()[0], before[0])
    with pytest.raises(ValueError, match="no model of lstm_ext"):
        load_model(path)


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    model = model_with_everything()
    model.save(path)
    old = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    model.set_weights([w + 1 for w in model.get_weights()])
    with pytest.raises(OSError, match="disk full"):
        model.save(path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_other_readers_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = model_with_everything()
    model.save(path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    entry = header["layers/1/kernel"]
    begin, end = entry["data_offsets"]
    values = np.frombuffer(content[8 + length :][begin:end], "<f4").reshape(entry["shape"])
    np.testing.assert_array_equal(values, model.layers[1].kernel)  # type: ignore[attr-defined]
    assert all(isinstance(v, str) for v in header["__metadata__"].values())


def broken_files(good: bytes) -> dict[str, bytes]:
    length = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + length])
    data = good[8 + length :]

    def rebuilt(change: Any) -> bytes:
        changed = json.loads(json.dumps(header))
        change(changed)
        text = json.dumps(changed).encode()
        return len(text).to_bytes(8, "little") + text + data

    name = "layers/1/kernel"
    return {
        "empty": b"",
        "cut in the prefix": good[:5],
        "cut in the header": good[: length // 2],
        "cut in the data": good[:-7],
        "longer": good + b"1234",
        "a huge header": (2**63).to_bytes(8, "little") + good[8:],
        "no JSON": good[:8] + b"x" * length + data,
        "deep JSON": (50000).to_bytes(8, "little") + b"[" * 50000,
        "a list": (2).to_bytes(8, "little") + b"[]",
        "huge shape": rebuilt(lambda h: h[name].update(shape=[2**40, 2**40])),
        "negative shape": rebuilt(lambda h: h[name].update(shape=[-4, -5])),
        "unknown dtype": rebuilt(lambda h: h[name].update(dtype="F31")),
        "offsets beyond": rebuilt(lambda h: h[name].update(data_offsets=[0, 2**50])),
        "offsets backwards": rebuilt(lambda h: h[name].update(data_offsets=[9, 3])),
        "overlap": rebuilt(
            lambda h: h[name].update(data_offsets=h["layers/0/embeddings"]["data_offsets"])
        ),
        "missing weight": rebuilt(lambda h: h.update({"layers/9/kernel": h.pop(name)})),
        "no description": rebuilt(lambda h: h["__metadata__"].pop("model")),
        "unknown layer": rebuilt(
            lambda h: h["__metadata__"].update(
                model=h["__metadata__"]["model"].replace('"Dense"', '"os.system"')
            )
        ),
        "unknown argument": rebuilt(
            lambda h: h["__metadata__"].update(
                model=h["__metadata__"]["model"].replace('"use_bias"', '"evil"')
            )
        ),
    }


def test_a_broken_file_is_refused_with_its_name(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    model_with_everything().save(good)
    for case, content in broken_files(good.read_bytes()).items():
        path = tmp_path / "broken.safetensors"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.safetensors: ") as caught:
            load_model(path)
        assert str(caught.value), case
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bool", "float16"])
def test_arrays_come_back_as_they_were(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "arrays"
    arrays = {"a": np.arange(6).reshape(2, 3).astype(dtype), "b": np.zeros((0, 4), dtype)}
    safetensors.write_file(path, arrays, {"key": "välue"})
    back, metadata = safetensors.read_file(path)
    assert metadata == {"key": "välue"}
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)
