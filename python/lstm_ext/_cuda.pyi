from typing import Any

_DeviceArray = Any  # anything with __cuda_array_interface__

class Plan:
    @property
    def algorithm(self) -> str: ...
    @property
    def scratch_bytes(self) -> int: ...
    def describe(self) -> dict[str, Any]: ...

class Variant:
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
        peephole: _DeviceArray | None,
        zoneout_places: _DeviceArray | None,
        cell_zoneout_places: _DeviceArray | None,
    ) -> None: ...

def plan(
    dtype: str,
    direction: str,
    batch_size: int,
    units: int,
    algorithm: str = "auto",
    blocks: int = 0,
    rows: int = 0,
    device: dict[str, Any] | None = None,
    variant: bool = False,
) -> Plan: ...
def device_count() -> tuple[int, str]: ...
def chip(device: int) -> dict[str, Any]: ...
def take_timeout() -> bool: ...
def forward(
    plan: Plan,
    projected: _DeviceArray,
    recurrent_kernel: _DeviceArray,
    bias: _DeviceArray | None,
    h0: _DeviceArray | None,
    c0: _DeviceArray | None,
    flags: _DeviceArray | None,
    h_factors: _DeviceArray | None,
    variant: Variant | None,
    projection: _DeviceArray | None,
    hidden: _DeviceArray,
    output: _DeviceArray | None,
    h: _DeviceArray,
    c: _DeviceArray,
    made: _DeviceArray | None,
    gates: _DeviceArray | None,
    cells: _DeviceArray | None,
    activated: bool,
    scratch: _DeviceArray | None,
    stream: int,
    timeout_ns: int,
) -> None: ...
def multiply(
    dtype: str, a: _DeviceArray, b: _DeviceArray, out: _DeviceArray, stream: int
) -> None: ...
def add_rows(
    dtype: str,
    numbers: _DeviceArray,
    order: _DeviceArray,
    d: _DeviceArray,
    out: _DeviceArray,
    stream: int,
) -> None: ...
def backward(
    plan: Plan,
    recurrent_kernel: _DeviceArray,
    c0: _DeviceArray | None,
    flags: _DeviceArray | None,
    h_factors: _DeviceArray | None,
    variant: Variant | None,
    projection: _DeviceArray | None,
    carry: _DeviceArray | None,
    gates: _DeviceArray,
    cells: _DeviceArray,
    d_output: _DeviceArray | None,
    d_h: _DeviceArray | None,
    d_c: _DeviceArray | None,
    d_gates: _DeviceArray,
    d_h0: _DeviceArray,
    d_c0: _DeviceArray,
    d_projected: _DeviceArray | None,
    d_peephole: _DeviceArray | None,
    scratch: _DeviceArray | None,
    stream: int,
    timeout_ns: int,
) -> None: ...
