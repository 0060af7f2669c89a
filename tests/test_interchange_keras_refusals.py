"""Models of Keras with what is not there yet, and files that are broken or hostile."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interchange_support import GOLDEN, assert_same_model, broken_files
from keras_support import CASES, config_of, declared, golden, write
from lstm_ext import from_keras

h5py = pytest.importorskip("h5py", reason="h5py is not installed")


def with_option(index: int, option: str, value: Any) -> dict[str, Any]:
    config = config_of("sequential.keras")
    config["config"]["layers"][index]["config"][option] = value
    return config


@pytest.mark.parametrize(
    ("index", "option", "value"),
    [
        (1, "time_major", True),
        (1, "kernel_regularizer", {"class_name": "L2", "config": {"l2": 0.01}}),
        (1, "bias_constraint", {"class_name": "MaxNorm", "config": {}}),
        (1, "dtype", "mixed_bfloat16"),
        (1, "dtype", {"class_name": "DTypePolicy", "config": {"name": "float16"}}),
        (1, "dtype", {"class_name": "QuantizedPolicy", "config": {"name": "int8_from_float32"}}),
        (5, "activation", {"class_name": "function", "config": "tanh", "module": "builtins"}),
        (5, "lora_rank", 4),
    ],
)  # fmt: skip
def test_options_that_are_not_supported_are_named(
    tmp_path: Path, index: int, option: str, value: Any
) -> None:
    path = write(tmp_path / "m.keras", with_option(index, option, value))
    with pytest.raises(NotImplementedError, match=rf"m\.keras: layer '\w+': .*{option}="):
        from_keras(path)


@pytest.mark.parametrize(
    ("index", "option", "value", "message"),
    [
        (1, "units", 2**30, r"weights of shapes \(4, 16\)"),
        (1, "units", 5, r"weights of shapes \(4, 16\)"),
        (1, "units", -1, "units: got -1"),
        (1, "units", "many", "units: got 'many'"),
        (1, "use_bias", False, r"weights of shapes .*, expected \(4, 16\), \(4, 16\)$"),
        (1, "units_", 3, "unexpected argument 'units_'"),
        (1, "num_layers", 2**30, "LSTM: got an unexpected argument 'num_layers'"),
        (1, "peepholes", False, "LSTM: got an unexpected argument 'peepholes'"),
        (1, "weights_dtype", "int8", "LSTM: got an unexpected argument 'weights_dtype'"),
        (1, "activation", "sine", "activation: got 'sine'"),
        (1, "recurrent_activation", "softmax", "recurrent_activation: got 'softmax'"),
        (1, "dropout", 2, "dropout: got 2"),
        (1, "dtype", 7, "dtype: got 7"),
        (1, "dtype", "int32", "dtype: got 'int32'"),
        (5, "activation", "sine", "activation: got 'sine'"),
        (5, "use_bias", True, "weights of shapes"),
        (2, "rate", 7, "rate: got 7"),
        (0, "batch_shape", [None, None, 5], "expected 5 features|expected 4 features"),
        (0, "batch_shape", "wide", "batch_shape: got 'wide'"),
        (6, "return_state", True, "has return_state"),
        (1, "kernel_initializer", {"class_name": "Mine", "config": {}}, "kernel_initializer: got"),
    ],
)
def test_options_that_do_not_fit_are_named(
    tmp_path: Path, index: int, option: str, value: Any, message: str
) -> None:
    path = write(tmp_path / "m.keras", with_option(index, option, value))
    with pytest.raises(ValueError, match=rf"m\.keras: .*({message})"):
        from_keras(path)


def test_hard_sigmoid_of_a_dense_of_keras_2_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.keras", with_option(5, "activation", "hard_sigmoid"))
    assert from_keras(path).layers[4].activation.name == "hard_sigmoid"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("metadata.json", '{"keras_version": "2.15.0"}')
    with pytest.raises(
        NotImplementedError, match="layer 'c': activation='hard_sigmoid' of Keras 2"
    ):
        from_keras(path)


def changed(change: Callable[[dict[str, Any]], Any], case: str = "functional.keras") -> Any:
    config = config_of(case)
    change(config)
    return config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed(lambda c: c.update(class_name="Mine")), "model of the class 'Mine'"),
        (
            changed(lambda c: c["config"]["layers"][2].update(class_name="GRU")),
            "of the class 'GRU' is not supported; supported are InputLayer, LSTM",
        ),
        (
            changed(lambda c: c["config"]["layers"][2].update(registered_name="My>LSTM")),
            "of the class 'My>LSTM' is not supported",
        ),
        (
            changed(lambda c: c["config"]["layers"][2].update(module="mine")),
            "of the class 'LSTM' is not supported",
        ),
        (
            changed(lambda c: c["config"].update(output_layers=[["dense", 0, 0], ["lstm", 0, 0]])),
            "several inputs or outputs",
        ),
        (changed(lambda c: c["config"].update(output_layers=["lstm", 0, 1])), "output 1 of layer"),
        (changed(lambda c: c["config"].update(output_layers=["lstm", 0, 0])), "beside the chain"),
        (
            changed(lambda c: c["config"]["layers"][2]["inbound_nodes"].append({})),
            "used several times",
        ),
        (
            changed(lambda c: c["config"]["layers"][2]["inbound_nodes"][0]["args"].append({})),
            "several inputs",
        ),
        (
            changed(
                lambda c: c["config"]["layers"][2]["inbound_nodes"][0]["kwargs"].update(
                    initial_state=[1]
                )
            ),
            "called with initial_state",
        ),
    ],
)  # fmt: skip
def test_models_that_are_not_there_yet_are_named(tmp_path: Path, config: Any, message: str) -> None:
    with pytest.raises(NotImplementedError, match=rf"m\.keras: .*{message}"):
        from_keras(write(tmp_path / "m.keras", config))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", "no JSON object"),
        ("[" * 100_000, "no JSON object"),
        ("{", "no JSON object"),
        ({"class_name": "Sequential"}, "no list of layers"),
        ({"class_name": "Sequential", "config": {"layers": [3]}}, "no list of layers"),
        ({"class_name": "Sequential", "config": {"layers": [{}]}}, "lacks its class"),
        (
            changed(lambda c: c["config"].update(output_layers=["nothing", 0, 0])),
            "layer 'nothing' is missing",
        ),
        (
            changed(
                lambda c: c["config"]["layers"][2]["inbound_nodes"][0]["args"][0]["config"].update(
                    keras_history=["dense", 0, 0]
                )
            ),
            "layer 'dense' is missing, or feeds itself",
        ),
        (
            changed(lambda c: c["config"]["layers"].pop(), "sequential.keras"),
            "layers/lstm_3 belongs to none",
        ),
        (
            changed(
                lambda c: c["config"]["layers"].append(c["config"]["layers"][1]), "sequential.keras"
            ),
            "layers/lstm_4/cell/vars is missing",
        ),
    ],
)  # fmt: skip
def test_descriptions_that_do_not_fit(tmp_path: Path, config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"m\.keras: .*{message}"):
        from_keras(write(tmp_path / "m.keras", config))


@pytest.mark.parametrize("case", CASES)
def test_broken_files_raise_value_errors(tmp_path: Path, case: str) -> None:
    model = declared(case)
    for path in broken_files(GOLDEN / f"keras_{case}", tmp_path):
        try:
            from_keras(path, model)
        except (ValueError, NotImplementedError):
            continue


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    zeros = bytes(2**27)
    path = write(tmp_path / "m.keras", "{}", zeros, compression=zipfile.ZIP_DEFLATED)
    del zeros
    assert path.stat().st_size < 2**18
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"model\.weights\.h5 would take 134217728 bytes"):
        from_keras(path)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_entries_that_keras_does_not_write(tmp_path: Path) -> None:
    path = write(tmp_path / "m.keras", "{}", compression=zipfile.ZIP_LZMA)
    with pytest.raises(ValueError, match=r"config\.json is encrypted, or packed in another way"):
        from_keras(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../config.json", "{}")
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        from_keras(path)


def h5_with(change: Callable[[Any], None]) -> bytes:
    """Return the sequential model's weights after a change to the file."""
    with zipfile.ZipFile(GOLDEN / "keras_sequential.keras") as archive:
        buffer = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(buffer, "r+") as h5:
        change(h5)
    return buffer.getvalue()


