"""A series of numbers: where it comes from, and how it is cut for training and test."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Series", "read_csv", "sunspots"]

Array = NDArray[Any]

_SUNSPOT_SEASON = 11  # years in a cycle
_MIN_LENGTH = 60


class Series(NamedTuple):
    """Values at successive times."""

    name: str
    times: Array
    values: Array
    season: int

    @property
    def test_start(self) -> int:
        """The index from which on no model has seen anything: the last fifth."""
        return len(self.values) - len(self.values) // 5

    @property
    def lookback(self) -> int:
        """How many values a forecast is made from: three seasons, if that leaves enough."""
        return int(min(3 * self.season, self.test_start // 4))


def sunspots() -> Series:
    """Return the yearly sunspot numbers from 1700 to 2008 that statsmodels ships.

    Raises
    ------
    ModuleNotFoundError
        If statsmodels is not installed.
    """
    try:
        from statsmodels.datasets import sunspots as dataset
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "the sunspots come with statsmodels: pip install statsmodels, or give --csv"
        ) from None
    data = dataset.load_pandas().data
    years = data["YEAR"].to_numpy(np.int64)
    return Series("yearly sunspots", years, data["SUNACTIVITY"].to_numpy(float), _SUNSPOT_SEASON)


def read_csv(path: str, column: str | None, season: int | None = None) -> Series:
    """Return a column of a CSV file whose first line holds headings.

    Parameters
    ----------
    path : str
    column : str, optional
        By default the only column, or else the last.
    season : int, optional
        By default the lag at which the series resembles itself most.

    Raises
    ------
    ValueError
        If the column is not there, holds something else than numbers, or is too short.
    OSError
        If the file cannot be read.
    """
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        raise ValueError(f"{path}: the file is empty")
    headings = [heading.strip() for heading in rows[0]]
    name = headings[-1] if column is None else column
    if name not in headings:
        raise ValueError(f"--column: got {name!r}, expected one of {', '.join(headings)}")
    index = headings.index(name)
    values = np.array([_number(row, index, path, i) for i, row in enumerate(rows[1:], 2)])
    if len(values) < _MIN_LENGTH:
        raise ValueError(
            f"{path}: {name} has {len(values)} values, expected at least {_MIN_LENGTH}"
        )
    if season is not None and not 1 <= season <= len(values) // 4:
        raise ValueError(f"--season: got {season}, expected 1 to {len(values) // 4}")
    return Series(name, np.arange(len(values)), values, season or likely_season(values))


def _number(row: list[str], index: int, path: str, line: int) -> float:
    text = row[index] if index < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ValueError(f"{path}: line {line} has {text!r}, expected a number")
    return value


def likely_season(values: Array) -> int:
    """Return the lag of the first peak of the autocorrelation after it has fallen; 1 without one.

    Only the part before the test is looked at.
    """
    known = values[: len(values) - len(values) // 5]
    centred = known - known.mean()
    lags = np.arange(1, len(known) // 4)
    power = float(centred @ centred) or 1.0
    correlation = np.array([centred[:-lag] @ centred[lag:] for lag in lags]) / power
    below = np.flatnonzero(correlation < 0)
    if not below.size or below[0] == len(lags) - 1:
        return 1
    start = int(below[0])
    return int(lags[start + int(correlation[start:].argmax())])
