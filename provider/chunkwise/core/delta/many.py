"""Appends to as many tables as a batch has objects of, one commit each."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from chunkwise.core.arrival import Arrival
from chunkwise.core.delta.append import Settings, append, tables_of
from chunkwise.core.delta.earlier import earlier_commits
from chunkwise.core.delta.model import KINDS, Batch, Kind, TableReceipt, Verdict
from chunkwise.core.delta.news import columns_json, versions_json
from chunkwise.core.delta.places import out_of_tables
from chunkwise.core.delta.quarantine import put_on_record
from chunkwise.core.errors import ChunkwiseError, DeltaError, ReadFailed

log = logging.getLogger(__name__)

#: nothing is wrong with these, and nothing is to be told of each
_FINE: Final[tuple[Kind, ...]] = ("added", "replaced", "removed", "duplicate")


@dataclass(frozen=True, kw_only=True, slots=True)
class Appended:
    """What came of a batch.

    :param tables: receipts of those that could be written.
    :param failures: why others could not, by their URI.
    :param aside: verdicts on objects that belong to no table.
    :param left: URIs of the objects of tables that could not be written.
    """

    tables: tuple[TableReceipt, ...]
    failures: dict[str, ChunkwiseError]
    aside: tuple[Verdict, ...] = ()
    left: frozenset[str] = frozenset()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Of all tables, and of what belongs to none."""
        return (*(verdict for table in self.tables for verdict in table.verdicts), *self.aside)

    @property
    def again(self) -> frozenset[str]:
        """URIs of objects without a final verdict: they must come again."""
        return self.left.union(verdict.uri for verdict in self.verdicts if not verdict.settled)

    def check(self, *, fail_on_rejected: bool = False) -> None:
        """Raise what is wrong, after everything was done that could be done.

        :param fail_on_rejected: whether a file that can never be added is an error.
        :raises ReadFailed: files could not be read; the same batch may be tried again.
        :raises DeltaError: a file was rejected, and that is an error.
        :raises ChunkwiseError: the first of the failures, one that may pass before one that does not.
        """
        for error in sorted(self.failures.values(), key=lambda error: not error.transient):
            raise error
        unread = [verdict for verdict in self.verdicts if not verdict.settled]
        if unread:
            raise ReadFailed(f"{_these(unread)}; the others are done, and a retry adds only what is missing")
        rejected = [one for one in self.verdicts if one.kind in ("rejected", "quarantined", "schema_too_new")]
        if rejected and fail_on_rejected:
            raise DeltaError(f"{_these(rejected)}; the others are done")

    def to_json(self, *, most: int) -> dict[str, Any]:
        """Counts and references.

        :param most: files that are named at most of those that are not in the table as they came; tables,
            too, and of each its new columns and the versions of earlier tries.
        """
        counts = Counter(verdict.kind for verdict in self.verdicts)
        others = [verdict for verdict in self.verdicts if verdict.kind not in _FINE]
        single = self.tables[0] if len(self.tables) == 1 else None
        return {
            "uri": None if single is None else single.uri,
            "version": None if single is None else single.version,
            "committed": any(table.committed for table in self.tables),
            "counts": {kind: counts[kind] for kind in KINDS if counts[kind]},
            "rows": sum(table.rows for table in self.tables),
            "bytes": sum(table.bytes for table in self.tables),
            "tables": [_table_json(table, most) for table in self.tables[:most]],
            "tables_total": len(self.tables),
            "not_added": [
                {"uri": one.uri, "verdict": one.kind, "reason": one.reason, "detail": one.detail}
                for one in others[:most]
            ],
            "not_added_total": len(others),
        }


def _table_json(table: TableReceipt, most: int) -> dict[str, Any]:
    """What an append did to one table, without the verdicts."""
    return {
        "uri": table.uri,
        "version": table.version,
        "committed": table.committed,
        "created": table.created,
        "counts": table.counts,
        "rows": table.rows,
        "bytes": table.bytes,
        **columns_json(table.new_columns, most),
        "attempts": table.attempts,
        **versions_json(table.earlier, most),
    }


def append_all(
    client: Any,
    arrivals: Iterable[Arrival],
    *,
    table_uri: str | None = None,
    settings: Settings | None = None,
    batch: Batch | None = None,
) -> Appended:
    """Bring every table that arrivals belong to up to date. One that cannot be written stops no other.

    :param client: boto3 S3 client.
    :param table_uri: the one table that all belong to; default: by rule, the folder of an object up to the
        first ``name=value`` segment. What lies in staging, or in another folder that engines pass over,
        belongs to none by rule.
    :param batch: which batch this is, for all of the tables.
    :raises ConfigError: ``table_uri`` is none.
    """
    settings = settings or Settings()
    receipts: list[TableReceipt] = []
    failures: dict[str, ChunkwiseError] = {}
    inside, aside = _sorted_out(arrivals) if table_uri is None else (list(arrivals), [])
    left: list[str] = []
    for table, own in tables_of(inside, table_uri).items():
        try:
            earlier = earlier_commits(client, table, settings or Settings())
            receipt = append(client, table, own, settings=settings, batch=batch)
            receipts.append(replace(receipt, earlier=earlier))
        except ChunkwiseError as error:
            log.error("%d objects were not added to %s: %s", len(own), table.uri, error)
            failures[table.uri] = error
            left += [arrival.uri for arrival in own]
    if aside and settings.quarantine_uri is not None:
        try:
            aside = put_on_record(client, settings.quarantine_uri, aside, extra_args=settings.extra_args)
        except ChunkwiseError as error:
            log.error("%d objects that belong to no table were not put on record: %s", len(aside), error)
            failures[settings.quarantine_uri] = error
            left += [verdict.uri for verdict in aside]
    return Appended(tables=tuple(receipts), failures=failures, aside=tuple(aside), left=frozenset(left))


def _sorted_out(arrivals: Iterable[Arrival]) -> tuple[list[Arrival], list[Verdict]]:
    """Arrivals that belong to tables by rule, and verdicts on the others."""
    inside: list[Arrival] = []
    aside: list[Verdict] = []
    for arrival in arrivals:
        out = out_of_tables(arrival.key)
        if out is None:
            inside.append(arrival)
        else:
            kind, why, detail = out
            aside.append(Verdict(uri=arrival.uri, kind=kind, reason=why, detail=detail))
    return inside, aside


def _these(verdicts: list[Verdict]) -> str:
    first = verdicts[0]
    more = f" and {len(verdicts) - 1} more" if len(verdicts) > 1 else ""
    return f"{first.uri}{more} not added: {first.detail or first.reason}"
