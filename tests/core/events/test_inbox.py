"""Events out of a queue: none lost, none held for ever, whatever SQS answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from chunkwise.core.events.holding import Holding
from chunkwise.core.events.inbox import Batch, Inbox, Poison
from tests.support.s3_events import TEST_EVENT, notification, s3_body, s3_record
from tests.support.sqs import Queue, failed_entries, queue, refused, sqs_proxy

__all__ = ["queue", "sqs_proxy"]


@asynccontextmanager
async def client_of(endpoint: str) -> AsyncIterator[Any]:
    async with get_session().create_client(
        "sqs",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=AioConfig(retries={"total_max_attempts": 1}),
    ) as client:
        yield client


@asynccontextmanager
async def opened(endpoint: str, queue: Queue, **options: Any) -> AsyncIterator[Inbox]:
    async with client_of(endpoint) as client:
        inbox = Inbox(client, queue.url, **{"wait_seconds": 1, **options})
        try:
            yield inbox
        finally:
            await inbox.aclose()


async def take(inbox: Inbox, events: int) -> list[Batch]:
    """Batches until there are so many events."""
    found: list[Batch] = []
    async with asyncio.timeout(120):
        async for batch in inbox.batches():
            found.append(batch)
            if sum(len(one.events) for one in found) >= events:
                break
    return found


async def until(condition: Any) -> None:
    async with asyncio.timeout(120):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - what happens at a server sends no event
            await asyncio.sleep(0.02)


def keys(batches: list[Batch]) -> list[str]:
    return sorted(event.key for batch in batches for event in batch.events)


def test_a_message_is_hidden_until_its_events_are_safe_and_then_deleted(queue, sqs_proxy):
    queue.announce("a", "b")

    async def run() -> None:
        async with opened(sqs_proxy.endpoint, queue) as inbox:
            batches = await take(inbox, 2)
            assert keys(batches) == ["a", "b"]
            assert queue.counts() == (0, 2)
            await inbox.done(batches)
            assert inbox.held == 0

    asyncio.run(run())
    assert queue.counts() == (0, 0)


def test_what_is_released_or_left_behind_can_be_received_at_once(queue, sqs_proxy):
    queue.announce("a", "b", "c")

    async def run() -> None:
        async with opened(sqs_proxy.endpoint, queue, batch_messages=1) as inbox:
            batches = await take(inbox, 3)
            await inbox.release(batches)
            assert queue.counts() == (3, 0)
            assert keys(await take(inbox, 3)) == ["a", "b", "c"]
            assert queue.counts() == (0, 3)

    asyncio.run(run())
    assert queue.counts() == (3, 0), "given back at the end"


def test_a_burst_is_few_batches_and_few_calls(queue, sqs_proxy):
    queue.announce(*(f"{number:03}" for number in range(95)))

    async def run() -> list[Batch]:
        async with opened(sqs_proxy.endpoint, queue, batch_messages=50) as inbox:
            batches = await take(inbox, 95)
            await inbox.done(batches)
            return batches

    batches = asyncio.run(run())
    assert keys(batches) == [f"{number:03}" for number in range(95)]
    assert [len(batch.messages) for batch in batches] == [50, 45]
    assert sqs_proxy.calls["ReceiveMessage"] == 10
    assert sqs_proxy.calls["DeleteMessageBatch"] == 10


def test_duplicates_and_earlier_events_of_a_batch_are_one_event(queue, sqs_proxy):
    for sequencer in ("02", "01", "02"):
        queue.announce("a", sequencer=sequencer, eTag=sequencer)

    async def run() -> list[Batch]:
        async with opened(sqs_proxy.endpoint, queue) as inbox:
            batches = await take(inbox, 1)
            await inbox.done(batches)
            return batches

    (batch,) = asyncio.run(run())
    assert [event.etag for event in batch.events] == ["02"]
    assert len(batch.messages) == 3
    assert queue.counts() == (0, 0)


def test_what_may_be_there_and_may_be_gone_is_told_to_both_kinds_of_filters(queue, sqs_proxy):
    gone = s3_record("landing", "a", event="ObjectRemoved:Delete", sequencer="0A")
    queue.send(s3_body(gone, s3_record("landing", "a", sequencer="0001")))

    async def run() -> list[Batch]:
        async with opened(sqs_proxy.endpoint, queue) as inbox:
            return await take(inbox, 2)

    (batch,) = asyncio.run(run())
    assert [(event.event, event.uncertain) for event in batch.events] == [
        ("ObjectCreated:Put", True),
        ("ObjectRemoved:Delete", True),
    ]


def test_a_message_stays_hidden_for_as_long_as_it_is_needed(queue, sqs_proxy):
    """It is hidden again after a third of the time, and when that fails at every look until it is done."""
    queue.announce("a")
    now = 0.0
    asked: list[int] = []

    async def calls_at(holding: Holding, *times: float) -> list[int]:
        nonlocal now
        found = []
        for time in times:
            now = time
            before = sqs_proxy.calls["ChangeMessageVisibilityBatch"]
            await holding.renew()
            found.append(sqs_proxy.calls["ChangeMessageVisibilityBatch"] - before)
        return found

    def noted(request: dict[str, Any]) -> None:
        asked.extend(entry["VisibilityTimeout"] for entry in request["Entries"])

    async def run() -> None:
        async with client_of(sqs_proxy.endpoint) as client:
            holding = Holding(client, queue.url, visibility_seconds=60, clock=lambda: now)
            (message,) = (await client.receive_message(QueueUrl=queue.url))["Messages"]
            assert holding.take(message["MessageId"], message["ReceiptHandle"])
            sqs_proxy.fail("ChangeMessageVisibilityBatch", noted)
            assert await calls_at(holding, 10, 19, 20, 30, 39) == [0, 0, 1, 0, 0]
            sqs_proxy.fail("ChangeMessageVisibilityBatch", failed_entries())
            sqs_proxy.fail("ChangeMessageVisibilityBatch", refused(503, "ServiceUnavailable"))
            assert await calls_at(holding, 40, 50, 60, 70) == [1, 1, 1, 0]
            await holding.delete([message["MessageId"]])
            assert await calls_at(holding, 200) == [0]

    asyncio.run(run())
    assert asked == [60]
    assert queue.counts() == (0, 0)


@asynccontextmanager
async def holding_of(endpoint: str, queue: Queue) -> AsyncIterator[tuple[Holding, list[str]]]:
    """What holds all messages of a queue, and their ids; no task of its own renews them."""
    async with client_of(endpoint) as client:
        holding = Holding(client, queue.url, visibility_seconds=600)
        found = await client.receive_message(
            QueueUrl=queue.url, MaxNumberOfMessages=10, VisibilityTimeout=600
        )
        for message in found["Messages"]:
            assert holding.take(message["MessageId"], message["ReceiptHandle"])
        yield holding, [message["MessageId"] for message in found["Messages"]]


@pytest.mark.parametrize(
    "fault",
    [failed_entries(), refused(503, "ServiceUnavailable"), refused()],
    ids=["entries", "outage", "refusal"],
)
def test_what_cannot_be_deleted_now_stays_hidden_and_is_deleted_later(queue, sqs_proxy, fault):
    queue.announce("a")
    sqs_proxy.fail("DeleteMessageBatch", fault, times=3)

    async def run() -> None:
        async with holding_of(sqs_proxy.endpoint, queue) as (holding, messages):
            await holding.delete(messages)
            for _ in range(2):
                assert (len(holding), queue.counts()) == (1, (0, 1))
                await holding.renew()
            await holding.renew()
            assert (len(holding), queue.counts()) == (0, (0, 0))

    asyncio.run(run())
    assert sqs_proxy.calls["DeleteMessageBatch"] == 4


def test_only_the_entries_that_failed_are_deleted_again(queue, sqs_proxy):
    queue.announce("a", "b", "c")
    asked: list[int] = []

    def first_only(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked.append(len(request["Entries"]))
        first, *rest = request["Entries"]
        queue.client.delete_message(QueueUrl=queue.url, ReceiptHandle=first["ReceiptHandle"])
        failed = [{"Id": entry["Id"], "Code": "InternalError", "SenderFault": False} for entry in rest]
        return 200, {"Successful": [{"Id": first["Id"]}], "Failed": failed}

    sqs_proxy.fail("DeleteMessageBatch", first_only, times=3)

    async def run() -> None:
        async with holding_of(sqs_proxy.endpoint, queue) as (holding, messages):
            await holding.delete(messages)
            await holding.renew()
            await holding.renew()
            assert len(holding) == 0

    asyncio.run(run())
    assert asked == [3, 2, 1]
    assert queue.counts() == (0, 0)


def test_a_receipt_that_is_no_longer_good_is_let_go(queue, sqs_proxy):
    """The message shows again by itself, and comes with a new one."""
    queue.announce("a")
    sqs_proxy.fail("DeleteMessageBatch", failed_entries(sender_fault=True))

    async def run() -> None:
        async with holding_of(sqs_proxy.endpoint, queue) as (holding, messages):
            await holding.delete(messages)
            assert len(holding) == 0
            assert holding.take(messages[0], "the new one")

    asyncio.run(run())
    assert queue.counts() == (0, 1)


def test_a_message_that_shows_too_soon_is_not_handed_out_twice(queue, sqs_proxy):
    """Its new receipt takes over from the one that is no longer good."""
    queue.announce("a")

    async def run() -> None:
        async with opened(sqs_proxy.endpoint, queue) as inbox:
            receiving = inbox.batches()
            first = await anext(receiving)
            receipt = inbox._holding._held[first.messages[0]].receipt
            queue.client.change_message_visibility(
                QueueUrl=queue.url, ReceiptHandle=receipt, VisibilityTimeout=0
            )
            waiting = asyncio.create_task(anext(receiving))
            await until(lambda: queue.counts() == (0, 1))
            queue.announce("b")
            second = await waiting
            assert keys([second]) == ["b"]
            await inbox.done([first, second])
            await receiving.aclose()

    asyncio.run(run())
    assert queue.counts() == (0, 0)


def test_receiving_goes_on_after_an_outage(queue, sqs_proxy):
    queue.announce("a")
    sqs_proxy.fail("ReceiveMessage", refused(503, "ServiceUnavailable"))

    async def run() -> list[Batch]:
        async with opened(sqs_proxy.endpoint, queue) as inbox:
            return await take(inbox, 1)

    assert keys(asyncio.run(run())) == ["a"]
    assert sqs_proxy.calls["ReceiveMessage"] >= 2


def test_no_more_is_received_than_may_be_held(queue, sqs_proxy):
    queue.announce(*map(str, range(30)))

    async def run() -> None:
        async with opened(sqs_proxy.endpoint, queue, in_flight=20, batch_messages=10) as inbox:
            receiving = inbox.batches()
            first, second = await anext(receiving), await anext(receiving)
            assert inbox.held == 20
            waiting = asyncio.create_task(anext(receiving))
            for _ in range(50):
                await asyncio.sleep(0)
            assert not waiting.done()
            assert queue.counts() == (10, 20)
            await inbox.done([first])
            await inbox.done([second, await waiting])
            await receiving.aclose()

    asyncio.run(run())
    assert queue.counts() == (0, 0)


def test_what_tells_of_no_object_is_deleted(queue, sqs_proxy):
    queue.send(TEST_EVENT, notification(TEST_EVENT), s3_body(s3_record("b", "k", event="ObjectTagging:Put")))
    queue.announce("a")

    async def run() -> None:
        async with opened(sqs_proxy.endpoint, queue, batch_messages=1) as inbox:
            await inbox.done(await take(inbox, 1))

    asyncio.run(run())
    assert queue.counts() == (0, 0)


SECRET = "4111 1111 1111 1111"


def test_a_bad_record_does_no_harm_to_the_others_of_its_message(queue, sqs_proxy, caplog):
    queue.send(s3_body(s3_record("b", "good"), {"eventSource": "aws:sqs", "card": SECRET}))

    async def run() -> list[Batch]:
        async with opened(sqs_proxy.endpoint, queue) as inbox:
            batches = await take(inbox, 1)
            await inbox.done(batches)
            return batches

    assert keys(asyncio.run(run())) == ["good"]
    assert queue.counts() == (0, 0)
    assert "record 1 is of 'aws:sqs'" in caplog.text
    assert SECRET not in caplog.text


def test_poison_is_left_to_the_queue(queue, sqs_proxy, caplog):
    queue.send(f"not JSON {SECRET}")
    queue.announce("a")

    async def run() -> None:
        async with opened(sqs_proxy.endpoint, queue) as inbox:
            await inbox.done(await take(inbox, 1))
            assert inbox.held == 0

    asyncio.run(run())
    assert queue.counts() == (0, 1), "hidden until its visibility time-out, as the redrive policy counts"
    assert "left to the queue's redrive policy" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("action", ["move", "delete"])
def test_poison_goes_where_it_is_told_to_after_so_many_receives(queue, sqs_proxy, moto_s3, action):
    aside = Queue(moto_s3)
    queue.send("poison")

    async def run() -> None:
        poison = Poison(action=action, queue=aside.url if action == "move" else None, receives=2)
        async with opened(sqs_proxy.endpoint, queue, visibility_seconds=1, poison=poison) as inbox:
            receiving = asyncio.create_task(take(inbox, 1))
            await until(lambda: queue.counts() == (0, 0))
            assert sqs_proxy.calls["DeleteMessage"] == 1
            queue.announce("a")
            await inbox.done(await receiving)

    asyncio.run(run())
    assert aside.bodies() == (["poison"] if action == "move" else [])
    aside.remove()


def test_poison_that_cannot_be_moved_is_not_lost(queue, sqs_proxy):
    queue.send("poison")
    queue.announce("a")
    sqs_proxy.fail("SendMessage", refused())

    async def run() -> None:
        poison = Poison(action="move", queue=queue.url, receives=1)
        async with opened(sqs_proxy.endpoint, queue, poison=poison) as inbox:
            await inbox.done(await take(inbox, 1))

    asyncio.run(run())
    assert queue.counts() == (0, 1)


def test_farewell_is_short_when_sqs_does_not_answer(queue):
    """Nothing listens any more: what is held comes back by its time-out."""

    class Silent:
        async def change_message_visibility_batch(self, **_: Any) -> None:
            raise OSError("gone")

        delete_message_batch = change_message_visibility_batch

    async def run() -> None:
        holding = Holding(Silent(), queue.url, visibility_seconds=60)
        assert holding.take("1", "receipt")
        await holding.aclose()
        assert len(holding) == 0

    asyncio.run(run())


def test_the_body_of_boto3_is_what_was_sent(queue):
    """The helper of these tests sends what S3 would."""
    queue.announce("a b")
    (body,) = queue.bodies()
    assert json.loads(body)["Records"][0]["s3"]["object"]["key"] == "a+b"
