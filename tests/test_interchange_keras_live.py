"""Random models of Keras, read and written, beside Keras itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interchange_support import Comparison, assert_same_model, run_layers
from keras_support import every_layer
from lstm_ext import LSTM, Dense, from_keras, reference, to_keras
from support import assert_as_accurate

pytest.importorskip("h5py", reason="h5py is not installed")


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
