"""Chunks processed by Lambda functions, from a task that only waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import DispatchCancelled
from chunkwise.operators.dispatch import (
    MergePartsOperator,
    PlanDispatchOperator,
    ProcessChunksOperator,
    functions,
)
from chunkwise.sensors.dispatch import DispatchPartsSensor
from dev.lambda_service import LambdaService
from tests.support.airflow import Ran
from tests.support.dispatch import Run, dag, planned, source
from tests.support.processors import NAME, processor, running, use_both
from tests.support.s3 import S3

DEATHS = "tests.support.deaths"


@pytest.fixture
def service(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[LambdaService]:
    functions = [
        processor(),
        processor(name="durable", durable=True),
        processor(name="short", timeout_seconds=2.0, handler=f"{DEATHS}.sleeps"),
        processor(name="small", memory_mb=96, handler=f"{DEATHS}.takes_memory"),
        processor(name="broken", handler=f"{DEATHS}.raises"),
        processor(name="doubled", duplicate_every=2),
    ]
    with running(s3.endpoint, *functions) as found:
        use_both(monkeypatch, s3, found)
        yield found


def process(run_dag: Run, staging: Staging, **changes: Any) -> Ran:
    """A DAG with one group alone."""
    options = {
        "task_id": "process",
        "staging_uri": staging.uri,
        "group": 0,
        "compute": "lambda",
        "function_name": NAME,
        "poll_interval": 0.1,
        **changes,
    }
    with dag() as it:
        ProcessChunksOperator(**options)
    return run_dag(it)


def test_a_whole_dispatch_in_functions(run_dag: Run, s3: S3, service: LambdaService) -> None:
    data = source(s3)
    location = {"s3_bucket": s3.bucket, "s3_key": "in/people.jsonl"}
    with dag() as it:
        plan = PlanDispatchOperator(
            task_id="plan",
            **location,
            target_key=f"s3://{s3.bucket}/out.jsonl",
            chunk_bytes=5_000,
            threshold_bytes=0,
            groups=2,
        )
        chunks = ProcessChunksOperator.partial(
            task_id="process", **location, compute="lambda", function_name=NAME, poll_interval=0.1
        ).expand(group=plan.output)
        wait = DispatchPartsSensor(task_id="wait", **location, poke_interval=0.1)
        chunks >> wait >> MergePartsOperator(task_id="merge", **location)
    ran = run_dag(it)
    assert ran.state == "success"
    assert s3.get("out.jsonl") == data
    counts = [ran.xcoms[f"process[{group}]", "return_value"] for group in range(2)]
    chunks_of = ran.xcoms["plan", "summary"]["chunks"]
    assert sum(found["chunks"] for found in counts) == chunks_of
    assert sum(found["rows_in"] for found in counts) == 300
    assert service.counters(NAME)["invocations"] == chunks_of


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("invocation", ["event", "request_response"])
def test_every_way_to_invoke_and_to_wait(
    run_dag: Run, s3: S3, service: LambdaService, deferrable: bool, invocation: str
) -> None:
    source(s3)
    staging = planned(s3, chunk_bytes=10_000)
    ran = process(run_dag, staging, deferrable=deferrable, invocation=invocation)
    assert ran.state == "success"
    found = ran.returned("process")
    assert (found["chunks"], found["done_before"]) == (len(staging.load().members(0)), 0)
    assert found["peak_rss"] > 0


def test_a_durable_function_is_invoked_as_durable_executions(
    run_dag: Run, s3: S3, service: LambdaService
) -> None:
    source(s3)
    staging = planned(s3, chunk_bytes=10_000)
    ran = process(run_dag, staging, function_name="durable", qualifier="live")
    assert ran.state == "success"
    members = staging.load().members(0)
    executions = service.client().list_durable_executions_by_function(
        FunctionName="durable", Qualifier="live"
    )
    found = executions["DurableExecutions"]
    assert len(found) == len(members)
    assert {execution["Status"] for execution in found} == {"SUCCEEDED"}


def test_a_second_try_does_only_what_is_left(run_dag: Run, s3: S3, service: LambdaService) -> None:
    source(s3)
    staging = planned(s3, chunk_bytes=10_000, groups=1)
    process(run_dag, staging)
    s3.client.delete_object(Bucket=s3.bucket, Key=staging.done_key(1))
    staging.put_new(staging.manifest_key(1), staging.manifest(staging.load(), 1))
    before = service.counters(NAME)["invocations"]
    ran = process(run_dag, staging)
    found = ran.returned("process")
    assert (found["chunks"], found["done_before"]) == (1, staging.load().chunks - 1)
    assert service.counters(NAME)["invocations"] == before + 1


def test_kills_throttles_and_duplicates_do_not_show(run_dag: Run, s3: S3, service: LambdaService) -> None:
    source(s3)
    staging = planned(s3, chunk_bytes=6_000, groups=1)
    service.throttle_next(5)
    ran = process(run_dag, staging, function_name="doubled", invocation="event")
    assert ran.state == "success"
    counters = service.counters("doubled")
    assert counters["duplicates"] > 0
    assert service.counters()["throttles"] == 5
    assert set(staging.done(range(staging.load().chunks))) == set(range(staging.load().chunks))


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("short", "FunctionTimedOut", "time-out of 2 s"),
        ("small", "FunctionOutOfMemory", "limit of 96 MB"),
        ("broken", "FunctionFailed", "KeyError"),
    ],
)
def test_deaths_surface_as_what_they_are(
    run_dag: Run, s3: S3, service: LambdaService, caplog: Any, capfd: Any, name: str, kind: str, words: str
) -> None:
    source(s3)
    staging = planned(s3, chunk_bytes=1 << 20, groups=1)
    ran = process(run_dag, staging, function_name=name, invocation="request_response", attempts=1)
    assert ran.state == "failed"
    text = caplog.text + "".join(capfd.readouterr())
    assert kind in text
    assert words in text
    assert "4111 1111" not in text, "a foreign message may quote data"
    request = service.reports(name)[-1].request_id
    assert f"request {request}" in text


@pytest.mark.parametrize(("retries", "warned"), [(0, False), (2, True)])
def test_retries_of_lambdas_own_are_warned_of(
    run_dag: Run, s3: S3, monkeypatch: pytest.MonkeyPatch, caplog: Any, retries: int, warned: bool
) -> None:
    source(s3)
    with running(s3.endpoint, processor(max_retry_attempts=retries)) as found:
        use_both(monkeypatch, s3, found)
        assert process(run_dag, planned(s3, chunk_bytes=1 << 20, groups=1)).state == "success"
    assert ("MaximumRetryAttempts to 0" in caplog.text) is warned


def test_a_function_that_is_not_there_fails_without_a_retry(
    run_dag: Run, s3: S3, service: LambdaService
) -> None:
    source(s3)
    staging = planned(s3)
    ran = process(run_dag, staging, function_name="nobody", retries=2)
    assert (ran.states["process"], ran.tries["process"]) == ("failed", 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"function_name": None},
        {"function_name": "durable"},
        {"invocation": "durable"},
        {"function_name": "durable", "qualifier": "live", "invocation": "request_response"},
    ],
)
def test_what_cannot_be_invoked_as_asked_is_refused(
    run_dag: Run, s3: S3, service: LambdaService, changes: dict[str, Any]
) -> None:
    source(s3)
    ran = process(run_dag, planned(s3), retries=2, **changes)
    assert (ran.states["process"], ran.tries["process"]) == ("failed", 1)
    assert service.counters()["invocations"] == 0


@pytest.mark.parametrize("compute", ["worker", "lambda"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compute", "cloud"),
        ("invocation", "evnt"),
        ("chunks_in_flight", 0),
        ("chunks_in_flight", True),
        ("attempts", 0),
        ("attempts", -1),
        ("attempts", None),
        ("queue_seconds", -5),
        ("queue_seconds", float("nan")),
        ("poll_interval", 0),
        ("poll_interval", "5"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_refused_by_name(compute: str, name: str, value: Any) -> None:
    options = {"group": 0, "compute": compute, "function_name": NAME, name: value}
    operator = ProcessChunksOperator(task_id="process", staging_uri="s3://b/k.dispatch/", **options)
    with pytest.raises(AirflowFailException, match=f"ConfigError: {name} is "):
        operator.execute({})  # type: ignore[typeddict-item]


def test_a_cancelled_dispatch_fails_the_task_for_good(s3: S3) -> None:
    event = {"status": "cancelled", "message": "the dispatch was cancelled by 'somebody'"}
    with pytest.raises(DispatchCancelled, match="somebody") as caught:
        functions.finish(
            Staging(s3.client, s3.bucket, "k.dispatch/"), event, group=0, run="r", function_name=NAME, aws={}
        )
    assert not caught.value.transient


def test_killing_a_task_that_waits_cancels_its_group(s3: S3, service: LambdaService) -> None:
    source(s3)
    staging = planned(s3, groups=2)
    operator = ProcessChunksOperator(
        task_id="process", staging_uri=staging.uri, group=1, compute="lambda", deferrable=False
    )
    operator._waiting = 1, "run"
    threading.Thread(target=operator.on_kill).run()
    assert staging.cancelled(1)
    assert not staging.cancelled(0)
