"""Add files that lie on S3 to a Delta table, without reading their rows: one commit per table and batch.

The log is written here, by one conditional PutObject per version, and not by deltalake: that makes the
creation of a table race-proof (version 0 is written where none stands), lets new columns, files, removals and
the batch number land in one commit, and leaves the decision on a conflict to whoever knows the files.
deltalake writes the checkpoints that other readers like to have, see :mod:`chunkwise.core.delta.maintain`.

What is promised: a file's rows are in the table once, however often and in whatever order its events come,
before and after a compaction. The proof is the ledger, which is the log itself (see
:mod:`chunkwise.core.delta.ledger`): a commit that another writer was faster than is decided anew, on the
table that the other one left.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from chunkwise.core.arrival import Arrival
from chunkwise.core.delta import log as table_log
from chunkwise.core.delta.actions import commit_body, files_changed
from chunkwise.core.delta.footer import read_footers
from chunkwise.core.delta.judge import Candidate, Decision, has_batch, judge, needs_a_look
from chunkwise.core.delta.maintain import Maintenance, maintain
from chunkwise.core.delta.model import IN_TABLE, Batch, Policy, TableReceipt, Verdict
from chunkwise.core.delta.places import Table, table_of
from chunkwise.core.delta.quarantine import put_on_record
from chunkwise.core.delta.state import TableState
from chunkwise.core.errors import CommitContended, ConfigError, ObjectExists, UploadFailed
from chunkwise.core.storage import objects
from chunkwise.core.units import GiB

log = logging.getLogger(__name__)

#: somebody succeeds at each, so this is a bound on bad luck
ATTEMPTS: Final = 1000
_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How an append works.

    :param policy: what it decides.
    :param maintenance: what is done beside the commits.
    :param concurrency: footers that are read at a time.
    :param quarantine_uri: ``s3://bucket/prefix`` below which rejected files are put on record.
    :param extra_args: more arguments as for ``put_object``, e.g. ``{"ServerSideEncryption": "aws:kms"}``;
        each goes to the calls that know it.
    :param info: more members of ``commitInfo``, e.g. which run this is; no secrets.
    :param tried_since: of work that is tried again: since when an earlier try may have committed, with the
        same ``info``, see :func:`chunkwise.core.delta.earlier.earlier_commits`.
    :param attempts: commits that are tried at most while others are faster.
    :param check: called before anything is read, and before each attempt; what it raises ends the append.
    """

    policy: Policy = field(default_factory=Policy)
    maintenance: Maintenance = field(default_factory=Maintenance)
    concurrency: int = 16
    quarantine_uri: str | None = None
    extra_args: Mapping[str, Any] | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    tried_since: datetime | None = None
    attempts: int = ATTEMPTS
    check: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} is {value!r}: it must be a whole number from 1 up").naming(name)
        if self.quarantine_uri is not None:
            Table.at(self.quarantine_uri, name="quarantine_uri")


def tables_of(arrivals: Iterable[Arrival], table_uri: str | None = None) -> dict[Table, list[Arrival]]:
    """Arrivals by the table that they belong to: the one that is named, or the one of the rule."""
    named = None if table_uri is None else Table.at(table_uri)
    found: dict[Table, list[Arrival]] = {}
    for arrival in arrivals:
        found.setdefault(named or table_of(arrival.bucket, arrival.key), []).append(arrival)
    return found


