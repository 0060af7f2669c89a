"""Objects by name: how "adam", {"class_name": ..., "config": ...} or an instance is understood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def resolve(identifier: Any, base: type[T], known: Mapping[str, type[T]], argument: str) -> T:
    """Return the object that `identifier` stands for.

    `identifier` is an instance of `base`, a subclass of it, a name in `known`, or a dict with
    ``class_name`` and ``config``, as `serialize` makes it.

    Raises
    ------
    ValueError
        If the name is unknown; the message lists the known ones.
    TypeError
        If `identifier` is of another type.
    """
    if isinstance(identifier, base):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, base):
        return identifier()
    if isinstance(identifier, str):
        return _named(identifier, known, argument)()
    if isinstance(identifier, dict) and isinstance(identifier.get("class_name"), str):
        config = identifier.get("config", {})
        if not isinstance(config, dict):
            raise TypeError(f"{argument}: got a config of {type(config).__name__}, expected a dict")
        return _named(identifier["class_name"], known, argument)(**config)
    raise TypeError(
        f"{argument}: got {identifier!r}, expected a name, a {base.__name__} or its config"
    )


def _named(name: str, known: Mapping[str, type[T]], argument: str) -> type[T]:
    found = known.get(name) or known.get(name.lower())
    if found is None:
        raise ValueError(f"{argument}: got {name!r}, expected one of {', '.join(sorted(known))}")
    return found


def serialize(value: Any) -> dict[str, Any]:
    """Return the dict from which `resolve` makes an equal object."""
    return {"class_name": type(value).__name__, "config": value.get_config()}


def snake_case(name: str) -> str:
    """Return ClassName as class_name, by Keras's rule: LSTM is lstm, RMSprop is rmsprop."""
    words = []
    for i, letter in enumerate(name):
        after_lower = (
            i > 0 and letter.isupper() and (name[i - 1].islower() or name[i - 1].isdigit())
        )
        words.append(("_" if after_lower else "") + letter.lower())
    return "".join(words)


def check_unsupported(owner: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse Keras's arguments that are not implemented, unless they keep Keras's default.

    Raises
    ------
    NotImplementedError
        If a value in `given` differs from its default; the message names it.
    TypeError
        If a name is none of Keras's.
    """
    for name, value in given.items():
        if name not in defaults:
            raise TypeError(f"{owner}: got an unexpected argument {name!r}")
        default = defaults[name]
        if value is not default and value != default:
            raise NotImplementedError(
                f"{owner}: {name}={value!r} is not supported yet; expected {default!r}"
            )
