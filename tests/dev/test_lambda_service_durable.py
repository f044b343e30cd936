"""Durable functions of the local Lambda: one execution for a name, its status, its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dev.lambda_service import Function, LambdaService

SUPPORT = str(Path(__file__).resolve().parents[1] / "support")


def function(name: str = "d", **settings: Any) -> Function:
    given = {
        "handler": "lambda_handlers.durable",
        "cwd": SUPPORT,
        "timeout_seconds": 20,
        "memory_mb": 256,
        "durable": True,
    }
    return Function(name=name, **{**given, **settings})


@pytest.fixture(scope="module")
def service() -> Iterator[LambdaService]:
    functions = [
        function(),
        function("hasty", execution_timeout_seconds=0.3),
        function("plain", handler="lambda_handlers.handler", durable=False),
    ]
    with LambdaService(functions, retry_seconds=0.01) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: LambdaService) -> Any:
    return service.client()


def start(client: Any, event: Any, execution: str | None, *, name: str = "d:live", **settings: Any) -> str:
    """Start an execution; its ARN."""
    given = {} if execution is None else {"DurableExecutionName": execution}
    payload = json.dumps(event).encode()
    response = client.invoke(
        FunctionName=name, InvocationType="Event", Payload=payload, **{**given, **settings}
    )
    assert response["StatusCode"] == 202
    return str(response["DurableExecutionArn"])


def ended(service: LambdaService, client: Any, arn: str) -> dict[str, Any]:
    """What is known of an execution once it has ended."""
    service.wait_until(lambda: client.get_durable_execution(DurableExecutionArn=arn)["Status"] != "RUNNING")
    return dict(client.get_durable_execution(DurableExecutionArn=arn))


def refused(call: Any, **arguments: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_an_execution_runs_to_its_end(client: Any, service: LambdaService) -> None:
    arn = start(client, {"n": 1}, "first")
    prefix = "arn:aws:lambda:us-east-1:123456789012:function:d:1/durable-execution/first/"
    assert arn.startswith(prefix)
    found = ended(service, client, arn)
    assert found["Status"] == "SUCCEEDED"
    assert found["DurableExecutionName"] == "first"
    assert json.loads(found["InputPayload"]) == {"n": 1}
    assert json.loads(found["Result"])["memory"] == "256"
    assert found["StartTimestamp"] <= found["EndTimestamp"]


def test_a_caller_may_wait_for_it(client: Any) -> None:
    response = client.invoke(
        FunctionName="d", Qualifier="$LATEST", Payload=b"{}", DurableExecutionName="waits"
    )
    assert ":$LATEST/durable-execution/waits/" in response["DurableExecutionArn"]
    assert json.loads(response["Payload"].read())["memory"] == "256"
    again = client.invoke(FunctionName="d", Qualifier="$LATEST", Payload=b"{}", DurableExecutionName="waits")
    assert again["DurableExecutionArn"] == response["DurableExecutionArn"]


def test_a_name_starts_one_execution_only(client: Any, service: LambdaService, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    event = {"do": "wait_for_file", "path": str(gate)}
    before = service.counters("d")["invocations"]
    arns = {start(client, event, "once") for _ in range(3)}
    assert len(arns) == 1
    assert refused(start, client=client, event={"other": 1}, execution="once") == (
        "DurableExecutionAlreadyStartedException",
        409,
    )
    gate.touch()
    assert ended(service, client, *arns)["Status"] == "SUCCEEDED"
    assert {start(client, event, "once")} == arns
    assert service.counters("d")["invocations"] == before + 1


def test_without_a_name_each_is_its_own(client: Any) -> None:
    assert start(client, {}, None) != start(client, {}, None)


def test_it_needs_a_qualifier_and_a_durable_function(client: Any) -> None:
    invalid = ("InvalidParameterValueException", 400)
    assert refused(start, client=client, event={}, execution="x", name="d") == invalid
    assert refused(start, client=client, event={}, execution="x", name="plain:live") == invalid


@pytest.mark.parametrize(
    ("event", "error_type"),
    [({"status": "FAILED"}, "Refused"), ({"status": "NONSENSE"}, "InvalidOutput")],
)
def test_a_failure_is_its_status(
    client: Any, service: LambdaService, event: dict[str, str], error_type: str
) -> None:
    arn = start(client, event, None)
    found = ended(service, client, arn)
    assert (found["Status"], found["Error"]["ErrorType"]) == ("FAILED", error_type)
    response = client.invoke(FunctionName="d:1", Payload=json.dumps(event).encode())
    assert response["FunctionError"] == "Unhandled"
    assert json.loads(response["Payload"].read())["errorType"] == error_type


def test_a_killed_invocation_is_tried_again_within_the_execution(client: Any, service: LambdaService) -> None:
    service.kill_next(2)
    assert ended(service, client, start(client, {}, "survives"))["Status"] == "SUCCEEDED"


def test_an_execution_fails_when_its_invocations_keep_failing(client: Any, service: LambdaService) -> None:
    before = service.counters("d")["invocations"]
    found = ended(service, client, start(client, {"do": "raise", "text": "too bad"}, "hopeless"))
    assert (found["Status"], found["Error"]["ErrorMessage"]) == ("FAILED", "too bad")
    assert service.counters("d")["invocations"] == before + 5


def test_it_can_be_stopped(client: Any, service: LambdaService, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    arn = start(client, {"do": "wait_for_file", "path": str(gate)}, "stopped")
    service.wait_until(lambda: service.counters("d")["busy"] == 1)
    error = {"ErrorType": "Cancelled", "ErrorMessage": "by the operator"}
    assert client.stop_durable_execution(DurableExecutionArn=arn, Error=error)["StopTimestamp"]
    found = client.get_durable_execution(DurableExecutionArn=arn)
    assert (found["Status"], found["Error"]) == ("STOPPED", error)
    gate.touch()  # what runs is not killed, and changes nothing any more
    service.wait_idle()
    assert client.get_durable_execution(DurableExecutionArn=arn)["Status"] == "STOPPED"
    client.stop_durable_execution(DurableExecutionArn=arn)


def test_what_waits_for_concurrency_is_not_invoked_after_a_stop(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with LambdaService([function(reserved_concurrency=1)]) as service:
        client = service.client()
        running = start(client, {"do": "wait_for_file", "path": str(gate)}, "runs")
        waiting = start(client, {}, "waits")
        client.stop_durable_execution(DurableExecutionArn=waiting)
        gate.touch()
        assert ended(service, client, running)["Status"] == "SUCCEEDED"
        service.wait_idle()
        assert service.counters()["invocations"] == 1


def test_it_times_out_as_a_whole(client: Any, service: LambdaService, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    arn = start(client, {"do": "wait_for_file", "path": str(gate)}, None, name="hasty:1")
    assert ended(service, client, arn)["Status"] == "TIMED_OUT"
    gate.touch()
    service.wait_idle()


def test_executions_are_listed(client: Any, service: LambdaService) -> None:
    arn = start(client, {"status": "FAILED"}, "listed")
    ended(service, client, arn)

    def listed(**settings: Any) -> list[str]:
        page = client.list_durable_executions_by_function(FunctionName="d", **settings)
        return [one["DurableExecutionArn"] for one in page["DurableExecutions"]]

    assert listed(DurableExecutionName="listed") == [arn]
    assert arn in listed(Statuses=["FAILED", "STOPPED"])
    assert arn not in listed(Statuses=["SUCCEEDED"])
    assert listed(ReverseOrder=True) == listed()[::-1]


def test_an_unknown_execution_is_not_found(client: Any) -> None:
    arn = "arn:aws:lambda:us-east-1:123456789012:function:d:1/durable-execution/no/where"
    assert refused(client.get_durable_execution, DurableExecutionArn=arn) == (
        "ResourceNotFoundException",
        404,
    )
    assert refused(client.stop_durable_execution, DurableExecutionArn=arn)[1] == 404


def test_checkpoints_and_waits_carry_over_to_the_next_invocation(client: Any, service: LambdaService) -> None:
    found = ended(service, client, start(client, {"step": True, "endpoint": service.endpoint}, "steps"))
    assert found["Status"] == "SUCCEEDED", found
    assert json.loads(found["Result"]) == {"steps": 1, "waits": ["SUCCEEDED"]}
