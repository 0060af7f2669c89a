"""The harness: tables, files and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lstm_ext.bench import earlier, floor, plot, report

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
        report.Row("masked", "32,10,64,128", "forward", "float32", 2, "avx2", 1e-6,
                   {"lstm_ext": [1e-5] * 3, "lstm_ext-padded": [1.6e-5] * 3, "torch": [3e-5] * 3},
                   {"jax": "no lengths of sequences"}, "float32", {}, "masked", 0.56),
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


def test_the_table_shows_how_much_of_masked_sequences_is_computed() -> None:
    text = report.table(make_report().rows)
    assert (
        "masked, forward, float32, avx2, 2 threads (microseconds a call; steps: the share" in text
    )
    line = next(line for line in text.splitlines() if "32,10,64,128" in line)
    assert line.split() == ["32,10,64,128", "56%", "10.0", "16.0", "30.0", "3.00", "torch", "10%"]
    assert "1.60 over lstm_ext-padded (least 1.60)" in text
    assert "3.00 over the fastest peer" in text
    assert "| shape | steps | lstm_ext |" in report.markdown(make_report())


def compare(now: list[report.Row], then: report.Report, path: Path) -> str:
    then.save(str(path))
    return earlier.compare(now, earlier.load(str(path)))


def test_comparison_with_an_earlier_report(tmp_path: Path) -> None:
    old = make_report()
    slower = [row._replace(times={"lstm_ext": [4e-4] * 3}) for row in old.rows[:1]]
    text = compare(slower, old, tmp_path / "report.json")
    assert "forward float32 8,100,64,128 2 threads: 2.00" in text
    for change in ({"isa": "avx512"}, {"variant": "masked"}, {"threads": 1}, {"mode": "stream"}):
        other = [row._replace(**change) for row in slower]
        text = compare(other, old, tmp_path / "report.json")
        assert "no case in common" in text and "not in the earlier file: " in text
    masked = [row._replace(times={"lstm_ext": [2e-5] * 3}) for row in old.rows[-1:]]
    text = compare(masked, old, tmp_path / "report.json")
    assert "masked forward float32 32,10,64,128 2 threads: 2.00" in text


def test_comparison_with_files_of_earlier_versions(tmp_path: Path) -> None:
    """The first had neither weights_dtype nor errors, and none before this one variants."""
    path = tmp_path / "report.json"
    now = make_report()
    now.save(str(path))
    content = json.loads(path.read_text())
    for row in content["rows"][:3]:
        for name in ("weights_dtype", "errors", "variant", "steps", "ratios", "seconds"):
            del row[name]
    del content["rows"][1]["isa"], content["rows"][2]["times"]["lstm_ext"]
    path.write_text(json.dumps({"rows": content["rows"][:3], "other": 1}))
    before = earlier.load(str(path))
    assert before.rows == [now.rows[0]]
    lines = earlier.compare(now.rows[:3], before).splitlines()
    assert lines == [
        "now over before (this package):",
        "  forward float32 8,100,64,128 2 threads: 1.00",
        "  not in the earlier file: forward float32 16,50,128,128 2 threads, avx2",
        "  not in the earlier file: training float32 1,1,2,3 2 threads, avx2",
        "  not comparable: 16,50,128,128: the file does not tell its isa",
        "  not comparable: 1,1,2,3: the file has no times of lstm_ext",
    ]


@pytest.mark.parametrize("times", [None, [], ["0.1"], [0.0], [-1.0], {"a": 1}])
def test_times_that_cannot_be_compared_are_told(tmp_path: Path, times: object) -> None:
    path = tmp_path / "report.json"
    row = {"shape": "1,2,3,4", "mode": "forward", "threads": 1, "isa": "avx2"}
    path.write_text(json.dumps({"rows": [{**row, "times": {"lstm_ext": times}}]}))
    assert earlier.load(str(path)) == ([], ["1,2,3,4: the file has no times of lstm_ext"])


@pytest.mark.parametrize("text", ["{}", "no json", '{"rows": [1]}', '{"rows": 1}', "[]"])
def test_other_files_are_no_earlier_reports(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="no report of lstm-ext bench"):
        earlier.load(str(path))


@pytest.mark.parametrize("draw", [plot.plot_ratios, plot.plot_roofline])
def test_pictures_are_pngs(tmp_path: Path, draw: Callable[[report.Report, str], None]) -> None:
    path = tmp_path / "picture.png"
    draw(make_report(), str(path))
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n") and len(content) > 5000


def test_many_panels_stand_in_two_columns_and_few_in_one() -> None:
    row = make_report().rows[0]
    panels = {str(number): [row] * 4 for number in range(12)}
    left, right = plot.arrange(panels)
    assert [title for title, _ in left + right] == list(panels)
    assert len(left) == len(right) == 6
    few = {title: panels[title] for title in "012"}
    assert plot.arrange(few) == [list(few.items())]
    assert plot.arrange({}) == [[]]


@pytest.mark.parametrize("draw", [plot.plot_ratios, plot.plot_roofline])
def test_pictures_of_nothing_are_empty(
    tmp_path: Path, draw: Callable[[report.Report, str], None]
) -> None:
    path = tmp_path / "picture.png"
    draw(make_report()._replace(rows=make_report().rows[2:3]), str(path))
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
