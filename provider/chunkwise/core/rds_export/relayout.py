"""The files of an export's table, copied by S3 itself to where a partitioned table has them.

``{export}/{database}/{schema.table}/{batch}/part-{number}-{uuid}.gz.parquet`` becomes
``{table}/ds=2024-01-01/{export}_{batch}_part-{number}-{uuid}.gz.parquet``. The name keeps what tells files
apart: parts of two batches may have equal names, and two exports of one day stand beside each other until
the table has the later one. The files of one export are those that begin with its name, which has no
underscore: no list of them has to travel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import msgspec

from chunkwise.core.column_names import is_name
from chunkwise.core.errors import ConfigError, ExportDamaged, ExportIncomplete
from chunkwise.core.rds_export.layout import place_of
from chunkwise.core.rds_export.model import ExportTable
from chunkwise.core.reserved import mark_of
from chunkwise.core.storage import copy as copying
from chunkwise.core.storage import objects
from chunkwise.core.storage.objects import Listed
from chunkwise.core.storage.source import ObjectRef

#: fields that a name of a table's root may have
FIELDS: Final = ("database", "schema", "table")
DEFAULT_PATH: Final = "{database}/{schema}.{table}"


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """The files of an export's table, where they are to be committed.

    :param export: identifier of the task.
    :param name: of the table, as RDS names it.
    :param table_uri: of the Delta table.
    :param objects_uri: what the URIs of its files of this export begin with, and of no other.
    :param partition: values of the partition columns; empty: the table has none.
    :param files: how many there are.
    :param bytes: in them.
    :param copied: how many were copied now; the others stood there already.
    """

    export: str
    name: str
    table_uri: str
    objects_uri: str
    partition: dict[str, str]
    files: int
    bytes: int
    copied: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where the tables go.

    :param uri: ``s3://bucket/prefix``.
    :param path: of a table's root below it, with ``{database}``, ``{schema}`` and ``{table}``.
    :param column: of the partition.
    :param value: of it, e.g. ``"2024-01-01"``.
    """

    uri: str
    path: str = DEFAULT_PATH
    column: str = "ds"
    value: str

    def __post_init__(self) -> None:
        bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        parts = prefix.rstrip("/").split("/") if prefix.rstrip("/") else []
        if not self.uri.startswith("s3://") or not bucket or {"", ".", ".."}.intersection(parts):
            raise ConfigError(f"target_uri is {self.uri!r}: it must be s3://bucket/prefix").naming(
                "target_uri"
            )
        if not is_name(self.column) or set("/*%").intersection(self.column) or not self.value:
            raise ConfigError(
                f"the partition is {self.column!r} = {self.value!r}: it needs a value, and a name without "
                "any of ' ,;{}()=/*%'"
            ).naming("partition_column", "ds")
        self.root_of("database", "schema.table")

    def root_of(self, database: str, folder: str) -> str:
        """URI of the root of a table.

        :param database: of the export.
        :param folder: of the table there, ``schema.table``.
        :raises ConfigError: ``path`` has other fields.
        """
        schema, _, table = folder.rpartition(".")
        try:
            below = self.path.format(database=database, schema=schema, table=table).strip("/")
        except (LookupError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"table_path is {self.path!r}: its fields are {', '.join(f'{{{one}}}' for one in FIELDS)}"
            ).naming("table_path") from error
        if not below or {"", ".", ".."}.intersection(below.split("/")) or "=" in below:
            raise ConfigError(
                f"table_path {self.path!r} makes {below!r} of a table: it must be a path without '=' and "
                "empty folders"
            ).naming("table_path")
        return f"{self.uri.rstrip('/')}/{below}"


def placed_in_place(export: str, table: ExportTable) -> Placed:
    """A table whose files stay where they are: the Delta table is the folder of the export."""
    return Placed(
        export=export,
        name=table.name,
        table_uri=table.uri,
        objects_uri=f"{table.uri}/",
        partition={},
        files=table.files,
        bytes=table.bytes,
    )


def check_roots(tables: Sequence[ExportTable], target: Target) -> None:
    """Refuse two tables that would become one.

    :raises ConfigError: naming both.
    """
    seen: dict[str, str] = {}
    for table in tables:
        other = seen.setdefault(target.root_of(table.database, table.folder), table.name)
        if other != table.name:
            raise ConfigError(
                f"table_path {target.path!r} puts {other} and {table.name} in one place"
            ).naming("table_path")


