"""Weights laid out for a single step from no state, whose h is zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lstm_ext import LSTM, Bidirectional, _cpu, config, reference
from lstm_ext.functional import lstm, lstm_vjp, pack
from lstm_ext.functional._packing import repacker

Array = NDArray[Any]


def weights(rng: np.random.Generator, dtype: str = "float32") -> tuple[Array, Array, Array]:
    shapes = (3, 20), (5, 20), (20,)
    kernel, recurrent, bias = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return kernel, recurrent, bias


def built(*, spoiled: bool = False, **options: Any) -> LSTM:
    layer = LSTM(5, seed=3, **options)
    layer.build((None, None, 3))
    if spoiled:
        values = layer.get_weights()
        values[1][2, 7] = np.nan
        layer.set_weights(values)
    return layer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sequences", [False, True])
def test_a_step_has_the_bits_of_weights_for_any_sequence(dtype: str, sequences: bool) -> None:
    layer = built(dtype=dtype, return_sequences=sequences)
    x = np.random.default_rng(0).standard_normal((4, 1, 3)).astype(dtype)
    layer(x)  # lays out all of the weights, which the next pass uses
    output, backward = layer.vjp(x)
    dy = np.random.default_rng(1).standard_normal(output.shape).astype(dtype)
    d_x, grads = backward(dy, True)
    layer.weights_changed()
    own_output, own_backward = layer.vjp(x)
    own_d_x, own_grads = own_backward(dy, True)
    assert layer._packed is None
    np.testing.assert_array_equal(own_output, output)
    np.testing.assert_array_equal(own_d_x, d_x)
    for own, want in zip(own_grads, grads, strict=True):
        np.testing.assert_array_equal(own, want)
    assert not own_grads[1].any()


def test_longer_calls_after_a_step_have_all_weights() -> None:
    layer = built()
    rng = np.random.default_rng(0)
    step, x = (rng.standard_normal((2, steps, 3)).astype(np.float32) for steps in (1, 6))
    layer.vjp(step)
    want, _, _ = reference.lstm(x, *layer.get_weights())
    np.testing.assert_allclose(layer.vjp(x)[0], want[:, -1], atol=1e-6)
    layer.weights_changed()
    layer.vjp(step)
    np.testing.assert_allclose(layer(x), want[:, -1], atol=1e-6)


def test_zero_times_nan_is_nan() -> None:
    layer = built(spoiled=True)
    x = np.ones((2, 1, 3), np.float32)
    output, backward = layer.vjp(x)
    np.testing.assert_array_equal(output, layer(x))
    assert np.isnan(output).any()
    assert np.isfinite(backward(np.ones_like(output), False)[1][1]).sum() < output.size * 20


def test_a_step_with_a_state_multiplies_it() -> None:
    layer = built()
    rng = np.random.default_rng(0)
    x, h, c = (rng.standard_normal(shape).astype("f") for shape in ((2, 1, 3), (2, 5), (2, 5)))
    layer.vjp(x)
    want, _, _ = reference.lstm(x, *layer.get_weights(), initial_state=(h, c))
    output, _ = layer.vjp(x, initial_state=(h, c))
    np.testing.assert_allclose(output, want[:, -1], atol=1e-6)


@pytest.mark.parametrize("options", [{"layer_norm": True}, {"proj_size": 2}, {"peepholes": True}])
def test_other_cells_take_a_step(options: dict[str, Any]) -> None:
    layer, again = built(**options), built(**options)
    again.set_weights(layer.get_weights())
    x = np.random.default_rng(0).standard_normal((3, 1, 3)).astype(np.float32)
    np.testing.assert_array_equal(layer.vjp(x)[0], again(x))


def test_more_than_a_step_is_refused() -> None:
    rng = np.random.default_rng(0)
    packed = repacker(*weights(rng))(True)
    x = rng.standard_normal((2, 2, 3)).astype(np.float32)
    h = np.zeros((2, 5), np.float32)
    assert _cpu.lstm_plain(packed, x[:, :1], None, None, False, False) is not None
    for refused in (
        lambda: _cpu.lstm_plain(packed, x, None, None, False, False),
        lambda: _cpu.lstm_plain(packed, x[:, :1], h, h, False, False),
        lambda: _cpu.lstm_vjp_plain(packed, x, False, False),
        lambda: lstm_vjp(x[:, :1], packed)[1](np.ones((2, 1, 5), np.float32), need_state=True),
        lambda: _cpu.Stream(packed, 1),
    ):
        with pytest.raises(ValueError, match="weights: expected some that were laid out for any"):
            refused()


def test_a_packer_follows_its_arrays() -> None:
    rng = np.random.default_rng(0)
    arrays = weights(rng)
    packer = repacker(*arrays)
    x = rng.standard_normal((2, 1, 3)).astype(np.float32)
    packer(True)
    arrays[0][...] *= 2
    for single_step in (True, False):
        results = [
            _cpu.lstm_plain(packed, x, None, None, False, False)
            for packed in (packer(single_step), pack(*arrays))
        ]
        assert results[0] is not None and results[1] is not None
        for own, want in zip(*results, strict=True):
            np.testing.assert_array_equal(own, want)


def random(rng: np.random.Generator, *shape: int, dtype: str = "float32") -> Array:
    return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(dtype)


@pytest.mark.parametrize("batch_size", [1, 3, 7])
@pytest.mark.parametrize("weights_dtype", ["float64", "float32", "bfloat16", "int8"])
def test_helpers_change_no_bit(weights_dtype: str, batch_size: int) -> None:
    """Several blocks of k, and enough work that threads are woken for a single step."""
    rng = np.random.default_rng(batch_size)
    dtype = "float64" if weights_dtype == "float64" else "float32"
    sizes = (600, 2400), (600, 2400), (2400,)
    packed = pack(
        *(random(rng, *size, dtype=dtype) for size in sizes),
        weights_dtype=None if weights_dtype == dtype else weights_dtype,
    )
    for _ in range(20):
        x = random(rng, batch_size, 1, 600, dtype=dtype)
        state = [random(rng, batch_size, 600, dtype=dtype) for _ in range(2)]
        for given in (None, (state[0], state[1])):
            alone = lstm(x, packed, initial_state=given, num_threads=1)
            for threads in (2, 4):
                found = lstm(x, packed, initial_state=given, num_threads=threads)
                for own, want in zip(found, alone, strict=True):
                    np.testing.assert_array_equal(own, want)


def test_directions_side_by_side_have_no_helpers() -> None:
    layer = Bidirectional(LSTM(220, return_sequences=True))
    x = random(np.random.default_rng(0), 8, 1, 220)
    before = config.get_num_threads()
    try:
        config.set_num_threads(1)
        want = layer(x)
        config.set_num_threads(4)
        np.testing.assert_array_equal(layer(x), want)
    finally:
        config.set_num_threads(before)
