"""S3 arrivals in the triggerer: with Airflow's own shared streams, and alone."""

from __future__ import annotations

import asyncio
import importlib
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from airflow.exceptions import AirflowProviderDeprecationWarning
from airflow.providers.common.messaging.triggers.msg_queue import MessageQueueTrigger
from airflow.sdk import Asset, AssetWatcher
from airflow.sdk.serde import deserialize, serialize
from airflow.serialization.encoders import encode_trigger
from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from airflow.triggers.shared_stream import SharedStreamManager

from chunkwise.core.errors import ConfigError
from chunkwise.core.events.inbox import Batch
from chunkwise.core.events.model import ObjectCreated
from chunkwise.triggers import _s3_stream, _sqs
from chunkwise.triggers.s3_event import S3EventTrigger
from tests.support.dispatch import connection
from tests.support.s3 import moto_server
from tests.support.s3_events import s3_body, s3_record
from tests.support.sqs import Queue, queue, refused, sqs_proxy

__all__ = ["queue", "sqs_proxy"]


@pytest.fixture(autouse=True)
def through_the_proxy(sqs_proxy, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", connection(sqs_proxy.endpoint))
    monkeypatch.setattr(_s3_stream, "_JOIN_SECONDS", 0.1)


class Triggerer:
    """Airflow's own shared streams, with the part of the triggerer around them that a test decides about.

    :ivar fired: payloads by trigger, in order.
    """

    def __init__(self, **options: Any) -> None:
        self.manager = SharedStreamManager(**options)
        self.fired: dict[int, list[dict[str, Any]]] = {}
        self._unconfirmed: list[int] = []
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ids = itertools.count()
        self.confirming = True

    def start(self, trigger: S3EventTrigger) -> int:
        number = next(self._ids)
        self.fired[number] = []
        key = trigger.shared_stream_key()
        stream = self.manager.subscribe(trigger_id=number, trigger=trigger, key=key)
        self._tasks[number] = asyncio.create_task(self._run(number, trigger, key, stream))
        return number

    async def _run(self, number: int, trigger: S3EventTrigger, key: Any, stream: Any) -> None:
        try:
            async for event in trigger.filter_shared_stream(stream):
                seq = self.manager.bind_pending_event(trigger_id=number, key=key)
                assert seq is not None
                self.fired[number].append(event.payload)
                self._unconfirmed.append(seq)
                self.persist()
        finally:
            await self.manager.unsubscribe(number, key)

    def persist(self, *, now: bool = False) -> None:
        """What the supervisor does: the events are in the database."""
        if self.confirming or now:
            self.manager.confirm_persisted(self._unconfirmed)
            self._unconfirmed.clear()

    def keys(self, number: int) -> list[str]:
        return sorted(item["key"] for payload in self.fired[number] for item in payload["objects"])

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.manager.stop_all()


@asynccontextmanager
async def triggerer(**options: Any) -> AsyncIterator[Triggerer]:
    found = Triggerer(**options)
    try:
        yield found
    finally:
        await found.stop()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(120):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - a server sends no event
            await asyncio.sleep(0.02)


def trigger(queue: Queue, **options: Any) -> S3EventTrigger:
    # a receive that is broken off may take messages along, which are back after this time
    return S3EventTrigger(sqs_queue=queue.url, wait_time_seconds=1, visibility_timeout=5, **options)


EVERYTHING: dict[str, Any] = {
    "bucket": "b",
    "prefix": ["landing/", "x/"],
    "suffix": ".csv",
    "pattern": "**/*.csv",
    "min_bytes": 1,
    "max_bytes": 2,
    "event_names": ["ObjectCreated:*", "ObjectRemoved:*"],
    "ignore_hidden": True,
    "max_objects": 7,
    "sqs_queue": "https://sqs.eu-central-1.amazonaws.com/123456789012/arrivals",
    "visibility_timeout": 30,
    "wait_time_seconds": 5,
    "batch_messages": 20,
    "max_in_flight": 200,
    "on_poison": "move",
    "poison_queue": "aside",
    "poison_receives": 3,
    "aws_conn_id": None,
    "region_name": "eu-central-1",
    "verify": False,
    "botocore_config": {"read_timeout": 30},
}


@pytest.mark.parametrize("arguments", [EVERYTHING, {"sqs_queue": "arrivals"}], ids=["all", "defaults"])
def test_it_comes_back_from_the_database_as_it_was(arguments):
    """Else Airflow removes and adds the watcher each time that it reads the DAG."""
    one = S3EventTrigger(**arguments)
    path, kept = one.serialize()
    assert kept.items() >= arguments.items()
    module, _, name = path.rpartition(".")
    again = getattr(importlib.import_module(module), name)(**deserialize(serialize(kept)))
    assert again.serialize() == (path, kept)
    encoded = encode_trigger(one)
    assert BaseEventTrigger.hash(path, encoded["kwargs"]) == BaseEventTrigger.hash(path, kept)
    assert again.shared_stream_key() == one.shared_stream_key()
    hash(one.shared_stream_key())
    assert AssetWatcher(name="arrivals", trigger=one).trigger is one


def test_a_tuple_is_a_list_as_the_database_gives_it_back():
    assert S3EventTrigger(sqs_queue="q", prefix=("a", "b")).serialize()[1]["prefix"] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"sqs_queue": ""}, "sqs_queue"),
        ({"prefix": 7}, "prefix"),
        ({"max_objects": 0}, "max_objects"),
        ({"visibility_timeout": 43_201}, "visibility_timeout"),
        ({"wait_time_seconds": 21}, "wait_time_seconds"),
        ({"wait_time_seconds": 0}, "wait_time_seconds"),
        ({"on_poison": "eat"}, "on_poison"),
        ({"on_poison": "move"}, "poison_queue"),
        ({"poison_queue": "q"}, "poison_queue"),
        ({"on_poison": "move", "poison_queue": "q"}, "poison_queue is the queue itself"),
        ({"on_poison": "move", "poison_queue": 7}, "poison_queue must be the URL"),
        (
            {
                "sqs_queue": "https://sqs.eu-west-1.amazonaws.com/1/q",
                "on_poison": "move",
                "poison_queue": "https://eu-west-1.queue.amazonaws.com/1/q",
            },
            "poison_queue is the queue itself",
        ),
        ({"botocore_config": 5}, "botocore_config must be a dictionary, not int"),
        ({"event_names": "ObjectCreate:*"}, "event_names has"),
        ({"bucket": "s3://b"}, "bucket is"),
    ],
    ids=str,
)
def test_arguments_that_cannot_work_are_an_error_of_the_dag_file(arguments, says):
    with pytest.raises(ConfigError, match=says):
        S3EventTrigger(**{"sqs_queue": "q", **arguments})


