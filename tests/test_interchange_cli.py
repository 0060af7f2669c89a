"""``lstm-ext convert`` and ``lstm-ext predict``: from every kind of file to every other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from interchange_support import GOLDEN, assert_same_model
from lstm_ext import LSTM, Dense, Embedding, Input, Sequential, cli, load_model
from lstm_ext.interchange.files import read_model

pytest.importorskip("h5py", reason="h5py is not installed")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")

SOURCES = {
    "torch": "torch_three_layers.safetensors",
    "keras": "keras_sequential.keras",
    "keras_2": "keras_keras_2.h5",
    "onnx": "onnx_torch_new_words.onnx",
    "torch, both ways": "torch_both_ways.safetensors",
    "keras, both ways": "keras_two_ways_of_keras_2.h5",
    "onnx, both ways": "onnx_tf2onnx_both.onnx",
}


@pytest.mark.parametrize("target", ["m.safetensors", "m.keras", "m.onnx"])
@pytest.mark.parametrize("source", SOURCES)
def test_from_each_kind_of_file_to_each_other_and_back(
    source: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = GOLDEN / SOURCES[source], tmp_path / target
    assert cli.main(["convert", str(first), str(second)]) == 0
    model = read_model(str(first))
    told = capsys.readouterr().out
    assert told.startswith(f"{second}: ") and f"{model.count_params()} parameters" in told
    assert_same_model(read_model(str(second)), model)


def test_to_torch_and_to_ours(tmp_path: Path) -> None:
    source = GOLDEN / SOURCES["torch"]
    ours, torch = tmp_path / "ours.safetensors", tmp_path / "torch.safetensors"
    assert cli.main(["convert", str(source), str(ours)]) == 0
    assert cli.main(["convert", str(ours), str(torch), "--torch"]) == 0
    assert_same_model(read_model(str(torch)), load_model(ours))


def test_what_a_kind_of_file_does_not_have_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(GOLDEN / "torch_projection.safetensors")
    assert cli.main(["convert", source, str(tmp_path / "m.safetensors")]) == 0
    for name in ("m.keras", "m.onnx"):
        assert cli.main(["convert", source, str(tmp_path / name)]) == 2
        assert "got proj_size=3, which" in capsys.readouterr().err
        assert not (tmp_path / name).exists()


def test_small_weights_of_onnx(tmp_path: Path) -> None:
    source, target = GOLDEN / "onnx_quantized.onnx", tmp_path / "m.safetensors"
    arguments = ["convert", str(source), str(target), "--weights-dtype", "int8"]
    assert cli.main(arguments) == 0
    assert load_model(target).layers[0].weights_dtype == "int8"  # type: ignore[attr-defined]
    arguments[1] = str(GOLDEN / SOURCES["torch"])
    assert cli.main(arguments) == 0
    assert load_model(target).layers[0].weights_dtype == "int8"  # type: ignore[attr-defined]
    with pytest.raises(SystemExit):
        cli.main([*arguments[:-1], "int4"])


def test_lengths_of_onnx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = str(GOLDEN / SOURCES["torch, both ways"]), str(tmp_path / "m.onnx")
    assert cli.main(["convert", source, target, "--sequence-lens"]) == 0
    model = onnx.load(target)
    assert "sequence_lens" in [value.name for value in model.graph.input]
    assert_same_model(read_model(target), read_model(source))
    assert cli.main(["convert", source, str(tmp_path / "m.keras"), "--sequence-lens"]) == 2
    assert "--sequence-lens: expected an .onnx file to write" in capsys.readouterr().err


def test_predict_with_lengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(GOLDEN / SOURCES["torch, both ways"])
    x, lengths = np.random.default_rng(0).normal(size=(3, 6, 8)), np.array([6, 0, 2])
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "n.npy", lengths)
    output = tmp_path / "y.npy"
    arguments = ["predict", source, str(tmp_path / "x.npy"), "--output", str(output)]
    given = ["--lengths", str(tmp_path / "n.npy")]
    assert cli.main([*arguments, *given]) == 0
    mask = np.arange(6) < lengths[:, None]
    np.testing.assert_array_equal(np.load(output), read_model(source)(x, mask=mask))
    for wrong in (
        np.array([6, 0]),
        np.array([7, 0, 1]),
        np.array([0.5, 1, 2]),
        np.ones((3, 1), int),
    ):
        np.save(tmp_path / "n.npy", wrong)
        assert cli.main([*arguments, *given]) == 2
        assert "lengths: " in capsys.readouterr().err


def test_which_lstm(tmp_path: Path) -> None:
    target = str(tmp_path / "m.keras")
    torch, onnx = (
        str(GOLDEN / name) for name in ("torch_inside.safetensors", "onnx_directions.onnx")
    )
    assert cli.main(["convert", torch, target, "--prefix", "rnn"]) == 0
    assert cli.main(["convert", torch, target, "--prefix", "head"]) == 2
    assert cli.main(["convert", onnx, target, "--node", "last"]) == 0
    assert read_model(target).layers[0].go_backwards  # type: ignore[attr-defined]
    assert cli.main(["convert", onnx, target, "--prefix", "rnn"]) == 2
    assert cli.main(["convert", torch, target, "--node", "last"]) == 2


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("no.onnx", "m.keras", "No such file"),
        ("m.txt", "m.keras", "got the ending '.txt', expected .safetensors"),
        ("torch_square.safetensors", "m.txt", "got the ending '.txt', expected .safetensors"),
        ("torch_square.safetensors", "m.h5", "expected it to end in .keras or .weights.h5"),
        ("keras_weights.weights.h5", "m.onnx", "holds weights alone"),
        ("keras_sequential.keras", "m.onnx --torch", "--torch: expected a .safetensors file"),
        ("keras_functional.keras", "m.safetensors --torch", "expected LSTMs alone"),
        ("pickle.pt", "m.onnx", "may run code"),
    ],
)
def test_a_mistake_ends_with_2_and_leaves_no_file(
    source: str, target: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = GOLDEN / source
    if not path.exists() and source != "no.onnx":
        path = tmp_path / source
        path.write_bytes(b"PK\x03\x04")
    before = sorted(tmp_path.iterdir())
    name, *options = target.split()
    assert cli.main(["convert", str(path), str(tmp_path / name), *options]) == 2
    told = capsys.readouterr().err
    assert told.startswith("lstm-ext convert: ") and message in told
    assert sorted(tmp_path.iterdir()) == before


# ---- predict ----


def saved(model: Sequential, tmp_path: Path) -> str:
    path = str(tmp_path / "model.safetensors")
    model.save(path)
    return path


def test_predict_arrays(tmp_path: Path) -> None:
    source = str(GOLDEN / SOURCES["torch"])
    x = np.random.default_rng(0).normal(size=(40, 6, 4))
    np.save(tmp_path / "x.npy", x)
    output = tmp_path / "y.npy"
    arguments = ["predict", source, str(tmp_path / "x.npy"), "--output", str(output)]
    assert cli.main(arguments) == 0
    np.testing.assert_array_equal(np.load(output), read_model(source)(x))


def test_predict_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Sequential([Input((None, 2)), LSTM(3, return_sequences=True), Dense(2)])
    path, data = saved(model, tmp_path), tmp_path / "x.csv"
    x = np.random.default_rng(1).normal(size=(5, 2))
    rows = "".join(f"{float(a)!r},{float(b)!r}\n" for a, b in x)
    for heading in ("", "first,second\n", "\ufeff"):
        data.write_text(heading + rows + "\n", encoding="utf-8")
        assert cli.main(["predict", path, str(data)]) == 0
        told = np.array(
            [[float(v) for v in row.split(",")] for row in capsys.readouterr().out.split()]
        )
        np.testing.assert_array_equal(told.astype(np.float32), model(x[None])[0])
    assert cli.main(["predict", path, str(data), "--output", str(tmp_path / "y.csv")]) == 0
    assert len((tmp_path / "y.csv").read_text().splitlines()) == 5


def test_predict_words_and_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Sequential([Input((None,)), Embedding(9, 2), LSTM(3, return_sequences=True)])
    data = tmp_path / "x.csv"
    data.write_text("1,2,3,4\n5,6,7,8\n")
    assert cli.main(["predict", saved(model, tmp_path), str(data)]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    assert len(first.splitlines()) == len(second.splitlines()) == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npy", b"", "cut off, or no array"),
        ("x.npy", b"\x93NUMPY\x01\x00", "cut off, or no array"),
        ("x.npy", b"PK\x03\x04", "cut off, or no array"),
        ("x.csv", b"", "has no row of numbers"),
        ("x.csv", b"a,b\nc,d\n", "line 2: could not convert"),
        ("x.csv", b"1,2\n3\n", "line 2 has 1 columns, expected 2"),
        ("x.csv", b"\xff\xfe\n\x00", "could not convert"),
        ("x.csv", b"1,2,3\n", "expected 2"),
        ("x.txt", b"1", "expected a file .npy or .csv"),
    ],
)
def test_data_that_are_none(
    name: str, content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved(Sequential([Input((None, 2)), LSTM(3)]), tmp_path)
    (tmp_path / name).write_bytes(content)
    assert cli.main(["predict", model, str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


def test_arrays_of_objects_and_declared_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved(Sequential([Input((None, 2)), LSTM(3)]), tmp_path)
    path = tmp_path / "x.npy"
    np.save(path, np.array([{}, 3], dtype=object), allow_pickle=True)
    assert cli.main(["predict", model, str(path)]) == 2
    np.save(path, np.array(["a", "b"]))
    assert cli.main(["predict", model, str(path)]) == 2
    np.save(path, np.ones((1, 2, 2)))
    path.write_bytes(path.read_bytes().replace(b"(1, 2, 2), }         ", b"(1, 2, 9999999999), }"))
    assert cli.main(["predict", model, str(path)]) == 2
    assert capsys.readouterr().err.count("cut off, or no array of numbers") == 3


def test_the_output_is_told_by_its_ending(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["predict", "m.onnx", "x.npy", "--output", str(tmp_path / "y.txt")]) == 2
    assert "--output: got" in capsys.readouterr().err
