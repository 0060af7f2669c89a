"""An earlier report, perhaps of an earlier version of the harness, and the comparison with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from .report import OURS, Row

__all__ = ["Earlier", "compare", "load"]

_NEEDED = ("shape", "mode", "threads", "isa", "times")

_Key = tuple[str, str, str, str, str, int, str]


class Earlier(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    rows : list of Row
        What the harness did not know yet has its default.
    unreadable : list of str
        A line for each of the others: its shape and why.
    """

    rows: list[Row]
    unreadable: list[str]


def load(path: str) -> Earlier:
    """Read a file that ``--json`` wrote, now or then.

    Raises
    ------
    ValueError
        If it is of another kind.
    """
    earlier = Earlier([], [])
    try:
        for entry in json.loads(Path(path).read_text(encoding="utf-8"))["rows"]:
            shape = entry.get("shape", "a case without a shape")
            try:
                earlier.rows.append(_as_row(entry))
            except ValueError as error:
                earlier.unreadable.append(f"{shape}: {error}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no report of lstm-ext bench: {error!r}") from error
    return earlier


def _as_row(entry: dict[str, Any]) -> Row:
    if lacks := [name for name in _NEEDED if name not in entry]:
        raise ValueError(f"the file does not tell its {', '.join(lacks)}")
    times = entry["times"].get(OURS)
    if not isinstance(times, list) or not times or not all(map(_is_time, times)):
        raise ValueError(f"the file has no times of {OURS}")
    dtype = entry.get("dtype", "float32")
    defaults = {
        "group": "", "dtype": dtype, "floor": float("nan"), "refused": {}, "weights_dtype": dtype,
        "errors": {},
    }  # fmt: skip
    return Row(**{**defaults, **{key: entry[key] for key in Row._fields if key in entry}})


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and value > 0


def compare(rows: list[Row], earlier: Earlier) -> str:
    """Return how long each case takes now over what it took then, and what has no counterpart."""
    before = {_key(row): row for row in earlier.rows}
    lines, missing = [], []
    for row in rows:
        then = before.get(_key(row))
        if then is None:
            missing.append(f"  not in the earlier file: {_name(row)}, {row.isa}")
        else:
            ratio = row.seconds[OURS] / then.seconds[OURS]
            lines.append(f"  {_name(row)}: {ratio:.2f}")
    lines = lines or ["  no case in common"]
    unreadable = [f"  not comparable: {line}" for line in earlier.unreadable]
    return "\n".join(["now over before (this package):", *lines, *missing, *unreadable])


def _key(row: Row) -> _Key:
    kind = (row.variant, row.mode, row.dtype, row.weights_dtype)
    return (row.shape, *kind, row.threads, row.isa)


def _name(row: Row) -> str:
    variant = f"{row.variant} " if row.variant else ""
    return f"{variant}{row.mode} {row.weights_dtype} {row.shape} {row.threads} threads"