def append(
    client: Any,
    table: Table,
    arrivals: Sequence[Arrival],
    *,
    settings: Settings | None = None,
    batch: Batch | None = None,
) -> TableReceipt:
    """Bring a table to what arrived.

    A file that cannot be added stops no other one: it has a verdict. A request for each object that the table
    does not have yet, and one commit for all of them.

    :param client: boto3 S3 client.
    :param arrivals: in any order, each as often as it comes.
    :param batch: which batch this is, of a source that counts them.
    :raises UnsupportedTable: files cannot be added to this table.
    :raises LogDamaged: its log cannot be read.
    :raises ConfigError: the policy does not fit the table.
    :raises CommitContended: other writers were faster at every attempt.
    :raises StorageError: S3 refuses, or failed at every attempt.
    """
    settings = settings or Settings()
    extra_args = settings.extra_args
    if settings.check is not None:
        settings.check()
    state = table_log.load(client, table, extra_args=extra_args)
    candidates = unique(table, arrivals)
    if not has_batch(state, batch):
        candidates = look_at(client, state, candidates, settings)
    attempt = 0
    while True:
        if settings.check is not None:
            settings.check()
        now_ms = time.time_ns() // 1_000_000
        decision = judge(table, state, candidates, settings.policy, batch, now_ms)
        if decision.is_empty:
            break
        attempt += 1
        # a batch that lacks a file may come again: with what was missing, or under another policy
        done = batch if all(verdict.kind in IN_TABLE for verdict in decision.verdicts) else None
        body = commit_body(state, decision, done, settings.info, now_ms)
        etag = put_version(client, table, state.version + 1, body, extra_args)
        if etag is not None:
            break
        if attempt >= settings.attempts:
            raise CommitContended(
                f"{table.uri} got another commit at each of {attempt} attempts: use fewer writers, or "
                "larger batches"
            )
        pause(attempt)
        table_log.catch_up(client, table, state, extra_args=extra_args)
        candidates = look_at(client, state, candidates, settings)
    verdicts = _recorded(client, decision, settings)
    receipt = TableReceipt(
        uri=table.uri,
        version=state.version if state.exists else None,
        committed=False,
        attempts=attempt,
        verdicts=_of_arrivals(arrivals, candidates, verdicts),
    )
    if decision.is_empty:
        return receipt
    added, removed = files_changed(decision.adds, decision.removes)
    receipt = replace(
        receipt,
        version=state.version + 1,
        committed=True,
        created=not state.exists,
        rows=decision.rows,
        bytes=decision.bytes,
        files_added=added,
        files_removed=removed,
        new_columns=tuple(decision.changes),
    )
    assert etag is not None
    state.fold(state.version + 1, body)
    maintain(client, table, state, etag, settings.maintenance, extra_args=extra_args)
    log.info(
        "%s is at version %d: %s; %d rows in %d bytes, %d attempts",
        table.uri,
        state.version,
        ", ".join(f"{count} {kind}" for kind, count in receipt.counts.items()),
        receipt.rows,
        receipt.bytes,
        attempt,
    )
    return receipt


def unique(table: Table, arrivals: Sequence[Arrival]) -> list[Candidate]:
    """Each object once."""
    unique: dict[tuple[str, str], Candidate] = {}
    for arrival in arrivals:
        place = (arrival.bucket, arrival.key)
        known = unique.get(place)
        if known is None:
            path = table.relative(*place)
            unique[place] = Candidate(arrival=arrival, path=path, was_deleted=arrival.deleted)
        elif arrival.deleted:
            unique[place] = replace(known, was_deleted=True)
        elif known.arrival.etag != arrival.etag:
            # events of one key that tell of several objects: only a look says which one is there
            unique[place] = replace(known, arrival=replace(known.arrival, etag=None))
    return list(unique.values())


def look_at(
    client: Any, state: TableState, candidates: list[Candidate], settings: Settings
) -> list[Candidate]:
    """Read the footers that are needed and were not read so far."""
    wanted = [one for one in candidates if one.found is None and needs_a_look(one, state)]
    places = [(one.arrival.bucket, one.arrival.key) for one in wanted]
    footers = read_footers(client, places, concurrency=settings.concurrency, extra_args=settings.extra_args)
    found = dict(zip(places, footers))
    return [
        replace(one, found=found.get((one.arrival.bucket, one.arrival.key), one.found)) for one in candidates
    ]


def pause(attempt: int) -> None:
    """Wait after another writer was faster, so that not all begin again at once.

    :param attempt: how many of them there were so far.
    """
    time.sleep(random.uniform(0, min(_LONGEST_PAUSE, _PAUSE * 2 ** min(attempt, 10))))


def put_version(
    client: Any, table: Table, version: int, body: bytes, extra_args: Mapping[str, Any] | None
) -> str | None:
    """Write a version; its ETag, or ``None`` if another writer's stands there."""
    key = table.commit_key(version)
    try:
        return objects.put_new(client, table.bucket, key, body, extra_args=extra_args)
    except (ObjectExists, UploadFailed) as error:
        # it may have landed, and only its answer was lost: by a proxy that asked again, nobody knows of it
        found = objects.get(client, table.bucket, key, max_bytes=GiB, extra_args=extra_args)
        if found is None and isinstance(error, UploadFailed):
            raise
        # no other commit has its txnId
        return found.etag if found is not None and found.body == body else None


def _recorded(client: Any, decision: Decision, settings: Settings) -> list[Verdict]:
    if settings.quarantine_uri is None:
        return decision.verdicts
    return put_on_record(client, settings.quarantine_uri, decision.verdicts, extra_args=settings.extra_args)


def _of_arrivals(
    arrivals: Sequence[Arrival], candidates: Sequence[Candidate], verdicts: Sequence[Verdict]
) -> tuple[Verdict, ...]:
    """A verdict for each arrival: what was added for the first one of a key is a duplicate in the others."""
    left = {(one.arrival.bucket, one.arrival.key): verdict for one, verdict in zip(candidates, verdicts)}
    found = []
    for arrival in arrivals:
        place = (arrival.bucket, arrival.key)
        verdict = left[place]
        found.append(verdict)
        if verdict.kind in ("added", "replaced", "removed"):
            left[place] = Verdict(uri=arrival.uri, kind="duplicate", detail="it is in this batch already")
    return tuple(found)
