"""Calls of an LSTM layer with nothing but x and a state, one native call: the operator's bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_ext import LSTM, functional

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("weights_dtype", [None, "bfloat16", "int8"])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 3), (4, 6, 3), (3, 1, 3), (0, 5, 3), (2, 0, 3)])
def test_a_call_with_nothing_but_x_gives_the_operators_bits(
    shape: tuple[int, ...], return_sequences: bool, go_backwards: bool, weights_dtype: str | None
) -> None:
    options: Any = {"go_backwards": go_backwards, "return_sequences": return_sequences}
    layer = LSTM(9, return_state=True, weights_dtype=weights_dtype, **options)
    x = RNG.standard_normal(shape[::-1]).astype(np.float32).T  # scattered features
    layer.build(x.shape)
    weights = functional.pack(*layer.weights, weights_dtype=weights_dtype)
    results = layer(x)
    for result, expected in zip(results, functional.lstm(x, weights, **options), strict=True):
        assert result.dtype == expected.dtype and np.array_equal(result, expected)
        assert result.flags.c_contiguous and result.flags.writeable
    assert len({id(result) for result in results}) == 3
    state = [RNG.standard_normal((9, shape[0])).astype(np.float32).T for _ in range(2)]
    results = layer(x, initial_state=state)
    expected_ones = functional.lstm(x, weights, initial_state=(state[0], state[1]), **options)
    for result, expected in zip(results, expected_ones, strict=True):
        assert np.array_equal(result, expected) and not np.shares_memory(result, state[0])


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "relu"}])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 3), (4, 6, 3), (0, 5, 3), (2, 0, 3)])
def test_gradients_of_a_plain_call_are_the_operators(
    shape: tuple[int, ...], return_sequences: bool, go_backwards: bool, options: dict[str, Any]
) -> None:
    how: Any = {"go_backwards": go_backwards, "return_sequences": return_sequences}
    layer = LSTM(9, **how, **options)
    x = RNG.standard_normal(shape[::-1]).astype(np.float32).T
    layer.build(x.shape)
    output, pull_back = layer.vjp(x)
    (expected, _, _), operators_pull_back = functional.lstm_vjp(
        x, *layer.weights, cell=layer.cell, **how
    )
    assert np.array_equal(output, expected)
    dy = RNG.standard_normal(output.shape[::-1]).astype(np.float32).T  # is laid out anew
    with pytest.raises(ValueError, match="d_output: got shape"):
        pull_back(dy[..., :-1], True)
    d_x, gradients = pull_back(dy, True)
    exact = operators_pull_back(dy)
    assert d_x is not None and np.array_equal(d_x, exact.x)
    assert len(gradients) == len(layer.weights)
    for gradient, wanted in zip(gradients, exact[1:], strict=False):
        assert np.array_equal(gradient, wanted)
    with pytest.raises(ValueError, match="backward: expected to be called once"):
        pull_back(dy, True)
