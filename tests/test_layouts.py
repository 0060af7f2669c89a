"""Arrays of any shape and any strides give the bits of their contiguous copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_ext import functional, reference
from support import (
    ISAS,
    RESULTS,
    Array,
    Problem,
    Size,
    assert_no_slip,
    assert_same_bits,
    make_problem,
    run,
)

SETS = st.sampled_from(ISAS)
DTYPES = st.sampled_from([np.float32, np.float64])
BIG = st.one_of(st.integers(1, 9), st.sampled_from([15, 16, 17, 31, 33]))
few = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@st.composite
def laid_out(draw: Any, array: Array) -> Array:
    """Draw a view that equals `array`: axes in any order, any steps, NaN in the gaps."""
    order = draw(st.permutations(range(array.ndim)))
    steps = [draw(st.sampled_from([1, 1, -1, 2, -3])) for _ in order]
    offsets = [draw(st.integers(0, 2)) for _ in order]
    extents = [o + max(1, n) * abs(s) for o, n, s in zip(offsets, array.shape, steps, strict=True)]
    buffer = np.full([extents[axis] for axis in order], np.nan, array.dtype)
    view = buffer.transpose(np.argsort(order))
    view = view[
        tuple(
            slice(o, o + n * abs(s), abs(s))
            for o, n, s in zip(offsets, array.shape, steps, strict=True)
        )
    ]
    view = view[tuple(slice(None, None, -1 if s < 0 else 1) for s in steps)]
    view[...] = array
    view.flags.writeable = draw(st.booleans())
    return view


@st.composite
def problems(draw: Any) -> Problem:
    size = (draw(st.integers(0, 14)), draw(st.integers(0, 6)), draw(BIG), draw(BIG))
    return make_problem(*size, draw(DTYPES), seed=draw(st.integers(0, 9)), bias=draw(st.booleans()))


@few
@given(st.data())
def test_any_strides(data: st.DataObject) -> None:
    problem, isa = data.draw(problems()), data.draw(SETS)
    views = Problem(*(None if a is None else data.draw(laid_out(a)) for a in problem))
    options = {"go_backwards": data.draw(st.booleans()), "isa": isa}
    expected = run(functional, problem, **options)
    assert_same_bits(run(functional, views, **options), expected)
    packed = functional.pack(*views.weights, isa=isa)
    results = functional.lstm(
        views.x, packed, initial_state=views.initial_state, go_backwards=options["go_backwards"]
    )
    assert_same_bits(results, expected[:3])


@few
@given(st.data())
def test_time_major_is_the_same_with_axes_swapped(data: st.DataObject) -> None:
    problem = data.draw(problems())
    options = {"go_backwards": data.draw(st.booleans()), "isa": data.draw(SETS)}
    swapped = problem._replace(
        x=data.draw(laid_out(problem.x.swapaxes(0, 1))),
        d_output=data.draw(laid_out(problem.d_output.swapaxes(0, 1))),
    )
    actual = dict(zip(RESULTS, run(functional, swapped, time_major=True, **options), strict=True))
    for name in ("output", "d_x"):
        actual[name] = actual[name].swapaxes(0, 1)
    assert_same_bits(actual.values(), run(functional, problem, **options))


@few
@given(st.tuples(st.integers(1, 20), st.integers(1, 5), BIG, BIG), DTYPES, SETS)
def test_any_size(size: Size, dtype: Any, isa: str) -> None:
    """The parity tests judge accuracy; here any size may come."""
    problem = make_problem(*size, dtype)
    exact = run(reference, problem.astype(np.float64))
    for name, a, e in zip(RESULTS, run(functional, problem, isa=isa), exact, strict=True):
        assert_no_slip(a, e, name)


@pytest.mark.parametrize("order", ["C", "F"])
def test_misaligned_and_fortran_arrays(order: Any, isa: str, dtype: Any) -> None:
    problem = make_problem(3, 4, 5, 6, dtype)

    def misaligned(array: Array) -> Array:
        buffer = np.empty(array.nbytes + 1, np.uint8)
        view = np.ndarray(array.shape, dtype, buffer, offset=1, order=order)
        view[...] = array
        assert not view.flags.aligned
        return view

    views = Problem(*(misaligned(array) for array in problem))
    assert_same_bits(run(functional, views, isa=isa), run(functional, problem, isa=isa))


def test_zero_strides(isa: str, dtype: Any) -> None:
    problem = make_problem(14, 6, 5, 7, dtype)
    same = problem._replace(
        x=np.broadcast_to(problem.x[:1, :1, :1], problem.x.shape),
        kernel=np.broadcast_to(problem.kernel[:, :1], problem.kernel.shape),
        recurrent_kernel=np.broadcast_to(problem.recurrent_kernel[:1], (7, 28)),
        d_output=np.broadcast_to(problem.d_output[:, :1], problem.d_output.shape),
    )
    copies = Problem(*(array.copy() for array in same))
    assert_same_bits(run(functional, same, isa=isa), run(functional, copies, isa=isa))


def test_array_likes(dtype: Any) -> None:
    class Subclass(np.ndarray):
        pass

    problem = make_problem(2, 3, 4, 5, dtype)
    expected = functional.lstm(*problem.arguments, initial_state=problem.initial_state)
    views = [array.view(Subclass) for array in problem[:6]]
    assert_same_bits(functional.lstm(*views[:4], initial_state=views[4:]), expected)
    if dtype == np.float64:
        lists = [array.tolist() for array in problem[:6]]
        assert_same_bits(functional.lstm(*lists[:4], initial_state=lists[4:]), expected)
