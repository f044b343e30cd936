"""What becomes of each file, and what a commit would say: pure decisions on what was read before.

It is asked again, with the same footers, whenever another writer was faster, so that every commit is decided
by the table that it lands on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chunkwise.core.arrival import Arrival
from chunkwise.core.delta.footer import Footer, Unusable, rewritten
from chunkwise.core.delta.gone import is_same, lose, removals
from chunkwise.core.delta.model import Batch, Policy, Verdict
from chunkwise.core.delta.partitions import (
    BadPartition,
    check_nulls,
    check_types,
    columns_for,
    values_for,
)
from chunkwise.core.delta.places import Table, encode, is_hidden, is_unreadable
from chunkwise.core.delta.schema import Fields, Misfit, fit
from chunkwise.core.delta.state import ETAG_TAG, TableState
from chunkwise.core.delta.statistics import stats_of
from chunkwise.core.reserved import WHY, Writer, in_table, writer_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One object of a batch, however often it arrived.

    :param arrival: the first of its arrivals.
    :param path: from the table's root on; ``None``: it is not below it.
    :param was_deleted: whether an event says that it was deleted.
    :param found: what stands there; ``None``: it was not looked at, for the table has it or it is hidden.
    """

    arrival: Arrival
    path: str | None
    was_deleted: bool = False
    found: Footer | Unusable | None = None


@dataclass(kw_only=True)
class Decision:
    """What a commit would do.

    :param fields: the table's columns afterwards.
    :param partitions: names and types of its partition columns.
    :param verdicts: of the candidates.
    :param adds: actions.
    :param removes: actions.
    :param changes: columns that are new or wider.
    :param rows: that are added.
    :param bytes: that are added.
    :param sources: that rows of added files were made of, as the ledger has them.
    """

    fields: Fields = ()
    partitions: dict[str, str] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    adds: list[dict[str, Any]] = field(default_factory=list)
    removes: list[dict[str, Any]] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    sources: set[str] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not self.adds and not self.removes


class _Out(Exception):
    """Ends the judgement of a candidate."""

    def __init__(self, kind: Any, reason: str = "", detail: str = "") -> None:
        super().__init__(kind)
        self.kind, self.reason, self.detail = kind, reason, detail


def needs_a_look(candidate: Candidate, state: TableState) -> bool:
    """Whether a request is needed to judge it: not for what is hidden, and not for the very object that the
    ledger has.
    """
    if candidate.path is None or is_hidden(candidate.path) or is_unreadable(candidate.path):
        return False
    if candidate.was_deleted or candidate.arrival.etag is None:
        return True
    entry = state.ledger.get(candidate.path)
    return (
        entry is None
        or entry.state == "deleted"
        or not entry.is_same(candidate.arrival.etag, candidate.arrival.size)
        or entry.is_foreign  # the writer did not say its ETag: sizes alone are not worth a request
    )


def has_batch(state: TableState, batch: Batch | None) -> bool:
    """Whether this batch is the last one of its source that the table has."""
    return batch is not None and state.transactions.get(batch.app_id) == batch.number


