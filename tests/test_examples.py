"""The examples run, and print what they promise."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support import assert_gradients_match_central_differences

EXAMPLES = Path(__file__).parents[1] / "examples"


def run_example(name: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def test_the_seed_notebook() -> None:
    text = run_example("seed_notebook.py")
    assert "outputs: (1, 5, 20)  h_state: (1, 20)  c_state: (1, 20)" in text
    assert "Difference between last output and h_state: 0.0\n" in text
    pairs = re.findall(r"predicted +(-?[\d.]+)  truth +([\d.]+)", text)
    assert len(pairs) == 20
    assert all(abs(float(predicted) - float(truth)) < 0.05 for predicted, truth in pairs)


@pytest.mark.parametrize("weights_dtype", ["float32", "bfloat16", "int8"])
def test_real_time(weights_dtype: str, tmp_path: Path) -> None:
    sizes = ["--features", "5", "--units", "7", "--batch-size", "2", "--steps", "3000"]
    options = ["--weights-dtype", weights_dtype, "--deadline", "0.001"]
    picture = tmp_path / "latencies.png"
    text = run_example("realtime.py", *sizes, *options, "--plot", str(picture))
    assert f"LSTM(7) on 5 features, batch of 2, {weights_dtype} weights: 3,000 steps" in text
    latencies = [float(us) for us in re.findall(r"^(?:p[\d.]+|max) +([\d.]+) us", text, re.M)]
    assert len(latencies) == 4 and latencies == sorted(latencies) and latencies[0] > 0
    assert "deadline of 0.001 us: 3,000 of 3,000 steps (100.0000%), at most 3000 in a row" in text
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_real_time_without_a_miss() -> None:
    text = run_example("realtime.py", "--steps", "100", "--deadline", "1e9")
    assert "deadline of 1e+09 us: 0 of 100 steps (0.0000%), at most 0 in a row" in text
    assert "a miss takes" not in text


def test_the_longest_run_of_misses() -> None:
    realtime = runpy.run_path(str(EXAMPLES / "realtime.py"))
    for late, expected in (("", 0), ("0", 0), ("1", 1), ("0110", 2), ("1101110", 3), ("111", 3)):
        assert realtime["longest_run"](np.array([c == "1" for c in late])) == expected


def test_why_lstm(tmp_path: Path) -> None:
    picture = tmp_path / "why.png"
    text = run_example("why_lstm.py", "--quick", "--plot", str(picture))
    assert "the adding problem over 40 steps, 32,000 sequences to learn from" in text
    assert "error of always answering 1:   0.1667" in text
    learned = re.search(r"error of the LSTM network: +([\d.]+)\n", text)
    assert learned and float(learned[1]) < 0.02
    rows = re.findall(r"^  (\w+, .*?)  +" + r"([\d.e+-]+) *" * 4 + "$", text, re.M)
    left = {name: [float(norm) for norm in norms] for name, *norms in rows}
    assert len(left) == 6
    # What is left after 39 steps, as against one, is more after training.
    new, trained = left["LSTM, new, forget bias 1"], left["LSTM, trained from 1"]
    assert trained[3] / trained[0] > 10 * new[3] / new[0]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_adding_problem() -> None:
    example = runpy.run_path(str(EXAMPLES / "why_lstm.py"))
    x, y = example["adding_problem"](np.random.default_rng(0), 500, 7)
    numbers, marks = x[..., 0], x[..., 1]
    assert set(np.unique(marks)) == {0, 1} and numbers.min() >= 0 and numbers.max() < 1
    assert (marks[:, :3].sum(1) == 1).all() and (marks[:, 3:].sum(1) == 1).all()
    assert (marks.sum(0) > 0).all()
    np.testing.assert_array_equal(y, (numbers * marks).sum(1, keepdims=True))


def test_the_gradients_of_the_plain_network() -> None:
    example = runpy.run_path(str(EXAMPLES / "why_lstm.py"))
    rng = np.random.default_rng(0)
    shapes = [(2, 5, 3), (3, 4), (4, 4), (4,)]  # x and the weights
    arguments = [rng.standard_normal(shape) for shape in shapes]
    d_h = rng.standard_normal((2, 4))

    def loss() -> float:
        return float((example["plain_vjp"](*arguments)[0] * d_h).sum())

    gradients = example["plain_vjp"](*arguments)[1](d_h)
    assert_gradients_match_central_differences(loss, arguments, gradients)
