"""The picture of gates: what is drawn, in which ranges, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import lstm_ext
from lstm_ext.variants import Gates

B, T, H = 3, 7, 6
NAMES = ("input", "forget", "candidate", "output", "cell")
Array = np.ndarray[Any, np.dtype[Any]]


def make_gates(dtype: Any = np.float32) -> Gates:
    rng = np.random.default_rng(0)
    unit, both = rng.random((3, B, T, H)), rng.uniform(-1, 1, (B, T, H))
    cell = 3 * rng.standard_normal((B, T, H))
    return Gates(*(a.astype(dtype) for a in (unit[0], unit[1], both, unit[2], cell)))


def heatmaps(figure: Any) -> list[Any]:
    return [axes.images[0] for axes in figure.axes[:5]]


def curves(figure: Any) -> list[Array]:
    """Return what the axes show as (T, units) arrays."""
    return [np.stack([line.get_ydata() for line in axes.lines], 1) for axes in figure.axes[:5]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_heatmaps_show_one_row(dtype: Any) -> None:
    gates = make_gates(dtype)
    images = heatmaps(lstm_ext.plot.gates(gates, row=1))
    for name, image in zip(NAMES, images, strict=True):
        np.testing.assert_array_equal(image.get_array(), getattr(gates, name)[1].T)


def test_each_picture_says_what_it_is() -> None:
    figure = lstm_ext.plot.gates(make_gates(), title="above all")
    titles = [axes.get_title(loc="left").split(":")[0] for axes in figure.axes[:5]]
    assert titles == ["input gate", "forget gate", "candidate", "output gate", "cell"]
    assert figure.get_suptitle() == "above all"
    assert figure.axes[4].get_xlabel() == "step"
    assert len(figure.axes) == 10  # each has its colour bar


def test_units_are_drawn_in_the_order_given() -> None:
    gates, units = make_gates(), [5, 0, 3, 2, 1]
    figure = lstm_ext.plot.gates(gates, units=np.array(units), row=2)
    np.testing.assert_array_equal(heatmaps(figure)[1].get_array(), gates.forget[2][:, units].T)
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == list("50321")


def test_labels_of_many_units_belong_to_their_lines() -> None:
    gates = Gates(*(np.zeros((1, 2, 40)) for _ in NAMES))
    axes = lstm_ext.plot.gates(gates, units=range(39, -1, -1)).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [str(39 - int(tick)) for tick in axes.get_yticks()] and 4 < len(labels) < 10


@pytest.mark.parametrize("units", [[4], [4, 1]])
def test_few_units_are_drawn_as_curves(units: list[int]) -> None:
    gates = make_gates()
    figure = lstm_ext.plot.gates(gates, units=units, row=2)
    assert len(figure.axes) == 5
    for name, values in zip(NAMES, curves(figure), strict=True):
        np.testing.assert_array_equal(values, getattr(gates, name)[2][:, units])
    legend = figure.axes[0].get_legend()
    named = [t.get_text() for t in legend.get_texts()] if legend else [figure.axes[0].get_ylabel()]
    assert named == [f"unit {unit}" for unit in units]


def ranges(figure: Any) -> list[tuple[float, float]]:
    return [image.get_clim() for image in heatmaps(figure)]


def test_the_ranges() -> None:
    gates = make_gates()
    most = float(np.abs(gates.cell[0]).max())
    one, both = (0.0, 1.0), (-1.0, 1.0)
    assert ranges(lstm_ext.plot.gates(gates)) == [one, one, both, one, (-most, most)]
    zeros = Gates(*(np.zeros((1, 2, H)) for _ in NAMES))
    assert ranges(lstm_ext.plot.gates(zeros)) == [one, one, both, one, both]


def test_values_of_other_activations_widen_the_ranges() -> None:
    gates = make_gates(np.float64)
    gates.input[0, 0, 0], gates.forget[0, 0, 0], gates.candidate[0, 0, 0] = -0.5, 2, -4
    found = ranges(lstm_ext.plot.gates(gates))
    assert found[:4] == [(-0.5, 1), (0, 2), (-4, 4), (0, 1)]
    low, high = lstm_ext.plot.gates(gates, units=[0]).axes[2].get_ylim()
    assert low < -4 and high == -low


def test_what_is_not_finite_is_left_out() -> None:
    gates = make_gates()
    gates.cell[0, 2, 3], gates.cell[0, 3, 3] = np.nan, np.inf
    gates.input[0] = np.nan
    figure = lstm_ext.plot.gates(gates)
    cell = heatmaps(figure)[4]
    assert np.argwhere(np.ma.getmaskarray(cell.get_array())).tolist() == [[3, 2], [3, 3]]
    assert cell.get_clim()[1] == np.abs(gates.cell[0][np.isfinite(gates.cell[0])]).max()
    assert heatmaps(figure)[0].get_clim() == (0, 1)


def test_pictures_are_written(tmp_path: Path) -> None:
    for number, units in enumerate((None, [1, 2])):
        path = tmp_path / f"{number}.png"
        figure = lstm_ext.plot.gates(make_gates(), units=units, path=path)
        assert isinstance(figure, Figure)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_figure_of_ones_own() -> None:
    whole = Figure()
    _, part = whole.subfigures(2, 1)
    assert lstm_ext.plot.gates(make_gates(), figure=part) is part
    assert len(part.axes) == 10


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"row": 3}, ValueError, "row: got 3, expected 0 to 2"),
        ({"row": -1}, ValueError, "row: got -1, expected 0 to 2"),
        ({"row": 1.0}, TypeError, "row: got 1.0, expected an integer"),
        ({"row": True}, TypeError, "row: got True, expected an integer"),
        ({"units": [0, 6]}, ValueError, "units: got 6, expected 0 to 5"),
        ({"units": []}, ValueError, r"units: got \[\], expected at least one"),
        ({"units": [1, 2, 1]}, ValueError, r"units: got \[1, 2, 1\], expected .* none twice"),
        ({"units": 3}, TypeError, "units: got 3, expected a sequence of integers"),
        ({"units": "12"}, TypeError, "units: got '12', expected a sequence of integers"),
        ({"units": [0.5]}, TypeError, "units: got 0.5, expected an integer"),
        ({"path": "a.png", "figure": Figure()}, ValueError, "path: got 'a.png', expected None"),
        ({"figure": "a.png"}, TypeError, "figure: got 'a.png', expected a Figure or SubFigure"),
    ],
)
def test_wrong_options_are_named(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        lstm_ext.plot.gates(make_gates(), **options)


def test_wrong_gates_are_named() -> None:
    gates = make_gates()
    for wrong, error, message in [
        (tuple(gates), TypeError, "gates: got tuple, expected the Gates"),
        (gates._replace(cell=gates.cell[0]), ValueError, r"gates.cell: got shape \(7, 6\), exp"),
        (gates._replace(cell=gates.cell[:2]), ValueError, r"gates.cell: .* expected \(3, 7, 6\)"),
        (gates._replace(forget=gates.forget > 0), TypeError, "gates.forget: got bool, expected"),
        (Gates(*(a[:, :0] for a in gates)), ValueError, r"gates.input: got shape \(3, 0, 6\)"),
    ]:
        with pytest.raises(error, match=f"^{message}"):
            lstm_ext.plot.gates(wrong)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match="needs matplotlib: pip install matplotlib"):
        lstm_ext.plot.gates(make_gates())
