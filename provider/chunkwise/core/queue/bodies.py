"""What a message holds: one JSON object, or several on lines of their own."""

from __future__ import annotations

from typing import Final

import msgspec

from chunkwise.core.errors import RecordError
from chunkwise.core.formats.json_check import fault, kind_of
from chunkwise.core.formats.json_text import WHITE, one_line

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def records(text: bytes, *, name: str = "the body") -> list[bytes]:
    """The objects of a text, each on one line without its end, byte for byte but for line breaks of layout.

    A text is one object, in any layout, or JSON Lines. All of them are objects, or none is taken: half a
    message would be lost with the rest of it.

    :param text: UTF-8.
    :param name: of the text, for messages.
    :raises RecordError: saying which line is no object, and never what it holds.
    """
    if not text.strip(WHITE):
        raise RecordError(f"{name} is empty")
    if _why(text) is None:
        return [one_line(text.strip(WHITE))]
    found = []
    lines = text.split(b"\n")
    single = len([line for line in lines if line.strip(WHITE)]) == 1
    for number, line in enumerate(lines, 1):
        record = line.strip(WHITE)
        if not record:
            continue
        why = _why(record)
        if why is not None:
            raise RecordError(f"{name} {why}" if single else f"line {number} of {name} {why}")
        found.append(one_line(record))
    return found


def _why(text: bytes) -> str | None:
    """Why a text is not an object; ``None``: it is one."""
    try:
        _OBJECT.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        # the fast parser refuses lone surrogates and deep nesting, which are JSON
        at = fault(text)
        if at is not None:
            return f"is not JSON from byte {at} on"
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return f"is not UTF-8 at byte {error.start}"
    kind = kind_of(text)
    return None if kind == "an object" else f"is {kind}, not an object"
