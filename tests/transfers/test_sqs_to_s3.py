"""A queue into objects, by the operator in somebody else's DAG."""

from __future__ import annotations

import gzip
import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import Asset

from chunkwise.core.errors import ConfigError, EmptyResult, ObjectExists, UploadFailed
from chunkwise.core.events.filters import ObjectFilter
from chunkwise.core.events.parse import parse
from chunkwise.core.ingest.spec import Destination
from chunkwise.core.queue.aside import BadMessages
from chunkwise.core.queue.drain import Limits
from chunkwise.core.queue.to_lines import DrainSpec, drain_to_lines
from chunkwise.core.storage import Retries
from chunkwise.transfers.sqs_to_s3 import SqsToS3Operator
from tests.support.airflow import Ran
from tests.support.dispatch import Run, dag, use
from tests.support.faults import FOREVER, Faults
from tests.support.s3 import S3
from tests.support.s3_events import s3_body, s3_record
from tests.support.sqs import Queue, queue, sqs_client, sqs_proxy

__all__ = ["queue", "sqs_proxy"]


@pytest.fixture(autouse=True)
def moto(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "s3" in request.fixturenames:
        use(monkeypatch, request.getfixturevalue("s3").endpoint)


def run(run_dag: Run, s3: S3, queue: Queue, **options: Any) -> Ran:
    given = {"sqs_queue": queue.url, "s3_bucket": s3.bucket, "s3_prefix": "events/", "wait_time_seconds": 1}
    with dag() as it:
        SqsToS3Operator(**{"task_id": "drain", **given, **options})
    return run_dag(it)


def lines(s3: S3, uri: str) -> list[str]:
    return gzip.decompress(s3.get(uri.removeprefix(f"s3://{s3.bucket}/"))).decode().splitlines()


def test_template_fields_are_parameters_that_can_be_mapped_over() -> None:
    parameters = inspect.signature(SqsToS3Operator.__init__).parameters
    own = set(SqsToS3Operator.template_fields) & set(parameters)
    assert own == {"sqs_queue", "s3_prefix", "s3_bucket", "bad_queue", "stamps", "metadata", "extra_args"}
    assert {one.kind for name, one in parameters.items() if name != "self"} <= {
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    }
    given = {"sqs_queue": "q", "s3_prefix": "p", "s3_bucket": "b"}
    for name in own:
        value = object()
        assert getattr(SqsToS3Operator(**{"task_id": "t", **given, name: value}), name) is value


def test_messages_become_one_object_and_are_gone(run_dag: Run, s3: S3, queue: Queue) -> None:
    rows = [f'{{"id":{number}, "v":1.10}}' for number in range(30)]
    queue.send(*rows[:20], "\n".join(rows[20:]))
    asset = Asset("events", uri=f"s3://{s3.bucket}/events")
    ran = run(run_dag, s3, queue, outlets=[asset])
    receipt = ran.returned("drain")
    assert sorted(lines(s3, receipt["uri"])) == sorted(rows)
    assert (receipt["messages"], receipt["records"], receipt["deleted"]) == (21, 30, 21)
    assert (receipt["stop_reason"], receipt["bad_messages"], receipt["undeleted"]) == ("empty", 0, 0)
    assert receipt["uri"].startswith(f"s3://{s3.bucket}/events/")
    assert ran.events[asset.uri] == [receipt]
    assert queue.counts() == (0, 0)


def test_an_empty_queue_gives_no_object_and_skips(run_dag: Run, s3: S3, queue: Queue) -> None:
    ran = run(run_dag, s3, queue)
    assert ran.states["drain"] == "skipped"
    assert ran.returned("drain")["uri"] is None
    assert s3.keys() == []


@pytest.mark.parametrize("action", ["quarantine", "redrive", "move"])
def test_a_queue_of_bad_messages_alone_is_not_empty(
    s3: S3, queue: Queue, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """It fails when they are where they should be, and says how many there are, and where."""
    other = Queue(s3.endpoint)
    queue.send("bad", "worse")
    pushed: dict[str, Any] = {}

    class Ti:
        def xcom_push(self, *, key: str, value: Any) -> None:
            pushed[key] = value

    operator = SqsToS3Operator(
        task_id="t",
        sqs_queue=queue.url,
        s3_bucket=s3.bucket,
        s3_prefix="e/",
        max_messages=2,
        on_bad_message=action,  # type: ignore[arg-type]
        bad_queue=other.url if action == "move" else None,
    )
    with pytest.raises(AirflowFailException, match="all 2 were bad") as failed:
        operator.execute({"ti": Ti()})
    receipt = pushed["return_value"]
    assert (receipt["uri"], receipt["bad_messages"]) == (None, 2)
    where = {"quarantine": str(receipt["quarantine_uri"]), "redrive": "given back", "move": other.name}
    assert where[action] in str(failed.value)
    kept = {"quarantine": (0, 0), "redrive": (2, 0), "move": (0, 0)}
    assert queue.counts() == kept[action]
    assert (len(s3.keys()), other.counts()[0]) == {"quarantine": (1, 0), "redrive": (0, 0), "move": (0, 2)}[
        action
    ]
    other.remove()


def test_an_empty_result_that_must_not_be_says_that_all_messages_were_bad(s3: S3, queue: Queue) -> None:
    queue.send("bad", "worse")
    with pytest.raises(EmptyResult, match="all 2 messages were bad"):
        drain_to_lines(queue.client, s3.client, spec(s3.bucket, queue, 2, on_empty="fail"))
    assert (s3.keys(), queue.counts()) == ([], (2, 0))


def test_each_run_writes_an_object_of_its_own(run_dag: Run, s3: S3, queue: Queue) -> None:
    """A second try with the key of the first would replace rows whose messages are gone."""
    for number in range(2):
        queue.send(json.dumps({"n": number}))
        run(run_dag, s3, queue, max_messages=1)
    assert len(s3.keys()) == 2


def test_a_bad_message_goes_aside_and_not_the_batch(run_dag: Run, s3: S3, queue: Queue) -> None:
    queue.send('{"a":1}', "no json\n\x7f", '{"a":2}', "[1]", '{"long":"' + "x" * 50 + '"}')
    receipt = run(run_dag, s3, queue, max_messages=5, max_message_bytes=40).returned("drain")
    assert sorted(lines(s3, receipt["uri"])) == ['{"a":1}', '{"a":2}']
    assert (receipt["bad_messages"], receipt["deleted"]) == (3, 5)
    found = [json.loads(line) for line in lines(s3, receipt["quarantine_uri"])]
    assert {one["body"]: one["reason"] for one in found} == {
        "no json\n\x7f": "line 1 of the body is not JSON from byte 0 on",
        "[1]": "the body is an array, not an object",
        '{"long":"' + "x" * 50 + '"}': "the body has 61 bytes, more than 40",
    }
    assert receipt["quarantine_uri"] == (
        receipt["uri"].replace("/events/", "/events/_chunkwise/").replace(".jsonl.gz", ".rejected.jsonl.gz")
    )


@pytest.mark.parametrize("hidden", [False, True], ids=["all", "ignore_hidden"])
def test_what_was_put_aside_is_no_arrival(run_dag: Run, s3: S3, queue: Queue, hidden: bool) -> None:
    """A trigger on the very prefix that is written to starts what comes next for the rows only."""
    queue.send('{"a":1}', "bad")
    receipt = run(run_dag, s3, queue, max_messages=2).returned("drain")
    wanted = ObjectFilter(bucket=s3.bucket, prefix="events/", suffix=".jsonl.gz", ignore_hidden=hidden)
    keys = s3.keys()
    assert len(keys) == 2
    arrivals = [event for key in keys for event in parse(s3_body(s3_record(s3.bucket, key, size=1)))]
    assert [event.uri for event in arrivals if wanted.passes(event)] == [receipt["uri"]]


def test_bad_messages_can_be_left_to_the_queues_redrive_policy(run_dag: Run, s3: S3, queue: Queue) -> None:
    queue.send('{"a":1}', "bad")
    receipt = run(run_dag, s3, queue, max_messages=2, on_bad_message="redrive").returned("drain")
    assert (receipt["records"], receipt["bad_messages"], receipt["deleted"]) == (1, 1, 1)
    assert queue.bodies() == ["bad"]


def test_bad_messages_can_be_moved_to_another_queue(run_dag: Run, s3: S3, queue: Queue) -> None:
    other = Queue(s3.endpoint)
    queue.send('{"a":1}', "bad")
    options = {"on_bad_message": "move", "bad_queue": other.url}
    receipt = run(run_dag, s3, queue, max_messages=2, **options).returned("drain")
    assert (receipt["records"], receipt["bad_messages"], receipt["deleted"]) == (1, 1, 2)
    assert other.bodies() == ["bad"]
    assert queue.counts() == (0, 0)
    other.remove()


@pytest.mark.parametrize(
    "spelt",
    [
        lambda queue: queue.name,
        lambda queue: queue.url,
        lambda queue: f"{queue.url}/",
        lambda queue: queue.url.replace("127.0.0.1", "localhost"),
        lambda queue: queue.url.replace("://", "://queue."),
    ],
    ids=["name", "url", "slash", "host", "other host"],
)
def test_bad_messages_are_never_moved_to_the_queue_itself(
    s3: S3, queue: Queue, spelt: Callable[[Queue], str]
) -> None:
    queue.send("bad")
    itself = BadMessages(action="move", queue=spelt(queue))
    with pytest.raises(ConfigError, match="bad_queue is the queue itself") as refused:
        drain_to_lines(queue.client, s3.client, spec(s3.bucket, queue, 1, bad=itself))
    assert refused.value.parameters == ("bad_queue",)
    assert queue.counts() == (1, 0)


def test_queues_may_be_named(run_dag: Run, s3: S3, queue: Queue) -> None:
    other = Queue(s3.endpoint)
    queue.send('{"a":1}', "bad")
    options = {"sqs_queue": queue.name, "on_bad_message": "move", "bad_queue": other.name}
    receipt = run(run_dag, s3, queue, max_messages=2, **options).returned("drain")
    assert (receipt["records"], receipt["bad_messages"], receipt["deleted"]) == (1, 1, 2)
    assert other.bodies() == ["bad"]
    other.remove()


@pytest.mark.parametrize("name", ["sqs_queue", "bad_queue"])
def test_a_name_of_no_queue_is_said_before_anything_is_received(s3: S3, queue: Queue, name: str) -> None:
    queue.send("bad")
    given = {"sqs_queue": queue.url, "on_bad_message": "move", "bad_queue": "other", name: "no-such-queue"}
    operator = SqsToS3Operator(task_id="t", s3_bucket=s3.bucket, s3_prefix="p/", **given)
    with pytest.raises(AirflowFailException, match="queue no-such-queue was not found by its name"):
        operator.execute({})
    assert queue.counts() == (1, 0)


@pytest.mark.parametrize(
    "options", [{"on_bad_message": "fail"}, {"bad_message_limit": 1}], ids=["fail", "limit"]
)
def test_too_many_bad_messages_publish_nothing_and_give_all_back(
    run_dag: Run, s3: S3, queue: Queue, options: dict[str, Any]
) -> None:
    queue.send('{"a":1}', "bad", "worse")
    ran = run(run_dag, s3, queue, max_messages=3, **options)
    assert ran.states["drain"] == "failed"
    assert (s3.keys(), s3.open_uploads()) == ([], [])
    assert queue.counts() == (3, 0)


def test_rows_can_carry_the_id_of_their_message(run_dag: Run, s3: S3, queue: Queue) -> None:
    queue.send('{"a":1}\n{"a":2}', "{}", '{"_id":7}')
    receipt = run(run_dag, s3, queue, max_messages=3, message_id_key="_id", stamps={"s": "x"}).returned(
        "drain"
    )
    rows = [json.loads(line) for line in lines(s3, receipt["uri"])]
    assert sorted(row.get("a", 0) for row in rows) == [0, 1, 2]
    assert len({row["_id"] for row in rows}) == 2
    assert {row["s"] for row in rows} == {"x"}
    assert receipt["bad_messages"] == 1  # it has an _id of its own


def spec(bucket: str, queue: Queue, messages: int, **options: Any) -> DrainSpec:
    place = Destination(bucket=bucket, key="out.jsonl.gz", on_exists="fail")
    return DrainSpec(queue=queue.url, destination=place, limits=Limits(messages=messages), **options)


def test_nothing_is_deleted_when_the_object_cannot_be_published(faults: Faults, queue: Queue) -> None:
    queue.send(*(f'{{"n":{number}}}' for number in range(12)))
    faults.fail("PutObject", status=403, times=FOREVER)
    with pytest.raises(UploadFailed):
        drain_to_lines(queue.client, faults.client, spec(faults.bucket, queue, 12))
    assert queue.counts() == (12, 0)


def test_an_object_that_stands_there_is_never_replaced(s3: S3, queue: Queue) -> None:
    queue.send('{"n":1}')
    s3.put("out.jsonl.gz", b"rows of messages that are gone")
    with pytest.raises(ObjectExists):
        drain_to_lines(queue.client, s3.client, spec(s3.bucket, queue, 1))
    assert s3.get("out.jsonl.gz") == b"rows of messages that are gone"
    assert queue.counts() == (1, 0)


def test_deletions_come_after_the_publication(s3: S3, queue: Queue) -> None:
    """A process that dies in between leaves the object, and the messages to come again."""
    queue.send('{"n":1}')
    seen = []

    class Dies(Exception):
        pass

    client = sqs_client(s3.endpoint)

    def die(**_: Any) -> None:
        seen.append(s3.keys())
        raise Dies

    client.meta.events.register("before-call.sqs.DeleteMessageBatch", die)
    drain_spec = spec(s3.bucket, queue, 1, retries=Retries(attempts=2, sleep=lambda _: None))
    receipt = drain_to_lines(client, s3.client, drain_spec)
    assert seen
    assert all(keys == ["out.jsonl.gz"] for keys in seen)
    assert (receipt.deleted, receipt.undeleted) == (0, 1)
    assert queue.counts() == (1, 0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"on_bad_message": "moev"}, "on_bad_message"),
        ({"on_bad_message": "move"}, "bad_queue"),
        ({"max_messages": 0}, "max_messages"),
        ({"sqs_queue": "no name"}, "sqs_queue"),
        ({"compression": "rar"}, "compression"),
        ({"on_empty": "maybe"}, "on_empty"),
        ({"sqs_queue": None}, "sqs_queue is None"),
        ({"sqs_queue": "arn:aws:sqs:eu-west-1:1:q"}, "sqs_queue is"),
        ({"sqs_queue": "https://sqs/"}, "sqs_queue is"),
        ({"on_bad_message": "move", "bad_queue": 5}, "bad_queue is 5"),
        ({"max_messages": "5"}, "max_messages is '5'"),
        ({"max_messages": True}, "max_messages is True"),
        ({"max_bytes": "5"}, "max_bytes is '5'"),
        ({"max_seconds": "5"}, "max_seconds is '5'"),
        ({"max_seconds": float("nan")}, "max_seconds is nan"),
        ({"visibility_timeout": "5"}, "visibility_timeout is '5'"),
        ({"wait_time_seconds": None}, "wait_time_seconds is None"),
        ({"max_message_bytes": "5"}, "max_message_bytes is '5'"),
        ({"bad_message_limit": "5"}, "bad_message_limit is '5'"),
        ({"stamps": "x"}, "stamps must give"),
        ({"stamps": {5: "x"}}, "stamps must give"),
        ({"stamps": {"x": {1}}}, "a stamp must be a JSON value"),
        ({"message_id_key": 5}, "message_id_key is 5"),
        ({"message_id_key": ""}, "message_id_key is ''"),
        ({"message_id_key": "x", "stamps": {"x": 1}}, "message_id_key is 'x', which is one of the stamps"),
        ({"metadata": {"a": "\u00e9"}}, "metadata gives 'a'"),
        ({"metadata": {"a": "1\n2"}}, "metadata gives 'a'"),
        ({"metadata": {"a": 5}}, "metadata must give a text"),
        ({"metadata": "x"}, "metadata must give a text"),
        ({"metadata": {"a": "x" * 2048}}, "metadata has"),
        ({"extra_args": "x"}, "extra_args must give"),
        ({"s3_prefix": "s3://b/e"}, "s3_prefix is 's3://b/e'"),
        ({"s3_prefix": "/e/"}, "s3_prefix is '/e/'"),
        ({"s3_prefix": None}, "s3_prefix is None"),
        ({"s3_bucket": "s3://b"}, "s3_bucket is 's3://b'"),
    ],
    ids=lambda one: str(one)[:40],
)
def test_parameters_that_cannot_work_fail_at_once(s3: S3, options: dict[str, Any], text: str) -> None:
    given = {"sqs_queue": "https://sqs/q", "s3_bucket": s3.bucket, "s3_prefix": "p/", **options}
    operator = SqsToS3Operator(task_id="t", **given)
    with pytest.raises(AirflowFailException, match=text):
        operator.execute({})
    assert s3.keys() == []


def test_a_queue_that_is_gone_fails_the_task(run_dag: Run, s3: S3, queue: Queue) -> None:
    ran = run(run_dag, s3, queue, sqs_queue=f"{queue.url}-gone")
    assert ran.states["drain"] == "failed"
