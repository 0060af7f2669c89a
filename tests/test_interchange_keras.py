"""Models of Keras: the numbers that Keras recorded, every way to be wrong, and files that are."""

from __future__ import annotations

import io
import json
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interchange_support import (
    GOLDEN,
    Comparison,
    assert_computes,
    assert_same_model,
    broken_files,
    run_layers,
    wrong_models,
)
from lstm_ext import (
    LSTM,
    Dense,
    Dropout,
    Embedding,
    Input,
    Sequential,
    from_keras,
    reference,
    to_keras,
)
from support import Array, assert_as_accurate

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

CASES = ["functional.keras", "keras_2.h5", "sequential.keras", "weights.weights.h5"]


def golden(case: str) -> tuple[Any, Array, Array]:
    with np.load(GOLDEN / "keras.npz") as file:
        x, output = file[f"{case}/x"], file[f"{case}/output"]
    model = None
    if case == "weights.weights.h5":
        stack = [LSTM(3, return_sequences=True), LSTM(3), Dense(2, "sigmoid")]
        model = Sequential([Input((None, 3)), *stack])
    return from_keras(GOLDEN / f"keras_{case}", model), x, output


@pytest.mark.parametrize("case", CASES)
def test_computes_what_keras_computed(case: str) -> None:
    assert_computes(*golden(case))


@pytest.mark.parametrize("case", CASES)
def test_nothing_wrong_computes_what_keras_computed(case: str) -> None:
    model, x, output = golden(case)
    count = 0
    for name, wrong in wrong_models(model):
        count += 1
        with pytest.raises(AssertionError):
            assert_computes(wrong, x, output)
            pytest.fail(name)
    assert count >= {"sequential.keras": 25, "functional.keras": 24}.get(case, 27)


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


# ---- what is refused ----


def config_of(case: str) -> dict[str, Any]:
    with zipfile.ZipFile(GOLDEN / f"keras_{case}") as archive:
        return json.loads(archive.read("config.json"))


def write(path: Path, config: Any, weights: bytes | None = None, **options: Any) -> Path:
    """Write a .keras file with the weights of the sequential one."""
    with zipfile.ZipFile(GOLDEN / "keras_sequential.keras") as archive:
        weights = weights or archive.read("model.weights.h5")
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.writestr("model.weights.h5", weights)
    return path


def with_option(index: int, option: str, value: Any) -> dict[str, Any]:
    config = config_of("sequential.keras")
    config["config"]["layers"][index]["config"][option] = value
    return config


