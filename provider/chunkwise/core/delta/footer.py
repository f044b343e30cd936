"""What a Parquet file is, by its footer: one ranged GET, two where the footer is large. No row is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from chunkwise.core.delta.arrow_schema import odd_columns
from chunkwise.core.delta.extents import Extent
from chunkwise.core.delta.parquet_types import Column, column_of
from chunkwise.core.delta.statistics import Bounds, Collector
from chunkwise.core.errors import FormatError
from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.metadata import (
    MAGIC,
    TRAILER,
    Chunk,
    File,
    Group,
    columns_of,
    data_range,
    fields_of,
    parse_footer,
)
from chunkwise.core.formats.parquet.metadata import Footer as ParquetFooter
from chunkwise.core.formats.parquet.thrift import Reader, Struct, get
from chunkwise.core.reserved import MARK
from chunkwise.core.storage.arguments import CallArguments
from chunkwise.core.storage.failures import BODY_ERRORS, code_of, is_passing, reason, status_of
from chunkwise.core.storage.retries import Retries
from chunkwise.core.units import KiB, MiB

#: key of the metadata in the footer of a file that a compaction of a table wrote
REWRITTEN: Final = b"chunkwise.rewritten"
#: bytes from the end of a file in the first request: most footers are smaller
GUESS: Final = 64 * KiB
#: a footer is decoded in memory, to some twenty times its size
LARGEST: Final = 64 * MiB
RETRIES: Final = Retries(attempts=4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Footer:
    """What was found.

    :param size: bytes of the object that stands there.
    :param etag: of it, in its quotes.
    :param last_modified: when it was written.
    :param rows: in it.
    :param columns: of it.
    :param bounds: statistics by column.
    :param rewritten: of which table a compaction wrote it under which path, see :func:`rewritten`: its rows
        are of files that the table had. A file of another path has copied it.
    :param reserved: what its metadata says of who adds it, see :mod:`chunkwise.core.reserved`.
    """

    size: int
    etag: str
    last_modified: datetime
    rows: int
    columns: tuple[Column, ...]
    bounds: dict[str, Bounds]
    rewritten: str | None = None
    reserved: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Unusable:
    """An object that has no footer that could be used.

    :param reason: one word: ``not_found``, ``empty``, ``not_parquet``, ``encrypted``, ``damaged``,
        ``too_large``, ``unread``.
    :param detail: one sentence.
    :param size: bytes of the object that stands there, if S3 said so.
    :param etag: of it, in its quotes, likewise.
    """

    reason: str
    detail: str
    size: int | None = None
    etag: str | None = None


class _Changed(Exception):
    """Another object took its place between two requests."""


_PASSED_ON: Final[tuple[type[Exception], ...]] = (*BODY_ERRORS, _Changed)


def read_footers(
    client: Any,
    places: Iterable[tuple[str, str]],
    *,
    concurrency: int = 16,
    extra_args: Mapping[str, Any] | None = None,
    retries: Retries = RETRIES,
) -> list[Footer | Unusable]:
    """The footers of many objects, some at a time.

    :param client: boto3 S3 client; no more requests run at once than its pool has connections.
    :param places: bucket and key of each.
    :param concurrency: objects at a time.
    :param extra_args: more arguments as for ``put_object``; those that GetObject knows are sent.
    :param retries: of one object.
    :return: in the order of the places.
    """
    wanted = list(places)
    workers = max(1, min(concurrency, client.meta.config.max_pool_connections, len(wanted)))

    def one(place: tuple[str, str]) -> Footer | Unusable:
        return read_footer(client, *place, extra_args=extra_args, retries=retries)

    if workers == 1:
        return [one(place) for place in wanted]
    with ThreadPoolExecutor(workers, thread_name_prefix="chunkwise-footer") as pool:
        return list(pool.map(one, wanted))


def read_footer(
    client: Any,
    bucket: str,
    key: str,
    *,
    extra_args: Mapping[str, Any] | None = None,
    retries: Retries = RETRIES,
) -> Footer | Unusable:
    """The footer of one object. Raises nothing for what one object can have: it is said in the answer."""
    arguments = {
        "Bucket": bucket,
        "Key": key,
        **CallArguments(client, extra_args).of("GetObject"),
    }
    failures = 0
    while True:
        try:
            return _attempt(client, f"s3://{bucket}/{key}", arguments)
        except _PASSED_ON as error:
            if status_of(error) == 404:
                return Unusable(reason="not_found", detail="there is no such object")
            if status_of(error) == 416:  # what S3 answers where there is no byte
                return Unusable(reason="empty", detail="it has no bytes")
            passing = isinstance(error, _Changed) or status_of(error) == 412 or is_passing(error)
            failures += 1
            if not passing or not retries.wait(failures):
                return Unusable(reason="unread", detail=_unread(error))


def _unread(error: Exception) -> str:
    if code_of(error) == "InvalidObjectState":
        return "it is archived: restore it first"
    return (
        "it changes all the time" if isinstance(error, _Changed) else f"it could not be read: {reason(error)}"
    )


def _attempt(client: Any, uri: str, arguments: dict[str, Any]) -> Footer | Unusable:
    answer, tail = _get(client, arguments, f"bytes=-{GUESS}")
    size = _size(answer, len(tail))
    found = _found(client, uri, arguments, answer, tail, size)
    return replace(found, size=size, etag=answer["ETag"]) if isinstance(found, Unusable) else found


def _found(
    client: Any, uri: str, arguments: dict[str, Any], answer: Any, tail: bytes, size: int
) -> Footer | Unusable:
    if size == 0:  # moto answers 200
        return Unusable(reason="empty", detail="it has no bytes")
    if tail[-4:] == b"PARE":
        return Unusable(reason="encrypted", detail="its footer is encrypted")
    length = int.from_bytes(tail[-TRAILER:-4], "little")
    if tail[-4:] != MAGIC or len(tail) < TRAILER:
        return Unusable(reason="not_parquet", detail="it does not end as a Parquet file does")
    start = size - TRAILER - length
    if start < len(MAGIC):
        return Unusable(reason="damaged", detail="it is shorter than its footer says")
    if length > LARGEST:
        return Unusable(reason="too_large", detail=f"its footer has {length} bytes")
    if length + TRAILER > len(tail):
        again, tail = _get(client, {**arguments, "IfMatch": answer["ETag"]}, f"bytes={start}-{size - 1}")
        if again["ETag"] != answer["ETag"] or len(tail) != length + TRAILER:
            raise _Changed
    try:
        footer = parse_footer(tail[-TRAILER - length : -TRAILER], start, uri)
        rows, columns, bounds, extent = described(footer, uri)
    except _Encrypted:
        return Unusable(reason="encrypted", detail="its columns are encrypted")
    except FormatError as error:
        return Unusable(reason="damaged", detail=str(error))
    except (AttributeError, IndexError, KeyError, TypeError, UnicodeError, ValueError):
        return Unusable(reason="damaged", detail="its footer has values of wrong types")
    gap, pinned = extent.gap(start), {**arguments, "IfMatch": answer["ETag"]}
    if (len(tail) == size and not tail.startswith(MAGIC)) or (
        gap and _begins(client, pinned, gap, tail, size)
    ):
        return Unusable(reason="damaged", detail="its columns do not lie where its footer says")
    return Footer(
        size=size,
        etag=answer["ETag"],
        last_modified=answer["LastModified"],
        rows=rows,
        columns=columns,
        bounds=bounds,
        rewritten=_table_of(footer.head),
        reserved=answer.get("Metadata", {}).get(MARK),
    )


def _begins(client: Any, pinned: dict[str, Any], at: int, tail: bytes, size: int) -> bool:
    """Whether a file begins in the middle of this one: where something stands before a file, all its offsets
    are too small, and as many bytes too many lie before its footer.

    Few writers leave such a gap for another reason: only for their files it costs a request.
    """
    first = size - len(tail)
    if at >= first:
        return tail.startswith(MAGIC, at - first)
    answer, found = _get(client, pinned, f"bytes={at}-{at + len(MAGIC) - 1}")
    if answer["ETag"] != pinned["IfMatch"]:
        raise _Changed
    return found == MAGIC


def _get(client: Any, arguments: dict[str, Any], span: str) -> tuple[Any, bytes]:
    answer = client.get_object(**arguments, Range=span)
    body = answer["Body"]
    try:
        return answer, body.read()
    finally:
        body.close()


def _size(answer: Mapping[str, Any], got: int) -> int:
    span = answer.get("ContentRange")
    return int(span.rpartition("/")[2]) if span else got


class _Encrypted(Exception):
    pass


def described(footer: ParquetFooter, uri: str) -> tuple[int, tuple[Column, ...], dict[str, Bounds], Extent]:
    """Rows, columns and bounds of a footer, and where what it names ends.

    :param uri: of the file.
    :raises FormatError: it is damaged; so do an IndexError or the like, where values are of wrong types.
    """
    head = footer.head
    if File.ENCRYPTION in head:
        raise _Encrypted
    fields = fields_of(head, uri)
    odd = odd_columns(head)
    columns = tuple(
        replace(column, problem=column.problem or odd.get(column.name, ""))
        for column in map(column_of, fields)
    )
    leaves = sum(len(field.leaves) for field in fields)
    collector = Collector(columns, [(field.first, len(field.leaves)) for field in fields], head, leaves)
    rows, extent = 0, Extent()
    for raw in footer.groups:
        group = Reader(raw, 0, uri).struct()
        rows += _checked(group, leaves, footer.start, extent)
        collector.add(group)
    if rows != get(head, File.NUM_ROWS):
        raise _damaged("its row groups have another number of rows than it says")
    return rows, columns, collector.bounds(), extent


def rewritten(table_id: str, path: str) -> str:
    """What the footer of a file says that a compaction writes.

    :param table_id: of the table.
    :param path: of the file, from the table's root on: readers copy such metadata into files with other rows.
    """
    return f"{table_id}/{path}"


def _table_of(head: Struct) -> str | None:
    """Of a file that a compaction wrote."""
    for entry in thrift.structs(head, File.KEY_VALUES):
        if get(entry, 1) == REWRITTEN:
            return bytes(get(entry, 2, b"")).decode("utf-8", "replace")
    return None


def _checked(group: Struct, leaves: int, end: int, extent: Extent) -> int:
    """Rows of a row group that lies inside its file, whole."""
    chunks = columns_of(group)
    if len(chunks) != leaves:
        raise _damaged("a row group has another number of columns than the schema")
    for chunk in chunks:
        if Chunk.CRYPTO in chunk or Chunk.ENCRYPTED_META in chunk:
            raise _Encrypted
        if Chunk.FILE_PATH in chunk:
            raise _damaged("its columns lie in other files")
        if Chunk.META not in chunk:
            raise _damaged("a column has no metadata")
        first, last = data_range(chunk)
        if not len(MAGIC) <= first <= last <= end and last > first:
            raise _damaged("a column lies outside of the file")
        extent.add(chunk)
    rows: int = get(group, Group.ROWS, 0)
    if rows < 0:
        raise _damaged("a row group has fewer than 0 rows")
    return rows


def _damaged(text: str) -> FormatError:
    return FormatError(text)
