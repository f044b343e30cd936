"""Writing a part of a Parquet file: what nobody replaced is copied as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chunkwise.core.errors import ConfigError
from chunkwise.core.formats.model import BatchReader
from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.assembly import Index, place_indexes
from chunkwise.core.formats.parquet.batch import ParquetBatch
from chunkwise.core.formats.parquet.columns import Way, way_of
from chunkwise.core.formats.parquet.metadata import MAGIC, Field, footer_bytes, unpack_head
from chunkwise.core.formats.parquet.row_group import RowGroup


class NativeEncoder:
    """Makes a part that is a Parquet file with the source's row groups.

    The column chunks of columns in which nothing was replaced are copied byte for byte with their
    statistics, page indexes and bloom filters. The others are written by pyarrow, with the codec, dictionary
    and page version that they had, one after the other: however many they are and however long the row group,
    a few MiB of one column are held. A row group of which only some rows belong to the chunk becomes a row
    group of these rows, all columns written anew.

    Takes batches that were asked for with :attr:`~chunkwise.core.formats.model.ReadRequest.native`.

    :param target: see :meth:`Parquet.target`.
    """

    def __init__(self, target: Mapping[str, Any]) -> None:
        self._head = unpack_head(target["head"])
        self._position = 0
        self._rows = 0
        self._groups: list[tuple[bytes, Sequence[Index]]] = []
        self._data_end = 0
        self._ways: dict[int, Way | None] = {}
        self._group: RowGroup | None = None

    def native(self, batch: ParquetBatch) -> Iterable[bytes]:
        """See :class:`~chunkwise.core.formats.model.PartEncoder`."""
        if self._position == 0:
            yield MAGIC
            self._position = len(MAGIC)
        if self._group is None:
            self._group = RowGroup(batch.stretch, self._position, self._way)
        group = self._group
        yield from group.put(batch)
        if batch.last:
            yield from group.close()
            self._position = group.position
            self._groups.append(group.described(len(self._groups)))
            self._rows += group.rows
            self._group = None

    def convert(self, records: Sequence[bytes], first: int) -> Iterable[bytes]:  # noqa: ARG002
        """Not of this encoder."""
        raise ConfigError("this part was planned to be copied, not converted")

    def finish(self, reader: BatchReader) -> Iterable[bytes]:  # noqa: ARG002 - the protocol has it
        """See :class:`~chunkwise.core.formats.model.PartEncoder`."""
        if not self._groups:
            return
        self._data_end = self._position
        structs: list[bytes] = []
        for dumped, indexes in self._groups:
            group = thrift.Reader(dumped).struct()
            data, self._position = place_indexes(group, indexes, self._position)
            structs.append(thrift.dump(group))
            if data:
                yield data
        yield footer_bytes(self._head, self._rows, structs, len(structs))

    def notes(self) -> dict[str, Any]:
        """Where the data ends in the part, and how many row groups it has."""
        return {"data_end": self._data_end, "row_groups": len(self._groups)}

    def _way(self, field: Field) -> Way | None:
        if field.first not in self._ways:
            self._ways[field.first] = way_of(self._head, field)
        return self._ways[field.first]
