"""Training, evaluation and prediction of a model, by Keras's methods."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import losses, optimizers, random
from .. import metrics as metrics_module
from .._arrays import namespace
from .._registry import check_unsupported
from ..callbacks import CallbackList, History
from ..callbacks.base import as_callbacks
from ..layers.base import Shape, check_size
from .data import Data
from .progress import ProgressLine
from .steps import Logs, Steps

if TYPE_CHECKING:
    from .sequential import Sequential

__all__ = ["Trainable"]

Array = NDArray[Any]

# Arguments of Keras's methods that are not there yet, with Keras's defaults.
_UNSUPPORTED_COMPILE = {
    "loss_weights": None,
    "weighted_metrics": None,
    "run_eagerly": False,
    "steps_per_execution": 1,
    "jit_compile": "auto",
    "auto_scale_loss": True,
}
_UNSUPPORTED_FIT = {"steps_per_epoch": None, "validation_steps": None}
_UNSUPPORTED_STEPS = {"steps": None}
_UNSUPPORTED_BATCH = {"class_weight": None}


class Trainable(Steps):
    """The methods of a model that need an optimizer, a loss or data."""

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
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Sequence[ArrayLike] | None = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: ArrayLike | None = None,
        initial_epoch: int = 0,
        *,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
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
        callbacks : Callback or list of Callback, optional
        validation_split : float
            The share of the samples, from the end, to keep for validation.
        validation_data : (x, y) or (x, y, sample_weight), optional
            Used in place of a share of the samples.
        shuffle : bool
            Whether each epoch takes the samples in a new order.
        class_weight : dict, optional
            The weight of a sample by its class, 1 for those that are not in it. The class is y, or
            where y is largest. Not together with `sample_weight`.
        sample_weight : array, optional
            One weight a sample, or a step of it. It acts on the loss, not on the metrics.
        validation_batch_size : int, optional
            `batch_size` by default.
        validation_freq : int or list of int
            Validate after every so many epochs, or after these, counted from one.

        Returns
        -------
        History
            What each epoch logged.

        Raises
        ------
        ValueError, TypeError
            If the model is not compiled or an argument does not fit.
        NotImplementedError
            If another argument of Keras's is given.
        """
        check_unsupported("fit", options, _UNSUPPORTED_FIT)
        self._compiled("fit")
        level = _verbosity(verbose)
        size = _batch_size(batch_size, "batch_size")
        validation_size = _batch_size(validation_batch_size, "validation_batch_size", size)
        last, first = _count(epochs, "epochs"), _count(initial_epoch, "initial_epoch")
        validates = _validation_epochs(validation_freq)
        if not isinstance(shuffle, (bool, np.bool_, int)):
            raise TypeError(f"shuffle: got {shuffle!r}, expected True or False")
        given = as_callbacks(callbacks)
        data, validation = self._split(
            self._data(x, y, sample_weight), validation_split, validation_data
        )
        if class_weight is not None:
            data = data.weighted_by_class(class_weight)

        steps = -(-len(data) // size)
        history = next((c for c in given if isinstance(c, History)), None) or History()
        if history not in given:
            given.append(history)  # last, to record what the others write into the logs
        params = {"epochs": last, "steps": steps, "verbose": level}
        hooks = CallbackList(given, self._as_model(), params)
        self.history = history
        self.stop_training = False
        logs: Logs = {}
        hooks("on_train_begin", {})
        for epoch in range(first, last):
            hooks("on_epoch_begin", epoch, {})
            if level:
                print(f"Epoch {epoch + 1}/{last}")
            line = ProgressLine(steps, level)
            order = random.generator().permutation(len(data)) if shuffle else None
            logs = self._train_epoch(data.shuffled(order), size, hooks, line)
            if validation is not None and validates(epoch + 1):
                results = self._test_epoch(validation, validation_size, hooks, ProgressLine(0, 0))
                logs.update({f"val_{name}": value for name, value in results.items()})
            line.finish(logs)
            hooks("on_epoch_end", epoch, logs)
            if self.stop_training:
                break
        hooks("on_train_end", logs)
        return history

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: ArrayLike | None = None,
        *,
        callbacks: Any = None,
        return_dict: bool = False,
        **options: Any,
    ) -> float | list[float] | Logs:
        """Return the loss and the metrics over samples.

        Parameters
        ----------
        x, y, batch_size, verbose, callbacks, sample_weight
            As of `fit`.
        return_dict : bool

        Returns
        -------
        float, list or dict
            The loss alone if there are no metrics, else a list that begins with it; a dict by
            name with `return_dict`.

        Raises
        ------
        ValueError, TypeError, NotImplementedError
            As of `fit`.
        """
        check_unsupported("evaluate", options, _UNSUPPORTED_STEPS)
        self._compiled("evaluate")
        level = _verbosity(verbose)
        size = _batch_size(batch_size, "batch_size")
        data = self._data(x, y, sample_weight)
        steps = -(-len(data) // size)
        hooks = CallbackList(
            callbacks, self._as_model(), {"epochs": 1, "steps": steps, "verbose": level}
        )
        line = ProgressLine(steps, level)
        logs = self._test_epoch(data, size, hooks, line)
        line.finish(logs)
        return self._results(logs, return_dict)

    def predict(
        self,
        x: ArrayLike,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        *,
        callbacks: Any = None,
        **options: Any,
    ) -> Array:
        """Return the outputs for samples; the same bits for any `batch_size`.

        Parameters
        ----------
        x, batch_size, verbose, callbacks
            As of `fit`.

        Raises
        ------
        ValueError, TypeError, NotImplementedError
            As of `fit`.
        """
        check_unsupported("predict", options, _UNSUPPORTED_STEPS)
        level = _verbosity(verbose)
        size = _batch_size(batch_size, "batch_size")
        samples = self._prepare(x)
        steps = -(-len(samples) // size)
        hooks = CallbackList(
            callbacks, self._as_model(), {"epochs": 1, "steps": steps, "verbose": level}
        )
        line = ProgressLine(steps, level)
        outputs = self._predict_epoch(samples, size, hooks, line)
        line.finish({})
        return outputs

    def train_on_batch(
        self,
        x: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        return_dict: bool = False,
        **options: Any,
    ) -> float | list[float] | Logs:
        """Take one step on one batch; return its loss and metrics, before it, as `evaluate`."""
        check_unsupported("train_on_batch", options, _UNSUPPORTED_BATCH)
        self._compiled("train_on_batch")
        return self._on_batch(self._data(x, y, sample_weight), self._train_step, return_dict)

    def test_on_batch(
        self,
        x: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        return_dict: bool = False,
    ) -> float | list[float] | Logs:
        """Return the loss and the metrics of one batch, as `evaluate`."""
        self._compiled("test_on_batch")
        return self._on_batch(self._data(x, y, sample_weight), self._test_step, return_dict)

    def predict_on_batch(self, x: ArrayLike) -> Array:
        """Return the outputs for one batch."""
        return self._predict_step(self._prepare(x))

    def _on_batch(
        self, data: Data, step: Callable[[Data], Any], return_dict: bool
    ) -> float | list[float] | Logs:
        mean = self._start_epoch()
        mean.update(step(data), len(data))
        return self._results(self._logs(mean), return_dict)

    def _results(self, logs: Logs, return_dict: bool) -> float | list[float] | Logs:
        if return_dict:
            return logs
        values = [logs["loss"], *(logs[metric.name] for metric in self.metrics)]
        return values if len(values) > 1 else values[0]

    # ---- checks ----

    def _compiled(self, method: str) -> None:
        if self.loss is None or self.optimizer is None:
            raise ValueError(f"{method}: the model is not compiled; call compile(...) first")
        self.optimizer.to_device(self.device)

    def _data(self, x: ArrayLike, y: ArrayLike, weight: ArrayLike | None = None) -> Data:
        """Convert, build the model if need be, and find out whether y and the output fit."""
        assert self.loss is not None
        if y is None:
            raise ValueError("y: got None, expected an array")
        dtype = np.dtype(self.layers[-1].dtype) if self.layers else np.dtype(np.float32)
        data = Data.check(self._prepare(x), y, weight, dtype)
        if not self.loss.takes_labels:
            data = Data(data.x, data.y.astype(dtype, copy=False), data.weight)
        if len(data):
            first = next(data.batches(1))
            shape = self.compute_output_shape(first.x.shape)
            masked = self._masks_output(first.x)
            if masked and not self.loss.takes_labels and 1 < data.y.ndim < len(shape):
                raise ValueError(
                    f"y: got shape {data.y.shape} for outputs that are masked, expected as many "
                    f"axes as these have, {(len(data), *shape[1:])}"
                )
            trial = namespace(first.x).full(shape, 0.5, dtype)
            self.loss(first.y, trial, first.weight)
        return data

    def _masks_output(self, x: Array) -> bool:
        """Return whether the output for x has a mask."""
        mask, shape = None, x.shape
        for layer in self.layers:
            mask = layer.compute_mask(namespace(x).zeros(shape, x.dtype), mask)
            shape = layer.compute_output_shape(shape)
        return mask is not None

    def _split(
        self, data: Data, share: float, given: Sequence[ArrayLike] | None
    ) -> tuple[Data, Data | None]:
        """Return what to train on and what to validate with."""
        validation = None
        if given is not None:
            if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
                raise ValueError(
                    f"validation_data: got {type(given).__name__}, expected (x, y) or (x, y, w)"
                )
            try:
                validation = self._data(*given)
            except (TypeError, ValueError) as error:
                raise type(error)(f"validation_data: {error}") from None
        elif share:
            data, validation = data.split(share)
        if not len(data):
            raise ValueError("x: got no samples, expected at least one")
        return data, validation

    if TYPE_CHECKING:

        @property
        def device(self) -> str:
            """Where the layers are."""

        def _prepare(self, x: ArrayLike) -> Array: ...
        def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
            """Return the shape of the output for an input of that shape."""

    def _as_model(self) -> Sequential:
        return self  # type: ignore[return-value]


def _batch_size(value: int | None, name: str, default: int = 32) -> int:
    return default if value is None else check_size(value, name)


def _count(value: int, name: str) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: got {value!r}, expected an integer") from None
    if count < 0:
        raise ValueError(f"{name}: got {value}, expected no negative number")
    return count


def _validation_epochs(frequency: int | Sequence[int]) -> Callable[[int], bool]:
    """Return what says whether to validate after an epoch, counted from one."""
    if isinstance(frequency, (list, tuple, set)):
        return frequency.__contains__
    every = check_size(frequency, "validation_freq")
    return lambda epoch: epoch % every == 0


def _verbosity(verbose: int | str) -> int:
    if verbose == "auto" or verbose is True:
        return 1
    if verbose in (0, 1, 2):
        return int(verbose)
    raise ValueError(f"verbose: got {verbose!r}, expected 0, 1, 2 or 'auto'")
