"""Files: models come back as they were, crashes leave the old file, hostile files are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ext import (
    LSTM,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Input,
    Sequential,
    activations,
    load_model,
    random,
    set_random_seed,
)
from lstm_ext.models import safetensors
from lstm_ext.optimizers import SGD, Adam, AdamW, RMSprop

RNG = np.random.default_rng(9)


def model_with_everything(optimizer: Any = "adam") -> Sequential:
    layers = [
        Input((6,)),
        Embedding(9, 4, mask_zero=True),
        LSTM(5, return_sequences=True, dtype="float32", num_layers=2, proj_size=3, clip=2.0),
        Dropout(0.2, seed=3),
        Bidirectional(LSTM(3, ("elu", 0.5), return_sequences=True, peepholes=True), "sum"),
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
        "empty shape beyond all": rebuilt(
            lambda h: h.update({"z": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}})
        ),
        "shape of many axes": rebuilt(lambda h: h[name].update(shape=[1] * 90 + [4, 20])),
        "shape of bools": rebuilt(lambda h: h[name].update(shape=[True, 80])),
        "huge shape": rebuilt(lambda h: h[name].update(shape=[2**40, 2**40])),
        "negative shape": rebuilt(lambda h: h[name].update(shape=[-4, -5])),
        "unknown dtype": rebuilt(lambda h: h[name].update(dtype="F31")),
        "offsets beyond": rebuilt(lambda h: h[name].update(data_offsets=[0, 2**50])),
        "offsets backwards": rebuilt(lambda h: h[name].update(data_offsets=[9, 3])),
        "overlap": rebuilt(
            lambda h: h[name].update(data_offsets=h["layers/0/embeddings"]["data_offsets"])
        ),
        "shifted": rebuilt(
            lambda h: h[name].update(data_offsets=[o - 4 for o in h[name]["data_offsets"]])
        ),
        "missing weight": rebuilt(lambda h: h.update({"layers/9/kernel": h.pop(name)})),
        "no description": rebuilt(lambda h: h["__metadata__"].pop("model")),
        "deep description": rebuilt(
            lambda h: h["__metadata__"].update(model="[" * 50000 + "]" * 50000)
        ),
        "a layer without end": rebuilt(
            lambda h: h["__metadata__"].update(
                model=h["__metadata__"]["model"].replace('"units": 5', f'"units": {2**30}')
            )
        ),
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


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    path = tmp_path / "model"
    model = model_with_everything()
    model.save(path)
    set_random_seed(5)
    expected = random.generator().random()
    set_random_seed(5)
    again = load_model(path)
    assert random.generator().random() == expected
    for layer, other in zip(model.layers, again.layers, strict=True):
        assert layer.get_config() == other.get_config()


def test_a_description_is_loaded_whatever_in_it_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every value in turn by others: there is a model, or a ValueError with the file's name."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # thousands of files
    path = tmp_path / "changed.safetensors"
    model = model_with_everything()
    model.fit(X, Y, verbose=0)
    model.save(path)
    arrays, metadata = safetensors.read_file(path)
    values = [None, -1, 2.5, 2**70, float("nan"), "x", [], {}, [2**70], [0, 3], "9" * 5000]
    loaded = 0
    for where in paths(json.loads(metadata["model"])):
        for value in values:
            changed = json.loads(metadata["model"])
            target = changed
            for key in where[:-1]:
                target = target[key]
            target[where[-1]] = value
            safetensors.write_file(path, arrays, {**metadata, "model": json.dumps(changed)})
            try:
                load_model(path)
                loaded += 1
            except ValueError as error:
                assert "changed.safetensors: " in str(error), (where, value)
    assert loaded


def paths(description: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where everything in a description of dicts and lists is."""
    keys = description if isinstance(description, dict) else range(len(description))
    found = []
    for key in keys:
        found.append((*above, key))
        if isinstance(description[key], (dict, list)):
            found += paths(description[key], (*above, key))
    return found


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are those of POSIX")
def test_a_file_keeps_its_permissions_and_a_link_its_target(tmp_path: Path) -> None:
    path, link = tmp_path / "model", tmp_path / "link"
    model = model_with_everything()
    model.save(path)
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o640)
    link.symlink_to(path)
    model.set_weights([w + 1 for w in model.get_weights()])
    model.save(link)
    assert link.is_symlink() and path.stat().st_mode & 0o777 == 0o640
    np.testing.assert_array_equal(load_model(path).get_weights()[0], model.get_weights()[0])


def test_an_activation_of_ones_own_is_not_saved_under_anothers_name(tmp_path: Path) -> None:
    own = activations.Activation("relu", np.abs, lambda z, y, dy: dy * np.sign(z))
    model = Sequential([Input((2,)), Dense(3, activation=own)])
    with pytest.raises(ValueError, match=r"activation: .*relu.* has no name here"):
        model.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())
