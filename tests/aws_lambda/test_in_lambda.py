"""The handlers in processes of AWS's runtime client: time-outs, memory limits, retries and deaths."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chunkwise.core.dispatch.model import Failed, Started
from chunkwise.core.dispatch.settings import mapping_of
from chunkwise.core.dispatch.spec import Source
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.protect.protector import ProtectorSpec
from chunkwise.core.units import MiB
from dev.lambda_service import Function, LambdaService
from tests.support.dispatch import CHUNK, planned, source
from tests.support.files import MAPPING
from tests.support.notifications import Notifications, Rule
from tests.support.strict_s3 import StrictProxy, StrictS3

ROOT = Path(__file__).resolve().parents[2]
PROCESSOR = "chunkwise.aws_lambda.processor.handler"
SLOW = "tests.aws_lambda.protectors.Slow"
HOARDER = "tests.aws_lambda.protectors.Hoarder"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def function(name: str, handler: str = PROCESSOR, **settings: Any) -> Function:
    given = {"timeout_seconds": 60, "memory_mb": 512, "max_retry_attempts": 0, "cwd": str(ROOT)}
    given["python_path"] = (str(ROOT / "provider"), str(ROOT))
    return Function(name=name, handler=handler, **{**given, **settings})


@dataclass(frozen=True)
class Cloud:
    """S3 and Lambda."""

    s3: StrictS3
    service: LambdaService

    def call(self, name: str, payload: Any) -> tuple[str | None, Any]:
        """Invoke and wait: the kind of error, and what the handler says."""
        answer = self.service.client().invoke(FunctionName=name, Payload=json.dumps(payload).encode())
        return answer.get("FunctionError"), json.loads(answer["Payload"].read())

    def send(self, name: str, payload: Any) -> str:
        """Invoke asynchronously; the request id."""
        answer = self.service.client().invoke(
            FunctionName=name, Payload=json.dumps(payload).encode(), InvocationType="Event"
        )
        return str(answer["ResponseMetadata"]["RequestId"])

    def lines(self, name: str) -> list[dict[str, Any]]:
        """What the handler has logged."""
        return [json.loads(line) for line in self.service.logs(name) if line.startswith("{")]


@pytest.fixture(scope="module")
def cloud(moto_s3: str) -> Iterator[Cloud]:
    proxy = StrictProxy(moto_s3)
    s3 = StrictS3(proxy)
    s3.create()
    port = free_port()
    planning = {
        "CHUNKWISE_OUTPUT_URI": f"s3://{s3.bucket}/out/",
        "CHUNKWISE_CONFIG": json.dumps({"chunk_bytes": CHUNK, "threshold_bytes": 0}),
    }
    functions = [
        function("processor", max_retry_attempts=2, duplicate_every=3),
        function("short", timeout_seconds=2.0),
        function("small", memory_mb=192),
        function("durable", durable=True),
        function(
            "dispatcher",
            "chunkwise.aws_lambda.dispatcher.handler",
            environment=planning,
            max_retry_attempts=2,
        ),
        function(
            "invoker",
            "chunkwise.aws_lambda.dispatcher.handler",
            environment={
                **planning,
                "CHUNKWISE_PROCESSOR_FUNCTION": "processor:live",
                "CHUNKWISE_INVOKES_IN_FLIGHT": "4",
                "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{port}",
            },
        ),
    ]
    try:
        with LambdaService(
            functions, port=port, endpoint=proxy.endpoint, account_concurrency=3, retry_seconds=0.1
        ) as service:
            yield Cloud(s3, service)
        s3.remove()
    finally:
        proxy.stop()


def slow(cloud: Cloud, key: str, protector: str = SLOW, **options: Any) -> Staging:
    """A dispatch of one chunk in 50 batches."""
    source(cloud.s3, key, rows=500)
    return planned(
        cloud.s3,
        key,
        chunk_bytes=10 * MiB,
        batch_rows=10,
        mapping=mapping_of(None, Source(bucket="b", key="k"), MAPPING),
        protector=ProtectorSpec(name=protector, options=options),
    )


def manifest(staging: Staging) -> str:
    return f"s3://{staging.bucket}/{staging.manifest_key(0)}"


def failed(staging: Staging) -> Failed:
    return staging.failures(staging.list(staging.state_prefix))[0]


def uploads(cloud: Cloud, staging: Staging) -> list[str]:
    found = cloud.s3.client.list_multipart_uploads(Bucket=cloud.s3.bucket, Prefix=staging.prefix)
    return [upload["Key"] for upload in found.get("Uploads", ())]


def test_a_file_that_lands_becomes_one_object_whatever_happens_to_processors(cloud: Cloud):
    """Events come twice, handlers are killed and run again, and several are the last one."""
    manifests = Rule(suffix=".manifest.json", send=lambda event: cloud.send("processor", event), copies=2)
    files = Rule(prefix="in/", suffix=".jsonl", send=lambda event: cloud.send("dispatcher", event), copies=2)
    with Notifications(cloud.s3.proxy, cloud.s3.bucket, manifests, files) as notifications:
        cloud.service.kill_next(1, after=0.02)  # a dispatcher
        data = source(cloud.s3, "in/whole.jsonl", rows=100)
        cloud.service.wait_until(lambda: any(".manifest" in key for key in notifications.written))
        # processors, or the other dispatcher; a third kill might take the last try of one event
        cloud.service.kill_next(2, after=0.02)
        cloud.service.wait_until(lambda: notifications.written["out/in/whole.jsonl"] == 1, timeout=180)
        notifications.wait()
        cloud.service.wait_idle(timeout=180)
    assert cloud.s3.get("out/in/whole.jsonl") == data
    assert notifications.written["out/in/whole.jsonl"] == 1
    assert [key for key in cloud.s3.keys() if "whole" in key] == ["in/whole.jsonl", "out/in/whole.jsonl"]  # noqa: SIM118
    counters = cloud.service.counters()
    assert counters["retries"] > 0
    assert counters["duplicates"] > 0


def test_the_dispatcher_invokes_processors_itself_through_throttling(cloud: Cloud):
    data = source(cloud.s3, "by/invoking.jsonl", rows=100)
    before = cloud.service.counters()["throttles"]
    request = cloud.send("invoker", {"source": f"s3://{cloud.s3.bucket}/by/invoking.jsonl"})
    cloud.service.throttle_next(3)
    cloud.service.wait_until(lambda: cloud.s3.has("out/by/invoking.jsonl"), timeout=180)
    cloud.service.wait_idle(timeout=180)
    assert request
    assert cloud.service.counters()["throttles"] >= before + 3
    assert cloud.s3.get("out/by/invoking.jsonl") == data


def test_a_processor_ends_by_itself_before_its_time_out(cloud: Cloud):
    staging = slow(cloud, "short/people.jsonl", seconds=0.05)
    kind, answer = cloud.call("short", {"manifest": manifest(staging), "attempt": "a"})
    assert (kind, answer["errorType"]) == ("Unhandled", "ChunkFailed")
    assert "with 0." in answer["errorMessage"]
    assert "of the function's 2 s left" in answer["errorMessage"]
    assert failed(staging).error == "OutOfTime"
    assert uploads(cloud, staging) == []
    assert cloud.service.counters("short")["timeouts"] == 0
    # with more time it is done
    assert cloud.call("small", {"manifest": manifest(staging), "attempt": "b"})[1]["state"] == "done"


def test_a_processor_ends_by_itself_before_its_memory_is_spent(cloud: Cloud):
    staging = slow(cloud, "small/people.jsonl", HOARDER, size=6 * MiB)
    kind, answer = cloud.call("small", {"manifest": manifest(staging), "attempt": "a"})
    assert (kind, answer["errorType"]) == ("Unhandled", "ChunkFailed")
    assert "of the 192 MiB of memory in use" in answer["errorMessage"]
    assert failed(staging).error == "OutOfMemory"
    assert uploads(cloud, staging) == []
    warnings = [line for line in cloud.lines("small") if line.get("level") == "WARNING"]
    assert "of the 192 MiB" in warnings[0]["message"], "at 80 %, before it ends"
    assert warnings[0]["chunk"] == 0
    # what it held is held by its environment, which is told no more work by killing it
    assert cloud.call("processor", {"manifest": manifest(staging), "attempt": "b"})[1]["state"] == "done"


def test_a_kill_in_the_middle_is_made_up_for_by_the_next_attempt(cloud: Cloud):
    staging = slow(cloud, "killed/people.jsonl", seconds=0.03)
    request = cloud.send("short", {"manifest": manifest(staging), "attempt": "a"})
    mark = staging.started_key(0, "a")
    cloud.service.wait_until(lambda: cloud.s3.has(mark))
    started, _ = staging.get(mark, Started) or pytest.fail("there is no mark")
    assert (started.function, started.request_id) == ("short", request)
    assert started.log_group == "/aws/lambda/short"
    assert cloud.service.kill_environment(request)
    cloud.service.wait_idle()
    assert staging.done_of(0) is None
    assert cloud.s3.has(mark), "nobody could take it away"
    kind, answer = cloud.call("processor", {"manifest": manifest(staging), "attempt": "b"})
    assert (kind, answer["state"], answer["rows_out"]) == (None, "done", 500)


def test_a_durable_execution_outlives_the_death_of_its_invocation(cloud: Cloud):
    """Lambda runs it again, and the handler goes on although its attempt is marked as begun."""
    staging = slow(cloud, "durable/people.jsonl", seconds=0.03)
    client = cloud.service.client()
    arguments = {
        "FunctionName": "durable",
        "Qualifier": "live",
        "InvocationType": "Event",
        "DurableExecutionName": "people-0000-try1",
        "Payload": json.dumps({"manifest": manifest(staging), "attempt": "try1-1"}).encode(),
    }
    execution = client.invoke(**arguments)["DurableExecutionArn"]
    assert client.invoke(**arguments)["DurableExecutionArn"] == execution, "the same one, not a second one"
    mark = staging.started_key(0, "try1-1")
    cloud.service.wait_until(lambda: cloud.s3.has(mark))
    (running,) = cloud.service.running("durable")
    cloud.service.kill_environment(running.request_id)
    cloud.service.wait_until(
        lambda: client.get_durable_execution(DurableExecutionArn=execution)["Status"] != "RUNNING",
        timeout=180,
    )
    found = client.get_durable_execution(DurableExecutionArn=execution)
    assert found["Status"] == "SUCCEEDED"
    assert json.loads(found["Result"])["rows_out"] == 500
    record, _ = staging.done_of(0) or pytest.fail("there is no done record")
    assert record.attempt.startswith("try1-1-")


def test_the_lines_of_the_runtime_are_json_too(cloud: Cloud):
    staging = slow(cloud, "logs/people.jsonl", seconds=0.0)
    cloud.call("processor", {"manifest": manifest(staging), "attempt": "logged"})
    cloud.service.wait_until(
        lambda: any(line.get("attempt") == "logged" for line in cloud.lines("processor")), timeout=180
    )
    mine = [line for line in cloud.lines("processor") if line.get("attempt") == "logged"]
    (metrics,) = [line for line in mine if "_aws" in line]
    assert metrics["rows_in"] == 500
    assert 0 < metrics["peak_memory"] < metrics["memory_limit"] == 512 * MiB
    assert any(line.get("message", "").startswith("chunk 0 done: 500 rows in") for line in mine)
