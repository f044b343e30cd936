"""Arguments that are one of a few words, or a number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from chunkwise.core.errors import ConfigError

# a step of msgspec's paths: `.field`, or `[...]` for some key or item that it does not name
_STEP = re.compile(r"\.([^.\[\]]+)|\[[^\]]*\]")


def check_choices(thing: object, **literals: Any) -> None:
    """Refuse a misspelt word, which would otherwise quietly mean another choice.

    :param literals: by the name of the field, the ``Literal`` that it must be of.
    :raises ConfigError: naming the field and the words it may have.
    """
    for name, literal in literals.items():
        value = getattr(thing, name)
        if value not in get_args(literal):
            raise ConfigError(_choose(name, value, get_args(literal))).naming(name)


def explained(error: msgspec.ValidationError, value: Any, kind: Any, *, place: str = "") -> str:
    """What is wrong with a value that :func:`msgspec.convert` refused, with the words that a field may have.

    :param value: that was to be converted.
    :param kind: into what.
    :param place: of the value, where it stands inside another one.
    """
    text, _, at = str(error).partition(" - at `$")
    path = at.rstrip("`")
    where = f"{place}{path}".removeprefix(".")
    words = _words(msgspec.inspect.type_info(kind), path)
    if words:
        for step in _STEP.finditer(path):
            value = value.get(step[1]) if isinstance(value, dict) else None
        return _choose(where, value, words)
    return f"{where}: {text}" if where and not text.startswith(where) else text


def _choose(name: str, value: Any, words: tuple[Any, ...]) -> str:
    return f"{name} is {value!r}: choose one of {', '.join(map(repr, words))}"


def _words(found: msgspec.inspect.Type, path: str) -> tuple[Any, ...]:
    """The words of the type at a path; none if it has another type."""
    for step in _STEP.finditer(path):
        kinds = [
            field.type
            for one in _alternatives(found)
            if isinstance(one, msgspec.inspect.StructType)
            for field in one.fields
            if field.encode_name == step[1]
        ]
        if not kinds:
            return ()
        found = kinds[0]
    return tuple(
        word
        for one in _alternatives(found)
        if isinstance(one, msgspec.inspect.LiteralType)
        for word in one.values
    )


def _alternatives(found: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, ...]:
    return found.types if isinstance(found, msgspec.inspect.UnionType) else (found,)


def check_texts(name: str, value: Any) -> None:
    """Refuse what is no mapping of texts to texts.

    :param name: of the parameter.
    :raises ConfigError: naming it.
    """
    if not isinstance(value, Mapping):
        what = f"is of type {type(value).__name__}"
        raise ConfigError(f"{name} must give a text for each name, and {what}").naming(name)
    for key, one in value.items():
        if not isinstance(key, str) or not isinstance(one, str):
            what = f"gives {key!r} a value of type {type(one).__name__}"
            raise ConfigError(f"{name} must give a text for each name, and {what}").naming(name)


def check_number(
    name: str, value: Any, low: float, high: float | None = None, *, whole: bool = True, why: str = ""
) -> None:
    """Refuse what is no number, or is outside of its bounds.

    :param name: of the parameter.
    :param whole: whether a fraction is refused, too.
    :param why: the bounds are these; follows the text.
    :raises ConfigError: naming the parameter.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int if whole else int | float)
        or not low <= value <= (value if high is None else high)
    ):
        kind = "a whole number" if whole else "a number"
        bounds = f"from {low} up" if high is None else f"from {low} to {high}"
        raise ConfigError(f"{name} is {value!r}: it must be {kind} {bounds}{why}").naming(name)


def flag(name: str, value: Any) -> bool:
    """A boolean, which a template gives as text.

    :param name: of the parameter.
    :raises ConfigError: it is another text.
    """
    if isinstance(value, str):
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
        if value.strip().lower() not in words:
            raise ConfigError(f"{name} is {value!r}: it must be true or false").naming(name)
        return words[value.strip().lower()]
    return bool(value)


def check_bounds(thing: object, *names: str) -> None:
    """Refuse a bound that is neither ``None`` nor a number from 0 up.

    :raises ConfigError: naming the field.
    """
    for name in names:
        value = getattr(thing, name)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0
        ):
            raise ConfigError(f"{name} is {value!r}: it must be a number from 0 up, or None for no bound")
