"""What a CUDA device, a stand-in for one, refuses: mixed arrays, what it lacks, its own absence."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_support import CLASSES, WEIGHTS, B, H, X, Y, make_model, to_device
from lstm_ext import (
    LSTM,
    Bidirectional,
    Dense,
    Dropout,
    Layer,
    Sequential,
    interchange,
    losses,
    metrics,
    optimizers,
    quantization_error,
)
from lstm_ext.cuda import availability
from support import assert_same_bits

pytestmark = pytest.mark.usefixtures("device")


@pytest.mark.parametrize("make", [lambda: LSTM(H), lambda: Dense(2), lambda: Dropout(0.5)])
def test_mixed_arrays(make: Callable[[], Layer]) -> None:
    layer = make()
    with pytest.raises(TypeError, match=r'x: got an array on a CUDA .* to_device\("cuda"\) moves'):
        layer(to_device(X))
    layer(X)
    layer.to_device("cuda")
    for wrong in (X, X.tolist()):
        with pytest.raises(TypeError, match=r"x: got .* cupy\.asarray\(x\) moves it there, to_dev"):
            layer(wrong)


def test_mixed_arrays_in_a_model() -> None:
    model = make_model()
    with pytest.raises(TypeError, match="x: got an array on a CUDA device"):
        model.fit(to_device(X), to_device(Y), verbose=0)
    with pytest.raises(TypeError, match="y: got an array on a CUDA device"):
        model.fit(X, to_device(Y), verbose=0)
    with pytest.raises(TypeError, match=r"lstm.*/kernel: got an array on a CUDA"):
        model.set_weights([to_device(w) for w in model.get_weights()])
    model.to_device("cuda")
    before = model.get_weights()
    x, y = to_device(X), to_device(Y)
    for arguments, name in (((X, y), "x"), ((x, Y), "y"), ((x, y.memory.tolist()), "y")):
        with pytest.raises(TypeError, match=rf"{name}: got .* cupy.asarray\({name}\) moves"):
            model.fit(*arguments, verbose=0)
    with pytest.raises(TypeError, match="sample_weight: got a NumPy array"):
        model.fit(x, y, sample_weight=WEIGHTS, verbose=0)
    with pytest.raises(TypeError, match="validation_data: y: got a NumPy array"):
        model.fit(x, y, validation_data=(x, Y), verbose=0)
    assert_same_bits(model.get_weights(), before)
    model.layers[1].to_device("cpu")
    with pytest.raises(ValueError, match="got layers on the CPU and on a device"):
        model.fit(x, y, verbose=0)


def test_an_optimizer_that_was_left_behind() -> None:
    for put, other in ((np.array, to_device), (to_device, np.array)):
        optimizer = optimizers.Adam()
        weights = [np.ones(3, np.float32)]
        optimizer.apply([put(w) for w in weights], [put(w) for w in weights])
        with pytest.raises(ValueError, match=r"weights: got arrays on .* to_device moves that"):
            optimizer.apply([other(w) for w in weights], [other(w) for w in weights])
        assert optimizer.iterations == 1


def test_mixed_arrays_in_losses_and_metrics() -> None:
    for function in (
        losses.MeanSquaredError(),
        losses.CategoricalCrossentropy(),
        metrics.get("mae"),
    ):
        with pytest.raises(TypeError, match="y_true: got a NumPy array, expected an array of CuPy"):
            function(CLASSES, to_device(CLASSES))
        with pytest.raises(TypeError, match="y_true: got an array on a CUDA device, expected one"):
            function(to_device(CLASSES), CLASSES)
        with pytest.raises(TypeError, match="sample_weight: got a NumPy array, expected an array"):
            function(to_device(CLASSES), to_device(CLASSES), WEIGHTS)
    labels = np.zeros(B, np.int64)
    for labelled in (losses.SparseCategoricalCrossentropy(), metrics.SparseCategoricalAccuracy()):
        with pytest.raises(TypeError, match="y_true: got a NumPy array, expected an array of CuPy"):
            labelled(labels, to_device(CLASSES))
        with pytest.raises(TypeError, match="y_true: got an array on a CUDA device, expected one"):
            labelled(to_device(labels), CLASSES)


MISSING: list[tuple[str, Callable[..., Layer]]] = [
    ("layer_norm", lambda **o: LSTM(H, layer_norm=True, **o)),
    ("weights_dtype", lambda **o: LSTM(H, weights_dtype="int8", **o)),
    ("layer_norm", lambda **o: Bidirectional(LSTM(H, layer_norm=True), **o)),
]


@pytest.mark.parametrize(("name", "make"), MISSING)
def test_what_is_not_there_on_a_device(name: str, make: Callable[..., Layer]) -> None:
    with pytest.raises(NotImplementedError, match=name):
        make(device="cuda")
    dense = Dense(2)
    model = Sequential([dense, make()])
    with pytest.raises(NotImplementedError, match=name):
        model.to_device("cuda")
    assert dense.device == model.device == "cpu"


def test_what_a_call_on_a_device_lacks(tmp_path: Path) -> None:
    layer = LSTM(H, device="cuda")
    x = to_device(X)
    layer(x)
    refused: list[tuple[str, Callable[[], Any]]] = [
        ("weights_dtype", lambda: layer.quantize("int8")),
        ("to_torch", lambda: interchange.to_torch(layer)),
        ("to_keras", lambda: interchange.to_keras(layer, tmp_path / "a.keras")),
        ("quantization_error", lambda: quantization_error(layer, X, "int8")),
        ("Bidirectional", lambda: Bidirectional(layer)),
    ]
    for name, call in refused:
        with pytest.raises(NotImplementedError, match=rf'{name}: lstm.* to_device\("cpu"\) moves'):
            call()
    with pytest.raises(ValueError, match=r"x: got shape \(6, 4, 2\), expected \(batch, time, 3\)"):
        layer(x[..., :2])


def test_wrong_and_missing_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="device: got 'tpu', expected 'cpu' or 'cuda'"):
        Dense(2, device="tpu")
    layer = LSTM(H)
    layer(X)
    modules: list[tuple[Any, str]] = [
        (None, "built without CUDA"),
        (lambda: (0, "no CUDA driver is installed"), "no CUDA driver"),
        (lambda: (0, "the CUDA driver finds no device"), "finds no device"),
        (lambda: (1, ""), "CuPy is not installed"),
    ]
    # Undone before the pretended device is, which has replaced the same things.
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cupy", None)
        patch.setattr("importlib.util.find_spec", lambda name: None)
        for count, reason in modules:
            module = None if count is None else types.SimpleNamespace(device_count=count)
            patch.setattr(availability, "native", lambda module=module: module)
            for ask in (
                lambda: LSTM(H, device="cuda"), lambda: layer.to_device("cuda"),
                lambda: Sequential([Dense(2)]).to_device("cuda"),
            ):  # fmt: skip
                with pytest.raises(RuntimeError, match=f"CUDA is not available: .*{reason}"):
                    ask()
    assert layer.device == "cpu" and layer(X).shape == (B, H)
