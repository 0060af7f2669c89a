"""bfloat16 and int8 weights: what they compute, the promises about bits, and their layers."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import lstm_ext
from lstm_ext import LSTM, Dense, Input, Sequential, functional, quantization_error
from lstm_ext.streaming import Stream
from support import Problem, make_problem, to_bfloat16

Array = NDArray[Any]

ISAS = lstm_ext.available_isas()
FUSED = [isa for isa in ISAS if isa != "baseline"]
FORMATS = ("bfloat16", "int8")
SHAPES = [(1, 1, 1), (2, 3, 5), (1, 10, 20), (3, 17, 33), (7, 64, 64), (20, 130, 31), (2, 257, 129)]


def weights_to_int8(w: Array) -> Array:
    """Round to whole multiples of each column's largest magnitude over 127, as float64."""
    w = np.ascontiguousarray(w, np.float32)
    scale = np.abs(w).max(axis=0, keepdims=True) / np.float32(127)
    return np.rint(w / np.where(scale > 0, scale, 1)).astype(np.float64) * scale


def rows_to_int8(x: Array) -> Array:
    """Round to 256 values from each row's least to its greatest, 0 among them, as float64."""
    x = np.ascontiguousarray(x, np.float32)
    low = np.minimum(x.min(axis=1, keepdims=True), 0)
    high = np.maximum(x.max(axis=1, keepdims=True), 0)
    scale = high / np.float32(255) - low / np.float32(255)
    factor = np.float32(1) / np.where(scale > 0, scale, np.float32(1))
    zero = -np.rint(low * factor).astype(np.float64)
    return (np.minimum(np.rint(x * factor + zero), 255) - zero) * scale


def rounded(x: Array, weights_dtype: str, axis: int) -> Array:
    if weights_dtype == "bfloat16":
        return to_bfloat16(x)
    return weights_to_int8(x) if axis == 0 else rows_to_int8(x)


def exact_step(problem: Problem, x: Array, h: Array, c: Array, weights_dtype: str) -> Array:
    """One step in float64 from float32 inputs, with weights and activations rounded: (h, c)."""
    assert problem.bias is not None
    z = problem.bias.astype(np.float64)
    for a, w in ((x, problem.kernel), (h, problem.recurrent_kernel)):
        z = z + rounded(a, weights_dtype, 1) @ rounded(w, weights_dtype, 0)
    i, f, g, o = np.split(z, 4, axis=1)
    i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
    c = f * c + i * np.tanh(g)
    return np.stack([o * np.tanh(c), c])


def packed(problem: Problem, weights_dtype: str, isa: str | None = None) -> Any:
    return functional.pack(*problem.weights, weights_dtype=weights_dtype, isa=isa)


@pytest.mark.parametrize("weights_dtype", FORMATS)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_step_is_that_of_rounded_weights_and_activations(
    shape: tuple[int, int, int], isa: str, weights_dtype: str
) -> None:
    """Step by step from the very state that came out: else roundings that fall differently add up.

    Sums of K products err by some sqrt(K) roundings of a float32 in a value of size one.
    """
    batch, features, units = shape
    problem = make_problem(batch, 4, features, units)
    weights = packed(problem, weights_dtype, isa)
    state = problem.initial_state
    tolerance = 4 * (features + units) ** 0.5 * np.finfo(np.float32).eps
    for t in range(4):
        x = problem.x[:, t : t + 1]
        output, h, c = functional.lstm(x, weights, initial_state=state)
        expected = exact_step(problem, x[:, 0], *state, weights_dtype)
        np.testing.assert_allclose(np.stack([h, c]), expected, rtol=0, atol=tolerance)
        assert np.array_equal(output[:, -1], h)
        state = (h, c)


@pytest.mark.parametrize("weights_dtype", FORMATS)
def test_small_weights_cost_something_but_little(weights_dtype: str) -> None:
    problem = make_problem(4, 20, 40, 50)
    full = functional.lstm(problem.x, *problem.weights)[0]
    small = functional.lstm(problem.x, packed(problem, weights_dtype))[0]
    deviation = float(np.sqrt(np.mean((small - full) ** 2)))
    # A rounding of 2^-9 in bfloat16, and of 1/254 of the largest value in int8, a step.
    limits = {"bfloat16": (1e-4, 2e-3), "int8": (1e-3, 1e-2)}
    assert limits[weights_dtype][0] < deviation < limits[weights_dtype][1]


