"""Writing one column anew, as its source had it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from chunkwise.core.errors import SchemaMismatch
from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.assembly import Index, shift_chunk
from chunkwise.core.formats.parquet.habits import dictionaries_of, habit_of, options_of
from chunkwise.core.formats.parquet.merging import merge_column_indexes, merge_metas, merge_offset_indexes
from chunkwise.core.formats.parquet.metadata import (
    MAGIC,
    TRAILER,
    Chunk,
    Field,
    Footer,
    Leaf,
    Meta,
    columns_of,
    data_range,
    fields_of,
    footer_bytes,
    index_range,
    parse_footer,
    pruned,
)
from chunkwise.core.formats.parquet.pool import Released
from chunkwise.core.formats.parquet.thrift import Reader, Struct, get
from chunkwise.core.units import MiB

_INT96: Final = 3
_FIXED: Final = 7
_BLOCK: Final = 4 * MiB
#: bytes of values that wait to be written, and after which texts are looked at for repetitions
_WAITING: Final = 4 * MiB
_COMPACTED: Final = 2 * MiB
#: what decides which physical type a writer takes for a type of Arrow
_WAYS: Final[tuple[dict[str, Any], ...]] = ({}, {"store_decimal_as_integer": True}, {"version": "1.0"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How pyarrow writes a column in the shape that its source has.

    :param schema: of the column alone.
    :param options: of the writer.
    :param paths: of its leaves, as pyarrow names them.
    """

    schema: pa.Schema
    options: dict[str, Any]
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Go:
    """What one go of a writer gave, leaf by leaf.

    :param rows: of it.
    :param pages: bytes.
    :param chunks: their structs.
    :param indexes: column index and offset index.
    """

    rows: int
    pages: list[memoryview | None]
    chunks: list[Struct]
    indexes: list[Index]


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """A column chunk, written.

    :param pages: its bytes, but for those that were drained.
    :param chunk: its struct; offsets count as if it began at byte 4.
    :param index: column index and offset index, the same.
    """

    pages: Sequence[memoryview]
    chunk: Struct
    index: Index

    def blocks(self) -> Iterator[bytes]:
        """The bytes in blocks."""
        for page in self.pages:
            yield from _in_blocks(page)


def way_of(head: Struct, field: Field) -> Way | None:
    """How a column can be written so that its pages fit the schema of the source; ``None``: it cannot be.

    :param head: of the source.
    """
    if any(get(leaf.element, 1) == _INT96 for leaf in field.leaves):
        return None  # dates that a timestamp in nanoseconds cannot hold would be changed
    shapes = [_shape(leaf) for leaf in field.leaves]
    found = arrow_field(head, field)
    if found is None:
        return None
    schema = pa.schema([found])
    try:
        for options in _WAYS:
            out = pa.BufferOutputStream()
            pq.ParquetWriter(out, schema, store_schema=False, **options).close()
            leaves = [leaf for f in _fields(memoryview(out.getvalue())) for leaf in f.leaves]
            if [_shape(leaf) for leaf in leaves] == shapes:
                paths = tuple(b".".join(leaf.path).decode() for leaf in leaves)
                return Way(schema=schema, options=options, paths=paths)
    except (pa.ArrowException, OSError, UnicodeDecodeError, NotImplementedError):
        return None
    return None


def unwritable(column: str, name: str) -> SchemaMismatch:
    """That a column cannot be replaced, whatever its type.

    :param name: of the source.
    """
    return SchemaMismatch(
        f"column {column!r} of {name} cannot be written anew in the shape that it has: its values cannot be"
        " replaced. Leave it alone (ignored-columns), or write the file again with pyarrow"
    )


