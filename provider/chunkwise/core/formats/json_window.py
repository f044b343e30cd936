"""The bytes of a stream that are being looked at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from chunkwise.core.formats.json_rows import SLAB

NO_WHITE: Final = re.compile(rb"[^ \t\r\n]")


class Window:
    """A piece of a stream, which grows at its end and is left behind at its start.

    :param blocks: of the stream.
    :param position: of its first byte.
    """

    def __init__(self, blocks: Iterator[bytes], position: int) -> None:
        self.data = b""
        self.position = position
        self._pieces = _pieces(blocks)

    def has(self, size: int) -> bool:
        """Whether so many bytes are there; reads them, if it must."""
        length = len(self.data)
        if length >= size:
            return True
        # a long record is not to be copied for each piece of it
        enough = max(size, length + length // 4)
        held = [self.data]
        for piece in self._pieces:
            held.append(piece)
            length += len(piece)
            if length >= enough:
                break
        self.data = b"".join(held)
        return length >= size

    def skip(self, size: int) -> None:
        """Leave bytes behind."""
        self.data = self.data[size:]
        self.position += size

    def text(self, start: int) -> int | None:
        """Where something stands that is not white space, if the stream has it."""
        while True:
            found = NO_WHITE.search(self.data, start)
            if found is not None:
                return found.start()
            start = len(self.data)
            if not self.has(start + 1):
                return None


def _pieces(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Small pieces, which are copied at little cost when those before them are left behind."""
    for block in blocks:
        for start in range(0, len(block), 2 * SLAB):
            yield block[start : start + 2 * SLAB]