@pytest.mark.parametrize("weights_dtype", FORMATS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_bits_depend_on_nothing_but_the_row(weights_dtype: str, data: st.DataObject) -> None:
    sizes = st.one_of(st.integers(1, 20), st.sampled_from([31, 33, 64, 127, 130]))
    batch = data.draw(st.integers(1, 15), "batch")
    steps = data.draw(st.integers(1, 6), "steps")
    problem = make_problem(batch, steps, data.draw(sizes, "features"), data.draw(sizes, "units"))
    state = problem.initial_state
    results = {}
    for isa in FUSED or ISAS:
        weights = packed(problem, weights_dtype, isa)
        for threads in (1, 2, 3):
            results[isa, threads] = functional.lstm(
                problem.x, weights, initial_state=state, num_threads=threads
            )[0]
        alone = [
            functional.lstm(p.x, weights, initial_state=p.initial_state)[0]
            for p in (problem.rows(slice(row, row + 1)) for row in range(batch))
        ]
        results[isa, "rows"] = np.concatenate(alone)
        scattered = np.asfortranarray(problem.x)
        results[isa, "strides"] = functional.lstm(scattered, weights, initial_state=state)[0]
        stepwise, now = [], state
        for t in range(steps):
            output, *now_ = functional.lstm(problem.x[:, t : t + 1], weights, initial_state=now)
            now = (now_[0], now_[1])
            stepwise.append(output)
        results[isa, "steps"] = np.concatenate(stepwise, axis=1)
    expected = next(iter(results.values()))
    for how, result in results.items():
        assert np.array_equal(result, expected), how


@pytest.mark.parametrize("weights_dtype", FORMATS)
@pytest.mark.parametrize("batch", [1, 3])
def test_work_shared_by_threads_gives_the_same_bits(weights_dtype: str, batch: int) -> None:
    problem = make_problem(batch, 30, 96, 200)
    weights = packed(problem, weights_dtype)
    one, two, three = (
        functional.lstm(problem.x, weights, num_threads=threads)[0] for threads in (1, 2, 3)
    )
    assert np.array_equal(one, two)
    assert np.array_equal(one, three)


@pytest.mark.parametrize("weights_dtype", FORMATS)
@pytest.mark.parametrize("isa", FUSED)
def test_numbers_below_the_normal_ones_count_as_zero_everywhere(
    weights_dtype: str, isa: str
) -> None:
    """The dot instructions flush them; what is emulated must do the same."""
    tiny = np.float32(1e-39)
    x = np.full((1, 1, 4), 2.0**-70, np.float32)
    x[0, 0, 3] = tiny
    kernel = np.full((4, 4), 2.0**-70, np.float32)  # products of 2^-140: none of them survives
    kernel[3] = tiny
    recurrent = np.zeros((1, 4), np.float32)
    weights = functional.pack(kernel, recurrent, None, weights_dtype=weights_dtype, isa=isa)
    _, h, c = functional.lstm(x, weights, initial_state=(np.zeros((1, 1), "f"),) * 2)
    if weights_dtype == "bfloat16":
        assert h[0, 0] == c[0, 0] == 0
    best = functional.pack(kernel, recurrent, None, weights_dtype=weights_dtype)
    _, h_best, c_best = functional.lstm(x, best, initial_state=(np.zeros((1, 1), "f"),) * 2)
    assert (h[0, 0], c[0, 0]) == (h_best[0, 0], c_best[0, 0])
    # And the unit's mode is restored: float32 keeps such numbers.
    assert functional.matmul(np.full((1, 1), tiny), np.ones((1, 1), "f"))[0, 0] == tiny


@pytest.mark.parametrize("isa", ISAS)
def test_int8_sums_over_more_than_fits_one_integer(isa: str) -> None:
    features = 70_001  # at the largest values, 255 * 127 * this would not fit in 32 bits
    x = np.ones((1, 1, features), np.float32)
    kernel = np.zeros((features, 4), np.float32)
    kernel[:, 0] = 1
    weights = functional.pack(kernel, np.zeros((1, 4), "f"), None, weights_dtype="int8", isa=isa)
    bias = np.array([-features, 0, 20, 20], np.float32)
    shifted = functional.pack(kernel, np.zeros((1, 4), "f"), bias, weights_dtype="int8", isa=isa)
    assert functional.lstm(x, weights)[2][0, 0] == 0  # the candidate is tanh(0)
    c = functional.lstm(x, shifted)[2][0, 0]
    # sigmoid of a sum that is zero but for the rounding of numbers of 70,001
    assert abs(c - 0.5) < 4 * np.spacing(np.float32(features))


@pytest.mark.parametrize("weights_dtype", FORMATS)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_row(weights_dtype: str, isa: str, bad: float) -> None:
    problem = make_problem(5, 3, 8, 20)
    weights = packed(problem, weights_dtype, isa)
    clean = functional.lstm(problem.x, weights)[0]
    x = problem.x.copy()
    x[2, 1, 3] = bad
    output = functional.lstm(x, weights)[0]
    others = [0, 1, 3, 4]
    assert np.array_equal(output[others], clean[others])
    assert np.array_equal(output[2, 0], clean[2, 0])
    if weights_dtype == "int8" or np.isnan(bad):
        assert np.isnan(output[2, 1:]).all()
    else:
        assert np.isfinite(output[2, 1]).all()  # saturated gates


@pytest.mark.parametrize("weights_dtype", FORMATS)
def test_weights_that_are_not_finite_reach_their_units(weights_dtype: str) -> None:
    problem = make_problem(2, 1, 6, 10)
    kernel = problem.kernel.copy()
    kernel[2, 7] = np.nan
    weights = functional.pack(
        kernel, problem.recurrent_kernel, problem.bias, weights_dtype=weights_dtype
    )
    h = functional.lstm(problem.x, weights)[1]
    assert np.isnan(h[:, 7]).all()
    assert np.isfinite(np.delete(h, 7, axis=1)).all()


def test_zeros_are_exact() -> None:
    weights = functional.pack(
        np.zeros((3, 8), "f"), np.zeros((2, 8), "f"), np.ones(8, "f"), weights_dtype="int8"
    )
    expected = functional.lstm(
        np.ones((1, 2, 3), "f"), np.zeros((3, 8), "f"), np.zeros((2, 8), "f"), np.ones(8, "f")
    )
    for got, wanted in zip(
        functional.lstm(np.zeros((1, 2, 3), "f"), weights), expected, strict=True
    ):
        assert np.array_equal(got, wanted)


@pytest.mark.parametrize("weights_dtype", FORMATS)
@pytest.mark.parametrize("isa", ISAS)
def test_a_stream_gives_the_bits_of_a_call(weights_dtype: str, isa: str) -> None:
    problem = make_problem(3, 6, 11, 37)
    weights = packed(problem, weights_dtype, isa)
    native = lstm_ext._cpu.Stream(weights, 3)
    native.set_state(*problem.initial_state)
    steps = [native.step(np.ascontiguousarray(problem.x[:, t])) for t in range(6)]
    output, h, c = functional.lstm(problem.x, weights, initial_state=problem.initial_state)
    assert np.array_equal(np.stack(steps, 1), output)
    assert np.array_equal(native.state()[0], h)
    assert np.array_equal(native.state()[1], c)


@pytest.mark.parametrize("weights_dtype", FORMATS)
def test_streams_are_copied_and_pickled_with_their_weights(weights_dtype: str) -> None:
    problem = make_problem(2, 5, 4, 9)
    arrays = [w for w in problem.weights if w is not None]
    stream = Stream(arrays, 2, weights_dtype=weights_dtype)
    for t in range(3):
        stream.step(np.ascontiguousarray(problem.x[:, t]))
    twins = [copy.copy(stream), copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))]
    x = np.ascontiguousarray(problem.x[:, 3])
    expected = stream.step(x)
    for twin in twins:
        assert twin.weights_dtype == weights_dtype
        assert np.array_equal(twin.step(x), expected)


