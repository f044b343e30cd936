"""Why chunks are lost: from records, marks, and the logs of functions that really die."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config

from chunkwise.core.dispatch.autopsy import LOOKED_AT, why
from chunkwise.core.dispatch.functions import Function, log_place
from chunkwise.core.dispatch.model import Failed, Invoked, Started
from chunkwise.core.dispatch.staging import Staging
from dev.lambda_service import LambdaService
from tests.support.dispatch import planned, source
from tests.support.http_api import Answer, HttpApi, http_api
from tests.support.processors import processor, running
from tests.support.s3 import S3

__all__ = ["http_api"]

REGION = "us-east-1"
FUNCTION = Function(name="processor", timeout_seconds=30, memory_mb=512, log_group="/aws/lambda/processor")
NOW = datetime.now(UTC).isoformat(timespec="milliseconds")


def logs_client(endpoint: str, **config: Any) -> Any:
    return boto3.client(
        "logs",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, **config),
    )


# --- functions that die -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dead:
    """A chunk whose function has died."""

    staging: Staging
    chunk: int
    function: Function
    request_id: str
    mark: Started
    service: LambdaService

    def reason(self, logs: Any) -> Any:
        (found,) = why(self.staging, [self.chunk], self.function, region=REGION, logs=logs)
        return found


@pytest.fixture(scope="module")
def service(moto_s3: str) -> Iterator[LambdaService]:
    """Functions that die in the middle of a chunk: all is read, and the part is about to be published."""
    deaths = "tests.support.deaths"
    functions = [
        processor(name="short", handler=f"{deaths}.dies_first", timeout_seconds=5),
        processor(name="small", handler=f"{deaths}.dies_first", memory_mb=256),
        processor(name="plain", handler=f"{deaths}.dies_first"),
        processor(name="quits", handler=f"{deaths}.quits"),
        processor(name="bare", handler="chunkwise.aws_lambda.nowhere.handler"),
        processor(name="raises", handler=f"{deaths}.raises"),
    ]
    with running(moto_s3, *functions, logs_endpoint=moto_s3, account_concurrency=1) as found:
        yield found


def send(service: LambdaService, name: str, staging: Staging, chunk: int, attempt: str = "run-1") -> str:
    """Invoke as an event, and wait for the end of the function; the request id."""
    manifest = f"s3://{staging.bucket}/{staging.manifest_key(chunk)}"
    answer = service.client().invoke(
        FunctionName=name,
        InvocationType="Event",
        Payload=json.dumps({"manifest": manifest, "attempt": attempt}).encode(),
    )
    service.wait_idle()
    service.flush_logs()
    return str(answer["ResponseMetadata"]["RequestId"])


def died(s3: S3, service: LambdaService, name: str, chunk: int, *, warm: bool = False) -> Dead:
    """Let a function die of a chunk.

    :param warm: do another chunk before, so that the mark of the start comes long before a time-out.
    """
    source(s3)
    staging = planned(s3, chunk_bytes=4_000, groups=1)
    if warm:
        for number in range(10):  # a slow machine may need more than the time of one
            send(service, name, staging, 3, f"warm-{number}")
            if staging.done_of(3) is not None:
                break
    request_id = send(service, name, staging, chunk)
    mark = staging.get(staging.started_key(chunk, "run-1"), Started)
    assert mark is not None, "it did not come to the middle of its work"
    memory_mb = 256 if name == "small" else 512
    timeout = 5.0 if name == "short" else 60.0
    function = replace(
        FUNCTION, name=name, timeout_seconds=timeout, memory_mb=memory_mb, log_group=f"/aws/lambda/{name}"
    )
    return Dead(staging, chunk, function, request_id, mark[0], service)


DEATHS = [
    pytest.param("short", 0, "FunctionTimedOut", "at its time-out of 5 s", False, id="time"),
    pytest.param("small", 1, "FunctionOutOfMemory", "at its memory limit of 256 MB", False, id="memory"),
    pytest.param(
        "plain", 2, "FunctionFailed", "in attempt run-1 with signal: killed, with ", True, id="signal"
    ),
    pytest.param("quits", 0, "FunctionFailed", "in attempt run-1 with exit status 3, with ", True, id="exit"),
]


@pytest.mark.parametrize(("name", "chunk", "kind", "words", "transient"), DEATHS)
def test_the_log_tells_what_a_function_died_of(
    s3: S3,
    moto_s3: str,
    service: LambdaService,
    name: str,
    chunk: int,
    kind: str,
    words: str,
    transient: bool,
) -> None:
    """With the function, the request, the chunk and its log; with no word of the function's own."""
    dead = died(s3, service, name, chunk, warm=name == "short")
    reason = dead.reason(logs_client(moto_s3))
    assert reason.text.startswith(f"chunk {chunk}: {kind}: Lambda function {name!r} ")
    assert words in reason.text
    place = log_place(
        region=REGION,
        log_group=f"/aws/lambda/{name}",
        log_stream=dead.mark.log_stream,
        request_id=dead.request_id,
    )
    assert reason.text.endswith(place)
    assert f"request {dead.request_id}, log https://" in place
    assert "4111 1111" not in reason.text
    assert reason.transient is transient


