"""Where the members of an object are in its text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from chunkwise.core.formats.json_text import STRING, decode_string

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OPEN: Final = re.compile(rb"[ \t\r\n]*+\{[ \t\r\n]*+")
_MEMBER: Final = re.compile(
    rb"(" + STRING + rb")[ \t\r\n]*+:[ \t\r\n]*+"
    rb"(?:(" + STRING + rb'|[^"{\[,}\] \t\r\n]++)[ \t\r\n]*+(?:,[ \t\r\n]*+)?+|(?=[{\[]))',
    re.DOTALL,
)
_NEXT: Final = re.compile(rb"[ \t\r\n]*+,[ \t\r\n]*+")
_BRACKET: Final = re.compile(rb'[^"{}\[\]]*+(?:' + STRING + rb'[^"{}\[\]]*+)*+([{}\[\]])')


class Member(NamedTuple):
    """One member: its key, and where its value is.

    :param key: decoded.
    :param start: of the value.
    :param end: byte after the value.
    :param nested: whether the value is an object or array.
    """

    key: str
    start: int
    end: int
    nested: bool


def members(text: bytes, keys: Mapping[bytes, str] | None = None) -> Iterator[Member]:
    """The members of an object, in their order, equal keys as often as they stand there.

    :param text: known to be a valid JSON object.
    :param keys: of members that are asked for, by their JSON text without needless escapes; default: all.
    :raises UnicodeDecodeError: a key is not UTF-8.
    """
    names = None if keys is None else frozenset(keys.values())
    opened = _OPEN.match(text)
    position = opened.end() if opened is not None else len(text)
    while (member := _MEMBER.match(text, position)) is not None:
        start, end = member.span(2)
        position = member.end()
        nested = start < 0
        if nested:
            start, end = position, nested_end(text, position)
            separator = _NEXT.match(text, end)
            position = end if separator is None else separator.end()
        token = member.group(1)
        key = None if keys is None else keys.get(token)
        if key is None and (names is None or b"\\" in token):
            key = decode_string(token)
        if key is not None and (names is None or key in names):
            yield Member(key, start, end, nested)


def values_of(text: bytes) -> dict[str, bytes]:
    """The values of a record by their keys: of equal ones the last; none where it is no object.

    :param text: known to be valid JSON, without white space before it.
    """
    if text[:1] != b"{":
        return {}
    try:
        return {key: bytes(value) for key, value in _OBJECT.decode(text).items()}
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return {member.key: text[member.start : member.end] for member in members(text)}


def repeated_key(text: bytes) -> str | None:
    """A key that an object has twice, however it is spelled; ``None``: each is there once.

    :param text: known to be a valid JSON object.
    :raises UnicodeDecodeError: a key is not UTF-8.
    """
    seen: set[str] = set()
    for member in members(text):
        if member.key in seen:
            return member.key
        seen.add(member.key)
    return None


def nested_end(text: bytes, start: int) -> int:
    """Where an object or array ends.

    :param start: its bracket.
    """
    depth, position = 0, start
    while (bracket := _BRACKET.match(text, position)) is not None:
        position = bracket.end()
        depth += 1 if bracket.group(1) in b"{[" else -1
        if depth == 0:
            return position
    return len(text)
