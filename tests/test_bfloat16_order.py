"""The order in which products of bfloat16 are added, which is that of AMX's tiles everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lstm_ext
from lstm_ext import functional
from lstm_ext.variants import Cell
from support import make_problem, to_bfloat16

Array = NDArray[Any]

ISAS = lstm_ext.available_isas()


def summed(a: Array, w: Array) -> Array:
    """Add products of bfloat16 (K,) and (K, N) as csrc/cpu/kernel_set.hpp says: block sums.

    The products are exact in float32, so a fused multiply-add rounds as a sum does.
    """
    products = (a[:, None] * w).astype(np.float32)
    blocks = []
    for block in range(0, len(a), 4096):
        total = np.zeros(w.shape[1], np.float32)
        for span in range(block, min(block + 4096, len(a)), 32):
            end = min(span + 32, block + 4096)
            even, odd = (
                np.add.accumulate(products[first:end:2], axis=0, dtype=np.float32)[-1:].sum(axis=0)
                for first in (span, span + 1)
            )
            total = total + (even + odd)
        blocks.append(total)
    return np.array(blocks)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [1, 2, 3, 5, 17, 40])
@pytest.mark.parametrize("features", [1, 31, 64, 101, 4131])
def test_bfloat16_is_summed_in_the_order_of_the_contract(
    features: int, batch: int, isa: str
) -> None:
    problem = make_problem(batch, 1, features, 5)
    linear = Cell(activation="linear", recurrent_activation="linear")
    weights = functional.pack(*problem.weights, weights_dtype="bfloat16", isa=isa, cell=linear)
    gates = np.concatenate(functional.lstm(problem.x, weights, return_gates=True)[3][:4], axis=-1)
    assert problem.bias is not None
    for row in range(batch):
        z = problem.bias
        for block in summed(to_bfloat16(problem.x[row, 0]), to_bfloat16(problem.kernel)):
            z = z + block
        assert np.array_equal(gates[row, 0], z)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("features", "units"), [(37, 21), (1, 70), (4130, 9)])
def test_rows_of_a_high_batch_have_the_bits_of_rows_alone(
    features: int, units: int, isa: str
) -> None:
    """Where registers are few, high batches read weights that were widened before."""
    rng = np.random.default_rng([features, units])
    sizes = (features, 4 * units), (units, 4 * units), (4 * units,)
    weights = [rng.standard_normal(size).astype(np.float32) for size in sizes]
    packed = functional.pack(*weights, weights_dtype="bfloat16", isa=isa)
    x = rng.standard_normal((14, 3, features)).astype(np.float32)
    alone = [functional.lstm(row[None], packed, num_threads=1)[0][0] for row in x]
    for rows in (5, 6, 7, 13, 14):
        output, _, _ = functional.lstm(x[:rows], packed, num_threads=1)
        np.testing.assert_array_equal(output, alone[:rows])
