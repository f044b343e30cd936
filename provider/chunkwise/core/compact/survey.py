"""What many files are, by their footers: one ranged GET each, several at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Final

from chunkwise.core.compact.heads import key_values
from chunkwise.core.compact.marks import MADE_BY, mark_in
from chunkwise.core.compact.model import File, Options, Skipped
from chunkwise.core.compact.schema import Schemas
from chunkwise.core.errors import (
    InvalidSource,
    ReadFailed,
    SourceChanged,
    UnsupportedSource,
)
from chunkwise.core.formats.parquet.habits import Habit, habit_of
from chunkwise.core.formats.parquet.metadata import (
    MAGIC,
    Chunk,
    Footer,
    Group,
    Meta,
    check_group,
    check_writer,
    columns_of,
    data_range,
    fields_of,
    index_range,
    read_footer,
)
from chunkwise.core.formats.parquet.metadata import File as Fields
from chunkwise.core.formats.parquet.thrift import Reader, Struct, get
from chunkwise.core.storage import ObjectRef, S3Source

#: files whose footers are decoded at a time
_BATCH: Final = 256
#: an object of fewer bytes is no Parquet file
_SMALLEST: Final = len(MAGIC) * 2 + 4


def survey(
    client: Any, refs: Sequence[ObjectRef], schemas: Schemas, options: Options
) -> Iterator[File | Skipped]:
    """Read footers.

    :param refs: of files, as they were listed.
    :return: in their order; what cannot be used is said, and stops no other.
    """
    workers = max(1, min(options.concurrency, client.meta.config.max_pool_connections, len(refs)))

    def one(ref: ObjectRef) -> File | Skipped:
        return look(client, ref, schemas, options)

    with ThreadPoolExecutor(workers, thread_name_prefix="chunkwise-footer") as pool:
        left = iter(refs)
        while batch := list(islice(left, _BATCH)):
            options.ask()
            yield from pool.map(one, batch)


def look(client: Any, ref: ObjectRef, schemas: Schemas, options: Options) -> File | Skipped:
    """What one file is; raises nothing for what one file can have."""
    if ref.size < _SMALLEST:
        return Skipped(uri=ref.uri, reason="not_parquet", detail=f"it has {ref.size} bytes")
    source = S3Source(client, ref, extra_args=options.extra_args, ahead=0)
    try:
        return file_of(source, schemas)
    except SourceChanged as error:
        return Skipped(uri=ref.uri, reason="changed", detail=str(error))
    except ReadFailed as error:
        return Skipped(uri=ref.uri, reason="unread", detail=str(error))
    except UnsupportedSource as error:
        return Skipped(uri=ref.uri, reason="unsupported", detail=str(error))
    except InvalidSource as error:
        return Skipped(uri=ref.uri, reason="damaged", detail=str(error))
    except (AttributeError, IndexError, KeyError, TypeError, UnicodeError, ValueError):
        return Skipped(uri=ref.uri, reason="damaged", detail="its footer has values of wrong types")


def file_of(source: S3Source, schemas: Schemas) -> File:
    """What a file is.

    :raises StorageError: it cannot be read.
    :raises FormatError: it is no Parquet file that could be merged.
    """
    return described(read_footer(source), source.ref, schemas)


def described(footer: Footer, ref: ObjectRef, schemas: Schemas) -> File:
    """The same by its footer.

    :raises FormatError: it is no Parquet file that could be merged.
    """
    name = ref.uri
    check_writer(footer.head, name)
    leaves = sum(len(field.leaves) for field in fields_of(footer.head, name))
    rows = size = 0
    end = len(MAGIC)
    first_index: int | None = None
    fixed = ""
    habits: tuple[Habit, ...] = ()
    for number, raw in enumerate(footer.groups):
        group = Reader(raw, 0, f"the footer of {name}").struct()
        check_group(group, number, leaves, footer.start, name)
        rows += get(group, Group.ROWS)
        habits = habits or tuple(map(habit_of, columns_of(group)))
        for chunk in columns_of(group):
            start, stop = data_range(chunk)
            size += stop - start
            bloom, problem = _bloom_end(chunk)
            fixed = fixed or problem
            end = max(end, stop, bloom)
            for index in _indexes(chunk):
                first_index = index[0] if first_index is None else min(first_index, index[0])
                if index[1] > footer.start:
                    raise InvalidSource(f"{name} is damaged: a page index lies outside of the file")
    if rows != get(footer.head, Fields.NUM_ROWS):
        raise InvalidSource(f"{name} is damaged: its row groups have another number of rows than it says")
    if first_index is not None and first_index < end:
        fixed = fixed or "its page indexes lie between its row groups"
    if end > footer.start:
        fixed = fixed or "its bloom filters lie behind its footer"
    mark = mark_in(footer.head, ref.key)
    if mark is not None and mark.rows != rows:
        mark = None
    return File(
        ref=ref,
        schema=schemas.of(footer.head, name),
        habits=schemas.same(habits),
        rows=rows,
        groups=len(footer.groups),
        data_bytes=size,
        data_end=end,
        stands_for=frozenset() if mark is None else mark.digests,
        is_output=mark is not None,
        made_of=0 if mark is None else mark.files,
        made_by=b"" if mark is None else key_values(footer.head).get(MADE_BY, b""),
        fixed=fixed,
    )


def _bloom_end(chunk: Struct) -> tuple[int, str]:
    """Where the bloom filter of a column chunk ends, and why it cannot be moved."""
    meta = get(chunk, Chunk.META)
    start, length = get(meta, Meta.BLOOM), get(meta, Meta.BLOOM_LENGTH)
    if not start:
        return 0, ""
    if not length:
        return 0, "it does not say how long its bloom filters are"
    return start + length, ""


def _indexes(chunk: Struct) -> Iterator[tuple[int, int]]:
    for offset, length in (
        (Chunk.COLUMN_INDEX, Chunk.COLUMN_INDEX_LENGTH),
        (Chunk.OFFSET_INDEX, Chunk.OFFSET_INDEX_LENGTH),
    ):
        found = index_range(chunk, offset, length)
        if found is not None:
            yield found
