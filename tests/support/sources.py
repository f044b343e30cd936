"""Sources in memory, which count what is read of them."""

from __future__ import annotations

from collections.abc import Iterator


class BytesSource:
    """Bytes as a format reads them.

    :param data: the whole.
    :param name: for messages.
    :param block: bytes of a block of a stream.
    """

    def __init__(self, data: bytes, name: str = "memory://source", *, block: int = 1 << 20) -> None:
        self.data = data
        self.name = name
        self.block = block
        #: calls of :meth:`read`, and the bytes that they gave; bytes of the largest
        self.reads = 0
        self.bytes_read = 0
        self.largest = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def read(self, start: int, end: int) -> bytes:
        """The bytes of a range."""
        found = self.data[start:end]
        self.reads += 1
        self.bytes_read += len(found)
        self.largest = max(self.largest, len(found))
        return found

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        """The same in blocks."""
        for position in range(start, min(end, len(self.data)), self.block):
            yield self.data[position : min(position + self.block, end)]
