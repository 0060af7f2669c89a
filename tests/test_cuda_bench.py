"""`lstm-ext bench --device cuda`, without a GPU: on the emulator, and where there is nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cuda_support import Split, emulating, emulation
from lstm_ext import cli, config
from lstm_ext.bench.gpu import clock, run
from lstm_ext.bench.gpu.cases import GpuCase, shapes_of
from lstm_ext.bench.grid import Shape


def test_it_measures_and_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "measure_ceilings", lambda cupy: clock.measure_ceilings(cupy, 64))
    monkeypatch.setattr(run, "missing_torch", lambda: "torch is not installed")
    result = tmp_path / "result.json"
    with emulating(emulation(), Split("auto"), monkeypatch):
        options = ["--rounds", "3", "--seconds", "0.01", "--json", str(result)]
        assert cli.main(["bench", "--device", "cuda", "--shape", "2,3,4,5", *options]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("emulated, float32 ") and shown[0].endswith("torch is not installed")
    assert [line.split()[:4] for line in shown[-2:]] == [
        ["forward", "float32", "2,3,4,5", "cluster"],
        ["training", "float32", "2,3,4,5", "cluster"],
    ]
    rows = json.loads(result.read_text("utf-8"))
    assert len(rows) == 2 and all(row["times"]["ours"] > 0 for row in rows)


def test_wrong_results_are_not_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = GpuCase(Shape(2, 3, 4, 5), "training", "float32", 0)
    output = np.zeros((2, 3, 5), np.float32)
    with pytest.raises(ValueError, match=r"results are off by 1\.0e"):
        case.check(output, None, "float32")
    monkeypatch.setattr(run, "measure_ceilings", lambda cupy: clock.Ceilings(1e12, 1e12, 1e12))
    monkeypatch.setattr(run, "missing_torch", lambda: "torch is not installed")
    monkeypatch.setattr(run.Ours, "results", lambda self: (output, None))
    with emulating(emulation(), Split("auto"), monkeypatch):
        options = ["--rounds", "3", "--seconds", "0.01", "--mode", "forward"]
        assert cli.main(["bench", "--device", "cuda", "--shape", "2,3,4,5", *options]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].split()[:5] == [
        "forward", "float32", "2,3,4,5", "cluster", "-"
    ]  # fmt: skip
    assert "results are off by" in captured.err


def test_without_cuda_it_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    state = config.cuda_available()
    if state:
        pytest.skip("CUDA is available")
    assert cli.main(["bench", "--device", "cuda"]) == 2
    assert f"--device: got cuda, but {state.reason}" in capsys.readouterr().err


def test_shapes() -> None:
    pairs = shapes_of(None, [])
    assert ("forward", Shape(16, 1024, 768, 768)) in pairs
    assert ("training", Shape(32, 20, 1024, 1024)) in pairs and len(pairs) > 20
    assert shapes_of(("batch",), []) == [("forward", s) for _, s in shapes_of(("batch",), [])]
    with pytest.raises(ValueError, match="--suite: got small, which is not for --device cuda"):
        shapes_of(("small",), [])


def test_sets_of_inputs_outgrow_the_cache() -> None:
    shape = Shape(8, 10, 16, 16)
    case = GpuCase(shape, "forward", "float32", 30_000)
    moved = 8 * 10 * 32 * 4
    assert len(case.inputs) * moved >= 60_000 and len(case.inputs) == 6
    assert not np.array_equal(case.inputs[0], case.inputs[1])


def test_the_floor() -> None:
    ceilings = clock.Ceilings(1e12, 1e13, 1e12)
    shape = Shape(64, 10, 512, 512)
    forward = ceilings.floor_seconds(shape, "forward", "float32")
    assert forward == pytest.approx(2 * 64 * 10 * 1024 * 2048 / 1e12)
    assert ceilings.floor_seconds(shape, "training", "float32") == pytest.approx(3 * forward)
    one = ceilings.floor_seconds(Shape(1, 1, 512, 512), "forward", "bfloat16")
    assert one == pytest.approx((1024 * 2048 + 1024) * 2 / 1e12)  # the weights, read once
