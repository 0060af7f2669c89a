"""What this build and this machine offer: instruction sets, threads, CUDA."""

from __future__ import annotations

import operator

from . import _cpu

__all__ = [
    "available_isas",
    "cuda_available",
    "get_num_threads",
    "set_num_threads",
    "show_config",
]


class Availability:
    """Whether something can be used, and why not: false with its reason at hand."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def __bool__(self) -> bool:
        return not self.reason

    def __repr__(self) -> str:
        return "available" if self else f"not available: {self.reason}"


def available_isas() -> list[str]:
    """Return the instruction sets that this processor runs, best first."""
    return _cpu.available_isas()


def cuda_available() -> Availability:
    """Return whether CUDA can be used; false values carry a `reason`.

    It needs the module of kernels, which is built where nvcc is found, a driver, a device and CuPy.
    """
    from .cuda.availability import available  # which needs this module

    return available()


def get_num_threads() -> int:
    """Return the most threads that a call uses unless told otherwise.

    That is the limit that `threadpoolctl.threadpool_limits` holds at the moment, else the last
    `set_num_threads`, else the environment variable LSTM_EXT_NUM_THREADS, else OMP_NUM_THREADS,
    else the number of processors that the calling thread may run on now.
    """
    return _cpu.num_threads()


def set_num_threads(num_threads: int) -> None:
    """Set the most threads that a call uses, for the whole process.

    Raises
    ------
    TypeError
        If `num_threads` is not an integer.
    ValueError
        If it is not in 1 to 4096.
    """
    try:
        count = operator.index(num_threads)
    except TypeError:
        raise TypeError(f"num_threads: got {num_threads!r}, expected an integer") from None
    if not 1 <= count <= 4096:
        raise ValueError(f"num_threads: got {count}, expected 1 to 4096")
    _cpu.set_num_threads(count)


def show_config() -> None:
    """Print the version, the compiler, the instruction sets, the threads and CUDA."""
    print(f"lstm_ext {_cpu.__version__}, built with {_cpu.compiler}")
    print(f"instruction sets: {', '.join(available_isas())}; chosen: {_cpu.chosen_isa()}")
    print(f"threads: {get_num_threads()} (from {_cpu.num_threads_source()})")
    print(f"CUDA: {cuda_available()!r}")
