"""Messages that cannot become rows: they go aside, and stop no other one."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal

from chunkwise.core.choices import check_choices, check_number
from chunkwise.core.errors import ConfigError, QuarantineLimitExceeded, QueueError
from chunkwise.core.ingest.spec import Destination
from chunkwise.core.queue.drain import Drain, Message
from chunkwise.core.queue.names import check_queue, identity, url_of
from chunkwise.core.records.compression import codec
from chunkwise.core.storage import S3Writer
from chunkwise.core.storage.failures import CALL_ERRORS, is_passing, reason

log = logging.getLogger(__name__)

OnBad = Literal["quarantine", "redrive", "move", "fail"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BadMessages:
    """What becomes of messages that cannot become rows.

    :param action: ``"quarantine"``: lines of an object that readers of the rows pass over, and deleted with
        the others; ``"redrive"``: given back when the drain ends, for the queue's redrive policy to count;
        ``"move"``: sent to ``queue`` and deleted; ``"fail"``: the first one fails the drain.
    :param queue: for ``"move"``, its name or URL.
    :param limit: a drain with more of them fails, and nothing is published; ``None``: any number.
    """

    action: OnBad = "quarantine"
    queue: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if (self.action == "move") != (self.queue is not None):
            raise ConfigError("on_bad_message='move' and bad_queue need each other").naming("bad_queue")
        check_choices(self, action=OnBad)
        if self.queue is not None:
            check_queue("bad_queue", self.queue)
        if self.limit is not None:
            check_number("bad_message_limit", self.limit, 0)

    def found(self, sqs: Any, queue_url: str) -> BadMessages:
        """The same, with the queue's URL.

        :param sqs: boto3 SQS client.
        :param queue_url: of the queue that is drained.
        :raises ConfigError: messages would go round for ever.
        :raises QueueError: there is no such queue, or SQS does not say.
        """
        if self.queue is None:
            return self
        found = url_of(sqs, self.queue)
        if identity(sqs, found) == identity(sqs, queue_url):
            raise ConfigError("bad_queue is the queue itself: bad messages would go round for ever").naming(
                "bad_queue"
            )
        return replace(self, queue=found)

    def check_any_rows(self, *, bad: int, messages: int, uri: str | None) -> None:
        """After a drain without rows: an empty queue is nothing to worry about, one of bad messages is.

        :param bad: messages that could not become rows.
        :param messages: of the drain, but for those whose rows were safe before.
        :param uri: of the quarantine object.
        :raises QueueError: messages came, and none of them could.
        """
        if not bad or bad < messages:
            return
        if self.action == "quarantine":
            where = f"they are in {uri}"
        elif self.action == "move":
            where = f"they were moved to queue {str(self.queue).rstrip('/').rpartition('/')[2]}"
        else:
            where = "they were given back to the queue, for its redrive policy"
        raise QueueError(
            f"no message could become rows: all {bad} were bad, nothing was published, and {where}. The log"
            " says what is wrong with each; mend who sends them"
        )


class Aside:
    """Puts messages aside during one drain.

    :param sqs: boto3 SQS client.
    :param s3: boto3 S3 client.
    :param drain: that they come from.
    :param bad: what becomes of them.
    :param destination: of the object for ``"quarantine"``.
    """

    def __init__(self, sqs: Any, s3: Any, drain: Drain, bad: BadMessages, destination: Destination) -> None:
        self._sqs = sqs
        self._s3 = s3
        self._drain = drain
        self._bad = bad
        self._destination = destination
        self._codec = codec(destination.compression, destination.level)
        self._writer: S3Writer | None = None
        self._kept: set[str] = set()
        #: messages so far
        self.count = 0

    def put(self, message: Message, why: str) -> None:
        """Put one message aside.

        :param why: it is bad; no data.
        :raises QueueError: one is too many, or it could not be moved.
        :raises QuarantineLimitExceeded: there are too many.
        """
        self.count += 1
        log.warning("message %s, received %d times: %s", message.id, message.receives, why)
        if self._bad.action == "fail":
            raise QueueError(
                f"message {message.id}: {why}; nothing was published, and on_bad_message is 'fail'"
            )
        if self._bad.limit is not None and self.count > self._bad.limit:
            raise QuarantineLimitExceeded(
                f"more than {self._bad.limit} messages cannot become rows (the last one, {message.id}: {why})"
                "; nothing was published. Mend who sends them, or raise bad_message_limit"
            )
        if self._bad.action == "quarantine":
            self._write(message, why)
        elif self._bad.action == "redrive":
            self._kept.add(message.id)
        else:
            self._move(message)

    @property
    def kept(self) -> frozenset[str]:
        """Ids of messages that stay the queue's."""
        return frozenset(self._kept)

    def publish(self) -> str | None:
        """Publish the quarantine object, if there is one to be; its URI."""
        if self._writer is None:
            return None
        self._writer.write(self._codec.end_member())
        return self._writer.close().uri

    def __enter__(self) -> Aside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)

    def _write(self, message: Message, why: str) -> None:
        place = self._destination
        if self._writer is None:
            self._writer = S3Writer(
                self._s3,
                place.bucket,
                place.key,
                on_exists="fail",
                content_type=self._codec.content_type,
                extra_args=place.extra_args,
                checksum=place.checksum,
            )
        line = {"message_id": message.id, "receives": message.receives, "reason": why, "body": message.body}
        self._writer.write(self._codec.compress(json.dumps(line).encode() + b"\n"))

    def _move(self, message: Message) -> None:
        assert self._bad.queue is not None  # BadMessages says so
        try:
            self._sqs.send_message(QueueUrl=self._bad.queue, MessageBody=message.body)
        except CALL_ERRORS as error:
            raise QueueError(
                f"message {message.id} could not be moved to queue {self._bad.queue.rpartition('/')[2]}:"
                f" {reason(error)}; nothing was published",
                transient=is_passing(error),
            ) from error
        self._drain.delete([message.id])
