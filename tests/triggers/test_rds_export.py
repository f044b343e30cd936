"""Waiting for an export of RDS in the triggerer."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
from airflow.sdk.serde import deserialize, serialize
from airflow.triggers.base import TriggerEvent
from botocore.exceptions import ClientError

from chunkwise.triggers.rds_export import RdsExportTrigger
from tests.support.faults import Faults
from tests.support.rds_export import EXPORT, RdsApi, connect, put_export, shop
from tests.support.s3 import S3


@pytest.fixture(autouse=True)
def connected(aws_default: None, s3: S3, rds: RdsApi, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, s3.endpoint, rds)


def trigger(**options: Any) -> RdsExportTrigger:
    return RdsExportTrigger(**{"export_task_identifier": EXPORT, "poll_interval": 0.05, **options})


def fire(waiting: RdsExportTrigger) -> dict[str, Any]:
    """The payload of the one event."""

    async def all_of_them() -> list[TriggerEvent]:
        async def collect() -> list[TriggerEvent]:
            return [event async for event in waiting.run()]

        return await asyncio.wait_for(collect(), 120)

    (event,) = asyncio.run(all_of_them())
    payload: dict[str, Any] = event.payload
    return payload


def complete_at(rds: RdsApi, s3: S3, at: int, **task: Any) -> None:
    def work(number: int) -> None:
        if number == at:
            rds.add(s3.bucket, **task)

    put_export(s3, shop())
    rds.add(s3.bucket, Status="IN_PROGRESS")
    rds.on_describe = work


def test_it_comes_back_from_the_database_as_it_was() -> None:
    arguments = {
        "export_task_identifier": "e",
        "tables": ["shop.public"],
        "grace": 5.0,
        "extra_args": {"ExpectedBucketOwner": "1"},
        "poll_interval": 3.5,
        "aws_conn_id": None,
        "region_name": "eu-central-1",
        "verify": False,
        "botocore_config": {"read_timeout": 5},
    }
    path, kept = RdsExportTrigger(**arguments).serialize()  # type: ignore[arg-type]
    assert kept == arguments
    module, _, name = path.rpartition(".")
    again = getattr(importlib.import_module(module), name)(**deserialize(serialize(kept)))
    assert again.serialize() == (path, arguments)
    assert vars(again).items() >= arguments.items()


def test_it_fires_once_and_what_it_says_survives_the_database(s3: S3, rds: RdsApi) -> None:
    complete_at(rds, s3, 3)
    payload = fire(trigger())
    assert payload["status"] == "complete"
    assert payload["report"]["counts"]["files"] == 7
    assert deserialize(serialize(payload)) == payload
    assert rds.calls == {"DescribeExportTasks": 3}


def test_one_client_of_each_service_serves_all_polls(
    s3: S3, rds: RdsApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    connect_async = AwsGenericHook.get_async_conn

    async def counted(hook: Any) -> Any:
        made.append(hook.client_type)
        return await connect_async(hook)

    monkeypatch.setattr(AwsGenericHook, "get_async_conn", counted)
    complete_at(rds, s3, 5)
    fire(trigger())
    assert sorted(made) == ["rds", "s3"]


def test_a_task_that_ends_badly_is_an_event_and_not_a_failed_trigger(s3: S3, rds: RdsApi) -> None:
    complete_at(rds, s3, 2, Status="FAILED", FailureCause="The key is disabled")
    payload = fire(trigger())
    assert (payload["status"], payload["error"]) == ("error", "ExportFailed")
    assert "The key is disabled" in payload["message"]


def test_an_outage_and_a_refusal_end_it(s3: S3, rds: RdsApi) -> None:
    rds.add(s3.bucket)
    once = {"retries": {"total_max_attempts": 1}}
    rds.failures = [(503, "ServiceUnavailable")] * 5
    with pytest.raises(ClientError, match="ServiceUnavailable"):
        fire(trigger(botocore_config=once))
    assert rds.calls["DescribeExportTasks"] == 5
    rds.failures = [(403, "AccessDenied")]
    with pytest.raises(ClientError, match="AccessDenied"):
        fire(trigger(botocore_config=once))
    assert rds.calls["DescribeExportTasks"] == 6


@pytest.mark.parametrize("how", [{"status": 503}, {"reset": True}], ids=["error", "reset"])
@pytest.mark.parametrize("operation", ["ListObjectsV2", "GetObject"])
def test_a_look_at_files_that_fails_for_a_while_is_made_again(
    s3: S3, rds: RdsApi, faults: Faults, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], operation: str
) -> None:
    connect(monkeypatch, faults.endpoint, rds)
    complete_at(rds, s3, 1)
    faults.fail(operation, times=2, **how)
    once = {"retries": {"total_max_attempts": 1}}
    assert fire(trigger(botocore_config=once))["status"] == "complete"


@pytest.mark.long
def test_a_long_listing_is_read_to_its_end(s3: S3, rds: RdsApi) -> None:
    """More than a page of objects beside the tables."""
    root = put_export(s3, shop())
    for number in range(1001):
        s3.put(f"{root}crm/public.orders/1/part-{number + 10:05}-x.gz.parquet", b"")
    rds.add(s3.bucket)
    assert fire(trigger())["report"]["counts"]["files"] == 7 + 1001
