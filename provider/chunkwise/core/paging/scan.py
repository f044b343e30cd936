"""Exact structure of JSON text, for the few places where the fast way cannot answer.

Every function here starts from a position whose state is known, and reads strings as strings: a bracket
inside a string is never structure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# A whole string, or one that the text ends in (the group is then empty or a lone backslash), or one bracket.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+("|\\?\Z)|[\[\]{}]', re.DOTALL)
_OPEN = b"{["
_WHITE = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Elements:
    """Complete objects and arrays at the level of a JSON array, and where that array ends.

    :param spans: ``(start, end)`` of each complete element.
    :param end: position of the closing bracket of the array, ``None`` when the text ends before it.
    :param stray: position of something at array level that is neither an object, an array, white space nor a
        comma that separates two of them (a scalar element, a double comma, garbage); the scan stops there.
    """

    spans: list[tuple[int, int]]
    end: int | None
    stray: int | None


def elements(text: bytes | bytearray, start: int, stop: int) -> Elements:
    """Scan ``text[start:stop]``, which begins at an element of an array or at the array's end."""
    spans: list[tuple[int, int]] = []
    depth = 0
    opened = start
    gap = start
    for token in _TOKEN.finditer(text, start, stop):
        position = token.start()
        byte = text[position]
        if byte == 0x22:
            if depth == 0:
                return Elements(spans, None, position)
            if token.group(1) != b'"':
                break
        elif byte in _OPEN:
            if depth == 0:
                if bytes(text[gap:position]).strip(_WHITE) != (b"," if spans else b""):
                    return Elements(spans, None, gap)
                opened = position
            depth += 1
        elif depth == 0:  # the closing bracket of the array itself
            if bytes(text[gap:position]).strip(_WHITE) or byte != 0x5D:
                return Elements(spans, None, gap)
            return Elements(spans, position, None)
        else:
            depth -= 1
            if depth == 0:
                gap = position + 1
                spans.append((opened, gap))
    rest = bytes(text[gap:stop]).strip(_WHITE)
    if depth == 0 and rest not in (b"", b","):
        return Elements(spans, None, gap)
    return Elements(spans, None, None)


def shallowest_comma(text: bytes | bytearray, start: int, stop: int) -> int | None:
    """Last comma between two ``}`` and ``{`` at the lowest nesting level reached in ``text[start:stop]``.

    ``start`` must lie outside any string. Where the range holds more than one whole element of an array, the
    lowest level is that array's; a caller proves the answer by parsing up to it.
    """
    depth = lowest = 0
    found: int | None = None
    closed: int | None = None
    for token in _TOKEN.finditer(text, start, stop):
        position = token.start()
        byte = text[position]
        if byte == 0x22:
            closed = None
        elif byte in _OPEN:
            if byte == 0x7B and closed is not None and depth == lowest:
                comma = bytes(text[closed:position])
                if comma.strip(_WHITE) == b",":
                    found = closed + comma.index(b",")
            depth += 1
            closed = None
        else:
            depth -= 1
            if depth < lowest:
                lowest, found = depth, None
            closed = position + 1 if byte == 0x7D else None
    return found