KERNEL = "layers/lstm/cell/vars/0"


def replace_kernel(h5: Any, **options: Any) -> None:
    del h5[KERNEL]
    h5.create_dataset(KERNEL, **options)


def external_link(h5: Any) -> None:
    del h5[KERNEL]
    h5[KERNEL] = h5py.ExternalLink("other.h5", "/x")


def ring(h5: Any) -> None:
    del h5["layers/lstm"]
    h5["layers/lstm"] = h5py.SoftLink("/layers/lstm")


def virtual(h5: Any) -> None:
    layout = h5py.VirtualLayout((4, 16), "f4")
    layout[...] = h5py.VirtualSource("other.h5", "x", (4, 16))
    del h5[KERNEL]
    h5.create_virtual_dataset(KERNEL, layout)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external_link, "is a link to somewhere else"),
        (ring, "is a link to somewhere else"),
        (virtual, "has its data in another file"),
        (
            lambda h5: replace_kernel(
                h5, shape=(4, 16), dtype="f4", external=[("/etc/hostname", 0, 256)]
            ),
            "has its data in another file",
        ),
        (
            lambda h5: replace_kernel(h5, shape=(2**40, 16), dtype="f4", chunks=(1, 16)),
            "would take 70368744177664 bytes",
        ),
        (
            lambda h5: replace_kernel(
                h5, shape=(4, 16), dtype="f4", chunks=(2**16, 2**12), maxshape=(None, None)
            ),
            "would take 1073741824 bytes",
        ),
        (lambda h5: replace_kernel(h5, data=np.ones((4, 16), int)), "is no array of floats"),
        (lambda h5: replace_kernel(h5, data="text"), "is no array of floats"),
        (lambda h5: replace_kernel(h5, data=h5py.Empty("f4")), ""),
        (lambda h5: replace_kernel(h5, data=np.ones((4, 4, 4), "f4")), "weights of shapes"),
        (lambda h5: h5.pop("layers/lstm_1"), "layers/lstm_1/cell/vars is missing"),
        (lambda h5: h5.pop(KERNEL), "layers/lstm/cell/vars/0 is missing"),
        (lambda h5: h5.pop("layers"), "is missing"),
    ],
)
def test_weights_that_keras_does_not_write(
    tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    path = write(tmp_path / "m.keras", config_of("sequential.keras"), h5_with(change))
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"m\.keras: .*{message}"):
        from_keras(path)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_a_text_is_as_long_as_its_heap_has_it(tmp_path: Path) -> None:
    """The attribute declares the length of its text once more, and HDF5 would believe it."""
    path = tmp_path / "m.h5"
    data = (GOLDEN / "keras_keras_2.h5").read_bytes()
    start = data.index(b'{"class_name"')
    heap = data.rindex(b"GCOL", 0, start)
    declared = data[start - 8 : start - 4] + heap.to_bytes(8, "little")
    assert data.count(declared) == 1
    path.write_bytes(data.replace(declared, b"\xff\xff\xff\x7f" + declared[4:]))
    tracemalloc.start()
    assert_same_model(from_keras(path), golden("keras_2.h5")[0])
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()
    path.write_bytes(data.replace(b'{"class_name"', b'["class_name"'))
    with pytest.raises(ValueError, match=r"m\.h5: it has no description of the model"):
        from_keras(path)
    path.write_bytes(data[: start - 8] + bytes([0, 0, 0, 0, 1, 0, 0, 0]) + data[start:])
    with pytest.raises(ValueError, match=r"m\.h5: it has no description of the model"):
        from_keras(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h5: h5["model_weights/z/sequential/z/lstm_cell"].move("bias", "b"), "b is none of"),
        (lambda h5: h5.pop("model_weights/z"), "model_weights/z is missing"),
        (lambda h5: h5.pop("model_weights"), "holds weights alone"),
    ],
)
def test_files_that_keras_2_does_not_write(
    tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes((GOLDEN / "keras_keras_2.h5").read_bytes())
    with h5py.File(path, "r+") as h5:
        assert "z" in h5["model_weights"]
        change(h5)
    with pytest.raises(ValueError, match=rf"m\.h5: .*{message}"):
        from_keras(path)
