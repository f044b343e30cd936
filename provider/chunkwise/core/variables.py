"""Environment variables: what each one may hold, and all that is wrong with them in one error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chunkwise.core.errors import ConfigError

_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("0", "false", "no", "off")


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """One that holds a text.

    :param name: of the variable.
    :param field: what it sets.
    :param default: what holds where it is not set, for people.
    :param means: what it is for, for people.
    """

    name: str
    field: str
    default: str
    means: str

    @property
    def allowed(self) -> str:
        """What it may hold, for people."""
        return "a text"

    def parse(self, text: str) -> Any:
        """The value of a text that is not empty.

        :raises ValueError: it may not hold this.
        """
        return text


@dataclass(frozen=True, kw_only=True, slots=True)
class Number(Variable):
    """A whole number.

    :param low: the smallest one.
    :param high: the largest one.
    :param empty_is_none: a variable that is there and empty sets ``None``; else it counts as not set.
    """

    low: int
    high: int
    empty_is_none: bool = False

    @property
    def allowed(self) -> str:
        """The range."""
        empty = "; empty: none" if self.empty_is_none else ""
        return f"a whole number from {self.low} to {self.high}{empty}"

    def parse(self, text: str) -> int:
        """The number."""
        if not text.isascii() or not text.isdigit() or not self.low <= int(text) <= self.high:
            raise ValueError(self.name)
        return int(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Word(Variable):
    """One of a few words, in any case.

    :param words: in lower case.
    """

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """The words."""
        return f"one of {', '.join(self.words)}"

    def parse(self, text: str) -> str:
        """The word in lower case."""
        if text.lower() not in self.words:
            raise ValueError(self.name)
        return text.lower()


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag(Variable):
    """Yes or no."""

    @property
    def allowed(self) -> str:
        """The words."""
        return f"one of {', '.join((*_TRUE, *_FALSE))}"

    def parse(self, text: str) -> bool:
        """Whether it is yes."""
        if text.lower() not in (*_TRUE, *_FALSE):
            raise ValueError(self.name)
        return text.lower() in _TRUE


@dataclass(frozen=True, kw_only=True, slots=True)
class Object(Variable):
    """A JSON object. It may hold what nobody is to see, so no message quotes it."""

    @property
    def allowed(self) -> str:
        """Its form."""
        return "a JSON object"

    def parse(self, text: str) -> dict[str, Any]:
        """The object."""
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError(self.name)
        return value


def read(variables: Iterable[Variable], environ: Mapping[str, str]) -> dict[str, Any]:
    """What is set, by field. A variable that is empty, or nothing but blanks, counts as not set.

    :raises ConfigError: names every variable that holds what it may not, its value and what it may hold.
    """
    found: dict[str, Any] = {}
    problems = []
    for variable in variables:
        text = environ.get(variable.name)
        if text is None:
            continue
        text = text.strip()
        if not text:
            if isinstance(variable, Number) and variable.empty_is_none:
                found[variable.field] = None
            continue
        try:
            found[variable.field] = variable.parse(text)
        except ValueError:
            shown = "wrong" if isinstance(variable, Object) else repr(text)
            problems.append(f"{variable.name} is {shown}: it must be {variable.allowed}")
    if problems:
        raise ConfigError("environment: " + "; ".join(problems))
    return found
