"""Waiting for a Delta table in the triggerer."""

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

from chunkwise.core.errors import ReadFailed
from chunkwise.triggers.delta import DeltaTableTrigger
from tests.support.delta import Lake
from tests.support.faults import FOREVER, Faults
from tests.support.s3 import S3

ONE_ATTEMPT = {"retries": {"total_max_attempts": 1}}


@pytest.fixture
def lake(s3: S3) -> Lake:
    return Lake(s3)


def trigger(lake: Lake, condition: dict[str, Any], **options: Any) -> DeltaTableTrigger:
    return DeltaTableTrigger(table_uri=lake.uri, condition=condition, **{"poll_interval": 0.02, **options})


async def events(waiting: DeltaTableTrigger) -> list[TriggerEvent]:
    return [event async for event in waiting.run()]


def fire(waiting: DeltaTableTrigger, meanwhile: Callable[[], Any] | None = None) -> dict[str, Any]:
    """The payload of the one event."""

    async def both() -> list[TriggerEvent]:
        task = asyncio.create_task(events(waiting))
        if meanwhile is not None:
            await asyncio.to_thread(meanwhile)
        return await asyncio.wait_for(task, 120)

    (event,) = asyncio.run(both())
    payload: dict[str, Any] = event.payload
    return payload


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def file(lake: Lake, name: str, rows: int = 1) -> None:
    lake.append(lake.put(name, {"id": list(range(rows))}))


def test_it_comes_back_from_the_database_as_it_was() -> None:
    arguments = {
        "table_uri": "s3://b/t",
        "condition": {"version": 3, "partition": {"ds": "1", "x": None}},
        "extra_args": {"ExpectedBucketOwner": "1"},
        "poll_interval": 3.5,
        "aws_conn_id": None,
        "region_name": "eu-central-1",
        "verify": False,
        "botocore_config": {"read_timeout": 5},
    }
    path, kept = DeltaTableTrigger(**arguments).serialize()
    assert kept == arguments
    module, _, name = path.rpartition(".")
    again = getattr(importlib.import_module(module), name)(**deserialize(serialize(kept)))
    assert again.serialize() == (path, arguments)
    assert vars(again).items() >= arguments.items()


@pytest.mark.parametrize(
    ("condition", "seen"),
    [
        ({"version": 2}, {"version": 2}),
        ({"min_files": 3}, {"version": 2, "files": 3, "rows": 6}),
        ({"partition": {"ds": "b"}}, {"version": 2, "files": 1, "rows": 3}),
    ],
    ids=["version", "files", "partition"],
)
def test_it_fires_once_when_the_table_is_there_and_as_it_must_be(
    lake: Lake, faults: Faults, condition: dict[str, Any], seen: dict[str, Any]
) -> None:
    held = faults.hold("ListObjectsV2", times=1)

    def work() -> None:
        """Nothing is there when it looks first; then the table grows."""
        assert held.arrived.wait(120)
        held.release.set()
        file(lake, "ds=a/1.parquet")
        file(lake, "ds=a/2.parquet", 2)
        file(lake, "ds=b/3.parquet", 3)

    payload = fire(trigger(lake, condition), meanwhile=work)
    assert payload["status"] == "done"
    assert payload["seen"].items() >= {"uri": lake.uri, **seen}.items()


def test_a_version_is_one_listing_and_nothing_is_read(lake: Lake, faults: Faults) -> None:
    file(lake, "1.parquet")
    assert fire(trigger(lake, {"version": 0}))["seen"] == {"uri": lake.uri, "version": 0}
    assert dict(faults.seen) == {"ListObjectsV2": 1}


def test_a_log_entry_is_read_once(lake: Lake, faults: Faults) -> None:
    file(lake, "1.parquet")

    def work() -> None:
        for number in range(2, 5):
            until(lambda: faults.seen["GetObject"] >= number - 1)  # noqa: B023 - called at once
            file(lake, f"{number}.parquet")

    fire(trigger(lake, {"min_files": 4}), meanwhile=work)
    assert faults.seen["GetObject"] == 4
    assert set(faults.seen) == {"GetObject", "ListObjectsV2"}


