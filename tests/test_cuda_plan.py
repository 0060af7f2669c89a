"""The chooser of the CUDA kernels, and what their bindings refuse; neither needs a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cuda_support import A100, H200, check_guards, emulation, to_device
from lstm_ext.functional._packing import cell_arguments
from lstm_ext.variants import Cell

UNITS = [1, 2, 20, 63, 64, 65, 127, 128, 200, 256, 257, 511, 512, 768, 1000, 1024, 1500, 2048, 4096]
BATCHES = [0, 1, 2, 3, 16, 17, 64, 65, 500, 5000]
B, T, H = 2, 3, 4


@pytest.fixture(scope="module")
def native() -> Any:
    return emulation()


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("chip", [H200, A100], ids=["H200", "A100"])
def test_every_plan_fits(chip: dict[str, int], dtype: str, direction: str, native: Any) -> None:
    chosen = set()
    for units in UNITS:
        for batch in BATCHES:
            plan = native.plan(dtype, direction, batch, units, device=chip).describe()
            chosen.add(plan["algorithm"])
            if plan["algorithm"] == "steps":
                continue
            rows, groups, blocks = plan["rows"], plan["groups"], plan["blocks"]
            assert plan["units"] * blocks >= units and plan["threads"] % 32 == 0
            assert plan["threads"] <= 512 and plan["shared_bytes"] <= chip["shared_bytes"]
            assert rows * plan["rounds"] * groups * plan["launches"] >= batch
            if plan["algorithm"] == "grid":
                assert groups * blocks <= chip["processors"]  # or it could not run at once
            else:
                assert blocks <= chip["largest_cluster"] and plan["launches"] == 1
            if dtype == "bfloat16":
                assert plan["units"] % 2 == 0
    expected = {"steps"} if dtype == "float64" else {"steps", "grid", "cluster"}
    assert chosen == expected


@pytest.mark.parametrize(
    ("dtype", "batch", "units", "algorithm", "blocks"),
    [
        ("float32", 64, 64, "cluster", 2),
        ("float32", 8, 256, "cluster", 16),
        ("bfloat16", 64, 128, "cluster", 8),
        ("float32", 1, 1024, "grid", 128),
        ("bfloat16", 128, 1024, "grid", 32),
        ("float32", 512, 1024, "steps", 0),
        ("float32", 64, 2048, "steps", 0),
        ("float64", 1, 64, "steps", 0),
    ],
)
def test_what_an_h200_runs(
    dtype: str, batch: int, units: int, algorithm: str, blocks: int, native: Any
) -> None:
    plan = native.plan(dtype, "forward", batch, units, device=H200).describe()
    assert (plan["algorithm"], plan["blocks"]) == (algorithm, blocks)
    varied = native.plan(dtype, "forward", batch, units, device=H200, variant=True)
    assert varied.algorithm == "steps"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("float16", "forward", 1, 4), "dtype: got 'float16', expected one of float32, float64"),
        (("float32", "sideways", 1, 4), "direction: got 'sideways', expected one of forward"),
        (("float32", "forward", 1, 4, "best"), "algorithm: got 'best', expected one of auto"),
        (("float32", "forward", 1, 0), "units: expected at least 1"),
        (("float64", "forward", 1, 4, "cluster"), "algorithm: got cluster, expected steps for fl"),
        (("float32", "forward", 1, 3000, "grid"), "algorithm: got grid with 3000 units"),
    ],
)
def test_impossible_plans(arguments: tuple[Any, ...], message: str, native: Any) -> None:
    with pytest.raises(ValueError, match=message):
        native.plan(*arguments, device=H200)


def test_variants_have_one_algorithm(native: Any) -> None:
    for algorithm in ("cluster", "grid"):
        with pytest.raises(ValueError, match=f"{algorithm}, expected steps for a variant of the"):
            native.plan("float32", "forward", 1, 4, algorithm, variant=True)
    # Of a device that is asked again: the answer for the plain cell is not that for another.
    plans = [native.plan("float32", "forward", 1, 64, variant=v) for v in (False, True, False)]
    assert [plan.algorithm for plan in plans] == ["cluster", "steps", "cluster"]


def forward_arguments(native: Any) -> dict[str, Any]:
    def zeros(*shape: int) -> Any:
        return to_device(np.zeros(shape, np.float32))

    return {
        "plan": native.plan("float32", "forward", B, H, "grid", 2),
        "projected": zeros(T, B, 4 * H),
        "recurrent_kernel": zeros(H, 4 * H),
        "bias": zeros(4 * H),
        "h0": zeros(B, H),
        "c0": zeros(B, H),
        "flags": to_device(np.zeros((T, B), np.uint8)),
        "h_factors": zeros(B, H),
        "variant": None,
        "projection": None,
        "made": None,
        "hidden": zeros(T + 1, B, H),
        "output": zeros(T, B, H),
        "h": zeros(B, H),
        "c": zeros(B, H),
        "gates": zeros(T, B, 4 * H),
        "cells": zeros(T, B, H),
        "activated": False,
        "scratch": to_device(np.zeros(4096, np.uint64)),
        "stream": 0,
        "timeout_ns": 10**9,
    }


class Unwritable:
    def __init__(self, array: Any) -> None:
        interface = array.__cuda_array_interface__
        self.array = array
        self.__cuda_array_interface__ = {**interface, "data": (interface["data"][0], True)}


def shifted(array: Any) -> Any:
    """An array that does not begin at a whole element."""
    memory = to_device(np.zeros(array.nbytes + 8, np.uint8))
    holder = Unwritable(memory)
    holder.__cuda_array_interface__ = {
        **array.__cuda_array_interface__, "data": (memory.ctypes.data + 2, False)
    }  # fmt: skip
    return holder


REFUSED: list[tuple[str, Any, str]] = [
    ("projected", np.asarray, "projected: expected an array in device memory"),
    ("projected", lambda a: None, "projected: expected an array in device memory"),
    ("projected", lambda a: a.astype("f8"), "projected: expected elements of float32"),
    ("projected", lambda a: a[:, :1], "projected: expected axis 1 of size 2"),
    ("projected", lambda a: a[0], "projected: expected 3 dimensions"),
    ("projected", lambda a: a[:, :, ::-1], "projected: expected a contiguous array"),
    ("recurrent_kernel", lambda a: a[:, :8], "recurrent_kernel: expected axis 1 of size 16"),
    ("bias", lambda a: a[:4], "bias: expected axis 0 of size 16"),
    ("c0", lambda a: a.T.copy().T, "c0: expected axis 0 of size 2|c0: expected a contiguous array"),
    ("hidden", lambda a: a[1:], "hidden: expected axis 0 of size 4"),
    ("hidden", Unwritable, "hidden: expected an array that can be written"),
    ("c", shifted, "c: expected aligned elements"),
    ("flags", lambda a: a.view(bool), "flags: expected elements of uint8"),
    ("h_factors", lambda a: a[:1], "h_factors: expected axis 0 of size 2"),
    ("output", lambda a: None, "output: expected it beside flags or h_factors only"),
    ("gates", lambda a: None, "cells: expected both gates and cells"),
    ("scratch", lambda a: a[:1], "scratch: expected uint64 of"),
    ("scratch", lambda a: a.view(np.uint8), "scratch: expected uint64 of"),
]


@pytest.mark.parametrize(("name", "change", "message"), REFUSED)
def test_the_bindings_refuse_wrong_arrays(
    name: str, change: Any, message: str, native: Any
) -> None:
    arguments = forward_arguments(native)
    native.forward(**arguments)
    arguments[name] = change(arguments[name])
    launches = native.launches()
    with pytest.raises(ValueError, match=message):
        native.forward(**arguments)
    assert native.launches() == launches
    check_guards()


def test_the_bindings_refuse_memory_of_another_device(native: Any) -> None:
    arguments = forward_arguments(native)
    native.emulate_elsewhere([arguments["recurrent_kernel"].ctypes.data])
    with pytest.raises(ValueError, match="recurrent_kernel: expected memory of the current device"):
        native.forward(**arguments)
    native.emulate_elsewhere([])


def test_a_plan_is_for_one_kind_of_cell(native: Any) -> None:
    arguments = forward_arguments(native)
    arguments["variant"] = native.Variant(*cell_arguments(Cell(clip=1.0)), None, None, None)
    with pytest.raises(ValueError, match="plan: expected one for a variant of the cell"):
        native.forward(**arguments)
    arguments["plan"] = native.plan("float32", "forward", B, H, variant=True)
    native.forward(**arguments)
    arguments["variant"] = None
    with pytest.raises(ValueError, match="variant: expected one, for which the plan is"):
        native.forward(**arguments)


def backward_arguments(native: Any, **changed: Any) -> dict[str, Any]:
    """Of a call with peepholes and zoneout, as drawn."""

    def zeros(*shape: int) -> Any:
        return to_device(np.zeros(shape, np.float32))

    arrays = {
        "peephole": zeros(3 * H),
        "zoneout_places": to_device(np.zeros((B, T, H), np.uint8)),
        "cell_zoneout_places": to_device(np.zeros((B, T, H), np.uint8)),
    }
    own = [changed.pop(name, array) for name, array in arrays.items()]
    arguments = {
        "plan": native.plan("float32", "backward", B, H, variant=True),
        "recurrent_kernel": zeros(H, 4 * H),
        "variant": native.Variant(*cell_arguments(Cell()), *own),
        "carry": zeros(B, H),
        "gates": zeros(T, B, 4 * H),
        "cells": zeros(T, B, H),
        "d_output": zeros(B, T, H),
        "d_gates": zeros(T, B, 4 * H),
        "d_h0": zeros(B, H),
        "d_c0": zeros(B, H),
        "d_peephole": zeros(3 * H),
        "stream": 0,
        "timeout_ns": 10**9,
    }
    for name in ("c0", "flags", "h_factors", "projection", "d_projected", "d_h", "d_c", "scratch"):
        arguments[name] = None
    return arguments | changed


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("peephole", np.zeros(2 * H, np.float32), "peephole: expected axis 0 of size 12"),
        ("peephole", None, "d_peephole: expected both peephole and d_peephole"),
        ("d_peephole", None, "d_peephole: expected both peephole and d_peephole"),
        ("zoneout_places", np.zeros((B, T, H), bool), "zoneout_places: expected elements of uint8"),
        ("zoneout_places", np.zeros((T, B, H), np.uint8), "zoneout_places: expected axis 0 of s"),
        ("zoneout_places", None, "carry: expected it beside flags or zoneout only"),
        ("cell_zoneout_places", np.zeros((B, T), np.uint8), "cell_zoneout_places: expected 3 dim"),
        ("carry", None, "carry: expected it beside flags or zoneout only"),
    ],
)
def test_the_bindings_refuse_wrong_arrays_of_a_variant(
    name: str, value: Any, message: str, native: Any
) -> None:
    native.backward(**backward_arguments(native))
    launches = native.launches()
    given = None if value is None else to_device(value)
    with pytest.raises(ValueError, match=message):
        native.backward(**backward_arguments(native, **{name: given}))
    assert native.launches() == launches
    check_guards()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("projection", np.zeros((3, H), np.float32), "projection: expected axis 0 of size 4"),
        ("made", None, "made: expected an array in device memory"),
        ("made", np.zeros((1, B, H), np.float32), "made: expected axis 0 of size 3"),
        ("recurrent_kernel", np.zeros((2, 4 * H), np.float32), "h0: expected axis 1 of size 2"),
        ("variant", None, "variant: expected one beside a projection"),
    ],
)
def test_the_bindings_refuse_a_wrong_projection(
    name: str, value: Any, message: str, native: Any
) -> None:
    arguments = forward_arguments(native) | {
        "plan": native.plan("float32", "forward", B, H, variant=True),
        "variant": native.Variant(*cell_arguments(Cell()), None, None, None),
        "projection": to_device(np.zeros((H, H), np.float32)),
        "made": to_device(np.zeros((T, B, H), np.float32)),
    }
    native.forward(**arguments)
    arguments[name] = None if value is None else to_device(value)
    launches = native.launches()
    with pytest.raises(ValueError, match=message):
        native.forward(**arguments)
    assert native.launches() == launches
    check_guards()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("projection", np.zeros((H, 3), np.float32), "projection: expected axis 1 of size 4"),
        ("d_projected", None, "d_projected: expected an array in device memory"),
        ("d_projected", np.zeros((T, B, 3), np.float32), "d_projected: expected axis 2 of size 4"),
        ("recurrent_kernel", np.zeros((2, 4 * H), np.float32), "d_output: expected axis 2 of size"),
    ],
)
def test_the_bindings_refuse_a_wrong_projection_on_the_way_back(
    name: str, value: Any, message: str, native: Any
) -> None:
    arguments = backward_arguments(
        native,
        projection=to_device(np.zeros((H, H), np.float32)),
        d_projected=to_device(np.zeros((T, B, H), np.float32)),
    )
    native.backward(**arguments)
    arguments[name] = None if value is None else to_device(value)
    launches = native.launches()
    with pytest.raises(ValueError, match=message):
        native.backward(**arguments)
    assert native.launches() == launches
    check_guards()


def test_a_plan_is_for_one_direction(native: Any) -> None:
    arguments = forward_arguments(native)
    arguments["plan"] = native.plan("float32", "backward", B, H)
    with pytest.raises(ValueError, match="plan: expected one for this direction"):
        native.forward(**arguments)


def test_the_installed_module_plans_alike(native: Any) -> None:
    """The module that nvcc built, where it is there."""
    reason = "lstm_ext was built without CUDA"
    installed = pytest.importorskip("lstm_ext._cuda", reason=reason)
    count, why = installed.device_count()
    assert (count == 0) == bool(why)
    for units in UNITS:
        arguments = ("bfloat16", "backward", 7, units)
        plans = [module.plan(*arguments, device=H200) for module in (native, installed)]
        assert plans[0].describe() == plans[1].describe()
        assert plans[0].scratch_bytes == plans[1].scratch_bytes
