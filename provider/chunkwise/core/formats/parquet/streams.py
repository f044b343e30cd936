"""Columns of a row group as Arrow tables of as many rows as are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from chunkwise.core.errors import ChunkwiseError, InvalidSource
from chunkwise.core.formats.parquet import images
from chunkwise.core.formats.parquet.blocks import Blocks, PiecedFile, block_size
from chunkwise.core.formats.parquet.images import Image
from chunkwise.core.formats.parquet.metadata import Field
from chunkwise.core.formats.parquet.pool import Released

if TYPE_CHECKING:
    from chunkwise.core.formats.parquet.reader import Stretch

#: rows that are read at once only to be dropped
_SKIPPED: Final = 4096


class Stream:
    """Reads some columns of rows of one row group, in order.

    :param image: what is read.
    :param blocks: reads the source.
    :param columns: columns that are read at once in all, for the size of blocks.
    :param place: for messages.
    """

    def __init__(self, image: Image, blocks: Blocks, columns: int, place: str) -> None:
        self._place = place
        self._left = image.rows
        self._skip = image.skip
        size = block_size(columns)
        file = PiecedFile(blocks, image.pieces, size)
        with _Placed(place):
            metadata = pq.read_metadata(pa.BufferReader(image.footer))
            self._file = pq.ParquetFile(
                pa.PythonFile(file, mode="r"),
                metadata=metadata,
                pre_buffer=False,
                buffer_size=min(size, 1 << 18),
                arrow_extensions_enabled=False,
            )
            self.schema: pa.Schema = self._file.schema_arrow
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._rest: list[pa.RecordBatch] = []

    @property
    def left(self) -> int:
        """Rows that were not taken yet."""
        return self._left

    def take(self, rows: int) -> pa.Table:
        """The next rows, exactly as many.

        :raises InvalidSource: the row group is damaged, or has fewer.
        """
        while self._skip:
            self._skip -= self._some(min(self._skip, _SKIPPED)).num_rows
        found = []
        missing = rows
        while missing:
            batch = self._some(missing)
            found.append(batch)
            missing -= batch.num_rows
        self._left -= rows
        return pa.Table.from_batches(found, self.schema).combine_chunks()

    def _some(self, rows: int) -> pa.RecordBatch:
        """At most so many rows, at least one."""
        if self._rest:
            batch = self._rest.pop()
        else:
            with _Placed(self._place):
                if self._batches is None:
                    self._batches = self._file.iter_batches(batch_size=rows, use_threads=False)
                # pyarrow asks for the batch size whenever it begins a batch
                self._file.reader.set_batch_size(rows)
                found = next(self._batches, None)
            if found is None:
                raise InvalidSource(f"{self._place} is damaged: it has fewer rows than its footer says")
            batch = found
        if batch.num_rows > rows:
            self._rest.append(batch.slice(rows))
            batch = batch.slice(0, rows)
        return batch


class Streams:
    """Reads columns of the rows ``[start, end)`` of a row group side by side.

    A whole row group is one file for pyarrow; of a part of its rows each column is one of its own, because
    their pages begin at different rows.

    :param stretch: the rows.
    :param fields: the columns.
    """

    def __init__(self, stretch: Stretch, fields: Sequence[Field]) -> None:
        head, group, blocks = stretch.head, stretch.group, stretch.blocks
        place = f"{stretch.name}, row group {stretch.number}"
        if stretch.whole:
            found = [images.whole(head, group, fields)]
        else:
            found = [
                images.part(head, group, field, stretch.start, stretch.end, blocks, place) for field in fields
            ]
        columns = sum(image.leaves for image in found)
        self._streams = [Stream(image, blocks, columns, place) for image in found]
        self.left = stretch.end - stretch.start
        self._released = Released()

    def take(self, rows: int) -> pa.Table:
        """The next rows, exactly as many."""
        tables = [stream.take(rows) for stream in self._streams]
        self.left -= rows
        self._released.add(sum(table.nbytes for table in tables))
        if len(tables) == 1:
            return tables[0]
        arrays: list[Any] = [column for table in tables for column in table.columns]
        return pa.Table.from_arrays(arrays, schema=pa.schema([f for t in tables for f in t.schema]))


class _Placed:
    """Turns what pyarrow says of damaged bytes into an error that names the place."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ChunkwiseError) or not isinstance(error, pa.ArrowException | OSError):
            return
        raise InvalidSource(f"{self._place} cannot be read: {str(error)[:300]}") from error
