"""The elements of a JSON array of any size, a window of its text at a time.

A window is cut at a comma, and the cut is proved by parsing: what stands before it, in brackets, must be a
whole JSON array. Since a parser is deterministic, the state at the cut is then the one between two elements.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NoReturn

import msgspec

from chunkwise.core.errors import RecordError
from chunkwise.core.formats.json_check import fault
from chunkwise.core.formats.json_text import WHITE
from chunkwise.core.paging.scan import elements, shallowest_comma
from chunkwise.core.units import KiB

_WINDOW: Final = 512 * KiB
#: commas that are tried before the text is scanned bracket by bracket
_TRIES: Final = 8
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_COMMA: Final = re.compile(rb"[ \t\r\n]*+,[ \t\r\n]*+\{")


def array_elements(pieces: Iterable[bytes], *, longest: int) -> Iterator[bytes]:
    """The elements, each as it stands there; that it is UTF-8 is not checked.

    :param pieces: of the text, of any size.
    :param longest: bytes of an element.
    :raises RecordError: the text is no JSON array, or an element is too long; it holds no data.
    """
    text = _Text(pieces)
    text.open()
    fresh = True
    size = _WINDOW
    while True:
        text.fill(size)
        some = text.last() if text.ended else text.next()
        if some is not None:
            if not some and not (fresh and text.ended):
                _refuse()  # a comma, and nothing behind it
            fresh = False
            if max(map(len, some), default=0) > longest:
                _too_long(longest)
            yield from some
            some = None
            size = _WINDOW
        elif text.held > longest:
            _too_long(longest)
        else:
            size = 2 * text.held
        if text.done:
            return


def _refuse() -> NoReturn:
    raise RecordError(
        "it is no JSON, or has half a surrogate pair, or deep nesting, beside what is no object"
    )


def _too_long(longest: int) -> NoReturn:
    raise RecordError(f"it has an element of more than {longest} bytes")


class _Text:
    """What was read of the array and not yet given out; it begins where an element does."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._data = bytearray()
        #: nothing more is to be read
        self.ended = False
        #: the array's own bracket is behind
        self.done = False

    @property
    def held(self) -> int:
        """Bytes."""
        return len(self._data)

    def fill(self, size: int) -> None:
        """Read on, as far as there is something, until so much is held."""
        while not self.ended and len(self._data) < size:
            piece = next(self._pieces, None)
            if piece is None:
                self.ended = True
            else:
                self._data += piece

    def open(self) -> None:
        """Read the array's bracket."""
        while not self.ended and not self._data:
            self.fill(1)
            self._data = self._data.lstrip(WHITE)
        if self._data[:1] != b"[":
            _refuse()
        del self._data[:1]

    def last(self) -> list[bytes]:
        """All elements to the end."""
        self.done = True
        try:
            return _bytes(_ARRAY.decode(b"[" + self._data))
        except (msgspec.DecodeError, RecursionError):
            found = elements(self._data, 0, len(self._data))
            if found.end is None or self._data[found.end + 1 :].strip(WHITE):
                _refuse()
            return self._checked(found.spans)

    def next(self) -> list[bytes] | None:
        """Elements up to a comma; ``None``: more must be read to find one."""
        for likely in self._likely():
            if (some := self._proved(likely)) is not None:
                return some
        cut = shallowest_comma(self._data, 0, len(self._data))
        if cut is None:
            # elements that are no objects; the last comma may be one of an element
            last = self._data.rfind(b",")
            return None if last < 0 else self._proved(last)
        if (some := self._proved(cut)) is not None:
            return some
        # the fast parser refuses lone surrogates and deep nesting, which are JSON
        found = elements(self._data, 0, cut)
        if found.stray is not None or not found.spans:
            _refuse()
        some = self._checked(found.spans)
        del self._data[: cut + 1]
        return some

    def _likely(self) -> Iterator[int]:
        """Commas between two objects, the last one first."""
        end = len(self._data)
        for _ in range(_TRIES):
            end = self._data.rfind(b"}", 0, end)
            if end < 0:
                return
            if (comma := _COMMA.match(self._data, end + 1)) is not None:
                yield self._data.index(b",", end + 1, comma.end())

    def _proved(self, cut: int) -> list[bytes] | None:
        try:
            some = _bytes(_ARRAY.decode(b"[" + self._data[:cut] + b"]"))
        except (msgspec.DecodeError, RecursionError):
            return None
        if some:
            del self._data[: cut + 1]
        return some

    def _checked(self, spans: list[tuple[int, int]]) -> list[bytes]:
        some = [bytes(self._data[start:end]) for start, end in spans]
        if any(fault(one) is not None for one in some):
            _refuse()
        return some


def _bytes(some: list[msgspec.Raw]) -> list[bytes]:
    return [bytes(one) for one in some]