def test_triggers_share_a_consumer_if_they_read_the_queue_alike():
    one = S3EventTrigger(sqs_queue="q", prefix="a/").shared_stream_key()
    assert one == S3EventTrigger(sqs_queue="q", prefix="b/").shared_stream_key()
    assert one != S3EventTrigger(sqs_queue="q", region_name="us-west-2").shared_stream_key()
    assert one != S3EventTrigger(sqs_queue="other").shared_stream_key()


def test_a_message_is_deleted_only_after_its_event_is_in_the_database(queue):
    queue.announce("a")

    async def run() -> None:
        async with triggerer() as airflow:
            airflow.confirming = False
            number = airflow.start(trigger(queue))
            await until(lambda: airflow.fired[number])
            assert queue.counts() == (0, 1)
            queue.announce("b")
            await until(lambda: len(airflow.fired[number]) == 2)
            assert queue.counts() == (0, 2)
            airflow.persist(now=True)
            airflow.confirming = True
            await until(lambda: queue.counts() == (0, 0))
            assert airflow.keys(number) == ["a", "b"]

    asyncio.run(run())


def test_what_was_not_in_the_database_when_the_triggerer_ended_comes_again(queue):
    queue.announce("a")

    async def run(*, confirming: bool) -> list[str]:
        async with triggerer() as airflow:
            airflow.confirming = confirming
            number = airflow.start(trigger(queue))
            await until(lambda: airflow.fired[number])
            if confirming:
                await until(lambda: queue.counts() == (0, 0))
            return airflow.keys(number)

    assert asyncio.run(run(confirming=False)) == ["a"]
    asyncio.run(until(lambda: queue.counts() == (1, 0)))
    assert asyncio.run(run(confirming=True)) == ["a"]
    assert queue.counts() == (0, 0)


def test_an_event_that_never_reaches_the_database_is_shown_again(queue):
    """Airflow fails the trigger then, and starts it anew."""
    queue.announce("a")

    async def run() -> None:
        async with triggerer(ack_timeout=0.5) as airflow:
            airflow.confirming = False
            first = airflow.start(trigger(queue))
            await until(lambda: airflow.fired[first])
            await until(lambda: queue.counts() == (1, 0))
            airflow.confirming = True
            again = airflow.start(trigger(queue))
            await until(lambda: airflow.fired[again])
            await until(lambda: queue.counts() == (0, 0))

    asyncio.run(run())


