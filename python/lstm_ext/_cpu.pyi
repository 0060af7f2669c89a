from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[Any]

__version__: Final[str]
compiler: Final[str]
pybind11_version: Final[str]
max_spin_time: Final[int]

class CellOptions:
    def __init__(
        self,
        recurrent: tuple[str, float, float],
        candidate: tuple[str, float, float],
        output: tuple[str, float, float],
        clip: float,
        cell_clip: float,
        input_forget: bool,
        zoneout: float,
        cell_zoneout: float,
    ) -> None: ...

class CallOptions:
    def __init__(
        self,
        *,
        lengths: _Array | None = None,
        mask: _Array | None = None,
        reset: _Array | None = None,
        repeats_output: bool = True,
        noise_h: _Array | None = None,
        zoneout: _Array | None = None,
        cell_zoneout: _Array | None = None,
        hidden: _Array | None = None,
        normed: _Array | None = None,
        activated: bool = False,
    ) -> None: ...

class WeightsSource:
    def __init__(
        self,
        kernel: _Array,
        recurrent_kernel: _Array,
        bias: _Array | None,
        peephole: _Array | None,
        projection_kernel: _Array | None,
        layer_norm: tuple[_Array, _Array, _Array, _Array] | None,
        cell: CellOptions,
        isa: str,
        weights_dtype: str,
    ) -> None: ...
    def pack(self, single_step: bool = False) -> PackedWeights: ...

class PackedWeights:
    @property
    def input_size(self) -> int: ...
    @property
    def units(self) -> int: ...
    @property
    def output_size(self) -> int: ...
    @property
    def has_peephole(self) -> bool: ...
    @property
    def has_projection(self) -> bool: ...
    @property
    def has_layer_norm(self) -> bool: ...
    @property
    def has_bias(self) -> bool: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def weights_dtype(self) -> str: ...
    @property
    def isa(self) -> str: ...

class Stream:
    def __init__(self, weights: PackedWeights, batch_size: int) -> None: ...
    def step(self, x: _Array, out: _Array | None = None) -> _Array: ...
    def reset(self, rows: NDArray[np.int64] | None = None) -> None: ...
    def state(self) -> tuple[_Array, _Array]: ...
    def set_state(self, h: _Array, c: _Array) -> None: ...

class ForwardArrays:
    def __init__(
        self,
        x: _Array,
        h0: _Array | None,
        c0: _Array | None,
        go_backwards: bool,
        output: _Array | None,
        h: _Array,
        c: _Array,
        gates: _Array | None,
        cells: _Array | None,
        options: CallOptions | None,
    ) -> None: ...

class BackwardArrays:
    def __init__(
        self,
        x: _Array,
        h0: _Array | None,
        c0: _Array | None,
        go_backwards: bool,
        output: _Array,
        gates: _Array,
        cells: _Array,
        d_output: _Array | None,
        d_h: _Array | None,
        d_c: _Array | None,
        d_gates: _Array,
        d_x: _Array | None,
        d_kernel: _Array,
        d_recurrent_kernel: _Array,
        d_bias: _Array | None,
        d_h0: _Array | None,
        d_c0: _Array | None,
        d_peephole: _Array | None = None,
        d_projection_kernel: _Array | None = None,
        d_norm: _Array | None = None,
        options: CallOptions | None = None,
        adds_to_d_x: bool = False,
    ) -> None: ...

