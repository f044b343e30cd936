"""A pinned source as a format reads it: as it is, or decompressed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from chunkwise.core.errors import InvalidSource, ReadFailed, SourceChanged, StorageError
from chunkwise.core.formats.model import ByteSource
from chunkwise.core.records.compression import decompress
from chunkwise.core.storage.source import ObjectRef, S3Source
from chunkwise.core.units import MiB

#: Extent of a compressed source, whose size nobody knows before it has been read. Its stream simply ends.
UNKNOWN_END: Final = 1 << 62
#: Decompressed positions of a chunk begin at its number times this, so that only the first one begins at 0.
STRIDE: Final = 1 << 48
_HEAD: Final = MiB


class Decompressed:
    """The decompressed bytes of a range of a compressed source, as a stream; reads near its start only.

    :param source: compressed.
    :param compression: ``"gzip"`` or ``"zstd"``.
    :param start: of the range, at a member or frame.
    :param end: of the range.
    :param base: position of its first decompressed byte.
    """

    def __init__(self, source: ByteSource, compression: str, start: int, end: int, base: int = 0) -> None:
        self._source = source
        self._compression: Any = compression
        self._start = start
        self._end = end
        self._base = base
        self._head = b""

    @property
    def name(self) -> str:
        """Of the compressed object."""
        return self._source.name

    @property
    def size(self) -> int:
        """:data:`UNKNOWN_END`."""
        return UNKNOWN_END

    def read(self, start: int, end: int) -> bytes:
        """Decompress up to ``end``; the first MiB is kept."""
        start, end = start - self._base, end - self._base
        if end > len(self._head):
            head = bytearray()
            for block in self._blocks():
                head += block
                if len(head) >= max(min(end, UNKNOWN_END), _HEAD):
                    break
            if end > _HEAD:
                return bytes(head[start:end])
            self._head = bytes(head[:_HEAD])
        return self._head[start:end]

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        """Decompress from the start, and leave out what lies before ``start``."""
        position = self._base
        for block in self._blocks():
            before, position = position, position + len(block)
            if position <= start:
                continue
            yield block[max(0, start - before) : max(0, end - before)]
            if position >= end:
                return

    def _blocks(self) -> Iterator[bytes]:
        try:
            yield from decompress(self._source.stream(self._start, self._end), self._compression)
        except (ReadFailed, SourceChanged):
            raise
        except StorageError as error:
            raise InvalidSource(f"{self.name}, bytes {self._start} to {self._end}: {error}") from None


def open_source(
    client: Any,
    ref: ObjectRef,
    compression: str = "none",
    start: int = 0,
    end: int | None = None,
    *,
    base: int = 0,
) -> tuple[ByteSource, S3Source]:
    """The source as its format reads it, and the S3 object below it.

    :param start: of the compressed range that is read.
    :param end: of the same.
    :param base: position that its first decompressed byte has.
    """
    raw = S3Source(client, ref)
    if compression == "none":
        return raw, raw
    return Decompressed(raw, compression, start, ref.size if end is None else end, base), raw
