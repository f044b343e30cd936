"""Where the members of an object are in its text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from chunkwise.core.formats.json_text import STRING, decode_string

_OPEN: Final = re.compile(rb"[ \t\r\n]*+\{[ \t\r\n]*+")
_MEMBER: Final = re.compile(
    rb"(" + STRING + rb")[ \t\r\n]*+:[ \t\r\n]*+(" + STRING + rb'|[^"{\[,}\] \t\r\n]++|(?=[{\[]))'
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


def members(text: bytes) -> Iterator[Member]:
    """The members of an object, in their order, equal keys as often as they stand there.

    :param text: known to be a valid JSON object.
    :raises UnicodeDecodeError: a key is not UTF-8.
    """
    opened = _OPEN.match(text)
    position = opened.end() if opened is not None else len(text)
    while (member := _MEMBER.match(text, position)) is not None:
        start, end = member.span(2)
        nested = start == end
        if nested:
            end = nested_end(text, start)
        yield Member(decode_string(member.group(1)), start, end, nested)
        separator = _NEXT.match(text, end)
        if separator is None:
            return
        position = separator.end()


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
