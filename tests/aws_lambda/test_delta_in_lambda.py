"""The function of a queue of arrivals, in processes of AWS's runtime client: duplicates, kills, poison."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dev.lambda_service import Function, LambdaService
from tests.support.delta import Lake
from tests.support.s3_events import s3_body, s3_record
from tests.support.sqs import Queue
from tests.support.strict_s3 import StrictProxy, StrictS3

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Cloud:
    """S3, Lambda, and a queue whose messages go to the function ``delta``."""

    s3: StrictS3
    service: LambdaService
    queue: Queue
    moto: str

    def table(self, root: str = "lake/orders") -> Lake:
        """Written through the layer, and read without it, as deltalake needs."""
        found = Lake(self.s3, root)
        found.options["aws_endpoint_url"] = self.moto
        return found

    def deliver(self, copies: int = 1) -> list[str]:
        """What Lambda does with a batch of a queue; the kinds of errors of its invocations.

        Messages that did not fail are deleted, if the function did not; the others can be received again.

        :param copies: deliveries of the batch: a queue promises at least one.
        """
        client = self.queue.client
        found = client.receive_message(QueueUrl=self.queue.url, MaxNumberOfMessages=10)
        messages = found.get("Messages", ())
        if not messages:
            return []
        event = {
            "Records": [
                {
                    "messageId": one["MessageId"],
                    "receiptHandle": one["ReceiptHandle"],
                    "body": one["Body"],
                    "attributes": {"ApproximateReceiveCount": "1"},
                    "eventSource": "aws:sqs",
                    "eventSourceARN": self.queue.arn,
                }
                for one in messages
            ]
        }
        errors = []
        for _ in range(copies):
            answer = self.service.client().invoke(FunctionName="delta", Payload=json.dumps(event).encode())
            body = json.loads(answer["Payload"].read())
            errors.append(answer.get("FunctionError", ""))
        ids = {one["MessageId"] for one in messages}
        failed = ids if errors[-1] else {one["itemIdentifier"] for one in body["batchItemFailures"]}
        assert failed <= ids
        for one in messages:
            place = {"QueueUrl": self.queue.url, "ReceiptHandle": one["ReceiptHandle"]}
            if one["MessageId"] in failed:
                client.change_message_visibility(**place, VisibilityTimeout=0)
            else:
                client.delete_message(**place)
        return errors

    def announce(self, *arrivals: Any) -> None:
        self.queue.send(*(s3_body(s3_record(one.bucket, one.key)) for one in arrivals))


@pytest.fixture(scope="module")
def service(moto_s3: str) -> Iterator[tuple[StrictProxy, LambdaService]]:
    proxy = StrictProxy(moto_s3)
    function = Function(
        name="delta",
        handler="chunkwise.aws_lambda.delta.handler",
        timeout_seconds=120,
        memory_mb=512,
        max_retry_attempts=0,
        cwd=str(ROOT),
        python_path=(str(ROOT / "provider"), str(ROOT)),
    )
    try:
        with LambdaService([function], endpoint=proxy.endpoint) as service:
            yield proxy, service
    finally:
        proxy.stop()


@pytest.fixture
def cloud(service: tuple[StrictProxy, LambdaService], moto_s3: str) -> Iterator[Cloud]:
    s3 = StrictS3(service[0])
    s3.create()
    queue = Queue(moto_s3, VisibilityTimeout="600")
    yield Cloud(s3, service[1], queue, moto_s3)
    queue.remove()
    s3.remove()


def test_poison_among_good_messages_is_put_aside_alone_and_rows_are_there_once(
    cloud: Cloud, moto_s3: str
) -> None:
    dead = Queue(moto_s3)
    redrive = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 2})
    cloud.queue.client.set_queue_attributes(QueueUrl=cloud.queue.url, Attributes={"RedrivePolicy": redrive})
    lake = cloud.table()
    files = [lake.put(f"ds={number % 2}/{number}.parquet", {"id": [number]}) for number in range(4)]
    cloud.announce(*files, files[0])
    cloud.queue.send("poison")
    assert cloud.deliver(copies=2) == ["", ""], "a batch that is delivered twice is no error"
    assert sum(cloud.queue.counts()) == 1
    cloud.deliver()
    assert cloud.deliver() == []
    assert dead.bodies() == ["poison"]
    dead.remove()
    assert lake.versions == [0]
    assert [row["id"] for row in lake.rows("id")] == [0, 1, 2, 3]


@pytest.mark.parametrize("landed", [False, True], ids=["before_the_commit", "after_the_commit"])
def test_a_kill_in_the_middle_loses_nothing_and_adds_nothing_twice(
    cloud: Cloud, landed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment dies when its commit is on its way, or stands there, and nobody was told."""
    lakes = [cloud.table(f"lake/{name}") for name in ("orders", "people")]
    cloud.announce(
        *(lake.put(f"{number}.parquet", {"id": [number]}) for lake in lakes for number in range(2))
    )
    proxy, real = cloud.s3.proxy, cloud.s3.proxy.serve
    killed: list[bool] = []

    def serve(request: Any) -> Any:
        if killed or request.operation != "PutObject" or "_delta_log" not in request.path:
            return real(request)
        answer = real(request) if landed else None
        (running,) = cloud.service.running("delta")
        killed.append(cloud.service.kill_environment(running.request_id))
        return answer or real(type(request)("GetObject", "GET", request.target, request.headers, b""))

    monkeypatch.setattr(proxy, "serve", serve)
    assert cloud.deliver() == ["Unhandled"]
    assert killed == [True]
    assert [len(lake.versions) for lake in lakes] == [int(landed), 0]
    assert cloud.queue.counts() == (4, 0)
    assert cloud.deliver() == [""]
    assert sum(cloud.queue.counts()) == 0
    for lake in lakes:
        assert lake.versions == [0]
        assert [row["id"] for row in lake.rows("id")] == [0, 1]
