"""What every layer is: named weights of one dtype, made for an input shape, and two passes."""

from __future__ import annotations

import operator
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays import as_numbers, check_device, is_on_device, put, to_host
from .._registry import check_unsupported, snake_case

__all__ = ["Layer"]

Array = NDArray[Any]
Shape = tuple[int | None, ...]
# backward(dy, need_x) -> (dx or None, gradients in the order of trainable_weights)
LayerBackward = Callable[[Array, bool], tuple[Array | None, list[Array]]]

_names: Counter[str] = Counter()

# Held while weights are made or laid out anew, which layers do late, perhaps called by several
# threads at once. One for all layers, so that a layer can be copied.
changing = threading.RLock()

# Arguments of Keras's layers that are not there yet, with Keras's defaults.
_UNSUPPORTED = {"activity_regularizer": None, "autocast": True}


class Layer:
    """A function of an array, with weights that can be learned.

    A subclass gives `build`, `compute_output_shape`, `_forward` and `vjp`, and calls
    `_add_weight` in `build`.

    Parameters
    ----------
    name : str, optional
        By default the class's name in snake case, numbered from the second on.
    dtype : str
        "float32" or "float64": of the weights, and what inputs are converted to.
    trainable : bool
        Whether training changes the weights.
    input_shape : tuple, optional
        The shape of one sample; for the first layer of a model, in place of an `Input`.
    input_dim : int, optional
        Short for ``input_shape=(input_dim,)``.
    device : "cpu" or "cuda"
        Where the weights are and the layer computes; see `to_device`.
    """

    #: Classes by name, for `from_config` of a model; filled as subclasses are defined.
    classes: ClassVar[dict[str, type[Layer]]] = {}

    #: Whether the layer takes a mask, (B, T) bools that say which steps count, or lets one pass.
    supports_masking: ClassVar[bool] = False

    #: Whether the layer can be on a CUDA device.
    supports_cuda: ClassVar[bool] = False

    _device = "cpu"

    def __init_subclass__(cls) -> None:
        Layer.classes[cls.__name__] = cls

    def __init__(
        self,
        *,
        name: str | None = None,
        dtype: str | None = None,
        trainable: bool = True,
        input_shape: Sequence[int | None] | None = None,
        input_dim: int | None = None,
        device: str | None = None,
        **unsupported: Any,
    ) -> None:
        check_unsupported(type(self).__name__, unsupported, _UNSUPPORTED)
        self.name = unique_name(snake_case(type(self).__name__)) if name is None else str(name)
        self._dtype = _check_dtype(dtype)
        self.trainable = bool(trainable)
        if input_dim is not None:
            if input_shape is not None:
                raise ValueError(f"input_dim: got {input_dim} beside input_shape, expected one")
            input_shape = (check_size(input_dim, "input_dim"),)
        self.input_shape = None if input_shape is None else (None, *check_shape(input_shape))
        self.built = False
        self._weights: dict[str, Array] = {}
        self._device = check_device(device)
        Layer.check_on(self, self._device)

    @property
    def dtype(self) -> str:
        """The name of the dtype."""
        return str(self._dtype)

    def build(self, input_shape: Shape) -> None:
        """Make the weights for inputs of that shape, whose first axis is the batch."""
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the output for an input of that shape."""
        raise NotImplementedError

    def compute_mask(self, inputs: ArrayLike, mask: Array | None = None) -> Array | None:
        """Return the mask of the output for the input and its mask.

        By default it is the same. A layer that supports none drops it with a warning, as in Keras.
        """
        if mask is None or self.supports_masking:
            return mask
        warnings.warn(
            f"{self.name} of the class {type(self).__name__} does not support masking: the mask of "
            "its input ends there",
            stacklevel=2,
        )
        return None

    def __call__(
        self, x: ArrayLike, *, mask: ArrayLike | None = None, training: bool = False
    ) -> Any:
        """Return the layer's output. A mask changes nothing in a layer that knows no steps."""
        inputs = self.prepare(x)
        return self._forward(inputs, training)

    def vjp(
        self, x: Array, training: bool = True, mask: Array | None = None
    ) -> tuple[Array, LayerBackward]:
        """Return the output for a prepared input, and what carries gradients back."""
        raise NotImplementedError

    def _forward(self, x: Array, training: bool) -> Any:
        raise NotImplementedError

    def prepare(self, x: ArrayLike) -> Array:
        """Convert an input, and build the layer for it if that has not been done."""
        inputs = self.convert(x)
        self.build_once((None, *inputs.shape[1:]))
        return inputs

    def convert(self, x: ArrayLike) -> Array:
        """Return an input as an array of the kind that the layer takes."""
        if type(x) is np.ndarray and x.dtype == self._dtype and self._device == "cpu":
            return x
        return as_numbers(x, "x", self._dtype, self._device)

    def build_once(self, input_shape: Shape) -> None:
        """Build the layer if that has not been done, by whichever thread comes first."""
        if not self.built:
            with changing:
                if not self.built:
                    self.build(input_shape)

    @property
    def inner_layers(self) -> list[Layer]:
        """The layers of which this one is made, if it is."""
        return []

    # ---- devices ----

    @property
    def device(self) -> str:
        """Where the weights are, "cpu" or "cuda"."""
        return self._device

    def to_device(self, device: str) -> Layer:
        """Move the weights, and what else the layer keeps, to "cpu" or "cuda"; return the layer.

        Their bits stay the same. A layer on a device takes arrays there and gives such of CuPy; it
        waits for nothing. On the CPU it takes those of NumPy.

        Raises
        ------
        RuntimeError
            If CUDA is not available, with the reason; the layer stays where it is, as below.
        NotImplementedError
            If the layer has something that is not there on CUDA devices yet.
        ValueError
            If `device` is another.
        """
        target = check_device(device)
        self.check_on(target)
        with changing:
            self._move(target)
        self.weights_changed()
        return self

    def check_on(self, device: str) -> None:
        """Raise a NotImplementedError if the layer cannot be on that device."""
        if device != "cpu" and not self.supports_cuda:
            raise NotImplementedError(
                f"{self.name}: got the device {device!r}, but a {type(self).__name__} runs on the "
                "CPU alone"
            )

    def _move(self, device: str) -> None:
        self._weights = {name: put(w, device) for name, w in self._weights.items()}
        self._device = device

    # ---- weights ----

    def _add_weight(self, name: str, value: Array) -> None:
        # Made on the CPU for any device, so that a seed gives the same weights.
        self._weights[name] = put(np.ascontiguousarray(value, self._dtype), self._device)

    def weights_changed(self) -> None:
        """Drop whatever was derived from the weights: they were changed in place."""

    @property
    def weights(self) -> list[Array]:
        """The weights themselves, in order; on a device copies. Change them with `set_weights`."""
        return [_read_only(w) for w in self._weights.values()]

    @property
    def trainable_weights(self) -> list[Array]:
        """The weights that training changes, writable: for optimizers."""
        return list(self._weights.values()) if self.trainable else []

    @property
    def weight_names(self) -> list[str]:
        """The names of the weights, in order."""
        return list(self._weights)

    def get_weights(self) -> list[Array]:
        """Return copies of the weights, in order: NumPy's, wherever the layer is."""
        return [to_host(w) if is_on_device(w) else w.copy() for w in self._weights.values()]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Copy `weights` in, in order: NumPy's, or where the layer is on a device those there too.

        Raises
        ------
        ValueError
            If their number or shapes differ from the layer's, or it is not built; nothing is
            changed then.
        """
        values = self.check_weights(weights)
        for own, value in zip(self._weights.values(), values, strict=True):
            own[...] = put(value, self._device)
        self.weights_changed()

    def check_weights(self, weights: Sequence[ArrayLike]) -> list[Array]:
        """Return `weights` as arrays of the layer's dtype, or raise as `set_weights` does."""
        if not self.built:
            raise ValueError(f"{self.name}: set_weights before the layer is built; build it first")
        if len(weights) != len(self._weights):
            raise ValueError(
                f"weights: got {len(weights)} arrays for {self.name}, expected "
                f"{len(self._weights)} ({', '.join(self._weights)})"
            )
        values = []
        for (name, own), given in zip(self._weights.items(), weights, strict=True):
            device = self._device if is_on_device(given) else "cpu"
            value = as_numbers(given, f"{self.name}/{name}", self._dtype, device)
            if value.shape != own.shape:
                raise ValueError(
                    f"{self.name}/{name}: got shape {value.shape}, expected {own.shape}"
                )
            values.append(value)
        return values

    def count_params(self) -> int:
        """Return the number of weights."""
        return sum(w.size for w in self._weights.values())

    # ---- configuration ----

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one, without its weights."""
        config: dict[str, Any] = {
            "name": self.name,
            "dtype": self.dtype,
            "trainable": self.trainable,
        }
        if self.input_shape is not None:
            config["input_shape"] = list(self.input_shape[1:])
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        """Make a layer from what `get_config` returned."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}{'' if self.built else ', not built'}>"


