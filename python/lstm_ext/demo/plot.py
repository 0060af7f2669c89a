"""The picture of a forecast."""

from __future__ import annotations

from .forecast import Forecast
from .series import Series

__all__ = ["plot"]


def plot(series: Series, forecast: Forecast, path: str) -> None:
    """Write a PNG: the whole series above, the test with all forecasts below."""
    from matplotlib.figure import Figure

    at = series.test_start
    errors = forecast.errors(series)
    figure = Figure(figsize=(11, 7), layout="constrained")
    whole, test = figure.subplots(2, 1, height_ratios=[1, 1.6])
    whole.plot(series.times, series.values, color="0.3", linewidth=1)
    whole.axvspan(series.times[at], series.times[-1], color="tab:orange", alpha=0.15)
    whole.set_title(f"{series.name}: trained on what comes before the shaded part")
    whole.margins(x=0.01)

    times = series.times[at:]
    test.plot(times, series.values[at:], "o-", color="0.2", markersize=3.5, label="truth")
    styles = {
        "LSTM": {"color": "tab:orange", "linewidth": 2.2},
        "persistence": {"color": "tab:blue", "linewidth": 1, "linestyle": "--"},
        "seasonal naive": {"color": "tab:green", "linewidth": 1, "linestyle": ":"},
    }
    for name, values in forecast.predictions.items():
        test.plot(times, values, label=f"{name} (RMSE {errors[name][0]:.3g})", **styles[name])
    test.set_title("each value forecast from those before it")
    test.legend(ncols=2)
    test.margins(x=0.01)
    for axes in (whole, test):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
