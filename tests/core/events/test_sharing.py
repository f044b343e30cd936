"""One consumer of a queue, whoever reads it: every member sees every batch, nothing is deleted too soon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import pytest

from chunkwise.core.events import sharing
from chunkwise.core.events.inbox import Batch, Inbox, OnPoison, Poison
from chunkwise.core.events.sharing import Connected, Member, coming


class Consumer(Inbox):
    """An inbox whose batches a test puts in, and that takes note of what becomes of them."""

    def __init__(self, action: OnPoison = "redrive", receives: int = 5) -> None:
        super().__init__(None, "https://sqs/1/arrivals", poison=Poison(action=action, receives=receives))
        self.coming: asyncio.Queue[Batch | None] = asyncio.Queue()
        self.log: list[str] = []

    async def batches(self) -> AsyncIterator[Batch]:
        while (batch := await self.coming.get()) is not None:
            yield batch
        raise OSError("broken")

    async def done(self, batches: Sequence[Batch]) -> None:
        self.log += [f"done {batch.messages[0]}" for batch in batches]

    async def release(self, batches: Sequence[Batch]) -> None:
        self.log += [f"released {batch.messages[0]}" for batch in batches]

    async def aclose(self) -> None:
        self.log.append("closed")


def connected(inbox: Consumer, queue: str = "q", **settings: str) -> Connected:
    return Connected(queue=queue, inbox=inbox, settings=settings, close=inbox.aclose)


def put(inbox: Consumer, *names: str) -> None:
    for name in names:
        inbox.coming.put_nowait(Batch(events=(), messages=(name,)))


async def take(member: Member) -> Batch:
    async with asyncio.timeout(120):
        async for batch in member.batches():
            return batch
    raise AssertionError


def test_everybody_gets_every_batch_and_it_is_done_when_all_are():
    async def run() -> list[str]:
        inbox, other = Consumer(), Consumer()
        one, two = Member.join(connected(inbox)), Member.join(connected(other))
        put(inbox, "a", "b")
        for name in ("a", "b"):
            assert (await take(one)).messages == (await take(two)).messages == (name,)
        a, b = Batch(events=(), messages=("a",)), Batch(events=(), messages=("b",))
        await one.done([a, b])
        await one.done([a])
        assert inbox.log == []
        await two.done([a])
        assert inbox.log == ["done a"]
        await two.release([b])
        assert inbox.log == ["done a", "released b"]
        await two.leave()
        assert (inbox.log[2:], other.log) == ([], ["closed"])
        await one.leave()
        return inbox.log

    assert asyncio.run(run()) == ["done a", "released b", "closed"]


def test_what_somebody_had_not_done_when_it_left_is_shown_again():
    async def run() -> None:
        inbox = Consumer()
        one, two = Member.join(connected(inbox)), Member.join(connected(Consumer()))
        put(inbox, "a", "b")
        a, b = await take(two), await take(two)
        await two.done([a, b])
        await one.done([a])
        await one.leave()
        assert inbox.log == ["done a", "released b"], "the consumer is needed by the other one"
        put(inbox, "c")
        c = await take(two)
        await two.done([c])
        await two.leave()
        assert inbox.log == ["done a", "released b", "done c", "closed"]

    asyncio.run(run())


def test_who_comes_after_the_last_one_left_connects_anew():
    async def run() -> None:
        first, second = Consumer(), Consumer()
        await Member.join(connected(first)).leave()
        member = Member.join(connected(second))
        put(second, "a")
        assert (await take(member)).messages == ("a",)
        await member.leave()
        assert (first.log, second.log) == (["closed"], ["closed"])

    asyncio.run(run())


def test_other_queues_have_consumers_of_their_own():
    async def run() -> None:
        first, second = Consumer(), Consumer()
        one, two = Member.join(connected(first, "q")), Member.join(connected(second, "r"))
        put(first, "a")
        put(second, "b")
        assert ((await take(one)).messages, (await take(two)).messages) == (("a",), ("b",))
        await one.leave()
        await two.leave()

    asyncio.run(run())


def test_a_consumer_that_breaks_ends_everybody_and_the_next_one_connects_anew():
    async def run() -> None:
        inbox = Consumer()
        members = [Member.join(connected(inbox)), Member.join(connected(Consumer()))]
        inbox.coming.put_nowait(None)
        for member in members:
            with pytest.raises(OSError, match="broken"):
                await take(member)
        again = Consumer()
        late = Member.join(connected(again))
        for member in members:
            await member.leave()
        put(again, "a")
        assert (await take(late)).messages == ("a",)
        third = Member.join(connected(Consumer()))
        put(again, "b")
        assert (await take(third)).messages == ("b",), "the old one took the new one's place with it"
        await late.leave()
        await third.leave()

    asyncio.run(run())


def test_where_they_disagree_it_is_logged_and_no_message_is_given_up(caplog):
    async def run() -> Poison:
        inbox = Consumer("delete", 3)
        one = Member.join(connected(inbox, visibility_timeout="60"))
        agreed = Member.join(connected(Consumer("delete", 3), visibility_timeout="60"))
        assert (caplog.records, inbox.poison.action) == ([], "delete")
        two = Member.join(connected(Consumer("redrive"), visibility_timeout="30"))
        for member in (one, agreed, two):
            await member.leave()
        return inbox.poison

    with caplog.at_level(logging.INFO, "chunkwise.core.events.sharing"):
        assert asyncio.run(run()).action == "redrive"
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "queue arrivals" in said[0]
    assert "visibility_timeout is 60 and 30" in said[0]
    assert "delete after 3 receives, and redrive after 5" in said[1]


async def turns() -> None:
    """Let whoever can go on without waiting do so."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize("name", ["arrivals", "https://other.name/1/arrivals/"])