class Weight:
    """A weight as an attribute of its layer: a read-only view to read, copied in when set.

    None in a layer that was built without it.
    """

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, owner: type[Layer], name: str) -> None:
        self._name = name

    def __get__(self, layer: Layer | None, owner: type[Layer] | None = None) -> Any:
        if layer is None:
            return self
        if not layer.built:
            raise AttributeError(f"{layer.name} has no {self._name} before it is built")
        weight = layer._weights.get(self._name)
        return None if weight is None else _read_only(weight)

    def __set__(self, layer: Layer, value: ArrayLike) -> None:
        weights = layer._weights
        if layer.built and self._name not in weights:
            raise ValueError(f"{self._name}: {layer.name} has none; it has {', '.join(weights)}")
        layer.set_weights([value if name == self._name else w for name, w in weights.items()])


def check_size(value: Any, name: str) -> int:
    """Return `value` as a positive int that can be a size, or raise naming it."""
    try:
        size = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: got {value!r}, expected a positive integer") from None
    if isinstance(value, bool) or not 0 < size < 2**31:
        raise ValueError(f"{name}: got {value!r}, expected a positive integer below 2**31")
    return size


def check_shape(shape: Any, name: str = "input_shape") -> Shape:
    """Return `shape` as a tuple of sizes, None where it varies, or raise naming it."""
    if isinstance(shape, (str, bytes)) or not hasattr(shape, "__iter__"):
        raise TypeError(f"{name}: got {shape!r}, expected a tuple of sizes, as in (5, 10)")
    # An axis may be empty: of sequences without a step there are outputs as well.
    return tuple(size if size is None or size == 0 else check_size(size, name) for size in shape)


