"""Reading one chunk: whole row groups, or a range of rows of a large one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa

from chunkwise.core.errors import InvalidSource
from chunkwise.core.formats.model import Boundary, ByteSource, Layout, ReadRequest, Span
from chunkwise.core.formats.parquet.batch import ParquetBatch, refuse_twins, slices
from chunkwise.core.formats.parquet.blocks import WHOLE, Blocks
from chunkwise.core.formats.parquet.layout import group_structs, groups_of
from chunkwise.core.formats.parquet.metadata import (
    Field,
    Group,
    columns_of,
    data_range,
    fields_of,
    unpack_head,
)
from chunkwise.core.formats.parquet.streams import Streams
from chunkwise.core.formats.parquet.thrift import Struct, get
from chunkwise.core.units import KiB, MiB

#: rows of the first batch, whose width nobody knows, and how much larger than the last one a batch may be
_FIRST_ROWS: Final = 16
_GROWTH: Final = 16
#: bytes by which a value and its successor as Python texts are larger than it is in Arrow
_TEXT_OVERHEAD: Final = 100
_INDEX_WINDOW: Final = 128 * KiB
#: compressed bytes of one column in one row group that is written anew: as much stays in memory
_COLUMN_BOUND: Final = 32 * MiB


class Indexes:
    """Reads small structs that lie one after the other, some at a time."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._data = b""
        self._start = 0

    def read(self, start: int, end: int) -> bytes:
        """One of them."""
        if not (self._start <= start and end <= self._start + len(self._data)):
            self._data = self._source.read(start, max(end, min(self._source.size, start + _INDEX_WINDOW)))
            self._start = start
        return self._data[start - self._start : end - self._start]


