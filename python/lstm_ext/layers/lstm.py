"""The LSTM layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import activations, functional, initializers
from .._arguments import as_weights_dtype
from .._registry import check_unsupported, serialize
from ..streaming import Stream
from .base import Layer, LayerBackward, Shape, Weight, as_numbers, changing, check_size, last_axis

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
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "zero_output_for_mask": False,
}


class LSTM(Layer):
    """Long short-term memory, as Keras's layer of that name.

    Parameters
    ----------
    units : int
        The size of the state, H.
    activation, recurrent_activation : str
        "tanh" and "sigmoid", the only ones so far.
    use_bias : bool
    kernel_initializer, recurrent_initializer, bias_initializer
        Names, configs or objects of `lstm_ext.initializers`.
    unit_forget_bias : bool
        Whether the forget gate's bias starts at one (Jozefowicz et al. 2015).
    return_sequences : bool
        Whether the output is every hidden state, (B, T, H), or the last one, (B, H).
    return_state : bool
        Whether a call returns ``output, h, c`` instead of the output alone.
    go_backwards : bool
        Read the sequence from its end; the outputs stand in the order of the steps.
    stateful : bool
        Start each call from the state that the last one ended with, until `reset_state`.
    weights_dtype : "bfloat16" or "int8", optional
        Store the weights smaller for calls and streams, as `functional.pack` does; see `quantize`.
        Training computes with the full weights.
    unroll, use_cudnn
        Keras's choices of a way to compute; accepted, without effect.
    seed : int, optional
        Seeds the initializers that have no seed of their own.
    **options
        `name`, `dtype`, `trainable` and `input_shape`, as of every layer.

    Raises
    ------
    ValueError, TypeError
        If an argument is not what it should be.
    NotImplementedError
        If it is one of Keras's that is not there yet.
    """

    kernel = Weight("The weights of the input, (I, 4H), gates i, f, c, o; read-only.")
    recurrent_kernel = Weight("The weights of the hidden state, (H, 4H); read-only.")
    bias = Weight("The bias, (4H,), read-only; None without `use_bias`.")

    def __init__(
        self,
        units: int,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        *,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        weights_dtype: str | None = None,
        unroll: bool = False,
        use_cudnn: bool | str = "auto",
        seed: int | None = None,
        **options: Any,
    ) -> None:
        unsupported = {key: options.pop(key) for key in _UNSUPPORTED if key in options}
        check_unsupported("LSTM", unsupported, _UNSUPPORTED)
        check_unsupported(
            "LSTM",
            {
                "activation": activations.get(activation).name,
                "recurrent_activation": activations.get(
                    recurrent_activation, "recurrent_activation"
                ).name,
            },
            {"activation": "tanh", "recurrent_activation": "sigmoid"},
        )
        super().__init__(**options)
        self._weights_dtype = as_weights_dtype(weights_dtype, self._dtype)
        self.units = check_size(units, "units")
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer, "kernel_initializer")
        self.recurrent_initializer = initializers.get(
            recurrent_initializer, "recurrent_initializer"
        )
        self.bias_initializer = initializers.get(bias_initializer, "bias_initializer")
        self.unit_forget_bias = bool(unit_forget_bias)
        self.return_sequences = bool(return_sequences)
        self.return_state = bool(return_state)
        self.go_backwards = bool(go_backwards)
        self.stateful = bool(stateful)
        self.unroll = bool(unroll)
        self.use_cudnn = use_cudnn
        self.seed = seed
        self._state: tuple[Array, Array] | None = None
        self._packed: functional.PackedWeights | None = None

    def build(self, input_shape: Shape) -> None:
        """Make kernel (I, 4H), recurrent_kernel (H, 4H) and bias (4H) for inputs (B, T, I)."""
        input_size = last_axis(input_shape, 3, self.name)
        units = self.units
        make = initializers.Seeded(self.seed)
        try:
            kernel = make(self.kernel_initializer, (input_size, 4 * units), self._dtype)
            recurrent = make(self.recurrent_initializer, (units, 4 * units), self._dtype)
            bias = make(self.bias_initializer, (4 * units,), self._dtype)
        except MemoryError as error:
            raise ValueError(
                f"units: got {units}, whose weights ({input_size + units}, {4 * units}) cannot be "
                "allocated; expected fewer"
            ) from error
        if self.unit_forget_bias:
            bias[units : 2 * units] = 1
        self._add_weight("kernel", kernel)
        self._add_weight("recurrent_kernel", recurrent)
        if self.use_bias:
            self._add_weight("bias", bias)
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (B, T, H) or (B, H)."""
        kernel = self._weights.get("kernel")
        last_axis(input_shape, 3, self.name, None if kernel is None else kernel.shape[0])
        if self.return_sequences:
            return (input_shape[0], input_shape[1], self.units)
        return (input_shape[0], self.units)

    def __call__(
        self,
        x: ArrayLike,
        initial_state: tuple[ArrayLike, ArrayLike] | None = None,
        mask: None = None,
        training: bool = False,
    ) -> Any:
        """Run the layer over sequences.

        Parameters
        ----------
        x : (B, T, I) array of real numbers
            Converted to the layer's dtype.
        initial_state : pair of (B, H) arrays, optional
            h and c before the first step, in place of zeros or of a kept state.
        mask : None
            Not there yet.
        training : bool
            Without effect.

        Returns
        -------
        output : (B, T, H) array with `return_sequences`, else (B, H)
        h, c : (B, H) arrays, with `return_state`
        """
        if mask is not None:
            check_unsupported("LSTM", {"mask": mask}, {"mask": None})
        if self._packed is None or type(x) is not np.ndarray or x.dtype != self._dtype:
            x = self.prepare(x)
        state = self._kept_state(x) if initial_state is None else self._as_state(initial_state)
        output, h, c = functional.lstm(
            x,
            self._packed or self._pack(),
            initial_state=state,
            go_backwards=self.go_backwards,
            return_sequences=self.return_sequences,
        )
        if self.stateful:
            self._state = (h.copy(), c.copy())
        if not self.return_state:
            return output
        return (output, h.copy() if output is h else h, c)

    def vjp(self, x: Array, training: bool = True) -> tuple[Array, LayerBackward]:
        """Return the output, and what carries its gradient back. The state is kept as in a call."""
        # Small weights are for inference; and in training, a layout lasts for one step anyhow.
        packed = None if self._weights_dtype else self._packed or self._pack()
        (output, h, c), pull_back = functional.lstm_vjp(
            x,
            packed or functional.pack(*self._weights.values()),
            initial_state=self._kept_state(x),
            go_backwards=self.go_backwards,
            return_sequences=self.return_sequences,
        )
        if self.stateful:
            self._state = (h.copy(), c.copy())

        def backward(dy: Array, need_x: bool) -> tuple[Array | None, list[Array]]:
            grads = pull_back(dy, need_x=need_x, need_state=False, consume=True)
            parameters = [grads.kernel, grads.recurrent_kernel]
            if grads.bias is not None:
                parameters.append(grads.bias)
            return grads.x if need_x else None, parameters if self.trainable else []

        return output, backward

    def stream(self, batch_size: int = 1) -> Stream:
        """Return a `lstm_ext.streaming.Stream` with the layer's weights as they are now.

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
        return Stream(
            list(self._weights.values()),
            check_size(batch_size, "batch_size"),
            weights_dtype=self._weights_dtype,
        )

    @property
    def weights_dtype(self) -> str:
        """How calls and streams store the weights: "bfloat16", "int8", or the layer's dtype.

        May be set; streams that exist keep theirs.
        """
        return self._weights_dtype or self.dtype

    @weights_dtype.setter
    def weights_dtype(self, value: str | None) -> None:
        chosen = as_weights_dtype(value, self._dtype)
        with changing:
            self._weights_dtype = chosen
            self._packed = None

    def quantize(self, mode: str) -> None:
        """Compute with small weights from now on; the weights themselves stay as they are.

        What it costs, `lstm_ext.quantization_error` tells.

        Parameters
        ----------
        mode : "bfloat16" or "int8"
        """
        self.weights_dtype = as_weights_dtype(mode, self._dtype, "mode")

    def _pack(self) -> functional.PackedWeights:
        """Lay the weights out for the kernels, and keep that until they change."""
        with changing:
            packed = functional.pack(*self._weights.values(), weights_dtype=self._weights_dtype)
            self._packed = packed
        return packed

    def weights_changed(self) -> None:
        """Drop the packed weights: they were made from others."""
        with changing:  # else a thread that packs now could put back what it began before
            self._packed = None

    def _kept_state(self, x: Array) -> tuple[Array, Array] | None:
        """Return the state that the last call ended with, or raise if x is another batch."""
        state = self._state
        if state is not None and x.ndim == 3 and len(x) != len(state[0]):
            raise ValueError(
                f"x: got {len(x)} sequences, expected {len(state[0])}, of which the stateful layer "
                f"{self.name} keeps the state; reset_state() forgets it"
            )
        return state

    def __getstate__(self) -> dict[str, Any]:
        # For copies: packed weights belong to this process and are soon made anew.
        return {**self.__dict__, "_packed": None}

    def _as_state(self, state: tuple[ArrayLike, ArrayLike]) -> tuple[Array, Array]:
        if not isinstance(state, (tuple, list)) or len(state) != 2:
            got = f"{len(state)} values" if isinstance(state, (tuple, list)) else repr(state)
            raise ValueError(f"initial_state: got {got}, expected a pair (h, c)")
        h = as_numbers(state[0], "initial_state[0]", self._dtype)
        return h, as_numbers(state[1], "initial_state[1]", self._dtype)

    @property
    def state(self) -> tuple[Array, Array] | None:
        """The kept (h, c) of a stateful layer, or None before its first call."""
        return None if self._state is None else (self._state[0].copy(), self._state[1].copy())

    def reset_state(self) -> None:
        """Forget the kept state: the next call starts from zeros."""
        self._state = None

    reset_states = reset_state

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one, without its weights."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": "tanh",
            "recurrent_activation": "sigmoid",
            "use_bias": self.use_bias,
            "kernel_initializer": serialize(self.kernel_initializer),
            "recurrent_initializer": serialize(self.recurrent_initializer),
            "bias_initializer": serialize(self.bias_initializer),
            "unit_forget_bias": self.unit_forget_bias,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "weights_dtype": self._weights_dtype,
            "unroll": self.unroll,
            "seed": self.seed,
        }
