"""Callbacks: when they are called, and what EarlyStopping and ModelCheckpoint do."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ext import Dense, Input, Sequential, load_model
from lstm_ext.metrics import BinaryAccuracy, MeanAbsoluteError
from lstm_ext.models import Callback, EarlyStopping, History, ModelCheckpoint

X, Y = np.ones((6, 1)), np.ones(6)


def make_model(metric: Any = "mae") -> Sequential:
    model = Sequential([Input((1,)), Dense(1)])
    model.compile("sgd", "mse", [metric])
    return model


class Scripted(Callback):
    """Puts given values into the logs, and counts up a weight so that epochs can be told apart."""

    def __init__(self, name: str, values: list[float]) -> None:
        self.name, self.values = name, values

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        logs[self.name] = self.values[epoch]
        self.model.set_weights([np.full((1, 1), epoch), np.zeros(1)])


def run(values: list[float], stopping: EarlyStopping, name: str = "val_loss") -> tuple[int, float]:
    """Return how many epochs ran, and which one's weights the model has."""
    model = make_model("accuracy" if "accuracy" in name else "mae")
    history = model.fit(
        X, Y, epochs=len(values), callbacks=[Scripted(name, values), stopping], verbose=0
    )
    return len(history.epoch), float(model.get_weights()[0][0, 0])


