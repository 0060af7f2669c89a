"""What the harness asks of everything that it times."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import NDArray

from ..cases import Case

__all__ = ["Peer", "Unsupported"]

Array = NDArray[Any]


class Unsupported(Exception):
    """A peer cannot do a case; the message says why."""


class Peer:
    """One way to run a case, made ready by the constructor; timed by `run`.

    Parameters
    ----------
    case : Case
        Its threads are to be used, as far as the framework lets them be set.

    Raises
    ------
    Unsupported
        If this peer cannot do the case.
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    modes: ClassVar[tuple[str, ...]] = ("forward", "stream")
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    weights_dtypes: ClassVar[tuple[str | None, ...]] = (None,)  # None: stored as they are
    features: ClassVar[tuple[str, ...]] = ()  # what it has of what a variant may need

    def __init__(self, case: Case) -> None:
        if case.mode not in self.modes:
            raise Unsupported(f"no {case.mode}")
        if case.dtype not in self.dtypes:
            raise Unsupported(f"no {case.dtype}")
        if case.weights_dtype not in self.weights_dtypes:
            raise Unsupported(f"no weights of {case.weights_dtype or case.dtype}")
        if lacks := [need for need in case.variant.needs if need not in self.features]:
            raise Unsupported(f"no {', no '.join(lacks)}")
        self.case = case

    @classmethod
    def suits(cls, case: Case) -> bool:
        """Return whether to try it where no peers are named."""
        return case.weights_dtype in cls.weights_dtypes

    def run(self) -> Any:
        """Do the work once and leave nothing pending."""
        raise NotImplementedError

    def results(self) -> tuple[Array, Array | None]:
        """Do it once and return the output and, in training, a gradient, as `Case.check` does."""
        raise NotImplementedError
