"""LSTMs of torch: the numbers that torch recorded, every way to be wrong, and files that are."""

from __future__ import annotations

import json
import subprocess
import sys
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
    count_wrong_models,
    layers_of,
)
from lstm_ext import LSTM, Dense, Dropout, Sequential, from_torch, to_torch
from lstm_ext.models import safetensors
from support import Array

CASES = [path.stem.removeprefix("torch_") for path in sorted(GOLDEN.glob("torch_*.safetensors"))]


def golden(case: str) -> tuple[LSTM | Sequential, Array, Array]:
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
    assert len(CASES) == 5


@pytest.mark.parametrize("case", CASES)
def test_computes_what_torch_computed(case: str) -> None:
    assert_computes(*golden(case))


@pytest.mark.parametrize("case", CASES)
def test_nothing_wrong_computes_what_torch_computed(case: str) -> None:
    model, x, output = golden(case)
    count = count_wrong_models(model, x, output)
    assert count >= (24, 26)[case in ("square", "three_layers")]


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
    ],
)
def test_what_does_not_fit_is_named(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_torch(source)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weight_hh_l0_reverse", "a bidirectional LSTM is not supported"),
        ("bias_ih_l0_reverse", "a bidirectional LSTM is not supported"),
        ("weight_hr_l0", r"a projection \(proj_size\) is not supported"),
    ],
)
def test_what_is_not_there_yet_is_named(name: str, message: str) -> None:
    with pytest.raises(NotImplementedError, match=f"{name}: {message}"):
        from_torch(state_dict() | {name: np.ones((4, 4))})


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
    for path in broken_files(GOLDEN / "torch_inside.safetensors", tmp_path):
        try:
            model = from_torch(path)
        except (ValueError, NotImplementedError):
            continue
        assert isinstance(model, (LSTM, Sequential))


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
            "expected those of lstm.*, as torch's layers share both",
        ),
        (
            [LSTM(3, return_sequences=True), LSTM(3, use_bias=False)],
            "expected those of lstm.*, as torch's layers share both",
        ),
        ([Dropout(0.5)], "has no LSTM"),
    ],
)
def test_what_torch_cannot_be_is_named(layers: list[Any], message: str, tmp_path: Path) -> None:
    model = Sequential(layers)
    model.build((None, 5, 3))
    with pytest.raises(ValueError, match=message):
        to_torch(model, tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_only_built_models_are_written() -> None:
    with pytest.raises(ValueError, match=r"to_torch: lstm.* is not built"):
        to_torch(LSTM(3))
    with pytest.raises(TypeError, match="to_torch: got int, expected a layer or a Sequential"):
        to_torch(3)  # type: ignore[arg-type]


# ---- with torch itself ----


@pytest.mark.live
def test_random_lstms_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rng = np.random.default_rng(5)
    comparison = Comparison()
    for seed in range(200):
        torch.manual_seed(seed)
        size, units, layers = (int(n) for n in rng.integers(1, [20, 20, 4]))
        options = {
            "num_layers": layers,
            "bias": bool(rng.integers(2)),
            "batch_first": bool(rng.integers(2)),
            "dropout": 0.25 * (layers > 1) * int(rng.integers(2)),
        }
        dtype = (torch.float32, torch.float64)[int(rng.integers(2))]
        lstm = torch.nn.LSTM(size, units, dtype=dtype, **options).eval()
        for name, weight in lstm.named_parameters():
            if name.startswith("bias"):  # so that their sums are exact
                weight.data = torch.round(weight.data * 2**12) / 2**12
        source = (lstm, lstm.state_dict(), torch.nn.ModuleDict({"rnn": lstm}))[seed % 3]
        model = from_torch(source)
        if seed % 3 != 1 and options["dropout"]:
            assert [layer.rate for layer in layers_of(model)[1::2]] == [0.25] * (layers - 1)
        again = torch.nn.LSTM(size, units, dtype=dtype, **options).eval()
        again.load_state_dict({n: torch.as_tensor(a) for n, a in to_torch(model).items()})
        x = rng.normal(size=(*rng.integers(1, 9, 2), size))
        for module in (lstm, again):
            module.double()
            given = torch.tensor(x if options["batch_first"] else x.swapaxes(0, 1))
            with torch.no_grad():
                output = module(given)[0].numpy()
            comparison.add(model, x, output if options["batch_first"] else output.swapaxes(0, 1))
    comparison.finish()


@pytest.mark.live
def test_other_modules_of_torch_are_refused() -> None:
    nn = pytest.importorskip("torch", reason="torch is not installed").nn
    with pytest.raises(NotImplementedError, match="bidirectional"):
        from_torch(nn.LSTM(2, 3, bidirectional=True))
    with pytest.raises(NotImplementedError, match="proj_size"):
        from_torch(nn.LSTM(2, 3, proj_size=2))
    for module in (nn.GRU(2, 3), nn.RNN(2, 3)):
        with pytest.raises(ValueError, match="of an LSTM: 4 rows a unit"):
            from_torch(module)
    with pytest.raises(ValueError, match=r"got no LSTM|does not have"):
        from_torch(nn.utils.parametrizations.weight_norm(nn.LSTM(2, 3), "weight_hh_l0"))
    bfloat16 = nn.LSTM(2, 3).bfloat16()
    np.testing.assert_array_equal(
        layers_of(from_torch(bfloat16))[0].kernel, bfloat16.weight_ih_l0.detach().float().numpy().T
    )


@pytest.mark.live
def test_the_line_that_makes_a_safetensors_of_a_pickle(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    lstm = torch.nn.LSTM(2, 3)
    torch.save(lstm.state_dict(), tmp_path / "lstm.pt")
    with pytest.raises(ValueError) as refused:
        from_torch(tmp_path / "lstm.pt")
    line = str(refused.value).splitlines()[-1]
    subprocess.run([sys.executable, "-c", line], check=True, timeout=120)
    assert_same_model(from_torch(tmp_path / "lstm.safetensors"), from_torch(lstm))
