"""Why an LSTM remembers where a plain recurrent network forgets, in numbers and in a picture.

Run with ``python examples/why_lstm.py``. It takes a minute and, with matplotlib, draws
why_lstm.png. What to see there:

How far back does the last step see? Carry a gradient from the last output back to each input, and
look at its size by the number of steps between the two. In a plain network, ``h_t = tanh(x_t @
kernel + h_{t-1} @ recurrent_kernel + bias)``, each step back multiplies it by the recurrent kernel
and the slope of tanh, and it fades away. In an LSTM it travels along the cell, ``c_t = f * c_{t-1}
+ i * g``, where a step back multiplies it by the forget gate f and nothing else. That is no magic
in itself: with the usual forget bias of 1, f begins at about 0.73, and the gradient fades as fast.
With a bias of 5 it begins at 0.993. But f is computed, so it can be learned: the trained LSTM began
with a bias of 1, and in the end its gradient, after the first few steps back, fades no more.

What is that good for? The adding problem (Hochreiter and Schmidhuber 1997; in the form of Le,
Jaitly and Hinton 2015): two of 200 random numbers are marked, and at the end their sum is wanted.
Who remembers nothing can do no better than always answer 1, the mean, with a squared error of
1/6. There the plain network stays. So does the LSTM at first, when only marks near the end can
reach it; once its gates have learned to stay open, the error falls all at once.

How does it do it? One unit holds the sum. Its input gate opens at the two marks and nowhere else,
its forget gate stays at 1, and so the cell keeps what it was given up to the end. (It may hold it
upside down, or drift by the same amount in all sequences: the readout takes that into account.)
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_ext import (
    LSTM,
    Dense,
    Input,
    Sequential,
    functional,
    initializers,
    plot,
    set_random_seed,
)
from lstm_ext.optimizers import Adam

Array = NDArray[Any]

UNITS = 32
BATCH_SIZE = 32
BATCHES = 100  # between two points of a learning curve
LEARNING_RATES = {"LSTM": 1e-2, "plain": 1e-3}  # with 1e-2, the plain network is only more restless
CLIP = 1.0  # the largest norm of all gradients together
GUESS = 1 / 6  # the mean squared error of always answering 1
FORGET_BIASES = (1, 3, 5)
BAR_WIDTH = 30
STYLES: dict[str, dict[str, Any]] = {
    "plain, new": {"color": "tab:blue"},
    "plain, trained": {"color": "tab:blue", "linestyle": "--"},
    "LSTM, new, forget bias 1": {"color": "tab:orange", "alpha": 0.45},
    "LSTM, new, forget bias 3": {"color": "tab:orange", "alpha": 0.65},
    "LSTM, new, forget bias 5": {"color": "tab:orange", "alpha": 0.85},
    "LSTM, trained from 1": {"color": "tab:red", "linewidth": 2.5},
}


class Study(NamedTuple):
    """What was found out, to be printed and drawn."""

    gradients: dict[str, Array]  # by `STYLES`: log10 of the norm, by lag (T,)
    curves: dict[str, list[Array]]  # squared errors after each round, a curve for each seed
    model: Sequential  # a trained LSTM


def adding_problem(rng: np.random.Generator, count: int, steps: int) -> tuple[Array, Array]:
    """Return (count, steps, 2) sequences of numbers and marks, and (count, 1) sums of the marked.

    One mark is in the first half, one in the second.
    """
    x = np.zeros((count, steps, 2), np.float32)
    x[..., 0] = rng.random((count, steps))
    rows = np.arange(count)
    first, second = rng.integers(0, steps // 2, count), rng.integers(steps // 2, steps, count)
    x[rows, first, 1] = x[rows, second, 1] = 1
    return x, (x[rows, first, 0] + x[rows, second, 0])[:, None]


class PlainNetwork:
    """A recurrent network without gates, and a readout: what `Sequential` is to the LSTM.

    ``h_t = tanh(x_t @ kernel + h_{t-1} @ recurrent_kernel + bias)``, ``y = h_T @ out + out_bias``.
    """

    def __init__(self, input_size: int, units: int) -> None:
        glorot, orthogonal = initializers.get("glorot_uniform"), initializers.get("orthogonal")
        self.weights = [
            glorot((input_size, units)),
            orthogonal((units, units)),
            np.zeros(units, np.float32),
            glorot((units, 1)),
            np.zeros(1, np.float32),
        ]
        self._optimizer = Adam(LEARNING_RATES["plain"], global_clipnorm=CLIP)

    def fit(self, x: Array, y: Array, batch_size: int, verbose: int = 0) -> None:
        """Train on each sequence once."""
        for start in range(0, len(x), batch_size):
            batch, wanted = x[start : start + batch_size], y[start : start + batch_size]
            *recurrent, out, out_bias = self.weights
            h, backward = plain_vjp(batch, *recurrent)
            dy = 2 / len(batch) * (h @ out + out_bias - wanted)  # of the mean squared error
            _, *grads = backward(dy @ out.T)
            self._optimizer.apply([*grads, h.T @ dy, dy.sum(axis=0)], self.weights)

    def predict(self, x: Array, verbose: int = 0) -> Array:
        """Return the (B, 1) answers."""
        *recurrent, out, out_bias = self.weights
        return plain_vjp(x, *recurrent)[0] @ out + out_bias


def plain_vjp(x: Array, kernel: Array, recurrent_kernel: Array, bias: Array) -> tuple[Array, Any]:
    """Return the last h, and what carries its gradient back to the arguments."""
    batch_size, steps, input_size = x.shape
    inputs = np.ascontiguousarray(x.swapaxes(0, 1))
    z = inputs @ kernel + bias
    h = np.zeros((steps + 1, *z.shape[1:]), x.dtype)
    for t in range(steps):
        h[t + 1] = np.tanh(z[t] + h[t] @ recurrent_kernel)

    def backward(dh: Array) -> tuple[Array, Array, Array, Array]:
        dz = np.empty_like(z)
        transposed = np.ascontiguousarray(recurrent_kernel.T)
        for t in reversed(range(steps)):
            dz[t] = dh * (1 - h[t + 1] ** 2)
            dh = dz[t] @ transposed
        rows = dz.reshape(steps * batch_size, -1)
        return (
            (dz @ kernel.T).swapaxes(0, 1),
            inputs.reshape(-1, input_size).T @ rows,
            h[:-1].reshape(len(rows), -1).T @ rows,
            rows.sum(axis=0),
        )

    return h[-1], backward


def new_lstm(steps: int) -> Sequential:
    """Return an LSTM with a readout, ready for training; its forget bias is 1, as Keras's."""
    model = Sequential([Input((steps, 2)), LSTM(UNITS), Dense(1)])
    model.compile(optimizer=Adam(LEARNING_RATES["LSTM"], global_clipnorm=CLIP), loss="mse")
    return model


