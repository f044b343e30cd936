"""Rows into messages, and messages into a queue: in order, within SQS's sizes, none left out."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import QueueError
from chunkwise.core.queue.bodies import records
from chunkwise.core.queue.send import messages, send_rows, sendable
from chunkwise.core.storage import Retries
from chunkwise.core.units import KiB
from tests.support.sqs import Queue, SqsProxy, failed_entries, refused, sqs_client

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