def relayout(
    client: Any,
    export: str,
    table: ExportTable,
    target: Target,
    *,
    copies_in_flight: int = 16,
    extra_args: Mapping[str, Any] | None = None,
    largest: int = copying.LARGEST,
) -> Placed:
    """Copy the files of a table; those that stand there already are left alone.

    A listing of both places, a request for each file to copy, and one for each that stands there unless its
    ETag tells enough. Nothing that another export brought is touched.

    :param client: boto3 S3 client; no more copies run at once than its pool has connections.
    :param export: identifier of the task.
    :param table: of the export, as the sensor found it.
    :param copies_in_flight: files that are copied at once.
    :param extra_args: more arguments as for ``put_object``, for the copies.
    :param largest: bytes from which on a file is copied in parts.
    :raises ExportIncomplete: other files lie there than the sensor found, or the folder has become a table
        that was compacted, whose vacuum may have deleted files.
    :raises ExportDamaged: two files would get the same name.
    :raises StorageError: S3 refuses, failed at every attempt, or something else stands under a name.
    """
    if table.outputs:
        raise ExportIncomplete(
            f"{table.uri} has become a table that was compacted, and a vacuum may have deleted files of the "
            "export: nothing was copied. Take the rows from that table, or export again, under another name"
        )
    root = target.root_of(table.database, table.folder)
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    # as Hive writes it: engines decode it once
    folder = f"{prefix}/{target.column}={quote(target.value, safe=' ')}/"
    front = f"{folder}{export}_"
    files = list(files_of(client, table, extra_args=extra_args))
    _check(table, files)
    names = _names(table, files, front)
    there = {one.key: one for one in objects.list_objects(client, bucket, front, extra_args=extra_args)}
    source_bucket = table.uri.removeprefix("s3://").partition("/")[0]

    def one(name: str, file: Listed) -> bool:
        found = there.get(name)
        if found is not None and (found.etag, found.size) == (file.etag, file.size):
            return False
        source = ObjectRef(bucket=source_bucket, key=file.key, etag=file.etag, size=file.size)
        arguments: dict[str, Any] = {"bucket": bucket, "key": name, "extra_args": extra_args}
        if found is not None and copying.standing(client, source, **arguments) is not None:
            return False
        # a partition has one export's files: whoever adds what arrives must not put others beside them
        mark = mark_of("export", f"s3://{bucket}/{name}")
        return copying.copy(
            client,
            source,
            content_type="application/vnd.apache.parquet",
            metadata=mark,
            largest=largest,
            **arguments,
        ).made

    workers = max(1, min(copies_in_flight, client.meta.config.max_pool_connections, len(files)))
    with ThreadPoolExecutor(workers, thread_name_prefix="chunkwise-copy") as pool:
        copied = sum(pool.map(one, names, files))
    return Placed(
        export=export,
        name=table.name,
        table_uri=root,
        objects_uri=f"s3://{bucket}/{front}",
        partition={target.column: target.value},
        files=len(files),
        bytes=sum(file.size for file in files),
        copied=copied,
    )


def files_of(
    client: Any, table: ExportTable, *, extra_args: Mapping[str, Any] | None = None
) -> Iterator[Listed]:
    """The files with rows in a table's folder."""
    bucket, _, folder = table.uri.removeprefix("s3://").partition("/")
    cut = len(folder) - len(f"{table.database}/{table.folder}")
    for one in objects.list_objects(client, bucket, f"{folder}/", extra_args=extra_args):
        place = place_of(one.key[cut:])
        if place is not None and place.is_data:
            yield one


def _check(table: ExportTable, files: Sequence[Listed]) -> None:
    size = sum(file.size for file in files)
    if (len(files), size) != (table.files, table.bytes):
        raise ExportIncomplete(
            f"{table.uri} had {table.files} files of {table.bytes} bytes when the export was found complete, "
            f"and has {len(files)} of {size}: look at it again"
        )


def _names(table: ExportTable, files: Sequence[Listed], front: str) -> list[str]:
    """The keys of the copies."""
    cut = len(table.uri.removeprefix("s3://").partition("/")[2]) + 1
    names = [front + file.key[cut:].replace("/", "_") for file in files]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ExportDamaged(f"two files of {table.uri} would both be {twice}")
    return names
