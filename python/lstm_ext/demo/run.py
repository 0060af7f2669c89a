"""The demo from beginning to end."""

from __future__ import annotations

import argparse
import importlib.util

from . import forecast as forecasting
from . import peers, series

__all__ = ["run"]


def run(options: argparse.Namespace) -> None:
    """Run with the options of ``lstm-ext demo``.

    Raises
    ------
    ValueError, OSError, ModuleNotFoundError
        If the data are not there or are not what they should be.
    """
    if options.epochs < 1:
        raise ValueError(f"--epochs: got {options.epochs}, expected a positive number")
    if options.csv is None and options.column is not None:
        raise ValueError("--column: expected together with --csv")
    if options.output and importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError("the picture needs matplotlib: pip install matplotlib")
    data = (
        series.sunspots()
        if options.csv is None
        else series.read_csv(options.csv, options.column, options.season)
    )
    windows = forecasting.Windows.cut(data)
    test = len(data.values) - data.test_start
    print(f"{data.name}: {len(data.values)} values, the last {test} kept for the test")
    print(f"LSTM({forecasting.UNITS}) + Dense(1) on windows of {data.lookback} values")
    result = forecasting.train(data, windows, options.epochs, options.seed)
    print(f"trained for {result.epochs} epochs in {result.seconds:.2f} s\n")
    _print_errors(data, result)
    if not options.no_peers:
        _print_costs(result, windows)
    if options.output:
        from .plot import plot

        plot(data, result, options.output)
        print(f"picture: {options.output}")


def _print_errors(data: series.Series, result: forecasting.Forecast) -> None:
    errors = result.errors(data)
    print("forecast of each value of the test from those before it")
    print(f"  {'':16} {'RMSE':>9} {'MAE':>9}")
    for name, (rmse, mae) in errors.items():
        print(f"  {name:16} {rmse:9.4g} {mae:9.4g}")
    own = errors.pop("LSTM")[0]
    best = min(errors, key=lambda name: errors[name][0])
    gain = 1 - own / errors[best][0]
    verdict = f"{gain:.0%} less" if gain > 0 else f"{-gain:.0%} more"
    print(f"the LSTM's RMSE is {verdict} than that of the best baseline, {best}\n")


def _print_costs(result: forecasting.Forecast, windows: forecasting.Windows) -> None:
    costs = peers.measure(windows, result.epochs)
    if not costs:
        print("(torch and Keras are not installed: nothing to compare the time with)\n")
        return
    print(f"the same {result.epochs} epochs of training")
    print(f"  {'lstm_ext':10} {result.seconds:8.2f} s  (with validation after each epoch)")
    for cost in costs:
        note = "" if cost.epochs_run == result.epochs else f"  (from {cost.epochs_run} epochs)"
        ratio = cost.seconds / result.seconds
        print(f"  {cost.name:10} {cost.seconds:8.2f} s  {ratio:5.1f} times as long{note}")
    print()
