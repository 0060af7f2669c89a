"""Layers and models on a CUDA device: the emulator, and a stand-in that is as strict as CuPy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import device_support
from device_support import (
    CLASSES,
    WEIGHTS,
    B,
    CupyArray,
    H,
    I,
    T,
    X,
    Y,
    host,
    make_model,
    to_device,
)
from lstm_ext import (
    LSTM,
    Dense,
    Input,
    Sequential,
    activations,
    losses,
    metrics,
    optimizers,
    set_random_seed,
)  # fmt: skip
from lstm_ext.models import load_model
from support import assert_as_accurate, assert_no_slip, assert_same_bits

Array = NDArray[Any]

pytestmark = pytest.mark.usefixtures("device")


def fitted(model: Sequential, x: Any, y: Any, **options: Any) -> list[Array]:
    """Train, and return the losses, the weights and a prediction, on the host."""
    set_random_seed(7)
    history = model.fit(x, y, epochs=3, batch_size=4, verbose=0, **options).history
    logs = [np.array(values, np.float32) for values in history.values()]
    return [*logs, *model.get_weights(), host(model.predict(x, verbose=0))]


def test_fit_is_that_of_numpy() -> None:
    exact = fitted(make_model("float64"), X.astype(np.float64), Y.astype(np.float64))
    ours = fitted(make_model(), X, Y)
    model = make_model().to_device("cuda")
    there = fitted(model, to_device(X), to_device(Y))
    assert model.device == "cuda" and isinstance(model.predict(to_device(X)), CupyArray)
    assert_as_accurate(there[1:], ours[1:], exact[1:], "fit")
    assert_no_slip(there[0], ours[0], "loss")


OPTIMIZERS: dict[str, Callable[[], optimizers.Optimizer]] = {
    "sgd": optimizers.SGD,
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipvalue=0.01),
    "adam": lambda: optimizers.Adam(0.01, weight_decay=0.1),
    "adamw": optimizers.AdamW,
    "amsgrad": lambda: optimizers.Adam(0.01, amsgrad=True),
    "clipnorm": lambda: optimizers.SGD(0.1, clipnorm=0.1),
    "global_clipnorm": lambda: optimizers.SGD(0.1, global_clipnorm=0.1),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str) -> None:
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (4,))]
    there = [to_device(w) for w in weights]
    ours, theirs = OPTIMIZERS[name](), OPTIMIZERS[name]()
    device_support.waits = 0
    for _ in range(4):
        grads = [rng.standard_normal(w.shape).astype(np.float32) for w in weights]
        ours.apply(grads, weights)
        theirs.apply([to_device(g) for g in grads], there)
    assert device_support.waits == 0
    for w, other in zip(weights, there, strict=True):
        # An element of a weight that rounds otherwise in each of four steps.
        np.testing.assert_allclose(host(other), w, rtol=0, atol=16 * np.finfo(np.float32).eps)


LOSSES = [
    losses.MeanSquaredError(), losses.MeanSquaredError("sum"), losses.MeanAbsoluteError(),
    losses.Huber(0.3), losses.BinaryCrossentropy(), losses.BinaryCrossentropy(from_logits=True),
    losses.CategoricalCrossentropy(label_smoothing=0.1),
    losses.CategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
]  # fmt: skip


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_losses(loss: losses.Loss, weights: Array | None) -> None:
    pred = np.random.default_rng(1).uniform(0.05, 0.95, CLASSES.shape).astype(np.float32)
    expected, slopes = loss.value_and_grad(CLASSES, pred, weights)
    given = None if weights is None else to_device(weights)
    device_support.waits = 0
    value, gradient = loss.value_and_grad(to_device(CLASSES), to_device(pred), given)
    alone = loss(to_device(CLASSES), to_device(pred), given)
    assert device_support.waits == 0
    assert value.shape == alone.shape == () and gradient.dtype == np.float32
    for found in (value, alone):
        assert_no_slip(host(found).astype(np.float32), np.array(expected), loss.name)
    assert_no_slip(host(gradient), slopes, loss.name)


@pytest.mark.parametrize("from_logits", [False, True])
def test_class_numbers(from_logits: bool) -> None:
    loss = losses.SparseCategoricalCrossentropy(from_logits)
    pred = np.random.default_rng(1).uniform(0.05, 0.95, CLASSES.shape).astype(np.float32)
    labels = CLASSES.argmax(axis=-1)
    expected, slopes = loss.value_and_grad(labels, pred, WEIGHTS)
    accuracy = metrics.get("sparse_categorical_accuracy")
    for given in (labels, labels[:, None], labels.astype(np.float32)):
        device_support.waits = 0
        value, gradient = loss.value_and_grad(to_device(given), to_device(pred), to_device(WEIGHTS))
        accuracy.update_state(to_device(given), to_device(pred))
        assert device_support.waits == 0
        assert_no_slip(host(value).astype(np.float32), np.array(expected), "value")
        assert_no_slip(host(gradient), slopes, "slopes")
    assert accuracy.result() == pytest.approx((pred.argmax(axis=-1) == labels).mean())
    # No class: an error would have to wait, so the loss is not a number.
    for wrong in (-1, 3, 0.5):
        given = labels.astype(np.float32)
        given[1] = wrong
        value, gradient = loss.value_and_grad(to_device(given), to_device(pred))
        assert np.isnan(host(value)) and np.isnan(host(gradient)[1]).all()
        assert np.isfinite(host(gradient)[[0, *range(2, B)]]).all()
    with pytest.raises(ValueError, match=r"y_true: got shape \(6, 3\), expected class numbers of"):
        loss(to_device(CLASSES), to_device(pred))


@pytest.mark.parametrize("name", sorted(activations._ACTIVATIONS))
def test_activations(name: str) -> None:
    activation = activations.get(name)
    z = np.linspace(-12, 12, 98, dtype=np.float32).reshape(14, 7)
    y = activation(z)
    there = activation(to_device(z))
    assert isinstance(there, CupyArray) and there.dtype == np.float32
    np.testing.assert_allclose(host(there), y, rtol=1e-5, atol=1e-7)
    dy = np.ones_like(z)
    slope = activation.grad(to_device(z), there, to_device(dy))
    np.testing.assert_allclose(host(slope), activation.grad(z, y, dy), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["mse", "rmse", "mae", "binary_accuracy", "categorical_accuracy", "accuracy"]
)
def test_metrics(name: str) -> None:
    ours, theirs = metrics.get(name), metrics.get(name)
    pred = np.random.default_rng(2).uniform(0, 1, CLASSES.shape).astype(np.float32)
    device_support.waits = 0
    for weights in (None, WEIGHTS):
        ours.update_state(CLASSES, pred, weights)
        given = None if weights is None else to_device(weights)
        theirs.update_state(to_device(CLASSES), to_device(pred), given)
    assert device_support.waits == 0
    result = theirs.result()
    assert type(result) is float and result == pytest.approx(ours.result(), rel=1e-6)


def test_a_step_waits_for_nothing() -> None:
    model = make_model(metrics=["mae"]).to_device("cuda")
    waits = []
    for batch_size in (1, B):
        device_support.waits = 0
        model.fit(to_device(X), to_device(Y), batch_size=batch_size, verbose=0)
        waits.append(device_support.waits)
    assert waits[0] == waits[1] <= 4


@pytest.mark.parametrize("labels", [False, True])
def test_validation_classes_and_weights(labels: bool) -> None:
    wanted = CLASSES.argmax(axis=-1) if labels else CLASSES
    loss = f"{'sparse_' * labels}categorical_crossentropy"

    def run(put: Callable[[Array], Any], target: str) -> dict[str, list[float]]:
        model = Sequential([Input((T, I)), LSTM(H, seed=1), Dense(3, "softmax", seed=2)])
        model.compile("sgd", loss, ["accuracy"])
        model.to_device(target)
        set_random_seed(1)
        options = {"verbose": 0, "epochs": 2, "batch_size": 2}
        x, y = put(X), put(wanted)
        first = model.fit(x, y, validation_split=0.5, class_weight={0: 2.0}, **options).history
        weighted = model.fit(x, y, sample_weight=put(WEIGHTS), **options).history
        return {**first, **{f"weighted_{k}": v for k, v in weighted.items()},
                "evaluated": model.evaluate(x, y, verbose=0)}  # fmt: skip

    ours, theirs = run(lambda a: a, "cpu"), run(to_device, "cuda")
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        assert theirs[name] == pytest.approx(values, rel=1e-5), name
        assert all(type(value) is float for value in theirs[name])


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_layer_with_states(go_backwards: bool, return_sequences: bool, num_layers: int) -> None:
    options: dict[str, Any] = {
        "go_backwards": go_backwards, "return_sequences": return_sequences, "return_state": True,
        "num_layers": num_layers, "seed": 1,
    }  # fmt: skip
    ours, theirs = LSTM(H, **options), LSTM(H, device="cuda", **options)
    assert ours.device == "cpu" and theirs.device == "cuda"
    states = [
        tuple(np.random.default_rng(4).standard_normal((2, B, H)).astype(np.float32))
        for _ in range(num_layers)
    ]
    there = [tuple(map(to_device, pair)) for pair in states]
    single = num_layers == 1
    expected = ours(X, initial_state=states[0] if single else states)
    found = theirs(to_device(X), initial_state=there[0] if single else there)
    assert_same_bits(theirs.get_weights(), ours.get_weights())
    for a, b in zip(found, expected, strict=True):
        assert isinstance(a, CupyArray)
        assert_no_slip(host(a), b, "result")
    y, backward = theirs.vjp(to_device(X), initial_state=there[0] if single else there)
    expected_y, expected_backward = ours.vjp(X, initial_state=states[0] if single else states)
    dy = np.ones_like(expected_y)
    d_x, gradients = backward(to_device(dy), True)
    expected_d_x, expected_gradients = expected_backward(dy, True)
    wanted = [expected_y, expected_d_x, *expected_gradients]
    for a, b in zip([y, d_x, *gradients], wanted, strict=True):
        assert_no_slip(host(a), b, "gradient")


def test_layers_that_are_made_there() -> None:
    def model(**options: Any) -> Sequential:
        made = Sequential([Input((T, I)), LSTM(H, seed=1, **options), Dense(1, seed=2, **options)])
        made.compile("sgd", "mse")
        return made

    there, ours = model(device="cuda"), model()
    assert there.device == "cuda" and ours.device == "cpu"
    assert_same_bits(there.get_weights(), ours.get_weights())
    for found, wanted in zip(
        fitted(there, to_device(X), to_device(Y)), fitted(ours, X, Y), strict=True
    ):
        assert_no_slip(found, wanted, "fit")


def test_state_moves_with_a_stateful_layer() -> None:
    ours, moved = LSTM(H, stateful=True, seed=1), LSTM(H, stateful=True, seed=1)
    for layer in (ours, moved):
        layer(X)
    moved.to_device("cuda")
    assert isinstance(moved.state[0], CupyArray)
    assert_no_slip(host(moved(to_device(X))), ours(X), "second call")
    assert isinstance(moved.to_device("cpu").state[0], np.ndarray)


# ---- there and back ----


def test_a_layer_that_was_away_computes_with_its_new_weights() -> None:
    layer, other = LSTM(H, seed=1), LSTM(H, seed=2)
    layer(X), other(X)
    layer.vjp(X)
    layer.to_device("cuda").set_weights(other.get_weights())
    assert_same_bits([layer.to_device("cpu")(X), layer.vjp(X)[0]], [other(X), other.vjp(X)[0]])


def test_weights_keep_their_bits() -> None:
    model = make_model()
    before = model.get_weights()
    before[0][0, :3] = (np.nan, -0.0, 1e-42)
    model.set_weights(before)
    model.to_device("cuda")
    assert all(isinstance(w, CupyArray) for w in model.weights)
    assert isinstance(model.layers[0].kernel, CupyArray)
    assert_same_bits(model.get_weights(), before)
    other = make_model().to_device("cuda")
    other.set_weights(before)  # NumPy's
    assert_same_bits(other.get_weights(), before)
    other.set_weights(model.weights)  # the device's
    other.layers[0].kernel = model.layers[0].kernel
    assert_same_bits(other.get_weights(), before)
    assert_same_bits(model.to_device("cpu").weights, before)
    assert all(type(w) is np.ndarray for w in model.weights)


def test_weights_cannot_be_changed_by_what_is_read() -> None:
    layer = Dense(2, device="cuda")
    layer(to_device(X))
    before = layer.get_weights()
    layer.weights[0][...] = 1
    layer.kernel[...] = 1
    assert_same_bits(layer.get_weights(), before)


def test_training_goes_on_after_a_move(tmp_path: Path) -> None:
    """The optimizer's state moves along, and through a file."""
    there = make_model()
    ours = make_model()
    x, y = to_device(X), to_device(Y)
    there.to_device("cuda")
    for model, data in ((ours, (X, Y)), (there, (x, y))):
        fitted(model, *data)
    there.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.device == "cpu"
    assert_same_bits(loaded.get_weights(), there.get_weights())
    assert_same_bits(loaded.optimizer.state().values(), map(host, there.optimizer.state().values()))
    copied = copy.deepcopy(there)
    assert copied.device == "cuda"
    # Layer by layer: the optimizer follows at the next step.
    for layer in there.declared_layers:
        layer.to_device("cpu")
    there.train_on_batch(X[:4], Y[:4])
    loaded.layers[2]._generator = copy.deepcopy(copied.layers[2]._generator)
    loaded.train_on_batch(X[:4], Y[:4])
    assert_same_bits(there.get_weights(), loaded.get_weights())
    loaded.to_device("cuda").optimizer.set_state(
        {name: host(a) for name, a in copied.optimizer.state().items()}, 6
    )
    assert all(isinstance(a, CupyArray) for a in loaded.optimizer.state().values())
    loaded.set_weights(copied.weights)
    for model in (loaded, copied):
        model.layers[2].rate = 0
        model.train_on_batch(x, y)
    assert_same_bits(loaded.get_weights(), copied.get_weights())


def test_arrays_of_other_libraries() -> None:
    class Foreign:
        dtype = np.dtype(np.float32)

        def __init__(self, owner: CupyArray) -> None:
            self.owner = owner

        @property
        def __cuda_array_interface__(self) -> dict[str, Any]:
            return self.owner.__cuda_array_interface__

    layer = LSTM(H, device="cuda")
    found = layer(Foreign(to_device(X)))
    assert_same_bits([host(found)], [host(layer(to_device(X)))])
    with pytest.raises(TypeError, match="x: got an array on a CUDA device, expected one of NumPy"):
        LSTM(H)(Foreign(to_device(X)))


def test_numbers_are_converted() -> None:
    layer = Dense(2, device="cuda")
    assert layer(to_device(X.astype(np.float64))).dtype == np.float32
    assert layer(to_device(np.ones((2, 3), np.int32))).dtype == np.float32
    with pytest.raises(TypeError, match="x: got an array of complex64, expected real numbers"):
        layer(to_device(X.astype(np.complex64)))
