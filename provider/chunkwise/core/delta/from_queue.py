"""A queue becomes rows of a Delta table: one Parquet file and one commit, then the messages are deleted."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from chunkwise.core.arrival import Arrival
from chunkwise.core.delta import log as table_log
from chunkwise.core.delta.append import Settings, append
from chunkwise.core.delta.drained import Notes
from chunkwise.core.delta.earlier import earlier_commits
from chunkwise.core.delta.model import Earlier, TableReceipt
from chunkwise.core.delta.news import (
    MOST_COLUMNS,
    News,
    columns_json,
    earlier_news,
    news_of,
    versions_json,
)
from chunkwise.core.delta.places import Table
from chunkwise.core.delta.rows import RowEncoder, check_columns, columns_of, partition_path, told
from chunkwise.core.delta.state import TableState
from chunkwise.core.errors import ConfigError, DeleteFailed, DeltaError, QueueError, RecordError, RowInvalid
from chunkwise.core.ingest.rejects import rejected_name
from chunkwise.core.ingest.spec import Destination
from chunkwise.core.queue.aside import Aside, BadMessages
from chunkwise.core.queue.bodies import records
from chunkwise.core.queue.drain import Drain, Limits, Message
from chunkwise.core.queue.names import check_queue, url_of
from chunkwise.core.reserved import in_table, mark_of
from chunkwise.core.storage import S3Writer, objects
from chunkwise.core.units import MiB

log = logging.getLogger(__name__)

_BATCH_BYTES: Final = 4 * MiB
_BATCH_ROWS: Final = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSpec:
    """A queue, and how its messages become rows.

    :param queue: its name or URL.
    :param limits: when the drain ends, even if the queue is not empty.
    :param visibility_seconds: for how long messages are hidden at a time.
    :param wait_seconds: a queue that has nothing for so long is empty.
    :param bad: what becomes of messages that cannot become rows; default: they are left to the queue.
    :param quarantine_uri: ``s3://bucket/prefix`` for them, if that is what becomes of them.
    :param schema: types of Arrow by column; default: the table's, or what the first rows show.
    :param partition: values of the partition columns for all rows.
    :param compression: of the Parquet file's pages.
    """

    queue: str
    limits: Limits = field(default_factory=Limits)
    visibility_seconds: int = 300
    wait_seconds: int = 5
    bad: BadMessages = field(default_factory=lambda: BadMessages(action="redrive"))
    quarantine_uri: str | None = None
    schema: Mapping[str, str] | None = None
    partition: Mapping[str, str | None] | None = None
    compression: str = "zstd"

    def __post_init__(self) -> None:
        check_columns(self.schema, self.partition)
        if self.quarantine_uri is not None:
            Table.at(self.quarantine_uri, name="quarantine_uri")
        if self.bad.action == "quarantine" and self.quarantine_uri is None:
            raise ConfigError("on_bad_message='quarantine' needs quarantine_uri").naming("quarantine_uri")
        check_queue("sqs_queue", self.queue)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueReceipt:
    """What was received and what was committed. JSON-able, and never holds data.

    :param uri: of the table.
    :param version: that was committed, by an earlier try if not by this one; ``None``: nothing was.
    :param path: of the new file in the table.
    :param stop_reason: ``"empty"``, or the limit that was reached.
    :param messages: received, each once.
    :param rows: that are new in the table.
    :param replayed: messages whose rows the table had already; they were deleted only.
    :param redelivered: times that SQS gave a message again, which were left out.
    :param bad_messages: that could not become rows.
    :param quarantine_uri: where they are, if they were put into an object.
    :param deleted: messages that SQS has deleted.
    :param undeleted: messages whose rows are safe, and that come again, which adds no rows.
    :param new_columns: of the table.
    :param earlier: commits of earlier tries of the same work, of which nobody may have been told.
    :param commit: what this try has committed.
    """

    uri: str
    version: int | None
    path: str | None
    stop_reason: str
    messages: int
    rows: int
    replayed: int
    redelivered: int
    bad_messages: int
    quarantine_uri: str | None
    deleted: int
    undeleted: int
    new_columns: tuple[str, ...] = ()
    earlier: tuple[Earlier, ...] = ()
    commit: TableReceipt | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, of the first columns only, and the last versions of earlier tries."""
        plain = asdict(replace(self, earlier=(), commit=None))
        del plain["earlier"], plain["commit"]
        return {
            **plain,
            **columns_json(self.new_columns, MOST_COLUMNS),
            **versions_json(self.earlier, MOST_COLUMNS),
        }

    @property
    def news(self) -> list[News]:
        """The commits to tell of: those of earlier tries, and this one's."""
        new = [] if self.commit is None else [news_of(self.commit, "drain")]
        return earlier_news(self.uri, self.earlier, "drain") + new