# --- functions that do not begin ----------------------------------------------------------------------------


def hand(staging: Staging, chunk: int, attempt: str = "run-1") -> None:
    mark = Invoked(attempt=attempt, function="processor", invoked_at=NOW)
    staging.put_new(staging.invoked_key(chunk, attempt), mark)


@pytest.mark.parametrize(
    ("name", "kind", "transient"),
    [
        pytest.param("bare", "Runtime.ImportModuleError", False, id="no module"),
        pytest.param("raises", "KeyError", True, id="error"),
    ],
)
def test_the_log_tells_why_a_function_did_not_begin(
    s3: S3, moto_s3: str, service: LambdaService, name: str, kind: str, transient: bool
) -> None:
    """Where it cannot even leave a record: the kind of the error, and the request that it was of."""
    source(s3)
    staging = planned(s3, groups=1)
    hand(staging, 2)
    request_id = send(service, name, staging, 2)
    function = replace(FUNCTION, name=name, log_group=f"/aws/lambda/{name}")
    (reason,) = why(staging, [2], function, region=REGION, logs=logs_client(moto_s3))
    start = f"chunk 2: FunctionFailed: Lambda function {name!r} ended before it could say which chunk it was"
    assert reason.text.startswith(start)
    assert f": {kind} in request {request_id}, log https://us-east-1.console.aws.amazon.com/" in reason.text
    assert "/log-events/" in reason.text
    assert "4111" not in reason.text
    assert reason.transient is transient


def test_ends_of_several_kinds_are_named_and_none_is_taken_for_the_cause(s3: S3, http_api: HttpApi) -> None:
    lines = ["[ERROR] ConfigError: 4111", "[ERROR] KeyError: '4111'"]
    http_api.on("/", Answer(body=json.dumps({"events": [event(line) for line in lines]}).encode()))
    source(s3)
    staging = planned(s3, groups=1)
    hand(staging, 0)
    hand(staging, 1)
    reasons = why(staging, [0, 1], FUNCTION, region=REGION, logs=logs_client(http_api.url("")))
    for reason in reasons:
        assert "no attempt at the chunk began" in reason.text
        assert "(its log has ConfigError, KeyError)" in reason.text
        assert "4111" not in reason.text
        assert reason.transient
    assert len(http_api.requests) == 1, "the log of the group is read once"


def event(message: str) -> dict[str, Any]:
    return {"logStreamName": "s", "timestamp": 1, "message": message, "eventId": "1"}


def test_a_time_out_of_a_request_that_had_begun_is_not_that_of_another(s3: S3, http_api: HttpApi) -> None:
    begun, other = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
    line = "2026-11-21T10:00:02.010Z {} Task timed out after 30.00 seconds"
    staging = lost(s3, chunk=1)
    hand(staging, 0)
    for seen, word in (([begun], "no attempt"), ([begun, other], f"a time-out in request {other}")):
        http_api.on(
            "/", Answer(body=json.dumps({"events": [event(line.format(one)) for one in seen]}).encode())
        )
        (reason,) = why(staging, [0], FUNCTION, region=REGION, logs=logs_client(http_api.url("")))
        assert word in reason.text