@pytest.mark.parametrize("received", [False, True], ids=["at the start", "later"])
def test_who_is_on_the_way_misses_nothing_however_long_it_takes(name, received):
    async def run() -> None:
        inbox = Consumer()
        one = Member.join(connected(inbox))
        if received:
            put(inbox, "first")
            await take(one)
        with coming(name, "a trigger"):
            put(inbox, "a")
            waiting = asyncio.create_task(take(one))
            await turns()
            assert not waiting.done()
            two = Member.join(connected(Consumer()))
        assert (await waiting).messages == (await take(two)).messages == ("a",)
        await one.leave()
        await two.leave()

    asyncio.run(run())


def test_who_fails_on_the_way_or_goes_to_another_queue_keeps_nobody_waiting():
    async def run() -> None:
        inbox = Consumer()
        one = Member.join(connected(inbox))
        with coming("https://sqs/1/others", "a trigger"):
            put(inbox, "a")
            assert (await take(one)).messages == ("a",)
        with pytest.raises(OSError, match="no network"), coming("arrivals", "a trigger"):
            raise OSError("no network")
        put(inbox, "b")
        assert (await take(one)).messages == ("b",)
        await one.leave()

    asyncio.run(run())


def test_who_does_not_arrive_is_named_and_waited_for_no_more(monkeypatch, caplog):
    monkeypatch.setattr(sharing, "_COMING_SECONDS", 0.05)

    async def run() -> None:
        inbox = Consumer()
        one = Member.join(connected(inbox))
        with coming("arrivals", "a trigger with connection 'broken'"):
            put(inbox, "a", "b")
            assert (await take(one)).messages == ("a",)
            assert (await take(one)).messages == ("b",)
            two = Member.join(connected(Consumer()))
        put(inbox, "c")
        assert (await take(two)).messages == ("c",), "it is welcome later, too"
        await one.leave()
        await two.leave()

    asyncio.run(run())
    said = [record.getMessage() for record in caplog.records if "waited for no more" in record.getMessage()]
    assert len(said) == 1
    assert "queue arrivals: a trigger with connection 'broken' could not connect" in said[0]