def test_many_triggers_share_one_consumer_each_with_filters_of_its_own(queue, sqs_proxy, monkeypatch):
    made = []
    connect = _sqs.SqsConnection._open

    async def counted(self):
        made.append(self)
        return await connect(self)

    monkeypatch.setattr(_sqs.SqsConnection, "_open", counted)
    queue.announce(*(f"{folder}/{number}" for folder in "abc" for number in range(5)))

    async def run() -> None:
        async with triggerer() as airflow:
            numbers = {folder: airflow.start(trigger(queue, prefix=f"{folder}/")) for folder in "ab"}
            everything = airflow.start(trigger(queue))
            await until(lambda: queue.counts() == (0, 0))
            for folder, number in numbers.items():
                assert airflow.keys(number) == [f"{folder}/{item}" for item in range(5)]
            assert len(airflow.keys(everything)) == 15

    asyncio.run(run())
    assert len(made) == 1
    assert sqs_proxy.calls["DeleteMessageBatch"] == 2, "15 messages, ten at a time"


def test_what_no_filter_wants_does_not_circulate(queue):
    queue.announce("b/1", "in/x.csv.dispatch/plan.json")

    async def run() -> None:
        async with triggerer() as airflow:
            number = airflow.start(trigger(queue, prefix=["a/", "in/"]))
            await until(lambda: queue.counts() == (0, 0))
            assert airflow.fired[number] == []

    asyncio.run(run())


def test_one_trigger_that_lags_holds_the_message_for_all(queue):
    """Only when every trigger is done with it is a message deleted."""
    queue.announce("a")

    class Slow(S3EventTrigger):
        pass

    async def run() -> None:
        async with triggerer() as airflow:
            quick = airflow.start(trigger(queue))
            gate = asyncio.Event()

            async def filter_slowly(stream):
                async for batch in stream:
                    await gate.wait()
                    for payload in slow.payloads(batch):
                        yield TriggerEvent(payload)

            slow = trigger(queue)
            slow.filter_shared_stream = filter_slowly
            lagging = airflow.start(slow)
            await until(lambda: airflow.fired[quick])
            assert queue.counts() == (0, 1)
            gate.set()
            await until(lambda: airflow.fired[lagging])
            await until(lambda: queue.counts() == (0, 0))

    asyncio.run(run())


def test_an_outage_at_the_start_is_waited_out(queue, sqs_proxy, monkeypatch):
    monkeypatch.setattr(_sqs, "_PAUSES", (0.01,))
    sqs_proxy.fail("GetQueueUrl", refused(400, "QueueDoesNotExist"), times=2)
    queue.announce("a")

    async def run() -> None:
        async with triggerer() as airflow:
            number = airflow.start(S3EventTrigger(sqs_queue=queue.name, wait_time_seconds=1))
            await until(lambda: queue.counts() == (0, 0))
            assert airflow.keys(number) == ["a"]

    asyncio.run(run())
    assert sqs_proxy.calls["GetQueueUrl"] == 3


def test_alone_it_deletes_when_it_is_asked_for_more(queue):
    """As Airflow before 3.3 runs it."""
    queue.announce("a")

    async def run() -> None:
        events = trigger(queue).run()
        first = await anext(events)
        assert [item["key"] for item in first.payload["objects"]] == ["a"]
        assert queue.counts() == (0, 1)
        waiting = asyncio.create_task(anext(events))
        await until(lambda: queue.counts() == (0, 0))
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        await events.aclose()

    asyncio.run(run())


def test_alone_and_stopped_it_gives_back_what_it_has(queue):
    queue.announce("a")

    async def run() -> None:
        events = trigger(queue).run()
        await anext(events)
        await events.aclose()

    asyncio.run(run())
    asyncio.run(until(lambda: queue.counts() == (1, 0)))


def batch(*keys: str, size: int = 1) -> Batch:
    events = tuple(ObjectCreated(bucket="b", key=key, event="ObjectCreated:Put", size=size) for key in keys)
    return Batch(events=events, messages=("1",))


def test_an_event_is_bounded_in_objects_and_in_bytes():
    wanted = S3EventTrigger(sqs_queue="q", max_objects=10)
    found = list(wanted.payloads(batch(*map(str, range(25)))))
    assert [len(payload["objects"]) for payload in found] == [10, 10, 5]
    long = S3EventTrigger(sqs_queue="q", max_objects=10_000)
    found = list(long.payloads(batch(*(f"{number}{'x' * 1000}" for number in range(200)))))
    assert all(len(str(payload)) < 70_000 for payload in found)
    assert sum(len(payload["objects"]) for payload in found) == 200
    assert list(long.payloads(batch())) == []


def test_an_event_holds_references_and_what_is_known_of_them(queue):
    queue.send(s3_body(s3_record("b", "a b", size=3, eTag="e", sequencer="0A", versionId="v")))

    async def run() -> dict[str, Any]:
        events = trigger(queue).run()
        event = await anext(events)
        await events.aclose()
        return event.payload

    assert asyncio.run(run()) == {
        "objects": [
            {
                "bucket": "b",
                "key": "a b",
                "event": "ObjectCreated:Put",
                "version_id": "v",
                "size": 3,
                "etag": "e",
                "sequencer": "0A",
                "time": "2023-12-21T10:00:00Z",
            }
        ]
    }


