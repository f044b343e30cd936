"""Rows into messages, and messages into a queue: in order, within SQS's sizes, none left out."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import MessageTooLong, QueueError
from chunkwise.core.queue.bodies import records
from chunkwise.core.queue.send import messages, send_rows, sendable
from chunkwise.core.storage import Retries
from chunkwise.core.units import KiB
from tests.support.sqs import Fault, Queue, SqsProxy, failed_entries, refused, sqs_client

AT_ONCE = Retries(attempts=3, sleep=lambda _: None)


@given(
    rows=st.lists(st.binary(min_size=1, max_size=12).map(lambda one: b"r" + one.hex().encode())),
    full=st.integers(1, 60),
)
def test_rows_are_shared_among_messages_that_are_not_too_full(rows: list[bytes], full: int) -> None:
    bodies = list(messages(rows, full))
    assert [row for body in bodies for row in body.split(b"\n")] == rows
    assert all(len(body) <= full or b"\n" not in body for body in bodies)
    for one, other in itertools.pairwise(bodies):
        assert len(one) + 1 + len(other.split(b"\n")[0]) > full


@given(text=st.text(st.characters(codec="utf-8")) | st.text("\ufffe\uffff\ufffd\\x"))
def test_characters_that_sqs_refuses_are_spelled_and_mean_the_same(text: str) -> None:
    row = json.dumps({text: text}, ensure_ascii=False).encode()
    sent = sendable(row)
    assert not {"\ufffe", "\uffff"} & set(sent.decode())
    assert json.loads(sent) == json.loads(row)


def test_all_rows_arrive_in_as_few_calls_as_sqs_allows(queue: Queue, sqs_proxy: SqsProxy) -> None:
    rows = [b'{"n":%d,"x":"%s"}' % (number, b"x" * (100 * KiB)) for number in range(10, 22)]
    assert send_rows(sqs_client(sqs_proxy.endpoint), queue.url, rows) == 6
    assert sqs_proxy.calls["SendMessageBatch"] == 2
    found = [row for body in queue.bodies() for row in records(body.encode())]
    assert sorted(found) == rows


def test_messages_that_fail_are_sent_again_and_only_these(queue: Queue, sqs_proxy: SqsProxy) -> None:
    sqs_proxy.fail("SendMessageBatch", failed_entries())
    sqs_proxy.fail("SendMessageBatch", refused(503, "ServiceUnavailable"))
    send_rows(sqs_client(sqs_proxy.endpoint, attempts=1), queue.url, [b'{"n":1}'], retries=AT_ONCE)
    assert queue.bodies() == ['{"n":1}']


def too_long(limit: int, *, call: bool) -> Fault:
    """How SQS refuses messages: the whole call if they are too long together, else one by one."""

    def answer(request: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        entries = request["Entries"]
        if call and sum(len(entry["MessageBody"]) for entry in entries) > limit:
            text = f"Batch requests cannot be longer than {limit} bytes. You have sent more."
            return 400, {"__type": "com.amazonaws.sqs#BatchRequestTooLong", "message": text}
        text = f"One or more parameters are invalid. Reason: Message must be shorter than {limit} bytes."
        bad = [
            {"Id": entry["Id"], "Code": "InvalidParameterValue", "SenderFault": True, "Message": text}
            for entry in entries
            if len(entry["MessageBody"]) > limit
        ]
        return (200, {"Successful": [], "Failed": bad}) if bad else None

    return answer


@pytest.mark.parametrize("call", [False, True], ids=["entry", "call"])
def test_a_row_that_the_queue_does_not_take_is_told_before_another_is_sent(
    queue: Queue, sqs_proxy: SqsProxy, call: bool
) -> None:
    sqs_proxy.fail("SendMessageBatch", too_long(256 * KiB, call=call), times=10)
    rows = [b"{}", b'{"a":"%s"}' % (b"x" * 300 * KiB), b'{"a":"%s"}' % (b"x" * 200 * KiB)]
    with pytest.raises(MessageTooLong, match="takes messages of 262144 bytes at most") as failed:
        send_rows(sqs_client(sqs_proxy.endpoint), queue.url, rows)
    assert (failed.value.limit, failed.value.transient) == (256 * KiB, False)
    assert (queue.counts(), sqs_proxy.calls["SendMessageBatch"]) == ((0, 0), 1)


@pytest.mark.parametrize("limit", [100 * KiB, 256 * KiB])
@pytest.mark.parametrize("call", [False, True], ids=["entry", "call"])
def test_rows_that_are_short_enough_go_into_a_queue_with_a_low_limit(
    queue: Queue, sqs_proxy: SqsProxy, limit: int, call: bool
) -> None:
    sqs_proxy.fail("SendMessageBatch", too_long(limit, call=call), times=99)
    rows = [b'{"n":%d,"x":"%s"}' % (number, b"x" * (40 * KiB)) for number in range(10, 30)]
    send_rows(sqs_client(sqs_proxy.endpoint), queue.url, rows, retries=AT_ONCE)
    found = [row for body in queue.bodies() for row in records(body.encode())]
    assert sorted(found) == rows


@pytest.mark.parametrize(
    ("fault", "calls", "transient"),
    [
        (failed_entries(), 3, True),
        (failed_entries(sender_fault=True), 1, False),
        (refused(403), 1, False),
        (refused(503, "ServiceUnavailable"), 3, True),
    ],
    ids=["failed", "sender", "refused", "unavailable"],
)
def test_what_could_not_be_sent_is_an_error(
    queue: Queue, sqs_proxy: SqsProxy, fault: object, calls: int, transient: bool
) -> None:
    sqs_proxy.fail("SendMessageBatch", fault, times=10)
    with pytest.raises(QueueError, match="1 of 1 messages of a batch could not be sent") as failed:
        send_rows(sqs_client(sqs_proxy.endpoint, attempts=1), queue.url, [b"{}"], retries=AT_ONCE)
    assert (sqs_proxy.calls["SendMessageBatch"], failed.value.transient) == (calls, transient)
    assert queue.counts() == (0, 0)
