"""Waiting for the parts of a dispatch in the triggerer."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk.serde import deserialize, serialize
from airflow.triggers.base import TriggerEvent
from botocore.exceptions import ClientError

from chunkwise.core.dispatch.board import Board, snapshot
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ChunkFailed
from chunkwise.triggers.dispatch import DispatchPartsTrigger
from tests.support.dispatch import broken, planned, processed, source
from tests.support.faults import FOREVER, Faults
from tests.support.s3 import S3


def trigger(staging: Staging, **options: Any) -> DispatchPartsTrigger:
    return DispatchPartsTrigger(
        bucket=staging.bucket, prefix=staging.prefix, **{"poll_interval": 0.05, **options}
    )


async def events(waiting: DispatchPartsTrigger) -> list[TriggerEvent]:
    return [event async for event in waiting.run()]


def fire(waiting: DispatchPartsTrigger, meanwhile: Callable[[], None] | None = None) -> dict[str, Any]:
    """The payload of the one event."""

    async def both() -> list[TriggerEvent]:
        task = asyncio.create_task(events(waiting))
        if meanwhile is not None:
            await asyncio.to_thread(meanwhile)
        return await asyncio.wait_for(task, 60)

    (event,) = asyncio.run(both())
    payload: dict[str, Any] = event.payload
    return payload


def wait_for_polls(faults: Faults, number: int) -> None:
    deadline = time.monotonic() + 60
    while faults.seen["ListObjectsV2"] < number:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_comes_back_from_the_database_as_it_was() -> None:
    arguments = {
        "bucket": "b",
        "prefix": "k.dispatch/",
        "extra_args": {"ExpectedBucketOwner": "1"},
        "tolerated_count": 2,
        "tolerated_share": 0.1,
        "count_rows": False,
        "poll_interval": 3.5,
        "aws_conn_id": None,
        "region_name": "eu-central-1",
        "verify": False,
        "botocore_config": {"read_timeout": 5},
    }
    path, kept = DispatchPartsTrigger(**arguments).serialize()
    assert kept == arguments
    module, _, name = path.rpartition(".")
    again = getattr(importlib.import_module(module), name)(**deserialize(serialize(kept)))
    assert again.serialize() == (path, arguments)
    assert vars(again).items() >= arguments.items()


def test_it_fires_once_when_every_chunk_has_reported(s3: S3) -> None:
    source(s3)
    staging = planned(s3)
    payload = fire(trigger(staging), meanwhile=lambda: processed(staging))
    board = Board(staging.load())
    snapshot(staging, board)
    assert payload == {"status": "done", "counts": board.counts.to_json()}
    assert payload["counts"]["rows"] == 300
    assert payload["counts"]["done"] == payload["counts"]["total"] > 10


def test_a_poll_is_one_listing_and_done_records_are_read_once(s3: S3, faults: Faults) -> None:
    source(s3)
    staging = planned(s3)
    processed(staging, 0)
    chunks = staging.load().chunks

    def rest() -> None:
        wait_for_polls(faults, 5)
        processed(staging, 1, 2, 3)

    fire(trigger(staging), meanwhile=rest)
    assert faults.seen["ListObjectsV2"] >= 6
    assert faults.seen["GetObject"] == 1 + chunks  # the plan, and each done record
    assert set(faults.seen) == {"ListObjectsV2", "GetObject"}


def test_without_rows_it_only_lists(s3: S3, faults: Faults) -> None:
    source(s3)
    staging = planned(s3)
    processed(staging)
    payload = fire(trigger(staging, count_rows=False))
    assert payload["counts"]["rows"] == 0
    assert dict(faults.seen) == {"GetObject": 1, "ListObjectsV2": 1}


def test_one_client_serves_all_polls(s3: S3, monkeypatch: pytest.MonkeyPatch, faults: Faults) -> None:
    made = []
    connect = S3Hook.get_async_conn

    async def counted(hook: S3Hook) -> Any:
        made.append(hook)
        return await connect(hook)

    monkeypatch.setattr(S3Hook, "get_async_conn", counted)
    source(s3)
    staging = planned(s3)

    def later() -> None:
        wait_for_polls(faults, 4)
        processed(staging)

    fire(trigger(staging), meanwhile=later)
    assert len(made) == 1


def test_a_failed_chunk_ends_the_wait_unless_it_is_tolerated(s3: S3) -> None:
    staging = broken(s3)
    fail(staging)
    assert fire(trigger(staging))["status"] == "failed"
    payload = fire(
        trigger(staging, tolerated_count=1), meanwhile=lambda: processed(staging, *others(staging))
    )
    assert payload["status"] == "failed"
    assert payload["counts"]["failed"] == 1
    assert payload["counts"]["done"] == payload["counts"]["total"] - 1


def fail(staging: Staging) -> None:
    """Process the group of the one bad chunk."""
    plan = staging.load()
    for group in range(plan.groups):
        try:
            processed(staging, group)
        except ChunkFailed:
            return
    raise AssertionError("no chunk failed")


def others(staging: Staging) -> list[int]:
    plan = staging.load()
    board = Board(plan)
    snapshot(staging, board, rows=False)
    (failed,) = board.chunks("failed")
    return [group for group in range(plan.groups) if failed not in plan.members(group)]


def test_without_a_plan_it_says_so(s3: S3) -> None:
    staging = Staging(s3.client, s3.bucket, "nothing.dispatch/")
    assert fire(trigger(staging)) == {"status": "missing", "counts": {}}


@pytest.mark.parametrize("how", [{"status": 503}, {"reset": True}])
def test_a_poll_that_fails_for_a_while_is_made_again(s3: S3, faults: Faults, how: dict[str, Any]) -> None:
    source(s3)
    staging = planned(s3)
    processed(staging)
    faults.fail("ListObjectsV2", times=9, **how)
    no_retries = {"retries": {"total_max_attempts": 3}}
    assert fire(trigger(staging, botocore_config=no_retries))["status"] == "done"


def test_an_outage_and_a_refusal_end_it(s3: S3, faults: Faults) -> None:
    source(s3)
    staging = planned(s3)
    one_attempt = {"retries": {"total_max_attempts": 1}}
    faults.fail("ListObjectsV2", status=403, times=FOREVER)
    with pytest.raises(ClientError, match="AccessDenied"):
        fire(trigger(staging, botocore_config=one_attempt))
    assert faults.seen["ListObjectsV2"] == 1
    faults.clear()
    faults.fail("ListObjectsV2", status=503, times=FOREVER)
    with pytest.raises(ClientError, match="SlowDown"):
        fire(trigger(staging, botocore_config=one_attempt))
    assert faults.seen["ListObjectsV2"] == 1 + 5


def test_it_may_be_started_again_at_any_time(s3: S3) -> None:
    """As after a restart of the triggerer: from its arguments alone, with the same answer."""
    source(s3)
    staging = planned(s3)
    waiting = trigger(staging)

    async def stopped() -> None:
        task = asyncio.create_task(events(waiting))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stopped())
    again = DispatchPartsTrigger(**waiting.serialize()[1])
    assert fire(again, meanwhile=lambda: processed(staging))["status"] == "done"
