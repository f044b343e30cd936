"""Objects that arrive on S3, told by its notifications in an SQS queue."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Hashable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from chunkwise.core.choices import check_choices
from chunkwise.core.errors import ConfigError
from chunkwise.core.events.filters import ObjectFilter, Words
from chunkwise.core.events.inbox import MAX_WAIT_SECONDS, Batch, OnPoison
from chunkwise.triggers._sqs import SqsConnection

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import SharedStreamProducer

#: what an event may weigh in Airflow's database
_EVENT_BYTES: Final = 64 * 1024
#: SQS: a message can be hidden for 12 hours
_MAX_VISIBILITY: Final = 12 * 60 * 60
#: Airflow 3.3 tells a trigger when its events are in the database
_SHARED: Final = hasattr(BaseEventTrigger, "create_shared_stream_producer")

_FILTERS: Final = (
    "bucket",
    "prefix",
    "suffix",
    "pattern",
    "min_bytes",
    "max_bytes",
    "event_names",
    "ignore_hidden",
)
#: how the queue is read: for triggers that say it in the same words, Airflow makes one stream
_STREAM: Final = (
    "sqs_queue",
    "visibility_timeout",
    "wait_time_seconds",
    "batch_messages",
    "max_in_flight",
    "on_poison",
    "poison_queue",
    "poison_receives",
    "aws_conn_id",
    "region_name",
    "verify",
    "botocore_config",
)


class S3EventTrigger(BaseEventTrigger):
    """Turn S3 notifications in an SQS queue into asset events, for an ``AssetWatcher``.

    S3 may send to the queue itself, through SNS (wrapped or raw) or through EventBridge; all are read, also
    mixed. An event's payload is ``{"objects": [{"bucket", "key", "event", "size", "etag", ...}]}``:
    references, never data. Read all events of a run with :func:`chunkwise.arrivals.s3_objects`.

    **Airflow 3.3 and later: at least once.** A message is deleted only after the events made of it are in
    Airflow's database; until then it stays hidden, and comes back if the triggerer dies. All triggers on one
    queue in a triggerer share one consumer, each with filters of its own and however each names the queue;
    what none of them wants is deleted. While one of them cannot connect, nothing is handed out from queues of
    that name, for 5 minutes at most: then a warning names it, and what only it wants is deleted until it has
    connected. Where they disagree on how the queue is read, the first one is
    followed; where they disagree on ``on_poison``, nobody's is: the queue's redrive policy decides.
    Triggers with different filters on one queue must run in the same triggerer: where there are several, give
    each filter a queue (SNS can feed many), or let one watcher take everything and the DAG choose.

    **Before Airflow 3.3: at most once in a crash.** A message is deleted when the trigger is asked for its
    next event, which may be a second or two before the last one is in the database. Each trigger is a
    consumer of its own: give each a queue of its own, for what its filters refuse is deleted.

    Duplicates are possible in any case: what an event starts must be idempotent, or look at ETag and version.

    While all DAGs of the asset are paused Airflow removes this trigger. Messages wait in the queue then, for
    as long as it keeps them, but only if no other trigger reads it: **to another one they are what nobody
    wants, and it deletes them**. Give each DAG that may be paused alone a queue of its own, or let
    :class:`~chunkwise.operators.s3_reconcile.ReconcileArrivalsOperator` find what it missed.

    :param sqs_queue: URL or name of the queue.
    :param bucket: see :class:`~chunkwise.core.events.filters.ObjectFilter`, as the others down to
        ``ignore_hidden``.
    :param prefix: see there.
    :param suffix: see there.
    :param pattern: see there; a glob of the whole key.
    :param min_bytes: see there.
    :param max_bytes: see there.
    :param event_names: see there; arrivals only by default.
    :param ignore_hidden: see there.
    :param max_objects: most objects of one asset event; more make several events.
    :param visibility_timeout: seconds for which messages are hidden at a time, and after which they come back
        when the triggerer is killed. Prolonged for as long as they are needed.
    :param wait_time_seconds: of a long poll, from 1 to 20.
    :param batch_messages: most messages that make one event in a burst.
    :param max_in_flight: most messages that are hidden at the same time.
    :param on_poison: what becomes of messages that nobody can read once they were received
        ``poison_receives`` times: ``"redrive"`` leaves them to the queue's redrive policy, ``"move"`` sends
        them to ``poison_queue``, ``"delete"`` deletes them. What can be read is never given up.
    :param poison_queue: URL or name.
    :param poison_receives: number.
    :param aws_conn_id: as for amazon's operators, like the following three.
    :param region_name: see there.
    :param verify: see there.
    :param botocore_config: see there.
    :raises ConfigError: the arguments cannot work.
    """

    def __init__(
        self,
        *,
        sqs_queue: str,
        bucket: Words = None,
        prefix: Words = None,
        suffix: Words = None,
        pattern: str | None = None,
        min_bytes: int | None = None,
        max_bytes: int | None = None,
        event_names: Words = ("ObjectCreated:*",),
        ignore_hidden: bool = False,
        max_objects: int = 100,
        visibility_timeout: int = 60,
        wait_time_seconds: int = MAX_WAIT_SECONDS,
        batch_messages: int = 100,
        max_in_flight: int = 2_000,
        on_poison: OnPoison = "redrive",
        poison_queue: str | None = None,
        poison_receives: int = 5,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        # Airflow compares what comes back from its database with what a DAG file says: no tuples
        self.bucket = _plain(bucket)
        self.prefix = _plain(prefix)
        self.suffix = _plain(suffix)
        self.pattern = pattern
        self.min_bytes = min_bytes
        self.max_bytes = max_bytes
        self.event_names = _plain(event_names)
        self.ignore_hidden = ignore_hidden
        self.max_objects = max_objects
        self.sqs_queue = sqs_queue
        self.visibility_timeout = visibility_timeout
        self.wait_time_seconds = wait_time_seconds
        self.batch_messages = batch_messages
        self.max_in_flight = max_in_flight
        self.on_poison = on_poison
        self.poison_queue = poison_queue
        self.poison_receives = poison_receives
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self._filter = ObjectFilter(**{name: getattr(self, name) for name in _FILTERS})
        self._check()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, from which the triggerer makes it again."""
        names = (*_FILTERS, "max_objects", *_STREAM)
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {name: getattr(self, name) for name in names},
        )

    def shared_stream_key(self) -> Hashable | None:
        """Triggers that say in the same words which queue they read, and how, share a stream.

        Streams of one queue share its consumer, which only a connection can tell, see
        :class:`~chunkwise.triggers._s3_stream.S3StreamProducer`.
        """
        if not _SHARED:
            return None
        path, kwargs = self.serialize()
        return path, json.dumps({name: kwargs[name] for name in _STREAM}, sort_keys=True)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """The consumer that they share."""
        from chunkwise.triggers._s3_stream import S3StreamProducer

        return S3StreamProducer(kwargs)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Batch]) -> AsyncIterator[TriggerEvent]:
        """The events of this trigger, of batches that all triggers on the queue see."""
        async for batch in shared_stream:
            for payload in self.payloads(batch):
                yield TriggerEvent(payload)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Receive alone: before Airflow 3.3, and where no triggerer runs this."""
        connection = SqsConnection(self.serialize()[1])
        try:
            inbox = await connection.open()
            async for batch in inbox.batches():
                for payload in self.payloads(batch):
                    yield TriggerEvent(payload)
                await inbox.done([batch])
        finally:
            await connection.aclose()

    def payloads(self, batch: Batch) -> Iterator[dict[str, Any]]:
        """What passes the filters, in events of a bounded size."""
        objects: list[dict[str, Any]] = []
        size = 0
        for event in batch.events:
            if not self._filter.passes(event):
                continue
            found = event.to_json()
            weight = len(msgspec.json.encode(found)) + 1
            if objects and (len(objects) == self.max_objects or size + weight > _EVENT_BYTES):
                yield {"objects": objects}
                objects, size = [], 0
            objects.append(found)
            size += weight
        if objects:
            yield {"objects": objects}

    def _check(self) -> None:
        if not isinstance(self.sqs_queue, str) or not self.sqs_queue:
            raise ConfigError("sqs_queue must be the URL or the name of a queue").naming("sqs_queue")
        for name, low, high in (
            ("max_objects", 1, 10_000),
            ("visibility_timeout", 1, _MAX_VISIBILITY),
            ("wait_time_seconds", 1, MAX_WAIT_SECONDS),
            ("batch_messages", 1, 10_000),
            ("max_in_flight", 10, 100_000),
            ("poison_receives", 1, 1_000),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"{name} must be a whole number from {low} to {high}").naming(name)
        check_choices(self, on_poison=OnPoison)
        if (self.on_poison == "move") != (self.poison_queue is not None):
            raise ConfigError('poison_queue and on_poison="move" belong together').naming(
                "poison_queue", "on_poison"
            )
        if self.poison_queue is not None and _names_same(self.poison_queue, self.sqs_queue):
            raise ConfigError(
                "poison_queue is the queue itself: messages that nobody can read would go round for ever"
            ).naming("poison_queue")
        if self.botocore_config is not None and not isinstance(self.botocore_config, dict):
            raise ConfigError(
                f"botocore_config must be a dictionary, not {type(self.botocore_config).__name__}"
            ).naming("botocore_config")


def _names_same(one: Any, other: str) -> bool:
    """Whether this is surely the same queue, also in two forms of its URL; a connection tells the rest."""
    if not isinstance(one, str) or not one:
        raise ConfigError("poison_queue must be the URL or the name of a queue").naming("poison_queue")
    urls = "://" in one and "://" in other
    return one == other or (urls and one.split("/")[-2:] == other.split("/")[-2:])


def _plain(words: Words) -> str | list[str] | None:
    return list(words) if isinstance(words, tuple) else words  # type: ignore[return-value]
