"""That a table has a new version: the one form in which every operator that commits tells of it.

Whoever waits for tables gets events of appends, loads, drains, repairs, replacements and compactions alike,
and must not ask which operator wrote one before it can read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from chunkwise.core.delta.model import Earlier, TableReceipt

Operation = Literal["append", "load", "drain", "reconcile", "replace", "compact"]
#: columns that are named at most: events are rows of Airflow's database
MOST_COLUMNS: Final = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """That something was committed.

    :param uri: of the table, or of a prefix that was compacted.
    :param version: of the table; ``None``: there is none, as of a prefix.
    :param operation: what was done: ``append`` of Parquet files, ``load`` of JSON files, ``drain`` of a
        queue, ``reconcile``, ``replace`` of a partition by an export, or ``compact``.
    :param committed: whether the version is new; not where only the table's state is told, which an export
        does each time.
    :param created: whether the commit made the table.
    :param rows: that came in; none by a compaction, which changes no row.
    :param bytes: of files that came in.
    :param files_added: that came in, those that took the place of an overwritten one included.
    :param files_removed: that the table has no more; of a prefix, those whose rows are in others now.
    :param new_columns: that were added or widened.
    """

    uri: str
    version: int | None
    operation: Operation
    committed: bool = True
    created: bool = False
    rows: int = 0
    bytes: int = 0
    files_added: int = 0
    files_removed: int = 0
    new_columns: Sequence[str] = ()

    def and_then(self, later: News) -> News:
        """Two commits as one piece of news, of the later version."""
        return replace(
            later,
            created=self.created or later.created,
            rows=self.rows + later.rows,
            bytes=self.bytes + later.bytes,
            files_added=self.files_added + later.files_added,
            files_removed=self.files_removed + later.files_removed,
            new_columns=(*self.new_columns, *later.new_columns),
        )

    def to_json(self) -> dict[str, Any]:
        """The extra of an event."""
        return {
            "uri": self.uri,
            "version": self.version,
            "operation": self.operation,
            "committed": self.committed,
            "created": self.created,
            "rows": self.rows,
            "bytes": self.bytes,
            "files_added": self.files_added,
            "files_removed": self.files_removed,
            **columns_json(self.new_columns, MOST_COLUMNS),
        }


def columns_json(columns: Sequence[str], most: int) -> dict[str, Any]:
    """Columns as a receipt or an event names them: the first ones, and how many there are."""
    return {"new_columns": list(columns[:most]), "new_columns_total": len(columns)}


def versions_json(earlier: Sequence[Earlier], most: int) -> dict[str, Any]:
    """Versions that earlier tries have committed, as a receipt names them: the last ones, and how many."""
    last = earlier[max(0, len(earlier) - most) :]
    return {"earlier_versions": [one.version for one in last], "earlier_total": len(earlier)}


def news_of(table: TableReceipt, operation: Operation) -> News:
    """What a commit did; of a receipt without one, what the table is."""
    return News(
        uri=table.uri,
        version=table.version,
        operation=operation,
        committed=table.committed,
        created=table.created,
        rows=table.rows,
        bytes=table.bytes,
        files_added=table.files_added,
        files_removed=table.files_removed,
        new_columns=table.new_columns,
    )


def earlier_news(uri: str, earlier: Iterable[Earlier], operation: Operation) -> list[News]:
    """What earlier tries of the same work have committed; of a compaction, see
    :class:`chunkwise.core.compact.earlier.Done`.

    :param uri: of the table.
    """
    return [
        News(
            uri=uri,
            version=one.version,
            operation=operation,
            created=one.version == 0,
            rows=one.rows,
            bytes=one.bytes,
            files_added=one.added,
            files_removed=one.removed,
            new_columns=one.new_columns,
        )
        for one in earlier
    ]


def all_news(table: TableReceipt, operation: Operation) -> list[News]:
    """The commits to tell of: those of earlier tries, and this one's."""
    new = [news_of(table, operation)] if table.committed else []
    return earlier_news(table.uri, table.earlier, operation) + new
