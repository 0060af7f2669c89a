"""How long a step of a stream takes, a million times over: what a deadline has to allow for.

Run with ``python examples/realtime.py``; ``--help`` lists the sizes. `measure` is the loop that a
program in real time has; the rest prepares it and prints what it found.

All steps do the same arithmetic. A step that takes many times the median was interrupted: the
operating system, or the host of a virtual machine, gave the processor to something else. A
processor of its own (isolcpus, taskset) and a real-time class (chrt) make that rarer.
"""

from __future__ import annotations

import argparse
import gc
import time

import numpy as np
from numpy.typing import NDArray

from lstm_ext import LSTM
from lstm_ext.streaming import Stream

PERCENTILES = (50, 99, 99.9)
WEIGHTS_DTYPES = ("float32", "bfloat16", "int8")


def measure(stream: Stream, samples: NDArray[np.float32], steps: int) -> NDArray[np.int64]:
    """Return how many nanoseconds each of `steps` steps took."""
    out = stream.step(samples[0])  # an array of the right shape, into which every step writes
    nanoseconds = np.empty(steps, np.int64)
    stream.reset()
    gc.collect()
    gc.freeze()
    gc.disable()  # nothing in the loop makes garbage that needs collecting
    try:
        for i in range(steps):
            x = samples[i % len(samples)]  # in life: what the sensor has just delivered
            begin = time.perf_counter_ns()
            stream.step(x, out=out)
            nanoseconds[i] = time.perf_counter_ns() - begin
    finally:
        gc.enable()
        gc.unfreeze()
    return nanoseconds


def make_stream(options: argparse.Namespace) -> tuple[Stream, NDArray[np.float32]]:
    """Return a stream with random weights, warmed up, and samples (N, batch, features) for it."""
    rng = np.random.default_rng(0)
    shape = (1024, options.batch_size, options.features)
    samples = rng.standard_normal(shape, dtype=np.float32)
    layer = LSTM(options.units)
    layer.build((options.batch_size, None, options.features))
    if options.weights_dtype != "float32":
        layer.weights_dtype = options.weights_dtype
    stream = layer.stream(options.batch_size)
    for x in samples:  # caches, branch predictors and the processor's clock: before it counts
        stream.step(x)
    return stream, samples


def report(microseconds: NDArray[np.float64], deadline: float) -> None:
    """Print the percentiles, and what missed the deadline."""
    for percentile in PERCENTILES:
        print(f"p{percentile:<5} {np.percentile(microseconds, percentile):10.2f} us")
    worst = int(microseconds.argmax())
    print(f"max    {microseconds[worst]:10.2f} us, in step {worst:,}")
    late = microseconds > deadline
    share = f"{late.sum():,} of {late.size:,} steps ({late.mean():.4%})"
    print(f"missed the deadline of {deadline:g} us: {share}, at most {longest_run(late)} in a row")
    if late.any():
        usual, usual_late = np.median(microseconds), np.median(microseconds[late])
        print(f"a miss takes {usual_late:.2f} us (median), {usual_late / usual:.1f} times the p50")


def longest_run(late: NDArray[np.bool_]) -> int:
    """Return how many steps were late one after another, at most."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], late, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def plot(microseconds: NDArray[np.float64], deadline: float, title: str, path: str) -> None:
    """Write a PNG: how often each latency occurred, and the latency of each percentile."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title, fontsize=11)
    histogram, curve = figure.subplots(1, 2)
    low, high = microseconds.min(), max(microseconds.max(), deadline)
    histogram.hist(microseconds, bins=np.geomspace(low, 1.05 * high, 120))
    histogram.axvline(deadline, color="black", linestyle="--", label="deadline")
    histogram.set(xscale="log", yscale="log", xlabel="microseconds", ylabel="steps")
    histogram.legend()

    ordered = np.sort(microseconds)
    one_in = ordered.size / np.arange(ordered.size, 0, -1)  # one step in so many takes as long
    curve.step(one_in, ordered, where="post")
    curve.axhline(deadline, color="black", linestyle="--", label="deadline")
    ticks = [n for n in (1, 2, 10, 100, 1000, 10**4, 10**5, 10**6) if n <= ordered.size]
    curve.set(xscale="log", yscale="log", xlabel="percentile", ylabel="microseconds")
    curve.set_xticks(ticks, [f"{100 - 100 / n:g}" for n in ticks])
    curve.minorticks_off()
    curve.grid(alpha=0.3)
    curve.legend()
    figure.savefig(path, dpi=120)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {number}, expected at least 1")
    return number


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=positive, default=64)
    parser.add_argument("--units", type=positive, default=64)
    parser.add_argument("--batch-size", type=positive, default=1)
    parser.add_argument("--steps", type=positive, default=1_000_000)
    parser.add_argument("--weights-dtype", choices=WEIGHTS_DTYPES, default="float32")
    parser.add_argument("--deadline", type=float, default=20.0, metavar="MICROSECONDS")
    parser.add_argument("--plot", metavar="PNG", help="draw the latencies; needs matplotlib")
    return parser.parse_args()


def main() -> None:
    options = parse()
    title = (
        f"LSTM({options.units}) on {options.features} features, batch of {options.batch_size}, "
        f"{options.weights_dtype} weights: {options.steps:,} steps"
    )
    print(title)
    stream, samples = make_stream(options)
    microseconds = measure(stream, samples, options.steps) / 1000
    report(microseconds, options.deadline)
    if options.plot:
        plot(microseconds, options.deadline, title, options.plot)
        print(f"wrote {options.plot}")


if __name__ == "__main__":
    main()