def with_forget_bias(model: Sequential, value: float) -> list[Array]:
    """Return the weights of the model's LSTM with another forget bias."""
    kernel, recurrent_kernel, bias = model.layers[0].get_weights()
    bias[UNITS : 2 * UNITS] = value
    return [kernel, recurrent_kernel, bias]


def fading(network: str, weights: list[Array], x: Array, seed: int) -> Array:
    """Return log10 of the norm of the gradient that arrives at each input, by lag: (T,).

    It begins at the last output, in a random direction, with a norm of 1. The logarithms are
    averaged over the sequences. In float64, which reaches far enough down.
    """
    x = x.astype(np.float64)
    weights = [w.astype(np.float64) for w in weights]
    d_h = np.random.default_rng(seed).standard_normal((len(x), UNITS))
    d_h /= np.linalg.norm(d_h, axis=1, keepdims=True)
    if network == "LSTM":
        _, backward = functional.lstm_vjp(x, *weights)
        d_x = backward(d_h=d_h).x
    else:
        _, backward = plain_vjp(x, *weights)
        d_x = backward(d_h)[0]
    norms = np.maximum(np.linalg.norm(d_x, axis=2), np.finfo(np.float64).tiny)
    return np.log10(norms).mean(axis=0)[::-1]


class Progress:
    """One line for the whole training, drawn over itself on a terminal and nowhere else."""

    def __init__(self, rounds: int) -> None:
        self._rounds, self._done = rounds, 0

    def __call__(self, text: str) -> None:
        """Count a round, and draw."""
        self._done += 1
        if sys.stdout.isatty():
            filled = BAR_WIDTH * self._done // self._rounds
            bar = "━" * filled + "·" * (BAR_WIDTH - filled)
            end = "\n" if self._done == self._rounds else ""
            print(f"\r\x1b[K{bar} {text}", end=end, flush=True)


def learn(model: Any, name: str, seed: int, options: Any, progress: Progress) -> Array:
    """Train on sequences that are new in every round; return the squared errors on others."""
    rng = np.random.default_rng(seed)
    x_test, y_test = adding_problem(np.random.default_rng(10**6), 1000, options.steps)
    errors = []
    for _ in range(options.rounds):
        x, y = adding_problem(rng, BATCHES * BATCH_SIZE, options.steps)
        model.fit(x, y, batch_size=BATCH_SIZE, verbose=0)
        errors.append(np.mean((model.predict(x_test, verbose=0) - y_test) ** 2))
        progress(f"{name}, seed {seed}: error {errors[-1]:.4f}")
    return np.array(errors)


