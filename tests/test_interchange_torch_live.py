"""LSTMs of torch, read and written, beside torch itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interchange_support import Comparison, assert_same_model, layers_of, lstms_of
from lstm_ext import LSTM, Dropout, Sequential, from_torch, reference, to_torch
from support import Array, assert_no_slip, rms_error


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is not installed")


def random_module(torch: Any, rng: np.random.Generator, dtype: Any = None) -> Any:
    """Return an nn.LSTM whose biases have exact sums, and what makes another like it."""
    size, units, layers = (int(n) for n in rng.integers(1, [20, 20, 4]))
    options = {
        "num_layers": layers,
        "bias": bool(rng.integers(2)),
        "batch_first": bool(rng.integers(2)),
        "bidirectional": bool(rng.integers(2)),
        "dropout": 0.25 * (layers > 1) * int(rng.integers(2)),
        "proj_size": int(rng.integers(1, units)) if units > 1 and rng.integers(3) == 0 else 0,
    }
    dtype = dtype or (torch.float32, torch.float64)[int(rng.integers(2))]

    def make() -> Any:
        return torch.nn.LSTM(size, units, dtype=dtype, **options).eval()

    lstm = make()
    for name, weight in lstm.named_parameters():
        if name.startswith("bias"):
            weight.data = torch.round(weight.data * 2**12) / 2**12
    return lstm, make


@pytest.mark.live
def test_random_lstms_of_torch(torch: Any) -> None:
    """Layers, both directions, projections, with and without bias, there and back."""
    rng = np.random.default_rng(5)
    comparison = Comparison()
    for seed in range(250):
        torch.manual_seed(seed)
        lstm, make = random_module(torch, rng)
        source = (lstm, lstm.state_dict(), torch.nn.ModuleDict({"rnn": lstm}))[seed % 3]
        model = from_torch(source)
        drops = [layer.rate for layer in layers_of(model) if isinstance(layer, Dropout)]
        assert drops == [lstm.dropout] * (lstm.num_layers - 1) * bool(
            seed % 3 != 1 and lstm.dropout
        )
        again = make()
        again.load_state_dict({n: torch.as_tensor(a) for n, a in to_torch(model).items()})
        x = rng.normal(size=(*rng.integers(1, 9, 2), lstm.input_size))
        for module in (lstm, again):
            module.double()
            given = torch.tensor(x if lstm.batch_first else x.swapaxes(0, 1))
            with torch.no_grad():
                output = module(given)[0].numpy()
            comparison.add(model, x, output if lstm.batch_first else output.swapaxes(0, 1))
    comparison.finish()


@pytest.mark.live
def test_random_packed_sequences(torch: Any) -> None:
    """A mask is what packing is to torch, and its outputs behind the end are zeros."""
    rnn = torch.nn.utils.rnn
    rng = np.random.default_rng(6)
    comparison = Comparison()
    for seed in range(200):
        torch.manual_seed(seed)
        lstm, _ = random_module(torch, rng)
        model = from_torch(lstm)
        for layer in lstms_of(model):
            layer.zero_output_for_mask = True
        batch, steps = (int(n) for n in rng.integers(1, [6, 9]))
        lengths = rng.integers(1, steps + 1, batch)
        x = rng.normal(size=(batch, steps, lstm.input_size))
        packed = rnn.pack_padded_sequence(
            torch.tensor(x), torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
        with torch.no_grad():
            output = lstm.double()(packed)[0]
        output, _ = rnn.pad_packed_sequence(output, batch_first=True, total_length=steps)
        comparison.add(model, x, output.numpy(), np.arange(steps) < lengths[:, None])
    comparison.finish()


def reference_gradients(
    layers: list[Any], x: Array, d_output: Array, dtype: Any
) -> tuple[list[list[Array]], Array]:
    """Return the gradients of each layer's weights, and that of x, by the NumPy reference."""
    value, backwards = x.astype(dtype), []
    for layer in layers:
        outputs, ways = [], []
        for inner in lstms_of(layer):
            weights = [w.astype(dtype) for w in inner.weights]
            named = dict(zip(inner.weight_names, weights, strict=True))
            plain = [named.pop(n, None) for n in ("kernel", "recurrent_kernel", "bias")]
            results, backward = reference.lstm_vjp(
                value, *plain, go_backwards=inner.go_backwards, **named
            )
            outputs.append(results[0][:, ::-1] if inner.go_backwards else results[0])
            ways.append(backward)
        backwards.append(ways)
        value = np.concatenate(outputs, axis=-1)
    d_value, gradients = d_output.astype(dtype), []
    for layer, ways in zip(layers[::-1], backwards[::-1], strict=True):
        parts, d_x = np.split(d_value, len(ways), axis=-1), 0
        own = []
        for inner, part, backward in zip(lstms_of(layer), parts, ways, strict=True):
            found = backward(part[:, ::-1] if inner.go_backwards else part)
            own += [getattr(found, name) for name in inner.weight_names]
            d_x = d_x + found.x
        gradients.insert(0, own)
        d_value = d_x
    return gradients, d_value