def drain_to_table(
    sqs: Any, s3: Any, table: Table, spec: QueueSpec, *, settings: Settings | None = None
) -> QueueReceipt:
    """Drain a queue into a table, in bounded memory.

    An error before the commit commits nothing and gives all messages back. What a kill after the commit
    leaves undeleted comes again, is known by its id, and is deleted then.

    :param sqs: boto3 SQS client.
    :param s3: boto3 S3 client.
    :raises ChunkwiseError: see :func:`~chunkwise.core.queue.to_lines.drain_to_lines` and
        :func:`~chunkwise.core.delta.append`.
    """
    settings = settings or Settings()
    queue_url = url_of(sqs, spec.queue)
    bad = spec.bad.found(sqs, queue_url)
    name = uuid.uuid4().hex
    extra_args = settings.extra_args
    earlier = earlier_commits(s3, table, settings)
    notes = Notes(s3, table, name, extra_args)
    state = table_log.load(s3, table, extra_args=extra_args)
    known = notes.committed(state)
    path = f"{partition_path(spec.partition)}rows-{name}.parquet"
    place = Table.at(spec.quarantine_uri) if spec.quarantine_uri else table
    aside_at = Destination(
        bucket=place.bucket,
        key=place.key(rejected_name(f"{name}.jsonl.gz")),
        on_exists="fail",
        extra_args=dict(extra_args or {}),
    )
    with Drain(
        sqs,
        queue_url,
        limits=spec.limits,
        visibility_seconds=spec.visibility_seconds,
        wait_seconds=spec.wait_seconds,
    ) as drain:
        file = _File(s3, table, path, state, spec, settings)
        with file.writer, Aside(sqs, s3, drain, bad, aside_at) as aside:
            for message in drain.receive():
                if message.id in known:
                    file.replayed += 1
                    continue
                file.put(message, aside)
            file.flush(aside)
            quarantine_uri = aside.publish()
            arrival = file.close()
        receipt = None
        if arrival is not None:
            notes.write(path, file.messages)
            receipt = _commit(s3, table, arrival, file.messages, notes, settings)
        kept = aside.kept
        undeleted = drain.delete([one for one in drain.ids() if one not in kept])
        if arrival is not None and not undeleted:
            notes.forget()
        return QueueReceipt(
            uri=table.uri,
            version=receipt.version if receipt is not None else earlier[-1].version if earlier else None,
            path=None if receipt is None else path,
            stop_reason=str(drain.ended),
            messages=drain.messages,
            rows=file.rows,
            replayed=file.replayed,
            redelivered=drain.redelivered,
            bad_messages=aside.count,
            quarantine_uri=quarantine_uri,
            deleted=drain.deleted,
            undeleted=undeleted,
            new_columns=() if receipt is None else receipt.new_columns,
            earlier=earlier,
            commit=receipt,
        )


