"""Driving chunks through functions in the triggerer."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from airflow.sdk.serde import deserialize, serialize

from chunkwise.core.dispatch.functions import Function
from chunkwise.core.dispatch.model import Cancelled
from chunkwise.core.dispatch.staging import Staging
from chunkwise.triggers import lambda_chunks
from chunkwise.triggers.lambda_chunks import LambdaChunksTrigger
from dev.lambda_service import LambdaService
from tests.support.dispatch import planned, source
from tests.support.faults import Faults
from tests.support.processors import NAME, processor, running, use_both
from tests.support.s3 import S3

FUNCTION = Function(name=NAME, timeout_seconds=60)


@pytest.fixture
def service(s3: S3, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Iterator[LambdaService]:
    with running(s3.endpoint, processor(), processor(name="durable", durable=True)) as found:
        use_both(monkeypatch, faults, found)
        yield found


def trigger(staging: Staging, group: int = 0, **options: Any) -> LambdaChunksTrigger:
    return LambdaChunksTrigger(
        **{
            "bucket": staging.bucket,
            "prefix": staging.prefix,
            "group": group,
            "run_name": "run",
            "began": 0.0,
            "function": asdict(FUNCTION),
            "poll_interval": 0.1,
            **options,
        }
    )


async def fired(waiting: LambdaChunksTrigger) -> dict[str, Any]:
    (event,) = [event async for event in waiting.run()]
    payload: dict[str, Any] = event.payload
    return payload


def test_it_comes_back_from_the_database_as_it_was() -> None:
    arguments = {
        "bucket": "b",
        "prefix": "k.dispatch/",
        "extra_args": {"ExpectedBucketOwner": "1"},
        "group": 3,
        "run_name": "abc",
        "began": 12.5,
        "function": asdict(FUNCTION),
        "invocation": "durable",
        "attempts": 2,
        "chunks_in_flight": 7,
        "queue_seconds": 60.0,
        "poll_interval": 3.5,
        "aws_conn_id": None,
        "region_name": "eu-central-1",
        "verify": False,
        "botocore_config": {"read_timeout": 5},
    }
    path, kept = LambdaChunksTrigger(**arguments).serialize()
    assert kept == arguments
    module, _, name = path.rpartition(".")
    again = getattr(importlib.import_module(module), name)(**deserialize(serialize(kept)))
    assert again.serialize() == (path, arguments)


def test_all_groups_of_a_dispatch_share_clients_and_polls_and_close_them(
    s3: S3, faults: Faults, service: LambdaService
) -> None:
    source(s3)
    staging = planned(s3, groups=4)

    async def all_of_them() -> list[dict[str, Any]]:
        return await asyncio.gather(*(fired(trigger(staging, group)) for group in range(4)))

    events = asyncio.run(all_of_them())
    chunks = staging.load().chunks
    assert [event["status"] for event in events] == ["done"] * 4
    assert service.counters(NAME)["invocations"] == chunks
    assert faults.seen["GetObject"] == 1, "the plan, once for all"
    assert faults.seen["PutObject"] == chunks, "a mark for each invocation"
    assert len(lambda_chunks._DISPATCHES) == len(lambda_chunks._CLIENTS) == 0


def test_dispatches_that_begin_together_share_their_clients(s3: S3, service: LambdaService) -> None:
    stagings = []
    for key in ("one.jsonl", "two.jsonl"):
        source(s3, key)
        stagings.append(planned(s3, groups=1, key=key))
    most = {"dispatches": 0, "clients": 0}

    async def watch() -> None:
        while True:
            most["dispatches"] = max(most["dispatches"], len(lambda_chunks._DISPATCHES))
            most["clients"] = max(most["clients"], len(lambda_chunks._CLIENTS))
            await asyncio.sleep(0.01)

    async def both() -> list[dict[str, Any]]:
        watcher = asyncio.ensure_future(watch())
        try:
            return await asyncio.gather(*(fired(trigger(staging)) for staging in stagings))
        finally:
            watcher.cancel()

    assert [event["status"] for event in asyncio.run(both())] == ["done"] * 2
    assert most == {"dispatches": 2, "clients": 1}


def test_without_a_plan_it_says_so(s3: S3, service: LambdaService) -> None:
    event = asyncio.run(fired(trigger(Staging(s3.client, s3.bucket, "nothing.dispatch/"))))
    assert event["status"] == "missing"
    assert len(lambda_chunks._DISPATCHES) == len(lambda_chunks._CLIENTS) == 0


def test_polls_that_fail_are_repeated(s3: S3, faults: Faults, service: LambdaService) -> None:
    source(s3)
    staging = planned(s3, groups=1)
    faults.fail("ListObjectsV2", times=3, status=503)
    assert asyncio.run(fired(trigger(staging)))["status"] == "done"


def test_a_killed_task_cancels_its_group_and_stops_durable_executions(s3: S3, service: LambdaService) -> None:
    source(s3)
    staging = planned(s3, groups=2)
    waiting = trigger(
        staging,
        1,
        function=asdict(Function(name="durable", qualifier="live", durable=True)),
        invocation="durable",
        poll_interval=30.0,
    )

    async def killed() -> None:
        task = asyncio.create_task(fired(waiting))
        members = len(staging.load().members(1))
        await asyncio.to_thread(
            service.wait_until,
            lambda: waiting._driver is not None and len(waiting._driver.executions) == members,
        )
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await waiting.on_kill()

    asyncio.run(killed())
    mark = staging.get(staging.cancelled_key(1), Cancelled)
    assert mark is not None
    assert mark[0].group == 1
    assert not staging.cancelled(0)
    service.wait_idle()
    found = service.client().list_durable_executions_by_function(FunctionName="durable", Qualifier="live")
    statuses = {execution["Status"] for execution in found["DurableExecutions"]}
    assert "RUNNING" not in statuses
    assert len(lambda_chunks._DISPATCHES) == len(lambda_chunks._CLIENTS) == 0