def test_a_message_queue_trigger_becomes_it():
    arguments = {"sqs_queue": "arrivals", "prefix": "landing/"}
    one = MessageQueueTrigger(scheme="s3+sqs", **arguments)
    assert isinstance(one.trigger, S3EventTrigger)
    assert one.serialize() == S3EventTrigger(**arguments).serialize()
    assert Asset("arrivals", watchers=[AssetWatcher(name="arrivals", trigger=one)]).watchers


def test_the_scheme_and_urls_of_amazon_stay_amazons():
    url = "https://sqs.us-east-1.amazonaws.com/123456789012/arrivals"
    assert type(MessageQueueTrigger(scheme="sqs", sqs_queue=url).trigger).__name__ == "SqsSensorTrigger"
    with pytest.warns(AirflowProviderDeprecationWarning, match="queue"):
        assert type(MessageQueueTrigger(queue=url).trigger).__name__ == "SqsSensorTrigger"


@pytest.mark.parametrize(
    "other",
    [{"sqs_queue": "name"}, {"visibility_timeout": 7}, {"aws_conn_id": "aws_other"}],
    ids=["by name", "other settings", "other connection"],
)
def test_one_queue_has_one_consumer_however_it_is_named(queue, sqs_proxy, monkeypatch, other):
    """Two consumers would each delete what the other one waits for."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_OTHER", connection(sqs_proxy.endpoint))
    if "sqs_queue" in other:
        other = {"sqs_queue": queue.name}
    one = trigger(queue, prefix="a/")
    two = S3EventTrigger(**{**one.serialize()[1], "prefix": "b/", **other})
    assert one.shared_stream_key() != two.shared_stream_key()
    joined = []
    join = _s3_stream.Member.join
    monkeypatch.setattr(_s3_stream.Member, "join", lambda *args, **kw: joined.append(1) or join(*args, **kw))

    async def run() -> None:
        async with triggerer() as airflow:
            numbers = [airflow.start(one), airflow.start(two)]
            await until(lambda: len(joined) == 2)
            for number in range(20):
                await asyncio.to_thread(queue.announce, f"a/{number}", f"b/{number}")
            await until(lambda: queue.counts() == (0, 0))
            for folder, number in zip("ab", numbers, strict=True):
                assert airflow.keys(number) == sorted(f"{folder}/{item}" for item in range(20))

    asyncio.run(run())


def test_a_trigger_that_connects_slowly_misses_nothing(queue, sqs_proxy, monkeypatch):
    """As while GetQueueUrl is throttled: what it wants was in the queue before."""
    monkeypatch.setattr(_sqs, "_PAUSES", (0.1,))
    sqs_proxy.fail("GetQueueUrl", refused(400, "ThrottlingException"), times=10)
    queue.announce(*(f"{folder}/{number}" for folder in "ab" for number in range(5)))

    async def run() -> None:
        async with triggerer() as airflow:
            numbers = [
                airflow.start(trigger(queue, prefix="a/")),
                airflow.start(S3EventTrigger(sqs_queue=queue.name, wait_time_seconds=1, prefix="b/")),
            ]
            await until(lambda: queue.counts() == (0, 0))
            for folder, number in zip("ab", numbers, strict=True):
                assert airflow.keys(number) == [f"{folder}/{item}" for item in range(5)]

    asyncio.run(run())
    assert sqs_proxy.calls["GetQueueUrl"] > 10


def test_queues_of_one_name_on_other_servers_have_consumers_of_their_own(queue, sqs_proxy, monkeypatch):
    """What tells them apart is the connection: name and account are the same."""
    with moto_server() as endpoint:
        other = Queue(endpoint, queue.name)
        monkeypatch.setenv("AIRFLOW_CONN_AWS_OTHER", connection(endpoint))
        queue.announce("here")
        other.announce("there")

        async def run() -> list[list[str]]:
            async with triggerer() as airflow:
                numbers = [
                    airflow.start(trigger(queue)),
                    airflow.start(trigger(other, aws_conn_id="aws_other")),
                ]
                await until(lambda: queue.counts() == other.counts() == (0, 0))
                return [airflow.keys(number) for number in numbers]

        assert asyncio.run(run()) == [["here"], ["there"]]


def test_a_queue_that_is_its_own_poison_queue_keeps_what_nobody_can_read(queue, sqs_proxy, caplog):
    """By name and by URL: only the connection tells."""
    queue.send("no event")
    queue.announce("a")

    async def run() -> None:
        async with triggerer() as airflow:
            airflow.start(trigger(queue, on_poison="move", poison_queue=queue.name, poison_receives=1))
            await until(lambda: sum(queue.counts()) == 1)

    asyncio.run(run())
    assert sqs_proxy.calls["SendMessage"] == 0
    assert "would go round for ever" in caplog.text