@pytest.mark.parametrize(
    ("index", "option", "value"),
    [
        (1, "activation", "relu"),
        (1, "recurrent_activation", "hard_sigmoid"),
        (1, "dropout", 0.5),
        (1, "recurrent_dropout", 0.5),
        (1, "zero_output_for_mask", True),
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
def test_options_that_are_not_there_yet_are_named(
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


# ---- hostile files ----


@pytest.mark.parametrize("case", CASES)
def test_broken_files_raise_value_errors(tmp_path: Path, case: str) -> None:
    model = golden("weights.weights.h5")[0] if "weights" in case else None
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


def test_keras_2_puts_a_number_behind_names(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes((GOLDEN / "keras_keras_2.h5").read_bytes())
    with h5py.File(path, "r+") as h5:
        group = h5["model_weights/z/sequential/z/lstm_cell"]
        for name in list(group):
            group.move(name, f"{name}:0")
    assert_same_model(from_keras(path), golden("keras_2.h5")[0])


# ---- written files ----


def every_layer(dtype: str = "float32") -> Sequential:
    denses = [
        Dense(4, activation, use_bias=activation != "relu", dtype=dtype)
        for activation in ("relu", "softmax", "gelu", None)
    ]
    return Sequential(
        [
            Input((None,), dtype="int32"),
            Embedding(9, 4, dtype=dtype),
            LSTM(5, return_sequences=True, name="first", dtype=dtype),
            Dropout(0.2, seed=3, dtype=dtype),
            *denses,
            LSTM(4, go_backwards=True, use_bias=False, kernel_initializer="he_normal", dtype=dtype),
        ]
    )  # fmt: skip


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


# ---- with Keras itself ----


@pytest.fixture
def keras() -> Any:
    module = pytest.importorskip("keras", reason="keras is not installed")
    before = module.config.floatx(), module.config.dtype_policy()
    yield module
    module.config.set_floatx(before[0])
    module.config.set_dtype_policy(before[1])


# Without gelu and leaky_relu, in which Keras keeps constants in float32 also for float64.
NAMES = [
    "relu", "sigmoid", "tanh", "softmax", "softplus", "softsign", "elu", "selu", "silu",
    "exponential", "hard_sigmoid", "linear", None,
]  # fmt: skip


def random_layers(keras: Any, rng: np.random.Generator) -> tuple[Any, list[Any]]:
    """Return a random Input and makers of random layers."""
    layers = keras.layers
    count = int(rng.integers(1, 4))
    words = bool(rng.integers(4) == 0)
    stack = [lambda: layers.Embedding(9, 4)] if words else []
    for index in range(count):
        options = {
            "units": int(rng.integers(1, 9)),
            "return_sequences": index < count - 1 or bool(rng.integers(2)),
            "go_backwards": bool(rng.integers(2)),
            "use_bias": bool(rng.integers(2)),
            "unroll": bool(rng.integers(10) == 0),
        }
        stack.append(lambda options=options: layers.LSTM(**options))
        if rng.integers(3) == 0:
            stack.append(lambda: layers.Dropout(0.5))
        if rng.integers(2):
            dense = {
                "units": int(rng.integers(2, 9)),
                "activation": NAMES[rng.integers(len(NAMES))],
            }
            stack.append(lambda dense=dense: layers.Dense(**dense))
    shape = (int(rng.integers(1, 6)), *[int(rng.integers(1, 9))] * (not words))
    return (shape, "int32") if words else (shape, None), stack


def assemble(keras: Any, given: Any, stack: list[Any], functional: bool) -> Any:
    first = keras.Input(given[0], dtype=given[1])
    if not functional:
        return keras.Sequential([first, *(make() for make in stack)])
    value = first
    for make in stack:
        value = make()(value)
    return keras.Model(first, value)


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
def test_random_models_of_keras(keras: Any, tmp_path: Path) -> None:
    comparison = Comparison()
    for seed in range(200):
        rng = np.random.default_rng([8, seed])
        given, stack = random_layers(keras, rng)
        functional = bool(rng.integers(2))
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
        model = assemble(keras, given, stack, functional)
        weights = [rng.normal(0, 0.5, size=w.shape).astype(np.float32) for w in model.get_weights()]
        model.set_weights(weights)
        source: Any = model
        if seed % 4 in (0, 1):
            source = tmp_path / ("m.keras", "m.h5")[seed % 4]
            model.save(source)
        ours = from_keras(source)
        to_keras(ours, tmp_path / "back.keras")
        assert_same_model(from_keras(tmp_path / "back.keras"), ours)
        if seed % 10 == 0:
            assert_same_model(from_keras(keras.models.load_model(tmp_path / "back.keras")), ours)
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        exact = assemble(keras, given, stack, functional)
        exact.set_weights(weights)
        if seed % 4 == 2:
            ours = from_keras(exact)
        batch = int(rng.integers(1, 5))
        x = rng.normal(size=(batch, *given[0])).astype(np.float32)
        if given[1]:
            x = rng.integers(0, 9, x.shape)
        comparison.add(ours, x, np.asarray(exact(x)))
    comparison.finish()


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
def test_keras_loads_what_is_written(keras: Any, tmp_path: Path) -> None:
    model = every_layer()
    to_keras(model, tmp_path / "m.keras")
    to_keras(model, tmp_path / "m.weights.h5")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    x = np.random.default_rng(0).integers(0, 9, (5, 7))
    for theirs in (loaded, keras.Sequential.from_config(loaded.get_config())):
        theirs.load_weights(tmp_path / "m.weights.h5")
        plain = run_layers(model, x, np.float32, reference.lstm)
        exact = run_layers(model, x, np.float64, reference.lstm)
        assert_as_accurate([np.asarray(theirs(x))], [plain], [exact], "keras", factor=4)
    assert_same_model(from_keras(loaded), model)


@pytest.mark.live
def test_layers_of_keras(keras: Any) -> None:
    layer = keras.layers.LSTM(3, return_state=True, stateful=True, name="mine")
    layer.build((2, 4, 5))
    ours = from_keras(layer)
    assert isinstance(ours, LSTM) and ours.return_state and ours.stateful and ours.name == "mine"
    for a, b in zip(ours.weights, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    dense = keras.layers.Dense(3, "relu")
    dense.build((2, 5))
    ours = from_keras(dense)
    assert isinstance(ours, Dense) and ours.activation.name == "relu"
    np.testing.assert_array_equal(ours.kernel, dense.get_weights()[0])
    with pytest.raises(ValueError, match="got no weights, as of a layer that was never built"):
        from_keras(keras.layers.LSTM(3))
    with pytest.raises(NotImplementedError, match="of the class 'Bidirectional' is not supported"):
        from_keras(keras.layers.Bidirectional(keras.layers.LSTM(3)))


@pytest.mark.live
def test_subclasses_of_keras_layers_are_refused(keras: Any) -> None:
    class LSTM(keras.layers.LSTM):  # type: ignore[name-defined,misc]
        """Computes who knows what."""

    layer = LSTM(3)
    layer.build((None, 4, 5))
    with pytest.raises(NotImplementedError, match="of the class 'LSTM' is not supported"):
        from_keras(layer)
