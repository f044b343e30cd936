"""How files of JSON are loaded into a table, and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from chunkwise.core.delta.model import TableReceipt
from chunkwise.core.delta.news import columns_json, versions_json
from chunkwise.core.delta.places import Table
from chunkwise.core.delta.rows import check_columns
from chunkwise.core.errors import ChunkwiseError, ConfigError

Kind = Literal["added", "replay", "empty", "ignored", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowPolicy:
    """How files become rows.

    :param schema: types of Arrow by column; default: the table's, or what the first rows show.
    :param partition: values of the partition columns for all rows.
    :param max_bad_rows: of a file; with more of them it is not added.
    :param quarantine_uri: ``s3://bucket/prefix`` for rows that go aside.
    :param compression: of the Parquet files' pages.
    """

    schema: Mapping[str, str] | None = None
    partition: Mapping[str, str | None] | None = None
    max_bad_rows: int = 0
    quarantine_uri: str | None = None
    compression: str = "zstd"

    def __post_init__(self) -> None:
        check_columns(self.schema, self.partition)
        if self.quarantine_uri is not None:
            Table.at(self.quarantine_uri, name="quarantine_uri")
        if self.max_bad_rows < 0:
            raise ConfigError(f"max_bad_rows is {self.max_bad_rows}: it must be 0 or more").naming(
                "max_bad_rows"
            )
        if self.max_bad_rows and self.quarantine_uri is None:
            raise ConfigError("max_bad_rows needs quarantine_uri: rows must not vanish").naming(
                "quarantine_uri"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """What became of one file.

    :param uri: of it.
    :param kind: ``added``; ``replay``: the table has had its rows before; ``empty``: it has no rows;
        ``ignored``: it is gone; ``failed``.
    :param rows: in the table.
    :param bad_rows: that went aside.
    :param quarantine_uri: where they are.
    :param error: of a file that failed.
    """

    uri: str
    kind: Kind
    rows: int = 0
    bad_rows: int = 0
    quarantine_uri: str | None = None
    error: ChunkwiseError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadReceipt:
    """What became of all files.

    :param table: what the commit did.
    :param files: in the order of the arrivals, each object once.
    """

    table: TableReceipt
    files: tuple[Loaded, ...]

    def check(self) -> None:
        """:raises ChunkwiseError: the first failure, one that may pass before one that does not."""
        errors = [file.error for file in self.files if file.error is not None]
        for error in sorted(errors, key=lambda error: not error.transient):
            raise error

    def to_json(self, *, most: int) -> dict[str, Any]:
        """Counts and references.

        :param most: files that are named at most of those that failed or had bad rows; new columns, and
            versions of earlier tries.
        """
        told = [one for one in self.files if one.error is not None or one.bad_rows]
        return {
            "uri": self.table.uri,
            "version": self.table.version,
            "committed": self.table.committed,
            "created": self.table.created,
            **columns_json(self.table.new_columns, most),
            **versions_json(self.table.earlier, most),
            "counts": dict(Counter(one.kind for one in self.files)),
            "rows": sum(one.rows for one in self.files),
            "bad_rows": sum(one.bad_rows for one in self.files),
            "files": [
                {
                    "uri": one.uri,
                    "verdict": one.kind,
                    "bad_rows": one.bad_rows,
                    "quarantine_uri": one.quarantine_uri,
                    "error": None if one.error is None else f"{type(one.error).__name__}: {one.error}",
                }
                for one in told[:most]
            ],
            "files_total": len(self.files),
        }