def _commit(
    s3: Any, table: Table, arrival: Arrival, messages: Sequence[str], notes: Notes, settings: Settings
) -> TableReceipt:
    """:raises DeltaError: the file does not fit the table."""
    # another drain may have had a message of ours meanwhile, if it was shown too soon
    state = table_log.load(s3, table, extra_args=settings.extra_args)
    twice = notes.committed(state).intersection(messages)
    if twice:
        _drop(s3, arrival, notes, settings)
        raise QueueError(
            f"another drain has brought {len(twice)} of the messages into {table.uri} meanwhile; nothing was"
            " committed. Raise visibility_timeout",
            transient=True,
        )
    # its name is this drain's alone: no commit can have had it before
    own = replace(settings, policy=replace(settings.policy, on_unproven="add", on_reserved="add"))
    receipt = append(s3, table, [arrival], settings=own)
    (verdict,) = receipt.verdicts
    if verdict.kind not in ("added", "duplicate"):
        _drop(s3, arrival, notes, settings)
        why = DeltaError(f"the rows were not added to {table.uri}: {verdict.detail or verdict.kind}")
        why.transient = not verdict.settled
        raise why
    return receipt


def _drop(s3: Any, arrival: Arrival, notes: Notes, settings: Settings) -> None:
    """Remove a file that was not committed: its name is this drain's alone."""
    notes.forget()
    with suppress(DeleteFailed):
        objects.delete(s3, arrival.bucket, arrival.key, extra_args=settings.extra_args)


class _File:
    """The Parquet file that is written."""

    def __init__(
        self, s3: Any, table: Table, path: str, state: TableState, spec: QueueSpec, settings: Settings
    ) -> None:
        self._table = table
        self._path = path
        self._state = state
        self._spec = spec
        self._add_columns = settings.policy.schema == "add_columns"
        self._encoder: RowEncoder | None = None
        self._waiting: list[tuple[Message, list[bytes]]] = []
        self._rows = self._bytes = 0
        table_id = state.metadata.get("id")
        self.writer = S3Writer(
            s3,
            table.bucket,
            table.key(path),
            on_exists="fail",
            content_type="application/vnd.apache.parquet",
            # the messages of a drain that dies before its commit come again: its file must not be added
            metadata=mark_of("drain", in_table(table_id, path) if table_id else f"{table.uri}/{path}"),
            extra_args=settings.extra_args,
        )
        #: ids of messages whose rows are in the file
        self.messages: list[str] = []
        self.replayed = 0

    @property
    def rows(self) -> int:
        """In the file."""
        return 0 if self._encoder is None else self._encoder.rows

    def put(self, message: Message, aside: Aside) -> None:
        """Take a message; what cannot become rows goes aside."""
        try:
            found = records(message.body.encode())
        except RecordError as error:
            aside.put(message, str(error))
            return
        self._waiting.append((message, found))
        self._rows += len(found)
        self._bytes += len(message.body)
        if self._rows >= _BATCH_ROWS or self._bytes >= _BATCH_BYTES:
            self.flush(aside)

    def flush(self, aside: Aside) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        self._rows = self._bytes = 0
        if not waiting:
            return
        if self._encoder is None:
            columns = columns_of(
                self._state,
                [row for _, rows in waiting for row in rows],
                schema=self._spec.schema,
                partition=self._spec.partition,
                add_columns=self._add_columns,
            )
            self._encoder = RowEncoder(columns, self._spec.compression)
        for piece in self._pieces(self._encoder, waiting, aside):
            self.writer.write(piece)

    def close(self) -> Arrival | None:
        """Publish the file, if it has rows."""
        if self._encoder is None or not self._encoder.rows:
            self.writer.abort()
            return None
        for piece in self._encoder.finish():
            self.writer.write(piece)
        receipt = self.writer.close()
        key = self._table.key(self._path)
        return Arrival(bucket=self._table.bucket, key=key, etag=receipt.etag, size=receipt.size)

    def _pieces(
        self, encoder: RowEncoder, waiting: Sequence[tuple[Message, list[bytes]]], aside: Aside
    ) -> Iterator[bytes]:
        """All rows of a message, or none: halves, until the messages that do not fit are found."""
        try:
            pieces = encoder.put_all([row for _, rows in waiting for row in rows])
        except RowInvalid as error:
            if len(waiting) == 1:
                aside.put(waiting[0][0], told(error))
                return
            middle = len(waiting) // 2
            yield from self._pieces(encoder, waiting[:middle], aside)
            yield from self._pieces(encoder, waiting[middle:], aside)
            return
        self.messages += [message.id for message, _ in waiting]
        yield from pieces