class ColumnWriter:
    """Writes one column of one row group, into memory.

    Values wait until there are 4 MiB of them, then become compressed pages. Those of the first time may be
    dictionary-encoded, as a column chunk has one dictionary at most. Texts that repeat wait as a dictionary
    themselves.

    :param field: the column.
    :param way: how.
    :param chunks: its column chunks in the source, whose codec, encoding and so on are kept.
    """

    def __init__(self, field: Field, way: Way, chunks: Sequence[Struct]) -> None:
        metas = [get(chunk, Chunk.META) for chunk in chunks]
        named = list(zip(way.paths, map(habit_of, chunks)))
        self._leaves = field.leaves
        self._schema = way.schema
        self._options: dict[str, Any] = {**options_of(named), **way.options}
        self._dictionaries = dictionaries_of(named)
        self._paths = [get(meta, Meta.PATH) for meta in metas]
        kind = way.schema.field(0).type
        self._repeats = bool(self._dictionaries) and (pa.types.is_string(kind) or pa.types.is_binary(kind))
        self._raw: list[pa.ChunkedArray] = []
        self._raw_bytes = 0
        self._compact: list[pa.ChunkedArray] = []
        self._compact_bytes = 0
        self._rows = 0
        self._goes: list[_Go] = []
        self._released = Released()

    def write(self, column: pa.ChunkedArray) -> None:
        """More rows of the column."""
        step = max(1, len(column) * _COMPACTED // max(_COMPACTED, column.nbytes))
        for start in range(0, len(column), step):
            self._add(column.slice(start, step))

    def _add(self, column: pa.ChunkedArray) -> None:
        self._raw.append(column)
        self._raw_bytes += column.nbytes
        self._rows += len(column)
        self._released.add(column.nbytes)
        if self._raw_bytes >= (_COMPACTED if self._repeats else _WAITING):
            if self._repeats:
                self._compress()
            if not self._repeats or self._compact_bytes >= _WAITING:
                self._flush()

    def drain(self) -> Iterator[bytes]:
        """The pages so far of the first leaf; they are not held any more."""
        for go in self._goes:
            data, go.pages[0] = go.pages[0], None
            if data is not None:
                yield from _in_blocks(data)

    def close(self) -> list[Encoded]:
        """The column chunks, one per leaf."""
        if self._rows or not self._goes:
            self._flush()
        return [self._merged(number) for number in range(len(self._leaves))]

    def _compress(self) -> None:
        """Let texts wait as a dictionary, if they repeat."""
        column = pa.chunked_array(
            [chunk for part in self._raw for chunk in part.chunks], self._schema.types[0]
        )
        encoded = column.combine_chunks().dictionary_encode() if column.num_chunks else column
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        if encoded.nbytes * 2 > column.nbytes:
            self._repeats = False
            return
        self._compact.append(pa.chunked_array([encoded]))
        self._compact_bytes += encoded.nbytes
        self._raw, self._raw_bytes = [], 0

    def _flush(self) -> None:
        """Write what waits."""
        schema = self._schema
        if self._compact:
            parts = [*self._compact, *(part.dictionary_encode() for part in self._raw)]
            kind = self._compact[0].type
            schema = pa.schema([schema.field(0).with_type(kind)])
            chunks = [chunk.cast(kind) for part in parts for chunk in part.chunks]
            table = pa.table([pa.chunked_array(chunks, kind)], schema=schema).unify_dictionaries()
        else:
            chunks = [chunk for part in self._raw for chunk in part.chunks]
            table = pa.table([pa.chunked_array(chunks, schema.types[0])], schema=schema)
        out = pa.BufferOutputStream()
        use_dictionary = self._dictionaries if not self._goes else False
        writer = pq.ParquetWriter(
            out, schema, store_schema=False, use_dictionary=use_dictionary, **self._options
        )
        writer.write_table(table, row_group_size=max(1, len(table)))
        writer.close()
        data = memoryview(out.getvalue())
        written = columns_of(Reader(_footer(data).groups[0]).struct())
        ranges = [data_range(chunk) for chunk in written]
        self._goes.append(
            _Go(
                rows=self._rows,
                pages=[data[start:end] for start, end in ranges],
                chunks=written,
                indexes=[
                    (
                        _index(data, chunk, Chunk.COLUMN_INDEX, Chunk.COLUMN_INDEX_LENGTH),
                        _index(data, chunk, Chunk.OFFSET_INDEX, Chunk.OFFSET_INDEX_LENGTH),
                    )
                    for chunk in written
                ],
            )
        )
        self._raw, self._compact = [], []
        self._raw_bytes = self._compact_bytes = self._rows = 0

    def _merged(self, number: int) -> Encoded:
        """One leaf from all goes."""
        chunks = [go.chunks[number] for go in self._goes]
        deltas: list[int] = []
        before: list[int] = []
        position, rows = len(MAGIC), 0
        for go, chunk in zip(self._goes, chunks):
            start, end = data_range(chunk)
            deltas.append(position - start)
            before.append(rows)
            position += end - start
            rows += go.rows
        merged = chunks[0]
        shift_chunk(merged, deltas[0])
        meta = merge_metas([get(chunk, Chunk.META) for chunk in chunks], self._leaves[number])
        meta[Meta.PATH] = (thrift.LIST, self._paths[number])
        merged[Chunk.META] = (thrift.STRUCT, meta)
        indexes = [go.indexes[number] for go in self._goes]
        return Encoded(
            pages=[data for go in self._goes if (data := go.pages[number]) is not None],
            chunk=merged,
            index=(
                merge_column_indexes([column for column, _ in indexes]),
                merge_offset_indexes([offset for _, offset in indexes], deltas, before),
            ),
        )


def _in_blocks(data: memoryview) -> Iterator[bytes]:
    for position in range(0, len(data), _BLOCK):
        yield bytes(data[position : position + _BLOCK])


def _index(data: memoryview, chunk: Struct, offset: int, length: int) -> bytes | None:
    where = index_range(chunk, offset, length)
    return None if where is None else bytes(data[where[0] : where[1]])


def _shape(leaf: Leaf) -> tuple[object, ...]:
    kind, length, *levels = leaf.shape
    return (kind, length if kind == _FIXED else 0, *levels)


def _footer(data: memoryview) -> Footer:
    length = int.from_bytes(data[-TRAILER:-4], "little")
    start = len(data) - TRAILER - length
    return parse_footer(bytes(data[start:-TRAILER]), start, "a column")


def _fields(data: memoryview) -> tuple[Field, ...]:
    return fields_of(_footer(data).head, "a column")


def arrow_field(head: Struct, field: Field) -> pa.Field | None:
    """A column as Arrow sees it, its own metadata left aside; ``None``: pyarrow does not know its type."""
    try:
        schema = pq.read_schema(pa.BufferReader(MAGIC + footer_bytes(pruned(head, [field]), 0, [], 0)))
    except (pa.ArrowException, OSError, UnicodeDecodeError, NotImplementedError):
        return None
    return schema.field(0)
