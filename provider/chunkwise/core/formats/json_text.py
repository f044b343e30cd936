"""Pieces of JSON text: white space, strings, keys, and the bytes before a text."""

from __future__ import annotations

import json
import re
from typing import Final

import msgspec

from chunkwise.core.errors import UnsupportedSource

#: RFC 8259, section 2; ``bytes.strip()`` and ``\s`` would take more
WHITE: Final = b" \t\r\n"
#: a reader may take it before a text (RFC 8259, section 8.1); it is kept, since nobody asked to remove it
BOM: Final = b"\xef\xbb\xbf"
#: a string of a text that is known to be valid
STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'

_WIDE: Final = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_LAYOUT = re.compile(rb"[ \t]*[\r\n][ \t\r\n]*")


def refuse_wide(head: bytes, name: str) -> None:
    """Refuse UTF-16 and UTF-32, in which 0x0A and 0x22 are halves of other characters, too.

    They are known by their byte order mark, or by a NUL among the first two bytes (RFC 4627, section 3).

    :param head: the first four bytes, or fewer.
    :param name: of the source.
    :raises UnsupportedSource: naming the encoding.
    """
    encoding = next((encoding for mark, encoding in _WIDE if head.startswith(mark)), None)
    if encoding is None:
        if b"\0" not in head[:2]:
            return
        encoding = "UTF-32" if head[:4].count(0) > 2 else "UTF-16"
    raise UnsupportedSource(
        f"{name} is JSON in {encoding}: only UTF-8 can be handled (RFC 8259, section 8.1); convert it first"
    )


def encode_text(text: str) -> bytes:
    """The JSON string of a text: UTF-8, and escapes only where they must be."""
    try:
        return msgspec.json.encode(text)
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8
        return json.dumps(text).encode()


def decode_string(string: bytes) -> str:
    """The text of a JSON string, lone surrogates (RFC 8259, section 8.2) included.

    :raises UnicodeDecodeError: it is not UTF-8.
    """
    if b"\\" not in string:
        return string[1:-1].decode()
    text: str = json.loads(string)
    return text


def scalar_text(value: bytes) -> str | None:
    """The text of a string, a number or a boolean; ``None`` for null.

    :raises UnicodeDecodeError: it is not UTF-8.
    """
    if value[:1] == b'"':
        return decode_string(value)
    return None if value == b"null" else value.decode()


def not_utf8(text: bytes) -> int | None:
    """The first byte that is not UTF-8; ``None``: all is."""
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError as error:
            return error.start
    return None


def one_line(text: bytes) -> bytes:
    """A JSON text without line breaks. In strings there are none, so what goes is layout."""
    if b"\n" not in text and b"\r" not in text:
        return text
    return _LAYOUT.sub(b"", text)
