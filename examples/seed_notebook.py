"""The notebook that lstm_ext began from: Keras's lines, with only the import changed.

Run with ``python examples/seed_notebook.py``.
"""

import numpy as np

from lstm_ext import LSTM, Dense, Sequential


def shapes() -> None:
    """Run a layer on one sequence of five steps, and look at what comes back."""
    x = np.random.rand(1, 5, 10)
    layer = LSTM(20, return_sequences=True, return_state=True)
    outputs, h, c = layer(x)
    print("outputs:", outputs.shape, " h_state:", h.shape, " c_state:", c.shape)
    difference = np.abs(outputs[:, -1] - h).max()
    print("Difference between last output and h_state:", difference)


def next_number() -> None:
    """Learn to say the next number."""
    X = np.array(range(100)).reshape(100, 1, 1)
    y = np.array(range(1, 101))

    model = Sequential()
    model.add(LSTM(64, input_shape=(1, 1)))
    model.add(Dense(1))
    model.compile(optimizer="adam", loss="mse")
    model.summary()
    history = model.fit(X, y, epochs=100, verbose=0)
    losses = history.history["loss"]
    print(f"next number: loss {losses[0]:.1f} in the first epoch, {losses[-1]:.1f} in the last\n")


def powers() -> None:
    """Learn squares and cubes of scaled numbers, and show those that were held out."""
    numbers = np.linspace(0, 1, 101)
    held_out = np.arange(101) % 10 == 5
    for name, power in (("square", 2), ("cube", 3)):
        model = Sequential()
        model.add(LSTM(64, input_shape=(1, 1)))
        model.add(Dense(1))
        model.compile(optimizer="adam", loss="mse")
        X = numbers.reshape(-1, 1, 1)
        model.fit(X[~held_out], numbers[~held_out] ** power, epochs=1500, verbose=0)
        predictions = model.predict(X[held_out], verbose=0)[:, 0]
        print(f"{name} of numbers that were not trained on:")
        for number, predicted in zip(numbers[held_out], predictions, strict=True):
            truth = number**power
            print(f"  {number:.2f}  predicted {predicted:7.4f}  truth {truth:7.4f}")


if __name__ == "__main__":
    shapes()
    next_number()
    powers()