def test_the_log_is_read_from_the_invocation_on(s3: S3, http_api: HttpApi) -> None:
    http_api.on("/", Answer(body=b'{"events": []}'))
    source(s3)
    staging = planned(s3, groups=1)
    hand(staging, 0)
    why(staging, [0], FUNCTION, region=REGION, logs=logs_client(http_api.url("")))
    (asked,) = [request.json() for request in http_api.requests]
    invoked = next(iter(staging.list(staging.invoked_key(0, "run-1")))).last_modified
    assert asked["startTime"] == int(invoked.timestamp() * 1000)
    assert asked["logGroupName"] == "/aws/lambda/processor"
    assert "logStreamNames" not in asked


def test_a_durable_execution_that_failed_without_a_word_is_explained_by_the_log(
    s3: S3, http_api: HttpApi
) -> None:
    events = [event("[ERROR] Runtime.ImportModuleError: Unable to import module"), event(report(OTHER))]
    http_api.on("/", Answer(body=json.dumps({"events": events}).encode()))
    source(s3)
    staging = planned(s3, groups=1)
    hand(staging, 0)
    fail(staging, 0, "run-1", error="FunctionFailed", message="it ended with FAILED", transient=True)
    (reason,) = why(staging, [0], FUNCTION, region=REGION, logs=logs_client(http_api.url("")))
    assert f"Runtime.ImportModuleError in request {OTHER}, log " in reason.text
    assert not reason.transient


def test_what_the_caller_knows_already_is_kept(s3: S3, http_api: HttpApi) -> None:
    """His record has the very request of the chunk."""
    events = [event("[ERROR] KeyError: 'x'"), event(report(OTHER))]
    http_api.on("/", Answer(body=json.dumps({"events": events}).encode()))
    source(s3)
    staging = planned(s3, groups=1)
    hand(staging, 0)
    fail(staging, 0, "run-1", error="FunctionFailed", message="failed with KeyError; request own")
    (reason,) = why(staging, [0], FUNCTION, region=REGION, logs=logs_client(http_api.url("")))
    assert reason.text == "chunk 0: FunctionFailed: failed with KeyError; request own"


OTHER = "99999999-2222-3333-4444-555555555555"


def report(request_id: str) -> str:
    return f"REPORT RequestId: {request_id}\tDuration: 2.00 ms\t"


# --- logs that say nothing ----------------------------------------------------------------------------------


def lost(s3: S3, *, chunk: int = 0, attempt: str = "run-1", **where: Any) -> Staging:
    """A dispatch with one attempt that has begun, and is gone."""
    source(s3)
    staging = planned(s3, groups=1)
    given = {
        "function": "processor",
        "request_id": "11111111-2222-3333-4444-555555555555",
        "log_group": "/aws/lambda/processor",
        "log_stream": "2026/11/21/[1]0123456789abcdef",
        **where,
    }
    begin(staging, chunk, attempt, **given)
    return staging


def begin(staging: Staging, chunk: int, attempt: str, **where: Any) -> None:
    staging.put_new(staging.started_key(chunk, attempt), Started(attempt=attempt, started_at=NOW, **where))


def fail(staging: Staging, chunk: int, attempt: str, *, doubtful: bool = False, **fields: Any) -> None:
    record = Failed(
        **{
            "dispatch": staging.load().dispatch,
            "chunk": chunk,
            "attempt": attempt,
            "error": "RowInvalid",
            "message": "row 7 has no columns",
            "transient": False,
            "failed_at": NOW,
            **fields,
        }
    )
    staging.put_new(staging.failed_key(chunk, attempt, doubtful=doubtful), record)


def plainly_lost(staging: Staging, logs: Any, chunk: int = 0) -> str:
    (reason,) = why(staging, [chunk], FUNCTION, region=REGION, logs=logs)
    assert reason.text.startswith(
        f"chunk {chunk}: FunctionFailed: Lambda function 'processor' began attempt run-1 at {NOW} and"
    )
    assert "reported nothing before its deadline" in reason.text
    assert reason.transient
    return reason.text


def test_a_log_group_that_is_not_there_is_a_plain_loss(
    s3: S3, moto_s3: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = plainly_lost(lost(s3, log_group="/aws/lambda/nowhere"), logs_client(moto_s3))
    assert "ResourceNotFoundException" in caplog.text
    assert "request 11111111-2222-3333-4444-555555555555, log https://us-east-1.console" in text
    assert "$252Faws$252Flambda$252Fnowhere/log-events/" in text


REFUSALS = {
    "denied": Answer(
        status=400,
        body=b'{"__type":"AccessDeniedException","Message":"User: 4111 1111 is not authorized to perform"}',
    ),
    "page": Answer(status=200, body=b"<html>4111 1111</html>"),
    "gateway": Answer(status=502, body=b"<html>4111 1111</html>"),
    "reset": Answer(status=200, body=b'{"events": []}' * 10, cut=20, ending="reset"),
}


@pytest.mark.parametrize("refusal", sorted(REFUSALS))
def test_a_log_that_may_not_be_read_is_a_plain_loss_and_is_asked_for_once(
    s3: S3, http_api: HttpApi, caplog: pytest.LogCaptureFixture, refusal: str
) -> None:
    """Whatever the endpoint answers; the log of the task says what is missing, and quotes nothing."""
    http_api.on("/", REFUSALS[refusal])
    staging = lost(s3)
    begin(staging, 1, "run-1", request_id="id", log_group="/aws/lambda/processor", log_stream="s")
    reasons = why(staging, [0, 1], FUNCTION, region=REGION, logs=logs_client(http_api.url("")))
    assert [reason.text.partition(" began ")[0] for reason in reasons] == [
        f"chunk {chunk}: FunctionFailed: Lambda function 'processor'" for chunk in (0, 1)
    ]
    assert all("reported nothing before its deadline" in reason.text for reason in reasons)
    assert "4111" not in "".join(reason.text for reason in reasons) + caplog.text
    if refusal == "page":  # an answer without events: the next log may have some
        return
    assert len(http_api.requests) == 1
    assert "logs:FilterLogEvents" in caplog.text
    assert ("AccessDeniedException" in caplog.text) is (refusal == "denied")


def test_a_server_that_is_not_there_is_a_plain_loss(s3: S3) -> None:
    with HttpApi() as gone:
        endpoint = gone.url("")
    plainly_lost(lost(s3), logs_client(endpoint, connect_timeout=1))


def test_nothing_is_asked_for_without_a_client_or_a_place(s3: S3, http_api: HttpApi) -> None:
    staging = lost(s3)
    plainly_lost(staging, None)
    begin(staging, 1, "run-1", request_id="id", log_group="/aws/lambda/processor")
    plainly_lost(staging, logs_client(http_api.url("")), chunk=1)
    assert not http_api.requests


def test_empty_answers_are_followed_to_the_one_that_tells(s3: S3, http_api: HttpApi) -> None:
    """CloudWatch may answer nothing yet, and go on."""
    request_id = "11111111-2222-3333-4444-555555555555"
    line = f"2026-11-21T10:00:02.010Z {request_id} Task timed out after 30.00 seconds\n\n"
    event = {"logStreamName": "s", "timestamp": 1, "message": line, "eventId": "1"}
    pages = [{"events": [], "nextToken": "a"}, {"events": [], "nextToken": "b"}, {"events": [event]}]
    http_api.on("/", *(Answer(body=json.dumps(page).encode()) for page in pages))
    (reason,) = why(lost(s3), [0], FUNCTION, region=REGION, logs=logs_client(http_api.url("")))
    assert reason.text.startswith("chunk 0: FunctionTimedOut: ")
    asked = [request.json() for request in http_api.requests]
    assert [one.get("nextToken") for one in asked] == [None, "a", "b"]
    assert {one["filterPattern"] for one in asked} == {f'"{request_id}"'}
    assert all(one["logStreamNames"] == ["2026/11/21/[1]0123456789abcdef"] for one in asked)
    assert all(one["startTime"] < time.time() * 1000 for one in asked)


def test_an_answer_without_an_end_is_not_followed_for_ever(s3: S3, http_api: HttpApi) -> None:
    http_api.on("/", Answer(body=b'{"events": [], "nextToken": "again"}'))
    plainly_lost(lost(s3), logs_client(http_api.url("")))
    assert len(http_api.requests) == 10


# --- records and marks --------------------------------------------------------------------------------------


def test_a_chunk_whose_function_never_began_says_so(s3: S3) -> None:
    source(s3)
    staging = planned(s3, groups=1)
    staging.put_new(
        staging.invoked_key(2, "run-1"), Invoked(attempt="run-1", function="processor", invoked_at=NOW)
    )
    for chunk in (2, 3):
        (reason,) = why(staging, [chunk], FUNCTION, region=REGION)
        assert reason.text.startswith(
            f"chunk {chunk}: FunctionFailed: Lambda function 'processor' was invoked, and no attempt at"
        )
        assert reason.text.endswith(log_place(region=REGION, log_group="/aws/lambda/processor"))
        assert reason.transient


@pytest.mark.parametrize("doubtful", [False, True])
def test_the_latest_attempt_counts_a_failure_after_a_loss(s3: S3, doubtful: bool) -> None:
    """Its record says whether another one may succeed; the lost one before it is past."""
    staging = lost(s3)
    later(staging)
    fail(staging, 0, "run-2", doubtful=doubtful)
    (reason,) = why(staging, [0], FUNCTION, region=REGION)
    assert (reason.text, reason.transient) == ("chunk 0: RowInvalid: row 7 has no columns", False)


def test_the_latest_attempt_counts_a_loss_after_a_failure(s3: S3) -> None:
    source(s3)
    staging = planned(s3, groups=1)
    fail(staging, 0, "other-1", transient=True)
    later(staging)
    begin(staging, 0, "run-1")
    plainly_lost(staging, None)


def later(staging: Staging) -> None:
    """Until S3's time, which tells seconds, is another one."""
    first = max(item.last_modified for item in staging.list(staging.state_prefix))
    while datetime.now(UTC).replace(microsecond=0) <= first:
        time.sleep(0.02)


def test_a_record_in_the_name_of_a_dead_attempt_counts_before_its_mark(s3: S3, http_api: HttpApi) -> None:
    """Who waited for the answer of a function has written what Lambda told."""
    staging = lost(s3)
    fail(staging, 0, "run-1", error="FunctionTimedOut", message="its time was over")
    (reason,) = why(staging, [0], FUNCTION, region=REGION, logs=logs_client(http_api.url("")))
    assert not http_api.requests
    assert (reason.text, reason.transient) == ("chunk 0: FunctionTimedOut: its time was over", False)


def test_a_record_that_does_not_know_the_cause_is_outdone_by_the_log(s3: S3, http_api: HttpApi) -> None:
    staging = lost(s3)
    fail(staging, 0, "run-1", error="FunctionFailed", message="it ended with FAILED", transient=True)
    request_id = "11111111-2222-3333-4444-555555555555"
    (reason,) = why(staging, [0], FUNCTION, region=REGION)
    assert reason.text == "chunk 0: FunctionFailed: it ended with FAILED"
    message = f"RequestId: {request_id} Error: Runtime exited with error: signal: killed"
    event = {"logStreamName": "s", "timestamp": 1, "message": message, "eventId": "1"}
    http_api.on("/", Answer(body=json.dumps({"events": [event]}).encode()))
    (reason,) = why(staging, [0], FUNCTION, region=REGION, logs=logs_client(http_api.url("")))
    assert reason.text.startswith("chunk 0: FunctionOutOfMemory: ")
    assert not reason.transient


def test_only_the_first_chunks_are_looked_at(s3: S3) -> None:
    staging = lost(s3)
    s3.calls.clear()
    reasons = why(staging, range(10), FUNCTION, region=REGION)
    assert [reason.text.partition(":")[0] for reason in reasons] == [
        f"chunk {chunk}" for chunk in range(LOOKED_AT)
    ]
    assert s3.calls["ListObjectsV2"] == 1
    assert s3.calls["GetObject"] <= 3, "of the one attempt that there was"