def test_bad_weights_dtypes() -> None:
    problem = make_problem(1, 1, 2, 3)
    with pytest.raises(ValueError, match=r"weights_dtype: got 'int4', expected bfloat16, int8 or"):
        packed(problem, "int4")
    with pytest.raises(TypeError, match="weights_dtype: got 8, expected the name of a dtype"):
        packed(problem, 8)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"weights_dtype: got 'int8' beside weights of float64"):
        packed(problem.astype(np.float64), "int8")
    with pytest.raises(ValueError, match=r"kernel: got weights packed as int8, expected float32"):
        functional.lstm_vjp(problem.x, packed(problem, "int8"))
    assert packed(problem, "float32").weights_dtype == "float32"
    with pytest.raises(TypeError, match="x: got an array of float64"):
        functional.lstm(problem.x.astype(np.float64), packed(problem, "int8"))


# ---- layers and models ----


def make_layer(**options: Any) -> LSTM:
    problem = make_problem(2, 7, 6, 12)
    layer = LSTM(12, return_sequences=True, **options)
    layer.build((None, None, 6))
    layer.set_weights([w for w in problem.weights if w is not None])
    return layer


X = make_problem(2, 7, 6, 12).x


@pytest.mark.parametrize("weights_dtype", FORMATS)
def test_a_layer_computes_with_small_weights(weights_dtype: str) -> None:
    problem = make_problem(2, 7, 6, 12)
    expected = functional.lstm(problem.x, packed(problem, weights_dtype))[0]
    made, converted, assigned = make_layer(weights_dtype=weights_dtype), make_layer(), make_layer()
    full = converted(X)
    converted.quantize(weights_dtype)
    assigned.weights_dtype = weights_dtype
    for layer in (made, converted, assigned):
        assert layer.weights_dtype == weights_dtype
        assert np.array_equal(layer(X), expected)
        stream = layer.stream(2)
        steps = [stream.step(np.ascontiguousarray(X[:, t])) for t in range(7)]
        assert np.array_equal(np.stack(steps, 1), expected)
        assert np.array_equal(layer.get_weights()[0], problem.kernel)
    converted.weights_dtype = "float32"
    assert np.array_equal(converted(X), full)
    assert converted.weights_dtype == "float32"


