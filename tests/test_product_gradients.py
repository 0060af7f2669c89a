"""The gradients of a product: against float64, in the order of additions of `matmul`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lstm_ext import _cpu
from lstm_ext.functional._products import product, product_vjp

Array = NDArray[Any]


def operands(m: int, k: int, n: int, dtype: str) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng([m, k, n])
    a, b, d_out = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n), (m, n)))
    return a, b, d_out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(32, 64, 1), (1, 1, 1), (300, 5, 17), (2, 130, 40), (0, 3, 4)])
def test_gradients_are_those_products(shape: tuple[int, int, int], dtype: str) -> None:
    a, b, d_out = operands(*shape, dtype)
    d_a, d_b, d_bias = product_vjp(a, b, d_out, True, True)
    assert d_a is not None and d_bias is not None
    exact = [v.astype(np.float64) for v in (a, b, d_out)]
    for own, want, bits in (
        (d_a, exact[2] @ exact[1].T, product(d_out, b.T)),
        (d_b, exact[0].T @ exact[2], product(a.T, d_out)),
        (d_bias, exact[2].sum(axis=0), product(np.ones((1, len(a)), dtype), d_out)[0]),
    ):
        assert own.dtype == dtype
        np.testing.assert_array_equal(own, bits)
        largest = np.abs(want).max(initial=1)
        np.testing.assert_allclose(own, want, atol=16 * np.finfo(dtype).eps * largest)


def test_only_what_is_wanted_is_made() -> None:
    a, b, d_out = operands(4, 3, 2, "float32")
    d_a, d_b, d_bias = product_vjp(a, b, d_out, False, False)
    assert d_a is None and d_bias is None
    np.testing.assert_array_equal(d_b, product(a.T, d_out))


def test_views_are_read_where_they_lie() -> None:
    a, b, d_out = operands(6, 4, 8, "float32")
    wanted = product_vjp(a, b, d_out, True, True)
    turned = product_vjp(
        np.asfortranarray(a), b[:, ::-1][:, ::-1], np.asfortranarray(d_out), True, True
    )
    for own, want in zip(turned, wanted, strict=True):
        np.testing.assert_array_equal(own, want)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"b": np.ones((5, 2), np.float32)}, "b: expected 3 rows"),
        ({"d_out": np.ones((4, 3), np.float32)}, "d_out: expected the shape"),
        ({"d_out": np.ones((4, 2))}, "d_out: expected elements of float32"),
        ({"a": np.ones(4, np.float32)}, "a: expected 2 dimensions"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Array], message: str) -> None:
    a, b, d_out = operands(4, 3, 2, "float32")
    with pytest.raises(ValueError, match=message):
        _cpu.matmul_vjp(
            **{"a": a, "b": b, "d_out": d_out, **changed}, need_a=True, has_bias=True, num_threads=0
        )
