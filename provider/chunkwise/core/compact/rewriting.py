"""Files whose rows are read and written again, in larger row groups and bounded memory."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from chunkwise.core.compact.ahead import in_order
from chunkwise.core.compact.heads import Agreed
from chunkwise.core.compact.model import File, Options, Unusable
from chunkwise.core.errors import FormatError, UnsupportedSource
from chunkwise.core.formats.model import Boundary, ByteSource, ReadRequest, Span
from chunkwise.core.formats.parquet import Parquet
from chunkwise.core.formats.parquet.habits import Habit, dictionaries_of, options_of
from chunkwise.core.formats.parquet.metadata import fields_of, unpack_head
from chunkwise.core.storage import S3Source, S3Writer
from chunkwise.core.units import MiB

_THREADS: Final = 4
#: files up to this size are read by one request each; and bytes of them that wait
_WHOLE: Final = 8 * MiB
_AHEAD: Final = 32 * MiB
_BATCH: Final = 8 * MiB
#: as pyarrow has it
_GROUP_ROWS: Final = 1 << 20


class _Whole:
    """The bytes of a file that was read whole; see :class:`~chunkwise.core.formats.model.ByteSource`."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.size = len(data)
        self._data = data

    def read(self, start: int, end: int) -> bytes:
        return self._data[start:end]

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        yield self._data[start:end]


class _Sink(io.RawIOBase):
    """What pyarrow writes goes into the object; its end is nobody's but the writer's."""

    def __init__(self, writer: S3Writer) -> None:
        self._writer = writer

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._writer.bytes_written

    def write(self, data: Any) -> int:
        return self._writer.write(data)


def rewrite(
    client: Any, files: Sequence[File], more: Mapping[bytes, bytes], options: Options, writer: S3Writer
) -> int:
    """Write the rows of some files, in their order; bytes that were read.

    Row groups have ``row_group_bytes`` of rows in memory or a million rows. Codec, dictionaries, statistics,
    page indexes and the version of pages are what most of the files have.

    :param files: of one schema, which pyarrow can write.
    :param more: key/value metadata of the output beside what the files agree on.
    :param writer: gets the bytes; it is not closed.
    :raises Unusable: a file is damaged, or has other rows than its footer says.
    :raises SourceChanged: a file is no longer the one that was looked at.
    :raises StorageError: S3 refuses, or failed at every attempt.
    """
    schema = files[0].schema
    way = schema.options()
    if way is None:
        raise UnsupportedSource(f"{files[0].ref.uri} has a column that pyarrow would write as another type")
    named = list(zip(_paths(files[0]), _usual(files)))
    agreed = Agreed(schema)
    rows = _Rows(options.row_group_bytes)
    read = 0
    sink = _Sink(writer)
    with pq.ParquetWriter(
        sink,
        schema.natural,
        store_schema=False,
        **{**_written_as(named), **way},
    ) as out:
        for file, source in zip(files, _sources(client, files, options)):
            options.ask()
            for table in _tables(file, source, agreed):
                for group in rows.add(table):
                    out.write_table(group, row_group_size=max(1, group.num_rows))
            read += file.ref.size
        for group in rows.end():
            out.write_table(group, row_group_size=max(1, group.num_rows))
        out.add_key_value_metadata(agreed.values(more))
    return read


class _Rows:
    """Rows that wait until there are enough for a row group."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._waiting: list[pa.Table] = []
        self._bytes = self._rows = 0

    def add(self, table: pa.Table) -> Iterator[pa.Table]:
        if self._waiting and (
            self._bytes + table.nbytes > self._most or self._rows + table.num_rows > _GROUP_ROWS
        ):
            yield from self.end()
        self._waiting.append(table)
        self._bytes += table.nbytes
        self._rows += table.num_rows

    def end(self) -> Iterator[pa.Table]:
        if self._waiting:
            group = pa.concat_tables(self._waiting)
            self._waiting = []
            self._bytes = self._rows = 0
            yield group
            del group
            pa.default_memory_pool().release_unused()


def _sources(client: Any, files: Sequence[File], options: Options) -> Iterator[ByteSource]:
    """The files as sources: small ones are read ahead, by one request each."""

    def load(file: File) -> Callable[[], ByteSource]:
        if file.ref.size > _WHOLE:
            return lambda: S3Source(client, file.ref, extra_args=options.extra_args)
        whole = S3Source(client, file.ref, extra_args=options.extra_args, ahead=0)
        return lambda: _Whole(file.ref.uri, whole.read(0, file.ref.size))

    work = ((file.ref.size if file.ref.size <= _WHOLE else 0, load(file)) for file in files)
    return in_order(work, threads=_THREADS, most_bytes=_AHEAD)


def _tables(file: File, source: ByteSource, agreed: Agreed) -> Iterator[pa.Table]:
    """The rows of a file, in pieces that are bounded, of the very types that are written.

    :raises Unusable: it has others than its footer says, or none that could be read.
    """
    natural = file.schema.natural
    found = 0
    try:
        for table in _read(source, agreed):
            found += table.num_rows
            # readers give what an extension type is stored as, writers want the type itself
            yield table if table.schema.equals(natural) else table.cast(natural)
    except FormatError as error:
        raise Unusable(str(error), file=file) from error
    except (pa.ArrowException, ValueError, NotImplementedError) as error:
        # the text of pyarrow's errors may have values in it
        raise Unusable(
            f"{file.ref.uri} cannot be read: pyarrow raises {type(error).__name__}", file=file
        ) from error
    if found != file.rows:
        raise Unusable(f"{file.ref.uri} has {found} rows, and its footer says {file.rows}", file=file)


def _read(source: ByteSource, agreed: Agreed) -> Iterator[pa.Table]:
    parquet = Parquet()
    layout = parquet.inspect(source, {})
    head = unpack_head(layout.details["head"])
    agreed.add(head)
    names = tuple(field.name for field in fields_of(head, source.name))
    span = Span(start=Boundary(position=0), end=Boundary(position=layout.extent))
    request = ReadRequest(columns=names, batch_bytes=_BATCH, records=False, native=False)
    for batch in parquet.read(source, layout, span, request):
        yield batch.table


def _paths(file: File) -> list[str]:
    """The leaves of the columns, as pyarrow names them."""
    fields = fields_of(file.schema.head, file.ref.uri)
    return [
        b".".join(leaf.path).decode("utf-8", "replace") for leaf in chain(*(one.leaves for one in fields))
    ]


def _written_as(named: Sequence[tuple[str, Habit]]) -> dict[str, Any]:
    return {"use_dictionary": dictionaries_of(named), **options_of(named)} if named else {}


def _usual(files: Sequence[File]) -> list[Habit]:
    """What most files have, leaf by leaf."""
    habits = Counter(file.habits for file in files if file.habits)
    return [Counter(leaf).most_common(1)[0][0] for leaf in zip(*habits.elements())]
