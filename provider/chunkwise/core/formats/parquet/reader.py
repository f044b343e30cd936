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
#: compressed bytes of a column in one row group that is written anew, as far as they wait in memory
_WAITING_BOUND: Final = 32 * MiB


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

    @property
    def whole(self) -> bool:
        """Whether these are all rows of the row group."""
        return self.start == 0 and self.end == get(self.group, Group.ROWS)

    def streams(self, fields: Sequence[Field]) -> Streams:
        """The values of some columns, from the first row on."""
        return Streams(self, fields)


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
        self._whole = request.records and not request.native
        self._bytes = request.batch_bytes // (2 if self._whole else 1)
        #: by number of a column's first leaf: bytes of a row, and rows of the last batch
        self._widths: dict[int, tuple[float, int]] = {}

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
        if self._whole:
            refuse_twins(head, fields, self._source.name)
        wanted = [f for f in fields if self._whole or f.name in self._request.columns]
        indexes = (Indexes(self._source), Indexes(self._source))
        with Blocks(self._source) as blocks:
            kept = 0
            for place, number in enumerate(numbers):
                group = structs[place]
                first, rows = groups.starts[number], groups.rows[number]
                if place >= kept:
                    kept = place + self._keep(blocks, structs[place:], first, end)
                low, high = max(0, start - first), max(0, min(rows, end - first))
                for low_, high_ in _pieces(group, fields, low, high, native=self._request.native):
                    stretch = Stretch(
                        self._source.name,
                        head,
                        fields,
                        group,
                        groups.base.number + number,
                        low_,
                        high_,
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
        rows = stretch.end - stretch.start
        native = self._request.native
        if rows == 0:
            if native:
                yield ParquetBatch(stretch, None, None, 0, self._rows, last=True)
            return
        if not wanted:
            step = rows if native else self._request.batch_rows
            for done in range(0, rows, step):
                count = min(step, rows - done)
                first = self._rows
                self._rows += count
                yield ParquetBatch(stretch, None, None, count, first, last=done + count == rows)
            return
        first = self._rows
        # all columns of a batch, or all batches of a column: an encoder that writes columns one after the
        # other would have to hold all but the first
        turns: list[list[Field]] = [[field] for field in wanted] if native else [[*wanted]]
        for turn in turns:
            done = 0
            for table in self._tables(stretch, turn):
                last = done + table.num_rows == rows and turn is turns[-1]
                if turn is turns[-1]:
                    self._rows += table.num_rows
                field = turn[0] if native else None
                yield ParquetBatch(stretch, table, field, table.num_rows, first + done, last=last)
                done += table.num_rows

    def _tables(self, stretch: Stretch, fields: Sequence[Field]) -> Iterator[pa.Table]:
        """Columns of all rows of a stretch, in pieces that are bounded."""
        streams = stretch.streams(fields)
        key = fields[0].first
        while streams.left:
            table = streams.take(min(streams.left, self._next_rows(key)))
            width = table.nbytes / table.num_rows + _TEXT_OVERHEAD * table.num_columns
            before, _ = self._widths.get(key, (0.0, 0))
            self._widths[key] = max(width, before / 2), table.num_rows
            yield from slices(table, self._bytes)

    def _next_rows(self, key: int) -> int:
        """Rows of the next batch, from the width of the last ones."""
        if key not in self._widths:
            return min(_FIRST_ROWS, self._request.batch_rows)
        width, last = self._widths[key]
        return max(1, min(last * _GROWTH, int(self._bytes / width), self._request.batch_rows))


def _pieces(
    group: Struct, fields: Sequence[Field], start: int, end: int, *, native: bool
) -> Iterator[tuple[int, int]]:
    """Rows of a row group that become row groups of their own.

    One piece where all rows are wanted. Where some are, every column is written anew, and one of several
    leaves has to wait in memory, but for its first leaf.
    """
    rows = get(group, Group.ROWS)
    step = end - start
    if native and step < rows:
        chunks = columns_of(group)
        largest = 1
        for field in fields:
            waiting = map(data_range, chunks[field.first + 1 : field.first + len(field.leaves)])
            largest = max(largest, sum(stop - begin for begin, stop in waiting))
        step = min(step, max(1, rows * _WAITING_BOUND // largest))
    if step == 0:
        yield start, end
    else:
        yield from ((low, min(low + step, end)) for low in range(start, end, step))