def lstm_forward(
    weights: PackedWeights,
    x: _Array,
    h0: _Array | None,
    c0: _Array | None,
    go_backwards: bool,
    output: _Array | None,
    h: _Array,
    c: _Array,
    gates: _Array | None,
    cells: _Array | None,
    options: CallOptions | None,
    num_threads: int,
) -> None: ...
def lstm_plain(
    weights: PackedWeights,
    x: _Array,
    h0: _Array | None,
    c0: _Array | None,
    go_backwards: bool,
    return_sequences: bool,
) -> tuple[_Array, _Array, _Array] | None: ...
def lstm_plain_layers(
    weights: Sequence[PackedWeights],
    x: _Array,
    states: Sequence[tuple[_Array, _Array] | None] | None,
    go_backwards: bool,
    return_sequences: bool,
    lengths: object,
    mask: _Array | None,
    reset: _Array | None,
    zero_output: bool,
) -> tuple[_Array, list[tuple[_Array, _Array]]] | None: ...
def lstm_plain_directions(
    weights: Sequence[PackedWeights],
    x: _Array,
    states: Sequence[tuple[_Array, _Array] | None] | None,
    return_sequences: bool,
    lengths: object,
    mask: _Array | None,
    reset: _Array | None,
    zero_output: bool,
) -> tuple[_Array, list[tuple[_Array, _Array]]] | None: ...

class PlainPass:
    def pull_back(
        self, d_output: object, need_x: bool
    ) -> tuple[_Array | None, list[list[_Array]]] | None: ...

def lstm_vjp_plain(
    weights: PackedWeights,
    x: _Array,
    go_backwards: bool,
    return_sequences: bool,
    h0: _Array | None = None,
    c0: _Array | None = None,
    lengths: object = None,
    mask: _Array | None = None,
    reset: _Array | None = None,
    zero_output: bool = False,
) -> tuple[_Array, _Array, _Array, PlainPass] | None: ...
def lstm_vjp_plain_directions(
    forward: PackedWeights,
    backward: PackedWeights,
    x: _Array,
    states: Sequence[tuple[_Array | None, _Array | None]],
    return_sequences: bool,
    lengths: object,
    mask: _Array | None,
    reset: _Array | None,
    zero_output: bool,
) -> tuple[_Array, list[tuple[_Array, _Array]], PlainPass] | None: ...
def lstm_forward_all(
    calls: list[tuple[PackedWeights, ForwardArrays]], chained: bool, num_threads: int
) -> None: ...
def lstm_backward(
    weights: PackedWeights,
    x: _Array,
    h0: _Array | None,
    c0: _Array | None,
    go_backwards: bool,
    output: _Array,
    gates: _Array,
    cells: _Array,
    d_output: _Array | None,
    d_h: _Array | None,
    d_c: _Array | None,
    d_gates: _Array,
    d_x: _Array | None,
    d_kernel: _Array,
    d_recurrent_kernel: _Array,
    d_bias: _Array | None,
    d_h0: _Array | None,
    d_c0: _Array | None,
    d_peephole: _Array | None,
    d_projection_kernel: _Array | None,
    d_norm: _Array | None,
    options: CallOptions | None,
    adds_to_d_x: bool,
    num_threads: int,
) -> None: ...
def lstm_backward_all(
    calls: list[tuple[PackedWeights, BackwardArrays]], num_threads: int
) -> None: ...
def matmul(
    a: _Array, b: _Array, bias: _Array | None, num_threads: int, out: _Array | None = None
) -> _Array: ...
def matmul_vjp(
    a: _Array, b: _Array, d_out: _Array, need_a: bool, has_bias: bool, num_threads: int
) -> tuple[_Array | None, _Array, _Array | None]: ...
def mean_squared_error(y_true: object, y_pred: object) -> tuple[float, _Array] | None: ...
def adam_update(
    params: list[_Array],
    grads: list[_Array],
    m: list[_Array],
    v: list[_Array],
    *,
    step_size: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    decay: float = 0.0,
) -> None: ...
def activate(name: str, x: _Array, out: _Array, isa: str = "") -> None: ...
def built_isas() -> list[str]: ...
def available_isas() -> list[str]: ...
def chosen_isa() -> str: ...
def num_threads() -> int: ...
def num_threads_source() -> str: ...
def set_num_threads(num_threads: int) -> None: ...
def spin_time() -> int: ...
def set_spin_time(microseconds: int) -> None: ...
def measure_fma_rate(seconds: float) -> float: ...
def measure_read_bandwidth(bytes: int, seconds: float) -> float: ...