def judge(
    table: Table,
    state: TableState,
    candidates: Sequence[Candidate],
    policy: Policy,
    batch: Batch | None,
    now_ms: int,
) -> Decision:
    """Decide on all candidates.

    :param table: where it lies.
    :param state: the table that the commit would land on.
    :param batch: which one this is; one that the table has is a replay as a whole, and of one below it
        nothing is added.
    :param now_ms: time of removals, in milliseconds since 1970.
    :raises UnsupportedTable: files cannot be added to this table.
    :raises ConfigError: ``partition_types`` has a type that no partition column can have, or another one than
        the table.
    """
    decision = Decision()
    if state.exists:
        state.check_writable()
        decision.fields = state.fields
        decision.partitions = _partitions(state)
        check_types(policy.partition_types, decision.partitions, table.uri)
    else:
        check_types(policy.partition_types, {}, table.uri)
    done = has_batch(state, batch)
    last = -1 if batch is None else state.transactions.get(batch.app_id, -1)
    late = batch is not None and last > batch.number
    # of a late one it is only found what the table lacks
    target = Decision(fields=decision.fields, partitions=decision.partitions) if late else decision
    for candidate in candidates:
        try:
            if done:
                assert batch is not None
                raise _Out(
                    "replay", "batch", f"the table has batch {batch.number} of {batch.app_id!r} already"
                )
            kind, reason, detail = _judge_one(target, state, candidate, policy, now_ms)
            if late and kind in ("added", "replaced", "removed"):
                assert batch is not None
                raise _Out(
                    "rejected",
                    "batch_order",
                    f"the table lacks it, and has batch {last} of {batch.app_id!r}, after which batch "
                    f"{batch.number} is not added: add it without a number, or by another app_id",
                )
        except _Out as out:
            kind, reason, detail = out.kind, out.reason, out.detail
            if not (done or late) and kind in ("rejected", "schema_too_new"):
                lost, removed = lose(state, candidate.path, candidate.found, policy, now_ms)
                detail += lost
                decision.removes += removed
        decision.verdicts.append(Verdict(uri=candidate.arrival.uri, kind=kind, reason=reason, detail=detail))
    return decision


def _judge_one(
    decision: Decision, state: TableState, candidate: Candidate, policy: Policy, now_ms: int
) -> tuple[Any, str, str]:
    path, found = candidate.path, candidate.found
    if path is None:
        raise _Out("rejected", "outside", f"it does not lie below {state.place}")
    if is_hidden(path):
        raise _Out("ignored", "hidden", "engines pass over names that start with '_' or '.', and staging")
    if is_unreadable(path):
        raise _Out(
            "rejected", "name", "engines find no object with a control character or such a colon in its name"
        )
    entry = state.ledger.get(path)
    if found is None:  # not looked at: the ledger has this very object
        assert entry is not None
        if entry.state == "active":
            raise _Out("duplicate", "", f"version {entry.version} has it")
        raise _replay(entry.version)
    if isinstance(found, Unusable):
        if found.reason == "not_found" and candidate.was_deleted:
            return _remove(decision, state, candidate, policy, now_ms)
        if found.reason == "unread":
            raise _Out("unread", "unread", found.detail)
        if entry is not None and entry.state == "active" and is_same(entry, found):
            raise _Out("duplicate", "", f"version {entry.version} has it")
        raise _Out("rejected", found.reason, found.detail)
    kind = "added"
    if entry is not None and entry.state != "deleted":
        same = entry.is_same(found.etag, found.size)
        if entry.state == "active":
            if same:
                raise _Out("duplicate", "", f"version {entry.version} has it")
            if policy.on_overwrite == "refuse":
                raise _Out(
                    "rejected",
                    "overwritten",
                    f"another object than that of version {entry.version} stands there",
                )
            kind = "replaced"
        elif same:
            raise _replay(entry.version)
        else:
            raise _Out(
                "rejected",
                "name_used",
                f"version {entry.version} rewrote or deleted an earlier file of this name: its rows may "
                "live on in another file, so new rows need a new name",
            )
    source = state.source_of(path)
    if kind == "added" and (same_rows := state.has_rows_of(path)) is not None:
        raise _Out(
            "replay", "", f"version {same_rows.version} has or had the rows of the file it was made of"
        )
    if kind == "added" and source in decision.sources:
        raise _Out("replay", "", "another file of this batch has the rows of the file it was made of")
    if kind == "added" and policy.on_reserved == "ignore" and (writer := _writer(state, path, found)):
        raise _Out("ignored", "reserved", WHY[writer])
    if entry is None and policy.on_unproven == "refuse" and state.is_unproven(found.last_modified):
        raise _Out(
            "rejected",
            "unproven",
            "it is older than what the log and the ledger know: its rows may live on in another file. Add it "
            "by on_unproven='add' if you know better",
        )
    if kind == "added" and found.rewritten == rewritten(str(state.metadata.get("id")), path):
        raise _Out(
            "ignored", "rewritten", "a compaction wrote it: its rows are of files that the table had before"
        )
    _add(decision, state, path, found, policy)
    if source is not None:
        decision.sources.add(source)
    if kind == "replaced" and entry is not None and not state.is_append_only:
        decision.removes += removals(path, entry, now_ms, others=True)
    return kind, "", ""


