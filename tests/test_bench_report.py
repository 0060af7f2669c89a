"""The harness: tables, files and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lstm_ext.bench import floor, plot, report

CEILINGS = floor.Ceilings(1e11, {16 << 10: 2e11, 1 << 20: 1e11, 128 << 20: 2e10})


def make_report() -> report.Report:
    rows = [
        report.Row("batch", "8,100,64,128", "forward", "float32", 2, "avx2", 1e-4,
                   {"lstm_ext": [2e-4, 2e-4, 3e-4], "torch": [4e-4, 5e-4, 6e-4], "jax": [1e-3] * 3},
                   {"keras": "not installed: keras"}, "float32", {}),
        report.Row("batch", "16,50,128,128", "forward", "float32", 2, "avx2", 2e-4,
                   {"lstm_ext": [3e-4] * 3, "torch": [3e-4] * 3}, {}, "float32", {}),
        report.Row("training", "1,1,2,3", "training", "float32", 2, "avx2", 1e-6,
                   {"lstm_ext": [1e-5] * 3}, {}, "float32", {}),
        report.Row("small", "1,1,128,128", "forward", "float32", 1, "avx2", 1e-6,
                   {"lstm_ext": [1e-5] * 3, "lstm_ext-float32": [2e-5] * 3, "torch": [4e-5] * 3},
                   {}, "int8", {"lstm_ext": 0.01, "lstm_ext-float32": 1.2e-7, "torch": 0.025}),
    ]  # fmt: skip
    return report.Report(report.environment(CEILINGS.as_dict()), rows)


def test_the_table_shows_times_ratios_and_means() -> None:
    text = report.table(make_report().rows)
    assert "batch, forward, float32, avx2, 2 threads" in text and "training, training" in text
    line = next(line for line in text.splitlines() if "8,100,64,128" in line)
    assert line.split() == ["8,100,64,128", "200", "500", "1,000", "2.00", "torch", "50%"]
    assert "1.41 over the fastest peer" in text
    assert "1.41 over torch (least 1.00)" in text
    assert "not timed: keras at 8,100,64,128: not installed: keras" in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_table_shows_errors_beside_small_weights() -> None:
    lines = report.table(make_report().rows).splitlines()
    assert any("small, forward, int8, avx2, 1 thread (" in line for line in lines)
    line = next(line for line in lines if "1,1,128,128" in line)
    assert " ".join(line.split()[1:]) == (
        "10.0 (1.0e-02) 20.0 (1.2e-07) 40.0 (2.5e-02) 4.00 torch 10%"
    )
    mean = next(line for line in lines if "over lstm_ext-float32" in line)
    assert "4.00 over the fastest peer; 2.00 over lstm_ext-float32 (least 2.00)" in mean


def test_a_reason_that_holds_for_a_whole_section_is_told_once() -> None:
    rows = make_report().rows[:2]
    rows = [
        row._replace(refused={"jax": "no", "keras": "no", "torch": str(row.shape)}) for row in rows
    ]
    text = report.table(rows)
    assert "not timed: jax, keras: no\n" in text
    assert "not timed: torch at 8,100,64,128: 8,100,64,128\n" in text


def test_a_report_comes_back_from_its_file(tmp_path: Path) -> None:
    path = str(tmp_path / "report.json")
    original = make_report()
    original.save(path)
    assert report.Report.load(path) == original
    content = json.loads(Path(path).read_text())
    assert content["rows"][0]["ratios"] == {"torch": 2.0, "jax": 5.0}
    assert {"machine", "compiler", "versions", "command", "ceilings"} <= set(content["environment"])
    for text in ("{}", "no json", '{"rows": [1], "environment": 2}'):
        Path(path).write_text(text)
        with pytest.raises(ValueError, match="no report of lstm-ext bench"):
            report.Report.load(path)


def test_markdown_tells_where_figures_are_from() -> None:
    text = report.markdown(make_report())
    for part in (
        "Machine: ",
        "Versions: python ",
        "Command: `lstm-ext",
        "| 8,100,64,128 | 200 |",
    ):
        assert part in text


def test_comparison_with_an_earlier_report() -> None:
    old = make_report()
    slower = [row._replace(times={"lstm_ext": [4e-4] * 3}) for row in old.rows[:1]]
    assert "forward float32 8,100,64,128 2 threads: 2.00" in report.compare(slower, old)
    other = [row._replace(isa="avx512") for row in slower]
    assert "no case in common" in report.compare(other, old)


@pytest.mark.parametrize("draw", [plot.plot_ratios, plot.plot_roofline])
def test_pictures_are_pngs(tmp_path: Path, draw: Callable[[report.Report, str], None]) -> None:
    path = tmp_path / "picture.png"
    draw(make_report(), str(path))
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n") and len(content) > 5000
