"""How many files, rows and bytes a table has, in all or in a partition, by its log alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import quote

import msgspec

from chunkwise.core.delta import log as table_log
from chunkwise.core.delta.partitions import BadPartition, values_for
from chunkwise.core.delta.places import Table, decode
from chunkwise.core.delta.schema import every_type
from chunkwise.core.delta.state import TableState
from chunkwise.core.errors import ConfigError, TableNotFound

Values = Mapping[str, str | None]


class _Statistics(msgspec.Struct):
    """Of the statistics of a file only this."""

    numRecords: int | None = None  # noqa: N815 - Delta's name


_STATISTICS = msgspec.json.Decoder(_Statistics)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What a table has, or a part of it.

    :param files: that it has now.
    :param bytes: of them.
    :param rows: of those whose entry in the log says it.
    :param files_without_rows: whose entry does not say how many rows they have.
    """

    files: int = 0
    bytes: int = 0
    rows: int = 0
    files_without_rows: int = 0

    def to_json(self) -> dict[str, int | None]:
        """``rows`` is ``None`` where that is not known."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "rows": None if self.files_without_rows else self.rows,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    rows: int | None
    size: int
    values: tuple[tuple[str, str | None], ...]


class Partitioned(TableState):
    """A table whose files are told apart by their partition."""

    def wanted(self, partition: Values) -> dict[str, str | None]:
        """Values of some partition columns in the form in which they compare.

        :param partition: as in paths; ``None`` and ``""``: NULL.
        :raises ConfigError: the table is not partitioned by one of them, or a value is not of its type.
        """
        if not partition:
            return {}
        more = [name for name in partition if name not in self.partitions]
        if more:
            raise ConfigError(
                f"partition has {', '.join(map(repr, more))}, and {self.place} is partitioned by "
                f"{', '.join(map(repr, self.partitions)) or 'nothing'}"
            ).naming("partition")
        try:
            return values_for(_path(partition), self._types(partition))
        except BadPartition as error:
            raise ConfigError(f"partition does not fit {self.place}: {error}").naming("partition") from None

    def canonical(self, values: Values, wanted: Values) -> dict[str, str | None]:
        """The same of a file; other writers may write its values in other forms.

        :param wanted: has the names of the columns.
        """
        named = {name: values.get(name) for name in wanted}
        try:
            return values_for(_path(named), self._types(wanted))
        except BadPartition:
            return named

    def _types(self, names: Values) -> dict[str, str]:
        kinds = {field["name"]: field["type"] for field in self.fields}
        return {name: str(kinds.get(name, "string")) for name in names}


class Census(Partitioned):
    """A table with the counts of all its files. What it had once is forgotten, and so its ledger is empty."""

    FILE_FIELDS = ("path", "size", "partitionValues", "stats", "stats_parsed.numRecords", "deletionVector")

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self._files: dict[str, _File] = {}

    def take(self, action: Mapping[str, Any], version: int) -> None:
        """One action."""
        if "add" in action:
            add = action["add"]
            self._files[decode(add["path"])] = _File(
                rows=_rows(add),
                size=int(add.get("size") or 0),
                values=tuple((add.get("partitionValues") or {}).items()),
            )
        elif "remove" in action:
            self._files.pop(decode(action["remove"]["path"]), None)
        else:
            super().take(action, version)

    def counts(self, partition: Values | None = None) -> Counts:
        """Count.

        :param partition: values of some or all partition columns, as in paths; ``None`` and ``""``: NULL.
        :raises ConfigError: the table is not partitioned by one of them, or a value is not of its type.
        """
        wanted = self.wanted(partition or {})
        known: dict[tuple[tuple[str, str | None], ...], bool] = {}
        files = size = rows = unknown = 0
        for file in self._files.values():
            if wanted:
                fits = known.get(file.values)
                if fits is None:
                    fits = known[file.values] = self.canonical(dict(file.values), wanted) == wanted
                if not fits:
                    continue
            files += 1
            size += file.size
            if file.rows is None:
                unknown += 1
            else:
                rows += file.rows
        return Counts(files=files, bytes=size, rows=rows, files_without_rows=unknown)


@dataclass(frozen=True, kw_only=True, slots=True)
class TableInfo:
    """What the log says of a table.

    :param uri: of the table.
    :param version: of the log.
    :param counts: of all its files.
    :param metadata: ``id``, ``name``, ``description``, ``partition_columns``, ``schema`` (as Delta has it),
        ``configuration`` and ``created_time`` (milliseconds).
    :param protocol: as Delta has it.
    :param transactions: last version by app id.
    """

    uri: str
    version: int
    counts: Counts
    metadata: Mapping[str, Any]
    protocol: Mapping[str, Any]
    transactions: Mapping[str, int]

    def to_json(self, *, most: int) -> dict[str, Any]:
        """No data.

        :param most: columns and sources that are named at most. Fields within columns count, too, and a
            column is there whole, or not at all.
        """
        schema = self.metadata["schema"]
        return {
            "uri": self.uri,
            "version": self.version,
            **self.counts.to_json(),
            "columns": len(schema["fields"]),
            "metadata": {**self.metadata, "schema": {**schema, "fields": _first(schema["fields"], most)}},
            "protocol": dict(self.protocol),
            "transactions": dict(islice(self.transactions.items(), most)),
            "transactions_total": len(self.transactions),
        }


def _first(fields: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """The first columns, as many as have so many fields together."""
    found = []
    for field in fields:
        most -= sum(1 for _ in every_type((field,)))
        if most < 0:
            break
        found.append(field)
    return found


def delta_metadata(client: Any, table: Table, *, extra_args: Mapping[str, Any] | None = None) -> TableInfo:
    """Read what a table is, without deltalake.

    :param client: boto3 S3 client.
    :param extra_args: more arguments of the S3 calls.
    :raises TableNotFound: there is none.
    :raises LogDamaged: its log cannot be read.
    :raises UnsupportedTable: it has a checkpoint of a kind that only newer protocols have.
    :raises ReadFailed: S3 refuses, or failed at every attempt.
    """
    census = Census(table.uri)
    table_log.load_whole(client, table, census, extra_args=extra_args)
    if not census.exists:
        raise TableNotFound(f"there is no Delta table at {table.uri}")
    found = census.metadata
    return TableInfo(
        uri=table.uri,
        version=census.version,
        counts=census.counts(),
        metadata={
            "id": found.get("id"),
            "name": found.get("name"),
            "description": found.get("description"),
            "partition_columns": census.partitions,
            "schema": {"type": "struct", "fields": list(census.fields)},
            "configuration": dict(found.get("configuration") or {}),
            "created_time": found.get("createdTime"),
        },
        protocol={name: value for name, value in census.protocol.items() if value is not None},
        transactions=census.transactions,
    )


def _rows(add: Mapping[str, Any]) -> int | None:
    """Rows of a file that are not deleted; ``None``: the log does not say."""
    text, parsed = add.get("stats"), add.get("stats_parsed") or {}
    rows = parsed.get("numRecords")
    if text:
        try:
            rows = _STATISTICS.decode(text).numRecords
        except msgspec.MsgspecError:
            rows = None
    if rows is None:
        return None
    return int(rows) - int((add.get("deletionVector") or {}).get("cardinality") or 0)


def _path(values: Values) -> str:
    segments = [f"{quote(name, safe='')}={quote(value or '', safe='')}/" for name, value in values.items()]
    return "".join(segments) + "file"
