"""What this build and this machine offer: instruction sets, threads, CUDA."""

from __future__ import annotations

import operator

from . import _cpu

__all__ = [
    "available_isas",
    "cuda_available",
    "get_num_threads",
    "get_spin_time",
    "set_num_threads",
    "set_spin_time",
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
    _cpu.set_num_threads(_integer("num_threads", num_threads, 1, 4096))


def get_spin_time() -> int:
    """Return for how many microseconds workers wait actively for a call to follow.

    That is the last `set_spin_time`, else the environment variable LSTM_EXT_SPIN_TIME, else 0.
    """
    return _cpu.spin_time()


def set_spin_time(microseconds: int) -> None:
    """Let workers wait actively for a while after each call, for the whole process.

    Workers sleep between calls, and to wake one takes longer than a short call. In a loop that
    cannot wait for that, they may stay awake until the next call comes, or so long at most. Each
    keeps a processor busy meanwhile. Results do not change.

    Parameters
    ----------
    microseconds : int
        0, as at first, lets them sleep at once.

    Raises
    ------
    TypeError
        If `microseconds` is not an integer.
    ValueError
        If it is not in 0 to 10 million.
    """
    _cpu.set_spin_time(_integer("microseconds", microseconds, 0, _cpu.max_spin_time))


def _integer(name: str, value: int, least: int, most: int) -> int:
    try:
        integer = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: got {value!r}, expected an integer") from None
    if not least <= integer <= most:
        raise ValueError(f"{name}: got {integer}, expected {least} to {most}")
    return integer


def show_config() -> None:
    """Print the version, the compiler, the instruction sets, the threads and CUDA."""
    print(f"lstm_ext {_cpu.__version__}, built with {_cpu.compiler}")
    print(f"instruction sets: {', '.join(available_isas())}; chosen: {_cpu.chosen_isa()}")
    print(f"threads: {get_num_threads()} (from {_cpu.num_threads_source()})")
    print(f"workers spin after a call: {get_spin_time()} us")
    print(f"CUDA: {cuda_available()!r}")