def _writer(state: TableState, path: str, found: Footer) -> Writer | None:
    """Who alone adds a file that the table does not have."""
    table_id = str(state.metadata.get("id"))
    writer = writer_of(found.reserved, (f"{state.place}/{path}", in_table(table_id, path)))
    # what a drain has added and somebody has deleted is not in its messages any more
    return None if writer == "drain" and state.ledger.get(path) is not None else writer


def _replay(version: int) -> _Out:
    return _Out("replay", "", f"its rows were rewritten or deleted by version {version}")


def _add(decision: Decision, state: TableState, path: str, found: Footer, policy: Policy) -> None:
    if policy.on_nanoseconds == "refuse":
        names = [column.name for column in found.columns if column.nanoseconds]
        if names:
            raise _Out(
                "rejected",
                "nanoseconds",
                f"column {names[0]!r} has timestamps in nanoseconds, which not every engine reads: write "
                "microseconds, or accept them by on_nanoseconds",
            )
    is_first = not state.exists and not decision.adds
    try:
        partitions = columns_for(path, policy.partition_types) if is_first else decision.partitions
        values = values_for(path, partitions)
        check_nulls(values, decision.fields)
    except BadPartition as error:
        raise _Out("rejected", "partition", str(error)) from None
    fields = decision.fields
    if is_first:
        fields = tuple(
            {"name": name, "type": kind, "nullable": True, "metadata": {}}
            for name, kind in partitions.items()
        )
    nulls = {name: bound.nulls for name, bound in found.bounds.items()}
    try:
        fitted = fit(fields, found.columns, list(partitions), nulls)
    except Misfit as error:
        raise _Out("rejected", "schema", str(error)) from None
    if len(fitted.fields) == len(partitions):
        raise _Out("rejected", "schema", "it has no column beside those of the path")
    if state.exists and fitted.changes and policy.schema == "fail":
        raise _Out(
            "schema_too_new", "schema", f"new or wider than in the table: {', '.join(fitted.changes[:10])}"
        )
    if not state.exists:
        # columns of the path last, as engines show them
        order = [one for one in fitted.fields if one["name"] not in partitions]
        decision.fields = (*order, *(one for one in fitted.fields if one["name"] in partitions))
    else:
        decision.fields = fitted.fields
        decision.changes += fitted.changes
    decision.partitions = partitions
    wanted = [one["name"] for one in decision.fields if one["name"] not in partitions]
    decision.adds.append(
        {
            "path": encode(path),
            "partitionValues": values,
            "size": found.size,
            "modificationTime": int(found.last_modified.timestamp() * 1000),
            "dataChange": True,
            "stats": stats_of(found.rows, found.bounds, wanted),
            "tags": {ETAG_TAG: found.etag},
        }
    )
    decision.rows += found.rows
    decision.bytes += found.size


def _remove(
    decision: Decision, state: TableState, candidate: Candidate, policy: Policy, now_ms: int
) -> tuple[Any, str, str]:
    assert candidate.path is not None
    entry = state.ledger.get(candidate.path)
    if entry is not None and entry.state == "removed":
        raise _Out(
            "ignored",
            "not_in_table",
            f"it was deleted, and version {entry.version} has taken it out of the table before; if that was "
            "a compaction, its rows live on in another file",
        )
    if entry is None or entry.state != "active":
        raise _Out("ignored", "not_in_table", "it was deleted, and the table does not have it")
    if policy.on_delete == "ignore":
        raise _Out("ignored", "deleted", "it was deleted, and the table still has it: readers will fail")
    if state.is_append_only:
        raise _Out(
            "rejected", "append_only", "it was deleted, and the table is append-only (delta.appendOnly)"
        )
    decision.removes += removals(candidate.path, entry, now_ms)
    return "removed", "", ""


def _partitions(state: TableState) -> dict[str, str]:
    types = {one["name"]: one["type"] for one in state.fields}
    return {name: types.get(name, "string") for name in state.partitions}
