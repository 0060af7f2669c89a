"""A stream's step by a team: when it is, and that it gives the same bits."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from build_support import SOURCE, compiler_for
from lstm_ext import _cpu, config, functional
from support import Array, make_problem

TRYING = 128  # steps of a trial, half of them by a team


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trial") / "trial"
    compiler = compiler_for(_cpu.built_isas()[-1])
    source = SOURCE / "tests" / "native" / "trial.cpp"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{SOURCE / 'csrc'}"]
    subprocess.run([compiler, *flags, str(source), "-o", str(made)], check=True)
    return made


@pytest.mark.parametrize(("alone", "by_team", "kept"), [(100, 87, 1), (100, 88, 0), (50, 70, 0)])
def test_a_team_that_saves_an_eighth_is_kept_to_whatever_a_change_costs(
    program: Path, alone: int, by_team: int, kept: int
) -> None:
    # One trial and 512 steps by what it showed; a second one and 1024; a third and 2048.
    steps = 3 * TRYING + 512 + 1024 + 2048
    made = subprocess.run(
        [program, str(alone), str(by_team), str(steps)], check=True, capture_output=True, text=True
    )
    teams, last = map(int, made.stdout.split())
    assert last == kept
    assert teams == 3 * TRYING // 2 + kept * (512 + 1024 + 2048)


@pytest.mark.parametrize("weights_dtype", [None, "bfloat16", "int8"])
def test_streams_that_share_a_step_give_the_bits_of_a_call(
    num_threads: int, weights_dtype: str | None
) -> None:
    """Threads take blocks of units as they come, in another order in every second step.

    A stream begins with 32 steps of one thread and then tries as many of a team.
    """
    problem = make_problem(3, 7, 300, 520)
    weights = functional.pack(*problem.weights, weights_dtype=weights_dtype)
    expected = functional.lstm(problem.x, weights, num_threads=1)[0]

    def steps() -> list[Array]:
        stream, outputs = _cpu.Stream(weights, 3), []
        for _ in range(64 // 7):
            stream.reset()
            made = [stream.step(np.ascontiguousarray(problem.x[:, t])) for t in range(7)]
            outputs.append(np.stack(made, axis=1))
        return outputs

    for count in (1, 2, 3, 20):
        config.set_num_threads(count)
        assert all(np.array_equal(outputs, expected) for outputs in steps())
        with ThreadPoolExecutor(3) as callers:
            for made in callers.map(lambda _: steps(), range(6)):
                assert all(np.array_equal(outputs, expected) for outputs in made)
