"""Make a partition of a Delta table exactly these files, in one commit: removals of what it had, and what is
new. No row is read.

Unlike an append this is not about what came and what came before: whatever the partition had, the same
files give the same partition, and a repetition has nothing to commit. A file that the table had once, and
that was rewritten or replaced since, is added again: the files that have its rows now are removed with the
same commit. Unless they have the rows of just these files, which the log shows of a compaction.

It happens wholly or not at all. One file that cannot be added leaves the partition as it was, because a
partition with less in it would look like one that is complete.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from chunkwise.core.arrival import Arrival
from chunkwise.core.delta import log as table_log
from chunkwise.core.delta.actions import commit_body, files_changed
from chunkwise.core.delta.append import Settings, look_at, pause, put_version, unique
from chunkwise.core.delta.contents import Contents
from chunkwise.core.delta.footer import Footer
from chunkwise.core.delta.judge import Candidate, Decision, judge
from chunkwise.core.delta.maintain import maintain
from chunkwise.core.delta.model import TableReceipt, Verdict
from chunkwise.core.delta.origins import Origin, origins
from chunkwise.core.delta.partitions import BadPartition, values_for
from chunkwise.core.delta.places import Table, decode
from chunkwise.core.delta.state import TableState
from chunkwise.core.errors import CommitContended, ConfigError, DeltaError, ReadFailed, UnsupportedTable

log = logging.getLogger(__name__)

Values = Mapping[str, str | None]


def replace_partition(
    client: Any,
    table: Table,
    arrivals: Sequence[Arrival],
    *,
    partition: Values,
    default_types: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    keeps: Callable[[str], bool] | None = None,
) -> TableReceipt:
    """Make a partition exactly these files, or leave it where it has exactly their rows.

    A compaction puts other files in the place of these. Where the log says that the partition's files have
    the rows of exactly these ones, and of no others, there is nothing to commit; where it does not say so any
    more, or others were merged with them, these take their place, and the compaction is undone.

    :param client: boto3 S3 client.
    :param arrivals: all files that the partition shall have; none: it shall be empty. Where there is no
        table, nothing but files can make one.
    :param partition: values of all partition columns, as in paths; empty: the whole of a table without any.
    :param default_types: types of the partition columns of a table that is made, where the policy says none.
    :param settings: its policies on overwritten and deleted objects do not matter here.
    :param keeps: whether a file, by its path, must not be removed unless all files that its rows came with
        are among these.
    :return: verdicts are ``added``, ``replaced`` (overwritten where it stood), ``duplicate`` (the partition
        had this very file) or ``replay`` (it has its rows in another one), and then one ``removed`` for each
        file that it has no more.
    :raises DeltaError: a file cannot be added, or lies in another partition, or one must not be removed;
        nothing was changed.
    :raises ReadFailed: a file could not be read; nothing was changed.
    :raises UnsupportedTable: files cannot be added to this table, or not removed.
    :raises LogDamaged: its log cannot be read.
    :raises ConfigError: the policy or the partition does not fit the table.
    :raises CommitContended: other writers were faster at every attempt.
    :raises StorageError: S3 refuses, or failed at every attempt.
    """
    settings = settings or Settings()
    # what the partition shall have is said: it does not matter where the rows were before
    policy = replace(settings.policy, on_overwrite="replace", on_unproven="add", on_reserved="add")
    first = policy if policy.partition_types else replace(policy, partition_types=default_types or {})
    extra_args = settings.extra_args
    state = table_log.load(client, table, extra_args=extra_args)
    contents = Contents(table.uri)
    table_log.load_whole(client, table, contents, extra_args=extra_args)
    candidates = unique(table, [replace(one, deleted=False) for one in arrivals])
    attempt = 0
    etag: str | None = None
    while True:
        table_log.level(client, table, state, contents, extra_args=extra_args)
        candidates = look_at(client, contents, candidates, settings)
        now_ms = time.time_ns() // 1_000_000
        decision = judge(table, contents, candidates, policy if contents.exists else first, None, now_ms)
        _check(decision.verdicts)
        removed = _remove_others(decision, contents, candidates, partition, now_ms)
        if removed and _is_the_same(client, state, contents, decision, candidates, keeps, extra_args):
            decision.adds, decision.removes, removed = [], [], []
            decision.verdicts = [_as_replay(one) for one in decision.verdicts]
        body = b""
        if decision.is_empty:
            break
        attempt += 1
        body = commit_body(contents, decision, None, settings.info, now_ms, mode="Overwrite")
        etag = put_version(client, table, contents.version + 1, body, extra_args)
        if etag is not None:
            break
        if attempt >= settings.attempts:
            raise CommitContended(
                f"{table.uri} got another commit at each of {attempt} attempts: use fewer writers"
            )
        pause(attempt)
        table_log.catch_up(client, table, contents, extra_args=extra_args)
    receipt = TableReceipt(
        uri=table.uri,
        version=contents.version if contents.exists else None,
        committed=False,
        attempts=attempt,
        verdicts=(*decision.verdicts, *removed),
    )
    if etag is None:
        return receipt
    added, removed_files = files_changed(decision.adds, decision.removes)
    receipt = replace(
        receipt,
        version=contents.version + 1,
        committed=True,
        created=not contents.exists,
        rows=decision.rows,
        bytes=decision.bytes,
        files_added=added,
        files_removed=removed_files,
        new_columns=tuple(decision.changes),
    )
    state.fold(state.version + 1, body)
    maintain(client, table, state, etag, settings.maintenance, extra_args=extra_args)
    log.info(
        "%s is at version %d: a partition has %d files now; %s; %d rows in %d bytes are new, %d attempts",
        table.uri,
        state.version,
        len(candidates),
        ", ".join(f"{count} {kind}" for kind, count in receipt.counts.items()),
        receipt.rows,
        receipt.bytes,
        attempt,
    )
    return receipt


def _check(verdicts: Sequence[Verdict]) -> None:
    """:raises ChunkwiseError: not all of them can be in the partition."""
    others = [one for one in verdicts if one.kind not in ("added", "replaced", "duplicate")]
    if not others:
        return
    unread = [one for one in others if not one.settled]
    first = (unread or others)[0]
    more = f" and {len(others) - 1} more files" if len(others) > 1 else ""
    text = f"{first.uri}{more} cannot be in the partition: {first.detail or first.kind}; nothing was changed"
    raise ReadFailed(text) if unread else DeltaError(text)


def _remove_others(
    decision: Decision,
    contents: Contents,
    candidates: Sequence[Candidate],
    partition: Values,
    now_ms: int,
) -> list[Verdict]:
    """Add removals of what the partition has beside the candidates.

    :raises DeltaError: a candidate lies in another partition.
    """
    types = decision.partitions
    if not contents.exists and not candidates:
        return []
    wanted = _canonical(partition, types)
    if wanted is None:
        raise ConfigError(
            f"the partition is {', '.join(partition) or 'nothing'}, and {contents.place} is partitioned by "
            f"{', '.join(f'{name} ({kind})' for name, kind in types.items()) or 'nothing'}: give a value of "
            "its type for each column"
        ).naming("partition")
    kept = set()
    for one in candidates:
        assert one.path is not None  # it would have been refused
        if values_for(one.path, types) != wanted:
            raise DeltaError(f"{one.arrival.uri} lies in another partition; nothing was changed")
        kept.add(one.path)
    verdicts = []
    for path, file in contents.files.items():
        if path in kept or _canonical(file.values, types) != wanted:
            continue
        decision.removes.append(
            {
                "path": file.path,
                "deletionTimestamp": now_ms,
                "dataChange": True,
                "extendedFileMetadata": True,
                "partitionValues": file.values,
                "size": file.size,
            }
        )
        verdicts.append(Verdict(uri=f"{contents.place}/{path}", kind="removed"))
    if decision.removes and contents.is_append_only:
        raise UnsupportedTable(
            f"{contents.place} is append-only (delta.appendOnly): a partition of it cannot be replaced"
        )
    return verdicts


def _is_the_same(
    client: Any,
    state: TableState,
    contents: Contents,
    decision: Decision,
    candidates: Sequence[Candidate],
    keeps: Callable[[str], bool] | None,
    extra_args: Mapping[str, Any] | None,
) -> bool:
    """Whether the partition has the rows of these files and no others, though in other files.

    :raises DeltaError: it has not, and a file would be removed that must not.
    """
    gone = [decode(one["path"]) for one in decision.removes]
    kept = [path for path in gone if keeps is not None and keeps(path)]
    wanted = frozenset(_identity(one) for one in candidates)
    if not kept and not all(_was_had(state, one) for one in wanted):
        return False  # most often: no request is needed to see it
    types = decision.partitions
    here = _canonical(contents.files[gone[0]].values, types)
    found = origins(
        client,
        Table.at(contents.place),
        contents.version,
        [*gone, *(one.path for one in wanted if one.path in contents.files)],
        lambda values: _canonical(values, types) == here,
        extra_args=extra_args,
    )
    if found == wanted:
        return True
    if kept and (found is None or not found <= wanted):
        raise DeltaError(
            f"{contents.place}/{kept[0]} may have rows of files that are gone: a compaction merged them into "
            "it, and a vacuum may have deleted them since; nothing was changed"
        )
    return False


def _identity(candidate: Candidate) -> Origin:
    assert candidate.path is not None  # it would have been refused
    one = candidate.found if isinstance(candidate.found, Footer) else candidate.arrival
    return Origin(candidate.path, one.size or 0, one.etag and one.etag.strip('"'))


def _was_had(state: TableState, one: Origin) -> bool:
    entry = state.ledger.get(one.path)
    return entry is not None and not entry.is_foreign and entry.is_same(one.etag, one.size)


def _as_replay(verdict: Verdict) -> Verdict:
    if verdict.kind == "duplicate":
        return verdict
    return Verdict(uri=verdict.uri, kind="replay", detail="the partition has its rows in another file")


def _canonical(values: Values, types: Mapping[str, str]) -> dict[str, str | None] | None:
    """Values in the one form in which they can be compared; ``None`` if they are not of these columns."""
    segments = [
        f"{quote(name, safe='')}={'' if value is None else quote(value, safe='')}/"
        for name, value in values.items()
    ]
    try:
        return values_for("".join(segments) + "file", types)
    except BadPartition:
        return None
