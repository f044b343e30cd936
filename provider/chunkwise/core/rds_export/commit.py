"""The files of an export become a partition of a table, or a table of their own."""

from __future__ import annotations

from typing import Any

from chunkwise.core.compacted import is_named
from chunkwise.core.delta import Arrival, Settings, Table, TableReceipt, replace_partition
from chunkwise.core.delta.partitions import BadPartition, values_for
from chunkwise.core.delta.places import is_hidden
from chunkwise.core.errors import ConfigError, ExportIncomplete
from chunkwise.core.rds_export.relayout import Placed
from chunkwise.core.storage import objects


def commit_table(client: Any, placed: Placed, *, settings: Settings | None = None) -> TableReceipt:
    """Make the partition exactly the files of the export, in one commit.

    :param client: boto3 S3 client.
    :param placed: the table, as the relayout left it.
    :raises ExportIncomplete: other files lie there than it left.
    :raises DeltaError: in place, a compaction has merged rows of other files than lie there now.
    :raises ChunkwiseError: see :func:`~chunkwise.core.delta.replace_partition`.
    """
    table = Table.at(placed.table_uri)
    arrivals = _arrivals(client, table, placed, settings)
    return replace_partition(
        client,
        table,
        arrivals,
        partition=placed.partition,
        default_types={name: _type_of(value) for name, value in placed.partition.items()},
        settings=settings,
        # in place, files that were compacted may be gone by now, and their rows are nowhere else
        keeps=None if placed.partition else lambda path: is_named(path.rpartition("/")[2]),
    )


def _arrivals(client: Any, table: Table, placed: Placed, settings: Settings | None) -> list[Arrival]:
    front = f"s3://{table.bucket}/"
    if not placed.objects_uri.startswith(f"{table.uri}/"):
        raise ConfigError(
            f"{placed.objects_uri!r} does not lie in {table.uri}, whose files it should be"
        ).naming("table")
    extra_args = None if settings is None else settings.extra_args
    prefix = placed.objects_uri.removeprefix(front)
    found = [
        Arrival(bucket=table.bucket, key=one.key, size=one.size, etag=one.etag)
        for one in objects.list_objects(client, table.bucket, prefix, extra_args=extra_args)
        if one.key.endswith(".parquet")
        and not is_named(one.key.rpartition("/")[2])
        and not is_hidden(table.relative(table.bucket, one.key) or ".")
    ]
    size = sum(one.size or 0 for one in found)
    if (len(found), size) != (placed.files, placed.bytes):
        raise ExportIncomplete(
            f"{placed.objects_uri} should have {placed.files} files of {placed.bytes} bytes, and has "
            f"{len(found)} of {size}: nothing was committed. Look at the export again, and copy its files; "
            "where it is a table of its own, files that were compacted are gone after a vacuum"
        )
    return found


def _type_of(value: str) -> str:
    try:
        values_for(f"v={value}/file", {"v": "date"})
    except BadPartition:
        return "string"
    return "date"
