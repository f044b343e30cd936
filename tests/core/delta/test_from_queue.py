"""A queue becomes rows of a table, each message's once."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from chunkwise.core.delta import Policy, Settings
from chunkwise.core.delta.from_queue import QueueReceipt, QueueSpec, drain_to_table
from chunkwise.core.errors import ConfigError, DeltaError, QueueError
from chunkwise.core.queue.aside import BadMessages
from chunkwise.core.queue.drain import Limits
from tests.support.delta import Lake, lake
from tests.support.s3 import s3_client
from tests.support.sqs import Queue, queue, sqs_client

__all__ = ["lake", "queue"]


class Dies(BaseException):
    """A process is killed: nothing of it runs any more."""


def drain(
    lake: Lake,
    queue: Queue,
    messages: int,
    *,
    s3: Any = None,
    sqs: Any = None,
    add: bool = False,
    named: bool = False,
    **more: Any,
) -> QueueReceipt:
    spec = QueueSpec(
        queue=queue.name if named else queue.url,
        limits=Limits(messages=messages),
        **{"wait_seconds": 1, "bad": BadMessages(action="fail"), **more},
    )
    settings = Settings(policy=Policy(schema="add_columns" if add else "fail"))
    return drain_to_table(sqs or queue.client, s3 or lake.s3.client, lake.table, spec, settings=settings)


def notes(lake: Lake) -> list[str]:
    return [key for key in lake.s3.keys() if "/drains/" in key]  # noqa: SIM118


def test_messages_become_one_file_and_one_commit_and_are_gone(lake: Lake, queue: Queue) -> None:
    queue.send(*(f'{{"id":{number}}}' for number in range(12)), '{"id":12}\n{"id":13}')
    receipt = drain(lake, queue, 100)
    assert [row["id"] for row in lake.rows("id")] == list(range(14))
    assert (receipt.version, receipt.messages, receipt.rows, receipt.deleted) == (0, 13, 14, 13)
    assert (receipt.stop_reason, receipt.undeleted, lake.versions) == ("empty", 0, [0])
    assert (queue.counts(), notes(lake)) == ((0, 0), [])


def test_an_empty_queue_commits_nothing(lake: Lake, queue: Queue) -> None:
    receipt = drain(lake, queue, 5)
    assert (receipt.version, receipt.rows, lake.s3.keys()) == (None, 0, [])


def test_a_death_after_the_commit_adds_no_rows_again(lake: Lake, queue: Queue) -> None:
    """The messages come again among new ones, and are known by their ids."""
    queue.send('{"id":1}', '{"id":2}')
    client = sqs_client(lake.s3.endpoint)

    def die(**_: Any) -> None:
        raise Dies

    client.meta.events.register("before-call.sqs.DeleteMessageBatch", die)
    with pytest.raises(Dies):
        drain(lake, queue, 2, sqs=client)
    assert len(notes(lake)) == 1
    assert queue.counts() == (2, 0)
    queue.send('{"id":3}')
    receipt = drain(lake, queue, 3)
    assert (receipt.replayed, receipt.rows, receipt.deleted) == (2, 1, 3)
    assert [row["id"] for row in lake.rows("id")] == [1, 2, 3]
    assert queue.counts() == (0, 0)


def test_a_death_before_the_commit_loses_no_row(lake: Lake, queue: Queue) -> None:
    queue.send('{"id":1}', '{"id":2}')
    client = s3_client(lake.s3.endpoint)

    def die(params: dict[str, Any], **_: Any) -> None:
        if "_delta_log" in params["url_path"]:
            raise Dies

    client.meta.events.register("before-call.s3.PutObject", die)
    with pytest.raises(Dies):
        drain(lake, queue, 2, s3=client)
    assert queue.counts() == (2, 0)
    receipt = drain(lake, queue, 2)
    assert (receipt.replayed, receipt.rows) == (0, 2)
    assert [row["id"] for row in lake.rows("id")] == [1, 2]


def test_what_another_drain_brought_meanwhile_is_not_committed_twice(lake: Lake, queue: Queue) -> None:
    """The message is shown to another drain, which dies after its commit, before the first one commits."""
    queue.send('{"id":1}')
    dying, slow = sqs_client(lake.s3.endpoint), s3_client(lake.s3.endpoint)

    def die(**_: Any) -> None:
        raise Dies

    dying.meta.events.register("before-call.sqs.DeleteMessageBatch", die)
    begun = []

    def show_to_another(params: dict[str, Any], **_: Any) -> None:
        if "/drains/" in params["url_path"] and not begun:
            begun.append(1)
            other = queue.client.receive_message(QueueUrl=queue.url)
            assert "Messages" not in other
            for held in handles:
                queue.client.change_message_visibility(
                    QueueUrl=queue.url, ReceiptHandle=held, VisibilityTimeout=0
                )
            with pytest.raises(Dies):
                drain(lake, queue, 1, sqs=dying)

    slow.meta.events.register("before-call.s3.PutObject", show_to_another)
    handles: list[str] = []
    seeing = sqs_client(lake.s3.endpoint)
    seeing.meta.events.register(
        "after-call.sqs.ReceiveMessage",
        lambda parsed, **_: handles.extend(one["ReceiptHandle"] for one in parsed.get("Messages", ())),
    )
    with pytest.raises(QueueError, match="another drain has brought 1 of the messages") as failed:
        drain(lake, queue, 1, s3=slow, sqs=seeing)
    assert failed.value.transient
    assert [row["id"] for row in lake.rows("id")] == [1]


def test_messages_that_do_not_fit_go_aside_whole(lake: Lake, queue: Queue) -> None:
    bad = ["no json", '{"id":7}\n{"id":"text"}', '{"id":8,"new":1}']
    queue.send('{"id":1}', *bad, '{"id":2,"new":null}')
    receipt = drain(
        lake,
        queue,
        5,
        schema={"id": "int64"},
        bad=BadMessages(),
        quarantine_uri=f"s3://{lake.s3.bucket}/aside",
    )
    assert [row["id"] for row in lake.rows("id")] == [1, 2]
    assert (receipt.rows, receipt.bad_messages, receipt.deleted) == (2, 3, 5)
    key = str(receipt.quarantine_uri).removeprefix(f"s3://{lake.s3.bucket}/")
    found = [json.loads(line) for line in gzip.decompress(lake.s3.get(key)).splitlines()]
    assert sorted(one["body"] for one in found) == sorted(bad)
    assert all("text" not in one["reason"] for one in found)


def test_an_error_commits_nothing_and_gives_all_back(lake: Lake, queue: Queue) -> None:
    queue.send('{"id":1}', "no json")
    with pytest.raises(QueueError, match="on_bad_message is 'fail'"):
        drain(lake, queue, 2)
    assert (lake.s3.keys(), lake.s3.open_uploads(), queue.counts()) == ([], [], (2, 0))


def test_a_file_that_the_table_refuses_gives_all_back(lake: Lake, queue: Queue) -> None:
    lake.append(lake.put("f.parquet", {"id": [1]}))
    queue.send('{"id":2}')
    with pytest.raises(DeltaError, match="the rows were not added"):
        drain(lake, queue, 1, schema={"id": "string"})
    assert (queue.counts(), notes(lake)) == ((1, 0), [])
    assert [key for key in lake.s3.keys() if key.endswith(".parquet")] == [lake.table.key("f.parquet")]  # noqa: SIM118
    drain(lake, queue, 1)
    assert [row["id"] for row in lake.rows("id")] == [1, 2]


def test_new_columns_and_partitions(lake: Lake, queue: Queue) -> None:
    queue.send('{"a":1}')
    drain(lake, queue, 1, partition={"ds": "2024-01-01"})
    queue.send('{"a":2,"b":"x"}')
    receipt = drain(lake, queue, 1, partition={"ds": "2024-01-02"}, add=True)
    assert receipt.new_columns
    assert [(row["a"], row["b"], row["ds"]) for row in lake.rows("a")] == [
        (1, None, "2024-01-01"),
        (2, "x", "2024-01-02"),
    ]


def test_bad_messages_must_have_a_place() -> None:
    with pytest.raises(ConfigError, match="quarantine_uri"):
        QueueSpec(queue="q", bad=BadMessages())


def test_a_queue_is_enough_and_bad_messages_stay_in_it() -> None:
    assert QueueSpec(queue="q").bad.action == "redrive"


def test_bad_messages_must_not_go_round(lake: Lake, queue: Queue) -> None:
    queue.send("bad")
    with pytest.raises(ConfigError, match="bad_queue is the queue itself"):
        drain(lake, queue, 1, bad=BadMessages(action="move", queue=queue.name))
    assert queue.counts() == (1, 0)


def test_queues_may_be_named(lake: Lake, queue: Queue) -> None:
    other = Queue(lake.s3.endpoint)
    queue.send('{"id":1}', "bad")
    receipt = drain(lake, queue, 2, named=True, bad=BadMessages(action="move", queue=other.name))
    assert (receipt.rows, receipt.bad_messages, receipt.deleted) == (1, 1, 2)
    assert other.bodies() == ["bad"]
    other.remove()


def test_a_limit_of_bad_messages_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="bad_message_limit is -1"):
        BadMessages(limit=-1)
