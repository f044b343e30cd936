"""Writing one row group, column by column, in the order of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from chunkwise.core.errors import ConfigError
from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.assembly import Index, set_ordinal, shift_chunk, shift_offset_index
from chunkwise.core.formats.parquet.batch import ParquetBatch
from chunkwise.core.formats.parquet.columns import ColumnWriter, Way, unwritable
from chunkwise.core.formats.parquet.metadata import (
    MAGIC,
    Chunk,
    Field,
    Group,
    Meta,
    columns_of,
    data_range,
    index_range,
)
from chunkwise.core.formats.parquet.reader import Stretch
from chunkwise.core.formats.parquet.thrift import Struct, get, put
from chunkwise.core.units import MiB

#: rows of the first step through a column, whose width nobody knows, and bytes of the later ones
_STEP_ROWS: Final = 64
_STEP_BYTES: Final = 4 * MiB


class RowGroup:
    """A row group of a part: what :meth:`put` and :meth:`close` give are its bytes, in order.

    Nothing is held but what one column has not yet made a page of: the columns before a replaced one are
    written when its first new value comes, and its pages go out as they are made. Columns of several leaves
    that must be written anew are the exception: the pages of all but the first leaf wait for those of the
    first.

    :param stretch: its rows.
    :param position: where it begins in the part.
    :param way_of: how a column can be written anew, if it can.
    """

    def __init__(self, stretch: Stretch, position: int, way_of: Callable[[Field], Way | None]) -> None:
        self.stretch = stretch
        self.position = position
        self._started = position
        self._way_of = way_of
        self._sources = columns_of(stretch.group)
        self._next = 0
        self._copied: tuple[int, int] | None = None
        self._chunks: list[Struct] = []
        self._indexes: list[Index] = []
        self._rewritten: set[int] = set()
        self._changed: set[int] = set()
        self._writer: ColumnWriter | None = None
        self._begun = 0
        self._seen = 0

    @property
    def rows(self) -> int:
        """Of it."""
        return self.stretch.end - self.stretch.start

    def put(self, batch: ParquetBatch) -> Iterator[bytes]:
        """Rows of one column, maybe replaced."""
        field = batch.field
        if field is None:
            return
        if field.name in batch.changed:
            self._changed.add(field.first)
        if self._writer is None and (field.first in self._changed or not self.stretch.whole):
            yield from self._until(field)
            yield from self._begin(field)
            # none of the rows before was changed, and nobody kept them
            yield from self._from_source(field, self._seen)
        if self._writer is not None:
            self._writer.write(batch.table.column(0))
            yield from self._drain()
        self._seen += batch.rows
        if self._seen == self.rows:
            self._seen = 0
            if self._writer is not None:
                yield from self._end(field)

    def close(self) -> Iterator[bytes]:
        """The columns that are left, and the bloom filters of copied ones."""
        yield from self._until(None)
        yield from self._copy()
        yield from self._blooms()

    def described(self, ordinal: int) -> tuple[bytes, Sequence[Index]]:
        """Its struct, from that of its source, and the indexes of its columns; after :meth:`close`."""
        group = dict(self.stretch.group)
        metas = [get(chunk, Chunk.META) for chunk in self._chunks]
        put(group, Group.COLUMNS, thrift.LIST, thrift.list_of(thrift.STRUCT, self._chunks))
        put(group, Group.BYTES, thrift.I64, sum(get(meta, Meta.UNCOMPRESSED, 0) for meta in metas))
        put(group, Group.ROWS, thrift.I64, self.rows)
        if Group.COMPRESSED in group:
            put(group, Group.COMPRESSED, thrift.I64, sum(get(meta, Meta.COMPRESSED, 0) for meta in metas))
        if Group.FILE_OFFSET in group:
            put(group, Group.FILE_OFFSET, thrift.I64, self._started)
        set_ordinal(group, ordinal, ordinal + 1)
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
        return thrift.dump(group), self._indexes

    # --- columns that nobody replaced -----------------------------------------------------------------------

    def _until(self, stop: Field | None) -> Iterator[bytes]:
        """The columns before one, or all that are left."""
        fields = self.stretch.fields
        while self._next < len(fields) and (stop is None or fields[self._next].first < stop.first):
            field = fields[self._next]
            if self.stretch.whole:
                for number in range(field.first, field.first + len(field.leaves)):
                    yield from self._take_over(self._sources[number])
                self._next += 1
            else:
                yield from self._begin(field)
                yield from self._from_source(field, self.rows)
                yield from self._end(field)

    def _take_over(self, source: Struct) -> Iterator[bytes]:
        """A column chunk as it is; copied together with its neighbours."""
        start, end = data_range(source)
        if self._copied is not None and self._copied[1] == start:
            self._copied = (self._copied[0], end)
        else:
            yield from self._copy()
            self._copied = (start, end)
        # what is still to be copied lies before it
        delta = self.position + start - self._copied[0] - start
        chunk = dict(source)
        meta = dict(get(source, Chunk.META))
        chunk[Chunk.META] = (thrift.STRUCT, meta)
        bloom = meta.pop(Meta.BLOOM, None)
        shift_chunk(chunk, delta)
        if bloom is not None:
            put(meta, Meta.BLOOM, *bloom)
        found: list[bytes | None] = []
        for reader, offset, length in zip(
            self.stretch.indexes,
            (Chunk.COLUMN_INDEX, Chunk.OFFSET_INDEX),
            (Chunk.COLUMN_INDEX_LENGTH, Chunk.OFFSET_INDEX_LENGTH),
        ):
            where = index_range(source, offset, length)
            found.append(None if where is None else reader.read(*where))
        self._chunks.append(chunk)
        self._indexes.append(_moved((found[0], found[1]), delta))

    def _copy(self) -> Iterator[bytes]:
        if self._copied is not None:
            start, end = self._copied
            self._copied = None
            yield from self.stretch.blocks.stream(start, end)
            self.position += end - start

    def _blooms(self) -> Iterator[bytes]:
        """Copy the bloom filters of copied columns behind the row group, if their size is known."""
        for number, chunk in enumerate(self._chunks):
            meta = get(chunk, Chunk.META)
            start, length = meta.pop(Meta.BLOOM, (0, 0))[1], meta.pop(Meta.BLOOM_LENGTH, (0, 0))[1]
            if number in self._rewritten or not start or not length:
                continue
            put(meta, Meta.BLOOM, thrift.I64, self.position)
            put(meta, Meta.BLOOM_LENGTH, thrift.I32, length)
            yield self.stretch.blocks.read(start, start + length)
            self.position += length

    # --- columns that are written anew ----------------------------------------------------------------------

    def _begin(self, field: Field) -> Iterator[bytes]:
        yield from self._copy()
        way = self._way_of(field)
        if way is None and field.first in self._changed:
            raise unwritable(field.name, self.stretch.name)
        if way is None:
            raise ConfigError(
                f"column {field.name!r} of {self.stretch.name} cannot be written again, and row group"
                f" {self.stretch.number} was split: plan it with larger chunks"
            )
        chunks = self._sources[field.first : field.first + len(field.leaves)]
        self._writer = ColumnWriter(field, way, chunks)
        self._begun = self.position

    def _from_source(self, field: Field, rows: int) -> Iterator[bytes]:
        """The first rows of a column, as its source has them."""
        if not rows:
            return
        assert self._writer is not None
        streams = self.stretch.streams([field])
        step = _STEP_ROWS
        while rows:
            table = streams.take(min(rows, step))
            rows -= table.num_rows
            self._writer.write(table.column(0))
            yield from self._drain()
            step = max(1, min(step * 8, int(_STEP_BYTES * table.num_rows / max(1, table.nbytes))))

    def _drain(self) -> Iterator[bytes]:
        assert self._writer is not None
        for block in self._writer.drain():
            yield block
            self.position += len(block)

    def _end(self, field: Field) -> Iterator[bytes]:
        assert self._writer is not None
        begun = self._begun
        for encoded in self._writer.close():
            delta = begun - len(MAGIC)
            shift_chunk(encoded.chunk, delta)
            self._chunks.append(encoded.chunk)
            self._indexes.append(_moved(encoded.index, delta))
            for block in encoded.blocks():
                yield block
                self.position += len(block)
            begun = self.position
        self._rewritten.update(range(field.first, field.first + len(field.leaves)))
        self._writer = None
        self._next += 1


def _moved(index: Index, delta: int) -> Index:
    column, offset = index
    return column, None if offset is None else shift_offset_index(offset, delta)
