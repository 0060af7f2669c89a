"""Training, evaluation and prediction of a model, by Keras's methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import losses, optimizers, random
from .. import metrics as metrics_module
from .._registry import check_unsupported
from ..layers import Layer
from ..layers.base import check_size
from .callbacks import Callback, CallbackList, History
from .data import Data
from .progress import ProgressLine

if TYPE_CHECKING:
    from .sequential import Sequential

__all__ = ["Trainable"]

Array = NDArray[Any]
Logs = dict[str, float]

# Arguments of Keras's methods that are not there yet, with Keras's defaults.
_UNSUPPORTED_COMPILE = {
    "loss_weights": None,
    "weighted_metrics": None,
    "run_eagerly": False,
    "steps_per_execution": 1,
    "jit_compile": "auto",
    "auto_scale_loss": True,
}
_UNSUPPORTED_FIT = {
    "class_weight": None,
    "steps_per_epoch": None,
    "validation_steps": None,
    "validation_freq": 1,
}


class Trainable:
    """The methods of a model that need an optimizer, a loss or data."""

    layers: list[Layer]

    def __init__(self) -> None:
        self.optimizer: optimizers.Optimizer | None = None
        self.loss: losses.Loss | None = None
        self.metrics: list[metrics_module.Metric] = []
        self.history: History | None = None
        self.stop_training = False

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, metrics: Any = None, **options: Any
    ) -> None:
        """Set what `fit` and `evaluate` need.

        Parameters
        ----------
        optimizer : str or Optimizer
        loss : str or Loss
        metrics : list of str or Metric, optional

        Raises
        ------
        ValueError, TypeError
            If one of them is unknown.
        NotImplementedError
            If another argument of Keras's is given.
        """
        check_unsupported("compile", options, _UNSUPPORTED_COMPILE)
        if loss is None:
            raise ValueError("loss: got None, expected a name or a Loss")
        if isinstance(metrics, (str, metrics_module.Metric)):
            raise TypeError(f"metrics: got {metrics!r}, expected a list")
        resolved = [metrics_module.get(metric) for metric in metrics or ()]
        new_loss, new_optimizer = losses.get(loss), optimizers.get(optimizer)
        self.loss, self.optimizer, self.metrics = new_loss, new_optimizer, resolved

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Sequence[Callback] | Callback | None = None,
        validation_split: float = 0.0,
        validation_data: tuple[ArrayLike, ...] | None = None,
        shuffle: bool = True,
        *,
        sample_weight: ArrayLike | None = None,
        initial_epoch: int = 0,
        validation_batch_size: int | None = None,
        **options: Any,
    ) -> History:
        """Train on samples.

        Parameters
        ----------
        x, y : arrays of numbers
            Samples and what is wanted for them, along the first axis.
        batch_size : int
            32 by default.
        epochs, initial_epoch : int
            The number of the last epoch, and of the first, counted from zero.
        verbose : 0, 1, 2 or "auto"
            Nothing, a progress bar, or one line an epoch. "auto" is 1.
        callbacks : list of Callback, optional
        validation_split : float
            The share of the samples, from the end, to keep for validation.
        validation_data : (x, y) or (x, y, sample_weight), optional
            Used in place of a share of the samples.
        shuffle : bool
            Whether each epoch takes the samples in a new order.
        sample_weight : array, optional
            One weight a sample, or a step of it.
        validation_batch_size : int, optional
            `batch_size` by default.

        Returns
        -------
        History
            What each epoch logged.

        Raises
        ------
        ValueError, TypeError
            If the model is not compiled or an argument does not fit.
        """
        check_unsupported("fit", options, _UNSUPPORTED_FIT)
        self._compiled("fit")
        level = _verbosity(verbose)
        size = 32 if batch_size is None else check_size(batch_size, "batch_size")
        data = self._data(x, y, sample_weight)
        validation = None
        if validation_data is not None:
            validation = self._data(*_pair(validation_data))
        elif validation_split:
            data, validation = data.split(validation_split)
        validation_size = (
            size
            if validation_batch_size is None
            else check_size(validation_batch_size, "validation_batch_size")
        )
        if not len(data):
            raise ValueError("x: got no samples, expected at least one")

        history = History()
        steps = -(-len(data) // size)
        given = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
        params = {"epochs": epochs, "steps": steps, "verbose": level}
        hooks = CallbackList([history, *given], self._as_model(), params)
        self.history = history
        self.stop_training = False
        hooks("on_train_begin", {})
        for epoch in range(initial_epoch, epochs):
            hooks("on_epoch_begin", epoch, {})
            if level:
                print(f"Epoch {epoch + 1}/{epochs}")
            line = ProgressLine(steps, level)
            logs = self._train_epoch(data, size, shuffle, hooks, line)
            if validation is not None:
                results = self._evaluate(validation, validation_size)
                logs.update({f"val_{name}": value for name, value in results.items()})
            line.finish(logs)
            hooks("on_epoch_end", epoch, logs)
            if self.stop_training:
                break
        hooks("on_train_end", {})
        return history

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: ArrayLike | None = None,
        return_dict: bool = False,
    ) -> float | list[float] | Logs:
        """Return the loss and the metrics over samples.

        Returns
        -------
        float, list or dict
            The loss alone if there are no metrics, else a list that begins with it; a dict by
            name with `return_dict`.
        """
        self._compiled("evaluate")
        level = _verbosity(verbose)
        size = 32 if batch_size is None else check_size(batch_size, "batch_size")
        data = self._data(x, y, sample_weight)
        line = ProgressLine(-(-len(data) // size), level)
        logs = self._evaluate(data, size)
        line.finish(logs)
        if return_dict:
            return logs
        values = [logs["loss"], *(logs[metric.name] for metric in self.metrics)]
        return values if len(values) > 1 else values[0]

    def predict(
        self, x: ArrayLike, batch_size: int | None = None, verbose: int | str = "auto"
    ) -> Array:
        """Return the outputs for samples; the same bits for any `batch_size`."""
        level = _verbosity(verbose)
        size = 32 if batch_size is None else check_size(batch_size, "batch_size")
        samples = self._prepare(x)
        line = ProgressLine(-(-len(samples) // size), level)
        starts = range(0, max(len(samples), 1), size)
        outputs = [self._predict_step(samples[start : start + size]) for start in starts]
        line.finish({})
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def train_on_batch(
        self,
        x: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        return_dict: bool = False,
    ) -> float | list[float] | Logs:
        """Take one step on one batch, and return its loss and metrics."""
        self._compiled("train_on_batch")
        return self._on_batch(self._data(x, y, sample_weight), self._train_step, return_dict)

    def test_on_batch(
        self,
        x: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        return_dict: bool = False,
    ) -> float | list[float] | Logs:
        """Return the loss and the metrics of one batch."""
        self._compiled("test_on_batch")
        return self._on_batch(self._data(x, y, sample_weight), self._test_step, return_dict)

    def predict_on_batch(self, x: ArrayLike) -> Array:
        """Return the outputs for one batch."""
        return self._predict_step(self._prepare(x))

    # ---- epochs ----

    def _train_epoch(
        self, data: Data, size: int, shuffle: bool, hooks: CallbackList, line: ProgressLine
    ) -> Logs:
        if shuffle:
            data = data.shuffled(random.generator().permutation(len(data)))
        self._reset_metrics()
        mean = metrics_module.Mean("loss")
        for step, batch in enumerate(data.batches(size)):
            if hooks.hears_batches:
                hooks("on_train_batch_begin", step, {})
            mean.update(self._train_step(batch), len(batch))
            if hooks.hears_batches:
                hooks("on_train_batch_end", step, self._logs(mean))
            if line.live:
                line.update(step + 1, self._logs(mean))
            if self.stop_training:
                break
        return self._logs(mean)

    def _evaluate(self, data: Data, size: int) -> Logs:
        self._reset_metrics()
        mean = metrics_module.Mean("loss")
        for batch in data.batches(size):
            mean.update(self._test_step(batch), len(batch))
        return self._logs(mean)

    def _logs(self, mean: metrics_module.Mean) -> Logs:
        logs = {metric.name: metric.result() for metric in self.metrics}
        logs["loss"] = mean.result()
        return logs

    def _on_batch(self, data: Data, step: Any, return_dict: bool) -> float | list[float] | Logs:
        self._reset_metrics()
        loss = step(data)
        if return_dict:
            return {"loss": loss, **{metric.name: metric.result() for metric in self.metrics}}
        values = [loss, *(metric.result() for metric in self.metrics)]
        return values if len(values) > 1 else values[0]

    def _reset_metrics(self) -> None:
        for metric in self.metrics:
            metric.reset_state()

    # ---- steps ----

    def _train_step(self, batch: Data) -> float:
        """Change the weights by one step; return the loss before it."""
        assert self.optimizer is not None and self.loss is not None
        y_pred = batch.x
        backwards = []
        for layer in self.layers:
            y_pred, backward = layer.vjp(y_pred, True)
            backwards.append(backward)
        value, gradient = self.loss.value_and_grad(batch.y, y_pred, batch.weight)
        for metric in self.metrics:
            metric.update_state(batch.y, y_pred)
        grads: list[Array] = []
        for index in range(len(backwards) - 1, -1, -1):
            passed_on, own = backwards[index](gradient, index > self._first_trained)
            grads[:0] = own
            if passed_on is None:
                break
            gradient = passed_on
        self.optimizer.apply(grads, self.trainable_weights)
        for layer in self.layers:
            layer.weights_changed()
        return value

    def _test_step(self, batch: Data) -> float:
        assert self.loss is not None
        y_pred = self._predict_step(batch.x)
        for metric in self.metrics:
            metric.update_state(batch.y, y_pred)
        return float(self.loss(batch.y, y_pred, batch.weight))

    def _predict_step(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer(x)
        return x

    # ---- checks ----

    def _compiled(self, method: str) -> None:
        if self.loss is None or self.optimizer is None:
            raise ValueError(f"{method}: the model is not compiled; call compile(...) first")

    def _data(self, x: ArrayLike, y: ArrayLike, weight: ArrayLike | None = None) -> Data:
        """Convert, build the model if need be, and find out whether y and the output fit."""
        assert self.loss is not None
        if y is None:
            raise ValueError("y: got None, expected an array")
        samples = self._prepare(x)
        dtype = np.dtype(self.layers[-1].dtype)
        data = Data.check(samples, y, weight, dtype)
        if not self.loss.takes_labels:
            data = Data(data.x, data.y.astype(dtype, copy=False), data.weight)
        if len(data):
            first = next(data.batches(1))
            self.loss(first.y, np.full(self._output_shape(first.x.shape), 0.5, dtype), first.weight)
        return data

    if TYPE_CHECKING:

        @property
        def trainable_weights(self) -> list[Array]:
            """The weights that training changes."""

        @property
        def _first_trained(self) -> int: ...
        def _prepare(self, x: ArrayLike) -> Array: ...
        def _output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]: ...

    def _as_model(self) -> Sequential:
        return self  # type: ignore[return-value]


def _pair(data: Any) -> tuple[Any, Any, Any]:
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise ValueError(
            f"validation_data: got {type(data).__name__}, expected (x, y) or (x, y, w)"
        )
    return data[0], data[1], data[2] if len(data) == 3 else None


def _verbosity(verbose: int | str) -> int:
    if verbose == "auto" or verbose is True:
        return 1
    if verbose in (0, 1, 2):
        return int(verbose)
    raise ValueError(f"verbose: got {verbose!r}, expected 0, 1, 2 or 'auto'")
