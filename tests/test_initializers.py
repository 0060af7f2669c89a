"""Initializers: values, distributions, seeds, names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lstm_ext import initializers, random
from support import Array, assert_same_bits

# Keras's defaults: (class, name, standard deviation at shape (300, 500), largest value over it).
SQRT3, CUT = math.sqrt(3), 2 / 0.8796256610342398
DISTRIBUTIONS = [
    ("RandomUniform", "random_uniform", 0.05 / SQRT3, SQRT3),
    ("RandomNormal", "random_normal", 0.05, math.inf),
    ("TruncatedNormal", "truncated_normal", 0.05 * 0.8796256610342398, CUT),
    ("VarianceScaling", "variance_scaling", 300**-0.5, CUT),
    ("GlorotUniform", "glorot_uniform", 400**-0.5, SQRT3),
    ("GlorotNormal", "glorot_normal", 400**-0.5, CUT),
    ("HeUniform", "he_uniform", 150**-0.5, SQRT3),
    ("HeNormal", "he_normal", 150**-0.5, CUT),
    ("LecunUniform", "lecun_uniform", 300**-0.5, SQRT3),
    ("LecunNormal", "lecun_normal", 300**-0.5, CUT),
]
SEEDED = [name for _, name, *_ in DISTRIBUTIONS] + ["orthogonal"]


@pytest.fixture(autouse=True)
def own_generator() -> Iterator[None]:
    """Start every test from one seed."""
    random.set_random_seed(0)
    yield
    random.set_random_seed(0)


def make(name: str, **config: Any) -> initializers.Initializer:
    return initializers.get({"class_name": name, "config": config})


def assert_distribution(values: Array, stddev: float, largest: float) -> None:
    """Assert mean and variance to five standard errors, and where the distribution ends."""
    count = values.size
    assert abs(values.mean()) < 5 * stddev / math.sqrt(count)
    squares = values**2
    assert abs(squares.mean() - stddev**2) < 5 * squares.std() / math.sqrt(count)
    if largest < math.inf:
        found = np.abs(values).max() / stddev
        assert 0.99 * largest < found <= largest * (1 + 1e-6)
    else:
        assert np.abs(values).max() > 3 * stddev


@pytest.mark.parametrize(("class_name", "name", "stddev", "largest"), DISTRIBUTIONS)
def test_distribution(class_name: str, name: str, stddev: float, largest: float) -> None:
    init = initializers.get(name)
    assert type(init).__name__ == class_name
    assert_distribution(init((300, 500), "float64"), stddev, largest)


@pytest.mark.parametrize(
    ("config", "shape", "variance", "largest"),
    [
        ({"scale": 3.0, "mode": "fan_out", "distribution": "uniform"}, (30, 5000), 3 / 5000, SQRT3),
        ({"mode": "fan_avg", "distribution": "normal"}, (100, 900), 1 / 500, CUT),
        ({"distribution": "untruncated_normal"}, (200, 400), 1 / 200, math.inf),
        ({"distribution": "uniform"}, (40000,), 1 / 40000, SQRT3),
        ({"distribution": "uniform"}, (3, 10, 2000), 1 / 30, SQRT3),
    ],
)
def test_variance_scaling(
    config: dict[str, Any], shape: tuple[int, ...], variance: float, largest: float
) -> None:
    values = make("VarianceScaling", **config)(shape, "float64")
    assert values.shape == shape
    assert_distribution(values, math.sqrt(variance), largest)


def test_parameters_of_plain_distributions() -> None:
    uniform = initializers.RandomUniform(2, 5)((50000,), "float64")
    assert_distribution(uniform - 3.5, 1.5 / SQRT3, SQRT3)
    normal = initializers.RandomNormal(mean=-4, stddev=0.1)((50000,), "float64")
    assert_distribution(normal + 4, 0.1, math.inf)
    truncated = initializers.TruncatedNormal(mean=7, stddev=3)((50000,), "float64")
    assert_distribution(truncated - 7, 3 * 0.8796256610342398, CUT)
    assert (initializers.RandomNormal(mean=3, stddev=0)((4,)) == 3).all()


@pytest.mark.parametrize("shape", [(5, 5), (20, 80), (80, 20), (1, 7), (7, 1), (3, 4, 5)])
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_orthogonal(shape: tuple[int, ...], gain: float, dtype: Any) -> None:
    matrix = initializers.Orthogonal(gain)(shape, dtype)
    assert matrix.shape == shape and matrix.dtype == dtype
    flat = matrix.reshape(-1, shape[-1]).astype(np.float64)
    product = flat @ flat.T if flat.shape[0] < flat.shape[1] else flat.T @ flat
    allowed = 4 * np.sqrt(flat.size) * np.finfo(dtype).eps * gain**2
    np.testing.assert_allclose(product, gain**2 * np.eye(len(product)), rtol=0, atol=allowed)


def test_orthogonal_is_uniform_over_the_group() -> None:
    # QR by reflections alone leaves the first element negative: its mean would be about -0.4.
    draws = np.array([initializers.Orthogonal(seed=seed)((4, 4)) for seed in range(400)])
    assert np.abs(draws.mean(axis=0)).max() < 5 * 0.5 / 20
    assert abs((draws**2).mean() - 0.25) < 1e-6
    assert 100 < (np.linalg.det(draws) > 0).sum() < 300


def test_constants(dtype: Any) -> None:
    shape = (3, 5)
    expected = {
        "zeros": np.zeros(shape),
        "ones": np.ones(shape),
        "zero": np.zeros(shape),
        "one": np.ones(shape),
        "constant": np.zeros(shape),
        "identity": np.eye(3, 5),
    }
    for name, values in expected.items():
        assert_same_bits([initializers.get(name)(shape, dtype)], [values.astype(dtype)])
    assert_same_bits([make("Constant", value=-2.5)([2], dtype)], [np.full(2, -2.5, dtype)])
    assert_same_bits([make("Identity", gain=3)((2, 2), dtype)], [3 * np.eye(2, dtype=dtype)])


@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_gives_the_same_values_in_every_call(name: str) -> None:
    init = make(name, seed=7)
    first = init((6, 4))
    assert_same_bits([init((6, 4)), make(name, seed=np.int64(7))((6, 4))], [first, first])
    assert (make(name, seed=8)((6, 4)) != first).any()
    assert_same_bits([init((6, 4), "float64").astype(np.float32)], [first])


@pytest.mark.parametrize("name", SEEDED)
def test_no_seed_draws_from_the_global_generator(name: str) -> None:
    init = initializers.get(name)
    random.set_random_seed(3)
    first, second = init((6, 4)), init((6, 4))
    assert (first != second).any()
    random.set_random_seed(3)
    assert_same_bits([init((6, 4)), init((6, 4))], [first, second])


def test_random_module() -> None:
    random.set_random_seed(5)
    assert random.generator() is random.generator()
    expected = np.random.default_rng(5).random(3)
    assert_same_bits([random.generator().random(3), random.generator(5).random(3)], [expected] * 2)
    for seed, error in ((-1, ValueError), (1.5, TypeError), ("1", TypeError)):
        for call in (random.set_random_seed, random.generator, initializers.HeNormal):
            with pytest.raises(error, match="seed: got"):
                call(seed)


def test_seeded_hands_out_seeds_in_turn() -> None:
    seeded = initializers.Seeded(11)
    unset, own = initializers.get("he_normal"), initializers.HeNormal(seed=1)
    made = [seeded(init, (3, 4), "float32") for init in (unset, own, unset, initializers.Ones())]
    expected = [make("he_normal", seed=seed)((3, 4)) for seed in (11, 1, 12)]
    assert_same_bits(made, [*expected, np.ones((3, 4), np.float32)])
    assert unset.get_config()["seed"] is None


def test_configs_make_equal_initializers() -> None:
    made: list[initializers.Initializer] = [
        initializers.Constant(3.5),
        initializers.Identity(2),
        initializers.RandomUniform(-1, 2, seed=4),
        initializers.TruncatedNormal(1, 2, seed=4),
        initializers.VarianceScaling(2, "fan_out", "uniform", seed=4),
        initializers.Orthogonal(2, seed=4),
        *(make(name, seed=4) for name in SEEDED),
    ]
    for init in made:
        again = initializers.get(initializers.serialize(init))
        assert type(again) is type(init) and again.get_config() == init.get_config()
        assert_same_bits([again((4, 6))], [init((4, 6))])
    assert make("GlorotUniform", seed=2).get_config() == {"seed": 2}


def test_get() -> None:
    init = initializers.HeNormal()
    assert initializers.get(init) is init
    assert type(initializers.get(initializers.HeNormal)) is initializers.HeNormal
    with pytest.raises(ValueError, match=r"kernel_initializer: got 'glorot', expected one of"):
        initializers.get("glorot", "kernel_initializer")
    with pytest.raises(ValueError, match="initializer: got 'glorot'"):
        make("glorot")
    for identifier in (3, None, np.zeros, {"config": {}}):
        with pytest.raises(TypeError, match="initializer: got"):
            initializers.get(identifier)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("RandomNormal", {"stddev": -0.1}, "stddev: got -0.1"),
        ("RandomNormal", {"mean": math.nan}, "mean: got nan"),
        ("TruncatedNormal", {"stddev": math.inf}, "stddev: got inf"),
        ("RandomUniform", {"minval": 1, "maxval": 0}, "maxval: got 0"),
        ("VarianceScaling", {"scale": 0}, "scale: got 0"),
        ("VarianceScaling", {"mode": "fan"}, "mode: got 'fan'"),
        ("VarianceScaling", {"distribution": "cauchy"}, "distribution: got 'cauchy'"),
        ("HeNormal", {"seed": -3}, "seed: got -3"),
    ],
)
def test_bad_arguments(name: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **config)


def test_bad_types() -> None:
    with pytest.raises(TypeError, match="stddev: got '1'"):
        initializers.RandomNormal(stddev="1")
    with pytest.raises(TypeError, match="gain: got True"):
        initializers.Orthogonal(gain=True)
    with pytest.raises(NotImplementedError, match="input_axes"):
        initializers.GlorotUniform(input_axes=[0])
    initializers.GlorotUniform(input_axes=None, output_axes=None)
    with pytest.raises(TypeError, match="fan"):
        initializers.HeNormal(fan=3)


def test_bad_shapes() -> None:
    with pytest.raises(ValueError, match="shape"):
        initializers.Zeros()((3, -1))
    for shape in (3, (2.5,), ("a",)):
        with pytest.raises(TypeError, match="shape: got"):
            initializers.Zeros()(shape)
    with pytest.raises(ValueError, match="two axes"):
        initializers.Orthogonal()((3,))
    with pytest.raises(ValueError, match="two axes"):
        initializers.Identity()((3, 3, 3))
    for name in ("zeros", "he_normal", "orthogonal"):
        assert initializers.get(name)((0, 4)).shape == (0, 4)
