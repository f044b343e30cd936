"""One pass over a queue: nothing is lost, and nothing is deleted too soon."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from chunkwise.core.errors import ConfigError, QueueError
from chunkwise.core.queue.drain import Drain, Limits
from chunkwise.core.storage import Retries
from tests.support.sqs import Queue, SqsProxy, failed_entries, refused, sqs_client

AT_ONCE = Retries(attempts=4, sleep=lambda _: None)


def drain(where: Queue | SqsProxy, queue: Queue, messages: int = 100, **options: Any) -> Drain:
    client = where.client if isinstance(where, Queue) else sqs_client(where.endpoint, attempts=1)
    given = {"limits": Limits(messages=messages), "wait_seconds": 1, "retries": AT_ONCE, **options}
    return Drain(client, queue.url, **given)


def test_what_is_not_deleted_is_given_back(queue: Queue) -> None:
    queue.send(*"abcde")
    with drain(queue, queue, 5) as taken:
        found = list(taken.receive())
        assert queue.counts() == (0, 5)
        assert taken.delete([one.id for one in found if one.body in "ab"]) == 0
    assert sorted(queue.bodies()) == ["c", "d", "e"]


def test_an_error_gives_everything_back(queue: Queue) -> None:
    queue.send(*"abc")
    with pytest.raises(ZeroDivisionError), drain(queue, queue, 3) as taken:
        _ = [1 // len(one.body[1:]) for one in taken.receive()]
    assert queue.counts() == (3, 0)


@pytest.mark.parametrize(
    ("limits", "ended", "count"),
    [
        (Limits(messages=12), "max_messages", 12),
        (Limits(messages=1), "max_messages", 1),
        (Limits(bytes=10), "max_bytes", 10),
        (Limits(), "empty", 25),
    ],
    ids=["messages", "one", "bytes", "empty"],
)
def test_a_drain_ends_at_its_limit_or_with_the_queue(
    queue: Queue, limits: Limits, ended: str, count: int
) -> None:
    queue.send(*["x"] * 25)
    with drain(queue, queue, limits=limits) as taken:
        assert len(list(taken.receive())) == taken.messages == taken.bytes == count
        assert taken.ended == ended


def test_a_drain_ends_when_its_time_is_over(queue: Queue) -> None:
    queue.send(*["x"] * 25)
    clock = iter(range(0, 10_000, 40))
    with drain(queue, queue, limits=Limits(seconds=60), clock=lambda: float(next(clock))) as taken:
        assert 0 < len(list(taken.receive())) < 25
        assert taken.ended == "max_seconds"


def test_a_message_that_is_delivered_again_is_handed_out_once_and_deleted(queue: Queue) -> None:
    queue.send("a")
    with drain(queue, queue) as taken:
        messages = taken.receive()
        first = next(messages)
        # its time ran out, as if nobody had hidden it again
        list(taken._held.hide([first.id], 0))
        assert list(messages) == []
        assert (taken.messages, taken.redelivered) == (1, 1)
        assert taken.delete() == 0
    assert queue.counts() == (0, 0)


def test_messages_are_hidden_again_while_they_are_held(queue: Queue, sqs_proxy: SqsProxy) -> None:
    """A third of the visibility time-out later, ten with a call; not before."""
    now = [0.0]
    queue.send(*["x"] * 12)
    with drain(sqs_proxy, queue, 12, visibility_seconds=300, clock=lambda: now[0]) as taken:
        list(taken.receive())
        now[0] = 99.0
        taken.renew()
        assert sqs_proxy.calls["ChangeMessageVisibilityBatch"] == 0
        now[0] = 100.0
        taken.renew()
        taken.renew()
        assert sqs_proxy.calls["ChangeMessageVisibilityBatch"] == 2
        sqs_proxy.fail("ChangeMessageVisibilityBatch", failed_entries())
        now[0] = 200.0
        taken.renew()
        taken.renew()
        assert sqs_proxy.calls["ChangeMessageVisibilityBatch"] == 5


def test_what_is_deleted_while_it_is_hidden_again_disturbs_nobody(
    queue: Queue, sqs_proxy: SqsProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Hiding goes on with the rest, and says nothing of receipts that SQS has forgotten since."""
    now = [0.0]
    queue.send(*["x"] * 35)
    with drain(sqs_proxy, queue, 35, clock=lambda: now[0]) as taken:
        names = [one.id for one in taken.receive()]
        sqs_proxy.fail("ChangeMessageVisibilityBatch", lambda _: taken.delete(names[:15]) and None)
        now[0] = 100.0
        taken.renew()
        assert (taken.deleted, len(taken)) == (15, 20)
        assert sqs_proxy.calls["ChangeMessageVisibilityBatch"] == 4
        assert caplog.messages == []
        taken.renew()
        assert sqs_proxy.calls["ChangeMessageVisibilityBatch"] == 4


