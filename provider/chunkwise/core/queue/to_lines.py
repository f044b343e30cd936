"""A queue into one object of JSON Lines: rows first, then the messages are deleted."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from chunkwise.core import memory
from chunkwise.core.choices import check_choices, check_number
from chunkwise.core.errors import ConfigError, EmptyResult, RecordError
from chunkwise.core.ingest.rejects import quarantine_key
from chunkwise.core.ingest.sink import LineSink
from chunkwise.core.ingest.spec import Destination, OnEmpty
from chunkwise.core.queue.aside import Aside, BadMessages
from chunkwise.core.queue.bodies import records
from chunkwise.core.queue.drain import Drain, Limits, Message
from chunkwise.core.queue.names import check_queue, url_of
from chunkwise.core.records.compression import check_suffix, codec
from chunkwise.core.records.lines import LineBuilder, OnStampConflict
from chunkwise.core.storage import ObjectReceipt, Retries, S3Writer

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class DrainSpec:
    """A queue, and the one object that its messages become.

    :param queue: its name or URL.
    :param destination: the object. Whatever stands there is never replaced: its messages are deleted.
    :param limits: when the drain ends, even if the queue is not empty.
    :param visibility_seconds: for how long messages are hidden at a time.
    :param wait_seconds: a queue that has nothing for so long is empty.
    :param bad: what becomes of messages that cannot become rows.
    :param max_message_bytes: a longer body is bad; ``None``: any length, SQS has its own limit of 1 MiB.
    :param message_id_key: member that each row gets at its end: the id of its message, by which a reader
        knows a row that came twice.
    :param stamps: further members that each row gets.
    :param on_stamp_conflict: what to do with a row that has such a member already.
    :param on_empty: without any row, ``"write"`` an empty object, ``"skip"`` (no object), or ``"fail"``.
    :param retries: of calls of SQS that failed in a way that may pass.
    """

    queue: str
    destination: Destination
    limits: Limits = field(default_factory=Limits)
    visibility_seconds: int = 300
    wait_seconds: int = 5
    bad: BadMessages = field(default_factory=BadMessages)
    max_message_bytes: int | None = None
    message_id_key: str | None = None
    stamps: Mapping[str, Any] = field(default_factory=dict)
    on_stamp_conflict: OnStampConflict = "fail"
    on_empty: OnEmpty = "skip"
    retries: Retries = field(default_factory=Retries)

    def __post_init__(self) -> None:
        if self.destination.on_exists != "fail":
            raise ConfigError("an object of messages that are deleted must not be replaced: on_exists='fail'")
        check_queue("sqs_queue", self.queue)
        check_choices(self, on_empty=OnEmpty, on_stamp_conflict=OnStampConflict)
        if self.max_message_bytes is not None:
            check_number("max_message_bytes", self.max_message_bytes, 1)
        key = self.message_id_key
        if key is not None and (not isinstance(key, str) or not key):
            raise ConfigError(f"message_id_key is {key!r}: it must be the name of a member").naming(
                "message_id_key"
            )
        if not isinstance(self.stamps, Mapping) or not all(isinstance(name, str) for name in self.stamps):
            raise ConfigError(
                f"stamps must give a value for each name, and is of type {type(self.stamps).__name__}"
            ).naming("stamps")
        if key in self.stamps:
            raise ConfigError(f"message_id_key is {key!r}, which is one of the stamps, too").naming(
                "message_id_key", "stamps"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class DrainReceipt:
    """What was received and what was written. JSON-able, and never holds data.

    :param uri: the object, ``None`` when none was written.
    :param stop_reason: ``"empty"``, or the limit that was reached.
    :param messages: received, each once.
    :param message_bytes: of their bodies.
    :param records: lines of the object.
    :param bytes: size of the object.
    :param uncompressed_bytes: size of its lines.
    :param etag: of the object.
    :param version_id: of the object in a versioned bucket.
    :param sha256: hex digest of the lines.
    :param parts: parts of the upload, 0 for a single request.
    :param redelivered: times that SQS gave a message again, which were left out.
    :param bad_messages: that could not become rows.
    :param quarantine_uri: where they are, if they were put into an object.
    :param deleted: messages that SQS has deleted.
    :param undeleted: messages whose rows are safe, and that come again.
    :param seconds: wall time.
    :param peak_rss: peak memory of the process, bytes.
    """

    uri: str | None
    stop_reason: str
    messages: int
    message_bytes: int
    records: int
    bytes: int = 0
    uncompressed_bytes: int = 0
    etag: str | None = None
    version_id: str | None = None
    sha256: str | None = None
    parts: int = 0
    redelivered: int = 0
    bad_messages: int = 0
    quarantine_uri: str | None = None
    deleted: int = 0
    undeleted: int = 0
    seconds: float = 0.0
    peak_rss: int = 0

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def drain_to_lines(sqs: Any, s3: Any, spec: DrainSpec) -> DrainReceipt:
    """Drain a queue into one object, in memory that depends on its parts, not on its size.

    An error before the object is published publishes nothing and gives all messages back. After that, they
    are deleted; what a kill leaves undeleted comes again, in another object.

    :param sqs: boto3 SQS client.
    :param s3: boto3 S3 client.
    :raises QueueError: the queue could not be read, or a bad message is not allowed.
    :raises QuarantineLimitExceeded: too many messages cannot become rows.
    :raises EmptyResult: there is no row, and ``on_empty`` is ``"fail"``.
    :raises ObjectExists: the key has an object.
    :raises UploadFailed: S3 refuses, or failed at every attempt.
    """
    started = time.monotonic()
    queue_url = url_of(sqs, spec.queue)
    bad = spec.bad.found(sqs, queue_url)
    place = spec.destination
    aside_at = replace(place, key=quarantine_key(place.key))
    with Drain(
        sqs,
        queue_url,
        limits=spec.limits,
        visibility_seconds=spec.visibility_seconds,
        wait_seconds=spec.wait_seconds,
        retries=spec.retries,
    ) as drain:
        lines = _Lines(s3, spec)
        with lines.writer, Aside(sqs, s3, drain, bad, aside_at) as aside:
            for message in drain.receive():
                try:
                    lines.put(message)
                except RecordError as error:
                    aside.put(message, str(error))
            if not lines.count and spec.on_empty == "fail":
                why = f"all {aside.count} messages were bad" if aside.count else "it has no messages"
                raise EmptyResult(
                    f"queue {queue_url.rstrip('/').rpartition('/')[2]} gave no rows: {why}, and on_empty is"
                    " 'fail'; nothing was published"
                )
            quarantine_uri = aside.publish()
            written = lines.close(publish=lines.count > 0 or spec.on_empty == "write")
        kept = aside.kept
        undeleted = drain.delete([name for name in drain.ids() if name not in kept])
        receipt = DrainReceipt(
            uri=None if written is None else written.uri,
            stop_reason=str(drain.ended),
            messages=drain.messages,
            message_bytes=drain.bytes,
            records=lines.count,
            bytes=0 if written is None else written.size or 0,
            uncompressed_bytes=lines.sink.size,
            etag=None if written is None else written.etag,
            version_id=None if written is None else written.version_id,
            sha256=None if written is None else lines.sink.sha256,
            parts=0 if written is None else written.parts,
            redelivered=drain.redelivered,
            bad_messages=aside.count,
            quarantine_uri=quarantine_uri,
            deleted=drain.deleted,
            undeleted=undeleted,
            seconds=round(time.monotonic() - started, 3),
            peak_rss=memory.peak_rss(),
        )
    log.info(
        "%s: %d messages (%s), %d rows, %d bad, %d deleted, %.1f s",
        receipt.uri or "no object",
        receipt.messages,
        receipt.stop_reason,
        receipt.records,
        receipt.bad_messages,
        receipt.deleted,
        receipt.seconds,
    )
    return receipt


class _Lines:
    """The object that is written."""

    def __init__(self, s3: Any, spec: DrainSpec) -> None:
        place = spec.destination
        self._spec = spec
        self._codec = codec(place.compression, place.level)
        check_suffix(place.key, self._codec)
        self.writer = S3Writer(
            s3,
            place.bucket,
            place.key,
            on_exists=place.on_exists,
            part_size=place.part_size,
            in_flight=place.parts_in_flight,
            content_type=self._codec.content_type,
            metadata=place.metadata,
            extra_args=place.extra_args,
            checksum=place.checksum,
        )
        self.sink = LineSink(self.writer, self._codec)
        self._builder = LineBuilder(dict(spec.stamps), on_conflict=spec.on_stamp_conflict)
        self.count = 0

    def put(self, message: Message) -> None:
        """:raises RecordError: it cannot become rows, and none of it was taken."""
        spec, body = self._spec, message.body.encode()
        if spec.max_message_bytes is not None and len(body) > spec.max_message_bytes:
            raise RecordError(f"the body has {len(body)} bytes, more than {spec.max_message_bytes}")
        found = records(body)
        builder = self._builder
        if spec.message_id_key is not None:
            stamps = {**spec.stamps, spec.message_id_key: message.id}
            builder = LineBuilder(stamps, on_conflict=spec.on_stamp_conflict)
        lines = builder.build(found, b"\n".join(found))
        for one in lines.rejected:
            raise one.error
        self.sink.put(lines.pieces)
        self.count += lines.count

    def close(self, *, publish: bool) -> ObjectReceipt | None:
        if not publish:
            self.writer.abort()
            return None
        self.sink.end_member()
        return self.writer.close()
