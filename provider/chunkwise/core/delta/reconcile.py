"""Compare what lies below the root of a table with its log and its ledger, and mend it if that is asked for.

Notifications get lost, objects are deleted, overwritten and put back by hand: a listing now and then finds
what no event told. No row is read; a file is only looked at (its footer) when it is to be added.

What is added and removed goes the way of every arrival, :func:`chunkwise.core.delta.append.append`, which
looks again and decides by the table that its commit lands on. A difference that was none, or is none any
more, ends there as a verdict and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

import msgspec

from chunkwise.core.arrival import Arrival
from chunkwise.core.delta import log as table_log
from chunkwise.core.delta.append import Settings, append
from chunkwise.core.delta.findings import KINDS, MENDED, Finding, Names, Reconciled, compare
from chunkwise.core.delta.lost import Lost
from chunkwise.core.delta.model import Verdict
from chunkwise.core.delta.news import news_of
from chunkwise.core.delta.places import LOG, Table, is_hidden
from chunkwise.core.errors import ConfigError, TableNotFound
from chunkwise.core.storage import S3Writer, objects
from chunkwise.core.storage.objects import Listed

log = logging.getLogger(__name__)

Repair = Literal["orphan", "stale", "missing"]
#: differences that are settled together: looked up in the log once more, mended by one commit
BATCH: Final = 1000
GRACE: Final = timedelta(hours=1)


def reconcile(
    client: Any,
    table: Table,
    *,
    repair: Collection[Repair] = (),
    settings: Settings | None = None,
    suffix: str = ".parquet",
    grace: timedelta = GRACE,
    most: int = 50,
    report_uri: str | None = None,
    now: datetime | None = None,
) -> Reconciled:
    """Compare a table with what lies there.

    One LIST request per 1,000 objects, one more per 1,000 differences, and what reading the log takes.
    Memory: some 400 bytes for each file that the table has now and 40 for each that it ever had; neither the
    listing nor the differences are held.

    :param client: boto3 S3 client.
    :param repair: kinds of differences to mend; none: nothing is written. ``orphan``: added; ``stale``: by
        the policy ``on_overwrite``; ``missing``: removed from the table.
    :param settings: of the appends that mend, 1,000 files with a commit.
    :param suffix: of the objects that can be files of the table; others are passed over.
    :param grace: objects that were written since are ``pending``, and are left alone.
    :param most: examples of each kind at most.
    :param report_uri: ``s3://bucket/key`` of a report of all differences, one JSON object in each line.
    :param now: the time.
    :raises TableNotFound: there is no table.
    :raises LogDamaged: its log cannot be read.
    :raises UnsupportedTable: its log cannot be read by this, or files cannot be added to it.
    :raises ConfigError: ``repair`` or ``report_uri`` is wrong.
    :raises StorageError: S3 refuses, or failed at every attempt.
    """
    unknown = sorted(set(repair) - set(get_args(Repair)))
    if unknown or isinstance(repair, str):
        raise ConfigError(
            f"repair is {repair!r}: it must be a list of some of {', '.join(get_args(Repair))}"
        ).naming("repair")
    settings = settings or Settings()
    place = None if report_uri is None else _object(report_uri)
    state = _load(client, table, settings)
    with ExitStack() as stack:
        write: Callable[[bytes], Any] = _nowhere
        if place is not None:
            write = stack.enter_context(
                S3Writer(
                    client,
                    *place,
                    content_type="application/x-ndjson",
                    extra_args=settings.extra_args,
                )
            ).write
        run = _Run(client, table, state, settings, frozenset(repair), most, write)
        before = (now or datetime.now(UTC)) - grace
        front = table.key("")
        for one in objects.list_objects(client, table.bucket, front, extra_args=settings.extra_args):
            run.listed(one, suffix, before)
        run.settle()
        run.end()
    run.found.report_uri = report_uri
    return run.found


def _object(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket or not key or key.endswith("/"):
        raise ConfigError(f"report_uri is {uri!r}: it must be s3://bucket/key").naming("report_uri")
    return bucket, key


def _nowhere(_: bytes) -> None:
    """No report."""


def _load(client: Any, table: Table, settings: Settings) -> Names:
    """Names from the log, and the ledger from the newest snapshot: both at one version."""
    known = table_log.load(client, table, extra_args=settings.extra_args)
    if not known.exists:
        raise TableNotFound(
            f"there is no table at {table.uri}: it is made by an append of its first files"
        ).naming("table_uri")
    state = Names(table.uri)
    table_log.load_whole(client, table, state, extra_args=settings.extra_args)
    table_log.level(client, table, known, state, extra_args=settings.extra_args)
    state.adopt(known)
    return state


class _Run:
    """One comparison."""

    def __init__(
        self,
        client: Any,
        table: Table,
        state: Names,
        settings: Settings,
        repair: frozenset[Repair],
        most: int,
        write: Callable[[bytes], Any],
    ) -> None:
        self._client = client
        self._table = table
        self._state = state
        self._repair = repair
        self._most = most
        self._write = write
        # a file is only gone if it still is when the append looks, and then it can only be removed
        self._settings = replace(settings, policy=replace(settings.policy, on_delete="remove"))
        self._begun = state.version
        self._unseen = set(state.files)
        self._suspects: list[tuple[str, Listed, datetime]] = []
        self._tables: dict[str, bool] = {}
        self.found = Reconciled(uri=table.uri, version=state.version)

    def listed(self, one: Listed, suffix: str, before: datetime) -> None:
        """One object of the listing."""
        self.found.listed += 1
        path = self._table.relative(self._table.bucket, one.key)
        if path is None:
            return
        self._unseen.discard(path)
        if path not in self._state.files and (is_hidden(path) or not path.endswith(suffix)):
            return
        outcome = compare(self._uri(path), path, one, self._state, before=before)
        if outcome == "in_order":
            self.found.in_order += 1
        elif outcome == "retired":
            self.found.retired += 1
        else:
            self._suspects.append((path, one, before))
            if len(self._suspects) >= BATCH:
                self.settle()

    def settle(self) -> None:
        """Decide on suspects by the log as it is now, which others may have written meanwhile."""
        if not self._suspects:
            return
        self._catch_up()
        findings: list[tuple[Finding, Arrival]] = []
        for path, one, before in self._suspects:
            outcome = compare(self._uri(path), path, one, self._state, before=before)
            if outcome == "retired":
                self.found.retired += 1
            elif outcome == "in_order" or self._is_new(path):
                self.found.in_order += 1
            elif outcome.kind in ("orphan", "pending") and self._is_nested(path):
                self.found.nested += 1
            else:
                arrival = Arrival(bucket=self._table.bucket, key=one.key, size=one.size, etag=one.etag)
                findings.append((outcome, arrival))
        self._suspects.clear()
        self._close(findings)

    def end(self) -> None:
        """What the log has and the listing had not."""
        self._catch_up()
        batch: list[tuple[Finding, Arrival]] = []
        extra_args = self._settings.extra_args
        lost = Lost(self._client, self._table, self._state, self._most, extra_args)
        for path in sorted(self._unseen):
            logged = self._state.files.get(path)
            if logged is None or self._is_new(path):
                continue
            if "://" in path or path.startswith("/"):  # of a shallow clone
                self.found.elsewhere += 1
                continue
            finding = Finding(uri=self._uri(path), kind="missing", logged_size=logged.size)
            key = self._table.key(path)
            finding = lost.explain(finding, path)
            batch.append((finding, Arrival(bucket=self._table.bucket, key=key, deleted=True)))
            if len(batch) >= BATCH:
                self._close(batch)
                batch = []
        self._close(batch)
        counts = self.found.counts
        log.info(
            "%s at version %d: %d objects listed, %d files in order; %s",
            self._table.uri,
            self.found.version,
            self.found.listed,
            self.found.in_order,
            ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]) or "no difference",
        )

    def _close(self, findings: list[tuple[Finding, Arrival]]) -> None:
        """Mend and report."""
        found = self.found
        verdicts = self._mend([arrival for one, arrival in findings if one.kind in self._repair])
        for one, _ in findings:
            found.counts[one.kind] += 1
            found.bytes[one.kind] += one.size if one.size is not None else one.logged_size or 0
            if found.counts[one.kind] <= self._most:
                found.examples.append(one)
            verdict = verdicts.get(one.uri)
            line = one.to_json()
            if verdict is not None:
                found.verdicts[verdict.kind] += 1
                line |= {"verdict": verdict.kind, "reason": verdict.reason, "verdict_detail": verdict.detail}
                if verdict.kind not in MENDED and len(found.not_mended) < self._most:
                    found.not_mended.append(verdict)
            self._write(msgspec.json.encode(line) + b"\n")

    def _mend(self, arrivals: list[Arrival]) -> dict[str, Verdict]:
        if not arrivals:
            return {}
        receipt = append(self._client, self._table, arrivals, settings=self._settings)
        self.found.version = max(self.found.version, receipt.version or 0)
        self.found.commits += receipt.committed
        self.found.rows += receipt.rows
        if receipt.committed:
            new, known = news_of(receipt, "reconcile"), self.found.news
            self.found.news = new if known is None else known.and_then(new)
        return {verdict.uri: verdict for verdict in receipt.verdicts}

    def _catch_up(self) -> None:
        extra_args = self._settings.extra_args
        table_log.catch_up(self._client, self._table, self._state, extra_args=extra_args)
        self.found.version = self._state.version

    def _is_new(self, path: str) -> bool:
        """Whether a commit says something of a file that may be newer than the listing."""
        entry = self._state.ledger.get(path)
        return entry is not None and entry.version > self._begun

    def _is_nested(self, path: str) -> bool:
        """Whether a folder above it, below the root, is a table of its own."""
        folder = ""
        for name in path.split("/")[:-1]:
            if "=" in name:
                return False
            folder += f"{name}/"
            if folder not in self._tables:
                front = self._table.key(folder + LOG) + "/"
                extra_args = self._settings.extra_args
                listed = objects.list_objects(self._client, self._table.bucket, front, extra_args=extra_args)
                self._tables[folder] = next(listed, None) is not None
            if self._tables[folder]:
                return True
        return False

    def _uri(self, path: str) -> str:
        return f"s3://{self._table.bucket}/{self._table.key(path)}"
