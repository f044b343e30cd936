"""Whether a text is JSON, for what a faster parser refuses for reasons of its own.

msgspec takes no lone surrogates, which RFC 8259, section 8.2, allows, and no deep nesting. Nor can UTF-8
hold such a surrogate, so that it stays within JSON, where it is an escape.
"""

from __future__ import annotations

import json
import re
from typing import Final

from chunkwise.core.formats.json_grammar import TOKEN, Grammar
from chunkwise.core.formats.json_members import members
from chunkwise.core.formats.json_text import STRING, WHITE, decode_string

_STRING: Final = re.compile(STRING, re.DOTALL)
_WHITE: Final = re.compile(rb"[ \t\r\n]*+")


def fault(text: bytes) -> int | None:
    """Where a text stops being one JSON value with white space around it; ``None``: nowhere.

    No recursion: any depth will do. That strings are UTF-8 is not checked.

    :return: the first byte that cannot stand there; the length of the text, if there should be more.
    """
    grammar, position = Grammar(), 0
    while True:
        start = _WHITE.match(text, position).end()  # type: ignore[union-attr]
        if grammar.complete:
            return None if start == len(text) else start
        token = TOKEN.match(text, position)
        if token is None:
            return start
        string, _, sign = token.groups()
        fits = grammar.sign(sign) if sign is not None else grammar.scalar(string=string is not None)
        if not fits:
            return start
        position = token.end()


def kind_of(text: bytes) -> str:
    """What a valid JSON text is, for messages."""
    kinds = {b"{": "an object", b'"': "a string", b"[": "an array", b"n": "null"}
    kinds |= dict.fromkeys((b"t", b"f"), "a boolean")
    return kinds.get(text.lstrip(WHITE)[:1], "a number")


def refusal(text: bytes) -> str:
    """Why a record cannot become a row of columns, where the parser refuses it.

    :return: what comes after its number; no values.
    """
    at = fault(text)
    if at is not None:
        return f"is not valid JSON: byte {at} of it cannot stand there"
    if kind_of(text) != "an object":
        return f"is {kind_of(text)}, not an object"
    try:
        for member in members(text):
            if _has_half(text[member.start : member.end]):
                return (
                    f"has half of a surrogate pair in the value of {member.key!r}, which only JSON can hold:"
                    " mend it, or keep the records as JSON"
                )
            if _has_half(json.dumps(member.key).encode()):
                return f"has half of a surrogate pair in the key {member.key!r}, which only JSON can hold"
    except UnicodeDecodeError:
        return "has a key or a text that is not UTF-8"
    return "is nested too deeply to become a row: keep the records as JSON"


def _has_half(text: bytes) -> bool:
    """Whether a string in a text has a surrogate without its other half.

    :raises UnicodeDecodeError: a string is not UTF-8.
    """
    if b"\\u" not in text:
        return False
    try:
        for string in _STRING.findall(text):
            decode_string(string).encode()
    except UnicodeEncodeError:
        return True
    return False