def layer_gradients(layers: list[Any], x: Array, d_output: Array) -> tuple[list[Any], Array]:
    """Return the same by the layers themselves."""
    value, backwards = x, []
    for layer in layers:
        value, backward = layer.vjp(value, False)
        backwards.append(backward)
    gradients = []
    for backward in backwards[::-1]:
        d_output, own = backward(d_output, True)
        gradients.insert(0, own)
    return gradients, d_output


@pytest.mark.live
def test_random_gradients(torch: Any) -> None:
    """Gradients of all weights and of x, by torch's names and in its order of gates.

    What to_torch makes of gradients in the place of weights has to be torch's gradients.
    """
    rng = np.random.default_rng(7)
    found, rounding = [], []
    for seed in range(200):
        torch.manual_seed(seed)
        lstm, _ = random_module(torch, rng, torch.float64)
        model = from_torch(lstm)
        layers = [layer for layer in layers_of(model) if not isinstance(layer, Dropout)]
        x = rng.normal(size=(*rng.integers(1, [4, 7]), lstm.input_size))
        given = torch.tensor(x if lstm.batch_first else x.swapaxes(0, 1), requires_grad=True)
        output = lstm(given)[0]
        upstream = rng.normal(size=output.shape)
        (output * torch.tensor(upstream)).sum().backward()
        expected = {name: weight.grad.numpy() for name, weight in lstm.named_parameters()}
        expected["x"] = given.grad.numpy()
        if not lstm.batch_first:
            upstream, expected["x"] = upstream.swapaxes(0, 1), expected["x"].swapaxes(0, 1)
        results = [layer_gradients(layers, x, upstream)]
        results += [
            reference_gradients(layers, x, upstream, dtype) for dtype in (np.float32, np.float64)
        ]
        by_name = []
        for gradients, d_x in results:
            for layer, own in zip(layers, gradients, strict=True):
                layer.set_weights(own)
            by_name.append({**to_torch(model), "x": d_x})
        actual, plain, exact = by_name
        for name, array in expected.items():
            # The gradient of either bias is that of their sum, and to_torch writes one of them.
            ours = name.replace("bias_hh", "bias_ih")
            assert_no_slip(actual[ours], array, name)
            scale = float(np.abs(array).max()) or 1.0
            found.append(rms_error([actual[ours]], [array]) / scale)
            rounding.append(rms_error([plain[ours]], [exact[ours]]) / scale)
    error, allowed = (float(np.hypot.reduce(values)) for values in (found, rounding))
    assert error <= 4 * 2.0**-29 * allowed


@pytest.mark.live
def test_other_modules_of_torch_are_refused(torch: Any) -> None:
    nn = torch.nn
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
def test_several_layers_in_one_of_ours(torch: Any) -> None:
    """An LSTM with num_layers is one nn.LSTM, and comes back as that many layers."""
    layer = LSTM(5, num_layers=3, return_sequences=True, proj_size=2)
    layer.build((None, None, 4))
    lstm = torch.nn.LSTM(4, 5, 3, proj_size=2, batch_first=True)
    lstm.load_state_dict({n: torch.as_tensor(a) for n, a in to_torch(layer).items()})
    x = np.random.default_rng(0).normal(size=(40, 6, 4)).astype(np.float32)
    again = from_torch(lstm)
    assert isinstance(again, Sequential) and len(again.layers) == 3
    np.testing.assert_array_equal(layer(x), again(x))
    with torch.no_grad():
        output = lstm.double()(torch.tensor(x).double())[0].numpy()
    comparison = Comparison()
    comparison.add(again, x, output)
    comparison.finish()


@pytest.mark.live
def test_the_line_that_makes_a_safetensors_of_a_pickle(torch: Any, tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    lstm = torch.nn.LSTM(2, 3)
    torch.save(lstm.state_dict(), tmp_path / "lstm.pt")
    with pytest.raises(ValueError) as refused:
        from_torch(tmp_path / "lstm.pt")
    line = str(refused.value).splitlines()[-1]
    subprocess.run([sys.executable, "-c", line], check=True, timeout=120)
    assert_same_model(from_torch(tmp_path / "lstm.safetensors"), from_torch(lstm))
