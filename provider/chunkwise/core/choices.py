"""Arguments that are one of a few words, or a number."""

from __future__ import annotations

from typing import Any, get_args

from chunkwise.core.errors import ConfigError


def check_choices(thing: object, **literals: Any) -> None:
    """Refuse a misspelt word, which would otherwise quietly mean another choice.

    :param literals: by the name of the field, the ``Literal`` that it must be of.
    :raises ConfigError: naming the field and the words it may have.
    """
    for name, literal in literals.items():
        value = getattr(thing, name)
        if value not in get_args(literal):
            words = ", ".join(map(repr, get_args(literal)))
            raise ConfigError(f"{name} is {value!r}: choose one of {words}").naming(name)


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