def test_every_hook_is_called_in_order() -> None:
    called: list[Any] = []

    class Recorder(Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            called.append(("begin", self.params["epochs"], self.params["steps"]))

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            called.append(("epoch", epoch))

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            called.append(("batch", batch))

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            called.append(("batch end", batch, sorted(logs)))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            called.append(("epoch end", sorted(logs)))

        def on_train_end(self, logs: Any = None) -> None:
            called.append(("end",))

    make_model().fit(X, Y, batch_size=4, callbacks=Recorder(), validation_split=0.2, verbose=0)
    assert called == [
        ("begin", 1, 1),
        ("epoch", 0),
        ("batch", 0),
        ("batch end", 0, ["loss", "mae"]),
        ("epoch end", ["loss", "mae", "val_loss", "val_mae"]),
        ("end",),
    ]


def test_stopping_waits_for_its_patience() -> None:
    values = [3.0, 2.0, 2.5, 2.5, 1.0, 1.5, 1.5, 1.5]
    assert run(values, EarlyStopping(patience=2))[0] == 4
    assert run(values, EarlyStopping(patience=3))[0] == 8
    assert run(values, EarlyStopping(patience=3, start_from_epoch=5))[0] == 8
    assert run([1.0, 2.0], EarlyStopping())[0] == 2
    rising = [1.0, 2.0, 3.0, 4.0]
    assert run(rising, EarlyStopping(patience=1, start_from_epoch=2))[0] == 4
    assert run(rising, EarlyStopping(patience=1))[0] == 2


def test_stopping_forgets_earlier_runs() -> None:
    stopping = EarlyStopping(patience=1, restore_best_weights=True)
    assert run([1.0, 2.0, 3.0], stopping) == (2, 0.0)
    assert run([9.0, 8.0, 7.0, 8.0], stopping) == (4, 2.0)


def test_a_callback_can_end_training_after_a_batch() -> None:
    seen = []

    class Stop(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(batch)
            self.model.stop_training = True

    model = make_model()
    history = model.fit(X, Y, batch_size=2, epochs=3, callbacks=[Stop()], verbose=0)
    assert seen == [0] and history.epoch == [0] and "mae" in history.history
    assert model.fit(X, Y, epochs=3, verbose=0).epoch == [0, 1, 2]


def test_stopping_restores_the_best_weights() -> None:
    values = [3.0, 1.0, 2.0, 2.0]
    assert run(values, EarlyStopping(patience=2, restore_best_weights=True)) == (4, 1.0)
    assert run(values, EarlyStopping(patience=2)) == (4, 3.0)
    assert run([1.0, 0.5], EarlyStopping(patience=9, restore_best_weights=True)) == (2, 1.0)


def test_small_changes_do_not_count() -> None:
    values = [3.0, 2.9, 2.8, 2.7]
    assert run(values, EarlyStopping(min_delta=0.5, patience=2))[0] == 3
    assert run(values, EarlyStopping(min_delta=0.05, patience=2))[0] == 4

    rising = [0.1, 0.2, 0.3, 0.4]
    for delta in (0.5, -0.5):
        stopping = EarlyStopping("val_accuracy", min_delta=delta, patience=2)
        assert run(rising, stopping, "val_accuracy")[0] == 3
    assert run(rising, EarlyStopping("val_accuracy", patience=2), "val_accuracy")[0] == 4


def test_a_baseline_has_to_be_reached() -> None:
    """Better values that are still short of it do not start the wait anew."""
    assert run([3.0, 2.0, 2.5, 1.0], EarlyStopping(baseline=0.1, patience=2))[0] == 3
    assert run([3.0, 2.0, 2.5, 1.0], EarlyStopping(patience=2))[0] == 4
    assert run([3.0, 0.05, 1.0, 1.0], EarlyStopping(baseline=0.1, patience=2))[0] == 4


def test_larger_is_better_for_accuracies() -> None:
    values = [0.1, 0.5, 0.4, 0.4]
    for mode in ("auto", "max"):
        stopping = EarlyStopping("val_accuracy", patience=2, mode=mode, restore_best_weights=True)
        assert run(values, stopping, "val_accuracy") == (4, 1.0)
    assert (
        run(values, EarlyStopping("val_accuracy", patience=2, mode="min"), "val_accuracy")[0] == 3
    )


def test_an_unknown_value_is_named(tmp_path: Path) -> None:
    for callback in (
        EarlyStopping("nothing"),
        ModelCheckpoint(tmp_path / "x", "nothing", save_best_only=True),
    ):
        with pytest.warns(UserWarning, match="monitor 'nothing' is not among the logs, loss, mae"):
            make_model().fit(X, Y, callbacks=[callback], verbose=0)
    with pytest.raises(ValueError, match="mode: got 'auto' for 'val_x'"):
        run([1.0, 2.0], EarlyStopping("val_x"), "val_x")
    with pytest.raises(ValueError, match="mode: got 'best'"):
        EarlyStopping(mode="best")
    with pytest.raises(NotImplementedError, match="save_freq=5"):
        ModelCheckpoint("x", save_freq=5)  # type: ignore[arg-type]


def test_checkpoints_of_every_epoch(tmp_path: Path) -> None:
    path = tmp_path / "m-{epoch:02d}-{val_loss:.1f}"
    callbacks = [Scripted("val_loss", [3.0, 1.0, 2.0]), ModelCheckpoint(path)]
    make_model().fit(X, Y, epochs=3, callbacks=callbacks, verbose=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m-01-3.0", "m-02-1.0", "m-03-2.0"]
    assert load_model(tmp_path / "m-02-1.0").get_weights()[0][0, 0] == 1
    with pytest.raises(ValueError, match="filepath: got"):
        make_model().fit(X, Y, callbacks=[ModelCheckpoint(tmp_path / "{val_los}")], verbose=0)


def test_a_checkpoint_has_to_better_a_threshold(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(
        tmp_path / "{epoch}", save_best_only=True, initial_value_threshold=1.5
    )
    callbacks = [Scripted("val_loss", [3.0, 2.0, 1.0]), checkpoint]
    make_model().fit(X, Y, epochs=3, callbacks=callbacks, verbose=0)
    assert [path.name for path in tmp_path.iterdir()] == ["3"]


def test_checkpoints_of_the_best_epoch(tmp_path: Path) -> None:
    path = tmp_path / "best"
    checkpoint = ModelCheckpoint(path, save_best_only=True, save_weights_only=True)
    callbacks = [Scripted("val_loss", [3.0, 1.0, float("nan"), 2.0]), checkpoint]
    make_model().fit(X, Y, epochs=4, callbacks=callbacks, verbose=0)
    model = make_model()
    model.load_weights(path)
    assert model.get_weights()[0][0, 0] == 1


def test_callbacks_are_where_keras_has_them() -> None:
    module = importlib.import_module("lstm_ext.callbacks")
    assert module.EarlyStopping is EarlyStopping


def test_every_hook_is_called_as_in_keras() -> None:
    """The calls that Keras 3.15 makes, with the names in their logs."""
    called: list[Any] = []

    def recorder(hook: str) -> Any:
        def record(self: Callback, *arguments: Any) -> None:
            called.append((hook, *(sorted(a) if isinstance(a, dict) else a for a in arguments)))

        return record

    runs = ("train", "test", "predict")
    parts = ["epoch", *runs, *(f"{run}_batch" for run in runs)]
    names = [f"on_{part}_{edge}" for part in parts for edge in ("begin", "end")]
    callback = type("Recorder", (Callback,), {name: recorder(name) for name in names})()
    model = make_model("mse")
    model.fit(X, Y, batch_size=4, validation_split=0.2, callbacks=[callback], verbose=0)
    model.evaluate(X, Y, batch_size=4, callbacks=callback, verbose=0)
    model.predict(X, callbacks=(callback,), verbose=0)
    both = ["loss", "mse"]
    assert called == [
        ("on_train_begin", []),
        ("on_epoch_begin", 0, []),
        ("on_train_batch_begin", 0, []),
        ("on_train_batch_end", 0, both),
        ("on_test_begin", []),
        ("on_test_batch_begin", 0, []),
        ("on_test_batch_end", 0, both),
        ("on_test_end", both),
        ("on_epoch_end", 0, [*both, "val_loss", "val_mse"]),
        ("on_train_end", [*both, "val_loss", "val_mse"]),
        ("on_test_begin", []),
        ("on_test_batch_begin", 0, []),
        ("on_test_batch_end", 0, both),
        ("on_test_batch_begin", 1, []),
        ("on_test_batch_end", 1, both),
        ("on_test_end", both),
        ("on_predict_begin", []),
        ("on_predict_batch_begin", 0, []),
        ("on_predict_batch_end", 0, ["outputs"]),
        ("on_predict_end", []),
    ]


def test_the_older_names_of_batch_hooks() -> None:
    called = []

    class Recorder(Callback):
        def on_batch_begin(self, batch: int, logs: Any = None) -> None:
            called.append(batch)

        def on_batch_end(self, batch: int, logs: Any = None) -> None:
            called.append(logs["loss"])

    history = make_model().fit(X, Y, callbacks=Recorder(), verbose=0)
    assert called == [0, history.history["loss"][0]]


def test_the_history_has_what_callbacks_log() -> None:
    given = History()
    model = make_model("mse")
    history = model.fit(X, Y, epochs=2, callbacks=Scripted("rate", [0.5, 0.25]), verbose=0)
    assert history is model.history
    assert history.history["rate"] == [0.5, 0.25]
    assert list(history.history) == ["loss", "mse", "rate"]
    assert model.fit(X, Y, callbacks=[given], verbose=0) is given
    model.fit(X, Y, callbacks=[given], initial_epoch=1, epochs=2, verbose=0)
    assert given.epoch == [1] and len(given.history["loss"]) == 2


def test_a_metric_says_which_way_is_better() -> None:
    values = [0.1, 0.5, 0.4, 0.4]
    for metric, epochs in ((BinaryAccuracy("hits"), 4), (MeanAbsoluteError("hits"), 3)):
        model = make_model(metric)
        callbacks = [Scripted("val_hits", values), EarlyStopping("val_hits", patience=2)]
        assert len(model.fit(X, Y, epochs=4, callbacks=callbacks, verbose=0).epoch) == epochs


def test_what_is_no_number_is_no_progress(tmp_path: Path) -> None:
    nan = float("nan")
    assert run([nan, 3.0, 2.0, 1.0], EarlyStopping(patience=2))[0] == 4
    assert run([nan, nan, nan, nan], EarlyStopping(patience=2))[0] == 2
    assert run([nan, 3.0], EarlyStopping())[0] == 2
    checkpoint = ModelCheckpoint(tmp_path / "{epoch}", save_best_only=True)
    values = Scripted("val_loss", [nan, 3.0, 4.0])
    make_model().fit(X, Y, epochs=3, callbacks=[values, checkpoint], verbose=0)
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_a_checkpoint_makes_its_folder_and_remembers_only_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "a" / "b", "loss", save_best_only=True)
    model = make_model()
    model.fit(X, Y, callbacks=[checkpoint], verbose=0)
    assert (tmp_path / "a" / "b").exists() and checkpoint.best is not None
    best = checkpoint.best = 1e9

    def fail(path: str) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(model, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        model.fit(X, Y, callbacks=[checkpoint], verbose=0)
    assert checkpoint.best == best


def test_stopping_tells_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    run([1.0, 2.0], EarlyStopping(verbose=1, restore_best_weights=True))
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 2: early stopping",
        "Restoring the weights of the best epoch: 1",
    ]
