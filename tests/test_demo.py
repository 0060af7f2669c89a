"""The demo: its data, its honesty, and that it runs from beginning to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lstm_ext import cli
from lstm_ext.demo import forecast, series


def wave(path: Path, length: int = 200, season: int = 12) -> Path:
    t = np.arange(length)
    values = np.sin(2 * np.pi * t / season) + 0.3 * np.sin(4 * np.pi * t / season) + 5
    lines = [f"{i},{v}" for i, v in zip(t, values, strict=True)]
    path.write_text("time, level\n" + "\n".join(lines) + "\n")
    return path


def test_the_sunspots() -> None:
    data = series.sunspots()
    assert len(data.values) == 309 and data.times[0] == 1700 and data.season == 11
    assert data.test_start == 309 - 61


def test_the_demo_on_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv, png = wave(tmp_path / "w.csv"), tmp_path / "f.png"
    arguments = ["demo", "--csv", str(csv), "--column", "level", "--epochs", "40", "--no-peers"]
    assert cli.main([*arguments, "--output", str(png)]) == 0
    text = capsys.readouterr().out
    for part in ("level: 200 values, the last 40", "epoch 40/40", "persistence", "seasonal naive"):
        assert part in text
    assert "% less than" in text or "% more than" in text
    assert png.read_bytes().startswith(b"\x89PNG")


def test_the_lstm_beats_the_baselines_on_sunspots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", "--no-peers", "--output", str(tmp_path / "f.png")]) == 0
    text = capsys.readouterr().out
    assert "the LSTM's RMSE is" in text and "% less than that of the best baseline" in text


def test_nothing_of_the_test_reaches_the_training() -> None:
    data = series.sunspots()
    changed = data._replace(values=data.values.copy())
    changed.values[data.test_start :] = 1e6
    one, other = forecast.Windows.cut(data), forecast.Windows.cut(changed)
    assert (one.mean, one.scale, one.test) == (other.mean, other.scale, other.test)
    np.testing.assert_array_equal(one.x[: one.test], other.x[: one.test])
    np.testing.assert_array_equal(one.y[: one.test], other.y[: one.test])
    assert one.unscale(one.y[one.test]) == pytest.approx(data.values[data.test_start], rel=1e-5)


def test_each_forecast_is_made_from_what_came_before() -> None:
    data = series.sunspots()
    windows = forecast.Windows.cut(data)
    for i in (0, windows.test, len(windows.x) - 1):
        at = i + data.lookback
        np.testing.assert_allclose(
            windows.unscale(windows.x[i, :, 0]), data.values[at - data.lookback : at], atol=1e-3
        )
    result = forecast.train(data, windows, 2, 0)
    truth = data.values[data.test_start :]
    np.testing.assert_array_equal(result.predictions["persistence"][1:], truth[:-1])
    np.testing.assert_array_equal(result.predictions["seasonal naive"][11:], truth[:-11])
    rmse, mae = result.errors(data)["persistence"]
    assert rmse == pytest.approx(np.sqrt(np.mean((result.predictions["persistence"] - truth) ** 2)))
    assert mae <= rmse


@pytest.mark.parametrize("season", [7, 12, 30])
def test_a_season_is_found(tmp_path: Path, season: int) -> None:
    data = series.read_csv(str(wave(tmp_path / "w.csv", 400, season)), None)
    assert data.season == season and data.name == "level"


def test_a_series_without_a_season_has_one_of_one_step() -> None:
    assert series.likely_season(np.linspace(0, 1, 100)) >= 1
    assert series.likely_season(np.ones(100)) == 1


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", None, "empty"),
        ("a,b\n1,2\n", "c", "--column: got 'c', expected one of a, b"),
        ("a\n1\nx\n", "a", "line 3 has 'x', expected a number"),
        ("a\n1\n\n2\nnan\n", "a", "has 'nan', expected a number"),
        ("a,b\n1,2\n3\n", "b", "line 3 has ''"),
        ("a\n1\n2\n", "a", "a has 2 values, expected at least 60"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, column: str | None, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        series.read_csv(str(path), column)


def test_a_bad_season_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--season: got 90, expected 1 to 50"):
        series.read_csv(str(wave(tmp_path / "w.csv")), None, 90)
