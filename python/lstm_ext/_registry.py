"""Objects by name: how "adam", {"class_name": ..., "config": ...} or an instance is understood."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any, TypeVar

__all__ = [
    "Configurable",
    "by_name",
    "check_number",
    "check_unsupported",
    "resolve",
    "serialize",
    "snake_case",
]

T = TypeVar("T", bound="Configurable")


class Configurable:
    """Something that a dict of its arguments describes."""

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal object."""
        raise NotImplementedError

    @classmethod
    def from_config(cls: type[T], config: Mapping[str, Any]) -> T:
        """Make an object from what `get_config` returned."""
        return cls(**config)


def by_name(*classes: type[T], **aliases: type[T]) -> dict[str, type[T]]:
    """Return the classes by ClassName, by class_name, and by their aliases."""
    known = {name: c for c in classes for name in (c.__name__, snake_case(c.__name__))}
    return {**known, **aliases}


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
        return _named(identifier["class_name"], known, argument).from_config(config)
    raise TypeError(
        f"{argument}: got {identifier!r}, expected a name, an object of the class {base.__name__}, "
        "or its config"
    )


def _named(name: str, known: Mapping[str, type[T]], argument: str) -> type[T]:
    found = known.get(name) or known.get(name.lower())
    if found is None:
        expected = ", ".join(sorted(key for key in known if key.islower()))
        raise ValueError(f"{argument}: got {name!r}, expected one of {expected}")
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


def check_number(
    value: Any, name: str, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False
) -> float:
    """Return `value` as a float in [low, high], or in (low, high] with `open_low`.

    Raises
    ------
    TypeError
        If it is no real number.
    ValueError
        If it is outside, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: got {value!r}, expected a number")
    number = float(value)
    if not math.isfinite(number) or not low <= number <= high or (open_low and number == low):
        above = f", above {low:g}" if open_low else f", at least {low:g}"
        bounds = above * (low > -math.inf) + f", at most {high:g}" * (high < math.inf)
        raise ValueError(f"{name}: got {value}, expected a finite number{bounds}")
    return number


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
