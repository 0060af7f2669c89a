"""Random models of Keras, read and written, beside Keras itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interchange_support import Comparison, assert_same_model, run_layers
from keras_support import every_layer
from lstm_ext import LSTM, Bidirectional, Dense, Masking, from_keras, reference, to_keras
from support import assert_as_accurate, assert_no_slip

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


# Of the cell's, those that do not grow without bounds, for steps on steps.
CELL_NAMES = ["tanh", "sigmoid", "softsign", "hard_sigmoid", "relu", "elu", "linear", "silu"]


def random_lstm(keras: Any, rng: np.random.Generator, last: bool, masks: bool) -> Any:
    """Return what makes a random LSTM or Bidirectional.

    Unrolled and reading backwards, Keras takes a mask in the wrong order where it makes zeros.
    """
    layers = keras.layers
    options: dict[str, Any] = {
        "return_sequences": not last or bool(rng.integers(2)),
        "use_bias": bool(rng.integers(2)),
        "unroll": bool(rng.integers(20) == 0) and not masks,
        "zero_output_for_mask": bool(rng.integers(2)),
        "implementation": int(rng.integers(1, 3)),
    }
    if rng.integers(3) == 0:
        options["activation"] = CELL_NAMES[rng.integers(len(CELL_NAMES))]
        options["recurrent_activation"] = CELL_NAMES[rng.integers(4)]
    if rng.integers(3) == 0:  # without effect on what is computed here
        options |= {"dropout": 0.25, "recurrent_dropout": 0.5, "seed": 3}
    units, backwards = int(rng.integers(1, 9)), rng.integers(2)
    if rng.integers(2):
        return lambda: layers.LSTM(units, go_backwards=bool(backwards), **options)
    mode = ("concat", "sum", "mul", "ave")[rng.integers(4)]
    own_name = bool(rng.integers(2))

    def make() -> Any:
        way = {"go_backwards": bool(backwards)}
        second = None
        if backwards or own_name:
            # Of one size: Keras declares twice the first one's, and builds what follows for that.
            name = {"name": "mine"} if own_name else {}
            second = layers.LSTM(units, go_backwards=not backwards, **name, **options)
        return layers.Bidirectional(
            layers.LSTM(units, **way, **options), merge_mode=mode, backward_layer=second
        )

    return make


def random_layers(keras: Any, rng: np.random.Generator) -> tuple[Any, list[Any]]:
    """Return a random Input and makers of random layers."""
    layers = keras.layers
    count = int(rng.integers(1, 3))
    words, masks = bool(rng.integers(4) == 0), bool(rng.integers(2))
    stack = [lambda: layers.Embedding(9, 4, mask_zero=masks)] if words else []
    if masks and not words:
        stack.append(lambda: layers.Masking(MASK_VALUE))
    for index in range(count):
        stack.append(random_lstm(keras, rng, index == count - 1, masks))
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


MASK_VALUE = -1.5


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
    """Live models, and every fourth time a file of one in float32."""
    comparison = Comparison()
    for seed in range(200):
        rng = np.random.default_rng([8, seed])
        given, stack = random_layers(keras, rng)
        functional = bool(rng.integers(2))
        set_dtype(keras, "float64")
        exact = assemble(keras, given, stack, functional)
        weights = [rng.normal(0, 0.5, size=w.shape).astype(np.float32) for w in exact.get_weights()]
        exact.set_weights(weights)
        source: Any = exact
        if seed % 4 == 0:
            set_dtype(keras, "float32")
            model = assemble(keras, given, stack, functional)
            model.set_weights(weights)
            source = tmp_path / ("m.keras", "m.h5")[seed // 4 % 2]
            model.save(source)
        ours = from_keras(source)
        to_keras(ours, tmp_path / "back.keras")
        assert_same_model(from_keras(tmp_path / "back.keras"), ours)
        if seed % 20 == 0:
            assert_same_model(from_keras(keras.models.load_model(tmp_path / "back.keras")), ours)
        batch = int(rng.integers(1, 5))
        x = rng.normal(size=(batch, *given[0])).astype(np.float32)
        x[rng.random(x.shape[:2]) < 0.4] = MASK_VALUE
        if given[1]:
            x = rng.integers(0, 4, x.shape)
        comparison.add(ours, x, np.asarray(exact(x)))
    comparison.finish()


def set_dtype(keras: Any, dtype: str) -> None:
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)


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
    with pytest.raises(NotImplementedError, match="of the class 'GRU' is not supported"):
        from_keras(keras.layers.Bidirectional(keras.layers.GRU(3)))
    masking = from_keras(keras.layers.Masking(3.0))
    assert isinstance(masking, Masking) and masking.mask_value == 3


@pytest.mark.live
@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences", [False, True])
def test_layers_that_read_both_ways(keras: Any, mode: str | None, sequences: bool) -> None:
    first = keras.layers.LSTM(3, return_sequences=sequences, return_state=True, name="a")
    second = keras.layers.LSTM(
        3 + (mode == "concat"),
        return_sequences=sequences,
        return_state=True,
        go_backwards=True,
        activation="relu",
    )
    layer = keras.layers.Bidirectional(first, merge_mode=mode, backward_layer=second)
    x = np.random.default_rng(3).normal(size=(4, 5, 2)).astype(np.float32)
    mask = np.arange(5) < np.array([[5], [3], [0], [1]])
    expected = layer(x, mask=mask)
    ours = from_keras(layer)
    assert isinstance(ours, Bidirectional) and ours.return_state and ours.merge_mode == mode
    assert ours.forward_layer.name == "forward_a"
    for theirs, result in zip(expected, ours(x, mask=mask), strict=True):
        assert_no_slip(result, np.asarray(theirs), "both ways")


@pytest.mark.live
def test_a_kept_state(keras: Any) -> None:
    """A stateful model goes on where the call before ended."""
    stack = [keras.layers.LSTM(3, stateful=True, return_sequences=True)]
    stack.append(keras.layers.Bidirectional(keras.layers.LSTM(2, stateful=True)))
    model = keras.Sequential([keras.Input(batch_shape=(2, None, 3)), *stack])
    ours = from_keras(model)
    rng = np.random.default_rng(4)
    for _ in range(3):
        x = rng.normal(size=(2, 4, 3)).astype(np.float32)
        assert_no_slip(ours(x), np.asarray(model(x)), "kept state")


@pytest.mark.live
def test_a_mask_of_ones_own_is_refused(keras: Any) -> None:
    """Only the mask that comes down the chain by itself is what our model passes on."""
    x = keras.Input((5, 3))
    masked = keras.layers.Masking(0.0)(x)
    other = keras.ops.any(keras.ops.not_equal(x, 1.0), axis=-1)
    model = keras.Model(x, keras.layers.LSTM(2)(masked, mask=other))
    with pytest.raises(NotImplementedError, match="called with mask: not supported"):
        from_keras(model)
    model = keras.Model(x, keras.layers.LSTM(2)(x, mask=other))
    with pytest.raises(NotImplementedError, match="called with mask: not supported"):
        from_keras(model)


@pytest.mark.live
def test_subclasses_of_keras_layers_are_refused(keras: Any) -> None:
    class LSTM(keras.layers.LSTM):  # type: ignore[name-defined,misc]
        """Computes who knows what."""

    layer = LSTM(3)
    layer.build((None, 4, 5))
    with pytest.raises(NotImplementedError, match="of the class 'LSTM' is not supported"):
        from_keras(layer)
