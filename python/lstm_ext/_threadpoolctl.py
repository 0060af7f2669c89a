"""Our threads among those that the package threadpoolctl shows and limits.

threadpoolctl looks through the libraries that the process has loaded for those that it has been
told of. Telling it needs it imported, which costs every user time and few need; so it is told when
somebody else imports it, before or after us.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from . import _cpu

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["register_when_imported"]

_NAME = "threadpoolctl"
_MAX_THREADS = 4096


def register_when_imported() -> None:
    """Tell threadpoolctl of this library: now if it is imported, else once it is."""
    if _NAME in sys.modules:
        _register(sys.modules[_NAME])
    else:
        sys.meta_path.insert(0, _Finder())


def _register(threadpoolctl: ModuleType) -> None:
    if not hasattr(threadpoolctl, "register"):
        return  # versions before 3.2 know their own libraries only
    from threadpoolctl import LibController

    class Controller(LibController):  # type: ignore[misc]
        user_api = "lstm_ext"
        internal_api = "lstm_ext"
        filename_prefixes = ("_cpu",)
        # Other packages may have a _cpu of their own, but not this symbol.
        check_symbols = ("lstm_ext_get_num_threads",)

        def get_version(self) -> str:
            return _cpu.__version__

        def set_additional_attributes(self) -> None:
            self.architecture: str | None = None
            # LSTM_EXT_ISA may name none that runs: our calls will say so.
            with suppress(ValueError):
                self.architecture = _cpu.chosen_isa()

        def get_num_threads(self) -> int:
            return int(self.dynlib.lstm_ext_get_num_threads())

        def set_num_threads(self, num_threads: int) -> None:
            self.dynlib.lstm_ext_limit_num_threads(min(max(num_threads, 1), _MAX_THREADS))

    threadpoolctl.register(Controller)


class _Finder:
    """Finds nothing itself; has threadpoolctl registered with as soon as its module has run."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _NAME:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _register(module)
            sys.meta_path.remove(self)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