def test_what_is_hidden_again_while_others_are_deleted_is_what_is_left(
    queue: Queue, sqs_proxy: SqsProxy, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    queue.send(*["x"] * 30)
    hidden = []
    with drain(sqs_proxy, queue, 30, clock=lambda: now[0]) as taken:
        list(taken.receive())
        now[0] = 100.0
        sqs_proxy.fail("DeleteMessageBatch", lambda _: None, times=1)
        sqs_proxy.fail("DeleteMessageBatch", lambda _: taken.renew())
        sqs_proxy.fail("ChangeMessageVisibilityBatch", lambda asked: hidden.extend(asked["Entries"]), times=9)
        assert taken.delete() == 0
    assert len(hidden) == 20
    assert caplog.messages == []
    assert queue.counts() == (0, 0)


def test_a_message_that_cannot_be_hidden_again_is_warned_of(
    queue: Queue, sqs_proxy: SqsProxy, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    queue.send(*["x"] * 12)
    sqs_proxy.fail("ChangeMessageVisibilityBatch", failed_entries(sender_fault=True))
    with drain(sqs_proxy, queue, 12, clock=lambda: now[0]) as taken:
        list(taken.receive())
        now[0] = 100.0
        taken.renew()
    assert caplog.messages == [f"queue {queue.name}: 10 messages could not be hidden again: InternalError"]


def test_a_message_is_hidden_from_when_it_was_asked_for_however_long_the_others_take(
    queue: Queue, sqs_proxy: SqsProxy
) -> None:
    now = [0.0]
    queue.send(*["x"] * 12)
    sqs_proxy.fail("ChangeMessageVisibilityBatch", lambda _: now.__setitem__(0, 150.0))
    with drain(sqs_proxy, queue, 12, clock=lambda: now[0]) as taken:
        list(taken.receive())
        now[0] = 100.0
        taken.renew()
        now[0] = 200.0
        taken.renew()  # ten of them, not the two that were hidden at 150
        assert sqs_proxy.calls["ChangeMessageVisibilityBatch"] == 3


def test_messages_go_on_being_hidden_whatever_happens(queue: Queue, sqs_proxy: SqsProxy) -> None:
    failures = []

    def clock() -> float:
        if threading.current_thread() is threading.main_thread():
            return 0.0
        if not failures:
            failures.append("once")
            raise ZeroDivisionError
        return 100.0

    queue.send("x")
    with drain(sqs_proxy, queue, 1, visibility_seconds=10, clock=clock) as taken:
        list(taken.receive())
        sqs_proxy.wait_for(lambda: sqs_proxy.calls["ChangeMessageVisibilityBatch"], "hiding")
    assert failures


def test_entries_of_a_deletion_that_fail_are_asked_for_again(queue: Queue, sqs_proxy: SqsProxy) -> None:
    queue.send(*["x"] * 15)
    sqs_proxy.fail("DeleteMessageBatch", failed_entries())
    sqs_proxy.fail("DeleteMessageBatch", refused(503, "ServiceUnavailable"), times=1)
    with drain(sqs_proxy, queue, 15) as taken:
        list(taken.receive())
        assert taken.delete() == 0
        assert taken.deleted == 15
    assert queue.counts() == (0, 0)


def test_what_sqs_never_deletes_is_counted_and_comes_again(queue: Queue, sqs_proxy: SqsProxy) -> None:
    queue.send(*"abc")
    sqs_proxy.fail("DeleteMessageBatch", failed_entries(), times=AT_ONCE.attempts)
    with drain(sqs_proxy, queue, 3) as taken:
        list(taken.receive())
        assert taken.delete() == 3
        assert sqs_proxy.calls["DeleteMessageBatch"] == AT_ONCE.attempts
    assert queue.counts() == (3, 0)


def test_a_receipt_that_is_no_longer_good_is_not_asked_for_again(queue: Queue, sqs_proxy: SqsProxy) -> None:
    queue.send("a")
    sqs_proxy.fail("DeleteMessageBatch", failed_entries(sender_fault=True))
    with drain(sqs_proxy, queue, 1) as taken:
        list(taken.receive())
        assert taken.delete() == 1
    assert sqs_proxy.calls["DeleteMessageBatch"] == 1


def test_a_refusal_is_an_error_at_once_and_names_the_queue(queue: Queue, sqs_proxy: SqsProxy) -> None:
    sqs_proxy.fail("ReceiveMessage", refused(403), times=3)
    with (
        pytest.raises(
            QueueError, match=f"queue {queue.name}: nothing could be received: AccessDenied"
        ) as failed,
        drain(sqs_proxy, queue) as taken,
    ):
        list(taken.receive())
    assert not failed.value.transient
    assert sqs_proxy.calls["ReceiveMessage"] == 1


def test_a_receive_that_fails_in_passing_is_made_again(queue: Queue, sqs_proxy: SqsProxy) -> None:
    queue.send("a")
    sqs_proxy.fail("ReceiveMessage", refused(503, "ServiceUnavailable"), times=3)
    with drain(sqs_proxy, queue, 1) as taken:
        assert [one.body for one in taken.receive()] == ["a"]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Limits(messages=0), "max_messages"),
        (lambda: Limits(messages=100_001), "max_messages"),
        (lambda: Limits(bytes=0), "max_bytes"),
        (lambda: Limits(seconds=0), "max_seconds"),
        (lambda: Drain(None, "q", wait_seconds=0), "wait_time_seconds"),
        (lambda: Drain(None, "q", visibility_seconds=5), "visibility_timeout"),
    ],
    ids=["no messages", "too many", "no bytes", "no time", "short poll", "short visibility"],
)
def test_numbers_that_cannot_work_are_refused_by_name(make: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is ") as refusal:
        make()
    assert refusal.value.parameters == (name,)