def test_one_client_serves_all_polls(lake: Lake, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    connect = S3Hook.get_async_conn

    async def counted(hook: S3Hook) -> Any:
        made.append(hook)
        return await connect(hook)

    monkeypatch.setattr(S3Hook, "get_async_conn", counted)
    held = faults.hold("ListObjectsV2", times=1)

    def work() -> None:
        assert held.arrived.wait(120)
        held.release.set()
        file(lake, "1.parquet")

    fire(trigger(lake, {}), meanwhile=work)
    assert len(made) == 1


def test_what_can_never_be_is_told(lake: Lake) -> None:
    file(lake, "ds=a/1.parquet")
    payload = fire(trigger(lake, {"partition": {"day": "a"}}))
    assert (payload["status"], payload["error"]) == ("error", "ConfigError")
    assert "partition has 'day'" in payload["message"]
    lake.s3.put(lake.table.commit_key(1), b"{}x\n")
    payload = fire(trigger(lake, {"min_files": 9}))
    assert (payload["status"], payload["error"]) == ("error", "LogDamaged")


@pytest.mark.parametrize("operation", ["ListObjectsV2", "GetObject"])
@pytest.mark.parametrize("how", [{"status": 503}, {"reset": True}], ids=["503", "reset"])
def test_a_poll_that_fails_for_a_while_is_made_again(
    lake: Lake, faults: Faults, how: dict[str, Any], operation: str
) -> None:
    file(lake, "1.parquet")
    faults.fail(operation, times=4 if operation == "ListObjectsV2" else 5, **how)
    assert fire(trigger(lake, {"min_files": 1}, botocore_config=ONE_ATTEMPT))["status"] == "done"


def test_failures_that_are_not_in_a_row_are_not_added_up(lake: Lake, faults: Faults) -> None:
    def work() -> None:
        for _ in range(3):
            before = faults.seen["ListObjectsV2"]
            faults.fail("ListObjectsV2", status=503, times=3)
            until(lambda: faults.seen["ListObjectsV2"] >= before + 6)  # noqa: B023 - called at once
        file(lake, "1.parquet")

    assert fire(trigger(lake, {}, botocore_config=ONE_ATTEMPT), meanwhile=work)["status"] == "done"


def test_an_outage_and_a_refusal_end_it(lake: Lake, faults: Faults) -> None:
    file(lake, "1.parquet")
    faults.fail("ListObjectsV2", status=403, times=FOREVER)
    with pytest.raises(ClientError, match="AccessDenied"):
        fire(trigger(lake, {}, botocore_config=ONE_ATTEMPT))
    assert faults.seen["ListObjectsV2"] == 1
    faults.clear()
    faults.fail("ListObjectsV2", status=503, times=FOREVER)
    with pytest.raises(ClientError, match="SlowDown"):
        fire(trigger(lake, {}, botocore_config=ONE_ATTEMPT))
    assert faults.seen["ListObjectsV2"] == 1 + 5
    faults.clear()
    faults.fail("GetObject", status=403, times=FOREVER)
    payload = fire(trigger(lake, {"min_files": 1}, botocore_config=ONE_ATTEMPT))
    assert (payload["status"], payload["error"]) == ("error", ReadFailed.__name__)


def test_it_may_be_started_again_at_any_time(lake: Lake, faults: Faults) -> None:
    """As after a restart of the triggerer: from its arguments alone, with the same answer."""
    file(lake, "1.parquet")
    waiting = trigger(lake, {"min_files": 2})

    held = faults.hold("ListObjectsV2", times=1)

    async def stopped() -> None:
        task = asyncio.create_task(events(waiting))
        assert await asyncio.to_thread(held.arrived.wait, 120)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stopped())
    held.release.set()
    again = DeltaTableTrigger(**waiting.serialize()[1])
    assert fire(again, meanwhile=lambda: file(lake, "2.parquet"))["seen"]["files"] == 2
