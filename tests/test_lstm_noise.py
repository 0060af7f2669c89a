"""Dropout and zoneout of LSTM layers: what training draws, and what calls do not."""

from __future__ import annotations

import numpy as np
import pytest

from layer_support import (
    NOISE,
    B,
    F,
    H,
    NoiseRecord,
    T,
    assert_same,
    by_reference,
    inputs,
    make_layer,
    noisy,
)
from lstm_ext import LSTM, set_num_threads, set_random_seed
from lstm_ext.config import get_num_threads


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("how", ["call", "vjp"])
def test_training_draws_noise_and_calls_do_not(
    monkeypatch: pytest.MonkeyPatch, how: str, num_layers: int
) -> None:
    layer = noisy(num_layers=num_layers, go_backwards=True, return_sequences=True)
    x, mask = inputs(), np.random.default_rng(0).random((B, T)) < 0.7
    quiet = layer(x, mask=mask)
    record = NoiseRecord(monkeypatch)
    for _ in range(2):
        output = (
            layer(x, mask=mask, training=True) if how == "call" else layer.vjp(x, True, mask)[0]
        )
        noise = record.take()
        assert len(noise) == num_layers
        assert_same(output, by_reference(layer, x, noise=noise, mask=mask).output)
        assert not np.allclose(output, quiet)
        for index, drawn in enumerate(noise):
            shapes = [(B, H if index else F), (B, H), (B, T, H), (B, T, H)]
            assert [array.shape for array in drawn] == shapes
            for factors, rate in zip(drawn[:2], (0.4, 0.3), strict=True):
                assert factors.dtype == x.dtype and set(factors.ravel()) <= {0.0, 1 / (1 - rate)}
            assert drawn.zoneout.dtype == drawn.cell_zoneout.dtype == bool
    output = layer(x, mask=mask) if how == "call" else layer.vjp(x, False, mask)[0]
    assert_same(output, quiet)
    assert all(noise is None for noise in record.take())


def test_rates_of_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    record = NoiseRecord(monkeypatch)
    layer = LSTM(40, dropout=0.4, recurrent_dropout=0.3, zoneout=0.2, cell_zoneout=0.5, seed=2)
    layer(np.ones((50, 3, 60)), training=True)
    (noise,) = record.take()
    # Five standard deviations of a share of n draws.
    for array, share in zip(noise, (0.6, 0.7, 0.2, 0.5), strict=True):
        assert abs(np.mean(array != 0) - share) < 5 * np.sqrt(share * (1 - share) / array.size)


@pytest.mark.parametrize("name", NOISE)
def test_each_kind_of_noise_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    record = NoiseRecord(monkeypatch)
    layer = make_layer(H, F, **{name: 0.5})
    layer(inputs(), training=True)
    (noise,) = record.take()
    drawn = [array is not None for array in noise]
    assert drawn == [other == name for other in NOISE]


def test_all_is_dropped_at_a_rate_of_one() -> None:
    layer = make_layer(H, F, dropout=1, recurrent_dropout=1)
    x = inputs()
    np.testing.assert_array_equal(layer(x, training=True), layer(0 * x, training=True))
    assert np.isfinite(layer(x, training=True)).all()


def test_a_seed_repeats_the_noise_for_any_number_of_threads() -> None:
    x = np.random.default_rng(0).standard_normal((16, 20, 32)).astype(np.float32)
    found = []
    before = get_num_threads()
    try:
        for threads in (1, 2):
            set_num_threads(threads)
            layer = noisy(seed=3, dtype="float32", num_layers=2)
            found.append([layer(x[..., :F], training=True) for _ in range(2)])
    finally:
        set_num_threads(before)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(found[0][0], found[0][1])
    unseeded = LSTM.from_config({**noisy().get_config(), "seed": None})
    results = []
    for seed in (5, 5, 6):
        unseeded(inputs(), training=True)
        set_random_seed(seed)
        results.append(unseeded(inputs(), training=True))
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_noise_does_not_repeat_the_draws_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    record = NoiseRecord(monkeypatch)
    layer = LSTM(2, zoneout=0.5, seed=7, kernel_initializer="random_uniform")
    layer(np.ones((1, 8, 2)), training=True)
    (noise,) = record.take()
    assert not np.array_equal(noise.zoneout.ravel(), layer.kernel.ravel() < 0)
