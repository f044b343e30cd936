"""Durable processors of ``deploy/template.yaml``: what they, and Airflow with them, may do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from aiobotocore.client import AioBaseClient
from botocore.client import BaseClient

from chunkwise.core.dispatch.spec import Config, Target
from tests.operators.test_lambda import process
from tests.support.cloudformation import Stack
from tests.support.deployed import NEEDED, STACK, TEMPLATE, policies_in
from tests.support.dispatch import Run, planned, source
from tests.support.permissions import Need, allows, function_need
from tests.support.processors import processor, running, use_both
from tests.support.s3 import S3

DEADLINE = Config(target=Target(bucket="b", key="k")).deadline_seconds
DURABLE = Stack(TEMPLATE, **NEEDED, DurableSeconds=str(DEADLINE))
BOTH = {"Processor": "cw-processor-durable", "Ingest": "cw-ingest-durable"}
EXECUTION = "$LATEST/durable-execution/name/id"


def test_functions_are_not_durable_unless_that_is_asked_for() -> None:
    for name in BOTH:
        assert "DurableConfig" not in STACK.of_type("AWS::Lambda::Function")[name]
        assert "DeadLetterConfig" not in STACK.of_type("AWS::Lambda::Function")[name]
    assert "Qualifier" not in STACK.outputs
    for role in ("ProcessorRole", "IngestRole", *policies_in(STACK, "AirflowPolicies")):
        for statement in STACK.policy(role):
            actions = statement["Action"]
            assert not [
                one for one in ([actions] if isinstance(actions, str) else actions) if "Durable" in one
            ]


def test_an_execution_ends_and_its_history_does() -> None:
    for name in BOTH:
        found = DURABLE.of_type("AWS::Lambda::Function")[name]["DurableConfig"]
        assert found == {"ExecutionTimeout": str(DEADLINE), "RetentionPeriodInDays": 14}
    assert "DurableConfig" not in DURABLE.of_type("AWS::Lambda::Function")["Dispatcher"]


def test_a_durable_function_is_another_one() -> None:
    """Lambda makes a function durable only when it creates it; CloudFormation replaces what is renamed."""
    for name, durable in BOTH.items():
        names = [stack.of_type("AWS::Lambda::Function")[name]["FunctionName"] for stack in (STACK, DURABLE)]
        assert names == [durable.removesuffix("-durable"), durable]
        group = DURABLE.of_type("AWS::Logs::LogGroup")[f"{name}Log"]["LogGroupName"]
        assert group == f"/aws/lambda/{durable}"
        for role, action in ((f"{name}Role", "logs:PutLogEvents"), ("InvokePolicy", "logs:FilterLogEvents")):
            need = Need(action, f"arn:aws:logs:us-east-1:123456789012:log-group:{group}:x")
            assert allows(DURABLE.policy(role), need)


def test_what_fails_is_not_lost() -> None:
    """A durable function has no destinations, but a queue for dead letters."""
    for name in BOTH:
        events = DURABLE.of_type("AWS::Lambda::EventInvokeConfig")[f"{name}Events"]
        assert "DestinationConfig" not in events
        assert events["MaximumRetryAttempts"] == 0
        function = DURABLE.of_type("AWS::Lambda::Function")[name]
        assert function["DeadLetterConfig"] == {"TargetArn": "<Failed.Arn>"}
        assert allows(DURABLE.policy(f"{name}Role"), Need("sqs:SendMessage", "<Failed.Arn>"))
    dispatcher = DURABLE.of_type("AWS::Lambda::EventInvokeConfig")["DispatcherEvents"]
    assert dispatcher["DestinationConfig"] == {"OnFailure": {"Destination": "<Failed.Arn>"}}


@pytest.mark.parametrize("name", BOTH)
def test_a_function_may_look_after_its_own_executions(name: str) -> None:
    function = f"arn:aws:lambda:us-east-1:123456789012:function:{BOTH[name]}"
    policy = DURABLE.policy(f"{name}Role")
    for action in ("lambda:CheckpointDurableExecution", "lambda:GetDurableExecutionState"):
        assert allows(policy, Need(action, f"{function}:{EXECUTION}"))
        assert not allows(policy, Need(action, f"{function}s:{EXECUTION}"))


def test_the_dispatcher_invokes_them_by_a_qualifier() -> None:
    variables = DURABLE.of_type("AWS::Lambda::Function")["Dispatcher"]["Environment"]["Variables"]
    assert variables["CHUNKWISE_PROCESSOR_FUNCTION"] == "<Processor>:$LATEST"
    assert allows(DURABLE.policy("DispatcherRole"), Need("lambda:InvokeFunction", "<Processor.Arn>:$LATEST"))


def test_runtimes_that_know_no_durable_functions_are_refused() -> None:
    rule = DURABLE.template["Rules"]["DurableFunctionsNeedTheRuntime"]
    (assertion,) = rule["Assertions"]
    known, runtime = assertion["Assert"]["Fn::Contains"]
    assert runtime == {"Ref": "Runtime"}
    # AWS Lambda developer guide, "Supported runtimes for durable functions"
    assert known == ["python3.13", "python3.14"]
    assert set(known) < set(DURABLE.template["Parameters"]["Runtime"]["AllowedValues"])


def test_airflow_may_do_what_it_does_with_executions(
    run_dag: Run, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Executions that end without a report are asked for; the role needs nothing else to stop them."""
    name = BOTH["Processor"]
    found: Counter[Need] = Counter()
    for kind in (BaseClient, AioBaseClient):
        real = kind._make_api_call

        def noted(self: Any, operation: str, params: Any, real: Any = real) -> Any:
            if self.meta.service_model.service_name == "lambda":
                found[function_need(operation, params, "<Processor.Arn>")] += 1
            return real(self, operation, params)

        monkeypatch.setattr(kind, "_make_api_call", noted)
    source(s3)
    staging = planned(s3, chunk_bytes=10_000)
    dies = processor(name=name, durable=True, handler="tests.support.deaths.fails_durably")
    with running(s3.endpoint, dies) as service:
        use_both(monkeypatch, s3, service)
        ran = process(
            run_dag, staging, function_name=name, qualifier=DURABLE.outputs["Qualifier"], attempts=1
        )
    assert ran.states["process"] != "success"
    assert {need.action for need in found} == {
        "lambda:InvokeFunction",
        "lambda:GetFunctionConfiguration",
        "lambda:GetFunctionEventInvokeConfig",
        "lambda:GetDurableExecution",
    }
    policy = DURABLE.policy(*policies_in(DURABLE, "AirflowPolicies"))
    assert {need for need in found if not allows(policy, need)} == set()
    executions = [need.resource for need in found if need.action == "lambda:GetDurableExecution"]
    for execution in executions:
        assert "/durable-execution/" in execution
        assert allows(policy, Need("lambda:StopDurableExecution", execution))
    other = Need("lambda:StopDurableExecution", f"<Dispatcher.Arn>:{EXECUTION}")
    assert not allows(policy, other)
