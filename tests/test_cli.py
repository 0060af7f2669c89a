"""The command line, as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import lstm_ext
from lstm_ext import cli


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lstm_ext", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_version_and_help() -> None:
    assert call("--version").stdout.split() == ["lstm_ext", lstm_ext.__version__]
    text = call("--help").stdout
    for command in ("demo", "bench", "convert", "predict", "info"):
        assert command in text
    assert call().returncode == 2


def test_info_tells_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    assert lstm_ext.__version__ in text and "threads: " in text and "CUDA: not available: " in text
    assert cli.main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [n for n, runs in facts["isas"].items() if runs] == lstm_ext.available_isas()
    assert facts["threads"] == lstm_ext.get_num_threads() and facts["cuda"] is False


def test_a_reader_that_goes_away_is_no_error() -> None:
    script = f"{sys.executable} -m lstm_ext info | true"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr == ""


def test_bench_measures_a_shape(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("a.json", "a.md", "a.png", "r.png")}
    options = ["--shape", "1,5,10,20", "--peers", "numpy", "--rounds", "3", "--seconds", "0.05"]
    result = call(
        "bench", *options, "--mode", "forward,training", "--json", str(files["a.json"]),
        "--markdown", str(files["a.md"]), "--plot", str(files["a.png"]),
        "--roofline", str(files["r.png"]),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "1,5,10,20" in result.stdout and "x fastest" in result.stdout
    assert "[2/2]" in result.stderr
    assert all(path.stat().st_size > 300 for path in files.values())
    again = call("bench", *options, "--compare", str(files["a.json"]))
    assert "now over before" in again.stdout and "forward float32 1,5,10,20" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "--shape", "1,2"], "shape: got '1,2'"),
        (["bench", "--suite", "all"], "'all' is none of"),
        (["bench", "--peers", "caffe"], "'caffe' is none of"),
        (["bench", "--threads", "0"], "'0' is not a list of positive whole numbers"),
        (["bench", "--rounds", "1"], "--rounds: got 1"),
        (["bench", "--weights-dtype", "int4"], "'int4' is none of bfloat16, int8"),
        (["bench", "--suite", "gpu"], "--suite: got gpu, which is only for --device cuda"),
        (["bench", "--suite", "batch", "--mode", "stream"], "mode: got stream at 8,100,64,128"),
        (["bench", "--suite", "fit", "--weights-dtype", "int8"], "mode: got fit with weights of"),
        (["bench", "--isa", "mmx"], "invalid choice: 'mmx'"),
        (["bench", "--shape", "1,1,1,1", "--compare", "/no/such/file"], "No such file"),
        (["demo", "--csv", "/no/such/file"], "No such file"),
        (["demo", "--epochs", "0"], "--epochs: got 0"),
        (["demo", "--column", "x"], "--column: expected together with --csv"),
        (["nothing"], "invalid choice: 'nothing'"),
    ],
)
def test_a_mistake_ends_with_2_and_one_line(arguments: list[str], message: str) -> None:
    result = call(*arguments)
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr
