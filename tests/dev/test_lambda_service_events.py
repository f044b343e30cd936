"""Asynchronous invocations of the local Lambda: queued, tried again, given up, delivered twice, killed."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from dev.lambda_service import Function, LambdaService

SUPPORT = str(Path(__file__).resolve().parents[1] / "support")


def function(name: str = "f", **settings: Any) -> Function:
    given = {"handler": "lambda_handlers.handler", "cwd": SUPPORT, "timeout_seconds": 20, "memory_mb": 256}
    return Function(name=name, **{**given, **settings})


def send(client: Any, event: Any, name: str = "f") -> str:
    """Invoke asynchronously; the request id."""
    response = client.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event).encode())
    assert response["StatusCode"] == 202
    assert response["Payload"].read() == b""
    return str(response["ResponseMetadata"]["RequestId"])


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """The endpoint of an SQS, an S3 and a CloudWatch Logs."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def test_events_are_run_some_time_within_the_concurrency(tmp_path: Path) -> None:
    with LambdaService([function(reserved_concurrency=2)]) as service:
        client = service.client()
        sent = [send(client, {"n": number}) for number in range(40)]
        service.wait_idle()
        counters, reports = service.counters(), service.reports()
    assert Counter(report.request_id for report in reports) == Counter(sent)
    assert (counters["invocations"], counters["peak_concurrency"], counters["throttles"]) == (40, 2, 0)
    assert counters["cold_starts"] <= 2


def test_events_of_one_function_do_not_starve_another(tmp_path: Path) -> None:
    first, last = tmp_path / "first", tmp_path / "last"
    with LambdaService([function("a"), function("b")], account_concurrency=2) as service:
        client = service.client()
        client.invoke(FunctionName="b")  # so that it is warm
        for gate in (first, first, last, last, last, last):
            send(client, {"do": "wait_for_file", "path": str(gate)}, "a")
        send(client, {}, "b")
        service.wait_until(lambda: service.counters("a")["busy"] == 2)
        assert service.counters("b")["queued"] == 1
        first.touch()
        # none of the four that wait on ends before it has run
        service.wait_until(lambda: service.counters("b")["invocations"] == 2)
        last.touch()
        service.wait_idle()
        assert service.counters("a")["invocations"] == 6


