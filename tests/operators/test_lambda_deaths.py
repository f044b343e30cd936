"""What a task says of functions that were invoked as events and died in the middle of a chunk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chunkwise.core.dispatch.board import Board
from chunkwise.core.dispatch.functions import log_place
from chunkwise.core.dispatch.model import Started
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.storage.objects import Listed
from chunkwise.operators.dispatch import ProcessChunksOperator
from chunkwise.triggers import lambda_chunks
from dev.lambda_service import LambdaService
from tests.support.airflow import Ran
from tests.support.dispatch import Run, dag, planned, source
from tests.support.http_api import Answer, HttpApi, http_api
from tests.support.processors import processor, running, use_both
from tests.support.s3 import S3

__all__ = ["http_api"]


@pytest.fixture
def service(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[LambdaService]:
    handler = "tests.support.deaths.dies_first"
    functions = [
        processor(name="short", handler=handler, timeout_seconds=5),
        processor(name="small", handler=handler, memory_mb=256),
        processor(name="plain", handler=handler),
    ]
    with running(s3.endpoint, *functions, logs_endpoint=s3.endpoint, account_concurrency=1) as found:
        use_both(monkeypatch, s3, found)
        yield found


@pytest.fixture(autouse=True)
def _lost_once_dead(service: LambdaService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk is lost as soon as its function is dead: deadlines are tested with numbers for clocks."""

    def deaths() -> list[Any]:
        return [report for report in service.reports() if report.status != "success"]

    class Patient(Board):
        def __init__(self, plan: Any, **_: Any) -> None:
            super().__init__(plan, deadline_seconds=86_400, queue_seconds=86_400)
            self._before = len(deaths())

        def take(self, listed: Iterable[Listed], now: datetime | None = None) -> None:
            now = now or datetime.now(UTC)
            dead = len(deaths()) > self._before
            if dead:
                service.flush_logs()
            began = now - timedelta(days=2) if dead else now
            super().take([replace(item, last_modified=began) for item in listed], now)

    monkeypatch.setattr(lambda_chunks, "Board", Patient)


def four_chunks(s3: S3) -> Staging:
    """Chunk 0 dies of time, 1 of memory, 2 by a signal; each is a group."""
    data = source(s3)
    staging = planned(s3, chunk_bytes=len(data) // 4 + 200, groups=4)
    assert staging.load().chunks == 4
    return staging


def warm(service: LambdaService, staging: Staging, name: str) -> None:
    """Do a chunk that lives, for which a slow machine may need more than the time of a short function."""
    manifest = f"s3://{staging.bucket}/{staging.manifest_key(3)}"
    for number in range(10):
        payload = json.dumps({"manifest": manifest, "attempt": f"warm-{number}"}).encode()
        service.client().invoke(FunctionName=name, Payload=payload)
        if staging.done_of(3) is not None:
            return


def process(run_dag: Run, staging: Staging, group: int, name: str) -> Ran:
    with dag() as it:
        ProcessChunksOperator(
            task_id="process",
            staging_uri=staging.uri,
            group=group,
            compute="lambda",
            function_name=name,
            invocation="event",
            attempts=1,
            poll_interval=0.1,
        )
    return run_dag(it)


@pytest.mark.parametrize(
    ("name", "chunk", "kind", "words"),
    [
        pytest.param(
            "short",
            0,
            "FunctionTimedOut",
            "was ended at its time-out of 5 s",
            id="time",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "small", 1, "FunctionOutOfMemory", "was killed at its memory limit of 256 MB", id="memory"
        ),
        pytest.param("plain", 2, "FunctionFailed", "with signal: killed", id="signal"),
    ],
)
def test_the_task_tells_what_the_log_of_a_dead_function_says(
    run_dag: Run, s3: S3, service: LambdaService, capfd: Any, name: str, chunk: int, kind: str, words: str
) -> None:
    staging = four_chunks(s3)
    if name == "short":
        warm(service, staging, name)
    ran = process(run_dag, staging, chunk, name)
    assert (ran.state, ran.tries["process"]) == ("failed", 1)
    mark = next(mark for mark in marks(staging, chunk))
    assert mark.request_id == service.reports(name)[-1].request_id
    place = log_place(
        region="us-east-1",
        log_group=f"/aws/lambda/{name}",
        log_stream=mark.log_stream,
        request_id=mark.request_id,
    )
    told = message(capfd)
    assert f" failed: chunk {chunk}: {kind}: Lambda function {name!r} " in told
    assert words in told
    assert place in told


def test_a_task_that_may_not_read_logs_fails_of_a_plain_loss(
    run_dag: Run,
    s3: S3,
    service: LambdaService,
    http_api: HttpApi,
    caplog: Any,
    capfd: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = b'{"__type":"AccessDeniedException","Message":"User 4111 1111 may not"}'
    http_api.on("/", Answer(status=400, body=body))
    endpoints = {"lambda": service.endpoint, "logs": http_api.url("")}
    extra = {
        "region_name": "us-east-1",
        "endpoint_url": s3.endpoint,
        "service_config": {name: {"endpoint_url": url} for name, url in endpoints.items()},
    }
    connection = {"conn_type": "aws", "login": "test", "password": "test", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    staging = four_chunks(s3)
    ran = process(run_dag, staging, 2, "plain")
    assert ran.state == "failed"
    request_id = service.reports("plain")[-1].request_id
    told = message(capfd)
    assert "chunk 2: FunctionFailed: Lambda function 'plain' began attempt" in told
    assert "reported nothing before its deadline" in told
    assert f"request {request_id}, log https://us-east-1.console.aws.amazon.com/" in told
    assert "AccessDeniedException" in caplog.text
    assert "4111 1111" not in caplog.text + told
    assert len(http_api.requests) == 1


def message(capfd: Any) -> str:
    """Of the error that the task ended with, as its log has it."""
    lines = "".join(capfd.readouterr()).splitlines()
    return next(line for line in lines if " of 1 chunks of group " in line)


def marks(staging: Staging, chunk: int) -> Iterator[Started]:
    """Of the attempts at a chunk that have begun and not ended."""
    for item in staging.list(f"{staging.state_prefix}chunk_{chunk:04d}."):
        if item.key.endswith(".started"):
            found = staging.get(item.key, Started)
            assert found is not None
            yield found[0]
