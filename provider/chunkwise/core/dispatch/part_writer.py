"""The bytes of one part: rows, and the glue around them, compressed as members of their own."""

from __future__ import annotations

from chunkwise.core.dispatch.glue import Glue
from chunkwise.core.records.compression import Codec
from chunkwise.core.storage import ObjectReceipt, S3Writer


class PartWriter:
    """Compress and write. Rows and glue are members of their own, so that the merge can leave glue out.

    :param writer: takes the stored bytes.
    :param codec: of the part.
    """

    def __init__(self, writer: S3Writer, codec: Codec) -> None:
        self._writer = writer
        self._codec = codec
        self._stored = 0
        self.size = 0
        self.before: Glue | None = None
        self.after: Glue | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing was written yet."""
        return self.size == 0 and self.before is None

    def write(self, data: bytes) -> None:
        """Bytes of rows."""
        if data:
            self.size += len(data)
            self._put(self._codec.compress(data))

    def put_before(self, data: bytes) -> None:
        """What stands in front of the rows."""
        if data:
            self.before = Glue.of(data, self._member(data))

    def put_after(self, data: bytes) -> None:
        """What stands behind the rows."""
        self._put(self._codec.end_member())
        if data:
            self.after = Glue.of(data, self._member(data))

    def close(self) -> ObjectReceipt:
        """Publish the part."""
        self._put(self._codec.end_member())
        return self._writer.close()

    def _member(self, data: bytes) -> int:
        before = self._stored
        self._put(self._codec.compress(data))
        self._put(self._codec.end_member())
        return self._stored - before

    def _put(self, data: bytes) -> None:
        if data:
            self._stored += len(data)
            self._writer.write(data)
