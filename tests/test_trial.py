"""Whether a stream's step is done alone or by a team: tried, and the faster one kept to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from build_support import SOURCE, compiler_for
from lstm_ext import _cpu

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
