"""Layers and models on a CUDA device that is one. All other tests of them run without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from device_support import X, Y, make_model
from lstm_ext import config, set_random_seed
from support import assert_as_accurate, assert_same_bits

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
