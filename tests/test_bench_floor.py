"""The harness: the time that no program can beat."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_ext.bench import floor
from lstm_ext.bench.cases import Case
from lstm_ext.bench.grid import Shape
from lstm_ext.bench.variants import PLAIN, VARIANTS

MIB = 1 << 20
# 1 MiB in a first cache, beyond that a second, from 64 MiB on memory.
FIRST, SECOND, MEMORY = 2e11, 1e11, 2e10
CEILINGS = floor.Ceilings(1e12, {MIB // 2: FIRST, MIB: SECOND, 128 * MIB: MEMORY})
RATE = CEILINGS.flops / 2  # multiply-adds a second


def floor_of(
    shape: Shape,
    mode: str = "forward",
    dtype: str = "float32",
    threads: int = 1,
    isa: str = "avx2",
    weights_dtype: str | None = None,
    variant: str = "",
) -> float:
    kind = VARIANTS.get(variant, PLAIN)
    case = Case(shape, mode, dtype, threads, weights_dtype=weights_dtype, variant=kind)
    return floor.floor_seconds(case, isa, CEILINGS)


def work_of(shape: Shape) -> float:
    """Return the seconds of a pass from no state: the first step has no recurrent product."""
    batch, steps, features, units = shape
    return batch * (steps * features + (steps - 1) * units) * 4 * units / RATE


def test_what_was_read_last_comes_from_the_first_cache() -> None:
    read = CEILINGS.read_seconds
    assert read(MIB / 4, 1) == pytest.approx(MIB / 4 / FIRST)
    assert read(MIB, 1) == pytest.approx(MIB / FIRST)
    assert read(4 * MIB, 1) == pytest.approx(MIB / FIRST + 3 * MIB / SECOND)
    # Two threads have two first caches and twice the rates, but share the memory.
    assert read(4 * MIB, 2) == pytest.approx(2 * MIB / FIRST / 2 + 2 * MIB / SECOND / 2)
    far = MIB / FIRST + 63 * MIB / SECOND + 36 * MIB / MEMORY
    assert read(100 * MIB, 1) == pytest.approx(far)
    far = 2 * MIB / FIRST / 2 + 62 * MIB / SECOND / 2 + 36 * MIB / MEMORY
    assert read(100 * MIB, 2) == pytest.approx(far)
    assert read(4 * MIB, 1) + read(96 * MIB, 1, behind=4 * MIB) == pytest.approx(read(100 * MIB, 1))


def test_the_floor_is_the_larger_of_work_and_bytes() -> None:
    # One row: 4 * 512 * 512 weights of 4 bytes are 4 MiB.
    matrix = MIB / FIRST + 3 * MIB / SECOND
    # A step from no state multiplies x alone; that of a stream reads both matrices.
    assert floor_of(Shape(1, 1, 512, 512)) == pytest.approx(matrix)
    both = matrix + 4 * MIB / SECOND
    assert floor_of(Shape(1, 1, 512, 512), mode="stream") == pytest.approx(both)
    assert floor_of(Shape(1, 3, 512, 512)) == pytest.approx(both + matrix)
    # Many rows: arithmetic, 2 operations a weight and row at 1000 GFLOP/s.
    shape = Shape(1000, 10, 64, 64)
    work = work_of(shape)
    assert floor_of(shape) == pytest.approx(work)
    assert floor_of(shape, threads=2) == pytest.approx(work / 2)
    assert floor_of(shape, mode="training") == pytest.approx(3 * work)
    assert floor_of(shape, dtype="float64") == pytest.approx(2 * work)
    # A fit of 100 epochs of one batch: forward and the gradient of kernel, not that of x.
    assert floor_of(Shape(100, 1, 64, 64), mode="fit") == pytest.approx(
        200 * work_of(Shape(100, 1, 64, 64))
    )


def test_small_weights_have_a_floor_of_their_own() -> None:
    shape = Shape(1, 1, 512, 512)  # 2 MiB in bfloat16, 1 MiB in int8
    half = MIB / FIRST + MIB / SECOND
    assert floor_of(shape, weights_dtype="bfloat16") == pytest.approx(half)
    assert floor_of(shape, weights_dtype="int8") == pytest.approx(MIB / FIRST)
    shape = Shape(1000, 10, 64, 64)
    for weights_dtype, isa, factor in (
        ("bfloat16", "avx2", 1),
        ("bfloat16", "avx512_vnni", 1),
        ("bfloat16", "avx512_bf16", 2),
        ("bfloat16", "avx512_amx", 16),
        ("int8", "neon", 1),
        ("int8", "avx2", 2),
        ("int8", "avx512_vnni", 4),
        ("int8", "avx512_bf16", 4),
        ("int8", "avx512_amx", 32),
    ):
        least = floor_of(shape, weights_dtype=weights_dtype, isa=isa)
        assert least == pytest.approx(work_of(shape) / factor), (weights_dtype, isa)


def test_masked_steps_are_not_counted() -> None:
    shape = Shape(1000, 10, 64, 64)
    lengths = Case(shape, "forward", "float32", 1, variant=VARIANTS["masked"]).lengths
    assert lengths is not None
    steps, later = int(np.sum(lengths)), int(np.sum(lengths - 1))
    work = (steps + later) * 64 * 256 / RATE
    assert floor_of(shape, variant="masked") == pytest.approx(work)
    assert floor_of(shape, mode="training", variant="masked") == pytest.approx(3 * work)


def test_each_matrix_of_a_variant_is_counted() -> None:
    shape = Shape(1000, 10, 64, 32)
    assert floor_of(shape, variant="peephole") == floor_of(shape)
    projected = 1000 * (10 * 64 * 128 + 9 * 16 * 128 + 10 * 32 * 16) / RATE
    assert floor_of(shape, variant="projection") == pytest.approx(projected)
    assert floor_of(shape, "training", variant="projection") == pytest.approx(3 * projected)
    assert floor_of(shape, variant="bidirectional") == pytest.approx(2 * work_of(shape))
    second = work_of(Shape(1000, 10, 32, 32))
    assert floor_of(shape, variant="layers") == pytest.approx(work_of(shape) + second)
    four = 2 * (work_of(shape) + work_of(Shape(1000, 10, 64, 32)))
    assert floor_of(shape, variant="bidirectional-layers") == pytest.approx(four)


def test_ceilings_are_measured() -> None:
    ceilings = floor.measure_ceilings(0.005)
    assert ceilings.flops > 1e8
    rates = [rate for _, rate in sorted(ceilings.bandwidth.items())]
    assert rates == sorted(rates, reverse=True) and rates[-1] > 1e8
