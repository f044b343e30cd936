"""Writing a part of a Parquet file: what nobody replaced is copied as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from chunkwise.core.errors import ConfigError
from chunkwise.core.formats.model import BatchReader
from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.assembly import (
    Index,
    place_indexes,
    set_ordinal,
    shift_chunk,
    shift_offset_index,
)
from chunkwise.core.formats.parquet.batch import ParquetBatch, is_replaceable
from chunkwise.core.formats.parquet.columns import ColumnWriter, Encoded, Way, unwritable, way_of
from chunkwise.core.formats.parquet.metadata import (
    MAGIC,
    Chunk,
    Field,
    Group,
    Meta,
    columns_of,
    data_range,
    footer_bytes,
    index_range,
    unpack_head,
)
from chunkwise.core.formats.parquet.reader import Stretch
from chunkwise.core.formats.parquet.thrift import Struct, get, put
from chunkwise.core.units import MiB

#: bytes of replaced columns that wait in memory, at which the row group under way is closed
_HELD: Final = 64 * MiB
#: the same, if the row group would come to that in the end: its other columns are then read and written, too
_SOON: Final = 24 * MiB
_REST_BYTES: Final = 4 * MiB


class NativeEncoder:
    """Makes a part that is a Parquet file with the source's row groups.

    The column chunks of columns in which nothing was replaced are copied byte for byte with their
    statistics, page indexes and bloom filters. The others are written by pyarrow, with the codec, dictionary
    and page version that they had. A row group of which only some rows belong to the chunk becomes a row
    group of these rows, all columns written anew; so does one
    whose replaced columns but the first, which need not wait, take more than 64 MiB of memory: it becomes
    several.

    :param target: see :meth:`Parquet.target`.
    """

    def __init__(self, target: Mapping[str, Any]) -> None:
        self._head = unpack_head(target["head"])
        self._position = 0
        self._rows = 0
        self._groups: list[tuple[bytes, Sequence[Index]]] = []
        self._data_end = 0
        self._ways: dict[int, Way | None] = {}
        self._stretch: Stretch | None = None
        self._writers: dict[int, ColumnWriter] = {}
        self._changed: set[int] = set()
        self._from = 0
        self._to = 0
        self._streamed: int | None = None
        self._started = 0
        self._bound: int | None = None

    def native(self, batch: ParquetBatch) -> Iterable[bytes]:
        """See :class:`~chunkwise.core.formats.model.PartEncoder`."""
        if batch.stretch is not self._stretch:
            self._begin(batch.stretch)
        stretch = batch.stretch
        self._collect(batch)
        self._to += batch.rows
        yield from self._stream()
        if batch.last:
            yield from self._close(stretch)
            self._stretch = None
        elif self._is_full(stretch):
            yield from self._close(stretch)
            self._from = self._to

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

    # --- a row group under way ------------------------------------------------------------------------------

    def _begin(self, stretch: Stretch) -> None:
        self._stretch = stretch
        self._writers = {}
        self._changed = set()
        self._from = self._to = stretch.start
        self._streamed = None
        self._bound = None if stretch.whole else stretch.bound()

    def _collect(self, batch: ParquetBatch) -> None:
        """Keep the columns that may have been replaced: later batches of the row group may be, if this is
        not.
        """
        if not batch.decoded:
            return
        for field in batch.stretch.fields:
            index = batch.table.schema.get_field_index(field.name)
            if index < 0 or not is_replaceable(batch.table.schema.field(index).type):
                continue
            if field.first not in self._writers:
                way = self._way(field)
                if way is None:
                    if field.name in batch.changed:
                        raise unwritable(field.name, batch.stretch.name)
                    continue
                self._writers[field.first] = ColumnWriter(field, way, _chunks(batch.stretch.group, field))
            self._writers[field.first].write(batch.table.column(index))
            if field.name in batch.changed:
                self._changed.add(field.first)

    def _is_full(self, stretch: Stretch) -> bool:
        """Whether the rows so far should become a row group, so that memory stays bounded."""
        if self._bound is not None and self._to - self._from >= self._bound:
            return True
        held = sum(writer.held for writer in self._writers.values())
        expected = held * (stretch.end - self._from) // (self._to - self._from)
        if held < _HELD and (held < _SOON or expected <= _HELD):
            return False
        return all(self._way(field) is not None for field in stretch.fields)

    def _way(self, field: Field) -> Way | None:
        if field.first not in self._ways:
            self._ways[field.first] = way_of(self._head, field)
        return self._ways[field.first]

    def _open(self) -> Iterator[bytes]:
        if self._position == 0:
            yield MAGIC
            self._position = len(MAGIC)

    def _stream(self) -> Iterator[bytes]:
        """Give away the pages of one replaced column: it stands first in its row group, so that they need not
        wait for the other columns.
        """
        if self._streamed is None and self._changed:
            self._streamed = min(self._changed)
            yield from self._open()
            self._started = self._position
        if self._streamed is not None:
            for block in self._writers[self._streamed].drain():
                yield block
                self._position += len(block)

    def _close(self, stretch: Stretch) -> Iterator[bytes]:
        """Write the row group of the rows so far."""
        yield from self._open()
        rows = self._to - self._from
        whole = stretch.whole and rows == get(stretch.group, Group.ROWS)
        sources = columns_of(stretch.group)
        chunks: list[Struct] = []
        indexes: list[Index] = []
        rewritten: set[int] = set()
        first: list[Encoded] | None = None
        if self._streamed is None:
            self._started = self._position
        else:
            first = self._writers.pop(self._streamed).close()
            shift_chunk(first[0].chunk, self._started - len(MAGIC))
            for block in first[0].blocks():
                yield block
                self._position += len(block)
        copied: tuple[int, int] | None = None
        for field in stretch.fields:
            if first is not None and field.first == self._streamed:
                yield from self._copy(stretch, copied)
                copied = None
                rewritten.add(field.first)
                chunks.append(first[0].chunk)
                indexes.append(_moved(first[0].index, self._started - len(MAGIC)))
                continue
            writer = self._writers.pop(field.first, None)
            if whole and field.first not in self._changed:
                for number in range(field.first, field.first + len(field.leaves)):
                    start, end = data_range(sources[number])
                    if copied is not None and copied[1] == start:
                        copied = (copied[0], end)
                    else:
                        yield from self._copy(stretch, copied)
                        copied = (start, end)
                    # what is still to be copied lies before it
                    place = self._position + start - copied[0]
                    chunk, index = self._copied(stretch, sources[number], place - start)
                    chunks.append(chunk)
                    indexes.append(index)
                continue
            yield from self._copy(stretch, copied)
            copied = None
            encoded = writer.close() if writer is not None else self._rest(stretch, field, rows)
            writer = None
            rewritten.update(range(field.first, field.first + len(field.leaves)))
            for column in encoded:
                delta = self._position - len(MAGIC)
                shift_chunk(column.chunk, delta)
                chunks.append(column.chunk)
                indexes.append(_moved(column.index, delta))
                for block in column.blocks():
                    yield block
                    self._position += len(block)
        yield from self._copy(stretch, copied)
        yield from self._blooms(stretch, chunks, rewritten)
        group = dict(stretch.group)
        self._describe(group, chunks, rows)
        self._groups.append((thrift.dump(group), indexes))
        self._rows += rows
        self._writers = {}
        self._changed = set()
        self._streamed = None

    def _rest(self, stretch: Stretch, field: Field, rows: int) -> list[Encoded]:
        """Rows of a column that nobody has read so far, written anew."""
        way = self._way(field)
        if way is None:
            raise ConfigError(
                f"column {field.name!r} of {stretch.name} cannot be written again, and row group"
                f" {stretch.number} was split: plan it with larger chunks"
            )
        writer = ColumnWriter(field, way, _chunks(stretch.group, field))
        streams = stretch.rest(field)
        step = 64
        while rows:
            table = streams.take(min(rows, step))
            rows -= table.num_rows
            writer.write(table.column(0))
            step = max(1, min(step * 8, int(_REST_BYTES * table.num_rows / max(1, table.nbytes))))
        return writer.close()

    def _copy(self, stretch: Stretch, place: tuple[int, int] | None) -> Iterator[bytes]:
        if place is not None:
            yield from stretch.blocks.stream(*place)
            self._position += place[1] - place[0]

    def _copied(self, stretch: Stretch, source: Struct, delta: int) -> tuple[Struct, Index]:
        """A column chunk of the source, and its indexes, for another place."""
        chunk = dict(source)
        meta = dict(get(source, Chunk.META))
        chunk[Chunk.META] = (thrift.STRUCT, meta)
        bloom = meta.pop(Meta.BLOOM, None)
        shift_chunk(chunk, delta)
        if bloom is not None:
            put(meta, Meta.BLOOM, *bloom)
        found: list[bytes | None] = []
        for reader, offset, length in zip(
            stretch.indexes,
            (Chunk.COLUMN_INDEX, Chunk.OFFSET_INDEX),
            (Chunk.COLUMN_INDEX_LENGTH, Chunk.OFFSET_INDEX_LENGTH),
        ):
            where = index_range(source, offset, length)
            found.append(None if where is None else reader.read(*where))
        return chunk, _moved((found[0], found[1]), delta)

    def _blooms(self, stretch: Stretch, chunks: Sequence[Struct], rewritten: set[int]) -> Iterator[bytes]:
        """Copy the bloom filters of copied columns behind the row group, if their size is known."""
        for number, chunk in enumerate(chunks):
            meta = get(chunk, Chunk.META)
            start, length = meta.pop(Meta.BLOOM, (0, 0))[1], meta.pop(Meta.BLOOM_LENGTH, (0, 0))[1]
            if number in rewritten or not start or not length:
                continue
            put(meta, Meta.BLOOM, thrift.I64, self._position)
            put(meta, Meta.BLOOM_LENGTH, thrift.I32, length)
            yield stretch.blocks.read(start, start + length)
            self._position += length

    def _describe(self, group: Struct, chunks: Sequence[Struct], rows: int) -> None:
        """The struct of a row group, from that of its source."""
        metas = [get(chunk, Chunk.META) for chunk in chunks]
        put(group, Group.COLUMNS, thrift.LIST, thrift.list_of(thrift.STRUCT, chunks))
        put(group, Group.BYTES, thrift.I64, sum(get(meta, Meta.UNCOMPRESSED, 0) for meta in metas))
        put(group, Group.ROWS, thrift.I64, rows)
        if Group.COMPRESSED in group:
            put(group, Group.COMPRESSED, thrift.I64, sum(get(meta, Meta.COMPRESSED, 0) for meta in metas))
        if Group.FILE_OFFSET in group:
            put(group, Group.FILE_OFFSET, thrift.I64, self._started)
        set_ordinal(group, len(self._groups))
        if Group.SORTING in group:
            kind, order = get(group, Group.SORTING)
            kept: list[Any] = []
            for column in order:
                if get(column, 1) in self._changed:
                    break  # what comes after it was sorted only among equal values of it
                kept.append(column)
            if kept:
                put(group, Group.SORTING, thrift.LIST, (kind, kept))
            else:
                group.pop(Group.SORTING)


def _moved(index: Index, delta: int) -> Index:
    column, offset = index
    return column, None if offset is None else shift_offset_index(offset, delta)


def _chunks(group: Struct, field: Field) -> list[Struct]:
    return columns_of(group)[field.first : field.first + len(field.leaves)]