def study(options: argparse.Namespace) -> Study:
    """Measure gradients of new networks, train them, and measure again."""
    gradients: dict[str, list[Array]] = {}
    curves: dict[str, list[Array]] = {"LSTM": [], "plain": []}
    progress = Progress(2 * options.seeds * options.rounds)
    for seed in range(options.seed, options.seed + options.seeds):
        set_random_seed(seed)
        x, _ = adding_problem(np.random.default_rng(seed), 64, options.steps)
        plain, lstm = PlainNetwork(2, UNITS), new_lstm(options.steps)
        measured = {"plain, new": fading("plain", plain.weights[:3], x, seed)}
        for bias in FORGET_BIASES:
            weights = with_forget_bias(lstm, bias)
            measured[f"LSTM, new, forget bias {bias}"] = fading("LSTM", weights, x, seed)
        curves["plain"].append(learn(plain, "plain network", seed, options, progress))
        curves["LSTM"].append(learn(lstm, "LSTM", seed, options, progress))
        measured["plain, trained"] = fading("plain", plain.weights[:3], x, seed)
        measured["LSTM, trained from 1"] = fading("LSTM", lstm.layers[0].get_weights(), x, seed)
        for name, values in measured.items():
            gradients.setdefault(name, []).append(values)
    means = {name: np.mean(values, axis=0) for name, values in gradients.items()}
    return Study(means, curves, lstm)


def report(found: Study) -> None:
    """Print how much of a gradient is left after some steps, and the errors in the end."""
    last = len(found.gradients["plain, new"]) - 1
    lags = (1, last // 10, last // 2, last)
    print(f"{'gradient after so many steps':28}" + "".join(f"{lag:>10}" for lag in lags))
    for name in STYLES:
        print(f"  {name:26}" + "".join(f"{10 ** found.gradients[name][lag]:10.1e}" for lag in lags))
    print(f"error of always answering 1:   {GUESS:.4f}")
    for name, curves in found.curves.items():
        errors = "  ".join(f"{curve[-1]:.4f}" for curve in curves)
        print(f"error of the {name + ' network:':17} {errors}")


def memory_unit(model: Sequential, x: Array) -> int:
    """Return the unit of the LSTM that has most to say in the answer."""
    lstm, dense = model.layers
    share = np.std(lstm(x), axis=0) * np.abs(dense.get_weights()[0][:, 0])
    return int(share.argmax())


def draw(found: Study, path: str) -> None:
    """Write a PNG: gradients and learning curves above, a unit of a trained LSTM below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 13), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.7], hspace=0.03)
    left, right = above.subplots(1, 2)
    for name, style in STYLES.items():
        left.plot(10.0 ** found.gradients[name], label=name, **style)
    left.set(yscale="log", xlabel="steps between input and output", ylabel="norm of the gradient")
    left.set_title("How far back the last output sees")
    left.legend(fontsize=9)

    for name, color in (("plain", "tab:blue"), ("LSTM", "tab:red")):
        for number, curve in enumerate(found.curves[name]):
            batches = BATCHES * np.arange(1, len(curve) + 1)
            label = f"{name}, a line for each seed" if number == 0 else None
            right.plot(batches, curve, color=color, alpha=0.8, label=label)
    right.axhline(GUESS, color="black", linestyle=":", label="always answering 1")
    right.set(yscale="log", xlabel=f"batches of {BATCH_SIZE}", ylabel="mean squared error")
    right.set_title(f"The adding problem over {found.model.input_shape[1]} steps")
    right.legend(fontsize=9)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    draw_gates(found.model, below)
    figure.savefig(path, dpi=110)


def draw_gates(model: Sequential, figure: Any) -> None:
    """Draw the gates of the unit that holds the sum, over one sequence."""
    x, y = adding_problem(np.random.default_rng(10**6), 200, model.input_shape[1])
    unit = memory_unit(model, x)
    *_, gates = functional.lstm(x[:1], *model.layers[0].get_weights(), return_gates=True)
    answer = model.predict(x[:1], verbose=0)[0, 0]
    marks = np.flatnonzero(x[0, :, 1])
    summands = " + ".join(f"{number:.3f}" for number in x[0, marks, 0])
    sums = f"adds {summands} = {y[0, 0]:.3f}; the answer is {answer:.3f}"
    plot.gates(gates, units=[unit], title=f"Unit {unit} of a trained LSTM {sums}", figure=figure)
    for axes in figure.axes[:5]:
        for mark in marks:
            axes.axvline(mark, color="black", linestyle=":", linewidth=1)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {number}, expected at least 1")
    return number


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=positive, default=200, help="the length of a sequence")
    parser.add_argument("--rounds", type=positive, default=40, help=f"of {BATCHES} batches each")
    parser.add_argument("--seeds", type=positive, default=3, help="how many networks of each kind")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--quick", action="store_true", help="one seed, 40 steps, 10 rounds")
    parser.add_argument("--plot", metavar="PNG", default="why_lstm.png", help="needs matplotlib")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.rounds, options.seeds = 40, 10, 1
    if options.steps < 2:
        parser.error("argument --steps: got 1, expected at least 2, one for each mark")
    return options


def main() -> None:
    options = parse()
    numbers = options.rounds * BATCHES * BATCH_SIZE
    print(f"the adding problem over {options.steps} steps, {numbers:,} sequences to learn from")
    begin = time.perf_counter()
    found = study(options)
    report(found)
    print(f"took {time.perf_counter() - begin:.0f} s")
    if importlib.util.find_spec("matplotlib") is None:
        print("for the picture: pip install matplotlib")
        return
    draw(found, options.plot)
    print(f"wrote {options.plot}")


if __name__ == "__main__":
    main()
