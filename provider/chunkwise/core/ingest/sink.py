"""From lines to compressed bytes of an upload, with what is counted on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from chunkwise.core.records.compression import Codec
from chunkwise.core.storage import S3Writer
from chunkwise.core.units import MiB

try:
    from isal.isal_zlib import crc32
except ImportError:  # no wheel for this platform
    from zlib import crc32

#: Lines are hashed and compressed in blocks of so many bytes. These calls let other threads run, and each has
#: to wait for its turn afterwards: few long ones are much faster than many short ones beside a busy reader.
BLOCK = 4 * MiB
#: Lines that are not compressed: they are parts soon, and a checkpoint must not wait for a long block.
PLAIN_BLOCK = MiB


class LineSink:
    """Hash, compress and write lines.

    :param writer: takes the compressed bytes.
    :param codec: compresses.
    :param size: bytes of lines that earlier tries wrote.
    :param crc: CRC-32 of these.
    """

    def __init__(self, writer: S3Writer, codec: Codec, *, size: int = 0, crc: int = 0) -> None:
        self._writer = writer
        self._codec = codec
        self._size = size
        self._crc = crc
        # a hash state cannot be saved: a continued run has none
        self._digest = None if size else hashlib.sha256()
        self._block = memoryview(bytearray(BLOCK if codec.suffix else PLAIN_BLOCK))
        self._fill = 0

    @property
    def size(self) -> int:
        """Bytes of all lines so far."""
        return self._size + self._fill

    @property
    def crc32(self) -> int:
        """CRC-32 of all lines, after :meth:`flush`."""
        return self._crc

    @property
    def sha256(self) -> str | None:
        """Hex digest of all lines, after :meth:`flush`; ``None`` in a continued run."""
        return None if self._digest is None else self._digest.hexdigest()

    def put(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Take lines, in pieces of any size; they are copied before the call returns."""
        block, fill, full = self._block, self._fill, len(self._block)
        for piece in pieces:
            rest, end = piece, fill + len(piece)
            while end > full:
                room = full - fill
                block[fill:] = rest[:room]
                self._fill = full
                self.flush()
                rest = memoryview(rest)[room:]
                fill, end = 0, len(rest)
            block[fill:end] = rest
            fill = end
        self._fill = fill

    def flush(self) -> None:
        """Compress what waits."""
        with self._block[: self._fill] as lines:
            self._size += self._fill
            self._fill = 0
            self._crc = crc32(lines, self._crc)
            if self._digest is not None:
                self._digest.update(lines)
            self._write(self._codec.compress(lines))

    def end_member(self) -> None:
        """Compress what waits, and end the compressed member with it."""
        self.flush()
        self._write(self._codec.end_member())

    def _write(self, data: bytes) -> None:
        if data:
            self._writer.write(data)
