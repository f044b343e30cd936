"""A source that takes note of what was read from it."""

from __future__ import annotations

from collections.abc import Iterator

from chunkwise.core.formats.model import ByteSource
from chunkwise.core.storage.checksum import crc32
from chunkwise.core.storage.combine import combine_crc32


class CountedSource:
    """Passes on what a format reads, and keeps the checksum of what it streams.

    :param source: the source.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._start: int | None = None
        self._end = 0
        self._crc = 0
        self._in_order = True
        self.streamed = 0

    @property
    def name(self) -> str:
        """Of the source."""
        return self._source.name

    @property
    def size(self) -> int:
        """Of the source."""
        return self._source.size

    def read(self, start: int, end: int) -> bytes:
        """See :class:`~chunkwise.core.formats.model.ByteSource`."""
        return self._source.read(start, end)

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        """See :class:`~chunkwise.core.formats.model.ByteSource`."""
        if self._start is None:
            self._start = self._end = start
        self._in_order &= start == self._end
        for block in self._source.stream(start, end):
            self._crc = crc32(block, self._crc)
            self._end += len(block)
            self.streamed += len(block)
            yield block

    def crc32(self, start: int, end: int) -> int | None:
        """CRC-32 of a range that was streamed once, in order, but for a header before it; else ``None``."""
        if start == end:
            return 0
        if self._start is None:
            self._start = self._end = end
        if not self._in_order or self._end != end or self._start < start:
            return None
        if self._start == start:
            return self._crc
        before = crc32(self._source.read(start, self._start), 0)
        return combine_crc32(before, self._crc, self._end - self._start)
