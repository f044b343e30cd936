"""The local Lambda, asked by boto3 by its endpoint alone."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from dev.lambda_service import Function, LambdaService

SUPPORT = str(Path(__file__).resolve().parents[1] / "support")


def function(name: str = "f", **settings: Any) -> Function:
    given = {"handler": "lambda_handlers.handler", "cwd": SUPPORT, "timeout_seconds": 20, "memory_mb": 256}
    return Function(name=name, **{**given, **settings})


@pytest.fixture(scope="module")
def service() -> Iterator[LambdaService]:
    functions = [
        function(environment={"CHUNKWISE_X": "y"}),
        function("short", timeout_seconds=0.5),
        function("small", memory_mb=128),
        function("missing", handler="no_such_module.handler"),
        function("nameless", handler="lambda_handlers.no_such_function"),
    ]
    with LambdaService(functions, endpoint="http://127.0.0.1:9") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: LambdaService) -> Any:
    return service.client()


def invoke(client: Any, event: Any = None, name: str = "f", **settings: Any) -> tuple[dict[str, Any], Any]:
    """The response, and what its payload says."""
    response = client.invoke(FunctionName=name, Payload=json.dumps(event or {}).encode(), **settings)
    body = response["Payload"].read()
    return response, json.loads(body) if body else None


# --- what an invocation gets and answers ------------------------------------------------------------------


def test_a_handler_answers_and_knows_who_it_is(client: Any) -> None:
    variables = [
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_REGION",
        "_HANDLER",
        "CHUNKWISE_X",
        "AWS_ENDPOINT_URL",
        "TZ",
    ]
    response, answer = invoke(client, {"variables": variables})
    assert response["StatusCode"] == 200
    assert "FunctionError" not in response
    assert response["ExecutedVersion"] == "$LATEST"
    assert answer["request_id"] == response["ResponseMetadata"]["RequestId"]
    assert answer["arn"] == "arn:aws:lambda:us-east-1:123456789012:function:f"
    assert 0 < answer["remaining"] <= 20_000
    assert answer["memory"] == "256"
    assert answer["log_group"] == "/aws/lambda/f"
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", answer["log_stream"])
    assert answer["environment"] == {
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_REGION": "us-east-1",
        "_HANDLER": "lambda_handlers.handler",
        "CHUNKWISE_X": "y",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "TZ": ":UTC",
    }


def test_nothing_of_the_services_environment_reaches_a_handler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    with LambdaService([function()]) as service:
        _, answer = invoke(service.client(), {"variables": ["AIRFLOW__CORE__FERNET_KEY", "AWS_ENDPOINT_URL"]})
    assert answer["environment"] == {"AIRFLOW__CORE__FERNET_KEY": None, "AWS_ENDPOINT_URL": None}


def test_an_environment_is_used_again(client: Any, service: LambdaService) -> None:
    _, first = invoke(client)
    _, second = invoke(client)
    assert first["pid"] == second["pid"]
    assert first["log_stream"] == second["log_stream"]
    cold = [report for report in service.reports("f") if report.init_seconds is not None]
    assert len(cold) == service.counters("f")["cold_starts"]


@pytest.mark.parametrize(
    "name",
    [
        "f:live",
        "123456789012:function:f:live",
        "arn:aws:lambda:us-east-1:123456789012:function:f:live",
    ],
)
def test_a_function_is_named_in_every_form(client: Any, name: str) -> None:
    response, answer = invoke(client, name=name)
    assert response["ExecutedVersion"] == "1"
    assert answer["arn"] == "arn:aws:lambda:us-east-1:123456789012:function:f:live"


@pytest.mark.parametrize(("qualifier", "version"), [("$LATEST", "$LATEST"), ("1", "1"), ("live", "1")])
def test_a_qualifier_may_stand_apart(client: Any, qualifier: str, version: str) -> None:
    response, answer = invoke(client, Qualifier=qualifier)
    assert response["ExecutedVersion"] == version
    assert answer["arn"].endswith(f":f:{qualifier}")


def test_the_client_context_arrives(client: Any) -> None:
    context = base64.b64encode(json.dumps({"custom": {"a": 1}}).encode()).decode()
    assert invoke(client, ClientContext=context)[1]["client"] == {"a": 1}


def test_a_dry_run_runs_nothing(client: Any, service: LambdaService) -> None:
    before = service.counters("f")["invocations"]
    response, answer = invoke(client, InvocationType="DryRun")
    assert (response["StatusCode"], answer) == (204, None)
    assert service.counters("f")["invocations"] == before


# --- what goes wrong in a handler -------------------------------------------------------------------------


def test_an_exception_is_a_function_error(client: Any) -> None:
    response, answer = invoke(client, {"do": "raise", "text": "too bad"})
    assert (response["StatusCode"], response["FunctionError"]) == (200, "Unhandled")
    assert answer["errorType"] == "ValueError"
    assert answer["errorMessage"] == "too bad"
    assert any("lambda_handlers.py" in line for line in answer["stackTrace"])


def test_after_an_exception_the_environment_lives_on(client: Any) -> None:
    _, before = invoke(client)
    invoke(client, {"do": "raise", "text": "x"})
    assert invoke(client)[1]["pid"] == before["pid"]


def test_a_time_out_kills(client: Any, service: LambdaService) -> None:
    _, before = invoke(client, name="short")
    response, answer = invoke(client, {"do": "sleep", "seconds": 30}, "short")
    request_id = response["ResponseMetadata"]["RequestId"]
    assert response["FunctionError"] == "Unhandled"
    assert answer == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request_id} Error: Task timed out after 0.50 seconds",
    }
    assert not psutil.pid_exists(before["pid"])
    assert invoke(client, name="short")[1]["pid"] != before["pid"]
    assert service.counters("short")["timeouts"] == 1


@pytest.mark.parametrize("what", ["exit", "vanish"])
def test_an_exit_is_a_runtime_error(client: Any, what: str) -> None:
    response, answer = invoke(client, {"do": what, "code": 3})
    request_id = response["ResponseMetadata"]["RequestId"]
    assert response["FunctionError"] == "Unhandled"
    assert answer == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {request_id} Error: Runtime exited with error: exit status 3",
    }


def test_an_exit_without_an_error_says_so(client: Any) -> None:
    _, answer = invoke(client, {"do": "vanish", "code": 0})
    assert answer["errorMessage"].endswith("Error: Runtime exited without providing a reason")


def test_too_much_memory_kills(client: Any, service: LambdaService) -> None:
    response, answer = invoke(client, {"do": "allocate", "mb": 400}, "small")
    request_id = response["ResponseMetadata"]["RequestId"]
    assert response["FunctionError"] == "Unhandled"
    assert answer == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {request_id} Error: Runtime exited with error: signal: killed",
    }
    (report,) = [one for one in service.reports("small") if one.request_id == request_id]
    assert report.peak_memory >= 120 * 1024 * 1024
    assert "Error Type: Runtime.OutOfMemory" in service.logs("small", request_id)[-1]


def test_memory_is_also_limited_without_cgroups() -> None:
    with LambdaService([function(memory_mb=128)], cgroups=False) as service:
        assert service.memory_limit == "rss"
        client = service.client()
        _, killed = invoke(client, {"do": "allocate", "mb": 3000})
        assert killed["errorMessage"].endswith("signal: killed")
        assert "Error Type: Runtime.OutOfMemory" in service.logs("f")[-1]
        assert "FunctionError" not in invoke(client)[0]


def test_memory_below_the_limit_passes_and_is_reported_per_request(
    client: Any, service: LambdaService
) -> None:
    large, _ = invoke(client, {"do": "allocate", "mb": 120})
    small, _ = invoke(client)
    peaks = {report.request_id: report.peak_memory for report in service.reports("f")}
    large_peak = peaks[large["ResponseMetadata"]["RequestId"]]
    small_peak = peaks[small["ResponseMetadata"]["RequestId"]]
    assert 120 * 1024 * 1024 < large_peak < 256 * 1024 * 1024
    assert small_peak < large_peak - 80 * 1024 * 1024


def test_a_module_that_is_missing_fails_each_invocation(client: Any) -> None:
    for _ in range(2):
        response, answer = invoke(client, name="missing")
        assert response["FunctionError"] == "Unhandled"
        assert answer["errorType"] == "Runtime.ImportModuleError"
        assert "no_such_module" in answer["errorMessage"]


def test_a_handler_that_is_missing_fails(client: Any) -> None:
    assert invoke(client, name="nameless")[1]["errorType"] == "Runtime.HandlerNotFound"


def test_an_answer_over_6_mb_is_an_error(client: Any) -> None:
    response, answer = invoke(client, {"do": "answer", "size": 6 * 1024 * 1024 + 200})
    assert response["FunctionError"] == "Unhandled"
    assert answer["errorType"] == "Function.ResponseSizeTooLarge"
    assert len(invoke(client, {"do": "answer", "size": 6 * 1024 * 1024 - 2})[1]) == 6 * 1024 * 1024 - 2


# --- what goes wrong before -------------------------------------------------------------------------------


def refused(call: Any, **arguments: Any) -> tuple[str, int, dict[str, Any]]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response


def test_an_unknown_function_is_not_found(client: Any) -> None:
    for name in ("nobody", "f:7", "f:nobody"):
        code, status, response = refused(client.invoke, FunctionName=name)
        assert (code, status) == ("ResourceNotFoundException", 404)
        assert "Function not found: arn:aws:lambda" in response["Error"]["Message"]


def test_two_qualifiers_must_agree(client: Any) -> None:
    code, _, _ = refused(client.invoke, FunctionName="f:live", Qualifier="1")
    assert code == "InvalidParameterValueException"


def test_a_payload_must_be_json(client: Any) -> None:
    code, status, _ = refused(client.invoke, FunctionName="f", Payload=b"{no json")
    assert (code, status) == ("InvalidRequestContentException", 400)


@pytest.mark.parametrize(("kind", "limit"), [("RequestResponse", 6 * 1024 * 1024), ("Event", 1024 * 1024)])
def test_a_payload_over_the_limit_is_refused(client: Any, kind: str, limit: int) -> None:
    payload = json.dumps("x" * (limit - 1)).encode()
    assert len(payload) == limit + 1
    code, status, _ = refused(client.invoke, FunctionName="f", InvocationType=kind, Payload=payload)
    assert (code, status) == ("RequestTooLargeException", 413)


def test_what_is_not_implemented_is_refused(client: Any) -> None:
    assert refused(client.delete_function, FunctionName="f")[1] == 404


def test_a_throttled_request_says_why(service: LambdaService) -> None:
    client = service.client()
    service.throttle_next(2)
    for kind in ("RequestResponse", "Event"):
        code, status, response = refused(client.invoke, FunctionName="f", InvocationType=kind)
        assert (code, status) == ("TooManyRequestsException", 429)
        assert response["Reason"] == "CallerRateLimitExceeded"
    assert "FunctionError" not in invoke(client)[0]


# --- configuration ----------------------------------------------------------------------------------------


def test_the_configuration_can_be_read(client: Any) -> None:
    found = client.get_function_configuration(FunctionName="f", Qualifier="live")
    assert found["FunctionArn"] == "arn:aws:lambda:us-east-1:123456789012:function:f:live"
    assert (found["Timeout"], found["MemorySize"], found["Version"]) == (20, 256, "1")
    assert found["Environment"] == {"Variables": {"CHUNKWISE_X": "y"}}
    assert found["LoggingConfig"]["LogGroup"] == "/aws/lambda/f"
    assert client.get_function(FunctionName="f")["Configuration"]["State"] == "Active"
    assert {one["FunctionName"] for one in client.list_functions()["Functions"]} >= {"f", "short", "small"}
    assert client.get_function_event_invoke_config(FunctionName="f")["MaximumRetryAttempts"] == 2


# --- logs -------------------------------------------------------------------------------------------------


def test_the_log_of_an_invocation_is_that_of_lambda(client: Any, service: LambdaService) -> None:
    response, _ = invoke(client, {"n": 1}, LogType="Tail")
    request_id = response["ResponseMetadata"]["RequestId"]
    lines = service.logs("f", request_id)
    assert lines[0] == f"START RequestId: {request_id} Version: $LATEST"
    assert lines[1] == 'event {"n": 1}'
    assert lines[2] == f"END RequestId: {request_id}"
    assert re.fullmatch(
        rf"REPORT RequestId: {request_id}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\t"
        rf"Memory Size: 256 MB\tMax Memory Used: \d+ MB\t(Init Duration: \d+\.\d\d ms\t)?",
        lines[3],
    )
    assert base64.b64decode(response["LogResult"]).decode().splitlines() == lines


def test_the_log_of_a_time_out_says_so(client: Any, service: LambdaService) -> None:
    response, _ = invoke(client, {"do": "sleep", "seconds": 30}, "short")
    request_id = response["ResponseMetadata"]["RequestId"]
    lines = service.logs("short", request_id)
    assert lines[-3].endswith(f"{request_id} Task timed out after 0.50 seconds")
    assert lines[-1].endswith("\tStatus: timeout\t")


def test_a_tail_is_at_most_4_kb(client: Any) -> None:
    response, _ = invoke(client, {"text": "x" * 10_000}, LogType="Tail")
    assert len(base64.b64decode(response["LogResult"])) == 4096


# --- concurrency and the end ------------------------------------------------------------------------------


def test_calls_at_once_have_environments_of_their_own_up_to_the_limit(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    event = {"do": "wait_for_file", "path": str(gate)}
    functions = [
        function("two", reserved_concurrency=2),
        function("one"),
        function("none", reserved_concurrency=0),
    ]
    with LambdaService(functions, account_concurrency=3) as service:
        client = service.client()
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda name=name: answers.append(invoke(client, event, name)[1]))
            for name in ("two", "two", "one")
        ]
        for thread in threads:
            thread.start()
        service.wait_until(lambda: len(service.running()) == 3)
        _, _, busy = refused(client.invoke, FunctionName="two")
        assert busy["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        _, _, full = refused(client.invoke, FunctionName="one")
        assert full["Reason"] == "ConcurrentInvocationLimitExceeded"
        gate.touch()
        for thread in threads:
            thread.join()
        assert len({answer["pid"] for answer in answers}) == 3
        _, _, none = refused(client.invoke, FunctionName="none")
        assert none["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        counters = service.counters()
    assert (counters["peak_concurrency"], counters["cold_starts"], counters["throttles"]) == (3, 3, 3)


def test_an_idle_environment_is_ended() -> None:
    with LambdaService([function()], idle_seconds=0.1) as service:
        client = service.client()
        _, first = invoke(client)
        service.wait_until(lambda: not psutil.pid_exists(first["pid"]))
        assert invoke(client)[1]["pid"] != first["pid"]


def test_nothing_is_left_when_it_stops(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    with LambdaService([function()]) as service:
        client = service.client()
        _, idle = invoke(client)
        client.invoke(
            FunctionName="f",
            InvocationType="Event",
            Payload=json.dumps({"do": "wait_for_file", "path": str(tmp_path / "never")}).encode(),
        )
        service.wait_until(lambda: bool(service.running()))
        folder = service.log_folder
        cgroup = service.cgroup
    assert not psutil.pid_exists(idle["pid"])
    assert set(psutil.Process().children(recursive=True)) <= before
    assert not folder.exists()
    assert cgroup is None or not cgroup.exists()
    service.stop()  # harmless


def test_two_services_do_not_disturb_each_other() -> None:
    with LambdaService([function()]) as one, LambdaService([function()]) as other:
        assert one.port != other.port
        assert invoke(one.client())[1]["pid"] != invoke(other.client())[1]["pid"]
