"""Layers and models on a CUDA device that is one. All other tests of them run without."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from device_support import (
    MASKED_X,
    NUMBERS,
    B,
    H,
    T,
    X,
    Y,
    make_embedded,
    make_masked,
    make_model,
    make_pairs,
    make_variants,
)
from lstm_ext import LSTM, config, set_random_seed
from support import assert_as_accurate, assert_no_slip, assert_same_bits

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not config.cuda_available(), reason=config.cuda_available().reason),
]


def trained(model: Any, x: Any, y: Any) -> Any:
    set_random_seed(7)
    model.fit(x, y, epochs=3, batch_size=4, verbose=0)
    return model.predict(x, verbose=0)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_fit_is_that_of_numpy(optimizer: str) -> None:
    import cupy

    options = {"optimizer": optimizer, "metrics": ["mae"]}
    there = make_model(**options).to_device("cuda")
    ours, exact = make_model(**options), make_model("float64", **options)
    found = trained(there, cupy.asarray(X), cupy.asarray(Y))
    plain, wide = trained(ours, X, Y), trained(exact, X.astype("f8"), Y.astype("f8"))
    assert isinstance(found, cupy.ndarray)
    results = [found.get(), *there.get_weights()], [plain, *ours.get_weights()]
    assert_as_accurate(*results, [wide, *exact.get_weights()], "fit", factor=4)
    before = there.get_weights()
    assert_same_bits(there.to_device("cpu").weights, before)


@pytest.mark.parametrize("kind", ["masked", "embedded", "pairs", "variants"])
def test_models_of_many_kinds(kind: str) -> None:
    import cupy

    make, x = {
        "masked": (make_masked, MASKED_X),
        "embedded": (make_embedded, NUMBERS),
        "pairs": (make_pairs, X),
        "variants": (make_variants, X),
    }[kind]
    there = make().to_device("cuda")
    ours, exact = make(), make("float64")
    found = trained(there, cupy.asarray(x), cupy.asarray(Y))
    wide_x = x if kind == "embedded" else x.astype("f8")
    plain, wide = trained(ours, x, Y), trained(exact, wide_x, Y.astype("f8"))
    results = [found.get(), *there.get_weights()], [plain, *ours.get_weights()]
    assert_as_accurate(*results, [wide, *exact.get_weights()], "fit", factor=4)


def test_a_stream_gives_the_sequence() -> None:
    import cupy

    layer = LSTM(H, return_sequences=True, seed=1, device="cuda")
    x = cupy.asarray(X)
    expected = layer(x).get()
    stream = layer.stream(B)
    for t in range(T):
        if t == 2:
            stream = pickle.loads(pickle.dumps(stream))
        assert_no_slip(stream.step(x[:, t]).get(), expected[:, t], f"step {t}")
    stream.reset([1, 3])
    assert not stream.state[0].get()[[1, 3]].any()


def test_tensors_come_by_dlpack() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("torch was built without CUDA")
    model = make_model()
    expected = model.predict(X, verbose=0)
    model.to_device("cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        x = torch.from_numpy(np.array(X)).cuda() * 2
        torch.cuda._sleep(10_000_000)
        x /= 2
        found = model(x)
    np.testing.assert_allclose(found.get(), expected, rtol=1e-5, atol=1e-6)