class Stretch:
    """Rows ``[start, end)`` of one row group, and how to get at all of their columns.

    :param name: of the source.
    :param head: of the file.
    :param fields: all columns.
    :param group: the row group.
    :param number: of the row group.
    :param start: first row, counted from the row group's.
    :param end: row after the last.
    :param blocks: reads the source.
    :param indexes: read column indexes and offset indexes.
    """

    def __init__(
        self,
        name: str,
        head: Struct,
        fields: Sequence[Field],
        group: Struct,
        number: int,
        start: int,
        end: int,
        blocks: Blocks,
        indexes: tuple[Indexes, Indexes],
    ) -> None:
        self.name = name
        self.head = head
        self.fields = fields
        self.group = group
        self.number = number
        self.start = start
        self.end = end
        self.blocks = blocks
        self.indexes = indexes
        self._streams: dict[int, Streams] = {}

    @property
    def whole(self) -> bool:
        """Whether these are all rows of the row group."""
        return self.start == 0 and self.end == get(self.group, Group.ROWS)

    def streams(self, fields: Sequence[Field], side_by_side: int | None = None) -> Streams:
        """The values of some columns, from the first row on.

        :param side_by_side: columns that are read at the same time; default: these.
        """
        return Streams(self, fields, side_by_side or len(fields))

    def rest(self, field: Field) -> Streams:
        """The values of one column that nobody took yet."""
        if field.first not in self._streams:
            self._streams[field.first] = self.streams([field], len(self.fields))
        return self._streams[field.first]

    def bound(self) -> int:
        """Rows that may be written anew as one row group."""
        rows: int = get(self.group, Group.ROWS)
        chunks = columns_of(self.group)
        largest = 1
        for field in self.fields:
            ranges = [data_range(chunk) for chunk in chunks[field.first : field.first + len(field.leaves)]]
            largest = max(largest, sum(end - start for start, end in ranges))
        return max(1, rows * _COLUMN_BOUND // largest)


class ParquetReader:
    """See :class:`~chunkwise.core.formats.model.BatchReader`.

    :param source: the file.
    :param layout: of it.
    :param span: rows.
    :param request: what is asked for.
    """

    def __init__(self, source: ByteSource, layout: Layout, span: Span, request: ReadRequest) -> None:
        self._source = source
        self._layout = layout
        self._span = span
        self._request = request
        self._rows = 0
        # as JSON, rows take about twice the memory
        self._bytes = request.batch_bytes // (2 if request.records else 1)
        self._width = 0.0
        self._last = _FIRST_ROWS // _GROWTH

    @property
    def start(self) -> Boundary:
        """See :class:`~chunkwise.core.formats.model.BatchReader`."""
        return self._span.start

    @property
    def end(self) -> Boundary:
        """See :class:`~chunkwise.core.formats.model.BatchReader`: as many rows further as were read."""
        return Boundary(position=self._span.start.position + self._rows)

    @property
    def rows(self) -> int:
        """Rows read."""
        return self._rows

    def __iter__(self) -> Iterator[ParquetBatch]:
        """Once."""
        start, end = self._span.start.position, self._span.end.position
        groups = groups_of(self._layout)
        if not 0 <= start <= end <= self._layout.extent:
            raise InvalidSource(
                f"{self._source.name} has {self._layout.extent} rows: there are no rows {start} to {end}"
            )
        numbers = groups.owned(start, end)
        structs = group_structs(self._source, self._layout, numbers)
        head = unpack_head(self._layout.details["head"])
        fields = fields_of(head, self._source.name)
        if self._request.records:
            refuse_twins(fields, self._source.name)
        wanted = [f for f in fields if self._request.records or f.name in self._request.columns]
        indexes = (Indexes(self._source), Indexes(self._source))
        with Blocks(self._source) as blocks:
            kept = 0
            for place, number in enumerate(numbers):
                group = structs[place]
                first, rows = groups.starts[number], groups.rows[number]
                if place >= kept:
                    kept = place + self._keep(blocks, structs[place:], first, end)
                stretch = Stretch(
                    self._source.name,
                    head,
                    fields,
                    group,
                    groups.base.number + number,
                    max(0, start - first),
                    max(0, min(rows, end - first)),
                    blocks,
                    indexes,
                )
                yield from self._stretch(stretch, wanted)

    def _keep(self, blocks: Blocks, structs: Sequence[Struct], first: int, end: int) -> int:
        """Read small row groups that follow one another by one request; how many."""
        low = high = -1
        count = 0
        for group in structs:
            ranges = [data_range(chunk) for chunk in columns_of(group)]
            ranges = [(a, b) for a, b in ranges if a < b]
            first += get(group, Group.ROWS)
            if not ranges:
                count += 1
                continue
            from_, to = min(a for a, _ in ranges), max(b for _, b in ranges)
            low_, high_ = (from_, to) if low < 0 else (min(low, from_), max(high, to))
            if high_ - low_ > WHOLE or first > end:
                break
            low, high = low_, high_
            count += 1
        if low >= 0:
            blocks.keep(low, high)
        return max(1, count)

    def _stretch(self, stretch: Stretch, wanted: Sequence[Field]) -> Iterator[ParquetBatch]:
        left = stretch.end - stretch.start
        if left == 0:
            if not self._request.records:
                yield ParquetBatch(stretch, None, 0, self._rows, last=True)
            return
        if not wanted:
            while left:
                rows = min(left, self._request.batch_rows)
                left -= rows
                yield self._batch(stretch, None, rows, left == 0)
            return
        streams = stretch.streams(wanted)
        while left:
            table = streams.take(min(left, self._next_rows()))
            self._last = table.num_rows
            width = table.nbytes / table.num_rows + _TEXT_OVERHEAD * table.num_columns
            self._width = max(width, self._width / 2)
            for piece in slices(table, self._bytes):
                left -= piece.num_rows
                yield self._batch(stretch, piece, piece.num_rows, left == 0)

    def _next_rows(self) -> int:
        """Rows of the next batch, from the width of the last ones."""
        rows = self._last * _GROWTH
        if self._width:
            rows = min(rows, int(self._bytes / self._width))
        return max(1, min(rows, self._request.batch_rows))

    def _batch(self, stretch: Stretch, table: pa.Table | None, rows: int, last: bool) -> ParquetBatch:
        batch = ParquetBatch(stretch, table, rows, self._rows, last=last)
        self._rows += rows
        return batch
