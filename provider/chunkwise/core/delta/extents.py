"""Where in a file what its footer names ends: the footer of a sound file follows right behind it."""

from __future__ import annotations

from dataclasses import dataclass

from chunkwise.core.formats.parquet.metadata import MAGIC, Chunk, Meta, data_range
from chunkwise.core.formats.parquet.thrift import Struct, get


@dataclass(kw_only=True, slots=True)
class Extent:
    """Of the columns of a file and of all that belongs to them.

    :param end: offset behind the last byte so far.
    :param is_known: whether the footer names everything.
    """

    end: int = len(MAGIC)
    is_known: bool = True

    def add(self, chunk: Struct) -> None:
        """A column chunk."""
        meta = get(chunk, Chunk.META, {})
        last = data_range(chunk)[1]
        if Meta.BLOOM in meta and Meta.BLOOM_LENGTH not in meta:  # of a writer before format 2.10
            self.is_known = False
        self.end = max(
            self.end,
            last,
            get(meta, Meta.BLOOM, 0) + get(meta, Meta.BLOOM_LENGTH, 0),
            get(chunk, Chunk.OFFSET_INDEX, 0) + get(chunk, Chunk.OFFSET_INDEX_LENGTH, 0),
            get(chunk, Chunk.COLUMN_INDEX, 0) + get(chunk, Chunk.COLUMN_INDEX_LENGTH, 0),
        )

    def gap(self, start: int) -> int:
        """Bytes between that and the footer for which there is no reason.

        :param start: of the footer.
        """
        return max(0, start - self.end) if self.is_known else 0