def test_a_refused_conversion_changes_nothing() -> None:
    layer = make_layer(weights_dtype="int8")
    before = layer(X)
    with pytest.raises(ValueError, match="mode: got 'int3'"):
        layer.quantize("int3")
    assert layer.weights_dtype == "int8"
    assert np.array_equal(layer(X), before)
    with pytest.raises(ValueError, match="weights_dtype: got 'int8' beside weights of float64"):
        LSTM(3, dtype="float64", weights_dtype="int8")
    double = LSTM(4, dtype="float64")
    model = Sequential([Input((None, 3)), LSTM(4, return_sequences=True), double])
    with pytest.raises(ValueError, match="float64"):
        model.quantize("int8")
    assert [layer.weights_dtype for layer in model.layers] == ["float32", "float64"]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="has no LSTM"):
        Sequential([Input((3,)), Dense(1)]).quantize("int8")


def test_training_computes_with_full_weights() -> None:
    def trained(weights_dtype: str | None) -> list[Array]:
        lstm_ext.set_random_seed(3)
        model = Sequential([Input((4, 2)), LSTM(8, weights_dtype=weights_dtype), Dense(1)])
        model.compile(optimizer="adam", loss="mse")
        rng = np.random.default_rng(0)
        model.fit(rng.random((20, 4, 2), "f"), rng.random((20, 1), "f"), epochs=2, verbose=0)
        return model.get_weights()

    for small, full in zip(trained("int8"), trained(None), strict=True):
        assert np.array_equal(small, full)


def test_training_reaches_small_weights() -> None:
    model = Sequential([Input((4, 2)), LSTM(8, weights_dtype="int8"), Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    x = np.random.default_rng(0).random((20, 4, 2), "f")
    before = model.predict(x, verbose=0)
    model.fit(x, np.ones((20, 1), "f"), epochs=3, verbose=0)
    assert not np.array_equal(model.predict(x, verbose=0), before)


def test_a_model_is_saved_with_its_weights_dtype(tmp_path: Path) -> None:
    model = Sequential([Input((None, 6)), make_layer(), Dense(2)])
    model.quantize("bfloat16")
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = lstm_ext.load_model(path)
    assert again.layers[0].weights_dtype == "bfloat16"  # type: ignore[attr-defined]
    assert np.array_equal(again(X), model(X))
    assert np.array_equal(model.stream(2).step(X[:, 0]), model(X[:, :1])[:, 0])


@pytest.mark.parametrize("weights_dtype", FORMATS)
def test_the_error_is_reported(weights_dtype: str) -> None:
    layer = make_layer(stateful=True)
    layer(X)
    state = layer.state
    fresh = make_layer()
    small = make_layer(weights_dtype=weights_dtype)
    deviation = small(X).astype(np.float64) - fresh(X)
    report = quantization_error(layer, X, weights_dtype)
    assert report.weights_dtype == weights_dtype
    assert report.largest == pytest.approx(np.abs(deviation).max(), rel=1e-12)
    assert report.rms == pytest.approx(np.sqrt(np.mean(deviation**2)), rel=1e-12)
    scale = np.sqrt(np.mean(fresh(X).astype(np.float64) ** 2))
    assert report.relative == pytest.approx(report.rms / scale, rel=1e-6)
    assert layer.weights_dtype == "float32"
    assert state is not None and layer.state is not None
    assert np.array_equal(layer.state[0], state[0])
    assert quantization_error(small, X) == report
    model = Sequential([Input((None, 6)), small])
    assert quantization_error(model, X) == report


def test_what_has_no_quantization_error() -> None:
    with pytest.raises(TypeError, match="model: got"):
        quantization_error(Dense(3), X)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is not built"):
        quantization_error(LSTM(3), X)
    with pytest.raises(ValueError, match="has no LSTM"):
        quantization_error(Sequential([Input((3,)), Dense(1)]), X)
    with pytest.raises(
        ValueError, match="weights_dtype: got None for layers with weights of float32"
    ):
        quantization_error(make_layer(), X)
