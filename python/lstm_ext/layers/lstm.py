"""The LSTM layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import initializers, random
from .._registry import check_unsupported, serialize
from ..cuda.stream import DeviceStream
from ..streaming import AnyStream, ModelStream, Stream
from .base import LayerBackward, Shape, Weight, check_rate, check_size, last_axis
from .lstm_cell import as_cell, check_layer_norm, serialize_activation
from .lstm_device import OnDevice
from .lstm_noise import noise_seed
from .lstm_run import Results, run, run_alone, run_alone_vjp, run_vjp
from .lstm_state import State, Stateful
from .lstm_weights import Weighted, check_num_layers, operands

__all__ = ["LSTM"]

Array = NDArray[Any]

# Arguments of Keras's LSTM that are not there yet, with Keras's defaults.
_UNSUPPORTED = {
    "kernel_regularizer": None,
    "recurrent_regularizer": None,
    "bias_regularizer": None,
    "kernel_constraint": None,
    "recurrent_constraint": None,
    "bias_constraint": None,
}


class LSTM(Weighted, Stateful, OnDevice):
    """Long short-term memory, as Keras's layer of that name, with what else LSTMs are known for.

    Shapes below use B, T, I, H and P for batch size, sequence length, input size, units and size of
    the output, which is H without a projection.

    Parameters
    ----------
    units : int
        The size of the cell, H.
    activation, recurrent_activation : str or tuple
        Of the candidate cell and of the gates: a name, or a tuple of a name and its parameters, as
        in `functional.Cell`. None is linear, as in Keras.
    use_bias : bool
    kernel_initializer, recurrent_initializer, bias_initializer
        Names, configs or objects of `lstm_ext.initializers`. A projection starts as the kernel
        does, peepholes and the normalisation's offset at zero, its gains at one.
    unit_forget_bias : bool
        Whether the forget gate's bias starts at one (Jozefowicz et al. 2015).
    dropout, recurrent_dropout : float
        The shares of the inputs, and of the hidden state on its way into the next step, that are
        set to zero in training; the same values in all steps of a call (Gal and Ghahramani 2016).
    return_sequences : bool
        Whether the output is every hidden state, (B, T, P), or the last one, (B, P).
    return_state : bool
        Whether a call returns ``output, h, c`` instead of the output alone.
    go_backwards : bool
        Read the sequence from its end; the outputs stand in the order of the steps.
    stateful : bool
        Start each call from the state that the last one ended with, until `reset_state`.
    zero_output_for_mask : bool
        Whether the output is zeros at masked steps, instead of the output before them.
    output_activation : str or tuple, optional
        Of the cell on its way out; ONNX's third. By default as `activation`.
    clip, cell_clip : float, optional
        Bounds of the gates' inputs (ONNX's clip) and of the cell (TFLite's cell_clip).
    input_forget : bool
        Couple the gates: the forget gate is one minus the input gate (ONNX).
    peepholes : bool
        Let the gates see the cell (Gers and Schmidhuber 2000).
    proj_size : int, optional
        Project the hidden state to this size, P (Sak et al. 2014; torch).
    layer_norm : bool
        Normalise the gates' inputs and the cell (Ba et al. 2016, as in Haste). Not together with
        peepholes, a projection, clips, `input_forget`, zoneout or small weights.
    zoneout, cell_zoneout : float
        The rates at which values of h and c stay what they were the step before (Krueger et al.
        2017): drawn in training; in a call, the mean.
    num_layers : int
        How many layers of this kind lie on top of each other.
    weights_dtype : "bfloat16" or "int8", optional
        Store the weights smaller for calls and streams, as `functional.pack` does; see `quantize`.
        Training computes with the full weights.
    unroll, use_cudnn, implementation
        Keras's choices of a way to compute; accepted, without effect.
    seed : int, optional
        Seeds the initializers that have no seed of their own, and what training draws.
    **options
        `name`, `dtype`, `trainable`, `input_shape` and `device`, as of every layer.

    Raises
    ------
    ValueError, TypeError
        If an argument is not what it should be.
    NotImplementedError
        If it is one of Keras's that is not there yet, or not on the device.
    """

    supports_masking = True

    kernel = Weight("The weights of the input, (I, 4H), gates i, f, c, o; read-only.")
    recurrent_kernel = Weight("The weights of the hidden state, (P, 4H); read-only.")
    bias = Weight("The bias, (4H,), read-only; None without `use_bias`.")
    peephole = Weight("The peepholes, (3H,), gates i, f, o; read-only; None without.")
    projection_kernel = Weight("The projection, (H, P), read-only; None without.")
    kernel_gain = Weight("The gain of x @ kernel, (4H,), read-only; None without `layer_norm`.")
    recurrent_gain = Weight("The gain of h @ recurrent_kernel, as `kernel_gain`.")
    cell_gain = Weight("The gain of the cell, (H,), read-only; None without `layer_norm`.")
    cell_offset = Weight("The offset of the cell, as `cell_gain`.")

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        *,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        output_activation: Any = None,
        clip: float | None = None,
        cell_clip: float | None = None,
        input_forget: bool = False,
        peepholes: bool = False,
        proj_size: int | None = None,
        layer_norm: bool = False,
        zoneout: float = 0.0,
        cell_zoneout: float = 0.0,
        num_layers: int = 1,
        weights_dtype: str | None = None,
        unroll: bool = False,
        use_cudnn: bool | str = "auto",
        implementation: int = 2,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        unsupported = {key: options.pop(key) for key in _UNSUPPORTED if key in options}
        check_unsupported("LSTM", unsupported, _UNSUPPORTED)
        if implementation not in (0, 1, 2):
            raise ValueError(f"implementation: got {implementation!r}, expected 1 or 2")
        super().__init__(**options)
        self.units = check_size(units, "units")
        #: The equations of a step, a `functional.Cell`.
        self.cell = as_cell(
            activation, recurrent_activation, output_activation, clip, cell_clip, input_forget,
            zoneout, cell_zoneout,
        )  # fmt: skip
        self.use_bias, self.unit_forget_bias = bool(use_bias), bool(unit_forget_bias)
        self.peepholes, self.layer_norm = bool(peepholes), bool(layer_norm)
        self.proj_size = None if proj_size is None else check_size(proj_size, "proj_size")
        self.num_layers = check_num_layers(num_layers)
        self._weights_dtype = self._as_weights_dtype(weights_dtype)
        if self.layer_norm:
            check_layer_norm(self.cell, peepholes=self.peepholes, proj_size=self.proj_size)
        get = initializers.get
        self.kernel_initializer = get(kernel_initializer, "kernel_initializer")
        self.recurrent_initializer = get(recurrent_initializer, "recurrent_initializer")
        self.bias_initializer = get(bias_initializer, "bias_initializer")
        self._ones, self._zeros = initializers.Ones(), initializers.Zeros()
        self.dropout = check_rate(dropout, "dropout")
        self.recurrent_dropout = check_rate(recurrent_dropout, "recurrent_dropout")
        self.return_sequences, self.return_state = bool(return_sequences), bool(return_state)
        self.go_backwards, self.stateful = bool(go_backwards), bool(stateful)
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.unroll, self.use_cudnn = bool(unroll), use_cudnn
        self.seed = seed
        self._generator = None if seed is None else random.generator(noise_seed(seed))
        self.check_on(self._device)

    @property
    def output_size(self) -> int:
        """The size of the output's last axis, P."""
        return self.proj_size or self.units

    def build(self, input_shape: Shape) -> None:
        """Make the weights of `weight_shapes` for inputs (B, T, I)."""
        input_size = last_axis(input_shape, 3, self.name)
        for name, weight in self._initial_weights(input_size).items():
            self._add_weight(name, weight)
        self._repackers = None
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (B, T, P) or (B, P)."""
        kernel = self._weights.get("kernel")
        last_axis(input_shape, 3, self.name, None if kernel is None else kernel.shape[0])
        steps = input_shape[1:2] if self.return_sequences else ()
        return (input_shape[0], *steps, self.output_size)

    def compute_mask(self, inputs: ArrayLike, mask: Array | None = None) -> Array | None:
        """Return the mask of the input if the output has its steps, as a last output does not.

        It is not turned around by `go_backwards`, as in Keras.
        """
        return mask if self.return_sequences else None

    def __call__(
        self,
        x: ArrayLike,
        initial_state: Sequence[Any] | None = None,
        mask: ArrayLike | None = None,
        training: bool = False,
        lengths: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        return_gates: bool = False,
    ) -> Any:
        """Run the layer over sequences.

        Parameters
        ----------
        x : (B, T, I) array of real numbers
            Converted to the layer's dtype.
        initial_state : pair of (B, P) and (B, H) arrays, optional
            h and c before the first step, in place of zeros or of a kept state. With several
            layers, a list of such pairs.
        mask : (B, T) array of bool, optional
            The steps that count. Another keeps the state, and its output is the one before it.
        training : bool
            Whether to draw dropout and zoneout, as training does.
        lengths : (B,) array of int, optional
            In place of a mask: how many steps of each sequence count.
        reset : (B, T) array of bool, optional
            Where the state is set to zero before the step.
        return_gates : bool
            Whether to return what the gates and cells were.

        Returns
        -------
        output : (B, T, P) array with `return_sequences`, else (B, P)
        h, c : (B, P) and (B, H) arrays, with `return_state`
            With several layers, those of each, one after the other.
        gates : functional.Gates, with `return_gates`
            With several layers, a list.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit; nothing is changed then.
        """
        if self._packed is None or type(x) is not np.ndarray or x.dtype != self._dtype:
            x = self.prepare(x)
            if self._device != "cpu":  # where weights are never packed
                call = self._call(x, self._states(x, initial_state), mask, lengths, reset)
                results, _ = self._run_on_device(call, training, return_gates=return_gates)
                self._keep(results.states)
                if not (self.return_state or return_gates):
                    return results.output
                return self._several(results, return_gates)
        whole = mask is lengths is reset is None
        if whole and self.num_layers == 1 and not (training or return_gates):
            # The straight way: a small call takes a microsecond or two.
            weights = (self._packed or self._pack())[0]
            from_zeros = initial_state is self._state is None
            first = None if from_zeros else self._states(x, initial_state)
            state = None if first is None else first[0]
            output, h, c = run_alone(weights, x, state, self.go_backwards, self.return_sequences)
            states = [(h, c)]
            gates: list[Any] = []
        else:
            packed = self._full() if training else self._packed or self._pack()
            call = self._call(x, self._states(x, initial_state), mask, lengths, reset)
            call = self._with_noise(call, packed) if training else call
            output, states, gates = run(packed, call, return_gates)
        if self.stateful:
            self._keep(states)
        if not (self.return_state or return_gates):
            return output
        return self._several(Results(output, states, gates), return_gates)

    def _several(self, results: Results, return_gates: bool) -> tuple[Any, ...]:
        output, states, gates = results
        returned: list[Any] = [output]
        if self.return_state:
            for h, c in states:
                returned += [h.copy() if output is h else h, c]
        if return_gates:
            returned.append(gates[0] if self.num_layers == 1 else gates)
        return tuple(returned)

    def vjp(
        self,
        x: Array,
        training: bool = True,
        mask: ArrayLike | None = None,
        *,
        initial_state: Sequence[Any] | None = None,
        lengths: ArrayLike | None = None,
        reset: ArrayLike | None = None,
    ) -> tuple[Array, LayerBackward]:
        """Return the output, and what carries its gradient back. The state is kept as in a call."""
        if self._device != "cpu":
            call = self._call(x, self._states(x, initial_state), mask, lengths, reset)
            results, back = self._run_on_device(call, training, keep=True)
            assert back is not None
            return self._ended(results.output, results.states, back)
        alone = initial_state is mask is lengths is reset is self._state is None
        if alone and self.num_layers == 1 and not (training and self._is_noisy):
            (weights,) = self._full(single_step=x.ndim == 3 and x.shape[1] == 1)
            output, state, pull_back = run_alone_vjp(
                weights, x, self.go_backwards, self.return_sequences
            )
            states = [state]
        else:
            packed = self._full()
            call = self._call(x, self._states(x, initial_state), mask, lengths, reset)
            call = self._with_noise(call, packed) if training else call
            (output, states, _), pull_back = run_vjp(packed, call)
        return self._ended(output, states, pull_back)

    def _ended(
        self, output: Array, states: list[State], pull_back: LayerBackward
    ) -> tuple[Array, LayerBackward]:
        if self.stateful:
            self._keep(states)
        if self.trainable:
            return output, pull_back
        return output, lambda dy, need_x: (pull_back(dy, need_x)[0], [])

    def stream(self, batch_size: int = 1) -> AnyStream | ModelStream:
        """Return a `lstm_ext.streaming.Stream` with the layer's weights as they are now.

        On a device it is a `lstm_ext.cuda.DeviceStream`. Of several layers it is a `ModelStream`,
        which has the same methods; its state is a list.

        Raises
        ------
        ValueError
            If the layer is not built, or reads its sequences backwards.
        """
        if not self.built:
            raise ValueError(
                f"{self.name}: stream before the layer is built; build or call it first"
            )
        if self.go_backwards:
            raise ValueError(f"{self.name}: got go_backwards, expected a layer that reads forwards")
        size = check_size(batch_size, "batch_size")
        streams: list[AnyStream] = []
        for index in range(self.num_layers):
            plain, named = operands(self._weights, index)
            if self._device != "cpu":
                streams.append(DeviceStream(plain, size, cell=self.cell, **named))
                continue
            options = {"cell": self.cell, "weights_dtype": self._weights_dtype, **named}
            streams.append(Stream(plain, size, **options))
        return streams[0] if self.num_layers == 1 else ModelStream(streams, size)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one, without its weights."""
        cell = self.cell
        return {
            **super().get_config(),
            "units": self.units,
            "activation": serialize_activation(cell.activation),
            "recurrent_activation": serialize_activation(cell.recurrent_activation),
            "use_bias": self.use_bias,
            "kernel_initializer": serialize(self.kernel_initializer),
            "recurrent_initializer": serialize(self.recurrent_initializer),
            "bias_initializer": serialize(self.bias_initializer),
            "unit_forget_bias": self.unit_forget_bias,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "zero_output_for_mask": self.zero_output_for_mask,
            "output_activation": serialize_activation(cell.output_activation),
            "clip": cell.clip,
            "cell_clip": cell.cell_clip,
            "input_forget": cell.input_forget,
            "peepholes": self.peepholes,
            "proj_size": self.proj_size,
            "layer_norm": self.layer_norm,
            "zoneout": cell.zoneout,
            "cell_zoneout": cell.cell_zoneout,
            "num_layers": self.num_layers,
            "weights_dtype": self._weights_dtype,
            "unroll": self.unroll,
            "seed": self.seed,
        }