def check_rate(value: Any, name: str) -> float:
    """Return `value` as a float in [0, 1], or raise naming it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name}: got {value!r}, expected a number")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: got {value}, expected 0 to 1")
    return float(value)


def last_axis(
    input_shape: Shape, rank: int | None, layer: str, built_for: int | None = None
) -> int:
    """Return the number of features of an input shape.

    Raises
    ------
    ValueError
        If the rank is another than `rank`, or the number is not known, zero, or another than
        `built_for`; the message names `layer`.
    """
    if rank is not None and len(input_shape) != rank:
        raise ValueError(f"{layer}: got an input of shape {input_shape}, expected {rank} axes")
    if len(input_shape) < 2 or input_shape[-1] is None or input_shape[-1] == 0:
        raise ValueError(
            f"{layer}: got an input of shape {input_shape}, expected a last axis of known size"
        )
    if built_for is not None and input_shape[-1] != built_for:
        raise ValueError(
            f"{layer}: got an input of shape {input_shape}, expected {built_for} features, for "
            "which it was built"
        )
    return input_shape[-1]


def unique_name(base: str) -> str:
    """Return `base` for the first that asks, then base_1 and so on."""
    count = _names[base]
    _names[base] += 1
    return f"{base}_{count}" if count else base


def _check_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        result = np.dtype("float32" if dtype is None else dtype)
        if result.name in ("float32", "float64"):
            return result.newbyteorder("=")
    except (TypeError, ValueError, SyntaxError):  # NumPy evaluates some strings
        pass
    raise ValueError(f"dtype: got {dtype!r}, expected 'float32' or 'float64'")


def _read_only(array: Array) -> Array:
    if is_on_device(array):
        return array.copy()  # there is no read-only array there
    view = array.view()
    view.flags.writeable = False
    return view
