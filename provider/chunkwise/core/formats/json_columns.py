"""Columns of records, as far as a sample shows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from chunkwise.core.formats.json_check import fault
from chunkwise.core.formats.json_members import members
from chunkwise.core.formats.json_text import WHITE
from chunkwise.core.formats.model import Column

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NUMBERS: Final = frozenset({"integer", "number"})


class Sample:
    """The records of a head.

    :param records: texts of them.
    """

    def __init__(self, records: Iterable[bytes]) -> None:
        self.valid = 0
        self.objects = 0
        self._types: dict[str, set[str]] = {}
        for text in records:
            self._see(text)

    @property
    def columns(self) -> tuple[Column, ...] | None:
        """All top-level keys, in the order in which they appear; ``None``: no record is an object."""
        if self.valid and not self.objects:
            return None
        return tuple(Column(name=name, type=_common(types)) for name, types in self._types.items())

    def _see(self, text: bytes) -> None:
        try:
            found = {key: bytes(value) for key, value in _OBJECT.decode(text).items()}
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            if fault(text) is not None:
                return
            self.valid += 1
            if text.lstrip(WHITE)[:1] != b"{":
                return
            try:
                found = {member.key: text[member.start : member.end] for member in members(text)}
            except UnicodeError:
                return
            self.valid -= 1
        self.valid += 1
        self.objects += 1
        for key, value in found.items():
            types = self._types.setdefault(key, set())
            if (type_ := _type(value)) is not None:
                types.add(type_)


def _type(value: bytes) -> str | None:
    """Type of one value; ``None`` for null."""
    first = value[:1]
    if first == b'"':
        return "string"
    if first in b"{[":
        return "json"
    if first in b"tf":
        return "boolean"
    if first == b"n":
        return None
    return "number" if b"." in value or b"e" in value or b"E" in value else "integer"


def _common(types: set[str]) -> str:
    if not types:
        return "string"
    if len(types) == 1:
        return next(iter(types))
    return "number" if types <= _NUMBERS else "json"