def test_a_failed_event_is_tried_again_with_the_same_request_id(tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"
    with LambdaService([function()], retry_seconds=0.05) as service:
        request_id = send(service.client(), {"do": "fail_until", "path": str(attempts), "attempt": 3})
        service.wait_idle()
        assert attempts.read_text().split() == [request_id] * 3
        counters = service.counters()
        assert (counters["retries"], counters["errors"], counters["dropped"]) == (2, 2, 0)
        assert sum(line.startswith("START") for line in service.logs("f", request_id)) == 3


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_an_event_is_given_up_after_its_retries(retries: int) -> None:
    with LambdaService([function(max_retry_attempts=retries)], retry_seconds=0.01) as service:
        send(service.client(), {"do": "raise", "text": "x"})
        service.wait_idle()
        counters = service.counters()
    assert (counters["invocations"], counters["dropped"]) == (retries + 1, 1)


def test_the_record_of_a_given_up_event_goes_to_a_queue(aws: str) -> None:
    with LambdaService([function("x")], endpoint=aws) as helper:
        sqs = helper.client("sqs", endpoint_url=aws)
    url = sqs.create_queue(QueueName="failures")["QueueUrl"]
    deployed = function(max_retry_attempts=1, on_failure=url)
    with LambdaService([deployed], endpoint=aws, retry_seconds=0.01) as service:
        request_id = send(service.client(), {"do": "raise", "text": "too bad"}, "f:live")
        service.wait_until(lambda: service.counters()["dropped"] == 1)
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    record = json.loads(message["Body"])
    assert record["version"] == "1.0"
    assert record["requestContext"] == {
        "requestId": request_id,
        "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:f:live",
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 2,
    }
    assert record["requestPayload"] == {"do": "raise", "text": "too bad"}
    assert record["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "1",
        "functionError": "Unhandled",
    }
    assert record["responsePayload"]["errorMessage"] == "too bad"


def test_the_record_of_a_killed_event_goes_to_a_bucket(aws: str) -> None:
    deployed = function(max_retry_attempts=0, on_failure="s3://failures", timeout_seconds=0.2)
    with LambdaService([deployed], endpoint=aws) as service:
        s3 = service.client("s3", endpoint_url=aws)
        s3.create_bucket(Bucket="failures")
        send(service.client(), {"do": "sleep", "seconds": 30})
        service.wait_idle()
        service.wait_until(lambda: s3.list_objects_v2(Bucket="failures")["KeyCount"] == 1)
    (entry,) = s3.list_objects_v2(Bucket="failures")["Contents"]
    assert entry["Key"].startswith("aws/lambda/async/f/")
    record = json.loads(s3.get_object(Bucket="failures", Key=entry["Key"])["Body"].read())
    assert record["responsePayload"]["errorType"] == "Sandbox.Timedout"


def test_an_event_that_waits_too_long_is_given_up(aws: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    deployed = function(reserved_concurrency=1, maximum_event_age=0.05, on_failure="s3://aged")
    with LambdaService([deployed], endpoint=aws) as service:
        s3 = service.client("s3", endpoint_url=aws)
        s3.create_bucket(Bucket="aged")
        client = service.client()
        send(client, {"do": "wait_for_file", "path": str(gate)})
        late = send(client, {})
        queued = time.monotonic()
        service.wait_until(lambda: bool(service.running()) and time.monotonic() > queued + 0.1)
        gate.touch()
        service.wait_until(lambda: s3.list_objects_v2(Bucket="aged")["KeyCount"] == 1)
        assert service.counters()["invocations"] == 1
    (entry,) = s3.list_objects_v2(Bucket="aged")["Contents"]
    record = json.loads(s3.get_object(Bucket="aged", Key=entry["Key"])["Body"].read())
    assert record["requestContext"]["requestId"] == late
    assert record["requestContext"]["condition"] == "EventAgeExceeded"
    assert "responsePayload" not in record


def test_a_destination_that_fails_is_counted() -> None:
    deployed = function(max_retry_attempts=0, on_failure="s3://nowhere")
    with LambdaService([deployed], endpoint="http://127.0.0.1:9") as service:
        send(service.client(), {"do": "raise", "text": "x"})
        service.wait_until(lambda: service.counters()["destination_failures"] == 1)


def test_with_a_reserved_concurrency_of_zero_nothing_runs() -> None:
    with LambdaService([function(reserved_concurrency=0)]) as service:
        send(service.client(), {})
        service.wait_until(lambda: service.counters()["dropped"] == 1)
        assert service.counters()["invocations"] == 0


def test_events_are_delivered_twice_on_request() -> None:
    with LambdaService([function(duplicate_every=3)]) as service:
        client = service.client()
        sent = [send(client, {"n": number}) for number in range(9)]
        service.wait_idle()
        delivered = Counter(report.request_id for report in service.reports())
        assert service.counters()["duplicates"] == 3
    assert delivered == {request_id: 2 if number % 3 == 2 else 1 for number, request_id in enumerate(sent)}


# --- faults -----------------------------------------------------------------------------------------------


def test_what_runs_can_be_killed(tmp_path: Path) -> None:
    with LambdaService([function(max_retry_attempts=0)]) as service:
        request_id = send(service.client(), {"do": "wait_for_file", "path": str(tmp_path / "never")})
        service.wait_until(lambda: bool(service.running()))
        assert service.running()[0].request_id == request_id
        assert service.kill_environment(request_id)
        service.wait_idle()
        (report,) = service.reports()
        assert (report.request_id, report.error_type) == (request_id, "Runtime.ExitError")
        assert "signal: killed" in service.logs("f", request_id)[-4]
        assert not service.kill_environment(request_id)


def test_the_next_invocations_can_be_killed_and_are_tried_again(tmp_path: Path) -> None:
    with LambdaService([function()], retry_seconds=0.01) as service:
        service.kill_next(2)
        client = service.client()
        sent = {send(client, {}) for _ in range(5)}
        service.wait_idle()
        reports = service.reports()
        done = {report.request_id for report in reports if report.status == "success"}
    assert done == sent
    assert [report.error_type for report in reports].count("Runtime.ExitError") == 2


def test_what_is_frozen_goes_on_later_and_its_time_out_waits(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with LambdaService([function(timeout_seconds=2, max_retry_attempts=0)]) as service:
        client = service.client()
        send(client, {})  # so that the environment is warm
        service.wait_idle()
        request_id = send(client, {"do": "wait_for_file", "path": str(gate)})
        service.wait_until(lambda: bool(service.running()))
        frozen = time.monotonic()
        assert service.freeze(request_id)
        gate.touch()
        service.wait_until(lambda: time.monotonic() > frozen + 2.2)
        assert [one.request_id for one in service.running()] == [request_id]
        assert service.thaw(request_id)
        service.wait_idle()
        assert service.reports()[-1].status == "success"


# --- CloudWatch -------------------------------------------------------------------------------------------


def test_log_lines_are_found_in_cloudwatch(aws: str) -> None:
    with LambdaService([function()], logs_endpoint=aws) as service:
        request_id = send(service.client(), {"n": 1})
        service.wait_idle()
        service.flush_logs()
        logs = service.client("logs", endpoint_url=aws)
        group = "/aws/lambda/f"
        events = logs.filter_log_events(logGroupName=group, filterPattern=f'"{request_id}"')["events"]
        assert [event["message"].split()[0] for event in events] == ["START", "END", "REPORT"]
        (stream,) = logs.describe_log_streams(logGroupName=group)["logStreams"]
        assert stream["logStreamName"] == events[0]["logStreamName"]
