"""What happens to a batch, and the loop over an epoch of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import losses, optimizers
from .. import metrics as metrics_module
from ..callbacks import CallbackList, History
from ..layers import Layer
from ..losses.base import apply_mask
from .data import Data
from .progress import ProgressLine

__all__ = ["Steps"]

Array = NDArray[Any]
Logs = dict[str, float]


class Steps:
    """The part of a model that runs batches through its layers and back."""

    layers: list[Layer]

    def __init__(self) -> None:
        self.optimizer: optimizers.Optimizer | None = None
        self.loss: losses.Loss | None = None
        self.metrics: list[metrics_module.Metric] = []
        self.history: History | None = None
        #: Set it, in a callback, to end training after the batch.
        self.stop_training = False

    # ---- batches ----

    def _train_step(self, batch: Data) -> Any:
        """Change the weights by one step; return the loss before it: a float, or on a device."""
        assert self.optimizer is not None and self.loss is not None
        layers = self.layers
        y_pred, mask = batch.x, None
        backwards, dtypes = [], []
        for layer in layers:
            inputs = layer.convert(y_pred)
            if mask is None or not layer.supports_masking:
                y_pred, backward = layer.vjp(inputs, True)
            else:
                y_pred, backward = layer.vjp(inputs, True, mask)
            mask = layer.compute_mask(inputs, mask)
            backwards.append(backward)
            dtypes.append(y_pred.dtype)
        weight = batch.weight if mask is None else self._weight(batch, mask)
        value, gradient = self.loss.value_and_grad(batch.y, y_pred, weight)
        if self.metrics:
            self._update_metrics(batch, y_pred, mask)
        weights: list[Array] = []
        lowest = len(layers)  # below it no gradient is needed
        for index, layer in enumerate(layers):
            trained = layer.trainable_weights
            if trained and not weights:
                lowest = index
            weights += trained
        grads: list[Array] = []
        for index in range(len(layers) - 1, lowest - 1, -1):
            passed_on, own = backwards[index](gradient, index > lowest)
            grads[:0] = own
            if passed_on is not None:
                gradient = passed_on.astype(dtypes[index - 1], copy=False)
        # Before too: an interrupt in the midst of it leaves nothing that was made of old weights.
        for layer in layers:
            layer.weights_changed()
        self.optimizer.apply(grads, weights)
        for layer in layers:
            layer.weights_changed()
        return value

    def _test_step(self, batch: Data) -> Any:
        """Return the loss: a float, or on a device."""
        assert self.loss is not None
        y_pred, mask = self._outputs(batch.x)
        self._update_metrics(batch, y_pred, mask)
        return self.loss(batch.y, y_pred, self._weight(batch, mask))

    def _predict_step(self, x: Array) -> Array:
        return self._outputs(x)[0]

    def _outputs(
        self, x: Array, mask: Array | None = None, training: bool = False
    ) -> tuple[Array, Array | None]:
        """Return the output and its mask."""
        for layer in self.layers:
            if mask is None or not layer.supports_masking:
                y = layer(x, training=training)
            else:
                y = layer(x, mask=mask, training=training)
            mask = layer.compute_mask(x, mask)
            x = y
        return x, mask

    def _weight(self, batch: Data, mask: Array | None) -> Array | None:
        """Return the weights of the samples for the loss, which leave out what is masked."""
        if mask is None:
            return batch.weight
        assert self.loss is not None
        return apply_mask(batch.weight, mask, self.loss.reduction)

    def _update_metrics(self, batch: Data, y_pred: Array, mask: Array | None) -> None:
        for metric in self.metrics:
            if mask is not None and metric.masked:
                metric.update_state(batch.y, y_pred, mask)
            else:
                metric.update_state(batch.y, y_pred)

    # ---- epochs ----

    def _train_epoch(self, data: Data, size: int, hooks: CallbackList, line: ProgressLine) -> Logs:
        begins, ends = hooks.hears("on_train_batch_begin"), hooks.hears("on_train_batch_end")
        mean, shows = self._start_epoch(), line.live
        for step, batch in enumerate(data.batches(size)):
            if begins:
                hooks("on_train_batch_begin", step, {})
            mean.update(self._train_step(batch), len(batch.x))
            if ends:
                hooks("on_train_batch_end", step, self._logs(mean))
            if shows:
                line.update(step + 1, self._logs(mean))
            if self.stop_training:
                break
        return self._logs(mean)

    def _test_epoch(self, data: Data, size: int, hooks: CallbackList, line: ProgressLine) -> Logs:
        begins, ends = hooks.hears("on_test_batch_begin"), hooks.hears("on_test_batch_end")
        mean = self._start_epoch()
        hooks("on_test_begin", {})
        for step, batch in enumerate(data.batches(size)):
            if begins:
                hooks("on_test_batch_begin", step, {})
            mean.update(self._test_step(batch), len(batch))
            if ends:
                hooks("on_test_batch_end", step, self._logs(mean))
            if line.live:
                line.update(step + 1, self._logs(mean))
        logs = self._logs(mean)
        hooks("on_test_end", logs)
        return logs

    def _predict_epoch(self, x: Array, size: int, hooks: CallbackList, line: ProgressLine) -> Array:
        begins, ends = hooks.hears("on_predict_batch_begin"), hooks.hears("on_predict_batch_end")
        outputs = []
        hooks("on_predict_begin", {})
        for step, start in enumerate(range(0, max(len(x), 1), size)):
            if begins:
                hooks("on_predict_batch_begin", step, {})
            outputs.append(self._predict_step(x[start : start + size]))
            if ends:
                hooks("on_predict_batch_end", step, {"outputs": outputs[-1]})
            if line.live:
                line.update(step + 1, {})
        hooks("on_predict_end", {})
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def _start_epoch(self) -> metrics_module.Mean:
        """Reset the metrics, and return what takes the mean of the loss."""
        for metric in self.metrics:
            metric.reset_state()
        return metrics_module.Mean("loss")

    def _logs(self, mean: metrics_module.Mean) -> Logs:
        """Return the loss and the metrics so far, in the order of their names, as Keras."""
        logs = {metric.name: metric.result() for metric in self.metrics}
        logs["loss"] = mean.result()
        return dict(sorted(logs.items()))
