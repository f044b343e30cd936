"""What a message holds: one JSON object, or several on lines of their own."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, overload

import msgspec

from chunkwise.core.errors import RecordError
from chunkwise.core.formats.json_check import fault, kind_of
from chunkwise.core.formats.json_text import WHITE, not_utf8, one_line

_VALUE: Final = msgspec.json.Decoder(msgspec.Raw)
#: bytes in which a value begins, unless white space fills them
_HEAD: Final = 64


class Rows(Sequence[bytes]):
    """Many rows in the memory of their bytes: a list of short ones takes many times as much.

    :param rows: the first ones.
    """

    def __init__(self, rows: Iterable[bytes] = ()) -> None:
        #: JSON Lines
        self.text = bytearray()
        self._ends = array("Q")
        for row in rows:
            self.add(row)

    def add(self, row: bytes) -> None:
        """Add a row of one line, without its end."""
        self.text += row
        self.text += b"\n"
        self._ends.append(len(self.text))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        return bytes(memoryview(self.text)[self._ends[at - 1] if at else 0 : self._ends[at] - 1])


def records(text: bytes, *, name: str = "the body") -> list[bytes]:
    """The objects of a text, each on one line without its end, byte for byte but for line breaks of layout.

    A text is one object, in any layout, or JSON Lines. All of them are objects, or none is taken: half a
    message would be lost with the rest of it.

    :param text: UTF-8.
    :param name: of the text, for messages.
    :raises RecordError: saying which line is no object, and never what it holds.
    """
    return list(each_record(text, name=name))


def each_record(text: bytes, *, name: str = "the body") -> Iterator[bytes]:
    """The same one by one, for whoever drops them all when one is none.

    :raises RecordError: see :func:`records`.
    """
    if not text.strip(WHITE):
        raise RecordError(f"{name} is empty")
    if _why(text) is None:
        yield one_line(text.strip(WHITE))
        return
    first: int | None = None
    for number, record in _lines(text):
        why = _why(record)
        if why is None:
            first = number
            yield one_line(record)
            continue
        single = first is None and text.strip(WHITE) == record
        raise RecordError(f"{name} {why}" if single else f"line {number} of {name} {why}")


def _lines(text: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1 on."""
    start = number = 0
    while start <= len(text):
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        number += 1
        if record := text[start:end].strip(WHITE):
            yield number, record
        start = end + 1


def _why(text: bytes) -> str | None:
    """Why a text is not an object; ``None``: it is one."""
    try:
        _VALUE.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        # the fast parser refuses lone surrogates and deep nesting, which are JSON
        at = fault(text)
        if at is not None:
            return f"is not JSON from byte {at} on"
    if (at := not_utf8(text)) is not None:
        return f"is not UTF-8 at byte {at}"
    kind = kind_of(text[:_HEAD].lstrip(WHITE) or text)
    return None if kind == "an object" else f"is {kind}, not an object"
